//! What the endpoints answer is what the functions answer, refused or not.

use crate::harness::*;
use llm_analytics_tests::db::{Refusal, quote, rows, run, text};
use llm_analytics_tests::world::{Caller, World};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub const USERS: [&str; 7] = ["own", "adm", "dev", "dev2", "out", "riv", "nobody heard of"];
pub const ORGANIZATIONS: [&str; 6] = ["acme", "proco", "freeco", "ghost", "rival", "no such"];

/// An endpoint with its parameters, and the call that it is. `{o}` is the organization; it is encoded for the first.
pub const CALLS: [(&str, &str); 26] = [
    ("/organizations", "analytics_organizations()"),
    ("/access?organizationId={o}", "access('{o}')"),
    ("/projects?organizationId={o}", "analytics_projects('{o}')"),
    ("/api-keys?organizationId={o}", "analytics_api_keys('{o}')"),
    ("/api-keys?organizationId={o}&projectId={o}_p1", "analytics_api_keys('{o}', '{o}_p1')"),
    (
        "/analytics/activity?organizationId={o}&from=2026-06-01&to=2026-06-02",
        "analytics_activity('{o}', 'model', '2026-06-01', '2026-06-02')",
    ),
    (
        "/analytics/activity?organizationId={o}&groupBy=user&from=2026-06-01&to=2026-06-02&timezone=Asia%2FKolkata&top=2",
        "analytics_activity('{o}', 'user', '2026-06-01', '2026-06-02', 'Asia/Kolkata', top => 2)",
    ),
    (
        "/analytics/activity?organizationId={o}&groupBy=apiKey&projectId={o}_p1&from=2026-06-01&to=2026-06-02",
        "analytics_activity('{o}', 'apiKey', '2026-06-01', '2026-06-02', project => '{o}_p1')",
    ),
    (
        "/analytics/activity?organizationId={o}&apiKeyId={o}_kd&userId=dev&from=2026-06-01",
        "analytics_activity('{o}', \"from\" => '2026-06-01', api_key => '{o}_kd', user_id => 'dev')",
    ),
    ("/analytics/activity?organizationId={o}&groupBy=planet", "analytics_activity('{o}', 'planet')"),
    ("/analytics/activity?organizationId={o}&timezone=Mars%2FOlympus", "analytics_activity('{o}', tz => 'Mars/Olympus')"),
    (
        "/analytics/activity?organizationId={o}&from=2026-06-02&to=2026-06-01",
        "analytics_activity('{o}', 'model', '2026-06-02', '2026-06-01')",
    ),
    (
        "/analytics/activity?organizationId={o}&from=2015-06-01&to=2015-06-02&timezone=Asia%2FPyongyang",
        "analytics_activity('{o}', 'model', '2015-06-01', '2015-06-02', 'Asia/Pyongyang')",
    ),
    ("/analytics/activity?organizationId={o}&from=yesterday-ish", "analytics_activity('{o}', \"from\" => 'yesterday-ish')"),
    ("/analytics/activity?organizationId={o}&top=0", "analytics_activity('{o}', top => 0)"),
    ("/analytics/members?organizationId={o}&from=2026-06-01&to=2026-06-02", "analytics_members('{o}', '2026-06-01', '2026-06-02')"),
    (
        "/analytics/members/dev?organizationId={o}&from=2026-06-01&to=2026-06-02",
        "analytics_member('{o}', 'dev', '2026-06-01', '2026-06-02')",
    ),
    (
        "/analytics/members/rivaldev?organizationId={o}&from=2026-06-01&to=2026-06-02",
        "analytics_member('{o}', 'rivaldev', '2026-06-01', '2026-06-02')",
    ),
    (
        "/analytics/me?organizationId={o}&from=2026-06-01&to=2026-06-02&modelView=mappings",
        "analytics_me('{o}', '2026-06-01', '2026-06-02', model_view => 'mappings')",
    ),
    (
        "/analytics/projects/{o}_p1?organizationId={o}&from=2026-06-01&to=2026-06-02",
        "analytics_project('{o}', '{o}_p1', '2026-06-01', '2026-06-02')",
    ),
    (
        "/analytics/projects/rival_p1?organizationId={o}&from=2026-06-01&to=2026-06-02",
        "analytics_project('{o}', 'rival_p1', '2026-06-01', '2026-06-02')",
    ),
    (
        "/analytics/projects/{o}_pd?organizationId={o}&from=2026-06-01&to=2026-06-02&modelView=canonical",
        "analytics_project('{o}', '{o}_pd', '2026-06-01', '2026-06-02', model_view => 'canonical')",
    ),
    (
        "/analytics/api-keys/{o}_kd?organizationId={o}&from=2026-06-01&to=2026-06-02",
        "analytics_api_key('{o}', '{o}_kd', '2026-06-01', '2026-06-02')",
    ),
    (
        "/analytics/api-keys/rival_kd?organizationId={o}&from=2026-06-01&to=2026-06-02",
        "analytics_api_key('{o}', 'rival_kd', '2026-06-01', '2026-06-02')",
    ),
    ("/analytics/drivers?organizationId={o}&from=2026-06-02&to=2026-06-02", "analytics_drivers('{o}', '2026-06-02', '2026-06-02')"),
    (
        "/analytics/drivers?organizationId={o}&from=2026-06-02&to=2026-06-02&compareFrom=2026-05-01&compareTo=2026-05-31",
        "analytics_drivers('{o}', '2026-06-02', '2026-06-02', compare_from => '2026-05-01', compare_to => '2026-05-31')",
    ),
];

