//! Changes to an image that is there: edit, delete, a secret, a refresh.
//! Only for trusted clients; edits are based on the state that the client read.

use super::super::answer;
use super::super::handler::Handler;
use super::super::message::{Request, Response};

/// `PUT`, `PATCH`, `DELETE /1.0/images/FINGERPRINT`.
pub(super) fn image(_handler: &Handler, _request: Request, _fingerprint: &str) -> Response {
    answer::forbidden()
}

/// `POST /1.0/images/FINGERPRINT/secret`, `refresh`, `export`.
pub(super) fn action(_handler: &Handler, _request: Request, _fingerprint: &str, _action: &str) -> Response {
    answer::forbidden()
}
