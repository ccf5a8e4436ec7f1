//! llm-dashboard as it is built, over a database of its own.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use llm_analytics_tests::db::{Db, Server, run};
use llm_analytics_tests::world::{Caller, World};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const SECRET: &str = "a secret of the tests, which has more than 32 bytes";
pub const AUDIENCE: &str = "llm-dashboard";

pub struct Dashboard {
    child: Child,
    pub address: String,
}

pub struct Answer {
    pub status: u16,
    headers: ureq::http::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.body))
    }

    /// The code of an error, whose shape is checked.
    pub fn code(&self) -> String {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
        let names: Vec<&String> = error.keys().collect();
        assert_eq!(names, ["code", "message", "hint"], "{body}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        error["code"].as_str().expect("a code").to_owned()
    }
}

pub fn command(database: &str, key: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-dashboard"));
    command.env("DATABASE_URL", database).env("JWT_KEY", key).env("LISTEN", "127.0.0.1:0").args(arguments);
    command
}

/// What it says when it does not start.
pub fn refuses_to_start(database: &str, key: &str, arguments: &[&str]) -> String {
    let output = command(database, key, arguments).output().expect("llm-dashboard");
    assert!(!output.status.success(), "it started: {arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn url_of(server: &Server, database: &str, role: &str) -> String {
    format!("host='{}' port={} user={role} dbname={database}", server.host, server.port)
}

impl Dashboard {
    pub fn start(database: &str, key: &str, arguments: &[&str]) -> Dashboard {
        Dashboard::run(command(database, key, arguments))
    }

    pub fn run(mut command: Command) -> Dashboard {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("llm-dashboard");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("llm-dashboard listens on ").unwrap_or_else(|| panic!("it says: {line}"));
        Dashboard { child, address: address.trim_end_matches('/').to_owned() }
    }

    /// The first line that it logs, where its errors go to a pipe.
    pub fn first_of_log(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stderr.take().expect("a pipe")).read_line(&mut line).expect("a line");
        line
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(status.expect("kill").success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    /// Over a world, as a role that may act for anybody and do nothing else.
    pub fn over(world: &mut World) -> Dashboard {
        let role = world.backend_role();
        Dashboard::of(&world.db, &role)
    }

    pub fn of(db: &Db, role: &str) -> Dashboard {
        Dashboard::start(&url_of(&db.server, &db.name, role), SECRET, &[])
    }

    pub fn send(&self, client: &Client, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut response = client.0.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let body = response.body_mut().with_config().limit(100_000_000).read_to_string().expect("UTF-8");
        Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(&Client::new(), "GET", path, headers)
    }

    pub fn ask(&self, user: &str, path: &str) -> Answer {
        self.get(path, &[("Authorization", &bearer(user))])
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps its connections.
pub struct Client(ureq::Agent);

impl Client {
    pub fn new() -> Client {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60))).build();
        Client(config.into())
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

pub fn claims(user: &str) -> Value {
    json!({ "sub": user, "aud": AUDIENCE, "exp": now() + 600 })
}

pub fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).expect("a token")
}

pub fn signed(claims: &Value) -> String {
    sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

pub fn bearer(user: &str) -> String {
    format!("Bearer {}", signed(&claims(user)))
}

/// For a part of a path or of a query.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Waits until something is so, and fails after ten seconds in which it was not.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "ten seconds, and not yet: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A question whose answer waits for `hold`.
pub const HELD: &str = "/analytics/me?organizationId=acme&from=2026-06-01&to=2026-06-02";

/// Locks the rollups, so that every question about usage waits until `world.client` says ROLLBACK.
pub fn hold(world: &mut World) {
    run(&mut world.client, "BEGIN; LOCK TABLE llm.rollup IN ACCESS EXCLUSIVE MODE");
}

/// How many questions of a database wait for a lock.
pub fn waiting(watcher: &mut Caller) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'llm-dashboard' AND wait_event_type = 'Lock'";
    watcher.text(sql).parse().expect("a number")
}

impl Dashboard {
    /// A connection over which a request is sent, and nothing is read yet.
    pub fn sent(&self, user: &str, path: &str) -> TcpStream {
        let mut connection = self.connection();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\r\n", bearer(user));
        connection.write_all(head.as_bytes()).expect("a head");
        connection
    }

    /// A connection over which nothing is sent yet, and on which no read waits longer than 20 s.
    pub fn connection(&self) -> TcpStream {
        let connection = TcpStream::connect(self.address.trim_start_matches("http://")).expect("a connection");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        connection
    }
}

/// The head and the body that come over a connection until it is closed.
pub fn received(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}