/// Status and code, as section 9 of the contract has them.
fn expected(refusal: &Refusal) -> (u16, String) {
    let reason = refusal.detail.strip_prefix("reason=").unwrap_or_default();
    let (status, code) = match refusal.state.as_str() {
        "28000" => (401, "no_identity"),
        "42501" => (403, reason),
        "P0002" => (404, "not_found"),
        state if state.starts_with("22") || state == "0A000" => (400, "invalid_request"),
        _ => panic!("{refusal:?}"),
    };
    (status, code.to_owned())
}

#[test]
fn everybody_gets_what_the_functions_answer() {
    let mut world = World::new("dash_answers", false);
    let dashboard = Dashboard::over(&mut world);
    let mut statuses = std::collections::BTreeMap::new();
    for user in USERS {
        let mut caller: Caller = world.acting(user);
        for org in ORGANIZATIONS {
            for (path, call) in CALLS {
                let context = format!("{user} {org} {path}");
                let answer = dashboard.ask(user, &path.replace("{o}", &encode(org)));
                assert!(answer.header("content-type").starts_with("application/json"), "{context}");
                assert!(answer.header("cache-control").contains("private"), "{context}");
                match caller.try_rows(&format!("SELECT llm.{}", call.replace("{o}", org))) {
                    Ok(rows) => {
                        assert_eq!(answer.status, 200, "{context}: {}", answer.body);
                        assert_eq!(answer.body, rows[0][0], "{context}");
                    }
                    Err(refusal) => {
                        let (status, code) = expected(&refusal);
                        assert_eq!((answer.status, answer.code()), (status, code), "{context}: {refusal:?}");
                        let error = &answer.json()["error"];
                        assert_eq!(error["message"], refusal.message, "{context}");
                        assert_eq!(error["hint"].as_str().unwrap_or_default(), refusal.hint, "{context}");
                    }
                }
                *statuses.entry(answer.status).or_insert(0) += 1;
            }
        }
    }
    // Every kind of answer was seen, so none of the comparisons was idle.
    assert_eq!(statuses.keys().copied().collect::<Vec<u16>>(), [200, 400, 403, 404], "{statuses:?}");
}

