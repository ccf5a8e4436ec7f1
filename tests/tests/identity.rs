//! An identity is given by `llm.act_as` for one transaction or by `llm.bind_role` to one role, and by nothing else: it cannot
//! be set, is not left behind, and is not inherited.

use llm_analytics_tests::db::{quote, quote_ident, refusal, refused, rows, run, text};
use llm_analytics_tests::world::{World, visible};
use postgres::{Client, NoTls};

const WHO: &str = "SELECT llm.current_user_id()";
const ME: &str = "SELECT llm.analytics_me('acme', '2026-06-01', '2026-06-02')->'member'->>'userId'";
const USAGE: &str = "SELECT coalesce(sum(requests), 0) FROM llm.usage";

/// Nobody, by every way of asking.
fn is_nobody(client: &mut Client, context: &str) {
    assert_eq!(text(client, WHO), "NULL", "{context}");
    assert_eq!(text(client, USAGE), "0", "{context}");
    let refusal = refused(client, ME);
    assert_eq!(refusal.state, "28000", "{context}: {refusal:?}");
}

fn act(client: &mut Client, user: &str) {
    run(client, &format!("SELECT llm.act_as({})", quote(user)));
}

fn requests_of(world: &mut World, user: &str) -> String {
    text(&mut world.client, &format!("SELECT count(*) FROM {} v", visible(user)))
}

#[test]
fn for_one_transaction() {
    let mut world = World::new("identity", false);
    let all = requests_of(&mut world, "own");
    assert_ne!(all, "0");
    let mut client = world.acting("own").client;
    is_nobody(&mut client, "a new connection");
    act(&mut client, "own");
    is_nobody(&mut client, "a statement of its own is a transaction of its own");
    for end in ["COMMIT", "ROLLBACK", "COMMIT AND NO CHAIN", "END"] {
        run(&mut client, "BEGIN");
        act(&mut client, "own");
        assert_eq!((text(&mut client, WHO), text(&mut client, ME), text(&mut client, USAGE)), ("own".into(), "own".into(), all.clone()));
        run(&mut client, end);
        is_nobody(&mut client, end);
    }
    for end in ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN"] {
        run(&mut client, "BEGIN");
        act(&mut client, "own");
        run(&mut client, end);
        assert_eq!(text(&mut client, WHO), "NULL", "{end}");
        act(&mut client, "dev");
        assert_eq!(text(&mut client, WHO), "dev", "{end}");
        run(&mut client, "ROLLBACK");
    }
    // An error ends it as well, at once or at the end of the transaction.
    for error in ["SELECT 1 / 0", "SELECT llm.analytics_me('rival')", "SELECT llm.act_as('somebody else')", "nonsense"] {
        run(&mut client, "BEGIN");
        act(&mut client, "own");
        refused(&mut client, error);
        assert_eq!(refused(&mut client, WHO).state, "25P02", "{error}");
        run(&mut client, "ROLLBACK");
        is_nobody(&mut client, error);
    }
    // The same with the extended protocol, where a driver prepares what it sends.
    let mut transaction = client.transaction().expect("BEGIN");
    transaction.query("SELECT llm.act_as($1)::text", &[&"own"]).expect("act_as");
    let who: Option<String> = transaction.query_one(WHO, &[]).expect("who").get(0);
    assert_eq!(who.as_deref(), Some("own"));
    transaction.commit().expect("COMMIT");
    is_nobody(&mut client, "extended protocol");
    assert_eq!(refused(&mut client, "SELECT llm.act_as(NULL)").state, "22004");
}

