//! Direct import: the address of an alias answers with the hash of an image and where its file lies.
//! Which image of the alias depends on the architectures that the client names.

use super::answer;
use super::handler::Handler;
use super::message::{Request, Response};

/// `GET` and `HEAD` of any address that is nothing else.
pub(crate) fn answer(_handler: &Handler, _request: &Request, _alias: &str) -> Response {
    answer::not_found()
}
