//! `GET /1.0/images/aliases`: the names of images. Untrusted clients see those of public images; a
//! real LXD shows them none, and this server is meant to be public.
//!
//! In the store a container and a virtual machine may share a name, and in the API names are
//! unique: it shows the container's. Writes are in `aliases_write`.

use http::StatusCode;
use http::header;
use serde_json::{Value, json};

use super::filter::Expression;
use super::images::{is_recursive, quoted};
use super::listing::{self, Page};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::metadata::ImageType;
use crate::server::api::address::Address;
use crate::server::api::{answer, conditional};
use crate::server::core::access;
use crate::server::core::lifecycle;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::{Alias, AliasTarget};

/// The list of aliases, each name once.
///
/// With `?recursion=1` as objects, otherwise as paths.
pub(super) fn list(server: &ServerState, request: &Request, address: &Address) -> Response {
    let recursive = is_recursive(address);
    let filter = match address.query("filter").map(str::parse::<Expression>).transpose() {
        Ok(filter) => filter,
        Err(error) => return answer::error(&error, request.is_trusted()),
    };
    let row = move |alias: &Alias, target: &AliasTarget| {
        // A list of paths without a filter needs no objects.
        if filter.is_none() && !recursive {
            return Some(json!(lifecycle::alias_path(&alias.name)));
        }
        let object = object(alias, &target.fingerprint, target.image_type);
        let holds = filter.as_ref().is_none_or(|filter| filter.holds(&object));
        holds.then(|| if recursive { object } else { json!(lifecycle::alias_path(&alias.name)) })
    };
    let list = access::list_aliases(&server.services, &request.client).and_then(|mut aliases| {
        listing::answer(server, move || {
            let mut rows = Vec::new();
            let more = aliases.page(&mut |alias, target| rows.extend(row(alias, target)))?;
            Ok(Page { rows, more })
        })
    });
    list.unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

/// One alias.
///
/// An alias that the store lacks is looked for at the upstream; the image is not fetched for that.
pub(super) fn get(server: &ServerState, request: &Request, name: &str) -> Response {
    let one = || -> Result<Response> {
        let (alias, target, image_type) = access::resolve_alias(&server.services, &request.client, name)?;
        let etag = etag(&alias, &target, image_type);
        if conditional::is_known(request, &etag) {
            return Ok(Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(&etag)));
        }
        Ok(answer::object(object(&alias, &target, image_type)).with(header::ETAG, &quoted(&etag)))
    };
    one().unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

/// The alias object of the API.
fn object(alias: &Alias, target: &Fingerprint, image_type: ImageType) -> Value {
    json!({
        "name": alias.name, "description": alias.description, "target": target.to_string(), "type": image_type.name(),
    })
}

/// The entity tag of an alias: differs whenever its target, type or description does.
///
/// It is the digest of the object, so the same alias has the same tag after a restart.
pub(super) fn etag(alias: &Alias, target: &Fingerprint, image_type: ImageType) -> String {
    Fingerprint::of(object(alias, target, image_type).to_string().as_bytes()).to_string()
}
