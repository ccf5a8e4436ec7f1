//! Code of others never runs with more rights than theirs. The owner of attached tables, m, has a hostile function in every
//! place where PostgreSQL evaluates something of them, and waits for a superuser, for the worker or for a gateway to touch
//! the tables through llm_analytics. Each step says what ran as whom where it should not have.

use llm_analytics_tests::db::{quote, run, wait_for};
use llm_analytics_tests::hostile::life::{
    DROP_NEXT_MONTH, MONTHS, OLD_MONTH, altered, altered_by_a_superuser, counted, ended, made, retained, written, written_by_a_superuser,
};
use llm_analytics_tests::hostile::{ATTACH, Actor, Host, statements};

/// Where PostgreSQL runs something as whoever writes.
const OF_A_WRITER: [&str; 40] = [
    "default",
    "default of a root",
    "default of a managed log",
    "domain default",
    "domain",
    "domain of a constant",
    "check",
    "check of a constant",
    "check not valid",
    "check of a root",
    "check of a leaf",
    "check of a referenced table",
    "check of a directory",
    "check of a managed log",
    "check of a managed log, of a constant",
    "generated column",
    "generated column of a managed log",
    "index",
    "index of a constant",
    "index predicate",
    "index predicate of a constant",
    "index of a root",
    "index of a leaf, of a constant",
    "index of a directory",
    "index of a managed log",
    "partial index of a managed log",
    "list key",
    "list key of a constant",
    "key of a subtree",
    "key of a subtree, of a constant",
    "range key",
    "range key of a constant",
    "hash key of a constant",
    "statistics of a constant",
    "rule",
    "policy",
    "policy check",
    "row trigger",
    "statement trigger",
    "trigger condition",
];

/// A whole life, in which m itself or a superuser attaches, seals and detaches.
fn life(name: &str, by: Actor) {
    let mut host = Host::new(name, &[]);
    for sql in statements(ATTACH) {
        host.step(&format!("attached: {}", sql.chars().take(50).collect::<String>()), by, sql);
    }
    made(&mut host);
    written(&mut host);
    counted(&mut host, "after writes");
    altered(&mut host);
    written(&mut host);
    written_by_a_superuser(&mut host);
    altered_by_a_superuser(&mut host);
    counted(&mut host, "after DDL");
    retained(&mut host, by);
    ended(&mut host, by);
    host.must_have_seen("g", &OF_A_WRITER);
    host.must_have_seen("m", &["mapping", "mapping of a constant", "assignment cast", "directory", "directory of a constant"]);
    host.finish();
}

#[test]
fn attached_by_its_owner() {
    life("hostile_owner", Actor::Owner);
}

#[test]
fn attached_by_a_superuser() {
    life("hostile_dba", Actor::Dba);
}

/// The worker folds, backfills, heals, makes months and drops them, and autovacuum analyzes.
#[test]
fn under_the_worker() {
    let mut host = Host::new("hostile_worker", &["llm.worker = on", "llm.fold_interval = 100ms", "autovacuum_naptime = 1s"]);
    host.step_of("attached", Actor::Dba, &statements(ATTACH));
    made(&mut host);
    written(&mut host);
    host.step("set_retention", Actor::Owner, "SELECT llm.set_retention('m.made', '13 months')");
    host.step("m drops next month", Actor::Owner, DROP_NEXT_MONTH);
    let dba = host.client(Actor::Dba);
    wait_for(dba, 60, "the worker folds", "SELECT count(*) FROM llm._pending", "0");
    wait_for(dba, 60, "the worker backfills", "SELECT count(*) FROM llm.status WHERE state = 'backfilling'", "0");
    wait_for(dba, 60, "the worker drops what is past its retention", OLD_MONTH, "NULL");
    wait_for(dba, 60, "the worker makes next month", MONTHS, "4");
    host.check("the worker's rounds", Actor::Dba);
    // A partition whose triggers are gone is healed and read again.
    for drop in ["DROP TRIGGER llm_capture_insert ON m.ranged_6", "DROP TRIGGER llm_capture_update ON m.ranged_6"] {
        let _ = host.client(Actor::Owner).batch_execute(drop);
    }
    host.check("m drops triggers of ours", Actor::Owner);
    host.step("m drops next month", Actor::Owner, DROP_NEXT_MONTH);
    written(&mut host);
    let dba = host.client(Actor::Dba);
    wait_for(dba, 60, "the worker makes next month again", MONTHS, "4");
    wait_for(dba, 60, "the worker folds again", "SELECT count(*) FROM llm._pending", "0");
    host.verify("after the worker");
    host.must_have_seen("m", &["mapping", "assignment cast"]);
    host.finish();
}

