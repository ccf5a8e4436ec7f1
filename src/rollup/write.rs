//! Writing rows of a level. The caller holds the fold lock, so nobody else does at the same time.
//!
//! With the heap API, as logical replication's worker does it: the index on (org, bucket) cannot arbitrate an `ON CONFLICT`, because it is not
//! unique. A unique one would need the series too, be twice as wide and, its entries being wider than what PostgreSQL's B-trees split well
//! where each organization's rows come in at its own end, stay half empty (docs/decisions.md).

use crate::error::{Error, Result};
use crate::measures;
use crate::pending::RowMemory;
use crate::rollup::scan::Table;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::Measures;
use llm_analytics_core::level::Level;
use pgrx::prelude::*;

/// What a row of a level gains.
pub struct Gain<'m> {
    pub org: i32,
    pub bucket: Micros,
    pub series: i32,
    pub measures: &'m Measures,
}

impl Gain<'_> {
    pub fn key(&self) -> (i32, Micros, i32) {
        (self.org, self.bucket, self.series)
    }
}

/// A row that is there.
struct Known {
    /// Position of its gain.
    gain: usize,
    place: pg_sys::ItemPointerData,
    sum: Measures,
}

/// Adds gains, in order of their keys, each of them once, to a level's rows as the active snapshot sees them. 40001 where one of them was
/// changed since.
pub fn add(level: &Level, gains: &[Gain<'_>]) -> Result<()> {
    let table = Table::of_level(level, pg_sys::RowExclusiveLock)?;
    let mut writer = Writer::new(&table, level.id);
    let mut rows = RowMemory::new();
    for run in runs(level, gains) {
        pgrx::check_for_interrupts!();
        let mut known: Vec<Known> = Vec::new();
        let (first, last) = (&run[0], &run[run.len() - 1]);
        table.range(first.org, first.bucket, last.bucket + 1, |row| {
            if let Ok(gain) = run.binary_search_by_key(&(first.org, row.bucket, row.series), Gain::key) {
                // SAFETY: the row's own value.
                let mut sum = unsafe { measures::from_datum(row.measures)? };
                sum.add(run[gain].measures, 1)?;
                known.push(Known { gain, place: row.place, sum });
            }
            Ok(())
        })?;
        let mut is_new = vec![true; run.len()];
        for row in known {
            // Were there two of a key, one of them would gain.
            if std::mem::replace(&mut is_new[row.gain], false) {
                rows.step();
                writer.update(&row.place, &run[row.gain], &row.sum)?;
            }
        }
        for gain in run.iter().zip(is_new).filter(|(_, is_new)| *is_new).map(|(gain, _)| gain) {
            rows.step();
            writer.insert(gain)?;
        }
    }
    writer.finish();
    Ok(())
}

/// Gains of one organization that lie so close that one scan over all of its rows between costs no more than one for each bucket.
fn runs<'g, 'm>(level: &Level, gains: &'g [Gain<'m>]) -> impl Iterator<Item = &'g [Gain<'m>]> {
    let gap = level.grain.length();
    gains.chunk_by(move |a, b| a.org == b.org && b.bucket - a.bucket <= gap)
}

/// Puts tuples into a table and its indexes.
struct Writer<'t> {
    table: &'t Table,
    level: i16,
    command: pg_sys::CommandId,
    estate: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    buffer: Vec<u8>,
}

