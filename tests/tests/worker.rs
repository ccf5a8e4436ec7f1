//! The launcher and its workers, each test on a private cluster.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, Role, rows, run, text, wait_for};
use llm_analytics_tests::hosts;
use postgres::Client;
use std::time::{Duration, Instant};

const PENDING: &str = "SELECT count(*) FROM llm._pending";
const TOTAL: &str = "SELECT coalesce(sum(requests), 0) FROM llm.usage";
const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%llm%'";

fn history(client: &mut Client, days: u32) {
    run(client, "CREATE EXTENSION llm_analytics");
    run(client, hosts::CANONICAL);
    run(
        client,
        &format!(
            "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost)
             SELECT i, now() - i * interval '1 hour', 'org', 'k' || i % 7, 'm', 0.01 FROM generate_series(1, {days} * 24) i"
        ),
    );
    run(client, "SELECT llm.attach_log('public.requests')");
}

fn insert(client: &mut Client, from: u32, count: u32) {
    run(
        client,
        &format!(
            "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost)
             SELECT {from} + i, now() - i * interval '1 second', 'org', 'k' || i, 'm', 0.01 FROM generate_series(1, {count}) i"
        ),
    );
}

fn folded(client: &mut Client, total: u32) {
    wait_for(client, 20, "the worker folds", PENDING, "0");
    assert_eq!(text(client, TOTAL), total.to_string());
    assert_eq!(text(client, "SELECT coalesce(sum(llm._count(measures, 0)), 0) FROM llm.rollup WHERE level = 0"), total.to_string());
}

#[test]
fn backfills_folds_and_stays_out_of_the_way() {
    let cluster = Cluster::fresh("worker1", &["llm.worker = on", "llm.fold_interval = 200ms"]);
    let (one, two) = (Db::on(cluster.server.clone(), "one"), Db::on(cluster.server.clone(), "two"));
    let (mut first, mut second) = (one.connect(), two.connect());
    history(&mut first, 20);
    history(&mut second, 10);
    // Both databases, history and new rows, without a call.
    for (client, count) in [(&mut first, 480), (&mut second, 240)] {
        wait_for(client, 30, "the worker backfills", TOTAL, &count.to_string());
        wait_for(
            client,
            30,
            "the backfill is complete",
            "SELECT llm.analytics_activity('org', 'model', current_date - 30)->>'incompleteBefore'",
            "NULL",
        );
        insert(client, 10_000, 50);
        folded(client, count + 50);
        assert!(rows(client, "SELECT v::text FROM llm.verify() v").is_empty());
    }

    // Databases come and go under it.
    let mut admin = cluster.server.connect("postgres");
    drop(second);
    for i in 0..5 {
        run(&mut admin, &format!("CREATE DATABASE copy{i} TEMPLATE {}", two.name));
        let mut copy = cluster.server.connect(&format!("copy{i}"));
        insert(&mut copy, 20_000, 5);
        folded(&mut copy, 295);
        drop(copy);
        run(&mut admin, &format!("DROP DATABASE copy{i}"));
    }
    run(&mut admin, &format!("DROP DATABASE {}", two.name));

    // A reload changes the interval both ways.
    run(&mut admin, "ALTER SYSTEM SET llm.fold_interval = '1h'");
    run(&mut admin, "SELECT pg_reload_conf()");
    let mut kept = false;
    let mut total = 530;
    for _ in 0..10 {
        insert(&mut first, 30_000 + total, 1);
        total += 1;
        let end = Instant::now() + Duration::from_millis(1500);
        kept = true;
        while kept && Instant::now() < end {
            kept = text(&mut first, PENDING) != "0";
            std::thread::sleep(Duration::from_millis(50));
        }
        if kept {
            break;
        }
    }
    assert!(kept, "with an interval of an hour a row stays pending");
    run(&mut admin, "ALTER SYSTEM SET llm.fold_interval = '200ms'");
    run(&mut admin, "SELECT pg_reload_conf()");
    folded(&mut first, total);

    // Off means off, without a restart; and on again.
    run(&mut admin, "ALTER SYSTEM SET llm.worker = off");
    run(&mut admin, "SELECT pg_reload_conf()");
    wait_for(
        &mut admin,
        10,
        "no worker in a database",
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%llm%' AND datname IS NOT NULL",
        "0",
    );
    let mut stays = 0;
    for _ in 0..10 {
        insert(&mut first, 40_000 + total, 1);
        total += 1;
        std::thread::sleep(Duration::from_millis(100));
        stays = text(&mut first, PENDING).parse().expect("a count");
    }
    assert!(stays > 5, "with llm.worker = off rows stay pending: {stays}");
    run(&mut admin, "ALTER SYSTEM RESET ALL");
    run(&mut admin, "SELECT pg_reload_conf()");
    folded(&mut first, total);
}

