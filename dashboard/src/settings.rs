//! What it is started with.

use crate::demo;
use crate::key::JwtAlgorithm;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The HTTP endpoints and the pages over llm_analytics.
#[derive(Parser)]
#[command(version)]
pub struct Settings {
    /// Where the database is: a URL or keywords as libpq has them, sslmode=verify-full and
    /// sslrootcert among them. The role needs llm.act_as and nothing else.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,

    /// A PEM file of the authorities that may have signed the database's certificate, instead of the system's.
    #[arg(long, env = "DATABASE_CA")]
    pub database_ca: Option<PathBuf>,

    /// Connections to the database, at most.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub database_connections: usize,

    /// Questions that one user may have under way at once, fewer than connections to the database.
    /// A quarter of those where it is left out.
    #[arg(long, env = "QUESTIONS_PER_USER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    questions_per_user: Option<usize>,

    /// Milliseconds that one question may take. Five seconds later the whole request is given up.
    #[arg(long, env = "STATEMENT_TIMEOUT", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..=86_400_000))]
    pub statement_timeout: u32,

    /// What tokens are signed with: an HS256 secret of at least 32 bytes, or an RS256 public key as PEM; @FILE reads either from a file.
    #[arg(long, env = "JWT_KEY", hide_env_values = true)]
    pub jwt_key: String,

    /// The algorithm of tokens. Where it is left out: RS256 for a public key as PEM, HS256 for what
    /// can only be a secret.
    #[arg(long, env = "JWT_ALGORITHM", ignore_case = true)]
    pub jwt_algorithm: Option<JwtAlgorithm>,

    /// The audience (`aud`) that tokens must name.
    #[arg(long, env = "JWT_AUDIENCE", default_value = "llm-dashboard")]
    pub jwt_audience: String,

    /// Address and port to listen on.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Connections from clients, at most; for one more, the one that has waited longest for its
    /// client is closed. Fewer where the limit of open files asks for it.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 1000, value_parser = RangedU64ValueParser::<usize>::new().range(16..=100_000))]
    pub max_connections: usize,

    /// Seconds until a connection is closed that has not sent a complete request head.
    #[arg(long, env = "IDLE_TIMEOUT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub idle_timeout: u64,

    /// Signs tokens for this sample user, ID=NAME, so that one can switch between several. Anybody who reaches the port can be them, so
    /// only on a loopback address.
    #[arg(long, value_name = "ID=NAME")]
    demo_user: Vec<String>,
}

impl Settings {
    /// Below the number of connections, so that no user has all of them.
    pub fn questions_per_user(&self) -> Result<usize, String> {
        let connections = self.database_connections;
        match self.questions_per_user {
            None => Ok((connections / 4).max(1)),
            Some(questions) if questions < connections.max(2) => Ok(questions),
            Some(questions) => Err(format!("--questions-per-user {questions}: fewer than the {connections} of --database-connections")),
        }
    }

    pub fn demo_users(&self) -> Result<Vec<demo::User>, String> {
        if !self.demo_user.is_empty() && !self.listen.ip().is_loopback() {
            return Err(format!("--demo-user lets anybody be anybody, so not on {}: listen on a loopback address", self.listen));
        }
        self.demo_user
            .iter()
            .map(|text| {
                let (id, name) = text.split_once('=').ok_or_else(|| format!("--demo-user {text}: it is ID=NAME"))?;
                Ok(demo::User { id: id.into(), name: name.into() })
            })
            .collect()
    }
}
