//! A dump has everything: the restored database answers the same, proves it, and goes on counting.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, Server, rows, run, text, wait_for};
use llm_analytics_tests::model::Log;
use llm_analytics_tests::ops::Writer;
use llm_analytics_tests::oracle;
use llm_analytics_tests::rng::Rng;
use postgres::Client;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const DIRECTORIES: &str = "
    INSERT INTO llm.organization (id, name) VALUES ('org_a', 'Org A'), ('org_b', 'Org B');
    INSERT INTO llm.project (id, organization_id, name) VALUES ('p1', 'org_a', 'Production API'), ('p2', 'org_a', 'Lab');
    UPDATE llm.project SET name = name || '!' WHERE id = 'p1'; DELETE FROM llm.project WHERE id = 'p2';
    INSERT INTO llm.api_key (id, label, user_id) VALUES ('k1', 'laptop', 'u1'), ('k2', NULL, 'u2');
    INSERT INTO llm.membership VALUES ('org_a', 'u1', 'owner'), ('org_a', 'u2', 'developer');
    INSERT INTO llm.model_alias VALUES ('gpt-5.5', 'openai-gpt-5.5', 'GPT 5.5');
    CREATE TABLE public.people (id text PRIMARY KEY, name text, email text);
    INSERT INTO public.people VALUES ('u1', 'Ada', NULL), ('u2', NULL, 'bob@example.com');
    SELECT llm.attach_directory('user', 'public.people');
    UPDATE public.people SET name = 'Ada L.' WHERE id = 'u1'";

/// Logs of every kind beside those of the oracle: by hash with a leaf that is detached, by row, made by us with a retention, sealed, detached.
const OTHERS: &str = "
    CREATE TABLE public.hashed (id int, created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY HASH (id);
    CREATE TABLE public.hashed_0 PARTITION OF public.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE public.hashed_1 PARTITION OF public.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE public.by_row (id int, created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric);
    CREATE TABLE public.finished (LIKE public.by_row);
    SELECT llm.attach_log('public.hashed'), llm.attach_log('public.by_row', capture => 'row'), llm.attach_log('public.finished');
    SELECT llm.create_request_log('public.made'); SELECT llm.set_retention('public.made', '1 year');
    INSERT INTO public.hashed SELECT i, '2026-02-01 00:10Z'::timestamptz + i * interval '5 hours', 'org_x', 'k' || i % 3, 'm', i / 8.0 FROM generate_series(1, 60) i;
    INSERT INTO public.by_row TABLE public.hashed;
    INSERT INTO public.finished TABLE public.hashed;
    INSERT INTO public.made (created_at, organization_id, api_key_id, model, cost) SELECT created_at, 'org_x', api_key_id, model, cost FROM public.hashed;
    SELECT llm.seal('public.by_row', '2026-02-05'); DELETE FROM public.by_row WHERE created_at < '2026-02-04';
    SELECT llm.detach_log('public.finished');
    ALTER TABLE public.hashed DETACH PARTITION public.hashed_1;
    CREATE SCHEMA aside; ALTER TABLE public.hashed_1 RENAME TO other; ALTER TABLE public.other SET SCHEMA aside; ALTER SCHEMA aside RENAME TO \"A side\"";

/// More rows for those that are attached.
const MORE: &str = "
    INSERT INTO public.hashed SELECT i, '2026-02-02Z', 'org_x', 'k9', 'm', 1 FROM generate_series(1000, 1100) i WHERE satisfies_hash_partition('public.hashed'::regclass, 2, 0, i);
    INSERT INTO public.by_row VALUES (1000, '2026-02-02Z', 'org_x', 'k9', 'm', 1);
    UPDATE public.by_row SET cost = cost + 1 WHERE id > 50;
    INSERT INTO public.made (created_at, organization_id, api_key_id, model, cost) VALUES (now(), 'org_x', 'k9', 'm', 1)";

/// All that is answered. `llm.status` without what asks the clock and the file system.
fn answers(client: &mut Client) -> Vec<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for org in ["org_a", "org_b", "org_x"] {
        for group in ["model", "mapping", "project", "apiKey", "user", "provider", "application", "mode"] {
            all.push(rows(
                client,
                &format!("SELECT llm.analytics_activity('{org}', '{group}', '2026-01-01', '2026-04-30', 'Asia/Kathmandu')"),
            ));
        }
        all.push(rows(client, &format!("SELECT llm.analytics_members('{org}', '2026-01-01', '2026-04-30')")));
        all.push(rows(client, &format!("SELECT llm.analytics_drivers('{org}', '2026-03-01', '2026-03-31')")));
        all.push(rows(client, &format!("SELECT llm.access('{org}')")));
    }
    all.push(rows(client, "SELECT u::text FROM llm.usage u ORDER BY 1"));
    all.push(rows(
        client,
        "SELECT source, state, complete_from, sealed_before, retention, pending_rows, oldest_pending, skipped_values FROM llm.status ORDER BY source, state",
    ));
    all.push(rows(client, "SELECT relation::regclass::text, name, enabled, wanted FROM llm._trigger_state ORDER BY 1, 2"));
    all
}

