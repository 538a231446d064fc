//! Changes to aliases: made, described and pointed elsewhere (on condition of what the client read, if it says so), renamed and deleted.
//! Only for trusted clients. A name that is taken is a conflict. Of a container and a virtual machine that share a name, the
//! container's is changed, as it is the one that is shown.

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

/// `POST /1.0/images/aliases`.
pub(super) fn create(handler: &Handler, mut request: Request) -> Response {
    if request.method != Method::POST {
        return answer::wrong_method("GET, HEAD, POST");
    }
    if !request.is_trusted() {
        return answer::forbidden();
    }
    made(handler, &mut request).unwrap_or_else(|error| answer::error(&error, true))
}

fn made(handler: &Handler, request: &mut Request) -> Result<Response> {
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

/// `PUT`, `PATCH`, `POST`, `DELETE /1.0/images/aliases/NAME`.
pub(super) fn change(handler: &Handler, mut request: Request, name: &str) -> Response {
    let known = matches!(request.method, Method::PUT | Method::PATCH | Method::POST | Method::DELETE);
    if !known {
        return answer::wrong_method("GET, HEAD, PUT, PATCH, POST, DELETE");
    }
    if !request.is_trusted() {
        return answer::forbidden();
    }
    let done = match request.method {
        Method::DELETE => delete(handler, &request, name),
        Method::POST => rename(handler, &mut request, name),
        _ => edit(handler, &mut request, name),
    };
    done.unwrap_or_else(|error| answer::error(&error, true))
}

fn edit(handler: &Handler, request: &mut Request, name: &str) -> Result<Response> {
    let asked: AliasChange = body::json(request, &handler.options.limits)?;
    if request.method == Method::PUT && asked.target.is_none() {
        return Err(Error::invalid("the alias has no target"));
    }
    let target = match asked.target {
        Some(target) => Some(access::find_local_image(handler, request, &target, None)?.fingerprint),
        None => None,
    };
    let description = asked.description.or_else(|| (request.method == Method::PUT).then(String::new));
    let expected = expected(handler, request, name)?;
    handler.store.change_alias(name, None, expected.as_ref(), target, description.as_deref())?;
    told(handler, request, "image-alias-updated", name, &Value::Null);
    Ok(answer::done())
}

fn rename(handler: &Handler, request: &mut Request, name: &str) -> Result<Response> {
    let asked: AliasChange = body::json(request, &handler.options.limits)?;
    let new = asked.name.ok_or_else(|| Error::invalid("the alias is given no new name"))?;
    handler.store.rename_alias(name, &new, None)?;
    told(handler, request, "image-alias-renamed", &new, &json!({"old_name": name}));
    Ok(answer::created(&aliases::location(&new)))
}

fn delete(handler: &Handler, request: &Request, name: &str) -> Result<Response> {
    handler.store.delete_alias(name, None)?;
    told(handler, request, "image-alias-deleted", name, &Value::Null);
    Ok(answer::done())
}

/// The state that the request is based on, where it says one.
///
/// # Errors
/// `Mismatch` when the alias is in another one; `NotFound`.
fn expected(handler: &Handler, request: &Request, name: &str) -> Result<Option<(Alias, AliasTarget)>> {
    let Some(list) = conditional::based_on(request) else { return Ok(None) };
    let (alias, image) = access::find_local_alias(handler, request, name)?;
    let etag = aliases::etag(&alias, &image.fingerprint, image.image_type);
    if !conditional::names(list, &etag) {
        return Err(Error::mismatch("the alias was changed meanwhile: its ETag", "that of the request", etag));
    }
    Ok(Some((alias, image.target())))
}

fn told(handler: &Handler, request: &Request, action: &str, name: &str, context: &Value) {
    handler.operations.events().lifecycle(action, &aliases::location(name), context, &request.client);
}
