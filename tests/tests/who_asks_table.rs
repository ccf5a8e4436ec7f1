//! Who is asking, cell by cell: the role that code runs as (effective) against the login role or that of SET ROLE (outer), each
//! of them bound to a user, privileged, or neither; then `llm.act_as` inside functions of others, and bindings that outlive
//! their role.

use llm_analytics_tests::db::{quote, refusal, rows, run, text};
use llm_analytics_tests::world::{World, visible};
use postgres::{Client, SimpleQueryMessage};

const RANGE: &str = "'2026-06-01', '2026-06-02'";
const USAGE: &str = "SELECT coalesce(sum(requests), 0)::text FROM llm.usage";
const WHO: &str = "SELECT llm.current_user_id()";
const ME: &str = "SELECT llm.analytics_me('acme', '2026-06-01', '2026-06-02')->'member'->>'userId'";
const ACTIVITY: &str = "SELECT llm.analytics_activity('acme', 'model', '2026-06-01', '2026-06-02')->'summary'->>'requestCount'";
const ACCESS: &str = "SELECT llm.access('acme')";

/// What a role is: the first name of its definer function, too.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Bound to this user.
    Bound(&'static str),
    Superuser,
    BypassRls,
    /// A superuser who is bound: the user.
    BoundSuperuser(&'static str),
    Neither,
}

use Kind::{Bound, BoundSuperuser, BypassRls, Neither, Superuser};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Identity {
    User(&'static str),
    Everything,
    Nobody,
}

impl Kind {
    fn user(self) -> Option<&'static str> {
        match self {
            Bound(user) | BoundSuperuser(user) => Some(user),
            _ => None,
        }
    }

    fn privileged(self) -> bool {
        matches!(self, Superuser | BypassRls)
    }
}

/// The table.
fn identity(effective: Kind, outer: Kind) -> Identity {
    match (effective.user(), outer.user()) {
        (Some(user), _) => Identity::User(user),
        (None, Some(user)) if effective.privileged() => Identity::User(user),
        _ if effective.privileged() && outer.privileged() => Identity::Everything,
        _ => Identity::Nobody,
    }
}

/// A role of each kind, and a function of each that runs a query as its owner.
struct Cast {
    world: World,
    roles: Vec<(Kind, String)>,
}

impl Cast {
    fn new(tag: &str) -> Cast {
        let mut world = World::new(tag, false);
        run(&mut world.client, "CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO PUBLIC");
        let mut roles = Vec::new();
        for kind in [Bound("own"), Bound("dev"), Superuser, BypassRls, BoundSuperuser("adm"), BoundSuperuser("dev2"), Neither] {
            let role = match kind {
                Bound(user) | BoundSuperuser(user) => world.bound_role(user),
                _ => world.role("other"),
            };
            match kind {
                Superuser | BoundSuperuser(_) => run(&mut world.client, &format!("ALTER ROLE {role} SUPERUSER")),
                BypassRls => run(&mut world.client, &format!("ALTER ROLE {role} BYPASSRLS")),
                _ => {}
            }
            run(&mut world.client, &as_owner(&role));
            roles.push((kind, role));
        }
        Cast { world, roles }
    }
}

/// `app.as_ROLE(query)`: the query's one value, or how it was refused.
fn as_owner(role: &str) -> String {
    format!(
        "CREATE FUNCTION app.as_{role}(query text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
         DECLARE answer text; hint text;
         BEGIN EXECUTE query INTO answer; RETURN answer;
         EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT; RETURN 'refused ' || SQLSTATE || ' ' || SQLERRM || ' ' || hint; END $$;
         ALTER FUNCTION app.as_{role}(text) OWNER TO {role}"
    )
}

fn through(client: &mut Client, owner: &str, query: &str) -> String {
    text(client, &format!("SELECT app.as_{owner}({})", quote(query)))
}

/// The same without a function in between.
fn directly(client: &mut Client, query: &str) -> String {
    match client.simple_query(query) {
        Ok(messages) => {
            let value = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
                _ => None,
            });
            value.unwrap_or_else(|| panic!("no row: {query}"))
        }
        Err(error) => {
            let refusal = refusal(&error);
            format!("refused {} {} {}", refusal.state, refusal.message, refusal.hint)
        }
    }
}

