//! Rebuild: the one primitive behind backfill and repair.
//!
//! Under the fold lock, piece by piece, each in one snapshot S: detail becomes log(S) + kept, and exactly the pending rows that S sees are taken out. What is
//! written are corrections, added to every level as a fold adds deltas.

use crate::compare::{Finals, Sides, coarse};
use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::rights::Snapshot;
use crate::rollup;
use crate::source::log;
use llm_analytics_core::bucket::{self, MICROS_PER_DAY, Micros};
use llm_analytics_core::delta::{Deltas, Kind};
use llm_analytics_core::level::{Grain, Level};
use pgrx::prelude::*;
use std::collections::HashMap;

/// What happens where the log has fewer requests than the rollup of a source, an organization and a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// An error, and nothing is changed.
    Refuse,
    /// The rollup follows the log.
    Allow,
    /// The bucket is sealed for that source and organization: its numbers stay. What backfill does.
    Seal,
}

/// Half-open, on bucket borders; the infinities are the ends of `i64`.
pub struct Range {
    pub from: Micros,
    pub to: Micros,
    pub organization: Option<String>,
    pub source: Option<i32>,
}

/// Log rows read at a time, about, in whole buckets: bounds the memory.
const ROWS: i64 = 200_000;
/// Where no index finds the newest rows, each piece reads the whole log, so there they are larger.
const ROWS_UNORDERED: i64 = 2_000_000;

/// Rebuilds a range piece by piece, newest first, in this transaction; how many rollup rows were written.
pub fn range(range: &Range, loss: Loss) -> Result<i64> {
    lock_logs(range.source)?;
    let sources = attached(range.source, See::New)?;
    let (mut written, mut to) = (0, range.to);
    while to > range.from {
        let mut from = range.from;
        for source in &sources {
            from = from.max(begin_of_piece(*source, to, ROWS)?);
        }
        written += piece(&Range { from, to, organization: range.organization.clone(), source: range.source }, loss)?;
        if from > range.from {
            notice!("rebuilt from {} UTC on", minute(from)?);
        }
        to = from;
    }
    Ok(written)
}

/// The bucket border from which on a log has about `rows` rows below `to`; `Micros::MIN` where it has fewer.
pub fn begin_of_piece(source: i32, to: Micros, rows: i64) -> Result<Micros> {
    let _snapshot = Snapshot::of_statement();
    let rows = if log::is_ordered(source)? { rows } else { ROWS_UNORDERED };
    let newest = log::nth_newest(source, instant(to)?, rows)?;
    let begin = newest.map_or(Micros::MIN, |newest| bucket::start(pg_sys::TimestampTz::from(newest)));
    if begin == Micros::MIN {
        return Ok(begin);
    }
    // Whole days where it has any: so a row of a day is mostly written once.
    let day = Grain::Day.start(begin - 1).saturating_add(MICROS_PER_DAY);
    Ok(if day < to { day } else { begin })
}

/// For messages: the minute of UTC.
pub fn minute(at: Micros) -> Result<String> {
    let text = query::one::<String>("SELECT to_char($1 AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')", &[instant(at)?.into()], See::New)?;
    Ok(text.unwrap_or_default())
}

/// Rebuilds a range at once. The caller holds the locks.
pub fn piece(range: &Range, loss: Loss) -> Result<i64> {
    let sides = {
        // Under REPEATABLE READ the transaction's: then what others folded since raises 40001 when it is written.
        let _snapshot = Snapshot::of_statement();
        Sides::read(range, &attached(range.source, See::Active)?, &Finals::sealed()?)?
    };
    let fallen: HashMap<&(i32, String, Micros), i128> = match loss {
        Loss::Allow => HashMap::new(),
        Loss::Refuse | Loss::Seal => {
            sides.balance.iter().filter(|(_, requests)| **requests < 0).map(|(key, requests)| (key, *requests)).collect()
        }
    };
    if loss == Loss::Refuse && !fallen.is_empty() {
        return Err(refused(fallen.len()));
    }
    for (source, organization, begin) in fallen.keys() {
        seal(*source, organization, *begin)?;
    }
    let stands = |source: i32, organization: &str, begin: Micros| {
        fallen.is_empty() || !fallen.contains_key(&(source, organization.to_string(), begin))
    };
    let mut corrections = Deltas::default();
    for (side, sign) in [(&sides.should, 1), (&sides.stands, -1)] {
        for (key, measures) in side.iter().filter(|(key, _)| stands(key.source(), key.organization(), key.bucket())) {
            corrections.add_sum(key.source(), Kind::Detail, key.bucket(), key.texts(), measures, sign)?;
        }
    }
    // The pending rows go: those shown are part of the log, those kept are folded on the way.
    for (key, measures) in sides.waiting.iter().filter(|(key, _)| key.kind() == Kind::Kept as i16) {
        if stands(key.source(), key.organization(), key.bucket()) {
            corrections.add_sum(key.source(), Kind::Kept, key.bucket(), key.texts(), measures, 1)?;
        }
    }
    let taken: Vec<pg_sys::ItemPointerData> =
        sides.pending.iter().filter(|row| stands(row.source, &row.organization, row.bucket)).map(|row| row.place).collect();
    take_pending(&taken)?;
    let mut written = rollup::apply(&corrections, &Level::EVERY)?;
    if loss != Loss::Seal {
        written += repair(range)?;
    }
    Ok(written)
}

