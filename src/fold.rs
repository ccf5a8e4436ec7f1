//! The fold: pending deltas into the rollups. One transaction deletes deltas and adds them up, so MVCC makes it exactly once.

use crate::error::{Error, Result};
use crate::rights::Snapshot;
use crate::{pending, rollup};
use llm_analytics_core::delta::{Deltas, Kind};
use llm_analytics_core::level::Level;
use llm_analytics_core::measure;
use pgrx::prelude::*;
use std::collections::HashMap;

/// Folds at most `limit` pending rows; how many it took.
pub fn batch(limit: i64) -> Result<i64> {
    rollup::lock(rollup::Work::Fold)?;
    let mut deltas = Deltas::default();
    let mut skipped: HashMap<i32, i128> = HashMap::new();
    let mut taken = 0;
    // After the lock, so that everything the holder before us did is seen; under REPEATABLE READ the transaction's.
    let snapshot = Snapshot::of_statement();
    pending::take(limit, |record| {
        taken += 1;
        let kind = match record.kind {
            kind if kind == Kind::Detail as i16 => Kind::Detail,
            kind if kind == Kind::Kept as i16 => Kind::Kept,
            _ => {
                *skipped.entry(record.source).or_default() += record.measures()?.counts[measure::REQUESTS];
                return Ok(());
            }
        };
        deltas.add_sum(record.source, kind, record.bucket, record.texts.into_iter(), &record.measures()?, 1).map_err(Error::from)
    })?;
    drop(snapshot);
    rollup::apply(&deltas, &Level::EVERY)?;
    for (source, values) in skipped {
        // A value is skipped once: more than bigint holds would take as many rows.
        let values = i64::try_from(values).unwrap_or(i64::MAX);
        Spi::run_with_args("UPDATE llm.source SET skipped_values = skipped_values + $2 WHERE id = $1", &[source.into(), values.into()])?;
    }
    Ok(taken)
}

/// Folds everything that is pending, in batches, in this transaction; how many rows it took.
pub fn everything(limit: i64) -> Result<i64> {
    let started = std::time::Instant::now();
    let mut total = 0;
    loop {
        let folded = batch(limit)?;
        total += folded;
        if folded < limit {
            record(total, started.elapsed(), true)?;
            return Ok(total);
        }
    }
}

/// For `llm.status`; `drained`: nothing was left. While there is nothing to fold, that is noted once a minute, so that its age tells
/// a lag, or a worker that has stopped.
pub fn record(rows: i64, took: std::time::Duration, drained: bool) -> Result<()> {
    let milliseconds = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    Spi::run_with_args(include_str!("../sql/query/record_fold.sql"), &[rows.into(), milliseconds.into(), drained.into()])?;
    Ok(())
}
