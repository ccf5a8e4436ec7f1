//! Reading rows of a level, and pending ones, as the active snapshot sees them, without a plan: a year of a large organization is tens of
//! thousands of rows, and an executor costs more on each than all that is done with it here.

use crate::error::{Error, Result};
use crate::pending::own_table;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::level::Level;
use pgrx::prelude::*;
use std::ffi::CString;

/// A row of a level. Its measures are valid until the next row.
pub struct Row {
    pub series: i32,
    pub bucket: Micros,
    pub measures: pg_sys::Datum,
    pub place: pg_sys::ItemPointerData,
}

/// The columns of `llm.rollup` before the measures, as they lie in a row: none of them can be NULL.
#[repr(C)]
struct Head {
    org: i32,
    series: i32,
    bucket: i64,
    level: i16,
}

/// Where the measures lie: right behind if they are short, as nearly all are, else aligned, behind padding (`att_align_pointer` of access/tupmacs.h).
unsafe fn measures_of(data: *mut u8) -> pg_sys::Datum {
    const AFTER_LEVEL: usize = std::mem::offset_of!(Head, level) + size_of::<i16>();
    // SAFETY: the row has measures. No header of a varlena begins with a zero byte.
    unsafe {
        let is_padding = *data.add(AFTER_LEVEL) == 0;
        pg_sys::Datum::from(data.add(if is_padding { AFTER_LEVEL.next_multiple_of(align_of::<i32>()) } else { AFTER_LEVEL }))
    }
}

/// Attributes of `llm.rollup` (sql/20_numbers.sql).
const ORG: i16 = 1;
const BUCKET: i16 = 3;

/// An open table.
pub struct Table {
    relation: pg_sys::Relation,
    index: pg_sys::Oid,
}

impl Table {
    pub fn of_level(level: &Level, lock: u32) -> Result<Table> {
        let name = |suffix: &str| CString::new(format!("_rollup_{}{suffix}", level.name)).unwrap_or_default();
        let oid = own_table(&name(""))?;
        // SAFETY: the lock is held to the end of the transaction, as a statement's would be.
        let mut table = Table { relation: unsafe { pg_sys::table_open(oid, lock as i32) }, index: pg_sys::InvalidOid };
        // Under the lock: REINDEX CONCURRENTLY gives the name to another index, and drops this one when nobody holds the table.
        table.index = own_table(&name("_range"))?;
        Ok(table)
    }

    pub fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    /// `llm._pending`, with the lock of who reads it, or of who deletes from it.
    pub fn pending(lock: u32) -> Result<Table> {
        // SAFETY: as above.
        let relation = unsafe { pg_sys::table_open(own_table(c"_pending")?, lock as i32) };
        Ok(Table { relation, index: pg_sys::InvalidOid })
    }

