//! Hostile strings wherever a text goes in: the right answer or a clean SQLSTATE, and a canary table still there.

use llm_analytics_tests::db::{Db, json, quote, quote_ident, refusal, refused, rows, run, text};
use llm_analytics_tests::hosts;
use llm_analytics_tests::world::World;
use postgres::Client;

fn hostile() -> Vec<String> {
    let mut all: Vec<String> = [
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "'; DROP TABLE public.canary; --",
        "\"; DROP TABLE public.canary; --",
        "); DROP TABLE public.canary; --",
        "$$",
        "$1",
        "$tag$ x $tag$",
        "%s%n%I%L",
        "%",
        "{}",
        "{\"a\":1}",
        "[]",
        "NULL",
        "null",
        "/* x",
        "*/",
        "--",
        "\u{1}\u{2}\u{7f}",
        "\n\r\t\u{b}\u{c}",
        "x\u{feff}\u{200b}",
        "日本語 🦀 \u{202e}rtl",
        "e\u{301}",
        "\u{10ffff}",
        "' OR '1'='1",
        "a,b",
        "(a)",
        "#0123456789abcdef",
        " ",
        " x ",
        "Other",
        "Unattributed",
        "unknown",
    ]
    .map(str::to_owned)
    .to_vec();
    all.push("'".repeat(1000));
    all.push("é".repeat(100_000));
    all.push("x".repeat(1_048_576));
    all
}

fn database(tag: &str) -> (Db, Client) {
    let db = Db::new(tag);
    let mut client = db.connect();
    run(&mut client, "CREATE TABLE public.canary (a int); INSERT INTO public.canary VALUES (42)");
    run(&mut client, hosts::CANONICAL);
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    (db, client)
}

fn canary(client: &mut Client) {
    assert_eq!(text(client, "SELECT a FROM public.canary"), "42", "the canary");
}

/// Fine, or refused in a way that is ours.
fn clean(result: Result<impl Sized, postgres::Error>, allowed: &[&str], context: &str) {
    if let Err(error) = result {
        let refusal = refusal(&error);
        assert!(allowed.contains(&refusal.state.as_str()), "{context}: {refusal:?}");
    }
}

fn shown(value: &str) -> String {
    value.chars().take(40).collect()
}

/// As the values of every dimension: counted, named and found again.
#[test]
fn values_of_dimensions() {
    let (_db, mut client) = database("values");
    let values = hostile();
    for value in &values {
        client
            .execute(
                "INSERT INTO public.requests (id, created_at, organization_id, project_id, api_key_id, user_id, model, provider, application, mode, cost)
                 SELECT count(*), '2026-06-01', 'org', $1, $1, $1, 'p/' || $1, $1, $1, $1, 0.5 FROM public.requests",
                &[value],
            )
            .unwrap_or_else(|e| panic!("{}: {e:?}", shown(value)));
    }
    for folded in [false, true] {
        for group in ["project", "apiKey", "user", "provider", "application", "mode", "mapping"] {
            let answer = json(&mut client, "SELECT llm.analytics_activity('org', $1, '2026-06-01', '2026-06-01')::text", &[&group]);
            let entries = answer["breakdown"].as_array().expect("breakdown");
            assert_eq!(entries.len(), values.len(), "group_by {group}, folded {folded}");
            assert_eq!(answer["summary"]["requestCount"].to_string(), values.len().to_string());
            for value in values.iter().filter(|v| v.len() <= 190) {
                let key = if group == "mapping" { format!("p/{value}") } else { value.clone() };
                let found = entries.iter().filter(|e| e["key"].as_str() == Some(&key)).count();
                assert_eq!(found, 1, "group_by {group}: {}", shown(value));
            }
        }
        for value in &values {
            for arguments in ["project => $1", "api_key => $1", "user_id => $1", "project => $1, api_key => $1, user_id => $1"] {
                let sql = format!(
                    "SELECT coalesce(sum(request_count), 0)::text FROM llm.activity('org', 'model', '2026-06-01', '2026-06-01', {arguments})"
                );
                let count: String =
                    client.query_one(&sql, &[value]).unwrap_or_else(|e| panic!("{arguments} {}: {e:?}", shown(value))).get(0);
                assert_eq!(count, "1", "{arguments}: {}", shown(value));
            }
        }
        run(&mut client, "SELECT llm.fold()");
    }
    assert!(rows(&mut client, "SELECT v::text FROM llm.verify() v").is_empty());
    canary(&mut client);
}

