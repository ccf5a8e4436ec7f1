//! Capture: the trigger function of attached logs. Adds what a statement changed to `llm._pending`, in the same transaction.
//!
//! It reads the transition tables itself and writes with the heap API: no SPI, no plan, no right of the writing role is needed. What a
//! relation's triggers mean is looked up once per backend with a fresh snapshot, because a REPEATABLE READ transaction that began before
//! the attach must be counted like any other, and kept until the relation's relcache entry is invalidated.

use crate::error::{Error, Result, raise_or};
use crate::guc::{ON_DELETE, OnDelete};
use crate::moved;
use crate::pending::{self, RowMemory, own_table};
use crate::query::{self, See};
use crate::rights::{ActingAs, Snapshot};
use crate::source::mapping::Mapping;
use crate::source::reading::{Place, Reading};
use llm_analytics_core::bucket::{self, Micros};
use llm_analytics_core::delta::{Deltas, Kind, Row};
use llm_analytics_core::measure;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

/// What the triggers of one relation mean.
struct Plan {
    reading: Reading,
    keeps_deleted: bool,
    /// False for a table that left the tree and still has its triggers: it counts for nothing.
    in_tree: bool,
    /// Attached without its history: of rows created before, only those that come in count, since it is not known of one that changes or
    /// goes whether it did.
    counts_from: i64,
    /// `llm._pending`. That is dropped with the triggers only, and then the plan is made anew.
    pending: pg_sys::Oid,
    /// Holds the expression trees.
    context: pg_sys::MemoryContext,
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the context was made for this plan and nothing else points into it.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

type Key = (pg_sys::Oid, i32, i32);

thread_local! {
    static PLANS: RefCell<HashMap<Key, Rc<Plan>>> = RefCell::default();
    static STALE: Cell<bool> = const { Cell::new(false) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Called by PostgreSQL at any moment: only sets a flag.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let ours = relation == pg_sys::InvalidOid
        || PLANS.with(|plans| plans.try_borrow().map_or(true, |plans| plans.keys().any(|(known, _, _)| *known == relation)));
    if ours {
        STALE.set(true);
    }
}

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
        // Anybody may make a row trigger with this function on a table of their own, so there it must lie in the tree.
        let plan = plan(relation, source, version, role == Role::Root && !by_row)?;
        if !plan.in_tree {
            return Ok(());
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

/// Source, version, role.
unsafe fn arguments(data: &pg_sys::TriggerData) -> Result<(i32, i32, Role)> {
    // SAFETY: tgargs holds tgnargs NUL-terminated texts.
    unsafe {
        let trigger = &*data.tg_trigger;
        let text = |at: usize| CStr::from_ptr(*trigger.tgargs.add(at)).to_str().unwrap_or_default();
        let number = |at: usize| text(at).parse::<i32>().ok();
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
                is_ours.then(|| CStr::from_ptr(*trigger.tgargs).to_str().ok()?.parse().ok()).flatten()
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

unsafe fn plan(relation: pg_sys::Relation, source: i32, version: i32, in_tree: bool) -> Result<Rc<Plan>> {
    // SAFETY: `relation` is open for the length of the call.
    let key = unsafe { ((*relation).rd_id, source, version) };
    if !REGISTERED.replace(true) {
        // SAFETY: registered once per backend.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0)) };
    }
    if STALE.replace(false) {
        PLANS.with(|plans| plans.borrow_mut().clear());
    }
    if let Some(plan) = PLANS.with(|plans| plans.borrow().get(&key).cloned()) {
        return Ok(plan);
    }
    // SAFETY: as above.
    let plan = Rc::new(unsafe { make_plan(relation, source, in_tree)? });
    PLANS.with(|plans| plans.borrow_mut().insert(key, plan.clone()));
    Ok(plan)
}

unsafe fn make_plan(relation: pg_sys::Relation, source: i32, in_tree: bool) -> Result<Plan> {
    // SAFETY: `relation` is open.
    let (oid, owner) = unsafe { ((*relation).rd_id, (*(*relation).rd_rel).relowner) };
    let found = {
        let _latest = Snapshot::latest();
        let _rights = ActingAs::extension_owner()?;
        let mut found = (None, None, None, None);
        query::each(include_str!("../sql/query/capture_plan.sql"), &[source.into(), oid.into()], See::Active, |row| {
            found = (row.get::<pgrx::JsonB>(1), row.get::<bool>(2), row.get::<bool>(3), row.get::<TimestampWithTimeZone>(4));
            Ok(())
        })?;
        found
    };
    let (Some(columns), Some(keeps_deleted), member, counts_from) = found else {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("request log source {source} is unknown"),
        )
        .detail("The table has capture triggers, but llm.source does not have their source.")
        .hint("SELECT llm.attach_log(..) of the table, as after a restore of the host's tables alone; or restore llm.source."));
    };
    let mapping = Mapping::from_json(&columns.0)?;
    let pending = own_table(c"_pending")?;
    // SAFETY: the context belongs to the plan and is deleted with it; on an error it is freed here.
    unsafe {
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"llm_analytics plan".as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
        );
        let previous = pg_sys::MemoryContextSwitchTo(context);
        let _rights = ActingAs::user(owner, true);
        let reading = Reading::bind(relation, &mapping);
        pg_sys::MemoryContextSwitchTo(previous);
        match reading {
            Ok(reading) => {
                let counts_from = counts_from.map_or(i64::MIN, pg_sys::TimestampTz::from);
                Ok(Plan { reading, keeps_deleted, in_tree: in_tree || member == Some(true), counts_from, pending, context })
            }
            Err(error) => {
                pg_sys::MemoryContextDelete(context);
                Err(error)
            }
        }
    }
}

/// Reads rows out of slots and adds them up.
struct Changes<'p> {
    source: i32,
    plan: &'p Plan,
    relation: pg_sys::Relation,
    counts_from: i64,
    deltas: Deltas,
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
    unsafe fn new(source: i32, relation: pg_sys::Relation, plan: &'p Plan, counts_from: i64) -> Changes<'p> {
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
    unsafe fn table(&mut self, table: *mut pg_sys::Tuplestorestate, kind: Kind, sign: i64) -> Result<()> {
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
    unsafe fn only_row(&mut self, table: *mut pg_sys::Tuplestorestate) -> Result<()> {
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
    unsafe fn updated(&mut self, old: *mut pg_sys::Tuplestorestate, new: *mut pg_sys::Tuplestorestate) -> Result<()> {
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
    unsafe fn slot(&mut self, slot: *mut pg_sys::TupleTableSlot, kind: Kind, sign: i64) -> Result<()> {
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

    fn finish(self) -> Deltas {
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
        note.measures.counts[measure::REQUESTS] = skipped;
        deltas.add(source, Kind::Skipped, begin, &note, sign)?;
    }
    Ok(())
}
