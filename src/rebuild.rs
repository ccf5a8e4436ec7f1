//! Rebuild: the one primitive behind backfill and repair, and the comparison behind verify.
//!
//! Under the fold lock, in one statement and so in one snapshot S: detail becomes log(S) + kept, and exactly the pending rows that S sees
//! are taken out. What it writes are corrections, added to every level by the statement the fold uses.

use crate::error::{Error, Result};
use crate::rollup::{self, any_sum, dimensions, list, measures, sums};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::{DETAIL, KEPT, Level};
use llm_analytics_core::measure;
use pgrx::prelude::*;
use std::sync::OnceLock;

/// What happens where the log has fewer requests than the rollup of a source, an organization and a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// An error, and nothing is changed.
    Refuse,
    /// The rollup follows the log.
    Allow,
    /// The bucket is sealed for that source and organization: its numbers stay. What backfill does.
    Seal,
}

/// Half-open, on bucket borders.
pub struct Range {
    pub from: TimestampWithTimeZone,
    pub to: TimestampWithTimeZone,
    pub organization: Option<String>,
    pub source: Option<i32>,
}

/// Rebuilds a range; how many rollup rows changed.
pub fn range(range: &Range, loss: Loss) -> Result<i64> {
    lock_logs(range.source)?;
    rollup::lock()?;
    let arguments = [
        range.from.into(),
        range.to.into(),
        range.organization.clone().into(),
        range.source.into(),
        (loss != Loss::Allow).into(),
    ];
    let (changed, fell) = Spi::connect_mut(|client| {
        let row = client.update(statement(), None, &arguments)?.first();
        Ok::<_, Error>((row.get::<i64>(1)?.unwrap_or(0), row.get::<i64>(2)?.unwrap_or(0)))
    })?;
    if fell > 0 && loss == Loss::Refuse {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the log has fewer requests than the rollup in part of the range",
        )
        .detail(format!("{fell} combinations of source, organization and bucket would lose requests."))
        .hint("Rows that were deleted with the triggers off, say. Rebuild with allow_loss => true to follow the log, or seal the range to keep its numbers."));
    }
    let mut repaired = 0;
    if loss != Loss::Seal {
        for sql in repairs() {
            repaired += Spi::connect_mut(|client| client.update(sql.as_str(), None, &arguments[..3])?.first().get::<i64>(1))?.unwrap_or(0);
        }
    }
    Ok(changed + repaired)
}

/// Waits for a TRUNCATE, DETACH or DROP that is under way, before the snapshot is taken: these are not in any snapshot, so one taken
/// before them would miss both the rows and the deltas that stand for them. Logs first, then the fold lock: whoever alters a log may
/// need the fold lock after it.
pub fn lock_logs(source: Option<i32>) -> Result<()> {
    let tables = Spi::connect_mut(|client| {
        let mut tables = Vec::new();
        for row in client.update(include_str!("../sql/query/log_tables.sql"), None, &[source.into()])? {
            tables.extend(row.get::<pg_sys::Oid>(1)?);
        }
        Ok::<_, Error>(tables)
    })?;
    for table in tables {
        // SAFETY: waits, and is released at the end of the transaction; a table that is gone by then locks nothing that matters.
        unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as i32) };
    }
    Ok(())
}

fn in_range(alias: &str) -> String {
    format!("{alias}.bucket >= $1 AND {alias}.bucket < $2")
}

/// Rows of a level as text: source, bucket, organization, dimensions, measures. Organization by organization, so that each reads its
/// own index range whatever the planner knows.
fn level_rows(level: Level) -> String {
    format!(
        "SELECT s.source, r.bucket, o.organization_id, {}, {}
         FROM llm._org o
         CROSS JOIN LATERAL (SELECT * FROM {} r WHERE r.org = o.org AND {} OFFSET 0) r
         JOIN llm.series s ON s.id = r.series
         WHERE ($3::text IS NULL OR o.organization_id = $3)",
        dimensions("s."),
        measures("r."),
        level.table(),
        in_range("r"),
    )
}

fn unsealed(alias: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM llm._seal x WHERE x.source = {alias}.source AND {alias}.bucket >= x.\"from\" AND {alias}.bucket < x.\"to\"
             AND (x.organization_id IS NULL OR x.organization_id = {alias}.organization_id))"
    )
}

