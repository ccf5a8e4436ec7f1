//! The fold: pending deltas into the rollups. One transaction deletes deltas and adds them up, so MVCC makes it exactly once.
//!
//! It is the only one that takes from `llm._pending`, apart from rebuilds, and a fold of any backlog is one scan of it: each batch goes on
//! at the block where the last one stopped. What comes in behind it meanwhile is the next fold's.

use crate::error::{Error, Result};
use crate::pending::{self, Taken};
use crate::query::{self, See};
use crate::rights::Snapshot;
use crate::{rollup, slots};
use llm_analytics_core::delta::{Deltas, Kind};
use llm_analytics_core::level::Level;
use llm_analytics_core::measure;
use pgrx::prelude::*;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Folds at most `limit` pending rows, from a block of `llm._pending` on.
fn batch(from: pg_sys::BlockNumber, limit: i64) -> Result<Taken> {
    rollup::lock(rollup::Work::Fold)?;
    let mut deltas = Deltas::default();
    let mut skipped: HashMap<i32, i128> = HashMap::new();
    // After the lock, so that everything the holder before us did is seen; under REPEATABLE READ the transaction's.
    let snapshot = Snapshot::of_statement();
    let known = sources()?;
    let taken = pending::take(from, limit, |record| {
        // While a dump is restored deltas may be here before their source. They wait for it.
        if !known.contains(&record.source) {
            return Ok(false);
        }
        let kind = match record.kind {
            kind if kind == Kind::Detail as i16 => Kind::Detail,
            kind if kind == Kind::Kept as i16 => Kind::Kept,
            _ => {
                *skipped.entry(record.source).or_default() += record.measures()?.counts[measure::REQUESTS];
                return Ok(true);
            }
        };
        deltas.add_sum(record.source, kind, record.bucket, record.texts.into_iter(), &record.measures()?, 1).map_err(Error::from)?;
        Ok(true)
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

/// The logs that are known, attached or not.
fn sources() -> Result<HashSet<i32>> {
    let mut known = HashSet::new();
    query::each("SELECT id FROM llm.source", &[], See::Active, |row| {
        known.extend(row.get::<i32>(1));
        Ok(())
    })?;
    Ok(known)
}

/// One batch, from a block of `llm._pending` on; where the next one goes on, None where the table ends.
pub fn step(from: pg_sys::BlockNumber, limit: i64) -> Result<Option<pg_sys::BlockNumber>> {
    let started = Instant::now();
    let taken = batch(from, limit)?;
    record(taken.rows, started.elapsed(), from == 0 && taken.left == 0 && taken.next.is_none())?;
    Ok(taken.next)
}

/// Folds everything that is pending, in batches, in this transaction; how many rows it took.
pub fn everything(limit: i64) -> Result<i64> {
    let started = Instant::now();
    let (mut rows, mut left, mut next) = (0, 0, Some(0));
    while let Some(from) = next {
        let taken = batch(from, limit)?;
        rows += taken.rows;
        left += taken.left;
        next = taken.next;
    }
    record(rows, started.elapsed(), left == 0)?;
    Ok(rows)
}

/// For `llm.status`; `drained`: of what was pending at the beginning nothing is left. Where there was nothing to fold, nothing is written:
/// shared memory remembers that. A server that has none of ours writes it once a minute.
fn record(rows: i64, took: Duration, drained: bool) -> Result<()> {
    if rows == 0 && (!drained || remember_drained()) {
        return Ok(());
    }
    let milliseconds = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    let arguments = [rows.into(), milliseconds.into(), drained.into()];
    query::each(include_str!("../sql/query/record_fold.sql"), &arguments, See::New, |_| Ok(()))
}

/// Notes that nothing was pending when the transaction began, which its snapshots are not older than. A transaction that has written may be
/// one that folded and rolls back.
fn remember_drained() -> bool {
    if !slots::exist() {
        return false;
    }
    // SAFETY: the state of our own transaction.
    let (has_written, began) =
        unsafe { (pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId, pg_sys::GetCurrentTransactionStartTimestamp()) };
    if !has_written {
        // SAFETY: a variable of this process.
        slots::update(unsafe { pg_sys::MyDatabaseId }, |slot| slot.drained_at = slot.drained_at.max(began));
    }
    true
}

/// When nothing was pending, as far as shared memory knows.
pub fn drained_at() -> Option<pg_sys::TimestampTz> {
    if !slots::exist() {
        return None;
    }
    // SAFETY: a variable of this process.
    slots::get(unsafe { pg_sys::MyDatabaseId }).map(|slot| slot.drained_at).filter(|at| *at != 0)
}
