//! Reading rows out of slots, without SPI: expressions of a mapping are evaluated with the rights of the role whose mapping it is.

use crate::rights::ActingAs;
use crate::source::reading::{Place, Reading};
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::Row;
use pgrx::prelude::*;

/// What host expressions need: the rights of the mapping's owner and an executor state. Ends with [`Evaluation::finish`].
pub struct Evaluation {
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    /// In the order of the reading's places, null for plain columns.
    states: Vec<*mut pg_sys::ExprState>,
    _rights: ActingAs,
}

impl Evaluation {
    /// # Safety
    /// The executor state lives in the current memory context; the trees of the reading outlive it.
    pub unsafe fn new(reading: &Reading, owner: pg_sys::Oid) -> Evaluation {
        let rights = ActingAs::user(owner, true);
        // SAFETY: as the caller promises.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            let econtext = pg_sys::MakePerTupleExprContext(estate);
            let states = reading.places.iter().map(|place| match place {
                Place::Attribute(_) => std::ptr::null_mut(),
                Place::Expression(node) => pg_sys::ExecPrepareExpr((*node).cast(), estate),
            });
            Evaluation { estate, econtext, states: states.collect(), _rights: rights }
        }
    }

    unsafe fn evaluate(&self, state: *mut pg_sys::ExprState) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: a prepared expression; results live in the per-tuple context until the next row. A host function's error goes through
        // the guard.
        let value = unsafe {
            let previous = pg_sys::MemoryContextSwitchTo((*self.econtext).ecxt_per_tuple_memory);
            let function = (*state).evalfunc?;
            let value = pg_sys::ffi::pg_guard_ffi_boundary(|| function(state, self.econtext, &mut is_null));
            pg_sys::MemoryContextSwitchTo(previous);
            value
        };
        (!is_null).then_some(value)
    }

    pub fn finish(self) {
        // SAFETY: made in `new`, not used any more.
        unsafe { pg_sys::FreeExecutorState(self.estate) };
    }
}

/// What a row says, as [`Reading::row`] does. Without an evaluation the reading has plain columns only.
///
/// # Safety
/// The slot holds a row of the table that the reading is bound to.
pub unsafe fn read<'r>(
    reading: &Reading,
    evaluation: Option<&Evaluation>,
    slot: *mut pg_sys::TupleTableSlot,
) -> Option<(Micros, Row<'r>, i64)> {
    // SAFETY: as the caller promises; the slot's arrays are valid once all attributes are deformed.
    unsafe {
        pg_sys::slot_getsomeattrs_int(slot, reading.attributes((*(*slot).tts_tupleDescriptor).natts));
        if let Some(evaluation) = evaluation {
            pg_sys::MemoryContextReset((*evaluation.econtext).ecxt_per_tuple_memory);
            (*evaluation.econtext).ecxt_scantuple = slot;
        }
        let value = |at: usize| match (&reading.places[at], evaluation) {
            (Place::Attribute(attribute), _) => attribute.of(slot),
            (Place::Expression(_), Some(evaluation)) => evaluation.evaluate(evaluation.states[at]),
            (Place::Expression(_), None) => None,
        };
        reading.row(value)
    }
}
