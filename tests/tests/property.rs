//! Thousands of random operations on three logs at once, folds and rebuilds among them; after each round every number is
//! the one a plain SQL computation over the log gives.
//!
//! PROPERTY_SEED repeats a run (rounds with several connections interleave as they will), PROPERTY_ROUNDS makes it longer.

use llm_analytics_tests::db::{Db, quote, rows, run, text};
use llm_analytics_tests::model::{self, Log};
use llm_analytics_tests::ops::Writer;
use llm_analytics_tests::oracle::{self, Question, ZONES};
use llm_analytics_tests::rng::Rng;
use postgres::Client;
use std::sync::atomic::{AtomicBool, Ordering};

const DIRECTORIES: &str = "
    INSERT INTO llm.organization (id, name) VALUES ('org_a', 'Org A');
    INSERT INTO llm.project (id, organization_id, name) VALUES ('p1', 'org_a', 'Production API'), ('p2', 'org_a', 'Production API'), ('p3', 'org_a', 'Another');
    INSERT INTO llm.api_key (id, label, user_id) VALUES ('k1', 'laptop', NULL), ('g1', 'laptop', 'u1'), ('g2', NULL, 'u2'), ('g3', NULL, NULL);
    INSERT INTO llm.app_user (id, name, email) VALUES ('u1', 'Ada', 'ada@example.com');";

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Rows that are there before the log is attached, so that backfill has its part.
fn history(client: &mut Client, rng: &mut Rng, log: Log) {
    for chunk in 0..4 {
        let tuples: Vec<String> = (0..60).map(|i| model::tuple(log, &model::row(log, rng, 900_000_000_000 + chunk * 60 + i))).collect();
        run(client, &format!("INSERT INTO {} ({}) VALUES {}", log.table(), model::names(log, ""), tuples.join(", ")));
    }
}

fn setup(rng: &mut Rng) -> Db {
    let db = Db::new("property");
    let mut client = db.connect();
    run(&mut client, DIRECTORIES);
    for log in Log::ALL {
        run(&mut client, log.create());
        history(&mut client, rng, log);
        run(&mut client, &log.attach());
    }
    oracle::install(&mut client, &Log::ALL);
    db
}

fn question(client: &mut Client, rng: &mut Rng, long: bool) -> Option<Question> {
    let orgs = rows(client, "SELECT DISTINCT org FROM o ORDER BY 1");
    if orgs.is_empty() {
        return None;
    }
    let org = orgs[rng.below(orgs.len() as u64) as usize][0].clone();
    let (from, to) = [
        ("2026-03-07", "2026-03-09"), // America/New_York springs forward on the 8th
        ("2025-11-01", "2025-11-03"), // and falls back on the 2nd
        ("2026-02-20", "2026-04-10"),
        ("2025-09-20", "2026-06-30"),
        ("2018-06-01", "2028-06-30"), // long answers: now and then
    ][[0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 4][rng.below(if long { 12 } else { 11 }) as usize]];
    Some(Question { org, from: from.to_owned(), to: to.to_owned(), project: None, key: None, user: None })
}

/// Adds filters that the organization has usage for.
fn filtered(client: &mut Client, rng: &mut Rng, q: &Question) -> Question {
    let mut q = q.clone();
    let mut one = |column: &str, rng: &mut Rng| {
        let found = rows(
            client,
            &format!(
                "SELECT DISTINCT {column} FROM o WHERE org = {} AND {column} <> '' AND octet_length({column}) <= 200 ORDER BY 1",
                quote(&q.org)
            ),
        );
        (!found.is_empty()).then(|| found[rng.below(found.len() as u64) as usize][0].clone())
    };
    match rng.below(5) {
        0 => q.project = one("raw_project", rng),
        1 => q.key = one("raw_key", rng),
        2 => q.user = one("raw_usr", rng),
        3 => (q.project, q.user) = (one("raw_project", rng), one("raw_usr", rng)),
        _ => (q.project, q.key) = (one("raw_project", rng), one("raw_key", rng)),
    }
    q
}

/// Every group_by in every zone, in one snapshot.
fn check_all(client: &mut Client, rng: &mut Rng) {
    oracle::begin_snapshot(client, &Log::ALL);
    if let Some(q) = question(client, rng, false) {
        for zone in ZONES {
            for group in 0..8 {
                oracle::check(client, zone, group, &q);
                if rng.percent(40) {
                    let narrow = filtered(client, rng, &q);
                    oracle::check(client, zone, group, &narrow);
                }
            }
        }
    }
    oracle::check_usage(client);
    run(client, "COMMIT");
}

