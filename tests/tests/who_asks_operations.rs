//! Who is asking while somebody else maintains. A role with CREATE on one schema and nothing else puts functions that ask
//! llm_analytics wherever maintenance runs them: whoever maintains, they answer as to that role, which is nobody.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Server, has_amcheck, refused, rows, run, text, wait_for};
use llm_analytics_tests::world::{World, visible};
use postgres::Client;
use std::collections::BTreeMap;

/// What the spy asks; the first ones must be refused, the others may also answer with nothing.
const QUERIES: [(&str, &str); 22] = [
    ("llm.usage", "SELECT sum(requests)::text FROM llm.usage"),
    ("analytics_activity", "SELECT llm.analytics_activity('acme', 'model', '2026-06-01', '2026-06-02')::text"),
    ("analytics_members", "SELECT llm.analytics_members('acme', '2026-06-01', '2026-06-02')::text"),
    ("analytics_me", "SELECT llm.analytics_me('acme', '2026-06-01', '2026-06-02')::text"),
    ("analytics_projects", "SELECT llm.analytics_projects('acme')::text"),
    ("llm.activity", "SELECT string_agg(a::text, ' ') FROM llm.activity('acme', 'model', '2026-06-01', '2026-06-02') a"),
    ("llm.members", "SELECT string_agg(m::text, ' ') FROM llm.members('acme', '2026-06-01', '2026-06-02') m"),
    ("act_as", "SELECT 'acts as ' || llm.act_as('own')::text || llm.current_user_id()"),
    ("usage by a superuser's function", "SELECT app.total()::text"),
    ("activity by a superuser's function", "SELECT app.activity()::text"),
    ("analytics_organizations", "SELECT llm.analytics_organizations()::text"),
    ("access", "SELECT llm.access('acme')->>'plan'"),
    ("current_user_id", "SELECT llm.current_user_id()"),
    ("_scope", "SELECT nullif(count(*), 0)::text || ' in scope' FROM llm._scope() WHERE everything OR orgs <> '{}' OR keys <> '{}'"),
    ("_labels", "SELECT string_agg(l::text, ' ') FROM llm._labels('user') l"),
    ("llm.rollup", "SELECT nullif(count(*), 0)::text || ' rows' FROM llm.rollup"),
    ("llm._pending", "SELECT nullif(count(*), 0)::text || ' rows' FROM llm._pending"),
    ("llm.series", "SELECT nullif(count(*), 0)::text || ' rows' FROM llm.series"),
    ("llm._org", "SELECT nullif(count(*), 0)::text || ' rows' FROM llm._org"),
    ("llm.organization", "SELECT nullif(count(*), 0)::text || ' rows' FROM llm.organization"),
    ("llm.app_user", "SELECT string_agg(email, ' ') FROM llm.app_user"),
    ("llm.membership", "SELECT nullif(count(*), 0)::text || ' rows' FROM llm.membership"),
];
const MUST_BE_REFUSED: usize = 10;