/// Every answer of an identity; `lent` where the effective role is not the outer one.
fn check(world: &mut World, ask: &mut dyn FnMut(&str) -> String, wanted: Identity, lent: bool, context: &str, faults: &mut Vec<String>) {
    let total = text(&mut world.client, "SELECT count(*) FROM public.log");
    let of_acme = text(&mut world.client, "SELECT count(*) FROM public.log WHERE organization_id = 'acme'");
    let mut fault = |query: &str, wanted: &str, got: &str| {
        let name = query.split("llm.").nth(1).and_then(|rest| rest.split('(').next()).unwrap_or(query);
        let got: String = got.chars().take(if wanted.starts_with("a hint") { 250 } else { 40 }).collect();
        faults.push(format!("{context}: {name}: wanted {wanted}, got {got}"));
    };
    let mut is = |query: &str, wanted: &str, got: String| {
        if !(got == wanted || wanted.ends_with('*') && got.starts_with(wanted.trim_end_matches('*'))) {
            fault(query, wanted, &got);
        }
    };
    match wanted {
        Identity::User(user) => {
            let rows = text(&mut world.client, &format!("SELECT count(*) FROM {} v", visible(user)));
            is(WHO, user, ask(WHO));
            is(ME, user, ask(ME));
            is(USAGE, &rows, ask(USAGE));
            let activity = if ["own", "adm"].contains(&user) { of_acme.as_str() } else { "refused 42501*" };
            is(ACTIVITY, activity, ask(ACTIVITY));
        }
        Identity::Everything => {
            is(WHO, "NULL", ask(WHO));
            is(USAGE, &total, ask(USAGE));
            is(ACTIVITY, &of_acme, ask(ACTIVITY));
        }
        Identity::Nobody => {
            for query in [ME, ACTIVITY] {
                is(query, "refused 28000*", ask(query));
            }
            is(USAGE, if lent { "refused 28000*" } else { "0" }, ask(USAGE));
            let who = ask(WHO);
            if who != "NULL" {
                is(WHO, "refused 28000*", who);
            }
            if ask(ACCESS).contains("Name of acme") {
                is(ACCESS, "no names", "the organization's name".to_owned());
            }
            let hint = ask(ACTIVITY);
            if lent && !(hint.contains("SECURITY INVOKER") && hint.contains("act_as")) {
                is(ACTIVITY, "a hint that names SECURITY INVOKER and llm.act_as", hint);
            }
        }
    }
}

fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn every_cell() {
    let mut cast = Cast::new("cells");
    let roles = cast.roles.clone();
    let mut faults = Vec::new();
    for (outer, login) in &roles {
        let mut client = cast.world.db.connect_as(login);
        let wanted = identity(*outer, *outer);
        check(&mut cast.world, &mut |query| directly(&mut client, query), wanted, false, &format!("{outer:?} itself"), &mut faults);
        for (effective, owner) in &roles {
            let wanted = identity(*effective, *outer);
            let context = format!("a function of {effective:?}, called by {outer:?}: {wanted:?}");
            let ask = &mut |query: &str| through(&mut client, owner, query);
            check(&mut cast.world, ask, wanted, owner != login, &context, &mut faults);
        }
    }
    none(faults);
}

