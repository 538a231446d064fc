//! `POST /1.0/images`: an image comes in as one file, as two, or by its source.
//! What arrives is staged in the store as it comes; the operation that is answered is over when it is admitted, or refused.

use http::{StatusCode, header};
use serde_json::json;

use super::body::{self, Upload};
use super::upload_headers::{UploadSpec, field};
use super::{import, operation_result};
use crate::error::{Error, Result};
use crate::format::{ImageSource, Input};
use crate::omissions::Omissions;
use crate::progress::Monitor;
use crate::protocol::multipart::is_multipart;
use crate::protocol::rest::upload;
use crate::protocol::split_body::{SplitBounds, split_files};
use crate::server::api::answer;
use crate::server::core::operations::{Class, OperationHandle};
use crate::server::handler::Handler;
use crate::server::message::{Client, Request, Response};
use crate::store::StoredImage;

/// Takes an upload.
pub(super) fn post(handler: &Handler, request: Request) -> Response {
    let kind = request.header(header::CONTENT_TYPE).unwrap_or_default().trim().to_ascii_lowercase();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" if request.is_trusted() => import::post(handler, request),
        "application/json" => answer::forbidden(),
        "" | "application/octet-stream" => take(handler, request, false),
        _ if is_multipart(&kind) => take(handler, request, true),
        _ if !request.is_trusted() => answer::forbidden(),
        _ => {
            let sentence =
                "an image comes as application/octet-stream or multipart/form-data, its source as application/json";
            answer::failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence)
        }
    }
}

fn take(handler: &Handler, request: Request, two: bool) -> Response {
    let trusted = request.is_trusted();
    // A pass is used up by being shown, whatever becomes of the upload.
    let secret = field(&request.headers, upload::SECRET).ok().flatten();
    let pass = secret.as_deref().filter(|_| !trusted).and_then(|secret| handler.tokens.take_upload(secret));
    if !trusted && pass.is_none() {
        return answer::forbidden();
    }
    let begin = || -> Result<(UploadSpec, Option<u64>, OperationHandle)> {
        let said = UploadSpec::of(&request.headers)?;
        let spec = pass.map_or(Ok(said.clone()), |pass| pass.narrowed(said))?;
        let announced = body::announced(&request)?;
        let most = handler.options.limits.upload;
        // A form has a little around its files.
        if announced.is_some_and(|length| length > most) {
            return Err(Error::limit("upload", most, "what the client sends, in bytes,"));
        }
        Ok((spec, announced, handler.operations.begin(Class::Task, "Uploading image", &[])?))
    };
    let (spec, announced, operation) = match begin() {
        Ok(begun) => begun,
        Err(error) => return operation_result::refused(&error, trusted),
    };
    if let Some(secret) = secret.filter(|_| !trusted) {
        operation.authenticated_by(&secret);
    }
    let kind = request.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
    let client = request.client.clone();
    let upload = Upload::new(request.body, announced, &handler.options.limits, operation.cancel());
    let monitor = Monitor::none().with_cancel(operation.cancel());
    let done = import(handler, &upload, &kind, two, announced, &spec, monitor.clone());
    if let Ok(image) = &done {
        spec.report(image, &monitor);
    }
    if done.is_err() {
        upload.pass_over();
    }
    conclude(handler, operation, done, &client, &monitor.omissions())
}

fn import(
    handler: &Handler,
    upload: &Upload,
    kind: &str,
    two: bool,
    announced: Option<u64>,
    spec: &UploadSpec,
    monitor: Monitor,
) -> Result<StoredImage> {
    let mut options = spec.options()?.monitor(monitor);
    let source = if two {
        let bounds = SplitBounds {
            limits: &handler.options.limits,
            limit_name: "upload",
            announced: None,
            sender: "the client",
        };
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
    handler.store.import(source, &options)
}

/// The answer when it is over.
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
