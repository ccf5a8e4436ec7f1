//! Adding deltas to every level of the rollup: the one way anything is written there. Fold and rebuild differ only in where the deltas
//! come from.
//!
//! SQL is put together from the closed lists of levels, dimensions and measures in `core`, never from data.

pub mod scan;
mod write;

use crate::error::{Error, Result};
use crate::pending::own_table;
use crate::rights::Snapshot;
use crate::rollup::write::Gain;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::{Deltas, Kind, Measures, Overflow};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::{KEPT, Level, Series as SeriesLevel};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use rustc_hash::FxHashMap;
use std::collections::{HashMap, HashSet};

/// Who locks `llm._fold_lock`, and against whom. A table lock, because any role could take an advisory lock.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Work {
    /// Against folds and rebuilds.
    Fold = pg_sys::ShareUpdateExclusiveLock,
    /// Against everybody.
    Rebuild = pg_sys::ExclusiveLock,
    /// Against rebuilds only: rows that are counted as a whole, by DDL. A rebuild that reads a log might read them without seeing the deltas.
    Intake = pg_sys::RowExclusiveLock,
}

/// Waits for whoever is at work.
pub fn lock(work: Work) -> Result<()> {
    // SAFETY: waits, interruptibly; held to the end of the transaction.
    unsafe { pg_sys::LockRelationOid(own_table(c"_fold_lock")?, work as i32) };
    Ok(())
}

/// Gives back what [`lock`] took, where nothing was written since.
pub fn unlock(work: Work) -> Result<()> {
    // SAFETY: we hold it.
    unsafe { pg_sys::UnlockRelationOid(own_table(c"_fold_lock")?, work as i32) };
    Ok(())
}

/// A series as a level keeps it: organization (`llm._org`), source, dimensions.
type Series<'k> = (i32, i32, [&'k str; Dimension::ALL.len()]);

/// What the levels of one set of series gain.
struct Gains<'k> {
    of: &'static SeriesLevel,
    /// In the order they were met.
    series: Vec<Series<'k>>,
    /// By position in `series` and bucket.
    sums: FxHashMap<(usize, Micros), Measures>,
}

/// Rows that go into one statement.
const CHUNK: usize = 10_000;

/// Adds the deltas to some levels; how many rollup rows were written. The caller holds the fold lock.
pub fn apply(deltas: &Deltas, levels: &[Level]) -> Result<i64> {
    let organizations = intern_organizations(deltas)?;
    let mut written = 0;
    for same_series in levels.chunk_by(|a, b| a.series == b.series) {
        let kind = if same_series[0] == KEPT { Kind::Kept } else { Kind::Detail };
        let gains = gains_of(same_series[0].series, kind, deltas, &organizations)?;
        if gains.sums.is_empty() {
            continue;
        }
        let numbers = intern_series(&gains)?;
        for level in same_series {
            written += write(level, &gains, &numbers)?;
        }
    }
    Ok(written)
}

/// The numbers of the organizations; new ones are given one.
fn intern_organizations(deltas: &Deltas) -> Result<HashMap<String, i32>> {
    let names: HashSet<&str> = deltas.iter().map(|(key, _)| key.organization()).collect();
    let names: Vec<String> = names.into_iter().map(String::from).collect();
    let mut known = HashMap::new();
    if names.is_empty() {
        return Ok(known);
    }
    Spi::connect_mut(|client| {
        client.update(include_str!("../../sql/query/org_new.sql"), None, &[names.clone().into()])?;
        for row in client.update("SELECT organization_id, org FROM llm._org WHERE organization_id = ANY ($1)", None, &[names.into()])? {
            if let (Some(name), Some(org)) = (row.get::<String>(1)?, row.get::<i32>(2)?) {
                known.insert(name, org);
            }
        }
        Ok(known)
    })
}

fn gains_of<'k>(of: &'static SeriesLevel, kind: Kind, deltas: &'k Deltas, organizations: &HashMap<String, i32>) -> Result<Gains<'k>> {
    let mut gains = Gains { of, series: Vec::new(), sums: FxHashMap::default() };
    let mut positions: FxHashMap<Series<'k>, usize> = FxHashMap::default();
    for (key, measures) in deltas.iter().filter(|(key, _)| key.kind() == kind as i16) {
        let mut dimensions = [""; Dimension::ALL.len()];
        for (dimension, text) in Dimension::ALL.into_iter().zip(key.texts().skip(1)) {
            if of.keeps(dimension) {
                dimensions[dimension as usize] = text;
            }
        }
        let org = organizations.get(key.organization()).copied().ok_or_else(|| Error::internal("organization without a number"))?;
        let series = (org, if of.by_source { key.source() } else { 0 }, dimensions);
        let position = *positions.entry(series).or_insert_with(|| {
            gains.series.push(series);
            gains.series.len() - 1
        });
        gains.sums.entry((position, key.bucket())).or_default().add(measures, 1)?;
    }
    gains.sums.retain(|_, sum| !sum.is_zero());
    Ok(gains)
}

