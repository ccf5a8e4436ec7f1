//! What owners of tables may do with llm_analytics, whose rights count where a function calls it for somebody else, and what
//! an owner cannot do to others.

use llm_analytics_tests::db::{Db, Refusal, Role, quote, refusal, refused, rows, run, text};
use llm_analytics_tests::hosts;
use postgres::Client;

const CALLS: &str =
    "llm.attach_log, llm.detach_log, llm.create_request_log, llm.attach_directory, llm.detach_directory, llm.seal, llm.set_retention";
const COLUMNS: &str = "created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric";
const NUMBERS: &str = "SELECT coalesce(string_agg(x::text, ' '), 'none') FROM (SELECT organization_id, sum(requests), trim_scale(sum(cost)) FROM llm.usage GROUP BY 1 HAVING sum(requests) <> 0 ORDER BY 1) x";

const WRITES: [&str; 3] =
    ["INSERT INTO {t} VALUES ('2026-06-02Z', '{o}', 'k', 'm', 100)", "UPDATE {t} SET cost = cost + 1", "DELETE FROM {t}"];

/// A database in which a role may call what owners need, and has a schema of its own.
struct Setting {
    admin: Client,
    owner: Client,
    db: Db,
    role: Role,
}

fn setting(tag: &str) -> Setting {
    let db = Db::new(tag);
    let mut admin = db.connect();
    let role = Role::new(&db.server, "owner");
    let m = &role.name;
    run(
        &mut admin,
        &format!("CREATE SCHEMA m AUTHORIZATION {m}; GRANT USAGE ON SCHEMA llm TO {m}; GRANT EXECUTE ON FUNCTION {CALLS} TO {m}"),
    );
    let mut owner = db.connect_as(m);
    run(&mut owner, &format!("CREATE TABLE m.l ({COLUMNS}); CREATE TABLE m.people (id text PRIMARY KEY, name text, email text)"));
    Setting { admin, owner, db, role }
}

/// A round by hand: what cannot be done in it is in llm.status, and is no error of the call.
fn maintain(client: &mut Client) {
    run(client, "CALL llm.maintain()");
}

fn verified(client: &mut Client, context: &str) {
    let different = rows(client, "SELECT v::text FROM llm.verify() v LIMIT 5");
    assert!(different.is_empty(), "{context}: {different:?}");
}

fn denied(refusal: &Refusal, context: &str) {
    assert_eq!(refusal.state, "42501", "{context}: {refusal:?}");
    assert!(!refusal.hint.is_empty(), "{context}: no hint: {refusal:?}");
}

#[test]
fn the_trigger_functions_are_nobodys() {
    let mut s = setting("own_execute");
    let open = "SELECT count(*) FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.oid = 'llm._capture()'::regprocedure AND a.grantee <> p.proowner";
    assert_eq!(text(&mut s.admin, open), "0", "EXECUTE on llm._capture()");
    run(&mut s.owner, "SELECT llm.attach_log('m.l')");
    for table in ["m.l", "m.people"] {
        let sql = format!(
            "CREATE TRIGGER mine AFTER INSERT ON {table} REFERENCING NEW TABLE AS llm_new FOR EACH STATEMENT EXECUTE FUNCTION llm._capture('1', '1', 'root')"
        );
        assert_eq!(refused(&mut s.owner, &sql).state, "42501", "{table}");
    }
}

/// The event triggers of the extension, on or off. They are off while a dump is restored, and then nothing looks at CREATE TRIGGER.
fn watched(on: bool) -> String {
    let does = if on { "ENABLE" } else { "DISABLE" };
    format!(
        "DO $$ DECLARE e text; BEGIN FOR e IN SELECT evtname FROM pg_event_trigger LOOP EXECUTE format('ALTER EVENT TRIGGER %I {does}', e); END LOOP; END $$"
    )
}

