//! How work ends, as an operation and as an answer: clients learn from the operation what a real server tells by one, and
//! from the status of the answer what is wrong with their request.

use http::StatusCode;
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::omissions::Omissions;
use crate::server::api::answer;
use crate::server::core::operations::{OperationHandle, Operations};
use crate::server::message::{Client, Response};
use crate::store::StoredImage;

/// Where an image is.
pub(super) fn location(image: &StoredImage) -> String {
    format!("/1.0/images/{}", image.fingerprint)
}

/// An image came in: the end of an operation.
pub(super) fn arrived(
    operations: &Operations,
    operation: OperationHandle,
    image: &StoredImage,
    client: &Client,
    omissions: &Omissions,
) {
    created(operations, image, client);
    let found = [("fingerprint", json!(image.fingerprint.to_string())), ("size", json!(image.size))];
    operation.succeed(&[location(image)], found.into_iter().chain(left_out(omissions)));
}

/// What was left out of an image, for an operation: one by one as far as they are kept, and how many in all. Nothing where
/// nothing was.
pub(super) fn left_out(omissions: &Omissions) -> Vec<(&'static str, Value)> {
    /// More of them are counted only: an operation is told often.
    const LISTED: usize = 100;
    if omissions.is_empty() {
        return Vec::new();
    }
    let listed: Vec<String> = omissions.iter().take(LISTED).map(ToString::to_string).collect();
    vec![("omissions", json!(listed)), ("omissions_total", json!(omissions.total()))]
}

/// Tells those who listen that an image came in, with its names.
pub(crate) fn created(operations: &Operations, image: &StoredImage, client: &Client) {
    let source = location(image);
    let context = json!({"type": image.image_type.name()});
    operations.events().lifecycle("image-created", &source, &context, client);
    for alias in &image.aliases {
        let target = json!({"target": image.fingerprint.to_string()});
        operations.events().lifecycle("image-alias-created", &super::aliases::location(&alias.name), &target, client);
    }
}

/// The end of an operation that failed; the answer, where the request itself is to blame.
pub(super) fn failed(operation: OperationHandle, error: &Error, trusted: bool) -> Option<Response> {
    let sentence = sentence(error, trusted);
    operation.fail(error.kind(), &*sentence);
    // As the peers do it: what is there already, and what was cancelled, is told by the operation.
    let by_operation = matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Cancelled);
    (!by_operation).then(|| answer::again(error, answer::failure(status(error), sentence)))
}

/// The answer to a request that is refused before anything began.
pub(super) fn refused(error: &Error, trusted: bool) -> Response {
    answer::again(error, answer::failure(status(error), sentence(error, trusted)))
}

/// What a client is told of an error.
pub(super) fn sentence(error: &Error, trusted: bool) -> String {
    if error.kind() == ErrorKind::AlreadyExists {
        // Clients look for these words.
        return format!("already exists: {error}");
    }
    if status(error).is_server_error() && !trusted {
        return "the server can't do this now".to_owned();
    }
    error.to_string()
}

/// The status for what is wrong with bytes that a client sends.
pub(super) fn status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Mismatch => StatusCode::BAD_REQUEST,
        // Others are about the image, which no other server may help with.
        ErrorKind::LimitExceeded if !matches!(error.limit_name(), Some("upload" | "request")) => {
            StatusCode::BAD_REQUEST
        }
        _ => answer::status_of(error),
    }
}
