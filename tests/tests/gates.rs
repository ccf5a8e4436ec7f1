//! Who may call what: the table of the gates and the table of the errors, cell by cell and in their order, for every kind of
//! caller on every plan; and `llm.access`, which says the same beforehand and never fails.

use llm_analytics_tests::db::{Refusal, quote, run, text};
use llm_analytics_tests::world::{Caller, World};
use serde_json::{Value, json};

const ORGANIZATIONS: [&str; 5] = ["acme", "proco", "freeco", "ghost", "rival"];
const RANGE: &str = "'2026-06-01', '2026-06-02'";

/// Calls for owners and admins of enterprise organizations.
const ORGANIZATION_CALLS: [&str; 6] = [
    "SELECT llm.analytics_activity('{o}', 'project', {range})",
    "SELECT llm.analytics_members('{o}', {range})",
    "SELECT llm.analytics_member('{o}', 'dev', {range})",
    "SELECT llm.analytics_drivers('{o}', {range})",
    "SELECT count(*) FROM llm.activity('{o}', 'model', {range})",
    "SELECT count(*) FROM llm.members('{o}', {range})",
];
const PROJECT: &str = "SELECT llm.analytics_project('{o}', '{o}_p1', {range})";
const DELETED_PROJECT: &str = "SELECT llm.analytics_project('{o}', '{o}_pd', {range})";
const OWN_KEY: &str = "SELECT llm.analytics_api_key('{o}', '{o}_{own}', {range})";
const OTHER_KEY: &str = "SELECT llm.analytics_api_key('{o}', '{o}_kd2', {range})";
const ME: &str = "SELECT llm.analytics_me('{o}', {range})";

fn call(template: &str, org: &str, user: &str) -> String {
    let own = match user {
        "own" => "ko",
        "adm" => "ka",
        "dev2" => "kd2",
        _ => "kd",
    };
    template.replace("{o}", org).replace("{range}", RANGE).replace("{own}", own)
}

/// The role in an organization, None for whoever is no member; deleted organizations have none.
fn role_of(user: &str, org: &str) -> Option<&'static str> {
    match (user, org) {
        ("riv", "rival") => Some("owner"),
        ("riv", _) | (_, "rival" | "ghost") => None,
        ("own", _) => Some("owner"),
        ("adm", _) => Some("admin"),
        ("dev" | "dev2", _) => Some("developer"),
        _ => None,
    }
}

fn plan_of(org: &str) -> &'static str {
    match org {
        "proco" => "pro",
        "freeco" => "free",
        _ => "enterprise",
    }
}

/// What the table says of a call for the whole organization: None is allowed.
fn organization_gate(user: &str, org: &str) -> Option<&'static str> {
    match role_of(user, org) {
        None => Some("not_member"),
        Some("developer") => Some("role_required"),
        Some(_) if plan_of(org) != "enterprise" => Some("plan_required"),
        Some(_) => None,
    }
}

fn is(refusal: &Refusal, state: &str, reason: &str, context: &str) {
    assert_eq!(refusal.state, state, "{context}: {refusal:?}");
    if !reason.is_empty() {
        assert!(refusal.detail.contains(&format!("reason={reason}")), "{context}: DETAIL wants reason={reason}: {refusal:?}");
    }
    assert!(!refusal.hint.is_empty(), "{context}: no hint: {refusal:?}");
}

fn gate(caller: &mut Caller, sql: &str, expected: Option<&str>) {
    let context = format!("{} ({:?}): {sql}", caller.role, caller.acts_as);
    match (caller.try_rows(sql), expected) {
        (Ok(rows), None) => assert_eq!(rows.len(), 1, "{context}"),
        (Ok(rows), Some(reason)) => panic!("{context}: wanted {reason}, got {rows:?}"),
        (Err(refusal), None) => panic!("{context}: should be allowed, got {refusal:?}"),
        (Err(refusal), Some("no_identity")) => {
            is(&refusal, "28000", "", &context);
            assert!(refusal.hint.contains("act_as") && refusal.hint.contains("bind_role"), "{context}: {refusal:?}");
        }
        (Err(refusal), Some(reason)) => is(&refusal, "42501", reason, &context),
    }
}

