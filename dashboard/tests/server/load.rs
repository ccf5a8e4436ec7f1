//! Many at once, and a database that goes away.

use crate::endpoints::{CALLS, ORGANIZATIONS, USERS};
use crate::harness::*;
use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::world::World;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// LOAD_SECONDS makes it longer.
fn seconds() -> u64 {
    std::env::var("LOAD_SECONDS").map_or(20, |text| text.parse().expect("LOAD_SECONDS is a number"))
}

/// 200 at once, each request as another user: everybody gets their own answer, to the byte.
#[test]
fn nobody_gets_another_users_answer() {
    const AT_ONCE: u64 = 200;
    let mut world = World::new("dash_load", false);
    let dashboard = Dashboard::over(&mut world);
    let mut questions = Vec::new();
    for user in USERS {
        for org in ORGANIZATIONS {
            for (path, _) in CALLS {
                // Not what depends on today's date.
                if !path.contains("from=2026") && path.contains("/analytics") || path.contains("kd&userId") {
                    continue;
                }
                let path = path.replace("{o}", &encode(org));
                let answer = dashboard.ask(user, &path);
                questions.push((bearer(user), path, answer.status, answer.body));
            }
        }
    }
    let distinct: std::collections::HashSet<&String> = questions.iter().map(|(_, _, _, body)| body).collect();
    assert!(distinct.len() > 100, "the answers tell the users apart: {}", distinct.len());
    let end = Instant::now() + Duration::from_secs(seconds());
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..AT_ONCE {
            let (questions, dashboard, answered) = (&questions, &dashboard, &answered);
            scope.spawn(move || {
                let client = Client::new();
                let mut at = thread * 7919;
                while Instant::now() < end {
                    at = at.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let (token, path, status, body) = &questions[(at >> 33) as usize % questions.len()];
                    let answer = dashboard.send(&client, "GET", path, &[("Authorization", token)]);
                    if answer.status == 429 {
                        // Chance has sent too many of the threads as the same user.
                        continue;
                    }
                    assert_eq!((answer.status, &answer.body), (*status, body), "{path}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let answered = answered.into_inner();
    println!("{answered} answers in {} s, {} questions of {} users", seconds(), questions.len(), USERS.len());
    assert!(answered > AT_ONCE * 5, "{answered} answers only");
}

#[test]
fn the_database_restarts() {
    let cluster = Cluster::fresh("dash_restart", &[]);
    let mut world = World::on(cluster.server.clone(), "dash_restart", false);
    let dashboard = Dashboard::over(&mut world);
    let path = "/analytics/activity?organizationId=acme&from=2026-06-01&to=2026-06-02";
    let good = dashboard.ask("own", path);
    assert_eq!(good.status, 200, "{}", good.body);
    let stop = AtomicBool::new(false);
    let seen: Mutex<HashMap<u16, u64>> = Mutex::new(HashMap::new());
    let count = |status: u16| seen.lock().expect("no panic").get(&status).copied().unwrap_or(0);
    let wait = |status: u16, more_than: u64| {
        let end = Instant::now() + Duration::from_secs(60);
        while count(status) <= more_than {
            assert!(Instant::now() < end, "no {status} for a minute: {:?}", seen.lock().expect("no panic"));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let (dashboard, seen, stop, good) = (&dashboard, &seen, &stop, &good);
            scope.spawn(move || {
                let client = Client::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = dashboard.send(&client, "GET", path, &[("Authorization", &bearer("own"))]);
                    match answer.status {
                        200 => assert_eq!(answer.body, good.body),
                        503 => {
                            assert_eq!(answer.code(), "unavailable");
                            assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
                        }
                        status => panic!("{status}: {}", answer.body),
                    }
                    *seen.lock().expect("no panic").entry(answer.status).or_insert(0) += 1;
                }
            });
        }
        // A panic above all would leave the others asking for ever.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                wait(200, count(200) + 100);
                cluster.stop();
                wait(503, count(503) + 20);
                cluster.start(&[]);
                wait(200, count(200) + 100);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    println!("answers by status: {:?}", seen.lock().expect("no panic"));
    // The same server, and as before.
    assert_eq!(dashboard.ask("own", path).body, good.body);
    assert_eq!(dashboard.get("/health/ready", &[]).status, 200);
}
