//! Tables that join or leave a log's tree with their rows.
//!
//! A table whose bounds tell its rows leaves behind a sealed range, one whose bounds do not leaves its rows among the kept ones and a copy of
//! their sums in `llm._left`. Either may come back, with the same rows or others.

use crate::error::{Error, Result};
use crate::pending;
use crate::query::See;
use crate::rebuild::{self, Loss, Range};
use crate::rights::{ActingAs, Snapshot};
use crate::rollup;
use crate::source::log;
use llm_analytics_core::bucket;
use llm_analytics_core::delta::{Deltas, Kind};
use llm_analytics_core::measure::REQUESTS;
use pgrx::prelude::*;

/// Takes the rows of a table that left into the kept ones, and remembers them.
pub fn left(source: i32, relation: pg_sys::Oid) -> Result<()> {
    let rows = log::read(source, Some(relation), &log::EVERYTHING, Kind::Kept, 1)?;
    pending::insert(&rows)?;
    let _rights = ActingAs::extension_owner()?;
    Spi::run_with_args(include_str!("../../sql/query/leaf_left.sql"), &[source.into(), relation.into()])?;
    Ok(())
}

/// Counts the rows of a table that joined. Where it had left before, its rows count already as kept ones: they move back, as far as they are
/// still there, and what came in meanwhile is added.
pub fn entered(source: i32, relation: pg_sys::Oid) -> Result<()> {
    let now = log::read(source, Some(relation), &log::EVERYTHING, Kind::Detail, 1)?;
    let was = remembered(source, relation)?;
    if now.is_empty() && was.is_empty() {
        return Ok(());
    }
    // A rebuild that is under way may read these rows without seeing what we write.
    rollup::lock(rollup::Work::Intake)?;
    let mut changes = Deltas::default();
    for (key, before) in was.iter() {
        let still_there = now.get(key).filter(|rows| rows.counts[REQUESTS] < before.counts[REQUESTS]);
        let back = if now.get(key).is_none() { continue } else { still_there.unwrap_or(before) };
        changes.add_sum(source, Kind::Kept, key.bucket(), key.texts(), back, -1)?;
    }
    for (key, rows) in now.iter() {
        let kind = if key.kind() == Kind::Skipped as i16 { Kind::Skipped } else { Kind::Detail };
        match was.get(key) {
            None => changes.add_sum(source, kind, key.bucket(), key.texts(), rows, 1)?,
            Some(before) if rows.counts[REQUESTS] >= before.counts[REQUESTS] => {
                changes.add_sum(source, kind, key.bucket(), key.texts(), rows, 1)?;
                changes.add_sum(source, kind, key.bucket(), key.texts(), before, -1)?;
            }
            Some(_) => {}
        }
    }
    pending::insert(&changes)?;
    let _rights = ActingAs::extension_owner()?;
    Spi::run_with_args(
        "DELETE FROM llm._left WHERE source = $1 AND (leaf_oid = $2 OR (leaf_oid = 0 AND leaf = llm._qualified($2)))",
        &[source.into(), relation.into()],
    )?;
    Ok(())
}

/// What a table held when it left, as sums of shown rows.
fn remembered(source: i32, relation: pg_sys::Oid) -> Result<Deltas> {
    let _rights = ActingAs::extension_owner()?;
    let mut was = Deltas::default();
    let columns = pending::columns("l.bucket", "l.source", "l.kind", "l.organization_id", "l.", "l.");
    let sql = format!(
        "SELECT {columns} FROM llm._left l WHERE l.source = $1 AND (l.leaf_oid = $2 OR (l.leaf_oid = 0 AND l.leaf = llm._qualified($2)))"
    );
    pending::records(&sql, &[source.into(), relation.into()], See::Active, |record, _| {
        was.add_sum(source, Kind::Detail, record.bucket, record.texts.into_iter(), &record.measures()?, 1).map_err(Error::from)
    })?;
    Ok(was)
}

/// Rebuilds a range that was sealed when a table left, now that it is back, and with it whatever else the table holds.
pub fn rebuild(source: i32, relation: pg_sys::Oid, from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<()> {
    let (mut from, mut to) = (pg_sys::TimestampTz::from(from), pg_sys::TimestampTz::from(to));
    {
        let _latest = Snapshot::latest();
        for (key, _) in log::read(source, Some(relation), &log::EVERYTHING, Kind::Detail, 1)?.iter() {
            from = from.min(key.bucket());
            to = to.max(bucket::next(key.bucket()));
        }
    }
    rebuild::range(&Range { from, to, organization: None, source: Some(source) }, Loss::Seal).map(drop)
}
