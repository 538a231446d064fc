//! `GET /1.0/images` and one image of it: objects or addresses, filtered, with the tags that edits are based on.
//! An image is served with what the client may see of it. Lists are made page by page.

use http::{StatusCode, header};
use serde_json::{Value, json};

use super::super::address::Address;
use super::super::{answer, conditional};
use super::filter::Expression;
use super::listing::{self, Page};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::server::core::access;
use crate::server::handler::Handler;
use crate::server::message::{Request, Response};
use crate::store::StoredImage;

/// The images that the client may see.
pub(super) fn list(handler: &Handler, request: &Request, address: &Address) -> Response {
    found(handler, request, address).unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

fn found(handler: &Handler, request: &Request, address: &Address) -> Result<Response> {
    let filter = address.query("filter").map(str::parse::<Expression>).transpose()?;
    let (objects, trusted) = (is_recursive(address), request.is_trusted());
    let place = |fingerprint: &Fingerprint| json!(format!("/1.0/images/{fingerprint}"));
    if filter.is_none() && !objects {
        let mut fingerprints = access::list_fingerprints(handler, request);
        return listing::answer(handler, move || {
            let mut rows = Vec::new();
            let more = fingerprints.page(&mut |fingerprint| rows.push(place(fingerprint)))?;
            Ok(Page { rows, more })
        });
    }
    let mut images = access::list_images(handler, request)?;
    listing::answer(handler, move || {
        let mut rows = Vec::new();
        let more = images.page(&mut |image| {
            let value = seen(image, trusted)?;
            if filter.as_ref().is_none_or(|filter| filter.holds(&value)) {
                rows.push(if objects { value } else { place(&image.fingerprint) });
            }
            Ok(())
        })?;
        Ok(Page { rows, more })
    })
}

/// One image.
pub(super) fn get(handler: &Handler, request: &Request, address: &Address, fingerprint: &str) -> Response {
    let one = || -> Result<Response> {
        let image = access::find_image(handler, request, fingerprint, address.query("secret"))?;
        let etag = image.etag();
        if conditional::is_known(request, etag.as_str()) {
            return Ok(Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(etag.as_str())));
        }
        Ok(answer::object(seen(&image, request.is_trusted())?).with(header::ETAG, &quoted(etag.as_str())))
    };
    one().unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

/// Whether objects are wanted, and not only where they are.
pub(super) fn is_recursive(address: &Address) -> bool {
    address.query("recursion").is_some_and(|depth| depth != "0")
}

/// The image object of the API as a client may see it. Where an image came from is nobody's business but those who are trusted.
fn seen(image: &StoredImage, trusted: bool) -> Result<Value> {
    let mut object = object(image)?;
    if let (false, Some(fields)) = (trusted, object.as_object_mut()) {
        fields.remove("update_source");
    }
    Ok(object)
}

/// The image object of the API.
pub(in crate::server) fn object(image: &StoredImage) -> Result<Value> {
    serde_json::to_value(image).map_err(|error| Error::malformed("an image can't be told in JSON").with_source(error))
}

/// A tag as a header has it.
pub(in crate::server) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}
