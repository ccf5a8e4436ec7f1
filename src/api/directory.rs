//! Attaching and detaching directories.

use crate::api::arguments::{bounded, required};
use crate::directory::attach;
use crate::rights::{self, caller};
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn llm_clip(id: &str) -> String {
    bounded(id.to_string())
}

#[pg_extern(sql = false)]
fn llm_attach_directory(
    kind: Option<String>,
    relation: Option<pg_sys::Oid>,
    columns: Option<JsonB>,
) -> std::result::Result<JsonB, ErrorReport> {
    rights::writes(c"llm.attach_directory()");
    let (kind, relation) = (required("kind", kind)?, required("relation", relation)?);
    Ok(JsonB(attach::attach(caller()?, attach::kind(&kind)?, relation, columns.map(|columns| columns.0))?))
}

#[pg_extern(sql = false)]
fn llm_detach_directory(kind: Option<String>) -> std::result::Result<(), ErrorReport> {
    rights::writes(c"llm.detach_directory()");
    Ok(attach::detach(caller()?, attach::kind(&required("kind", kind)?)?)?)
}

#[pg_extern(sql = false)]
fn llm_check_directory(kind: &str, relation: pg_sys::Oid) -> std::result::Result<(), ErrorReport> {
    Ok(attach::check(attach::kind(kind)?, relation)?)
}
