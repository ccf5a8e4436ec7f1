//! What goes wrong around the worker: somebody waits for its locks, a privilege is missing, the disk is full. It steps aside, says so,
//! and goes on by itself.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, Role, run, text, wait_for};
use llm_analytics_tests::hosts;
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PENDING: &str = "SELECT count(*) FROM llm._pending";
const TOTAL: &str = "SELECT coalesce(sum(requests), 0) FROM llm.usage";
const INCOMPLETE: &str = "SELECT count(*) FROM llm.source WHERE complete_from > '-infinity'";

/// Rows of one bucket, each with a series of its own: no step of a backfill can be shorter.
fn one_long_step(client: &mut Client, table: &str, count: u32) {
    run(
        client,
        &format!(
            "INSERT INTO {table} (id, created_at, organization_id, project_id, api_key_id, model, cost)
             SELECT i, '2026-03-03 12:00+00', 'org' || i % 5, 'p' || i, 'k' || i, 'm', 0.01 FROM generate_series(1, {count}) i"
        ),
    );
}

/// Waits for a worker that is in the middle of a backfill and holds its locks.
fn busy(client: &mut Client, database: &str) {
    let sql = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity a JOIN pg_locks l USING (pid)
         WHERE backend_type = 'llm_analytics worker' AND a.datname = '{database}' AND query = 'llm_analytics: backfill'
           AND l.locktype = 'relation' AND l.mode = 'ExclusiveLock' AND l.granted"
    );
    wait_for(client, 30, "a worker backfills", &sql, "t");
}

/// Runs a statement that the busy worker is in the way of; how long it took.
fn timed(client: &mut Client, sql: &str) -> Duration {
    let started = Instant::now();
    run(client, sql);
    let took = started.elapsed();
    println!("{took:?} for {sql}");
    took
}

#[test]
fn gives_way() {
    let cluster = Cluster::fresh("faults1", &["llm.worker = on", "llm.fold_interval = 100ms"]);
    let db = Db::on(cluster.server.clone(), "way");
    let mut admin = cluster.server.connect("postgres");
    let mut client = db.connect();
    run(&mut client, "CREATE EXTENSION llm_analytics");
    run(&mut client, hosts::CANONICAL);
    run(
        &mut client,
        "CREATE TABLE public.calls (LIKE public.requests) PARTITION BY RANGE (created_at);
         CREATE TABLE public.calls_3 PARTITION OF public.calls FOR VALUES FROM ('2026-03-01Z') TO ('2026-04-01Z');
         CREATE TABLE public.calls_4 (LIKE public.requests)",
    );
    one_long_step(&mut client, "public.requests", 60_000);
    one_long_step(&mut client, "public.calls", 60_000);
    run(
        &mut client,
        "INSERT INTO public.calls_4 (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, '2026-04-05', 'org1', 'k', 'm', 1)",
    );
    run(&mut client, "SELECT llm.attach_log('public.requests')");

    // The server's own patience: deadlock_timeout, here 0.5 s, by default 1 s; and the test machine may be busy.
    let most = Duration::from_millis(2_000);
    for statement in [
        "ALTER TABLE public.requests ADD COLUMN host_note text",
        "BEGIN; LOCK TABLE public.requests IN ACCESS EXCLUSIVE MODE; COMMIT",
        "SELECT llm.fold()",
        "SELECT llm.attach_log('public.calls')",
    ] {
        busy(&mut admin, &db.name);
        let took = timed(&mut client, statement);
        assert!(took < most, "{statement} waited {took:?} for the worker");
    }
    run(&mut client, "UPDATE llm.source SET complete_from = '-infinity' WHERE relation_name = 'requests'");
    for statement in [
        "ALTER TABLE public.calls ATTACH PARTITION public.calls_4 FOR VALUES FROM ('2026-04-01Z') TO ('2026-05-01Z')",
        "ALTER TABLE public.calls DETACH PARTITION public.calls_4",
        "DROP TABLE public.calls_4",
    ] {
        busy(&mut admin, &db.name);
        let took = timed(&mut client, statement);
        assert!(took < most, "{statement} waited {took:?} for the worker");
    }
    // Stepping aside is no failure, and what was begun is done in the end.
    run(&mut client, "UPDATE llm.source SET complete_from = 'infinity' WHERE relation_name = 'requests'");
    wait_for(&mut client, 120, "the backfill is complete", INCOMPLETE, "0");
    assert_eq!(text(&mut client, TOTAL), "120001");
    check_verify(&mut client);
    assert_eq!(text(&mut client, "SELECT last_error FROM llm.status WHERE source IS NULL"), "NULL");
    assert!(cluster.log().contains("backfill gives way"), "the server's log says why a step ended");

    // Copied and dropped while it is at work. CREATE DATABASE looks for others for five seconds.
    run(&mut client, "UPDATE llm.source SET complete_from = 'infinity'");
    drop(client);
    busy(&mut admin, &db.name);
    assert!(timed(&mut admin, &format!("CREATE DATABASE way_copy TEMPLATE {}", db.name)) < Duration::from_secs(4));
    busy(&mut admin, "way_copy");
    assert!(timed(&mut admin, "DROP DATABASE way_copy") < most);
    let mut client = db.connect();
    // It may have come to its end meanwhile.
    run(&mut client, "UPDATE llm.source SET complete_from = 'infinity'");
    busy(&mut admin, &db.name);
    assert!(timed(&mut client, "DROP EXTENSION llm_analytics") < most);
    assert_eq!(text(&mut client, "SELECT count(*) FROM public.requests"), "60000");
    let log = cluster.log();
    for bad in ["PANIC", "was terminated by signal", "XX000", "deadlock detected"] {
        assert!(!log.contains(bad), "the server's log has {bad}");
    }
}

