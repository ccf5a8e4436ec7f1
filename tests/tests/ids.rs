//! Ids: '' is none, and one of more than 200 bytes is clipped in the same way wherever it comes in.

use llm_analytics_tests::db::{Db, Role, json, refused, rows, run, text};
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;

const LOG: &str = "CREATE TABLE log (created_at timestamptz NOT NULL, organization_id text, project_id text, api_key_id text, user_id text,
                   model text, cost numeric)";

fn requests(client: &mut Client, arguments: &str) -> String {
    let sql = format!("SELECT llm.analytics_activity('o', 'user', '2026-06-01', '2026-06-01', {arguments})::text");
    json(client, &sql, &[])["summary"]["requestCount"].to_string()
}

#[test]
fn no_id_is_nobody() {
    let db = Db::new("no_id");
    let mut client = db.connect();
    run(&mut client, LOG);
    run(
        &mut client,
        "SELECT llm.attach_log('log');
         INSERT INTO llm.api_key VALUES ('owned', 'p', 'label', 'ada');
         INSERT INTO llm.membership VALUES ('o', 'ada', 'owner'), ('o', '', 'owner');
         INSERT INTO log VALUES
             ('2026-06-01', 'o', 'p', 'owned', NULL, 'm', 1), ('2026-06-01', 'o', NULL, 'owned', 'bob', 'm', 1),
             ('2026-06-01', 'o', 'p', 'stray', '', 'm', 1), ('2026-06-01', 'o', '', 'stray', 'bob', 'm', 1),
             ('2026-06-01', 'o', 'q', '', NULL, 'm', 1), ('2026-06-01', 'o', 'q', NULL, 'ada', 'm', 1)",
    );
    for _ in 0..2 {
        for (arguments, wanted) in [
            ("user_id => ''", "2"),
            ("user_id => 'ada'", "2"),
            ("user_id => 'bob'", "2"),
            ("user_id => NULL", "6"),
            ("project => ''", "2"),
            ("project => 'p'", "2"),
            ("api_key => ''", "2"),
            ("api_key => 'stray', user_id => ''", "1"),
            ("project => 'q', user_id => ''", "1"),
            ("project => '', user_id => ''", "0"),
        ] {
            assert_eq!(requests(&mut client, arguments), wanted, "{arguments}");
        }
        for page in ["project", "api_key", "member"] {
            let refusal = refused(&mut client, &format!("SELECT llm.analytics_{page}('o', '', '2026-06-01', '2026-06-01')"));
            assert_eq!((refusal.state.as_str(), refusal.detail.as_str()), ("P0002", "reason=not_found"), "{page}: {refusal:?}");
        }
        // The same sums as the breakdown's line of what is nobody's.
        let entries = "SELECT string_agg(coalesce(key, '-') || request_count, ' ' ORDER BY key) FROM llm.activity('o', 'user', '2026-06-01', '2026-06-01')";
        assert_eq!(text(&mut client, entries), "ada2 bob2 -2");
        run(&mut client, "SELECT llm.fold()");
    }
    // A log without users: nobody is not everybody.
    run(
        &mut client,
        "CREATE TABLE plain (created_at timestamptz NOT NULL, organization_id text, api_key_id text, model text, cost numeric)",
    );
    run(&mut client, "SELECT llm.attach_log('plain'); INSERT INTO plain VALUES ('2026-06-01', 'n', 'owned', 'm', 1)");
    assert_eq!(refused(&mut client, "SELECT llm.analytics_member('n', '')").state, "P0002");
    let filtered = "SELECT llm.analytics_activity('n', 'user', '2026-06-01', '2026-06-01', user_id => '')->'summary'->>'requestCount'";
    assert_eq!(text(&mut client, filtered), "0");
}

/// An id of 300 bytes that begins as others do.
fn long(name: &str) -> String {
    format!("{}{name}", "x".repeat(300 - name.len()))
}

