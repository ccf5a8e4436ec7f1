//! pg_upgrade from 15 to 18, with the worker on in both clusters: the numbers, what is attached and what is pending come along.

use llm_analytics_tests::cluster::{Cluster, root};
use llm_analytics_tests::db::{Db, rows, run, text, wait_for};
use llm_analytics_tests::hosts;
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;
use std::path::{Path, PathBuf};
use std::process::Command;

fn answers(client: &mut Client) -> Vec<Vec<String>> {
    let mut all = rows(client, "SELECT llm.analytics_activity('org', 'apiKey', '2026-01-01', '2026-03-31', 'Asia/Kolkata')");
    all.extend(rows(client, "SELECT llm.analytics_members('org', '2026-01-01', '2026-03-31')"));
    all.extend(rows(client, "SELECT u::text FROM llm.usage u ORDER BY 1"));
    all.extend(rows(client, "SELECT source, state, complete_from, sealed_before, retention, pending_rows FROM llm.status ORDER BY source"));
    all.extend(rows(client, "SELECT relation::regclass::text, name, enabled, wanted FROM llm._trigger_state ORDER BY 1, 2"));
    all
}

/// A program of PostgreSQL as the servers' user, in a directory that belongs to it.
fn program(directory: &Path, path: PathBuf, arguments: &[&str]) {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(&path);
        command
    } else {
        Command::new(&path)
    };
    let output = command.args(arguments).current_dir(directory).output().expect("a program of PostgreSQL");
    if !output.status.success() {
        // pg_upgrade says in files what went wrong.
        let said =
            Command::new("grep").args(["-rhE", "-A", "8", "error:|ERROR:", "--include=*.log"]).arg(directory).output().expect("grep");
        println!("{}", String::from_utf8_lossy(&said.stdout));
    }
    assert!(
        output.status.success(),
        "{path:?} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%llm%'";
const PENDING: &str = "SELECT count(*) FROM llm._pending";

/// As fast as it gets.
const BUSY: [&str; 2] = ["llm.worker = on", "llm.fold_interval = 100ms"];

/// The worker is on from the next start.
fn worker_on(client: &mut Client) {
    run(client, "ALTER SYSTEM SET llm.worker = on");
    run(client, "ALTER SYSTEM SET llm.fold_interval = '100ms'");
}

/// pg_upgrade has read the next transaction id before it starts the old cluster in this mode, so nobody may write there. This needs one
/// major only.
#[test]
fn nothing_of_ours_runs_in_binary_upgrade_mode() {
    let cluster = Cluster::fresh("binary", &["llm.worker = off", "autovacuum = off"]);
    let db = Db::new_on(cluster.server.clone(), "binary");
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    run(&mut client, "SELECT llm.attach_log('public.requests'), llm.create_request_log('public.made')");
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, now(), 'org', 'k', 'm', 1)",
    );
    worker_on(&mut client);
    drop(client);
    cluster.stop();

    let pg_ctl = root().join(format!("target/pg/{}/bin/pg_ctl", std::env::var("PG_MAJOR").expect("PG_MAJOR")));
    let directory = cluster.data().parent().expect("the cluster's directory").to_owned();
    let data = cluster.data().to_str().expect("a path").to_owned();
    let log = directory.join("server.log").to_str().expect("a path").to_owned();
    program(&directory, pg_ctl, &["-D", &data, "-l", &log, "-w", "-s", "-o", "-b", "start"]);
    let mut client = db.connect();
    assert_eq!(text(&mut client, "SHOW llm.worker"), "on");
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    let before = text(&mut client, next);
    // The launcher would have been started with the server, and its first round was long over.
    run(&mut client, "SELECT pg_sleep(2)");
    assert_eq!(text(&mut client, WORKERS), "0");
    assert_eq!(text(&mut client, next), before);
    assert_eq!(text(&mut client, PENDING), "1");
    drop(client);
    cluster.stop();
    cluster.start(&BUSY);
    wait_for(&mut db.connect(), 30, "and it goes on afterwards", PENDING, "0");
}

