//! What it is started with.

use crate::demo;
use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The HTTP endpoints and the pages over llm_analytics.
#[derive(Parser)]
#[command(version)]
pub struct Settings {
    /// Where the database is: a URL or keywords as libpq has them. The role needs llm.act_as and nothing else.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,

    /// A PEM file of the authorities that may have signed the database's certificate, instead of the system's.
    #[arg(long, env = "DATABASE_CA")]
    pub database_ca: Option<PathBuf>,

    /// Connections to the database, at most.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 16)]
    pub database_connections: usize,

    /// Milliseconds that one question may take.
    #[arg(long, env = "STATEMENT_TIMEOUT", default_value_t = 30_000)]
    pub statement_timeout: u32,

    /// What tokens are signed with: an HS256 secret of at least 32 bytes, or an RS256 public key as PEM; @FILE reads either from a file.
    #[arg(long, env = "JWT_KEY", hide_env_values = true)]
    pub jwt_key: String,

    /// The audience (`aud`) that tokens must name.
    #[arg(long, env = "JWT_AUDIENCE", default_value = "llm-dashboard")]
    pub jwt_audience: String,

    /// Address and port to listen on.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Signs tokens for this sample user, ID=NAME, so that one can switch between several. Anybody who reaches the port can be them, so
    /// only on a loopback address.
    #[arg(long, value_name = "ID=NAME")]
    demo_user: Vec<String>,
}

impl Settings {
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
