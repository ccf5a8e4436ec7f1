//! Rows that move to another partition: by a MERGE, and as a replication worker applies them.
//!
//! PostgreSQL (15 to 18, `ExecDeleteEpilogue`) shows rows that an UPDATE moves in UPDATE's transition tables, but those that a MERGE moves
//! in the tables of DELETE and INSERT, whose triggers fire only where the MERGE has such actions. So they cannot be counted, and the
//! statement fails rather than lose them. Both are told apart by a moved row: only UPDATE's old table holds it.

use crate::error::{Error, Result};
use crate::source::column::same_bytes;
use llm_analytics_core::delta::{Deltas, Kind};
use pgrx::prelude::*;
use std::cell::RefCell;

// pgrx has no binding of it.
unsafe extern "C-unwind" {
    /// catalog/partition.h: the tables above a partition.
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
}

/// A row that a running statement moved. One of each partition that a statement moved rows out of is
/// enough. Statements nest: a trigger of the host may run another MERGE before ours is checked, and
/// anybody may put the row trigger on a table of their own, so each is remembered by itself.
#[derive(Clone, Copy)]
struct Moved {
    source: i32,
    leaf: pg_sys::Oid,
    /// How deep in triggers: the same for all triggers of one statement.
    depth: i32,
    /// The (sub)transaction that moved it; where that has ended, there is nothing to be checked and the rest is not valid any more.
    xid: pg_sys::TransactionId,
    tuple: pg_sys::HeapTuple,
}

thread_local! {
    static MOVED: RefCell<Vec<Moved>> = const { RefCell::new(Vec::new()) };
}

fn depth() -> i32 {
    // SAFETY: reads a variable of the trigger manager.
    unsafe { pgrx::direct_function_call::<i32>(pg_sys::pg_trigger_depth, &[]) }.unwrap_or(0)
}

/// After a row left a partition: remembers it if it was moved, not deleted. Row events fire before those of their statement.
///
/// # Safety
/// `data` is that of an AFTER DELETE row trigger.
pub unsafe fn note(data: &pg_sys::TriggerData, source: i32) {
    // SAFETY: as the caller promises; the copy lives as long as the transaction.
    unsafe {
        if !is_moved(&(*(*data.tg_trigtuple).t_data).t_ctid) {
            return;
        }
        let (leaf, depth) = ((*data.tg_relation).rd_id, depth());
        let is_known = MOVED.with_borrow_mut(|moved| {
            moved.retain(|moved| pg_sys::TransactionIdIsCurrentTransactionId(moved.xid));
            moved.iter().any(|moved| (moved.source, moved.leaf, moved.depth) == (source, leaf, depth))
        });
        if is_known {
            return;
        }
        let previous = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
        let tuple = pg_sys::heap_copytuple(data.tg_trigtuple);
        pg_sys::MemoryContextSwitchTo(previous);
        let moved = Moved { source, leaf, depth, xid: pg_sys::GetCurrentTransactionId(), tuple };
        MOVED.with_borrow_mut(|all| all.push(moved));
    }
}

/// The rows that a statement on a table moved out of its partitions. They are forgotten: the
/// statement is checked once.
unsafe fn take(source: i32, root: pg_sys::Oid) -> Vec<Moved> {
    let all = MOVED.with_borrow(Vec::clone);
    if all.is_empty() {
        return all;
    }
    let depth = depth();
    let of_statement = |moved: &Moved| {
        // SAFETY: lookups in the state of our own transaction and in the catalog; an error of
        // PostgreSQL becomes a panic that runs destructors.
        unsafe {
            moved.source == source
                && moved.depth == depth
                && pg_sys::TransactionIdIsCurrentTransactionId(moved.xid)
                && pg_sys::list_member_oid(pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_ancestors(moved.leaf)), root)
        }
    };
    let (taken, left) = all.into_iter().partition(of_statement);
    MOVED.set(left);
    taken
}

/// What a replication worker's deletion put among the kept ones, and the start of its message.
struct AppliedDelete {
    source: i32,
    xid: pg_sys::TransactionId,
    message: pg_sys::TimestampTz,
    kept: Deltas,
}

thread_local! {
    static APPLIED: RefCell<Option<AppliedDelete>> = const { RefCell::new(None) };
}

/// The message that a replication worker applies: its transaction and when it began (`begin_replication_step`). None elsewhere.
fn message() -> Option<(pg_sys::TransactionId, pg_sys::TimestampTz)> {
    // SAFETY: reads state of our own process and transaction, which has written something.
    unsafe { pg_sys::IsLogicalWorker().then(|| (pg_sys::GetTopTransactionId(), pg_sys::GetCurrentStatementStartTimestamp())) }
}

