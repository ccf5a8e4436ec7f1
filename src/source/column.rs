//! The columns a table has.

use pgrx::PgTupleDesc;
use pgrx::prelude::*;
use std::ffi::CStr;

pub struct Column {
    pub number: i16,
    pub name: String,
    pub type_oid: pg_sys::Oid,
    type_modifier: i32,
    pub by_value: bool,
    /// Of its type: bytes, or -1 where it varies.
    pub length: i16,
    /// Computed when it is read, so that a trigger does not see its value (PostgreSQL 18).
    pub is_virtual: bool,
}

impl Column {
    /// As SQL writes it, with its modifier.
    pub fn type_name(&self) -> String {
        // SAFETY: a catalog lookup; the text is palloc'd.
        unsafe { CStr::from_ptr(pg_sys::format_type_with_typemod(self.type_oid, self.type_modifier)) }.to_string_lossy().into_owned()
    }
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
            type_modifier: attribute.atttypmod,
            by_value: attribute.attbyval,
            length: attribute.attlen,
            is_virtual: attribute.attgenerated == b'v' as std::ffi::c_char,
        })
        .collect()
}

unsafe extern "C-unwind" {
    /// utils/datum.h, of which pgrx has no bindings. It raises no error.
    fn datumIsEqual(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, length: std::ffi::c_int) -> bool;
}

/// Whether two values have the same bytes, as they are stored.
///
/// # Safety
/// Both are of a type with this length and way of passing.
pub unsafe fn same_bytes(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, length: i16) -> bool {
    // SAFETY: as the caller promises.
    unsafe { datumIsEqual(a, b, by_value, length.into()) }
}
