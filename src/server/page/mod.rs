//! The page for people: which images there are, what they are, how to use each.
//! Plain HTML that works without scripts; all texts come from strangers and are escaped.

use http::StatusCode;

use super::address::Address;
use super::handler::Handler;
use super::message::{Request, Response};

/// Whether the request comes from a browser: it prefers HTML over JSON.
pub(crate) fn wants(request: &Request) -> bool {
    request.header(http::header::ACCEPT).is_some_and(|accept| accept.contains("text/html"))
}

/// `GET /`, with `?q=` and other choices: the images.
pub(crate) fn index(_handler: &Handler, _request: &Request, _address: &Address) -> Response {
    Response::new(StatusCode::NOT_FOUND)
}

/// `GET /images/FINGERPRINT`: one image.
pub(crate) fn image(_handler: &Handler, _request: &Request, _name: &str) -> Response {
    Response::new(StatusCode::NOT_FOUND)
}

/// `GET /static/NAME`: style and pictures.
pub(crate) fn asset(_request: &Request, _name: &str) -> Response {
    Response::new(StatusCode::NOT_FOUND)
}

/// Elsewhere on this server.
pub(crate) fn moved(path: &str) -> Response {
    Response::new(StatusCode::SEE_OTHER).with(http::header::LOCATION, path)
}

/// There is no such page.
pub(crate) fn not_found(_handler: &Handler, _request: &Request) -> Response {
    Response::text(StatusCode::NOT_FOUND, "text/html; charset=utf-8", "not found")
}

/// The server can't show the page.
pub(crate) fn failed(_handler: &Handler, _request: &Request, error: &crate::error::Error) -> Response {
    Response::new(super::answer::status_of(error))
}