#[test]
fn long_ids_are_one_id_everywhere() {
    let db = Db::new("long_ids");
    let mut client = db.connect();
    let (org, project, key, user) = (long("org"), long("project"), long("key"), long("user"));
    let (other_org, other_key, other_user) = (long("gro"), long("yek"), long("resu"));
    run(&mut client, LOG);
    run(
        &mut client,
        "CREATE TABLE keys (id text PRIMARY KEY, project_id text, label text, user_id text);
         SELECT llm.attach_log('log', on_delete => 'subtract'), llm.attach_directory('api_key', 'keys')",
    );
    run(
        &mut client,
        &format!(
            "INSERT INTO llm.organization VALUES ('{org}', 'Org'), ('{other_org}', 'Gro');
             INSERT INTO llm.project VALUES ('short', '{org}', 'Project');
             UPDATE llm.project SET id = '{project}';
             INSERT INTO keys VALUES ('{key}', '{project}', 'Key', '{user}'), ('{other_key}', '{project}', 'Yek', '{other_user}');
             INSERT INTO llm.app_user VALUES ('{user}', 'User'), ('{other_user}', 'Resu');
             INSERT INTO llm.membership VALUES ('{org}', '{user}', 'developer'), ('{org}', '{other_user}', 'owner');
             INSERT INTO log VALUES ('2026-06-01', '{org}', '{project}', '{key}', NULL, 'm', 1),
                 ('2026-06-01', '{org}', '{project}', '{other_key}', NULL, 'm', 2), ('2026-06-01', '{other_org}', '{project}', '{key}', NULL, 'm', 4)"
        ),
    );
    let (bound, acting) = (Role::new(&db.server, "long"), Role::new(&db.server, "act"));
    run(
        &mut client,
        &format!("SELECT llm.bind_role('{}', '{user}'); GRANT EXECUTE ON FUNCTION llm.act_as(text) TO {}", bound.name, acting.name),
    );
    let range = "'2026-06-01', '2026-06-01'";
    let usage = "SELECT organization, project, api_key, user_name, trim_scale(sum(cost)) FROM llm.usage GROUP BY 1, 2, 3, 4 ORDER BY 5";
    let check = |client: &mut Client| {
        let wanted =
            [["Org", "Project", "Key", "User", "1"], ["Org", "Project", "Yek", "Resu", "2"], ["Gro", "Project", "Key", "User", "4"]];
        assert_eq!(rows(client, usage), wanted);
        for (group, labels) in [("user", "Resu User"), ("api_key", "Key Yek"), ("project", "Project")] {
            let sql = format!("SELECT string_agg(DISTINCT label, ' ' ORDER BY label) FROM llm.activity('{org}', '{group}', {range})");
            assert_eq!(text(client, &sql), labels);
        }
        let cost = |client: &mut Client, sql: String| text(client, &format!("SELECT ({sql})->'summary'->>'cost'"));
        for (sql, wanted) in [
            (format!("llm.analytics_activity('{org}', 'user', {range}, user_id => '{user}')"), "1"),
            (format!("llm.analytics_activity('{org}', 'user', {range}, user_id => '')"), "0"),
            (format!("llm.analytics_activity('{org}', 'user', {range}, project => '{project}', api_key => '{other_key}')"), "2"),
            (format!("llm.analytics_project('{org}', '{project}', {range})"), "3"),
            (format!("llm.analytics_api_key('{org}', '{key}', {range})"), "1"),
            (format!("llm.analytics_member('{org}', '{user}', {range})"), "1"),
        ] {
            assert_eq!(cost(client, sql.clone()), wanted, "{sql}");
        }
        let members = format!(
            "SELECT string_agg(concat_ws(':', name, role, api_key_count, trim_scale(cost)), ' ' ORDER BY name) FROM llm.members('{org}', {range})"
        );
        assert_eq!(text(client, &members), "Resu:owner:1:2 User:developer:1:1");
        let keys = format!(
            "SELECT count(*), min(k->>'label'), min(k->>'project'), min(k->>'createdByName') FROM json_array_elements(llm.analytics_api_keys('{org}', '{project}')->'apiKeys') k"
        );
        assert_eq!(rows(client, &keys), [["2", "Key", "Project", "Resu"]]);
        let projects =
            format!("SELECT string_agg(p->>'name', ' ') FROM json_array_elements(llm.analytics_projects('{org}')->'projects') p");
        assert_eq!(text(client, &projects), "Project");
        // Their own usage, for whoever is bound and for whoever is acted for.
        for (role, begin) in [(&bound, String::new()), (&acting, format!("SELECT llm.act_as('{user}')"))] {
            let mut own = db.connect_as(&role.name);
            run(&mut own, "BEGIN");
            run(&mut own, &begin);
            run(&mut own, &begin);
            assert_eq!(rows(&mut own, usage), [["Org", "Project", "Key", "User", "1"]], "{}", role.name);
            assert_eq!(cost(&mut own, format!("llm.analytics_me('{org}', {range})")), "1");
            assert_eq!(cost(&mut own, format!("llm.analytics_api_key('{org}', '{key}', {range})")), "1");
            assert_eq!(text(&mut own, &format!("SELECT llm.access('{org}')->'capabilities'->'ownUsage'->>'allowed'")), "true");
            assert_eq!(text(&mut own, "SELECT json_array_length(llm.analytics_organizations()->'organizations')"), "1");
            assert_eq!(text(&mut own, "SELECT string_agg(name, ' ') FROM llm.project"), "Project");
            assert_eq!(
                refused(&mut own, &format!("SELECT llm.analytics_api_key('{org}', '{other_key}', {range})")).detail,
                "reason=not_your_key"
            );
        }
    };
    check(&mut client);
    run(&mut client, "SELECT llm.fold()");
    check(&mut client);
    // What the directory forgot is remembered, under the same id.
    run(&mut client, "DELETE FROM keys; DELETE FROM llm.project");
    let mut own = db.connect_as(&bound.name);
    assert_eq!(text(&mut own, "SELECT sum(cost)::int FROM llm.usage"), "1");
    assert_eq!(rows(&mut client, usage)[0][2..4], ["Key", "User"]);
    let forget = format!("SELECT llm.forget('{org}')");
    let refusal = refused(&mut client, &forget);
    assert_eq!((refusal.state.as_str(), refusal.detail.as_str()), ("55000", "The log is public.log."));
    run(&mut client, &format!("DELETE FROM log WHERE organization_id = '{org}'"));
    assert_ne!(text(&mut client, &forget), "0");
    assert_eq!(text(&mut client, "SELECT string_agg(organization, ' ') FROM llm.usage"), "Gro");
    // Nothing of it is left in the shipped directories.
    assert_eq!(text(&mut client, "SELECT string_agg(name, ' ') FROM llm.organization"), "Gro");
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm.membership"), "0");
    assert_eq!(text(&mut client, "SELECT string_agg(kind, ' ') FROM llm._remembered WHERE label IN ('Org', 'Yek')"), "NULL");
    check_verify(&mut client);
}