/// Every cell for one user, who is bound to a role or acted for.
fn check_user(caller: &mut Caller, user: &str) {
    for org in ORGANIZATIONS {
        for template in ORGANIZATION_CALLS {
            gate(caller, &call(template, org, user), organization_gate(user, org));
        }
        let member = role_of(user, org).map_or(Some("not_member"), |_| None);
        for template in [PROJECT, DELETED_PROJECT, ME] {
            gate(caller, &call(template, org, user), member);
        }
        if user != "riv" {
            gate(caller, &call(OWN_KEY, org, user), member);
        }
        let others = match role_of(user, org) {
            Some("developer") if user != "dev2" => Some("not_your_key"),
            _ => member,
        };
        gate(caller, &call(OTHER_KEY, org, user), others);
    }
}

#[test]
fn bound_roles() {
    let mut world = World::new("gates_bound", false);
    for user in ["own", "adm", "dev", "dev2", "out", "riv"] {
        let mut caller = world.bound(user);
        check_user(&mut caller, user);
    }
}

#[test]
fn users_that_a_backend_acts_for() {
    let mut world = World::new("gates_acting", false);
    for user in ["own", "adm", "dev", "dev2", "out", "riv", "nobody heard of"] {
        let mut caller = world.acting(user);
        check_user(&mut caller, user);
    }
}

#[test]
fn shipped_directories() {
    let mut world = World::new("gates_shipped", true);
    for user in ["own", "adm", "dev", "out"] {
        let mut caller = world.bound(user);
        check_user(&mut caller, user);
    }
}

#[test]
fn without_an_identity() {
    let mut world = World::new("gates_nobody", false);
    let role = world.backend_role();
    let may_act_but_does_not = world.caller(&role, None);
    for mut caller in [world.nobody(), may_act_but_does_not, world.creator()] {
        for org in ORGANIZATIONS.into_iter().chain(["no such organization"]) {
            for template in ORGANIZATION_CALLS.into_iter().chain([PROJECT, DELETED_PROJECT, OWN_KEY, OTHER_KEY, ME]) {
                gate(&mut caller, &call(template, org, "dev"), Some("no_identity"));
            }
        }
    }
}

#[test]
fn whoever_sees_everything() {
    let mut world = World::new("gates_all", false);
    let service = world.role("service");
    run(&mut world.client, &format!("SELECT llm.bind_role({}, all_organizations => true)", quote(&service)));
    let bypass = world.role("bypass");
    run(&mut world.client, &format!("ALTER ROLE {bypass} BYPASSRLS"));
    let log = |world: &mut World, org: &str, extra: &str| {
        text(&mut world.client, &format!("SELECT count(*) FROM public.log WHERE organization_id = '{org}' {extra}"))
    };
    for mut caller in [world.superuser(), world.caller(&service, None), world.caller(&bypass, None)] {
        for org in ORGANIZATIONS {
            for template in ORGANIZATION_CALLS.into_iter().chain([PROJECT, DELETED_PROJECT, OWN_KEY, OTHER_KEY]) {
                gate(&mut caller, &call(template, org, "dev"), None);
            }
            let answer = caller.json(&call(ORGANIZATION_CALLS[0], org, "dev"));
            assert_eq!(answer["summary"]["requestCount"].to_string(), log(&mut world, org, ""), "{} {org}", caller.role);
            let answer = caller.json(&call(DELETED_PROJECT, org, "dev"));
            let wanted = log(&mut world, org, "AND project_id LIKE '%_pd'");
            assert_eq!(answer["summary"]["requestCount"].to_string(), wanted, "{} {org}", caller.role);
            let access = caller.json(&format!("SELECT llm.access('{org}')"));
            for capability in ["projectAnalytics", "apiKeyStatistics", "organizationAnalytics", "memberAnalytics"] {
                assert_eq!(access["capabilities"][capability]["allowed"], true, "{} {org} {capability}: {access}", caller.role);
            }
        }
        for (call, reason) in [
            ("llm.analytics_project('acme', 'rival_p1', {range})", "not_found"),
            ("llm.analytics_api_key('acme', 'rival_kd', {range})", "not_found"),
            ("llm.analytics_member('acme', 'rivaldev', {range})", "not_found"),
        ] {
            let sql = format!("SELECT {}", call.replace("{range}", RANGE));
            is(&caller.refused(&sql), "P0002", reason, &format!("{} {sql}", caller.role));
        }
    }
}

