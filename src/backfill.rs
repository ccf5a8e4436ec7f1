//! Backfill: the rows that were there before the attach, newest first, in whole UTC days, each step a transaction of its own.
//!
//! `llm.source.complete_from` is all the state there is, so it can stop anywhere and go on from there.

use crate::error::{Error, Result};
use crate::rebuild::{self, Loss, Range};
use crate::source::log;
use llm_analytics_core::bucket::MICROS_PER_DAY;
use pgrx::prelude::*;

/// Log rows read in one step, about; at least one day.
const ROWS: i64 = 50_000;

/// What one step did.
pub struct Step {
    pub relation: String,
    pub from: TimestampWithTimeZone,
    pub changed: i64,
}

/// One step of one source; None when every attached log is complete.
pub fn step() -> Result<Option<Step>> {
    // Before the source is chosen, so that two backfills do not do the same day twice.
    rebuild::lock_logs(None)?;
    crate::rollup::lock()?;
    let next = Spi::connect_mut(|client| {
        let row = client.update(include_str!("../sql/query/backfill_next.sql"), None, &[])?.first();
        if row.is_empty() {
            return Ok::<_, Error>(None);
        }
        Ok(row.get::<i32>(1)?.zip(row.get::<TimestampWithTimeZone>(2)?).zip(row.get::<String>(3)?))
    })?;
    let Some(((source, to), relation)) = next else { return Ok(None) };
    let from = match log::nth_newest(source, to, ROWS)? {
        Some(instant) => day_of(instant)?,
        None => TimestampWithTimeZone::negative_infinity(),
    };
    let range =
        Range { from: pg_sys::TimestampTz::from(from), to: pg_sys::TimestampTz::from(to), organization: None, source: Some(source) };
    let changed = rebuild::range(&range, Loss::Seal)?;
    Spi::run_with_args("UPDATE llm.source SET complete_from = $2 WHERE id = $1", &[source.into(), from.into()])?;
    Ok(Some(Step { relation, from, changed }))
}

/// The start of the UTC day.
fn day_of(instant: TimestampWithTimeZone) -> Result<TimestampWithTimeZone> {
    let micros = pg_sys::TimestampTz::from(instant);
    rebuild::instant(micros - micros.rem_euclid(MICROS_PER_DAY))
}
