//! The columns a table has.

use pgrx::PgTupleDesc;
use pgrx::prelude::*;

pub struct Column {
    pub number: i16,
    pub name: String,
    pub type_oid: pg_sys::Oid,
    /// Computed when it is read, so that a trigger does not see its value (PostgreSQL 18).
    pub is_virtual: bool,
}

/// The columns of a relation that are not dropped, in order.
///
/// # Safety
/// `relation` is open.
pub unsafe fn columns(relation: pg_sys::Relation) -> Vec<Column> {
    // SAFETY: as the caller promises; the descriptor is copied.
    let descriptor = unsafe { PgTupleDesc::from_pg_copy((*relation).rd_att) };
    descriptor
        .iter()
        .filter(|attribute| !attribute.attisdropped)
        .map(|attribute| Column {
            number: attribute.attnum,
            name: attribute.name().to_string(),
            type_oid: attribute.atttypid,
            is_virtual: attribute.attgenerated == b'v' as std::ffi::c_char,
        })
        .collect()
}
