//! Who is asking: the one module that knows the rule of docs/access.md.
//!
//! Functions that ask are SECURITY INVOKER, because in a SECURITY DEFINER function the caller's
//! effective user is lost. They take an [`Asker`] as their first act and get more rights only
//! afterwards ([`asked`]). What `llm.act_as` said is kept in memory of this backend by transaction
//! callbacks, so it is no setting and ends with its (sub)transaction.

use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::rights::{self, ActingAs};
use llm_analytics_core::dimension;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;

/// What the caller is to the host application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Privileged roles (superusers, BYPASSRLS, the extension's owner) that are not bound, and roles
    /// bound to all organizations.
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

/// Whom `act_as` named in this transaction, whether or not it holds for whoever asks now.
pub fn acting() -> Option<String> {
    ACTING.with(|acting| acting.borrow().as_ref().map(|acting| acting.user.clone()))
}

/// The users and the security context at the moment a function of ours was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// CURRENT_USER.
    pub effective: pg_sys::Oid,
    /// The login role or the role of SET ROLE. In ANALYZE, REFRESH MATERIALIZED VIEW and the like
    /// it is the effective user, because whoever maintains a table must not lend an identity to
    /// its owner's code. None in a definer function within such an operation: there PostgreSQL
    /// has only the owner of the function and the maintainer.
    pub outer: Option<pg_sys::Oid>,
    context: i32,
}

/// Runs `answer` with the rights of the extension's owner and tells it who asked.
pub fn asked<T>(answer: impl FnOnce(&Asker) -> Result<T>) -> Result<T> {
    let asker = Asker::now();
    let _rights = ActingAs::extension_owner()?;
    answer(&asker)
}

impl Asker {
    pub fn now() -> Asker {
        let (mut effective, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: out parameters are valid; reads variables of the backend.
        let outer = unsafe {
            pg_sys::GetUserIdAndSecContext(&mut effective, &mut context);
            pg_sys::GetOuterUserId()
        };
        let has = |flag: u32| context & flag as i32 != 0;
        let is_restricted = has(pg_sys::SECURITY_RESTRICTED_OPERATION);
        if rights::functions_are_definers() {
            // The effective user is always the extension's owner, so the outer one has to do. In
            // maintenance it is not the one whose code runs, so there is nobody.
            let outer = if is_restricted { pg_sys::InvalidOid } else { outer };
            return Asker { effective: outer, outer: Some(outer), context };
        }
        let outer = match (is_restricted, has(pg_sys::SECURITY_LOCAL_USERID_CHANGE)) {
            (false, _) => Some(outer),
            (true, false) => Some(effective),
            (true, true) => None,
        };
        Asker { effective, outer, context }
    }

    fn is_restricted(&self) -> bool {
        self.context & pg_sys::SECURITY_RESTRICTED_OPERATION as i32 != 0
    }

    /// Whether code of the effective user asks in somebody else's session. Whoever has no identity
    /// there gets an error even where others get no rows, so that a job does not store nothing.
    pub fn is_indirect(&self) -> bool {
        self.is_restricted() || self.outer != Some(self.effective)
    }

    /// What the asker is to the host application. Runs with the rights of the extension's owner.
    pub fn identity(&self) -> Result<Caller> {
        if let Some(user) = acting()
            && self.may_act()?
        {
            return Ok(Caller::User(user));
        }
        if let Some(bound) = binding(self.effective)? {
            return Ok(bound);
        }
        let Some(outer) = self.outer else { return Ok(Caller::Nobody) };
        if !is_privileged(self.effective)? {
            return Ok(Caller::Nobody);
        }
        if let Some(bound) = binding(outer)? {
            return Ok(bound);
        }
        Ok(if is_privileged(outer)? { Caller::Everything } else { Caller::Nobody })
    }

    /// Whether what `act_as` said in this transaction holds for the asker. A function of somebody
    /// who may not say it does not profit from it either.
    fn may_act(&self) -> Result<bool> {
        if self.is_restricted() {
            return Ok(false);
        }
        Ok(!self.is_indirect() || is_privileged(self.effective)? || may_call_act_as(self.effective)?)
    }

    /// 28000: the asker has no identity.
    pub fn nobody(&self) -> Error {
        let hint = if self.effective == pg_sys::InvalidOid {
            "ANALYZE, REFRESH MATERIALIZED VIEW and the like have no identity before ALTER EXTENSION llm_analytics UPDATE.".into()
        } else if self.is_restricted() {
            format!(
                "Code that runs in ANALYZE, REFRESH MATERIALIZED VIEW or another security-restricted operation asks as role \"{}\"; \
                 llm.bind_role() binds a role to a user.",
                name(self.effective)
            )
        } else if self.is_indirect() {
            format!(
                "The function that asks runs as role \"{}\", not as its caller: make the function SECURITY INVOKER, or call llm.act_as(), \
                 or give it to a role that llm.bind_role() bound.",
                name(self.effective)
            )
        } else {
            "A backend names the user with llm.act_as() in the same transaction; an administrator binds a role to a user with llm.bind_role()."
                .into()
        };
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, "no application user is set for this transaction")
            .detail("reason=no_identity")
            .hint(hint)
    }
}

