//! Every refusal of `llm.attach_log`: a SQLSTATE, a hint, and nothing changed.

use llm_analytics_tests::db::{self, Db, Refusal, Role, quote, refused, rows, run, text};
use llm_analytics_tests::hosts;
use postgres::Client;
use std::time::{Duration, Instant};

/// What attach writes: the configuration, triggers, dependencies, sealed and known leaves.
const FINGERPRINT: &str = "SELECT (SELECT coalesce(string_agg(s::text, E'\\n' ORDER BY id), '') FROM llm.source s), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_depend),
            (SELECT count(*) FROM llm._leaf), (SELECT count(*) FROM llm._seal), (SELECT count(*) FROM llm._pending), (SELECT count(*) FROM pg_class)";

fn must_refuse(client: &mut Client, sql: &str, states: &[&str]) -> Refusal {
    db::must_refuse(client, FINGERPRINT, sql, states)
}

fn database(tag: &str) -> (Db, Client) {
    let db = Db::new(tag);
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    (db, client)
}

const REQUIRED: &str = r#""created_at":"created_at","organization_id":"organization_id","api_key_id":"api_key_id","model":"model""#;

#[test]
fn columns() {
    let (_db, mut client) = database("columns");
    let attach = |columns: &str| format!("SELECT llm.attach_log('public.requests', {})", quote(columns));
    for (columns, states) in [
        (format!("{{{REQUIRED},\"cost\":\"cost\",\"colour\":\"note\"}}"), &["22023"][..]),
        (format!("{{{REQUIRED},\"Cost\":\"cost\"}}"), &["22023"]),
        (format!("{{{REQUIRED},\"cost\":\"missing\"}}"), &["42703"]),
        (format!("{{{REQUIRED},\"cost\":\"note\"}}"), &["42804"]),
        (format!("{{{REQUIRED},\"cost\":\"cost\",\"is_error\":\"cost\"}}"), &["42804"]),
        (format!("{{{REQUIRED},\"cost\":5}}"), &["22023"]),
        (format!("{{{REQUIRED},\"cost\":[\"cost\"]}}"), &["22023"]),
        (format!("{{{REQUIRED}}}"), &["22023"]),
        (r#"{"cost":"cost"}"#.to_owned(), &["22023"]),
        ("{}".to_owned(), &["22023"]),
        ("[]".to_owned(), &["22023"]),
        ("\"cost\"".to_owned(), &["22023"]),
    ] {
        must_refuse(&mut client, &attach(&columns), states);
    }
    for call in ["'public.requests', on_delete => 'maybe'", "'public.requests', capture => 'both'"] {
        must_refuse(&mut client, &format!("SELECT llm.attach_log({call})"), &["22023"]);
    }
    for call in
        ["NULL", "'public.requests', on_delete => NULL", "'public.requests', capture => NULL", "'public.requests', backfill => NULL"]
    {
        let refusal = refused(&mut client, &format!("SELECT llm.attach_log({call})"));
        assert_eq!(refusal.state, "22004", "{call}: {refusal:?}");
    }
    run(&mut client, "CREATE TABLE public.strange (a int, b text)");
    must_refuse(&mut client, "SELECT llm.attach_log('public.strange')", &["22023", "42P17", "0A000", "42703"]);
    run(&mut client, "SELECT llm.attach_log('public.requests')");
}

#[test]
fn expressions() {
    let (_db, mut client) = database("expressions");
    run(
        &mut client,
        "CREATE FUNCTION public.unsure(numeric) RETURNS numeric LANGUAGE sql VOLATILE AS 'SELECT $1';
         CREATE FUNCTION public.now_and_then(numeric) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT $1';
         CREATE TABLE public.canary (a int)",
    );
    for (expression, states) in [
        ("random()", &["42P17"][..]),
        ("public.unsure(cost)", &["42P17"]),
        ("public.now_and_then(cost)", &["42P17"]),
        ("extract(epoch FROM now())::numeric", &["42P17"]),
        ("sum(cost)", &["42803"]),
        ("row_number() OVER ()", &["42P20"]),
        ("generate_series(1, 2)", &["0A000"]),
        ("(SELECT 1)", &["0A000"]),
        ("CASE WHEN EXISTS (SELECT FROM public.canary) THEN 1 END", &["0A000"]),
        ("cost + tableoid::int", &["0A000", "42703", "42P10", "42P17"]),
        ("cost + length(ctid::text)", &["0A000", "42703", "42P10", "42P17"]),
        ("length(requests::text)", &["0A000", "42P17"]),
        ("length(row_to_json(requests)::text)", &["0A000", "42P17"]),
        ("cost +", &["42601"]),
        ("cost 1", &["42601"]),
        ("cost; DROP TABLE public.canary", &["42601"]),
        ("cost); DROP TABLE public.canary; --", &["42601"]),
        ("cost FROM public.requests", &["42601"]),
        ("cost FROM public.canary", &["42601"]),
        ("cost WHERE true", &["42601"]),
        ("cost LIMIT 1", &["42601"]),
        ("cost UNION SELECT 1", &["42601"]),
        ("cost, 1", &["42601"]),
        ("cost AS x", &["42601"]),
        ("DISTINCT cost", &["42601"]),
        ("*", &["42601", "0A000"]),
        ("requests.*", &["42601", "0A000", "42804"]),
        ("$1 + cost", &["42P02", "42601"]),
        ("cost + nothing", &["42703"]),
        ("nothing(cost)", &["42883"]),
        ("public.canary.a + cost", &["42P01", "42703"]),
        ("", &["42601", "22023", "42703"]),
        ("  ", &["42601", "22023", "42703"]),
        ("-- cost", &["42601"]),
        ("/*", &["42601"]),
        ("'open", &["42601"]),
        ("grouping(cost)", &["42803"]),
        ("cost::nothing", &["42704"]),
        ("created_at - now()", &["42P17", "42804"]),
    ] {
        let columns = format!("{{{REQUIRED},\"cost\":{}}}", serde_json::Value::from(expression));
        must_refuse(&mut client, &format!("SELECT llm.attach_log('public.requests', {})", quote(&columns)), states);
    }
    assert_eq!(text(&mut client, "SELECT count(*) FROM public.canary"), "0");
    // What looks alike and is fine.
    let columns = format!("{{{REQUIRED},\"cost\":\"CASE WHEN cost > 0 THEN cost / 2 ELSE 0 END -- half\"}}");
    run(&mut client, &format!("SELECT llm.attach_log('public.requests', {})", quote(&columns)));
    must_refuse(&mut client, "SELECT llm.attach_log('public.requests')", &["55000", "42710", "55006"]);
}

#[test]
fn relations() {
    let (db, mut client) = database("relations");
    run(
        &mut client,
        "CREATE VIEW public.v AS SELECT * FROM public.requests;
         CREATE MATERIALIZED VIEW public.mv AS SELECT * FROM public.requests;
         CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
         CREATE FOREIGN TABLE public.ft (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) SERVER nowhere;
         CREATE TABLE public.part (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY RANGE (created_at);
         CREATE FOREIGN TABLE public.part_far PARTITION OF public.part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') SERVER nowhere;
         CREATE TABLE public.part_near PARTITION OF public.part FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
         CREATE TEMP TABLE temporary (LIKE public.requests);
         CREATE TABLE public.parent (LIKE public.requests); CREATE TABLE public.child () INHERITS (public.parent);
         CREATE TABLE public.forced (LIKE public.requests); ALTER TABLE public.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE SEQUENCE public.counter; CREATE INDEX requests_at ON public.requests (created_at);
         CREATE TYPE public.composite AS (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric)",
    );
    for relation in [
        "public.v",
        "public.mv",
        "public.ft",
        "public.part",
        "temporary",
        "public.parent",
        "public.child",
        "public.forced",
        "public.counter",
        "public.requests_at",
        "public.composite",
    ] {
        must_refuse(&mut client, &format!("SELECT llm.attach_log('{relation}')"), &["42809", "0A000", "55000"]);
    }
    let system = r#"{"created_at":"now","organization_id":"relname","api_key_id":"relname","model":"relname","cost":"relpages"}"#
        .replace("\"now\"", "\"'2026-01-01'::timestamptz\"");
    for relation in ["pg_catalog.pg_class", "information_schema.sql_features", "llm.rollup", "llm._pending"] {
        must_refuse(
            &mut client,
            &format!("SELECT llm.attach_log('{relation}', {})", quote(&system)),
            &["42809", "0A000", "42501", "55000"],
        );
    }
    if text(&mut client, "SHOW server_version_num").parse::<u32>().expect("a number") >= 180_000 {
        run(
            &mut client,
            "CREATE TABLE public.virtual (LIKE public.requests); ALTER TABLE public.virtual DROP cost; ALTER TABLE public.virtual ADD cost numeric GENERATED ALWAYS AS (input_tokens * 0.001) VIRTUAL",
        );
        must_refuse(&mut client, "SELECT llm.attach_log('public.virtual')", &["0A000", "42809", "42P17"]);
        let columns = format!("{{{REQUIRED},\"cost\":\"cost * 2\"}}");
        must_refuse(&mut client, &format!("SELECT llm.attach_log('public.virtual', {})", quote(&columns)), &["0A000", "42809", "42P17"]);
    }
    run(
        &mut client,
        "CREATE TABLE public.stored (LIKE public.requests); ALTER TABLE public.stored DROP cost; ALTER TABLE public.stored ADD cost numeric GENERATED ALWAYS AS (input_tokens * 0.001) STORED",
    );
    run(&mut client, "SELECT llm.attach_log('public.stored')");

    // A leaf of an attached log is attached already.
    run(&mut client, "DROP FOREIGN TABLE public.part_far; SELECT llm.attach_log('public.part')");
    must_refuse(&mut client, "SELECT llm.attach_log('public.part_near')", &["55000", "42710", "55006", "0A000", "42809"]);

    // Neither owner nor superuser: closed to begin with, and still closed where EXECUTE was granted.
    let stranger = Role::new(&db.server, "stranger");
    run(&mut client, &format!("GRANT SELECT ON public.requests TO {}", stranger.name));
    let mut other = db.connect_as(&stranger.name);
    assert_eq!(refused(&mut other, "SELECT llm.attach_log('public.requests')").state, "42501");
    run(
        &mut client,
        &format!(
            "GRANT USAGE ON SCHEMA llm TO {r}; GRANT EXECUTE ON FUNCTION llm.attach_log(regclass, jsonb, text, text, boolean), llm.detach_log(regclass) TO {r}",
            r = stranger.name
        ),
    );
    let before = rows(&mut client, FINGERPRINT);
    let refusal = refused(&mut other, "SELECT llm.attach_log('public.requests')");
    assert_eq!(refusal.state, "42501", "{refusal:?}");
    assert!(!refusal.hint.is_empty(), "{refusal:?}");
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    assert_eq!(refused(&mut other, "SELECT llm.detach_log('public.requests')").state, "42501");
    run(&mut client, "SELECT llm.detach_log('public.requests')");
    must_refuse(&mut client, "SELECT llm.detach_log('public.requests')", &["55000", "42704", "22023"]);
    assert_ne!(rows(&mut client, FINGERPRINT), before, "the source is remembered");
    run(&mut client, &format!("DROP OWNED BY {}", stranger.name));
}

#[test]
fn a_long_writer_is_not_waited_for() {
    let (db, mut client) = database("lock");
    let mut writer = db.connect();
    run(
        &mut writer,
        "BEGIN; INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, now(), 'o', 'k', 'm', 1)",
    );
    let started = Instant::now();
    must_refuse(&mut client, "SELECT llm.attach_log('public.requests')", &["55P03"]);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    run(&mut writer, "COMMIT");
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    assert_eq!(text(&mut client, "SHOW lock_timeout"), "0", "the caller's own setting is as it was");
}
