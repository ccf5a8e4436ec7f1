//! The host's own tables as directories: who and what the ids are is read where it lies, and what was renamed or deleted keeps
//! its history and its last known name and owner, whenever folds ran.

use llm_analytics_tests::db::{Db, Role, Server, json, quote, refused, rows, run, text};
use llm_analytics_tests::hosts;
use postgres::Client;
use serde_json::Value;

const RANGE: &str = "'2026-06-01', '2026-06-02'";
const KINDS: [(&str, &str); 5] = [
    ("organization", "public.organization"),
    ("user", "public.\"user\""),
    ("membership", "public.user_organization"),
    ("project", "public.project"),
    ("api_key", "public.api_key"),
];

/// `key|label|cost` of every entry.
fn entries(client: &mut Client, org: &str, group: &str) -> Vec<String> {
    let sql = format!(
        "SELECT concat_ws('|', coalesce(key, '-'), label, trim_scale(sum(cost))) FROM llm.activity('{org}', '{group}', {RANGE}) WHERE label IS NOT NULL
         GROUP BY key, label ORDER BY key COLLATE \"C\" NULLS FIRST"
    );
    rows(client, &sql).into_iter().map(|mut row| row.remove(0)).collect()
}

fn usage(client: &mut Client, columns: &str, filter: &str) -> Vec<String> {
    let sql = format!("SELECT concat_ws('|', {columns}) FROM llm.usage WHERE {filter} GROUP BY 1 HAVING sum(requests) <> 0 ORDER BY 1");
    rows(client, &sql).into_iter().map(|mut row| row.remove(0)).collect()
}

/// `userId|name|role|cost` of every row of the members table.
fn members(client: &mut Client, org: &str) -> Vec<String> {
    let answer: Value = json(client, &format!("SELECT llm.analytics_members('{org}', {RANGE})::text"), &[]);
    let field = |member: &Value, name: &str| member[name].as_str().unwrap_or("-").to_owned();
    let line = |m: &Value| format!("{}|{}|{}|{}", field(m, "userId"), field(m, "name"), field(m, "role"), m["cost"]);
    answer["members"].as_array().expect("members").iter().map(line).collect()
}

fn log(client: &mut Client, id: &str, org: &str, project: &str, key: &str, cost: &str) {
    let null = |value: &str| if value == "-" { "NULL".to_owned() } else { quote(value) };
    run(
        client,
        &format!(
            "INSERT INTO public.log (id, created_at, organization_id, project_id, api_key_id, used_model, used_provider, cost)
             VALUES ({}, '2026-06-01 12:00', '{org}', {}, {}, 'openai/gpt-5.5', 'openai', {cost})",
            quote(id),
            null(project),
            null(key)
        ),
    );
}

/// LLM Gateway's tables with one organization, two projects, three keys, and usage of each.
fn gateway(tag: &str) -> (Db, Client) {
    let db = Db::new(tag);
    let mut client = db.connect();
    for sql in [hosts::GATEWAY, hosts::GATEWAY_DIRECTORIES, hosts::ATTACH_GATEWAY_DIRECTORIES, "SELECT llm.attach_log('public.log')"] {
        run(&mut client, sql);
    }
    run(
        &mut client,
        r#"INSERT INTO public.organization VALUES ('o', 'Acme', 'enterprise', 'active');
           INSERT INTO public."user" VALUES ('ada', 'Ada', 'ada@x'), ('bob', NULL, 'bob@x'), ('eve', 'Eve', 'eve@x');
           INSERT INTO public.user_organization VALUES ('ada', 'o', 'owner'), ('bob', 'o', 'developer'), ('eve', 'o', 'developer');
           INSERT INTO public.project VALUES ('p1', 'Production', 'o', 'active'), ('p2', 'Staging', 'o', 'deleted');
           INSERT INTO public.api_key VALUES ('k1', 'laptop', 'p1', 'active', 'ada'), ('k2', 'server', 'p2', 'deleted', 'bob'), ('k3', 'shared', 'p1', 'active', NULL)"#,
    );
    for (id, project, key, cost) in
        [("1", "p1", "k1", "1"), ("2", "p2", "k2", "2"), ("3", "p1", "k3", "4"), ("4", "-", "-", "8"), ("5", "p9", "k9", "16")]
    {
        log(&mut client, id, "o", project, key, cost);
    }
    (db, client)
}

