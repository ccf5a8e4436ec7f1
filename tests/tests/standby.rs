//! A streaming hot standby: it answers what the primary answers, writes nothing, and is a primary after its promotion.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, Server, refusal, rows, run, text, wait_for};
use llm_analytics_tests::hosts;
use llm_analytics_tests::world::{Caller, World};
use postgres::Client;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Durable commits, so that the flushed position is behind the last of them.
const DURABLE: &str = "synchronous_commit = on";
/// A standby whose readers are not canceled because the primary vacuumed.
const FEEDBACK: &str = "hot_standby_feedback = on";
const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%llm_analytics%'";

/// Of `acme` and the two days that `World` has traffic on. For a superuser.
const QUESTIONS: [&str; 17] = [
    "SELECT llm.analytics_activity('acme', 'model', '2026-06-01', '2026-06-03')",
    "SELECT llm.analytics_activity('acme', 'apiKey', '2026-06-01', '2026-06-03', 'Asia/Kathmandu', top => 2)",
    "SELECT llm.analytics_activity('acme', 'user', '2026-06-01', '2026-06-03', project => 'acme_p1')",
    "SELECT llm.analytics_project('acme', 'acme_p1', '2026-06-01', '2026-06-03')",
    "SELECT llm.analytics_api_key('acme', 'acme_kd', '2026-06-01', '2026-06-03')",
    "SELECT llm.analytics_members('acme', '2026-06-01', '2026-06-03')",
    "SELECT llm.analytics_member('acme', 'dev', '2026-06-01', '2026-06-03')",
    "SELECT llm.analytics_drivers('acme', '2026-06-02', '2026-06-02')",
    "SELECT llm.access('acme')",
    "SELECT llm.current_user_id()",
    "SELECT * FROM llm.activity('acme', 'project', '2026-06-01', '2026-06-03')",
    "SELECT * FROM llm.members('acme', '2026-06-01', '2026-06-03')",
    "SELECT u::text FROM llm.usage u ORDER BY 1",
    // but for what asks the clock and the file system
    "SELECT source, state, complete_from, sealed_before, retention, pending_rows, oldest_pending, last_fold_at, last_fold_rows,
        fold_rows_per_second, skipped_values, last_error, last_error_at, lag IS NOT NULL, pending_bytes >= 0, rollup_bytes > 0, log_bytes > 0
     FROM llm.status ORDER BY source",
    "SELECT v::text FROM llm.verify() v ORDER BY 1",
    "SELECT v::text FROM llm.verify('2026-06-02', '2026-06-03', 'acme') v ORDER BY 1",
    "SELECT llm.bucket('2026-06-01 12:34+00'), llm.canonical_model('openai/gpt-5.5:free')",
];

/// For somebody who is a user of the host.
const OWN: [&str; 5] = [
    "SELECT llm.analytics_me('acme', '2026-06-01', '2026-06-03')",
    "SELECT llm.analytics_api_key('acme', 'acme_kd', '2026-06-01', '2026-06-03')",
    "SELECT llm.access('acme')",
    "SELECT llm.current_user_id()",
    "SELECT u::text FROM llm.usage u ORDER BY 1",
];

/// Everything that writes. The steps of the procedures too.
const WRITES: [&str; 21] = [
    "SELECT llm.fold()",
    "SELECT llm.rebuild('2026-06-01', '2026-06-03')",
    "CALL llm.backfill()",
    "CALL llm.maintain()",
    "SELECT llm.attach_log('public.other')",
    "SELECT llm.detach_log('public.log')",
    "SELECT llm.create_request_log('public.new_log')",
    "SELECT llm.attach_directory('project', 'public.project')",
    "SELECT llm.detach_directory('project')",
    "SELECT llm.seal('public.log', '2026-06-01')",
    "SELECT llm.set_retention('public.managed', '13 months')",
    "SELECT llm.forget('nobody')",
    "SELECT llm.bind_role('postgres', 'dev')",
    "SELECT llm.unbind_role('postgres')",
    "SELECT llm._fold_step(0)",
    "SELECT llm._backfill_step()",
    "SELECT llm._backfill_step(1)",
    "SELECT llm._attempt('fold', 0)",
    "SELECT llm._erase('nobody')",
    "INSERT INTO public.log (id, created_at, organization_id, api_key_id, used_model, cost) VALUES ('x', now(), 'acme', 'k', 'm', 1)",
    "DROP EXTENSION llm_analytics",
];

