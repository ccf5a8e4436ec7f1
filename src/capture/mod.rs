//! Capture: the trigger function of attached logs. Adds what a statement changed to `llm._pending`, in the same transaction.
//!
//! It reads the transition tables itself and writes with the heap API: no SPI, no plan, no right of the writing role is needed. What a
//! relation's triggers mean is looked up once per backend with a fresh snapshot, because a REPEATABLE READ transaction that began before
//! the attach must be counted like any other, and kept until the relation's relcache entry is invalidated.

mod changes;
mod plan;

pub use changes::add;

use crate::error::{Error, Result, raise_or};
use crate::guc::{ON_DELETE, OnDelete};
use crate::moved;
use crate::pending;
use crate::rights::Snapshot;
use changes::Changes;
use llm_analytics_core::delta::Kind;
use pgrx::prelude::*;
use plan::plan;
use std::ffi::CStr;

#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_llm_capture() -> &'static pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_llm_capture_row() -> &'static pg_sys::Pg_finfo_record {
    pg_finfo_llm_capture()
}

/// `llm._capture()`: statement triggers.
///
/// # Safety
/// Called by PostgreSQL's trigger manager.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn llm_capture(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as the caller promises.
    unsafe {
        raise_or(trigger_data(fcinfo, false).and_then(|data| capture(data)));
        pg_sys::Datum::from(0)
    }
}

/// `llm._capture_row()`: row triggers.
///
/// # Safety
/// Called by PostgreSQL's trigger manager.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn llm_capture_row(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as the caller promises. The result of an AFTER trigger is ignored.
    unsafe {
        raise_or(trigger_data(fcinfo, true).and_then(|data| capture(data)));
        pg_sys::Datum::from(0)
    }
}

unsafe fn trigger_data<'t>(fcinfo: pg_sys::FunctionCallInfo, by_row: bool) -> Result<&'t pg_sys::TriggerData> {
    // SAFETY: the context of a function that is called as a trigger is a TriggerData.
    unsafe {
        let context = (*fcinfo).context;
        let wrong = |message| Err(Error::new(PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, message));
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return wrong("llm._capture() is a trigger function");
        }
        let data = &*context.cast::<pg_sys::TriggerData>();
        let is_after = data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER;
        let is_truncate = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
        if (data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0) != by_row || is_after == is_truncate {
            return wrong("llm._capture() is not made for this kind of trigger");
        }
        Ok(data)
    }
}

unsafe fn capture(data: &pg_sys::TriggerData) -> Result<()> {
    // SAFETY: `data` describes the statement that fired us; its relation is open and locked.
    unsafe {
        let (source, version, role) = arguments(data)?;
        let relation = data.tg_relation;
        let by_row = data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
        let operation = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
        if role == Role::Moved {
            moved::note(data, source);
            return Ok(());
        }
        if operation == pg_sys::TRIGGER_EVENT_UPDATE && !by_row {
            moved::check(data, source)?;
        }
        if operation != pg_sys::TRIGGER_EVENT_TRUNCATE && !by_row && !has_rows(data) {
            return Ok(());
        }
        // Anybody may make a row trigger with our function on a table of their own.
        let plan = plan(relation, source, version)?;
        if !plan.in_tree {
            // Statement triggers are ours. One that says root, of a table that is not the root, would lose rows.
            return if role == Role::Root && !by_row { Err(not_the_log(relation)) } else { Ok(()) };
        }
        let (deleted, sign) = if keeps_deleted(plan.keeps_deleted) { (Kind::Kept, 1) } else { (Kind::Detail, -1) };
        if operation == pg_sys::TRIGGER_EVENT_TRUNCATE {
            // TRUNCATE fires on the root, on every table between and on every leaf: rows are in leaves only.
            if (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE {
                return Ok(());
            }
            // It removes every row that is committed, seen by this transaction's snapshot or not.
            let _latest = Snapshot::latest();
            return crate::source::log::take(source, (*relation).rd_id, deleted, sign);
        }
        let is_update = operation == pg_sys::TRIGGER_EVENT_UPDATE;
        let is_delete = operation == pg_sys::TRIGGER_EVENT_DELETE;
        let counts_from = if is_update || is_delete { plan.counts_from } else { i64::MIN };
        let mut changes = Changes::new(source, relation, &plan, counts_from);
        if by_row {
            if is_update {
                changes.slot(data.tg_trigslot, Kind::Detail, -1)?;
                changes.slot(data.tg_newslot, Kind::Detail, 1)?;
            } else if is_delete && moved::is_moved(&(*(*data.tg_trigtuple).t_data).t_ctid) {
                // It comes in again elsewhere, as an INSERT.
                changes.slot(data.tg_trigslot, Kind::Detail, -1)?;
            } else if is_delete {
                changes.slot(data.tg_trigslot, deleted, sign)?;
                moved::applied_delete(source, &changes.deltas);
            } else {
                changes.slot(data.tg_trigslot, Kind::Detail, 1)?;
                moved::applied_insert(source, &mut changes.deltas)?;
            }
        } else if is_delete {
            changes.table(data.tg_oldtable, deleted, sign)?;
        } else if is_update {
            changes.updated(data.tg_oldtable, data.tg_newtable)?;
        } else if pg_sys::tuplestore_tuple_count(data.tg_newtable) == 1 {
            changes.only_row(data.tg_newtable)?;
        } else {
            changes.table(data.tg_newtable, Kind::Detail, 1)?;
        }
        pending::insert_into(plan.pending, &changes.finish())
    }
}

/// Two tables have the triggers of one log, as when a table was restored beside it, and this one is not the one that is recorded.
unsafe fn not_the_log(relation: pg_sys::Relation) -> Error {
    // SAFETY: the relation is open.
    let name = unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) }.to_string_lossy();
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("table \"{name}\" has the capture triggers of another request log"),
    )
    .detail("Its rows would count as rows of that log.")
    .hint("SELECT llm.attach_log(..) of this table gives it triggers of its own.")
}

