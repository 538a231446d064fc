//! Responses of the REST API: objects and errors in the envelope of LXD and Incus. [`status_of`] is the only mapping
//! from kinds of errors to statuses.

use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::protocol::rest::Envelope;
use crate::server::message::Response;

/// A JSON response.
pub(crate) fn json(status: StatusCode, text: impl Into<Vec<u8>>) -> Response {
    Response::text(status, "application/json", text)
}

/// An envelope as a response.
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
pub(crate) fn done() -> Response {
    object(serde_json::json!({}))
}

/// Something was created at the path `location`.
pub(crate) fn created(location: &str) -> Response {
    envelope(StatusCode::CREATED, &Envelope::success(serde_json::json!({}))).with(header::LOCATION, location)
}

/// A background operation was started; clients follow it at the path `location`.
pub(crate) fn began(location: &str, operation: Value) -> Response {
    envelope(StatusCode::ACCEPTED, &Envelope::began(location, operation)).with(header::LOCATION, location)
}

/// The response of a path that does not exist, or that the client may not see: both are the same bytes.
pub(crate) fn not_found() -> Response {
    failure(StatusCode::NOT_FOUND, "not found")
}

/// The client is not authorized.
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
    if status.is_server_error() && !trusted {
        return again(error, failure(status, "the server can't do this now"));
    }
    again(error, failure(status, error.to_string()))
}

/// Adds `Retry-After` to the response to a transient error.
pub(crate) fn again(error: &Error, mut response: Response) -> Response {
    /// In seconds.
    const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");
    if error.kind() == ErrorKind::Transient {
        response.headers.insert(header::RETRY_AFTER, RETRY_SECONDS);
    }
    response
}

/// The status for a kind of error.
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
    fn what_another_try_may_mend_is_told_with_when_to_try() {
        for trusted in [true, false] {
            let response = error(&Error::new(ErrorKind::Transient, "the catalog is away"), trusted);
            let retry = response.header(header::RETRY_AFTER).map(str::to_owned);
            assert_eq!((response.status.as_u16(), retry.as_deref()), (503, Some("1")));
        }
        assert_eq!(error(&Error::new(ErrorKind::Io, "no disk"), true).header(header::RETRY_AFTER), None);
    }
}
