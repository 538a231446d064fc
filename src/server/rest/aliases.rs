//! `/1.0/images/aliases`: names of images. Strangers see those of public images, where a real server tells them nothing.
//! How they change is in `naming`.

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
use crate::metadata::ImageType;
use crate::protocol::escape;
use crate::store::Alias;

/// All of them.
pub(super) fn list(handler: &Handler, request: &Request, address: &Address) -> Response {
    let recursive = is_recursive(address);
    match sight::aliases(handler, request) {
        Ok(found) => answer::object(Value::Array(
            found
                .iter()
                .map(|(alias, image)| {
                    if recursive {
                        object(alias, &image.fingerprint, image.image_type)
                    } else {
                        json!(location(&alias.name))
                    }
                })
                .collect(),
        )),
        Err(error) => answer::error(&error, request.is_trusted()),
    }
}

/// One of them.
pub(super) fn get(handler: &Handler, request: &Request, name: &str) -> Response {
    let one = || -> Result<Response> {
        let (alias, target, image_type) = sight::meaning(handler, request, name)?;
        let etag = etag(&alias, &target, image_type);
        if conditional::is_known(request, &etag) {
            return Ok(Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(&etag)));
        }
        Ok(answer::object(object(&alias, &target, image_type)).with(header::ETAG, &quoted(&etag)))
    };
    one().unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

/// Where an alias is.
pub(super) fn location(name: &str) -> String {
    format!("/1.0/images/aliases/{}", escape::segment(name))
}

fn object(alias: &Alias, target: &Fingerprint, image_type: ImageType) -> Value {
    json!({
        "name": alias.name, "description": alias.description, "target": target.to_string(), "type": image_type.name(),
    })
}

/// Changes with all that can be changed of an alias.
pub(super) fn etag(alias: &Alias, target: &Fingerprint, image_type: ImageType) -> String {
    Fingerprint::of(object(alias, target, image_type).to_string().as_bytes()).to_string()
}
