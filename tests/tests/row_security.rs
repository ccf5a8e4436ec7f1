//! What a SELECT shows: the rows of the caller and no others, from the view and from every table beneath, by every way of
//! asking that PostgreSQL offers to whoever may write SQL.

use llm_analytics_tests::db::{quote, refused, rows, run, text};
use llm_analytics_tests::world::{Caller, World, visible};
use postgres::{Client, NoTls};
use std::io::Read;
use std::sync::{Arc, Mutex};

const USERS: [&str; 6] = ["own", "adm", "dev", "dev2", "out", "riv"];
const SUMS: &str = "SELECT organization_id, api_key_id, sum(requests), trim_scale(sum(cost)) FROM llm.usage GROUP BY 1, 2 HAVING sum(requests) <> 0 ORDER BY 1, 2";

/// The same from the log.
fn allowed(client: &mut Client, user: &str) -> Vec<Vec<String>> {
    let sql = format!(
        "SELECT organization_id, api_key_id, count(*), trim_scale(sum(cost::numeric)) FROM {} v GROUP BY 1, 2 ORDER BY organization_id COLLATE \"C\", api_key_id COLLATE \"C\"",
        visible(user)
    );
    rows(client, &sql)
}

/// Organizations of which a user sees all rows; and keys whose rows they see besides.
fn whole_organizations(user: &str) -> String {
    format!(
        "(SELECT m.organization_id FROM public.user_organization m JOIN public.organization o ON o.id = m.organization_id
          WHERE m.user_id = '{user}' AND m.role IN ('owner', 'admin') AND o.plan = 'enterprise' AND o.status <> 'deleted')"
    )
}

fn own_keys(user: &str) -> String {
    format!(
        "(SELECT k.id FROM public.api_key k JOIN public.project p ON p.id = k.project_id JOIN public.organization o ON o.id = p.organization_id AND o.status <> 'deleted'
          JOIN public.user_organization m ON m.organization_id = o.id AND m.user_id = k.created_by WHERE k.created_by = '{user}')"
    )
}

/// Every table and view of the schema that is readable by everybody.
fn open_relations(client: &mut Client) -> Vec<String> {
    let sql = "SELECT DISTINCT c.oid::regclass::text FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = 'llm'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND a.grantee = 0 AND a.privilege_type = 'SELECT' ORDER BY 1";
    let found: Vec<String> = rows(client, sql).into_iter().map(|mut row| row.remove(0)).collect();
    assert!(found.iter().any(|name| name == "llm.usage"), "llm.usage is not open: {found:?}");
    found
}

/// Everybody sees in llm.usage and beneath what the table of section 6 says.
fn check_rows(shipped: bool) {
    let mut world = World::new("rows", shipped);
    let partitions: Vec<String> = rows(&mut world.client, "SELECT relid::regclass::text FROM pg_partition_tree('llm.rollup') WHERE isleaf")
        .into_iter()
        .map(|mut row| row.remove(0))
        .collect();
    for user in USERS {
        let wanted = allowed(&mut world.client, user);
        assert_eq!(wanted.is_empty(), user == "out", "{user}: the test's own data");
        for mut caller in [world.bound(user), world.acting(user)] {
            assert_eq!(caller.rows(SUMS), wanted, "{user}");
            beneath(&mut world, &mut caller, user, &partitions);
        }
    }
    let mut own = world.bound("own");
    assert_eq!(
        own.rows("SELECT DISTINCT organization_id, organization, project_id, project, api_key_id, api_key, user_id, user_name, model, mapping FROM llm.usage WHERE api_key_id = 'acme_kd'"),
        [["acme", "Name of acme", "acme_p1", "Project p1 of acme", "acme_kd", "Key kd of acme", "dev", "Name of user dev", "gpt-5.5", "openai/gpt-5.5"]],
        "labels beside ids"
    );
    assert_eq!(own.rows("SELECT DISTINCT user_id, user_name FROM llm.usage WHERE api_key_id = 'acme_kn'"), [["NULL", "Unattributed"]]);
}

