//! The rows of a statement, read and added up.

use super::plan::Plan;
use crate::error::Result;
use crate::pending::{self, RowMemory};
use crate::source::evaluation::{self, Evaluation};
use llm_analytics_core::bucket::{self, Micros};
use llm_analytics_core::delta::{Deltas, Kind, Row};
use llm_analytics_core::measure;
use pgrx::prelude::*;

/// Reads rows out of slots and adds them up.
pub(super) struct Changes<'p> {
    source: i32,
    plan: &'p Plan,
    relation: pg_sys::Relation,
    counts_from: i64,
    pub(super) deltas: Deltas,
    evaluation: Option<Evaluation>,
}

/// The rows of a transition table.
struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Rows {
    unsafe fn of(store: *mut pg_sys::Tuplestorestate, relation: pg_sys::Relation) -> Rows {
        // SAFETY: other triggers on the statement select their own read pointer before they read; ours is the first, rewound.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(store, 0);
            pg_sys::tuplestore_rescan(store);
            Rows { store, slot: pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &pg_sys::TTSOpsMinimalTuple) }
        }
    }

    /// A store that has spilled to disk allocates each tuple in the row memory: the slot lets go of it before that is reset.
    unsafe fn forget(&mut self) {
        // SAFETY: the slot is ours.
        unsafe { pg_sys::ExecClearTuple(self.slot) };
    }

    unsafe fn next(&mut self) -> bool {
        // SAFETY: the store outlives the trigger.
        unsafe { pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot) }
    }

    unsafe fn finish(self) {
        // SAFETY: the slot is ours.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
    }
}

impl<'p> Changes<'p> {
    pub(super) unsafe fn new(source: i32, relation: pg_sys::Relation, plan: &'p Plan, counts_from: i64) -> Changes<'p> {
        // SAFETY: the current memory context is that of the statement; the plan outlives the evaluation.
        let evaluation = plan.reading.needs_evaluation().then(|| unsafe { Evaluation::new(&plan.reading, plan.owner) });
        Changes { source, plan, relation, counts_from, deltas: Deltas::default(), evaluation }
    }

    /// Adds all rows of a transition table.
    pub(super) unsafe fn table(&mut self, table: *mut pg_sys::Tuplestorestate, kind: Kind, sign: i64) -> Result<()> {
        if table.is_null() {
            return Ok(());
        }
        // SAFETY: a transition table of the statement.
        unsafe {
            let mut rows = Rows::of(table, self.relation);
            let mut memory = RowMemory::new();
            loop {
                rows.forget();
                memory.step();
                if !rows.next() {
                    break;
                }
                self.slot(rows.slot, kind, sign)?;
            }
            drop(memory);
            rows.finish();
        }
        Ok(())
    }

    /// Writes the one row of an INSERT at once: there is nothing to add up.
    pub(super) unsafe fn only_row(&mut self, table: *mut pg_sys::Tuplestorestate) -> Result<()> {
        // SAFETY: a transition table of the statement.
        unsafe {
            let mut rows = Rows::of(table, self.relation);
            if rows.next() {
                match self.read(rows.slot) {
                    Some((created_at, row, 0)) => pending::insert_row(self.plan.pending, self.source, bucket::start(created_at), &row)?,
                    read => add(&mut self.deltas, self.source, read, Kind::Detail, 1)?,
                }
            }
            rows.finish();
        }
        Ok(())
    }

    /// Adds what an UPDATE made of its rows. Where both tables have the same mapped values at the same place, as where only other columns were
    /// set, the two cancel out and are not read.
    pub(super) unsafe fn updated(&mut self, old: *mut pg_sys::Tuplestorestate, new: *mut pg_sys::Tuplestorestate) -> Result<()> {
        // SAFETY: transition tables of the statement.
        unsafe {
            let (mut before, mut after) = (Rows::of(old, self.relation), Rows::of(new, self.relation));
            let mut memory = RowMemory::new();
            loop {
                before.forget();
                after.forget();
                memory.step();
                let (is_old, is_new) = (before.next(), after.next());
                if is_old && is_new {
                    let attributes = self.plan.reading.attributes((*(*self.relation).rd_att).natts);
                    pg_sys::slot_getsomeattrs_int(before.slot, attributes);
                    pg_sys::slot_getsomeattrs_int(after.slot, attributes);
                    if self.plan.reading.is_same(before.slot, after.slot) {
                        continue;
                    }
                }
                if is_old {
                    self.slot(before.slot, Kind::Detail, -1)?;
                }
                if is_new {
                    self.slot(after.slot, Kind::Detail, 1)?;
                }
                if !is_old && !is_new {
                    break;
                }
            }
            drop(memory);
            before.finish();
            after.finish();
        }
        Ok(())
    }

    /// Adds one row.
    pub(super) unsafe fn slot(&mut self, slot: *mut pg_sys::TupleTableSlot, kind: Kind, sign: i64) -> Result<()> {
        // SAFETY: as the caller promises.
        let read = unsafe { self.read(slot) };
        add(&mut self.deltas, self.source, read, kind, sign)
    }

    /// What a row says; None for one that does not count.
    unsafe fn read<'r>(&self, slot: *mut pg_sys::TupleTableSlot) -> Option<(Micros, Row<'r>, i64)> {
        // SAFETY: the slot holds a row of the relation.
        let read = unsafe { evaluation::read(&self.plan.reading, self.evaluation.as_ref(), slot) };
        read.filter(|(created_at, ..)| *created_at >= self.counts_from)
    }

    pub(super) fn finish(self) -> Deltas {
        if let Some(evaluation) = self.evaluation {
            evaluation.finish();
        }
        self.deltas
    }
}

/// Adds one row as read; a row that lies in no date range adds nothing.
pub fn add(deltas: &mut Deltas, source: i32, read: Option<(i64, Row<'_>, i64)>, kind: Kind, sign: i64) -> Result<()> {
    let Some((created_at, row, skipped)) = read else { return Ok(()) };
    let begin = bucket::start(created_at);
    deltas.add(source, kind, begin, &row, sign)?;
    // Reported once, when the row comes in; an UPDATE takes back what it replaces.
    if skipped > 0 && kind == Kind::Detail {
        let mut note = Row { organization: row.organization, ..Row::default() };
        note.measures.counts[measure::REQUESTS] = skipped.into();
        deltas.add(source, Kind::Skipped, begin, &note, sign)?;
    }
    Ok(())
}
