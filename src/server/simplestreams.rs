//! The same store as a simplestreams tree: index, products and files, made when they are asked for.
//! Items have the names of both peers.

use http::StatusCode;

use super::handler::Handler;
use super::message::{Request, Response};

/// `GET /streams/v1/…`.
pub(crate) fn route(_handler: &Handler, _request: &Request, _rest: &[&str]) -> Response {
    Response::new(StatusCode::NOT_FOUND)
}
