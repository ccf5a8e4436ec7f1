//! Backfill: the rows that were there before the attach, newest first, in whole buckets, each step a transaction of its own.
//!
//! `llm.source.complete_from` is all the state there is, so it can stop anywhere and go on from there.

use crate::error::Result;
use crate::query::{self, See};
use crate::rebuild::{self, Loss, Range};
use pgrx::prelude::*;

/// Log rows read in one step, about; at least one bucket. A step keeps folds and whoever alters the log waiting.
const ROWS: i64 = 200_000;

/// What one step did.
pub struct Step {
    pub relation: String,
    /// None: somebody else had done it.
    pub from: Option<TimestampWithTimeZone>,
    pub changed: i64,
}

/// One step of a log (None: of the first that is not complete); None when there is nothing left to do.
pub fn step(of: Option<i32>) -> Result<Option<Step>> {
    let Some((source, ..)) = next(of)? else { return Ok(None) };
    // Then again under the locks, so that two backfills do not do the same step twice.
    rebuild::lock_logs(Some(source))?;
    let Some((source, to, relation)) = next(of)?.filter(|(again, ..)| *again == source) else {
        return Ok(Some(Step { relation: String::new(), from: None, changed: 0 }));
    };
    let to_micros = pg_sys::TimestampTz::from(to);
    let begin = rebuild::begin_of_piece(source, to_micros, ROWS)?;
    let from = rebuild::instant(begin)?;
    let changed = rebuild::piece(&Range { from: begin, to: to_micros, organization: None, source: Some(source) }, Loss::Seal)?;
    // Unless somebody has asked meanwhile for all of it to be read again.
    let done = "UPDATE llm.source SET complete_from = $2 WHERE id = $1 AND complete_from = $3";
    Spi::run_with_args(done, &[source.into(), from.into(), to.into()])?;
    Ok(Some(Step { relation, from: Some(from), changed }))
}

/// The log that is to be backfilled next, where its complete part begins, its name.
fn next(of: Option<i32>) -> Result<Option<(i32, TimestampWithTimeZone, String)>> {
    let mut found = None;
    query::each(include_str!("../sql/query/backfill_next.sql"), &[of.into()], See::New, |row| {
        found = row.get(1).zip(row.get(2)).zip(row.get(3)).map(|((source, to), relation)| (source, to, relation));
        Ok(())
    })?;
    Ok(found)
}
