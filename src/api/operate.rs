//! What DBAs and schedulers call: fold, rebuild, verify, and the steps of backfill and maintain.

use crate::error::{Error, Result};
use crate::guc::FOLD_BATCH_ROWS;
use crate::rebuild::{self, Loss, Range};
use crate::rights::{self, Snapshot};
use crate::{backfill, fold, verify};
use llm_analytics_core::bucket;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

type Report<T> = std::result::Result<T, ErrorReport>;

#[pg_extern(sql = false)]
fn llm_fold() -> Report<i64> {
    rights::writes(c"llm.fold()");
    Ok(fold::everything(FOLD_BATCH_ROWS.get().into())?)
}

/// One batch, from a block of `llm._pending` on; where to go on, NULL where nothing is left.
#[pg_extern(sql = false)]
fn llm_fold_from(from: i64) -> Report<Option<i64>> {
    rights::writes(c"llm._fold_step()");
    Ok(fold_step(from)?)
}

pub fn fold_step(from: i64) -> Result<Option<i64>> {
    let from = u32::try_from(from).map_err(|_| Error::argument("\"from\" must be a block number", "Start with 0."))?;
    Ok(fold::step(from, FOLD_BATCH_ROWS.get().into())?.map(i64::from))
}

/// The step of version 0.1; whether there may be more.
#[pg_extern(sql = false)]
fn llm_fold_step() -> Report<bool> {
    rights::writes(c"llm._fold_step()");
    Ok(fold_step(0)?.is_some())
}

/// When nothing was pending; NULL where that is not known.
#[pg_extern(sql = false)]
fn llm_drained_at() -> Report<Option<TimestampWithTimeZone>> {
    Ok(fold::drained_at().map(rebuild::instant).transpose()?)
}

/// What was done, for a notice; NULL when there is nothing left.
#[pg_extern(sql = false)]
fn llm_backfill_step() -> Report<Option<String>> {
    rights::writes(c"llm._backfill_step()");
    Ok(backfill_step(None)?)
}

/// The same for one log.
#[pg_extern(sql = false)]
fn llm_backfill_source(source: i32) -> Report<Option<String>> {
    rights::writes(c"llm._backfill_step()");
    Ok(backfill_step(Some(source))?)
}

pub fn backfill_step(source: Option<i32>) -> Result<Option<String>> {
    let Some(step) = backfill::step(source)? else { return Ok(None) };
    let Some(from) = step.from else { return Ok(Some("another backfill is at work".into())) };
    Ok(Some(if from.is_neg_infinity() {
        format!("{} is complete ({} rollup rows written)", step.relation, step.changed)
    } else {
        let begin = rebuild::minute(pg_sys::TimestampTz::from(from))?;
        format!("{} is complete from {} UTC on ({} rollup rows written)", step.relation, begin, step.changed)
    }))
}

fn range(from: Option<TimestampWithTimeZone>, to: Option<TimestampWithTimeZone>, organization: Option<String>) -> Result<Range> {
    let from = pg_sys::TimestampTz::from(from.ok_or_else(|| Error::null("from"))?);
    let to = pg_sys::TimestampTz::from(to.ok_or_else(|| Error::null("to"))?);
    if from > to {
        return Err(Error::argument("\"from\" must not be after \"to\"", "The range is half-open: from <= t < to."));
    }
    let widened = |at: i64, f: fn(i64) -> i64| if at == i64::MIN || at == i64::MAX { at } else { f(at) };
    let organization = organization.map(|name| llm_analytics_core::dimension::bounded(&name).into_owned());
    Ok(Range { from: widened(from, bucket::start), to: widened(to, bucket::ceiling), organization, source: None })
}

#[pg_extern(sql = false)]
fn llm_rebuild(
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    organization: Option<String>,
    allow_loss: Option<bool>,
) -> Report<i64> {
    rights::writes(c"llm.rebuild()");
    let loss = if allow_loss.ok_or_else(|| Error::null("allow_loss"))? { Loss::Allow } else { Loss::Refuse };
    Ok(rebuild::range(&range(from, to, organization)?, loss)?)
}

#[pg_extern(sql = false)]
fn llm_verify(
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    organization: Option<String>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(source, Option<String>),
            name!(organization_id, Option<String>),
            name!(bucket, Option<TimestampWithTimeZone>),
            name!(level, Option<String>),
            name!(series, Option<pgrx::JsonB>),
            name!(measure, Option<String>),
            name!(expected, Option<AnyNumeric>),
            name!(actual, Option<AnyNumeric>),
        ),
    >,
    ErrorReport,
> {
    let range = range(
        Some(from.unwrap_or_else(TimestampWithTimeZone::negative_infinity)),
        Some(to.unwrap_or_else(TimestampWithTimeZone::positive_infinity)),
        organization,
    )?;
    rebuild::lock_tables(None, None)?;
    // Under REPEATABLE READ the transaction's own.
    let _snapshot = Snapshot::of_statement();
    let number = |text: &str| AnyNumeric::try_from(text).ok();
    let rows: Vec<_> = verify::differences(&range)?
        .into_iter()
        .map(|found| {
            let series = Some(pgrx::JsonB(found.series()));
            let (expected, actual) = (number(&found.expected), number(&found.actual));
            let bucket = rebuild::instant(found.bucket).ok();
            (
                found.source,
                Some(found.organization),
                bucket,
                Some(found.level.to_string()),
                series,
                Some(found.measure.to_string()),
                expected,
                actual,
            )
        })
        .collect();
    Ok(TableIterator::new(rows))
}
