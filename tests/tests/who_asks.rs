//! Who is asking, cell by cell: which user of the host application a question is answered for, by the effective user, the
//! outer user, `llm.act_as` and the bindings. The operations of maintenance are in `who_asks_maintenance`.

use llm_analytics_tests::db::{Db, quote, refusal, refused, rows, run, text};
use llm_analytics_tests::world::{World, visible};
use postgres::Client;

const WHO: &str = "SELECT coalesce(llm.current_user_id(), 'NULL')";
const USAGE: &str = "SELECT coalesce(sum(requests), 0)::text FROM llm.usage";
const MEMBERS: &str = "SELECT llm.analytics_members('acme', '2026-06-01', '2026-06-02')->>'plan'";
const ROLLUP: &str = "SELECT coalesce(sum(llm._count(measures, 0)), 0)::text FROM llm.rollup WHERE level = 0";
const PENDING: &str = "SELECT coalesce(sum(llm._count(measures, 0)), 0)::text FROM llm._pending WHERE kind = 0";
/// Names of the definer functions, and what they ask.
const QUESTIONS: [(&str, &str); 5] = [("who", WHO), ("usage", USAGE), ("members", MEMBERS), ("rollup", ROLLUP), ("pending", PENDING)];

/// The answer, or the SQLSTATE.
fn said(client: &mut Client, sql: &str) -> String {
    match client.simple_query(sql) {
        Ok(messages) => messages
            .iter()
            .find_map(|message| match message {
                postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
                _ => None,
            })
            .expect("a row"),
        Err(error) => refusal(&error).state,
    }
}