#[test]
fn savepoints() {
    let mut world = World::new("identity_sub", false);
    let mut client = world.acting("own").client;
    let who = |client: &mut Client| text(client, WHO);
    run(&mut client, "BEGIN; SAVEPOINT a");
    act(&mut client, "own");
    run(&mut client, "ROLLBACK TO a");
    assert_eq!(who(&mut client), "NULL", "rolled back with its savepoint");
    act(&mut client, "dev");
    assert_eq!(who(&mut client), "dev", "what was rolled back never was");
    run(&mut client, "RELEASE a; SAVEPOINT b");
    assert_eq!(who(&mut client), "dev", "released into the transaction");
    act(&mut client, "dev");
    run(&mut client, "ROLLBACK TO b");
    assert_eq!(who(&mut client), "dev", "said before the savepoint");
    let refusal = refused(&mut client, "SELECT llm.act_as('own')");
    assert_eq!(refusal.state, "42501", "{refusal:?}");
    run(&mut client, "ROLLBACK TO b");
    assert_eq!(who(&mut client), "dev", "after the refusal");
    run(&mut client, "ROLLBACK");
    is_nobody(&mut client, "rollback");
    // Released into a savepoint that is then rolled back.
    run(&mut client, "BEGIN; SAVEPOINT a; SAVEPOINT b");
    act(&mut client, "own");
    run(&mut client, "RELEASE b; SAVEPOINT c; ROLLBACK TO c");
    assert_eq!(who(&mut client), "own");
    run(&mut client, "ROLLBACK TO a");
    assert_eq!(who(&mut client), "NULL");
    run(&mut client, "SAVEPOINT d");
    act(&mut client, "dev");
    run(&mut client, "RELEASE d; COMMIT");
    is_nobody(&mut client, "commit");
    // An exception that plpgsql caught.
    run(&mut client, "BEGIN");
    run(&mut client, "DO $$ BEGIN PERFORM llm.act_as('own'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$");
    assert_eq!(who(&mut client), "NULL", "undone by an exception block");
    run(&mut client, "DO $$ BEGIN PERFORM llm.act_as('own'); EXCEPTION WHEN division_by_zero THEN NULL; END $$");
    assert_eq!(who(&mut client), "own", "an exception block that ends well keeps it");
    run(&mut client, "DO $$ BEGIN PERFORM llm.act_as('dev'); EXCEPTION WHEN insufficient_privilege THEN NULL; END $$");
    assert_eq!(who(&mut client), "own", "a refusal that was caught changes nothing");
    run(&mut client, "COMMIT");
    is_nobody(&mut client, "commit");
}

#[test]
fn once_per_transaction() {
    let mut world = World::new("identity_once", false);
    let mut client = world.acting("own").client;
    run(&mut client, "BEGIN");
    act(&mut client, "own");
    act(&mut client, "own");
    assert_eq!(text(&mut client, WHO), "own", "the same again is fine");
    let refusal = refused(&mut client, "SELECT llm.act_as('dev')");
    assert_eq!(refusal.state, "42501", "{refusal:?}");
    assert!(!refusal.hint.is_empty(), "{refusal:?}");
    run(&mut client, "ROLLBACK");
    // Within the transaction nothing that resets a session takes it away or changes it: it is no setting.
    run(&mut client, "BEGIN");
    act(&mut client, "own");
    run(&mut client, "RESET ALL; SET LOCAL search_path = ''; SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; DISCARD PLANS");
    assert_eq!(text(&mut client, WHO), "own");
    run(&mut client, "ROLLBACK; SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE");
    run(&mut client, "DISCARD ALL"); // not in a transaction block, which several statements in one message are
    is_nobody(&mut client, "DISCARD ALL");
    // A user id is data: whatever it is, it is only compared.
    for odd in ["o'wn", "own; DROP TABLE llm.rollup", "\"own\"", "OWN", " own", "Ünï", &"x".repeat(150)] {
        run(&mut client, "BEGIN");
        act(&mut client, odd);
        assert_eq!(text(&mut client, WHO), odd);
        assert_eq!(text(&mut client, USAGE), "0");
        assert!(refused(&mut client, ME).detail.contains("reason=not_member"));
        run(&mut client, "ROLLBACK");
    }
}

