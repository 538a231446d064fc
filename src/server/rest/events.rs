//! `GET /1.0/events`: what happens to operations and images, as texts over a WebSocket.
//! `lxc` follows its own operations by it.

use super::super::address::Address;
use super::super::answer;
use super::super::handler::Handler;
use super::super::message::{Request, Response};

/// Begins to tell.
pub(super) fn get(_handler: &Handler, _request: &Request, _address: &Address) -> Response {
    answer::forbidden()
}
