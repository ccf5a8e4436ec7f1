//! The oracle: every number computed by plain SQL over the log and over what the test itself kept of deleted rows.
//! It shares nothing with the extension: no bucket, no rollup, `AT TIME ZONE` row by row.

use crate::db::{json, quote, run};
use crate::decimal::Decimal;
use crate::model::Log;
use postgres::Client;
use serde_json::Value;
use std::collections::BTreeMap;

pub const ZONES: [&str; 3] = ["Asia/Kolkata", "Asia/Kathmandu", "America/New_York"];

/// (name in the request, key over `o`, is somebody's)
pub const GROUPS: [(&str, &str, bool); 8] = [
    ("model", "canonical", false),
    ("mapping", "shown_mapping", false),
    ("provider", "provider", false),
    ("project", "project", true),
    ("apiKey", "key", true),
    ("user", "usr", true),
    ("application", "app", false),
    ("mode", "mode", false),
];

/// "One reading of a log row", in SQL.
const READING: &str = "
    CREATE SCHEMA oracle;
    CREATE FUNCTION oracle.money(x numeric) RETURNS numeric IMMUTABLE RETURN
        CASE WHEN x IS NULL OR x IN ('NaN', 'Infinity', '-Infinity') OR abs(x) >= 1e15 THEN 0 ELSE trim_scale(round(x, 30)) END;
    CREATE FUNCTION oracle.tokens(x numeric) RETURNS numeric IMMUTABLE RETURN
        CASE WHEN x IS NULL OR x IN ('NaN', 'Infinity', '-Infinity') OR abs(x) >= 1e15 THEN 0 ELSE round(x) END;
    CREATE FUNCTION oracle.tokens(x double precision) RETURNS numeric IMMUTABLE RETURN
        CASE WHEN x IS NULL OR x IN ('NaN', 'Infinity', '-Infinity') OR abs(x) >= 1e15 THEN 0 ELSE x::bigint END;
    -- a long name may be cut in any way that keeps it apart from others
    CREATE FUNCTION oracle.dim(x text) RETURNS text IMMUTABLE RETURN nullif(x, '');
    CREATE FUNCTION oracle.short(x text) RETURNS text IMMUTABLE RETURN
        CASE WHEN octet_length(x) > 200 OR x ILIKE 'Long %' OR x LIKE 'mmmmmmmmmm%' OR x LIKE 'long/m%' OR x LIKE '%/long/m%'
             THEN '~' || left(x, 12) ELSE x END;
    CREATE FUNCTION oracle.canonical(x text) RETURNS text IMMUTABLE RETURN
        split_part(CASE WHEN position('/' in x) > 0 THEN substr(x, position('/' in x) + 1) ELSE x END, ':', 1);
    CREATE FUNCTION oracle.bucket(t timestamptz) RETURNS timestamptz STABLE RETURN (
        SELECT max(c) FROM (
            SELECT date_trunc('hour', t, 'UTC') UNION ALL
            SELECT date_trunc('day', t, 'UTC') + cut::interval
            FROM unnest('{2:30,3:30,9:30,10:15,11:15,13:30,14:30,15:15,17:30,18:15,18:30,19:30,20:30}'::text[]) cut) x(c)
        WHERE c <= t);";