/// Functions of each question that run as `owner`: `as_<owner>.<question>()`.
fn definer_functions(client: &mut Client, owner: &str) {
    run(client, &format!("CREATE SCHEMA as_{owner}; GRANT USAGE ON SCHEMA as_{owner} TO PUBLIC"));
    for (name, sql) in QUESTIONS {
        run(
            client,
            &format!(
                "CREATE FUNCTION as_{owner}.{name}() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN ({sql}); END $$;
                 ALTER FUNCTION as_{owner}.{name}() OWNER TO {owner}"
            ),
        );
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    User(&'static str),
    Everything,
    Nobody,
}

struct Role {
    name: String,
    is_privileged: bool,
    bound: Option<&'static str>,
}

/// The table of docs/access.md.
fn identity(effective: &Role, outer: &Role) -> Who {
    match (effective, outer) {
        (Role { bound: Some(user), .. }, _) => Who::User(user),
        (Role { is_privileged: false, .. }, _) => Who::Nobody,
        (_, Role { bound: Some(user), .. }) => Who::User(user),
        (_, Role { is_privileged: true, .. }) => Who::Everything,
        _ => Who::Nobody,
    }
}

/// What each question is answered. `everything`, `folded`, `pending`: requests of all.
struct Numbers {
    own: [String; 3],
    dev: [String; 3],
    all: [String; 3],
}

impl Numbers {
    /// In llm.usage, in llm.rollup, in llm._pending: the second day is pending.
    fn new(client: &mut Client) -> Numbers {
        let mut of = |from: &str| {
            ["true", "created_at < '2026-06-02'", "created_at >= '2026-06-02'"]
                .map(|day| text(client, &format!("SELECT count(*) FROM {from} v WHERE {day}")))
        };
        Numbers { own: of(&visible("own")), dev: of(&visible("dev")), all: of("public.log") }
    }

    fn of(&self, who: Who) -> [String; 3] {
        match who {
            Who::User("own") => self.own.clone(),
            Who::User(_) => self.dev.clone(),
            Who::Everything => self.all.clone(),
            Who::Nobody => ["0", "0", "0"].map(str::to_owned),
        }
    }
}

/// The answers to [`QUESTIONS`] that `who` gets through SQL that runs as `effective`.
fn wanted(numbers: &Numbers, who: Who, effective: &Role, is_indirect: bool) -> [String; 5] {
    let refused = is_indirect && who == Who::Nobody;
    let number = |at: usize| if refused { "28000".to_owned() } else { numbers.of(who)[at].clone() };
    // Of the tables beneath llm.usage whoever bypasses row security sees all, as PostgreSQL has it.
    let beneath = |at: usize| if effective.is_privileged { numbers.all[at].clone() } else { number(at) };
    let members = match who {
        Who::User("own") | Who::Everything => "enterprise",
        Who::User(_) => "42501",
        Who::Nobody => "28000",
    };
    let id = match who {
        Who::User(user) => user,
        Who::Everything | Who::Nobody => "NULL",
    };
    [id.into(), number(0), members.into(), beneath(1), beneath(2)]
}

fn roles(world: &mut World) -> Vec<Role> {
    let mut roles = Vec::new();
    let mut role = |world: &mut World, tag: &str, attribute: &str, bound: Option<&'static str>| {
        let name = world.role(tag);
        run(&mut world.client, &format!("ALTER ROLE {name} {attribute}"));
        if let Some(user) = bound {
            run(&mut world.client, &format!("SELECT llm.bind_role({}, {})", quote(&name), quote(user)));
        }
        roles.push(Role { name, is_privileged: attribute != "NOBYPASSRLS", bound });
    };
    for (tag, bound) in [("plain", None), ("own", Some("own")), ("dev", Some("dev"))] {
        role(world, tag, "NOBYPASSRLS", bound);
        role(world, &format!("super_{tag}"), "SUPERUSER", bound);
    }
    role(world, "bypass", "BYPASSRLS", None);
    roles
}

#[test]
fn every_cell_of_the_table() {
    let mut world = World::new("who_cells", false);
    let numbers = Numbers::new(&mut world.client);
    let roles = roles(&mut world);
    for role in &roles {
        definer_functions(&mut world.client, &role.name);
    }
    for outer in &roles {
        let mut client = world.db.connect_as(&outer.name);
        let direct = QUESTIONS.map(|(_, sql)| said(&mut client, sql));
        assert_eq!(direct, wanted(&numbers, identity(outer, outer), outer, false), "{} asks", outer.name);
        for effective in &roles {
            let answers = QUESTIONS.map(|(name, _)| said(&mut client, &format!("SELECT as_{}.{name}()", effective.name)));
            let is_indirect = effective.name != outer.name;
            let who = identity(effective, outer);
            assert_eq!(
                answers,
                wanted(&numbers, who, effective, is_indirect),
                "{} calls a function of {}: {who:?}",
                outer.name,
                effective.name
            );
        }
    }
    // The outer user is the role of SET ROLE.
    let (plain, own) = (&roles[0], &roles[2]);
    let mut client = world.db.connect();
    for (role, effective) in [(own, own), (plain, own), (own, plain)] {
        run(&mut client, &format!("SET ROLE {}", role.name));
        let answers = QUESTIONS.map(|(name, _)| said(&mut client, &format!("SELECT as_{}.{name}()", effective.name)));
        assert_eq!(answers, wanted(&numbers, identity(effective, role), effective, role.name != effective.name), "SET ROLE {}", role.name);
    }
}

/// A view reads the tables as its owner, but the condition of llm.usage is its reader's.
#[test]
fn a_view_shows_what_its_reader_may_see() {
    let mut world = World::new("who_views", false);
    let numbers = Numbers::new(&mut world.client);
    run(
        &mut world.client,
        "CREATE VIEW public.costs AS SELECT * FROM llm.usage; GRANT SELECT ON public.costs TO PUBLIC;
         CREATE VIEW public.invoker WITH (security_invoker = true) AS SELECT * FROM llm.usage; GRANT SELECT ON public.invoker TO PUBLIC",
    );
    for view in ["costs", "invoker"] {
        let sql = USAGE.replace("llm.usage", &format!("public.{view}"));
        assert_eq!(world.bound("own").text(&sql), numbers.own[0], "{view}");
        assert_eq!(world.acting("dev").text(&sql), numbers.dev[0], "{view}");
        assert_eq!(world.nobody().text(&sql), "0", "{view}");
        assert_eq!(world.superuser().text(&sql), numbers.all[0], "{view}");
    }
}

/// A superuser who acts for somebody sees that user's rows in llm.usage too.
#[test]
fn act_as_beats_everything_else() {
    let mut world = World::new("who_act", false);
    let numbers = Numbers::new(&mut world.client);
    let (own, backend, other) = (world.bound_role("own"), world.backend_role(), world.role("other"));
    run(&mut world.client, &format!("GRANT {own} TO {backend}"));
    let bypass = world.role("bypass");
    run(&mut world.client, &format!("ALTER ROLE {bypass} BYPASSRLS"));
    for role in [&own, &backend, &other, &bypass] {
        definer_functions(&mut world.client, role);
    }
    let superuser = world.db.server.user.clone();
    definer_functions(&mut world.client, &superuser);
    for role in [&superuser, &backend] {
        let mut client = world.db.connect_as(role);
        run(&mut client, "BEGIN; SELECT llm.act_as('dev')");
        assert_eq!((said(&mut client, WHO), said(&mut client, USAGE)), ("dev".into(), numbers.dev[0].clone()), "{role}");
        // It holds where the effective user may say it, or is privileged; else the binding or nothing counts.
        for (owner, who, usage) in [
            (&backend, "dev", numbers.dev[0].as_str()),
            (&superuser, "dev", &numbers.dev[0]),
            (&bypass, "dev", &numbers.dev[0]),
            (&own, "own", &numbers.own[0]),
            (&other, "NULL", "28000"),
        ] {
            run(&mut client, "SAVEPOINT s");
            assert_eq!(said(&mut client, &format!("SELECT as_{owner}.who()")), who, "{role}, {owner}");
            assert_eq!(said(&mut client, &format!("SELECT as_{owner}.usage()")), usage, "{role}, {owner}");
            run(&mut client, "ROLLBACK TO s");
        }
        // It goes on holding after SET ROLE to a role that is bound.
        run(&mut client, &format!("SET LOCAL ROLE {own}"));
        assert_eq!(said(&mut client, USAGE), numbers.dev[0], "{role}");
        run(&mut client, "ROLLBACK");
    }
}

/// A function of the backend's that calls act_as itself: the second way to wrap a call.
#[test]
fn a_function_that_acts() {
    let mut world = World::new("who_wrap", false);
    let (backend, web) = (world.backend_role(), world.role("web"));
    run(
        &mut world.client,
        &format!(
            "CREATE FUNCTION public.usage_of(u text) RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                 AS $$ BEGIN PERFORM llm.act_as(u); RETURN (SELECT coalesce(sum(requests), 0) FROM llm.usage); END $$;
             ALTER FUNCTION public.usage_of(text) OWNER TO {backend}"
        ),
    );
    let own = Numbers::new(&mut world.client).own[0].clone();
    let mut client = world.db.connect_as(&web);
    assert_eq!(said(&mut client, "SELECT public.usage_of('own')"), own);
    assert_eq!(said(&mut client, WHO), "NULL", "it ended with its transaction");
    // One statement is one transaction: what PgBouncer's statement mode needs.
    let mut client = world.db.connect_as(&backend);
    let one = "SELECT llm.analytics_me('acme', '2026-06-01', '2026-06-02')->'member'->>'userId' FROM llm.act_as('own')";
    assert_eq!(said(&mut client, one), "own");
}

#[test]
fn bound_roles_cannot_act() {
    let mut world = World::new("who_bound_act", false);
    let (own, service, backend) = (world.bound_role("own"), world.role("service"), world.backend_role());
    run(
        &mut world.client,
        &format!(
            "SELECT llm.bind_role('{service}', all_organizations => true); GRANT EXECUTE ON FUNCTION llm.act_as TO {own}, {service};
             CREATE FUNCTION public.act() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM llm.act_as('riv'); END $$;
             CREATE FUNCTION public.act_own() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM llm.act_as('riv'); END $$;
             ALTER FUNCTION public.act() OWNER TO {backend}; ALTER FUNCTION public.act_own() OWNER TO {own}"
        ),
    );
    for (role, sql, message) in [
        (&own, "SELECT llm.act_as('riv')", format!("role \"{own}\" is bound to a user and cannot call llm.act_as()")),
        (&own, "SELECT public.act()", format!("role \"{own}\" is bound to a user and cannot call llm.act_as()")),
        (&backend, "SELECT public.act_own()", format!("role \"{own}\" is bound to a user and cannot call llm.act_as()")),
        (&service, "SELECT llm.act_as('riv')", format!("role \"{service}\" is bound to all organizations and cannot call llm.act_as()")),
    ] {
        let refusal = refused(&mut world.db.connect_as(role), sql);
        assert_eq!((refusal.state.as_str(), &refusal.message), ("42501", &message), "{role}: {sql}: {refusal:?}");
    }
}

/// What a refusal says: which role asks, and what to do about it.
#[test]
fn refusals_say_what_to_do() {
    let mut world = World::new("who_says", false);
    let (plain, other) = (world.role("plain"), world.role("other"));
    definer_functions(&mut world.client, &plain);
    let mut client = world.db.connect_as(&other);
    let refusal = refused(&mut client, "SELECT llm.analytics_me('acme')");
    assert_eq!(
        (refusal.state.as_str(), refusal.message.as_str()),
        ("28000", "no application user is set for this transaction"),
        "{refusal:?}"
    );
    for question in ["usage", "members", "rollup", "pending"] {
        let refusal = refused(&mut client, &format!("SELECT as_{plain}.{question}()"));
        assert_eq!(refusal.state, "28000", "{question}: {refusal:?}");
        assert!(refusal.detail.contains("reason=no_identity"), "{question}: {refusal:?}");
        for word in [plain.as_str(), "SECURITY INVOKER", "llm.act_as"] {
            assert!(refusal.hint.contains(word), "{question}: no {word}: {refusal:?}");
        }
    }
    // What never fails does not fail here either.
    run(
        &mut world.client,
        &format!(
            "CREATE FUNCTION as_{plain}.access() RETURNS json LANGUAGE sql SECURITY DEFINER AS $$ SELECT llm.access('acme') $$;
             ALTER FUNCTION as_{plain}.access() OWNER TO {plain}"
        ),
    );
    assert!(text(&mut client, &format!("SELECT as_{plain}.access()")).contains("no_identity"));
}

/// A security-definer function cannot know its caller, so no function that asks is one.
#[test]
fn functions_that_ask_are_no_definers() {
    let db = Db::new("who_prosecdef");
    let mut client = db.connect();
    // Whatever everybody may call, and act_as.
    let asking = "p.pronamespace = 'llm'::regnamespace AND (p.proname = 'act_as' OR EXISTS (
        SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE'))";
    for name in ["act_as", "analytics_activity", "activity", "members", "access", "current_user_id", "_scope", "_labels"] {
        assert_eq!(text(&mut client, &format!("SELECT count(*) FROM pg_proc p WHERE {asking} AND p.proname = '{name}'")), "1", "{name}");
    }
    let definers = rows(&mut client, &format!("SELECT p.oid::regprocedure::text FROM pg_proc p WHERE {asking} AND p.prosecdef"));
    assert!(definers.is_empty(), "{definers:?}");
}

/// The extension's owner sees everything, also where they are no superuser any more.
#[test]
fn the_owner_of_the_extension() {
    let mut world = World::new("who_owner", false);
    let owner = world.role("owner");
    run(&mut world.client, &format!("ALTER ROLE {owner} SUPERUSER"));
    let db = Db::bare("who_owned");
    let mut client = db.connect_as(&owner);
    run(
        &mut client,
        "CREATE EXTENSION llm_analytics; CREATE TABLE log (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric)",
    );
    run(&mut client, "SELECT llm.attach_log('log'); INSERT INTO log VALUES (now(), 'o', 'k', 'm', 1); SELECT llm.fold()");
    run(&mut db.connect(), &format!("ALTER ROLE {owner} NOSUPERUSER"));
    let mut client = db.connect_as(&owner);
    assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), "1");
    assert_eq!(text(&mut client, "SELECT llm.analytics_activity('o')->'summary'->>'requestCount'"), "1");
    // Dropped before its owner is.
    drop(client);
    drop(db);
}
