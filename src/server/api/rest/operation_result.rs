//! Ends the operation of an upload or import, and makes the response from it. As in LXD, some
//! failures are reported by the operation and others by the status of the response.
//!
//! # Which failure is reported where
//!
//! LXD begins an upload's operation when the body is there, and reports what happens afterwards in
//! the operation. Here the image is verified while it arrives, so most failures are known in time
//! for the status of the response. Two stay with the operation, because the clients of the peers
//! look for them there: an image that exists already, and a cancellation.

use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::omissions::Omissions;
use crate::server::api::answer;
use crate::server::core::client::Client;
use crate::server::core::lifecycle;
use crate::server::core::operations::{OperationHandle, Operations};
use crate::server::core::quota::Refusal;
use crate::server::message::Response;
use crate::store::StoredImage;

/// Ends an operation that added an image, and publishes the event.
///
/// The image is in the store already. Its fingerprint and size are in the metadata of the
/// operation.
pub(super) fn arrived(
    operations: &Operations,
    operation: OperationHandle,
    image: &StoredImage,
    client: &Client,
    omissions: &Omissions,
) {
    lifecycle::image_created(operations, image, client);
    let found = [("fingerprint", json!(image.fingerprint.to_string())), ("size", json!(image.size))];
    operation.succeed(&[lifecycle::image_path(image)], found.into_iter().chain(left_out(omissions)));
}

/// The omissions of an image as metadata of an operation: the first ones as text, and their total. Empty without any.
pub(super) fn left_out(omissions: &Omissions) -> Vec<(&'static str, Value)> {
    /// Omissions that are listed; more are counted only, because each change of an operation is sent to all listeners.
    const LISTED: usize = 100;
    if omissions.is_empty() {
        return Vec::new();
    }
    let listed: Vec<String> = omissions.iter().take(LISTED).map(ToString::to_string).collect();
    vec![("omissions", json!(listed)), ("omissions_total", json!(omissions.total()))]
}

/// Ends an operation as failed. Returns the response where the request is to blame; `None` where
/// the client learns the failure from the operation.
///
/// The operation exists in both cases, and has failed.
pub(super) fn failed(operation: OperationHandle, error: &Error, trusted: bool) -> Option<Response> {
    let sentence = sentence(error, trusted);
    operation.fail(error.kind(), &*sentence);
    // As LXD and Incus do: duplicates and cancellation are reported by the operation.
    let by_operation = matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Cancelled);
    (!by_operation).then(|| answer::again(error, answer::failure(status(error), sentence)))
}

/// The response to a request that is refused before an operation began.
pub(super) fn refused(error: &Error, trusted: bool) -> Response {
    answer::again(error, answer::failure(status(error), sentence(error, trusted)))
}

/// The response to an upload or import that the quota of its client does not allow.
pub(super) fn over_quota(refusal: &Refusal, trusted: bool) -> Response {
    match refusal {
        Refusal::TooMany { retry } => {
            let sentence = "this client has begun too many uploads in the last hour (limit `client_uploads`)";
            answer::failure(StatusCode::TOO_MANY_REQUESTS, sentence).with(header::RETRY_AFTER, &retry.to_string())
        }
        Refusal::Error(error) => refused(error, trusted),
    }
}

/// The error message for a client.
///
/// Server errors are hidden from untrusted clients, as in every other response.
pub(super) fn sentence(error: &Error, trusted: bool) -> String {
    if error.kind() == ErrorKind::AlreadyExists {
        // Clients look for these words.
        // LXD's message for a duplicate has them.
        return format!("already exists: {error}");
    }
    if status(error).is_server_error() && !trusted {
        return "the server can't do this now".to_owned();
    }
    error.to_string()
}

/// The status for an error in what a client sent.
///
/// The mapping of `answer` is for requests in general; in an upload, `Mismatch` is a wrong digest
/// and not a failed condition.
pub(super) fn status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Mismatch => StatusCode::BAD_REQUEST,
        // Other limits are about the content of the image, not about the size of the request.
        ErrorKind::LimitExceeded
            if !matches!(
                error.limit_name(),
                Some("upload" | "request" | "client_stored" | "client_unfinished" | "stored")
            ) =>
        {
            StatusCode::BAD_REQUEST
        }
        _ => answer::status_of(error),
    }
}