fn reading(log: Log, from: &str) -> String {
    let columns = match log {
        Log::Canonical => "created_at AS at, organization_id AS org, project_id AS project, api_key_id AS key, user_id AS usr, model AS mapping,
            provider, application AS app, mode, oracle.tokens(input_tokens::numeric) AS tin, oracle.tokens(output_tokens::numeric) AS tout,
            oracle.tokens(input_tokens::numeric) + oracle.tokens(output_tokens::numeric) AS tall, oracle.tokens(reasoning_tokens::numeric) AS treason, 0::numeric AS tcached,
            oracle.money(cost) AS cost, oracle.money(input_cost) AS cost_in, oracle.money(request_cost) AS cost_request,
            is_error AND is_client_error IS NOT TRUE AS error, is_client_error AS client_error, is_cached AS cached,
            is_streamed AS streamed, is_canceled AS canceled, duration_ms::numeric AS ms, time_to_first_token_ms::numeric AS first_ms",
        Log::Partitioned => "at, org, project_id AS project, key, member AS usr, model AS mapping, provider, lower(app) AS app, mode,
            oracle.tokens(tin) AS tin, oracle.tokens(tout) AS tout, oracle.tokens(tall) AS tall, 0::numeric AS treason, 0::numeric AS tcached,
            oracle.money(spend) AS cost, oracle.money(price / 2) AS cost_in, 0::numeric AS cost_request,
            status >= 500 AS error, status BETWEEN 400 AND 499 AS client_error, cache = 'True' AS cached,
            false AS streamed, false AS canceled, ms::numeric AS ms, NULL::numeric AS first_ms",
        Log::Gateway => "created_at AT TIME ZONE 'UTC' AS at, organization_id AS org, project_id AS project, api_key_id AS key,
            (SELECT k.user_id FROM llm.api_key k WHERE k.id = api_key_id) AS usr, used_model AS mapping, used_provider AS provider, source AS app,
            used_mode AS mode, oracle.tokens(prompt_tokens) AS tin, oracle.tokens(completion_tokens) AS tout,
            oracle.tokens(total_tokens) AS tall, 0::numeric AS treason, oracle.tokens(cached_tokens) AS tcached,
            oracle.money(cost::text::numeric) AS cost, oracle.money(input_cost::text::numeric) AS cost_in, 0::numeric AS cost_request,
            CASE WHEN unified_finish_reason IS NULL THEN has_error ELSE unified_finish_reason IN ('gateway_error', 'upstream_error') END AS error,
            unified_finish_reason = 'client_error' AS client_error, cached, streamed, canceled, duration::numeric AS ms, time_to_first_token::numeric AS first_ms",
    };
    format!("SELECT {columns} FROM {from}")
}

/// Creates the logs' kept tables and the view of all rows that count.
pub fn install(client: &mut Client, logs: &[Log]) {
    run(client, READING);
    let mut all = Vec::new();
    for log in logs {
        run(client, &format!("CREATE TABLE {} (LIKE {}, batch text)", log.kept(), log.table()));
        all.push(reading(*log, log.table()));
        all.push(reading(*log, log.kept()));
    }
    run(
        client,
        &format!(
            "CREATE VIEW oracle.rows AS SELECT at, coalesce(oracle.dim(org), 'unknown') AS org, oracle.short(oracle.dim(project)) AS project,
                oracle.short(oracle.dim(key)) AS key, oracle.short(oracle.dim(usr)) AS usr, oracle.dim(mapping) AS mapping,
                oracle.short(oracle.canonical(oracle.dim(mapping))) AS canonical,
                oracle.short(CASE WHEN mapping LIKE '%/%' THEN mapping ELSE coalesce(oracle.dim(provider) || '/', '') || oracle.dim(mapping) END) AS shown_mapping,
                oracle.short(oracle.dim(provider)) AS provider, oracle.short(oracle.dim(app)) AS app, oracle.short(oracle.dim(mode)) AS mode,
                tin, tout, tall, treason, tcached, cost, cost_in, cost_request, coalesce(error, false) AS error,
                coalesce(client_error, false) AS client_error, coalesce(cached, false) AS cached, coalesce(streamed, false) AS streamed,
                coalesce(canceled, false) AS canceled, ms, first_ms,
                project AS raw_project, key AS raw_key, usr AS raw_usr
             FROM ({}) r WHERE isfinite(at)",
            all.join(" UNION ALL ")
        ),
    );
}

