//! What a fold takes, what it leaves, and what it says where it cannot go on.

use llm_analytics_tests::cluster::{Cluster, install_releases};
use llm_analytics_tests::db::{Db, refused, rows, run, text, wait_for};
use llm_analytics_tests::hosts;
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;

const PENDING: &str = "SELECT count(*) FROM llm._pending";

fn insert(client: &mut Client, id: u32, organization: &str, key: &str) {
    let values = format!("({id}, now(), '{organization}', '{key}', 'm', 1)");
    run(client, &format!("INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES {values}"));
}

/// Under REPEATABLE READ an organization or a series that was made since is a serialization failure, which callers retry.
#[test]
fn what_was_made_since_is_a_serialization_failure() {
    let db = Db::new("since");
    let (mut first, mut second) = (db.connect(), db.connect());
    run(&mut first, hosts::CANONICAL);
    run(&mut first, "SELECT llm.attach_log('public.requests')");
    insert(&mut first, 1, "known", "k");
    run(&mut first, "SELECT llm.fold()");
    for (id, organization, key) in [(10, "new", "k"), (20, "known", "new")] {
        run(&mut second, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM llm._pending");
        insert(&mut first, id, organization, key);
        run(&mut first, "SELECT llm.fold()");
        insert(&mut second, id + 1, organization, key);
        let refusal = refused(&mut second, "SELECT llm.fold()");
        assert_eq!(refusal.state, "40001", "{organization}: {refusal:?}");
        run(&mut second, "ROLLBACK");
    }
    assert_eq!(text(&mut first, "SELECT sum(requests) FROM llm.usage"), "3");
    check_verify(&mut first);
}

/// While a dump is restored deltas may be here before their source. They count, and wait.
#[test]
fn deltas_of_an_unknown_source_wait() {
    let db = Db::new("unknown");
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    run(&mut client, "BEGIN");
    insert(&mut client, 1, "org", "k");
    run(&mut client, "INSERT INTO llm._pending SELECT (jsonb_populate_record(p, '{\"source\": 77}')).* FROM llm._pending p; COMMIT");
    for _ in 0..2 {
        run(&mut client, "SELECT llm.fold()");
        run(&mut client, "CALL llm.maintain()");
        assert_eq!(rows(&mut client, "SELECT source, kind FROM llm._pending"), [["77", "0"]]);
        assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), "2");
    }
    run(
        &mut client,
        "INSERT INTO llm.source (id, relation_schema, relation_name, columns, state) VALUES (77, 'public', 'late', '{}', 'dropped')",
    );
    run(&mut client, "SELECT llm.fold()");
    assert_eq!(text(&mut client, PENDING), "0");
    assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), "2");
}

/// A misspelt setting would be read by nobody.
#[test]
fn unknown_settings_are_refused() {
    let db = Db::new("settings");
    let mut client = db.connect();
    run(&mut client, "SET llm.on_delete = 'subtract'");
    for statement in ["SET llm.on_delet = 'subtract'", "SELECT set_config('llm.keep', 'x', false)"] {
        let refusal = refused(&mut client, statement);
        assert_eq!(refusal.state, "42602", "{statement}: {refusal:?}");
    }
}

/// Verify over an hour looks at the rollups of that hour, not at those of all years to cut its pieces.
#[test]
fn verify_of_an_hour_reads_an_hour() {
    let db = Db::new("hour");
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost)
         SELECT i, '2026-01-01Z'::timestamptz + i * interval '7 minutes', 'org' || i % 3, 'k' || i % 5, 'm', 0.5 FROM generate_series(1, 30000) i;
         SELECT llm.attach_log('public.requests')",
    );
    run(&mut client, "CALL llm.backfill()");
    let looked_at = "SELECT sum(heap_blks_hit + heap_blks_read) FROM pg_statio_user_tables WHERE relname LIKE '\\_rollup\\_%'";
    let mut blocks = |sql: &str| {
        let mut counts = Vec::new();
        for look in ["SELECT WHERE false", sql] {
            assert!(rows(&mut client, look).is_empty());
            run(&mut client, "SELECT pg_stat_force_next_flush()");
            counts.push(text(&mut client, looked_at).parse::<i64>().expect("blocks"));
        }
        counts[1] - counts[0]
    };
    let (all, hour) = (blocks("SELECT FROM llm.verify()"), blocks("SELECT FROM llm.verify('2026-03-03 10:00Z', '2026-03-03 11:00Z')"));
    assert!(hour * 20 < all, "an hour looks at {hour} blocks, everything at {all}");
}

/// Between a new library and ALTER EXTENSION UPDATE the worker has the catalog of 0.1.1.
#[test]
fn the_worker_works_on_the_catalog_of_0_1_1() {
    install_releases();
    let cluster = Cluster::fresh("catalog", &["llm.worker = on", "llm.fold_interval = 100ms"]);
    let db = Db::on(cluster.server.clone(), "catalog");
    let mut client = db.connect();
    run(&mut client, "CREATE EXTENSION llm_analytics VERSION '0.1.1'");
    run(&mut client, hosts::CANONICAL);
    insert(&mut client, 1, "org", "k");
    run(&mut client, "SELECT llm.attach_log('public.requests'), llm.create_request_log('public.made')");
    run(&mut client, "SELECT llm.set_retention('public.made', '1 day')");
    insert(&mut client, 2, "org", "k");
    wait_for(&mut client, 30, "it folds", PENDING, "0");
    wait_for(&mut client, 30, "it backfills", "SELECT count(*) FROM llm.source WHERE complete_from > '-infinity'", "0");
    run(
        &mut client,
        "CREATE TABLE public.made_old PARTITION OF public.made FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z');
         CREATE VIEW public.reader AS SELECT * FROM public.made_old",
    );
    wait_for(&mut client, 30, "what fails is shown", "SELECT last_error FROM llm.status WHERE source IS NULL", "2BP01: tend failed");
    insert(&mut client, 3, "org", "k");
    wait_for(&mut client, 30, "and it folds all the same", PENDING, "0");
    run(&mut client, "DROP VIEW public.reader");
    wait_for(&mut client, 60, "it tends", "SELECT to_regclass('public.made_old') IS NULL", "t");
    insert(&mut client, 4, "org", "k");
    run(&mut client, "CALL llm.maintain()");
    assert_eq!(text(&mut client, PENDING), "0");
    assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), "4");
    check_verify(&mut client);
}
