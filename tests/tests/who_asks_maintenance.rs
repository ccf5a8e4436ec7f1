//! Code of a table's owner that somebody else's maintenance runs: ANALYZE, autovacuum, REINDEX, REFRESH and the like, our own
//! worker, triggers, expressions of mappings and directories. It has the identity of that owner and of nobody else.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{has_amcheck, quote, refused, rows, run, text, wait_for};
use llm_analytics_tests::world::{World, visible};
use postgres::Client;

/// What the hostile code asks. Every table has rows, because a policy is not asked about an empty one.
const PROBES: [(&str, &str); 9] = [
    ("usage", "SELECT coalesce(sum(requests), 0)::text FROM llm.usage"),
    ("rollup", "SELECT count(*)::text FROM llm.rollup"),
    ("pending", "SELECT count(*)::text FROM llm._pending"),
    ("emails", "SELECT count(*)::text FROM llm.app_user"),
    ("labels", "SELECT count(*)::text FROM llm._labels('user')"),
    ("members", "SELECT llm.analytics_members('acme', '2026-06-01', '2026-06-02')::text"),
    ("me", "SELECT llm.analytics_me('acme', '2026-06-01', '2026-06-02')->'member'->>'userId'"),
    ("who", "SELECT coalesce(llm.current_user_id(), 'NULL')"),
    ("act_as", "SELECT llm.act_as('own')::text"),
];