/// What is allowed shows what it should, and no more.
#[test]
fn what_is_allowed_has_the_right_rows() {
    let mut world = World::new("gates_rows", false);
    let count =
        |world: &mut World, filter: &str| text(&mut world.client, &format!("SELECT count(*), sum(cost) FROM public.log WHERE {filter}"));
    for (user, org) in [("own", "proco"), ("own", "acme"), ("adm", "freeco"), ("dev", "acme"), ("dev", "freeco"), ("dev2", "proco")] {
        let mut caller = world.bound(user);
        let mine = format!("api_key_id IN (SELECT id FROM public.api_key WHERE created_by = '{user}')");
        for project in ["p1", "p2", "pd"] {
            let answer = caller.json(&format!("SELECT llm.analytics_project('{org}', '{org}_{project}', {RANGE})"));
            let mut filter = format!("project_id = '{org}_{project}'");
            if role_of(user, org) == Some("developer") {
                filter += &format!(" AND {mine}");
            }
            let wanted = text(&mut world.client, &format!("SELECT count(*) FROM public.log WHERE {filter}"));
            assert_eq!(answer["summary"]["requestCount"].to_string(), wanted, "{user} {org} {project}");
            let cost =
                text(&mut world.client, &format!("SELECT trim_scale(coalesce(sum(cost::numeric), 0)) FROM public.log WHERE {filter}"));
            assert_eq!(answer["summary"]["cost"].to_string(), cost, "{user} {org} {project}");
        }
        let answer = caller.json(&format!("SELECT llm.analytics_me('{org}', {RANGE})"));
        assert_eq!(answer["member"]["userId"], *user, "{user} {org}");
        assert_eq!(answer["member"]["role"], role_of(user, org).expect("a member"), "{user} {org}");
        let wanted = text(&mut world.client, &format!("SELECT count(*) FROM public.log WHERE organization_id = '{org}' AND {mine}"));
        assert_eq!(answer["summary"]["requestCount"].to_string(), wanted, "{user} {org}");
        assert_ne!(count(&mut world, &format!("organization_id = '{org}'")), wanted);
    }
    // Whatever a developer gets for a project that is not of this organization, it is nothing of that project.
    let mut caller = world.bound("dev");
    if let Ok(rows) = caller.try_rows(&format!("SELECT llm.analytics_project('acme', 'rival_p1', {RANGE})")) {
        let answer: Value = serde_json::from_str(&rows[0][0]).expect("JSON");
        assert_eq!(answer["summary"]["requestCount"].to_string(), "0");
        assert!(!rows[0][0].contains("Project p1"), "{answer}");
    }
}

