//! A network between server and database that takes data and delivers none.

use crate::harness::*;
use llm_analytics_tests::db::{Server, run};
use llm_analytics_tests::world::World;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between a port of the loopback address and the database's socket. While it swallows, it reads
/// all that is sent and forwards nothing, in either direction.
struct Proxy {
    port: u16,
    swallows: Arc<AtomicBool>,
}

fn forward(mut from: impl Read, mut to: impl Write, swallows: &AtomicBool) {
    let mut bytes = [0; 8192];
    // A connection that has lost bytes stays silent, because what follows would make no sense.
    let mut has_lost = false;
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        has_lost |= swallows.load(Ordering::SeqCst);
        if !has_lost && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
}

fn connect(client: TcpStream, database: UnixStream, swallows: Arc<AtomicBool>) -> std::io::Result<()> {
    let (client_too, database_too, swallows_too) = (client.try_clone()?, database.try_clone()?, swallows.clone());
    std::thread::spawn(move || {
        forward(&client, &database, &swallows);
        let _ = database.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        forward(&database_too, &client_too, &swallows_too);
        let _ = client_too.shutdown(Shutdown::Both);
    });
    Ok(())
}

impl Proxy {
    fn start(server: &Server) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = Proxy { port: listener.local_addr().expect("an address").port(), swallows: Arc::default() };
        let (socket, swallows) = (format!("{}/.s.PGSQL.{}", server.host, server.port), proxy.swallows.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let connected = UnixStream::connect(&socket).and_then(|database| connect(client, database, swallows.clone()));
                connected.expect("the database's socket");
            }
        });
        proxy
    }

    fn swallow(&self, swallows: bool) {
        self.swallows.store(swallows, Ordering::SeqCst);
    }

    /// Seconds until the operating system asks whether a connection to this port is still there,
    /// for each.
    fn probes(&self) -> Vec<u64> {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections");
        let to_here = |fields: &[&str]| fields[2].ends_with(&format!(":{:04X}", self.port)) && fields[3] == "01";
        let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // The timer 02 is that of keepalives; it is in hundredths of a second.
        let timers = lines.filter(|fields| to_here(fields)).filter_map(|fields| fields[5].strip_prefix("02:").map(str::to_owned));
        timers.map(|timer| u64::from_str_radix(&timer, 16).expect("a number") / 100).collect()
    }
}

fn start(world: &mut World, arguments: &[&str]) -> (Proxy, Dashboard) {
    let proxy = Proxy::start(&world.db.server);
    let role = world.backend_role();
    let url = format!("host=127.0.0.1 port={} user={role} dbname={}", proxy.port, world.db.name);
    (proxy, Dashboard::start(&url, SECRET, arguments))
}

#[test]
fn idle_connections_that_are_lost() {
    let mut world = World::new("dash_lost", false);
    let (proxy, dashboard) = start(&mut world, &["--database-connections", "4", "--questions-per-user", "1"]);
    let users = ["own", "adm", "dev", "dev2"];
    let all = || -> Vec<u16> {
        let ask = |user| {
            let dashboard = &dashboard;
            move || dashboard.ask(user, HELD).status
        };
        std::thread::scope(|scope| users.map(|user| scope.spawn(ask(user))).map(|thread| thread.join().expect("an answer")).into())
    };
    // Each of them has a connection, which the pool keeps.
    hold(&mut world);
    let asked = users.map(|user| dashboard.sent(user, HELD));
    let mut watcher = world.superuser();
    until("each has a connection", || waiting(&mut watcher) == 4);
    run(&mut world.client, "ROLLBACK");
    for mut connection in asked {
        assert!(received(&mut connection).starts_with("HTTP/1.1 200"));
    }
    let probes = proxy.probes();
    assert!(probes.len() == 4 && probes.iter().all(|seconds| *seconds <= 30), "{probes:?}");
    proxy.swallow(true);
    let started = Instant::now();
    assert_eq!(all(), [503; 4]);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // The network is back, and all four connections are new.
    proxy.swallow(false);
    assert_eq!(all(), [200; 4]);
}

#[test]
fn a_question_whose_answer_is_lost() {
    let mut world = World::new("dash_stalled", false);
    let mut watcher = world.superuser();
    let (proxy, dashboard) = start(&mut world, &["--statement-timeout", "1000"]);
    hold(&mut world);
    let started = Instant::now();
    let mut asked = dashboard.sent("dev", HELD);
    until("it waits", || waiting(&mut watcher) == 1);
    proxy.swallow(true);
    let answer = received(&mut asked);
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("\"code\":\"timeout\""), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    proxy.swallow(false);
    run(&mut world.client, "ROLLBACK");
    assert_eq!(dashboard.ask("dev", HELD).status, 200);
}

/// The server's own timeout comes first, and its connection stays in use.
#[test]
fn a_statement_that_takes_too_long() {
    let mut world = World::new("dash_long", false);
    let (proxy, dashboard) = start(&mut world, &["--statement-timeout", "300"]);
    hold(&mut world);
    let answer = dashboard.ask("dev", HELD);
    assert_eq!((answer.status, answer.code().as_str()), (504, "timeout"), "{}", answer.body);
    run(&mut world.client, "ROLLBACK");
    assert_eq!(dashboard.ask("dev", HELD).status, 200);
    assert_eq!(proxy.probes().len(), 1);
}
