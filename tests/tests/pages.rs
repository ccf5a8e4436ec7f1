//! Every page on random data: each function's answer is, to the last digit and key, what plain SQL computes from the logs, and
//! all breakdowns of a range add up to the organization's one total. Keys, projects and users are renamed and deleted on the
//! way, before and after folds, and members see of their own what the organization sees of them.
//!
//! PAGES_SEED repeats a run.

use llm_analytics_tests::answers::{
    APPLICATION, Ask, Dimension, GROUP_BY, MAPPING, MODEL, PROVIDER, breakdown, fields, head, nullable, number, rows_of, said, same,
    string, sum,
};
use llm_analytics_tests::db::{Db, Role, Server, json, quote, rows, run, text};
use llm_analytics_tests::decimal::Decimal;
use llm_analytics_tests::ledger::{self, Ledger, ORGANIZATIONS};
use llm_analytics_tests::oracle::{M, MEASURES, check_verify};
use postgres::Client;
use serde_json::Value;

const RANGES: [(&str, &str, &str); 6] = [
    ("2025-11-01", "2025-11-03", "America/New_York"), // falls back on the 2nd
    ("2026-03-07", "2026-03-09", "America/New_York"), // springs forward on the 8th
    ("2026-03-06", "2026-03-10", "Asia/Kolkata"),
    ("2025-10-30", "2025-11-02", "Asia/Kathmandu"),
    ("2025-10-20", "2026-03-15", "Europe/Berlin"),
    ("2025-12-24", "2025-12-26", "UTC"), // nothing happens
];

/// What the pages of an organization add up to.
struct Total {
    cost: Decimal,
    requests: Decimal,
}

impl Total {
    fn is(&self, sum: (Decimal, Decimal), context: &str) {
        assert_eq!(sum, (self.cost, self.requests), "{context} does not add up to the organization's total");
    }
}

fn ids(client: &mut Client, sql: &str) -> Vec<String> {
    rows(client, sql).into_iter().map(|mut row| row.remove(0)).collect()
}

fn ask_json(client: &mut Client, call: &str) -> Value {
    json(client, &format!("SELECT llm.{call}::text"), &[])
}

/// A column of one row of the ledger, None for NULL.
fn one(client: &mut Client, sql: &str) -> Option<String> {
    client.query_opt(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}")).and_then(|row| row.get(0))
}

fn activity(client: &mut Client, ask: &Ask, total: &Total) {
    for (name, dimension) in GROUP_BY {
        let context = format!("analytics_activity by {name}, {ask:?}");
        let expected = breakdown(client, ask, dimension, "true");
        let wanted = format!(
            "{{\"groupBy\":\"{name}\",{},\"summary\":{},\"breakdown\":{},\"activity\":{}}}",
            head(ask),
            expected.summary(),
            expected.list(usize::MAX),
            expected.activity()
        );
        let answer = ask_json(client, &format!("analytics_activity('{}', '{name}', {})", ask.org, ask.range()));
        same(&said(&answer), &wanted, &context);
        total.is(sum(answer["breakdown"].as_array().expect("entries")), &context);
        let days = answer["activity"].as_array().expect("days");
        total.is(sum(days), &context);
        total.is(sum(days.iter().flat_map(|day| day["breakdown"].as_array().expect("entries"))), &context);
        // The rest in one entry: the sum stays what it is.
        let top = ask_json(client, &format!("analytics_activity('{}', '{name}', {}, top => 2)", ask.org, ask.range()));
        let entries = top["breakdown"].as_array().expect("entries");
        total.is(sum(entries), &context);
        assert_eq!(entries.len(), expected.entries.len().min(3), "{context}: {entries:?}");
        assert_eq!(
            entries.iter().filter(|e| e["kind"] == "other" && e["key"].is_null()).count(),
            usize::from(entries.len() == 3),
            "{context}"
        );
        activity_rows(client, ask, name, dimension, &context);
    }
}

