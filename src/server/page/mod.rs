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