/// As arguments that mean nothing.
#[test]
fn arguments() {
    let (_db, mut client) = database("arguments");
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, '2026-06-01', 'org', 'k', 'm', 1)",
    );
    const READ: [&str; 3] = ["22023", "42501", "P0002"];
    for value in hostile() {
        for call in ["llm.analytics_activity", "llm.activity"] {
            for arguments in [
                "$1",
                "'org', $1",
                "'org', tz => $1",
                "'org', project => $1",
                "'org', api_key => $1",
                "'org', user_id => $1",
                "$1, tz => 'UTC', project => $1",
            ] {
                let result = client.query(&format!("SELECT {call}({arguments})::text"), &[&value]);
                clean(result, &READ, &format!("{call}({arguments}) {}", shown(&value)));
            }
        }
        let changed = client.query_one("SELECT llm.rebuild('2026-01-01', '2027-01-01', $1)", &[&value]);
        clean(changed, &["22023", "P0002", "42501"], &format!("rebuild {}", shown(&value)));
        let different = client
            .query("SELECT v::text FROM llm.verify('2026-01-01', '2027-01-01', $1) v", &[&value])
            .unwrap_or_else(|e| panic!("verify {}: {e:?}", shown(&value)));
        assert!(different.is_empty(), "verify {}", shown(&value));
        for call in ["SELECT llm.attach_log('public.canary', on_delete => $1)", "SELECT llm.attach_log('public.canary', capture => $1)"] {
            let error = client.query(call, &[&value]).err().unwrap_or_else(|| panic!("{call} {}", shown(&value)));
            assert_eq!(refusal(&error).state, "22023", "{call} {}", shown(&value));
        }
    }
    assert_eq!(text(&mut client, "SELECT sum(request_count) FROM llm.activity('org', 'model', '2026-06-01', '2026-06-01')"), "1");
    canary(&mut client);
}

/// The same from roles without any right, and with CREATE on one schema only: they are nobody, whatever they ask.
#[test]
fn arguments_of_roles_without_rights() {
    let mut world = World::new("arguments_none", false);
    let (nobody, creator) = (world.nobody(), world.creator());
    for mut caller in [nobody, creator] {
        for value in hostile().into_iter().chain(["acme", "rival", "acme_p1", "own"].map(str::to_owned)) {
            for call in [
                "llm.analytics_activity($1)",
                "llm.analytics_activity('acme', $1)",
                "llm.analytics_activity('acme', tz => $1)",
                "llm.analytics_activity('acme', project => $1)",
                "llm.analytics_project('acme', $1)",
                "llm.analytics_api_key('acme', $1)",
                "llm.analytics_member('acme', $1)",
                "llm.analytics_members($1)",
                "llm.analytics_me($1)",
                "llm.analytics_drivers($1)",
                "llm.analytics_projects($1)",
                "llm.analytics_api_keys('acme', $1)",
                "llm.activity($1)",
                "llm.members($1)",
            ] {
                let context = format!("{}: {call} {}", caller.role, shown(&value));
                match caller.client.query(&format!("SELECT {call}::text"), &[&value]) {
                    Ok(rows) => panic!("{context}: {rows:?}"),
                    Err(error) => {
                        let refusal = refusal(&error);
                        assert!(["28000", "22023"].contains(&refusal.state.as_str()), "{context}: {refusal:?}");
                        assert!(!format!("{refusal:?}").contains("Name of"), "{context}: {refusal:?}");
                    }
                }
            }
            for call in [
                "llm.act_as($1)",
                "llm.bind_role(current_user, $1)",
                "llm.create_request_log($1)",
                "llm.forget($1)",
                "llm.detach_directory($1)",
            ] {
                let error = caller.client.query(&format!("SELECT {call}::text"), &[&value]).err().unwrap_or_else(|| panic!("{call}"));
                let refusal = refusal(&error);
                assert!(["42501", "42883"].contains(&refusal.state.as_str()), "{}: {call} {}: {refusal:?}", caller.role, shown(&value));
            }
        }
    }
}

