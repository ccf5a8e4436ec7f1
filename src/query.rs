//! Running SQL and reading its rows.
//!
//! pgrx's `select` is read-only only while the transaction has written nothing: afterwards it takes a new snapshot, which under REPEATABLE
//! READ is an old one. What must see one particular snapshot comes through here.

use crate::error::{Error, Result, raise_or};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// Which state a statement sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum See {
    /// The active snapshot: the caller's, or one that was pushed. Such a statement cannot write.
    Active,
    /// A new snapshot, the transaction's own changes included; such a statement can write.
    New,
}

/// One row of a result.
pub struct Row {
    pub tuple: pg_sys::HeapTuple,
    pub descriptor: pg_sys::TupleDesc,
    /// Where values that outlive the statement are copied to.
    outer: pg_sys::MemoryContext,
}

impl Row {
    /// The value of a column, counted from 1; None where it is NULL. `T` is the Rust type of the
    /// column's SQL type, or of one that PostgreSQL would relabel as it; XX000 where it is not.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: i32) -> Option<T> {
        let mut is_null = false;
        // SAFETY: the tuple is one of the descriptor's; its column has the type that is read; the
        // value is copied out of the statement's memory.
        unsafe {
            let type_oid = pg_sys::SPI_gettypeid(self.descriptor, column);
            if type_oid != T::type_oid() && !is_relabeled(type_oid, T::type_oid()) {
                raise_or(Err(mismatch(self.descriptor, column, T::type_oid())))
            }
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null);
            let mut outer = pgrx::PgMemoryContexts::For(self.outer);
            outer.switch_to(|_| T::from_polymorphic_datum(datum, is_null, type_oid))
        }
    }
}

/// Whether values of one type have the bytes of another: varchar those of text, regclass of oid, a
/// domain of its base type.
fn is_relabeled(from: pg_sys::Oid, to: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups.
    from != pg_sys::InvalidOid && unsafe { pg_sys::IsBinaryCoercible(from, to) }
}

/// XX000: a statement does not return what its reader takes it to.
pub fn mismatch(descriptor: pg_sys::TupleDesc, column: i32, wanted: pg_sys::Oid) -> Error {
    // SAFETY: the descriptor is a result's; names are palloc'd, and NULL where there is no such column.
    unsafe {
        let text = |name: *mut std::ffi::c_char| CStr::from_ptr(name).to_string_lossy().into_owned();
        let name = pg_sys::SPI_fname(descriptor, column);
        let name = if name.is_null() { column.to_string() } else { text(name) };
        let found = pg_sys::SPI_gettypeid(descriptor, column);
        let (found, wanted) = (text(pg_sys::format_type_be(found)), text(pg_sys::format_type_be(wanted)));
        Error::internal(format!("column \"{name}\" of a result has type {found}, not {wanted}"))
    }
}

/// Runs a statement and calls `f` with each row it returns.
pub fn each(sql: &str, arguments: &[DatumWithOid<'_>], see: See, f: impl FnMut(&Row) -> Result<()>) -> Result<()> {
    run(sql, arguments, see, std::ptr::null_mut(), f)
}

/// As [`each`], in the active snapshot, for a statement over the transition tables of the trigger that runs.
///
/// # Safety
/// `trigger` is what the trigger manager passed.
pub unsafe fn each_of_trigger(sql: &str, trigger: *mut pg_sys::TriggerData, f: impl FnMut(&Row) -> Result<()>) -> Result<()> {
    run(sql, &[], See::Active, trigger, f)
}

fn run(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    see: See,
    trigger: *mut pg_sys::TriggerData,
    mut f: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let text = CString::new(sql).map_err(|_| Error::internal("NUL byte in a statement"))?;
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(DatumWithOid::oid).collect();
    let nulls: Vec<std::ffi::c_char> =
        arguments.iter().map(|argument| if argument.datum().is_some() { b' ' } else { b'n' } as std::ffi::c_char).collect();
    let mut values: Vec<pg_sys::Datum> =
        arguments.iter().map(|argument| argument.datum().map_or(pg_sys::Datum::from(0), |datum| datum.sans_lifetime())).collect();
    // SAFETY: the arrays have one element an argument; the rows are those of the statement, valid until the connection ends; `trigger` is
    // null or the one that runs.
    unsafe {
        let outer = pg_sys::CurrentMemoryContext;
        Spi::connect(|_| {
            if !trigger.is_null() {
                pg_sys::SPI_register_trigger_data(trigger);
            }
            pg_sys::SPI_execute_with_args(
                text.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                see == See::Active,
                0,
            );
            let table = pg_sys::SPI_tuptable;
            if table.is_null() {
                return Ok(());
            }
            for at in 0..pg_sys::SPI_processed as usize {
                if at % 4096 == 4095 {
                    pgrx::check_for_interrupts!();
                }
                f(&Row { tuple: *(*table).vals.add(at), descriptor: (*table).tupdesc, outer })?;
            }
            Ok(())
        })
    }
}

/// The first column of the first row; None where there is no row or it is NULL.
pub fn one<T: FromDatum + IntoDatum>(sql: &str, arguments: &[DatumWithOid<'_>], see: See) -> Result<Option<T>> {
    let mut value = None;
    let mut is_first = true;
    each(sql, arguments, see, |row| {
        if is_first {
            value = row.get(1);
            is_first = false;
        }
        Ok(())
    })?;
    Ok(value)
}
