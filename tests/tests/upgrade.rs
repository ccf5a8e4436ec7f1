//! ALTER EXTENSION UPDATE makes the catalog that CREATE EXTENSION makes: every release that is frozen, and, so that the comparison is tried
//! before there are two, a made-up next version.

use llm_analytics_tests::cluster::{install_releases, releases, version};
use llm_analytics_tests::db::{Db, rows, run, text};
use llm_analytics_tests::hosts;
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Everything in the extension's schema, one line an object. Paths of the library are not part of it.
const CATALOG: &str = "
    SELECT 'function ' || p.oid::regprocedure || ' ' || regexp_replace(pg_get_functiondef(p.oid), '\\s+', ' ', 'g') || ' ' || coalesce(p.proacl::text, '') || ' ' || coalesce(obj_description(p.oid, 'pg_proc'), '')
        FROM pg_proc p WHERE p.pronamespace = 'llm'::regnamespace
    UNION ALL SELECT format('relation %s %s %s %s %s %s %s %s %s', c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.relreplident, c.reloptions, c.relacl,
            pg_get_expr(c.relpartbound, c.oid), obj_description(c.oid, 'pg_class')) FROM pg_class c WHERE c.relnamespace = 'llm'::regnamespace
    UNION ALL SELECT format('column %s.%s %s %s %s %s %s %s %s %s', c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attcollation::regcollation,
            pg_get_expr(d.adbin, d.adrelid), a.attacl, col_description(c.oid, a.attnum))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'llm'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT format('constraint %s %s %s', o.conrelid::regclass, o.conname, pg_get_constraintdef(o.oid)) FROM pg_constraint o WHERE o.connamespace = 'llm'::regnamespace
    UNION ALL SELECT 'index ' || pg_get_indexdef(i.indexrelid) || ' ' || i.indisreplident::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'llm'::regnamespace
    UNION ALL SELECT 'view ' || c.relname || ' ' || pg_get_viewdef(c.oid) FROM pg_class c WHERE c.relnamespace = 'llm'::regnamespace AND c.relkind = 'v'
    UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'llm'::regnamespace AND NOT t.tgisinternal
    UNION ALL SELECT format('event trigger %s %s %s %s %s', e.evtname, e.evtevent, e.evtenabled, e.evttags, e.evtfoid::regprocedure) FROM pg_event_trigger e WHERE e.evtname ^@ 'llm_analytics'
    UNION ALL SELECT 'policy ' || p::text FROM pg_policies p WHERE p.schemaname = 'llm'
    UNION ALL SELECT format('dumped %s %s', t::regclass, c) FROM pg_extension x, unnest(x.extconfig, x.extcondition) u(t, c) WHERE x.extname = 'llm_analytics'
    UNION ALL SELECT 'member ' || pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
        WHERE d.refclassid = 'pg_extension'::regclass AND x.extname = 'llm_analytics' AND d.deptype = 'e'
    UNION ALL SELECT format('schema %s %s', n.nspname, n.nspacl) FROM pg_namespace n WHERE n.nspname = 'llm'
    ORDER BY 1";

fn catalog(client: &mut Client) -> Vec<String> {
    rows(client, CATALOG).into_iter().flatten().collect()
}

/// Lines that only one of two catalogs has.
fn differences(upgraded: &[String], fresh: &[String]) -> Vec<String> {
    let only = |of: &str, these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).map(|line| format!("{of}: {line}")).collect::<Vec<_>>()
    };
    [only("upgraded", upgraded, fresh), only("fresh", fresh, upgraded)].concat()
}

/// Scripts put among the server's extensions for the length of a test.
struct Installed(Vec<PathBuf>);

