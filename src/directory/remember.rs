//! What directories knew: written to `llm._remembered` by triggers before it is forgotten.
//!
//! Rows are read as the owner of their table, from the transition tables of the statement that changed them (of a TRUNCATE: from the
//! table); only the result is written with the extension owner's rights.

use crate::directory::{Directories, Directory, texts};
use crate::error::{Error, Result, raise_or};
use crate::pending::own_table;
use crate::query::{self, See};
use crate::rights::{ActingAs, Snapshot};
use llm_analytics_core::directory::Kind;
use pgrx::prelude::*;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_llm_remember() -> &'static pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// `llm._remember()`: statement triggers.
///
/// # Safety
/// Called by PostgreSQL's trigger manager.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn llm_remember(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as the caller promises.
    unsafe {
        raise_or(changed(fcinfo));
        pg_sys::Datum::from(0)
    }
}

/// id -> label, owner, parent; sorted, so that two writers take rows in one order.
#[derive(Default)]
struct Known(BTreeMap<String, [Option<String>; 3]>);

/// What is read of each kind to be remembered.
fn fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Organization => &["id", "name"],
        Kind::Project => &["id", "name", "organization_id"],
        Kind::ApiKey => &["id", "label", "user_id", "project_id"],
        Kind::User => &["id", "name", "email"],
        Kind::Membership => &[],
    }
}

impl Known {
    /// One row of [`fields`].
    fn add(&mut self, kind: Kind, row: Vec<Option<String>>) {
        let mut texts = row.into_iter();
        let mut next = || texts.next().flatten();
        let Some(id) = next() else { return };
        let (first, second, third) = (next(), next(), next());
        let row = match kind {
            Kind::User => [first.or(second), None, None],
            Kind::Project => [first, None, second],
            _ => [first, second, third],
        };
        let known = self.0.entry(id).or_default();
        for (known, said) in known.iter_mut().zip(row) {
            if said.is_some() {
                *known = said;
            }
        }
    }

    /// The last that was said wins; what is not said leaves what was known.
    fn write(self, kind: Kind) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let _rights = ActingAs::extension_owner()?;
        let mut columns: [Vec<Option<String>>; 4] = Default::default();
        for (id, [label, owner, parent]) in self.0 {
            for (column, text) in columns.iter_mut().zip([Some(id), label, owner, parent]) {
                column.push(text);
            }
        }
        let [ids, labels, owners, parents] = columns;
        let arguments = [kind.name().into(), ids.into(), labels.into(), owners.into(), parents.into()];
        query::each(include_str!("../../sql/query/remember.sql"), &arguments, See::New, |_| Ok(()))
    }
}

unsafe fn changed(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: the context of a function that is called as a trigger is a TriggerData; its relation is open and locked.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, "llm._remember() is a trigger function"));
        }
        let data = context.cast::<pg_sys::TriggerData>();
        let Some(kind) = argument(&*data) else {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, "llm._remember() has the wrong arguments")
                .hint("Its triggers are made by llm.attach_directory(), not by hand."));
        };
        let is_truncate = (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
        let old = (*data).tg_oldtable;
        if fields(kind).is_empty() || (!is_truncate && (old.is_null() || pg_sys::tuplestore_tuple_count(old) == 0)) {
            return Ok(());
        }
        let relation = (*data).tg_relation;
        let mut known = Known::default();
        {
            let _latest = Snapshot::latest();
            let _rights = ActingAs::extension_owner()?;
            let directories = Directories::load()?;
            let directory = directories.of(kind);
            if !is_read_from(directory, (*relation).rd_id)? {
                return Ok(());
            }
            if is_truncate {
                directory.rows(fields(kind), &[], |row| {
                    known.add(kind, row);
                    Ok(())
                })?;
            } else {
                let select = directory.select(fields(kind));
                let new = if (*data).tg_newtable.is_null() { String::new() } else { format!(" EXCEPT SELECT {select} FROM llm_new") };
                let _rights = ActingAs::user((*(*relation).rd_rel).relowner, true);
                query::each_of_trigger(&format!("SELECT {select} FROM llm_old{new}"), data, |row| {
                    known.add(kind, texts(row, fields(kind)));
                    Ok(())
                })?;
            }
        }
        known.write(kind)
    }
}

unsafe fn argument(data: &pg_sys::TriggerData) -> Option<Kind> {
    // SAFETY: tgargs holds tgnargs NUL-terminated texts.
    unsafe {
        let trigger = &*data.tg_trigger;
        if trigger.tgnargs != 1 {
            return None;
        }
        CStr::from_ptr(*trigger.tgargs).to_str().ok().and_then(Kind::parse)
    }
}

/// Whether a directory is read from this table now: not from a shipped one while a table of the host stands in its place.
fn is_read_from(directory: &Directory, relation: pg_sys::Oid) -> Result<bool> {
    match &directory.host {
        Some(host) => Ok(host.relation == relation),
        None => {
            let name = directory.kind.shipped().trim_start_matches("llm.");
            let name = CString::new(name).map_err(|_| Error::internal("NUL byte in a name"))?;
            Ok(own_table(&name)? == relation)
        }
    }
}

/// All rows of a directory.
pub fn everything(directory: &Directory) -> Result<()> {
    if fields(directory.kind).is_empty() {
        return Ok(());
    }
    let mut known = Known::default();
    let latest = Snapshot::latest();
    directory.rows(fields(directory.kind), &[], |row| {
        known.add(directory.kind, row);
        Ok(())
    })?;
    drop(latest);
    known.write(directory.kind)
}