/// Triggers of another log, copied word for word to tables that do not belong to it, by name and by another name.
#[test]
fn a_trigger_by_hand_counts_nothing() {
    let mut s = setting("own_trigger");
    run(
        &mut s.admin,
        &format!(
            "CREATE TABLE public.by_row ({COLUMNS}) PARTITION BY RANGE (created_at); CREATE TABLE public.by_row_all PARTITION OF public.by_row DEFAULT;
             SELECT llm.attach_log('public.by_row', capture => 'row'); INSERT INTO public.by_row VALUES ('2026-06-01Z', 'acme', 'k', 'm', 1)"
        ),
    );
    run(&mut s.owner, &format!("CREATE TABLE m.other ({COLUMNS}); SELECT llm.attach_log('m.l')"));
    let definitions = "SELECT pg_get_triggerdef(t.oid), t.tgname FROM pg_trigger t WHERE t.tgrelid = 'public.by_row'::regclass AND t.tgfoid IN ('llm._capture()'::regprocedure, 'llm._capture_row()'::regprocedure)";
    let definitions = rows(&mut s.admin, definitions);
    assert!(!definitions.is_empty(), "the log by row has no trigger by row");
    // As an apply worker does, which fires the triggers by row.
    let mut applied = s.db.connect();
    run(&mut applied, "SET session_replication_role = replica; INSERT INTO public.by_row VALUES ('2026-06-01Z', 'acme', 'k', 'm', 1)");
    let before = text(&mut s.admin, NUMBERS);
    assert_eq!(before, "(acme,2,2)", "the log by row counts what is applied");
    let mut made = 0;
    for (on, table) in [(true, "m.other"), (true, "m.l"), (false, "m.other"), (false, "m.l")] {
        for definition in &definitions {
            for name in [definition[1].as_str(), "mine"] {
                let sql = definition[0].replace("public.by_row ", &format!("{table} ")).replacen(&definition[1], name, 1);
                run(&mut s.admin, &watched(on));
                // Those by statement can be made by a superuser only, who restores a dump.
                let maker = if sql.contains("llm._capture(") && !on { &mut s.admin } else { &mut s.owner };
                let result = maker.batch_execute(&sql);
                run(&mut s.admin, &watched(true));
                if let Err(error) = result {
                    let refusal = refusal(&error);
                    assert!(["42501", "55000", "42710"].contains(&refusal.state.as_str()), "{sql}: {refusal:?}");
                    continue;
                }
                made += 1;
                run(&mut s.admin, &format!("{}; ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}; {}", watched(false), watched(true)));
                // On m's own log the rows are m's to count, once.
                let (org, others) = if table == "m.l" { ("own", "WHERE organization_id <> 'own'") } else { ("acme", "") };
                let numbers = NUMBERS.replace("FROM llm.usage", &format!("FROM llm.usage {others}"));
                for write in WRITES {
                    for client in [&mut applied, &mut s.owner] {
                        // A statement that is refused counts nothing either.
                        let _ = client.batch_execute(&write.replace("{t}", table).replace("{o}", org));
                        let context = format!("{table}, watched: {on}: {sql}\n{write}");
                        assert_eq!(text(&mut s.admin, &numbers), before, "{context}");
                        verified(&mut s.admin, &context);
                    }
                }
                run(&mut s.admin, &format!("{}; DROP TRIGGER {name} ON {table}; {}", watched(false), watched(true)));
            }
        }
    }
    assert!(made > 0, "not one could be made: the functions themselves were not tried");
}