/// A schema of the role's own with `saw`, where `f(x)` writes down the answer to each probe, and a table with an index over it.
fn hostile_schema(world: &mut World, role: &str) {
    run(&mut world.client, &format!("CREATE SCHEMA {role} AUTHORIZATION {role}; SET ROLE {role}; SET search_path = {role}"));
    let mut body = String::new();
    for (name, sql) in PROBES {
        body += &format!(
            "BEGIN said := ({sql}); EXCEPTION WHEN OTHERS THEN said := sqlstate; END;
             INSERT INTO {role}.saw VALUES ({}, said, current_user);\n",
            quote(name)
        );
    }
    run(
        &mut world.client,
        &format!(
            "CREATE TABLE saw (probe text, said text, ran_as text);
             CREATE FUNCTION ask() RETURNS void LANGUAGE plpgsql AS $$ DECLARE said text; BEGIN {body} END $$;
             CREATE FUNCTION f(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM {role}.ask(); RETURN x; END $$;
             CREATE TABLE t (x text, n int); INSERT INTO t SELECT i::text, i FROM generate_series(1, 3) i;
             CREATE INDEX t_f ON t (f(x)); ALTER TABLE t CLUSTER ON t_f; TRUNCATE saw"
        ),
    );
    run(&mut world.client, "RESET ROLE; RESET search_path");
}

/// The distinct answers since the last time, `probe=answer`.
fn saw(client: &mut Client, role: &str) -> Vec<String> {
    let found = rows(client, &format!("SELECT DISTINCT probe || '=' || left(said, 60) FROM {role}.saw ORDER BY 1"));
    let strangers = format!("SELECT count(*) FROM {role}.saw WHERE ran_as <> {}", quote(role));
    assert_eq!(text(client, &strangers), "0", "code of {role} ran as somebody else");
    run(client, &format!("TRUNCATE {role}.saw"));
    found.into_iter().flatten().collect()
}

/// What a role without an identity must have seen: nothing, and told so.
fn nothing() -> Vec<String> {
    let mut wanted: Vec<String> = PROBES
        .iter()
        .map(|(name, _)| match *name {
            "who" => "who=NULL".to_owned(),
            "act_as" => "act_as=42501".to_owned(),
            _ => format!("{name}=28000"),
        })
        .collect();
    wanted.sort();
    wanted
}

/// What the role of the developer must have seen: their own.
fn of_dev(client: &mut Client) -> Vec<String> {
    let requests = text(client, &format!("SELECT count(*) FROM {} v", visible("dev")));
    vec![format!("usage={requests}"), "who=dev".into(), "me=dev".into(), "members=42501".into(), "act_as=42501".into()]
}

fn operations(role: &str) -> Vec<String> {
    [
        "ANALYZE {r}.t",
        "VACUUM (ANALYZE) {r}.t",
        "VACUUM (FULL) {r}.t",
        "REINDEX TABLE {r}.t",
        "REINDEX TABLE CONCURRENTLY {r}.t",
        "REINDEX INDEX {r}.t_f",
        "CLUSTER {r}.t",
        "CREATE INDEX again ON {r}.t ({r}.f(x))",
        "CREATE INDEX CONCURRENTLY later ON {r}.t ({r}.f(x))",
    ]
    .map(|sql| sql.replace("{r}", role))
    .to_vec()
}

#[test]
fn maintenance_of_a_superuser() {
    let mut world = World::new("maintenance", true);
    let (plain, backend, dev) = (world.role("plain"), world.backend_role(), world.bound_role("dev"));
    for role in [&plain, &backend, &dev] {
        hostile_schema(&mut world, role);
    }
    let has_amcheck = has_amcheck(&mut world.client);
    for role in [&plain, &backend, &dev] {
        let mut operations = operations(role);
        if has_amcheck {
            operations.push(format!("SELECT bt_index_check('{role}.t_f', true)"));
            operations.push(format!("SELECT bt_index_parent_check('{role}.t_f', true)"));
        }
        for sql in operations {
            // Also where the maintainer acts for somebody.
            for act in ["", "BEGIN; SELECT llm.act_as('own')"] {
                let alone =
                    ["VACUUM", "CONCURRENTLY", "CREATE INDEX"].iter().any(|word| sql.contains(word)) || sql.starts_with("REINDEX TABLE");
                if !act.is_empty() && alone {
                    continue;
                }
                run(&mut world.client, act);
                run(&mut world.client, &sql);
                if !act.is_empty() {
                    run(&mut world.client, "COMMIT");
                }
                let seen = saw(&mut world.client, role);
                if *role == dev {
                    for wanted in of_dev(&mut world.client) {
                        assert!(seen.contains(&wanted), "{sql} {act}: no {wanted}: {seen:?}");
                    }
                } else {
                    assert_eq!(seen, nothing(), "{sql} {act}");
                }
            }
        }
    }
}

/// Within such an operation a definer function has two roles that are not the caller's: only its owner's binding counts.
#[test]
fn definer_functions_within_maintenance() {
    let mut world = World::new("maintenance_definer", true);
    let (plain, own, backend) = (world.role("plain"), world.bound_role("own"), world.backend_role());
    hostile_schema(&mut world, &plain);
    let superuser = world.db.server.user.clone();
    let mut calls = String::new();
    for owner in [&superuser, &own, &backend] {
        for (name, sql) in [("usage", PROBES[0].1), ("act", "SELECT llm.act_as('own')::text")] {
            run(
                &mut world.client,
                &format!(
                    "CREATE FUNCTION public.{name}_{owner}() RETURNS text LANGUAGE plpgsql SECURITY DEFINER
                         AS $$ BEGIN RETURN ({sql}); EXCEPTION WHEN OTHERS THEN RETURN sqlstate; END $$;
                     ALTER FUNCTION public.{name}_{owner}() OWNER TO {owner}"
                ),
            );
            calls += &format!("INSERT INTO {plain}.saw VALUES ('{name}_{owner}', public.{name}_{owner}(), current_user);\n");
        }
    }
    run(
        &mut world.client,
        &format!(
            "CREATE OR REPLACE FUNCTION {plain}.ask() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {calls} END $$; ALTER FUNCTION {plain}.ask() OWNER TO {plain}"
        ),
    );
    run(&mut world.client, &format!("ANALYZE {plain}.t"));
    let requests = text(&mut world.client, &format!("SELECT count(*) FROM {} v", visible("own")));
    let mut wanted = vec![
        format!("usage_{superuser}=28000"),
        format!("usage_{own}={requests}"),
        format!("usage_{backend}=28000"),
        format!("act_{superuser}=42501"),
        format!("act_{own}=42501"),
        format!("act_{backend}=42501"),
    ];
    wanted.sort();
    assert_eq!(saw(&mut world.client, &plain), wanted);
}

#[test]
fn materialized_views() {
    let mut world = World::new("maintenance_matview", false);
    let (plain, own, backend) = (world.role("plain"), world.bound_role("own"), world.backend_role());
    let sums = "SELECT organization_id, sum(requests) AS requests FROM llm.usage GROUP BY 1";
    let read = |client: &mut Client, view: &str| rows(client, &format!("SELECT * FROM {view} ORDER BY organization_id"));
    for role in [&plain, &own, &backend] {
        run(&mut world.client, &format!("CREATE SCHEMA {role} AUTHORIZATION {role}"));
    }
    // Of a bound role: what that role sees, whoever refreshes it.
    let mut client = world.db.connect_as(&own);
    run(&mut client, &format!("CREATE MATERIALIZED VIEW {own}.v AS {sums}; CREATE UNIQUE INDEX ON {own}.v (organization_id)"));
    let wanted = rows(&mut client, &format!("SELECT * FROM ({sums}) s ORDER BY organization_id"));
    assert!(!wanted.is_empty() && !wanted.concat().contains(&"rival".to_owned()));
    for refresh in ["REFRESH MATERIALIZED VIEW", "REFRESH MATERIALIZED VIEW CONCURRENTLY"] {
        for act in ["", "SELECT llm.act_as('riv');"] {
            run(&mut world.client, &format!("BEGIN; {act} {refresh} {own}.v; COMMIT"));
            assert_eq!(read(&mut world.client, &format!("{own}.v")), wanted, "{refresh} {act}");
        }
    }
    // Of a superuser: everything.
    run(&mut world.client, &format!("CREATE MATERIALIZED VIEW public.v AS {sums}; REFRESH MATERIALIZED VIEW public.v"));
    let all = rows(&mut world.client, &format!("SELECT * FROM ({sums}) s ORDER BY organization_id"));
    assert!(all.concat().contains(&"rival".to_owned()));
    assert_eq!(read(&mut world.client, "public.v"), all);
    // Of a role without an identity: an error rather than an empty view, also where it acts for somebody.
    for (role, act) in [(&plain, ""), (&backend, "SELECT llm.act_as('own');")] {
        let mut client = world.db.connect_as(role);
        run(&mut client, &format!("BEGIN; {act}"));
        let refusal = refused(&mut client, &format!("CREATE MATERIALIZED VIEW {role}.v AS {sums}"));
        run(&mut client, "ROLLBACK");
        assert_eq!(refusal.state, "28000", "{refusal:?}");
        assert!(refusal.hint.contains(role.as_str()) && refusal.hint.contains("bind_role"), "{refusal:?}");
        run(&mut client, &format!("CREATE MATERIALIZED VIEW {role}.v AS {sums} WITH NO DATA"));
        let refusal = refused(&mut world.client, &format!("REFRESH MATERIALIZED VIEW {role}.v"));
        assert_eq!(refusal.state, "28000", "{refusal:?}");
    }
}

/// Triggers that run as the owner of their function, at once and deferred.
#[test]
fn triggers() {
    let mut world = World::new("maintenance_triggers", true);
    let plain = world.role("plain");
    hostile_schema(&mut world, &plain);
    run(
        &mut world.client,
        &format!(
            "CREATE FUNCTION {plain}.fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM {plain}.ask(); RETURN NULL; END $$;
             ALTER FUNCTION {plain}.fire() OWNER TO {plain};
             CREATE TABLE {plain}.w (x int); ALTER TABLE {plain}.w OWNER TO {plain};
             CREATE TRIGGER a AFTER INSERT ON {plain}.w FOR EACH ROW EXECUTE FUNCTION {plain}.fire();
             CREATE CONSTRAINT TRIGGER b AFTER UPDATE ON {plain}.w DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {plain}.fire()"
        ),
    );
    // Their owner may not call act_as, so what somebody else said does not hold in them.
    for sql in [format!("INSERT INTO {plain}.w VALUES (1)"), format!("UPDATE {plain}.w SET x = 2")] {
        for act in ["", "SELECT llm.act_as('own');"] {
            run(&mut world.client, &format!("BEGIN; {act} {sql}; COMMIT"));
            assert_eq!(saw(&mut world.client, &plain), nothing(), "{act} {sql}");
        }
    }
}

const LOG: &str = "created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric";

/// Expressions of a mapping and of a directory run as the owner of their table.
#[test]
fn expressions_of_logs_and_directories() {
    let mut world = World::new("maintenance_expressions", true);
    let plain = world.role("plain");
    hostile_schema(&mut world, &plain);
    let superuser = text(&mut world.client, "SELECT sum(requests) FROM llm.usage");
    run(
        &mut world.client,
        &format!(
            "CREATE TABLE {plain}.log ({LOG}); CREATE TABLE {plain}.people (id text, name text);
             ALTER TABLE {plain}.log OWNER TO {plain}; ALTER TABLE {plain}.people OWNER TO {plain};
             INSERT INTO {plain}.log VALUES ('2026-05-01Z', 'acme', 'k', 'm', 1); INSERT INTO {plain}.people VALUES ('dev', 'Dev')"
        ),
    );
    // Row security is off for them, so that a policy cannot hide rows: tables with policies are an error of their own.
    let mut wanted = nothing();
    for line in &mut wanted {
        if ["usage=", "rollup=", "pending=", "emails="].iter().any(|name| line.starts_with(name)) {
            *line = line.replace("28000", "42501");
        }
    }
    let columns = format!(
        r#"'{{"created_at":"created_at","organization_id":"organization_id","api_key_id":"api_key_id","model":"{plain}.f(model)","cost":"cost"}}'"#
    );
    run(&mut world.client, &format!("SELECT llm.attach_log('{plain}.log', {columns})"));
    saw(&mut world.client, &plain);
    for sql in [
        format!("INSERT INTO {plain}.log VALUES ('2026-05-02Z', 'acme', 'k', 'm', 1)"),
        "CALL llm.backfill()".into(),
        "SELECT llm.rebuild('2026-05-01Z', '2026-05-03Z')".into(),
        "SELECT count(*) FROM llm.verify()".into(),
    ] {
        run(&mut world.client, &sql);
        assert_eq!(saw(&mut world.client, &plain), wanted, "{sql}");
    }
    assert_ne!(text(&mut world.client, "SELECT sum(requests) FROM llm.usage"), superuser);
    run(&mut world.client, &format!(r#"SELECT llm.attach_directory('user', '{plain}.people', '{{"id":"id","name":"{plain}.f(name)"}}')"#));
    saw(&mut world.client, &plain);
    let (own, mut backend) = (world.bound_role("own"), world.acting("own"));
    let mut own = world.caller(&own, None);
    let call = "SELECT llm.analytics_members('acme', '2026-06-01', '2026-06-02')::text";
    // The expression is STABLE to its reader and writes nothing down there, so that it may have run shows in the name.
    for answer in [text(&mut world.client, call), own.text(call), backend.text(call)] {
        assert!(answer.contains("\"Dev\""), "{answer}");
    }
    for line in saw(&mut world.client, &plain) {
        assert!(wanted.contains(&line), "{line}");
    }
}

/// Autovacuum's ANALYZE and the worker, which nobody calls.
#[test]
fn autovacuum_and_the_worker() {
    let cluster =
        Cluster::fresh("who_asks", &["autovacuum = on", "autovacuum_naptime = 1s", "llm.worker = on", "llm.fold_interval = 200ms"]);
    let mut world = World::on(cluster.server.clone(), "who_worker", true);
    let plain = world.role("plain");
    hostile_schema(&mut world, &plain);
    run(
        &mut world.client,
        &format!(
            "ALTER TABLE {plain}.t SET (autovacuum_analyze_threshold = 10, autovacuum_analyze_scale_factor = 0);
             INSERT INTO {plain}.t SELECT i::text, i FROM generate_series(4, 100) i; TRUNCATE {plain}.saw"
        ),
    );
    wait_for(&mut world.client, 60, "autovacuum analyzes the table", &format!("SELECT count(*) > 0 FROM {plain}.saw"), "t");
    let analyzed = format!("SELECT autoanalyze_count > 0 FROM pg_stat_user_tables WHERE relid = '{plain}.t'::regclass");
    wait_for(&mut world.client, 60, "autovacuum says so", &analyzed, "t");
    // The worker has folded: a policy is not asked about an empty table.
    let mut seen = saw(&mut world.client, &plain);
    seen.iter_mut().filter(|line| *line == "pending=0").for_each(|line| *line = "pending=28000".into());
    assert_eq!(seen, nothing(), "autoanalyze");
    // The worker's backfill evaluates the mapping, which writes down what it saw.
    run(
        &mut world.client,
        &format!(
            "CREATE TABLE {plain}.log ({LOG}); ALTER TABLE {plain}.log OWNER TO {plain}; INSERT INTO {plain}.log VALUES ('2026-05-01Z', 'acme', 'k', 'm', 1)"
        ),
    );
    let columns = format!(
        r#"'{{"created_at":"created_at","organization_id":"organization_id","api_key_id":"api_key_id","model":"{plain}.f(model)","cost":"cost"}}'"#
    );
    run(&mut world.client, &format!("SELECT llm.attach_log('{plain}.log', {columns}); TRUNCATE {plain}.saw"));
    wait_for(&mut world.client, 30, "the worker backfills", &format!("SELECT count(*) > 0 FROM {plain}.saw"), "t");
    let seen = saw(&mut world.client, &plain);
    let is_nothing = |line: &String| line.ends_with("=28000") || line.ends_with("=42501") || line == "who=NULL";
    assert!(seen.iter().all(is_nothing), "{seen:?}");
}