fn program(server: &Server, name: &str, database: &str) -> Command {
    let mut command = Command::new(PathBuf::from(std::env::var("PG_BIN").expect("PG_BIN names the server's programs")).join(name));
    command.args(["-h", &server.host, "-p", &server.port.to_string(), "-U", &server.user, "-d", database]);
    command
}

fn done(command: &mut Command, input: Option<&[u8]>) -> Output {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program of PostgreSQL");
    let mut pipe = child.stdin.take();
    std::thread::scope(|scope| {
        if let (Some(mut pipe), Some(input)) = (pipe.take(), input) {
            // A program that ends early does not read everything.
            scope.spawn(move || drop(pipe.write_all(input)));
        }
        child.wait_with_output().expect("its end")
    })
}

fn succeed(command: &mut Command, input: Option<&[u8]>) -> Vec<u8> {
    let output = done(command, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ERROR"), "{command:?}: {said}");
    output.stdout
}

fn check(client: &mut Client) {
    oracle::check_verify(client);
    // Only what the oracle knows.
    run(client, "DROP SCHEMA IF EXISTS others CASCADE");
}

struct Source {
    db: Db,
    answers: Vec<Vec<Vec<String>>>,
    writer: Writer,
}

fn source(seed: u64) -> Source {
    let mut rng = Rng::new(seed);
    let db = Db::new("dumped");
    let mut client = db.connect();
    for log in Log::ALL {
        run(&mut client, log.create());
        run(&mut client, &log.attach());
    }
    oracle::install(&mut client, &Log::ALL);
    run(&mut client, DIRECTORIES);
    let mut writer = Writer::new(rng.fork(), 1, true);
    for half in 0..2 {
        for _ in 0..150 {
            writer.transaction(&mut client);
        }
        if half == 0 {
            run(&mut client, OTHERS);
            run(&mut client, "CALL llm.backfill()");
            run(&mut client, "SELECT llm.fold()");
        }
    }
    run(&mut client, MORE);
    check(&mut client);
    let answers = answers(&mut client);
    Source { db, answers, writer }
}

/// The restored database says the same and goes on.
fn compare(source: &Source, restored: &Db, number: i64) {
    let mut client = restored.connect();
    // Which table left, its name tells: its OID is another here.
    assert_eq!(text(&mut client, "SELECT count(*) > 0 AND bool_and(leaf_oid = '\"A side\".other'::regclass) FROM llm._left"), "t");
    for (now, before) in answers(&mut client).iter().zip(&source.answers) {
        assert_eq!(now, before);
    }
    oracle::check_verify(&mut client);
    let mut writer = Writer::new(Rng::new(number as u64), 500 + number, true);
    for _ in 0..60 {
        writer.transaction(&mut client);
    }
    run(&mut client, MORE);
    oracle::check_verify(&mut client);
    // A table that left before the dump comes back: its rows move from the kept ones to the shown ones, and no number changes.
    let total = "SELECT sum(requests)::text || ' ' || trim_scale(sum(cost)) FROM llm.usage WHERE organization_id = 'org_x'";
    let before = text(&mut client, total);
    run(&mut client, "ALTER TABLE public.hashed ATTACH PARTITION \"A side\".other FOR VALUES WITH (MODULUS 2, REMAINDER 1)");
    assert_eq!(text(&mut client, total), before);
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm._left"), "0");
    // What the dump has as sealed stays so, and new sources get new numbers.
    run(
        &mut client,
        "SELECT llm.rebuild('-infinity', 'infinity'); CREATE TABLE public.new (LIKE public.by_row); SELECT llm.attach_log('public.new')",
    );
    run(&mut client, "INSERT INTO public.new VALUES (1, '2026-02-02Z', 'org_x', 'k9', 'm', 1); SELECT llm.fold()");
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm.usage WHERE organization_id = 'org_x' AND requests < 0"), "0");
    oracle::check_verify(&mut client);
    // The oracle knows its own three logs, and nothing of the others.
    run(
        &mut client,
        "DELETE FROM public.new; SELECT llm.detach_log(r::regclass) FROM unnest('{public.hashed,public.by_row,public.made,public.new}'::text[]) r",
    );
    run(&mut client, "DROP TABLE public.hashed, public.by_row, public.made, public.new, public.finished; SELECT llm.forget('org_x')");
    oracle::begin_snapshot(&mut client, &Log::ALL);
    oracle::check_usage(&mut client);
    run(&mut client, "COMMIT");
}

#[test]
fn whole_databases() {
    let source = source(11);
    assert!(source.writer.committed > 100);
    let server = &source.db.server;
    let plain = succeed(program(server, "pg_dump", &source.db.name).args(["-Fp"]), None);
    let restored = Db::bare("restored");
    succeed(program(server, "psql", &restored.name).args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]), Some(&plain));
    compare(&source, &restored, 1);

    // In parallel, into a server whose worker is at work every tenth of a second.
    let file = llm_analytics_tests::cluster::root().join(format!("target/test/dump-{}", std::process::id()));
    let name = file.to_str().expect("a path").to_owned();
    succeed(program(server, "pg_dump", &source.db.name).args(["-Fc", "-f", &name]), None);
    let busy = Cluster::fresh("restore", &["llm.worker = on", "llm.fold_interval = 100ms"]);
    for round in 0..3 {
        let restored = Db::on(busy.server.clone(), "busy");
        let mut command = program(&busy.server, "pg_restore", &restored.name);
        command.args(["-j", if round == 0 { "4" } else { "1" }]);
        succeed(command.arg(&name), None);
        let mut client = restored.connect();
        wait_for(&mut client, 30, "the worker folds", "SELECT count(*) FROM llm._pending", "0");
        oracle::check_verify(&mut client);
        let usage =
            "SELECT organization_id, mapping, sum(requests)::text, trim_scale(sum(cost))::text FROM llm.usage GROUP BY 1, 2 ORDER BY 1, 2";
        assert_eq!(rows(&mut client, usage), rows(&mut source.db.connect(), usage));
        let states = "SELECT source, state, complete_from, sealed_before FROM llm.status ORDER BY source, state";
        assert_eq!(rows(&mut client, states), rows(&mut source.db.connect(), states));
        if round == 2 {
            run(&mut client, "ALTER SYSTEM SET llm.worker = off");
            run(&mut client, "SELECT pg_reload_conf()");
        }
    }
    let log = busy.log();
    for bad in ["PANIC", "worker: heal failed", "worker: fold failed", "deadlock detected", "duplicate key"] {
        assert!(!log.contains(bad), "the server's log has {bad}");
    }
    let _ = std::fs::remove_file(&file);
}