/// The rights are those of the role a function runs as, not of the session behind it.
#[test]
fn definer_functions_have_their_owners_rights() {
    let mut s = setting("own_definer");
    let other = Role::new(&s.db.server, "other");
    let n = &other.name;
    let call = |schema: &str| {
        format!(
            "CREATE FUNCTION {schema}.call(sql text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE sql; END $$; GRANT USAGE ON SCHEMA {schema} TO PUBLIC"
        )
    };
    run(
        &mut s.admin,
        &format!("CREATE SCHEMA n AUTHORIZATION {n}; GRANT USAGE ON SCHEMA llm TO {n}; GRANT EXECUTE ON FUNCTION {CALLS} TO {n}"),
    );
    let mut stranger = s.db.connect_as(n);
    run(&mut stranger, &call("n"));
    run(&mut s.owner, &call("m"));
    run(&mut s.owner, "SELECT llm.create_request_log('m.made')");
    // Each is refused before it is done, through n's function; then it is done, through m's.
    for sql in [
        "SELECT llm.attach_log('m.l')",
        "SELECT llm.seal('m.l', '2020-01-01Z')",
        "SELECT llm.set_retention('m.made', '1 year')",
        "SELECT llm.attach_directory('user', 'm.people')",
        "SELECT llm.create_request_log('m.second')",
        "SELECT llm.detach_directory('user')",
        "SELECT llm.detach_log('m.l')",
    ] {
        for (who, client) in [("m", &mut s.owner), ("a superuser", &mut s.admin), ("n", &mut stranger)] {
            let refusal = refused(client, &format!("SELECT n.call({})", quote(sql)));
            assert_eq!(refusal.state, "42501", "{sql} by n's function, called by {who}: {refusal:?}");
        }
        let done = stranger.batch_execute(&format!("SELECT m.call({})", quote(sql)));
        assert!(done.is_ok(), "{sql} by m's function, called by n: {:?}", refusal(&done.unwrap_err()));
    }
    let owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'm.second'::regclass";
    assert_eq!(text(&mut s.admin, owner), s.role.name, "made by m's function");
    drop(stranger);
    run(&mut s.admin, &format!("DROP OWNED BY {n}, {} CASCADE", s.role.name));
}

/// m has functions in an index of its own that call what m may call, about tables that are not m's. Whoever maintains that index
/// lends them nothing.
#[test]
fn maintenance_lends_no_rights() {
    let mut s = setting("own_maintenance");
    let theirs = "CREATE TABLE public.theirs (id text PRIMARY KEY, name text, email text); SELECT llm.attach_log('public.requests'); SELECT llm.create_request_log('public.made')";
    run(&mut s.admin, hosts::CANONICAL);
    run(&mut s.admin, theirs);
    run(&mut s.admin, &format!("CREATE TABLE public.unattached ({COLUMNS})"));
    run(
        &mut s.owner,
        "CREATE TABLE m.told (sql text, answer text); CREATE TABLE m.t (x int); INSERT INTO m.t VALUES (1);
         CREATE FUNCTION m.try() RETURNS void LANGUAGE plpgsql AS $$
         DECLARE q text; answer text;
         BEGIN
            FOREACH q IN ARRAY ARRAY['llm.detach_log(''public.requests'')', 'llm.seal(''public.requests'', ''2030-01-01'')', 'llm.set_retention(''public.made'', ''1 month'')',
                'llm.attach_directory(''user'', ''public.theirs'')', 'llm.attach_log(''public.unattached'')', 'llm.create_request_log(''public.mine'')'] LOOP
                BEGIN EXECUTE 'SELECT ' || q; answer := 'done'; EXCEPTION WHEN OTHERS THEN answer := SQLSTATE; END;
                INSERT INTO m.told VALUES (q, answer);
            END LOOP;
         END $$;
         CREATE FUNCTION m.lent() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM m.try(); END $$;
         CREATE FUNCTION m.f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM m.try(); PERFORM m.lent(); RETURN $1; END $$;
         CREATE INDEX i ON m.t (m.f(x))",
    );
    let told = "SELECT DISTINCT sql, answer FROM m.told WHERE answer <> '42501' ORDER BY 1";
    for sql in ["INSERT INTO m.told VALUES ('made by m', '42501')", "ANALYZE m.t", "REINDEX TABLE m.t", "VACUUM (FULL) m.t"] {
        run(&mut s.admin, sql);
        let done = rows(&mut s.owner, told);
        assert!(done.is_empty(), "{sql}: {done:?}");
        assert_ne!(text(&mut s.owner, "SELECT count(*) FROM m.told"), "0", "{sql} ran nothing of m's");
        run(&mut s.owner, "DELETE FROM m.told");
    }
    assert_eq!(text(&mut s.admin, "SELECT string_agg(state, ' ') FROM llm.status WHERE source IS NOT NULL"), "attached attached");
}

