//! `llm.bucket` and the start of the next one.

use llm_analytics_core::bucket;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

fn mapped(at: TimestampWithTimeZone, f: impl Fn(i64) -> i64) -> Result<TimestampWithTimeZone, ErrorReport> {
    if at.is_infinity() || at.is_neg_infinity() {
        return Ok(at);
    }
    TimestampWithTimeZone::try_from(f(pg_sys::TimestampTz::from(at)))
        .map_err(|_| ErrorReport::new(PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW, "timestamp out of range", "llm.bucket"))
}

#[pg_extern(sql = false)]
fn llm_bucket(at: TimestampWithTimeZone) -> Result<TimestampWithTimeZone, ErrorReport> {
    mapped(at, bucket::start)
}

#[pg_extern(sql = false)]
fn llm_next_bucket(begin: TimestampWithTimeZone) -> Result<TimestampWithTimeZone, ErrorReport> {
    mapped(begin, |at| bucket::next(bucket::start(at)))
}
