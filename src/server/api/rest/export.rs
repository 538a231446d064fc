//! `GET /1.0/images/FINGERPRINT/export`: an image's bytes. A unified image as it is, whole or in
//! parts; a split one as a form of two files. Bytes that are not known to be right are hashed on
//! their way.
//!
//! # Damage
//!
//! The store verified every image when it came in; files may be damaged later. A file whose version
//! is known to be good is sent as it is. Any other one is hashed while it is sent, and its last
//! bytes are held back until the digest is right. A client never receives a damaged image
//! completely: the body ends early, and the connection is cut.
//!
//! Ranges can't be checked in this way, and neither can files of a blob store without versions; the
//! client verifies the whole, as clients of the peers do.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};

use super::images::quoted;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::io::Blob;
use crate::metadata::ImageType;
use crate::protocol::escape;
use crate::protocol::multipart::Form;
use crate::server::api::address::Address;
use crate::server::api::answer;
use crate::server::api::conditional::{self, Wanted};
use crate::server::core::access;
use crate::server::core::redirect;
use crate::server::core::verified;
use crate::server::message::{Body, Piece, Pieces, Request, Response};
use crate::server::state::ServerState;
use crate::store::{BlobKey, OpenedImage, StoredImage};

/// The bytes of an image, if the client may see it. An image of the upstream is fetched first,
/// which may take long: the response begins when all of it is in the store.
pub(super) fn get(server: &ServerState, request: &Request, address: &Address, fingerprint: &str) -> Response {
    match access::find_image(&server.services, &request.client, fingerprint, address.query("secret")) {
        Ok(image) => export(server, request, &image, !pins_certificate(request)),
        Err(error) => answer::error(&error, request.is_trusted()),
    }
}

/// Whether the client is one that checks all connections of the REST API against the certificate of this server, so that it
/// can't follow a redirect to another one. In their other protocols LXD and Incus check against the system's authorities.
fn pins_certificate(request: &Request) -> bool {
    request.header(header::USER_AGENT).is_some_and(|agent| agent.starts_with("LXD") || agent.starts_with("Incus"))
}

/// The bytes of an image, or a redirect to them where the client can follow one. The caller has checked that the client may
/// see it.
///
/// The image is marked as used, which keeps a cached one from being evicted.
pub(in crate::server) fn export(
    server: &ServerState,
    request: &Request,
    image: &StoredImage,
    follows: bool,
) -> Response {
    let etag = image.fingerprint.to_string();
    // Before the image is opened: the tag is the fingerprint, and needs no file.
    if conditional::is_known(request, &etag) {
        return Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(&etag));
    }
    let opened = match server.services.store.open_image(&image.fingerprint) {
        Ok(opened) => opened,
        Err(error) => return damaged(&error),
    };
    server.services.used(opened.image());
    if opened.files().1.is_none()
        && follows
        && let Ok(Some(address)) = elsewhere(server, request, &opened, &opened.image().objects.image)
    {
        return redirected(&address);
    }
    match body(server, request, &opened) {
        Ok(response) => response.with(header::ETAG, &quoted(&etag)),
        Err(error) => damaged(&error),
    }
}

/// The address to send the client to for the object `key` of an opened image; `None` to stream it.
///
/// # Errors
/// Those of the blob store's signing.
fn elsewhere(server: &ServerState, request: &Request, opened: &OpenedImage, key: &BlobKey) -> Result<Option<String>> {
    let Some(redirect) = &server.services.options.redirect else { return Ok(None) };
    if request.method != Method::GET || !server.services.verified.knows(&opened.image().fingerprint, opened.files()) {
        return Ok(None);
    }
    redirect::location(redirect, &server.services.store, key, request.secure)
}

/// The response that sends the client to another address for the same bytes. The address is a secret for as long as it
/// is valid, and a later request gets another one, so it must not be cached.
fn redirected(address: &str) -> Response {
    Response::new(StatusCode::TEMPORARY_REDIRECT)
        .with(header::LOCATION, address)
        .with(header::CACHE_CONTROL, "no-store")
}

/// The body for an opened image.
///
/// # Errors
/// Those of reading the names of its files.
fn body(server: &ServerState, request: &Request, opened: &OpenedImage) -> Result<Response> {
    let image = opened.image();
    let names = server.services.store.file_names(opened)?;
    let name = |index: usize| names.get(index).map_or("image", String::as_str);
    let (first, rootfs) = opened.files();
    let Some(rootfs) = rootfs else {
        let etag = image.fingerprint.to_string();
        let response = in_parts(request, first, image.size, &etag, |pieces| checked(server, opened, pieces));
        return Ok(response.with(header::CONTENT_DISPOSITION, &disposition(name(0))));
    };
    let form = Form::new(boundary(&image.fingerprint));
    // Field names of LXD: the client decides by them whether the image is a container's.
    let field = match image.image_type {
        ImageType::Container => "rootfs",
        ImageType::VirtualMachine => "rootfs.img",
    };
    let pieces = Pieces::new(vec![
        Piece::Bytes(form.head(true, "metadata", name(0))),
        Piece::Stored { blob: first.clone(), offset: 0, length: image.first_size() },
        Piece::Bytes(form.head(false, field, name(1))),
        Piece::Stored { blob: rootfs.clone(), offset: 0, length: image.rootfs_size.unwrap_or(0) },
        Piece::Bytes(form.tail()),
    ]);
    let mut response = Response::new(StatusCode::OK).with(header::CONTENT_TYPE, &form.content_type());
    response.body = Body::Pieces(checked(server, opened, pieces));
    Ok(response)
}

