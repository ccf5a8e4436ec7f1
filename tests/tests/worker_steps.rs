//! No step of the worker or of llm.maintain() stops another, a step that fails is shown and tried again, and a round without work leaves
//! no trace.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, Role, rows, run, text, wait_for};
use llm_analytics_tests::hosts;
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;
use std::time::{Duration, Instant};

const PENDING: &str = "SELECT count(*) FROM llm._pending";
const FAILING: &str =
    "SELECT string_agg(step || ' ' || coalesce(s.relation_name, '-') || ' ' || f.sqlstate, ', ' ORDER BY f.step, f.source)
                       FROM llm._failure f LEFT JOIN llm.source s ON s.id = f.source";
const SHOWN: &str =
    "SELECT string_agg(line, ', ' ORDER BY line) FROM llm.status s, string_to_table(s.last_error, E'\\n') line WHERE s.source IS NULL";
/// The month after next of public.made, which is tended after the logs that fail.
const MADE: &str = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('public.made_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months', 'YYYY_MM'))";
const SECOND_LEFT: &str = "SELECT complete_from FROM llm.source WHERE relation_name = 'second'";

/// The month after next, as partitions are named.
fn month(client: &mut Client) -> String {
    text(client, "SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months', 'YYYY_MM')")
}

/// Four ways to fail, each in a log that comes before one that has nothing wrong with it. `owner` owns public.first.
fn break_things(client: &mut Client, owner: &str) {
    let month = month(client);
    run(
        client,
        &format!(
            "SELECT llm.create_request_log('public.kept'), llm.create_request_log('public.squatted'), llm.create_request_log('public.made');
             CREATE TABLE public.kept_old PARTITION OF public.kept FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z');
             SELECT llm.set_retention('public.kept', '1 day');
             CREATE VIEW public.reader AS SELECT * FROM public.kept_old;
             DROP TABLE public.squatted_{month}; CREATE TABLE public.squatted_{month} ();
             DROP TABLE public.made_{month}"
        ),
    );
    run(client, hosts::CANONICAL);
    run(
        client,
        &format!(
            "CREATE TABLE public.first (LIKE public.requests INCLUDING ALL); CREATE TABLE public.second (LIKE public.requests INCLUDING ALL);
             INSERT INTO public.first (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, now(), 'org', 'k', 'm', 1);
             INSERT INTO public.second (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, now(), 'org', 'k', 'm', 2);
             ALTER TABLE public.first OWNER TO {owner};
             SELECT llm.attach_log('public.first'), llm.attach_log('public.second');
             REVOKE SELECT ON public.first FROM {owner}"
        ),
    );
    run(
        client,
        "INSERT INTO public.second (id, created_at, organization_id, api_key_id, model, cost) VALUES (2, now(), 'org', 'k', 'm', 4)",
    );
}

fn mend_things(client: &mut Client, owner: &str) {
    let month = month(client);
    run(client, &format!("DROP VIEW public.reader; DROP TABLE public.squatted_{month}; GRANT SELECT ON public.first TO {owner}"));
}

const ALL_FAILING: &str = "backfill first 42501, tend kept 2BP01, tend squatted 42P07";
const ALL_SHOWN: &str = "2BP01: tend of public.kept failed, 42501: backfill of public.first failed, 42P07: tend of public.squatted failed";

/// What does not fail is done, and what does is shown.
fn check_broken(client: &mut Client) {
    assert_eq!(text(client, SHOWN), ALL_SHOWN);
    let of_log =
        "SELECT last_error || ' ' || (last_error_at > now() - interval '1 minute')::text FROM llm.status WHERE source = 'public.kept'";
    assert_eq!(text(client, of_log), "2BP01: tend failed true");
    assert_eq!(
        text(client, "SELECT count(*) FROM llm.status WHERE last_error IS NOT NULL AND source IN ('public.made', 'public.second')"),
        "0"
    );
    assert_eq!(text(client, PENDING), "0");
    assert_eq!(text(client, MADE), "1", "the log after those that fail is tended");
    assert_eq!(text(client, SECOND_LEFT), "-infinity", "the log after the one that fails is backfilled");
}