fn activity_rows(client: &mut Client, ask: &Ask, name: &str, dimension: Dimension, context: &str) {
    let sql = format!(
        "WITH a AS (SELECT date, key, label, ARRAY[trim_scale(cost), request_count, input_tokens, output_tokens, total_tokens, error_count, client_error_count, cache_count]
                    FROM llm.activity('{}', '{name}', {}) WHERE label IS NOT NULL),
              e AS (SELECT d, k, {}, ARRAY[trim_scale(c), n, tin, tout, tall, error, client_error, cached] FROM (
                      SELECT d, k, sum(cost) AS c, count(*)::numeric AS n, sum(tin)::numeric AS tin, sum(tout)::numeric AS tout, sum(tall)::numeric AS tall,
                          count(*) FILTER (WHERE error)::numeric AS error, count(*) FILTER (WHERE client_error)::numeric AS client_error, count(*) FILTER (WHERE cached)::numeric AS cached
                      FROM {} x GROUP BY d, k) g)
         SELECT 'not in the log', t::text FROM (TABLE a EXCEPT ALL TABLE e) t UNION ALL SELECT 'missing', t::text FROM (TABLE e EXCEPT ALL TABLE a) t LIMIT 6",
        ask.org,
        ask.range(),
        dimension.label(),
        rows_of(ask, dimension.column, "true"),
    );
    let different = rows(client, &sql);
    assert!(different.is_empty(), "llm.activity: {context}\n{different:#?}");
}

fn models(view: &str) -> Dimension {
    if view == "canonical" { MODEL } else { MAPPING }
}

/// A page of one project or one key, but for its first field.
fn page(client: &mut Client, ask: &Ask, view: &str, filter: &str) -> String {
    let expected = breakdown(client, ask, models(view), filter);
    format!(
        "\"modelView\":\"{view}\",{},\"summary\":{},\"costByModel\":{},\"activity\":{}",
        head(ask),
        expected.summary(),
        expected.list(usize::MAX),
        expected.activity()
    )
}

fn project_pages(client: &mut Client, ask: &Ask, total: &Total) {
    let known = format!("SELECT id FROM public.project WHERE organization_id = '{}'", ask.org);
    let used = format!("SELECT k FROM {} x WHERE k IS NOT NULL", rows_of(ask, "project", "true"));
    let mut sums = vec![without(client, ask, "project")];
    for (i, id) in ids(client, &format!("{known} UNION {used} ORDER BY 1")).iter().enumerate() {
        let (view, argument) = [("mappings", ""), ("canonical", ", 'canonical'"), ("mappings", ", 'mappings'")][i % 3];
        let name = one(client, &format!("SELECT ledger.label('project', {})", quote(id))).expect("a name");
        let wanted = page(client, ask, view, &format!("project = {}", quote(id)));
        let answer = ask_json(client, &format!("analytics_project('{}', {}, {}{argument})", ask.org, quote(id), ask.range()));
        let wanted = format!("{{\"project\":{{\"id\":{},\"name\":{}}},{wanted}}}", string(id), string(&name));
        same(&said(&answer), &wanted, &format!("analytics_project {id}, {ask:?}"));
        sums.push((number(&answer["summary"], "cost"), number(&answer["summary"], "requestCount")));
    }
    total.is(added(&sums), &format!("all project pages, {ask:?}"));
}

fn key_pages(client: &mut Client, ask: &Ask, total: &Total) {
    let known =
        format!("SELECT k.id FROM public.api_key k JOIN public.project p ON p.id = k.project_id WHERE p.organization_id = '{}'", ask.org);
    let used = format!("SELECT k FROM {} x WHERE k IS NOT NULL", rows_of(ask, "key", "true"));
    let mut sums = vec![without(client, ask, "key")];
    for (i, id) in ids(client, &format!("{known} UNION {used} ORDER BY 1")).iter().enumerate() {
        let (view, argument) = [("mappings", ""), ("canonical", ", 'canonical'"), ("mappings", ", 'mappings'")][i % 3];
        let label = one(client, &format!("SELECT ledger.label('api_key', {})", quote(id))).expect("a label");
        let owner = one(client, &format!("SELECT ledger.owner({})", quote(id)));
        let project = one(client, &format!("SELECT project_id FROM public.api_key WHERE id = {}", quote(id)));
        let wanted = page(client, ask, view, &format!("key = {}", quote(id)));
        let mut answer = ask_json(client, &format!("analytics_api_key('{}', {}, {}{argument})", ask.org, quote(id), ask.range()));
        if project.is_none() {
            answer["apiKey"]["projectId"] = Value::Null; // of a deleted key it may be known or not
        }
        let wanted = format!(
            "{{\"apiKey\":{{\"id\":{},\"label\":{},\"projectId\":{},\"createdBy\":{}}},{wanted}}}",
            string(id),
            string(&label),
            nullable(project.as_deref()),
            nullable(owner.as_deref())
        );
        same(&said(&answer), &wanted, &format!("analytics_api_key {id}, {ask:?}"));
        sums.push((number(&answer["summary"], "cost"), number(&answer["summary"], "requestCount")));
    }
    total.is(added(&sums), &format!("all key pages, {ask:?}"));
}

