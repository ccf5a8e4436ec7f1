//! Hostile parameters, other organizations' ids, and what the server's role in the database may do.

use crate::endpoints::CALLS;
use crate::harness::*;
use llm_analytics_tests::db::{refusal, rows, run, text};
use llm_analytics_tests::world::World;

const HOSTILE: [&str; 24] = [
    "'",
    "''",
    "\"",
    "\\",
    "'; DROP TABLE public.canary; --",
    "\"; DROP TABLE public.canary; --",
    "acme') ; DROP TABLE public.canary; --",
    "acme', 'model'); DELETE FROM public.canary; SELECT ('",
    "' OR '1'='1",
    "acme' UNION SELECT rolname FROM pg_roles --",
    "$1",
    "$$; DROP TABLE public.canary; $$",
    "::text); SELECT pg_sleep(10); --",
    "1; SELECT pg_sleep(10)",
    "2026-06-01'::date; DROP TABLE public.canary; --",
    "2147483648",
    "-1",
    "\0",
    "a\0b",
    "\u{202e}\u{feff}",
    "../../../etc/passwd",
    "%2e%2e%2f",
    "<script>alert(1)</script>",
    "{\"$ne\": null}",
];

/// Of the OpenAPI document: every parameter of every endpoint.
fn parameters(dashboard: &Dashboard) -> Vec<(String, Vec<(String, bool)>)> {
    let document = dashboard.get("/openapi.json", &[]).json();
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .map(|(path, operations)| {
            let parameters = operations["get"]["parameters"].as_array().expect("parameters");
            let of = |p: &serde_json::Value| (p["name"].as_str().expect("a name").to_owned(), p["in"] == "path");
            (path.clone(), parameters.iter().map(of).collect())
        })
        .collect()
}

fn usual(name: &str) -> &'static str {
    match name {
        "organizationId" => "acme",
        "groupBy" => "model",
        "from" | "to" | "compareFrom" | "compareTo" => "2026-06-01",
        "timezone" => "UTC",
        "modelView" => "mappings",
        "top" => "5",
        "projectId" => "acme_p1",
        "apiKeyId" => "acme_kd",
        _ => "dev",
    }
}

#[test]
fn sql_in_every_parameter() {
    let mut world = World::new("dash_sql", false);
    run(
        &mut world.client,
        "CREATE TABLE public.canary (a int); INSERT INTO public.canary VALUES (42); GRANT ALL ON public.canary TO PUBLIC",
    );
    let before = rows(&mut world.client, "SELECT count(*), sum(cost) FROM llm.usage");
    let dashboard = Dashboard::over(&mut world);
    let client = Client::new();
    let token = bearer("own");
    let mut sent = 0;
    for (path, parameters) in parameters(&dashboard) {
        for (at, (attacked, _)) in parameters.iter().enumerate() {
            for hostile in HOSTILE {
                let mut path = path.clone();
                let mut query = Vec::new();
                for (other, (name, in_path)) in parameters.iter().enumerate() {
                    let value = encode(if other == at { hostile } else { usual(name) });
                    if *in_path {
                        path = path.replace(&format!("{{{name}}}"), &value);
                    } else {
                        query.push(format!("{name}={value}"));
                    }
                }
                let path = format!("{path}?{}", query.join("&"));
                let started = std::time::Instant::now();
                let answer = dashboard.send(&client, "GET", &path, &[("Authorization", &token)]);
                // A filter that names nothing is no mistake: it finds nothing.
                assert!([200, 400, 403, 404].contains(&answer.status), "{attacked}={hostile:?}: {} {}", answer.status, answer.body);
                assert!(started.elapsed().as_secs() < 5, "{attacked}={hostile:?} slept");
                assert!(
                    !answer.body.contains("pg_monitor") && !answer.body.contains("postgres"),
                    "{attacked}={hostile:?}: {}",
                    answer.body
                );
                if answer.status != 200 {
                    answer.code();
                }
                sent += 1;
            }
            let (name, in_path) = &parameters[at];
            if !in_path {
                let plain = path.replace("{id}", "dev").replace("{userId}", "dev");
                // Bytes that are no text are read as U+FFFD, as browsers do (WHATWG URL), and name nothing.
                let answer = dashboard.send(&client, "GET", &format!("{plain}?{name}=%ff%fe"), &[("Authorization", &token)]);
                assert!([200, 400, 403].contains(&answer.status) && !answer.body.contains("acme"), "{plain}?{name}: {}", answer.body);
                // A name that is none, a name twice.
                for query in [format!("{name}=a&{name}=b"), format!("{}=a", encode("x' OR 1=1 --"))] {
                    let answer = dashboard.send(&client, "GET", &format!("{plain}?{query}"), &[("Authorization", &token)]);
                    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{plain}?{query}");
                }
            }
        }
    }
    // As the user's name, which is signed but is a text of somebody else's all the same.
    for hostile in HOSTILE {
        let answer = dashboard.get("/organizations", &[("Authorization", &format!("Bearer {}", signed(&claims(hostile))))]);
        assert!([200, 400].contains(&answer.status), "{hostile:?}: {}", answer.body);
        assert!(!answer.body.contains("acme"), "{hostile:?}: {}", answer.body);
    }
    assert!(sent > 1000, "{sent}");
    assert_eq!(text(&mut world.client, "SELECT a FROM public.canary"), "42");
    assert_eq!(rows(&mut world.client, "SELECT count(*), sum(cost) FROM llm.usage"), before);
}