/// Two owners, each with a log and with some of the directories that one question joins: nobody's functions run as the other.
#[test]
fn of_two_owners() {
    let mut host = Host::new("hostile_two", &[]);
    host.second_owner();
    let script = statements(ATTACH);
    for (n, sql) in script.iter().enumerate() {
        // Of the directories, users are m's; keys and members are n's.
        if !sql.contains("attach_directory('api_key'") && !sql.contains("attach_directory('membership'") {
            host.step(&format!("attached: m's {n}"), Actor::Dba, sql);
        }
        if !sql.contains("attach_directory('user'") {
            host.step(&format!("attached: n's {n}"), Actor::Dba, &sql.replace("m.", "n.").replace("lln.", "llm."));
        }
    }
    made(&mut host);
    written(&mut host);
    for sql in [
        "INSERT INTO n.plain (api_key_id, model, cost, price, app) SELECT 'k', 'b', 1, row(2)::n.money, 'app' FROM generate_series(1, 3)",
        "WITH w AS (INSERT INTO n.listed (created_at, organization_id, api_key_id, model, cost) VALUES ('2026-06-02Z', 'org', 'k', 'a', 1) RETURNING *)
         INSERT INTO m.listed (created_at, organization_id, api_key_id, model, cost) SELECT created_at, organization_id, api_key_id, model, cost FROM w",
        "UPDATE n.keys SET name = 'desktop'",
        "TRUNCATE m.applied, n.applied",
    ] {
        host.step(sql, Actor::Gateway, sql);
    }
    counted(&mut host, "two owners");
    host.must_have_seen("n", &["n: mapping", "n: directory"]);
    host.must_have_seen("m", &["mapping", "directory"]);
    host.finish();
}

/// A function that changes the search_path in the midst of what we do: the mapping that is recorded still names what it
/// named, and no unqualified name of ours finds a function of m's.
#[test]
fn search_path_of_the_hosts_choice() {
    let mut host = Host::new("hostile_path", &[]);
    let shadows = "CREATE FUNCTION m.path(place text, x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
            BEGIN PERFORM pg_catalog.set_config('search_path', 'm, pg_catalog', false); PERFORM m.e(place); RETURN x; END $$;
        CREATE FUNCTION m.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM m.e('a shadow'); RETURN pg_catalog.now(); END $$;
        CREATE FUNCTION m.to_char(a timestamptz, f text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM m.e('a shadow'); RETURN pg_catalog.to_char(a, f); END $$;
        CREATE FUNCTION m.date_trunc(f text, a timestamptz) RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM m.e('a shadow'); RETURN pg_catalog.date_trunc(f, a); END $$;
        CREATE FUNCTION m.same(a text, b text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM m.e('a shadow'); RETURN a OPERATOR(pg_catalog.=) b; END $$;
        CREATE OPERATOR m.= (FUNCTION = m.same, LEFTARG = text, RIGHTARG = text);
        CREATE TABLE m.pathed (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric, app text, CHECK (m.path('check', 'x') OPERATOR(pg_catalog.=) 'x'));
        CREATE INDEX ON m.pathed ((m.path('index of a constant', 'x') || app)); GRANT ALL ON m.pathed TO g";
    run(host.client(Actor::Owner), shadows);
    run(host.client(Actor::Owner), "SET search_path = pg_catalog");
    let mapping = r#"{"created_at": "created_at", "organization_id": "m.path('mapping', organization_id)", "api_key_id": "m.f('mapping', api_key_id)", "model": "model",
        "cost": "cost", "application": "m.path('mapping of a constant', 'x') || m.f('mapping', app)"}"#;
    host.check("m's preparations", Actor::Owner);
    host.step("attach", Actor::Dba, &format!("SELECT llm.attach_log('m.pathed', {})", quote(mapping)));
    // As text, whatever schema the reader looks in: every function of m is named with its schema.
    host.expect(
        "the recorded mapping is qualified",
        r"SELECT count(*) FROM llm.source s, jsonb_each_text(s.columns) c WHERE s.relation_name = 'pathed' AND c.value ~ '(^|[^.])\m(path|f)\('",
        "0",
    );
    host.step("writes", Actor::Gateway, "INSERT INTO m.pathed SELECT '2026-06-01Z', 'org', 'k', 'm', 1, 'app' FROM generate_series(1, 3)");
    for sql in ["SELECT llm.fold()", "CALL llm.backfill()", "SELECT llm.rebuild('2026-01-01', '2027-01-01')", "CALL llm.maintain()"] {
        host.step(sql, Actor::Dba, sql);
        host.expect(&format!("search_path after {sql}"), "SELECT current_setting('search_path')", "\"$user\", public");
    }
    host.expect("counted", "SELECT sum(requests) FROM llm.usage", "3");
    host.verify("search_path");
    host.finish();
}
