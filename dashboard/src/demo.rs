//! Sample users to switch between. Anybody who reaches the port can be any of them: on loopback only (settings.rs), and only for who asks
//! for this very host, so that no page of another site gets here by a name that it lets point to 127.0.0.1.

use crate::State;
use crate::answer::{Failure, with_type};
use crate::token::COOKIE;
use axum::Router;
use axum::extract;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Serialize)]
pub struct User {
    pub id: String,
    pub name: String,
}

pub fn router() -> Router<Arc<State>> {
    Router::new().route("/demo/users", get(users)).route("/demo/sign-in", post(sign_in))
}

fn check_host(headers: &HeaderMap) -> Result<(), Failure> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if ["127.0.0.1", "localhost", "[::1]"].contains(&name) { Ok(()) } else { Err(Failure::not_found()) }
}

async fn users(extract::State(state): extract::State<Arc<State>>, headers: HeaderMap) -> Result<Response, Failure> {
    check_host(&headers)?;
    let current = state.tokens.user(&headers).ok();
    Ok(with_type("application/json", serde_json::json!({ "current": current, "users": state.demo }).to_string()))
}

#[derive(Deserialize)]
struct SignIn {
    user: String,
}

async fn sign_in(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    extract::Query(wanted): extract::Query<SignIn>,
) -> Result<Response, Failure> {
    check_host(&headers)?;
    let user = state.demo.iter().find(|user| user.id == wanted.user).ok_or_else(Failure::not_found)?;
    let token = state.tokens.sign(&user.id).ok_or_else(Failure::unavailable)?;
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=86400");
    let mut response = with_type("application/json", serde_json::json!({ "current": user.id }).to_string());
    response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).map_err(|_| Failure::unavailable())?);
    Ok(response)
}
