//! Verify: rollups and pending rows against the logs, in one snapshot, piece by piece.

use crate::compare::{Finals, Sides, coarse};
use crate::error::Result;
use crate::query::{self, See};
use crate::rebuild::{self, Range};
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::{Deltas, Key, Kind, Measures};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::{DETAIL, Grain, Level};
use llm_analytics_core::measure::{AMOUNTS, COUNTS};
use pgrx::prelude::*;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// One measure of one series and bucket that is not what it should be.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub bucket: Micros,
    pub organization: String,
    pub level: &'static str,
    /// Texts of the dimensions, '' where there is none.
    dimensions: Vec<String>,
    pub measure: &'static str,
    /// None for levels that are derived from detail.
    pub source: Option<String>,
    pub expected: String,
    pub actual: String,
}

impl Difference {
    /// The dimensions that the series has.
    pub fn series(&self) -> Value {
        let named = Dimension::ALL.into_iter().zip(&self.dimensions).filter(|(_, text)| !text.is_empty());
        Value::Object(named.map(|(dimension, text)| (dimension.column().to_string(), text.as_str().into())).collect::<Map<_, _>>())
    }
}

/// Rollup rows, about, that are compared at once: bounds the memory.
const ROLLUP_ROWS: i64 = 500_000;
/// Log rows, about, that are compared at once.
const LOG_ROWS: i64 = 200_000;

/// Compares a range under the active snapshot; the differences in order.
pub fn differences(range: &Range) -> Result<Vec<Difference>> {
    let sources = rebuild::attached(None, See::Active)?;
    let finals = Finals::sealed_or_incomplete()?;
    let mut found = Vec::new();
    let days = days(range)?;
    let mut to = range.to;
    while to > range.from {
        let from = begin(range, to, &days, &sources)?;
        let piece = Range { from, to, organization: range.organization.clone(), source: None };
        let Sides { should, mut stands, waiting, .. } = Sides::read(&piece, &sources, &finals)?;
        for (key, measures) in waiting.iter().filter(|(key, _)| key.kind() == Kind::Detail as i16) {
            stands.add_sum(key.source(), Kind::Detail, key.bucket(), key.texts(), measures, 1)?;
        }
        compare(&DETAIL, &should, &stands, &mut found)?;
        to = from;
    }
    let mut to = range.to;
    while to > range.from {
        let from = begin(range, to, &days, &[])?;
        let piece = Range { from, to, organization: range.organization.clone(), source: None };
        for level in Level::COARSE {
            let (should, stands) = coarse(&level, &piece)?;
            compare(&level, &should, &stands, &mut found)?;
        }
        to = from;
    }
    found.sort_unstable();
    // A day in which two pieces meet is compared with both.
    found.dedup();
    Ok(found)
}

/// Days of UTC that rollups have rows of in a range, and how many. Organization by organization, so that each reads
/// its own index range.
fn days(range: &Range) -> Result<BTreeMap<Micros, i64>> {
    let mut days: BTreeMap<Micros, i64> = BTreeMap::new();
    let sql = "SELECT r.bucket, count(*) FROM llm._org o
               CROSS JOIN LATERAL (SELECT r.bucket FROM llm.rollup r WHERE r.org = o.org AND r.bucket >= $1 AND r.bucket < $2 OFFSET 0) r
               WHERE $3::text IS NULL OR o.organization_id = $3
               GROUP BY r.bucket";
    // A day's own row lies at its start.
    let from = if range.from == Micros::MIN { range.from } else { Grain::Day.start(range.from) };
    let arguments = [rebuild::instant(from)?.into(), rebuild::instant(range.to)?.into(), range.organization.clone().into()];
    query::each(sql, &arguments, See::Active, |row| {
        if let (Some(bucket), Some(rows)) = (row.get::<TimestampWithTimeZone>(1), row.get::<i64>(2)) {
            *days.entry(Grain::Day.start(pg_sys::TimestampTz::from(bucket))).or_default() += rows;
        }
        Ok(())
    })?;
    Ok(days)
}

/// Where a piece that ends at `to` begins; with `sources`, their logs are read too.
fn begin(range: &Range, to: Micros, days: &BTreeMap<Micros, i64>, sources: &[i32]) -> Result<Micros> {
    let mut rows = 0;
    let full = days.range(..to).rev().find(|(_, of_day)| {
        rows += **of_day;
        rows >= ROLLUP_ROWS
    });
    let mut from = full.map_or(range.from, |(day, _)| range.from.max(*day));
    for source in sources {
        from = from.max(rebuild::begin_of_piece(*source, to, LOG_ROWS)?);
    }
    Ok(from)
}

/// Adds what differs.
fn compare(level: &Level, should: &Deltas, stands: &Deltas, found: &mut Vec<Difference>) -> Result<()> {
    let nothing = Measures::default();
    let missing = stands.iter().filter(|(key, _)| should.get(*key).is_none()).map(|(key, actual)| (key, &nothing, actual));
    let all = should.iter().map(|(key, expected)| (key, expected, stands.get(key).unwrap_or(&nothing))).chain(missing);
    let mut names = HashMap::new();
    for (key, expected, actual) in all.filter(|(_, expected, actual)| expected != actual) {
        if level == &DETAIL && !names.contains_key(&key.source()) {
            let sql = "SELECT quote_ident(s.relation_schema) || '.' || quote_ident(s.relation_name) FROM llm.source s WHERE s.id = $1";
            names.insert(key.source(), query::one::<String>(sql, &[key.source().into()], See::Active)?);
        }
        let source = names.get(&key.source()).cloned().flatten();
        let counts = COUNTS.iter().zip(expected.counts.iter().zip(&actual.counts));
        found
            .extend(counts.filter(|(_, (a, b))| a != b).map(|(name, (a, b))| one(level, key, &source, name, a.to_string(), b.to_string())));
        let amounts = AMOUNTS.iter().zip(expected.amounts.iter().zip(&actual.amounts));
        found.extend(
            amounts.filter(|(_, (a, b))| a != b).map(|(name, (a, b))| one(level, key, &source, name, a.to_string(), b.to_string())),
        );
    }
    Ok(())
}

fn one(level: &Level, key: Key<'_>, source: &Option<String>, measure: &'static str, expected: String, actual: String) -> Difference {
    Difference {
        bucket: key.bucket(),
        organization: key.organization().to_string(),
        level: level.name,
        dimensions: key.texts().skip(1).map(String::from).collect(),
        measure,
        source: source.clone(),
        expected,
        actual,
    }
}
