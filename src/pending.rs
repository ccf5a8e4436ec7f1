//! `llm._pending` rows as datums: written by capture with the heap API, returned by `llm._read_log` as a set.

use crate::error::{Error, Result};
use crate::measures;
use crate::query::{self, See};
use crate::rollup::scan::Table;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::{Deltas, Measures};
use llm_analytics_core::dimension::Dimension;
use pgrx::prelude::*;

/// bucket, source, kind, organization, dimensions, measures: the columns of sql/20_numbers.sql.
const COLUMNS: usize = 5 + Dimension::ALL.len();

/// The columns of a row of this shape, for a SELECT; `of` says where each comes from.
pub fn columns(bucket: &str, source: &str, kind: &str, organization: &str, dimension: &str, measures: &str) -> String {
    format!("{bucket}, {source}, {kind}, {organization}, {}, {measures}measures", crate::rollup::dimensions(dimension))
}

/// Writes the deltas to `llm._pending`. No SPI: the caller of a captured statement needs no right on the table and no plan is made.
pub fn insert(deltas: &Deltas) -> Result<()> {
    if deltas.is_empty() {
        return Ok(());
    }
    // SAFETY: the relation is opened and closed here with the lock an INSERT takes; each tuple is formed with its own descriptor.
    unsafe {
        let relation = pg_sys::table_open(own_table(c"_pending")?, pg_sys::RowExclusiveLock as i32);
        let command = pg_sys::GetCurrentCommandId(true);
        let bulk = if deltas.len() > 1 { pg_sys::GetBulkInsertState() } else { std::ptr::null_mut() };
        each(deltas, |values| {
            let mut nulls = [false; COLUMNS];
            let tuple = pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::heap_insert(relation, tuple, command, 0, bulk);
            pg_sys::heap_freetuple(tuple);
        })?;
        if !bulk.is_null() {
            pg_sys::FreeBulkInsertState(bulk);
        }
        pg_sys::table_close(relation, pg_sys::RowExclusiveLock as i32);
    }
    Ok(())
}

/// Appends the deltas to a function's result set of type `llm._pending`.
///
/// # Safety
/// `store` and `descriptor` are those of a materialized set of that type.
pub unsafe fn append(deltas: &Deltas, store: *mut pg_sys::Tuplestorestate, descriptor: pg_sys::TupleDesc) -> Result<()> {
    each(deltas, |values| {
        let mut nulls = [false; COLUMNS];
        // SAFETY: as the caller promises.
        unsafe { pg_sys::tuplestore_putvalues(store, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr()) };
    })
}

/// Calls `put` with the datums of each row, in a memory context that is reset as it goes.
fn each(deltas: &Deltas, mut put: impl FnMut(&mut [pg_sys::Datum; COLUMNS])) -> Result<()> {
    let mut rows = RowMemory::new();
    let mut buffer = Vec::new();
    for (key, sums) in deltas.iter() {
        rows.step();
        let mut values = [pg_sys::Datum::from(0); COLUMNS];
        values[0] = pg_sys::Datum::from(key.bucket());
        values[1] = pg_sys::Datum::from(key.source());
        values[2] = pg_sys::Datum::from(key.kind());
        let mut at = 3;
        for text in key.texts() {
            values[at] = text_datum(text);
            at += 1;
        }
        // SAFETY: it lives in the row memory.
        values[at] = unsafe { measures::datum(sums, &mut buffer)? };
        put(&mut values);
    }
    Ok(())
}

/// A row of this shape as SPI returned it.
pub struct Record<'a> {
    pub bucket: Micros,
    pub source: i32,
    pub kind: i16,
    /// Organization and dimensions.
    pub texts: [&'a str; 1 + Dimension::ALL.len()],
    pub measures: Measures,
}

