//! llm_analytics: exact cost analytics over an LLM gateway's request log, inside PostgreSQL.
//!
//! Wiring only: the modules, the order of the install SQL, and what happens when the library is loaded.

use pgrx::prelude::*;

mod access;
mod api;
mod backfill;
mod breakdown;
mod capture;
mod compare;
mod directory;
mod error;
mod fold;
mod guc;
mod identity;
mod measures;
mod moved;
mod numeric;
mod pending;
mod query;
mod read;
mod rebuild;
mod retention;
mod rights;
mod rollup;
mod scope;
mod slots;
mod source;
mod varlena;
mod verify;
mod worker;
mod zone;

pg_module_magic!(name, version);

extension_sql_file!("../sql/00_schema.sql", name = "schema", bootstrap);
extension_sql_file!("../sql/10_catalog.sql", name = "catalog", requires = ["schema"]);
extension_sql_file!("../sql/12_directories.sql", name = "directories", requires = ["catalog"]);
extension_sql_file!("../sql/15_measures.sql", name = "measures", requires = ["directories"]);
extension_sql_file!("../sql/20_numbers.sql", name = "numbers", requires = ["measures"]);
extension_sql_file!("../sql/30_functions.sql", name = "functions", requires = ["numbers"]);
extension_sql_file!("../sql/32_retention.sql", name = "retention", requires = ["functions"]);
extension_sql_file!("../sql/35_pages.sql", name = "pages", requires = ["retention"]);
extension_sql_file!("../sql/40_triggers.sql", name = "triggers", requires = ["pages"]);
extension_sql_file!("../sql/45_directories.sql", name = "directory_triggers", requires = ["triggers"]);
extension_sql_file!("../sql/50_views.sql", name = "views", requires = ["directory_triggers"]);
extension_sql_file!("../sql/60_policies.sql", name = "policies", requires = ["views"]);
extension_sql_file!("../sql/90_grants.sql", name = "grants", requires = ["policies"], finalize);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    without_backtraces();
    guc::register();
    worker::register();
}

/// pgrx puts a Rust backtrace into the DETAIL of each error of PostgreSQL's that passes through us,
/// where RUST_BACKTRACE is set in the server's environment, and DETAIL goes to clients. Rust's
/// library, of which we have a copy of our own, reads the environment once: at the first capture,
/// which is this one.
fn without_backtraces() {
    const NAME: &str = "RUST_LIB_BACKTRACE";
    let before = std::env::var_os(NAME);
    // SAFETY: PostgreSQL loads libraries in processes of one thread. The variable is as it was
    // afterwards, for other extensions.
    unsafe {
        std::env::set_var(NAME, "0");
        drop(std::backtrace::Backtrace::capture());
        match before {
            Some(value) => std::env::set_var(NAME, value),
            None => std::env::remove_var(NAME),
        }
    }
}