/// The role of SET ROLE is the outer one; a function within a function counts as the innermost.
#[test]
fn set_role_and_functions_within_functions() {
    let mut cast = Cast::new("cells_nested");
    let roles = cast.roles.clone();
    let pool = cast.world.role("pool");
    let mut faults = Vec::new();
    for (_, role) in &roles {
        run(&mut cast.world.client, &format!("GRANT {role} TO {pool}"));
    }
    let mut client = cast.world.db.connect_as(&pool);
    for (outer, role) in &roles {
        run(&mut client, &format!("SET ROLE {role}"));
        let wanted = identity(*outer, *outer);
        check(&mut cast.world, &mut |query| directly(&mut client, query), wanted, false, &format!("SET ROLE to {outer:?}"), &mut faults);
        for (effective, owner) in &roles {
            for (_, between) in &roles[..3] {
                let wanted = identity(*effective, *outer);
                let context = format!("a function of {effective:?} in one of {between}, after SET ROLE to {outer:?}: {wanted:?}");
                let ask = &mut |query: &str| through(&mut client, between, &format!("SELECT app.as_{owner}({})", quote(query)));
                check(&mut cast.world, ask, wanted, owner != role, &context, &mut faults);
            }
        }
    }
    none(faults);
}

/// What one caller was told is not what the next one is told: in one statement, and by one plan of one function.
#[test]
fn nothing_is_kept_from_caller_to_caller() {
    let mut cast = Cast::new("cells_cache");
    let role = |kind: Kind| cast.roles.iter().find(|(k, _)| *k == kind).expect("a role").1.clone();
    let (own, dev, admin, neither) = (role(Bound("own")), role(Bound("dev")), role(Superuser), role(Neither));
    let count = |client: &mut Client, user: &str| text(client, &format!("SELECT count(*) FROM {} v", visible(user)));
    let (of_own, of_dev) = (count(&mut cast.world.client, "own"), count(&mut cast.world.client, "dev"));
    let mut client = cast.world.db.connect_as(&dev);
    let one = |owner: &str| format!("left(app.as_{owner}({}), 13)", quote(USAGE));
    let all = [one(&own), one(&dev), one(&neither), one(&own), one(&admin), format!("({USAGE})")];
    let wanted = [of_own.as_str(), &of_dev, "refused 28000", &of_own, &of_dev, &of_dev];
    assert_eq!(rows(&mut client, &format!("SELECT {}", all.join(", "))), [wanted], "in one statement");
    // By one plan of a superuser's function, in one session, for one role after another.
    let pool = cast.world.role("pool");
    let function = "CREATE FUNCTION app.planned() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN RETURN (SELECT coalesce(sum(requests), 0)::text FROM llm.usage); EXCEPTION WHEN invalid_authorization_specification THEN RETURN SQLSTATE; END $$";
    run(&mut cast.world.client, &format!("GRANT {own}, {dev}, {neither}, {admin} TO {pool}; {function}"));
    let total = text(&mut cast.world.client, "SELECT count(*) FROM public.log");
    let mut client = cast.world.db.connect_as(&pool);
    for mode in ["force_generic_plan", "force_custom_plan", "auto"] {
        for (role, wanted) in
            [(&own, of_own.as_str()), (&dev, &of_dev), (&neither, "28000"), (&admin, &total), (&dev, &of_dev), (&neither, "28000")]
        {
            run(&mut client, &format!("SET plan_cache_mode = {mode}; SET ROLE {role}"));
            assert_eq!(text(&mut client, "SELECT app.planned()"), wanted, "{mode}, {role}");
            run(&mut client, "RESET ROLE");
        }
    }
}