#[test]
fn who_may_call_what() {
    let mut world = World::new("identity_execute", false);
    let open = "SELECT p.oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.pronamespace = 'llm'::regnamespace AND a.grantee = 0 AND a.privilege_type = 'EXECUTE'
            AND p.proname IN ('act_as', 'bind_role', 'unbind_role', 'attach_log', 'detach_log', 'attach_directory', 'detach_directory', 'create_request_log', 'rebuild', 'seal', 'forget', 'fold')";
    assert!(rows(&mut world.client, open).is_empty(), "{:?}", rows(&mut world.client, open));
    let (mut nobody, mut own) = (world.nobody(), world.bound("own"));
    for caller in [&mut nobody, &mut own] {
        for call in [
            "SELECT llm.act_as('own')",
            "SELECT llm.bind_role(current_user, 'own')",
            "SELECT llm.bind_role(current_user, all_organizations => true)",
            "SELECT llm.unbind_role(current_user)",
            "SELECT llm.attach_directory('user', 'public.\"user\"')",
            "SELECT llm.detach_directory('user')",
            "SELECT llm.fold()",
        ] {
            let refusal = caller.refused(call);
            // 42883 where an argument's type does not fit the literal: nothing was called either
            assert!(["42501", "42883"].contains(&refusal.state.as_str()), "{}: {call}: {refusal:?}", caller.role);
        }
    }
    is_nobody(&mut nobody.client, "after all that");
    assert_eq!(own.text(WHO), "own");
    // A bound role is somebody already, also where it was granted EXECUTE, also through a function of somebody else.
    run(
        &mut world.client,
        &format!(
            "GRANT EXECUTE ON FUNCTION llm.act_as TO {r}; CREATE FUNCTION public.act(u text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN PERFORM llm.act_as(u); END'",
            r = own.role
        ),
    );
    for call in ["SELECT llm.act_as('dev')", "SELECT llm.act_as('riv')", "SELECT public.act('riv')"] {
        let refusal = own.refused(call);
        assert_eq!(refusal.state, "42501", "{call}: {refusal:?}");
    }
    assert_eq!(own.text(WHO), "own");
    // A superuser who acts for somebody is that user to the functions.
    run(&mut world.client, "BEGIN; SELECT llm.act_as('dev')");
    assert!(refused(&mut world.client, "SELECT llm.analytics_members('acme')").detail.contains("reason=role_required"));
    run(&mut world.client, "ROLLBACK");
    run(&mut world.client, "SELECT llm.analytics_members('acme')");
}

/// Nothing that a session can set is an identity.
#[test]
fn cannot_be_forged() {
    let mut world = World::new("identity_forged", false);
    let known = rows(&mut world.client, "SELECT name FROM pg_settings WHERE name LIKE 'llm%'");
    let guesses = [
        "llm.user_id",
        "llm.user",
        "llm.current_user_id",
        "llm.current_user",
        "llm.act_as",
        "llm.acting_as",
        "llm.identity",
        "llm.role",
        "llm._identity",
        "llm.caller",
        "llm.uid",
        "llm.sub",
        "llm_analytics.user_id",
        "app.user_id",
        "app.current_user_id",
        "request.jwt.claim.sub",
        "role.user_id",
    ];
    let names: Vec<String> = guesses.iter().map(|s| (*s).to_owned()).chain(known.into_iter().map(|mut row| row.remove(0))).collect();
    let role = world.backend_role();
    let mut nobody = world.nobody().client;
    let mut backend = world.caller(&role, None).client;
    for client in [&mut nobody, &mut backend] {
        let mut set = 0;
        for name in &names {
            for sql in
                [format!("SET {name} = 'own'"), format!("SELECT set_config('{name}', 'own', false)"), format!("SET SESSION {name} TO own")]
            {
                // Some are reserved, some are ours and not settable; what matters is that none of it makes anybody somebody.
                match client.batch_execute(&sql) {
                    Ok(()) => set += 1,
                    Err(error) => assert_ne!(refusal(&error).state, "XX000", "{sql}"),
                }
                is_nobody(client, &sql);
            }
            run(client, "BEGIN");
            let _ = client.batch_execute(&format!("SET LOCAL {name} = 'own'"));
            let _ = client.batch_execute("COMMIT");
            is_nobody(client, name);
        }
        assert!(set > 0, "no guess could be set at all");
        run(client, "SET application_name = 'own'; SELECT set_config('request.jwt.claims', '{\"sub\":\"own\"}', false)");
        is_nobody(client, "claims");
        // Tables and functions of one's own beside ours.
        run(client, "CREATE TEMP TABLE _identity (user_id text); INSERT INTO _identity VALUES ('own')");
        run(
            client,
            "CREATE FUNCTION pg_temp.current_user_id() RETURNS text LANGUAGE sql AS $$ SELECT 'own'::text $$; SET search_path = pg_temp, llm, pg_catalog",
        );
        is_nobody(client, "search_path");
    }
    // A startup option is a setting as well.
    let mut config = world.db.server.config(&world.db.name, &role);
    config.options("-c llm.user_id=own -c app.user_id=own");
    if let Ok(mut client) = config.connect(NoTls) {
        is_nobody(&mut client, "startup options");
    }
}

