//! `llm-dashboard`: the HTTP endpoints and the pages over llm_analytics. No state of its own, and no number that PostgreSQL did not compute.
//!
//! | module | |
//! | --- | --- |
//! | `endpoint` | every endpoint as one row of a table: path, SQL function, parameters |
//! | `answer` | JSON as it comes, the same as CSV, errors by SQLSTATE |
//! | `token` | who asks: a signed JWT |
//! | `database` | one read-only transaction a request: act_as, then the function |
//! | `openapi` | the document, from the table |
//! | `pages` | the embedded pages |
//! | `demo` | signed tokens for sample users, on loopback only |

mod answer;
mod database;
mod demo;
mod endpoint;
mod openapi;
mod pages;
mod settings;
mod token;

use answer::Failure;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use clap::Parser;
use database::Database;
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
    let mut router = Router::new().route("/openapi.json", get(openapi::document)).route("/health", get(database::health));
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
        .layer(from_fn(without_body))
}

/// Nothing here takes a body, and one that is sent is read all the same, as far as it is small and comes soon: answered before that, the
/// connection would be closed, and whoever is still sending may see a reset in place of the answer.
async fn without_body(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let _ = tokio::time::timeout(Duration::from_secs(5), to_bytes(body, 64 << 10)).await;
    next.run(Request::from_parts(head, Body::empty())).await
}

async fn run(settings: Settings) -> Result<(), String> {
    let state = State {
        database: Database::new(&settings)?,
        tokens: Tokens::new(&settings.jwt_key, &settings.jwt_audience)?,
        demo: settings.demo_users()?,
    };
    if !state.demo.is_empty() && !state.tokens.can_sign() {
        return Err("--demo-user needs a --jwt-key that is a secret: with a public key nothing can be signed".into());
    }
    let listener = tokio::net::TcpListener::bind(settings.listen).await.map_err(|error| format!("{}: {error}", settings.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("llm-dashboard listens on http://{address}/");
    axum::serve(listener, router(Arc::new(state))).with_graceful_shutdown(stopped()).await.map_err(|error| error.to_string())
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