/// The host's schema alone into a database without the extension: its tables, their rows, and no trigger of ours.
#[test]
fn the_hosts_schema_alone() {
    let db = Db::new("part");
    let mut client = db.connect();
    run(&mut client, Log::Canonical.create());
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    let insert = "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES";
    run(&mut client, &format!("{insert} (1, '2026-02-02Z', 'org', 'k', 'm', 1), (2, '2026-02-03Z', 'org', 'k', 'm', 2)"));
    let dump = succeed(program(&db.server, "pg_dump", &db.name).args(["-Fc", "--schema=public"]), None);
    let bare = Db::bare("bare");
    let said = done(program(&db.server, "pg_restore", &bare.name).args(["--clean", "--if-exists"]), Some(&dump));
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(errors.contains("llm"), "pg_restore says that our triggers cannot be made: {errors}");
    let mut restored = bare.connect();
    run(&mut restored, &format!("{insert} (3, '2026-02-04Z', 'org', 'k', 'm', 3)"));
    assert_eq!(text(&mut restored, "SELECT count(*) FROM public.requests"), "3");
    run(&mut restored, "CREATE EXTENSION llm_analytics; SELECT llm.attach_log('public.requests')");
    run(&mut restored, "CALL llm.backfill()");
    assert_eq!(text(&mut restored, "SELECT sum(cost) FROM llm.usage"), "6");
    oracle::check_verify(&mut restored);

    // Rows alone, with triggers off, into a log that is attached: warned about, then read again.
    let data = succeed(program(&db.server, "pg_dump", &db.name).args(["-Fc", "--data-only", "-t", "public.requests"]), None);
    run(&mut restored, "TRUNCATE public.requests; SELECT llm.forget('org')");
    let said = done(program(&db.server, "pg_restore", &bare.name).args(["--data-only", "--disable-triggers"]), Some(&data));
    assert!(said.status.success());
    assert_eq!(text(&mut restored, "SELECT state FROM llm.status WHERE source IS NOT NULL"), "backfilling");
    run(&mut restored, "CALL llm.backfill()");
    assert_eq!(text(&mut restored, "SELECT sum(cost) FROM llm.usage"), "3");
    oracle::check_verify(&mut restored);
}

