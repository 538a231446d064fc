//! `POST /1.0/images`: an image comes in as one file, as two, or by its source.
//! What arrives is staged in the store as it comes; the operation that is answered ends when it is admitted.

use super::super::answer;
use super::super::handler::Handler;
use super::super::message::{Request, Response};

/// Takes an upload.
pub(super) fn post(_handler: &Handler, _request: Request) -> Response {
    answer::forbidden()
}
