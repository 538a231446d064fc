//! `POST /1.0/images` with an image as its body: one file, or a form of two. The store stages the bytes while they
//! arrive; the operation in the response has ended when the image is published or refused.
//!
//! # Order of checks
//!
//! 1. The route table redeems the upload token of an untrusted client; it is used up from here on.
//! 2. Headers and announced length are checked. Nothing of the body has been read, and no operation
//!    exists, so a wrong request costs nothing.
//! 3. The operation begins, and the body is staged, hashed and verified while it arrives.
//! 4. The image is published in one step, or nothing of it stays.
//! 5. If the image was refused early, the rest of the body is read and discarded, within the
//!    limits.

use http::{StatusCode, header};
use serde_json::json;

use super::body::{self, Upload};
use super::upload_headers::{UploadSpec, field};
use super::{import, operation_result, parts, statements};
use crate::error::{Error, Result};
use crate::format::{ImageSource, Input};
use crate::limits::Limits;
use crate::omissions::Omissions;
use crate::progress::Monitor;
use crate::protocol::multipart::is_multipart;
use crate::protocol::rest::upload;
use crate::protocol::split_body::{SplitBounds, split_files};
use crate::server::api::answer;
use crate::server::core::operations::{Class, OperationHandle};
use crate::server::core::quota::Refusal;
use crate::server::handler::Handler;
use crate::server::message::{Client, Request, Response};
use crate::store::{ImportOptions, Store, StoredImage};

/// The upload that a token allowed to a client that is not trusted.
#[derive(Debug)]
pub(crate) struct UploadGrant {
    /// What the token was issued for, which restricts the headers of the request.
    spec: UploadSpec,
    /// The secret of the token, by which the client may follow the operation.
    secret: String,
}

/// The body of a `POST /1.0/images`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyKind {
    /// JSON that names a source.
    Source,
    /// The bytes of a unified image.
    Unified,
    /// A form with the two files of a split image.
    Split,
    /// Anything else, which is refused with 415.
    Unknown,
}

/// The kind of the body, by its `Content-Type`.
///
/// Parameters such as a character set are ignored. No type at all is a unified image, as for LXD.
fn body_kind(request: &Request) -> BodyKind {
    let kind = request.header(header::CONTENT_TYPE).unwrap_or_default().trim().to_ascii_lowercase();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => BodyKind::Source,
        "" | "application/octet-stream" => BodyKind::Unified,
        _ if is_multipart(&kind) => BodyKind::Split,
        _ => BodyKind::Unknown,
    }
}

/// Takes the upload token that an untrusted client shows; `None` without a valid one. The token is used up by being
/// shown, whatever becomes of the upload. One is not looked at for a body that is no image: only trusted clients name a
/// source.
pub(crate) fn redeem_upload_token(handler: &Handler, request: &Request) -> Option<UploadGrant> {
    if !matches!(body_kind(request), BodyKind::Unified | BodyKind::Split) {
        return None;
    }
    let secret = field(&request.headers, upload::SECRET).ok().flatten()?;
    let spec = handler.tokens.take_upload(&secret).ok().flatten()?;
    Some(UploadGrant { spec, secret })
}

/// Takes an upload, or begins an import. `grant` is there for a client that is not trusted.
pub(super) fn post(handler: &Handler, request: Request, grant: Option<UploadGrant>) -> Response {
    match body_kind(&request) {
        BodyKind::Source => import::post(handler, request),
        BodyKind::Unified => receive(handler, request, grant, false),
        BodyKind::Split => receive(handler, request, grant, true),
        BodyKind::Unknown => {
            let sentence =
                "an image comes as application/octet-stream or multipart/form-data, its source as application/json";
            answer::failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence)
        }
    }
}

