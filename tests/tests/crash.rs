//! The server dies at random moments, again and again, with writers, folds, rebuilds and backfills under way. After each recovery every
//! number is what the log says.
//!
//! CRASH_SEED repeats the choices, CRASH_KILLS makes it longer.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, run, text};
use llm_analytics_tests::model::Log;
use llm_analytics_tests::ops::Writer;
use llm_analytics_tests::oracle;
use llm_analytics_tests::rng::Rng;
use postgres::Client;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

const WRITERS: i64 = 8;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Death {
    /// SIGKILL of the postmaster and of every process below it: the machine goes.
    Everything,
    /// SIGQUIT of the postmaster: an immediate shutdown.
    Immediate,
    /// SIGKILL of the backend that folds, rebuilds or backfills: the postmaster starts everybody anew.
    Maintenance,
    /// SIGKILL of the background worker, of the launcher where none is at work.
    Worker,
}

const DEATHS: [Death; 6] = [Death::Everything, Death::Immediate, Death::Maintenance, Death::Everything, Death::Immediate, Death::Worker];

fn signal(name: &str, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    // A process that is gone already is no failure.
    let _ = Command::new("kill").arg(format!("-{name}")).args(&pids).output().expect("kill");
}

/// The processes below one.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // "pid (name) state parent ..", and a name may hold spaces
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            after_name.split_whitespace().nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent)
        })
        .collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Folds, rebuilds, backfills, until the connection is lost.
fn maintain(client: &mut Client, rng: &mut Rng) -> bool {
    let statements: &[&str] = match rng.below(10) {
        0..=4 => &["SELECT llm.fold()"],
        5..=7 => &["SELECT llm.rebuild('2017-01-01', '2100-01-01')"],
        // All of it is to be read again, which changes no number.
        _ => &["UPDATE llm.source SET complete_from = 'infinity'", "CALL llm.backfill()"],
    };
    for sql in statements {
        if let Err(error) = client.batch_execute(sql) {
            let state = error.as_db_error().map(|e| e.code().code().to_owned());
            assert!(state.as_deref().is_none_or(|s| s.starts_with("57P0") || s == "40001"), "{sql}: {error:?}");
            return state.as_deref() == Some("40001");
        }
    }
    true
}

/// Everything that counts, compared with what the log and the record of kept rows say.
fn check(client: &mut Client) {
    oracle::begin_snapshot(client, &Log::ALL);
    oracle::check_usage(client);
    run(client, "COMMIT");
    oracle::check_verify(client);
}

#[test]
fn nothing_is_lost_or_doubled_when_the_server_dies() {
    let seed = number("CRASH_SEED", 20_261_125);
    let kills = number("CRASH_KILLS", 24);
    println!("CRASH_SEED={seed} CRASH_KILLS={kills}");
    let mut rng = Rng::new(seed);
    let settings = ["llm.fold_interval = 100ms", "llm.worker = off", "fsync = on", "full_page_writes = on", "checkpoint_timeout = 30s"];
    let cluster = Cluster::fresh("crash", &settings);
    let db = Db::new_on(cluster.server.clone(), "crash");
    let mut client = db.connect();
    for log in Log::ALL {
        run(&mut client, log.create());
        run(&mut client, &log.attach());
    }
    oracle::install(&mut client, &Log::ALL);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|i| Writer::new(rng.fork(), 1 + i, false)).collect();
    let mut deaths = Vec::new();
    for kill in 0..kills {
        let death = DEATHS[(kill % DEATHS.len() as u64) as usize];
        // Off until the check after a recovery is done; then on, for this start of the server.
        run(&mut client, "ALTER SYSTEM SET llm.worker = on");
        run(&mut client, "SELECT pg_reload_conf()");
        run(&mut client, "ALTER SYSTEM RESET llm.worker");
        let postmaster = cluster.postmaster().expect("a running server");
        let pause = Duration::from_millis(rng.between(150, 1_300) as u64);
        let stopped = AtomicBool::new(false);
        let maintainer = AtomicI32::new(0);
        let mut maintenance = rng.fork();
        let synchronous = if kill % 2 == 0 { "on" } else { "off" };
        std::thread::scope(|scope| {
            for writer in &mut writers {
                let (db, stopped) = (&db, &stopped);
                scope.spawn(move || {
                    let mut client = db.connect();
                    run(&mut client, &format!("SET lock_timeout = '400ms'; SET synchronous_commit = {synchronous}"));
                    while !stopped.load(Ordering::Relaxed) && writer.transaction_until_lost(&mut client) {}
                });
            }
            let (db, stopped, maintainer) = (&db, &stopped, &maintainer);
            scope.spawn(move || {
                let mut client = db.connect();
                let pid = text(&mut client, "SELECT pg_backend_pid()").parse().expect("a pid");
                maintainer.store(pid, Ordering::Relaxed);
                while !stopped.load(Ordering::Relaxed) && maintain(&mut client, &mut maintenance) {}
            });
            wait_until("the maintenance connection", || maintainer.load(Ordering::Relaxed) != 0);
            std::thread::sleep(pause);
            match death {
                Death::Everything => {
                    let below = children(postmaster);
                    signal("KILL", &[postmaster]);
                    signal("KILL", &below);
                }
                Death::Immediate => signal("QUIT", &[postmaster]),
                Death::Maintenance => signal("KILL", &[u32::try_from(maintainer.load(Ordering::Relaxed)).expect("a pid")]),
                Death::Worker => {
                    let sql =
                        "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'llm_analytics%' ORDER BY backend_type DESC LIMIT 1";
                    signal("KILL", &[text(&mut client, sql).parse().expect("the launcher, at least")]);
                }
            }
            stopped.store(true, Ordering::Relaxed);
        });
        if matches!(death, Death::Everything | Death::Immediate) {
            wait_until("the end of the server", || !Path::new(&format!("/proc/{postmaster}")).exists());
            cluster.start(&settings);
        }
        // The server may be on its way up again.
        wait_until("the recovery", || db.server.config(&db.name, &db.server.user).connect(postgres::NoTls).is_ok());
        client = db.connect();
        check(&mut client);
        deaths.push(death);
    }
    let (committed, given_up) = writers.iter().fold((0, 0), |(c, g), w| (c + w.committed, g + w.given_up));
    run(&mut client, "CALL llm.backfill()");
    check(&mut client);
    let count = |death| deaths.iter().filter(|d| **d == death).count();
    println!(
        "{} kills ({} of everything, {} immediate shutdowns, {} of a maintenance backend, {} of the worker); {committed} transactions committed, {given_up} not; no difference",
        deaths.len(),
        count(Death::Everything),
        count(Death::Immediate),
        count(Death::Maintenance),
        count(Death::Worker),
    );
    assert!(committed > kills * 10, "too few transactions got through: {committed}");
}