/// A cursor that a function of somebody else opened, and a view that somebody else made, have what their reader may see.
#[test]
fn cursors_and_views_of_others() {
    let mut cast = Cast::new("cells_cursor");
    let role = |kind: Kind| cast.roles.iter().find(|(k, _)| *k == kind).expect("a role").1.clone();
    let (own, dev, neither, bypass) = (role(Bound("own")), role(Bound("dev")), role(Neither), role(BypassRls));
    run(
        &mut cast.world.client,
        &format!(
            "CREATE FUNCTION app.opened() RETURNS refcursor LANGUAGE plpgsql SECURITY DEFINER AS $$
             DECLARE c refcursor := 'c'; BEGIN OPEN c FOR SELECT coalesce(sum(requests), 0)::text FROM llm.usage; RETURN c; END $$;
             CREATE FUNCTION app.opened_by_bypass() RETURNS refcursor LANGUAGE plpgsql SECURITY DEFINER AS $$
             DECLARE c refcursor := 'c'; BEGIN OPEN c FOR SELECT coalesce(sum(requests), 0)::text FROM llm.usage; RETURN c; END $$;
             ALTER FUNCTION app.opened_by_bypass() OWNER TO {bypass};
             CREATE VIEW app.page AS SELECT llm.current_user_id() AS who, llm.analytics_me('acme', {RANGE})->'member'->>'userId' AS me;
             CREATE VIEW app.invoker WITH (security_invoker = true) AS SELECT * FROM llm.usage; GRANT SELECT ON app.page, app.invoker TO PUBLIC"
        ),
    );
    for (user, login) in [("own", &own), ("dev", &dev), ("", &neither)] {
        let wanted = match user {
            "" => "0".to_owned(),
            user => text(&mut cast.world.client, &format!("SELECT count(*) FROM {} v", visible(user))),
        };
        let mut client = cast.world.db.connect_as(login);
        for function in ["app.opened()", "app.opened_by_bypass()"] {
            run(&mut client, "BEGIN");
            let opened = client.batch_execute(&format!("SELECT {function}"));
            let got = if opened.is_ok() { directly(&mut client, "FETCH 1 FROM c") } else { "refused 28000".to_owned() };
            let allowed = got == wanted || user.is_empty() && got.starts_with("refused 28000");
            assert!(allowed, "{user:?} fetches from {function}: wanted {wanted}, got {got}");
            run(&mut client, "ROLLBACK");
        }
        assert_eq!(
            text(&mut client, "SELECT coalesce(sum(requests), 0) FROM app.invoker"),
            wanted,
            "{user:?}: a view with security_invoker"
        );
        let page = directly(&mut client, "SELECT who || ' ' || me FROM app.page");
        let wanted = if user.is_empty() { "refused 28000".to_owned() } else { format!("{user} {user}") };
        assert!(page.starts_with(&wanted), "{user:?}: a superuser's view of functions: {page}");
    }
}

/// Tables beneath llm.usage: whoever is nobody in somebody else's function is told so, and sees no row.
#[test]
fn the_tables_beneath() {
    let cast = Cast::new("cells_beneath");
    let roles = cast.roles.clone();
    let mut faults = Vec::new();
    let neither = roles.iter().find(|(kind, _)| *kind == Neither).expect("a role").1.clone();
    for (outer, login) in &roles {
        let mut client = cast.world.db.connect_as(login);
        for table in ["llm.rollup", "llm._pending", "llm.series", "llm.organization", "llm.app_user", "llm.membership"] {
            let answer = through(&mut client, &neither, &format!("SELECT count(*) FROM {table}"));
            if !(answer == "0" || answer.starts_with("refused 28000") || answer.starts_with("refused 42501")) {
                faults.push(format!("{table} in a function of a role that is nobody, called by {outer:?}: {answer}"));
            }
        }
    }
    none(faults);
}

#[test]
fn nothing_that_asks_loses_its_caller() {
    let mut world = World::new("cells_prosecdef", false);
    let definer = "SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'llm'::regnamespace AND p.prosecdef AND (p.proname LIKE 'analytics%' OR p.proname IN
        ('act_as', 'current_user_id', 'access', 'activity', 'members', '_scope', '_labels', 'attach_log', 'detach_log', 'create_request_log', 'attach_directory',
         'detach_directory', 'seal', 'set_retention')) ORDER BY 1";
    let found = rows(&mut world.client, definer).concat();
    assert!(found.is_empty(), "SECURITY DEFINER, so the effective user is lost: {found:?}");
}

