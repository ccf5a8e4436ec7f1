//! The database: a pool of connections, and one short read-only transaction a request.

use crate::State;
use crate::answer::Failure;
use crate::settings::Settings;
use axum::extract;
use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a request waits for a connection.
const WAIT: Duration = Duration::from_secs(5);

pub struct Database(Pool);

impl Database {
    pub fn new(settings: &Settings) -> Result<Database, String> {
        let mut config: tokio_postgres::Config = settings.database_url.parse().map_err(|error| format!("--database-url: {error}"))?;
        let timeout = format!("-c statement_timeout={}", settings.statement_timeout);
        let options = config.get_options().map_or(timeout.clone(), |options| format!("{options} {timeout}"));
        config.options(options).application_name("llm-dashboard").connect_timeout(WAIT);
        let manager = Manager::from_config(config, tls(settings)?, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(settings.database_connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Database(pool))
    }

    /// What a function answers to a user.
    pub async fn ask(&self, user: &str, sql: &str, arguments: &[String]) -> Result<String, Failure> {
        let mut client = self.0.get().await?;
        let transaction = client.build_transaction().read_only(true).start().await?;
        let act_as = transaction.prepare_cached("SELECT llm.act_as($1)").await?;
        transaction.execute(&act_as, &[&user]).await?;
        let question = transaction.prepare_cached(sql).await?;
        let arguments: Vec<&(dyn ToSql + Sync)> = arguments.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
        let answer: String = transaction.query_one(&question, &arguments).await?.try_get(0)?;
        // Ends the identity with it.
        transaction.commit().await?;
        Ok(answer)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Failure {
        match error {
            // None could be made. The server's own word for why (28000, say) is not about who asks.
            PoolError::Backend(error) => Failure::unreachable(&error),
            // None was free in time.
            _ => Failure::unavailable(),
        }
    }
}

/// `sslmode` of the URL says whether it is used; where it is, the certificate must be right.
fn tls(settings: &Settings) -> Result<MakeRustlsConnect, String> {
    let mut roots = RootCertStore::empty();
    match &settings.database_ca {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|error| format!("--database-ca {}: {error}", path.display()))?;
            let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut bytes.as_slice()).collect();
            for certificate in found.map_err(|error| format!("--database-ca: {error}"))? {
                roots.add(certificate).map_err(|error| format!("--database-ca: {error}"))?;
            }
            if roots.is_empty() {
                return Err(format!("--database-ca {}: no certificate in it", path.display()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Whether the database answers; nobody has to be anybody.
pub async fn health(extract::State(state): extract::State<Arc<State>>) -> Result<&'static str, Failure> {
    state.database.0.get().await?.simple_query("SELECT 1").await?;
    Ok("ok\n")
}