    /// Deletes a row that the active snapshot sees. 40001 where somebody else did since.
    pub fn delete(&self, place: &pg_sys::ItemPointerData) -> Result<()> {
        let mut place = *place;
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the table is open with a writer's lock, and no triggers or indexes of it have to be told.
        let result = unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            pg_sys::heap_delete(self.relation, &mut place, command, std::ptr::null_mut(), true, &mut failure, false)
        };
        if result == pg_sys::TM_Result::TM_Ok {
            return Ok(());
        }
        Err(Error::serialization("delete"))
    }

    /// The rows of an organization whose buckets lie in `from..to`, in order of bucket.
    pub fn range(&self, org: i32, from: Micros, to: Micros, mut f: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        let (ge, lt) = (pg_sys::BTGreaterEqualStrategyNumber as u16, pg_sys::BTLessStrategyNumber as u16);
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        let mut keys = [
            key(ORG, equal, pg_sys::Oid::from(pg_sys::F_INT4EQ), pg_sys::Datum::from(org)),
            key(BUCKET, ge, pg_sys::Oid::from(pg_sys::F_TIMESTAMPTZ_GE), pg_sys::Datum::from(from)),
            key(BUCKET, lt, pg_sys::Oid::from(pg_sys::F_TIMESTAMPTZ_LT), pg_sys::Datum::from(to)),
        ];
        self.by_index(&mut keys, |tuple| {
            // SAFETY: a row of the table, laid out as `Head` says.
            unsafe {
                let data = (*tuple).t_data.cast::<u8>().add(usize::from((*(*tuple).t_data).t_hoff));
                let head = data.cast::<Head>();
                f(&Row { series: (*head).series, bucket: (*head).bucket, measures: measures_of(data), place: (*tuple).t_self })?;
                Ok(true)
            }
        })
    }

    /// All rows; `f` says whether to go on.
    pub fn tuples(&self, f: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc) -> Result<bool>) -> Result<()> {
        self.tuples_from(0, f)
    }

    /// The rows from a block on.
    pub fn tuples_from(
        &self,
        first: pg_sys::BlockNumber,
        mut f: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc) -> Result<bool>,
    ) -> Result<()> {
        // SAFETY: the table is open.
        let descriptor = unsafe { (*self.relation).rd_att };
        // SAFETY: as for a scan by index; `heap_getnext` gives the rows as they lie, without a slot between. A scan that starts at a block
        // may not be one that others take part in. The blocks are counted before it begins, so all of them are the scan's.
        unsafe {
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM);
            if first >= blocks {
                return Ok(());
            }
            let scan = pg_sys::table_beginscan_strat(self.relation, pg_sys::GetActiveSnapshot(), 0, std::ptr::null_mut(), true, false);
            pg_sys::heap_setscanlimits(scan, first, blocks - first);
            let result = each(|| pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection), |tuple| f(tuple, descriptor));
            pg_sys::table_endscan(scan);
            result
        }
    }

    /// The rows that `is_wanted` before it is known whether the snapshot sees them: to find that out costs more than to look at a row's first
    /// bytes, and most pending rows are another organization's. Page by page as `heap_getnext` does it (heapgetpage of access/heap/heapam.c).
    pub fn tuples_where(
        &self,
        is_wanted: impl Fn(pg_sys::HeapTuple) -> bool,
        mut f: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc) -> Result<()>,
    ) -> Result<()> {
        if needs_account() {
            return self.tuples(|tuple, descriptor| if is_wanted(tuple) { f(tuple, descriptor).map(|()| true) } else { Ok(true) });
        }
        let mut seen: Vec<pg_sys::HeapTupleData> = Vec::new();
        // SAFETY: the table is open, so no page of it goes; rows are looked at while the page is locked, and stay where they are while it is
        // pinned. Where an error of PostgreSQL unwinds, the transaction gives back lock and pin.
        unsafe {
            let (descriptor, snapshot) = ((*self.relation).rd_att, pg_sys::GetActiveSnapshot());
            // Rows of pages that are added from now on are not seen.
            for number in 0..pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM) {
                pgrx::check_for_interrupts!();
                let (fork, mode) = (pg_sys::ForkNumber::MAIN_FORKNUM, pg_sys::ReadBufferMode::RBM_NORMAL);
                let buffer = pg_sys::ReadBufferExtended(self.relation, fork, number, mode, std::ptr::null_mut());
                pg_sys::heap_page_prune_opt(self.relation, buffer);
                pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
                let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
                let pointers = rows_of(page);
                for (pointer, at) in pointers.iter().zip(1..).filter(|(pointer, _)| pointer.lp_flags() == pg_sys::LP_NORMAL) {
                    let mut tuple = pg_sys::HeapTupleData {
                        t_len: pointer.lp_len(),
                        t_self: pg_sys::ItemPointerData::default(),
                        t_tableOid: (*self.relation).rd_id,
                        t_data: page.add(pointer.lp_off() as usize).cast(),
                    };
                    pgrx::itemptr::item_pointer_set_all(&mut tuple.t_self, number, at);
                    if is_wanted(&mut tuple) && pg_sys::HeapTupleSatisfiesVisibility(&mut tuple, snapshot, buffer) {
                        seen.push(tuple);
                    }
                }
                pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
                let result = seen.iter_mut().try_for_each(|tuple| f(tuple, descriptor));
                pg_sys::ReleaseBuffer(buffer);
                result?;
                seen.clear();
            }
        }
        Ok(())
    }

    fn by_index(&self, keys: &mut [pg_sys::ScanKeyData], f: impl FnMut(pg_sys::HeapTuple) -> Result<bool>) -> Result<()> {
        // SAFETY: the table is open and the active snapshot outlives the scan, which is ended here, or with the transaction where an error
        // of PostgreSQL unwinds.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            let scan = pg_sys::systable_beginscan(self.relation, self.index, true, snapshot, keys.len() as i32, keys.as_mut_ptr());
            let result = each(|| pg_sys::systable_getnext(scan), f);
            pg_sys::systable_endscan(scan);
            result
        }
    }
}

/// Whether more than visibility is looked at when a page is read: what a serializable transaction did not see counts too, and before
/// PostgreSQL 17 rows may have been taken from under an old snapshot, if `old_snapshot_threshold` allows that. The server's own scan does both.
fn needs_account() -> bool {
    // SAFETY: variables of the server's.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        if pg_sys::old_snapshot_threshold >= 0 {
            return true;
        }
        pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32
    }
}

/// The line pointers of a page (storage/bufpage.h); none of a new one.
///
/// # Safety
/// A page in a buffer that is locked.
unsafe fn rows_of<'a>(page: *const u8) -> &'a [pg_sys::ItemIdData] {
    const HEADER: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
    // SAFETY: as the caller promises.
    unsafe {
        let lower = usize::from((*page.cast::<pg_sys::PageHeaderData>()).pd_lower);
        std::slice::from_raw_parts(page.add(HEADER).cast(), lower.saturating_sub(HEADER) / size_of::<pg_sys::ItemIdData>())
    }
}

/// Calls `f` with what `next` gives until that is null or `f` has enough.
fn each(next: impl Fn() -> pg_sys::HeapTuple, mut f: impl FnMut(pg_sys::HeapTuple) -> Result<bool>) -> Result<()> {
    let mut rows: u32 = 0;
    loop {
        let tuple = next();
        if tuple.is_null() {
            return Ok(());
        }
        rows += 1;
        if rows.is_multiple_of(4096) {
            pgrx::check_for_interrupts!();
        }
        if !f(tuple)? {
            return Ok(());
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by us; the lock is kept.
            unsafe { pg_sys::table_close(self.relation, pg_sys::NoLock as i32) };
        }
    }
}

fn key(attribute: i16, strategy: u16, function: pg_sys::Oid, value: pg_sys::Datum) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: fills the key in; the function compares values of the attribute's type.
    unsafe { pg_sys::ScanKeyInit(&mut key, attribute, strategy, function, value) };
    key
}
