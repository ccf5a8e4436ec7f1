//! What goes back: the function's JSON untouched, the same as CSV, or an error.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio_postgres::error::SqlState;

/// An answer that is none: `{"error":{"code","message","hint"}}`.
pub struct Failure {
    status: StatusCode,
    code: String,
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure { status, code: code.into(), message: message.into(), hint: None }
    }

    pub fn request(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..Failure::new(StatusCode::BAD_REQUEST, "invalid_request", message) }
    }

    pub fn token(message: &str) -> Failure {
        let hint = "Send a signed token with sub, aud and exp as Authorization: Bearer, or as the cookie llm_token.";
        Failure { hint: Some(hint.into()), ..Failure::new(StatusCode::UNAUTHORIZED, "invalid_token", message) }
    }

    pub fn not_found() -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
    }

    pub fn method() -> Failure {
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "only GET")
    }

    /// The same, with what is known of it in the log.
    pub fn unreachable(error: &tokio_postgres::Error) -> Failure {
        let mut said = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            said.push_str(&format!(": {error}"));
            cause = error.source();
        }
        eprintln!("llm-dashboard: {said}");
        Failure::unavailable()
    }

    pub fn unavailable() -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the database cannot be reached just now")
    }

    /// The user has as many questions under way or waiting as one may have.
    pub fn too_many() -> Failure {
        let hint = "Wait for the answers to earlier requests before sending more.";
        let message = "too many requests of this user at once";
        Failure { hint: Some(hint.into()), ..Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message) }
    }

    /// The deadline of the whole request has passed. A statement timeout (57014) has the same
    /// status and code.
    pub fn late() -> Failure {
        Failure::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "the database did not answer in time")
    }
}

/// By SQLSTATE, as the functions document them.
impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        let Some(db) = error.as_db_error() else {
            // The connection broke.
            return Failure::unreachable(&error);
        };
        let state = db.code().code();
        let reason = db.detail().and_then(|detail| detail.strip_prefix("reason="));
        let (status, code) = match state {
            "28000" => (StatusCode::UNAUTHORIZED, "no_identity"),
            "42501" if reason.is_some() => (StatusCode::FORBIDDEN, reason.unwrap_or_default()),
            "P0002" => (StatusCode::NOT_FOUND, "not_found"),
            "57014" => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            // 0A000: a zone whose days of that time start within a bucket.
            _ if state.starts_with("22") || state == "0A000" => (StatusCode::BAD_REQUEST, "invalid_request"),
            // It is starting, stopping, full or out of order.
            _ if state.starts_with("57P") || state.starts_with("08") || state.starts_with("53") => return Failure::unavailable(),
            _ if *db.code() == SqlState::T_R_SERIALIZATION_FAILURE => return Failure::unavailable(),
            _ => {
                eprintln!("llm-dashboard: {state} {}", db.message());
                return Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the database could not answer");
            }
        };
        Failure { hint: db.hint().map(String::from), ..Failure::new(status, code, db.message()) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message, "hint": self.hint } });
        let mut response = (self.status, with_type("application/json", body.to_string())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(header::ALLOW, HeaderValue::from_static("GET,HEAD")),
            _ => None,
        };
        response
    }
}

/// What is somebody's own: kept by no cache that others share.
pub fn with_type(content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Authorization, Cookie, Accept"));
    response
}

/// Whether CSV is asked for rather than JSON.
pub fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|range| range.split(';').next().is_some_and(|range| range.trim().eq_ignore_ascii_case("text/csv")))
}

/// Which rows of an answer its CSV has.
#[derive(Clone, Copy)]
pub enum Rows {
    /// The objects of the array with this name.
    Of(&'static str),
    /// The days, and what each of them was made of.
    Days,
    /// The arrays of the object with this name, each by its name.
    Groups(&'static str, &'static str),
}

/// Numbers keep their text.
pub fn csv(answer: &str, rows: Rows) -> Result<String, String> {
    let answer: Value = serde_json::from_str(answer).map_err(|error| error.to_string())?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found: Vec<Map<String, Value>> = Vec::new();
    let mut add = |name: &str, value: &Value, row: &Value| {
        let mut map = Map::new();
        if !name.is_empty() {
            map.insert(name.into(), value.clone());
        }
        map.extend(row.as_object().cloned().unwrap_or_default());
        found.push(map);
    };
    match rows {
        Rows::Of(name) => list(&answer[name]).iter().for_each(|row| add("", &Value::Null, row)),
        Rows::Days => {
            for day in list(&answer["activity"]) {
                list(&day["breakdown"]).iter().for_each(|row| add("date", &day["date"], row));
            }
        }
        Rows::Groups(name, column) => {
            for (group, rows) in answer[name].as_object().into_iter().flatten() {
                list(rows).iter().for_each(|row| add(column, &Value::from(group.as_str()), row));
            }
        }
    }
    let mut columns: Vec<&str> = Vec::new();
    for row in &found {
        for name in row.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let wrote = |result: Result<(), csv::Error>| result.map_err(|error| error.to_string());
    if !columns.is_empty() {
        wrote(writer.write_record(&columns))?;
    }
    for row in &found {
        wrote(writer.write_record(columns.iter().map(|column| cell(row.get(*column)))))?;
    }
    String::from_utf8(writer.into_inner().map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

/// A text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, CSV injection).
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
