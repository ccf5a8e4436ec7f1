//! `llm-dashboard`: the HTTP endpoints and the pages over llm_analytics. No state of its own, and no number that PostgreSQL did not compute.
//!
//! | module | |
//! | --- | --- |
//! | `endpoint` | every endpoint as one row of a table: path, SQL function, parameters |
//! | `answer` | JSON as it comes, the same as CSV, errors by SQLSTATE |
//! | `token`, `key` | who asks: a signed JWT, and the key it is verified with |
//! | `users` | how many questions one user may have under way |
//! | `database` | one read-only transaction a request: act_as, then the function |
//! | `dsn`, `tls` | the connection string, and whose certificates are believed |
//! | `server` | connections from clients: how many, and for how long |
//! | `openapi` | the document, from the table |
//! | `pages` | the embedded pages |
//! | `demo` | signed tokens for sample users, on loopback only |

mod answer;
mod database;
mod demo;
mod dsn;
mod endpoint;
mod key;
mod openapi;
mod pages;
mod server;
mod settings;
mod tls;
mod token;
mod users;

use answer::Failure;
use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::get;
use clap::Parser;
use database::Database;
use key::Key;
use settings::Settings;
use std::sync::Arc;
use std::time::Duration;
use token::Tokens;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

pub struct State {
    database: Database,
    tokens: Tokens,
    demo: Vec<demo::User>,
}

fn router(state: Arc<State>) -> Router {
    let mut router = Router::new()
        .route("/openapi.json", get(openapi::document))
        .route("/health", get(database::health))
        .route("/health/ready", get(database::ready));
    for endpoint in &endpoint::ENDPOINTS {
        router = router.route(
            endpoint.path,
            get(move |state, path, query, headers| endpoint::handle(endpoint, state, path, query, headers))
                .fallback(async || Failure::method()),
        );
    }
    if !state.demo.is_empty() {
        router = router.merge(demo::router());
    }
    let header = |name: HeaderName, value: &'static str| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    router
        .fallback(pages::serve)
        .with_state(state)
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "same-origin"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ))
        .layer(CompressionLayer::new())
}

async fn run(settings: Settings) -> Result<(), String> {
    let key = Key::read(&settings.jwt_key, settings.jwt_algorithm)?;
    let demo = settings.demo_users()?;
    if !demo.is_empty() && key.sign.is_none() {
        return Err("--demo-user needs a --jwt-key that is a secret: with a public key nothing can be signed".into());
    }
    eprintln!("llm-dashboard: tokens have to be signed with {:?}", key.algorithm);
    let state = State { database: Database::new(&settings)?, tokens: Tokens::new(key, &settings.jwt_audience), demo };
    let most = server::connections(&settings)?;
    let listener = tokio::net::TcpListener::bind(settings.listen).await.map_err(|error| format!("{}: {error}", settings.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("llm-dashboard listens on http://{address}/");
    // Long enough for every answer that is under way.
    let grace = state.database.deadline();
    server::serve(listener, router(Arc::new(state)), most, Duration::from_secs(settings.idle_timeout), grace, stopped()).await;
    Ok(())
}

/// SIGTERM or SIGINT: requests that are under way are answered.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run(Settings::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llm-dashboard: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
