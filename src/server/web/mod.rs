//! The web pages: the list of public images with a search, a page for each image, and the commands to use it. Plain
//! HTML without scripts; texts of images are untrusted and always escaped. Everybody sees the same pages, trusted or
//! not.
//!
//! # Safety
//!
//! - No scripts, no cookies, no forms that change something. The policy in the headers forbids
//!   browsers to run or load anything that the server did not send.
//! - Every value in a page is escaped by the template engine; characters that are invisible or
//!   change the direction of text are replaced (`text`), as escaping does not help against them.
//! - Commands quote every word for a shell (`commands`), since people paste them.
//! - Pages contain public images only, also for trusted clients: an administrator who publishes a
//!   screenshot or a saved page reveals nothing, and pages can be cached.
//!
//! # Parts
//!
//! `index` and `image` collect the values of a page, `search` selects images, `commands` and `text`
//! format values, and `render` fills the templates.

// All functions of the route table have one signature, and those of uploads consume the request.
#![allow(clippy::needless_pass_by_value)]

mod commands;
mod image;
mod index;
mod render;
mod search;
mod site;
mod text;

use http::{HeaderValue, StatusCode, header};

use crate::error::{Error, ErrorKind};
use crate::server::api::call::Call;
use crate::server::api::rest::{self, quoted};
use crate::server::api::{answer, conditional, host};
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;

use self::commands::Remote;
use self::site::Site;

/// Whether the request comes from a browser: it accepts HTML, which clients of the API do not ask for.
///
/// Browsers name `text/html` in `Accept`; the clients of the peers and `curl` do not.
pub(crate) fn wants(request: &Request) -> bool {
    request.header(header::ACCEPT).is_some_and(|accept| accept.contains("text/html"))
}

/// `GET /`, with `?q=` and other choices: the images. To clients of the API, which don't ask for HTML, its versions.
pub(crate) fn index(server: &ServerState, call: Call<'_>) -> Response {
    if !wants(&call.request) {
        return rest::versions();
    }
    shown(server, &call.request, |site| index::page(server, site, call.address))
}

/// `GET /images/FINGERPRINT`: one image.
pub(crate) fn image(server: &ServerState, call: Call<'_>) -> Response {
    shown(server, &call.request, |site| image::page(server, site, call.parameter(0)))
}

/// `GET /static/NAME`: style and pictures.
pub(crate) fn asset(_: &ServerState, call: Call<'_>) -> Response {
    let request = &call.request;
    let Some((content_type, text, tag)) = render::asset(call.parameter(0)) else { return answer::not_found() };
    let mut response = if conditional::is_known(request, tag) {
        Response::new(StatusCode::NOT_MODIFIED)
    } else {
        Response::text(StatusCode::OK, content_type, text)
    };
    response.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Pages name an asset with its digest, so that it may be kept.
    response.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000"));
    response.with(header::ETAG, &quoted(tag))
}

/// A redirect to another path of this server. The method becomes `GET` (RFC 9110, section 15.4.4).
pub(crate) fn moved(path: &str) -> Response {
    Response::new(StatusCode::SEE_OTHER).with(header::LOCATION, path)
}

/// The page of what does not exist or is private: both are the same.
pub(crate) fn not_found(server: &ServerState, request: &Request) -> Response {
    let site = site(server, request).unwrap_or_default();
    render::problem(&site, StatusCode::NOT_FOUND, "Not found", "There is no image and no page at this address.")
}

/// The page of an error.
///
/// Details are left out: pages are for people who can't repair the server.
pub(crate) fn failed(server: &ServerState, request: &Request, error: &Error) -> Response {
    // One page for everything that is hidden or missing.
    if error.kind() == ErrorKind::NotFound {
        return not_found(server, request);
    }
    let status = answer::status_of(error);
    let site = site(server, request).unwrap_or_default();
    if status.is_server_error() {
        let sentence = "The server can’t show this page now. Please try again later.";
        return answer::again(error, render::problem(&site, status, "Not now", sentence));
    }
    render::problem(&site, status, "Not understood", "The server can’t make sense of this request.")
}

/// The values about the server, for this request.
///
/// # Errors
/// `InvalidInput` for a request with an invalid host.
fn site(server: &ServerState, request: &Request) -> Result<Site, Error> {
    let url = host::base(server, request)?;
    let remote = Remote::at(url.as_deref());
    let name = server.services.options.name.as_deref().map_or_else(|| remote.host().to_owned(), text::visible);
    Ok(Site { name, remote })
}

/// A page, or the page of its error.
fn shown(server: &ServerState, request: &Request, page: impl FnOnce(&Site) -> Result<Response, Error>) -> Response {
    site(server, request).and_then(|site| page(&site)).unwrap_or_else(|error| failed(server, request, &error))
}
