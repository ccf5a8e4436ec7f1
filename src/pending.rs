//! `llm._pending` rows as datums: written by capture with the heap API, returned by `llm._read_log` as a set.

use crate::error::{Error, Result};
use crate::measures;
use crate::query::{self, See};
use crate::rollup::scan::Table;
use crate::varlena::{self, Values};
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::{Deltas, Kind, Measures, Overflow, Row};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::packed;
use pgrx::prelude::*;

/// bucket, source, kind, organization, dimensions, measures: the columns of sql/20_numbers.sql.
const COLUMNS: usize = 5 + Dimension::ALL.len();

/// The columns of a row of this shape, for a SELECT; `of` says where each comes from.
pub fn columns(bucket: &str, source: &str, kind: &str, organization: &str, dimension: &str, measures: &str) -> String {
    format!("{bucket}, {source}, {kind}, {organization}, {}, {measures}measures", crate::rollup::dimensions(dimension))
}

/// Writes the deltas to `llm._pending`.
pub fn insert(deltas: &Deltas) -> Result<()> {
    insert_into(own_table(c"_pending")?, deltas)
}

/// The same where the table is known.
pub fn insert_into(pending: pg_sys::Oid, deltas: &Deltas) -> Result<()> {
    if deltas.is_empty() {
        return Ok(());
    }
    let mut writer = Writer::open(pending, deltas.len() > 1);
    each(deltas, |values| writer.put(values))?;
    writer.close();
    Ok(())
}

/// Writes one row of a log that came in.
pub fn insert_row(pending: pg_sys::Oid, source: i32, bucket: Micros, row: &Row<'_>) -> Result<()> {
    let mut writer = Writer::open(pending, false);
    let texts = row.texts();
    datums((bucket, source, Kind::Detail as i16), texts, &row.measures, &mut Values::new(TEXTS + 1), |values| writer.put(values))?;
    writer.close();
    Ok(())
}

/// No SPI: the caller of a captured statement needs no right on the table and no plan is made.
struct Writer {
    relation: pg_sys::Relation,
    command: pg_sys::CommandId,
    bulk: pg_sys::BulkInsertState,
}

impl Writer {
    fn open(pending: pg_sys::Oid, are_many: bool) -> Writer {
        // SAFETY: the lock is the one an INSERT takes.
        unsafe {
            Writer {
                relation: pg_sys::table_open(pending, pg_sys::RowExclusiveLock as i32),
                command: pg_sys::GetCurrentCommandId(true),
                bulk: if are_many { pg_sys::GetBulkInsertState() } else { std::ptr::null_mut() },
            }
        }
    }

    fn put(&mut self, values: &mut [pg_sys::Datum; COLUMNS]) {
        let mut nulls = [false; COLUMNS];
        // SAFETY: the tuple is formed with the table's descriptor.
        unsafe {
            let tuple = pg_sys::heap_form_tuple((*self.relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::heap_insert(self.relation, tuple, self.command, 0, self.bulk);
            pg_sys::heap_freetuple(tuple);
        }
    }

    fn close(self) {
        // SAFETY: as opened.
        unsafe {
            if !self.bulk.is_null() {
                pg_sys::FreeBulkInsertState(self.bulk);
            }
            pg_sys::table_close(self.relation, pg_sys::RowExclusiveLock as i32);
        }
    }
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
    let mut made = Values::new(TEXTS + 1);
    for (key, sums) in deltas.iter() {
        rows.step();
        datums((key.bucket(), key.source(), key.kind()), key.texts(), sums, &mut made, &mut put)?;
    }
    Ok(())
}

/// Calls `put` with the datums of a row.
fn datums<'t>(
    (bucket, source, kind): (Micros, i32, i16),
    texts: impl Iterator<Item = &'t str>,
    measures: &Measures,
    made: &mut Values,
    put: impl FnOnce(&mut [pg_sys::Datum; COLUMNS]),
) -> Result<()> {
    made.clear();
    for text in texts {
        made.push(text.as_bytes());
    }
    made.push_with(|buffer| packed::pack(measures, buffer)).ok_or(Overflow)?;
    let mut values = [pg_sys::Datum::from(0); COLUMNS];
    values[0] = pg_sys::Datum::from(bucket);
    values[1] = pg_sys::Datum::from(source);
    values[2] = pg_sys::Datum::from(kind);
    for (value, datum) in values[3..].iter_mut().zip(made.datums()) {
        *value = datum;
    }
    put(&mut values);
    Ok(())
}

/// Organization and dimensions.
pub const TEXTS: usize = 1 + Dimension::ALL.len();

/// A row of this shape, where it lies. Valid until the next row.
pub struct Record<'a> {
    pub bucket: Micros,
    pub source: i32,
    pub kind: i16,
    /// Organization and dimensions, as bytes: most of them are only compared.
    pub texts: [&'a [u8]; TEXTS],
    pub measures: &'a [u8],
}

impl Record<'_> {
    pub fn measures(&self) -> Result<Measures> {
        measures::from_bytes(self.measures)
    }

