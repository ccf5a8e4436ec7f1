//! A host that attacks: tables of the role `m` with a hostile function in every place where PostgreSQL
//! evaluates something of a table (hostile/*.sql), in a cluster of their own. The functions say in the
//! server's log where they run and as whom, so nothing that is rolled back is lost.

pub mod life;

use crate::cluster::Cluster;
use crate::db::{Db, refusal, rows, run, text};
use postgres::Client;
use std::collections::{BTreeMap, BTreeSet};

const TABLES: &str = include_str!("hostile/tables.sql");
pub const MANAGED: &str = include_str!("hostile/managed.sql");
pub const ATTACH: &str = include_str!("hostile/attach.sql");
pub const WRITES: &str = include_str!("hostile/writes.sql");

/// Places that only llm_analytics evaluates: a writer's own statement gives no reason to run them as the writer.
pub const OURS: [&str; 6] =
    ["mapping", "mapping of a constant", "assignment cast", "default of a function", "directory", "directory of a constant"];

/// Who issues a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Actor {
    /// The role m.
    Owner,
    /// A superuser.
    Dba,
    /// The role g, which may do everything with the rows and owns nothing.
    Gateway,
    /// The role b, bound to the user u, an owner of the organization.
    Reader,
}

/// Dropped in this order: the connections, the database, the cluster.
pub struct Host {
    clients: BTreeMap<&'static str, Client>,
    pub db: Db,
    pub cluster: Cluster,
    read: usize,
    faults: Vec<String>,
    /// Where the functions ran, and as whom.
    pub seen: BTreeSet<(String, String)>,
}

/// One thing the log says: the place, who the function ran as, whether that role was a superuser then.
pub type Ran = (String, String, bool);

fn ran(line: &str) -> Option<Ran> {
    let mut parts = line.split_once("LOG:  hostile|")?.1.split('|');
    let (place, who) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    Some((place, who, parts.next()?.trim() == "t"))
}

pub fn said(log: &str) -> Vec<Ran> {
    log.lines().filter_map(ran).collect()
}

/// The place without what followed from it.
pub fn without_what_followed(place: &str) -> &str {
    let place = place.trim_start_matches("n: ").trim_start_matches("deferred trigger of ");
    place.split_once(", after RESET ROLE").map_or(place, |(place, _)| place)
}

/// The statements of a script; none of them has a line that ends with a semicolon within it.
pub fn statements(script: &str) -> Vec<&str> {
    script.split(";\n").filter(|sql| !sql.trim().is_empty()).collect()
}

impl Host {
    /// A cluster with these settings, the extension, and m's tables with some rows in each.
    pub fn new(name: &str, settings: &[&str]) -> Host {
        Host::with(name, settings, "CREATE EXTENSION llm_analytics")
    }

    /// The same with another version.
    pub fn with(name: &str, settings: &[&str], extension: &str) -> Host {
        // Without the worker, unless the test wants it: a step says what it does.
        let settings = [&["llm.worker = off"], settings].concat();
        let cluster = Cluster::fresh(name, &settings);
        let db = Db::on(cluster.server.clone(), name);
        run(&mut db.connect(), extension);
        run(
            &mut db.connect(),
            "CREATE ROLE m LOGIN; CREATE ROLE g LOGIN; CREATE ROLE b LOGIN; CREATE SCHEMA m AUTHORIZATION m; GRANT USAGE ON SCHEMA llm TO m;
             GRANT EXECUTE ON FUNCTION llm.attach_log, llm.detach_log, llm.create_request_log, llm.attach_directory, llm.detach_directory, llm.seal,
                llm.set_retention TO m;
             SELECT llm.bind_role('b', 'u'); INSERT INTO llm.organization (id, name, plan) VALUES ('org', 'Org', 'enterprise')",
        );
        let mut host = Host { clients: BTreeMap::new(), db, cluster, read: 0, faults: Vec::new(), seen: BTreeSet::new() };
        run(host.client(Actor::Owner), TABLES);
        host.check("m makes its tables", Actor::Owner);
        host
    }

    pub fn client(&mut self, actor: Actor) -> &mut Client {
        let role = match actor {
            Actor::Owner => "m",
            Actor::Dba => "postgres",
            Actor::Gateway => "g",
            Actor::Reader => "b",
        };
        let db = &self.db;
        self.clients.entry(role).or_insert_with(|| db.connect_as(role))
    }

    /// The same tables of a second owner, the role n: in schema n, places named `n: ..`.
    pub fn second_owner(&mut self) {
        run(self.client(Actor::Dba), "CREATE ROLE n LOGIN; CREATE SCHEMA n AUTHORIZATION n");
        let tables = TABLES
            .replace("m.", "n.")
            .replace("ROLE m ", "ROLE n ")
            .replace("SCHEMA m ", "SCHEMA n ")
            .replace("'hostile|%", "'hostile|n: %");
        run(&mut self.db.connect_as("n"), &tables);
        self.check("n makes its tables", Actor::Owner);
    }

    /// Goes on in another database of the cluster.
    pub fn in_database(&mut self, name: &str) {
        self.clients.clear();
        self.db = Db { server: self.db.server.clone(), name: name.to_owned() };
    }

