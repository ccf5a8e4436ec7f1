//! Reading a partition that belongs to another role than the log.
//!
//! The mapping is the log's owner's, so it must not run with the rights of the partition's owner. What the partition's owner defined on it
//! must not run with those of the log's owner. So the rows are scanned as they lie, without a plan, which evaluates nothing of the table's,
//! and the mapping is evaluated as the log's owner.

use crate::error::{Error, Result};
use crate::pending::RowMemory;
use crate::rights::{ActingAs, class_row};
use crate::source::evaluation::{self, Evaluation};
use crate::source::mapping::Mapping;
use crate::source::reading::Reading;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::Row;
use pgrx::prelude::*;

/// Calls `f` with what every row of a table says that lies in a date range, as seen by the active snapshot. `owner` is the log's.
pub fn rows(
    table: pg_sys::Oid,
    owner: pg_sys::Oid,
    mapping: &Mapping,
    mut f: impl FnMut((Micros, Row<'_>, i64)) -> Result<()>,
) -> Result<()> {
    // SAFETY: locks an oid, to the end of the transaction.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as i32) };
    let Some(class) = class_row(table) else { return Ok(()) };
    if class.kind != pg_sys::RELKIND_RELATION {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, "a partition of a request log is not a table"));
    }
    let _rights = ActingAs::user(owner, true);
    // SAFETY: the table is locked, and open while its rows are read. The slot lets go of a row before the next; what a row allocates is
    // used before its memory is reset. Where an error of PostgreSQL unwinds, the transaction gives everything back.
    unsafe {
        let open = pg_sys::table_open(table, pg_sys::NoLock as i32);
        let result = (|| {
            let reading = Reading::bind(open, mapping)?;
            let evaluation = reading.needs_evaluation().then(|| Evaluation::new(&reading, owner));
            let slot = pg_sys::table_slot_create(open, std::ptr::null_mut());
            let scan = pg_sys::table_beginscan_strat(open, pg_sys::GetActiveSnapshot(), 0, std::ptr::null_mut(), true, false);
            let mut memory = RowMemory::new();
            let mut result = Ok(());
            while result.is_ok() && next(open, scan, slot) {
                memory.step();
                result = evaluation::read(&reading, evaluation.as_ref(), slot).map_or(Ok(()), &mut f);
                pgrx::check_for_interrupts!();
            }
            drop(memory);
            pg_sys::table_endscan(scan);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            if let Some(evaluation) = evaluation {
                evaluation.finish();
            }
            result
        })();
        pg_sys::table_close(open, pg_sys::NoLock as i32);
        result
    }
}

/// `table_scan_getnextslot` of access/tableam.h.
unsafe fn next(open: pg_sys::Relation, scan: pg_sys::TableScanDesc, slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: as the caller promises; an error goes through the guard.
    unsafe {
        let Some(next) = (*(*open).rd_tableam).scan_getnextslot else { return false };
        pg_sys::ffi::pg_guard_ffi_boundary(|| next(scan, pg_sys::ScanDirection::ForwardScanDirection, slot))
    }
}