#[test]
fn create_request_log_where_its_owner_may_create() {
    let mut s = setting("own_create");
    // Without CREATE on a schema: refused, and said what to do.
    for call in ["llm.create_request_log()", "llm.create_request_log('public.mine')", "llm.create_request_log('llm.mine')"] {
        denied(&refused(&mut s.owner, &format!("SELECT {call}")), call);
    }
    assert_eq!(text(&mut s.admin, "SELECT count(*) FROM llm.source"), "0");
    run(&mut s.admin, &format!("GRANT CREATE ON SCHEMA public TO {}", s.role.name));
    let log = text(&mut s.owner, "SELECT llm.create_request_log()::oid");
    let place = format!(
        "SELECT n.nspname || ' ' || pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {log}"
    );
    assert_eq!(text(&mut s.admin, &place), format!("public {}", s.role.name), "where the default name lies, and whose it is");
    assert_eq!(text(&mut s.admin, "SELECT string_agg(state, ' ') FROM llm.status WHERE source IS NOT NULL"), "attached");
    // Its months come by themselves: as m's, and only as long as m may make them.
    run(&mut s.owner, "SELECT llm.create_request_log('m.made')");
    let next = text(&mut s.admin, "SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')");
    let default = text(&mut s.admin, &format!("SELECT {log}::regclass"));
    let months = [format!("m.made_{next}"), format!("{default}_{next}")];
    let there = |admin: &mut Client, month: &str| {
        text(
            admin,
            &format!("SELECT coalesce(pg_get_userbyid((SELECT relowner FROM pg_class WHERE oid = to_regclass('{month}'))), 'gone')"),
        )
    };
    for month in &months {
        run(&mut s.owner, &format!("DROP TABLE {month}"));
    }
    maintain(&mut s.admin);
    for month in &months {
        assert_eq!(there(&mut s.admin, month), s.role.name, "{month} after maintain");
        run(&mut s.owner, &format!("DROP TABLE {month}"));
    }
    run(&mut s.admin, &format!("REVOKE CREATE ON SCHEMA public FROM {}", s.role.name));
    maintain(&mut s.admin);
    assert_eq!(there(&mut s.admin, &months[0]), s.role.name, "one log's owner may not, the other's may");
    assert_eq!(there(&mut s.admin, &months[1]), "gone", "m may not create in public any more");
    let error =
        text(&mut s.admin, &format!("SELECT last_error FROM llm.status WHERE source LIKE '%{}'", default.trim_start_matches("public.")));
    assert!(error.contains("42501") || error.contains("permission"), "llm.status of that log says why: {error}");
    run(&mut s.admin, &format!("GRANT CREATE ON SCHEMA public TO {}", s.role.name));
    maintain(&mut s.admin);
    assert_eq!(there(&mut s.admin, &months[1]), s.role.name, "m may again");
    run(&mut s.admin, &format!("DROP OWNED BY {} CASCADE", s.role.name));
}

