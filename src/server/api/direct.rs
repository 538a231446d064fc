//! Direct import: the URL of an alias answers with the fingerprint and the URL of an image in
//! headers. Which image of the alias it is depends on the architectures that the client names in
//! its request. Everybody is treated as anonymous here: the client downloads the image without
//! showing a certificate.
//!
//! # The protocol
//!
//! `lxc image import URL` first sends `HEAD` to the URL, with the architectures of its server in
//! `LXD-Server-Architectures`. The response has `LXD-Image-Hash` and `LXD-Image-URL`; the client
//! then downloads from the second URL and verifies the hash. Incus has the same with its own names.
//! Here the response of `GET` has the image as its body as well, for `curl`.
//!
//! # Which image
//!
//! 1. The image of the alias, if its architecture is asked for, or if none is.
//! 2. The image of the alias with the architecture behind it: `debian/12` and `debian/12/arm64`.
//! 3. Another image of the same product: same operating system, release and variant.

use http::{HeaderName, HeaderValue, header};

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::metadata::Architecture;
use crate::protocol::direct::{ARCHITECTURES, Answer, architectures};
use crate::server::api::call::Call;
use crate::server::api::rest::export;
use crate::server::api::{answer, host};
use crate::server::core::access;
use crate::server::core::client::Client;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::server::web;
use crate::store::{Alias, StoredImage};

/// The request headers that determine the response.
///
/// A cache that ignored them would give an image to the wrong machine, or a page to a program.
const VARY: &str = "Accept, LXD-Server-Architectures, Incus-Server-Architectures";

/// `GET` of any path that no other route has: an alias, or 404. Importers get the fingerprint and
/// URL in headers and the image as the body; browsers are redirected to its page.
pub(crate) fn answer(server: &ServerState, call: Call<'_>) -> Response {
    let (request, alias) = (&call.request, call.parameter(0));
    let mut response = if web::wants(request) {
        // Browsing does not fetch images from the upstream.
        match find_local_public(server, alias) {
            Ok(Some(image)) => web::moved(&format!("/images/{}", image.fingerprint)),
            Ok(None) => web::not_found(server, request),
            Err(error) => web::failed(server, request, &error),
        }
    } else {
        import(server, request, alias).unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
    };
    response.headers.insert(header::VARY, HeaderValue::from_static(VARY));
    response
}

/// The response for an importer. A response of `export` that is an error is passed on without the
/// headers, so that no client follows them to an image that can't be read.
fn import(server: &ServerState, request: &Request, alias: &str) -> Result<Response> {
    let runs: Vec<Architecture> =
        ARCHITECTURES.iter().find_map(|name| request.header(*name)).map(architectures).unwrap_or_default();
    let image = choose(server, alias, &runs)?;
    // The URL must be absolute, as the client gives it to another program: its server.
    let base = host::base(server, request)?
        .ok_or_else(|| Error::invalid("the request names no host, so it can't be told where the image lies"))?;
    let url = format!("{base}/1.0/images/{}/export", image.fingerprint);
    let answer = Answer { fingerprint: image.fingerprint, url };
    let mut response = export::export(server, request, &image, true);
    if response.status.is_client_error() || response.status.is_server_error() {
        return Ok(response);
    }
    for (name, value) in answer.to_headers() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            response.headers.insert(name, value);
        }
    }
    Ok(response)
}

/// The image that an alias stands for on a machine of one of these architectures; without any, of any.
///
/// # Errors
/// `NotFound`, with similar names for an unknown alias, and with the architecture that there is for
/// one that has no other.
fn choose(server: &ServerState, alias: &str, runs: &[Architecture]) -> Result<StoredImage> {
    let fits = |image: &StoredImage| runs.is_empty() || runs.contains(&image.architecture);
    let own = find_public(server, alias)?;
    if let Some(image) = own.as_ref().filter(|image| fits(image)) {
        return require_unified(alias, image.clone());
    }
    let of_type = |image: &StoredImage| own.as_ref().is_none_or(|own| own.image_type == image.image_type);
    // An alias with the architecture behind it, as in public image trees: `debian/12/arm64`.
    for architecture in runs {
        for machine in [architecture.kernel_name(), architecture.debian_name()].iter().chain(architecture.aliases()) {
            let found = find_local_public(server, &format!("{alias}/{machine}"))?;
            if let Some(image) = found.filter(|image| image.architecture == *architecture && of_type(image)) {
                return require_unified(alias, image);
            }
        }
    }
    let Some(own) = own.as_ref() else {
        return Err(access::with_suggestions(&server.services, access::not_found(), alias));
    };
    // Another image of the same product: same system, release and variant.
    let known = |key| own.properties.get(key).is_some_and(|value| !value.is_empty());
    if known("os") && known("release") {
        let public = server.services.public_images()?;
        for architecture in runs {
            if let Some(fingerprint) = public.same_product(own, *architecture) {
                return access::find_local_image(&server.services, &Client::Untrusted, &fingerprint.to_string(), None);
            }
        }
    }
    let names: Vec<_> = runs.iter().map(|architecture| architecture.kernel_name()).collect();
    Err(Error::new(
        ErrorKind::NotFound,
        format!("`{}` is for {}, and not for {}", Escaped(alias.as_bytes()), own.architecture, names.join(", ")),
    ))
}

/// The image, if it is in one file: direct import has one URL and one hash.
///
/// # Errors
/// `NotFound` for a split image.
fn require_unified(alias: &str, image: StoredImage) -> Result<StoredImage> {
    if image.rootfs_size.is_none() {
        return Ok(image);
    }
    let alias = Escaped(alias.as_bytes());
    Err(Error::new(
        ErrorKind::NotFound,
        format!(
            "`{alias}` is an image in two files, which can't be imported by an address; add this server as a remote"
        ),
    ))
}

/// The public image of an alias, fetched from the upstream if need be.
fn find_public(server: &ServerState, alias: &str) -> Result<Option<StoredImage>> {
    optional(access::find_alias(&server.services, &Client::Untrusted, alias))
}

/// The public image of an alias, of those that are in the store.
fn find_local_public(server: &ServerState, alias: &str) -> Result<Option<StoredImage>> {
    optional(access::find_local_alias(&server.services, &Client::Untrusted, alias))
}

/// The image, or `None` where there is none, so that the search goes on.
fn optional(result: Result<(Alias, StoredImage)>) -> Result<Option<StoredImage>> {
    match result {
        Ok((_, image)) => Ok(Some(image)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