/// What a trigger is for, its third argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// On the table that was attached.
    Root,
    /// On a table of its tree.
    Part,
    /// Looks out for rows that leave a partition.
    Moved,
}

/// A number as attach writes it, and as the views over triggers read it (sql/40_triggers.sql).
fn number(text: &str) -> Option<i32> {
    if text.bytes().all(|b| b.is_ascii_digit()) && text.len() < 10 { text.parse().ok() } else { None }
}

/// Source, version, role.
unsafe fn arguments(data: &pg_sys::TriggerData) -> Result<(i32, i32, Role)> {
    // SAFETY: tgargs holds tgnargs NUL-terminated texts.
    unsafe {
        let trigger = &*data.tg_trigger;
        let text = |at: usize| CStr::from_ptr(*trigger.tgargs.add(at)).to_str().unwrap_or_default();
        let number = |at: usize| number(text(at));
        if trigger.tgnargs == 3
            && let (Some(source), Some(version)) = (number(0), number(1))
        {
            let role = match text(2) {
                "root" => Role::Root,
                "moved" => Role::Moved,
                _ => Role::Part,
            };
            return Ok((source, version, role));
        }
        Err(Error::new(PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, "llm._capture() has the wrong arguments")
            .hint("Its triggers are made by llm.attach_log(), not by hand."))
    }
}

/// The source that the capture triggers of a table name, as of now.
pub fn source_of(relation: pg_sys::Oid) -> Result<Option<i32>> {
    // SAFETY: the relation is open while its triggers are looked at; names and arguments are NUL-terminated.
    unsafe {
        let open = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
        if open.is_null() {
            return Ok(None);
        }
        let found = (*open).trigdesc.as_ref().and_then(|triggers| {
            std::slice::from_raw_parts(triggers.triggers, triggers.numtriggers as usize).iter().find_map(|trigger| {
                // By the function, which nobody else may use: a name can be anybody's.
                let function = pg_sys::get_func_name(trigger.tgfoid);
                let is_ours = trigger.tgnargs == 3
                    && CStr::from_ptr(trigger.tgname) == c"llm_capture_insert"
                    && !function.is_null()
                    && CStr::from_ptr(function) == c"_capture"
                    && pg_sys::get_func_namespace(trigger.tgfoid) == pg_sys::get_namespace_oid(c"llm".as_ptr(), true);
                is_ours.then(|| number(CStr::from_ptr(*trigger.tgargs).to_str().ok()?)).flatten()
            })
        });
        pg_sys::relation_close(open, pg_sys::AccessShareLock as i32);
        Ok(found)
    }
}

unsafe fn has_rows(data: &pg_sys::TriggerData) -> bool {
    // SAFETY: transition tables of the statement, null where the event has none.
    unsafe { [data.tg_oldtable, data.tg_newtable].into_iter().any(|table| !table.is_null() && pg_sys::tuplestore_tuple_count(table) > 0) }
}

/// `llm.on_delete`, where it is set, over what the source says.
pub fn keeps_deleted(source_keeps: bool) -> bool {
    match ON_DELETE.get() {
        OnDelete::source => source_keeps,
        OnDelete::keep => true,
        OnDelete::subtract => false,
    }
}