#[test]
fn trees_with_several_owners() {
    let mut s = setting("own_tree");
    let other = Role::new(&s.db.server, "other");
    run(
        &mut s.owner,
        &format!(
            "CREATE TABLE m.tree ({COLUMNS}) PARTITION BY RANGE (created_at);
             CREATE TABLE m.tree_6 PARTITION OF m.tree FOR VALUES FROM ('2026-06-01Z') TO ('2026-07-01Z');
             CREATE TABLE m.tree_7 PARTITION OF m.tree FOR VALUES FROM ('2026-07-01Z') TO ('2026-08-01Z');
             CREATE TABLE m.tree_8 (LIKE m.tree); INSERT INTO m.tree VALUES ('2026-06-02Z', 'o', 'k', 'm', 1), ('2026-07-02Z', 'o', 'k', 'm', 2)"
        ),
    );
    run(
        &mut s.admin,
        &format!("GRANT USAGE ON SCHEMA m TO {n}; ALTER TABLE m.tree_7 OWNER TO {n}; ALTER TABLE m.tree_8 OWNER TO {n}", n = other.name),
    );
    let refusal = refused(&mut s.owner, "SELECT llm.attach_log('m.tree')");
    denied(&refusal, "a tree with several owners");
    assert!(format!("{refusal:?}").contains("tree_7"), "which partition it is: {refusal:?}");
    assert_eq!(text(&mut s.admin, "SELECT count(*) FROM llm.source"), "0");
    // A superuser may, and is told of those that come later.
    run(&mut s.admin, "SELECT llm.attach_log('m.tree')");
    maintain(&mut s.admin);
    let late = "SELECT coalesce(last_error, 'nothing') FROM llm.status WHERE source = 'm.tree'";
    assert!(!text(&mut s.admin, late).contains("tree_8"), "before it is there");
    run(&mut s.admin, "ALTER TABLE m.tree ATTACH PARTITION m.tree_8 FOR VALUES FROM ('2026-08-01Z') TO ('2026-09-01Z')");
    run(&mut s.admin, "INSERT INTO m.tree VALUES ('2026-08-02Z', 'o', 'k', 'm', 4)");
    maintain(&mut s.admin);
    let said = text(&mut s.admin, late);
    assert!(said.contains("tree_8"), "llm.status names the partition of another owner: {said}");
    assert_eq!(text(&mut s.admin, NUMBERS), "(o,3,7)");
    verified(&mut s.admin, "several owners");
    // One owner when it was attached, by that owner; then a partition changes hands.
    run(
        &mut s.owner,
        &format!(
            "CREATE TABLE m.one ({COLUMNS}) PARTITION BY RANGE (created_at); CREATE TABLE m.one_all PARTITION OF m.one DEFAULT; SELECT llm.attach_log('m.one')"
        ),
    );
    run(&mut s.admin, &format!("ALTER TABLE m.one_all OWNER TO {}", other.name));
    maintain(&mut s.admin);
    let said = text(&mut s.admin, &late.replace("m.tree", "m.one"));
    assert!(said.contains("one_all"), "llm.status names the partition that changed hands: {said}");
    run(&mut s.admin, &format!("DROP OWNED BY {}, {} CASCADE", other.name, s.role.name));
}

/// A mapping that fails when it is read again is its owner's trouble only.
#[test]
fn an_owner_stops_nobody_else() {
    let mut s = setting("own_stops");
    let boom = |does: &str| {
        format!("CREATE OR REPLACE FUNCTION m.boom(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN {does} RETURN x; END $$")
    };
    run(&mut s.owner, &boom(""));
    run(&mut s.owner, "INSERT INTO m.l VALUES ('2026-06-01Z', 'o', 'k', 'm', 1)");
    let columns = r#"{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "m.boom(api_key_id)", "model": "model", "cost": "cost"}"#;
    run(
        &mut s.owner,
        &format!(
            "SELECT llm.attach_log('m.l', '{columns}'); INSERT INTO m.l VALUES ('2026-06-02Z', 'o', 'k', 'm', 1); SELECT llm.create_request_log('m.made')"
        ),
    );
    run(&mut s.owner, &boom("RAISE EXCEPTION 'boom of %', x;"));
    run(&mut s.admin, hosts::CANONICAL);
    run(
        &mut s.admin,
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, '2026-06-01Z', 'other', 'k', 'm', 1); SELECT llm.attach_log('public.requests')",
    );
    let next = text(&mut s.admin, "SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')");
    run(&mut s.owner, &format!("DROP TABLE m.made_{next}"));
    let maintained = s.admin.batch_execute("CALL llm.maintain()");
    assert_eq!(text(&mut s.admin, "SELECT count(*) FROM llm._pending"), "0", "everything is folded");
    assert_eq!(text(&mut s.admin, "SELECT state FROM llm.status WHERE source = 'public.requests'"), "attached", "others are backfilled");
    assert_ne!(text(&mut s.admin, &format!("SELECT to_regclass('m.made_{next}')")), "NULL", "months are made");
    assert!(maintained.is_ok(), "CALL llm.maintain(): {:?}", refusal(&maintained.unwrap_err()));
    let said = text(&mut s.admin, "SELECT string_agg(last_error, ' ') FROM llm.status");
    assert!(said.contains("P0001") && !said.contains("boom of k"), "llm.status says which kind of error, and nothing of the row: {said}");
}

