//! Small faults, each of which hid for a while: one test each.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, refused, run, text};
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;

const COLUMNS: &str = "id int, created_at timestamptz NOT NULL, organization_id text, api_key_id text, model text, cost numeric";

/// As where somebody turned them off, or before ours were there.
fn without_event_triggers(client: &mut Client) -> String {
    text(client, "SELECT string_agg(format('ALTER EVENT TRIGGER %I DISABLE', evtname), ';') FROM pg_event_trigger")
}

/// Backfill asks for the newest rows, which only some indexes give without a sort of the whole log.
#[test]
fn only_an_index_that_keeps_an_order_counts_as_one() {
    let db = Db::new("ordered");
    let mut client = db.connect();
    let statement = client.prepare(include_str!("../../sql/query/log_ordered.sql")).expect("the statement");
    for (at, (wanted, table)) in [
        (false, "(created_at timestamptz)"),
        (true, "(created_at timestamptz); CREATE INDEX ON LOG (created_at)"),
        (true, "(created_at timestamptz, id int); CREATE INDEX ON LOG (created_at DESC, id)"),
        (true, "(created_at date); CREATE INDEX ON LOG (created_at)"),
        (true, "(created_at timestamp, PRIMARY KEY (created_at))"),
        (false, "(created_at timestamptz, id int); CREATE INDEX ON LOG (id, created_at)"),
        (false, "(created_at timestamptz); CREATE INDEX ON LOG USING brin (created_at)"),
        (false, "(created_at timestamptz); CREATE INDEX ON LOG USING hash (created_at)"),
        (false, "(created_at timestamptz, id int); CREATE INDEX ON LOG USING brin (created_at, id)"),
        (false, "(created_at tstzrange); CREATE INDEX ON LOG USING gist (created_at)"),
        (false, "(created_at text[]); CREATE INDEX ON LOG USING gin (created_at)"),
        (false, "(created_at timestamptz, id int); CREATE INDEX ON LOG (created_at) WHERE id > 0"),
        (false, "(created_at timestamptz, id int); CREATE INDEX ON LOG ((created_at AT TIME ZONE 'UTC'))"),
        (true, "(created_at timestamptz) PARTITION BY RANGE (created_at)"),
        (false, "(created_at timestamptz) PARTITION BY HASH (created_at)"),
        (false, "(created_at timestamptz, id int) PARTITION BY RANGE (id, created_at)"),
    ]
    .into_iter()
    .enumerate()
    {
        run(&mut client, &format!("CREATE TABLE LOG {table}").replace("LOG", &format!("log{at}")));
        let oid: u32 = client.query_one(&format!("SELECT 'log{at}'::regclass::oid"), &[]).expect("the table").get(0);
        let found: bool = client.query_one(&statement, &[&oid, &"created_at"]).expect("an answer").get(0);
        assert_eq!(found, wanted, "{table}");
    }
}

/// The bounds of backfill's pieces are looked up in the index of a log, whatever its type of instant.
#[test]
fn the_index_of_an_instant_is_used() {
    let db = Db::new("instant");
    let mut client = db.connect();
    let spilled = |client: &mut Client| {
        run(client, "SELECT pg_stat_force_next_flush()");
        text(&mut db.connect(), "SELECT temp_files FROM pg_stat_database WHERE datname = current_database()")
    };
    for kind in ["date", "timestamp", "timestamptz"] {
        let log = format!("log_{kind}");
        run(
            &mut client,
            &format!(
                "CREATE TABLE {log} (created_at {kind} NOT NULL, organization_id text, api_key_id text, model text, cost numeric);
                 INSERT INTO {log} SELECT date '2026-01-01' + i / 10000, 'o', 'k', 'm', 1 FROM generate_series(0, 249999) i;
                 CREATE INDEX ON {log} (created_at); ANALYZE {log}; SELECT llm.attach_log('{log}')"
            ),
        );
        // The newest 200,000 rows are looked for. The index gives them in order; a sort of them would not fit into memory.
        let before = spilled(&mut client);
        run(&mut client, "SET work_mem = '64kB'");
        run(&mut client, "CALL llm.backfill()");
        run(&mut client, "RESET work_mem");
        assert_eq!(spilled(&mut client), before, "{kind}");
    }
    assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), "750000");
    check_verify(&mut client);
}

