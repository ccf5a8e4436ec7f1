//! Clients that open connections and send nothing, or little, or late.

use crate::harness::*;
use llm_analytics_tests::db::run;
use llm_analytics_tests::world::World;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const NO_DATABASE: &str = "host=/nonexistent user=nobody";

/// A connection that is silent, or has sent a part of a head, or the head of a body that never
/// comes.
fn unfinished(dashboard: &Dashboard, number: usize) -> TcpStream {
    let mut connection = dashboard.connection();
    let part = [
        "",
        "GET /health HTT",
        "GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer",
        "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    ];
    // It may have been closed already.
    let _ = connection.write_all(part[number % part.len()].as_bytes());
    connection
}

fn is_answered_soon(dashboard: &Dashboard, path: &str) {
    let started = Instant::now();
    assert_eq!(dashboard.get(path, &[]).status, 200, "{path}");
    assert!(started.elapsed() < Duration::from_secs(3), "{path} waited {:?}", started.elapsed());
}

#[test]
fn unfinished_requests_lock_nobody_out() {
    let dashboard = Dashboard::start(NO_DATABASE, SECRET, &["--max-connections", "20", "--idle-timeout", "600"]);
    let mut open: Vec<TcpStream> = Vec::new();
    for number in 0..200 {
        open.push(unfinished(&dashboard, number));
        if number % 20 == 19 {
            is_answered_soon(&dashboard, "/openapi.json");
        }
    }
    // Those that waited longest were closed for those that came.
    for connection in &mut open[..100] {
        assert!(connection.set_read_timeout(Some(Duration::from_secs(5))).is_ok());
        let mut byte = [0];
        let read = std::io::Read::read(connection, &mut byte);
        assert!(matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
}

#[test]
fn an_answer_that_is_waited_for_is_not_cut_off() {
    let mut world = World::new("dash_crowd", false);
    let mut watcher = world.superuser();
    let role = world.backend_role();
    let url = url_of(&world.db.server, &world.db.name, &role);
    let dashboard = Dashboard::start(&url, SECRET, &["--max-connections", "20", "--idle-timeout", "600"]);
    hold(&mut world);
    let mut asked = dashboard.sent("dev", HELD);
    until("the question waits", || waiting(&mut watcher) == 1);
    let crowd: Vec<TcpStream> = (0..60).map(|number| unfinished(&dashboard, number)).collect();
    is_answered_soon(&dashboard, "/health");
    run(&mut world.client, "ROLLBACK");
    let answer = received(&mut asked);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(crowd);
}

#[test]
fn unfinished_requests_are_closed() {
    let dashboard = Dashboard::start(NO_DATABASE, SECRET, &["--idle-timeout", "1"]);
    let mut open: Vec<TcpStream> = (0..3).map(|number| unfinished(&dashboard, number)).collect();
    // It is idle after an answer.
    let mut kept = dashboard.connection();
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let started = Instant::now();
    assert!(received(&mut kept).starts_with("HTTP/1.1 200"));
    for connection in &mut open {
        received(connection);
    }
    let took = started.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn few_files_may_be_open() {
    let files = |limit: &str| {
        let mut shell = Command::new("sh");
        let dashboard = command(NO_DATABASE, SECRET, &[]);
        let program = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        shell
            .arg("-c")
            .arg(program)
            .arg(dashboard.get_program())
            .envs(dashboard.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell
    };
    let dashboard = Dashboard::run(files("128"));
    let open: Vec<TcpStream> = (0..300).map(|number| unfinished(&dashboard, number)).collect();
    is_answered_soon(&dashboard, "/openapi.json");
    drop(open);
    let output = files("40").output().expect("sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("ulimit -n"), "{said}");
    // A soft limit is raised as far as the hard one allows.
    let dashboard = Dashboard::run(files("4096; ulimit -S -n 64"));
    let open: Vec<TcpStream> = (0..300).map(|number| unfinished(&dashboard, 4 * number)).collect();
    is_answered_soon(&dashboard, "/openapi.json");
    for mut connection in open {
        connection.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        assert!(received(&mut connection).starts_with("HTTP/1.1 200"));
    }
}

/// SIGTERM: what is under way is answered, and neither a silent nor a half-sent connection keeps it
/// alive for long.
#[test]
fn it_stops_once_it_has_answered() {
    let mut world = World::new("dash_stop", false);
    let mut watcher = world.superuser();
    let role = world.backend_role();
    let url = url_of(&world.db.server, &world.db.name, &role);
    let mut dashboard = Dashboard::start(&url, SECRET, &["--statement-timeout", "2000", "--idle-timeout", "600"]);
    hold(&mut world);
    let mut asked = dashboard.sent("dev", HELD);
    until("the question waits", || waiting(&mut watcher) == 1);
    let open: Vec<TcpStream> = (0..4).map(|number| unfinished(&dashboard, number)).collect();
    dashboard.terminate();
    run(&mut world.client, "ROLLBACK");
    let answer = received(&mut asked);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    until("it has ended", || dashboard.has_ended());
    drop(open);
}
