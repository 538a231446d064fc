//! The public images of the store as a simplestreams tree: index, products and files, made when
//! they are asked for. Items have the names of both peers, and files are where a static tree has
//! them.
//!
//! # Data flow
//!
//! 1. A request for `index.json` or `images.json` compares the catalog's version with that of the
//!    documents that were made last. If it is the same, they are the answer.
//! 2. Otherwise the digest of the public images is computed. If it is that of the documents, only
//!    private images changed, and the documents stay.
//! 3. Otherwise the list is made: `list` groups images into products, `digests` reads the files of
//!    split images, whose digests the store does not have, and `documents` writes and keeps the
//!    text.
//!
//! # Why it is not a static tree
//!
//! A tree on disk would need an exporter and twice the space. Made on demand, the list is right as
//! soon as an image is public, and no file of a private image is ever at an address that somebody
//! can guess.
//!
//! # Limits
//!
//! A list of up to 20,000 images is made from the index of public images. A longer one is made by
//! one request at a time ([`Turn`]), page by page; other requests wait for it, 30 seconds at most,
//! and are then answered with 503 and `Retry-After`, while the work goes on.

mod bundles;
mod digests;
mod documents;
pub(crate) mod kept;
mod list;
pub(crate) mod names;
mod signed;
mod turn;

use std::borrow::Cow;
use std::slice;
use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use self::digests::Split;
use self::documents::{Documents, ListWriter};
use self::list::Listed;
use self::names::{METADATA, UNIFIED, rootfs_ending};
use self::signed::{is_signed_form, signed_form};
use super::answer;
use super::conditional;
use super::rest::export;
use super::rest::quoted;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::protocol::simplestreams::STATEMENTS_TYPE;
use crate::server::core::access;
use crate::server::core::client::Client;
use crate::server::core::public::ListedDigest;
use crate::server::message::{Body, Piece, Pieces, Request, Response};
use crate::server::state::ServerState;
use crate::store::{ImageQuery, StoredImage};
use crate::time;

/// Seconds after which a client may ask again for a list that is still being made.
const AGAIN: &str = "10";

/// `GET /streams/v1/…`.
///
/// `rest` is what follows `/streams/v1` in the path. Everybody gets the same documents, trusted or
/// not, so that they can be cached.
pub(crate) fn route(server: &ServerState, request: &Request, rest: &[&str]) -> Response {
    let one = || -> Result<Response> {
        let signers = &server.services.options.signers;
        let documents = match rest {
            ["index.json" | "images.json"] => documents(server)?,
            [name] if !signers.is_empty() && is_signed_form(name) => {
                let documents = documents(server)?;
                let form = signed_form(&documents, name, signers, server.services.store.now())?;
                return Ok(document(request, &documents, slice::from_ref(&form), true));
            }
            _ => return Err(access::not_found()),
        };
        let chunks = if rest == ["index.json"] { slice::from_ref(&documents.index) } else { &documents.images };
        Ok(document(request, &documents, chunks, !signers.is_empty()))
    };
    one().unwrap_or_else(|error| failed(&error, request))
}

/// The file of an image that an item of the list names, if `name` is that of one: `GET /images/FINGERPRINT.ENDING`.
///
/// `None` if `name` is no file name, so that the caller tries a page. A name of the right form
/// whose image is missing or private is a 404.
pub(crate) fn file(server: &ServerState, request: &Request, name: &str) -> Option<Response> {
    let (digits, ending) = name.split_at_checked(64)?;
    let ending = ending.strip_prefix('.')?;
    digits.parse::<Fingerprint>().ok()?;
    let one = || -> Result<Response> {
        let image = access::find_local_image(&server.services, &Client::Untrusted, digits, None)?;
        if ending == STATEMENTS_TYPE {
            return bundle(server, request, &image);
        }
        if image.rootfs_size.is_none() {
            return if ending == UNIFIED {
                Ok(export::export(server, request, &image, true))
            } else {
                Err(access::not_found())
            };
        }
        let parts =
            server.streams.digests.of(&server.services.store, &server.services.verified, &[Split::from(&image)])?;
        let parts = parts.get(&image.fingerprint).ok_or_else(access::not_found)?;
        let part = match ending {
            METADATA => export::Part::First(parts.first),
            other if other == rootfs_ending(parts.kind) => export::Part::Rootfs(parts.rootfs),
            _ => return Err(access::not_found()),
        };
        Ok(export::part(server, request, &image, part, name))
    };
    Some(one().unwrap_or_else(|error| failed(&error, request)))
}

/// The bundle of an image that everybody may see. Its tag is the digest of its text.
fn bundle(server: &ServerState, request: &Request, image: &StoredImage) -> Result<Response> {
    let text = server.services.store.bundle(&image.fingerprint)?;
    if text.is_empty() {
        return Err(access::not_found());
    }
    let etag = Fingerprint::of(text.as_bytes()).to_string();
    if conditional::is_known(request, &etag) {
        return Ok(Response::new(StatusCode::NOT_MODIFIED).with(header::ETAG, &quoted(&etag)));
    }
    let response = Response::text(StatusCode::OK, "application/jsonl", text);
    Ok(response.with(header::ETAG, &quoted(&etag)))
}