fn check_mended(client: &mut Client) {
    assert_eq!(text(client, "SELECT count(*) FROM llm.status WHERE last_error IS NOT NULL AND source IS NOT NULL"), "0");
    assert_eq!(text(client, "SELECT to_regclass('public.kept_old') IS NULL"), "t");
    assert_eq!(text(client, "SELECT trim_scale(sum(cost)) FROM llm.usage"), "7");
    check_verify(client);
}

#[test]
fn no_step_stops_another() {
    let cluster = Cluster::fresh("steps1", &["llm.worker = off", "llm.fold_interval = 100ms"]);
    let owner = Role::new(&cluster.server, "host");

    let by_call = Db::new_on(cluster.server.clone(), "call");
    let mut client = by_call.connect();
    break_things(&mut client, &owner.name);
    for _ in 0..2 {
        run(&mut client, "CALL llm.maintain()");
        assert_eq!(text(&mut client, FAILING), ALL_FAILING);
        check_broken(&mut client);
    }
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm._failure WHERE failures < 2 OR retry_at <= failed_at"), "0");
    mend_things(&mut client, &owner.name);
    run(&mut client, "CALL llm.maintain()");
    assert_eq!(text(&mut client, FAILING), "NULL", "who calls it need not wait for the next attempt");
    check_mended(&mut client);

    let by_worker = Db::new_on(cluster.server.clone(), "worker");
    let mut other = by_worker.connect();
    break_things(&mut other, &owner.name);
    run(&mut other, "ALTER SYSTEM SET llm.worker = on");
    run(&mut other, "SELECT pg_reload_conf()");
    wait_for(&mut other, 60, "the worker fails", FAILING, ALL_FAILING);
    wait_for(&mut other, 60, "and goes on", SECOND_LEFT, "-infinity");
    wait_for(&mut other, 60, "with all of it", PENDING, "0");
    check_broken(&mut other);
    // It goes on failing, and folding.
    let mut id = 100;
    while text(&mut other, "SELECT min(failures) FROM llm._failure").parse::<u32>().expect("a count") < 4 {
        id += 1;
        run(
            &mut other,
            &format!(
                "INSERT INTO public.second (id, created_at, organization_id, api_key_id, model, cost) VALUES ({id}, now(), 'org', 'k', 'm', 0)"
            ),
        );
        wait_for(&mut other, 5, "it folds while other steps fail", PENDING, "0");
    }
    mend_things(&mut other, &owner.name);
    wait_for(&mut other, 60, "it recovers by itself", FAILING, "NULL");
    check_mended(&mut other);
    drop((client, other, by_call, by_worker));
}

/// What fails as a whole: the fold. The others go on, in a call and by the worker.
#[test]
fn a_fold_that_fails_stops_nothing() {
    let cluster = Cluster::fresh("steps2", &["llm.worker = off", "llm.fold_interval = 100ms"]);
    let db = Db::new_on(cluster.server.clone(), "fold");
    let mut client = db.connect();
    let month = month(&mut client);
    run(&mut client, "SELECT llm.create_request_log('public.made')");
    run(
        &mut client,
        &format!("DROP TABLE public.made_{month}; INSERT INTO public.made (organization_id, api_key_id, model) VALUES ('org', 'k', 'm')"),
    );
    run(&mut client, "ALTER TABLE llm._rollup_kept RENAME TO elsewhere; ALTER TABLE llm._rollup_detail RENAME TO away");
    run(&mut client, "CALL llm.maintain()");
    assert_eq!(text(&mut client, FAILING), "fold - 42P01");
    assert_eq!(text(&mut client, SHOWN), "42P01: fold failed");
    assert_eq!(text(&mut client, MADE), "1");
    run(&mut client, "ALTER SYSTEM SET llm.worker = on");
    run(&mut client, "SELECT pg_reload_conf()");
    run(&mut client, &format!("DROP TABLE public.made_{month}"));
    wait_for(&mut client, 30, "the worker tends while it cannot fold", MADE, "1");
    run(&mut client, "ALTER TABLE llm.elsewhere RENAME TO _rollup_kept; ALTER TABLE llm.away RENAME TO _rollup_detail");
    wait_for(&mut client, 30, "it recovers by itself", PENDING, "0");
    wait_for(&mut client, 30, "and says so", FAILING, "NULL");
    check_verify(&mut client);
}