#[test]
fn llm_gateways_tables() {
    let (_db, mut client) = gateway("dir_gateway");
    for folded in [false, true] {
        assert_eq!(
            entries(&mut client, "o", "project"),
            ["-|Unattributed|8", "p1|Production|5", "p2|Staging|2", "p9|p9|16"],
            "folded {folded}"
        );
        assert_eq!(entries(&mut client, "o", "apiKey"), ["-|Unattributed|8", "k1|laptop|1", "k2|server|2", "k3|shared|4", "k9|k9|16"]);
        assert_eq!(entries(&mut client, "o", "user"), ["-|Unattributed|28", "ada|Ada|1", "bob|bob@x|2"]);
        let all = members(&mut client, "o");
        assert_eq!(all.len(), 4, "{all:?}");
        assert_eq!((all[0].as_str(), all[2].as_str(), all[3].as_str()), ("-|Unattributed|-|28", "ada|Ada|owner|1", "eve|Eve|developer|0"));
        assert!(all[1].starts_with("bob|") && all[1].ends_with("|developer|2"), "{all:?}");
        assert_eq!(
            usage(&mut client, "organization, project, api_key, user_name", "true"),
            [
                "Acme|Production|laptop|Ada",
                "Acme|Production|shared|Unattributed",
                "Acme|Staging|server|bob@x",
                "Acme|Unattributed|Unattributed|Unattributed",
                "Acme|p9|k9|Unattributed",
            ]
        );
        let counts = json(&mut client, &format!("SELECT llm.analytics_members('o', {RANGE})::text"), &[]);
        let count = |user: &str| {
            let found = counts["members"].as_array().expect("members").iter().find(|m| m["userId"] == user).expect("a member");
            found["apiKeyCount"].to_string()
        };
        assert_eq!(
            (count("ada"), count("bob"), count("eve")),
            ("1".into(), "0".into(), "0".into()),
            "keys of projects that are not deleted"
        );
        assert_eq!(counts["plan"], "enterprise");
        run(&mut client, "SELECT llm.fold()");
    }
    // Nothing is copied: what the host writes is what is shown, at once.
    run(
        &mut client,
        "UPDATE public.organization SET plan = 'free'; UPDATE public.user_organization SET role = 'admin' WHERE user_id = 'eve'",
    );
    assert_eq!(json(&mut client, &format!("SELECT llm.analytics_members('o', {RANGE})::text"), &[])["plan"], "free");
    assert!(members(&mut client, "o").contains(&"eve|Eve|admin|0".to_owned()));
}