/// One file, or the range of it that the client requests.
fn in_parts(
    request: &Request,
    blob: &Blob,
    total: u64,
    etag: &str,
    checked: impl FnOnce(Pieces) -> Pieces,
) -> Response {
    // The file stays open in the piece, so a deletion during the download does not cut it.
    let piece = |offset, length| Pieces::new(vec![Piece::Stored { blob: blob.clone(), offset, length }]);
    let mut response = match conditional::wanted(request, etag, total) {
        Wanted::Nothing => {
            let range = format!("bytes */{total}");
            return answer::failure(StatusCode::RANGE_NOT_SATISFIABLE, "there are no such bytes")
                .with(header::CONTENT_RANGE, &range);
        }
        Wanted::Part { from, length } => {
            let range = format!("bytes {from}-{}/{total}", from + length - 1);
            let mut response = Response::new(StatusCode::PARTIAL_CONTENT).with(header::CONTENT_RANGE, &range);
            // There is no digest of a range; a client that joins ranges verifies the whole.
            let part = piece(from, length);
            response.body = Body::Pieces(if length == total { checked(part) } else { part });
            response
        }
        Wanted::Whole => {
            let mut response = Response::new(StatusCode::OK);
            response.body = Body::Pieces(checked(piece(0, total)));
            response
        }
    };
    response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

/// One of the files of a split image, with its own digest.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) enum Part {
    /// The metadata.
    First(Fingerprint),
    /// The rootfs.
    Rootfs(Fingerprint),
}

/// The bytes of one file of a split image. The caller has checked that the client may see it.
pub(in crate::server) fn part(
    server: &ServerState,
    request: &Request,
    image: &StoredImage,
    part: Part,
    name: &str,
) -> Response {
    let (Part::First(sha256) | Part::Rootfs(sha256)) = part;
    let etag = sha256.to_string();
    if conditional::is_known(request, &etag) {
        return Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(&etag));
    }
    let one = || -> Result<Response> {
        let opened = server.services.store.open_image(&image.fingerprint)?;
        server.services.used(opened.image());
        let (first, rootfs) = opened.files();
        let (wanted, length) = match part {
            Part::First(_) => (first, opened.image().first_size()),
            Part::Rootfs(_) => (rootfs.ok_or_else(access::not_found)?, opened.image().rootfs_size.unwrap_or(0)),
        };
        let objects = &opened.image().objects;
        let key = match part {
            Part::First(_) => Some(&objects.image),
            Part::Rootfs(_) => objects.rootfs.as_ref(),
        };
        // If signing fails, the bytes can still be streamed.
        if let Some(key) = key
            && let Ok(Some(address)) = elsewhere(server, request, &opened, key)
        {
            return Ok(redirected(&address));
        }
        let whole = server.services.verified.knows(&opened.image().fingerprint, opened.files());
        let response = in_parts(request, wanted, length, &etag, |pieces| {
            if whole { pieces } else { hashed(server, sha256, (wanted, None), pieces) }
        });
        Ok(response.with(header::CONTENT_DISPOSITION, &disposition(name)).with(header::ETAG, &quoted(&etag)))
    };
    one().unwrap_or_else(|error| damaged(&error))
}

/// Lets the bytes of an image be hashed while they are sent, unless its files were verified before.
fn checked(server: &ServerState, opened: &OpenedImage, pieces: Pieces) -> Pieces {
    hashed(server, opened.image().fingerprint, opened.files(), pieces)
}

/// Lets the bytes of these files be hashed while they are sent, and remembers them if they are
/// right.
fn hashed(server: &ServerState, fingerprint: Fingerprint, files: (&Blob, Option<&Blob>), pieces: Pieces) -> Pieces {
    if server.services.verified.knows(&fingerprint, files) {
        return pieces;
    }
    // Taken before the bytes are read. Without versions nothing could be remembered, and every
    // request would pay for a digest; the client verifies its download then.
    let Some(state) = verified::state(files) else { return pieces };
    let verified = Arc::clone(&server.services.verified);
    pieces.checked(Box::new(move |found| {
        if found == fingerprint {
            verified.remember(fingerprint, state.clone());
        }
        found == fingerprint
    }))
}

/// The boundary of a form. It is derived from the digest of all the bytes, so that no image can contain its own.
fn boundary(fingerprint: &Fingerprint) -> String {
    Fingerprint::of(format!("boundary of {fingerprint}").as_bytes()).to_string().chars().take(48).collect()
}

/// `Content-Disposition` with a file name, encoded by RFC 5987 where it needs to be.
pub(in crate::server) fn disposition(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+');
    if name.bytes().all(plain) {
        return format!("inline;filename={name}");
    }
    format!("inline;filename*=UTF-8''{}", escape::segment(name))
}

/// The response for an image that can't be opened: deleted meanwhile, or damaged.
fn damaged(error: &Error) -> Response {
    if error.kind() == ErrorKind::NotFound {
        return answer::not_found();
    }
    answer::failure(StatusCode::INTERNAL_SERVER_ERROR, "the image can't be read here")
}