/// Usage that has no project, or no key: on no page.
fn without(client: &mut Client, ask: &Ask, column: &str) -> (Decimal, Decimal) {
    let sql = format!("SELECT coalesce(sum(cost), 0), count(*) FROM {} x", rows_of(ask, column, &format!("{column} IS NULL")));
    let row = rows(client, &sql).remove(0);
    (Decimal::parse(&row[0]), Decimal::parse(&row[1]))
}

fn added(sums: &[(Decimal, Decimal)]) -> (Decimal, Decimal) {
    sums.iter().copied().reduce(|a, b| (a.0.plus(b.0), a.1.plus(b.1))).expect("at least one")
}

/// The members table: current members, former ones with spend, and what is nobody's.
fn members(client: &mut Client, ask: &Ask, total: &Total) -> Vec<String> {
    let context = format!("analytics_members, {ask:?}");
    let sql = format!(
        "SELECT coalesce(m.user_id, g.k) AS id, m.role, {count_of_keys} AS keys, g.m
         FROM (SELECT user_id, role FROM public.user_organization WHERE organization_id = '{org}') m
         FULL JOIN (SELECT k, sum(cost) AS c, ARRAY[{MEASURES}] AS m FROM {rows} x GROUP BY k) g ON g.k = m.user_id
         ORDER BY coalesce(g.c, 0) DESC, coalesce(m.user_id, g.k) COLLATE \"C\"",
        count_of_keys = keys_of("coalesce(m.user_id, g.k)", &ask.org),
        org = ask.org,
        rows = rows_of(ask, "usr", "true"),
    );
    let expected = client.query(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let answer = ask_json(client, &format!("analytics_members('{}', {})", ask.org, ask.range()));
    let plan = text(client, &format!("SELECT plan FROM public.organization WHERE id = '{}'", ask.org));
    let summary = breakdown(client, ask, MODEL, "true").summary();
    let mut outer = answer.clone();
    outer["members"] = Value::Null;
    same(&said(&outer), &format!("{{\"plan\":\"{plan}\",{},\"summary\":{summary},\"members\":null}}", head(ask)), &context);
    let found = answer["members"].as_array().expect("members");
    assert_eq!(found.len(), expected.len(), "{context}: {found:#?}");
    let mut users = Vec::new();
    for (row, member) in expected.iter().zip(found) {
        let (id, role): (Option<String>, Option<String>) = (row.get(0), row.get(1));
        assert_eq!(member["userId"].as_str(), id.as_deref(), "{context}: order of {found:#?}");
        person(client, member, id.as_deref(), role.as_deref(), row.get(2), &context);
        let keys: Vec<&str> = member.as_object().expect("a member").keys().map(String::as_str).collect();
        assert_eq!(keys, [&["userId", "name", "email", "role", "apiKeyCount"][..], &M[..]].concat(), "{context}");
        let measures: Option<Vec<String>> = row.get(3);
        let measures = measures.unwrap_or_else(|| vec!["0".to_owned(); M.len()]);
        assert!(said(member).ends_with(&format!("{}}}", fields(&measures))), "{context}: {member}\nthe log says {measures:?}");
        users.extend(id);
    }
    total.is(sum(found), &context);
    let table = rows(
        client,
        &format!(
            "SELECT user_id, role, trim_scale(cost), request_count, input_tokens, output_tokens, total_tokens, error_count, client_error_count, cache_count
             FROM llm.members('{}', {}) ORDER BY cost DESC, user_id COLLATE \"C\"",
            ask.org,
            ask.range()
        ),
    );
    let wanted: Vec<Vec<String>> = found
        .iter()
        .map(|m| {
            let text = |name: &str| m[name].as_str().unwrap_or("NULL").to_owned();
            let numbers = M.iter().filter(|name| !name.ends_with("Rate")).map(|name| m[*name].to_string());
            [text("userId"), text("role")].into_iter().chain(numbers).collect()
        })
        .collect();
    assert_eq!(table, wanted, "llm.members, {ask:?}");
    users
}

/// Keys somebody created in projects that are not deleted, whatever the keys' status.
fn keys_of(user: &str, org: &str) -> String {
    format!(
        "(SELECT count(*) FROM public.api_key a JOIN public.project p ON p.id = a.project_id
          WHERE a.created_by = {user} AND p.organization_id = '{org}' AND p.status IS DISTINCT FROM 'deleted')"
    )
}

