//! The one statement that adds deltas to every level of the rollup. Fold and rebuild differ only in where the deltas come from.
//!
//! SQL is put together from the closed lists of levels, dimensions and measures in `core`, never from data.

use crate::error::{Error, Result};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::{Level, DETAIL, KEPT};
use llm_analytics_core::measure;
use pgrx::prelude::*;

/// One at a time: waits for whoever writes rollups now. A table lock, because any role could take an advisory lock.
pub fn lock() -> Result<()> {
    Spi::run("LOCK TABLE llm._fold_lock IN EXCLUSIVE MODE").map_err(Error::from)
}

/// `f(x)` for each item, joined.
pub fn list<T>(items: impl IntoIterator<Item = T>, separator: &str, f: impl Fn(T) -> String) -> String {
    items.into_iter().map(f).collect::<Vec<_>>().join(separator)
}

/// `prefix.project_id, prefix.api_key_id, ..`
pub fn dimensions(prefix: &str) -> String {
    list(Dimension::ALL, ", ", |d| format!("{prefix}{}", d.column()))
}

/// `prefix.requests, ..`
pub fn measures(prefix: &str) -> String {
    list(measure::all(), ", ", |m| format!("{prefix}{m}"))
}

/// `sum(sign prefix.requests) AS requests, ..`; sums of counts stay bigint.
pub fn sums(sign: &str, prefix: &str) -> String {
    let counts = list(measure::COUNTS, ", ", |m| format!("sum({sign}{prefix}{m})::bigint AS {m}"));
    let amounts = list(measure::AMOUNTS, ", ", |m| format!("sum({sign}{prefix}{m}) AS {m}"));
    format!("{counts}, {amounts}")
}

/// True where a group's sums are not all zero.
pub fn any_sum(prefix: &str) -> String {
    list(measure::all(), " OR ", |m| format!("sum({prefix}{m}) <> 0"))
}

/// CTEs that follow `delta (kind, source, bucket, organization_id, dimensions, measures)` and add it to all levels; the last is
/// `written (n)`, one row per level.
pub fn apply() -> String {
    let all = dimensions("d.");
    let mut sql = format!(
        ", org_new AS (
             INSERT INTO llm._org (organization_id)
             SELECT DISTINCT d.organization_id FROM delta d
             WHERE NOT EXISTS (SELECT FROM llm._org o WHERE o.organization_id = d.organization_id)
             RETURNING org, organization_id
         ), orgs AS (
             SELECT org, organization_id FROM llm._org UNION ALL SELECT org, organization_id FROM org_new
         ), keyed AS MATERIALIZED (
             SELECT o.org, d.kind, d.source, d.bucket, {all}, {sums}
             FROM delta d JOIN orgs o ON o.organization_id = d.organization_id
             WHERE d.kind IN (0, 1)
             GROUP BY o.org, d.kind, d.source, d.bucket, {all}
             HAVING {any}
         )",
        sums = sums("", "d."),
        any = any_sum("d."),
    );
    for level in Level::EVERY {
        sql.push_str(&apply_level(level));
    }
    sql.push_str(&format!(
        ", written AS ({})",
        list(Level::EVERY, " UNION ALL ", |level| format!("SELECT count(*) AS n FROM up_{}", level.name))
    ));
    sql
}

/// `want_L` (org, bucket, source, dimensions, measures), then the series and rows of level L.
fn apply_level(level: Level) -> String {
    let kind = if level == KEPT { 1 } else { 0 };
    let kept = |d: Dimension| level.keeps(d);
    let columns = list(Dimension::ALL, ", ", |d| if kept(d) { format!("k.{0}", d.column()) } else { format!("''::text AS {}", d.column()) });
    let groups = list(level.dimensions, "", |d| format!(", k.{}", d.column()));
    let (source, by_source) = if level.by_source { ("k.source", ", k.source") } else { ("0 AS source", "") };
    let rows = if level == DETAIL || level == KEPT {
        format!("SELECT k.org, k.bucket, k.source, {}, {} FROM keyed k WHERE k.kind = {kind}", dimensions("k."), measures("k."))
    } else {
        format!(
            "SELECT k.org, k.bucket, {source}, {columns}, {sums} FROM keyed k WHERE k.kind = {kind}
             GROUP BY k.org, k.bucket{by_source}{groups} HAVING {any}",
            sums = sums("", "k."),
            any = any_sum("k."),
        )
    };
    format!(", want_{name} AS MATERIALIZED ({rows}){write}", name = level.name, write = write_level(level))
}

/// From `want_L` to the level's series and rows.
pub fn write_level(level: Level) -> String {
    let name = level.name;
    let (id, table) = (level.id, level.table());
    let same_series = |side: &str| format!("{side}.org = w.org AND {side}.source = w.source AND {}", list(Dimension::ALL, " AND ", |d| format!("{side}.{0} = w.{0}", d.column())));
    format!(
        ", new_{name} AS (
             INSERT INTO llm.series (org, level, source, {dimensions})
             SELECT DISTINCT w.org, {id}::smallint, w.source, {w_dimensions} FROM want_{name} w
             WHERE NOT EXISTS (SELECT FROM llm.series s WHERE s.level = {id} AND {same_s})
             RETURNING id, org, source, {dimensions}
         ), up_{name} AS (
             INSERT INTO {table} AS r (org, series, bucket, level, {measures})
             SELECT w.org, coalesce(s.id, n.id), w.bucket, {id}::smallint, {w_measures}
             FROM want_{name} w
             LEFT JOIN llm.series s ON s.level = {id} AND {same_s}
             LEFT JOIN new_{name} n ON {same_n}
             ORDER BY w.org, w.bucket, 2
             ON CONFLICT (org, bucket, series) DO UPDATE SET {updates}
             RETURNING 1
         )",
        dimensions = dimensions(""),
        w_dimensions = dimensions("w."),
        measures = measures(""),
        w_measures = measures("w."),
        same_s = same_series("s"),
        same_n = same_series("n"),
        updates = list(measure::all(), ", ", |m| format!("{m} = r.{m} + EXCLUDED.{m}")),
    )
}