/// The lists name what the caller may open, and nothing else.
#[test]
fn lists_for_navigation() {
    let mut world = World::new("gates_lists", false);
    // Own keys in a project of an organization one is no member of, and usage of a key and a project that no directory knows.
    run(
        &mut world.client,
        "INSERT INTO public.api_key (id, description, project_id, status, created_by) VALUES ('rival_foreign', 'Key of dev elsewhere', 'rival_p1', 'active', 'dev');
         INSERT INTO public.log (id, created_at, organization_id, project_id, api_key_id, used_model, used_provider, used_mode, cost)
            VALUES ('unlisted', '2026-06-02 13:00', 'acme', 'acme_gone', 'acme_lost', 'openai/gpt-5.5', 'openai', 'credits', 1)",
    );
    let ids = |answer: &Value, list: &str| -> Vec<String> {
        let entries = answer[list].as_array().unwrap_or_else(|| panic!("no {list}: {answer}"));
        entries.iter().map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect()
    };
    let of = |org: &str, names: &[&str]| -> Vec<String> { names.iter().map(|name| format!("{org}_{name}")).collect() };
    for user in ["own", "adm", "dev", "dev2", "out", "riv"] {
        for mut caller in [world.bound(user), world.acting(user)] {
            let answer = caller.json("SELECT llm.analytics_organizations()");
            let members: Vec<Value> = ["acme", "freeco", "proco", "rival"]
                .into_iter()
                .filter_map(|org| {
                    role_of(user, org).map(|role| json!({"id": org, "name": format!("Name of {org}"), "plan": plan_of(org), "role": role}))
                })
                .collect();
            assert_eq!(answer, json!({ "organizations": members }), "{user}");
            for org in ORGANIZATIONS {
                let lists = [format!("SELECT llm.analytics_projects('{org}')"), format!("SELECT llm.analytics_api_keys('{org}')")];
                let Some(role) = role_of(user, org) else {
                    lists.iter().for_each(|sql| gate(&mut caller, sql, Some("not_member")));
                    continue;
                };
                let (mut projects, mut keys) = match (user, role) {
                    ("dev", "developer") => (of(org, &["p1", "pd"]), of(org, &["kd", "kx"])),
                    ("dev2", "developer") => (of(org, &["p2"]), of(org, &["kd2"])),
                    _ => (of(org, &["p1", "p2", "pd"]), of(org, &["ka", "kd", "kd2", "kn", "ko", "kx"])),
                };
                match org {
                    "acme" if role != "developer" => {
                        projects.push("acme_gone".into());
                        keys.push("acme_lost".into());
                    }
                    "rival" => keys.push("rival_foreign".into()),
                    _ => {}
                }
                let mut found = ids(&caller.json(&lists[0]), "projects");
                found.sort();
                projects.sort();
                assert_eq!(found, projects, "{user} {org}");
                let mut found = ids(&caller.json(&lists[1]), "apiKeys");
                found.sort();
                keys.sort();
                assert_eq!(found, keys, "{user} {org}");
                // Each can be opened.
                for project in projects {
                    gate(&mut caller, &format!("SELECT llm.analytics_project('{org}', '{project}', {RANGE})"), None);
                    let answer = caller.json(&format!("SELECT llm.analytics_api_keys('{org}', '{project}')"));
                    for key in answer["apiKeys"].as_array().expect("a list") {
                        assert_eq!(key["projectId"], *project, "{user} {key}");
                        assert!(keys.iter().any(|of| key["id"] == **of), "{user} {key}");
                    }
                }
                for key in keys {
                    gate(&mut caller, &format!("SELECT llm.analytics_api_key('{org}', '{key}', {RANGE})"), None);
                }
                let other = if org == "rival" { "acme_p1" } else { "rival_p1" };
                let elsewhere = caller.json(&format!("SELECT llm.analytics_api_keys('{org}', '{other}')"));
                assert_eq!(elsewhere, json!({ "apiKeys": [] }), "{user} {org}");
            }
        }
    }
    for list in ["analytics_organizations()", "analytics_projects('acme')", "analytics_api_keys('acme')"] {
        gate(&mut world.nobody(), &format!("SELECT llm.{list}"), Some("no_identity"));
    }
    let mut all = world.superuser();
    assert_eq!(ids(&all.json("SELECT llm.analytics_organizations()"), "organizations"), ["acme", "freeco", "proco", "rival"]);
}

