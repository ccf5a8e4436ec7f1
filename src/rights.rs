//! Whose rights code runs with: the owner of a host's table for everything that the host defined, the extension's owner for our own
//! tables.
//!
//! PostgreSQL evaluates expressions of a table in many places: it folds the constants of a partition key, an index expression or a CHECK
//! as soon as it looks at them. So [`HostTable`] is the one way to a table of the host. It locks the table, looks at its row of pg_class and
//! nothing else, and becomes its owner before the table is opened.

use crate::error::{Error, Result};
use crate::pending::own_table;
use crate::source::column::{self, Column};
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
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
    _settings: Option<LocalSettings>,
}

/// What must not depend on the session: names mean the built-in ones, SQL is read in one way, row security fails rather than hides rows,
/// and every text of a value is the same whoever writes.
const PINNED: [(&CStr, &CStr); 10] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"standard_conforming_strings", c"on"),
    (c"transform_null_equals", c"off"),
    (c"quote_all_identifiers", c"off"),
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
        let (mut before, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: out parameters are valid.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before, &mut context);
            let restricted = context | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
            pg_sys::SetUserIdAndSecContext(user, restricted);
        }
        ActingAs { user: before, context, _settings: pinned.then(LocalSettings::pinned) }
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
            unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
        }
    }
}

/// Settings that hold until this is dropped. When an error unwinds, the (sub)transaction's abort puts them back.
pub struct LocalSettings(i32);

impl LocalSettings {
    pub fn new(settings: &[(&CStr, &CStr)]) -> LocalSettings {
        // SAFETY: the level is closed in drop.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        for (name, value) in settings {
            // SAFETY: names and values are NUL-terminated.
            unsafe { set(name, value) };
        }
        LocalSettings(level)
    }

    /// Those of [`PINNED`].
    pub fn pinned() -> LocalSettings {
        LocalSettings::new(&PINNED)
    }
}

impl Drop for LocalSettings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level that `new` opened; scopes nest.
            unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
        }
    }
}

pub fn extension_owner() -> Result<pg_sys::Oid> {
    class_row(own_table(c"_pending")?).map(|class| class.owner).ok_or_else(|| Error::internal("llm._pending is gone"))
}

/// Whose rights count where the caller asks for something to be done to a table: the effective user's. A function that is SECURITY
/// DEFINER does not know that user, so those that ask are SECURITY INVOKER.
pub fn effective_user() -> pg_sys::Oid {
    // SAFETY: reads a backend variable.
    unsafe { pg_sys::GetUserId() }
}

/// The effective user, as the first act of a function that checks what its caller may do. Before ALTER EXTENSION UPDATE these functions are
/// SECURITY DEFINER still: there the login role, or that of SET ROLE, counts, and 28000 where that is not known.
pub fn caller() -> Result<pg_sys::Oid> {
    let effective = effective_user();
    // SAFETY: reads backend variables.
    let (is_definer, is_restricted) = unsafe { (pg_sys::InLocalUserIdChange(), pg_sys::InSecurityRestrictedOperation()) };
    if !is_definer || effective != extension_owner()? || !functions_are_definers() {
        return Ok(effective);
    }
    if is_restricted {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, "it is not known who calls this function")
            .hint("ALTER EXTENSION llm_analytics UPDATE: the functions of the installed version hide their caller."));
    }
    // SAFETY: reads a backend variable.
    Ok(unsafe { pg_sys::GetOuterUserId() })
}

/// Whether the catalog is older than this library, until ALTER EXTENSION UPDATE: up to 0.1.1 the
/// functions that ask were SECURITY DEFINER, and bindings had no `role_oid`.
pub fn functions_are_definers() -> bool {
    // SAFETY: three catalog lookups by name, each of which copes with what is missing.
    unsafe {
        let bindings = pg_sys::get_relname_relid(c"_binding".as_ptr(), pg_sys::get_namespace_oid(c"llm".as_ptr(), true));
        bindings != pg_sys::InvalidOid && pg_sys::get_attnum(bindings, c"role_oid".as_ptr()) == 0
    }
}