/// Settings that m may choose for its own session change nothing of what is done for it.
#[test]
fn odd_settings_of_the_session() {
    let mut s = setting("own_settings");
    let log = r#"m."we'ird \ ""name""#;
    run(&mut s.owner, &format!("CREATE TABLE {log} (LIKE m.l)"));
    let year = text(&mut s.admin, "SELECT extract(year FROM now()) + 2");
    for (i, odd) in [
        "row_security = off",
        "standard_conforming_strings = off",
        "quote_all_identifiers = on",
        "transform_null_equals = on",
        "DateStyle = 'SQL, DMY'",
        "IntervalStyle = 'sql_standard'",
        "TimeZone = 'Pacific/Kiritimati'",
        "extra_float_digits = -15",
        "bytea_output = 'escape'",
        "array_nulls = off",
        "search_path = 'm', 'pg_temp'",
        "default_transaction_isolation = 'serializable'",
        "check_function_bodies = off",
        "client_min_messages = error",
    ]
    .iter()
    .enumerate()
    {
        run(&mut s.owner, &format!("SET {odd}"));
        let steps = [
            format!("SELECT llm.attach_log({})", quote(log)),
            format!("INSERT INTO {log} VALUES ('2026-06-01T00:00:00Z', 'o', 'k', 'm', 1)"),
            "SELECT llm.attach_directory('user', 'm.people', '{\"id\": \"id\", \"name\": \"upper(name)\"}')".to_owned(),
            format!("SELECT llm.create_request_log('m.made{i}')"),
            format!(
                "INSERT INTO m.made{i} (created_at, organization_id, api_key_id, model) VALUES ('{year}-06-01T00:00:00Z', 'p', 'k', 'm')"
            ),
            format!("SELECT llm.set_retention('m.made{i}', '1 year')"),
            format!("SELECT llm.seal('m.made{i}', '2020-01-01T00:00:00Z')"),
            "SELECT llm.detach_directory('user')".to_owned(),
            format!("SELECT llm.detach_log({})", quote(log)),
        ];
        for sql in &steps {
            let done = s.owner.batch_execute(sql);
            assert!(done.is_ok(), "{odd}: {sql}: {:?}", refusal(&done.unwrap_err()));
        }
        verified(&mut s.admin, odd);
        let bounds = format!(
            "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'm.made{i}'::regclass
             AND pg_get_expr(c.relpartbound, c.oid) ~ '^FOR VALUES FROM \\(''[0-9]{{4}}-[0-9]{{2}}-01 00:00:00\\+00''\\) TO \\(''[0-9]{{4}}-[0-9]{{2}}-01 00:00:00\\+00''\\)$'"
        );
        assert_eq!(text(&mut s.admin, &bounds), "4", "{odd}: months of UTC");
        run(&mut s.owner, &format!("RESET {}", odd.split(' ').next().expect("a name")));
    }
}
