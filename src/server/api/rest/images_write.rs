//! Writes to an image: edit, delete, issue a token, refresh, push. The route table lets trusted
//! clients in only. Edits and deletions with `If-Match` are made only on the state that the client
//! read.
//!
//! An edit or a deletion is one conditional change of the store: the `ETag` is compared again
//! inside of it, so that a change by another client between the check here and the write is not
//! lost. Refresh and push run in the background, as operations.

use http::Method;
use serde_json::json;

use super::import::{fetcher, in_background, issue_token};
use super::{body, operation_result, operations};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::Properties;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::requests::{ExportPost, ImageChange, moment};
use crate::server::api::{answer, conditional};
use crate::server::core::access;
use crate::server::core::lifecycle;
use crate::server::core::operation::Class;
use crate::server::core::quota::Uploader;
use crate::server::core::tokens::TokenScope;
use crate::server::core::transfer::Push;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::{ETag, Edit, RefreshOptions, Refreshed, StoredImage};

/// Edits an image: with `PUT` all that can be edited, with `PATCH` what the body names.
///
/// Publishes the event `image-updated`.
///
/// # Errors
/// `Mismatch` when the image changed since the state in `If-Match`; those of
/// [`Store::edit`](crate::store::Store::edit).
pub(super) fn edit(server: &ServerState, request: &mut Request, fingerprint: &str) -> Result<Response> {
    let change: ImageChange = body::json(request, &server.services.options.limits)?;
    let image = access::find_local_image(&server.services, &request.client, fingerprint, None)?;
    let based_on = based_on(request, &image)?;
    let mut edit = Edit::new();
    if let Some(expires_at) = moment(change.expires_at.as_deref())? {
        edit = edit.expires_at(expires_at);
    }
    if request.method == Method::PUT {
        // PUT replaces everything that can be edited, but the expiry date, which older clients don't send.
        let mut properties = Properties::new();
        for (key, value) in change.properties.unwrap_or_default().0 {
            properties.set(key, value)?;
        }
        let (public, auto_update) = (change.public.unwrap_or(false), change.auto_update.unwrap_or(false));
        edit = edit.public(public).auto_update(auto_update).properties(properties);
    } else {
        if let Some(public) = change.public {
            edit = edit.public(public);
        }
        if let Some(auto_update) = change.auto_update {
            edit = edit.auto_update(auto_update);
        }
        for (key, value) in change.properties.unwrap_or_default().0 {
            edit = edit.property(key, value)?;
        }
    }
    let edited = server.services.store.edit(&image.fingerprint, &edit, based_on.as_ref())?;
    lifecycle::image_changed(&server.services.operations, "image-updated", &edited, &request.client);
    Ok(answer::done())
}

/// Deletes an image. The operation that it answers with has ended.
///
/// It is an operation since LXD's clients wait for one. It has ended by the time of the response:
/// to delete the row takes no time, and files are removed after it.
///
/// # Errors
/// `Mismatch` when the image changed since the state in `If-Match`; `NotFound`.
pub(super) fn delete(server: &ServerState, request: &Request, fingerprint: &str) -> Result<Response> {
    let image = access::find_local_image(&server.services, &request.client, fingerprint, None)?;
    let based_on = based_on(request, &image)?;
    // Before the deletion, so that a server with too many operations deletes nothing.
    let operation =
        server.services.operations.begin(Class::Task, "Deleting image", &[lifecycle::image_path(&image)])?;
    let (id, location) = (operation.id().to_owned(), operation.location());
    let deleted = match &based_on {
        Some(etag) => server.services.store.delete_unchanged(&image.fingerprint, etag),
        None => server.services.store.delete(&image.fingerprint),
    };
    match deleted {
        Ok(_) => {
            lifecycle::image_changed(&server.services.operations, "image-deleted", &image, &request.client);
            operation.succeed(&[], []);
        }
        Err(error) => {
            operation.fail(error.kind(), error.to_string());
            return Err(error);
        }
    }
    Ok(answer::began(&location, operations::known(server.services.operations.get(&id))))
}

/// The state of the image, if the request has `If-Match`: the change is made on this state only.
/// `None` without the header.
///
/// The returned tag is checked once more by the store, with the row locked.
///
/// # Errors
/// `Mismatch` when the header does not match the image.
fn based_on(request: &Request, image: &StoredImage) -> Result<Option<ETag>> {
    let Some(list) = conditional::based_on(request) else { return Ok(None) };
    let etag = image.etag();
    if !conditional::names(list, etag.as_str()) {
        return Err(Error::mismatch("the image was changed meanwhile: its ETag", "that of the request", etag.as_str()));
    }
    Ok(Some(etag))
}

