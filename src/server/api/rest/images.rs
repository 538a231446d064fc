//! `GET /1.0/images` and `GET /1.0/images/FINGERPRINT`: paths or objects of images, filtered, with
//! the tags that edits are based on. Lists are made page by page.

use http::{StatusCode, header};
use serde_json::{Value, json};

use super::super::address::Address;
use super::super::{answer, conditional};
use super::filter::Expression;
use super::listing::{self, Page};
use super::statements;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::server::core::access;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::StoredImage;

/// The images that the client may see: with `?recursion=1` as objects, otherwise as paths; with
/// `?filter=` those for which the filter holds.
pub(super) fn list(server: &ServerState, request: &Request, address: &Address) -> Response {
    found(server, request, address).unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

/// [`list`] with its errors.
fn found(server: &ServerState, request: &Request, address: &Address) -> Result<Response> {
    let filter = address.query("filter").map(str::parse::<Expression>).transpose()?;
    let all_projects = match address.query("all-projects") {
        None | Some("" | "false" | "0") => false,
        Some("true" | "1") if address.query("project").is_some() => {
            return Err(Error::invalid("`all-projects` and `project` exclude each other"));
        }
        Some("true" | "1") => true,
        Some(_) => return Err(Error::invalid("`all-projects` is true or false")),
    };
    let (objects, trusted) = (is_recursive(address), request.is_trusted());
    let place = |fingerprint: &Fingerprint| json!(format!("/1.0/images/{fingerprint}"));
    // The most common list needs no row at all.
    if filter.is_none() && !objects {
        let mut fingerprints = access::list_fingerprints(&server.services, &request.client);
        return listing::answer(server, move || {
            let mut rows = Vec::new();
            let more = fingerprints.page(&mut |fingerprint| rows.push(place(fingerprint)))?;
            Ok(Page { rows, more })
        });
    }
    let mut images = access::list_images(&server.services, &request.client)?;
    listing::answer(server, move || {
        let mut rows = Vec::new();
        let more = images.page(&mut |image| {
            // The filter sees what the client sees: it could find out hidden fields otherwise.
            let mut value = seen(image, trusted)?;
            if all_projects {
                // There is one; a list over all of them says so, as on the peers.
                value["project"] = json!("default");
            }
            if filter.as_ref().is_none_or(|filter| filter.holds(&value)) {
                rows.push(if objects { value } else { place(&image.fingerprint) });
            }
            Ok(())
        })?;
        Ok(Page { rows, more })
    })
}

/// One image, or 304 if the client has its current state. A download token in `?secret=` shows the
/// private image that it was issued for.
pub(super) fn get(server: &ServerState, request: &Request, address: &Address, fingerprint: &str) -> Response {
    let one = || -> Result<Response> {
        let image = access::find_image(&server.services, &request.client, fingerprint, address.query("secret"))?;
        let etag = image.etag();
        if conditional::is_known(request, etag.as_str()) {
            return Ok(Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(etag.as_str())));
        }
        let mut object = seen(&image, request.is_trusted())?;
        statements::add_count(server, &image, &mut object)?;
        Ok(answer::object(object).with(header::ETAG, &quoted(etag.as_str())))
    };
    one().unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

/// Whether objects are wanted instead of paths. The peers know depths of 1 and 2; images have no
/// second.
pub(super) fn is_recursive(address: &Address) -> bool {
    address.query("recursion").is_some_and(|depth| depth != "0")
}

/// The image object of the API as a client may see it. The source of an image may name internal
/// servers, so only trusted clients see it.
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

/// A tag as it is written into a header (RFC 9110, section 8.8.3).
pub(in crate::server) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}
