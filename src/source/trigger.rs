//! When the capture triggers fire.

use crate::error::{Error, Result};
use crate::rights::HostTable;
use pgrx::prelude::*;
use std::ffi::CString;

#[cfg(not(feature = "pg15"))]
use pg_sys::EnableDisableTrigger as enable_disable;
#[cfg(feature = "pg15")]
use pg_sys::EnableDisableTriggerNew2 as enable_disable;

/// `ALTER TABLE .. ENABLE [ALWAYS | REPLICA] TRIGGER`, clones on partitions included. Not as a statement: event triggers, ours among them,
/// would run for each.
pub fn fire(relation: pg_sys::Oid, name: &str, fires: i8) -> Result<()> {
    let name = CString::new(name).map_err(|_| Error::internal("NUL byte in a name"))?;
    let mode = pg_sys::ShareRowExclusiveLock as i32;
    // Clones on partitions are found by the partition key.
    let _table = HostTable::enter(relation)?;
    // SAFETY: the relation is open and locked as ALTER TABLE does; the name is NUL-terminated.
    unsafe {
        let open = pg_sys::table_open(relation, mode);
        enable_disable(open, name.as_ptr(), pg_sys::InvalidOid, fires, false, true, mode);
        pg_sys::table_close(open, pg_sys::NoLock as i32);
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}