#[test]
fn a_backtrace_is_nothing_for_clients() {
    // SAFETY: the variable is for the server that this test starts; nothing of this process reads it.
    unsafe { std::env::set_var("RUST_BACKTRACE", "1") };
    let preloaded = Cluster::fresh("backtrace1", &["llm.worker = off"]);
    let loaded = Cluster::fresh("backtrace2", &["shared_preload_libraries = ''"]);
    for cluster in [preloaded, loaded] {
        let db = Db::new_on(cluster.server.clone(), "backtrace");
        let mut client = db.connect();
        run(&mut client, &format!("CREATE TABLE log ({COLUMNS}); CREATE TABLE people (id text, name text, email text)"));
        run(
            &mut client,
            "CREATE FUNCTION fails(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION USING MESSAGE = $1; END'",
        );
        run(
            &mut client,
            r#"SELECT llm.attach_log('log', '{"created_at":"created_at","organization_id":"organization_id","api_key_id":"api_key_id","model":"model",
                                              "cost":"cost + public.fails(model)::numeric"}');
               INSERT INTO people VALUES ('x')"#,
        );
        for sql in [
            "INSERT INTO log VALUES (1, now(), 'o', 'k', 'm', 1)",
            r#"SELECT llm.attach_directory('user', 'people', '{"id":"id","name":"nonsense("}')"#,
            r#"SELECT llm.attach_directory('user', 'people', '{"id":"id","name":"public.fails(id)"}')"#,
            "SET statement_timeout = '1ms'; SELECT llm.verify() FROM generate_series(1, 1000)",
            "SET TRANSACTION READ ONLY; SELECT llm.fold()",
        ] {
            let said = format!("{:?}", refused(&mut client, sql));
            assert!(!["std::", "pgrx", ".rs", "main"].iter().any(|word| said.contains(word)), "{sql}: {said}");
            run(&mut client, "RESET statement_timeout");
        }
        assert!(!cluster.log().contains("pgrx::"), "the log has a backtrace");
    }
}

/// PostgreSQL shows rows that a MERGE moves to no trigger that could count them, so the MERGE fails, whatever runs in between.
#[test]
fn a_merge_that_moves_rows_is_seen_behind_another() {
    let db = Db::new("merge");
    let mut client = db.connect();
    for log in ["one", "two"] {
        run(
            &mut client,
            &format!(
                "CREATE TABLE {log} ({COLUMNS}) PARTITION BY RANGE (created_at);
                 CREATE TABLE {log}_6 PARTITION OF {log} FOR VALUES FROM ('2026-06-01Z') TO ('2026-07-01Z');
                 CREATE TABLE {log}_7 PARTITION OF {log} FOR VALUES FROM ('2026-07-01Z') TO ('2026-08-01Z');
                 SELECT llm.attach_log('{log}');
                 INSERT INTO {log} VALUES (1, '2026-06-05Z', '{log}', 'k', 'm', 1), (2, '2026-06-06Z', '{log}', 'k', 'm', 2)"
            ),
        );
    }
    let merge = |log: &str| {
        format!(
            "MERGE INTO {log} t USING (VALUES (1)) s (id) ON t.id = s.id
             WHEN MATCHED AND t.created_at < '2026-07-01Z' THEN UPDATE SET created_at = t.created_at + interval '1 month'"
        )
    };
    let proved = |client: &mut Client| {
        check_verify(client);
        assert_eq!(text(client, "SELECT sum(requests) FROM llm.usage"), "4");
    };
    assert_eq!(refused(&mut client, &merge("one")).state, "0A000");
    // In a trigger of the host: statement and row triggers of the outer MERGE fire before its own are checked.
    run(
        &mut client,
        &format!(
            "CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $f$
             BEGIN
                 BEGIN {}; EXCEPTION WHEN feature_not_supported THEN END;
                 UPDATE two SET created_at = created_at + interval '1 month' WHERE id = 2 AND created_at < '2026-07-01Z';
                 RETURN NULL;
             END $f$",
            merge("two")
        ),
    );
    for level in ["ROW", "STATEMENT"] {
        run(&mut client, &format!("CREATE TRIGGER also AFTER UPDATE ON one FOR EACH {level} EXECUTE FUNCTION also()"));
        run(&mut client, &format!("CREATE TRIGGER also_gone AFTER DELETE ON one FOR EACH {level} EXECUTE FUNCTION also()"));
        let refusal = refused(&mut client, &merge("one"));
        assert_eq!(refusal.state, "0A000", "{level}: {refusal:?}");
        proved(&mut client);
        run(&mut client, "DROP TRIGGER also ON one; DROP TRIGGER also_gone ON one");
    }
    // A table of somebody's, with the row trigger that everybody may use, in the same transaction.
    let source = text(&mut client, "SELECT id FROM llm.source WHERE relation_name = 'one'");
    run(&mut client, &without_event_triggers(&mut db.connect()));
    run(
        &mut client,
        &format!(
            "CREATE TABLE mine ({COLUMNS}) PARTITION BY RANGE (created_at);
             CREATE TABLE mine_6 PARTITION OF mine FOR VALUES FROM ('2026-06-01Z') TO ('2026-07-01Z');
             CREATE TABLE mine_7 PARTITION OF mine FOR VALUES FROM ('2026-07-01Z') TO ('2026-08-01Z');
             INSERT INTO mine VALUES (1, '2026-06-05Z', 'mine', 'k', 'm', 1);
             CREATE TRIGGER note AFTER DELETE ON mine FOR EACH ROW EXECUTE FUNCTION llm._capture_row('{source}', '1', 'moved')"
        ),
    );
    run(&mut client, "BEGIN");
    run(&mut client, "UPDATE mine SET created_at = created_at + interval '1 month'");
    let refusal = refused(&mut client, &merge("one"));
    assert_eq!(refusal.state, "0A000", "{refusal:?}");
    run(&mut client, "ROLLBACK");
    // UPDATEs of both go on, one behind the other and one within the other.
    run(&mut client, "CREATE TRIGGER also AFTER UPDATE ON one FOR EACH STATEMENT EXECUTE FUNCTION also()");
    run(&mut client, "UPDATE one SET created_at = created_at + interval '1 month'; UPDATE two SET created_at = '2026-07-20Z'");
    proved(&mut client);
}

