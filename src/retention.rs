//! What is final, what may go, and what is erased.

use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::rebuild;
use crate::rights::{ActingAs, Snapshot};
use crate::rollup;
use crate::source::{attach, log};
use llm_analytics_core::bucket;
use llm_analytics_core::dimension::bounded;
use pgrx::datum::Interval;
use pgrx::prelude::*;

/// Declares what a log has from before an instant final; the end of the log's sealed range.
pub fn seal(caller: pg_sys::Oid, relation: pg_sys::Oid, before: TimestampWithTimeZone) -> Result<TimestampWithTimeZone> {
    let _rights = ActingAs::extension_owner()?;
    let (source, name) = attach::attached(caller, relation)?;
    let until = pg_sys::TimestampTz::from(before);
    // SAFETY: the clock.
    if before.is_infinity() || before.is_neg_infinity() || until > unsafe { pg_sys::GetCurrentTimestamp() } {
        return Err(Error::argument("\"before\" must be an instant of the past", "What is still being written cannot be final."));
    }
    // A rebuild that is under way has not seen the seal.
    rollup::lock(rollup::Work::Intake)?;
    let is_complete = "SELECT complete_from = '-infinity' FROM llm.source WHERE id = $1";
    if query::one::<bool>(is_complete, &[source.into()], See::New)? != Some(true) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the history of {name} is not counted yet"),
        )
        .hint("CALL llm.backfill() first; llm.status shows how far it is."));
    }
    let arguments = [source.into(), rebuild::instant(bucket::start(until))?.into()];
    let sealed = query::one::<TimestampWithTimeZone>(include_str!("../sql/query/seal_before.sql"), &arguments, See::New)?;
    sealed.ok_or_else(|| Error::internal("no seal"))
}

/// How long the partitions of a log made by `llm.create_request_log` are kept; None: for ever.
pub fn set(caller: pg_sys::Oid, relation: pg_sys::Oid, keep: Option<Interval>) -> Result<()> {
    let _rights = ActingAs::extension_owner()?;
    let (source, name) = attach::attached(caller, relation)?;
    if query::one::<bool>("SELECT is_managed FROM llm.source WHERE id = $1", &[source.into()], See::New)? != Some(true) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{name} was not made by llm.create_request_log()"),
        )
        .hint("SELECT llm.seal(..), then drop what is sealed yourself; the numbers stay."));
    }
    let enough = "SELECT $1 IS NULL OR (isfinite(now() - $1) AND $1 >= interval '1 day')";
    if query::one::<bool>(enough, &[keep.into()], See::New)? != Some(true) {
        return Err(Error::argument(
            "\"keep\" must be at least a day",
            "Whole months (UTC) are dropped once all of their rows are older; NULL keeps them for ever.",
        ));
    }
    Spi::run_with_args("UPDATE llm.source SET retention = $2 WHERE id = $1", &[source.into(), keep.into()])?;
    Ok(())
}

/// Erases an organization from everything of ours; how many rows of numbers. Refused while an attached log still has rows of it.
pub fn forget(organization: &str) -> Result<i64> {
    let organization = bounded(organization);
    // Nobody folds, rebuilds or takes rows in meanwhile.
    rebuild::lock_logs(None)?;
    let mut sources = Vec::new();
    query::each("SELECT id FROM llm.source WHERE state = 'attached' ORDER BY id", &[], See::New, |row| {
        sources.extend(row.get::<i32>(1));
        Ok(())
    })?;
    for source in sources {
        let found = {
            let _latest = Snapshot::latest();
            log::has_organization(source, &organization)?
        };
        if let Some(name) = found {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "an attached request log still has rows of the organization",
            )
            .detail(format!("The log is {name}."))
            .hint("Delete its rows first, or detach the log."));
        }
    }
    Ok(query::one::<i64>("SELECT llm._erase($1)", &[organization.into_owned().into()], See::New)?.unwrap_or(0))
}
