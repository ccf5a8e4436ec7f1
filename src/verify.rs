//! Verify: rollups and pending rows against the logs, in one snapshot, as one statement.

use crate::rollup::{dimensions, list, measures};
use llm_analytics_core::dimension::Dimension;
use llm_analytics_core::level::{DETAIL, KEPT, Level};
use llm_analytics_core::measure;
use std::sync::OnceLock;

/// The SQL: $1 from, $2 to, $3 organization or all. Each row is a difference: source, organization_id, bucket, level, series, measure,
/// expected, actual.
pub fn differences() -> &'static str {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    STATEMENT.get_or_init(|| {
        let key = format!("source, bucket, organization_id, {}", dimensions(""));
        let series = list(Dimension::ALL, ", ", |d| format!("'{0}', nullif(c.{0}, '')", d.column()));
        let both = list(measure::all(), ", ", |m| {
            format!("sum({m}) FILTER (WHERE expected) AS e_{m}, sum({m}) FILTER (WHERE NOT expected) AS a_{m}")
        });
        let values = list(measure::all(), ", ", |m| format!("('{m}', coalesce(c.e_{m}, 0)::numeric, coalesce(c.a_{m}, 0)::numeric)"));
        let differ = list(measure::all(), " OR ", |m| {
            format!("sum({m}) FILTER (WHERE expected) IS DISTINCT FROM sum({m}) FILTER (WHERE NOT expected)")
        });
        format!(
            "WITH {compared}, sides AS ({sides}), compared AS (
                 SELECT level, {key}, {both} FROM sides GROUP BY level, {key} HAVING {differ}
             )
             SELECT quote_ident(src.relation_schema) || '.' || quote_ident(src.relation_name), c.organization_id, c.bucket, c.level,
                    jsonb_strip_nulls(jsonb_build_object({series})), v.measure, v.expected::text, v.actual::text
             FROM compared c
             LEFT JOIN llm.source src ON src.id = c.source
             CROSS JOIN LATERAL (VALUES {values}) v (measure, expected, actual)
             WHERE v.expected <> v.actual
             ORDER BY 3, 2, 4, 5, 6",
            compared = compared(),
            sides = sides(),
        )
    })
}

/// CTEs of what is compared: only attached sources, only what is complete, nothing that is sealed.
fn compared() -> String {
    let columns = |alias: &str| {
        format!(
            "{alias}.source, {alias}.bucket, {alias}.organization_id, {}, {}",
            dimensions(&format!("{alias}.")),
            measures(&format!("{alias}."))
        )
    };
    let counted = |alias: &str| {
        format!(
            "{alias}.bucket >= a.complete_from AND {alias}.bucket >= $1 AND {alias}.bucket < $2 AND ($3::text IS NULL OR {alias}.organization_id = $3)
             AND NOT EXISTS (SELECT FROM llm._seal x WHERE x.source = {alias}.source AND {alias}.bucket >= x.\"from\" AND {alias}.bucket < x.\"to\"
                 AND (x.organization_id IS NULL OR x.organization_id = {alias}.organization_id))"
        )
    };
    format!(
        "attached AS MATERIALIZED (
             SELECT s.id, s.complete_from FROM llm.source s WHERE s.state = 'attached'
         ), pend AS MATERIALIZED (
             SELECT p.kind, {p} FROM llm._pending p JOIN attached a ON a.id = p.source WHERE p.kind IN (0, 1) AND {p_counted}
         ), log AS MATERIALIZED (
             SELECT {l} FROM attached a CROSS JOIN LATERAL llm._read_log(a.id, NULL, greatest($1, a.complete_from), $2, $3) l
             WHERE l.kind = 0 AND {l_counted}
         ), detail AS MATERIALIZED (
             SELECT {d} FROM ({detail}) d JOIN attached a ON a.id = d.source WHERE {d_counted}
         ), kept AS MATERIALIZED (
             SELECT {d} FROM ({kept}) d JOIN attached a ON a.id = d.source WHERE {d_counted}
         )",
        p = columns("p"),
        p_counted = counted("p"),
        l = columns("l"),
        l_counted = counted("l"),
        d = columns("d"),
        d_counted = counted("d"),
        detail = level_rows(DETAIL),
        kept = level_rows(KEPT),
    )
}

/// What is expected and what there is, level by level: pending rows of detail count as what there is, pending kept ones as expected.
fn sides() -> String {
    let key = format!("source, bucket, organization_id, {}", dimensions(""));
    let mut sides = format!(
        "SELECT 'detail' AS level, true AS expected, {key}, {m} FROM log
         UNION ALL SELECT 'detail', true, {key}, {m} FROM kept
         UNION ALL SELECT 'detail', true, {key}, {m} FROM pend WHERE kind = 1
         UNION ALL SELECT 'detail', false, {key}, {m} FROM detail
         UNION ALL SELECT 'detail', false, {key}, {m} FROM pend WHERE kind = 0",
        m = measures(""),
    );
    for level in Level::COARSE {
        let shown = list(Dimension::ALL, ", ", |d| if level.keeps(d) { format!("x.{}", d.column()) } else { "''".into() });
        for (expected, from, columns) in [(true, DETAIL, shown), (false, level, dimensions("x."))] {
            sides.push_str(&format!(
                " UNION ALL SELECT '{}', {expected}, NULL::int, x.bucket, x.organization_id, {columns}, {} FROM ({}) x
                  WHERE x.bucket >= $1 AND x.bucket < $2 AND ($3::text IS NULL OR x.organization_id = $3)",
                level.name,
                measures("x."),
                level_rows(from),
            ));
        }
    }
    sides
}

fn level_rows(level: Level) -> String {
    format!(
        "SELECT s.source, r.bucket, o.organization_id, {}, {} FROM {} r JOIN llm.series s ON s.id = r.series JOIN llm._org o ON o.org = r.org",
        dimensions("s."),
        measures("r."),
        level.table(),
    )
}