/// Runs a statement that returns rows of this shape, and calls `f` with each and with the datum that follows its columns, if any.
pub fn records(
    sql: &str,
    arguments: &[pgrx::datum::DatumWithOid<'_>],
    see: See,
    mut f: impl FnMut(&Record<'_>, Option<pg_sys::Datum>) -> Result<()>,
) -> Result<()> {
    // Made before the connection, whose end would free it; entered row by row, because the connection has a context of its own.
    let mut rows = RowMemory::new();
    query::each(sql, arguments, see, |row| {
        let _entered = rows.enter();
        let mut values = [pg_sys::Datum::from(0); COLUMNS + 1];
        let mut nulls = [true; COLUMNS + 1];
        // SAFETY: the statement returns these columns, none of them NULL, and at most one more; texts are used within their row.
        unsafe {
            pg_sys::heap_deform_tuple(row.tuple, row.descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            f(&record(&values)?, (!nulls[COLUMNS]).then_some(values[COLUMNS]))
        }
    })
}

/// Calls `f` with the pending rows of an organization, as the active snapshot sees them.
pub fn of_organization(organization: &str, mut f: impl FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
    // SAFETY: rows of `llm._pending`; texts are used within their row.
    Table::pending(pg_sys::AccessShareLock)?
        .attributes::<COLUMNS>(Some(organization), |values, _| unsafe { f(&record(values)?).map(|()| true) })
}

/// Takes at most `limit` rows that the active snapshot sees out of the table, and calls `f` with each.
pub fn take(limit: i64, mut f: impl FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
    let table = Table::pending(pg_sys::RowExclusiveLock)?;
    let mut left = limit;
    // SAFETY: as above.
    table.attributes::<COLUMNS>(None, |values, place| unsafe {
        if left == 0 {
            return Ok(false);
        }
        left -= 1;
        f(&record(values)?)?;
        table.delete(place)?;
        Ok(true)
    })
}

/// # Safety
/// The values are those of a row of this shape, and outlive the record.
unsafe fn record<'a>(values: &[pg_sys::Datum]) -> Result<Record<'a>> {
    // SAFETY: as the caller promises.
    unsafe {
        let mut record = Record {
            bucket: values[0].value() as i64,
            source: values[1].value() as i32,
            kind: values[2].value() as i16,
            texts: [""; 1 + Dimension::ALL.len()],
            measures: measures::from_datum(values[COLUMNS - 1])?,
        };
        for (text, value) in record.texts.iter_mut().zip(&values[3..]) {
            let packed = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
            *text = pgrx::varlena::text_to_rust_str(packed).map_err(|_| Error::internal("text is not UTF-8"))?;
        }
        Ok(record)
    }
}

fn text_datum(text: &str) -> pg_sys::Datum {
    // SAFETY: the bytes are copied.
    unsafe { pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as i32)) }
}

/// The oid of one of our tables.
pub fn own_table(name: &std::ffi::CStr) -> Result<pg_sys::Oid> {
    // SAFETY: two catalog lookups by name.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"llm".as_ptr(), true)) };
    if oid == pg_sys::InvalidOid { Err(Error::internal(format!("llm.{} does not exist", name.to_string_lossy()))) } else { Ok(oid) }
}

/// A memory context for what is allocated row by row, reset every few hundred rows; the previous one is current again when it goes.
pub struct RowMemory {
    context: pg_sys::MemoryContext,
    previous: pg_sys::MemoryContext,
    rows: usize,
}

impl RowMemory {
    pub fn new() -> RowMemory {
        // SAFETY: a child of the current context, so that it is freed with it if an error skips drop.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"llm_analytics rows".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            RowMemory { context, previous: pg_sys::MemoryContextSwitchTo(context), rows: 0 }
        }
    }

    /// [`RowMemory::step`], for a row that is read while another context is current.
    pub fn enter(&mut self) -> Entered {
        self.step();
        // SAFETY: the context is valid while this lives.
        Entered(unsafe { pg_sys::MemoryContextSwitchTo(self.context) })
    }

    /// Before each row: what earlier rows allocated may be gone afterwards.
    pub fn step(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(256) {
            // SAFETY: nothing allocated in it is used after a step.
            unsafe { pg_sys::MemoryContextReset(self.context) };
        }
    }
}

/// The row memory is current until this is dropped.
pub struct Entered(pg_sys::MemoryContext);

impl Drop for Entered {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the context that was current before, which outlives the row.
            unsafe { pg_sys::MemoryContextSwitchTo(self.0) };
        }
    }
}

impl Drop for RowMemory {
    fn drop(&mut self) {
        // While an error unwinds, PostgreSQL itself puts the contexts right.
        if !std::thread::panicking() {
            // SAFETY: both contexts are valid; ours is not current any more when it is deleted.
            unsafe {
                pg_sys::MemoryContextSwitchTo(self.previous);
                pg_sys::MemoryContextDelete(self.context);
            }
        }
    }
}
