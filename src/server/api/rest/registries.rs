//! `/1.0/image-registries`: the servers that this one can fetch from, as LXD 6 names them. They are the remotes of the
//! program, so a client reads them, and `lxd-image remote` changes them.
//!
//! For trusted clients only: addresses of internal servers are nobody else's business. What may be secret in an address
//! is left out of the answer.

use http::StatusCode;
use http::header;
use serde_json::{Value, json};

use super::filter::Expression;
use super::images::{is_recursive, object, quoted};
use super::import::fetcher;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::protocol::escape;
use crate::redact;
use crate::server::api::address::Address;
use crate::server::api::{answer, conditional};
use crate::server::core::transfer::Registry;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;

/// The list: paths, or with `?recursion=1` objects; with `?filter=` those for which it holds.
pub(super) fn list(server: &ServerState, address: &Address) -> Result<Response> {
    let filter = address.query("filter").map(str::parse::<Expression>).transpose()?;
    let recursive = is_recursive(address);
    let mut rows = Vec::new();
    for registry in registries(server)? {
        let object = described(&registry);
        if filter.as_ref().is_none_or(|filter| filter.holds(&object)) {
            rows.push(if recursive { object } else { json!(location(&registry.name)) });
        }
    }
    Ok(answer::object(Value::Array(rows)))
}

/// One registry, or 304 if the client has its current state.
///
/// # Errors
/// `NotFound`.
pub(super) fn get(server: &ServerState, request: &Request, name: &str) -> Result<Response> {
    let object = described(&named(server, name)?);
    let etag = Fingerprint::of(object.to_string().as_bytes()).to_string();
    if conditional::is_known(request, &etag) {
        return Ok(Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(&etag)));
    }
    Ok(answer::object(object).with(header::ETAG, &quoted(&etag)))
}

/// The images of a registry, as objects: those that this server sees there.
///
/// # Errors
/// `NotFound`; those of asking the other server.
pub(super) fn images(server: &ServerState, name: &str) -> Result<Response> {
    named(server, name)?;
    let monitor = server.services.upstream_cache.stoppable();
    let images = fetcher(server)?.registry_images(name, &monitor)?;
    let objects = images.iter().map(object).collect::<Result<Vec<_>>>()?;
    Ok(answer::object(Value::Array(objects)))
}

/// The refusal of every change: the registries are settings of the program.
pub(super) fn refuse() -> Response {
    let sentence = "the image registries are this server's remotes: `lxd-image remote` changes them";
    answer::failure(StatusCode::NOT_IMPLEMENTED, sentence)
}

/// All registries; none without a transfer.
fn registries(server: &ServerState) -> Result<Vec<Registry>> {
    match &server.services.options.image_transfer {
        Some(transfer) => transfer.registries(),
        None => Ok(Vec::new()),
    }
}

/// The registry with this name.
///
/// # Errors
/// `NotFound`.
pub(super) fn named(server: &ServerState, name: &str) -> Result<Registry> {
    let found = registries(server)?.into_iter().find(|registry| registry.name == name);
    found.ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        Error::new(ErrorKind::NotFound, format!("there is no image registry `{shown}`"))
    })
}

/// The path of a registry.
fn location(name: &str) -> String {
    format!("/1.0/image-registries/{}", escape::segment(name))
}

/// The registry object of the API.
fn described(registry: &Registry) -> Value {
    json!({
        "name": registry.name, "description": "", "protocol": if registry.protocol.is_rest() { "lxd" } else { "simplestreams" },
        "public": registry.public, "builtin": registry.builtin, "config": {"url": redact::address(&registry.url)},
    })
}