    pub fn dimension(&self, dimension: Dimension) -> &[u8] {
        self.texts[1 + dimension as usize]
    }

    pub fn organization(&self) -> Result<&str> {
        text(self.texts[0])
    }
}

/// The bytes of a text column.
pub fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::internal("text is not UTF-8"))
}

/// Runs a statement that returns rows of this shape, and calls `f` with each and with the place in
/// `_pending` that follows its columns, if any. XX000 where the statement returns something else.
pub fn records(
    sql: &str,
    arguments: &[pgrx::datum::DatumWithOid<'_>],
    see: See,
    mut f: impl FnMut(&Record<'_>, Option<pg_sys::ItemPointerData>) -> Result<()>,
) -> Result<()> {
    let mut is_checked = false;
    // Made before the connection, whose end would free it; entered row by row, because the connection has a context of its own.
    let mut rows = RowMemory::new();
    query::each(sql, arguments, see, |row| {
        let _entered = rows.enter();
        if !std::mem::replace(&mut is_checked, true) {
            check_shape(row.descriptor)?;
        }
        // SAFETY: the columns are these, and at most a tid more, and none is NULL; the record is
        // used within its row, and the tid is copied.
        unsafe {
            if u32::from((*(*row.tuple).t_data).t_infomask) & pg_sys::HEAP_HASNULL != 0 {
                return Err(Error::internal("a row of llm._pending has a NULL"));
            }
            let mut is_null = true;
            let place = if (*row.descriptor).natts as usize > COLUMNS {
                let place = pg_sys::SPI_getbinval(row.tuple, row.descriptor, COLUMNS as i32 + 1, &mut is_null);
                Some(*place.cast_mut_ptr::<pg_sys::ItemPointerData>())
            } else {
                None
            };
            f(&record(row.tuple, row.descriptor), place)
        }
    })
}

/// XX000 where a result does not have the columns of a record, with or without a place behind them.
fn check_shape(descriptor: pg_sys::TupleDesc) -> Result<()> {
    // SAFETY: the descriptor is a result's; the type of measures is that of the table's column.
    let (found, measures) = unsafe { ((*descriptor).natts as usize, pg_sys::get_atttype(own_table(c"_pending")?, COLUMNS as i16)) };
    let mut wanted = [pg_sys::TEXTOID; COLUMNS + 1];
    wanted[..3].copy_from_slice(&[pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID, pg_sys::INT2OID]);
    wanted[COLUMNS - 1] = measures;
    wanted[COLUMNS] = pg_sys::TIDOID;
    if found != COLUMNS && found != COLUMNS + 1 {
        return Err(Error::internal(format!("a result has {found} columns, not those of llm._pending")));
    }
    for (at, wanted) in (1..).zip(&wanted[..found]) {
        // SAFETY: as above.
        if unsafe { pg_sys::SPI_gettypeid(descriptor, at) } != *wanted {
            return Err(query::mismatch(descriptor, at, *wanted));
        }
    }
    Ok(())
}

/// Calls `f` with the pending rows of an organization, as the active snapshot sees them.
pub fn of_organization(organization: &str, mut f: impl FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
    let name = organization.as_bytes();
    // SAFETY: rows of `llm._pending`, and the records are used within their rows.
    unsafe {
        Table::pending(pg_sys::AccessShareLock)?.tuples_where(
            |tuple| varlena::short(values_of(tuple)).is_none_or(|(first, _)| first == name),
            |tuple, descriptor| {
                let record = record(tuple, descriptor);
                if record.texts[0] == name { f(&record) } else { Ok(()) }
            },
        )
    }
}

/// What [`take`] came to.
#[derive(Default)]
pub struct Taken {
    pub rows: i64,
    /// Rows that stay.
    pub left: i64,
    /// Where to go on; None: the end of the table.
    pub next: Option<pg_sys::BlockNumber>,
}

/// Takes rows that the active snapshot sees out of the table, from a block on, at most `limit`. Each for which `f` says so.
pub fn take(from: pg_sys::BlockNumber, limit: i64, mut f: impl FnMut(&Record<'_>) -> Result<bool>) -> Result<Taken> {
    let table = Table::pending(pg_sys::RowExclusiveLock)?;
    let mut taken = Taken::default();
    table.tuples_from(from, |tuple, descriptor| {
        // SAFETY: as above.
        unsafe {
            if taken.rows == limit {
                taken.next = Some(pgrx::itemptr::item_pointer_get_block_number(&(*tuple).t_self));
                return Ok(false);
            }
            if f(&record(tuple, descriptor))? {
                table.delete(&(*tuple).t_self)?;
                taken.rows += 1;
            } else {
                taken.left += 1;
            }
        }
        Ok(true)
    })?;
    Ok(taken)
}

/// The columns of such a row before the texts, as they lie in it: none of them can be NULL.
#[repr(C)]
struct Head {
    bucket: i64,
    source: i32,
    kind: i16,
}

unsafe fn data_of(tuple: pg_sys::HeapTuple) -> *const u8 {
    // SAFETY: as the caller promises.
    unsafe { (*tuple).t_data.cast::<u8>().add(usize::from((*(*tuple).t_data).t_hoff)) }
}

/// Where the texts begin.
unsafe fn values_of(tuple: pg_sys::HeapTuple) -> *const u8 {
    // SAFETY: as the caller promises.
    unsafe { data_of(tuple).add(std::mem::offset_of!(Head, kind) + size_of::<i16>()) }
}

/// # Safety
/// A tuple that begins with these columns, and its descriptor; the tuple outlives the record.
unsafe fn record<'a>(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Record<'a> {
    // SAFETY: as the caller promises.
    unsafe {
        let head = &*data_of(tuple).cast::<Head>();
        let [texts @ .., measures] = short_values(values_of(tuple)).unwrap_or_else(|| deformed(tuple, descriptor));
        Record { bucket: head.bucket, source: head.source, kind: head.kind, texts, measures }
    }
}

/// The texts and the measures where they lie one behind the other with headers of one byte, as nearly always; walking them costs a tenth of
/// what `heap_deform_tuple` does.
unsafe fn short_values<'a>(mut at: *const u8) -> Option<[&'a [u8]; TEXTS + 1]> {
    let mut values: [&[u8]; TEXTS + 1] = [&[]; TEXTS + 1];
    for value in &mut values {
        // SAFETY: the values of a row.
        (*value, at) = unsafe { varlena::short(at)? };
    }
    Some(values)
}

/// The texts and the measures, long or compressed ones too.
unsafe fn deformed<'a>(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> [&'a [u8]; TEXTS + 1] {
    // The columns, and at most one more.
    let mut values = [pg_sys::Datum::from(0); COLUMNS + 1];
    let mut nulls = [true; COLUMNS + 1];
    // SAFETY: a tuple of the descriptor. What is detoasted lies in the current memory context.
    unsafe {
        pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        std::array::from_fn(|at| varlena::bytes(values[COLUMNS - TEXTS - 1 + at]))
    }
}

/// The oid of one of our tables.
pub fn own_table(name: &std::ffi::CStr) -> Result<pg_sys::Oid> {
    // SAFETY: two catalog lookups by name.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"llm".as_ptr(), true)) };
    if oid == pg_sys::InvalidOid {
        let name = name.to_string_lossy();
        return Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("relation \"llm.{name}\" does not exist"))
            .hint("It belongs to the extension llm_analytics and was renamed, moved or dropped."));
    }
    Ok(oid)
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
