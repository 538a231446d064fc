//! The same store as a simplestreams tree: index, products and files, made of the public images when they are asked for.
//! Items have the names of both peers, and files lie where a static tree has them.

mod digests;
mod documents;
mod list;
mod turn;

use std::borrow::Cow;
use std::slice;
use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use self::digests::{Digests, Split};
use self::documents::{Documents, ListWriter, Newest};
use self::list::Listed;
use self::turn::Turn;
use super::answer;
use super::conditional;
use super::rest::export;
use super::rest::quoted;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::Container;
use crate::protocol::simplestreams::RootKind;
use crate::server::core::access;
use crate::server::core::public::{self, ListedDigest};
use crate::server::handler::Handler;
use crate::server::message::{Body, Piece, Pieces, Request, Response};
use crate::store::{ImageQuery, StoredImage};
use crate::time;

/// What was made of the store for readers of simplestreams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    digests: Digests,
    newest: Newest,
    turn: Turn,
}

/// Seconds after which a client may ask again for a list that is still being made.
const AGAIN: &str = "10";

/// `GET /streams/v1/…`.
pub(crate) fn route(handler: &Handler, request: &Request, rest: &[&str]) -> Response {
    let one = || -> Result<Response> {
        let documents = match rest {
            ["index.json" | "images.json"] => documents(handler)?,
            _ => return Err(access::not_found()),
        };
        let chunks = if rest == ["index.json"] { slice::from_ref(&documents.index) } else { &documents.images };
        Ok(document(request, &documents, chunks))
    };
    one().unwrap_or_else(|error| failed(&error, request))
}

/// The file of an image that an item of the list names, if `name` is that of one: `GET /images/FINGERPRINT.ENDING`.
pub(crate) fn file(handler: &Handler, request: &Request, name: &str) -> Option<Response> {
    let (digits, ending) = name.split_at_checked(64)?;
    let ending = ending.strip_prefix('.')?;
    digits.parse::<Fingerprint>().ok()?;
    let one = || -> Result<Response> {
        let image = access::find_local_image(handler, &access::anonymous(), digits, None)?;
        if image.rootfs_size.is_none() {
            return if ending == UNIFIED {
                Ok(export::export(handler, request, &image))
            } else {
                Err(access::not_found())
            };
        }
        let parts = handler.streams.digests.of(&handler.store, &handler.verified, &[Split::from(&image)])?;
        let parts = parts.get(&image.fingerprint).ok_or_else(access::not_found)?;
        let part = match ending {
            METADATA => export::Part::First(parts.first),
            other if other == rootfs_ending(parts.kind) => export::Part::Rootfs(parts.rootfs),
            _ => return Err(access::not_found()),
        };
        Ok(export::part(handler, request, &image, part, name))
    };
    Some(one().unwrap_or_else(|error| failed(&error, request)))
}

