//! What the triggers of a relation mean, looked up once per backend.

use crate::error::{Error, Result};
use crate::pending::own_table;
use crate::query::{self, See};
use crate::rights::{ActingAs, Snapshot, class_row};
use crate::source::mapping::Mapping;
use crate::source::reading::Reading;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// What the triggers of one relation mean.
pub(super) struct Plan {
    pub(super) reading: Reading,
    pub(super) keeps_deleted: bool,
    /// False for a table that is not in the recorded tree of the source: one that left it and still has its triggers, or one whose
    /// owner made the row trigger. It counts for nothing, and nothing is evaluated for it.
    pub(super) in_tree: bool,
    /// Attached without its history: of rows created before, only those that come in count, since it is not known of one that changes or
    /// goes whether it did.
    pub(super) counts_from: i64,
    /// The root of the log, and the role that owns it, whose mapping this is: it is evaluated with that role's rights, whoever owns the
    /// partition that is written to.
    root: pg_sys::Oid,
    pub(super) owner: pg_sys::Oid,
    /// `llm._pending`. That is dropped with the triggers only, and then the plan is made anew.
    pub(super) pending: pg_sys::Oid,
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
        || PLANS.with(|plans| {
            plans.try_borrow().map_or(true, |plans| plans.iter().any(|((known, _, _), plan)| *known == relation || plan.root == relation))
        });
    if ours {
        STALE.set(true);
    }
}

pub(super) unsafe fn plan(relation: pg_sys::Relation, source: i32, version: i32) -> Result<Rc<Plan>> {
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
    let plan = Rc::new(unsafe { make_plan(relation, source)? });
    PLANS.with(|plans| plans.borrow_mut().insert(key, plan.clone()));
    Ok(plan)
}

unsafe fn make_plan(relation: pg_sys::Relation, source: i32) -> Result<Plan> {
    // SAFETY: `relation` is open.
    let oid = unsafe { (*relation).rd_id };
    let found = {
        let _latest = Snapshot::latest();
        let _rights = ActingAs::extension_owner()?;
        let mut found = (None, None, None, None);
        query::each(include_str!("../../sql/query/capture_plan.sql"), &[source.into(), oid.into()], See::Active, |row| {
            found = (row.get::<pgrx::JsonB>(1), row.get::<bool>(2), row.get::<pg_sys::Oid>(3), row.get::<TimestampWithTimeZone>(4));
            Ok(())
        })?;
        found
    };
    let (Some(columns), Some(keeps_deleted), root, counts_from) = found else {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("request log source {source} is unknown"),
        )
        .detail("The table has capture triggers, but llm.source does not have their source.")
        .hint("SELECT llm.attach_log(..) of the table, as after a restore of the host's tables alone; or restore llm.source."));
    };
    let in_tree = root.is_some();
    let root = root.unwrap_or(oid);
    let owner = class_row(root).map(|class| class.owner).ok_or_else(|| Error::internal("the root of a request log is gone"))?;
    let mapping = if in_tree { Mapping::from_json(&columns.0)? } else { Mapping(Vec::new()) };
    let pending = own_table(c"_pending")?;
    // SAFETY: the context belongs to the plan and is deleted with it. Until it is made it is a child
    // of the current one, so that an error of an expression that parses no more frees it.
    unsafe {
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
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
                pg_sys::MemoryContextSetParent(context, pg_sys::TopMemoryContext);
                let counts_from = counts_from.map_or(i64::MIN, pg_sys::TimestampTz::from);
                Ok(Plan { reading, keeps_deleted, in_tree, counts_from, root, owner, pending, context })
            }
            Err(error) => {
                pg_sys::MemoryContextDelete(context);
                Err(error)
            }
        }
    }
}
