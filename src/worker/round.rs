//! One round in one database: fold, heal, tend partitions, backfill, each in short transactions, and out again.
//!
//! `llm._attempt` (sql/30_functions.sql) does a piece of a step and records what fails, for `llm.maintain` too. No step keeps another from
//! being tried, and each is tried at least once a round.

use super::{reload_if_asked, report, set_up};
use crate::api::operate::{backfill_step, fold_step};
use crate::error::Result;
use crate::pending::own_table;
use crate::query::{self, See};
use crate::slots;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

pub const MAIN: &str = "llm_worker_main";

/// A round ends about this long after it began to fold, work left or not: DROP DATABASE waits 5 seconds for us.
const LONGEST: Duration = Duration::from_secs(2);

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn llm_worker_main(argument: pg_sys::Datum) {
    let database = pg_sys::Oid::from(argument.value() as u32);
    give_way();
    set_up(database);
    let outcome = in_transaction("look for the extension", look).map(|found| {
        slots::update(database, |slot| slot.has_extension = !matches!(found, Found::Nothing));
        if let Found::Ready { records } = found { work(database, records) } else { Round::default() }
    });
    report(None);
    let round = outcome.unwrap_or_else(|failure| Round { failure: Some(failure), ..Round::default() });
    slots::update(database, |slot| {
        slot.has_more = round.has_more;
        slot.fold_from = round.fold_from;
        if round.failure.is_none() {
            slot.failures = 0;
        }
    });
    if let Some(failure) = round.failure {
        // The text of a server error can hold values of a row, so the log has it and llm.status only its code.
        let failure = format!("{}: {} failed", sqlstate(failure.code), failure.step);
        let _ = in_transaction("record an error", move || {
            query::each(include_str!("../../sql/query/record_error.sql"), &[failure.into()], See::New, |_| Ok(()))
        });
    }
}

/// Lets the server treat us as it treats autovacuum: who has waited deadlock_timeout for a lock that we hold cancels the step, and DROP
/// DATABASE and CREATE DATABASE .. TEMPLATE end us. No step is so short that nobody could have to wait for it.
fn give_way() {
    // SAFETY: our own entry, which nobody else looks at before we connect and it is copied to where others do.
    unsafe { (*pg_sys::MyProc).statusFlags |= pg_sys::PROC_IS_AUTOVACUUM as u8 };
}

/// What there is in the database.
enum Found {
    /// No extension.
    Nothing,
    /// A source lacks its root trigger, as it does while a dump is restored. Then nothing is touched.
    NotReady,
    /// `records`: the catalog has `llm._attempt`, which version 0.1.1 had not.
    Ready { records: bool },
}

/// Whether the extension is here, and then it stays for the rest of the transaction. DROP EXTENSION locks what belongs to it in the order in
/// which it was made, so whoever locks the first of it first waits with nothing in hand, or has the DROP wait so. Otherwise one of the two
/// would end in a deadlock, and that might be the DROP. Not by a lock on the extension: every CREATE of a partition of a log needs that one
/// to itself, for ALTER TRIGGER .. DEPENDS ON EXTENSION.
fn hold_extension() -> Result<bool> {
    // SAFETY: a catalog lookup by name, before and after a lock that is released at the end of the transaction.
    unsafe {
        let is_here = || pg_sys::get_extension_oid(c"llm_analytics".as_ptr(), true) != pg_sys::InvalidOid;
        if !is_here() {
            return Ok(false);
        }
        pg_sys::LockRelationOid(own_table(c"source_id_seq")?, pg_sys::AccessShareLock as i32);
        Ok(is_here())
    }
}

fn look() -> Result<Found> {
    if !hold_extension()? {
        return Ok(Found::Nothing);
    }
    if query::one::<bool>(include_str!("../../sql/query/worker_ready.sql"), &[], See::Active)? != Some(true) {
        return Ok(Found::NotReady);
    }
    let records = query::one::<bool>("SELECT to_regprocedure('llm._attempt(text, bigint)') IS NOT NULL", &[], See::Active)?;
    Ok(Found::Ready { records: records == Some(true) })
}

/// What a round came to.
#[derive(Default)]
struct Round {
    /// The time is over, and there is work left.
    has_more: bool,
    /// Where the next round's fold begins.
    fold_from: u32,
    /// What failed and is not recorded in `llm._failure`.
    failure: Option<Failure>,
}

/// A step that did not get through.
struct Failure {
    code: PgSqlErrorCode,
    step: &'static str,
}

fn work(database: pg_sys::Oid, records: bool) -> Round {
    let mut round = Round::default();
    let started = Instant::now();
    for step in ["fold", "heal", "tend", "backfill"] {
        let is_fold = step == "fold";
        let mut from = if is_fold { slots::get(database).map_or(0, |slot| slot.fold_from.into()) } else { 0 };
        loop {
            let piece = move || match hold_extension()? {
                false => Ok(None),
                true if records => attempt(step, from),
                true => attempt_of_old(step, from),
            };
            match in_transaction(step, piece) {
                Ok(Some(next)) => from = next,
                Ok(None) => break,
                // Whoever waits for our locks goes first. That is no failure.
                Err(Failure { code: PgSqlErrorCode::ERRCODE_QUERY_CANCELED, .. }) => break,
                Err(failure) => {
                    round.failure.get_or_insert(failure);
                    break;
                }
            }
            reload_if_asked();
            if started.elapsed() > LONGEST {
                round.has_more = true;
                if is_fold {
                    round.fold_from = u32::try_from(from).unwrap_or(0);
                }
                break;
            }
        }
    }
    round
}

/// A piece of a step; where to go on. See::Active, because a statement that may write takes a transaction id whether it does or not.
fn attempt(step: &str, from: i64) -> Result<Option<i64>> {
    query::one::<i64>("SELECT llm._attempt($1, $2)", &[step.into(), from.into()], See::Active)
}

/// The same while the database has the catalog of version 0.1.1, until ALTER EXTENSION UPDATE.
fn attempt_of_old(step: &str, from: i64) -> Result<Option<i64>> {
    let done = match step {
        "fold" => return fold_step(from),
        "heal" => return query::each("SELECT llm._heal()", &[], See::New, |_| Ok(())).map(|()| None),
        "tend" => query::one::<String>("SELECT llm._tend()", &[], See::New)?,
        _ => backfill_step(None)?,
    };
    Ok(done.map(|_| 0))
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
