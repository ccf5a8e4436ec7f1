//! Sealing, retention, and erasing an organization.

use crate::error::Error;
use crate::retention;
use crate::rights::{self, Snapshot, caller};
use crate::source::log;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

type Report<T> = std::result::Result<T, ErrorReport>;

#[pg_extern(sql = false)]
fn llm_seal(relation: Option<pg_sys::Oid>, before: Option<TimestampWithTimeZone>) -> Report<TimestampWithTimeZone> {
    rights::writes(c"llm.seal()");
    Ok(retention::seal(caller()?, relation.ok_or_else(|| Error::null("relation"))?, before.ok_or_else(|| Error::null("before"))?)?)
}

#[pg_extern(sql = false)]
fn llm_set_retention(relation: Option<pg_sys::Oid>, keep: Option<Interval>) -> Report<()> {
    rights::writes(c"llm.set_retention()");
    Ok(retention::set(caller()?, relation.ok_or_else(|| Error::null("relation"))?, keep)?)
}

#[pg_extern(sql = false)]
fn llm_forget(organization: Option<String>) -> Report<i64> {
    rights::writes(c"llm.forget()");
    Ok(retention::forget(&organization.ok_or_else(|| Error::null("organization"))?)?)
}

#[pg_extern(sql = false)]
fn llm_has_rows(source: i32, from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Report<bool> {
    let _latest = Snapshot::latest();
    Ok(log::has_rows(source, from, to)?)
}