/// CTEs `rows (side, source, bucket, organization_id, dimensions, measures)` of what is compared, in one snapshot. Sides: log, kept,
/// detail (rollup), pending (with its kind and ctid). `complete_only`: only what has been backfilled.
fn compared(complete_only: bool) -> String {
    let complete = |alias: &str| if complete_only { format!(" AND {alias}.bucket >= a.complete_from") } else { String::new() };
    let rows = |alias: &str| format!("{alias}.source, {alias}.bucket, {alias}.organization_id, {}, {}", dimensions(&format!("{alias}.")), measures(&format!("{alias}.")));
    format!(
        "attached AS MATERIALIZED (
             SELECT s.id, s.complete_from FROM llm.source s WHERE s.state = 'attached' AND ($4::int IS NULL OR s.id = $4)
         ), pend AS MATERIALIZED (
             SELECT p.ctid AS tid, p.kind, {p} FROM llm._pending p JOIN attached a ON a.id = p.source
             WHERE {p_range} AND ($3::text IS NULL OR p.organization_id = $3) AND p.kind IN (0, 1) AND {p_unsealed}{p_complete}
         ), log AS MATERIALIZED (
             SELECT {l} FROM attached a
             CROSS JOIN LATERAL llm._read_log(a.id, NULL, {from}, $2, $3) l
             WHERE l.kind = 0 AND {l_unsealed}{l_complete}
         ), detail AS MATERIALIZED (
             SELECT {d} FROM ({detail}) d JOIN attached a ON a.id = d.source WHERE {d_unsealed}{d_complete}
         ), kept AS MATERIALIZED (
             SELECT {d} FROM ({kept}) d JOIN attached a ON a.id = d.source WHERE {d_unsealed}{d_complete}
         )",
        p = rows("p"),
        p_range = in_range("p"),
        p_unsealed = unsealed("p"),
        p_complete = complete("p"),
        l = rows("l"),
        from = if complete_only { "greatest($1, a.complete_from)" } else { "$1" },
        l_unsealed = unsealed("l"),
        l_complete = complete("l"),
        d = rows("d"),
        detail = level_rows(DETAIL),
        kept = level_rows(KEPT),
        d_unsealed = unsealed("d"),
        d_complete = complete("d"),
    )
}

fn statement() -> &'static str {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    STATEMENT.get_or_init(|| {
        let row = |kind: &str, sign: &str| format!("SELECT {kind} AS kind, x.source, x.bucket, x.organization_id, {}, {}", dimensions("x."), list(measure::all(), ", ", |m| format!("{sign}x.{m} AS {m}")));
        let standing = "NOT EXISTS (SELECT FROM fell f WHERE f.source = x.source AND f.organization_id = x.organization_id AND f.bucket = x.bucket)";
        format!(
            "WITH {compared}
             , balance AS (
                 SELECT source, organization_id, bucket, requests FROM log
                 UNION ALL SELECT source, organization_id, bucket, requests FROM kept
                 UNION ALL SELECT source, organization_id, bucket, -requests FROM detail
                 -- Pending rows of both kinds: those shown are part of what stands now, those kept of what will.
                 UNION ALL SELECT source, organization_id, bucket, CASE kind WHEN 0 THEN -requests ELSE requests END FROM pend
             ), fell AS MATERIALIZED (
                 SELECT source, organization_id, bucket FROM balance WHERE $5 GROUP BY source, organization_id, bucket HAVING sum(requests) < 0
             ), sealed AS (
                 INSERT INTO llm._seal (source, organization_id, \"from\", \"to\", reason)
                 SELECT source, organization_id, min(bucket), max(llm._next_bucket(bucket)), 'rows gone'
                 FROM (SELECT *, count(*) FILTER (WHERE gap) OVER (PARTITION BY source, organization_id ORDER BY bucket) AS island
                       FROM (SELECT *, bucket IS DISTINCT FROM llm._next_bucket(lag(bucket) OVER (PARTITION BY source, organization_id ORDER BY bucket)) AS gap
                             FROM fell) steps) islands
                 GROUP BY source, organization_id, island
             ), gone AS MATERIALIZED (
                 DELETE FROM llm._pending p USING (SELECT x.tid FROM pend x WHERE {standing}) x WHERE p.ctid = x.tid RETURNING p.*
             ), delta AS MATERIALIZED (
                 {log} FROM log x WHERE {standing}
                 UNION ALL {kept} FROM kept x WHERE {standing}
                 UNION ALL {gone} FROM gone x WHERE x.kind = 1
                 UNION ALL {gone_kept} FROM gone x WHERE x.kind = 1
                 UNION ALL {detail} FROM detail x WHERE {standing}
             ){apply}
             SELECT (SELECT coalesce(sum(n), 0)::bigint FROM written), (SELECT count(*) FROM fell)",
            compared = compared(false),
            log = row("0", ""),
            kept = row("0", ""),
            gone = row("0", ""),
            gone_kept = row("1", ""),
            detail = row("0", "-"),
            apply = rollup::apply(),
        )
    })
}