/// What the directories say of a member. A name that is NULL may be shown as it is or as the email address.
fn person(client: &mut Client, member: &Value, id: Option<&str>, role: Option<&str>, keys: i64, context: &str) {
    let Some(id) = id else {
        assert_eq!((member["name"].as_str(), member["role"].as_str()), (Some("Unattributed"), None), "{context}: {member}");
        return;
    };
    let label = one(client, &format!("SELECT ledger.label('user', {})", quote(id)));
    let known = client.query_opt("SELECT name, email FROM public.\"user\" WHERE id = $1", &[&id]).expect("a user");
    match known.map(|row| (row.get::<_, Option<String>>(0), row.get::<_, Option<String>>(1))) {
        Some((name, email)) => {
            assert_eq!(member["email"].as_str(), email.as_deref(), "{context}: {member}");
            let shown = member["name"].as_str();
            assert!(shown == name.as_deref() || (name.is_none() && shown == email.as_deref()), "{context}: {member}");
        }
        None => assert_eq!(member["name"].as_str(), label.as_deref(), "{context}: {member}"),
    }
    assert_eq!((member["role"].as_str(), member["apiKeyCount"].to_string()), (role, keys.to_string()), "{context}: {member}");
}

fn member_pages(client: &mut Client, ask: &Ask, users: &[String], total: &Total) {
    let mut sums = vec![without(client, ask, "usr")];
    for (i, id) in users.iter().enumerate() {
        let context = format!("analytics_member {id}, {ask:?}");
        let (view, argument) = [("canonical", ""), ("mappings", ", 'mappings'"), ("canonical", ", 'canonical'")][i % 3];
        let mut answer = ask_json(client, &format!("analytics_member('{}', {}, {}{argument})", ask.org, quote(id), ask.range()));
        let filter = format!("usr = {}", quote(id));
        let [by_model, models, providers, apps] =
            [models(view), MODEL, PROVIDER, APPLICATION].map(|dimension| breakdown(client, ask, dimension, &filter));
        let role = one(
            client,
            &format!("SELECT role FROM public.user_organization WHERE organization_id = '{}' AND user_id = {}", ask.org, quote(id)),
        );
        let keys: i64 = client.query_one(&format!("SELECT {}", keys_of(&quote(id), &ask.org)), &[]).expect("a count").get(0);
        let fields = answer.as_object_mut().expect("an object");
        assert_eq!(fields.keys().next().map(String::as_str), Some("member"), "{context}");
        let member = fields.shift_remove("member").expect("member");
        fields.shift_remove("modelView"); // the design does not show one
        person(client, &member, Some(id), role.as_deref(), keys, &context);
        let names: Vec<&str> = member.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, ["userId", "name", "email", "role", "apiKeyCount"], "{context}");
        let names: Vec<&str> = answer["mostUsed"].as_object().expect("mostUsed").keys().map(String::as_str).collect();
        assert_eq!(names, ["model", "provider", "application"], "{context}");
        for (name, breakdown) in [("model", &models), ("provider", &providers), ("application", &apps)] {
            let shown = answer["mostUsed"][name].as_str();
            match breakdown.entries.first() {
                None => assert_eq!(shown, None, "{context}: nothing was used"),
                Some(first) if first.key.is_some() && (name != "model" || view == "canonical") => {
                    assert!(shown == first.key.as_deref() || shown == Some(first.label.as_str()), "{context}: {shown:?}");
                }
                Some(_) => {} // usage without a name comes first
            }
        }
        answer["mostUsed"] = Value::Null;
        let wanted = format!(
            "{{{},\"summary\":{},\"mostUsed\":null,\"costByModel\":{},\"topProviders\":{},\"topApplications\":{},\"activity\":{}}}",
            head(ask),
            by_model.summary(),
            by_model.list(usize::MAX),
            providers.list(5),
            apps.list(5),
            by_model.activity()
        );
        same(&said(&answer), &wanted, &context);
        sums.push((number(&answer["summary"], "cost"), number(&answer["summary"], "requestCount")));
    }
    total.is(added(&sums), &format!("all member pages, {ask:?}"));
}