/// As fields, columns and expressions of a mapping.
#[test]
fn mappings() {
    let (_db, mut client) = database("mappings");
    run(&mut client, "CREATE TABLE public.host (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric)");
    let before = text(&mut client, "SELECT count(*) FROM llm.source");
    let mut values = hostile();
    values.retain(|v| !["NULL", "null", "$1"].contains(&v.as_str()));
    for value in values {
        let mut with_field = serde_json::json!({"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "api_key_id", "model": "model", "cost": "cost"});
        let mut with_column = with_field.clone();
        with_field[value.as_str()] = "cost".into();
        let error = client
            .query("SELECT llm.attach_log('public.host', $1)", &[&with_field])
            .err()
            .unwrap_or_else(|| panic!("field {}", shown(&value)));
        assert_eq!(refusal(&error).state, "22023", "field {}", shown(&value));
        with_column["cost"] = value.as_str().into();
        let error = client
            .query("SELECT llm.attach_log('public.host', $1)", &[&with_column])
            .err()
            .unwrap_or_else(|| panic!("column {}", shown(&value)));
        let state = refusal(&error).state;
        // 54001: a megabyte of nested parentheses or the like may exceed the parser's stack
        assert!(
            state.starts_with("42") || ["22023", "22025", "22P05", "22021", "0A000", "54001"].contains(&state.as_str()),
            "column {}: {state}",
            shown(&value)
        );
    }
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm.source"), before);
    canary(&mut client);
}

/// Weird identifiers of the host's schema, tables and columns.
#[test]
fn identifiers() {
    let (_db, mut client) = database("identifiers");
    let names = [
        "we\"ird",
        "it's",
        "back\\slash",
        "a; DROP TABLE public.canary; --",
        "$$",
        "%s %I",
        "Order By",
        "select",
        "ünïcödé 日本",
        "a.b",
        " lead",
        "tab\there",
        "sixty-three bytes of a name that is as long as names can be now",
    ];
    for (i, name) in names.iter().enumerate() {
        assert!(name.len() <= 63, "{name} is {} bytes", name.len());
        let (schema, table) = (quote_ident(name), format!("{}.{}", quote_ident(name), quote_ident(name)));
        let part = |n: &str| format!("{schema}.{}", quote_ident(&format!("{n}{}", name.chars().take(20).collect::<String>())));
        let column = |n: &str| format!("{n} {}", name.chars().take(15).collect::<String>());
        let c: Vec<String> = ["at", "org", "key", "model", "cost", "app"].iter().map(|n| column(n)).collect();
        let q: Vec<String> = c.iter().map(|n| quote_ident(n)).collect();
        run(
            &mut client,
            &format!(
                "CREATE SCHEMA {schema}; CREATE TABLE {table} ({} timestamptz, {} text, {} text, {} text, {} numeric, {} text) PARTITION BY RANGE ({});
                 CREATE TABLE {a} PARTITION OF {table} FOR VALUES FROM ('2026-06-01') TO ('2026-07-01'); CREATE TABLE {b} PARTITION OF {table} DEFAULT;
                 INSERT INTO {table} VALUES ('2026-06-01', 'org{i}', 'k', 'm', 1, 'App')",
                q[0], q[1], q[2], q[3], q[4], q[5], q[0],
                a = part("a"),
                b = part("b"),
            ),
        );
        let columns = serde_json::json!({"created_at": c[0], "organization_id": c[1], "api_key_id": c[2], "model": c[3], "cost": format!("{} * 2", q[4]), "application": format!("lower({})", q[5])});
        client
            .query(&format!("SELECT llm.attach_log({}, $1)", quote(&table)), &[&columns])
            .unwrap_or_else(|e| panic!("attach {table}: {e:?}"));
        run(&mut client, "CALL llm.backfill()");
        run(
            &mut client,
            &format!(
                "INSERT INTO {table} VALUES ('2026-06-02', 'org{i}', 'k', 'm', 2, 'App'), ('2026-08-01', 'org{i}', 'k', 'm', 3, 'App');
                 UPDATE {table} SET {} = {} + 1; DELETE FROM {} WHERE {} = 4; CREATE TABLE {new} PARTITION OF {table} FOR VALUES FROM ('2026-07-01') TO ('2026-08-01');
                 INSERT INTO {new} VALUES ('2026-07-02', 'org{i}', 'k', 'm', 0.5, 'APP')",
                q[4], q[4], part("b"), q[4],
                new = part("c"),
            ),
        );
        let sql = format!(
            "SELECT string_agg(key || trim_scale(s), ' ') FROM (SELECT key, sum(cost) s FROM llm.activity('org{i}', 'application', '2026-06-01', '2026-08-31') WHERE label IS NOT NULL GROUP BY 1) x"
        );
        assert_eq!(text(&mut client, &sql), "app19", "{table}");
        run(&mut client, "SELECT llm.rebuild('2026-06-01', '2026-09-01')");
        run(
            &mut client,
            &format!("ALTER TABLE {table} RENAME COLUMN {} TO {}; TRUNCATE {}", q[4], quote_ident(&format!("new {}", c[4])), part("c")),
        );
        run(&mut client, &format!("INSERT INTO {table} VALUES ('2026-06-02', 'org{i}', 'k', 'm', 1, 'App')"));
        assert_eq!(text(&mut client, &sql), "app21", "{table}");
        let different = rows(&mut client, "SELECT v::text FROM llm.verify() v");
        assert!(different.is_empty(), "{table}: {different:?}");
        run(&mut client, &format!("SELECT llm.detach_log({})", quote(&table)));
        canary(&mut client);
    }
}

/// Names of `create_request_log`.
#[test]
fn names_of_new_logs() {
    let (_db, mut client) = database("newlogs");
    let mut values = hostile();
    values.extend(
        ["public.a.b.c", "pg_catalog.x", "nowhere.x", "public.", ".x", "\"unclosed", "public.canary", "llm._pending"].map(str::to_owned),
    );
    for value in values {
        let result = client.query("SELECT llm.create_request_log($1)::text", &[&value]);
        clean(
            result,
            &["22023", "42602", "42601", "3F000", "42P07", "42501", "0A000", "42939", "42622", "22004", "54000"],
            &format!("create_request_log {}", shown(&value)),
        );
    }
    // Its partitions are named after it, within the 63 bytes a name has.
    for name in ["n".repeat(63), "n".repeat(56), "é".repeat(28)] {
        assert_eq!(refused(&mut client, &format!("SELECT llm.create_request_log('public.{name}')")).state, "42602", "{name}");
    }
    for name in ["public.plain", "public.\"We\"\"ird; --\"", &format!("public.{}", "n".repeat(55)), &format!("public.{}m", "n".repeat(54))]
    {
        let relation: String =
            client.query_one("SELECT llm.create_request_log($1)::text", &[&name]).unwrap_or_else(|e| panic!("{name}: {e:?}")).get(0);
        run(
            &mut client,
            &format!(
                "INSERT INTO {relation} (created_at, organization_id, api_key_id, model, cost) VALUES (now(), 'org', 'k', 'm', 1), ('1999-01-01', 'org', 'k', 'm', 1), ('2099-01-01', 'org', 'k', 'm', 1)"
            ),
        );
    }
    run(&mut client, "SELECT llm.create_request_log()");
    run(
        &mut client,
        "INSERT INTO public.request_log (created_at, organization_id, api_key_id, model, cost) VALUES (now(), 'org', 'k', 'm', 1)",
    );
    assert_eq!(text(&mut client, "SELECT sum(request_count) FROM llm.activity('org')"), "5");
    assert_eq!(refused(&mut client, "SELECT llm.create_request_log('public.plain')").state, "42P07");
    canary(&mut client);
}

/// Texts are kept as UTF-8, so another encoding is refused when the extension is made, not at some later INSERT of the gateway.
#[test]
fn other_encodings() {
    let db = Db::bare("encoding");
    let mut admin = db.server.connect("postgres");
    run(&mut admin, &format!("DROP DATABASE {}", db.name));
    run(&mut admin, &format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'", db.name));
    let mut client = db.connect();
    let refusal = refused(&mut client, "CREATE EXTENSION llm_analytics");
    assert_eq!(refusal.state, "0A000", "{refusal:?}");
    assert!(refusal.hint.contains("UTF8"), "{refusal:?}");
    assert_eq!(text(&mut client, "SELECT count(*) FROM pg_namespace WHERE nspname = 'llm'"), "0");
}
