//! Rows that move to another partition: by a MERGE, and as a replication worker applies them.
//!
//! PostgreSQL (15 to 18, `ExecDeleteEpilogue`) shows rows that an UPDATE moves in UPDATE's transition tables, but those that a MERGE moves
//! in the tables of DELETE and INSERT, whose triggers fire only where the MERGE has such actions. So they cannot be counted, and the
//! statement fails rather than lose them. Both are told apart by a moved row: only UPDATE's old table holds it.

use crate::error::{Error, Result};
use crate::source::column::same_bytes;
use llm_analytics_core::delta::{Deltas, Kind};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};

// pgrx has no bindings of these. None raises an error for what it is given here.
unsafe extern "C-unwind" {
    /// catalog/partition.h: the tables above a partition.
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
    /// replication/logicalworker.h: whether we apply a subscription.
    fn IsLogicalWorker() -> bool;
}

/// A row that the running statement moved; one of a statement's is enough.
#[derive(Clone, Copy)]
struct Moved {
    source: i32,
    /// The (sub)transaction that moved it; where that has ended, there is nothing to be checked and the rest is not valid any more.
    xid: pg_sys::TransactionId,
    leaf: pg_sys::Oid,
    tuple: pg_sys::HeapTuple,
}

thread_local! {
    static MOVED: Cell<Option<Moved>> = const { Cell::new(None) };
}

fn pending() -> Option<Moved> {
    // SAFETY: a lookup in the state of our own transaction.
    MOVED.get().filter(|moved| unsafe { pg_sys::TransactionIdIsCurrentTransactionId(moved.xid) })
}

/// After a row left a partition: remembers it if it was moved, not deleted. Row events fire before those of their statement.
///
/// # Safety
/// `data` is that of an AFTER DELETE row trigger.
pub unsafe fn note(data: &pg_sys::TriggerData, source: i32) {
    // SAFETY: as the caller promises; the copy lives as long as the transaction.
    unsafe {
        if !is_moved(&(*(*data.tg_trigtuple).t_data).t_ctid) || pending().is_some_and(|moved| moved.source == source) {
            return;
        }
        let previous = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
        let tuple = pg_sys::heap_copytuple(data.tg_trigtuple);
        pg_sys::MemoryContextSwitchTo(previous);
        MOVED.set(Some(Moved { source, xid: pg_sys::GetCurrentTransactionId(), leaf: (*data.tg_relation).rd_id, tuple }));
    }
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
    unsafe { IsLogicalWorker().then(|| (pg_sys::GetTopTransactionId(), pg_sys::GetCurrentStatementStartTimestamp())) }
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
    let Some(moved) = pending().filter(|moved| moved.source == source) else { return Ok(()) };
    MOVED.set(None);
    // SAFETY: the statement holds its locks on both relations; slots and conversion are freed here, or with the statement's memory.
    let is_held = unsafe {
        // Anybody may put the row trigger on a table of their own.
        let ancestors = get_partition_ancestors(moved.leaf);
        if !pg_sys::list_member_oid(ancestors, (*data.tg_relation).rd_id) {
            return Ok(());
        }
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
    };
    if is_held {
        return Ok(());
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "MERGE cannot move rows of an attached request log to another partition")
        .detail("PostgreSQL does not show these rows to the triggers that count them.")
        .hint("Move them with UPDATE, or with DELETE and INSERT after SET LOCAL llm.on_delete = 'subtract'."))
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