/// Into a database with the extension: what the triggers name is unknown there, or another log, which goes on as if nothing had come.
#[test]
fn the_hosts_schema_beside_the_extension() {
    let db = Db::new("part");
    let mut client = db.connect();
    run(&mut client, Log::Canonical.create());
    run(
        &mut client,
        "SELECT llm.attach_log('public.requests');
         CREATE TABLE public.people (id text PRIMARY KEY, name text, email text);
         INSERT INTO public.people VALUES ('u1', 'Ada', NULL), ('u2', 'Bob', NULL);
         SELECT llm.attach_directory('user', 'public.people')",
    );
    run(&mut client, OTHERS);
    let insert = "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, user_id, model, cost) VALUES";
    run(&mut client, &format!("{insert} (1, '2026-02-02Z', 'org', 'k', 'u1', 'm', 1), (2, '2026-02-03Z', 'org', 'k', 'u2', 'm', 2)"));
    run(&mut client, "ALTER TABLE public.hashed ATTACH PARTITION \"A side\".other FOR VALUES WITH (MODULUS 2, REMAINDER 1)");
    let dump = succeed(
        program(&db.server, "pg_dump", &db.name).args(["-Fc", "--schema=public", "--schema=A side", "--exclude-table=public.made*"]),
        None,
    );
    for beside_another in [false, true] {
        let target = Db::new("beside");
        let mut client = target.connect();
        if beside_another {
            run(
                &mut client,
                "CREATE TABLE public.mine (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric)",
            );
            run(&mut client, "SELECT llm.attach_log('public.mine'); INSERT INTO public.mine VALUES ('2026-02-02Z', 'mine', 'k', 'm', 5)");
        }
        let said = done(&mut program(&db.server, "pg_restore", &target.name), Some(&dump));
        let messages = String::from_utf8_lossy(&said.stderr).into_owned();
        let errors: Vec<_> =
            messages.lines().filter(|line| line.contains("ERROR:") && !line.contains("schema \"public\" already exists")).collect();
        assert_eq!(errors.is_empty(), !beside_another, "{errors:?}");
        for error in errors {
            assert!(error.contains("of public.requests names the request log public.mine"), "{error}");
        }
        for (table, refuses) in [("requests", !beside_another), ("by_row", true)] {
            let insert = format!(
                "INSERT INTO public.{table} (id, created_at, organization_id, api_key_id, model, cost) VALUES (90, '2026-02-02Z', 'org', 'k', 'm', 4)"
            );
            match client.batch_execute(&insert) {
                Ok(()) => assert!(!refuses, "{table}"),
                Err(error) => assert_eq!((refuses, error.code().map(|code| code.code())), (true, Some("55000")), "{table}"),
            }
        }
        // Another log gets a number that no trigger has.
        run(
            &mut client,
            "CREATE TABLE public.new (LIKE public.by_row);
             SELECT llm.attach_log('public.new');
             SELECT llm.attach_log('public.requests'), llm.attach_log('public.hashed'), llm.attach_log('public.by_row', capture => 'row'), llm.attach_log('public.finished');
             SELECT llm.attach_directory('user', 'public.people')",
        );
        run(&mut client, "CALL llm.maintain()");
        run(&mut client, "INSERT INTO public.new SELECT * FROM public.by_row LIMIT 3");
        run(&mut client, "DELETE FROM public.people WHERE id = 'u1'");
        assert_eq!(text(&mut client, "SELECT count(*) FROM llm._remembered WHERE kind = 'user' AND id = 'u1'"), "1");
        let counted = text(&mut client, "SELECT sum(requests) FROM llm.usage");
        let held = text(
            &mut client,
            "SELECT string_agg(format('(SELECT count(*) FROM %I.%I)', relation_schema, relation_name), ' + ') FROM llm.source",
        );
        assert_eq!(counted, text(&mut client, &format!("SELECT {held}")));
        oracle::check_verify(&mut client);
    }
}