/// Adds what a level gains to its rows, in key order; how many rows.
fn write(level: &Level, gains: &Gains<'_>, numbers: &[i32]) -> Result<i64> {
    let mut sums: FxHashMap<(usize, Micros), Measures> = FxHashMap::default();
    for ((position, bucket), sum) in &gains.sums {
        sums.entry((*position, level.grain.start(*bucket))).or_default().add(sum, 1)?;
    }
    sums.retain(|_, sum| !sum.is_zero());
    let mut rows: Vec<Gain<'_>> = sums
        .iter()
        .map(|((position, bucket), measures)| Gain {
            org: gains.series[*position].0,
            bucket: *bucket,
            series: numbers[*position],
            measures,
        })
        .collect();
    rows.sort_unstable_by_key(Gain::key);
    let _snapshot = Snapshot::of_statement();
    write::add(level, &rows)?;
    i64::try_from(rows.len()).map_err(|_| Overflow.into())
}

/// The numbers of a level's series; new ones are given one.
fn intern_series(gains: &Gains<'_>) -> Result<Vec<i32>> {
    let mut numbers = vec![0; gains.series.len()];
    let all: Vec<usize> = (0..gains.series.len()).collect();
    for chunk in all.chunks(CHUNK) {
        let mut wanted = chunk.to_vec();
        find_series(gains, &wanted, &mut numbers)?;
        wanted.retain(|at| numbers[*at] == 0);
        if !wanted.is_empty() {
            Spi::connect_mut(|client| client.update(series_new().as_str(), None, &series_arguments(gains, &wanted)).map(drop))?;
            find_series(gains, &wanted, &mut numbers)?;
        }
        if chunk.iter().any(|at| numbers[*at] == 0) {
            return Err(Error::internal("series without a number"));
        }
    }
    Ok(numbers)
}

/// Fills in the numbers of the series at these positions, as far as they have one.
fn find_series(gains: &Gains<'_>, positions: &[usize], numbers: &mut [i32]) -> Result<()> {
    Spi::connect_mut(|client| {
        for row in client.update(series_numbers().as_str(), None, &series_arguments(gains, positions))? {
            if let (Some(n), Some(id)) = (row.get::<i64>(1)?.and_then(|n| usize::try_from(n - 1).ok()), row.get::<i32>(2)?) {
                numbers[positions[n]] = id;
            }
        }
        Ok(())
    })
}

fn series_arguments(gains: &Gains<'_>, positions: &[usize]) -> Vec<DatumWithOid<'static>> {
    let mut arguments: Vec<DatumWithOid<'static>> = vec![
        gains.of.id.into(),
        positions.iter().map(|at| gains.series[*at].0).collect::<Vec<i32>>().into(),
        positions.iter().map(|at| gains.series[*at].1).collect::<Vec<i32>>().into(),
    ];
    for dimension in Dimension::ALL {
        arguments.push(positions.iter().map(|at| gains.series[*at].2[dimension as usize].to_string()).collect::<Vec<String>>().into());
    }
    arguments
}

/// `unnest` of the arrays $2 organization, $3 source, $4.. dimensions as `q`, numbered by `n`.
fn series_arrays() -> String {
    let arrays = list(Dimension::ALL, ", ", |d| format!("${}::text[]", d as usize + 4));
    format!("unnest($2::int[], $3::int[], {arrays}) WITH ORDINALITY AS q (org, source, {}, n)", dimensions(""))
}

fn series_numbers() -> String {
    let same = list(Dimension::ALL, " AND ", |d| format!("s.{0} = q.{0}", d.column()));
    format!(
        "SELECT q.n, s.id FROM {} JOIN llm.series s ON s.org = q.org AND s.level = $1 AND s.source = q.source AND {same}",
        series_arrays()
    )
}

/// As org_new.sql, under REPEATABLE READ too.
fn series_new() -> String {
    format!(
        "INSERT INTO llm.series (org, level, source, {}) SELECT q.org, $1, q.source, {} FROM {} ORDER BY q.n ON CONFLICT DO NOTHING",
        dimensions(""),
        dimensions("q."),
        series_arrays()
    )
}

/// `f(x)` for each item, joined.
pub fn list<T>(items: impl IntoIterator<Item = T>, separator: &str, f: impl Fn(T) -> String) -> String {
    items.into_iter().map(f).collect::<Vec<_>>().join(separator)
}

/// `prefix.project_id, prefix.api_key_id, ..`
pub fn dimensions(prefix: &str) -> String {
    list(Dimension::ALL, ", ", |d| format!("{prefix}{}", d.column()))
}
