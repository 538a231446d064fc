//! `POST /1.0/images` with a JSON body: imports an image from another server in the background, or
//! issues an upload token with which another server pushes an image here.
//!
//! # Kinds of sources
//!
//! | `source.type` | `mode` | what happens |
//! |---|---|---|
//! | `image` | `pull` or none | downloads from a server, by alias or fingerprint |
//! | `image` | `push` | issues an upload token; the other server uploads |
//! | `url` | | direct import: the URL names hash and place of the image |
//! | `instance`, … | | refused: there are no instances |
//!
//! An image that is in the store already gets the aliases and settings of the request, as with LXD.

use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::{body, operation_result, operations, registries};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ImageForm;
use crate::progress::Monitor;
use crate::protocol::requests::{ImagePost, ImageSource, moment};
use crate::server::api::answer;
use crate::server::core::operation::Class;
use crate::server::core::operations::OperationHandle;
use crate::server::core::quota::Uploader;
use crate::server::core::tokens::{TokenScope, UNUSED_LIFETIME};
use crate::server::core::transfer::{ImageTransfer, Pull};
use crate::server::core::upload_spec::UploadSpec;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::source_protocol::Protocol;
use crate::store::{Alias, Edit};

/// Begins an import, or issues an upload token.
pub(super) fn post(server: &ServerState, mut request: Request) -> Response {
    begin(server, &mut request).unwrap_or_else(|error| operation_result::refused(&error, true))
}

/// [`post`] with its errors.
fn begin(server: &ServerState, request: &mut Request) -> Result<Response> {
    let asked: ImagePost = body::json(request, &server.services.options.limits)?;
    let source = asked.source.as_ref().ok_or_else(|| Error::invalid("the request names no source of the image"))?;
    if !matches!(&*asked.compression_algorithm, "" | "none") {
        return Err(Error::invalid("an image is kept as it is: it can't be compressed on its way"));
    }
    let form = match &*asked.format {
        "" => None,
        name => Some(
            ImageForm::from_name(name)
                .ok_or_else(|| Error::invalid("the format of an image is `unified` or `split`"))?,
        ),
    };
    let mut spec = UploadSpec {
        public: asked.public,
        // Without a name in the request, an image keeps the file name of its source.
        file_name: Some(asked.filename.clone()).filter(|name| !name.is_empty()),
        expires_at: moment(asked.expires_at.as_deref())?.flatten(),
        form,
        ..UploadSpec::default()
    };
    spec.properties.extend(asked.properties.0.iter().map(|(key, value)| (key.clone(), value.clone())));
    for alias in &asked.aliases {
        spec.aliases.push(Alias::new(&*alias.name)?.described(&*alias.description));
    }
    match (&*source.kind, &*source.mode) {
        // Some clients name the mode only.
        ("image" | "", "push") => pass(server, spec, source),
        ("image", "" | "pull") => {
            let pull = named(server, source, asked.auto_update)?;
            bring(server, request, &spec, pull)
        }
        ("image", _) => Err(Error::invalid("an image is pulled from its server, or pushed by it")),
        ("url", _) if source.url.is_empty() => Err(Error::invalid("the source has no address")),
        ("url", _) => {
            let mut pull = Pull::default();
            pull.url.clone_from(&source.url);
            pull.protocol = Protocol::Direct.into();
            pull.auto_update = asked.auto_update;
            bring(server, request, &spec, pull)
        }
        ("instance" | "snapshot" | "container" | "virtual-machine", _) => {
            Err(Error::invalid("there are no instances here of which an image could be made"))
        }
        _ => Err(Error::invalid("an image comes from another server's `image`, or from a `url`")),
    }
}

/// The source that a client names, as the transfer takes it.
///
/// # Errors
/// `InvalidInput` without a server, without an image, or for an unknown type of image.
fn named(server: &ServerState, source: &ImageSource, auto_update: bool) -> Result<Pull> {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mut pull = Pull::default();
    pull.url.clone_from(&source.server);
    if source.protocol.is_empty() { Protocol::Lxd.name() } else { &source.protocol }.clone_into(&mut pull.protocol);
    pull.alias = some(&source.alias);
    pull.fingerprint = some(&source.fingerprint);
    pull.certificate = some(&source.certificate);
    pull.secret = some(&source.secret);
    pull.image_type = some(&source.image_type).map(|name| name.parse()).transpose()?;
    pull.auto_update = auto_update;
    pull.copy_aliases = source.copy_aliases;
    if !matches!(&*source.project, "" | "default") {
        return Err(Error::invalid("images come from the project `default` of a server only"));
    }
    if !source.image_registry.is_empty() {
        if !pull.url.is_empty() {
            return Err(Error::invalid("the source names a server and an image registry"));
        }
        let registry = registries::named(server, &source.image_registry)?;
        (pull.url, pull.protocol) = (registry.url, registry.protocol.into());
    }
    if pull.url.is_empty() {
        return Err(Error::invalid("the source has no server"));
    }
    if pull.alias.is_none() && pull.fingerprint.is_none() {
        return Err(Error::invalid("the source names no image, neither by an alias nor by a fingerprint"));
    }
    Ok(pull)
}