/// The documents for the images that are public now: kept ones, or new ones.
///
/// # Errors
/// Those of reading the catalog; `Busy` while files are read or another request makes the list.
fn documents(server: &ServerState) -> Result<Arc<Documents>> {
    let newest = &server.streams.newest;
    // Read before the images: what is made may be newer than this says, and never older.
    let version = server.services.store.version();
    if let Some(documents) = newest.of_version(version) {
        return Ok(documents);
    }
    let public = server.services.public_images()?;
    if let Some(documents) = newest.get(&public.digest(), version) {
        return Ok(documents);
    }
    if let Some(images) = public.whole() {
        let listed: Vec<Listed> = images.iter().map(Listed::of).collect();
        // They are in the order of their fingerprints.
        return make(server, (public.digest(), version), &listed, &mut |fingerprint| {
            let found = images.binary_search_by(|image| image.fingerprint.cmp(fingerprint));
            Ok(found.ok().and_then(|index| images.get(index)).map(Cow::Borrowed))
        });
    }
    // The index need not stay in memory while this request waits for its turn.
    drop(public);
    // A list of so many images is made by one request at a time; the others have what it makes.
    let _turn = server.streams.turn.take()?;
    let version = server.services.store.version();
    if let Some(documents) = newest.of_version(version) {
        return Ok(documents);
    }
    let (digest, listed) = collect(server)?;
    if let Some(documents) = newest.get(&digest, version) {
        return Ok(documents);
    }
    make(server, (digest, version), &listed, &mut |fingerprint| match server.services.store.image(fingerprint) {
        Ok(image) => Ok(Some(Cow::Owned(image))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // A damaged row hides no other. With any other error the list would lack an image that is well, and be kept.
        Err(error) if error.kind() == ErrorKind::Malformed => {
            server.services.notes.skipped(&fingerprint.to_string(), &error);
            Ok(None)
        }
        Err(error) => Err(error),
    })
}

/// What places all public images in the list, read page by page, and the digest of what lists tell of them.
///
/// Used for long lists, where the index has no whole images.
fn collect(server: &ServerState) -> Result<(Fingerprint, Vec<Listed>)> {
    let (mut digest, mut listed) = (ListedDigest::default(), Vec::new());
    let mut add = |image: StoredImage| {
        digest.add(&image);
        listed.push(Listed::of(&image));
        Ok(())
    };
    let query = ImageQuery::new().public(true);
    server.services.store.for_each(&query, &mut add, &mut |name, error| server.services.notes.skipped(name, error))?;
    Ok((digest.finish(), listed))
}

/// Makes the list of these images, of this digest, which are those of this version of the catalog or newer.
///
/// `get` returns the image of a fingerprint as it is now.
fn make<'a>(
    server: &ServerState,
    state: (Fingerprint, Option<u64>),
    listed: &[Listed],
    get: &mut dyn FnMut(&Fingerprint) -> Result<Option<Cow<'a, StoredImage>>>,
) -> Result<Arc<Documents>> {
    let digests = &server.streams.digests;
    let split: Vec<Split> = listed.iter().filter_map(Listed::split).collect();
    let parts = digests.of(&server.services.store, &server.services.verified, &split)?;
    // Forgets the digests of images that are gone, or the map would grow with every build of an
    // image.
    digests.keep(&split);
    let stated = server.services.store.stated()?;
    let bundles = &server.streams.bundles;
    bundles.keep(&stated);
    let mut list = ListWriter::default();
    let mut skipped = |fingerprint: &Fingerprint, error: &Error| {
        server.services.notes.skipped(&fingerprint.to_string(), error);
    };
    let mut statements = |image: &StoredImage| {
        if !stated.contains(&image.fingerprint) {
            return Ok(None);
        }
        match bundles.file(&server.services.store, image) {
            // A damaged statement does not hide its image; clients that need it refuse the image.
            Err(error) if error.kind() == ErrorKind::Malformed => {
                server.services.notes.skipped(&format!("the statements about {}", image.fingerprint), &error);
                Ok(None)
            }
            file => file.map(Some),
        }
    };
    let mut sources = list::Sources { parts: &parts, image: get, statements: &mut statements };
    list::products(listed, &mut sources, &mut skipped, &mut |key, product| list.write(key, product))?;
    let whole = digests.are_settled(&split);
    Ok(server.streams.newest.set(state, whole, list, server.services.store.now()))
}

fn document(request: &Request, documents: &Documents, chunks: &[Arc<[u8]>], is_signed: bool) -> Response {
    // The same list has another date after a restart, so its tag does not go for every byte. Signatures cover the date: with
    // them a document and the signature beside it must change together.
    let etag = if is_signed { format!("{}-{}", documents.tag, documents.updated) } else { documents.tag.to_string() };
    let known = match request.header(header::IF_NONE_MATCH) {
        Some(list) => conditional::names(list, &etag),
        None => request
            .header(header::IF_MODIFIED_SINCE)
            .and_then(time::from_http_date)
            .is_some_and(|since| documents.updated <= since),
    };
    let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = Response::new(status)
        .with(header::ETAG, &format!("W/{}", quoted(&etag)))
        .with(header::LAST_MODIFIED, &time::to_http_date(documents.updated));
    if !known {
        response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.body =
            Body::Pieces(Pieces::new(chunks.iter().map(|chunk| Piece::Shared(Arc::clone(chunk))).collect()));
    }
    response
}

/// The response for an error, with a time to try again if the list is still being made.
fn failed(error: &Error, request: &Request) -> Response {
    let response = answer::error(error, request.is_trusted());
    if error.kind() == ErrorKind::Busy { response.with(header::RETRY_AFTER, AGAIN) } else { response }
}