fn name(role: pg_sys::Oid) -> String {
    // SAFETY: a catalog lookup; the name is palloc'd, null where the role is gone.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { role.to_u32().to_string() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// What a role is bound to, None where it is not. A binding counts for the role it was made for:
/// not for another one that has its name since a restore, a rename or a new CREATE ROLE.
fn binding(role: pg_sys::Oid) -> Result<Option<Caller>> {
    let sql = if rights::functions_are_definers() {
        "SELECT b.user_id FROM llm._binding b WHERE b.role = $2"
    } else {
        "SELECT b.user_id FROM llm._binding b WHERE b.role = $2 AND b.role_oid = $1"
    };
    let mut bound = None;
    if role == pg_sys::InvalidOid {
        return Ok(bound);
    }
    query::each(sql, &[role.into(), name(role).into()], See::Active, |row| {
        // One that an earlier version bound may be longer than ids are kept.
        let user = row.get::<String>(1).map(|user| dimension::bounded(&user).into_owned());
        bound = Some(user.map_or(Caller::Everything, Caller::User));
        Ok(())
    })?;
    Ok(bound)
}

fn is_privileged(role: pg_sys::Oid) -> Result<bool> {
    // SAFETY: catalog lookups, which take a role that is gone for an ordinary one.
    let sees_all = unsafe { pg_sys::superuser_arg(role) || pg_sys::has_bypassrls_privilege(role) };
    Ok(sees_all || role == rights::extension_owner()?)
}

fn may_call_act_as(role: pg_sys::Oid) -> Result<bool> {
    let sql = "SELECT pg_catalog.has_function_privilege($1, 'llm.act_as(text)', 'EXECUTE')";
    Ok(query::one::<bool>(sql, &[role.into()], See::Active)?.unwrap_or(false))
}

/// Runs with the rights of the extension's owner.
pub fn act_as(asker: &Asker, user: String) -> Result<()> {
    let refused = |message: &str, hint: &str| Err(Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message).hint(hint));
    if user.is_empty() {
        return Err(Error::argument("\"user_id\" must not be empty", "Name a user of the host application."));
    }
    if asker.is_restricted() {
        return refused(
            "llm.act_as() cannot be called within a security-restricted operation",
            "ANALYZE, REFRESH MATERIALIZED VIEW and the like run code of a table's owner; llm.bind_role() binds the owner to a user.",
        );
    }
    for role in [Some(asker.effective), asker.outer].into_iter().flatten() {
        let to = match binding(role)? {
            Some(Caller::User(_)) => "a user",
            Some(_) => "all organizations",
            None => continue,
        };
        let message = format!("role \"{}\" is bound to {to} and cannot call llm.act_as()", name(role));
        return refused(&message, "llm.act_as() is for roles that llm.bind_role() was not called for.");
    }
    register_callbacks();
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

fn register_callbacks() {
    if !REGISTERED.replace(true) {
        // SAFETY: registered once per backend.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
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
    let found = query::one::<pg_sys::Oid>("SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = $1", &[role.into()], See::New)?;
    let Some(role_oid) = found else {
        let shown: String = role.chars().take(63).collect();
        return Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("role \"{shown}\" does not exist"))
            .hint("CREATE ROLE .. LOGIN first; the name is written as it is, without quotes of its own."));
    };
    let sql = "INSERT INTO llm._binding AS b (role, user_id, all_organizations) VALUES ($1, $2, $3)
               ON CONFLICT (role) DO UPDATE SET user_id = EXCLUDED.user_id, all_organizations = EXCLUDED.all_organizations";
    Spi::run_with_args(sql, &[role.into(), user.into(), all_organizations.into()])?;
    if rights::functions_are_definers() {
        return Ok(());
    }
    // Apart, because a row that comes in is one of a dump (llm._binding_is_new).
    Ok(Spi::run_with_args("UPDATE llm._binding b SET role_oid = $2 WHERE b.role = $1", &[role.into(), role_oid.into()])?)
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
