//! Who may read. Closed by default: until identities are bound to roles, only those who may read the tables beneath anyway.

use crate::error::{Error, Result};
use crate::rights;
use pgrx::prelude::*;

/// 28000 unless the caller sees everything: a superuser, a role with BYPASSRLS, or the owner of the extension. The caller is the outer
/// user (login role or SET ROLE), never the owner of a definer function.
pub fn require_all() -> Result<()> {
    // SAFETY: catalog lookups of the caller's role.
    let sees_all = unsafe {
        let caller = pg_sys::GetOuterUserId();
        pg_sys::superuser_arg(caller) || pg_sys::has_bypassrls_privilege(caller) || caller == rights::extension_owner()?
    };
    if sees_all {
        return Ok(());
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, "no identity")
        .detail("reason=no_identity")
        .hint("Superusers, roles with BYPASSRLS and the owner of the extension may read."))
}