/// The three columns that every version has; without roles nobody is a member of 'default'.
#[test]
fn litellms_users_without_roles() {
    let db = Db::new("dir_litellm3");
    let mut client = db.connect();
    run(&mut client, r#"CREATE TABLE public."LiteLLM_UserTable" (user_id text PRIMARY KEY, user_alias text, user_email text)"#);
    run(&mut client, r#"INSERT INTO public."LiteLLM_UserTable" VALUES ('ada', 'Ada', 'a@x'), ('bob', NULL, 'b@x')"#);
    let attached = text(&mut client, r#"SELECT llm.attach_directory('user', 'public."LiteLLM_UserTable"')->>'preset'"#);
    assert_eq!(attached, "litellm");
    run(&mut client, hosts::CANONICAL);
    run(
        &mut client,
        "SELECT llm.attach_log('public.requests');
         INSERT INTO public.requests (id, created_at, organization_id, api_key_id, user_id, model, cost)
         VALUES (1, '2026-06-01', 'default', 'k', 'ada', 'm', 1), (2, '2026-06-01', 'default', 'k', 'bob', 'm', 0.5)",
    );
    assert_eq!(entries(&mut client, "default", "user"), ["ada|Ada|1", "bob|b@x|0.5"]);
    assert!(members(&mut client, "default").iter().all(|member| !member.contains("admin")));
}

#[test]
fn litellms_tables() {
    let server = Server::from_env();
    let roles = ["ada", "bob", "carol"].map(|user| (user, Role::new(&server, user)));
    let db = Db::new("dir_litellm");
    let mut client = db.connect();
    for sql in [
        hosts::LITELLM,
        hosts::LITELLM_DIRECTORIES,
        r#"SELECT llm.attach_log('public."LiteLLM_SpendLogs"')"#,
        hosts::ATTACH_LITELLM_DIRECTORIES,
    ] {
        run(&mut client, sql);
    }
    run(
        &mut client,
        r#"INSERT INTO public."LiteLLM_OrganizationTable" VALUES ('acme', 'Acme');
           INSERT INTO public."LiteLLM_TeamTable" VALUES ('t1', 'Search', 'acme'), ('t2', 'Home', NULL);
           INSERT INTO public."LiteLLM_UserTable" VALUES ('ada', 'Ada', 'ada@x', 'proxy_admin'), ('bob', NULL, 'bob@x', 'internal_user'), ('carol', 'Carol', NULL, 'internal_user_viewer');
           INSERT INTO public."LiteLLM_OrganizationMembership" VALUES ('bob', 'acme', 'org_admin'), ('carol', 'acme', 'internal_user');
           INSERT INTO public."LiteLLM_VerificationToken" VALUES ('h1', 'laptop', 'sk-..1', 't1', 'carol'), ('h2', 'home', 'sk-..2', 't2', 'bob');
           INSERT INTO public."LiteLLM_SpendLogs" (request_id, api_key, spend, prompt_tokens, completion_tokens, total_tokens, "startTime", "endTime", model, custom_llm_provider, "user", team_id, organization_id)
           VALUES ('1', 'h1', 0.5, 1, 1, 2, '2026-06-01 10:00', '2026-06-01 10:01', 'gpt-5.5', 'openai', 'carol', 't1', 'acme'),
                  ('2', 'h2', 0.25, 1, 1, 2, '2026-06-01 10:00', '2026-06-01 10:01', 'gpt-5.5', 'openai', 'bob', 't2', NULL)"#,
    );
    let may = |access: &Value, capability: &str| access["capabilities"][capability]["allowed"].as_bool().expect("a boolean");
    for folded in [false, true] {
        assert_eq!(entries(&mut client, "acme", "project"), ["t1|Search|0.5"], "folded {folded}");
        assert_eq!(entries(&mut client, "acme", "apiKey"), ["h1|laptop|0.5"]);
        assert_eq!(entries(&mut client, "acme", "user"), ["carol|Carol|0.5"]);
        assert_eq!(entries(&mut client, "default", "project"), ["t2|Home|0.25"]);
        assert_eq!(entries(&mut client, "default", "user"), ["bob|bob@x|0.25"]);
        assert_eq!(usage(&mut client, "organization", "organization_id = 'acme'"), ["Acme"]);
        run(&mut client, "SELECT llm.fold()");
    }
    let default = members(&mut client, "default");
    assert_eq!(default.len(), 3, "every user is a member of 'default': {default:?}");
    assert!(default[0].starts_with("bob|") && default[0].ends_with("|internal_user|0.25"), "{default:?}");
    assert!(default.contains(&"ada|Ada|admin|0".to_owned()), "proxy_admin is admin: {default:?}");
    assert!(members(&mut client, "acme")[0].starts_with("carol|Carol|internal_user|0.5"), "{:?}", members(&mut client, "acme"));
    assert!(members(&mut client, "acme")[1].ends_with("|admin|0"), "org_admin is admin: {:?}", members(&mut client, "acme"));
    // No plan: enterprise.
    for (user, role) in &roles {
        run(&mut client, &format!("SELECT llm.bind_role('{}', '{user}')", role.name));
        let mut own = db.connect_as(&role.name);
        let access = |own: &mut Client, org: &str| json(own, &format!("SELECT llm.access('{org}')::text"), &[]);
        for org in ["acme", "default"] {
            let access = access(&mut own, org);
            let expected = match (*user, org) {
                ("ada", "acme") => None, // an admin of the proxy is no member of acme
                ("ada", "default") | ("bob", "acme") => Some(true),
                _ => Some(false),
            };
            assert_eq!(may(&access, "ownUsage"), expected.is_some(), "{user} {org}: {access}");
            assert_eq!(may(&access, "organizationAnalytics"), expected == Some(true), "{user} {org}: {access}");
            if let Some(admin) = expected {
                assert_eq!(access["plan"], "enterprise", "{access}");
                assert_eq!(access["role"] == "admin", admin, "{user} {org}: {access}");
            }
        }
        let sql = "SELECT coalesce(sum(requests), 0) FROM llm.usage";
        let wanted = if *user == "bob" { "2" } else { "1" };
        assert_eq!(text(&mut own, sql), wanted, "{user}");
    }
}

#[test]
fn explicit_columns_and_expressions() {
    let db = Db::new("dir_explicit");
    let mut client = db.connect();
    run(&mut client, hosts::GATEWAY);
    run(
        &mut client,
        r#"CREATE SCHEMA "My App"; CREATE TABLE "My App".tenants (pk int PRIMARY KEY, "full name" text, tier int, gone boolean);
           CREATE TABLE "My App".teams (pk text PRIMARY KEY, title text, tenant int, gone boolean);
           CREATE TABLE "My App".tokens (hash text PRIMARY KEY, note text, team text, "by" int);
           CREATE TABLE "My App".people (pk int PRIMARY KEY, first text, last text, mail text);
           CREATE TABLE "My App".seats (person int, tenant int, is_admin boolean);
           INSERT INTO "My App".tenants VALUES (1, 'Acme', 2, false), (2, 'Other', 1, false), (3, 'Gone', 2, true);
           INSERT INTO "My App".teams VALUES ('p1', 'search', 1, false), ('p2', 'ads', 1, true);
           INSERT INTO "My App".tokens VALUES ('k1', 'laptop', 'p1', 7), ('k2', 'old', 'p2', 7), ('k3', '', 'p1', 8);
           INSERT INTO "My App".people VALUES (7, 'Ada', 'Lovelace', 'ada@x'), (8, 'Bob', NULL, 'bob@x');
           INSERT INTO "My App".seats VALUES (7, 1, true), (8, 1, false), (7, 2, true), (7, 3, true);
           SELECT llm.attach_log('public.log')"#,
    );
    for (kind, table, columns) in [
        (
            "organization",
            "tenants",
            r#"{"id":"'t' || pk::text","name":"full name","plan":"CASE WHEN tier > 1 THEN 'enterprise' ELSE 'free' END","status":"CASE WHEN gone THEN 'deleted' ELSE 'active' END"}"#,
        ),
        (
            "project",
            "teams",
            r#"{"id":"pk","organization_id":"'t' || tenant::text","name":"upper(title)","status":"CASE WHEN gone THEN 'deleted' END"}"#,
        ),
        ("api_key", "tokens", r#"{"id":"hash","project_id":"team","label":"nullif(note, '')","user_id":"\"by\"::text"}"#),
        ("user", "people", r#"{"id":"pk::text","name":"first || ' ' || last","email":"mail"}"#),
        (
            "membership",
            "seats",
            r#"{"organization_id":"'t' || tenant::text","user_id":"person::text","role":"CASE WHEN is_admin THEN 'admin' ELSE 'member' END"}"#,
        ),
    ] {
        let sql = format!("SELECT llm.attach_directory('{kind}', '\"My App\".{table}', {})", quote(columns));
        assert!(text(&mut client, &sql).starts_with('{'), "{kind}: says what was understood");
    }
    for (id, key, project) in [("1", "k1", "p1"), ("2", "k2", "p2"), ("3", "k3", "p1")] {
        log(&mut client, id, "t1", project, key, id);
    }
    for folded in [false, true] {
        assert_eq!(entries(&mut client, "t1", "project"), ["p1|SEARCH|4", "p2|ADS|2"], "folded {folded}");
        assert_eq!(entries(&mut client, "t1", "apiKey"), ["k1|laptop|1", "k2|old|2", "k3|k3|3"]);
        assert_eq!(entries(&mut client, "t1", "user"), ["7|Ada Lovelace|3", "8|bob@x|3"]);
        assert_eq!(usage(&mut client, "organization", "true"), ["Acme"]);
        run(&mut client, "SELECT llm.fold()");
    }
    let found = json(&mut client, &format!("SELECT llm.analytics_members('t1', {RANGE})::text"), &[]);
    let ada = &found["members"][0];
    assert_eq!(
        (ada["role"].as_str(), ada["email"].as_str(), ada["apiKeyCount"].to_string().as_str()),
        (Some("admin"), Some("ada@x"), "1"),
        "{found}"
    );
    // A column that is renamed is followed.
    run(
        &mut client,
        "ALTER TABLE \"My App\".teams RENAME title TO \"new title\"; ALTER TABLE \"My App\".tokens RENAME hash TO h; UPDATE \"My App\".teams SET \"new title\" = 'find' WHERE pk = 'p1'",
    );
    assert_eq!(entries(&mut client, "t1", "project"), ["p1|FIND|4", "p2|ADS|2"]);
    assert_eq!(entries(&mut client, "t1", "apiKey")[0], "k1|laptop|1");
}

/// When the fold comes: never, before the change, after it.
fn at_all_times(tag: &str, check: impl Fn(&mut Client, &dyn Fn(&mut Client))) {
    for when in ["never", "before", "after"] {
        println!("fold: {when}");
        let (_db, mut client) = gateway(&format!("{tag}_{when}"));
        if when == "before" {
            run(&mut client, "SELECT llm.fold()");
        }
        check(&mut client, &|client| {
            if when == "after" {
                run(client, "SELECT llm.fold()");
            }
        });
        assert!(rows(&mut client, "SELECT v::text FROM llm.verify() v").is_empty(), "llm.verify");
    }
}

#[test]
fn renamed() {
    at_all_times("dir_renamed", |client, fold| {
        run(
            client,
            "UPDATE public.organization SET name = 'Acme Inc'; UPDATE public.project SET name = 'Prod' WHERE id = 'p1';
             UPDATE public.api_key SET description = 'notebook' WHERE id = 'k1'; UPDATE public.\"user\" SET name = 'Ada L.' WHERE id = 'ada'",
        );
        fold(client);
        assert_eq!(entries(client, "o", "project"), ["-|Unattributed|8", "p1|Prod|5", "p2|Staging|2", "p9|p9|16"]);
        assert_eq!(entries(client, "o", "apiKey")[1..3], ["k1|notebook|1", "k2|server|2"]);
        assert_eq!(entries(client, "o", "user"), ["-|Unattributed|28", "ada|Ada L.|1", "bob|bob@x|2"]);
        assert_eq!(usage(client, "organization, project, api_key, user_name", "api_key_id = 'k1'"), ["Acme Inc|Prod|notebook|Ada L."]);
        // Under another id it is another key; the old one keeps its last name and owner.
        run(client, "UPDATE public.api_key SET id = 'k1b' WHERE id = 'k1'");
        assert_eq!(entries(client, "o", "apiKey")[1], "k1|notebook|1");
        assert_eq!(entries(client, "o", "user")[1], "ada|Ada L.|1");
    });
}

#[test]
fn deleted() {
    at_all_times("dir_deleted", |client, fold| {
        run(
            client,
            "UPDATE public.api_key SET description = 'renamed first' WHERE id = 'k2';
             DELETE FROM public.api_key; DELETE FROM public.project; DELETE FROM public.user_organization; DELETE FROM public.\"user\"",
        );
        fold(client);
        assert_eq!(entries(client, "o", "project"), ["-|Unattributed|8", "p1|Production|5", "p2|Staging|2", "p9|p9|16"]);
        assert_eq!(entries(client, "o", "apiKey"), ["-|Unattributed|8", "k1|laptop|1", "k2|renamed first|2", "k3|shared|4", "k9|k9|16"]);
        assert_eq!(entries(client, "o", "user"), ["-|Unattributed|28", "ada|Ada|1", "bob|bob@x|2"]);
        assert_eq!(members(client, "o"), ["-|Unattributed|-|28", "bob|bob@x|-|2", "ada|Ada|-|1"], "former members with spend");
        let page = json(client, &format!("SELECT llm.analytics_api_key('o', 'k1', {RANGE})::text"), &[]);
        assert_eq!((page["apiKey"]["label"].as_str(), page["apiKey"]["createdBy"].as_str()), (Some("laptop"), Some("ada")), "{page}");
        let page = json(client, &format!("SELECT llm.analytics_project('o', 'p2', {RANGE})::text"), &[]);
        assert_eq!((page["project"]["name"].as_str(), page["summary"]["cost"].to_string().as_str()), (Some("Staging"), "2"), "{page}");
        run(client, "DELETE FROM public.organization");
        fold(client);
        assert_eq!(usage(client, "organization, project, api_key, user_name", "api_key_id = 'k1'"), ["Acme|Production|laptop|Ada"]);
        // Usage that comes later is that of the same key.
        log(client, "late", "o", "p1", "k1", "32");
        assert_eq!(entries(client, "o", "user")[1], "ada|Ada|33");
        // What is made anew under the old id has its own name.
        run(client, "INSERT INTO public.project VALUES ('p1', 'Second life', 'o', 'active')");
        assert_eq!(entries(client, "o", "project")[1], "p1|Second life|37");
    });
}

#[test]
fn without_an_owner() {
    at_all_times("dir_owner", |client, fold| {
        run(client, "UPDATE public.api_key SET created_by = NULL WHERE id = 'k1'");
        fold(client);
        assert_eq!(entries(client, "o", "user"), ["-|Unattributed|28", "ada|Ada|1", "bob|bob@x|2"], "the last known owner");
        run(client, "DELETE FROM public.api_key WHERE id = 'k1'");
        assert_eq!(entries(client, "o", "user"), ["-|Unattributed|28", "ada|Ada|1", "bob|bob@x|2"]);
        assert_eq!(entries(client, "o", "apiKey")[1], "k1|laptop|1");
    });
}

#[test]
fn truncated() {
    at_all_times("dir_truncated", |client, fold| {
        run(client, "TRUNCATE public.api_key, public.project, public.\"user\", public.user_organization, public.organization");
        fold(client);
        assert_eq!(entries(client, "o", "project"), ["-|Unattributed|8", "p1|Production|5", "p2|Staging|2", "p9|p9|16"]);
        assert_eq!(entries(client, "o", "apiKey")[1..4], ["k1|laptop|1", "k2|server|2", "k3|shared|4"]);
        assert_eq!(entries(client, "o", "user"), ["-|Unattributed|28", "ada|Ada|1", "bob|bob@x|2"]);
        assert_eq!(usage(client, "organization", "true"), ["Acme"]);
    });
}

/// A change that is rolled back never was.
#[test]
fn rolled_back() {
    let (_db, mut client) = gateway("dir_rollback");
    run(
        &mut client,
        "BEGIN; UPDATE public.project SET name = 'Never' WHERE id = 'p1'; DELETE FROM public.project; SAVEPOINT s; TRUNCATE public.api_key",
    );
    assert_eq!(entries(&mut client, "o", "project")[1], "p1|Never|5", "within the transaction");
    run(&mut client, "ROLLBACK; DELETE FROM public.project WHERE id = 'p1'");
    assert_eq!(entries(&mut client, "o", "project")[1], "p1|Production|5");
}

#[test]
fn aliases_of_models() {
    let (_db, mut client) = gateway("dir_alias");
    run(
        &mut client,
        "UPDATE public.log SET used_model = 'azure/my-deployment' WHERE id = '2'; UPDATE public.log SET used_model = 'gpt-5.5:free' WHERE id = '3'",
    );
    assert_eq!(entries(&mut client, "o", "model"), ["gpt-5.5|gpt-5.5|29", "my-deployment|my-deployment|2"]);
    run(
        &mut client,
        "INSERT INTO llm.model_alias (mapping, canonical, label) VALUES ('azure/my-deployment', 'gpt-5.5', 'GPT 5.5'), ('openai/gpt-5.5', 'gpt-5.5', 'GPT 5.5')",
    );
    for folded in [false, true] {
        assert_eq!(entries(&mut client, "o", "model"), ["gpt-5.5|GPT 5.5|31"], "folded {folded}");
        assert_eq!(
            entries(&mut client, "o", "mapping"),
            ["azure/my-deployment|azure/my-deployment|2", "openai/gpt-5.5|openai/gpt-5.5|25", "openai/gpt-5.5:free|openai/gpt-5.5:free|4"]
        );
        assert_eq!(usage(&mut client, "model, mapping", "project_id = 'p2'"), ["gpt-5.5|azure/my-deployment"]);
        run(&mut client, "SELECT llm.fold()");
    }
}

/// Triggers of ours on the host's directories.
fn triggers(client: &mut Client) -> String {
    text(
        client,
        "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE p.pronamespace = 'llm'::regnamespace AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'log'",
    )
}

/// The host writes to all of its directories.
fn host_writes(client: &mut Client, n: u32) {
    run(
        client,
        &format!(
            r#"INSERT INTO public.organization VALUES ('x{n}', 'X'); INSERT INTO public."user" VALUES ('x{n}', 'X', 'x{n}@x'); INSERT INTO public.user_organization VALUES ('x{n}', 'x{n}', 'owner');
               INSERT INTO public.project VALUES ('x{n}', 'X', 'x{n}'); INSERT INTO public.api_key VALUES ('x{n}', 'X', 'x{n}', 'active', 'x{n}');
               UPDATE public.organization SET name = 'Y'; UPDATE public."user" SET name = 'Y'; UPDATE public.user_organization SET role = 'admin'; UPDATE public.project SET name = 'Y';
               UPDATE public.api_key SET description = 'Y', created_by = NULL; DELETE FROM public.organization WHERE id = 'x{n}'; DELETE FROM public."user" WHERE id = 'x{n}';
               DELETE FROM public.user_organization WHERE user_id = 'x{n}'; DELETE FROM public.project WHERE id = 'x{n}'; DELETE FROM public.api_key WHERE id = 'x{n}'"#
        ),
    );
}

#[test]
fn detached_and_dropped() {
    let (_db, mut client) = gateway("dir_detach");
    assert_ne!(triggers(&mut client), "0");
    for (kind, relation) in KINDS {
        run(&mut client, &format!("SELECT llm.detach_directory('{kind}')"));
        let refusal = refused(&mut client, &format!("SELECT llm.detach_directory('{kind}')"));
        assert!(["55000", "42704", "22023"].contains(&refusal.state.as_str()), "{kind}: {refusal:?}");
        run(&mut client, &format!("SELECT llm.attach_directory('{kind}', {})", quote(relation)));
        run(&mut client, &format!("SELECT llm.detach_directory('{kind}')"));
    }
    assert_eq!(triggers(&mut client), "0", "detached tables are the host's alone");
    host_writes(&mut client, 1);
    run(&mut client, "SELECT llm.fold()");
    assert_eq!(text(&mut client, "SELECT trim_scale(sum(cost)) FROM llm.usage"), "31", "no usage is lost with a directory");
    // The shipped directories are what is left.
    run(&mut client, "INSERT INTO llm.project (id, organization_id, name) VALUES ('p9', 'o', 'Shipped')");
    assert!(entries(&mut client, "o", "project").contains(&"p9|Shipped|16".to_owned()));
    run(&mut client, hosts::ATTACH_GATEWAY_DIRECTORIES);
    assert_eq!(entries(&mut client, "o", "project")[1], "p1|Y|5");
    host_writes(&mut client, 2);
    run(&mut client, "DROP EXTENSION llm_analytics");
    let left = text(&mut client, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal");
    assert_eq!(left, "0", "no trigger is left behind");
    host_writes(&mut client, 3);
    run(&mut client, "TRUNCATE public.api_key, public.project, public.\"user\", public.user_organization, public.organization");
    run(&mut client, "INSERT INTO public.log (id, created_at, organization_id, cost) VALUES ('last', now(), 'o', 1)");
}