/// One statement per coarse level that makes it the sum of detail again, where it is not, and one that removes rows without content.
fn repairs() -> &'static [String] {
    static STATEMENTS: OnceLock<Vec<String>> = OnceLock::new();
    STATEMENTS.get_or_init(|| {
        let coarse = Level::COARSE.into_iter().map(|level| {
            let shown = list(Dimension::ALL, ", ", |d| if level.keeps(d) { format!("x.{}", d.column()) } else { format!("''::text AS {}", d.column()) });
            let grouped = list(Dimension::ALL, ", ", |d| format!("x.{}", d.column()));
            format!(
                "WITH both_sides AS (
                     SELECT x.bucket, x.organization_id, {shown}, {plus} FROM ({detail}) x
                     UNION ALL
                     SELECT x.bucket, x.organization_id, {grouped}, {minus} FROM ({level_rows}) x
                 ), want_{name} AS MATERIALIZED (
                     SELECT o.org, x.bucket, 0 AS source, {grouped}, {sums}
                     FROM both_sides x JOIN llm._org o ON o.organization_id = x.organization_id
                     GROUP BY o.org, x.bucket, {grouped} HAVING {any}
                 ){write}
                 SELECT count(*) FROM up_{name}",
                plus = measures("x."),
                minus = list(measure::all(), ", ", |m| format!("-x.{m}")),
                detail = level_rows(DETAIL),
                level_rows = level_rows(level),
                name = level.name,
                sums = sums("", "x."),
                any = any_sum("x."),
                write = rollup::write_level(level),
            )
        });
        let empty = list(measure::all(), " AND ", |m| format!("r.{m} = 0"));
        let clean = format!(
            "WITH gone AS (DELETE FROM llm.rollup r USING llm._org o
                 WHERE o.org = r.org AND {} AND ($3::text IS NULL OR o.organization_id = $3) AND {empty} RETURNING 1)
             SELECT count(*) FROM gone",
            in_range("r")
        );
        coarse.chain([clean]).collect()
    })
}

/// What verify compares: `(source, organization_id, bucket, level, series, measure, expected, actual)` of every difference.
pub fn differences() -> &'static str {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    STATEMENT.get_or_init(|| {
        let key = format!("source, bucket, organization_id, {}", dimensions(""));
        let x_key = format!("x.source, x.bucket, x.organization_id, {}", dimensions("x."));
        let series = format!("jsonb_strip_nulls(jsonb_build_object({}))", list(Dimension::ALL, ", ", |d| format!("'{0}', nullif(c.{0}, '')", d.column())));
        let columns = list(measure::all(), ", ", |m| format!("e_{m}, a_{m}"));
        let side = |expected: bool| list(measure::all(), ", ", |m| if expected { format!("x.{m} AS e_{m}, 0 AS a_{m}") } else { format!("0 AS e_{m}, x.{m} AS a_{m}") });
        let both = list(measure::all(), ", ", |m| format!("sum(e_{m}) AS e_{m}, sum(a_{m}) AS a_{m}"));
        let values = list(measure::all(), ", ", |m| format!("('{m}', e_{m}::numeric, a_{m}::numeric)"));
        // Pending rows of detail count as what stands, pending kept ones as what is expected.
        let mut sides = format!(
            "SELECT 'detail' AS level, {x_key}, {e} FROM (SELECT {key}, {m} FROM log UNION ALL SELECT {key}, {m} FROM kept UNION ALL SELECT {key}, {m} FROM pend WHERE kind = 1) x
             UNION ALL
             SELECT 'detail', {x_key}, {a} FROM (SELECT {key}, {m} FROM detail UNION ALL SELECT {key}, {m} FROM pend WHERE kind = 0) x",
            m = measures(""),
            e = side(true),
            a = side(false),
        );
        for level in Level::COARSE {
            let shown = list(Dimension::ALL, ", ", |d| if level.keeps(d) { format!("x.{}", d.column()) } else { "''".into() });
            sides.push_str(&format!(
                " UNION ALL SELECT '{name}', NULL::int, x.bucket, x.organization_id, {shown}, {e} FROM ({detail}) x
                  UNION ALL SELECT '{name}', NULL::int, x.bucket, x.organization_id, {all}, {a} FROM ({rows}) x",
                name = level.name,
                all = dimensions("x."),
                e = side(true),
                a = side(false),
                detail = level_rows(DETAIL),
                rows = level_rows(level),
            ));
        }
        format!(
            "WITH {compared}, sides AS ({sides}), compared AS (
                 SELECT level, {key}, {both} FROM sides GROUP BY level, {key}
             )
             SELECT quote_ident(src.relation_schema) || '.' || quote_ident(src.relation_name), c.organization_id, c.bucket, c.level, {series}, v.measure, v.expected, v.actual
             FROM (SELECT level, {key}, {columns} FROM compared) c
             LEFT JOIN llm.source src ON src.id = c.source
             CROSS JOIN LATERAL (VALUES {values}) v (measure, expected, actual)
             WHERE v.expected <> v.actual
             ORDER BY 3, 2, 4, 5, 6",
            compared = compared(true),
        )
    })
}
