//! What happens to one log is that log's trouble: the others are folded, backfilled and read.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, quote, run, text, wait_for};
use llm_analytics_tests::hosts;
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;

const PENDING: &str = "SELECT count(*) FROM llm._pending";
const INCOMPLETE: &str = "SELECT count(*) FROM llm.source WHERE complete_from > '-infinity'";

fn insert(client: &mut Client, table: &str, id: u32) {
    run(
        client,
        &format!(
            "INSERT INTO public.{table} (id, created_at, organization_id, api_key_id, model, cost) VALUES ({id}, '2026-03-03', 'org', 'k', 'm', 1)"
        ),
    );
}

/// A plain and a partitioned log under a worker with short rounds.
fn two_logs(name: &str) -> (Cluster, Db) {
    let cluster = Cluster::fresh(name, &["llm.worker = on", "llm.fold_interval = 100ms"]);
    let db = Db::new_on(cluster.server.clone(), name);
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    run(
        &mut client,
        "CREATE TABLE public.calls (LIKE public.requests) PARTITION BY RANGE (created_at);
         CREATE TABLE public.calls_all PARTITION OF public.calls DEFAULT;
         SELECT llm.attach_log('public.requests'), llm.attach_log('public.calls')",
    );
    (cluster, db)
}

/// By ALTER TRIGGER or DROP TRIGGER of its owner, or because a restore left it out. It can be attached again.
#[test]
fn a_log_without_its_root_trigger() {
    let (_cluster, db) = two_logs("lost");
    let mut client = db.connect();
    let state = "SELECT state FROM llm.status WHERE source = 'public.calls'";
    for (id, lose) in
        [(1, "ALTER TRIGGER llm_capture_insert ON public.calls RENAME TO x"), (2, "DROP TRIGGER llm_capture_insert ON public.calls")]
    {
        run(&mut client, lose);
        insert(&mut client, "requests", id);
        wait_for(&mut client, 30, "the other log is folded", PENDING, "0");
        assert_eq!(text(&mut client, state), "no triggers", "{lose}");
        run(&mut client, "SELECT llm.attach_log('public.calls')");
        insert(&mut client, "calls", id);
        wait_for(&mut client, 30, "it is complete again", INCOMPLETE, "0");
        wait_for(&mut client, 30, "and folded", PENDING, "0");
        assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), (2 * id).to_string(), "{lose}");
        check_verify(&mut client);
    }
}

/// A backfill that waits for a log's lock gives up after two seconds, and the others are folded.
#[test]
fn a_log_that_is_locked() {
    let (_cluster, db) = two_logs("locked");
    let (mut client, mut holder) = (db.connect(), db.connect());
    insert(&mut client, "calls", 1);
    wait_for(&mut client, 30, "folded", PENDING, "0");
    run(&mut holder, "BEGIN; LOCK TABLE public.calls IN ACCESS EXCLUSIVE MODE");
    run(&mut client, "UPDATE llm.source SET complete_from = 'infinity' WHERE relation_name = 'calls'");
    for id in 1..=3 {
        insert(&mut client, "requests", id);
        wait_for(&mut client, 20, "the other log is folded", PENDING, "0");
    }
    wait_for(&mut client, 20, "it is said", "SELECT string_agg(step || ' ' || sqlstate, ',') FROM llm._failure", "backfill 55P03");
    run(&mut holder, "COMMIT");
    wait_for(&mut client, 60, "it is backfilled", INCOMPLETE, "0");
    wait_for(&mut client, 20, "nothing fails any more", "SELECT count(*) FROM llm._failure", "0");
    check_verify(&mut client);
}

/// How a session reads SQL changes neither what a mapping means nor whether a trigger can be made.
#[test]
fn settings_of_a_session() {
    let db = Db::new("settings");
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    let mapping = r#"{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "api_key_id", "cost": "cost",
        "model": "CASE WHEN provider = NULL THEN 'null' ELSE replace(model, '\\', '/') END"}"#;
    run(&mut client, &format!("SELECT llm.attach_log('public.requests', {})", quote(mapping)));
    let write = "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES ";
    run(&mut client, &format!("{write} (1, '2026-03-03', 'org', 'k', 'a' || chr(92) || 'b', 1)"));
    let mut other = db.connect();
    run(
        &mut other,
        "SET standard_conforming_strings = off; SET escape_string_warning = off; SET transform_null_equals = on; SET quote_all_identifiers = on",
    );
    run(&mut other, &format!("{write} (2, '2026-03-03', 'org', 'k', 'a' || chr(92) || 'b', 1)"));
    run(
        &mut other,
        "CREATE TABLE public.mine (x int); CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    );
    run(&mut other, "CREATE TRIGGER t AFTER INSERT ON public.mine EXECUTE FUNCTION public.f()");
    assert_eq!(text(&mut client, "SELECT string_agg(DISTINCT mapping, ' ') || ' ' || sum(requests) FROM llm.usage"), "a/b 2");
    check_verify(&mut other);
    check_verify(&mut client);
}
