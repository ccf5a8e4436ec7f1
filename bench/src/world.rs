//! The server, its database, and what is asked for.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{run, text};
use postgres::{Client, SimpleQueryMessage};
use std::time::Instant;

/// From the environment: QUICK, ONLY, and those of the generator.
pub struct Parameters {
    pub is_quick: bool,
    pub rows: u64,
    pub days: u64,
    /// What generate.sql calls them, and their values.
    pub generator: Vec<(&'static str, String)>,
    only: Vec<String>,
}

impl Parameters {
    pub fn from_env() -> Parameters {
        let text = |name: &str| std::env::var(name).unwrap_or_default();
        let is_quick = text("QUICK") == "quick";
        let number = |name: &str, default: u64| text(name).parse().unwrap_or(default);
        Parameters {
            is_quick,
            rows: number("ROWS", if is_quick { 100_000 } else { 10_000_000 }),
            days: number("DAYS", 365),
            generator: [
                ("ORGANIZATIONS", ":organizations", 50.0),
                ("KEYS", ":keys", 60.0),
                ("MODELS", ":models", 6.0),
                ("SKEW", ":skew", 0.25),
                ("BURST", ":burst", 4.0),
                ("LATE", ":late", 0.0),
            ]
            .map(|(variable, name, default)| (name, text(variable).parse().unwrap_or(default).to_string()))
            .into(),
            only: text("ONLY").split_whitespace().map(String::from).collect(),
        }
    }

    /// Whether a set is: those that are named, the bursty one where only parts are.
    pub fn wants_set(&self, set: &str) -> bool {
        let names = |set: &str| self.only.iter().any(|only| only == set);
        self.only.is_empty() || names(set) || (set == "bursty" && !names("adversarial"))
    }

    /// Whether a part of the benchmark is asked for.
    pub fn wants(&self, part: &str) -> bool {
        let parts = self.only.iter().filter(|only| !["bursty", "adversarial"].contains(&only.as_str()));
        parts.clone().next().is_none() || parts.clone().any(|only| only == part)
    }

    /// How many rounds, seconds or rows, in full and in quick runs.
    pub fn of(&self, full: u64, quick: u64) -> u64 {
        if self.is_quick { quick } else { full }
    }
}

pub struct World {
    pub cluster: Cluster,
    pub client: Client,
    pub parameters: Parameters,
}

const DATABASE: &str = "bench";

impl World {
    pub fn start(parameters: &Parameters) -> World {
        let buffers = if parameters.is_quick { "256MB" } else { "6GB" };
        let settings = [
            &format!("shared_buffers = {buffers}"),
            "max_wal_size = 16GB",
            "checkpoint_timeout = 30min",
            "jit = off",
            "llm.worker = off",
            "llm.fold_interval = 1s",
            "fsync = on",
            "synchronous_commit = on",
        ]
        .map(String::from);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let cluster = Cluster::fresh("bench", &settings);
        let client = Self::database(&cluster);
        World { cluster, client, parameters: Parameters::from_env() }
    }

    fn database(cluster: &Cluster) -> Client {
        let mut admin = cluster.server.connect("postgres");
        run(&mut admin, &format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"));
        run(&mut admin, &format!("CREATE DATABASE {DATABASE} TEMPLATE template0"));
        let mut client = cluster.server.connect(DATABASE);
        run(&mut client, "CREATE EXTENSION llm_analytics");
        run(&mut client, "SET TimeZone = 'UTC'");
        client
    }

    /// An empty database again.
    pub fn reset(&mut self) {
        self.client = Self::database(&self.cluster);
    }

    pub fn connect(&self) -> Client {
        self.cluster.server.connect(DATABASE)
    }

    pub fn run(&mut self, sql: &str) {
        run(&mut self.client, sql);
    }

    pub fn text(&mut self, sql: &str) -> String {
        text(&mut self.client, sql)
    }

    pub fn number(&mut self, sql: &str) -> f64 {
        self.text(sql).parse().unwrap_or_else(|_| panic!("{sql} gives no number"))
    }

    /// Milliseconds of a statement, its rows received.
    pub fn time(&mut self, sql: &str) -> f64 {
        let started = Instant::now();
        let rows = self.client.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let took = started.elapsed().as_secs_f64() * 1000.0;
        assert!(rows.iter().any(|message| matches!(message, SimpleQueryMessage::CommandComplete(_))));
        took
    }

    pub fn database_name(&self) -> &'static str {
        DATABASE
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
