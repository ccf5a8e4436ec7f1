//! Who asks: the user of the host application that `llm.act_as` named in this transaction, else the one the caller's role is bound to.
//!
//! The caller is the outer user (login role or SET ROLE), never the owner of a definer function. What `act_as` said is kept in memory of
//! this backend by transaction callbacks, so it is no setting and ends with its (sub)transaction.

use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::rights;
use llm_analytics_core::dimension;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;

/// What the caller is to the host application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Superusers, BYPASSRLS, the extension's owner, and roles bound to all organizations.
    Everything,
    User(String),
    Nobody,
}

struct Acting {
    user: String,
    since: pg_sys::SubTransactionId,
}

thread_local! {
    static ACTING: RefCell<Option<Acting>> = const { RefCell::new(None) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if [XACT_EVENT_COMMIT, XACT_EVENT_ABORT, XACT_EVENT_PREPARE].contains(&event) {
        ACTING.with(|acting| *acting.borrow_mut() = None);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    id: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    ACTING.with(|acting| {
        let mut acting = acting.borrow_mut();
        if acting.as_ref().is_none_or(|acting| acting.since != id) {
            return;
        }
        match event {
            pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => *acting = None,
            pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
                if let Some(acting) = acting.as_mut() {
                    acting.since = parent;
                }
            }
            _ => {}
        }
    });
}

/// The outer user's oid and name.
pub fn outer_user() -> (pg_sys::Oid, String) {
    // SAFETY: reads a backend variable; the name is palloc'd.
    unsafe {
        let role = pg_sys::GetOuterUserId();
        (role, CStr::from_ptr(pg_sys::GetUserNameFromId(role, false)).to_string_lossy().into_owned())
    }
}

/// Whom `act_as` named.
pub fn acting() -> Option<String> {
    ACTING.with(|acting| acting.borrow().as_ref().map(|acting| acting.user.clone()))
}

/// What the caller's role is bound to, None where it is not.
fn binding(role: &str) -> Result<Option<Caller>> {
    let mut bound = None;
    let sql = "SELECT b.user_id FROM llm._binding b WHERE b.role = $1";
    query::each(sql, &[role.into()], See::Active, |row| {
        // One that an earlier version bound may be longer than ids are kept.
        let user = row.get::<String>(1).map(|user| dimension::bounded(&user).into_owned());
        bound = Some(user.map_or(Caller::Everything, Caller::User));
        Ok(())
    })?;
    Ok(bound)
}

/// Runs with the extension owner's rights: in its definer functions.
pub fn caller() -> Result<Caller> {
    if let Some(user) = acting() {
        return Ok(Caller::User(user));
    }
    let (role, name) = outer_user();
    if let Some(bound) = binding(&name)? {
        return Ok(bound);
    }
    // SAFETY: catalog lookups of an existing role.
    let sees_all = unsafe { pg_sys::superuser_arg(role) || pg_sys::has_bypassrls_privilege(role) };
    Ok(if sees_all || role == rights::extension_owner()? { Caller::Everything } else { Caller::Nobody })
}

pub fn act_as(user: String) -> Result<()> {
    let refused = |message: &str, hint: &str| Err(Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message).hint(hint));
    if user.is_empty() {
        return Err(Error::argument("\"user_id\" must not be empty", "Name a user of the host application."));
    }
    if binding(&outer_user().1)?.is_some() {
        return refused("a role that is bound acts for nobody else", "llm.act_as() is for roles that llm.bind_role() was not called for.");
    }
    if !REGISTERED.replace(true) {
        // SAFETY: registered once per backend.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
        }
    }
    match acting() {
        Some(known) if known != user => refused(
            "this transaction acts for another user",
            "One transaction acts for one user: end it before llm.act_as() names another.",
        ),
        Some(_) => Ok(()),
        None => {
            // SAFETY: within a transaction.
            let since = unsafe { pg_sys::GetCurrentSubTransactionId() };
            ACTING.with(|acting| *acting.borrow_mut() = Some(Acting { user, since }));
            Ok(())
        }
    }
}

pub fn bind(role: &str, user: Option<String>, all_organizations: bool) -> Result<()> {
    if user.as_deref() == Some("") || user.is_some() == all_organizations {
        return Err(Error::argument(
            "a role is bound to one user, or to all organizations",
            "Use llm.bind_role(role, user_id) or llm.bind_role(role, all_organizations => true).",
        ));
    }
    let exists = query::one::<bool>("SELECT true FROM pg_catalog.pg_roles r WHERE r.rolname = $1", &[role.into()], See::New)?;
    if exists.is_none() {
        let shown: String = role.chars().take(63).collect();
        return Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("role \"{shown}\" does not exist"))
            .hint("CREATE ROLE .. LOGIN first; the name is written as it is, without quotes of its own."));
    }
    let sql = "INSERT INTO llm._binding AS b (role, user_id, all_organizations) VALUES ($1, $2, $3)
               ON CONFLICT (role) DO UPDATE SET user_id = EXCLUDED.user_id, all_organizations = EXCLUDED.all_organizations";
    Ok(Spi::run_with_args(sql, &[role.into(), user.into(), all_organizations.into()])?)
}

pub fn unbind(role: &str) -> Result<()> {
    let gone = query::one::<String>("DELETE FROM llm._binding b WHERE b.role = $1 RETURNING b.role", &[role.into()], See::New)?;
    match gone {
        Some(_) => Ok(()),
        None => {
            Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "the role is not bound")
                .hint("llm._binding lists the roles that are."))
        }
    }
}
