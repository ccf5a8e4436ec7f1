//! The rows of a statement, read and added up.

use super::plan::Plan;
use crate::error::Result;
use crate::pending::{self, RowMemory};
use crate::rights::ActingAs;
use crate::source::reading::Place;
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

/// What host expressions need: the owner's rights and an executor state.
struct Evaluation {
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    /// In the order of the plan's places, null for plain columns.
    states: Vec<*mut pg_sys::ExprState>,
    _rights: ActingAs,
}

impl<'p> Changes<'p> {
    pub(super) unsafe fn new(source: i32, relation: pg_sys::Relation, plan: &'p Plan, counts_from: i64) -> Changes<'p> {
        // SAFETY: the executor state lives in the current (per-query) memory context and is freed in `finish`, or with the context.
        let evaluation = plan.reading.needs_evaluation().then(|| unsafe {
            let rights = ActingAs::user((*(*relation).rd_rel).relowner, true);
            let estate = pg_sys::CreateExecutorState();
            let econtext = pg_sys::MakePerTupleExprContext(estate);
            let states = plan.reading.places.iter().map(|place| match place {
                Place::Attribute(_) => std::ptr::null_mut(),
                Place::Expression(node) => pg_sys::ExecPrepareExpr((*node).cast(), estate),
            });
            Evaluation { estate, econtext, states: states.collect(), _rights: rights }
        });
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

    /// What a row says, as [`Reading::row`] does; None for one that does not count.
    unsafe fn read<'r>(&self, slot: *mut pg_sys::TupleTableSlot) -> Option<(Micros, Row<'r>, i64)> {
        // SAFETY: the slot holds a row of the relation, its arrays are valid once all attributes are deformed; expression states were
        // prepared for it. A host function's error goes through the guard.
        unsafe {
            pg_sys::slot_getsomeattrs_int(slot, self.plan.reading.attributes((*(*slot).tts_tupleDescriptor).natts));
            let evaluation = self.evaluation.as_ref();
            if let Some(evaluation) = evaluation {
                pg_sys::MemoryContextReset((*evaluation.econtext).ecxt_per_tuple_memory);
                (*evaluation.econtext).ecxt_scantuple = slot;
            }
            let value = |at: usize| match (&self.plan.reading.places[at], evaluation) {
                (Place::Attribute(attribute), _) => attribute.of(slot),
                (Place::Expression(_), Some(evaluation)) => evaluate(evaluation, evaluation.states[at]),
                (Place::Expression(_), None) => None,
            };
            self.plan.reading.row(value).filter(|(created_at, ..)| *created_at >= self.counts_from)
        }
    }

    pub(super) fn finish(self) -> Deltas {
        if let Some(evaluation) = &self.evaluation {
            // SAFETY: made in `new`, not used any more.
            unsafe { pg_sys::FreeExecutorState(evaluation.estate) };
        }
        self.deltas
    }
}

unsafe fn evaluate(evaluation: &Evaluation, state: *mut pg_sys::ExprState) -> Option<pg_sys::Datum> {
    let mut is_null = false;
    // SAFETY: a prepared expression; results live in the per-tuple context until the next row.
    let value = unsafe {
        let previous = pg_sys::MemoryContextSwitchTo((*evaluation.econtext).ecxt_per_tuple_memory);
        let function = (*state).evalfunc?;
        let value = pg_sys::ffi::pg_guard_ffi_boundary(|| function(state, evaluation.econtext, &mut is_null));
        pg_sys::MemoryContextSwitchTo(previous);
        value
    };
    (!is_null).then_some(value)
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