/// The list as it is for the images that are public now.
fn documents(handler: &Handler) -> Result<Arc<Documents>> {
    let newest = &handler.streams.newest;
    // Read before the images: what is made may be newer than this says, and never older.
    let version = handler.store.version();
    if let Some(documents) = newest.of_version(version) {
        return Ok(documents);
    }
    let public = public::now(handler)?;
    if let Some(documents) = newest.get(&public.digest(), version) {
        return Ok(documents);
    }
    if let Some(images) = public.whole() {
        let listed: Vec<Listed> = images.iter().map(Listed::of).collect();
        // They are in the order of their fingerprints.
        return make(handler, (public.digest(), version), &listed, &mut |fingerprint| {
            let found = images.binary_search_by(|image| image.fingerprint.cmp(fingerprint));
            Ok(found.ok().and_then(|index| images.get(index)).map(Cow::Borrowed))
        });
    }
    drop(public);
    // A list of so many images is made by one request at a time; the others have what it makes.
    let _turn = handler.streams.turn.take()?;
    let version = handler.store.version();
    if let Some(documents) = newest.of_version(version) {
        return Ok(documents);
    }
    let (digest, listed) = collect(handler)?;
    if let Some(documents) = newest.get(&digest, version) {
        return Ok(documents);
    }
    make(handler, (digest, version), &listed, &mut |fingerprint| match handler.store.image(fingerprint) {
        Ok(image) => Ok(Some(Cow::Owned(image))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // A damaged row hides no other. With any other error the list would lack an image that is well, and be kept.
        Err(error) if error.kind() == ErrorKind::Malformed => {
            handler.notes.skipped(&fingerprint.to_string(), &error);
            Ok(None)
        }
        Err(error) => Err(error),
    })
}

/// What places all public images in the list, read page by page, and the digest of what lists tell of them.
fn collect(handler: &Handler) -> Result<(Fingerprint, Vec<Listed>)> {
    let (mut digest, mut listed) = (ListedDigest::default(), Vec::new());
    let mut add = |image: StoredImage| {
        digest.add(&image);
        listed.push(Listed::of(&image));
        Ok(())
    };
    let query = ImageQuery::new().public(true);
    handler.store.for_each(&query, &mut add, &mut |name, error| handler.notes.skipped(name, error))?;
    Ok((digest.finish(), listed))
}

/// Makes the list of these images, of this digest, which are those of this version of the catalog or newer.
fn make<'a>(
    handler: &Handler,
    state: (Fingerprint, Option<u64>),
    listed: &[Listed],
    get: &mut dyn FnMut(&Fingerprint) -> Result<Option<Cow<'a, StoredImage>>>,
) -> Result<Arc<Documents>> {
    let digests = &handler.streams.digests;
    let split: Vec<Split> = listed.iter().filter_map(Listed::split).collect();
    let parts = digests.of(&handler.store, &handler.verified, &split)?;
    digests.keep(&split);
    let mut list = ListWriter::default();
    let mut skipped = |fingerprint: &Fingerprint, error: &Error| {
        handler.notes.skipped(&fingerprint.to_string(), error);
    };
    list::products(listed, &parts, get, &mut skipped, &mut |key, product| list.write(key, product))?;
    let whole = digests.are_settled(&split);
    Ok(handler.streams.newest.set(state, whole, list, handler.store.now()))
}

fn document(request: &Request, documents: &Documents, chunks: &[Arc<[u8]>]) -> Response {
    // The same list has another date after a restart, so its tag does not go for every byte.
    let etag = documents.tag.to_string();
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

fn failed(error: &Error, request: &Request) -> Response {
    let response = answer::error(error, request.is_trusted());
    if error.kind() == ErrorKind::Busy { response.with(header::RETRY_AFTER, AGAIN) } else { response }
}

/// How the names of files end: as in the trees of static files that `incus-simplestreams` and this library make.
const UNIFIED: &str = "incus_combined.tar.gz";
const METADATA: &str = "incus.tar.xz";

/// Where the metadata file of an image in two files lies.
pub(crate) fn metadata_path(fingerprint: &Fingerprint) -> String {
    format!("/images/{fingerprint}.{METADATA}")
}

/// Where its rootfs file lies, which is this.
pub(crate) fn rootfs_path(fingerprint: &Fingerprint, container: Container) -> String {
    format!("/images/{fingerprint}.{}", rootfs_ending(root_kind(container)))
}

/// What readers of lists call a rootfs.
const fn root_kind(container: Container) -> RootKind {
    match container {
        Container::SquashFs => RootKind::Squashfs,
        // Whatever it is compressed with: readers look at the bytes.
        Container::Tar(_) => RootKind::Tar,
        Container::Qcow2 => RootKind::DiskKvm,
    }
}

const fn rootfs_ending(kind: RootKind) -> &'static str {
    match kind {
        RootKind::Squashfs => "squashfs",
        RootKind::Tar => "root.tar.xz",
        RootKind::DiskKvm | RootKind::Disk1 | RootKind::Uefi1 => "qcow2",
    }
}
