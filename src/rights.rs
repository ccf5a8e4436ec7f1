//! Whose rights code runs with: the log's owner for everything the host defined, the extension's owner for our own tables.

use crate::error::Result;
use crate::pending::own_table;
use pgrx::prelude::*;
use std::ffi::CStr;

/// What every function that writes does first: in a read-only transaction, and so on a standby, 25006 with its name, before a lock or a
/// transaction id is refused in words that name neither.
pub fn writes(function: &CStr) {
    // SAFETY: the name is valid; raises the error as PostgreSQL's own commands do.
    unsafe { pg_sys::PreventCommandIfReadOnly(function.as_ptr()) }
}

/// Another current user, in a security-restricted operation, until it is dropped. When an error unwinds, the (sub)transaction's abort
/// puts the user back.
///
/// Unlike ANALYZE it sets SECURITY_LOCAL_USERID_CHANGE too. So a host's expression that asks who is
/// asking gets the user its table's owner is bound to, or 28000, even where the owner is a superuser.
/// Code of ours that needs the caller takes an `identity::Asker` before it acts as somebody else.
pub struct ActingAs {
    user: pg_sys::Oid,
    context: i32,
    guc_level: i32,
}

/// What must not depend on the session: names mean the built-in ones, row security fails rather than hides rows, and every text of a
/// value is the same whoever writes.
const PINNED: [(&CStr, &CStr); 7] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"row_security", c"off"),
    (c"TimeZone", c"UTC"),
    (c"DateStyle", c"ISO, MDY"),
    (c"IntervalStyle", c"postgres"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"1"),
];

impl ActingAs {
    /// `pinned`: with the settings of [`PINNED`].
    pub fn user(user: pg_sys::Oid, pinned: bool) -> ActingAs {
        let mut acting = ActingAs { user: pg_sys::InvalidOid, context: 0, guc_level: -1 };
        // SAFETY: out parameters are valid; the GUC level is closed in drop.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut acting.user, &mut acting.context);
            let context = acting.context | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
            pg_sys::SetUserIdAndSecContext(user, context);
            if pinned {
                acting.guc_level = pg_sys::NewGUCNestLevel();
                for (name, value) in PINNED {
                    set(name, value);
                }
            }
        }
        acting
    }

    /// The extension's owner: who owns our tables.
    pub fn extension_owner() -> Result<ActingAs> {
        Ok(ActingAs::user(extension_owner()?, true))
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: restores what `user` found.
            unsafe {
                if self.guc_level >= 0 {
                    pg_sys::AtEOXact_GUC(false, self.guc_level);
                }
                pg_sys::SetUserIdAndSecContext(self.user, self.context);
            }
        }
    }
}

pub fn extension_owner() -> Result<pg_sys::Oid> {
    owner_of(own_table(c"_pending")?)
}

/// The owner of a relation that is locked or ours.
pub fn owner_of(relation: pg_sys::Oid) -> Result<pg_sys::Oid> {
    // SAFETY: relation_open fails for what does not exist; closed at once, the lock stays to the end of the transaction.
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let owner = (*(*open).rd_rel).relowner;
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        Ok(owner)
    }
}

/// A snapshot of our own as the active one.
pub struct Snapshot;

impl Snapshot {
    /// The newest committed state (and our own changes), whatever the transaction's isolation level.
    pub fn latest() -> Snapshot {
        // SAFETY: popped in drop, or by the abort.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
        Snapshot
    }

    /// What the transaction's next statement would see: the newest state under READ COMMITTED, else the transaction's own snapshot.
    pub fn of_statement() -> Snapshot {
        // SAFETY: as above.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        Snapshot
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the snapshot that was pushed is on top: scopes nest.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}

unsafe fn set(name: &CStr, value: &CStr) {
    // SAFETY: both are NUL-terminated; GUC_ACTION_SAVE undoes it at the end of the nest level.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}
