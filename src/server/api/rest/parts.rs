//! `/1.0/images/uploads/NAME`: the body of an upload in parts, for clients whose connections break. An extension of
//! this server (`lxd_image_upload_parts`): the peers have no such path.
//!
//! 1. `PATCH` with `Content-Range: bytes A-B/*` appends bytes; the first part begins at 0. What arrived before the
//!    connection broke is kept.
//! 2. `GET` and `HEAD` tell in `Upload-Offset` where to go on. So does a `PATCH` that begins elsewhere, with 409.
//! 3. `POST /1.0/images` with `X-LXD-parts: NAME` and no body imports what is there, as if it were the body, in the
//!    background: reading and verifying it may take longer than a client or a proxy waits for a response.
//! 4. `DELETE` gives up. Otherwise the parts are removed three days after the first one.
//!
//! `NAME` is a digest of the client's choice, so that it finds its upload again after a crash; each client has names of
//! its own. The parts are in the store, so any server of the store takes the next one.

use std::io::{self, Read};
use std::sync::Arc;

use http::{HeaderName, StatusCode, header};
use serde_json::json;

use super::body::{self, Upload};
use super::import::in_background;
use super::upload_headers;
use super::{operation_result, statements, upload};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Monitor;
use crate::server::api::{answer, digits};
use crate::server::core::operation::Class;
use crate::server::core::quota::{PartOfUpload, Refusal, Uploader};
use crate::server::core::upload_spec::{UploadSpec, upload_id};
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::{Appended, PartialUpload, Store};
use crate::time;

/// The header that tells how many bytes of the upload are there.
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// The bytes of a part in the whole: from the first to the one behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PartRange {
    start: u64,
    end: u64,
    /// The size of the whole, if the client knows it.
    total: Option<u64>,
}

impl PartRange {
    /// Parses `Content-Range` (RFC 9110, section 14.4).
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text| digits(text)?.parse().ok();
        let (start, last): (u64, u64) = (number(first)?, number(last)?);
        let end = last.checked_add(1)?;
        let total = if total == "*" { None } else { Some(number(total)?) };
        (start <= last && total.is_none_or(|total| end <= total)).then_some(Self { start, end, total })
    }

    fn len(self) -> u64 {
        self.end - self.start
    }
}

/// `GET`: how much is there.
pub(super) fn get(server: &ServerState, request: &Request, name: &str) -> Result<Response> {
    Ok(match server.services.store.partial_upload(&upload_id(&request.client, name)?)? {
        Some(upload) => state(upload),
        None => answer::not_found(),
    })
}

/// `DELETE`: gives up.
pub(super) fn delete(server: &ServerState, request: &Request, name: &str) -> Result<Response> {
    let id = upload_id(&request.client, name)?;
    server.services.quotas.forget_parts(&Uploader::of(&request.client, request.peer), &id);
    Ok(if server.services.store.remove_parts(&id)? { answer::done() } else { answer::not_found() })
}

/// `PATCH`: appends bytes.
pub(super) fn append(server: &ServerState, request: Request, name: &str) -> Result<Response> {
    let id = upload_id(&request.client, name)?;
    let said = request.header(header::CONTENT_RANGE).and_then(PartRange::parse);
    let range = said.ok_or_else(|| Error::invalid("a part needs a header like `Content-Range: bytes 0-1023/4096`"))?;
    let announced = body::announced(&request)?;
    if announced.is_some_and(|length| length != range.len()) {
        return Err(Error::invalid("`Content-Range` and `Content-Length` of the part differ"));
    }
    let limits = &server.services.options.limits;
    if range.total.unwrap_or(range.end).max(range.end) > limits.upload {
        return Err(Error::limit("upload", limits.upload, "the size of the upload, in bytes,"));
    }
    let here = server.services.store.partial_upload(&id)?.map_or(0, |upload| upload.offset);
    if here != range.start {
        return Ok(wrong_offset(here, range.start));
    }
    let part = PartOfUpload { id, offset: range.start, length: range.len(), total: range.total };
    let permit = match server.services.quotas.begin_part(
        Uploader::of(&request.client, request.peer),
        &part,
        limits,
        &server.services.store,
    ) {
        Ok(permit) => permit,
        Err(refusal) => return Ok(operation_result::over_quota(&refusal, true)),
    };
    let mut body = PartBody { body: request.body, left: range.len() };
    let appended =
        server.services.store.append_part(&id, range.start, &mut body, limits.upload_parts, &Monitor::none());
    if let Some(upload) = server.services.store.partial_upload(&id)? {
        permit.keep_parts(id, upload.offset);
    }
    Ok(match appended? {
        Appended::Added(upload) => state(upload),
        Appended::WrongOffset(here) => wrong_offset(here, range.start),
    })
}

