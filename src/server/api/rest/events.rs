//! `GET /1.0/events`: what happens to operations and images, as texts over a WebSocket. `lxc`
//! follows its own operations by it.
//!
//! The handler only returns the receiving end of a queue. The upgrade of the connection is done by
//! the listener, because it needs the connection; a request that is no upgrade gets 426 there.

use http::StatusCode;

use crate::server::api::address::Address;
use crate::server::api::answer;
use crate::server::core::events::EventKinds;
use crate::server::message::{Body, Response};
use crate::server::state::ServerState;

/// Begins to send events of the types in `?type=`.
///
/// The subscription begins before the response is sent, so that the client misses nothing after it.
pub(super) fn get(server: &ServerState, address: &Address) -> Response {
    match EventKinds::of(address.query("type")).and_then(|kinds| server.services.operations.events().listen(kinds)) {
        Ok(receiver) => {
            let mut response = Response::new(StatusCode::OK);
            response.body = Body::Events(receiver);
            response
        }
        Err(error) => answer::error(&error, true),
    }
}