/// Takes the body of an upload; `two` is for the form of a split image.
fn receive(handler: &Handler, request: Request, grant: Option<UploadGrant>, two: bool) -> Response {
    let trusted = request.is_trusted();
    match field(&request.headers, upload::PARTS) {
        Ok(Some(name)) => return parts::import(handler, &request, &name, two),
        Ok(None) => {}
        Err(error) => return operation_result::refused(&error, trusted),
    }
    let (allowed, secret) = grant.map(|grant| (grant.spec, grant.secret)).unzip();
    let begin = || -> std::result::Result<_, Refusal> {
        let said = UploadSpec::of(&request.headers)?;
        // After parsing all headers: a wrong one is an error even if the token would override it.
        let spec = allowed.map_or(Ok(said.clone()), |allowed| allowed.narrowed(said))?;
        let sent = statements::sent_ahead(handler, &request)?;
        let announced = body::announced(&request)?;
        let most = handler.options.limits.upload;
        // The limit is on all bytes that are sent, with the few that a form has around its files.
        if announced.is_some_and(|length| length > most) {
            return Err(Error::limit("upload", most, "what the client sends, in bytes,").into());
        }
        let permit = handler.quotas.begin(&request, announced, &handler.options.limits, &handler.store)?;
        Ok((spec, sent, announced, permit, handler.operations.begin(Class::Task, "Uploading image", &[])?))
    };
    let (spec, sent, announced, permit, operation) = match begin() {
        Ok(begun) => begun,
        Err(refusal) => return operation_result::over_quota(&refusal, trusted),
    };
    if let Some(secret) = secret {
        // Before anything can fail: the client follows the operation with the secret also when it
        // fails.
        operation.authenticated_by(&secret);
    }
    let kind = request.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
    let client = request.client.clone();
    let upload = Upload::new(request.body, announced, &permit, operation.cancel());
    let monitor = Monitor::none().with_cancel(operation.cancel());
    let done = spec.options().and_then(|options| {
        // Whether a private image exists is no business of a client that only names its fingerprint.
        let mut options = if trusted { options } else { options.unproven_fingerprint() };
        if let Some(sent) = &sent {
            options = options.evidence(sent.evidence.clone());
        }
        let (store, limits) = (&handler.store, &handler.options.limits);
        import(store, limits, &upload, &kind, two, announced, &spec, options.monitor(monitor.clone()))
    });
    if let Ok(image) = &done {
        permit.stored(image);
        spec.report(image, &monitor);
        if let Some(sent) = &sent {
            sent.forget(&handler.store, &handler.quotas, &handler.notes, &client);
        }
    }
    if done.is_err() {
        // A client that still sends would lose the response with the reset of the connection.
        upload.pass_over();
    }
    conclude(handler, operation, done, &client, &monitor.omissions())
}

/// Imports the body. The announced length is for progress only here: the limit was checked
/// before, and the body itself checks that it is kept.
///
/// # Errors
/// Those of [`Store::import`](crate::store::Store::import), and of the form of a split image.
#[allow(clippy::too_many_arguments, reason = "all that describes an upload")]
pub(super) fn import(
    store: &Store,
    limits: &Limits,
    upload: &Upload,
    kind: &str,
    two: bool,
    announced: Option<u64>,
    spec: &UploadSpec,
    mut options: ImportOptions,
) -> Result<StoredImage> {
    let source = if two {
        let bounds = SplitBounds { limits, limit_name: "upload", announced: None, sender: "the client" };
        let (metadata, rootfs, name) = split_files(Box::new(upload.clone()), kind, &bounds)?;
        if let (None, Some(name)) = (&spec.file_name, name) {
            options = options.source_file_name(name);
        }
        ImageSource::split(Input::attached_stream(metadata), Input::attached_stream(rootfs))
    } else {
        let input = Input::attached_stream(upload.clone());
        ImageSource::unified(match announced {
            Some(length) => input.announced(length),
            None => input,
        })
    };
    store.import(source, &options)
}

/// Ends the operation, and makes the response.
///
/// The response is that of an operation which has ended, since the client has sent everything by
/// now.
fn conclude(
    handler: &Handler,
    operation: OperationHandle,
    done: Result<StoredImage>,
    client: &Client,
    omissions: &Omissions,
) -> Response {
    let (id, location) = (operation.id().to_owned(), operation.location());
    match done {
        Ok(image) => operation_result::arrived(&handler.operations, operation, &image, client, omissions),
        Err(error) => {
            if let Some(response) = operation_result::failed(operation, &error, matches!(client, Client::Trusted(_))) {
                return response;
            }
        }
    }
    let told = handler.operations.get(&id).map(|operation| json!(operation)).unwrap_or_default();
    answer::began(&location, told)
}