#[test]
fn survives_errors_and_crashes() {
    // What is committed must be on disk: the server is killed.
    let cluster = Cluster::fresh("worker2", &["llm.worker = on", "llm.fold_interval = 100ms", "synchronous_commit = on"]);
    let db = Db::on(cluster.server.clone(), "errors");
    let mut client = db.connect();
    history(&mut client, 2);
    wait_for(&mut client, 20, "the worker backfills", TOTAL, "48");

    // The fold fails, says so, and recovers by itself once it can.
    run(&mut client, "ALTER TABLE llm._rollup_detail RENAME TO elsewhere");
    insert(&mut client, 1_000, 5);
    wait_for(&mut client, 30, "the error is shown", "SELECT count(*) > 0 FROM llm.status s WHERE s::text LIKE '%42P01%'", "t");
    assert_ne!(text(&mut client, PENDING), "0");
    run(&mut client, "ALTER TABLE llm.elsewhere RENAME TO _rollup_detail");
    wait_for(&mut client, 90, "the worker recovers from an error", PENDING, "0");
    folded(&mut client, 53);

    // Terminated, launcher and all.
    let mut total = 53;
    for _ in 0..5 {
        run(&mut client, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE '%llm%'");
        insert(&mut client, 2_000 + total, 5);
        total += 5;
        wait_for(&mut client, 60, "the worker comes back after it was terminated", PENDING, "0");
    }
    folded(&mut client, total);

    // A crash of the whole server: the launcher is killed the hard way.
    let pid = text(&mut client, "SELECT max(pid) FROM pg_stat_activity WHERE backend_type LIKE '%llm%'");
    assert_ne!(pid, "NULL", "there is a launcher");
    insert(&mut client, 5_000, 5);
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().expect("kill");
    assert!(killed.success() || text(&mut client, "SELECT 1") == "1", "a short-lived worker may have ended by itself");
    let end = Instant::now() + Duration::from_secs(30);
    // The postmaster notices at its leisure, and ends everybody.
    while killed.success() && client.simple_query("SELECT 1").is_ok() {
        assert!(Instant::now() < end, "the server notices");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut client = loop {
        if let Ok(mut client) = cluster.server.config(&db.name, "postgres").connect(postgres::NoTls)
            && client.simple_query("SELECT 1").is_ok()
        {
            break client;
        }
        assert!(Instant::now() < end, "the server recovers");
        std::thread::sleep(Duration::from_millis(100));
    };
    insert(&mut client, 6_000, 5);
    folded(&mut client, total + 10);
    assert!(rows(&mut client, "SELECT v::text FROM llm.verify() v").is_empty());
}

#[test]
fn stops_within_a_second() {
    let cluster = Cluster::fresh("worker3", &["llm.worker = off", "llm.fold_interval = 100ms"]);
    let db = Db::on(cluster.server.clone(), "stop");
    let mut client = db.connect();
    history(&mut client, 1);
    run(&mut client, "CALL llm.backfill()");
    // A backlog that takes a while: every row is a series of its own.
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, project_id, api_key_id, model, cost)
         SELECT 1000 + i, now() - i * interval '1 minute', 'org', 'p' || i, 'k' || i, 'm' || i, 0.01 FROM generate_series(1, 150000) i; CHECKPOINT",
    );
    run(&mut client, "ALTER SYSTEM SET llm.worker = on; ");
    run(&mut client, "SELECT pg_reload_conf()");
    wait_for(
        &mut client,
        20,
        "a worker is busy",
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE '%llm%' AND state = 'active' AND datname = current_database()",
        "t",
    );
    std::thread::sleep(Duration::from_millis(200)); // well into its statement
    drop(client);
    let started = Instant::now();
    cluster.stop();
    let took = started.elapsed();
    println!("fast stop of a busy server took {took:?}");
    assert!(took < Duration::from_millis(2000), "fast stop took {took:?}");

    // Nothing was lost by it.
    cluster.start(&["llm.worker = on", "llm.fold_interval = 100ms"]);
    let mut client = db.connect();
    assert_eq!(text(&mut client, TOTAL), "150024");
    wait_for(&mut client, 90, "the backlog is folded", PENDING, "0");
    assert_eq!(text(&mut client, TOTAL), "150024");
    // No crash loop and no complaint on the way.
    let log = cluster.log();
    for bad in ["PANIC", "was terminated by signal", "XX000", "panicked"] {
        assert!(
            !log.contains(bad),
            "the server's log has {bad}:\n{}",
            log.lines().filter(|l| l.contains(bad)).collect::<Vec<_>>().join("\n")
        );
    }
}

