//! The tier `backlog`: a night in which nothing was folded, and a log whose rows are gone. 5,000,000 pending deltas of a month that was
//! dropped are folded by the worker, in one scan and little memory; afterwards reads cost what they did before.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, rows, run, text, wait_for};
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;
use std::time::Instant;

const PENDING: &str = "SELECT count(*) FROM llm._pending";
const PAGES: &str = "SELECT pg_relation_size('llm._pending') / 8192";
const TRUNCATES: &str = "SELECT 'vacuum_truncate=on' = ANY (reloptions) FROM pg_class WHERE oid = 'llm._pending'::regclass";
const TOTALS: &str = "SELECT organization_id, sum(requests), sum(errors), trim_scale(sum(cost)) FROM llm.usage GROUP BY 1 ORDER BY 1";
const QUESTION: &str = "SELECT llm.analytics_activity('org1', 'model', '2026-01-01', '2026-01-31')";
const WORKER_PID: &str =
    "SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'llm_analytics worker' AND datname = current_database()";

fn number(client: &mut Client, sql: &str) -> i64 {
    text(client, sql).parse().unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Blocks of `llm._pending` that everybody together has looked at, and rows that were deleted.
fn looked_at(client: &mut Client) -> (i64, i64) {
    run(client, "SELECT pg_stat_force_next_flush()");
    let sql = "SELECT heap_blks_hit + heap_blks_read, n_tup_del
               FROM pg_statio_user_tables JOIN pg_stat_user_tables t USING (relid) WHERE relid = 'llm._pending'::regclass";
    let row = rows(client, sql).remove(0);
    (row[0].parse().expect("blocks"), row[1].parse().expect("rows"))
}

/// Blocks of `llm._pending` that one read looks at.
fn blocks_of_a_read(client: &mut Client) -> i64 {
    let before = looked_at(client).0;
    run(client, QUESTION);
    looked_at(client).0 - before
}

/// The memory of a process that is its own, kB; None where it is gone.
fn private_memory(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok())
}

/// 5,000,000 pending deltas of January, whose table is dropped then: the numbers are all that is left.
fn backlog(client: &mut Client) {
    run(
        client,
        "SELECT llm.create_request_log('public.requests');
         CREATE TABLE public.requests_january PARTITION OF public.requests FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z');
         INSERT INTO public.requests (created_at, organization_id, project_id, api_key_id, model, is_error, cost)
         SELECT '2026-01-01Z'::timestamptz + i * interval '26 seconds', 'org' || i % 10, 'p' || i % 7, 'k' || i % 70, 'm' || i % 3,
                i % 11 = 0, 0.000123
         FROM generate_series(0, 99999) i;
         INSERT INTO llm._pending SELECT p.* FROM generate_series(1, 49) g, llm._pending p;
         DROP TABLE public.requests_january",
    );
    assert_eq!(text(client, PENDING), "5000000");
}

#[test]
fn backlog_of_five_million() {
    let settings =
        ["llm.worker = off", "llm.fold_interval = 100ms", "autovacuum = off", "autovacuum_naptime = 1s", "log_autovacuum_min_duration = 0"];
    let cluster = Cluster::fresh("backlog", &settings);
    let db = Db::new_on(cluster.server.clone(), "backlog");
    let mut client = db.connect();
    let before = blocks_of_a_read(&mut client);
    backlog(&mut client);
    let totals = rows(&mut client, TOTALS);
    let answer = text(&mut client, QUESTION);
    let pages = number(&mut client, PAGES);
    // An old snapshot has to see the rows that it saw, folded or not, for as long as it lives.
    let mut old = db.connect();
    run(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(text(&mut old, "SELECT sum(requests) FROM llm.usage"), "5000000");

    let (blocks, deleted) = looked_at(&mut client);
    let started = Instant::now();
    run(&mut client, "ALTER SYSTEM SET llm.worker = on");
    run(&mut client, "SELECT pg_reload_conf()");
    let mut most = 0;
    while number(&mut client, "SELECT n_tup_del FROM pg_stat_user_tables WHERE relid = 'llm._pending'::regclass") - deleted < 5_000_000 {
        assert!(started.elapsed().as_secs() < 300, "the worker folds the backlog: {} left", text(&mut client, PENDING));
        let pid = text(&mut client, WORKER_PID);
        most = most.max(private_memory(&pid).unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    wait_for(&mut client, 10, "nothing is pending", PENDING, "0");
    println!("folded in {:?}, with at most {most} kB of memory", started.elapsed());
    assert!(most < 300_000, "the worker had {most} kB");
    run(&mut client, "ALTER SYSTEM SET llm.worker = off");
    run(&mut client, "SELECT pg_reload_conf()");
    wait_for(
        &mut client,
        10,
        "the worker is off",
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llm_analytics worker'",
        "0",
    );
    let (blocks_then, deleted_then) = looked_at(&mut client);
    // A row that is deleted is looked up once more. What else there is are scans: the fold's own, one each by the counts here and by the
    // rounds that followed. Each batch from the beginning would be 50 more.
    let scans = (blocks_then - blocks - (deleted_then - deleted)) / pages;
    println!("{scans} scans of {pages} pages");
    assert!(scans < 12, "the backlog was scanned {scans} times");

    assert_eq!(text(&mut old, "SELECT sum(requests) FROM llm.usage"), "5000000");
    run(&mut old, "COMMIT");
    run(&mut client, "ALTER SYSTEM SET autovacuum = on");
    run(&mut client, "SELECT pg_reload_conf()");
    wait_for(&mut client, 60, "autovacuum makes the table small again", &format!("SELECT ({PAGES}) < 20"), "t");
    println!("small again {:?} after the backlog began to be folded", started.elapsed());
    let after = blocks_of_a_read(&mut client);
    assert!(after <= before + 20, "a read looks at {after} blocks of llm._pending, {before} before");
    assert_eq!(rows(&mut client, TOTALS), totals);
    assert_eq!(text(&mut client, QUESTION), answer);
    check_verify(&mut client);
    // And from then on nobody cuts anything off, until there is another backlog.
    assert_eq!(text(&mut client, TRUNCATES), "t");
    run(&mut client, "CALL llm.maintain()");
    assert_eq!(text(&mut client, TRUNCATES), "f");
}
