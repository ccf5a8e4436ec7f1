//! What `llm.attach_directory` refuses, with nothing changed; and whose rights the look-ups in an attached directory have.

use llm_analytics_tests::db::{self, Db, Refusal, Role, Server, quote, refused, run, text};
use llm_analytics_tests::hosts;
use postgres::Client;
use std::time::{Duration, Instant};

/// What attach writes: the configuration, triggers, dependencies, objects.
const FINGERPRINT: &str = "SELECT (SELECT coalesce(string_agg(s::text, E'\\n' ORDER BY id), '') FROM llm.source s),
            (SELECT coalesce(string_agg(d::text, E'\\n' ORDER BY kind), '') FROM llm.directory d), (SELECT count(*) FROM pg_trigger),
            (SELECT count(*) FROM pg_depend), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM llm._remembered)";

fn must_refuse(client: &mut Client, sql: &str, states: &[&str]) -> Refusal {
    db::must_refuse(client, FINGERPRINT, sql, states)
}

fn database(tag: &str) -> (Db, Client) {
    let db = Db::new(tag);
    let mut client = db.connect();
    run(&mut client, hosts::GATEWAY_DIRECTORIES);
    (db, client)
}

fn attach(kind: &str, relation: &str, columns: &str) -> String {
    format!("SELECT llm.attach_directory('{kind}', {}, {})", quote(relation), quote(columns))
}

