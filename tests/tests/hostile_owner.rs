//! Code of others never runs with more rights than theirs. The owner of attached tables, m, has a hostile function in every
//! place where PostgreSQL evaluates something of them, and waits for a superuser, for the worker or for a gateway to touch
//! the tables through llm_analytics. Each step says what ran as whom where it should not have.

use llm_analytics_tests::db::{quote, run, wait_for};
use llm_analytics_tests::hostile::{ATTACH, Actor, Host, MANAGED, OURS, WRITES, root, statements};
use std::collections::BTreeSet;
use std::process::Command;

/// m drops next month's partition of its managed log, so that the next maintenance makes it again.
const DROP_NEXT_MONTH: &str = "DO $$ BEGIN EXECUTE format('DROP TABLE m.made_%s', to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')); END $$";
/// Months of the managed log that m owns: last month, this one and the next two.
const MONTHS: &str = r"SELECT count(*) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid
    WHERE p.relnamespace = 'm'::regnamespace AND p.relname LIKE 'made%' AND c.relname ~ '_\d{4}_\d\d$' AND c.relowner = 'm'::regrole";
const OLD_MONTH: &str = "SELECT to_regclass('m.made_2020_01')::text";

/// Where PostgreSQL runs something as whoever writes.
const OF_A_WRITER: [&str; 37] = [
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
    "range key",
    "statistics of a constant",
    "rule",
    "policy",
    "policy check",
    "row trigger",
    "statement trigger",
    "trigger condition",
];

fn made(host: &mut Host) {
    host.step("create_request_log", Actor::Owner, "SELECT llm.create_request_log('m.made')");
    host.step_of("m adds to its managed log", Actor::Owner, &statements(MANAGED));
}

fn written(host: &mut Host) {
    host.step_of("writes", Actor::Gateway, &statements(WRITES));
    host.copy(
        "COPY to a list",
        "COPY m.listed (created_at, organization_id, api_key_id, model, cost) FROM STDIN",
        "2026-06-07Z\torg\tk\ta\t1\n2026-06-07Z\torg\tk\tb\t1\n",
    );
    host.copy("COPY to ranges", "COPY m.ranged FROM STDIN", "2026-06-07Z\torg\tk\tm\t1\tapp\n2026-09-07Z\torg\tk\tm\t1\tapp\n");
}

/// What everybody may ask and a DBA may do, over all of it.
fn counted(host: &mut Host, when: &str) {
    for sql in [
        "SELECT llm.fold()",
        "CALL llm.backfill()",
        "SELECT llm.rebuild('2026-01-01', '2027-01-01')",
        "SELECT llm.rebuild('2026-01-01', '2027-01-01', 'org', true)",
        "SELECT * FROM llm.status",
        "SELECT sum(requests) FROM llm.usage",
        "SELECT llm.analytics_members('org', '2026-06-01', '2026-06-30')",
    ] {
        host.step(&format!("{when}: {sql}"), Actor::Dba, sql);
    }
    host.verify(when);
    for sql in [
        "SELECT llm.analytics_activity('org', 'user', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_activity('org', 'apiKey', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_members('org', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_member('org', 'u', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_me('org', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_api_keys('org')",
        "SELECT llm.access('org')",
        "SELECT user_name, api_key, sum(cost) FROM llm.usage GROUP BY 1, 2",
    ] {
        host.step(&format!("{when}: {sql}"), Actor::Reader, sql);
    }
}

/// DDL of m's own. What llm_analytics does behind it, with more rights than m has, must not reach m's functions.
fn altered(host: &mut Host) {
    for sql in [
        "ALTER TABLE m.ranged ATTACH PARTITION m.ranged_5 FOR VALUES FROM ('2026-05-01Z') TO ('2026-06-01Z')",
        "ALTER TABLE m.listed DETACH PARTITION m.listed_a",
        "ALTER TABLE m.listed ATTACH PARTITION m.listed_a FOR VALUES IN (m.f('list bound', 'xa'))",
        "CREATE TABLE m.listed_e PARTITION OF m.listed FOR VALUES IN (m.f('list bound', 'xe'))",
        "DROP TABLE m.listed_e",
        "ALTER TABLE m.plain ADD COLUMN later text DEFAULT m.f('default of a new column', 'x')",
        "ALTER TABLE m.plain RENAME COLUMN app TO app2",
        "ALTER TABLE m.plain RENAME COLUMN app2 TO app",
        "ALTER TABLE m.plain ALTER COLUMN api_key_id TYPE varchar",
        "ALTER TABLE m.people RENAME COLUMN name TO called",
        "ALTER TABLE m.people RENAME COLUMN called TO name",
        "CREATE OR REPLACE FUNCTION m.n(place text, x numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM m.e(place); RETURN x; END $$",
        "ALTER FUNCTION m.f(text, text) COST 200",
        "DROP INDEX m.ranged_5_expr_idx",
    ] {
        host.step(sql, Actor::Owner, sql);
    }
}

