//! Questions that take long, of clients that go away and of users that ask too many.

use crate::harness::*;
use llm_analytics_tests::db::run;
use llm_analytics_tests::world::World;
use std::time::Instant;

/// The pool of the tests, and the turns of a user in it.
const POOL: usize = 8;
const TURNS: usize = 4;
/// Those that may wait beside them.
const QUEUE: usize = 9 * TURNS;

fn start(world: &mut World) -> Dashboard {
    let role = world.backend_role();
    let url = url_of(&world.db.server, &world.db.name, &role);
    let (pool, turns) = (POOL.to_string(), TURNS.to_string());
    Dashboard::start(&url, SECRET, &["--database-connections", &pool, "--questions-per-user", &turns])
}

/// Somebody else is answered at once, and the server is alive and ready.
fn others_are_answered(dashboard: &Dashboard, context: &str) {
    let started = Instant::now();
    let answer = dashboard.ask("own", "/organizations");
    assert_eq!(answer.status, 200, "{context}: {}", answer.body);
    for path in ["/health", "/health/ready"] {
        assert_eq!(dashboard.get(path, &[]).body, "ok\n", "{context}: {path}");
    }
    assert!(started.elapsed().as_secs() < 3, "{context}: others waited {:?}", started.elapsed());
}

#[test]
fn a_client_that_goes_away_takes_its_query_along() {
    let mut world = World::new("dash_canceled", false);
    let mut watcher = world.superuser();
    let dashboard = start(&mut world);
    hold(&mut world);
    for round in 0..3 {
        // All turns of two users are all connections.
        let asked: Vec<_> = ["dev", "dev2"].iter().flat_map(|user| (0..TURNS).map(|_| dashboard.sent(user, HELD))).collect();
        until("the questions wait for the lock", || waiting(&mut watcher) == POOL);
        drop(asked);
        until("their queries have ended", || waiting(&mut watcher) == 0);
        others_are_answered(&dashboard, &format!("round {round}"));
    }
    // While they wait for a turn, too: nothing of them reaches the database.
    let kept: Vec<_> = (0..TURNS).map(|_| dashboard.sent("dev", HELD)).collect();
    until("the turns are taken", || waiting(&mut watcher) == TURNS);
    drop((0..QUEUE).map(|_| dashboard.sent("dev", HELD)).collect::<Vec<_>>());
    run(&mut world.client, "ROLLBACK");
    for mut connection in kept {
        let answer = received(&mut connection);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(dashboard.ask("dev", HELD).status, 200);
}

#[test]
fn one_user_cannot_take_all_connections() {
    let mut world = World::new("dash_starved", false);
    let mut watcher = world.superuser();
    let dashboard = start(&mut world);
    hold(&mut world);
    let mut turns: Vec<_> = (0..TURNS).map(|_| dashboard.sent("dev", HELD)).collect();
    until("the turns are taken", || waiting(&mut watcher) == TURNS);
    let mut more: Vec<_> = (0..QUEUE + 5).map(|_| dashboard.sent("dev", HELD)).collect();
    others_are_answered(&dashboard, "all turns of a user are taken");
    assert_eq!(waiting(&mut watcher), TURNS);
    // Those that waited in vain, and those that were too many to wait.
    for connection in &mut more {
        let answer = received(connection);
        assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("retry-after: 1\r\n"), "{answer}");
        assert!(answer.contains("\"code\":\"too_many_requests\""), "{answer}");
    }
    run(&mut world.client, "ROLLBACK");
    for connection in &mut turns {
        let answer = received(connection);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(dashboard.ask("dev", HELD).status, 200);
}

#[test]
fn a_page_asks_more_at_once_than_a_user_has_turns() {
    let mut world = World::new("dash_page", false);
    let dashboard = start(&mut world);
    std::thread::scope(|scope| {
        for _ in 0..3 * TURNS {
            scope.spawn(|| assert_eq!(dashboard.ask("dev", HELD).status, 200));
        }
    });
}

/// Anybody may ask whether it is ready, and so must not make it seem to be not.
#[test]
fn readiness_is_asked_by_many() {
    let mut world = World::new("dash_ready", false);
    let dashboard = start(&mut world);
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| assert_eq!(dashboard.get("/health/ready", &[]).body, "ok\n"));
        }
    });
}

#[test]
fn alive_without_a_database() {
    let dashboard = Dashboard::start("host=/nonexistent user=nobody", SECRET, &[]);
    assert_eq!(dashboard.get("/health", &[]).body, "ok\n");
    let ready = dashboard.get("/health/ready", &[]);
    assert_eq!((ready.status, ready.code().as_str()), (503, "unavailable"));
    assert_eq!(ready.header("retry-after"), "1");
}