/// `POST /1.0/images` with the header `X-LXD-parts`: imports an upload in parts, in the background.
pub(super) fn import(server: &ServerState, request: &Request, name: &str, two: bool) -> Response {
    let trusted = request.is_trusted();
    let begin = || -> std::result::Result<_, Refusal> {
        let id = upload_id(&request.client, name)?;
        let spec = upload_headers::read(&request.headers)?;
        let has_body = request.headers.contains_key(header::TRANSFER_ENCODING);
        if has_body || body::announced(request)?.is_some_and(|length| length > 0) {
            return Err(Error::invalid("an upload in parts has no other body").into());
        }
        let missing = || {
            Error::new(ErrorKind::NotFound, "there is no complete upload in parts with this name")
                .with_hint("it was finished, or removed three days after it began")
        };
        let (bytes, length) = server.services.store.open_parts(&id)?.ok_or_else(missing)?;
        // Before the permit, which takes the parts off the ledger of the client.
        let mut options = spec.options()?;
        let sent = statements::sent_ahead(server, request)?;
        let (limits, store) = (&server.services.options.limits, &server.services.store);
        let permit = server.services.quotas.begin_import_of_parts(
            Uploader::of(&request.client, request.peer),
            &id,
            length,
            limits,
            store,
        )?;
        if let Some(sent) = &sent {
            options = options.evidence(sent.evidence.clone());
        }
        let operation = server.services.operations.begin(Class::Task, "Uploading image", &[]);
        if operation.is_err() {
            // The parts are still there, and count again.
            permit.keep_parts(id, length);
        }
        Ok((id, spec, sent, bytes, length, permit, options, operation?))
    };
    let (id, spec, sent, bytes, length, permit, options, operation) = match begin() {
        Ok(begun) => begun,
        Err(refusal) => return operation_result::over_quota(&refusal, trusted),
    };
    let monitor = Monitor::none().with_cancel(operation.cancel()).with_progress(operation.progress());
    let kind = request.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
    let body = Upload::new(Box::new(bytes), Some(length), &permit, operation.cancel());
    let (store, operations, client) =
        (server.services.store.clone(), server.services.operations.clone(), request.client.clone());
    let (limits, notes) = (server.services.options.limits.clone(), Arc::clone(&server.services.notes));
    let quotas = Arc::clone(&server.services.quotas);
    let begun = in_background(operation, move |operation| {
        let options = options.stored_by(permit.owner());
        let done = upload::import(&store, &limits, &body, &kind, two, Some(length), &spec, options, &monitor);
        let is_over = match &done {
            Ok(_) => true,
            Err(error) => is_useless(error) || is_stored(&store, &spec),
        };
        if !is_over {
            permit.keep_parts(id, length);
        } else if let Err(error) = store.remove_parts(&id) {
            notes.parts_remain(&error);
        }
        match done {
            Ok(image) => {
                permit.stored(&image);
                spec.report(&image, &monitor);
                if let Some(sent) = &sent {
                    sent.forget(&store, &quotas, &notes, &client);
                }
                operation_result::arrived(&operations, operation, &image, &client, &monitor.omissions());
            }
            Err(error) => operation.fail(error.kind(), operation_result::sentence(&error, trusted)),
        }
    });
    begun.unwrap_or_else(|error| operation_result::refused(&error, trusted))
}

/// Whether an import failed for what the bytes are, so that the parts are of no use any more. Whatever else it failed
/// for (a policy, a taken alias, a full disk) may be mended, and the same bytes be imported then.
fn is_useless(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Mismatch | ErrorKind::UnsafePath)
}

/// Whether the image that an upload says to be is in the store already.
fn is_stored(store: &Store, spec: &UploadSpec) -> bool {
    spec.fingerprint.is_some_and(|fingerprint| store.image(&fingerprint).is_ok())
}

fn state(upload: PartialUpload) -> Response {
    let state = json!({ "offset": upload.offset, "expires_at": time::rfc3339(Some(upload.expires_at)) });
    answer::object(state).with(OFFSET, &upload.offset.to_string())
}

fn wrong_offset(here: u64, said: u64) -> Response {
    let sentence = format!("the next part of the upload begins at byte {here}, not at {said}");
    answer::failure(StatusCode::CONFLICT, sentence).with(OFFSET, &here.to_string())
}

/// The body of a part, which must have the bytes that its range says.
struct PartBody {
    body: Box<dyn Read + Send>,
    left: u64,
}

impl Read for PartBody {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(out)?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        if count > most {
            return Err(Error::malformed("the part is longer than its `Content-Range`").into());
        }
        if count == 0 && !out.is_empty() && self.left > 0 {
            return Err(Error::malformed("the part is shorter than its `Content-Range`").into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_a_part_is_read_as_http_writes_it() {
        let some = |start, end, total| Some(PartRange { start, end, total });
        for (text, expected) in [
            ("bytes 0-9/10", some(0, 10, Some(10))),
            ("bytes 5-9/*", some(5, 10, None)),
            ("bytes 5-4/*", None),
            ("bytes 0-9/9", None),
            ("bytes */10", None),
            ("bytes +0-9/10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("items 0-9/10", None),
            ("", None),
        ] {
            assert_eq!(PartRange::parse(text), expected, "{text}");
        }
    }
}