fn retained(host: &mut Host, by: Actor) {
    host.step("seal", by, "SELECT llm.seal('m.ranged', '2026-05-20Z')");
    host.step("seal of a list", by, "SELECT llm.seal('m.listed', '2026-01-01Z')");
    host.step("set_retention", by, "SELECT llm.set_retention('m.made', '13 months')");
    host.step("m drops next month", Actor::Owner, DROP_NEXT_MONTH);
    host.step("CALL llm.maintain()", Actor::Dba, "CALL llm.maintain()");
    host.expect("next month is there again, and m's", MONTHS, "4");
    host.expect("the month past its retention is gone", OLD_MONTH, "NULL");
    let odd = r#""made'; ALTER ROLE m SUPERUSER; --""#;
    host.step("m renames its managed log", Actor::Owner, &format!("ALTER TABLE m.made RENAME TO {odd}"));
    host.step("m drops a month again", Actor::Owner, DROP_NEXT_MONTH);
    host.step("CALL llm.maintain() with an odd name", Actor::Dba, "CALL llm.maintain()");
    host.expect("the month is there again under an odd name", MONTHS, "4");
    host.step("m renames it back", Actor::Owner, &format!("ALTER TABLE m.{odd} RENAME TO made"));
    host.step("writes to the new month", Actor::Gateway, "INSERT INTO m.made (created_at, organization_id, api_key_id, model, application) VALUES (date_trunc('month', now()) + interval '40 days', 'org', 'k', 'm', 'app')");
    host.verify("after maintenance");
    host.step_of(
        "TRUNCATE",
        Actor::Gateway,
        &["TRUNCATE m.ranged", "TRUNCATE m.listed_a", "TRUNCATE m.plain", "TRUNCATE m.people", "DELETE FROM m.made"],
    );
    host.verify("after TRUNCATE");
}

fn ended(host: &mut Host, by: Actor) {
    for log in ["plain", "listed", "ranged", "made"] {
        host.step(&format!("detach_log of {log}"), by, &format!("SELECT llm.detach_log('m.{log}')"));
    }
    for kind in ["user", "api_key", "membership"] {
        host.step(&format!("detach_directory of {kind}"), by, &format!("SELECT llm.detach_directory('{kind}')"));
    }
    host.step("attached again", by, statements(ATTACH)[1]);
    host.step("maintained again", Actor::Dba, "CALL llm.maintain()");
    host.step("detached again", by, "SELECT llm.detach_log('m.listed')");
    host.step("forget", Actor::Dba, "SELECT llm.forget('org')");
    host.step("DROP EXTENSION", Actor::Dba, "DROP EXTENSION llm_analytics");
}

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

fn program(host: &Host, name: &str, arguments: &[&str]) -> std::process::Output {
    let path = std::path::PathBuf::from(std::env::var("PG_BIN").expect("PG_BIN names the server's programs")).join(name);
    let server = &host.db.server;
    let output = Command::new(path).args(["-h", &server.host, "-p", &server.port.to_string(), "-U", &server.user]).args(arguments).output();
    output.unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What a restore by a superuser runs of m's functions is PostgreSQL's doing: defaults, checks, generated columns, keys and
/// domains of the rows it copies. llm_analytics adds nothing to it, and afterwards its own steps run them as m again.
#[test]
fn dumped_and_restored() {
    let mut host = Host::new("hostile_dump", &[]);
    host.step_of("attached", Actor::Dba, &statements(ATTACH));
    made(&mut host);
    written(&mut host);
    host.step("fold", Actor::Dba, "SELECT llm.fold()");
    written(&mut host);
    let file = host.db.server.host.clone() + "/hostile.dump";
    let name = host.db.name.clone();
    let dump = program(&host, "pg_dump", &["-Fc", "-f", &file, "-d", &name]);
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    host.check("pg_dump", Actor::Dba);
    run(host.client(Actor::Dba), "CREATE DATABASE restored TEMPLATE template0");
    let restore = program(&host, "pg_restore", &["-d", "restored", &file]);
    let said = String::from_utf8_lossy(&restore.stderr).into_owned();
    let _ = std::fs::remove_file(&file);
    let mut of_postgresql = BTreeSet::new();
    for (place, who, _) in host.news() {
        if who != "m" && OURS.contains(&root(&place)) {
            host.fault(format!("pg_restore: {place} ran as {who}: nothing of PostgreSQL's own runs that"));
        } else if who != "m" {
            of_postgresql.insert(place);
        }
    }
    println!("pg_restore itself ran as a superuser: {of_postgresql:?}");
    run(host.client(Actor::Dba), "ALTER ROLE m NOSUPERUSER");
    host.in_database("restored");
    if !restore.status.success() {
        println!("pg_restore said: {said}");
    }
    host.expect("the logs are attached", "SELECT count(*) FROM llm.source WHERE state = 'attached'", "4");
    host.verify("restored");
    counted(&mut host, "restored");
    written(&mut host);
    altered(&mut host);
    counted(&mut host, "restored and written to");
    retained(&mut host, Actor::Owner);
    ended(&mut host, Actor::Owner);
    host.finish();
}
