//! Attaching and detaching logs.

use crate::capture;
use crate::error::{Error, Result};
use crate::rights::{self, caller};
use crate::source::attach::{self, Options};
use crate::source::{leaf, log, trigger};
use llm_analytics_core::delta::Kind;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::ffi::CStr;

fn choice(argument: &str, value: Option<String>, allowed: [&'static str; 2]) -> Result<String> {
    let value = value.ok_or_else(|| Error::null(argument))?;
    if allowed.contains(&value.as_str()) {
        return Ok(value);
    }
    let shown: String = value.chars().take(60).collect();
    Err(Error::argument(format!("\"{argument}\" cannot be \"{shown}\""), format!("Allowed: '{}', '{}'.", allowed[0], allowed[1])))
}

#[pg_extern(sql = false)]
fn llm_attach_log(
    relation: Option<pg_sys::Oid>,
    columns: Option<JsonB>,
    on_delete: Option<String>,
    capture: Option<String>,
    backfill: Option<bool>,
) -> std::result::Result<JsonB, ErrorReport> {
    rights::writes(c"llm.attach_log()");
    let relation = relation.ok_or_else(|| Error::null("relation"))?;
    let options = Options {
        on_delete: choice("on_delete", on_delete, ["keep", "subtract"])?,
        capture: choice("capture", capture, ["statement", "row"])?,
        backfill: backfill.ok_or_else(|| Error::null("backfill"))?,
    };
    Ok(JsonB(attach::attach(caller()?, relation, columns.map(|columns| columns.0), &options)?))
}

#[pg_extern(sql = false)]
fn llm_detach_log(relation: Option<pg_sys::Oid>) -> std::result::Result<(), ErrorReport> {
    rights::writes(c"llm.detach_log()");
    Ok(attach::detach(caller()?, relation.ok_or_else(|| Error::null("relation"))?)?)
}

#[pg_extern(sql = false)]
fn llm_create_request_log(name: Option<String>) -> std::result::Result<pg_sys::Oid, ErrorReport> {
    rights::writes(c"llm.create_request_log()");
    Ok(attach::create_request_log(caller()?, &name.ok_or_else(|| Error::null("name"))?)?)
}

#[pg_extern(sql = false)]
fn llm_check_mapping(source: i32, relation: pg_sys::Oid) -> std::result::Result<(), ErrorReport> {
    Ok(attach::check_mapping(source, relation)?)
}

#[pg_extern(sql = false)]
fn llm_take(source: i32, relation: pg_sys::Oid, kind: i16, sign: i32) -> std::result::Result<(), ErrorReport> {
    let kind = if kind == Kind::Kept as i16 { Kind::Kept } else { Kind::Detail };
    let _latest = crate::rights::Snapshot::latest();
    Ok(log::take(source, relation, kind, sign.into())?)
}

#[pg_extern(sql = false)]
fn llm_take_entered(source: i32, relation: pg_sys::Oid) -> std::result::Result<(), ErrorReport> {
    let _latest = crate::rights::Snapshot::latest();
    Ok(leaf::entered(source, relation)?)
}

#[pg_extern(sql = false)]
fn llm_take_left(source: i32, relation: pg_sys::Oid) -> std::result::Result<(), ErrorReport> {
    let _latest = crate::rights::Snapshot::latest();
    Ok(leaf::left(source, relation)?)
}

#[pg_extern(sql = false)]
fn llm_rebuild_leaf(
    source: i32,
    relation: pg_sys::Oid,
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
) -> std::result::Result<(), ErrorReport> {
    Ok(leaf::rebuild(source, relation, from, to)?)
}

/// The source that a table's capture triggers name.
#[pg_extern(sql = false)]
fn llm_captured_by(relation: pg_sys::Oid) -> std::result::Result<Option<i32>, ErrorReport> {
    Ok(capture::source_of(relation)?)
}

#[pg_extern(sql = false)]
fn llm_fire_trigger(relation: pg_sys::Oid, name: &CStr, fires: i8) -> std::result::Result<(), ErrorReport> {
    Ok(trigger::fire(relation, &name.to_string_lossy(), fires)?)
}

#[pg_extern(sql = false)]
fn llm_effective_on_delete(of_source: &str) -> &'static str {
    if crate::capture::keeps_deleted(of_source == "keep") { "keep" } else { "subtract" }
}

#[pg_extern(sql = false)]
fn llm_run_as(role: pg_sys::Oid, command: &str) -> std::result::Result<(), ErrorReport> {
    Ok(rights::run_as(role, command)?)
}

#[pg_extern(sql = false)]
fn llm_run_as_owner(relation: pg_sys::Oid, command: &str) -> std::result::Result<(), ErrorReport> {
    Ok(rights::run_as_owner(relation, command)?)
}