    /// Each statement by itself, then what ran meanwhile. A statement that fails is a fault, and the next one follows.
    /// Each step is a session of its own: what a session has in its caches is not evaluated again.
    pub fn step(&mut self, what: &str, actor: Actor, sql: &str) {
        self.step_of(what, actor, &[sql]);
    }

    pub fn step_of(&mut self, what: &str, actor: Actor, statements: &[&str]) {
        for sql in statements {
            if let Err(error) = self.client(actor).batch_execute(sql) {
                let refusal = refusal(&error);
                self.fault(format!("{what}, by {actor:?}: {} {} ({})\n      {sql}", refusal.state, refusal.message, refusal.hint));
            }
        }
        self.clients.clear();
        self.check(what, actor);
    }

    /// A statement that must fail with this SQLSTATE, and reach nothing of m's with more rights than m's on the way.
    pub fn refused(&mut self, actor: Actor, sql: &str, state: &str) {
        match self.client(actor).batch_execute(sql).map_err(|error| refusal(&error)) {
            Err(refusal) if refusal.state == state => {}
            other => self.fault(format!("{sql}, by {actor:?}: wanted {state}, got {other:?}")),
        }
        self.check(sql, actor);
    }

    /// What happened so far is not what is tested: m is ordinary again, and there are no faults.
    pub fn forgive(&mut self) {
        self.news();
        run(self.client(Actor::Dba), "ALTER ROLE m NOSUPERUSER");
        self.faults.clear();
    }

    pub fn copy(&mut self, what: &str, sql: &str, lines: &str) {
        let client = self.client(Actor::Gateway);
        let done = client.copy_in(sql).and_then(|mut writer| {
            std::io::Write::write_all(&mut writer, lines.as_bytes()).expect("send the rows of a COPY");
            writer.finish()
        });
        if let Err(error) = done {
            self.fault(format!("{what}: {:?}", refusal(&error)));
        }
        self.check(what, Actor::Gateway);
    }

    pub fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// What the query says must be what is wanted.
    pub fn expect(&mut self, what: &str, sql: &str, wanted: &str) {
        let got = text(self.client(Actor::Dba), sql);
        if got != wanted {
            self.fault(format!("{what}: wanted {wanted}, got {got}"));
        }
        self.check(what, Actor::Dba);
    }

    /// What the log says that ran since it was read last.
    pub fn news(&mut self) -> Vec<Ran> {
        let log = self.cluster.log();
        let whole = log.rfind('\n').map_or(0, |end| end + 1).max(self.read);
        let news: Vec<Ran> = said(&log[self.read..whole]);
        self.read = whole;
        self.seen.extend(news.iter().map(|(place, who, _)| (place.clone(), who.clone())));
        news
    }

    /// Everything must have run as its owner. A gateway's own statement may run as the gateway what PostgreSQL runs as the writer:
    /// keys, bounds and indexes, checks, defaults, generated columns, domains, statistics (the planner reads them), rules,
    /// policies, m's own triggers, and what those set off.
    pub fn check(&mut self, what: &str, actor: Actor) {
        let news = self.news();
        let owner = |place: &str| if place.starts_with("n: ") { "n" } else { "m" };
        let writer = |place: &str| actor == Actor::Gateway && !OURS.contains(&without_what_followed(place));
        let wrong: BTreeSet<String> = news
            .iter()
            .filter(|(place, who, _)| !(who == owner(place) || who == "g" && writer(place)))
            .map(|(place, who, is_super)| format!("      {place}: ran as {who}{}", if *is_super { ", a superuser" } else { "" }))
            .collect();
        if !wrong.is_empty() {
            self.fault(format!("{what}, by {actor:?}:\n{}", wrong.into_iter().collect::<Vec<_>>().join("\n")));
        }
        self.still_ordinary(what);
    }

    /// m is no superuser; where it is, it is made ordinary again so that the next step shows what it does by itself.
    pub fn still_ordinary(&mut self, what: &str) {
        let sql = "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname IN ('m', 'n', 'g', 'b') AND (rolsuper OR rolbypassrls OR rolcreaterole)";
        let got = text(self.client(Actor::Dba), sql);
        if got != "NULL" {
            self.fault(format!("{what}: {got} IS A SUPERUSER NOW"));
            run(self.client(Actor::Dba), &got.split(' ').map(|role| format!("ALTER ROLE {role} NOSUPERUSER;")).collect::<String>());
        }
    }

    /// The functions did run in these places: what is not seen is not tested.
    pub fn must_have_seen(&mut self, who: &str, places: &[&str]) {
        for place in places {
            if !self.seen.contains(&((*place).to_owned(), who.to_owned())) {
                self.fault(format!("the test is blind: {place} never ran as {who}"));
            }
        }
    }

    pub fn verify(&mut self, what: &str) {
        let sql = "SELECT v::text FROM llm.verify() v LIMIT 5";
        self.clients.clear();
        match self.client(Actor::Dba).simple_query(sql) {
            Ok(_) => {
                let different = rows(self.client(Actor::Dba), sql);
                if !different.is_empty() {
                    self.fault(format!("{what}: llm.verify: {different:?}"));
                }
            }
            Err(error) => self.fault(format!("{what}: llm.verify: {:?}", refusal(&error))),
        }
        self.check(&format!("{what}: verify"), Actor::Dba);
    }

    pub fn finish(self) {
        assert!(self.faults.is_empty(), "{} faults:\n  {}", self.faults.len(), self.faults.join("\n  "));
    }
}
