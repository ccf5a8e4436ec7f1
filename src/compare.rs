//! What the logs give beside what the rollups hold: rebuild writes the difference, verify reports it.
//!
//! Everything is read under the active snapshot.

use crate::error::{Error, Result};
use crate::pending::{self, Record};
use crate::query::{self, See};
use crate::rebuild::{Range, instant};
use crate::source::log::{self, Filter};
use llm_analytics_core::bucket::{MICROS_PER_DAY, Micros};
use llm_analytics_core::delta::{Deltas, Kind};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::{DETAIL, Grain, KEPT, Level};
use llm_analytics_core::measure::REQUESTS;
use pgrx::prelude::*;
use std::collections::HashMap;

/// A pending row that the snapshot sees.
pub struct Waiting {
    pub source: i32,
    pub organization: String,
    pub bucket: Micros,
    pub place: pg_sys::ItemPointerData,
}

/// Detail in a range, outside what is final.
#[derive(Default)]
pub struct Sides {
    /// The log and what is kept, what is pending of the kept included.
    pub should: Deltas,
    /// The rollup.
    pub stands: Deltas,
    /// Pending rows that are shown, and those kept.
    pub waiting: Deltas,
    pub pending: Vec<Waiting>,
    /// Requests that should stand less those that do, by source, organization and bucket.
    pub balance: HashMap<(i32, String, Micros), i128>,
}

impl Sides {
    pub fn read(range: &Range, sources: &[i32], finals: &Finals) -> Result<Sides> {
        let mut sides = Sides::default();
        for source in sources {
            let filter = Filter { from: range.from.max(finals.begin(*source)), to: range.to, organization: range.organization.clone() };
            let log = if filter.from < filter.to { log::read(*source, None, &filter, Kind::Detail, 1)? } else { Deltas::default() };
            for (key, measures) in log.iter().filter(|(key, _)| key.kind() == Kind::Detail as i16) {
                if !finals.hold(key.source(), key.organization(), key.bucket()) {
                    sides.should.add_sum(key.source(), Kind::Detail, key.bucket(), key.texts(), measures, 1)?;
                    sides.count(key.source(), key.organization(), key.bucket(), measures.counts[REQUESTS]);
                }
            }
        }
        let arguments =
            [instant(range.from)?.into(), instant(range.to)?.into(), range.organization.clone().into(), sources.to_vec().into()];
        for (level, sign) in [(DETAIL, -1), (KEPT, 1)] {
            pending::records(&level_rows(&level), &arguments, See::Active, |record, _| {
                let organization = record.organization()?;
                if !finals.hold(record.source, organization, record.bucket) {
                    add(if sign < 0 { &mut sides.stands } else { &mut sides.should }, record, Kind::Detail)?;
                    sides.count(record.source, organization, record.bucket, sign * record.measures()?.counts[REQUESTS]);
                }
                Ok(())
            })?;
        }
        pending::records(&pending_rows(), &arguments, See::Active, |record, place| {
            let organization = record.organization()?;
            if finals.hold(record.source, organization, record.bucket) {
                return Ok(());
            }
            // Those shown are part of what stands now, those kept of what will.
            let is_kept = record.kind == Kind::Kept as i16;
            if is_kept {
                add(&mut sides.should, record, Kind::Detail)?;
            }
            add(&mut sides.waiting, record, if is_kept { Kind::Kept } else { Kind::Detail })?;
            let requests = record.measures()?.counts[REQUESTS];
            sides.count(record.source, organization, record.bucket, if is_kept { requests } else { -requests });
            let place = place.ok_or_else(|| Error::internal("pending row without a place"))?;
            sides.pending.push(Waiting { source: record.source, organization: organization.to_string(), bucket: record.bucket, place });
            Ok(())
        })?;
        Ok(sides)
    }

    fn count(&mut self, source: i32, organization: &str, begin: Micros, requests: i128) {
        *self.balance.entry((source, organization.to_string(), begin)).or_default() += requests;
    }
}

fn add(to: &mut Deltas, record: &Record<'_>, kind: Kind) -> Result<()> {
    to.add_sum(record.source, kind, record.bucket, record.texts.into_iter(), &record.measures()?, 1).map_err(Error::from)
}