#[test]
fn works_without_preload() {
    let cluster = Cluster::fresh("worker4", &["shared_preload_libraries = ''"]);
    let db = Db::on(cluster.server.clone(), "plain");
    let mut client = db.connect();
    history(&mut client, 3);
    assert_eq!(text(&mut client, WORKERS), "0");
    insert(&mut client, 1_000, 5);
    run(&mut client, "CALL llm.maintain()");
    folded(&mut client, 77);
    let mut other = db.connect(); // a session that has not loaded the library yet
    insert(&mut other, 2_000, 5);
    run(&mut other, "SET llm.on_delete = 'subtract'; DELETE FROM public.requests WHERE id > 2000");
    assert_eq!(text(&mut db.connect(), TOTAL), "77");
    run(&mut db.connect(), "CALL llm.maintain()");
    folded(&mut client, 77);
    let refusal = llm_analytics_tests::db::refused(&mut client, "BEGIN; CALL llm.maintain()");
    assert_eq!(refusal.state, "2D000", "{refusal:?}");
}

/// The worker is a superuser in somebody's database: settings of that database must not make it call what its owner planted.
#[test]
fn a_database_owner_gains_nothing() {
    let cluster = Cluster::fresh("worker5", &["llm.worker = on", "llm.fold_interval = 100ms"]);
    let db = Db::on(cluster.server.clone(), "owned");
    let owner = Role::new(&cluster.server, "dbo");
    let mut client = db.connect();
    history(&mut client, 2);
    run(&mut client, &format!("ALTER DATABASE {} OWNER TO {}", db.name, owner.name));
    let mut hostile = db.connect_as(&owner.name);
    run(
        &mut hostile,
        &format!(
            "CREATE SCHEMA evil; SET search_path = evil, pg_catalog;
             CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS
                'BEGIN ALTER ROLE {0} SUPERUSER; RETURN $1 OPERATOR(pg_catalog.=) $2; END';
             CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = text, RIGHTARG = text);
             CREATE FUNCTION evil.max(timestamptz) RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN ALTER ROLE {0} SUPERUSER; RETURN $1; END';
             ALTER DATABASE {1} SET search_path = evil, pg_catalog;
             ALTER DATABASE {1} SET default_transaction_read_only = on;
             ALTER DATABASE {1} SET default_transaction_isolation = serializable;
             ALTER DATABASE {1} SET statement_timeout = '1ms'",
            owner.name, db.name
        ),
    );
    if text(&mut client, "SELECT current_setting('server_version_num')::int >= 170000") == "t" {
        run(&mut client, &format!("ALTER DATABASE {} SET transaction_timeout = '1ms'", db.name));
    }
    // Rounds that began after that: they backfill and fold, and nothing else happens.
    run(&mut client, "UPDATE llm.source SET complete_from = 'infinity'");
    insert(&mut client, 1_000, 20);
    wait_for(&mut client, 20, "backfilled again", "SELECT complete_from FROM llm.source", "-infinity");
    folded(&mut client, 68);
    assert_eq!(text(&mut client, &format!("SELECT rolsuper FROM pg_roles WHERE rolname = '{}'", owner.name)), "f");
    run(&mut client, &format!("ALTER DATABASE {} OWNER TO postgres; REASSIGN OWNED BY {} TO postgres", db.name, owner.name));
}