fn refused(combinations: usize) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the log has fewer requests than the rollup in part of the range")
        .detail(format!("{combinations} combinations of source, organization and bucket would lose requests."))
        .hint("Rows may have been deleted with the triggers off. Rebuild with allow_loss => true to follow the log.")
}

pub fn attached(source: Option<i32>, see: See) -> Result<Vec<i32>> {
    let mut sources = Vec::new();
    let sql = "SELECT id FROM llm.source WHERE state = 'attached' AND ($1 IS NULL OR id = $1) ORDER BY id";
    query::each(sql, &[source.into()], see, |row| {
        sources.extend(row.get::<i32>(1));
        Ok(())
    })?;
    Ok(sources)
}

fn seal(source: i32, organization: &str, begin: Micros) -> Result<()> {
    let arguments = [source.into(), organization.to_string().into(), instant(begin)?.into(), instant(bucket::next(begin))?.into()];
    Spi::run_with_args(include_str!("../sql/query/seal_bucket.sql"), &arguments).map_err(Error::from)
}

fn take_pending(places: &[pg_sys::ItemPointerData]) -> Result<()> {
    for chunk in places.chunks(10_000) {
        let places = chunk.iter().map(|place| {
            let block = u32::from(place.ip_blkid.bi_hi) << 16 | u32::from(place.ip_blkid.bi_lo);
            format!("({block},{})", place.ip_posid)
        });
        Spi::run_with_args("DELETE FROM llm._pending WHERE ctid = ANY ($1::text[]::tid[])", &[places.collect::<Vec<String>>().into()])?;
    }
    Ok(())
}

/// Makes the coarse levels the sum of detail again, where they are not, and removes rows without content.
fn repair(range: &Range) -> Result<i64> {
    let mut written = 0;
    for level in Level::COARSE {
        let (mut difference, stands) = {
            let _snapshot = Snapshot::of_statement();
            coarse(&level, range)?
        };
        for (key, measures) in stands.iter() {
            difference.add_sum(key.source(), Kind::Detail, key.bucket(), key.texts(), measures, -1)?;
        }
        written += rollup::apply(&difference, &[level])?;
    }
    let clean = "DELETE FROM llm.rollup r USING llm._org o WHERE o.org = r.org AND r.bucket >= $1 AND r.bucket < $2
                     AND ($3::text IS NULL OR o.organization_id = $3) AND r.measures::text = '{}'";
    Spi::run_with_args(clean, &[instant(range.from)?.into(), instant(range.to)?.into(), range.organization.clone().into()])?;
    Ok(written)
}

/// Takes the fold lock, and a reader's lock on every table of the logs ([`lock_tables`]).
pub fn lock_logs(source: Option<i32>) -> Result<()> {
    lock_tables(source, Some(rollup::Work::Rebuild))
}

/// Takes a reader's lock on every table of the logs, with `work` at the fold lock, before a snapshot is taken: what a TRUNCATE, DETACH or
/// DROP that is under way removes is in no snapshot, so one from before it would miss both the rows and the deltas that stand for them.
/// Nothing is held while it waits, so that it takes part in no deadlock with whoever alters logs one after the other.
pub fn lock_tables(source: Option<i32>, work: Option<rollup::Work>) -> Result<()> {
    let mode = pg_sys::AccessShareLock as i32;
    loop {
        work.map_or(Ok(()), rollup::lock)?;
        let mut tables: Vec<pg_sys::Oid> = Vec::new();
        query::each(include_str!("../sql/query/log_tables.sql"), &[source.into()], See::New, |row| {
            tables.extend(row.get::<pg_sys::Oid>(1));
            Ok(())
        })?;
        // SAFETY: locks by oid, released at the end of the transaction or here; a table that is gone by then locks nothing that matters.
        unsafe {
            let Some(busy) = tables.iter().position(|table| !pg_sys::ConditionalLockRelationOid(*table, mode)) else { return Ok(()) };
            for table in &tables[..busy] {
                pg_sys::UnlockRelationOid(*table, mode);
            }
            work.map_or(Ok(()), rollup::unlock)?;
            pg_sys::LockRelationOid(tables[busy], mode);
            pg_sys::UnlockRelationOid(tables[busy], mode);
        }
    }
}

pub fn instant(at: Micros) -> Result<TimestampWithTimeZone> {
    match at {
        Micros::MIN => Ok(TimestampWithTimeZone::negative_infinity()),
        Micros::MAX => Ok(TimestampWithTimeZone::positive_infinity()),
        at => TimestampWithTimeZone::try_from(at)
            .map_err(|_| Error::new(PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW, "timestamp out of range").hint("Use 'infinity'.")),
    }
}
