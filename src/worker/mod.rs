//! The background worker: a launcher that visits the databases, and a short-lived worker for each visit.
//!
//! A worker stays connected for one round only: a permanent connection would make DROP DATABASE and CREATE DATABASE .. TEMPLATE fail.
//! `crate::slots` is what the two share, `launcher` decides when, `round` does the work.

mod launcher;
mod round;

use crate::slots;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use std::ffi::{CStr, CString};
use std::time::Duration;

#[cfg(not(feature = "pg18"))]
use pg_sys::pqsignal as handle;
#[cfg(feature = "pg18")]
use pg_sys::pqsignal_be as handle;

/// When the library is preloaded: shared memory and the launcher. Elsewhere there is none, and `CALL llm.maintain()` does the work.
pub fn register() {
    // pg_upgrade reads the old cluster's next transaction id before it starts that cluster in binary-upgrade
    // mode. What a worker wrote then would come along with ids that the new cluster has not given out yet.
    // SAFETY: reads variables of the postmaster.
    if unsafe { pg_sys::IsBinaryUpgrade || !pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    slots::request();
    BackgroundWorkerBuilder::new("llm_analytics launcher")
        .set_library("llm_analytics")
        .set_function("llm_launcher_main")
        .enable_spi_access()
        // On a primary only; after a promotion too.
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(5)))
        .load();
}

/// What both kinds of process do first. PostgreSQL's own SIGTERM handler, unlike pgrx's, interrupts a running statement, so that a fast
/// shutdown does not wait for it.
fn set_up(database: pg_sys::Oid) {
    // SAFETY: called once at the start of a background worker's main function.
    unsafe {
        handle(pg_sys::SIGTERM as i32, Some(die));
        handle(pg_sys::SIGHUP as i32, Some(reload));
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        // Over whatever ALTER DATABASE or ALTER ROLE set: whoever owns a database must not have a superuser's worker call functions and
        // operators of theirs. Nor may isolation, a timeout or a JIT that costs more than it saves depend on it.
        for (name, value) in SETTINGS {
            pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_OVERRIDE);
        }
    }
}

const SETTINGS: &[(&CStr, &CStr)] = &[
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"session_replication_role", c"origin"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"row_security", c"on"),
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    (c"transaction_timeout", c"0"),
    (c"standard_conforming_strings", c"on"),
    (c"jit", c"off"),
];

unsafe extern "C-unwind" fn die(signal: i32) {
    // SAFETY: async-signal-safe, as PostgreSQL installs it itself.
    unsafe { pg_sys::die(signal) }
}

unsafe extern "C-unwind" fn reload(signal: i32) {
    // SAFETY: as above.
    unsafe { pg_sys::SignalHandlerForConfigReload(signal) }
}

/// Rereads the configuration if a SIGHUP asked for it.
fn reload_if_asked() {
    // SAFETY: the flag is set by the signal handler; called outside a transaction.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// What pg_stat_activity shows; None: idle.
fn report(activity: Option<&str>) {
    let (state, text) = match activity {
        Some(text) => (pg_sys::BackendState::STATE_RUNNING, CString::new(text).unwrap_or_default()),
        None => (pg_sys::BackendState::STATE_IDLE, CString::default()),
    };
    // SAFETY: the text is copied.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) }
}