/// Functions that ask each query once and keep the answer: as whoever runs them, and as the spy by their own right.
const FUNCTIONS: &str = "
    CREATE TABLE spy.query (id int, name text, sql text);
    CREATE TABLE spy.loot (how text, id int, answer text);
    CREATE FUNCTION spy.ask(how text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE q record; answer text; about text := how;
    BEGIN
        IF EXISTS (SELECT FROM spy.loot l WHERE l.how = about) THEN RETURN; END IF;
        FOR q IN SELECT * FROM spy.query ORDER BY id LOOP
            BEGIN EXECUTE q.sql INTO answer; EXCEPTION WHEN OTHERS THEN answer := 'refused ' || SQLSTATE || ' ' || SQLERRM; END;
            INSERT INTO spy.loot VALUES (about, q.id, answer);
        END LOOP;
    END $$;
    CREATE FUNCTION spy.ask_definer(how text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM spy.ask(how); END $$;
    CREATE FUNCTION spy.f(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN PERFORM spy.ask('invoker'); PERFORM spy.ask_definer('definer'); RETURN x; END $$;
    CREATE FUNCTION spy.fires() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM spy.ask('definer'); RETURN NULL; END $$";

/// A table with an index of an expression, statistics of one, and a materialized view.
const TABLE: &str = "
    CREATE TABLE spy.t (x int, y text); INSERT INTO spy.t SELECT i, 'y' || i FROM generate_series(1, 600) i;
    CREATE INDEX t_y ON spy.t (spy.f(y)); CREATE UNIQUE INDEX t_x ON spy.t (x); CREATE INDEX t_part ON spy.t (x) WHERE spy.f(y) <> 'never';
    CREATE STATISTICS spy.st ON (spy.f(y)), x FROM spy.t;
    CREATE MATERIALIZED VIEW spy.kept AS SELECT x, spy.f(y) AS y FROM spy.t; CREATE UNIQUE INDEX ON spy.kept (x)";

struct Spy {
    client: Client,
    world: World,
    faults: Vec<String>,
}

impl Spy {
    fn new(server: Server, tag: &str) -> Spy {
        let mut world = World::on(server, tag, true);
        let role = world.role("spy");
        run(
            &mut world.client,
            &format!(
                "CREATE SCHEMA spy; GRANT USAGE, CREATE ON SCHEMA spy TO {role}; CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO PUBLIC;
                 CREATE FUNCTION app.total() RETURNS numeric LANGUAGE sql SECURITY DEFINER AS 'SELECT sum(requests) FROM llm.usage';
                 CREATE FUNCTION app.activity() RETURNS json LANGUAGE sql SECURITY DEFINER AS $$ SELECT llm.analytics_activity('acme', 'model', '2026-06-01', '2026-06-02') $$"
            ),
        );
        let mut client = world.db.connect_as(&role);
        run(&mut client, FUNCTIONS);
        for (id, (name, sql)) in QUERIES.iter().enumerate() {
            client.execute("INSERT INTO spy.query VALUES ($1, $2, $3)", &[&(id as i32), name, sql]).expect("keep a query");
        }
        run(&mut client, TABLE);
        let mut spy = Spy { client, world, faults: Vec::new() };
        spy.look("the spy makes its table");
        spy
    }

    /// What the spy got; it must have asked.
    fn look(&mut self, what: &str) {
        let loot = rows(&mut self.client, "SELECT how, id::text, coalesce(answer, '') FROM spy.loot ORDER BY 1, id");
        if loot.is_empty() {
            self.faults.push(format!("the test is blind: {what} ran nothing of the spy's"));
        }
        let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in &loot {
            let (how, id, answer) = (&row[0], row[1].parse::<usize>().expect("a number"), &row[2]);
            let denied = ["refused 28000", "refused 42501"].iter().any(|refusal| answer.starts_with(refusal));
            let leaks = ["acme", "rival", "Name of", "@example.com", "enterprise", "rows", "in scope", "acts as"]
                .iter()
                .any(|leak| answer.contains(leak));
            if !denied && (leaks || id < MUST_BE_REFUSED || answer.starts_with("refused")) {
                let answer: String = if answer.starts_with('{') { "all".to_owned() } else { answer.chars().take(40).collect() };
                told.entry(how).or_default().push(format!("{} {answer:?}", QUERIES[id].0));
            }
        }
        self.faults.extend(told.iter().map(|(how, told)| format!("{what}, {how}: {}", told.join(", "))));
        run(&mut self.client, "DELETE FROM spy.loot");
    }

    /// Maintenance by a superuser.
    fn maintained(&mut self, sql: &str) {
        run(&mut self.world.client, sql);
        self.look(sql);
    }

    fn finish(self) {
        assert!(self.faults.is_empty(), "{} faults:\n  {}", self.faults.len(), self.faults.join("\n  "));
    }
}

#[test]
fn maintenance_by_a_superuser() {
    let mut spy = Spy::new(Server::from_env(), "spy_sql");
    for sql in [
        "ANALYZE spy.t",
        "ANALYZE",
        "VACUUM (ANALYZE) spy.t",
        "VACUUM (FULL) spy.t",
        "REINDEX INDEX spy.t_y",
        "REINDEX TABLE spy.t",
        "REINDEX TABLE CONCURRENTLY spy.t",
        "REINDEX SCHEMA spy",
        "CREATE INDEX by_hand ON spy.t (spy.f(y), x)",
        "CREATE INDEX CONCURRENTLY by_hand2 ON spy.t (x) WHERE spy.f(y) <> 'x'",
        "CLUSTER spy.t USING t_x",
        "REFRESH MATERIALIZED VIEW spy.kept",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY spy.kept",
    ] {
        spy.maintained(sql);
    }
    if has_amcheck(&mut spy.world.client) {
        spy.maintained("SELECT bt_index_check('spy.t_y', true)");
        spy.maintained("SELECT bt_index_parent_check('spy.t_y', true)");
    }
    // An identity that the superuser has taken on is the spy's as little as the superuser's own.
    for sql in ["ANALYZE spy.t", "REINDEX INDEX spy.t_y", "REFRESH MATERIALIZED VIEW spy.kept"] {
        run(&mut spy.world.client, &format!("BEGIN; SELECT llm.act_as('own'); {sql}; COMMIT"));
        spy.look(&format!("{sql} after act_as"));
    }
    // A trigger that runs as the spy, of what a superuser writes.
    run(&mut spy.client, "CREATE TRIGGER t AFTER INSERT ON spy.t EXECUTE FUNCTION spy.fires()");
    run(&mut spy.world.client, "INSERT INTO spy.t VALUES (1000, 'y')");
    // Not what PostgreSQL runs as the writer, the index itself. Nor what a superuser's own definer functions say where the writer is a
    // superuser too: there both roles are privileged, and docs/access.md warns of writing to a stranger's table.
    let lent = "DELETE FROM spy.loot WHERE how = 'invoker' OR id IN (SELECT id FROM spy.query WHERE name LIKE '%a superuser''s function')";
    run(&mut spy.client, lent);
    spy.look("a superuser's INSERT, by a trigger of the spy's");
    spy.finish();
}

/// As a table's maintenance by autovacuum, and by the worker of llm_analytics.
#[test]
fn maintenance_by_nobody() {
    let settings = [
        "autovacuum_naptime = 1s",
        "autovacuum_vacuum_cost_delay = 0",
        "autovacuum_analyze_threshold = 20",
        "llm.worker = on",
        "llm.fold_interval = 100ms",
    ];
    let cluster = Cluster::fresh("spy_auto", &settings);
    let mut spy = Spy::new(cluster.server.clone(), "spy_auto");
    run(&mut spy.client, "INSERT INTO spy.t SELECT 1000 + i, 'z' || i FROM generate_series(1, 2000) i; DELETE FROM spy.loot");
    wait_for(&mut spy.client, 90, "autovacuum analyzes", "SELECT count(*) > 0 FROM spy.loot", "t");
    spy.look("autoanalyze");
    let log = "CREATE TABLE spy.log (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric); GRANT INSERT ON spy.log TO PUBLIC;
        INSERT INTO spy.log VALUES ('2026-06-01Z', 'spy', 'k', 'm', 1)";
    run(&mut spy.client, log);
    let columns = r#"{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "spy.f(api_key_id)", "model": "model", "cost": "cost"}"#;
    run(&mut spy.world.client, &format!("SELECT llm.attach_log('spy.log', '{columns}')"));
    wait_for(&mut spy.client, 60, "the worker backfills", "SELECT count(*) > 0 FROM spy.loot", "t");
    spy.look("the worker's backfill");
    spy.finish();
}

/// Expressions of mappings and directories run as the owner of their table, whoever writes, folds, verifies or asks.
#[test]
fn expressions_of_mappings_and_directories() {
    let mut spy = Spy::new(Server::from_env(), "spy_expr");
    run(
        &mut spy.client,
        "CREATE TABLE spy.log (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric); INSERT INTO spy.log VALUES ('2026-06-01Z', 'spy', 'k', 'm', 1);
         CREATE TABLE spy.people (id text PRIMARY KEY, name text, email text); INSERT INTO spy.people VALUES ('own', 'o', NULL), ('dev', 'd', NULL)",
    );
    let columns = r#"{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "spy.f(api_key_id)", "model": "model", "cost": "cost"}"#;
    run(&mut spy.world.client, &format!("SELECT llm.attach_log('spy.log', '{columns}')"));
    run(&mut spy.client, "DELETE FROM spy.loot");
    for sql in [
        "INSERT INTO spy.log VALUES ('2026-06-01Z', 'spy', 'k', 'm', 1)",
        "UPDATE spy.log SET cost = 2",
        "CALL llm.backfill()",
        "SELECT llm.rebuild('2026-06-01', '2026-06-02')",
        "SELECT * FROM llm.verify()",
        "TRUNCATE spy.log",
    ] {
        spy.maintained(sql);
    }
    let columns = r#"{"id": "id", "name": "spy.f(name)", "email": "email"}"#;
    run(&mut spy.world.client, &format!("SELECT llm.attach_directory('user', 'spy.people', '{columns}')"));
    run(&mut spy.client, "DELETE FROM spy.loot");
    for sql in [
        "SELECT llm.analytics_activity('acme', 'user', '2026-06-01', '2026-06-02')",
        "SELECT llm.analytics_members('acme', '2026-06-01', '2026-06-02')",
        "UPDATE spy.people SET name = 'x'",
        "SELECT llm.detach_directory('user')",
    ] {
        spy.maintained(sql);
    }
    spy.finish();
}

/// What a bound role keeps in a materialized view is its own, whoever refreshes it; a superuser's has everything.
#[test]
fn materialized_views() {
    let mut world = World::new("spy_views", false);
    let select = "SELECT organization_id, api_key_id, sum(requests) AS requests FROM llm.usage GROUP BY 1, 2";
    let sum = |client: &mut Client, view: &str| text(client, &format!("SELECT coalesce(sum(requests), 0) FROM {view}"));
    let views = |schema: &str| {
        format!(
            "CREATE MATERIALIZED VIEW {schema}.kept AS {select} WITH NO DATA; CREATE UNIQUE INDEX ON {schema}.kept (organization_id, api_key_id)"
        )
    };
    let total = text(&mut world.client, "SELECT count(*) FROM public.log");
    for (user, schema) in [("own", "s_own"), ("dev", "s_dev")] {
        let role = world.bound_role(user);
        run(&mut world.client, &format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"));
        let mut client = world.db.connect_as(&role);
        run(&mut client, &views(schema));
        let wanted = text(&mut world.client, &format!("SELECT count(*) FROM {} v", visible(user)));
        for how in ["", "CONCURRENTLY"] {
            run(&mut world.client, &format!("REFRESH MATERIALIZED VIEW {how} {schema}.kept"));
            assert_eq!(sum(&mut client, &format!("{schema}.kept")), wanted, "{user}'s, refreshed {how} by a superuser");
            run(&mut client, &format!("REFRESH MATERIALIZED VIEW {how} {schema}.kept"));
            assert_eq!(sum(&mut client, &format!("{schema}.kept")), wanted, "{user}'s, refreshed {how} by itself");
        }
        // Functions, too, and a definer function of the same role.
        run(
            &mut client,
            &format!("CREATE FUNCTION {schema}.lent() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT llm.current_user_id()'"),
        );
        run(
            &mut client,
            &format!(
                "CREATE MATERIALIZED VIEW {schema}.me AS SELECT llm.analytics_me('acme', '2026-06-01', '2026-06-02')->'member'->>'userId' AS me,
                    llm.current_user_id() AS who, {schema}.lent() AS lent"
            ),
        );
        run(&mut world.client, &format!("REFRESH MATERIALIZED VIEW {schema}.me"));
        assert_eq!(rows(&mut client, &format!("TABLE {schema}.me")), [[user, user, user]], "{user}'s functions, refreshed by a superuser");
    }
    // Those who see everything.
    let (second, bypass) = (world.role("second"), world.role("bypass"));
    run(&mut world.client, &format!("ALTER ROLE {second} SUPERUSER; ALTER ROLE {bypass} BYPASSRLS"));
    let admin = world.db.server.user.clone();
    for (role, schema) in [(&admin, "s_admin"), (&second, "s_second"), (&bypass, "s_bypass")] {
        run(&mut world.client, &format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"));
        let mut client = world.db.connect_as(role);
        run(&mut client, &views(schema));
        for how in ["", "CONCURRENTLY"] {
            for refresher in [&mut client, &mut world.client] {
                run(refresher, &format!("REFRESH MATERIALIZED VIEW {how} {schema}.kept"));
                assert_eq!(sum(refresher, &format!("{schema}.kept")), total, "{schema}'s, refreshed {how}");
            }
        }
        let activity = format!(
            "CREATE MATERIALIZED VIEW {schema}.page AS SELECT llm.analytics_activity('acme', 'model', '2026-06-01', '2026-06-02')->'summary'->>'requestCount' AS n"
        );
        run(&mut client, &activity);
        run(&mut world.client, &format!("REFRESH MATERIALIZED VIEW {schema}.page"));
        assert_ne!(text(&mut world.client, &format!("SELECT n FROM {schema}.page")), "0");
    }
    // Nobody's is refused, and stays empty; so is one that is made while acting for somebody.
    let nobody = world.role("nobody");
    let backend = world.backend_role();
    for (role, schema, begin) in [(&nobody, "s_nobody", ""), (&backend, "s_backend", "SELECT llm.act_as('own');")] {
        run(&mut world.client, &format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"));
        let mut client = world.db.connect_as(role);
        run(&mut client, &views(schema));
        assert_eq!(
            refused(&mut world.client, &format!("REFRESH MATERIALIZED VIEW {schema}.kept")).state,
            "28000",
            "{schema}'s, refreshed by a superuser"
        );
        let itself = refused(&mut client, &format!("BEGIN; {begin} REFRESH MATERIALIZED VIEW {schema}.kept"));
        assert_eq!(itself.state, "28000", "{schema}'s, refreshed by itself: {itself:?}");
        run(&mut client, "ROLLBACK");
        assert_eq!(refused(&mut client, &format!("TABLE {schema}.kept")).state, "55000", "{schema}'s is not filled");
    }
}

/// act_as can neither be said in a security-restricted operation, nor does it hold there.
#[test]
fn act_as_in_restricted_operations() {
    let mut world = World::new("spy_act", false);
    let role = world.backend_role();
    run(&mut world.client, &format!("CREATE SCHEMA act AUTHORIZATION {role}"));
    let mut client = world.db.connect_as(&role);
    run(
        &mut client,
        "CREATE TABLE act.told (sql text, answer text); CREATE TABLE act.t (x int); INSERT INTO act.t VALUES (1);
         CREATE FUNCTION act.ask() RETURNS void LANGUAGE plpgsql AS $$
         DECLARE q text; answer text;
         BEGIN
            FOREACH q IN ARRAY ARRAY['SELECT llm.act_as(''own'')::text', 'SELECT sum(requests)::text FROM llm.usage',
                'SELECT llm.analytics_me(''acme'', ''2026-06-01'', ''2026-06-02'')::text'] LOOP
                BEGIN EXECUTE q INTO answer; EXCEPTION WHEN OTHERS THEN answer := SQLSTATE; END;
                INSERT INTO act.told VALUES (q, answer);
            END LOOP;
         END $$;
         CREATE FUNCTION act.f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM act.ask(); RETURN $1; END $$",
    );
    let told = "SELECT string_agg(DISTINCT answer, ' ' ORDER BY answer) FROM act.told WHERE sql LIKE 'SELECT llm.act_as%'";
    let asked = "SELECT string_agg(DISTINCT coalesce(answer, 'nothing'), ' ') FROM act.told WHERE sql NOT LIKE 'SELECT llm.act_as%'";
    // By the backend itself: act_as is its right, but not here.
    for begin in ["BEGIN", "BEGIN; SELECT llm.act_as('own')", "BEGIN; SELECT llm.act_as('dev')"] {
        run(&mut client, &format!("{begin}; CREATE INDEX i ON act.t (act.f(x)); COMMIT"));
        assert_eq!((text(&mut client, told), text(&mut client, asked)), ("42501".to_owned(), "28000".to_owned()), "{begin}; CREATE INDEX");
        run(&mut client, "DELETE FROM act.told");
        run(&mut world.client, &format!("{begin}; REINDEX INDEX act.i; COMMIT"));
        assert_eq!(
            (text(&mut client, told), text(&mut client, asked)),
            ("42501".to_owned(), "28000".to_owned()),
            "{begin}; REINDEX by a superuser"
        );
        run(&mut client, "DELETE FROM act.told; DROP INDEX act.i");
    }
    // The operation over, it holds again.
    run(&mut client, "BEGIN; SELECT llm.act_as('own'); CREATE INDEX i ON act.t (act.f(x))");
    assert_eq!(text(&mut client, "SELECT llm.current_user_id()"), "own", "after the operation");
    run(&mut client, "ROLLBACK");
}