/// What pg_class says of a relation.
pub struct Class {
    pub owner: pg_sys::Oid,
    pub kind: u8,
    schema: pg_sys::Oid,
    name: String,
}

/// The row of pg_class as it is committed now; None for what does not exist. Evaluates nothing of the relation's.
pub fn class_row(relation: pg_sys::Oid) -> Option<Class> {
    // SAFETY: a catalog lookup; what is needed of the row is copied before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return None;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let name = CStr::from_ptr(form.relname.data.as_ptr()).to_string_lossy().into_owned();
        let class = Class { owner: form.relowner, kind: form.relkind as u8, schema: form.relnamespace, name };
        pg_sys::ReleaseSysCache(tuple);
        Some(class)
    }
}

/// A table of the host: locked, and its owner is the current user, in a security-restricted operation, for as long as this lives. The
/// lock stays to the end of the transaction.
pub struct HostTable {
    relation: pg_sys::Oid,
    class: Class,
    _rights: ActingAs,
}

impl HostTable {
    /// None where the table is gone.
    pub fn find(relation: pg_sys::Oid) -> Result<Option<HostTable>> {
        // SAFETY: locks an oid, of a table or not; a lock on what is gone harms nobody.
        unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessShareLock as i32) };
        // Under the lock, so that the owner stays who it is.
        let Some(class) = class_row(relation) else { return Ok(None) };
        let rights = ActingAs::user(class.owner, true);
        Ok(Some(HostTable { relation, class, _rights: rights }))
    }

    /// 42P01 where the table is gone.
    pub fn enter(relation: pg_sys::Oid) -> Result<HostTable> {
        HostTable::find(relation)?.ok_or_else(|| {
            Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, "the relation does not exist").hint("It was dropped meanwhile.")
        })
    }

    /// Opens the table.
    pub fn open(&self) -> Open<'_> {
        // SAFETY: locked, and we are its owner; fails for what does not exist.
        Open { relation: unsafe { pg_sys::table_open(self.relation, pg_sys::NoLock as i32) }, _host: std::marker::PhantomData }
    }

    /// `FROM [ONLY] schema.name`. A view, whose rules would run, is no table.
    pub fn sql_from(&self) -> Result<String> {
        // SAFETY: a catalog lookup; the name is palloc'd, null where the schema is gone.
        let schema = unsafe {
            let name = pg_sys::get_namespace_name(self.class.schema);
            if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
        };
        let name = &self.class.name;
        let only = match self.class.kind {
            pg_sys::RELKIND_RELATION => "ONLY ",
            pg_sys::RELKIND_PARTITIONED_TABLE => "",
            _ => return Err(Error::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{schema}.{name}\" is not a table any more"))),
        };
        Ok(format!("FROM {only}{}.{}", quote_identifier(schema), quote_identifier(name)))
    }
}

impl Open<'_> {
    pub fn columns(&self) -> Vec<Column> {
        // SAFETY: open for as long as this lives.
        unsafe { column::columns(self.relation) }
    }
}

/// A table of the host that is open. It is closed before the owner's rights end.
pub struct Open<'h> {
    pub relation: pg_sys::Relation,
    _host: std::marker::PhantomData<&'h HostTable>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `HostTable::open`; the lock stays to the end of the transaction.
            unsafe { pg_sys::table_close(self.relation, pg_sys::NoLock as i32) };
        }
    }
}

/// Runs a command as a role, in a security-restricted operation.
pub fn run_as(role: pg_sys::Oid, command: &str) -> Result<()> {
    let _rights = ActingAs::user(role, true);
    Ok(Spi::run(command)?)
}

/// Runs a command as the owner of a table of the host: DDL makes PostgreSQL evaluate what the table defines.
pub fn run_as_owner(relation: pg_sys::Oid, command: &str) -> Result<()> {
    let _host = HostTable::enter(relation)?;
    Ok(Spi::run(command)?)
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
