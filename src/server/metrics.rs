//! Metrics for Prometheus, and whether the server is well.
//! Counted where things happen; shown to whoever may see them.

use http::StatusCode;

use super::handler::Handler;
use super::message::{Request, Response};

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {}

/// `GET /metrics`.
pub(crate) fn answer(_handler: &Handler, _request: &Request) -> Response {
    Response::new(StatusCode::NOT_FOUND)
}

/// `GET /health`.
pub(crate) fn health(_handler: &Handler, _request: &Request) -> Response {
    Response::new(StatusCode::NOT_FOUND)
}
