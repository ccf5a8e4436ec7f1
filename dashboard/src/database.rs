//! The database: a pool of connections, and one short read-only transaction a request.
//!
//! A request's future can be dropped at any await, because the client went away or because the
//! deadline passed. What must happen then is in `Lease`: the query is canceled, and its connection
//! is never given to another request.

use crate::State;
use crate::answer::Failure;
use crate::dsn::Dsn;
use crate::settings::Settings;
use crate::tls;
use crate::users::{Turn, Users};
use axum::extract;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a request waits for a turn of its user, for a connection, and for the server's answer
/// to BEGIN, which waits for nobody: without one in this time the network has lost the connection.
const WAIT: Duration = Duration::from_secs(5);

/// How much longer than the statement timeout a request may take. By then the server has said that
/// the statement timed out, or it can no longer be heard.
const GRACE: Duration = Duration::from_secs(5);

/// How long a query may take to end once it is canceled. Longer it takes only where the network is
/// lost, and then waiting for it would keep the connection's place in the pool from others.
const CANCEL: Duration = Duration::from_secs(2);

/// How long what is known of the database's readiness is good for.
const FRESH: Duration = Duration::from_secs(1);

pub struct Database {
    pool: Pool,
    tls: MakeRustlsConnect,
    users: Arc<Users>,
    deadline: Duration,
    /// When `is_ready` looked last, and what it saw.
    readiness: Mutex<Option<(Instant, bool)>>,
}

impl Database {
    pub fn new(settings: &Settings) -> Result<Database, String> {
        let Dsn { mut config, verify, roots } = Dsn::parse(&settings.database_url)?;
        let statement_timeout = format!("-c statement_timeout={}", settings.statement_timeout);
        let options = config.get_options().map_or(statement_timeout.clone(), |options| format!("{options} {statement_timeout}"));
        config.options(options).application_name("llm-dashboard").connect_timeout(WAIT);
        notice_lost_connections(&mut config);
        let tls = tls::connector(verify, roots, settings.database_ca.as_deref())?;
        let manager = Manager::from_config(config, tls.clone(), ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(settings.database_connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .build()
            .map_err(|error| error.to_string())?;
        let deadline = Duration::from_millis(settings.statement_timeout.into()) + GRACE;
        Ok(Database { pool, tls, users: Users::new(settings.questions_per_user()?), deadline, readiness: Mutex::default() })
    }

    /// The longest that a question takes, whatever happens.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What a function answers to a user.
    pub async fn ask(&self, user: &str, sql: &str, arguments: &[String]) -> Result<String, Failure> {
        let answer = async {
            let mut lease = self.lease(user).await?;
            match lease.question(user, sql, arguments).await {
                // Ends the identity with the transaction.
                Ok(answer) => lease.end("COMMIT").await.map(|()| answer),
                Err(error) => {
                    // Where this fails too, the connection is broken, and the lease throws it away.
                    let _ = lease.end("ROLLBACK").await;
                    Err(error)
                }
            }
        };
        timeout(self.deadline, answer).await.unwrap_or_else(|_| Err(Failure::late()))
    }

    /// Whether a question could be asked now, or a moment ago. Nobody needs a token to ask for it,
    /// so all who ask at once share one look at the database.
    async fn is_ready(&self) -> bool {
        let mut last = self.readiness.lock().await;
        match *last {
            Some((at, is_ready)) if at.elapsed() < FRESH => is_ready,
            _ => {
                // No token can name this user.
                let look = async { self.lease("").await?.end("COMMIT").await };
                let is_ready = timeout(self.deadline, look).await.is_ok_and(|looked| looked.is_ok());
                *last = Some((Instant::now(), is_ready));
                is_ready
            }
        }
    }

    /// A connection with an open read-only transaction, once it is the user's turn.
    async fn lease(&self, user: &str) -> Result<Lease, Failure> {
        let turn = self.users.turn(user, WAIT).await?;
        let connection = self.pool.get().await?;
        let lease = Lease { held: Some((connection, turn)), tls: self.tls.clone() };
        let begin = timeout(WAIT, lease.connection()?.batch_execute("BEGIN READ ONLY")).await;
        begin.map_err(|_| Failure::unavailable())??;
        Ok(lease)
    }
}

/// A connection in use, and the turn of its user. `end` gives both back. Dropped before that, the
/// query is canceled and the connection is thrown away. Until the query has ended it keeps its
/// place in the pool and the user's turn, so that nobody gets more queries at once by canceling
/// them.
struct Lease {
    held: Option<(Object, Turn)>,
    tls: MakeRustlsConnect,
}

impl Lease {
    fn connection(&self) -> Result<&Object, Failure> {
        self.held.as_ref().map(|(connection, _)| connection).ok_or_else(Failure::unavailable)
    }

    async fn question(&self, user: &str, sql: &str, arguments: &[String]) -> Result<String, Failure> {
        let connection = self.connection()?;
        let act_as = connection.prepare_cached("SELECT llm.act_as($1)").await?;
        connection.execute(&act_as, &[&user]).await?;
        let question = connection.prepare_cached(sql).await?;
        let arguments: Vec<&(dyn ToSql + Sync)> = arguments.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
        Ok(connection.query_one(&question, &arguments).await?.try_get(0)?)
    }

    async fn end(&mut self, how: &str) -> Result<(), Failure> {
        self.connection()?.batch_execute(how).await?;
        self.held = None;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some((connection, turn)), Ok(runtime)) = (self.held.take(), tokio::runtime::Handle::try_current()) else { return };
        let tls = self.tls.clone();
        runtime.spawn(async move {
            if !connection.is_closed() {
                // An error changes nothing, because what follows is for a connection in any state.
                let _ = timeout(CANCEL, cancel(&connection, tls)).await;
            }
            // A cancel request may arrive late, so this connection must not carry another query.
            drop(Object::take(connection));
            drop(turn);
        });
    }
}

async fn cancel(connection: &Object, tls: MakeRustlsConnect) -> Result<(), tokio_postgres::Error> {
    connection.cancel_token().cancel_query(tls).await?;
    // It is answered once the canceled query has ended.
    connection.batch_execute("ROLLBACK").await
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

/// Lets the operating system find connections that the network has lost, within a minute, where the
/// connection string does not say otherwise.
fn notice_lost_connections(config: &mut tokio_postgres::Config) {
    const AFTER: Duration = Duration::from_secs(30);
    const DRIVERS_DEFAULT: Duration = Duration::from_secs(2 * 60 * 60);
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(AFTER);
    }
    if config.get_keepalives_idle() == DRIVERS_DEFAULT {
        config.keepalives_idle(AFTER);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(10));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
}

/// Whether this process is alive. It asks the database nothing, so that a slow database or a full
/// pool gets no instance restarted.
pub async fn health() -> &'static str {
    "ok\n"
}

/// Whether the database answers, so that a balancer can leave out an instance that cannot reach it.
pub async fn ready(extract::State(state): extract::State<Arc<State>>) -> Result<&'static str, Failure> {
    if state.database.is_ready().await { Ok("ok\n") } else { Err(Failure::unavailable()) }
}
