//! The event triggers look at every DDL statement of the database; what touches no log must wait for nobody who holds one, or a plain
//! DROP TABLE waits, or deadlocks, with somebody else's ALTER TABLE.

use llm_analytics_tests::db::{Db, run, text};
use llm_analytics_tests::hosts;

/// Statements of an ordinary application, in order, on objects of its own.
const ELSEWHERE: &[&str] = &[
    "CREATE SCHEMA theirs",
    "CREATE TABLE theirs.plain (id serial PRIMARY KEY, note text UNIQUE)",
    "CREATE TABLE theirs.child (id int REFERENCES theirs.plain)",
    "CREATE TABLE theirs.heir () INHERITS (theirs.plain)",
    "CREATE TABLE theirs.copy AS SELECT 1 AS one",
    "CREATE TABLE theirs.parted (at timestamptz) PARTITION BY RANGE (at)",
    "CREATE TABLE theirs.part PARTITION OF theirs.parted FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z')",
    "CREATE TABLE theirs.rest PARTITION OF theirs.parted DEFAULT",
    "CREATE TEMPORARY TABLE passing (id int)",
    "CREATE VIEW theirs.seen AS SELECT * FROM theirs.plain",
    "CREATE MATERIALIZED VIEW theirs.kept AS SELECT * FROM theirs.plain",
    "CREATE INDEX ON theirs.copy (one)",
    "CREATE TYPE theirs.pair AS (a int, b int)",
    "CREATE FUNCTION theirs.twice(i int) RETURNS int IMMUTABLE LANGUAGE sql RETURN i * 2",
    "CREATE FUNCTION theirs.fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TRIGGER fired BEFORE INSERT ON theirs.plain FOR EACH ROW EXECUTE FUNCTION theirs.fired()",
    "ALTER TABLE theirs.plain ADD COLUMN more int, ALTER COLUMN note SET DEFAULT ''",
    "ALTER TABLE theirs.plain RENAME COLUMN more TO less",
    "ALTER TABLE theirs.plain DROP COLUMN less",
    "ALTER TABLE theirs.plain DISABLE TRIGGER ALL",
    "ALTER TABLE theirs.plain ENABLE TRIGGER ALL",
    "ALTER TABLE theirs.parted DETACH PARTITION theirs.part",
    "ALTER TABLE theirs.parted ATTACH PARTITION theirs.part FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z')",
    "ALTER TABLE theirs.copy RENAME TO again",
    "ALTER VIEW theirs.seen RENAME TO looked_at",
    "ALTER TABLE theirs.again ALTER COLUMN one TYPE bigint",
    "ALTER INDEX theirs.copy_one_idx RENAME TO by_one",
    "REINDEX TABLE theirs.again",
    "GRANT SELECT ON theirs.plain TO PUBLIC",
    "COMMENT ON TABLE theirs.plain IS 'plain'",
    "TRUNCATE theirs.plain CASCADE",
    "DROP TRIGGER fired ON theirs.plain",
    "DROP FUNCTION theirs.fired()",
    "DROP FUNCTION theirs.twice(int)",
    "DROP TYPE theirs.pair",
    "DROP TABLE passing",
    "DROP VIEW theirs.looked_at",
    "DROP MATERIALIZED VIEW theirs.kept",
    "DROP TABLE theirs.part",
    "ALTER SCHEMA theirs RENAME TO ours",
    "DROP SCHEMA ours CASCADE",
];

/// Of a log of one's own.
const OWN_LOG: &[&str] = &[
    "INSERT INTO public.turn VALUES (1, '2026-01-01 12:00Z', 'org', 'k', 'm', 0.5)",
    "CREATE TABLE public.turn_2 PARTITION OF public.turn FOR VALUES FROM ('2026-01-02Z') TO ('2026-01-03Z')",
    "INSERT INTO public.turn VALUES (2, '2026-01-02 12:00Z', 'org', 'k', 'm', 0.5)",
    "CREATE TABLE public.turn_3 (LIKE public.turn)",
    "INSERT INTO public.turn_3 VALUES (3, '2026-01-03 12:00Z', 'org', 'k', 'm', 0.5)",
    "ALTER TABLE public.turn ATTACH PARTITION public.turn_3 FOR VALUES FROM ('2026-01-03Z') TO ('2026-01-04Z')",
    "ALTER TABLE public.turn ADD COLUMN note text",
    "ALTER TABLE public.turn RENAME COLUMN cost TO spend",
    "ALTER TABLE public.turn DROP COLUMN note",
    "UPDATE public.turn SET spend = 0.25 WHERE id = 3",
    "TRUNCATE public.turn_3",
    "DROP TABLE public.turn_1",
    "ALTER TABLE public.turn DETACH PARTITION public.turn_2",
    "DROP TABLE public.turn_2",
    "ALTER TABLE public.turn RENAME TO turned",
];