/// NULL where a value is needed comes first; then values; each in every function that has the argument.
#[test]
fn arguments() {
    let mut world = World::new("gates_arguments", false);
    let nulls = [
        ("llm.analytics_activity(NULL)", "org"),
        ("llm.analytics_activity('acme', NULL)", "group_by"),
        ("llm.analytics_activity('acme', tz => NULL)", "tz"),
        ("llm.activity(NULL)", "org"),
        ("llm.activity('acme', NULL)", "group_by"),
        ("llm.activity('acme', tz => NULL)", "tz"),
        ("llm.analytics_project(NULL, 'acme_p1')", "org"),
        ("llm.analytics_project('acme', NULL)", "project"),
        ("llm.analytics_project('acme', 'acme_p1', tz => NULL)", "tz"),
        ("llm.analytics_project('acme', 'acme_p1', model_view => NULL)", "model_view"),
        ("llm.analytics_api_key(NULL, 'acme_kd')", "org"),
        ("llm.analytics_api_key('acme', NULL)", "api_key"),
        ("llm.analytics_api_key('acme', 'acme_kd', tz => NULL)", "tz"),
        ("llm.analytics_api_key('acme', 'acme_kd', model_view => NULL)", "model_view"),
        ("llm.analytics_members(NULL)", "org"),
        ("llm.analytics_members('acme', tz => NULL)", "tz"),
        ("llm.members(NULL)", "org"),
        ("llm.members('acme', tz => NULL)", "tz"),
        ("llm.analytics_member(NULL, 'dev')", "org"),
        ("llm.analytics_member('acme', NULL)", "user_id"),
        ("llm.analytics_member('acme', 'dev', tz => NULL)", "tz"),
        ("llm.analytics_member('acme', 'dev', model_view => NULL)", "model_view"),
        ("llm.analytics_me(NULL)", "org"),
        ("llm.analytics_me('acme', tz => NULL)", "tz"),
        ("llm.analytics_me('acme', model_view => NULL)", "model_view"),
        ("llm.analytics_projects(NULL)", "org"),
        ("llm.analytics_api_keys(NULL)", "org"),
        ("llm.analytics_drivers(NULL)", "org"),
        ("llm.analytics_drivers('acme', tz => NULL)", "tz"),
    ];
    // Who asks does not matter yet, nor does the wrong zone beside the NULL.
    let mut callers = [world.nobody(), world.bound("own"), world.bound("out"), world.superuser()];
    for caller in &mut callers {
        for (call, argument) in nulls {
            let refusal = caller.refused(&format!("SELECT {call}"));
            assert_eq!(refusal.state, "22004", "{call}: {refusal:?}");
            let said = format!("{} {} {}", refusal.message, refusal.detail, refusal.hint);
            assert!(said.contains(argument), "{call} does not name {argument}: {refusal:?}");
        }
        let refusal = caller.refused("SELECT llm.analytics_project('acme', NULL, '2026-06-02', '2026-06-01', 'Mars/Olympus')");
        assert_eq!(refusal.state, "22004", "{refusal:?}");
        check_values(caller);
    }
}

const VALUES: [(&str, &str); 12] = [
    ("tz => 'Mars/Olympus'", ""),
    ("tz => ''", ""),
    ("tz => '+05:30'", ""),
    ("tz => '<+03>-3'", ""),
    ("\"from\" => '2026-06-02', \"to\" => '2026-06-01'", ""),
    ("\"from\" => '2016-01-01', \"to\" => '2026-06-01'", ""),
    ("\"from\" => 'infinity'", ""),
    ("\"from\" => '-infinity', \"to\" => '2026-06-01'", ""),
    ("\"to\" => 'infinity'", ""),
    ("\"from\" => '2026-06-01', \"to\" => 'infinity'", ""),
    ("\"from\" => '4713-01-01 BC', \"to\" => '5874897-12-31'", ""),
    ("\"from\" => '2016-01-01', \"to\" => '2026-06-01', tz => 'Asia/Kolkata'", ""),
];

fn check_values(caller: &mut Caller) {
    let organization_wide = ["llm.analytics_activity('{o}'", "llm.activity('{o}'", "llm.analytics_members('{o}'", "llm.members('{o}'"];
    let others = [
        "llm.analytics_project('{o}', 'x'",
        "llm.analytics_api_key('{o}', 'x'",
        "llm.analytics_member('{o}', 'x'",
        "llm.analytics_me('{o}'",
        "llm.analytics_drivers('{o}'",
    ];
    let refuse = |caller: &mut Caller, call: String, listed: &str| {
        for org in ["acme", "proco", "rival", "no such organization"] {
            let sql = format!("SELECT {}", call.replace("{o}", org));
            let refusal = caller.refused(&sql);
            is(&refusal, "22023", "", &sql);
            assert!(refusal.hint.contains(listed), "{sql}: the hint lists {listed}: {refusal:?}");
        }
    };
    for function in organization_wide.into_iter().chain(others) {
        for (argument, listed) in VALUES {
            refuse(caller, format!("{function}, {argument})"), listed);
        }
    }
    for group in ["colour", "", "models", "api key"] {
        refuse(caller, format!("llm.analytics_activity('{{o}}', {})", quote(group)), "mapping");
        refuse(caller, format!("llm.activity('{{o}}', {})", quote(group)), "mapping");
    }
    for top in ["0", "-1", "-2147483648"] {
        refuse(caller, format!("llm.analytics_activity('{{o}}', top => {top})"), "");
    }
    for view in ["", "colour"] {
        for function in [others[0], others[1], others[2], others[3]] {
            refuse(caller, format!("{function}, model_view => {})", quote(view)), "canonical");
            refuse(caller, format!("{function}, model_view => {})", quote(view)), "mappings");
        }
    }
    for compare in ["'2026-06-02', '2026-06-01'", "'-infinity', '2026-06-01'", "'2026-06-01', 'infinity'", "'2000-01-01', '2026-06-01'"] {
        refuse(caller, format!("llm.analytics_drivers('{{o}}', {RANGE}, 'UTC', {compare})"), "");
    }
}

