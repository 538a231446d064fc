//! Responses of the REST API: objects and errors in the envelope of LXD and Incus. [`status_of`] is the only mapping
//! from kinds of errors to statuses.
//!
//! LXD and Incus wrap every JSON response: `type` is `sync`, `async` or `error`, and the status is
//! repeated in the body. Their clients go by the body and hardly by the status line, so both must
//! agree.
//!
//! # What errors reveal
//!
//! A client learns everything about what is wrong with its own request. Errors of the server (500
//! and above) may name files, addresses and other images, so untrusted clients get a fixed
//! sentence.

use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::protocol::rest::Envelope;
use crate::server::message::Response;

/// A JSON response.
///
/// The text must be valid JSON already.
pub(crate) fn json(status: StatusCode, text: impl Into<Vec<u8>>) -> Response {
    Response::text(status, "application/json", text)
}

/// An envelope as a response.
///
/// Ends with a line feed, as LXD's does, for people who use `curl`.
pub(crate) fn envelope(status: StatusCode, envelope: &Envelope) -> Response {
    match serde_json::to_vec(envelope) {
        Ok(mut text) => {
            text.push(b'\n');
            json(status, text)
        }
        Err(_) => Response::new(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// A successful response with this object as its metadata.
pub(crate) fn object(object: Value) -> Response {
    envelope(StatusCode::OK, &Envelope::success(object))
}

/// A successful response without content.
///
/// LXD sends an empty object as well.
pub(crate) fn done() -> Response {
    object(serde_json::json!({}))
}

/// Something was created at the path `location`.
pub(crate) fn created(location: &str) -> Response {
    envelope(StatusCode::CREATED, &Envelope::success(serde_json::json!({}))).with(header::LOCATION, location)
}

/// A background operation was started; clients follow it at the path `location`.
///
/// The response has both the header `Location` and the field `operation`: LXD's clients use either.
pub(crate) fn began(location: &str, operation: Value) -> Response {
    envelope(StatusCode::ACCEPTED, &Envelope::began(location, operation)).with(header::LOCATION, location)
}

/// The response of a path that does not exist, or that the client may not see: both are the same bytes.
///
/// Use it for everything that is hidden from the client. It has no headers that depend on the path.
pub(crate) fn not_found() -> Response {
    failure(StatusCode::NOT_FOUND, "not found")
}

/// The client is not authorized.
///
/// For routes that an untrusted client may not call at all. Use [`not_found`] for single images,
/// because 403 would tell that the image exists.
pub(crate) fn forbidden() -> Response {
    failure(StatusCode::FORBIDDEN, "not authorized")
}

/// An error response with this status and message.
pub(crate) fn failure(status: StatusCode, sentence: impl Into<String>) -> Response {
    envelope(status, &Envelope::failure(status.as_u16(), sentence))
}

/// An error of the library as a response. Details of server errors are shown to trusted clients only.
pub(crate) fn error(error: &Error, trusted: bool) -> Response {
    let status = status_of(error);
    // Messages of such errors may name files and addresses of this machine.
    if status.is_server_error() && !trusted {
        return again(error, failure(status, "the server can't do this now"));
    }
    // Which rules and keys there are is nobody else's business.
    if error.kind() == ErrorKind::Untrusted && !trusted {
        return failure(status, "the policy of this server does not admit the image");
    }
    again(error, failure(status, error.to_string()))
}

/// Adds `Retry-After` to the response to a transient error.
///
/// Other errors have none: the same request would fail again.
pub(crate) fn again(error: &Error, mut response: Response) -> Response {
    /// In seconds.
    const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");
    if error.kind() == ErrorKind::Transient {
        response.headers.insert(header::RETRY_AFTER, RETRY_SECONDS);
    }
    response
}

/// The status for a kind of error.
///
/// A kind that is not listed is a defect or a failure of this machine, hence 500. Uploads report
/// some kinds otherwise, see `rest::operation_result`.
pub(crate) fn status_of(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists => StatusCode::CONFLICT,
        ErrorKind::InvalidInput
        | ErrorKind::Malformed
        | ErrorKind::UnsafePath
        | ErrorKind::Ambiguous
        | ErrorKind::Template
        | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
        ErrorKind::Untrusted => StatusCode::FORBIDDEN,
        // An `ETag` that did not match. Uploads, where it is a digest, use 400.
        ErrorKind::Mismatch => StatusCode::PRECONDITION_FAILED,
        ErrorKind::LimitExceeded => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::FeatureDisabled => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Busy | ErrorKind::Transient | ErrorKind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Remote => StatusCode::BAD_GATEWAY,
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_the_policy_is_explained_to_trusted_clients_only() {
        let refusal = Error::new(ErrorKind::Untrusted, "the rule `secret` of the policy refuses the image");
        for (trusted, is_named) in [(true, true), (false, false)] {
            let response = error(&refusal, trusted);
            assert_eq!(response.status.as_u16(), 403);
            let text = String::from_utf8(response.body.read_to_end().unwrap_or_default()).unwrap_or_default();
            assert_eq!(text.contains("secret"), is_named, "{text}");
        }
    }

    #[test]
    fn what_another_try_may_mend_is_told_with_when_to_try() {
        for trusted in [true, false] {
            let response = error(&Error::new(ErrorKind::Transient, "the catalog is away"), trusted);
            let retry = response.header(header::RETRY_AFTER).map(str::to_owned);
            assert_eq!((response.status.as_u16(), retry.as_deref()), (503, Some("1")));
        }
        assert_eq!(error(&Error::new(ErrorKind::Io, "no disk"), true).header(header::RETRY_AFTER), None);
    }
}