/// An identity that was said for the transaction, in functions of others.
#[test]
fn act_as_in_functions_of_others() {
    let mut cast = Cast::new("cells_act");
    let (backend, second) = (cast.world.backend_role(), cast.world.backend_role());
    for role in [&backend, &second] {
        run(&mut cast.world.client, &as_owner(role));
    }
    let role = |kind: Kind| cast.roles.iter().find(|(k, _)| *k == kind).expect("a role").1.clone();
    let (dev, admin, bypass, neither) = (role(Bound("dev")), role(Superuser), role(BypassRls), role(Neither));
    let mut faults = Vec::new();
    let mut client = cast.world.db.connect_as(&backend);
    let mut web = cast.world.db.connect_as(&neither);
    let (own, of_dev, nobody) = (Identity::User("own"), Identity::User("dev"), Identity::Nobody);
    for (how, client, say) in [
        ("said by the login role", &mut client, "SELECT llm.act_as('own')".to_owned()),
        ("said by a function of a backend's", &mut web, format!("SELECT app.as_{backend}('SELECT llm.act_as(''own'')')")),
    ] {
        run(client, "BEGIN");
        run(client, &say);
        check(&mut cast.world, &mut |query| directly(client, query), own, false, &format!("{how}: the login role itself"), &mut faults);
        for (whose, owner, wanted) in [
            ("another backend", &second, own),
            ("a superuser", &admin, own),
            ("a role with BYPASSRLS", &bypass, own),
            ("a bound role, which may not act", &dev, of_dev),
        ] {
            let ask = &mut |query: &str| through(client, owner, query);
            check(&mut cast.world, ask, wanted, true, &format!("{how}, then in a function of {whose}"), &mut faults);
        }
        run(client, "COMMIT");
    }
    // A role that may not act for anybody does not get what its caller may see. It is not `web`, whose own function this would be.
    let stranger = cast.world.role("stranger");
    run(&mut cast.world.client, &as_owner(&stranger));
    run(&mut client, "BEGIN; SELECT llm.act_as('own')");
    let ask = &mut |query: &str| through(&mut client, &stranger, query);
    check(&mut cast.world, ask, nobody, true, "said by the login role, then in a function of a stranger", &mut faults);
    run(&mut client, "ROLLBACK");
    // Who may not say it.
    let mut bound = cast.world.db.connect_as(&dev);
    for (who, client, owner) in [
        ("a bound login role", &mut bound, &backend),
        ("a stranger's function", &mut client, &stranger),
        ("a bound role's function", &mut web, &dev),
    ] {
        let answer = through(client, owner, "SELECT llm.act_as('riv')::text");
        if !answer.starts_with("refused 42501") {
            faults.push(format!("act_as by {who}: wanted 42501, got {answer}"));
        }
    }
    none(faults);
}

/// A binding is of the role it was made for, not of whoever has the name later.
#[test]
fn a_role_that_is_made_again() {
    let mut world = World::new("cells_again", false);
    let state = "SELECT state FROM llm.status WHERE source IS NULL";
    let name = format!("again_{}", world.db.name);
    for again in ["DROP ROLE {r}", "ALTER ROLE {r} RENAME TO {r}_old"] {
        run(&mut world.client, &format!("CREATE ROLE {name} LOGIN; SELECT llm.bind_role('{name}', 'own')"));
        assert_eq!(directly(&mut world.db.connect_as(&name), WHO), "own");
        assert_eq!(text(&mut world.client, state), "database");
        run(&mut world.client, &format!("{}; CREATE ROLE {name} LOGIN", again.replace("{r}", &name)));
        let mut client = world.db.connect_as(&name);
        let mut faults = Vec::new();
        check(&mut world, &mut |query| directly(&mut client, query), Identity::Nobody, false, again, &mut faults);
        none(faults);
        assert_eq!(text(&mut world.client, state), "unconfirmed bindings", "{again}");
        // To bind it again says that it is meant.
        run(&mut world.client, &format!("SELECT llm.bind_role('{name}', 'dev')"));
        assert_eq!(directly(&mut client, WHO), "dev", "{again}: confirmed, in the same connection");
        assert_eq!(text(&mut world.client, state), "database", "{again}: confirmed");
        drop(client);
        run(&mut world.client, &format!("SELECT llm.unbind_role('{name}'); DROP ROLE {name}"));
    }
    run(&mut world.client, &format!("DROP ROLE {name}_old"));
    assert!(directly(&mut world.client, &format!("SELECT llm.analytics_activity('acme', 'model', {RANGE})")).starts_with('{'));
}