fn writer_connection(db: &Db) -> Client {
    let mut client = db.connect();
    run(&mut client, "SET lock_timeout = '400ms'");
    client
}

/// Folds and rebuilds of random ranges.
fn maintain(client: &mut Client, rng: &mut Rng) {
    let sql = match rng.below(10) {
        0..=5 => "SELECT llm.fold()".to_owned(),
        6 => "SELECT llm.rebuild('2017-01-01', '2100-01-01')".to_owned(),
        7 => format!("SELECT llm.rebuild('2026-03-0{}', '2026-03-08 14:20+00', 'org_a')", 1 + rng.below(7)),
        _ => {
            let hours = rng.between(0, 24 * 90);
            format!(
                "SELECT llm.rebuild(t, t + interval '{} minutes') FROM (SELECT timestamptz '2025-12-15 00:00+00' + interval '{hours} hours') x(t)",
                rng.between(1, 100_000)
            )
        }
    };
    if let Err(error) = client.batch_execute(&sql) {
        panic!("{sql}: {error:?}");
    }
}

/// One connection writes; folds, rebuilds and a second connection's open transaction come between.
fn alone(db: &Db, rng: &mut Rng, number: i64, transactions: u64) -> Writer {
    let mut client = writer_connection(db);
    let mut other = db.connect();
    let mut folder = db.connect();
    let mut writer = Writer::new(rng.fork(), number, true);
    let mut second = Writer::new(rng.fork(), number + 1, true);
    let mut open = false;
    for _ in 0..transactions {
        writer.transaction(&mut client);
        match rng.below(20) {
            0..=2 => maintain(&mut folder, rng),
            3..=5 if !open => {
                second.open(&mut other);
                open = true;
            }
            6 | 7 if open => {
                run(&mut other, rng.pick(&["COMMIT", "COMMIT", "ROLLBACK"]));
                open = false;
            }
            _ => {}
        }
    }
    if open {
        // Still open while everything is compared: not there for anybody else.
        check_all(&mut folder, rng);
        maintain(&mut folder, rng);
        run(&mut other, "COMMIT");
    }
    writer
}

/// Three connections write at once, a fourth folds and rebuilds, and this one reads.
fn together(db: &Db, rng: &mut Rng, number: i64, transactions: u64) -> Vec<Writer> {
    let done = AtomicBool::new(false);
    let mut maintenance = rng.fork();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|i| {
                let mut writer = Writer::new(rng.fork(), number + i, false);
                let mut client = writer_connection(db);
                scope.spawn(move || {
                    for _ in 0..transactions {
                        writer.transaction(&mut client);
                    }
                    writer
                })
            })
            .collect();
        let folder = scope.spawn(|| {
            let mut client = db.connect();
            while !done.load(Ordering::Relaxed) {
                maintain(&mut client, &mut maintenance);
            }
        });
        let mut reader = db.connect();
        while writers.iter().any(|w| !w.is_finished()) && !folder.is_finished() {
            oracle::begin_snapshot(&mut reader, &Log::ALL);
            if let Some(q) = question(&mut reader, rng, true) {
                for _ in 0..4 {
                    oracle::check(&mut reader, ZONES[rng.below(3) as usize], rng.below(8) as usize, &q);
                }
            }
            oracle::check_usage(&mut reader);
            run(&mut reader, "COMMIT");
        }
        let writers = writers.into_iter().map(|w| w.join()).collect::<Vec<_>>();
        done.store(true, Ordering::Relaxed);
        folder.join().expect("folds and rebuilds");
        writers.into_iter().map(|w| w.expect("a writer")).collect()
    })
}