fn beneath(world: &mut World, caller: &mut Caller, user: &str, partitions: &[String]) {
    let (whole, keys) = (whole_organizations(user), own_keys(user));
    // Coarser levels mix the keys of many, so an own-key reader has rows of the detail (0) and key (3) levels only.
    let visible_series = format!(
        "llm.series s JOIN llm._org g ON g.org = s.org WHERE g.organization_id IN {whole} OR (s.level IN (0, 3) AND s.api_key_id IN {keys})"
    );
    let sql = format!(
        "SELECT r.level, sum(llm._count(r.measures, 0)), trim_scale(sum(llm._amount(r.measures, 0))) FROM llm.rollup r WHERE r.series IN (SELECT s.id FROM {visible_series}) GROUP BY 1 ORDER BY 1"
    );
    let wanted = rows(&mut world.client, &sql);
    assert_eq!(
        caller.rows(
            "SELECT level, sum(llm._count(measures, 0)), trim_scale(sum(llm._amount(measures, 0))) FROM llm.rollup GROUP BY 1 ORDER BY 1"
        ),
        wanted,
        "{user}: llm.rollup"
    );
    let mut seen = Vec::new();
    for partition in partitions {
        match caller.try_rows(&format!(
            "SELECT level, sum(llm._count(measures, 0)), trim_scale(sum(llm._amount(measures, 0))) FROM {partition} GROUP BY 1 ORDER BY 1"
        )) {
            Ok(found) => {
                assert!(found.iter().all(|row| wanted.contains(row)), "{user}: {partition} has {found:?}, llm.rollup {wanted:?}");
                seen.extend(found);
            }
            Err(refusal) => assert_eq!(refusal.state, "42501", "{user}: {partition}: {refusal:?}"),
        }
    }
    assert!(seen.len() <= wanted.len(), "{user}: {seen:?}");
    let wanted = rows(&mut world.client, &format!("SELECT s.id FROM {visible_series} ORDER BY 1"));
    assert_eq!(caller.rows("SELECT id FROM llm.series ORDER BY 1"), wanted, "{user}: llm.series");
    let wanted = rows(
        &mut world.client,
        &format!(
            "SELECT organization_id, api_key_id, measures::text FROM llm._pending WHERE organization_id IN {whole} OR api_key_id IN {keys} ORDER BY 1, 2"
        ),
    );
    assert_eq!(wanted.is_empty(), user == "out");
    assert_eq!(
        caller.rows("SELECT organization_id, api_key_id, measures::text FROM llm._pending ORDER BY 1, 2"),
        wanted,
        "{user}: llm._pending"
    );
}

#[test]
fn rows_with_the_hosts_directories() {
    check_rows(false);
}

#[test]
fn rows_with_the_shipped_directories() {
    check_rows(true);
}

#[test]
fn closed_by_default() {
    for shipped in [false, true] {
        let mut world = World::new("closed", shipped);
        let role = world.backend_role();
        let backend = world.caller(&role, None);
        let open = open_relations(&mut world.client);
        for mut caller in [world.nobody(), backend, world.creator()] {
            for relation in open.iter().filter(|name| *name != "llm.model_alias") {
                assert_eq!(caller.text(&format!("SELECT count(*) FROM {relation}")), "0", "{relation}");
            }
            assert_eq!(caller.refused("SELECT * FROM llm.status").state, "42501");
            for write in [
                "DELETE FROM llm._pending",
                "UPDATE llm.rollup SET measures = '{}'",
                "TRUNCATE llm.series",
                "INSERT INTO llm.membership VALUES ('acme', 'x', 'owner')",
                "CREATE TABLE llm.mine ()",
            ] {
                assert_eq!(caller.refused(write).state, "42501", "{write}");
            }
        }
        // Row security holds for every table of the schema, so that a grant alone opens nothing.
        let unprotected = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'llm'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity";
        assert!(rows(&mut world.client, unprotected).is_empty(), "{:?}", rows(&mut world.client, unprotected));
        let service = world.role("service");
        run(&mut world.client, &format!("SELECT llm.bind_role({}, all_organizations => true)", quote(&service)));
        let all = "SELECT organization_id, api_key_id, count(*), trim_scale(sum(cost::numeric)) FROM public.log GROUP BY 1, 2 ORDER BY organization_id COLLATE \"C\", api_key_id COLLATE \"C\"";
        let wanted = rows(&mut world.client, all);
        assert_eq!(world.caller(&service, None).rows(SUMS), wanted, "a role bound to all organizations");
        assert_eq!(world.superuser().rows(SUMS), wanted, "a superuser");
    }
}

