//! The settings, all named `llm.*`.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;
use std::ffi::CString;

/// What a DELETE or TRUNCATE of log rows means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum OnDelete {
    /// As the source says.
    source,
    keep,
    subtract,
}

pub static ON_DELETE: GucSetting<OnDelete> = GucSetting::<OnDelete>::new(OnDelete::source);
pub static WORKER: GucSetting<bool> = GucSetting::<bool>::new(true);
pub static FOLD_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10_000);
pub static FOLD_BATCH_ROWS: GucSetting<i32> = GucSetting::<i32>::new(50_000);
pub static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);

pub static ADMIN_ROLES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"owner,admin"));
pub static ENTERPRISE_PLANS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"enterprise"));

/// Whether a word is in a setting's list (separated by commas; as it is written, spaces around a word do not matter).
pub fn lists(setting: &GucSetting<Option<CString>>, word: &str) -> bool {
    setting.get().is_some_and(|list| list.to_string_lossy().split(',').any(|listed| listed.trim() == word && !word.is_empty()))
}

pub fn register() {
    GucRegistry::define_string_guc(
        c"llm.admin_roles",
        c"Roles of members who see all usage of their organization.",
        c"Words of the membership directory, separated by commas.",
        &ADMIN_ROLES,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"llm.enterprise_plans",
        c"Plans that include analytics of the whole organization and of its members.",
        c"Words of the organization directory, separated by commas; where that has no plans, every organization is enterprise.",
        &ENTERPRISE_PLANS,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"llm.on_delete",
        c"What deleting rows of an attached request log means.",
        c"source: what attach_log was told; keep: deleted rows go on counting; subtract: they do not. For one correction: SET LOCAL.",
        &ON_DELETE,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"llm.worker",
        c"Whether the background worker folds and backfills.",
        c"Needs llm_analytics in shared_preload_libraries.",
        &WORKER,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"llm.fold_interval",
        c"Time between two rounds of the background worker in a database.",
        c"Numbers are exact whatever it is; it bounds how many pending rows a reader adds up.",
        &FOLD_INTERVAL,
        100,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"llm.fold_batch_rows",
        c"Pending rows folded in one statement.",
        c"Bounds the memory and the duration of a fold's transaction.",
        &FOLD_BATCH_ROWS,
        100,
        10_000_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"llm.max_workers",
        c"Databases the background workers visit at the same time.",
        c"Each takes one of max_worker_processes while it runs.",
        &MAX_WORKERS,
        1,
        64,
        GucContext::Sighup,
        GucFlags::default(),
    );
    // A misspelt name is an error then, not a setting that nobody reads.
    // SAFETY: the name is valid, and all settings are defined.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"llm".as_ptr()) }
}