#[test]
fn every_number_is_what_the_log_says() {
    let seed = number("PROPERTY_SEED", 20_261_124);
    let rounds = number("PROPERTY_ROUNDS", 12);
    println!("PROPERTY_SEED={seed} PROPERTY_ROUNDS={rounds}");
    let mut rng = Rng::new(seed);
    let db = setup(&mut rng);
    let mut client = db.connect();
    // Backfill while somebody writes.
    let mut writer = Writer::new(rng.fork(), 800, false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = writer_connection(&db);
            for _ in 0..150 {
                writer.transaction(&mut other);
            }
        });
        run(&mut client, "CALL llm.backfill()");
    });
    check_all(&mut client, &mut rng);
    oracle::check_verify(&mut client);
    let (mut committed, mut given_up) = (0, 0);
    for round in 0..rounds {
        let started = std::time::Instant::now();
        let number = 1 + i64::try_from(round).expect("few rounds") * 10;
        let writers = if round % 3 == 2 { together(&db, &mut rng, number, 150) } else { vec![alone(&db, &mut rng, number, 250)] };
        for writer in writers {
            committed += writer.committed;
            given_up += writer.given_up;
        }
        println!("round {round} written: {:?}", started.elapsed());
        check_all(&mut client, &mut rng); // with whatever is pending
        println!("round {round} checked: {:?}", started.elapsed());
        oracle::check_verify(&mut client);
        run(&mut client, "SELECT llm.fold()");
        assert_eq!(text(&mut client, "SELECT count(*) FROM llm._pending"), "0", "nothing is pending after a fold");
        check_all(&mut client, &mut rng);
        oracle::check_verify(&mut client);
        println!("round {round}: {:?}", started.elapsed());
    }
    let sizes = rows(
        &mut client,
        "SELECT (SELECT count(*) FROM public.requests), (SELECT count(*) FROM public.calls), (SELECT count(*) FROM public.log), (SELECT count(*) FROM oracle.rows)",
    );
    println!("{committed} transactions committed, {given_up} not; rows at the end: {sizes:?}");
    assert!(committed > rounds * 30, "too few transactions got through: {committed}");
    // Values that could not be counted were reported.
    assert_ne!(text(&mut client, "SELECT sum(skipped_values) > 0 FROM llm.status"), "f");
    // A reader leaves no trace: no transaction id is assigned, so that a standby can answer.
    run(&mut client, "BEGIN READ ONLY; SELECT llm.analytics_activity('org_a'), (SELECT count(*) FROM llm.activity('org_a'))");
    assert_eq!(text(&mut client, "SELECT pg_current_xact_id_if_assigned() IS NULL"), "t");
    run(&mut client, "COMMIT");
    // A rebuild of everything changes no number, and finds nothing to change the second time.
    run(&mut client, "SELECT llm.rebuild('2000-01-01', '2100-01-01')");
    assert_eq!(text(&mut client, "SELECT llm.rebuild('2000-01-01', '2100-01-01')"), "0");
    check_all(&mut client, &mut rng);
    oracle::check_verify(&mut client);
    run(&mut client, "DROP VIEW oracle.rows; DROP EXTENSION llm_analytics");
    run(&mut client, "DELETE FROM public.requests; UPDATE public.calls SET note = 'x'; TRUNCATE public.log");
}

/// The transition tables of a big statement are on disk; every row of them counts.
#[test]
fn statements_larger_than_work_mem() {
    let mut rng = Rng::new(1);
    let db = setup(&mut rng);
    let mut client = db.connect();
    run(&mut client, "CALL llm.backfill()");
    run(&mut client, "SET work_mem = '64kB'");
    for statement in [
        "INSERT INTO public.requests (id, created_at, organization_id, project_id, api_key_id, user_id, model, provider, application, mode, input_tokens, output_tokens, cost)
         SELECT i, timestamptz '2026-03-01 00:00+00' + i * interval '1 minute', 'org_a', 'p' || i % 90, 'k' || i % 400, 'u' || i % 3, 'openai/gpt-' || i % 50, 'openai', 'app', 'credits', i, 1, i * 0.001
         FROM generate_series(1, 20000) i",
        "INSERT INTO public.calls (id, at, org, project_id, key, model, app, tin, tout, spend, status)
         SELECT i, timestamptz '2026-03-01 00:00+00' + i * interval '3 minutes', 'org_a', 'p' || i % 90, 'k' || i % 400, 'openai/gpt-' || i % 50, 'App' || i % 9, i, 1, i * 0.001, 200 + i % 400
         FROM generate_series(1, 20000) i",
        "UPDATE public.requests SET model = 'azure/gpt-' || id % 7, cost = cost * 2 WHERE id % 3 > 0",
        "UPDATE public.calls SET at = at + interval '11 days', spend = NULL WHERE id % 3 > 0",
        "WITH d AS (DELETE FROM public.requests WHERE id % 5 = 0 RETURNING *) INSERT INTO oracle.kept_requests SELECT *, '' FROM d",
        "SET llm.on_delete = 'subtract'; DELETE FROM public.calls WHERE id % 5 = 0; RESET llm.on_delete",
    ] {
        run(&mut client, statement);
        check_all(&mut client, &mut rng);
    }
    run(&mut client, "SELECT llm.fold()");
    check_all(&mut client, &mut rng);
    oracle::check_verify(&mut client);
}