/// A row that a replication worker deleted goes on counting. But where it applies an UPDATE that moves the row to another partition, it deletes
/// and inserts, unlike the executor without a mark on the row; one message is one row, so an INSERT of the same message is the row's new place.
pub fn applied_delete(source: i32, kept: &Deltas) {
    if let Some((xid, message)) = message() {
        APPLIED.set(Some(AppliedDelete { source, xid, message, kept: kept.clone() }));
    }
}

/// Takes back what the deletion of the same message has kept, if there was one.
pub fn applied_insert(source: i32, deltas: &mut Deltas) -> Result<()> {
    let Some(deleted) = APPLIED.take() else { return Ok(()) };
    if message() != Some((deleted.xid, deleted.message)) || deleted.source != source {
        return Ok(());
    }
    for (key, measures) in deleted.kept.iter().filter(|(key, _)| key.kind() == Kind::Kept as i16) {
        for kind in [Kind::Kept, Kind::Detail] {
            deltas.add_sum(source, kind, key.bucket(), key.texts(), measures, -1)?;
        }
    }
    Ok(())
}

/// `ItemPointerIndicatesMovedPartitions` of storage/itemptr.h.
pub fn is_moved(ctid: &pg_sys::ItemPointerData) -> bool {
    const MOVED_PARTITIONS_OFFSET: u16 = 0xfffd;
    ctid.ip_posid == MOVED_PARTITIONS_OFFSET && ctid.ip_blkid.bi_hi == 0xffff && ctid.ip_blkid.bi_lo == 0xffff
}

/// After an UPDATE, or the UPDATEs of a MERGE: 0A000 where a row was moved that the old table does not hold.
///
/// # Safety
/// `data` is that of an AFTER UPDATE statement trigger.
pub unsafe fn check(data: &pg_sys::TriggerData, source: i32) -> Result<()> {
    // SAFETY: as the caller promises.
    let moved = unsafe { take(source, (*data.tg_relation).rd_id) };
    // SAFETY: as the caller promises; the statement moved these rows.
    if moved.iter().all(|moved| unsafe { is_held(data, moved) }) {
        return Ok(());
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "MERGE cannot move rows of an attached request log to another partition")
        .detail("PostgreSQL does not show these rows to the triggers that count them.")
        .hint("Move them with UPDATE, or with DELETE and INSERT after SET LOCAL llm.on_delete = 'subtract'."))
}

/// Whether the old table of a statement holds a row that it moved.
unsafe fn is_held(data: &pg_sys::TriggerData, moved: &Moved) -> bool {
    // SAFETY: the statement holds its locks on both relations; slots and conversion are freed here, or with the statement's memory.
    unsafe {
        let leaf = pg_sys::table_open(moved.leaf, pg_sys::NoLock as i32);
        let root = (*data.tg_relation).rd_att;
        let map = pg_sys::convert_tuples_by_name((*leaf).rd_att, root);
        let tuple = if map.is_null() { moved.tuple } else { pg_sys::execute_attr_map_tuple(moved.tuple, map) };
        let wanted = pg_sys::MakeSingleTupleTableSlot(root, &pg_sys::TTSOpsHeapTuple);
        pg_sys::ExecStoreHeapTuple(tuple, wanted, false);
        pg_sys::slot_getsomeattrs_int(wanted, (*root).natts);
        let is_held = holds(data.tg_oldtable, wanted);
        pg_sys::ExecDropSingleTupleTableSlot(wanted);
        pg_sys::table_close(leaf, pg_sys::NoLock as i32);
        is_held
    }
}

/// Whether a transition table holds a row, compared byte by byte.
unsafe fn holds(table: *mut pg_sys::Tuplestorestate, wanted: *mut pg_sys::TupleTableSlot) -> bool {
    if table.is_null() {
        return false;
    }
    // SAFETY: both slots have the same descriptor and all attributes deformed; the table's first read pointer is ours, rewound.
    unsafe {
        let descriptor = (*wanted).tts_tupleDescriptor;
        let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsMinimalTuple);
        pg_sys::tuplestore_select_read_pointer(table, 0);
        pg_sys::tuplestore_rescan(table);
        let attributes = pgrx::PgTupleDesc::from_pg_copy(descriptor);
        let mut is_held = false;
        while !is_held && pg_sys::tuplestore_gettupleslot(table, true, false, slot) {
            pg_sys::slot_getsomeattrs_int(slot, (*descriptor).natts);
            is_held = attributes.iter().enumerate().all(|(at, attribute)| {
                let (a, b) = (*(*slot).tts_isnull.add(at), *(*wanted).tts_isnull.add(at));
                a == b
                    && (a || same_bytes(*(*slot).tts_values.add(at), *(*wanted).tts_values.add(at), attribute.attbyval, attribute.attlen))
            });
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        is_held
    }
}
