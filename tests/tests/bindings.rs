//! A binding counts for the role it was made for, not for whichever role has its name later.

use llm_analytics_tests::db::{quote, run, text};
use llm_analytics_tests::world::World;
use postgres::Client;

const WHO: &str = "SELECT coalesce(llm.current_user_id(), 'NULL')";
const STATE: &str = "SELECT state FROM llm.status WHERE source IS NULL";

fn who(world: &World, role: &str) -> String {
    text(&mut world.db.connect_as(role), WHO)
}

fn bind(client: &mut Client, role: &str) {
    run(client, &format!("SELECT llm.bind_role({}, 'own')", quote(role)));
}

#[test]
fn of_a_role_that_was_made_anew() {
    let mut world = World::new("binding_anew", true);
    let role = world.role("ada");
    assert_eq!(text(&mut world.client, STATE), "database");
    bind(&mut world.client, &role);
    assert_eq!((who(&world, &role).as_str(), text(&mut world.client, STATE).as_str()), ("own", "database"));
    run(&mut world.client, &format!("DROP ROLE {role}"));
    assert_eq!(text(&mut world.client, STATE), "unconfirmed bindings", "the role is gone");
    run(&mut world.client, &format!("CREATE ROLE {role} LOGIN"));
    assert_eq!((who(&world, &role).as_str(), text(&mut world.client, STATE).as_str()), ("NULL", "unconfirmed bindings"));
    // Also for what llm.usage shows, and for a privileged role, which a binding makes smaller.
    assert_eq!(text(&mut world.db.connect_as(&role), "SELECT count(*) FROM llm.usage"), "0");
    bind(&mut world.client, &role);
    assert_eq!((who(&world, &role).as_str(), text(&mut world.client, STATE).as_str()), ("own", "database"));
    // The binding of a role that is gone can be undone.
    run(&mut world.client, &format!("DROP ROLE {role}; SELECT llm.unbind_role('{role}'); CREATE ROLE {role} LOGIN"));
    assert_eq!((who(&world, &role).as_str(), text(&mut world.client, STATE).as_str()), ("NULL", "database"));
}

#[test]
fn of_a_role_that_was_renamed() {
    let mut world = World::new("binding_renamed", true);
    let (role, other) = (world.bound_role("own"), world.role("other"));
    run(&mut world.client, &format!("ALTER ROLE {role} RENAME TO {role}_x; ALTER ROLE {other} RENAME TO {role}"));
    assert_eq!((who(&world, &role), who(&world, &format!("{role}_x"))), ("NULL".into(), "NULL".into()));
    assert_eq!(text(&mut world.client, STATE), "unconfirmed bindings");
    run(&mut world.client, &format!("ALTER ROLE {role} RENAME TO {other}; ALTER ROLE {role}_x RENAME TO {role}"));
    assert_eq!((who(&world, &role), who(&world, &other)), ("own".into(), "NULL".into()));
    assert_eq!(text(&mut world.client, STATE), "database");
}

/// A dump has the OIDs of the server it was made on, one of 0.1.1 has none.
#[test]
fn of_a_restored_database() {
    let mut world = World::new("binding_restored", true);
    let (first, second) = (world.role("first"), world.role("second"));
    let (one, two) = (quote(&first), quote(&second));
    run(
        &mut world.client,
        &format!(
            "INSERT INTO llm._binding (role, user_id, all_organizations, role_oid) SELECT {one}, 'own', false, r.oid FROM pg_roles r WHERE r.rolname = {two};
             INSERT INTO llm._binding (role, user_id, all_organizations) VALUES ({two}, NULL, true)"
        ),
    );
    assert_eq!(text(&mut world.client, STATE), "unconfirmed bindings");
    for role in [&first, &second] {
        let mut client = world.db.connect_as(role);
        assert_eq!((text(&mut client, WHO), text(&mut client, "SELECT count(*) FROM llm.usage")), ("NULL".into(), "0".into()), "{role}");
    }
    bind(&mut world.client, &first);
    assert_eq!((who(&world, &first).as_str(), text(&mut world.client, STATE).as_str()), ("own", "unconfirmed bindings"));
    bind(&mut world.client, &second);
    assert_eq!((who(&world, &second).as_str(), text(&mut world.client, STATE).as_str()), ("own", "database"));
}