/// What a coarse level should hold in a range, that is the sums of detail, and what it does. A day that the range touches is compared whole.
pub fn coarse(level: &Level, range: &Range) -> Result<(Deltas, Deltas)> {
    let (mut from, mut to) = (range.from, range.to);
    if level.grain == Grain::Day {
        from = if from == Micros::MIN { from } else { level.grain.start(from) };
        to = if to == Micros::MAX { to } else { level.grain.start(to - 1) + MICROS_PER_DAY };
    }
    let everywhere: Option<Vec<i32>> = None;
    let arguments = [instant(from)?.into(), instant(to)?.into(), range.organization.clone().into(), everywhere.into()];
    let mut sides = [Deltas::default(), Deltas::default()];
    for (level_read, side) in [DETAIL, *level].iter().zip(&mut sides) {
        pending::records(&level_rows(level_read), &arguments, See::Active, |record, _| {
            let mut texts = record.texts;
            for dimension in Dimension::ALL.into_iter().filter(|dimension| !level.series.keeps(*dimension)) {
                texts[1 + dimension as usize] = b"";
            }
            let source = if level.series.by_source { record.source } else { 0 };
            let begin = level.grain.start(record.bucket);
            side.add_sum(source, Kind::Detail, begin, texts.into_iter(), &record.measures()?, 1).map_err(Error::from)
        })?;
    }
    let [should, stands] = sides;
    Ok((should, stands))
}

/// Ranges whose numbers are not compared with a log, by source.
pub struct Finals(HashMap<i32, Vec<(Option<String>, Micros, Micros)>>);

impl Finals {
    /// What is sealed.
    pub fn sealed() -> Result<Finals> {
        let mut finals = Finals(HashMap::new());
        finals.add("SELECT source, organization_id, \"from\", \"to\" FROM llm._seal")?;
        Ok(finals)
    }

    /// That, and what is not backfilled yet.
    pub fn sealed_or_incomplete() -> Result<Finals> {
        let mut finals = Finals::sealed()?;
        finals.add("SELECT id, NULL::text, '-infinity'::timestamptz, complete_from FROM llm.source WHERE state = 'attached'")?;
        Ok(finals)
    }

    fn add(&mut self, sql: &str) -> Result<()> {
        query::each(sql, &[], See::Active, |row| {
            let bounds = row.get::<TimestampWithTimeZone>(3).zip(row.get::<TimestampWithTimeZone>(4));
            if let (Some(source), Some((from, to))) = (row.get::<i32>(1), bounds) {
                let range = (row.get::<String>(2), pg_sys::TimestampTz::from(from), pg_sys::TimestampTz::from(to));
                self.0.entry(source).or_default().push(range);
            }
            Ok(())
        })
    }

    fn hold(&self, source: i32, organization: &str, begin: Micros) -> bool {
        self.0.get(&source).is_some_and(|ranges| {
            ranges.iter().any(|(of, from, to)| begin >= *from && begin < *to && of.as_deref().is_none_or(|of| of == organization))
        })
    }

    /// Before this instant all numbers of a source are final.
    fn begin(&self, source: i32) -> Micros {
        let ranges = self.0.get(&source).into_iter().flatten();
        ranges.filter(|(of, from, _)| of.is_none() && *from == Micros::MIN).map(|(_, _, to)| *to).max().unwrap_or(Micros::MIN)
    }
}

/// The rows of a level in the shape of `llm._pending`: $1 from, $2 to, $3 organization or all, $4 sources or all. Organization by
/// organization, so that each reads its own index range whatever the planner knows.
fn level_rows(level: &Level) -> String {
    format!(
        "SELECT {}
         FROM llm._org o
         CROSS JOIN LATERAL (SELECT * FROM {} r WHERE r.org = o.org AND r.bucket >= $1 AND r.bucket < $2 OFFSET 0) r
         JOIN llm.series s ON s.id = r.series
         WHERE ($3::text IS NULL OR o.organization_id = $3) AND ($4::int[] IS NULL OR s.source = ANY ($4))",
        pending::columns("r.bucket", "s.source", "0::smallint", "o.organization_id", "s.", "r."),
        level.table(),
    )
}

/// Pending rows that are shown or kept, each with its place.
fn pending_rows() -> String {
    format!(
        "SELECT {}, p.ctid FROM llm._pending p
         WHERE p.kind IN (0, 1) AND p.bucket >= $1 AND p.bucket < $2 AND ($3::text IS NULL OR p.organization_id = $3) AND p.source = ANY ($4)",
        pending::columns("p.bucket", "p.source", "p.kind", "p.organization_id", "p.", "p."),
    )
}