#[test]
fn pooled_connections_and_prepared_statements() {
    let mut world = World::new("identity_pool", false);
    let users = ["own", "dev", "riv", "adm", "out"];
    let expected: Vec<String> = users.iter().map(|user| requests_of(&mut world, user)).collect();
    let mut client = world.acting("own").client;
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        run(&mut client, &format!("SET plan_cache_mode = {mode}"));
        // Prepared by nobody, by somebody else, and used by everybody in turn.
        for first in [None, Some("own"), Some("dev")] {
            run(&mut client, "DEALLOCATE ALL; BEGIN");
            if let Some(user) = first {
                act(&mut client, user);
            }
            run(
                &mut client,
                "PREPARE u AS SELECT coalesce(sum(requests), 0) FROM llm.usage WHERE cost IS NOT NULL; PREPARE w AS SELECT llm.current_user_id()",
            );
            run(
                &mut client,
                "PREPARE m AS SELECT llm.analytics_me('acme', '2026-06-01', '2026-06-02')->'member'->>'userId'; EXECUTE u; COMMIT",
            );
            for round in 0..8 {
                let (user, wanted) = (users[round % users.len()], &expected[round % users.len()]);
                let context = format!("{mode}, prepared by {first:?}, round {round} {user}");
                run(&mut client, "BEGIN");
                act(&mut client, user);
                assert_eq!(&text(&mut client, "EXECUTE u"), wanted, "{context}");
                assert_eq!(text(&mut client, "EXECUTE w"), user, "{context}");
                if ["own", "dev", "adm"].contains(&user) {
                    assert_eq!(text(&mut client, "EXECUTE m"), user, "{context}");
                }
                run(&mut client, if round % 2 == 0 { "COMMIT" } else { "ROLLBACK" });
                assert_eq!(
                    (text(&mut client, "EXECUTE u"), text(&mut client, "EXECUTE w")),
                    ("0".into(), "NULL".into()),
                    "{context}: afterwards"
                );
            }
        }
    }
    // A cursor that is held over the end has what its owner saw; a new query has not.
    run(&mut client, "BEGIN");
    act(&mut client, "dev");
    run(&mut client, "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM llm.usage; COMMIT");
    is_nobody(&mut client, "a held cursor");
}

#[test]
fn prepared_transactions() {
    let mut world = World::new("identity_2pc", false);
    let mut client = world.acting("own").client;
    let name = format!("{}_gid", world.db.name);
    for end in ["COMMIT PREPARED", "ROLLBACK PREPARED"] {
        run(&mut client, "BEGIN");
        act(&mut client, "own");
        run(&mut client, &format!("PREPARE TRANSACTION '{name}'"));
        is_nobody(&mut client, "PREPARE TRANSACTION");
        run(&mut client, "BEGIN");
        act(&mut client, "dev");
        assert_eq!(text(&mut client, WHO), "dev");
        run(&mut client, "COMMIT");
        run(&mut client, &format!("{end} '{name}'"));
        is_nobody(&mut client, end);
    }
}

/// The argument of bind_role for a role, whichever of PostgreSQL's types for one it takes.
fn role_argument(client: &mut Client, role: &str) -> String {
    let kind =
        text(client, "SELECT proargtypes[0]::regtype FROM pg_proc WHERE pronamespace = 'llm'::regnamespace AND proname = 'bind_role'");
    quote(&if kind == "regrole" { quote_ident(role) } else { role.to_owned() })
}