/// Next transaction id, and where the next WAL record goes.
fn written(client: &mut Client) -> Vec<Vec<String>> {
    rows(client, "SELECT pg_snapshot_xmax(pg_current_snapshot()), pg_current_wal_insert_lsn()")
}

fn rounds(cluster: &Cluster) -> usize {
    cluster.log().matches("starting background worker process \"llm_analytics worker\"").count()
}

fn wait_for_rounds(cluster: &Cluster, count: usize) {
    let end = Instant::now() + Duration::from_secs(540);
    while rounds(cluster) < count {
        assert!(Instant::now() < end, "{count} rounds");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Bytes in use and bytes allocated of the launcher's memory, which it writes to the server's log.
fn memory(client: &mut Client, cluster: &Cluster) -> (u64, u64) {
    let before = cluster.log().matches("Grand total:").count();
    run(client, "SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE backend_type = 'llm_analytics launcher'");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let log = cluster.log();
        if log.matches("Grand total:").count() > before {
            let line = log.lines().rev().find(|line| line.contains("Grand total:")).expect("a total");
            let number = |mark: &str| line.split(mark).next().and_then(|text| text.split_whitespace().last()).and_then(|n| n.parse().ok());
            return (number(" used").expect("bytes used"), number(" bytes in").expect("bytes allocated"));
        }
        assert!(Instant::now() < end, "the launcher writes its memory to the log");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Rounds without work take no transaction id and write nothing, and the launcher does not grow with them; ROUNDS=10000 for a long run.
#[test]
fn an_idle_round_leaves_no_trace() {
    let settings = ["llm.worker = on", "llm.fold_interval = 100ms", "llm.max_workers = 4", "autovacuum = off", "log_min_messages = debug1"];
    let cluster = Cluster::fresh("steps3", &settings);
    let databases: Vec<Db> = (0..8).map(|_| Db::new_on(cluster.server.clone(), "idle")).collect();
    let mut client = databases[0].connect();
    for db in &databases {
        // With something of everything: pending rows that are folded, a managed log, a log that is backfilled.
        let mut client = db.connect();
        run(&mut client, hosts::CANONICAL);
        run(
            &mut client,
            "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, now(), 'org', 'k', 'm', 1);
             SELECT llm.attach_log('public.requests'), llm.create_request_log('public.made');
             SELECT llm.set_retention('public.made', '1 month');
             INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (2, now(), 'org', 'k', 'm', 1)",
        );
        wait_for(&mut client, 30, "folded", PENDING, "0");
        wait_for(&mut client, 30, "backfilled", "SELECT count(*) FROM llm.source WHERE complete_from > '-infinity'", "0");
    }
    let begun = rounds(&cluster);
    wait_for_rounds(&cluster, begun + 100);
    run(&mut client, "CHECKPOINT");
    // What the server itself logs about an idle server is not ours, so one quiet stretch of many is enough.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let (before, begun) = (written(&mut client), rounds(&cluster));
        wait_for_rounds(&cluster, begun + 200);
        if written(&mut client) == before {
            break;
        }
        assert!(Instant::now() < end, "rounds without work write");
    }
    // A lag is known all the same: it is counted from the last round that found nothing.
    run(
        &mut client,
        "BEGIN; LOCK TABLE llm._fold_lock; INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (3, now(), 'org', 'k', 'm', 1)",
    );
    assert_eq!(text(&mut client, "SELECT lag < interval '10 seconds' FROM llm.status WHERE source IS NULL"), "t");
    run(&mut client, "COMMIT");

    let (used, allocated) = memory(&mut client, &cluster);
    let more: usize = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(500);
    let begun = rounds(&cluster);
    wait_for_rounds(&cluster, begun + more);
    let (used_then, allocated_then) = memory(&mut client, &cluster);
    println!("launcher: {used} of {allocated} bytes, {more} rounds later {used_then} of {allocated_then}");
    // 500 handles were 16,000 bytes.
    assert!(used_then < used + 2_000, "the launcher's memory grew from {used} to {used_then} bytes over {more} rounds");
}
