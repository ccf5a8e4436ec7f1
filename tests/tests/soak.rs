//! Everything at once for a while: writers at full speed with the worker on, statements canceled and connections ended, VACUUM, REINDEX, ALTER
//! TABLE, partitions that come and go, an old snapshot held open. At the end every number is what the log says, nothing is pending, nobody
//! deadlocked and no memory grew.
//!
//! SOAK_SECONDS makes it longer, SOAK_SEED repeats the choices.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, Role, run, text, wait_for};
use llm_analytics_tests::model::Log;
use llm_analytics_tests::ops::Writer;
use llm_analytics_tests::oracle;
use llm_analytics_tests::rng::Rng;
use postgres::Client;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Memory of its own that a process has in kB; None when it is gone.
fn memory(pid: &str) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn pid(client: &mut Client, what: &str) -> String {
    text(client, &format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{what}'"))
}

/// What may fail here fails because it was canceled or could not have its lock.
fn try_run(client: &mut Client, sql: &str) -> bool {
    match client.batch_execute(sql) {
        Ok(()) => true,
        Err(error) => {
            let state = error.as_db_error().map(|e| e.code().code().to_owned());
            assert!(matches!(state.as_deref(), Some("57014" | "55P03")), "{sql}: {error:?}");
            let _ = client.batch_execute("ROLLBACK");
            false
        }
    }
}

const MAINTENANCE: [&str; 12] = [
    "VACUUM public.requests, public.calls, public.log",
    "VACUUM llm._pending, llm._rollup_detail",
    "VACUUM (ANALYZE) llm._rollup_model_day",
    "ANALYZE public.requests, public.log, llm._pending, llm.series",
    "REINDEX INDEX CONCURRENTLY llm._rollup_detail_range",
    "REINDEX INDEX CONCURRENTLY llm._rollup_key_day_range",
    "REINDEX TABLE CONCURRENTLY public.requests",
    "ALTER TABLE public.requests ADD COLUMN IF NOT EXISTS soak int",
    "ALTER TABLE public.requests DROP COLUMN IF EXISTS soak",
    "SELECT llm.fold()",
    "SELECT llm.rebuild('2026-03-01', '2026-03-10')",
    "SELECT count(*) FROM llm.verify()",
];

#[test]
fn everything_at_once() {
    let (seconds, seed) = (number("SOAK_SECONDS", 30), number("SOAK_SEED", 7));
    println!("SOAK_SECONDS={seconds} SOAK_SEED={seed}");
    let mut rng = Rng::new(seed);
    let cluster = Cluster::fresh("soak", &["llm.worker = on", "llm.fold_interval = 200ms"]);
    let db = Db::new_on(cluster.server.clone(), "soak");
    let role = Role::new(&cluster.server, "ordinary");
    let mut client = db.connect();
    for log in Log::ALL {
        run(&mut client, log.create());
        run(&mut client, &log.attach());
    }
    oracle::install(&mut client, &Log::ALL);
    run(&mut client, &format!("CREATE SCHEMA theirs AUTHORIZATION {}", role.name));
    // A log that nobody else writes to, whose partitions come and go; in keep mode their rows stay counted.
    run(
        &mut client,
        "CREATE TABLE public.turn (id int, created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY RANGE (created_at);
         SELECT llm.attach_log('public.turn')",
    );
    let started = Instant::now();
    let over = AtomicBool::new(false);
    let (canceled, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let turned = AtomicU64::new(0);
    let mut writers: Vec<Writer> = (0..4).map(|i| Writer::new(rng.fork(), 1 + i, false)).collect();
    let (launcher, kept_writer) = (pid(&mut client, "llm_analytics launcher"), AtomicU64::new(0));
    let mut early = None;
    std::thread::scope(|scope| {
        for writer in &mut writers {
            let (db, over) = (&db, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut client = db.connect();
                    run(&mut client, "SET lock_timeout = '400ms'; SET application_name = 'victim'");
                    while !over.load(Ordering::Relaxed) && writer.transaction_until_lost(&mut client) {}
                }
            });
        }
        // A gateway's connection, which lives on: its memory is looked at. It does not fold, which takes memory that the allocator keeps.
        let (db, over, kept_writer) = (&db, &over, &kept_writer);
        scope.spawn(move || {
            let mut client = db.connect();
            run(&mut client, "SET lock_timeout = '2s'");
            kept_writer.store(text(&mut client, "SELECT pg_backend_pid()").parse().expect("a pid"), Ordering::Relaxed);
            let mut id = 7_000_000_000_000_u64;
            while !over.load(Ordering::Relaxed) {
                id += 1;
                try_run(
                    &mut client,
                    &format!("INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES ({id}, '2026-03-08Z', 'org_a', 'k1', 'm', 0.25)"),
                );
                try_run(&mut client, &format!("UPDATE public.requests SET cost = 0.5 WHERE id = {id}"));
            }
        });
        let mut dice = rng.fork();
        let (canceled, ended, turned) = (&canceled, &ended, &turned);
        scope.spawn(move || {
            let mut client = db.connect();
            while !over.load(Ordering::Relaxed) {
                let (call, count) = if dice.percent(70) { ("pg_cancel_backend", canceled) } else { ("pg_terminate_backend", ended) };
                let whom = "application_name IN ('victim', 'maintenance') OR backend_type = 'llm_analytics worker'";
                let whom =
                    if call == "pg_cancel_backend" { whom } else { "application_name = 'victim' OR backend_type = 'llm_analytics worker'" };
                let sql =
                    format!("SELECT count(*) FROM (SELECT {call}(pid) FROM pg_stat_activity WHERE {whom} ORDER BY random() LIMIT 1) x");
                count.fetch_add(text(&mut client, &sql).parse().expect("a count"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(dice.between(20, 300) as u64));
            }
        });
        let mut dice = rng.fork();
        scope.spawn(move || {
            let mut client = db.connect();
            run(&mut client, "SET lock_timeout = '2s'; SET application_name = 'maintenance'");
            while !over.load(Ordering::Relaxed) {
                try_run(&mut client, MAINTENANCE[dice.below(MAINTENANCE.len() as u64) as usize]);
            }
        });
        scope.spawn(move || {
            let mut client = db.connect();
            run(&mut client, "SET TimeZone = 'UTC'");
            let mut day = 0;
            while !over.load(Ordering::Relaxed) {
                day += 1;
                let part = |n: u64| format!("public.turn_{n}");
                let bounds = |n: u64| format!("FOR VALUES FROM ('2026-01-01Z'::timestamptz + interval '{n} days') TO ('2026-01-01Z'::timestamptz + interval '{} days')", n + 1);
                let row = |n: u64| format!("({n}, '2026-01-01 12:00Z'::timestamptz + interval '{n} days', 'turn', 'k', 'm', 0.5)");
                if day % 2 == 0 {
                    run(&mut client, &format!("CREATE TABLE {} PARTITION OF public.turn {}; INSERT INTO public.turn VALUES {}", part(day), bounds(day), row(day)));
                } else {
                    run(&mut client, &format!("CREATE TABLE {0} (LIKE public.turn); INSERT INTO {0} VALUES {1}; ALTER TABLE public.turn ATTACH PARTITION {0} {2}", part(day), row(day), bounds(day)));
                }
                turned.fetch_add(1, Ordering::Relaxed);
                if day > 3 {
                    let old = part(day - 3);
                    run(&mut client, &if day % 3 == 0 { format!("DROP TABLE {old}") } else { format!("ALTER TABLE public.turn DETACH PARTITION {old}; DROP TABLE {old}") });
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let ordinary = role.name.clone();
        scope.spawn(move || {
            let mut client = db.connect_as(&ordinary);
            let mut old = db.connect();
            while !over.load(Ordering::Relaxed) {
                run(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ");
                let before = text(&mut old, "SELECT sum(requests)::text || ' ' || trim_scale(sum(cost)) FROM llm.usage");
                for _ in 0..20 {
                    run(&mut client, "CREATE TABLE theirs.t (i int); DROP TABLE theirs.t");
                    std::thread::sleep(Duration::from_millis(50));
                }
                let after = text(&mut old, "SELECT sum(requests)::text || ' ' || trim_scale(sum(cost)) FROM llm.usage");
                assert_eq!(after, before, "an old snapshot sees the same");
                run(&mut old, "COMMIT");
            }
        });
        while started.elapsed() < Duration::from_secs(seconds) && !std::thread::panicking() {
            std::thread::sleep(Duration::from_millis(100));
            if early.is_none() && started.elapsed() > Duration::from_secs(seconds / 3) {
                early = memory(&launcher).zip(memory(&kept_writer.load(Ordering::Relaxed).to_string()));
            }
        }
        let late = memory(&launcher).zip(memory(&kept_writer.load(Ordering::Relaxed).to_string()));
        over.store(true, Ordering::Relaxed);
        let ((launcher_early, writer_early), (launcher_late, writer_late)) =
            early.zip(late).expect("the memory of two processes that live on");
        println!("launcher {launcher_early} -> {launcher_late} kB, a writer {writer_early} -> {writer_late} kB");
        assert!(launcher_late < launcher_early + 1_024, "the launcher grows: {launcher_early} -> {launcher_late} kB");
        assert!(writer_late < writer_early + 4_096, "a writer's backend grows: {writer_early} -> {writer_late} kB");
    });
    wait_for(&mut client, 60, "the worker drains what is pending", "SELECT count(*) FROM llm._pending", "0");
    oracle::check_verify(&mut client);
    let turns = turned.load(Ordering::Relaxed);
    let sum = "SELECT sum(requests)::text || ' ' || trim_scale(sum(cost)) FROM llm.usage WHERE organization_id = 'turn'";
    assert_eq!(text(&mut client, sum), format!("{turns} {}", text(&mut client, &format!("SELECT trim_scale({turns} * 0.5)"))));
    run(&mut client, "SELECT llm.detach_log('public.turn'); DROP TABLE public.turn; SELECT llm.forget('turn')");
    oracle::begin_snapshot(&mut client, &Log::ALL);
    oracle::check_usage(&mut client);
    run(&mut client, "COMMIT");
    let log = cluster.log();
    for bad in ["deadlock detected", "PANIC", "was terminated by signal", "XX000"] {
        assert!(!log.contains(bad), "the server's log has {bad}");
    }
    let committed: u64 = writers.iter().map(|w| w.committed).sum();
    let (canceled, ended) = (canceled.into_inner(), ended.into_inner());
    println!("{committed} transactions, {canceled} statements canceled, {ended} connections ended, {turns} partitions; no difference");
    assert!(committed > seconds * 5 && canceled > 0 && ended > 0 && turns > 3);
    run(&mut client, &format!("DROP SCHEMA theirs; DROP OWNED BY {}", role.name));
}