#[test]
fn kinds_and_columns() {
    let (_db, mut client) = database("dirref_columns");
    for kind in ["team", "", "log", "app_user", "model_alias"] {
        must_refuse(&mut client, &format!("SELECT llm.attach_directory('{kind}', 'public.project')"), &["22023"]);
        let refusal = refused(&mut client, &format!("SELECT llm.detach_directory('{kind}')"));
        assert_eq!(refusal.state, "22023", "{kind}: {refusal:?}");
    }
    for call in ["attach_directory(NULL, 'public.project')", "attach_directory('project', NULL)", "detach_directory(NULL)"] {
        let refusal = refused(&mut client, &format!("SELECT llm.{call}"));
        assert_eq!(refusal.state, "22004", "{call}: {refusal:?}");
    }
    for (kind, relation, columns, states) in [
        // what is required: the ids, and the role
        ("organization", "public.organization", r#"{"name":"name"}"#, &["22023"][..]),
        ("project", "public.project", r#"{"id":"id","name":"name"}"#, &["22023"]),
        ("project", "public.project", r#"{"organization_id":"organization_id"}"#, &["22023"]),
        ("api_key", "public.api_key", r#"{"label":"description","project_id":"project_id"}"#, &["22023"]),
        ("user", "public.\"user\"", r#"{"email":"email"}"#, &["22023"]),
        ("membership", "public.user_organization", r#"{"organization_id":"organization_id","user_id":"user_id"}"#, &["22023"]),
        ("membership", "public.user_organization", r#"{"organization_id":"organization_id","role":"role"}"#, &["22023"]),
        ("membership", "public.user_organization", r#"{"user_id":"user_id","role":"role"}"#, &["22023"]),
        // fields of another kind, and of none
        ("project", "public.project", r#"{"id":"id","organization_id":"organization_id","email":"name"}"#, &["22023"]),
        ("user", "public.\"user\"", r#"{"id":"id","role":"name"}"#, &["22023"]),
        ("user", "public.\"user\"", r#"{"id":"id","colour":"name"}"#, &["22023"]),
        ("user", "public.\"user\"", r#"{"Id":"id"}"#, &["22023"]),
        ("user", "public.\"user\"", r#"{"id":"missing"}"#, &["42703"]),
        ("user", "public.\"user\"", r#"{"id":"id","name":5}"#, &["22023"]),
        ("user", "public.\"user\"", r#"{"id":"id","name":["name"]}"#, &["22023"]),
        ("user", "public.\"user\"", "{}", &["22023"]),
        ("user", "public.\"user\"", "[]", &["22023"]),
        ("user", "public.\"user\"", "\"id\"", &["22023"]),
    ] {
        must_refuse(&mut client, &attach(kind, relation, columns), states);
    }
    // Tables that no preset knows, and known ones of another kind.
    run(&mut client, "CREATE TABLE public.strange (a int, b text)");
    for (kind, relation) in [
        ("project", "public.strange"),
        ("project", "public.\"user\""),
        ("membership", "public.project"),
        ("api_key", "public.organization"),
    ] {
        must_refuse(
            &mut client,
            &format!("SELECT llm.attach_directory('{kind}', {})", quote(relation)),
            &["22023", "42P17", "0A000", "42703"],
        );
    }
    run(&mut client, hosts::ATTACH_GATEWAY_DIRECTORIES);
    for kind in ["organization", "user", "membership", "project", "api_key"] {
        let table = if kind == "membership" { "user_organization" } else { kind };
        must_refuse(&mut client, &format!("SELECT llm.attach_directory('{kind}', 'public.\"{table}\"')"), &["55000", "42710", "55006"]);
    }
    run(&mut client, "CREATE TABLE public.other_users (LIKE public.\"user\")");
    must_refuse(&mut client, "SELECT llm.attach_directory('user', 'public.other_users')", &["55000", "42710", "55006"]);
}

#[test]
fn expressions() {
    let (_db, mut client) = database("dirref_expressions");
    run(
        &mut client,
        "CREATE FUNCTION public.unsure(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1';
         CREATE FUNCTION public.now_and_then(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1'; CREATE TABLE public.canary (a int)",
    );
    for (expression, states) in [
        ("name || random()::text", &["42P17"][..]),
        ("public.unsure(name)", &["42P17"]),
        ("public.now_and_then(name)", &["42P17"]),
        ("name || now()::text", &["42P17"]),
        ("current_user::text", &["42P17"]),
        ("max(name)", &["42803"]),
        ("first_value(name) OVER ()", &["42P20"]),
        ("regexp_split_to_table(name, ',')", &["0A000"]),
        ("(SELECT rolpassword FROM pg_catalog.pg_authid LIMIT 1)", &["0A000"]),
        ("ctid::text", &["0A000", "42703", "42P10", "42P17"]),
        ("\"user\"::text", &["0A000", "42P17"]),
        ("name ||", &["42601"]),
        ("name; DROP TABLE public.canary", &["42601"]),
        ("name); DROP TABLE public.canary; --", &["42601"]),
        ("name FROM public.canary", &["42601"]),
        ("name WHERE true", &["42601"]),
        ("name, 1", &["42601"]),
        ("*", &["42601", "0A000"]),
        ("name || nothing", &["42703"]),
        ("nothing(name)", &["42883"]),
        ("$1", &["42P02", "42601"]),
        ("'open", &["42601"]),
    ] {
        let columns = serde_json::json!({"id": "id", "name": expression}).to_string();
        must_refuse(&mut client, &attach("user", "public.\"user\"", &columns), states);
    }
    assert_eq!(text(&mut client, "SELECT count(*) FROM public.canary"), "0");
    run(&mut client, &attach("user", "public.\"user\"", r#"{"id":"id","name":"coalesce(nullif(name, ''), email) -- fine"}"#));
}

#[test]
fn relations() {
    let (db, mut client) = database("dirref_relations");
    run(
        &mut client,
        "CREATE VIEW public.v AS SELECT * FROM public.project; CREATE MATERIALIZED VIEW public.mv AS SELECT * FROM public.project;
         CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
         CREATE FOREIGN TABLE public.ft (id text, organization_id text, name text, status text) SERVER nowhere;
         CREATE TEMP TABLE temporary (LIKE public.project);
         CREATE TABLE public.parent (LIKE public.project); CREATE TABLE public.child () INHERITS (public.parent);
         CREATE TABLE public.forced (LIKE public.project); ALTER TABLE public.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE SEQUENCE public.counter; CREATE INDEX project_name ON public.project (name);
         CREATE TYPE public.composite AS (id text, organization_id text, name text, status text)",
    );
    let relations = [
        "public.v",
        "public.mv",
        "public.ft",
        "temporary",
        "public.parent",
        "public.child",
        "public.forced",
        "public.counter",
        "public.project_name",
        "public.composite",
    ];
    for relation in relations {
        for columns in ["NULL", r#"'{"id":"id","organization_id":"organization_id","name":"name"}'"#] {
            must_refuse(
                &mut client,
                &format!("SELECT llm.attach_directory('project', '{relation}', {columns})"),
                &["42809", "0A000", "55000"],
            );
        }
    }
    for relation in ["pg_catalog.pg_class", "information_schema.sql_features", "llm.rollup", "llm._pending", "llm.project"] {
        let columns = r#"{"id":"'x'::text","organization_id":"'x'::text"}"#;
        must_refuse(&mut client, &attach("project", relation, columns), &["42809", "0A000", "42501", "55000"]);
    }
    if text(&mut client, "SHOW server_version_num").parse::<u32>().expect("a number") >= 180_000 {
        run(&mut client, "CREATE TABLE public.virtual (id text, organization_id text, name text GENERATED ALWAYS AS ('a' || id) VIRTUAL)");
        must_refuse(
            &mut client,
            &attach("project", "public.virtual", r#"{"id":"id","organization_id":"organization_id","name":"name"}"#),
            &["0A000", "42809", "42P17"],
        );
    }
    // Neither owner nor superuser, also where EXECUTE was granted.
    let stranger = Role::new(&db.server, "dirstranger");
    let mut other = db.connect_as(&stranger.name);
    let call = "SELECT llm.attach_directory('project', 'public.project')";
    assert_eq!(refused(&mut other, call).state, "42501");
    run(
        &mut client,
        &format!(
            "GRANT SELECT ON public.project TO {r}; GRANT EXECUTE ON FUNCTION llm.attach_directory, llm.detach_directory TO {r}",
            r = stranger.name
        ),
    );
    let refusal = refused(&mut other, call);
    assert!(refusal.state == "42501" && !refusal.hint.is_empty(), "{refusal:?}");
    run(&mut client, call);
    assert_eq!(refused(&mut other, "SELECT llm.detach_directory('project')").state, "42501");
    run(&mut client, "UPDATE public.project SET name = 'x'; SELECT llm.detach_directory('project')");
    run(&mut client, &format!("DROP OWNED BY {}", stranger.name));
}

#[test]
fn a_long_writer_is_not_waited_for() {
    let (db, mut client) = database("dirref_lock");
    let mut writer = db.connect();
    run(&mut writer, "BEGIN; INSERT INTO public.project VALUES ('p', 'P', 'o')");
    run(&mut client, "SET statement_timeout = '30s'");
    let started = Instant::now();
    must_refuse(&mut client, "SELECT llm.attach_directory('project', 'public.project')", &["55P03"]);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    run(&mut writer, "COMMIT");
    run(&mut client, "SELECT llm.attach_directory('project', 'public.project')");
    assert_eq!(text(&mut client, "SHOW lock_timeout"), "0", "the caller's own setting is as it was");
}

/// Expressions of a directory run with the rights of its owner, whoever reads and whoever writes.
#[test]
fn look_ups_run_as_the_directorys_owner() {
    let server = Server::from_env();
    let (owner, writer, reader) = (Role::new(&server, "dirowner"), Role::new(&server, "dirwriter"), Role::new(&server, "dirreader"));
    let db = Db::new("dir_rights");
    let mut client = db.connect();
    run(&mut client, hosts::GATEWAY);
    let who = "CREATE OR REPLACE FUNCTION app.who(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS";
    run(
        &mut client,
        &format!(
            "CREATE SCHEMA app AUTHORIZATION {o}; GRANT USAGE ON SCHEMA app TO {w}; SET ROLE {o};
             CREATE TABLE app.projects (id text PRIMARY KEY, org text, name text); CREATE TABLE app.keys (id text PRIMARY KEY, project text, note text, who text);
             CREATE TABLE app.members (org text, who text, role text); CREATE TABLE app.people (id text PRIMARY KEY, name text); CREATE TABLE app.orgs (id text PRIMARY KEY, name text);
             {who} 'BEGIN RETURN current_user; END'; GRANT ALL ON ALL TABLES IN SCHEMA app TO {w};
             INSERT INTO app.projects VALUES ('p', 'o', 'P'); INSERT INTO app.keys VALUES ('k', 'p', 'K', 'u'); INSERT INTO app.people VALUES ('u', 'U'); INSERT INTO app.orgs VALUES ('o', 'O');
             INSERT INTO app.members VALUES ('o', 'u', 'admin'); RESET ROLE;
             SELECT llm.attach_log('public.log');
             SELECT llm.attach_directory('organization', 'app.orgs', '{{\"id\":\"id\",\"name\":\"app.who(name)\"}}');
             SELECT llm.attach_directory('project', 'app.projects', '{{\"id\":\"id\",\"organization_id\":\"org\",\"name\":\"app.who(name)\"}}');
             SELECT llm.attach_directory('api_key', 'app.keys', '{{\"id\":\"id\",\"project_id\":\"project\",\"label\":\"app.who(note)\",\"user_id\":\"who\"}}');
             SELECT llm.attach_directory('user', 'app.people', '{{\"id\":\"id\",\"name\":\"app.who(name)\"}}');
             SELECT llm.attach_directory('membership', 'app.members', '{{\"organization_id\":\"org\",\"user_id\":\"who\",\"role\":\"left(app.who(role), 0) || role\"}}');
             INSERT INTO public.log (id, created_at, organization_id, project_id, api_key_id, used_model, cost) VALUES ('1', '2026-06-01 12:00', 'o', 'p', 'k', 'm', 1);
             SELECT llm.bind_role('{r}', 'u')",
            o = owner.name,
            w = writer.name,
            r = reader.name
        ),
    );
    let labels = "SELECT DISTINCT concat_ws(' ', organization, project, api_key, user_name) FROM llm.usage";
    let names = "SELECT string_agg(label, ' ') FROM (SELECT 1) x, LATERAL (SELECT label FROM llm.activity('o', 'project', '2026-06-01', '2026-06-01')
        UNION ALL SELECT label FROM llm.activity('o', 'apiKey', '2026-06-01', '2026-06-01') UNION ALL SELECT label FROM llm.activity('o', 'user', '2026-06-01', '2026-06-01')) l";
    let (four, three) = ([owner.name.as_str(); 4].join(" "), [owner.name.as_str(); 3].join(" "));
    let mut bound = db.connect_as(&reader.name);
    let mut writes = db.connect_as(&writer.name);
    let check = |client: &mut Client, bound: &mut Client| {
        for reader in [client, bound] {
            assert_eq!(text(reader, labels), four);
            assert_eq!(text(reader, names), three);
        }
    };
    check(&mut client, &mut bound);
    run(&mut client, "SELECT llm.fold()");
    check(&mut client, &mut bound);
    // Something that tries for more, and hides that it failed.
    let attempt =
        |what: &str| format!("{who} $f$ BEGIN BEGIN EXECUTE '{what}'; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN current_user; END $f$");
    for what in [
        format!("ALTER ROLE {} SUPERUSER", owner.name),
        format!("SET ROLE {}", db.server.user),
        format!("SET SESSION AUTHORIZATION {}", db.server.user),
        format!("GRANT {} TO {}", db.server.user, owner.name),
        "DELETE FROM llm.rollup".to_owned(),
        "CREATE TABLE public.mine ()".to_owned(),
        format!("GRANT EXECUTE ON FUNCTION llm.bind_role TO {}", owner.name),
    ] {
        run(&mut client, &attempt(&what));
        check(&mut client, &mut bound);
        for write in [
            "UPDATE app.projects SET name = 'again'",
            "UPDATE app.keys SET note = 'again'",
            "UPDATE app.people SET name = 'again'",
            "UPDATE app.orgs SET name = 'again'",
        ] {
            run(&mut writes, write);
        }
        check(&mut client, &mut bound);
        let gained = format!(
            "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = '{o}') OR pg_has_role('{o}', '{s}', 'MEMBER') OR has_function_privilege('{o}', (SELECT oid FROM pg_proc WHERE proname = 'bind_role'), 'EXECUTE')",
            o = owner.name,
            s = db.server.user
        );
        assert_eq!(text(&mut client, &gained), "f", "{what}");
        assert_eq!(text(&mut client, "SELECT to_regclass('public.mine') IS NULL AND current_user = session_user"), "t", "{what}");
    }
    assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), "1");
    // What is remembered on a delete was read with the owner's rights too.
    run(&mut writes, "DELETE FROM app.projects; DELETE FROM app.keys; DELETE FROM app.people");
    assert_eq!((text(&mut client, labels), text(&mut client, names)), (four, three));
    run(&mut client, "DROP EXTENSION llm_analytics");
    run(&mut writes, "INSERT INTO app.projects VALUES ('p', 'o', 'P'); UPDATE app.keys SET note = 'x'; DELETE FROM app.orgs");
}
