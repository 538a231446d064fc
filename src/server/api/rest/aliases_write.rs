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
use crate::server::handler::Handler;
use crate::server::message::{Request, Response};
use crate::store::{Alias, AliasTarget};

/// Creates an alias.
///
/// The target may be a fingerprint prefix. Publishes `image-alias-created`.
///
/// # Errors
/// `AlreadyExists`; `NotFound` for a target that is not in the store; `InvalidInput` without a name or a target.
pub(super) fn create(handler: &Handler, request: &mut Request) -> Result<Response> {
    let asked: AliasChange = body::json(request, &handler.options.limits)?;
    let name = asked.name.ok_or_else(|| Error::invalid("the alias has no name"))?;
    let target = asked.target.ok_or_else(|| Error::invalid("the alias has no target"))?;
    let alias = Alias::new(name)?.described(asked.description.unwrap_or_default());
    let image = access::find_local_image(handler, request, &target, None)?;
    handler.store.create_alias(&alias, &image.fingerprint)?;
    let context = json!({"target": image.fingerprint.to_string()});
    told(handler, request, "image-alias-created", &alias.name, &context);
    Ok(answer::created(&aliases::location(&alias.name)))
}

/// Changes the target of an alias or its description. `PUT` replaces both, `PATCH` what the body
/// names. Publishes `image-alias-updated`.
///
/// # Errors
/// `Mismatch` when the alias changed since the state in `If-Match`; `NotFound`; `InvalidInput`.
pub(super) fn edit(handler: &Handler, request: &mut Request, name: &str) -> Result<Response> {
    let asked: AliasChange = body::json(request, &handler.options.limits)?;
    if request.method == Method::PUT && asked.target.is_none() {
        return Err(Error::invalid("the alias has no target"));
    }
    let target = match asked.target {
        Some(target) => Some(access::find_local_image(handler, request, &target, None)?.fingerprint),
        None => None,
    };
    let description = asked.description.or_else(|| (request.method == Method::PUT).then(String::new));
    // The store compares the alias with this state once more, in the transaction of the change.
    let expected = expected(handler, request, name)?;
    handler.store.change_alias(name, None, expected.as_ref(), target, description.as_deref())?;
    told(handler, request, "image-alias-updated", name, &Value::Null);
    Ok(answer::done())
}

/// Renames an alias.
///
/// Publishes `image-alias-renamed` with the old name.
///
/// # Errors
/// `AlreadyExists`; `NotFound`; `InvalidInput` for a name that no alias can have.
pub(super) fn rename(handler: &Handler, request: &mut Request, name: &str) -> Result<Response> {
    let asked: AliasChange = body::json(request, &handler.options.limits)?;
    let new = asked.name.ok_or_else(|| Error::invalid("the alias is given no new name"))?;
    handler.store.rename_alias(name, &new, None)?;
    told(handler, request, "image-alias-renamed", &new, &json!({"old_name": name}));
    Ok(answer::created(&aliases::location(&new)))
}

/// Deletes an alias; its image stays.
///
/// Publishes `image-alias-deleted`.
///
/// # Errors
/// `NotFound`.
pub(super) fn delete(handler: &Handler, request: &Request, name: &str) -> Result<Response> {
    handler.store.delete_alias(name, None)?;
    told(handler, request, "image-alias-deleted", name, &Value::Null);
    Ok(answer::done())
}

/// The alias as it is, if the request has `If-Match`: the change is made on this state only. `None` without the header.
///
/// # Errors
/// `Mismatch` when the header does not match the alias; `NotFound`.
fn expected(handler: &Handler, request: &Request, name: &str) -> Result<Option<(Alias, AliasTarget)>> {
    let Some(list) = conditional::based_on(request) else { return Ok(None) };
    let (alias, image) = access::find_local_alias(handler, request, name)?;
    let etag = aliases::etag(&alias, &image.fingerprint, image.image_type);
    if !conditional::names(list, &etag) {
        return Err(Error::mismatch("the alias was changed meanwhile: its ETag", "that of the request", etag));
    }
    Ok(Some((alias, image.target())))
}

/// Publishes an event about this alias.
fn told(handler: &Handler, request: &Request, action: &str, name: &str, context: &Value) {
    handler.operations.lifecycle(action, &aliases::location(name), context, &request.client);
}