fn last_error(client: &mut Client, state: &str) {
    let sql = format!("SELECT coalesce(last_error LIKE '{state}: %', false) FROM llm.status WHERE source IS NULL");
    wait_for(client, 30, "llm.status shows the error", &sql, "t");
}

/// Each cause keeps the worker from its work, is shown, and is all there is between it and the end of the work.
#[test]
fn says_what_stops_it() {
    let cluster = Cluster::fresh("faults2", &["llm.worker = on", "llm.fold_interval = 100ms"]);
    let db = Db::on(cluster.server.clone(), "stops");
    let owner = Role::new(&cluster.server, "host");
    let mut client = db.connect();
    run(&mut client, "CREATE EXTENSION llm_analytics");
    run(&mut client, hosts::CANONICAL);
    one_long_step(&mut client, "public.requests", 100);
    let again = "UPDATE llm.source SET complete_from = 'infinity'";
    run(
        &mut client,
        &format!(
            "CREATE FUNCTION public.usd(numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 * 2; END';
             REVOKE EXECUTE ON FUNCTION public.usd(numeric) FROM PUBLIC; GRANT EXECUTE ON FUNCTION public.usd(numeric) TO {0};
             ALTER TABLE public.requests OWNER TO {0};
             SELECT llm.attach_log('public.requests', '{{\"created_at\": \"created_at\", \"organization_id\": \"organization_id\",
                \"api_key_id\": \"api_key_id\", \"model\": \"model\", \"cost\": \"public.usd(cost)\"}}')",
            owner.name
        ),
    );
    wait_for(&mut client, 30, "backfilled", INCOMPLETE, "0");
    for (take, give) in [
        ("REVOKE SELECT ON public.requests FROM", "GRANT SELECT ON public.requests TO"),
        ("REVOKE EXECUTE ON FUNCTION public.usd(numeric) FROM", "GRANT EXECUTE ON FUNCTION public.usd(numeric) TO"),
    ] {
        run(&mut client, &format!("UPDATE llm._state SET last_error = NULL; {take} {}; {again}", owner.name));
        last_error(&mut client, "42501");
        assert_eq!(text(&mut client, INCOMPLETE), "1", "nothing was backfilled without the right to read");
        run(&mut client, &format!("{give} {}", owner.name));
        wait_for(&mut client, 60, "it recovers by itself", INCOMPLETE, "0");
        assert_eq!(text(&mut client, "SELECT trim_scale(sum(cost)) FROM llm.usage"), "2");
        check_verify(&mut client);
    }
    // What fails in one step keeps no other from being done.
    run(&mut client, &format!("REVOKE SELECT ON public.requests FROM {}; {again}", owner.name));
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (200, now(), 'org1', 'k', 'm', 1)",
    );
    wait_for(&mut client, 30, "it folds all the same", PENDING, "0");
    run(
        &mut client,
        &format!("GRANT SELECT ON public.requests TO {}; ALTER TABLE public.requests OWNER TO postgres; DROP OWNED BY {0}", owner.name),
    );
    wait_for(&mut client, 60, "and backfills in the end", INCOMPLETE, "0");
    check_verify(&mut client);
}

/// Mounted for as long as this lives.
struct SmallDisk(String);

impl SmallDisk {
    /// None where that is not allowed.
    fn mount(path: &str, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(path).expect("a directory");
        let options = format!("size={size},uid=postgres,gid=postgres,mode=700");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs", path]).then(|| SmallDisk(path.to_owned()))
    }

    fn resize(&self, size: &str) {
        assert!(mount(&["-o", &format!("remount,size={size}"), &self.0]), "a mounted file system can be made larger");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn mount(arguments: &[&str]) -> bool {
    Command::new("mount").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// No space for the rollups: writers go on, nothing is lost or counted in part, and with space the worker catches up.
#[test]
fn waits_for_space() {
    let path = format!("/tmp/llm_analytics_space_{}", std::process::id());
    let Some(disk) = SmallDisk::mount(&path, "3M") else {
        let _ = std::fs::remove_dir(Path::new(&path));
        println!("NOT RUN: a full disk is a small file system, and mounting one needs root");
        return;
    };
    // The tablespace goes before the file system it is on.
    let cluster = Cluster::fresh("faults3", &["llm.worker = on", "llm.fold_interval = 100ms"]);
    let db = Db::on(cluster.server.clone(), "space");
    let mut client = db.connect();
    run(&mut client, "CREATE EXTENSION llm_analytics");
    run(&mut client, hosts::CANONICAL);
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    wait_for(&mut client, 30, "backfilled", INCOMPLETE, "0");
    run(&mut client, &format!("CREATE TABLESPACE small LOCATION '{path}'"));
    run(&mut client, "ALTER TABLE llm._rollup_detail SET TABLESPACE small");
    for from in [0, 20_000, 40_000, 60_000, 80_000] {
        run(
            &mut client,
            &format!(
                "INSERT INTO public.requests (id, created_at, organization_id, project_id, api_key_id, model, cost)
                 SELECT {from} + i, '2026-03-03Z'::timestamptz + i * interval '7 minutes', 'org', 'p' || i % 9, 'k' || {from} + i, 'm', 0.01
                 FROM generate_series(1, 20000) i"
            ),
        );
    }
    last_error(&mut client, "53100");
    assert_eq!(text(&mut client, TOTAL), "100000");
    assert_ne!(text(&mut client, PENDING), "0");
    check_verify(&mut client);
    disk.resize("200M");
    wait_for(&mut client, 60, "it recovers by itself", PENDING, "0");
    assert_eq!(text(&mut client, TOTAL), "100000");
    check_verify(&mut client);
    drop(client);
    drop(db);
    drop(cluster);
}