/// Two mistakes at once: the earlier one of the table is reported.
#[test]
fn order_of_the_mistakes() {
    let mut world = World::new("gates_order", false);
    let mut callers = ["own", "dev", "out"].map(|user| (user, world.bound(user)));
    for (user, call, state, reason) in [
        // not a member: whatever else is wrong
        ("out", "llm.analytics_project('acme', 'nothing', {range})", "42501", "not_member"),
        ("out", "llm.analytics_project('nowhere', 'nothing', {range})", "42501", "not_member"),
        ("out", "llm.analytics_api_key('acme', 'acme_ko', {range})", "42501", "not_member"),
        ("out", "llm.analytics_api_key('acme', 'nothing', {range})", "42501", "not_member"),
        ("out", "llm.analytics_member('proco', 'nobody', {range})", "42501", "not_member"),
        ("dev", "llm.analytics_activity('rival', 'model', {range})", "42501", "not_member"),
        ("dev", "llm.analytics_api_key('rival', 'rival_kd', {range})", "42501", "not_member"),
        ("dev", "llm.analytics_me('ghost', {range})", "42501", "not_member"),
        ("dev", "llm.analytics_me('', {range})", "42501", "not_member"),
        ("own", "llm.analytics_members('ghost', {range})", "42501", "not_member"),
        // the role before the plan, and before what is asked for
        ("dev", "llm.analytics_activity('proco', 'model', {range})", "42501", "role_required"),
        ("dev", "llm.analytics_drivers('freeco', {range})", "42501", "role_required"),
        ("dev", "llm.analytics_member('proco', 'nobody', {range})", "42501", "role_required"),
        ("dev", "llm.analytics_member('acme', 'dev', {range})", "42501", "role_required"),
        // the plan before what is asked for
        ("own", "llm.analytics_member('proco', 'nobody', {range})", "42501", "plan_required"),
        ("own", "llm.analytics_member('freeco', 'rivaldev', {range})", "42501", "plan_required"),
        // somebody else's key and no key at all look the same
        ("dev", "llm.analytics_api_key('acme', 'acme_ko', {range})", "42501", "not_your_key"),
        ("dev", "llm.analytics_api_key('acme', 'acme_kn', {range})", "42501", "not_your_key"),
        ("dev", "llm.analytics_api_key('acme', 'rival_kd2', {range})", "42501", "not_your_key"),
        ("dev", "llm.analytics_api_key('acme', 'nothing', {range})", "42501", "not_your_key"),
        ("dev", "llm.analytics_api_key('acme', '', {range})", "42501", "not_your_key"),
        // an admin learns that there is none, on any plan
        ("own", "llm.analytics_project('acme', 'nothing', {range})", "P0002", "not_found"),
        ("own", "llm.analytics_project('proco', 'acme_p1', {range})", "P0002", "not_found"),
        ("own", "llm.analytics_project('acme', 'rival_p1', {range})", "P0002", "not_found"),
        ("own", "llm.analytics_api_key('freeco', 'nothing', {range})", "P0002", "not_found"),
        ("own", "llm.analytics_api_key('acme', 'rival_kd', {range})", "P0002", "not_found"),
        ("own", "llm.analytics_member('acme', 'nobody', {range})", "P0002", "not_found"),
        ("own", "llm.analytics_member('acme', 'rivaldev', {range})", "P0002", "not_found"),
    ] {
        let caller = &mut callers.iter_mut().find(|(name, _)| *name == user).expect("a caller").1;
        let sql = format!("SELECT {}", call.replace("{range}", RANGE));
        is(&caller.refused(&sql), state, reason, &sql);
        // and before all of them, the values
        let sql = format!("SELECT {}", call.replace("{range}", "'2026-06-02', '2026-06-01'"));
        is(&caller.refused(&sql), "22023", "", &sql);
    }
    let dev = &mut callers[1].1;
    let messages: Vec<Refusal> = ["acme_ko", "nothing", "rival_kd2"]
        .map(|key| dev.refused(&format!("SELECT llm.analytics_api_key('acme', '{key}', {RANGE})")))
        .into();
    let shape = |r: &Refusal| format!("{} {} {}", r.message, r.detail, r.hint);
    for (refusal, key) in messages.iter().zip(["acme_ko", "nothing", "rival_kd2"]) {
        let other = shape(&messages[0]).replace("acme_ko", key);
        assert_eq!(shape(refusal), other, "an existing key is told from one that does not exist");
    }
}

