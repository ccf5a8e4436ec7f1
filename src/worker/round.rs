//! One round in one database: heal, tend partitions, fold, backfill, each in short transactions, and out again.

use super::{reload_if_asked, report, set_up, slots};
use crate::api::operate::{backfill_step, fold_step};
use crate::error::{Error, Result};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

pub const MAIN: &str = "llm_worker_main";

/// A round ends after about this long, work left or not: DROP DATABASE waits 5 seconds for us.
const LONGEST: Duration = Duration::from_secs(2);

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn llm_worker_main(argument: pg_sys::Datum) {
    let database = pg_sys::Oid::from(argument.value() as u32);
    give_way();
    set_up(database);
    let started = Instant::now();
    let outcome = in_transaction("look for the extension", is_ready).and_then(|ready| match ready {
        Some(true) => work(started).map(|has_more| (true, has_more)),
        Some(false) => Ok((true, false)),
        None => Ok((false, false)),
    });
    report(None);
    match outcome {
        Ok((has_extension, has_more)) => slots::update(database, |slot| {
            slot.has_extension = has_extension;
            slot.has_more = has_more;
            slot.failures = 0;
        }),
        // No failure: the next round goes on from there.
        Err(Failure { code: PgSqlErrorCode::ERRCODE_QUERY_CANCELED, .. }) => slots::update(database, |slot| {
            slot.has_extension = true;
            slot.failures = 0;
        }),
        Err(failure) => {
            slots::update(database, |slot| slot.has_extension = true);
            // The text of a server error can hold values of a row, so the log has it and llm.status only its code.
            let failure = format!("{}: {} failed", sqlstate(failure.code), failure.step);
            let _ = in_transaction("record an error", move || {
                Spi::run_with_args(include_str!("../../sql/query/record_error.sql"), &[failure.into()]).map_err(Error::from)
            });
        }
    }
}

/// Lets the server treat us as it treats autovacuum: who has waited deadlock_timeout for a lock that we hold cancels the step, and DROP
/// DATABASE and CREATE DATABASE .. TEMPLATE end us. No step is so short that nobody could have to wait for it.
fn give_way() {
    // SAFETY: our own entry, which nobody else looks at before we connect and it is copied to where others do.
    unsafe { (*pg_sys::MyProc).statusFlags |= pg_sys::PROC_IS_AUTOVACUUM as u8 };
}

/// None: the extension is not here. False: a source lacks its root trigger, as it does while a dump is restored; then nothing is touched.
fn is_ready() -> Result<Option<bool>> {
    // SAFETY: a catalog lookup by name.
    if unsafe { pg_sys::get_extension_oid(c"llm_analytics".as_ptr(), true) } == pg_sys::InvalidOid {
        return Ok(None);
    }
    Ok(Some(Spi::get_one::<bool>(include_str!("../../sql/query/worker_ready.sql"))?.unwrap_or(false)))
}

/// A step that did not get through.
struct Failure {
    code: PgSqlErrorCode,
    step: &'static str,
}

/// Whether work is left when the time is over.
fn work(started: Instant) -> std::result::Result<bool, Failure> {
    // What cannot be healed now must not keep the rest from being folded.
    let healed = in_transaction("heal", || Spi::run("SELECT llm._heal()").map_err(Error::from));
    let tended = tend(started);
    let has_more = fold_and_backfill(started)?;
    healed.and(tended).map(|()| has_more)
}

/// Partitions of managed logs, each in a transaction of its own.
fn tend(started: Instant) -> std::result::Result<(), Failure> {
    while let Some(done) = in_transaction("tend", || Ok(Spi::get_one::<String>("SELECT llm._tend()")?))? {
        pgrx::log!("llm_analytics: {done}");
        if started.elapsed() > LONGEST {
            break;
        }
    }
    Ok(())
}

fn fold_and_backfill(started: Instant) -> std::result::Result<bool, Failure> {
    while in_transaction("fold", fold_step)? {
        reload_if_asked();
        if started.elapsed() > LONGEST {
            return Ok(true);
        }
    }
    while in_transaction("backfill", backfill_step)?.is_some() {
        reload_if_asked();
        if started.elapsed() > LONGEST {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs a step in a transaction of its own. An error aborts it, goes to the server's log, and comes back as SQLSTATE and step.
fn in_transaction<T>(step: &'static str, f: impl FnOnce() -> Result<T> + std::panic::UnwindSafe) -> std::result::Result<T, Failure> {
    report(Some(&format!("llm_analytics: {step}")));
    // SAFETY: no transaction is open here; commit or abort closes the one that is started.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let attempt = std::panic::AssertUnwindSafe(|| f().map_err(|error| (error.code(), error.to_string())));
    let outcome = PgTryBuilder::new(attempt)
        .catch_others(|cause| match cause {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
                Err((report.sql_error_code(), report.message().to_string()))
            }
            CaughtError::RustPanic { ereport, .. } => Err((ereport.sql_error_code(), ereport.message().to_string())),
        })
        .execute();
    match outcome {
        Ok(value) => {
            // SAFETY: as above.
            unsafe {
                pg_sys::PopActiveSnapshot();
                pg_sys::CommitTransactionCommand();
            }
            Ok(value)
        }
        Err((code, message)) => {
            // SAFETY: as above.
            unsafe { pg_sys::AbortCurrentTransaction() };
            if code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED {
                pgrx::log!("llm_analytics worker: {step} gives way: {message}");
            } else {
                pgrx::warning!("llm_analytics worker: {step} failed: {message}");
            }
            Err(Failure { code, step })
        }
    }
}

/// The five characters of an SQLSTATE.
fn sqlstate(code: PgSqlErrorCode) -> String {
    let code = code as i32;
    (0..5).map(|at| char::from(((code >> (6 * at)) & 0x3f) as u8 + b'0')).collect()
}
