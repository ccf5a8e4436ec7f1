//! The pages, embedded. They live below `/o/{organization}`, where no endpoint is. Until 0.1.1 they
//! were below `/{organization}`: whatever else is no file and no endpoint is still answered with the
//! page, whose router in the browser leads to the new place.

use crate::answer::Failure;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../target/dashboard/web"]
struct Files;

/// Their names have a hash of what they hold.
const FOREVER: &str = "public, max-age=31536000, immutable";

pub async fn serve(method: Method, uri: Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return Failure::method().into_response();
    }
    let path = uri.path().trim_start_matches('/');
    if let Some(file) = Files::get(path).filter(|_| path != "index.html") {
        let caching = if path.starts_with("assets/") { FOREVER } else { "public, max-age=3600" };
        let content_type = mime_guess::from_path(path).first_or_octet_stream().to_string();
        return ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, caching.into())], file.data).into_response();
    }
    // Below these there are endpoints and files only.
    let is_page = !["analytics/", "assets/", "demo/"].iter().any(|place| path.starts_with(place));
    match Files::get("index.html").filter(|_| is_page) {
        Some(file) => {
            let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "private, no-cache")];
            (StatusCode::OK, headers, file.data).into_response()
        }
        None => Failure::not_found().into_response(),
    }
}
