//! Writes to aliases: create, edit, rename, delete. The route table lets trusted clients in only.
//! Edits with `If-Match` are made only on the state that the client read.
//!
//! A name that is taken is a conflict (409). In the store a container and a virtual machine may
//! share a name; the API can't tell the two apart, so writes change the container's alias, which is
//! the one that reads show.

use http::Method;
use serde_json::{Value, json};

use super::{aliases, body};
use crate::error::{Error, Result};
use crate::protocol::requests::AliasChange;
use crate::server::api::{answer, conditional};
use crate::server::core::access;
use crate::server::core::lifecycle;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::{Alias, AliasTarget};

/// Creates an alias.
///
/// The target may be a fingerprint prefix. Publishes `image-alias-created`.
///
/// # Errors
/// `AlreadyExists`; `NotFound` for a target that is not in the store; `InvalidInput` without a name or a target.
pub(super) fn create(server: &ServerState, request: &mut Request) -> Result<Response> {
    let asked: AliasChange = body::json(request, &server.services.options.limits)?;
    let name = asked.name.ok_or_else(|| Error::invalid("the alias has no name"))?;
    let target = asked.target.ok_or_else(|| Error::invalid("the alias has no target"))?;
    let alias = Alias::new(name)?.described(asked.description.unwrap_or_default());
    let image = access::find_local_image(&server.services, &request.client, &target, None)?;
    server.services.store.create_alias(&alias, &image.fingerprint)?;
    let context = json!({"target": image.fingerprint.to_string()});
    told(server, request, "image-alias-created", &alias.name, &context);
    Ok(answer::created(&lifecycle::alias_path(&alias.name)))
}

/// Changes the target of an alias or its description. `PUT` replaces both, `PATCH` what the body
/// names. Publishes `image-alias-updated`.
///
/// # Errors
/// `Mismatch` when the alias changed since the state in `If-Match`; `NotFound`; `InvalidInput`.
pub(super) fn edit(server: &ServerState, request: &mut Request, name: &str) -> Result<Response> {
    let asked: AliasChange = body::json(request, &server.services.options.limits)?;
    if request.method == Method::PUT && asked.target.is_none() {
        return Err(Error::invalid("the alias has no target"));
    }
    let target = match asked.target {
        Some(target) => Some(access::find_local_image(&server.services, &request.client, &target, None)?.fingerprint),
        None => None,
    };
    let description = asked.description.or_else(|| (request.method == Method::PUT).then(String::new));
    // The store compares the alias with this state once more, in the transaction of the change.
    let expected = expected(server, request, name)?;
    server.services.store.change_alias(name, None, expected.as_ref(), target, description.as_deref())?;
    told(server, request, "image-alias-updated", name, &Value::Null);
    Ok(answer::done())
}

/// Renames an alias.
///
/// Publishes `image-alias-renamed` with the old name.
///
/// # Errors
/// `AlreadyExists`; `NotFound`; `InvalidInput` for a name that no alias can have.
pub(super) fn rename(server: &ServerState, request: &mut Request, name: &str) -> Result<Response> {
    let asked: AliasChange = body::json(request, &server.services.options.limits)?;
    let new = asked.name.ok_or_else(|| Error::invalid("the alias is given no new name"))?;
    server.services.store.rename_alias(name, &new, None)?;
    told(server, request, "image-alias-renamed", &new, &json!({"old_name": name}));
    Ok(answer::created(&lifecycle::alias_path(&new)))
}

/// Deletes an alias; its image stays.
///
/// Publishes `image-alias-deleted`.
///
/// # Errors
/// `NotFound`.
pub(super) fn delete(server: &ServerState, request: &Request, name: &str) -> Result<Response> {
    server.services.store.delete_alias(name, None)?;
    told(server, request, "image-alias-deleted", name, &Value::Null);
    Ok(answer::done())
}

/// The alias as it is, if the request has `If-Match`: the change is made on this state only. `None` without the header.
///
/// # Errors
/// `Mismatch` when the header does not match the alias; `NotFound`.
fn expected(server: &ServerState, request: &Request, name: &str) -> Result<Option<(Alias, AliasTarget)>> {
    let Some(list) = conditional::based_on(request) else { return Ok(None) };
    let (alias, image) = access::find_local_alias(&server.services, &request.client, name)?;
    let etag = aliases::etag(&alias, &image.fingerprint, image.image_type);
    if !conditional::names(list, &etag) {
        return Err(Error::mismatch("the alias was changed meanwhile: its ETag", "that of the request", etag));
    }
    Ok(Some((alias, image.target())))
}

/// Publishes an event about this alias.
fn told(server: &ServerState, request: &Request, action: &str, name: &str, context: &Value) {
    server.services.operations.lifecycle(action, &lifecycle::alias_path(name), context, &request.client);
}
