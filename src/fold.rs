//! The fold: pending deltas into the rollups. One transaction deletes deltas and adds them up, so MVCC makes it exactly once.

use crate::error::{Error, Result};
use crate::rollup;
use pgrx::prelude::*;
use std::sync::OnceLock;

/// Folds at most `limit` pending rows; how many it took.
pub fn batch(limit: i64) -> Result<i64> {
    rollup::lock()?;
    // After the lock: statements that write take a new snapshot, so everything the holder before us did is seen.
    Spi::connect_mut(|client| {
        let row = client.update(statement(), None, &[limit.into()])?.first();
        Ok(row.get::<i64>(1)?.unwrap_or(0))
    })
}

/// Folds everything that is pending, in batches, in this transaction; how many rows it took.
pub fn everything(limit: i64) -> Result<i64> {
    let started = std::time::Instant::now();
    let mut total = 0;
    loop {
        let folded = batch(limit)?;
        total += folded;
        if folded < limit {
            record(total, started.elapsed())?;
            return Ok(total);
        }
    }
}

/// For `llm.status`.
pub fn record(rows: i64, took: std::time::Duration) -> Result<()> {
    if rows == 0 {
        return Ok(());
    }
    let milliseconds = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    Spi::run_with_args(include_str!("../sql/query/record_fold.sql"), &[rows.into(), milliseconds.into()]).map_err(Error::from)
}

fn statement() -> &'static str {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    STATEMENT.get_or_init(|| {
        format!(
            "WITH delta AS MATERIALIZED (
                 DELETE FROM llm._pending WHERE ctid = ANY (ARRAY(SELECT p.ctid FROM llm._pending p LIMIT $1)) RETURNING *
             ), skipped AS (
                 UPDATE llm.source s SET skipped_values = s.skipped_values + d.n
                 FROM (SELECT source, sum(requests)::bigint AS n FROM delta WHERE kind = 2 GROUP BY source) d WHERE s.id = d.source
             ){apply}
             SELECT (SELECT count(*) FROM delta) FROM (SELECT sum(n) FROM written) w",
            apply = rollup::apply(),
        )
    })
}