#[test]
fn what_touches_no_log_waits_for_none() {
    let db = Db::new("locks");
    let mut client = db.connect();
    for create in [hosts::CANONICAL, hosts::PARTITIONED, hosts::GATEWAY_DIRECTORIES] {
        run(&mut client, create);
    }
    run(
        &mut client,
        "SELECT llm.attach_directory('project', 'public.project'), llm.attach_directory('user', 'public.\"user\"', '{\"id\":\"id\",\"name\":\"lower(name)\"}')",
    );
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    run(&mut client, &format!("SELECT llm.attach_log('public.calls', '{}')", hosts::PARTITIONED_COLUMNS.replace('\'', "''")));
    run(
        &mut client,
        "CREATE TABLE public.turn (id int, created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY RANGE (created_at);
         CREATE TABLE public.turn_1 PARTITION OF public.turn FOR VALUES FROM ('2026-01-01Z') TO ('2026-01-02Z');
         SELECT llm.attach_log('public.turn')",
    );
    assert_eq!(
        text(
            &mut client,
            "SELECT count(*) FROM (SELECT columns FROM llm.source UNION ALL SELECT columns FROM llm.directory) x WHERE columns::text LIKE '%\"expression\"%'"
        ),
        "2"
    );
    let mut holder = db.connect();
    run(&mut holder, "BEGIN; LOCK TABLE public.requests, public.calls, public.project, public.\"user\" IN ACCESS EXCLUSIVE MODE");
    run(&mut client, "SET lock_timeout = '5s'");
    // All that waits is told at once.
    let waiting: Vec<String> = ELSEWHERE
        .iter()
        .chain(OWN_LOG)
        .filter_map(|statement| {
            let error = client.batch_execute(statement).err()?;
            let error =
                error.as_db_error().map_or_else(|| error.to_string(), |e| format!("{} in {}", e.message(), e.where_().unwrap_or("")));
            Some(format!("{statement}: {error}"))
        })
        .collect();
    assert!(waiting.is_empty(), "{}", waiting.join("\n"));
    run(&mut holder, "ROLLBACK");
    assert_eq!(text(&mut client, "SELECT sum(requests)::text || ' ' || trim_scale(sum(cost)) FROM llm.usage"), "3 1.25");
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm.verify()"), "0");
}

/// What is dropped under a mapping is refused still, by whatever name it is used.
#[test]
fn what_an_expression_uses_is_not_dropped() {
    let db = Db::new("uses");
    let mut client = db.connect();
    run(
        &mut client,
        r#"CREATE SCHEMA theirs;
        CREATE FUNCTION theirs."Twice it"(n numeric) RETURNS numeric IMMUTABLE LANGUAGE sql RETURN n * 2;
        CREATE FUNCTION theirs.app(t text) RETURNS text IMMUTABLE LANGUAGE sql RETURN lower(t);
        CREATE FUNCTION theirs.before(a text, b text) RETURNS boolean IMMUTABLE LANGUAGE sql RETURN a < b;
        CREATE OPERATOR theirs.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = theirs.before);
        CREATE DOMAIN theirs.short AS text;
        CREATE TABLE theirs.price (spend numeric, note text);
        CREATE TYPE theirs.pair AS (a text, b text);
        CREATE TABLE public.log (at timestamptz, org text, key text, model text, app text, data jsonb, spend numeric, row text);
        SELECT llm.attach_log('public.log', jsonb_build_object('created_at', 'at', 'organization_id', 'org', 'api_key_id', 'key', 'model', 'model',
            'application', 'theirs.app(app)', 'cost', 'theirs."Twice it"(spend)', 'is_error', 'app OPERATOR(theirs.<<<) ''b''',
            'provider', '(app::theirs.short)::text', 'input_cost', '(ROW(spend, row)::theirs.price).spend', 'mode', '(ROW(row, app)::theirs.pair).a'))"#,
    );
    for statement in [
        r#"DROP FUNCTION theirs."Twice it"(numeric)"#,
        "DROP FUNCTION theirs.app(text)",
        "DROP FUNCTION theirs.before(text, text) CASCADE",
        "DROP OPERATOR theirs.<<< (text, text)",
        "DROP DOMAIN theirs.short",
        "DROP TABLE theirs.price",
        "DROP TYPE theirs.pair",
        "DROP SCHEMA theirs CASCADE",
    ] {
        let error = client.batch_execute(statement).expect_err(statement);
        let error = error.as_db_error().expect("the server's error");
        assert_eq!(error.code().code(), "55000", "{statement}: {error:?}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{statement}");
    }
    run(&mut client, "INSERT INTO public.log VALUES ('2026-01-01Z', 'org', 'k', 'm', 'APP', NULL, 0.25, 'x')");
    assert_eq!(
        text(
            &mut client,
            "SELECT concat_ws(' ', application, provider, mode, errors, trim_scale(cost), trim_scale(input_cost)) FROM llm.usage"
        ),
        "app APP x 1 0.5 0.25"
    );
}

/// Of the log that lost it, wherever in its tree, and of no other.
#[test]
fn a_capture_trigger_that_is_dropped_is_noticed() {
    let db = Db::new("dropped");
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    run(
        &mut client,
        r#"CREATE TABLE public."The log" (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric) PARTITION BY RANGE (created_at);
        CREATE TABLE public."The leaf" PARTITION OF public."The log" FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z');
        SELECT llm.attach_log('public.requests'), llm.attach_log('public."The log"')"#,
    );
    run(&mut client, "CALL llm.backfill()");
    let states = "SELECT string_agg(state, ' ' ORDER BY source COLLATE \"C\") FROM llm.status WHERE source IS NOT NULL";
    for (statement, wanted) in [
        (r#"DROP TRIGGER llm_capture_delete ON public."The leaf""#, "capture off attached"),
        ("DROP TRIGGER llm_capture_update ON public.requests", "capture off capture off"),
    ] {
        run(&mut client, statement);
        assert_eq!(text(&mut client, states), wanted, "{statement}");
        let marked = "SELECT count(*) FROM llm.source WHERE complete_from = 'infinity'";
        assert_eq!(text(&mut client, marked), (wanted.matches("capture off").count()).to_string(), "{statement}");
    }
}