/// Admin roles and enterprise plans are words of the configuration that a session cannot change.
#[test]
fn words_that_count_cannot_be_set() {
    let mut world = World::new("gates_words", false);
    let mut dev = world.bound("dev");
    for setting in ["llm.admin_roles", "llm.enterprise_plans"] {
        for sql in [
            format!("SET {setting} = 'developer,free,pro'"),
            format!("SELECT set_config('{setting}', 'developer,free,pro', false)"),
            format!("ALTER ROLE CURRENT_USER SET {setting} = 'developer,free,pro'"),
        ] {
            let refusal = dev.refused(&sql);
            assert!(["55P02", "42501"].contains(&refusal.state.as_str()), "{sql}: {refusal:?}");
        }
    }
    gate(&mut dev, &call(ORGANIZATION_CALLS[0], "acme", "dev"), Some("role_required"));
}

fn capabilities(general: Option<&str>, organization: Option<&str>) -> Value {
    let c = |reason: Option<&str>| json!({"allowed": reason.is_none(), "reason": reason});
    json!({"projectAnalytics": c(general), "apiKeyStatistics": c(general), "ownUsage": c(general),
           "organizationAnalytics": c(organization), "memberAnalytics": c(organization)})
}

#[test]
fn access_says_it_beforehand() {
    let mut world = World::new("gates_access", false);
    let odd = ["''", "'no such organization'", "repeat('x', 10485760)", "E'a\\x01\\n''\"\\\\'", "'Ünï'", "NULL"];
    let check = |caller: &mut Caller, org: &str, user: Option<&str>| {
        let answer = caller.json(&format!("SELECT llm.access({org})"));
        let plain = org.trim_matches('\'');
        let keys: Vec<&String> = answer.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["organization", "plan", "role", "capabilities"], "{answer}");
        let role = user.and_then(|user| role_of(user, plain)).filter(|_| ORGANIZATIONS.contains(&plain));
        let (general, organization) = match (user, role) {
            (None, _) => (Some("no_identity"), Some("no_identity")),
            (Some(_), None) => (Some("not_member"), Some("not_member")),
            (Some(user), Some(_)) => (None, organization_gate(user, plain)),
        };
        let context = format!("{user:?} {}: {answer}", org.chars().take(40).collect::<String>());
        assert_eq!(answer["capabilities"].to_string(), capabilities(general, organization).to_string(), "{context}");
        match role {
            None => assert!(["organization", "plan", "role"].iter().all(|key| answer[key].is_null()), "{context}"),
            Some(role) => {
                assert_eq!((answer["role"].as_str(), answer["plan"].as_str()), (Some(role), Some(plan_of(plain))), "{context}");
                assert!(answer["organization"].to_string().contains(plain), "{context}");
            }
        }
    };
    for user in ["own", "adm", "dev", "out", "riv"] {
        for mut caller in [world.bound(user), world.acting(user)] {
            for org in ORGANIZATIONS {
                check(&mut caller, &quote(org), Some(user));
            }
            for org in odd {
                check(&mut caller, org, Some(user));
            }
        }
    }
    let mut nobody = world.nobody();
    for org in ORGANIZATIONS.map(quote).iter().map(String::as_str).chain(odd) {
        check(&mut nobody, org, None);
    }
    let mut superuser = world.superuser();
    for org in odd {
        assert!(superuser.json(&format!("SELECT llm.access({org})"))["capabilities"].is_object(), "{org}");
    }
}