/// Issues an upload token for another server, which will push the image.
///
/// The token is bound to the fingerprint, if the request names one.
fn pass(server: &ServerState, mut spec: UploadSpec, source: &ImageSource) -> Result<Response> {
    if !source.fingerprint.is_empty() {
        spec.fingerprint = Some(source.fingerprint.parse()?);
    }
    let images: Vec<_> = spec.fingerprint.map(|fingerprint| format!("/1.0/images/{fingerprint}")).into_iter().collect();
    let operation = server.services.operations.begin(Class::Token, "Image upload token", &images)?;
    issue_token(server, operation, TokenScope::Upload(Box::new(spec)))
}

/// Issues a token and answers with the operation that represents it, the secret in its metadata.
///
/// The order matters: the secret is in the metadata before the response is made, and the operation
/// becomes that of a token last, since it can't be changed by the handle afterwards.
pub(super) fn issue_token(server: &ServerState, operation: OperationHandle, opens: TokenScope) -> Result<Response> {
    let secret = server.services.tokens.issue(opens, operation.id())?;
    operation.add_metadata([("secret", json!(secret))]);
    let response = answer::began(&operation.location(), operations::known(operation.snapshot()));
    operation.into_token(UNUSED_LIFETIME);
    Ok(response)
}

/// Begins an import in the background.
///
/// # Errors
/// `FeatureDisabled` without a transfer; `Busy` when too many jobs run; `InvalidInput`.
fn bring(server: &ServerState, request: &Request, spec: &UploadSpec, pull: Pull) -> Result<Response> {
    let fetch = fetcher(server)?;
    // Before the operation: a request that is refused leaves no operation behind.
    let permit = server.services.upstream_cache.job_permit()?;
    let quota = match server.services.begin_upload(Uploader::of(&request.client, request.peer), None) {
        Ok(quota) => quota,
        Err(refusal) => return Ok(operation_result::over_quota(&refusal, true)),
    };
    let operation = server.services.operations.begin(Class::Task, "Downloading image", &[])?;
    let monitor = Monitor::none().with_cancel(operation.cancel()).with_progress(operation.progress());
    // An image that is in the store already gets the aliases, as in LXD.
    let options = spec.options()?.add_aliases_to_existing(true).stored_by(quota.owner()).max_bytes(quota.most);
    let pull = Pull { expires_at: spec.expires_at, ..pull };
    let edit = wanted(spec, pull.auto_update)?;
    let (store, operations, client) =
        (server.services.store.clone(), server.services.operations.clone(), request.client.clone());
    let spec = spec.clone();
    in_background(operation, move |operation| {
        let _permit = permit;
        match fetch.pull(&pull, &store, options, &monitor) {
            // An image that was in the store already gets the requested settings, as in LXD; a new one has them.
            Ok(image) => match store.edit(&image.fingerprint, &edit, None) {
                Ok(image) => {
                    quota.stored(&image);
                    spec.report(&image, &monitor);
                    operation_result::arrived(&operations, operation, &image, &client, &monitor.omissions());
                }
                Err(error) => operation.fail(error.kind(), operation_result::sentence(&error, true)),
            },
            Err(error) => {
                // The transfer may quote the source in its error, with the token in it.
                let error = error.without_secret(pull.secret.as_deref().unwrap_or_default());
                operation.fail(error.kind(), operation_result::sentence(&error, true));
            }
        }
    })
}

/// The edit that gives an image that was in the store already what the client asks for. What the
/// request does not name stays.
///
/// It turns settings on and never off: a client that does not name one does not mean `false`.
fn wanted(spec: &UploadSpec, auto_update: bool) -> Result<Edit> {
    let mut edit = Edit::new();
    if spec.public {
        edit = edit.public(true);
    }
    if auto_update {
        edit = edit.auto_update(true);
    }
    if spec.expires_at.is_some() {
        edit = edit.expires_at(spec.expires_at);
    }
    for (key, value) in &spec.properties {
        edit = edit.property(&**key, &**value)?;
    }
    Ok(edit)
}

/// The transfer of this server.
///
/// # Errors
/// `FeatureDisabled` where there is none.
pub(super) fn fetcher(server: &ServerState) -> Result<Arc<dyn ImageTransfer>> {
    server
        .services
        .options
        .image_transfer
        .clone()
        .ok_or_else(|| Error::new(ErrorKind::FeatureDisabled, "this server brings no images from others"))
}

/// Runs work on a thread that outlives the request, and answers with its operation.
///
/// The operation fails by itself if the work panics, because its handle is dropped.
///
/// # Errors
/// `Io` when no thread can be started; the operation has failed then.
pub(super) fn in_background(
    operation: OperationHandle,
    work: impl FnOnce(OperationHandle) + Send + 'static,
) -> Result<Response> {
    let response = answer::began(&operation.location(), operations::known(operation.snapshot()));
    thread::Builder::new()
        .name("operation".to_owned())
        .spawn(move || work(operation))
        .map_err(|error| Error::io("cannot start a thread for the operation", error))?;
    Ok(response)
}