#[test]
fn pg_upgrade_from_15_to_18() {
    let settings = ["llm.worker = off"];
    let old = Cluster::fresh_of("15", "upgrade", &settings);
    let db = Db::on(old.server.clone(), "upgraded");
    let mut client = db.connect();
    run(&mut client, "CREATE EXTENSION llm_analytics");
    run(&mut client, hosts::CANONICAL);
    run(
        &mut client,
        "CREATE TABLE public.calls (LIKE public.requests) PARTITION BY RANGE (created_at);
         CREATE TABLE public.calls_2 PARTITION OF public.calls FOR VALUES FROM ('2026-02-01Z') TO ('2026-03-01Z');
         CREATE TABLE public.calls_3 PARTITION OF public.calls FOR VALUES FROM ('2026-03-01Z') TO ('2026-04-01Z');
         CREATE TABLE public.calls_rest PARTITION OF public.calls DEFAULT;
         INSERT INTO llm.organization VALUES ('org', 'Org'); INSERT INTO llm.membership VALUES ('org', 'u', 'owner'); INSERT INTO llm.app_user VALUES ('u', 'Ada');
         INSERT INTO llm.api_key (id, label, user_id) VALUES ('k1', 'laptop', 'u'); UPDATE llm.api_key SET label = 'desktop'",
    );
    let insert = |table: &str, from: u32| {
        format!(
            "INSERT INTO public.{table} (id, created_at, organization_id, api_key_id, model, cost)
             SELECT {from} + i, '2026-02-20Z'::timestamptz + i * interval '5 hours', 'org', 'k' || i % 3, 'm', i / 7.0 FROM generate_series(1, 80) i"
        )
    };
    for table in ["requests", "calls"] {
        run(&mut client, &insert(table, 0));
        run(&mut client, &format!("SELECT llm.attach_log('public.{table}')"));
    }
    run(&mut client, "CALL llm.backfill()");
    run(&mut client, "SELECT llm.create_request_log('public.made'); SELECT llm.set_retention('public.made', '1 year')");
    for table in ["requests", "calls"] {
        run(&mut client, &insert(table, 1_000));
        run(
            &mut client,
            &format!("DELETE FROM public.{table} WHERE id < 10; UPDATE public.{table} SET cost = 9 WHERE id BETWEEN 20 AND 30"),
        );
    }
    // What left by its bounds and what left with its rows remembered; one by an oid that has to stay the same.
    run(
        &mut client,
        "ALTER TABLE public.calls DETACH PARTITION public.calls_2; ALTER TABLE public.calls DETACH PARTITION public.calls_rest; SELECT llm.seal('public.requests', '2026-02-22')",
    );
    check_verify(&mut client);
    let before = answers(&mut client);
    assert_ne!(text(&mut client, PENDING), "0");
    worker_on(&mut client);
    // Debian's 15.20 marks columns with an option that the pg_dump of an older minor release, as our 18.4 is, takes for one of the user's.
    run(
        &mut client,
        "UPDATE pg_attribute SET attoptions = (SELECT array_agg(o) FROM unnest(attoptions) o WHERE o NOT LIKE 'pg_attver=%') WHERE attoptions::text LIKE '%pg_attver=%'",
    );
    drop(client);
    old.stop();

    let new = Cluster::fresh_of("18", "upgrade", &BUSY);
    new.stop();
    let directory = new.data().parent().expect("the cluster's directory").to_owned();
    // Without the page checksums that initdb of 18 makes and that of 15 does not.
    let (bin_15, bin_18) = (root().join("target/pg/15/bin"), root().join("target/pg/18/bin"));
    program(&directory, bin_18.join("pg_checksums"), &["--disable", "--no-sync", "-D", new.data().to_str().expect("a path")]);
    let text_of = |path: PathBuf| path.canonicalize().expect("a directory").to_str().expect("a path").to_owned();
    program(
        &directory,
        bin_18.join("pg_upgrade"),
        &[
            "--old-bindir",
            &text_of(bin_15),
            "--new-bindir",
            &text_of(bin_18),
            "--old-datadir",
            &text_of(old.data()),
            "--new-datadir",
            &text_of(new.data()),
            "--username",
            "postgres",
            "--socketdir",
            &new.server.host,
            "--no-sync",
        ],
    );
    new.start(&settings);
    let upgraded = Db { server: new.server.clone(), name: db.name.clone() };
    let mut client = upgraded.connect();
    assert_eq!(answers(&mut client), before);
    check_verify(&mut client);
    for table in ["requests", "calls"] {
        run(
            &mut client,
            &format!("DELETE FROM public.{table} WHERE id < 15; UPDATE public.{table} SET model = 'm2' WHERE id BETWEEN 20 AND 30"),
        );
        let late = insert(table, 2_000).replace("2026-02-20Z", "2026-03-02Z").replace("80", "50");
        run(&mut client, &late);
    }
    check_verify(&mut client);
    run(&mut client, "SELECT llm.fold(); SELECT llm.rebuild('-infinity', 'infinity')");
    check_verify(&mut client);
    let total = "SELECT sum(requests)::text || ' ' || trim_scale(sum(cost)) FROM llm.usage";
    let counted = text(&mut client, total);
    run(
        &mut client,
        "ALTER TABLE public.calls ATTACH PARTITION public.calls_2 FOR VALUES FROM ('2026-02-01Z') TO ('2026-03-01Z');
         ALTER TABLE public.calls ATTACH PARTITION public.calls_rest DEFAULT",
    );
    assert_eq!(text(&mut client, total), counted, "tables that left before the upgrade are known when they come back");
    check_verify(&mut client);
    run(&mut client, "CALL llm.maintain()");
    check_verify(&mut client);
    // No row of ours has a transaction id that this cluster has not given out.
    run(&mut client, "VACUUM (FREEZE)");
    drop(client);
    new.stop();
    new.start(&BUSY);
    let mut client = upgraded.connect();
    run(&mut client, &insert("requests", 3_000));
    wait_for(&mut client, 30, "the worker goes on", PENDING, "0");
    check_verify(&mut client);
}
