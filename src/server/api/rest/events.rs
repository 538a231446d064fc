//! `GET /1.0/events`: what happens to operations and images, as texts over a WebSocket.
//! `lxc` follows its own operations by it.

use http::StatusCode;

use crate::server::api::address::Address;
use crate::server::api::answer;
use crate::server::core::events::EventKinds;
use crate::server::handler::Handler;
use crate::server::message::{Body, Response};

/// Begins to send events of the types in `?type=`.
pub(super) fn get(handler: &Handler, address: &Address) -> Response {
    match EventKinds::of(address.query("type")).and_then(|kinds| handler.operations.events().listen(kinds)) {
        Ok(receiver) => {
            let mut response = Response::new(StatusCode::OK);
            response.body = Body::Events(receiver);
            response
        }
        Err(error) => answer::error(&error, true),
    }
}
