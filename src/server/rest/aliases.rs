//! `/1.0/images/aliases`: names of images. Strangers see those of public images, where a real server tells them nothing.
//! Trusted clients make, change, rename and delete them.

use http::StatusCode;
use http::header;
use serde_json::{Value, json};

use super::super::address::Address;
use super::super::handler::Handler;
use super::super::message::{Request, Response};
use super::super::{answer, conditional, sight};
use super::images::{is_recursive, quoted};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::protocol::escape;
use crate::store::{Alias, StoredImage};

/// All of them.
pub(super) fn list(handler: &Handler, request: &Request, address: &Address) -> Response {
    let recursive = is_recursive(address);
    match sight::aliases(handler, request) {
        Ok(found) => answer::object(Value::Array(
            found
                .iter()
                .map(|(alias, image)| if recursive { object(alias, image) } else { json!(location(&alias.name)) })
                .collect(),
        )),
        Err(error) => answer::error(&error, request.is_trusted()),
    }
}

/// One of them.
pub(super) fn get(handler: &Handler, request: &Request, name: &str) -> Response {
    let one = || -> Result<Response> {
        let (alias, image) = sight::alias(handler, request, name)?;
        let etag = etag(&alias, &image);
        if conditional::is_known(request, &etag) {
            return Ok(Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(&etag)));
        }
        Ok(answer::object(object(&alias, &image)).with(header::ETAG, &quoted(&etag)))
    };
    one().unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

/// `POST /1.0/images/aliases`.
pub(super) fn create(_handler: &Handler, _request: Request) -> Response {
    answer::forbidden()
}

/// `PUT`, `PATCH`, `POST`, `DELETE /1.0/images/aliases/NAME`.
pub(super) fn change(_handler: &Handler, _request: Request, _name: &str) -> Response {
    answer::forbidden()
}

/// Where an alias is.
pub(super) fn location(name: &str) -> String {
    format!("/1.0/images/aliases/{}", escape::segment(name))
}

fn object(alias: &Alias, image: &StoredImage) -> Value {
    json!({
        "name": alias.name, "description": alias.description, "target": image.fingerprint.to_string(),
        "type": image.image_type.name(),
    })
}

/// Changes with all that can be changed of an alias.
pub(super) fn etag(alias: &Alias, image: &StoredImage) -> String {
    Fingerprint::of(object(alias, image).to_string().as_bytes()).to_string()
}