/// Anybody may make a row trigger with any arguments on a table of their own.
#[test]
fn a_trigger_with_other_arguments_fails_no_view() {
    let db = Db::new("arguments");
    let mut client = db.connect();
    run(&mut client, &format!("CREATE TABLE log ({COLUMNS}); CREATE TABLE mine ({COLUMNS}); SELECT llm.attach_log('log')"));
    for (at, arguments) in ["'x', 'y', 'z'", "'99999999999', '1', 'part'", "'', '', ''", "E'1\\\\000', '', ''"].iter().enumerate() {
        run(
            &mut client,
            &format!("CREATE TRIGGER llm_capture_row{at} AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION llm._capture_row({arguments})"),
        );
    }
    run(&mut client, "CREATE TRIGGER llm_capture_insert AFTER INSERT ON mine EXECUTE FUNCTION llm._capture('x', 'y', 'z')");
    assert_eq!(refused(&mut client, "INSERT INTO mine VALUES (1, now(), 'o', 'k', 'm', 1)").state, "39P01");
    assert_eq!(text(&mut client, "SELECT state FROM llm.status WHERE source = 'public.log'"), "attached");
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm._trigger_state WHERE relation = 'mine'::regclass"), "0");
    run(&mut client, "ALTER TABLE log ADD COLUMN more int");
    run(&mut client, "CALL llm.maintain()");
}

#[test]
fn an_expression_that_parses_no_more_leaves_no_memory() {
    let db = Db::new("memory");
    let mut client = db.connect();
    run(&mut client, &format!("CREATE TABLE log ({COLUMNS}, more int)"));
    run(
        &mut client,
        r#"SELECT llm.attach_log('log', '{"created_at":"created_at","organization_id":"organization_id","api_key_id":"api_key_id","model":"model","cost":"cost + more"}')"#,
    );
    run(&mut client, &without_event_triggers(&mut db.connect()));
    run(&mut client, "ALTER TABLE log DROP COLUMN more");
    for _ in 0..5 {
        refused(&mut client, "INSERT INTO log VALUES (1, now(), 'o', 'k', 'm', 1)");
    }
    assert_eq!(text(&mut client, "SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'llm_analytics plan'"), "0");
}