impl<'t> Writer<'t> {
    fn new(table: &'t Table, level: i16) -> Writer<'t> {
        // SAFETY: the table is open with a writer's lock. Executor state and slot lie in the current memory context and are freed in `finish`,
        // or with it; position 0 stands for a relation that is in no range table.
        unsafe {
            let relation = table.relation();
            let estate = pg_sys::CreateExecutorState();
            pg_sys::MakePerTupleExprContext(estate);
            let result = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(result, relation, 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(result, false);
            let slot = pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &pg_sys::TTSOpsHeapTuple);
            Writer { table, level, command: pg_sys::GetCurrentCommandId(true), estate, result, slot, buffer: Vec::new() }
        }
    }

    /// In the current memory context.
    fn tuple(&mut self, gain: &Gain<'_>, sum: &Measures) -> Result<pg_sys::HeapTuple> {
        let mut nulls = [false; 5];
        // SAFETY: the columns of `llm.rollup` (sql/20_numbers.sql).
        unsafe {
            let mut values = [
                pg_sys::Datum::from(gain.org),
                pg_sys::Datum::from(gain.series),
                pg_sys::Datum::from(gain.bucket),
                pg_sys::Datum::from(self.level),
                measures::datum(sum, &mut self.buffer)?,
            ];
            Ok(pg_sys::heap_form_tuple((*self.table.relation()).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr()))
        }
    }

    fn insert(&mut self, gain: &Gain<'_>) -> Result<()> {
        let tuple = self.tuple(gain, gain.measures)?;
        // SAFETY: the tuple is one of the table's.
        unsafe {
            pg_sys::heap_insert(self.table.relation(), tuple, self.command, 0, std::ptr::null_mut());
            self.index(tuple, false);
        }
        Ok(())
    }

    fn update(&mut self, place: &pg_sys::ItemPointerData, gain: &Gain<'_>, sum: &Measures) -> Result<()> {
        let tuple = self.tuple(gain, sum)?;
        let mut place = *place;
        let mut failure = pg_sys::TM_FailureData::default();
        let mut lock = pg_sys::LockTupleMode::LockTupleNoKeyExclusive;
        // SAFETY: the tuple is one of the table's and replaces one that the active snapshot sees.
        unsafe {
            let (result, goes_into_indexes) = heap_update(self.table.relation(), &mut place, tuple, self.command, &mut failure, &mut lock);
            if result != pg_sys::TM_Result::TM_Ok {
                return Err(Error::serialization("update"));
            }
            if goes_into_indexes {
                self.index(tuple, true);
            }
        }
        Ok(())
    }

    /// # Safety
    /// The tuple is one of the table's, and has its place.
    unsafe fn index(&mut self, tuple: pg_sys::HeapTuple, is_update: bool) {
        // SAFETY: as the caller promises; the slot lets go of the tuple before that is freed.
        unsafe {
            pg_sys::ExecStoreHeapTuple(tuple, self.slot, false);
            insert_index_tuples(self.result, self.slot, self.estate, is_update);
            pg_sys::ExecClearTuple(self.slot);
            pg_sys::MemoryContextReset((*(*self.estate).es_per_tuple_exprcontext).ecxt_per_tuple_memory);
        }
    }

    fn finish(self) {
        // SAFETY: made in `new`, not used any more.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::ExecCloseIndices(self.result);
            pg_sys::FreeExecutorState(self.estate);
            pg_sys::CommandCounterIncrement();
        }
    }
}

/// What came of it, and whether the new tuple has to be put into the indexes.
unsafe fn heap_update(
    relation: pg_sys::Relation,
    place: &mut pg_sys::ItemPointerData,
    tuple: pg_sys::HeapTuple,
    command: pg_sys::CommandId,
    failure: &mut pg_sys::TM_FailureData,
    lock: &mut pg_sys::LockTupleMode::Type,
) -> (pg_sys::TM_Result::Type, bool) {
    let nothing = std::ptr::null_mut();
    // SAFETY: as the caller promises. PostgreSQL 15 says it by HeapTupleIsHeapOnly() of access/htup_details.h.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            let result = pg_sys::heap_update(relation, place, tuple, command, nothing, true, failure, lock);
            (result, u32::from((*(*tuple).t_data).t_infomask2) & pg_sys::HEAP_ONLY_TUPLE == 0)
        }
        #[cfg(not(feature = "pg15"))]
        {
            let mut indexes = pg_sys::TU_UpdateIndexes::TU_None;
            let result = pg_sys::heap_update(relation, place, tuple, command, nothing, true, failure, lock, &mut indexes);
            (result, indexes != pg_sys::TU_UpdateIndexes::TU_None)
        }
    }
}

unsafe fn insert_index_tuples(
    result: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
    is_update: bool,
) {
    // SAFETY: as the caller promises. An index that only sums pages up may be told more than it must.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::ExecInsertIndexTuples(result, slot, estate, is_update, false, std::ptr::null_mut(), std::ptr::null_mut());
        #[cfg(not(feature = "pg15"))]
        pg_sys::ExecInsertIndexTuples(result, slot, estate, is_update, false, std::ptr::null_mut(), std::ptr::null_mut(), false);
    }
}