/// The rows of a CSV without quotes in it.
fn table(csv: &str) -> Vec<Vec<String>> {
    csv.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn every_table_as_csv() {
    let mut world = World::new("dash_csv", false);
    run(
        &mut world.client,
        "INSERT INTO public.\"user\" (id, name, email) VALUES ('=cmd', '=HYPERLINK(\"x\")', '=x@example.com');
         INSERT INTO public.user_organization (user_id, organization_id, role) VALUES ('=cmd', 'acme', 'developer')",
    );
    let dashboard = Dashboard::over(&mut world);
    let csv = |user: &str, path: &str, accept: &str| {
        let answer = dashboard.get(path, &[("Authorization", &bearer(user)), ("Accept", accept)]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.header("content-type").starts_with("text/csv"), "{path}");
        assert!(answer.header("cache-control").contains("private"), "{path}");
        answer.body
    };
    let range = "organizationId=acme&from=2026-06-01&to=2026-06-02";
    let found = table(&csv("own", &format!("/analytics/members?{range}"), "text/csv"));
    let at = |name: &str| found[0].iter().position(|column| column == name).unwrap_or_else(|| panic!("no {name}: {:?}", found[0]));
    let columns = [at("userId"), at("name"), at("cost")];
    let plain = found[1..].iter().filter(|row| !row[columns[1]].contains('='));
    let mut got: Vec<Vec<String>> = plain.map(|row| columns.map(|column| row[column].clone()).into()).collect();
    let sql = "SELECT coalesce(user_id, ''), name, cost FROM llm.members('acme', '2026-06-01', '2026-06-02') WHERE name NOT LIKE '=%'";
    let mut wanted = rows(&mut world.client, sql);
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
    let members = csv("own", &format!("/analytics/members?{range}"), "application/xml;q=0.1, Text/CSV;q=0.9");
    assert!(members.contains("\"'=HYPERLINK(\"\"x\"\")\"") && members.contains("'=cmd"), "a formula: {members}");
    // The cells of a day add up to the log.
    let days = table(&csv("own", &format!("/analytics/activity?{range}&groupBy=project"), "text/csv"));
    let (date, cost, key) = (
        days[0].iter().position(|column| column == "date").expect("a date"),
        days[0].iter().position(|column| column == "cost").expect("a cost"),
        days[0].iter().position(|column| column == "key").expect("a key"),
    );
    for row in &days[1..] {
        let wanted = text(
            &mut world.client,
            &format!(
                "SELECT trim_scale(coalesce(sum(cost::numeric), 0)) FROM public.log WHERE created_at::date = {} AND project_id = {}",
                quote(&row[date]),
                quote(&row[key])
            ),
        );
        assert_eq!(row[cost], wanted, "{row:?}");
    }
    assert!(days.len() > 3, "{days:?}");
    for path in [
        format!("/analytics/members/dev?{range}"),
        format!("/analytics/me?{range}"),
        format!("/analytics/projects/acme_p1?{range}"),
        format!("/analytics/api-keys/acme_kd?{range}"),
        format!("/analytics/drivers?{range}"),
        "/organizations".into(),
        "/projects?organizationId=acme".into(),
        "/api-keys?organizationId=acme".into(),
    ] {
        let found = csv("own", &path, "text/csv");
        assert!(found.lines().count() > 1, "{path}: {found}");
        let refused = dashboard.get(
            &path.replace("organizationId=acme", "organizationId=rival"),
            &[("Authorization", &bearer("own")), ("Accept", "text/csv")],
        );
        if refused.status != 200 {
            assert!(refused.header("content-type").starts_with("application/json"), "{path}");
            refused.code();
        }
    }
}

#[test]
fn the_document_and_the_rest() {
    let mut world = World::new("dash_document", false);
    let dashboard = Dashboard::over(&mut world);
    let document = dashboard.get("/openapi.json", &[]);
    assert_eq!(document.status, 200);
    let document: Value = document.json();
    let mut paths: Vec<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    let mut called: Vec<String> = CALLS
        .iter()
        .map(|(path, _)| {
            let path = path.split('?').next().unwrap_or_default();
            let parts: Vec<&str> = path.split('/').collect();
            match parts[..] {
                ["", "analytics", "members", _] => "/analytics/members/{userId}".into(),
                ["", "analytics", kind, _] => format!("/analytics/{kind}/{{id}}"),
                _ => path.to_owned(),
            }
        })
        .collect();
    paths.sort();
    called.sort();
    called.dedup();
    assert_eq!(paths, called, "the tests call every endpoint of the document");
    let client = Client::new();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/organizations", "/analytics/activity?organizationId=acme", "/", "/acme/keys", "/openapi.json", "/health"] {
            let answer = dashboard.send(&client, method, path, &[("Authorization", &bearer("own"))]);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.header("allow").contains("GET"), "{method} {path}");
        }
    }
    let head = dashboard.send(&client, "HEAD", "/organizations", &[("Authorization", &bearer("own"))]);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for path in ["/analytics/nothing", "/analytics/", "/assets/nothing.js", "/demo/users", "/demo/nothing"] {
        let answer = dashboard.ask("own", path);
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    // A page is a page, whoever asks; what is on it is asked for with a token.
    let taken = [
        "projects",
        "organizations",
        "access",
        "api-keys",
        "health",
        "openapi.json",
        "analytics",
        "assets",
        "demo",
        "index.html",
        "icon.svg",
        "o",
    ];
    let taken = taken.into_iter().flat_map(|id| [format!("/o/{id}"), format!("/o/{id}/keys")]);
    let others = ["/", "/acme", "/acme/keys/%25", "/acme/members/..%2f..%2fetc%2fpasswd"].map(String::from);
    for path in taken.chain(others) {
        let answer = dashboard.get(&path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").starts_with("text/html"), "{path}");
        assert!(answer.header("content-security-policy").contains("default-src 'self'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
    }
    assert_eq!(dashboard.get("/health", &[]).body, "ok\n");
    assert_eq!(dashboard.get("/health/ready", &[]).body, "ok\n");
}

/// Sends a POST whose body comes late, then asks for something else over the same connection.
#[test]
fn a_body_that_comes_late() {
    let mut world = World::new("dash_late", false);
    let dashboard = Dashboard::over(&mut world);
    let address = dashboard.address.trim_start_matches("http://");
    for path in ["/organizations", "/", "/openapi.json", "/health"] {
        let mut connection = TcpStream::connect(address).expect("a connection");
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.write_all(head.as_bytes()).expect("a head");
        connection.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let early = connection.read(&mut [0]);
        assert!(early.is_err(), "{path}: answered, and the connection closed, before the body is read: {early:?}");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let rest = format!("5\r\nhello\r\n0\r\n\r\nGET /openapi.json HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(rest.as_bytes()).expect("a body");
        let mut answers = String::new();
        connection.read_to_string(&mut answers).expect("two answers");
        assert!(answers.starts_with("HTTP/1.1 405"), "{path}: {answers}");
        assert!(answers.contains("HTTP/1.1 200 OK") && answers.contains("\"openapi\""), "{path}: {answers}");
    }
    // Of too much so much is read and no more; nothing beyond it is sent here, so that the answer meets nobody who is still writing.
    let mut connection = TcpStream::connect(address).expect("a connection");
    connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let head = format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100000000\r\n\r\n{}", "x".repeat((64 << 10) + 1));
    connection.write_all(head.as_bytes()).expect("a beginning");
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 405");
}
