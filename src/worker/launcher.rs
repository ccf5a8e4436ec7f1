//! The launcher: visits every database that may have the extension, a few at a time.

use super::{reload_if_asked, report, round, set_up};
use crate::guc::{FOLD_INTERVAL, MAX_WORKERS, WORKER};
use crate::slots;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;

/// A database without the extension is looked at this many intervals apart.
const WITHOUT_EXTENSION: i64 = 6;
/// After failures the interval doubles, up to 2^6 times.
const MAX_BACK_OFF: u32 = 6;
/// The launcher looks around at least this often.
const LONGEST_NAP_MS: i64 = 60_000;

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn llm_launcher_main(_argument: pg_sys::Datum) {
    set_up(pg_sys::InvalidOid);
    let mut running: Vec<Visit> = Vec::new();
    loop {
        reload_if_asked();
        running.retain(|visit| !visit.has_ended());
        let nap = if WORKER.get() { visit(&mut running) } else { LONGEST_NAP_MS };
        report(None);
        // SAFETY: our own latch; a SIGTERM ends the process in the check. A worker that starts or stops sets the latch.
        unsafe {
            let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, nap, pg_sys::PG_WAIT_EXTENSION);
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        pgrx::check_for_interrupts!();
    }
}

/// A worker in a database. The handle is freed with it: PostgreSQL allocates it and leaves that to us, and pgrx's
/// own type for a worker cannot do it.
struct Visit {
    database: pg_sys::Oid,
    handle: *mut pg_sys::BackgroundWorkerHandle,
}

impl Visit {
    /// None where no slot of max_worker_processes is free.
    fn start(database: pg_sys::Oid) -> Option<Visit> {
        let builder = BackgroundWorkerBuilder::new("llm_analytics worker")
            .set_library("llm_analytics")
            .set_function(round::MAIN)
            .set_argument(Some(pg_sys::Datum::from(database)))
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .set_restart_time(None)
            // SAFETY: reads our own process id.
            .set_notify_pid(unsafe { pg_sys::MyProcPid });
        let mut worker = pg_sys::BackgroundWorker::from(&builder);
        let mut handle = std::ptr::null_mut();
        // SAFETY: the worker is copied; the handle is allocated in the launcher's top context where it started.
        let has_started = unsafe { pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle) };
        has_started.then_some(Visit { database, handle })
    }

    fn has_ended(&self) -> bool {
        let mut pid = 0;
        // SAFETY: the handle of a worker that was registered.
        unsafe { pg_sys::GetBackgroundWorkerPid(self.handle, &mut pid) == pg_sys::BgwHandleStatus::BGWH_STOPPED }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // SAFETY: allocated by RegisterDynamicBackgroundWorker, and nobody else has it.
        unsafe { pg_sys::pfree(self.handle.cast()) }
    }
}

/// Starts workers for the databases that are due; milliseconds until the next one is.
fn visit(running: &mut Vec<Visit>) -> i64 {
    let now = now();
    let mut nap = LONGEST_NAP_MS;
    let mut due: Vec<(i64, pg_sys::Oid)> = Vec::new();
    for database in databases() {
        if running.iter().any(|visit| visit.database == database) {
            continue;
        }
        match slots::get(database).map_or(0, |slot| due_at(&slot) - now) {
            wait if wait <= 0 => due.push((wait, database)),
            wait => nap = nap.min(wait / 1_000 + 1),
        }
    }
    // The one that has waited longest first.
    due.sort_unstable_by_key(|(wait, _)| *wait);
    let most = usize::try_from(MAX_WORKERS.get()).unwrap_or(1);
    for (_, database) in due {
        if running.len() >= most {
            // A worker that ends wakes us.
            return nap;
        }
        slots::update(database, |slot| {
            slot.visited_at = now;
            slot.has_more = false;
            // Taken back by a round that ends well: a crash counts as a failure.
            slot.failures = slot.failures.saturating_add(1);
        });
        match Visit::start(database) {
            Some(started) => running.push(started),
            None => {
                slots::update(database, |slot| slot.failures = slot.failures.saturating_sub(1));
                return nap.min(1_000);
            }
        }
    }
    nap
}

fn due_at(slot: &slots::Slot) -> i64 {
    if slot.has_more {
        return slot.visited_at;
    }
    let interval = i64::from(FOLD_INTERVAL.get()) * 1_000;
    let times = if slot.failures > 0 {
        1 << slot.failures.min(MAX_BACK_OFF)
    } else if slot.has_extension {
        1
    } else {
        WITHOUT_EXTENSION
    };
    slot.visited_at + interval * times
}

fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// The databases one can connect to, no templates. From the shared catalog, as autovacuum's launcher does: we are in no database.
fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: one transaction around the scan; each tuple is looked at while the scan stands on it.
    unsafe {
        pg_sys::StartTransactionCommand();
        let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(catalog, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let data = (*tuple).t_data;
            let database = &*data.cast::<u8>().add(usize::from((*data).t_hoff)).cast::<pg_sys::FormData_pg_database>();
            // A connection limit of -2 marks a database whose DROP was interrupted.
            if database.datallowconn && !database.datistemplate && database.datconnlimit != -2 {
                found.push(database.oid);
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        pg_sys::CommitTransactionCommand();
    }
    found
}