#[test]
fn bound_roles() {
    let mut world = World::new("identity_bind", false);
    for missing in ["no such role", "none_such"] {
        for call in [
            format!("bind_role({}, 'own')", role_argument(&mut world.client, missing)),
            format!("bind_role({}, all_organizations => true)", role_argument(&mut world.client, missing)),
        ] {
            let refusal = refused(&mut world.client, &format!("SELECT llm.{call}"));
            assert_eq!(refusal.state, "42704", "{call}: {refusal:?}");
        }
    }
    let refusal = refused(&mut world.client, "SELECT llm.bind_role(NULL, 'own')");
    assert_eq!(refusal.state, "22004", "{refusal:?}");
    for odd in ["We\"ird Röle", "UPPER", "semi; colon", "it's", "select"] {
        let name = format!("{odd} {}", world.db.name);
        run(&mut world.client, &format!("CREATE ROLE {} LOGIN", quote_ident(&name)));
        let argument = role_argument(&mut world.client, &name);
        run(&mut world.client, &format!("SELECT llm.bind_role({argument}, 'own')"));
        let mut client = world.db.connect_as(&name);
        assert_eq!((text(&mut client, WHO), text(&mut client, ME)), ("own".into(), "own".into()), "{name}");
        // At once, in a connection that is open.
        run(&mut world.client, &format!("SELECT llm.unbind_role({argument})"));
        is_nobody(&mut client, &name);
        drop(client);
        run(&mut world.client, &format!("DROP ROLE {}", quote_ident(&name)));
    }
    // Exactly that role: not its members, unless they are it.
    let own = world.bound_role("own");
    let (member, noinherit) = (world.role("member"), world.role("noinherit"));
    run(&mut world.client, &format!("ALTER ROLE {noinherit} NOINHERIT; GRANT {own} TO {member}, {noinherit}"));
    for role in [&member, &noinherit] {
        let mut client = world.db.connect_as(role);
        is_nobody(&mut client, "a member of a bound role");
        run(&mut client, &format!("SET ROLE {own}"));
        assert_eq!((text(&mut client, WHO), text(&mut client, ME)), ("own".into(), "own".into()));
        run(&mut client, "RESET ROLE");
        is_nobody(&mut client, "RESET ROLE");
        run(&mut client, &format!("BEGIN; SET LOCAL ROLE {own}"));
        assert_eq!(text(&mut client, WHO), "own");
        run(&mut client, "COMMIT");
        is_nobody(&mut client, "SET LOCAL ROLE is over");
    }
    // A bound member of a bound role is itself.
    run(&mut world.client, &format!("SELECT llm.bind_role('{member}', 'dev')"));
    let mut client = world.db.connect_as(&member);
    assert_eq!(text(&mut client, WHO), "dev");
    assert!(refused(&mut client, "SELECT llm.analytics_members('acme')").detail.contains("reason=role_required"));
}

/// As PostgREST does it: a role per request, claims as settings, and one function of the host that believes them.
#[test]
fn a_request_hook_of_the_host() {
    let mut world = World::new("identity_hook", false);
    let (authenticator, hook_owner, web) = (world.role("authenticator"), world.backend_role(), world.role("web"));
    run(
        &mut world.client,
        &format!(
            "GRANT {web} TO {authenticator}; ALTER ROLE {authenticator} NOINHERIT; CREATE SCHEMA app;
             CREATE FUNCTION app.pre_request() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                AS $$ BEGIN PERFORM llm.act_as(current_setting('request.jwt.claims', true)::json->>'sub'); END $$;
             ALTER FUNCTION app.pre_request() OWNER TO {hook_owner}; REVOKE ALL ON FUNCTION app.pre_request() FROM PUBLIC;
             GRANT USAGE ON SCHEMA app TO {web}; GRANT EXECUTE ON FUNCTION app.pre_request() TO {web}"
        ),
    );
    let mut client = world.db.connect_as(&authenticator);
    for user in ["own", "dev", "own"] {
        let wanted = requests_of(&mut world, user);
        run(&mut client, &format!("BEGIN; SET LOCAL ROLE {web}; SELECT set_config('request.jwt.claims', '{{\"sub\":\"{user}\"}}', true)"));
        assert_eq!(text(&mut client, WHO), "NULL", "before the hook");
        run(&mut client, "SELECT app.pre_request()");
        assert_eq!((text(&mut client, WHO), text(&mut client, ME), text(&mut client, USAGE)), (user.into(), user.into(), wanted));
        // The request itself changes the claims: too late.
        run(&mut client, "SELECT set_config('request.jwt.claims', '{\"sub\":\"riv\"}', true)");
        assert_eq!(text(&mut client, WHO), user);
        for forged in ["SELECT app.pre_request()", "SELECT llm.act_as('riv')"] {
            run(&mut client, "SAVEPOINT s");
            assert_eq!(refused(&mut client, forged).state, "42501", "{forged}");
            run(&mut client, "ROLLBACK TO s");
        }
        assert_eq!(text(&mut client, ME), user);
        run(&mut client, "COMMIT");
        is_nobody(&mut client, "the next request");
    }
}