/// Opens one snapshot in which the log and the answers are compared. The lock comes before the snapshot: TRUNCATE is not MVCC-safe.
pub fn begin_snapshot(client: &mut Client, logs: &[Log]) {
    let tables: Vec<&str> = logs.iter().map(|log| log.table()).collect();
    run(client, &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE {} IN ACCESS SHARE MODE", tables.join(", ")));
    run(client, "CREATE TEMP TABLE o ON COMMIT DROP AS SELECT * FROM oracle.rows");
}

/// cost, requestCount, inputTokens, outputTokens, totalTokens, errorCount, clientErrorCount, errorRate, cacheCount, cacheRate
type Measures = Vec<String>;
pub const M: [&str; 10] = [
    "cost",
    "requestCount",
    "inputTokens",
    "outputTokens",
    "totalTokens",
    "errorCount",
    "clientErrorCount",
    "errorRate",
    "cacheCount",
    "cacheRate",
];
pub const MEASURES: &str = "trim_scale(coalesce(sum(cost), 0))::text, count(*)::text, coalesce(sum(tin), 0)::text, coalesce(sum(tout), 0)::text, coalesce(sum(tall), 0)::text,
    (count(*) FILTER (WHERE error))::text, (count(*) FILTER (WHERE client_error))::text,
    trim_scale(coalesce(round(100.0 * count(*) FILTER (WHERE error) / nullif(count(*) - count(*) FILTER (WHERE client_error), 0), 4), 0))::text,
    (count(*) FILTER (WHERE cached))::text, trim_scale(coalesce(round(100.0 * count(*) FILTER (WHERE cached) / nullif(count(*), 0), 4), 0))::text";

/// What a question is about.
#[derive(Clone, Debug)]
pub struct Question {
    pub org: String,
    pub from: String,
    pub to: String,
    pub project: Option<String>,
    pub key: Option<String>,
    pub user: Option<String>,
}

type Cell = (String, Option<String>); // date ("" is the whole range), key

/// All cells, days, keys and the summary of one question, in one pass over the log.
fn expected(client: &mut Client, zone: &str, key: &str, q: &Question) -> (BTreeMap<Cell, Measures>, BTreeMap<String, Measures>) {
    let filter = |column: &str, value: &Option<String>| value.as_ref().map_or(String::new(), |v| format!("AND {column} = {} ", quote(v)));
    let sql = format!(
        "SELECT grouping(d)::text, grouping(k)::text, coalesce(d::text, ''), k, {MEASURES}
         FROM (SELECT (at AT TIME ZONE {z})::date AS d, {key} AS k, o.* FROM o
               WHERE org = {org} {p}{a}{u}) x
         WHERE d BETWEEN '{from}' AND '{to}' GROUP BY GROUPING SETS ((d, k), (d), (k), ())",
        z = quote(zone),
        org = quote(&q.org),
        p = filter("raw_project", &q.project),
        a = filter("raw_key", &q.key),
        u = filter("raw_usr", &q.user),
        from = q.from,
        to = q.to,
    );
    let (mut cells, mut totals) = (BTreeMap::new(), BTreeMap::new());
    for row in client.query(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}")) {
        let measures: Measures = (4..14).map(|i| row.get::<_, String>(i)).collect();
        let date: String = row.get(2);
        if row.get::<_, &str>(1) == "1" {
            totals.insert(date, measures);
        } else {
            cells.insert((date, row.get(3)), measures);
        }
    }
    (cells, totals)
}

fn short(key: Option<String>) -> Option<String> {
    key.map(|k| {
        let long = k.len() > 200
            || k.to_lowercase().starts_with("long ")
            || k.starts_with("mmmmmmmmmm")
            || k.starts_with("long/m")
            || k.contains("/long/m");
        if long { format!("~{}", k.chars().take(12).collect::<String>()) } else { k }
    })
}