/// Somebody of one organization asks with every id of another, everywhere, and learns nothing.
#[test]
fn another_organizations_ids() {
    let mut world = World::new("dash_other", false);
    let dashboard = Dashboard::over(&mut world);
    for (user, own, other) in [("own", "acme", "rival"), ("dev", "acme", "rival"), ("riv", "rival", "acme"), ("riv", "rival", "proco")] {
        for (path, _) in CALLS {
            // Everything of the other organization, then its ids in one's own.
            let foreign = path.replace("{o}", other);
            let mixed = path.replace("organizationId={o}", &format!("organizationId={own}")).replace("{o}", other);
            for path in [foreign, mixed] {
                let answer = dashboard.ask(user, &path);
                // What was asked comes back in a message; names, which nobody asked for, never do.
                for leak in [format!("of {other}"), format!("Name of {other}"), format!("Chat {other}")] {
                    assert!(!answer.body.contains(&leak), "{user} {path}: {}", answer.body);
                }
                assert!(answer.status < 500, "{user} {path}: {}", answer.body);
            }
        }
    }
}

#[test]
fn the_role_can_do_nothing_else() {
    let mut world = World::new("dash_role", false);
    let role = world.backend_role();
    let mut client = world.db.connect_as(&role);
    for sql in [
        "SELECT * FROM public.log",
        "SELECT * FROM public.api_key",
        "INSERT INTO llm._pending DEFAULT VALUES",
        "DELETE FROM llm.rollup",
        "UPDATE llm.membership SET role = 'owner'",
        "INSERT INTO llm.membership VALUES ('rival', 'own', 'owner')",
        "SELECT llm.fold()",
        "CALL llm.maintain()",
        "SELECT llm.rebuild('2026-06-01', '2026-06-03')",
        "SELECT * FROM llm.verify()",
        "SELECT llm.attach_log('public.log')",
        "SELECT llm.detach_log('public.log')",
        "SELECT llm.bind_role(current_user, 'own')",
        "SELECT llm.forget('acme')",
        "SELECT llm.seal('public.log', '2026-06-02')",
        "CREATE TABLE public.mine (a int)",
        "CREATE TABLE llm.mine (a int)",
        "CREATE ROLE mine",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE postgres",
    ] {
        let error = client.batch_execute(sql).expect_err(sql);
        assert!(["42501", "42883"].contains(&refusal(&error).state.as_str()), "{sql}: {:?}", refusal(&error));
    }
    // Nobody yet, so no rows either.
    for relation in ["llm.usage", "llm.rollup", "llm._pending", "llm.organization", "llm.membership", "llm.series"] {
        assert_eq!(text(&mut client, &format!("SELECT count(*) FROM {relation}")), "0", "{relation}");
    }
}