/// What members see of themselves, where the log has no user: the usage of the keys they created.
fn own_pages(client: &mut Client, ask: &Ask, members: &mut [(&str, Client)]) {
    for (user, own) in members {
        for view in ["canonical", "mappings"] {
            let me = text(own, &format!("SELECT llm.analytics_me('{}', {}, '{view}')", ask.org, ask.range()));
            let member = text(client, &format!("SELECT llm.analytics_member('{}', '{user}', {}, '{view}')", ask.org, ask.range()));
            same(&me, &member, &format!("analytics_me {user}, {ask:?}"));
        }
        let own_key = format!("{}_k{}", ask.org, &user[1..]);
        let call = format!("SELECT llm.analytics_api_key('{}', '{own_key}', {})", ask.org, ask.range());
        if text(client, &format!("SELECT count(*) FROM public.api_key WHERE id = '{own_key}' AND created_by = '{user}'")) == "1" {
            same(&text(own, &call), &text(client, &call), &format!("{user} asks for {own_key}"));
        }
    }
}

fn check(client: &mut Client, ask: &Ask, own: &mut [(&str, Client)]) {
    let sum_of = breakdown(client, ask, MODEL, "true").total;
    let total = Total { cost: Decimal::parse(&sum_of[0]), requests: Decimal::parse(&sum_of[1]) };
    activity(client, ask, &total);
    project_pages(client, ask, &total);
    key_pages(client, ask, &total);
    let users = members(client, ask, &total);
    member_pages(client, ask, &users, &total);
    if ask.org == "org_b" {
        own_pages(client, ask, own);
    }
}

/// All organizations, each in half of the ranges.
fn check_all(client: &mut Client, ledger: &mut Ledger, own: &mut [(&str, Client)]) {
    ledger.snapshot(client);
    for org in ORGANIZATIONS {
        let first = ledger.pick(2);
        for (from, to, zone) in RANGES.iter().skip(first).step_by(2) {
            let ask = Ask { org: org.to_owned(), from: (*from).to_owned(), to: (*to).to_owned(), zone: (*zone).to_owned() };
            check(client, &ask, own);
        }
    }
}

#[test]
fn every_page_is_what_the_log_says() {
    let seed = std::env::var("PAGES_SEED").map_or(20_261_125, |v| v.parse().expect("PAGES_SEED is a number"));
    println!("PAGES_SEED={seed}");
    let server = Server::from_env();
    let roles = ["u1", "u3", "u5"].map(|user| (user, Role::new(&server, user)));
    let db = Db::new("pages");
    let mut client = db.connect();
    let mut ledger = Ledger::new(&mut client, seed);
    let mut own: Vec<(&str, Client)> = Vec::new();
    for (user, role) in &roles {
        run(&mut client, &format!("SELECT llm.bind_role('{}', '{user}')", role.name));
        own.push((user, db.connect_as(&role.name)));
    }
    check_all(&mut client, &mut ledger, &mut own); // backfilled
    ledger.write(&mut client, 400);
    check_all(&mut client, &mut ledger, &mut own); // and pending

    ledger::delete(&mut client, "api_key", "org_a_k2");
    ledger::delete(&mut client, "api_key", "org_c_k1");
    ledger::delete(&mut client, "user", "u4");
    run(
        &mut client,
        "UPDATE public.project SET name = 'Renamed' WHERE id = 'org_a_p1'; DELETE FROM public.user_organization WHERE user_id = 'u4';
         UPDATE public.project SET status = 'deleted' WHERE id = 'org_b_p4'; UPDATE public.api_key SET status = 'deleted' WHERE id = 'org_a_k1'",
    );
    ledger::disown(&mut client, "org_b_k8");
    check_all(&mut client, &mut ledger, &mut own);
    run(&mut client, "SELECT llm.fold()");
    check_all(&mut client, &mut ledger, &mut own);

    ledger.write(&mut client, 200);
    ledger::delete(&mut client, "project", "org_a_p3");
    ledger::delete(&mut client, "api_key", "org_b_k3");
    ledger::delete(&mut client, "api_key", "org_b_k8");
    run(
        &mut client,
        "UPDATE public.api_key SET description = 'work \"laptop\"' WHERE id = 'org_b_k1'; UPDATE public.\"user\" SET name = 'Ada L.' WHERE id = 'u1';
         DELETE FROM public.user_organization WHERE user_id = 'u2' AND organization_id = 'org_b'",
    );
    check_all(&mut client, &mut ledger, &mut own);
    run(&mut client, "SELECT llm.fold()");
    run(&mut client, "SELECT llm.rebuild('2000-01-01', '2100-01-01')");
    check_all(&mut client, &mut ledger, &mut own);
    check_verify(&mut client);
}
