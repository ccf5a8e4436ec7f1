//! A database of its own for every test, on the server that PGHOST, PGPORT and PGUSER name.

use postgres::{Client, Config, NoTls, Row};
use std::env;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNTER: AtomicU32 = AtomicU32::new(0);

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// Where a server listens: the environment's, or a private cluster's.
#[derive(Clone, Debug)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub user: String,
}

impl Server {
    pub fn from_env() -> Server {
        let host = env::var("PGHOST").expect("PGHOST names the socket directory of the test server");
        Server { host, port: variable("PGPORT", "5432").parse().expect("PGPORT"), user: variable("PGUSER", "postgres") }
    }

    pub fn config(&self, database: &str, user: &str) -> Config {
        let mut config = Config::new();
        config.host(&self.host).port(self.port).user(user).dbname(database).application_name("llm_analytics_tests");
        config
    }

    pub fn connect(&self, database: &str) -> Client {
        self.config(database, &self.user).connect(NoTls).unwrap_or_else(|e| panic!("connect to {database}: {e:?}"))
    }

    pub fn connect_as(&self, database: &str, user: &str) -> Client {
        self.config(database, user).connect(NoTls).unwrap_or_else(|e| panic!("connect to {database} as {user}: {e:?}"))
    }
}

/// Dropped, with everything in it, when the test ends well; kept when it fails, to be looked at.
pub struct Db {
    pub server: Server,
    pub name: String,
}

impl Db {
    /// A new database with the extension.
    pub fn new(tag: &str) -> Db {
        Db::new_on(Server::from_env(), tag)
    }

    pub fn new_on(server: Server, tag: &str) -> Db {
        let db = Db::on(server, tag);
        db.connect().batch_execute("CREATE EXTENSION llm_analytics").expect("CREATE EXTENSION llm_analytics");
        db
    }

    /// A new database without the extension.
    pub fn bare(tag: &str) -> Db {
        Db::on(Server::from_env(), tag)
    }

    pub fn on(server: Server, tag: &str) -> Db {
        let name = format!("t_{tag}_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        server
            .connect("postgres")
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .expect("create the test's database");
        Db { server, name }
    }

    pub fn connect(&self) -> Client {
        self.server.connect(&self.name)
    }

    pub fn connect_as(&self, user: &str) -> Client {
        self.server.connect_as(&self.name, user)
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the database {} is kept", self.name);
            return;
        }
        // A test may have left connections open.
        if let Ok(mut client) = self.server.config("postgres", &self.server.user).connect(NoTls) {
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

/// A role of the test's own; roles belong to the whole server, so the name has the process in it.
pub struct Role {
    pub name: String,
    server: Server,
}

impl Role {
    pub fn new(server: &Server, tag: &str) -> Role {
        let name = format!("r_{tag}_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        server.connect("postgres").batch_execute(&format!("CREATE ROLE {name} LOGIN")).expect("create role");
        Role { name, server: server.clone() }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if let Ok(mut client) = self.server.config("postgres", &self.server.user).connect(NoTls) {
            let _ = client.batch_execute(&format!("DROP ROLE IF EXISTS {}", self.name));
        }
    }
}

/// SQLSTATE, message and hint of a failed call.
#[derive(Debug)]
pub struct Refusal {
    pub state: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

pub fn refusal(error: &postgres::Error) -> Refusal {
    let Some(db) = error.as_db_error() else { panic!("not an error of the server: {error:?}") };
    Refusal {
        state: db.code().code().to_owned(),
        message: db.message().to_owned(),
        detail: db.detail().unwrap_or_default().to_owned(),
        hint: db.hint().unwrap_or_default().to_owned(),
    }
}

/// Runs a statement that must fail and says how it did.
pub fn refused(client: &mut Client, sql: &str) -> Refusal {
    match client.batch_execute(sql) {
        Ok(()) => panic!("should have been refused: {sql}"),
        Err(error) => refusal(&error),
    }
}

/// Runs a statement that must be refused with one of these SQLSTATEs and a hint, and must change nothing that `fingerprint` reads.
pub fn must_refuse(client: &mut Client, fingerprint: &str, sql: &str, states: &[&str]) -> Refusal {
    let before = rows(client, fingerprint);
    let refusal = refused(client, sql);
    assert!(states.contains(&refusal.state.as_str()), "{sql}\nwanted one of {states:?}, got {refusal:?}");
    assert!(!refusal.hint.is_empty(), "no hint: {sql}\n{refusal:?}");
    assert_eq!(rows(client, fingerprint), before, "something changed: {sql}");
    refusal
}

/// The one value of a query's one row, as text; NULL is "NULL".
pub fn text(client: &mut Client, sql: &str) -> String {
    let row = rows(client, sql).pop().unwrap_or_else(|| panic!("no row: {sql}"));
    row.into_iter().next().expect("a column")
}

/// All rows of a query as text, through the simple protocol.
pub fn rows(client: &mut Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(sql).unwrap_or_else(|e| panic!("{sql}\n{e:?}"));
    let mut found = Vec::new();
    for message in messages {
        if let postgres::SimpleQueryMessage::Row(row) = message {
            found.push((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect());
        }
    }
    found
}

pub fn run(client: &mut Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql) {
        panic!(
            "{sql}\n{:?}",
            error.as_db_error().map(|e| (e.code().code().to_owned(), e.message().to_owned(), e.hint().map(str::to_owned)))
        );
    }
}

/// A JSON answer, its numbers kept as the text they came as.
pub fn json(client: &mut Client, sql: &str, params: &[&(dyn postgres::types::ToSql + Sync)]) -> serde_json::Value {
    let row: Row = client.query_one(sql, params).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let answer: String = row.get(0);
    serde_json::from_str(&answer).unwrap_or_else(|e| panic!("not JSON ({e}): {answer}"))
}

/// Whether the server has amcheck, and if so makes it: the PostgreSQL of some majors here comes without contrib.
pub fn has_amcheck(client: &mut Client) -> bool {
    let is_there = text(client, "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'") == "1";
    if is_there {
        run(client, "CREATE EXTENSION IF NOT EXISTS amcheck");
    } else {
        println!("NOT RUN: this server has no amcheck");
    }
    is_there
}

/// Asks until the answer is the wanted one; a deadline instead of a sleep.
pub fn wait_for(client: &mut Client, seconds: u64, what: &str, sql: &str, wanted: &str) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        let got = text(client, sql);
        if got == wanted {
            return;
        }
        assert!(std::time::Instant::now() < end, "{what}: wanted {wanted}, still {got} after {seconds} s ({sql})");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

pub fn quote(value: &str) -> String {
    if value.contains('\\') {
        format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
