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

use super::body::{self, Upload};
use super::upload_headers::{self, field};
use super::{import, operation_result, operations, parts, statements};
use crate::error::{Error, Result};
use crate::format::{ImageSource, Input};
use crate::limits::Limits;
use crate::omissions::Omissions;
use crate::progress::Monitor;
use crate::protocol::multipart::is_multipart;
use crate::protocol::rest::upload;
use crate::protocol::split_body::{SplitBounds, split_files};
use crate::server::api::answer;
use crate::server::api::call::UploadGrant;
use crate::server::core::client::Client;
use crate::server::core::operation::Class;
use crate::server::core::operations::OperationHandle;
use crate::server::core::quota::{Refusal, Uploader};
use crate::server::core::upload_spec::UploadSpec;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::{ImportOptions, Store, StoredImage};

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
pub(crate) fn redeem_upload_token(server: &ServerState, request: &Request) -> Option<UploadGrant> {
    if !matches!(body_kind(request), BodyKind::Unified | BodyKind::Split) {
        return None;
    }
    let secret = field(&request.headers, upload::SECRET).ok().flatten()?;
    let spec = server.services.tokens.take_upload(&secret).ok().flatten()?;
    Some(UploadGrant { spec, secret })
}

/// Takes an upload, or begins an import. `grant` is there for a client that is not trusted.
pub(super) fn post(server: &ServerState, request: Request, grant: Option<UploadGrant>) -> Response {
    match body_kind(&request) {
        BodyKind::Source => import::post(server, request),
        BodyKind::Unified => receive(server, request, grant, false),
        BodyKind::Split => receive(server, request, grant, true),
        BodyKind::Unknown => {
            let sentence =
                "an image comes as application/octet-stream or multipart/form-data, its source as application/json";
            answer::failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence)
        }
    }
}

/// Takes the body of an upload; `two` is for the form of a split image.
fn receive(server: &ServerState, request: Request, grant: Option<UploadGrant>, two: bool) -> Response {
    let trusted = request.is_trusted();
    match field(&request.headers, upload::PARTS) {
        Ok(Some(name)) => return parts::import(server, &request, &name, two),
        Ok(None) => {}
        Err(error) => return operation_result::refused(&error, trusted),
    }
    let (allowed, secret) = grant.map(|grant| (grant.spec, grant.secret)).unzip();
    let begin = || -> std::result::Result<_, Refusal> {
        let said = upload_headers::read(&request.headers)?;
        // After parsing all headers: a wrong one is an error even if the token would override it.
        let spec = allowed.map_or(Ok(said.clone()), |allowed| allowed.narrowed(said))?;
        let sent = statements::sent_ahead(server, &request)?;
        let announced = body::announced(&request)?;
        let most = server.services.options.limits.upload;
        // The limit is on all bytes that are sent, with the few that a form has around its files.
        if announced.is_some_and(|length| length > most) {
            return Err(Error::limit("upload", most, "what the client sends, in bytes,").into());
        }
        let permit = server.services.begin_upload(Uploader::of(&request.client, request.peer), announced)?;
        Ok((spec, sent, announced, permit, server.services.operations.begin(Class::Task, "Uploading image", &[])?))
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
        let mut options = if trusted { options } else { options.unproven_fingerprint() }.stored_by(permit.owner());
        if let Some(sent) = &sent {
            options = options.evidence(sent.evidence.clone());
        }
        let (store, limits) = (&server.services.store, &server.services.options.limits);
        import(store, limits, &upload, &kind, two, announced, &spec, options, &monitor)
    });
    if let Ok(image) = &done {
        permit.stored(image);
        spec.report(image, &monitor);
        if let Some(sent) = &sent {
            sent.forget(&server.services.store, &server.services.quotas, &server.services.notes, &client);
        }
    }
    if done.is_err() {
        // A client that still sends would lose the response with the reset of the connection.
        upload.pass_over();
    }
    conclude(server, operation, done, &client, &monitor.omissions())
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
    monitor: &Monitor,
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
    store.import(source, &options, monitor)
}

/// Ends the operation, and makes the response.
///
/// The response is that of an operation which has ended, since the client has sent everything by
/// now.
fn conclude(
    server: &ServerState,
    operation: OperationHandle,
    done: Result<StoredImage>,
    client: &Client,
    omissions: &Omissions,
) -> Response {
    let (id, location) = (operation.id().to_owned(), operation.location());
    match done {
        Ok(image) => operation_result::arrived(&server.services.operations, operation, &image, client, omissions),
        Err(error) => {
            if let Some(response) = operation_result::failed(operation, &error, matches!(client, Client::Trusted(_))) {
                return response;
            }
        }
    }
    let told = operations::known(server.services.operations.get(&id));
    answer::began(&location, told)
}