/// Waits until the standby has replayed what the primary has flushed.
fn caught_up(primary: &mut Client, standby: &mut Client) {
    let position = text(primary, "SELECT pg_current_wal_flush_lsn()");
    wait_for(standby, 30, "the standby replays", &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"), "t");
}

/// The same rows on both, and on the primary no transaction id for them; the standby has none to give.
fn same(primary: &mut Caller, standby: &mut Caller, questions: &[&str], when: &str) -> Vec<Vec<Vec<String>>> {
    caught_up(&mut primary.client, &mut standby.client);
    let mut answers = Vec::new();
    for sql in questions {
        let expected = primary.rows(sql);
        assert_eq!(standby.rows(sql), expected, "{when}: {sql}");
        answers.push(expected);
    }
    for sql in questions {
        let user = primary.acts_as.as_ref().map(|user| format!("SELECT llm.act_as('{user}');")).unwrap_or_default();
        let answers = rows(&mut primary.client, &format!("BEGIN; {user} {sql}; SELECT 'xid', pg_current_xact_id_if_assigned(); COMMIT"));
        assert_eq!(answers.last(), Some(&vec!["xid".to_owned(), "NULL".to_owned()]), "{when}: {sql}");
    }
    answers
}

fn as_on(server: &Server, world: &World, role: &str, acts_as: Option<&str>) -> Caller {
    Caller { client: server.connect_as(&world.db.name, role), role: role.to_owned(), acts_as: acts_as.map(str::to_owned) }
}

#[test]
fn answers_what_the_primary_answers() {
    let cluster = Cluster::fresh("standby1", &[DURABLE, "llm.worker = off"]);
    let mut world = World::on(cluster.server.clone(), "standby", false);
    run(&mut world.client, "CREATE TABLE public.other (LIKE public.log); SELECT llm.create_request_log('public.managed')");
    let (backend, bound) = (world.backend_role(), world.bound_role("dev"));
    // With the worker on: it must not run here.
    let copy = cluster.standby("standby2", &[DURABLE, FEEDBACK, "llm.worker = on", "llm.fold_interval = 100ms"]);

    let mut pairs: Vec<(Caller, Caller, &[&str])> = Vec::new();
    for (role, acts_as, questions) in [
        ("postgres", None, &QUESTIONS[..]),
        (&backend, Some("dev"), &OWN[..]),
        (&backend, Some("own"), &[&QUESTIONS[..8], &OWN[..]].concat()),
        (&bound, None, &OWN[..]),
    ] {
        let questions = questions.to_vec().leak();
        pairs.push((as_on(&cluster.server, &world, role, acts_as), as_on(&copy.server, &world, role, acts_as), questions));
    }
    assert_eq!(text(&mut pairs[0].1.client, "SELECT pg_is_in_recovery()"), "t");

    const FIX: &str = "UPDATE llm.rollup SET measures = (measures::text::jsonb || jsonb_build_object('requests', llm._count(measures, 0) - 7))::text::llm.measures WHERE level = 0 AND bucket < '2026-06-02' AND llm._count(measures, 0) > 7";
    let steps: [(&str, &str, &str); 6] = [
        ("pending rows", "SELECT", "t"),
        ("folded", "SELECT llm.fold()", "f"),
        (
            "changed and deleted rows pending",
            "UPDATE public.log SET cost = cost + 1 WHERE api_key_id = 'acme_kd'; DELETE FROM public.log WHERE api_key_id = 'acme_ko'",
            "t",
        ),
        ("folded again", "SELECT llm.fold()", "f"),
        // The comparison of what verify says must not be one of nothing with nothing only.
        (
            "a wrong number",
            "UPDATE llm.rollup SET measures = (measures::text::jsonb || jsonb_build_object('requests', llm._count(measures, 0) + 7))::text::llm.measures WHERE level = 0 AND bucket < '2026-06-02'",
            "f",
        ),
        ("a right one", FIX, "f"),
    ];
    for (when, sql, pending) in steps {
        run(&mut world.client, sql);
        assert_eq!(text(&mut world.client, "SELECT count(*) > 0 FROM llm._pending"), pending, "{when}");
        for (primary, standby, questions) in &mut pairs {
            let answers = same(primary, standby, questions, when);
            if questions.len() == QUESTIONS.len() {
                assert_eq!(answers[14].is_empty(), when != "a wrong number", "{when}: {:?}", answers[14]);
                assert!(answers[12].len() > 5, "llm.usage has rows");
            }
        }
    }

    // What writes is refused, one way, and changes nothing; the session goes on.
    let standby = &mut pairs[0].1.client;
    let mut wrong = Vec::new();
    for sql in WRITES {
        match standby.simple_query(sql) {
            Ok(_) => wrong.push(format!("not refused: {sql}")),
            Err(error) => {
                let refusal = refusal(&error);
                if refusal.state != "25006" {
                    wrong.push(format!("{sql}: {refusal:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (primary, standby, questions) in &mut pairs {
        same(primary, standby, questions, "after the refusals");
    }
    assert_eq!(text(&mut pairs[0].1.client, WORKERS), "0", "no worker on a standby");
    let log = copy.log();
    for bad in ["PANIC", "was terminated by signal", "XX000", "panicked", "llm_analytics worker", "llm_analytics launcher"] {
        assert!(!log.contains(bad), "the standby's log has {bad}:\n{log}");
    }
}

const REPLAYED: &str = "SELECT count(*), sum(cost), sum(input_tokens) FROM public.requests";
const COUNTED: &str = "SELECT sum(requests), sum(cost), sum(input_tokens) FROM llm.usage";
const FOLDED: &str =
    "SELECT sum(llm._count(measures, 0)), sum(llm._amount(measures, 0)), sum(llm._count(measures, 6)) FROM llm.rollup WHERE level = 0";

fn insert(id: u64) -> String {
    format!(
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost, input_tokens)
         VALUES ({id}, now() - {id} % 500 * interval '1 minute', 'org' || {id} % 3, 'k' || {id} % 7, 'm', {id} * 0.000001, {id} % 11)"
    )
}

/// Writes one row after the other until it is told to stop or the server is gone; how many were committed.
fn write(mut client: Client, next: &AtomicU64, stop: &AtomicBool) -> u64 {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) && client.batch_execute(&insert(next.fetch_add(1, Ordering::Relaxed))).is_ok() {
        written += 1;
    }
    written
}

#[test]
fn counts_exactly_after_a_promotion() {
    let settings = [DURABLE, "llm.worker = on", "llm.fold_interval = 100ms"];
    let cluster = Cluster::fresh("standby3", &settings);
    let db = Db::new_on(cluster.server.clone(), "failover");
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    let copy = cluster.standby("standby4", &[&settings[..], &[FEEDBACK]].concat());
    let mut standby = copy.server.connect(&db.name);

    let (next, stop) = (AtomicU64::new(1), AtomicBool::new(false));
    let (replayed, written) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2).map(|_| scope.spawn(|| write(db.connect(), &next, &stop))).collect();
        let at_least = |standby: &mut Client, sql: &str, what: &str| wait_for(standby, 60, what, sql, "t");
        at_least(&mut standby, "SELECT count(*) > 300 FROM public.requests", "rows are replayed");
        at_least(
            &mut standby,
            "SELECT sum(llm._count(measures, 0)) > 100 FROM llm.rollup WHERE level = 0",
            "the primary's folds are replayed",
        );
        assert_eq!(text(&mut standby, WORKERS), "0", "no worker on a standby");
        copy.promote();
        let replayed: u64 = text(&mut standby, "SELECT count(*) FROM public.requests").parse().expect("a count");
        // The writers did not notice: they went on with the old primary until that was stopped.
        wait_for(&mut client, 60, "the old primary goes on", &format!("SELECT count(*) > {replayed} FROM public.requests"), "t");
        cluster.stop();
        stop.store(true, Ordering::Relaxed);
        (replayed, writers.into_iter().map(|writer| writer.join().expect("a writer")).sum::<u64>())
    });
    assert!(replayed < written, "{replayed} of {written} rows were replayed: the promotion came while rows were written");

    // Exact at once, before any fold here and after; the worker starts by itself.
    assert_eq!(text(&mut standby, "SELECT pg_is_in_recovery()"), "f");
    assert_eq!(rows(&mut standby, COUNTED), rows(&mut standby, REPLAYED));
    assert!(rows(&mut standby, "SELECT v::text FROM llm.verify() v").is_empty());
    wait_for(&mut standby, 30, "the launcher starts", &WORKERS.replace("count(*)", "count(*) > 0"), "t");
    for round in 0..3u64 {
        for id in 0..50 {
            run(&mut standby, &insert(1_000_000 + round * 50 + id));
        }
        assert_eq!(rows(&mut standby, COUNTED), rows(&mut standby, REPLAYED), "round {round}");
        wait_for(&mut standby, 30, "the worker folds", "SELECT count(*) FROM llm._pending", "0");
        assert_eq!(rows(&mut standby, FOLDED), rows(&mut standby, REPLAYED), "round {round}");
    }
    assert_eq!(text(&mut standby, "SELECT count(*) FROM public.requests"), (replayed + 150).to_string());
    assert!(rows(&mut standby, "SELECT v::text FROM llm.verify() v").is_empty());
    let log = copy.log();
    for bad in ["PANIC", "was terminated by signal", "XX000", "panicked"] {
        assert!(!log.contains(bad), "the new primary's log has {bad}:\n{log}");
    }
}