/// No name and no id of another organization, through anything that everybody may read.
#[test]
fn names_do_not_leak() {
    for shipped in [false, true] {
        let mut world = World::new("names", shipped);
        run(&mut world.client, "ANALYZE");
        let mut open = open_relations(&mut world.client);
        open.extend(["pg_catalog.pg_stats", "pg_catalog.pg_stats_ext"].map(str::to_owned));
        let mut callers: Vec<(&str, Caller)> =
            USERS.into_iter().filter(|user| *user != "riv").map(|user| (user, world.bound(user))).collect();
        callers.extend([("nobody", world.nobody()), ("creator", world.creator())]);
        for (user, mut caller) in callers {
            for relation in &open {
                let narrow = if relation.starts_with("pg_catalog.") { "AND schemaname = 'llm'" } else { "" };
                let found = caller.rows(&format!("SELECT t::text FROM {relation} t WHERE t::text ~* 'rival' {narrow} LIMIT 3"));
                assert!(found.is_empty(), "{user} reads {relation}: {found:?}");
            }
            assert!(!caller.text("SELECT llm.access('rival')").contains("Name of rival"));
            for call in [
                "llm.analytics_activity('rival')",
                "llm.analytics_project('rival', 'rival_p1')",
                "llm.analytics_api_key('acme', 'rival_kn')",
                "llm.analytics_api_key('rival', 'rival_kn')",
                "llm.analytics_members('rival')",
                "llm.analytics_member('rival', 'rivaldev')",
                "llm.analytics_me('rival')",
                "llm.analytics_drivers('rival')",
            ] {
                let refusal = caller.refused(&format!("SELECT {call}"));
                for name in ["p1 of rival", "kn of rival", "Name of"] {
                    assert!(!format!("{refusal:?}").contains(name), "{call}: {refusal:?}");
                }
            }
        }
        // A developer who sees some rows does not see those of colleagues in the tables that hold usage.
        let mut dev = world.bound("dev");
        for relation in ["llm.usage", "llm._pending", "llm.series"] {
            let found = dev.rows(&format!("SELECT t::text FROM {relation} t WHERE t::text ~ '(acme|proco|freeco)_(ko|ka|kd2|kn)' LIMIT 3"));
            assert!(found.is_empty(), "dev reads {relation}: {found:?}");
        }
    }
}