/// One number of an answer, as its exact text; rates lose trailing zeros, which their rounding may leave.
fn number(value: &Value, name: &str) -> String {
    let text = match &value[name] {
        Value::Number(n) => n.to_string(),
        other => panic!("{name} is {other}, not a number"),
    };
    if name.ends_with("Rate") && text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Names may have been cut: cells whose names became the same to the test are added up.
fn add(one: &str, other: &str) -> String {
    Decimal::parse(one).plus(Decimal::parse(other)).to_string()
}

fn put(map: &mut BTreeMap<Cell, Measures>, cell: Cell, measures: Measures, context: &str) {
    let cut = cell.1.as_ref().is_some_and(|k| k.starts_with('~'));
    match map.get(&cell).cloned() {
        None => {
            map.insert(cell, measures);
        }
        Some(there) => {
            assert!(cut, "{context}: {cell:?} comes twice");
            let sum = there.iter().zip(&measures).map(|(a, b)| if a.is_empty() { String::new() } else { add(a, b) }).collect();
            map.insert(cell, sum);
        }
    }
}

/// Measures that can be added up: rates of merged cells are left out of the comparison.
fn same(name: &str, cell: &Cell, expected: &Measures, got: &Measures, at: &[usize], context: &str) {
    for i in at {
        let merged = cell.1.as_ref().is_some_and(|k| k.starts_with('~')) && M[*i].ends_with("Rate");
        assert!(merged || expected[*i] == got[*i], "{context}\n{name} {cell:?}: {} is {}, the log says {}", M[*i], got[*i], expected[*i]);
    }
}

const ALL: [usize; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const WITHOUT_RATES: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 8];
const SLIM: [usize; 3] = [0, 1, 4];

/// `llm.activity` and `llm.analytics_activity` against the log, for one zone and one group_by.
pub fn check(client: &mut Client, zone: &str, group: usize, q: &Question) {
    let (name, key, owned) = GROUPS[group];
    let context = format!("group_by {name} in {zone}, {q:?}");
    let (cells, totals) = expected(client, zone, key, q);
    check_rows(client, zone, name, q, &cells, &context);
    let answer = json(
        client,
        "SELECT llm.analytics_activity($1, $2, $3::text::date, $4::text::date, $5, $6, $7, $8)::text",
        &[&q.org, &name, &q.from, &q.to, &zone, &q.project, &q.key, &q.user],
    );
    for (field, wanted) in [("groupBy", name), ("from", &q.from), ("to", &q.to), ("timezone", zone)] {
        assert_eq!(answer[field], wanted, "{context}: {field}");
    }
    assert!(answer["incompleteBefore"].is_null(), "{context}: {}", answer["incompleteBefore"]);
    let zero: Measures = vec!["0".to_owned(); 10];
    let measures = |value: &Value| -> Measures { M.iter().map(|m| number(value, m)).collect() };
    same("summary", &(String::new(), None), totals.get("").unwrap_or(&zero), &measures(&answer["summary"]), &ALL, &context);

    let mut got = BTreeMap::new();
    for entry in answer["breakdown"].as_array().expect("breakdown") {
        check_entry(entry, owned, &context);
        put(&mut got, (String::new(), short(entry["key"].as_str().map(str::to_owned))), measures(entry), &context);
    }
    sorted(&answer["breakdown"], &context);
    let mut days = Vec::new();
    for day in answer["activity"].as_array().expect("activity") {
        let date = day["date"].as_str().expect("date").to_owned();
        same("day", &(date.clone(), None), totals.get(&date).unwrap_or(&zero), &measures(day), &ALL, &context);
        for entry in day["breakdown"].as_array().expect("breakdown of a day") {
            check_entry(entry, owned, &context);
            let mut slim = zero.clone();
            for i in SLIM {
                slim[i] = number(entry, M[i]);
            }
            put(&mut got, (date.clone(), short(entry["key"].as_str().map(str::to_owned))), slim, &context);
        }
        sorted(&day["breakdown"], &context);
        days.push(date);
    }
    let wanted: Vec<String> = client
        .query(
            "SELECT d::date::text FROM generate_series($1::text::date, $2::text::date, interval '1 day') d ORDER BY 1",
            &[&q.from, &q.to],
        )
        .expect("days")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(days, wanted, "{context}: every day once, in order");
    for (cell, wanted) in &cells {
        let Some(found) = got.get(cell) else { panic!("{context}\nmissing in the answer: {cell:?} {wanted:?}") };
        same("entry", cell, wanted, found, if cell.0.is_empty() { &ALL } else { &SLIM }, &context);
    }
    for (cell, found) in &got {
        assert!(cells.contains_key(cell), "{context}\nnot in the log: {cell:?} {found:?}");
    }
}

fn check_rows(client: &mut Client, zone: &str, name: &str, q: &Question, cells: &BTreeMap<Cell, Measures>, context: &str) {
    let sql =
        "SELECT date::text, key, trim_scale(cost)::text, request_count::text, input_tokens::text, output_tokens::text, total_tokens::text,
            error_count::text, client_error_count::text, cache_count::text, label
        FROM llm.activity($1, $2, $3::text::date, $4::text::date, $5, $6, $7, $8)";
    let rows = client
        .query(sql, &[&q.org, &name, &q.from, &q.to, &zone, &q.project, &q.key, &q.user])
        .unwrap_or_else(|e| panic!("{context}: {e:?}"));
    let mut got = BTreeMap::new();
    let mut idle = Vec::new();
    for row in &rows {
        let mut measures: Measures = (2..9).map(|i| row.get(i)).collect();
        measures.push(String::new()); // errorRate
        measures.push(row.get(9));
        measures.push(String::new()); // cacheRate
        let (date, key, label): (String, Option<String>, Option<String>) = (row.get(0), row.get(1), row.get(10));
        if label.is_none() {
            assert!(key.is_none() && measures.iter().all(|m| m.is_empty() || m == "0"), "{context}: idle day {measures:?}");
            idle.push(date);
        } else {
            put(&mut got, (date, short(key)), measures, context);
        }
    }
    let per_day: BTreeMap<&Cell, &Measures> = cells.iter().filter(|(cell, _)| !cell.0.is_empty()).collect();
    for (cell, wanted) in &per_day {
        let Some(found) = got.get(*cell) else { panic!("{context}\nmissing in llm.activity: {cell:?} {wanted:?}") };
        same("llm.activity", cell, wanted, found, &WITHOUT_RATES, context);
    }
    for (cell, found) in &got {
        assert!(per_day.contains_key(cell), "{context}\nllm.activity has what the log has not: {cell:?} {found:?}");
    }
    for date in idle {
        assert!(!per_day.keys().any(|cell| cell.0 == date), "{context}: {date} is not idle");
    }
}

fn check_entry(entry: &Value, owned: bool, context: &str) {
    let label = entry["label"].as_str().unwrap_or_else(|| panic!("{context}: label of {entry}"));
    if entry["key"].is_null() {
        let (wanted, kind) = if owned { ("Unattributed", Some("unattributed")) } else { ("unknown", None) };
        assert_eq!(label, wanted, "{context}");
        if kind.is_some() {
            assert_eq!(entry["kind"].as_str(), kind, "{context}: {entry}");
        }
        return;
    }
    let key = entry["key"].as_str().expect("key");
    let wanted = match key {
        "p1" | "p2" => "Production API",
        "p3" => "Another",
        "k1" | "g1" => "laptop",
        "u1" => "Ada",
        key => key,
    };
    assert_eq!(label, wanted, "{context}: label of {key}");
}

/// Entries are sorted by cost, highest first.
fn sorted(entries: &Value, context: &str) {
    let costs: Vec<Decimal> = entries.as_array().expect("entries").iter().map(|e| Decimal::parse(&number(e, "cost"))).collect();
    assert!(costs.is_sorted_by(|a, b| a >= b), "{context}: entries are not sorted by cost: {costs:?}");
}

/// `llm.usage` against the log: every measure of every bucket, and the buckets themselves.
pub fn check_usage(client: &mut Client) {
    let sql = "WITH a AS (
            SELECT bucket, organization_id AS org, oracle.short(nullif(project_id, '')) AS project, oracle.short(nullif(api_key_id, '')) AS key,
                oracle.short(nullif(provider, '')) AS provider, oracle.short(nullif(application, '')) AS app, nullif(mode, '') AS mode,
                sum(requests) AS requests, sum(errors), sum(client_errors), sum(cache_hits), sum(streamed), sum(canceled), sum(input_tokens), sum(output_tokens),
                sum(total_tokens), sum(reasoning_tokens), sum(cached_tokens), sum(duration_ms), sum(duration_count), sum(time_to_first_token_ms),
                sum(time_to_first_token_count), sum(cost), sum(input_cost), sum(request_cost)
            FROM llm.usage GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(requests) <> 0),
        e AS (
            SELECT oracle.bucket(at), org, project, key, provider, app, mode, count(*), count(*) FILTER (WHERE error), count(*) FILTER (WHERE client_error),
                count(*) FILTER (WHERE cached), count(*) FILTER (WHERE streamed), count(*) FILTER (WHERE canceled), sum(tin), sum(tout), sum(tall),
                sum(treason), sum(tcached), coalesce(sum(oracle.tokens(ms)), 0), count(ms), coalesce(sum(oracle.tokens(first_ms)), 0), count(first_ms),
                sum(cost), sum(cost_in), sum(cost_request)
            FROM o GROUP BY 1, 2, 3, 4, 5, 6, 7)
        SELECT 'not in the log', x::text FROM (TABLE a EXCEPT ALL TABLE e) x UNION ALL SELECT 'not in llm.usage', x::text FROM (TABLE e EXCEPT ALL TABLE a) x LIMIT 10";
    let different = crate::db::rows(client, sql);
    assert!(different.is_empty(), "llm.usage differs from the log:\n{different:#?}");
}

pub fn check_verify(client: &mut Client) {
    let different = crate::db::rows(client, "SELECT v::text FROM llm.verify() v LIMIT 10");
    assert!(different.is_empty(), "llm.verify:\n{different:#?}");
}