/// Issues a token that lets its holder download a private image.
///
/// # Errors
/// `NotFound`; `Busy` when there are too many tokens.
pub(super) fn issue_image_token(server: &ServerState, request: &Request, fingerprint: &str) -> Result<Response> {
    let image = access::find_local_image(&server.services, &request.client, fingerprint, None)?;
    let operation =
        server.services.operations.begin(Class::Token, "Image download token", &[lifecycle::image_path(&image)])?;
    issue_token(server, operation, TokenScope::Image(image.fingerprint))
}

/// Begins to replace an image by the newest of its source.
///
/// The result is in the metadata of the operation: `refreshed`, and the fingerprint of the new
/// image.
///
/// # Errors
/// `NotFound`; `FeatureDisabled` where the server has no [`ImageTransfer`](crate::server::ImageTransfer); `Busy`. A client over its
/// quota is told so.
pub(super) fn refresh(server: &ServerState, request: &Request, fingerprint: &str) -> Result<Response> {
    let image = access::find_local_image(&server.services, &request.client, fingerprint, None)?;
    let fetch = fetcher(server)?;
    let permit = server.services.upstream_cache.job_permit()?;
    let quota = match server.services.begin_upload(Uploader::of(&request.client, request.peer), None) {
        Ok(quota) => quota,
        Err(refusal) => return Ok(operation_result::over_quota(&refusal, true)),
    };
    let operation =
        server.services.operations.begin(Class::Task, "Refreshing image", &[lifecycle::image_path(&image)])?;
    let monitor = Monitor::none().with_cancel(operation.cancel()).with_progress(operation.progress());
    let (store, operations, client) =
        (server.services.store.clone(), server.services.operations.clone(), request.client.clone());
    in_background(operation, move |operation| {
        let _permit = permit;
        // What it replaces is still stored while it arrives.
        let options = RefreshOptions::new().max_bytes(quota.most);
        match fetch.refresh(&image.fingerprint, &store, &options, &monitor) {
            Ok(Refreshed::Replaced { fingerprint: new }) => {
                let location = format!("/1.0/images/{new}");
                let context = json!({"old": image.fingerprint.to_string()});
                operations.lifecycle("image-refreshed", &location, &context, &client);
                let found = [("refreshed", json!(true)), ("fingerprint", json!(new.to_string()))];
                operation
                    .succeed(&[location], found.into_iter().chain(operation_result::left_out(&monitor.omissions())));
            }
            Ok(_) => operation.succeed(&[], [("refreshed", json!(false))]),
            Err(error) => {
                let sentence = match error.kind() {
                    ErrorKind::NotFound => format!("the image's source no longer has it: {error}"),
                    _ => error.to_string(),
                };
                operation.fail(error.kind(), sentence);
            }
        }
    })
}

/// Begins to send an image to the server that issued a token for it.
///
/// The token is removed from the messages of errors, which clients and listeners read.
///
/// # Errors
/// `InvalidInput` without a target or a token; `NotFound`; `FeatureDisabled`; `Busy`.
pub(super) fn push(server: &ServerState, request: &mut Request, fingerprint: &str) -> Result<Response> {
    let asked: ExportPost = body::json(request, &server.services.options.limits)?;
    if asked.target.is_empty() || asked.secret.is_empty() {
        return Err(Error::invalid("an image is sent to a `target`, with a `secret` that it gave out"));
    }
    if !matches!(&*asked.project, "" | "default") {
        return Err(Error::invalid("an image is sent to the project `default` of a server only"));
    }
    let image = access::find_local_image(&server.services, &request.client, fingerprint, None)?;
    let fetch = fetcher(server)?;
    let permit = server.services.upstream_cache.job_permit()?;
    let mut target = Push::default();
    (target.url, target.secret) = (asked.target, asked.secret);
    target.certificate = Some(asked.certificate).filter(|pem| !pem.is_empty());
    let operation = server.services.operations.begin(Class::Task, "Sending image", &[lifecycle::image_path(&image)])?;
    let monitor = Monitor::none().with_cancel(operation.cancel()).with_progress(operation.progress());
    for alias in &asked.aliases {
        let shown: String = alias.name.chars().take(64).collect();
        let reason = "the server that issued the secret gives the aliases that it was asked for".into();
        let what = Omitted::NotHonoured { option: format!("the alias `{shown}`").into(), reason };
        monitor.omit(image.fingerprint.to_string(), what);
    }
    let store = server.services.store.clone();
    in_background(operation, move |operation| {
        let _permit = permit;
        match fetch.push(&target, &image.fingerprint, &store, &monitor) {
            Ok(()) => operation.succeed(&[], operation_result::left_out(&monitor.omissions())),
            Err(error) => {
                // The other server may repeat the token in its message.
                let error = error.without_secret(&target.secret);
                operation.fail(error.kind(), operation_result::sentence(&error, true));
            }
        }
    })
}