/// Own views, functions, cursors, COPY, prepared statements, plans: always the same rows.
#[test]
fn by_every_way_of_asking() {
    let mut world = World::new("ways", false);
    for user in ["adm", "dev", "out", "unbound"] {
        let wanted = allowed(&mut world.client, user);
        let role = if user == "unbound" { world.role(user) } else { world.bound_role(user) };
        run(&mut world.client, &format!("CREATE SCHEMA s_{user} AUTHORIZATION {role}"));
        let mut client = world.db.connect_as(&role);
        let same = |client: &mut Client, sql: &str| assert_eq!(rows(client, sql), wanted, "{user}: {sql}");
        let from = |relation: &str| SUMS.replace("llm.usage", relation);
        run(
            &mut client,
            &format!(
                "SET search_path = s_{user}, public;
                 CREATE VIEW plain AS SELECT * FROM llm.usage; CREATE VIEW invoker WITH (security_invoker = true) AS SELECT * FROM llm.usage;
                 CREATE VIEW twice AS SELECT * FROM plain;
                 CREATE FUNCTION inlined() RETURNS SETOF llm.usage LANGUAGE sql STABLE AS 'SELECT * FROM llm.usage';
                 CREATE FUNCTION looped() RETURNS SETOF llm.usage LANGUAGE plpgsql AS 'BEGIN RETURN QUERY EXECUTE ''SELECT * FROM llm.usage''; END';
                 CREATE TABLE copied AS SELECT * FROM llm.usage"
            ),
        );
        // To fill one is a security-restricted operation, in which nobody is told so.
        let keep = "CREATE MATERIALIZED VIEW kept AS SELECT * FROM llm.usage";
        if user == "unbound" {
            assert_eq!(refused(&mut client, keep).state, "28000", "{user}: {keep}");
            run(&mut client, "CREATE TABLE kept AS SELECT * FROM llm.usage");
        } else {
            run(&mut client, keep);
        }
        for relation in [
            "plain",
            "invoker",
            "twice",
            "kept",
            "copied",
            "inlined()",
            "looped()",
            "(TABLE llm.usage) x",
            "llm.usage TABLESAMPLE SYSTEM (100)",
        ] {
            if relation.contains("TABLESAMPLE") {
                refused(&mut client, &from(relation));
            } else {
                same(&mut client, &from(relation));
            }
        }
        same(&mut client, &format!("WITH RECURSIVE u AS (SELECT * FROM llm.usage) {}", from("u")));
        run(&mut client, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM llm.usage");
        let mut count = 0;
        while !rows(&mut client, "FETCH 7 FROM c").is_empty() {
            count += 1;
        }
        let usage_rows: u32 = text(&mut client, "SELECT count(*) FROM llm.usage").parse().expect("a count");
        assert_eq!(count, usage_rows.div_ceil(7), "{user}: a cursor");
        run(&mut client, "COMMIT");
        let mut copy = String::new();
        client.copy_out(&format!("COPY ({SUMS}) TO STDOUT")).expect("COPY").read_to_string(&mut copy).expect("text");
        let copied: Vec<Vec<String>> = copy.lines().map(|line| line.split('\t').map(|f| f.replace("\\N", "NULL")).collect()).collect();
        assert_eq!(copied, wanted, "{user}: COPY");
        for table in ["llm._pending", "llm.series"] {
            let mut all = String::new();
            if let Ok(mut reader) = client.copy_out(&format!("COPY {table} TO STDOUT")) {
                reader.read_to_string(&mut all).expect("text");
            }
            assert!(!(all.contains("rival") || user == "dev" && all.contains("acme_ko")), "{user}: COPY {table}");
        }
        let plan = rows(&mut client, &format!("EXPLAIN (ANALYZE, VERBOSE) {SUMS}")).concat().join("\n");
        assert!(!plan.contains("rival") && plan.contains("actual"), "{user}:\n{plan}");
        let version: u32 = text(&mut client, "SHOW server_version_num").parse().expect("a number");
        let force = if version >= 160_000 { "debug_parallel_query" } else { "force_parallel_mode" };
        run(
            &mut client,
            &format!(
                "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0; SET max_parallel_workers_per_gather = 4; SET {force} = on"
            ),
        );
        same(&mut client, SUMS);
        same(&mut client, &from("plain"));
        run(&mut client, "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off");
        same(&mut client, SUMS);
        run(&mut client, "SET enable_nestloop = off; SET enable_mergejoin = on; SET enable_seqscan = off; RESET enable_indexscan");
        same(&mut client, SUMS);
        // Whoever turns row security off is told that it is on.
        run(&mut client, "SET row_security = off");
        assert_eq!(refused(&mut client, SUMS).state, "42501", "{user}: row_security = off");
    }
}

/// Parallel plans under an identity that only this transaction has.
#[test]
fn parallel_plans_of_a_backend() {
    let mut world = World::new("parallel", false);
    let wanted = ["own", "dev", "riv"].map(|user| (user, allowed(&mut world.client, user)));
    let role = world.backend_role();
    let mut client = world.caller(&role, None).client;
    let version: u32 = text(&mut client, "SHOW server_version_num").parse().expect("a number");
    let force = if version >= 160_000 { "debug_parallel_query" } else { "force_parallel_mode" };
    run(
        &mut client,
        &format!(
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 4; SET {force} = on"
        ),
    );
    run(&mut client, &format!("PREPARE q AS {SUMS}"));
    for mode in ["force_generic_plan", "force_custom_plan", "auto"] {
        run(&mut client, &format!("SET plan_cache_mode = {mode}"));
        for (user, wanted) in &wanted {
            run(&mut client, &format!("BEGIN; SELECT llm.act_as('{user}')"));
            for sql in [SUMS, "EXECUTE q"] {
                assert_eq!(&rows(&mut client, sql), wanted, "{mode} {user}: {sql}");
            }
            run(&mut client, "COMMIT");
            assert!(rows(&mut client, "EXECUTE q").is_empty() && rows(&mut client, SUMS).is_empty(), "{mode} after {user}");
        }
    }
    // One session that is several bound roles in turn, with one prepared statement.
    let (own, dev, pool) = (world.bound_role("own"), world.bound_role("dev"), world.role("pool"));
    run(&mut world.client, &format!("GRANT {own}, {dev} TO {pool}; ALTER ROLE {pool} NOINHERIT"));
    let mut client = world.db.connect_as(&pool);
    run(&mut client, &format!("SET plan_cache_mode = force_generic_plan; SET ROLE {own}; PREPARE q AS {SUMS}"));
    for (role, user) in [(&own, 0), (&dev, 1), (&own, 0), (&dev, 1)] {
        run(&mut client, &format!("SET ROLE {role}"));
        assert_eq!(rows(&mut client, "EXECUTE q"), wanted[user].1, "{}", wanted[user].0);
    }
    run(&mut client, "RESET ROLE");
    assert!(rows(&mut client, "EXECUTE q").is_empty(), "the pool's own role is nobody");
}

/// Functions and operators of the reader's own, cheap enough to be tried first, see only the rows that the reader may see.
#[test]
fn leaky_functions_see_nothing_else() {
    for shipped in [false, true] {
        let mut world = World::new("leaky", shipped);
        let open = open_relations(&mut world.client);
        for user in ["adm", "dev", "out", "unbound"] {
            let role = if user == "unbound" { world.role(user) } else { world.bound_role(user) };
            run(&mut world.client, &format!("CREATE SCHEMA s_{user} AUTHORIZATION {role}; GRANT USAGE ON SCHEMA s_{user} TO PUBLIC"));
            let seen = Arc::new(Mutex::new(Vec::<String>::new()));
            let notices = Arc::clone(&seen);
            let mut config = world.db.server.config(&world.db.name, &role);
            config.notice_callback(move |notice| notices.lock().expect("notices").push(notice.message().to_owned()));
            let mut client = config.connect(NoTls).expect("connect");
            run(
                &mut client,
                &format!(
                    "SET search_path = s_{user}, public; SET client_min_messages = notice;
                     CREATE FUNCTION peek(t text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS 'BEGIN RAISE NOTICE ''saw %'', t; RETURN true; END';
                     CREATE FUNCTION peek2(t text, x text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS 'BEGIN RAISE NOTICE ''saw %'', t; RETURN true; END';
                     CREATE OPERATOR <<< (FUNCTION = peek2, LEFTARG = text, RIGHTARG = text)"
                ),
            );
            for parallel in [
                "",
                "SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0; SET enable_indexscan = off; SET enable_hashjoin = off",
            ] {
                run(&mut client, parallel);
                for relation in &open {
                    for condition in ["peek(t::text)", "t::text <<< ''", "NOT peek(t::text)", "peek(t::text) AND t::text LIKE '%rival%'"] {
                        rows(&mut client, &format!("SELECT count(*) FROM {relation} t WHERE {condition}"));
                    }
                }
                for condition in [
                    "peek(organization_id)",
                    "peek(api_key_id)",
                    "peek(project)",
                    "user_name <<< ''",
                    "peek(cost::text || api_key)",
                    "organization_id = 'rival' AND peek(api_key)",
                ] {
                    rows(&mut client, &format!("SELECT count(*) FROM llm.usage WHERE {condition}"));
                    rows(&mut client, &format!("SELECT {condition} FROM llm.usage ORDER BY peek(api_key_id) LIMIT 5"));
                }
            }
            let seen = seen.lock().expect("notices");
            // What was seen at all shows that the functions do run.
            let none = ["out", "unbound"].contains(&user);
            assert_eq!(seen.iter().any(|s| s.contains(&format!("_k{}", &user[..1]))), !none, "{user}: {} notices", seen.len());
            for line in seen.iter() {
                assert!(!line.contains("rival"), "{user} saw: {line}");
            }
            // A cast that fails shows the value it failed on.
            for sql in [
                "SELECT FROM llm._pending WHERE api_key_id::int = 1",
                "SELECT FROM llm.series WHERE (api_key_id || project_id)::int = 1",
                "SELECT FROM llm.usage WHERE api_key::int = 1",
            ] {
                match client.batch_execute(sql) {
                    Ok(()) => assert!(none, "{user}: {sql}"),
                    Err(error) => {
                        let refusal = llm_analytics_tests::db::refusal(&error);
                        assert_eq!(refusal.state, "22P02", "{sql}: {refusal:?}");
                        let colleague = ["_ko", "_ka", "_kd2", "_kn"].iter().any(|key| refusal.message.contains(key));
                        assert!(!(refusal.message.contains("rival") || user == "dev" && colleague), "{user}: {refusal:?}");
                    }
                }
            }
        }
    }
}

fn nodes(plan: &serde_json::Value, found: &mut Vec<serde_json::Value>) {
    match plan {
        serde_json::Value::Array(items) => items.iter().for_each(|item| nodes(item, found)),
        serde_json::Value::Object(fields) => {
            if fields.contains_key("Node Type") {
                found.push(plan.clone());
            }
            fields.values().for_each(|value| nodes(value, found));
        }
        _ => {}
    }
}

/// The policies leave the planner the organization's index range.
#[test]
fn the_index_range_of_the_organization_is_used() {
    let mut world = World::new("index", false);
    run(
        &mut world.client,
        "INSERT INTO public.log (id, created_at, organization_id, project_id, api_key_id, used_model, used_provider, cost)
         SELECT i::text, timestamp '2026-05-01' + i % 500 * interval '1 hour', 'org' || i % 400, 'p', 'k' || i % 7, 'm', 'p', 0.25
         FROM generate_series(1, 60000) i",
    );
    run(&mut world.client, "SELECT llm.fold()");
    run(&mut world.client, "VACUUM ANALYZE");
    let partitions: Vec<String> =
        rows(&mut world.client, "SELECT c.relname FROM pg_partition_tree('llm.rollup') t JOIN pg_class c ON c.oid = t.relid")
            .into_iter()
            .map(|mut row| row.remove(0))
            .collect();
    let wanted = allowed(&mut world.client, "riv");
    let mut admin = world.bound("riv");
    assert_eq!(admin.rows(SUMS), wanted);
    for sql in ["SELECT sum(cost) FROM llm.usage", "SELECT sum(cost) FROM llm.usage WHERE bucket >= '2026-05-01' AND bucket < '2026-07-01'"]
    {
        let plan = admin.json(&format!("EXPLAIN (FORMAT JSON) {sql}"));
        let mut found = Vec::new();
        nodes(&plan, &mut found);
        let of_rollup: Vec<_> =
            found.iter().filter(|n| n["Relation Name"].as_str().is_some_and(|name| partitions.iter().any(|p| p == name))).collect();
        assert!(!of_rollup.is_empty(), "no scan of the rollup: {plan}");
        for node in of_rollup {
            assert_ne!(node["Node Type"], "Seq Scan", "{sql}: {plan}");
        }
        let condition = found
            .iter()
            .filter_map(|n| n["Index Cond"].as_str())
            .any(|cond| cond.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "org"));
        assert!(condition, "{sql}: no index condition on the organization: {plan:#}");
    }
}