impl Installed {
    fn add(&mut self, name: &str, sql: &str) {
        let path = directory().join(name);
        fs::write(&path, sql).expect("a script");
        self.0.push(path);
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn directory() -> PathBuf {
    let pg_config = PathBuf::from(std::env::var("PG_BIN").expect("PG_BIN names the server's programs")).join("pg_config");
    let output = Command::new(pg_config).arg("--sharedir").output().expect("pg_config");
    PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim()).join("extension")
}

/// A database with the old version and a log in use, brought to the new one; its catalog.
fn upgraded(old: &str, new: &str) -> Vec<String> {
    let db = Db::bare("upgrade");
    let mut client = db.connect();
    run(&mut client, &format!("CREATE EXTENSION llm_analytics VERSION '{old}'"));
    run(&mut client, hosts::CANONICAL);
    let insert = |from: u32| {
        format!(
            "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost)
             SELECT {from} + i, '2026-03-03Z'::timestamptz + i * interval '1 hour', 'org', 'k', 'm', i / 7.0 FROM generate_series(1, 50) i"
        )
    };
    run(&mut client, &insert(0));
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    run(&mut client, "CALL llm.backfill()");
    run(&mut client, &insert(100));
    let usage = "SELECT sum(requests)::text || ' ' || sum(cost) FROM llm.usage";
    let before = text(&mut client, usage);
    run(&mut client, &format!("ALTER EXTENSION llm_analytics UPDATE TO '{new}'"));
    assert_eq!(text(&mut client, usage), before);
    run(&mut client, &insert(200));
    run(&mut client, "SELECT llm.fold()");
    assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), "150");
    check_verify(&mut client);
    catalog(&mut client)
}

fn fresh(version: &str) -> Vec<String> {
    let db = Db::bare("fresh");
    let mut client = db.connect();
    run(&mut client, &format!("CREATE EXTENSION llm_analytics VERSION '{version}'"));
    catalog(&mut client)
}

fn replaced(script: &str, old: &str, new: &str) -> String {
    assert!(script.contains(old), "the install script has no {old}");
    script.replacen(old, new, 1)
}

#[test]
fn an_upgraded_catalog_is_a_fresh_one() {
    let current = version();
    let mut installed = Installed(Vec::new());
    install_releases();
    for old in releases() {
        assert_eq!(differences(&upgraded(&old, &current), &fresh(&current)), Vec::<String>::new(), "{old} to {current}");
    }
    // A next one that adds a column and a function and changes another.
    let next = format!("{current}-next");
    let script = fs::read_to_string(directory().join(format!("llm_analytics--{current}.sql"))).expect("the install script");
    let probe =
        "CREATE FUNCTION llm._probe() RETURNS int LANGUAGE sql IMMUTABLE RETURN 1;\nCOMMENT ON FUNCTION llm._probe() IS 'made up';\n";
    let note = "COMMENT ON COLUMN llm.model_alias.note IS 'made up';\n";
    let mut made = replaced(
        &script,
        "    label     text\n);\nCOMMENT ON TABLE llm.model_alias",
        "    label     text,\n    note      text\n);\nCOMMENT ON TABLE llm.model_alias",
    );
    made = replaced(&made, "COMMENT ON COLUMN llm.model_alias.label", &format!("{note}COMMENT ON COLUMN llm.model_alias.label"));
    made = replaced(&made, "CREATE FUNCTION llm.seal(", &format!("{probe}CREATE FUNCTION llm.seal("));
    installed.add(&format!("llm_analytics--{next}.sql"), &made);
    let wanted = fresh(&next);
    assert!(wanted.len() > 300, "the catalog has few objects: {}", wanted.len());
    let upgrade = format!("ALTER TABLE llm.model_alias ADD COLUMN note text;\n{note}{probe}");
    // It forgets that nobody may call what is new.
    installed.add(&format!("llm_analytics--{current}--{next}.sql"), &upgrade);
    let wrong = differences(&upgraded(&current, &next), &wanted);
    assert!(wrong.len() == 2 && wrong.iter().all(|line| line.contains("function llm._probe()")), "{wrong:#?}");
    installed
        .add(&format!("llm_analytics--{current}--{next}.sql"), &format!("{upgrade}REVOKE ALL ON FUNCTION llm._probe() FROM PUBLIC;\n"));
    assert_eq!(differences(&upgraded(&current, &next), &wanted), Vec::<String>::new());
}
