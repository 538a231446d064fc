//! Access control: which images and aliases a client sees. Every lookup on behalf of a client goes through here, so
//! that to an untrusted client a private image is indistinguishable from a missing one: same error, same lists, same
//! work.
//!
//! A single image or alias that the store lacks is looked for at the upstream, if there is one. Lists are of the store
//! only, and come in pages.

use std::sync::Arc;

use super::notes::Notes;
use super::public::{self, PublicImages};
use super::transfer::ImageTransfer;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::metadata::ImageType;
use crate::server::handler::Handler;
use crate::server::message::Request;
use crate::store::{Alias, AliasQuery, AliasTarget, ImageQuery, Store, StoredImage};

/// Images of one prefix that are examined. Fingerprints are digests: so many never share four digits by chance.
const MAX_CANDIDATES: usize = 1_000;

/// How many images or aliases one page of a list has.
pub(crate) const PAGE: usize = 1_000;

/// An anonymous client's request, to find what everybody may see: pages and direct import show the same to all clients.
pub(crate) fn anonymous() -> Request {
    Request::new(http::Method::GET, http::Uri::from_static("/"))
}

/// All images that the client may see, in the order of their fingerprints.
pub(crate) fn list_images(handler: &Handler, request: &Request) -> Result<Images> {
    if !request.is_trusted() {
        let public = public::now(handler)?;
        // Not for longer lists: whoever reads one slowly would keep all of it in memory.
        if public.whole().is_some_and(|whole| whole.len() <= PAGE) {
            return Ok(Images::Kept(public));
        }
    }
    let query = visible(request);
    let (store, notes) = (handler.store.clone(), Arc::clone(&handler.notes));
    Ok(Images::Stored(Box::new(StoredImages { store, query, notes })))
}

/// Images that come in pages: those that are kept for everybody, or read for this request.
#[derive(Debug)]
pub(crate) enum Images {
    /// Kept for everybody, on one page.
    Kept(Arc<PublicImages>),
    /// Read for this request; the next page is this.
    Stored(Box<StoredImages>),
}

/// Images as a query finds them.
#[derive(Debug)]
pub(crate) struct StoredImages {
    store: Store,
    query: ImageQuery,
    notes: Arc<Notes>,
}

impl Images {
    /// Gives the images of the next page to `each`; whether others follow. A row that can't be read is told to the log,
    /// and hides no other.
    pub(crate) fn page(&mut self, each: &mut dyn FnMut(&StoredImage) -> Result<()>) -> Result<bool> {
        match self {
            Self::Kept(public) => {
                public.whole().unwrap_or_default().iter().try_for_each(each)?;
                Ok(false)
            }
            Self::Stored(stored) => {
                let StoredImages { store, query, notes } = &mut **stored;
                let page = store.query(query)?;
                page.skipped.iter().for_each(|(name, error)| notes.skipped(name, error));
                page.images.iter().try_for_each(each)?;
                let more = page.next.is_some();
                query.after = page.next;
                Ok(more)
            }
        }
    }
}

/// The fingerprints of all images that the client may see, in ascending order.
pub(crate) fn list_fingerprints(handler: &Handler, request: &Request) -> Fingerprints {
    Fingerprints { store: handler.store.clone(), query: visible(request) }
}

/// The query for the first page of the images that the client may see.
fn visible(request: &Request) -> ImageQuery {
    let mut query = ImageQuery::new().limit(PAGE);
    query.public = (!request.is_trusted()).then_some(true);
    query
}

/// A list of fingerprints that is read in pages.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    store: Store,
    /// The query for the next page.
    query: ImageQuery,
}

impl Fingerprints {
    /// Passes the fingerprints of the next page to `each`, and returns whether more pages follow.
    ///
    /// Reads an index only, never the rows. An image with a damaged row is therefore included: a request for it returns an
    /// error that names the damage.
    pub(crate) fn page(&mut self, each: &mut dyn FnMut(&Fingerprint)) -> Result<bool> {
        let (fingerprints, next) = self.store.fingerprints(&self.query)?;
        fingerprints.iter().for_each(each);
        self.query.after = next;
        Ok(self.query.after.is_some())
    }
}

/// Finds the image whose fingerprint begins with `text`, four digits at least. `secret` is that of a download token,
/// which shows one private image. An image that the store lacks is fetched from the upstream, if there is one.
///
/// # Errors
/// `NotFound`, also for a text that is no beginning of a fingerprint, naming what may have been meant; `Ambiguous`; those of the
/// upstream.
pub(crate) fn find_image(
    handler: &Handler,
    request: &Request,
    text: &str,
    secret: Option<&str>,
) -> Result<StoredImage> {
    find_or_fetch(handler, request, text, secret).map_err(|error| with_suggestions(handler, error, text))
}

fn find_or_fetch(handler: &Handler, request: &Request, text: &str, secret: Option<&str>) -> Result<StoredImage> {
    let absent = match find_local_image(handler, request, text, secret) {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        found => return found,
    };
    let Some(fetch) = find_upstream(handler) else { return Err(absent) };
    let Ok(prefix) = text.parse::<FingerprintPrefix>() else { return Err(absent) };
    // The upstream is asked also when the store has a private image, or the time would tell that it does.
    match handler.upstream_cache.resolve(handler, fetch, prefix.as_str(), ImageType::Container)? {
        Some(fingerprint) if prefix.matches(&fingerprint) => fetch_upstream(handler, request, fetch, &fingerprint),
        _ => Err(absent),
    }
}

/// The transfer by which to fetch from the upstream, if there is one.
pub(crate) fn find_upstream(handler: &Handler) -> Option<&dyn ImageTransfer> {
    handler.options.image_transfer.as_deref().filter(|fetch| fetch.has_upstream())
}

/// Fetches an image of the upstream, if the client may see it: one that is in the store as a private image stays
/// private.
fn fetch_upstream(
    handler: &Handler,
    request: &Request,
    fetch: &dyn ImageTransfer,
    fingerprint: &Fingerprint,
) -> Result<StoredImage> {
    let image = handler.upstream_cache.fetch(handler, fetch, fingerprint)?;
    if image.public || request.is_trusted() { Ok(image) } else { Err(not_found()) }
}

/// As [`find_image`], without the upstream.
///
/// # Errors
/// `NotFound`, also for a text that is no fingerprint prefix; `Ambiguous`.
pub(crate) fn find_local_image(
    handler: &Handler,
    request: &Request,
    text: &str,
    secret: Option<&str>,
) -> Result<StoredImage> {
    let Ok(prefix) = text.parse::<FingerprintPrefix>() else { return Err(not_found()) };
    let candidates = match prefix.as_fingerprint() {
        Some(whole) => vec![whole],
        None => handler.store.with_prefix(&prefix, MAX_CANDIDATES)?,
    };
    let mut seen = None;
    for fingerprint in candidates {
        let image = match handler.store.image(&fingerprint) {
            Ok(image) => image,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let opened = || secret.is_some_and(|secret| handler.tokens.opens(&image.fingerprint, secret));
        if !(image.public || request.is_trusted() || opened()) {
            continue;
        }
        if seen.is_some() {
            return Err(Error::new(ErrorKind::Ambiguous, format!("`{prefix}` is the beginning of several images")));
        }
        seen = Some(image);
    }
    seen.ok_or_else(not_found)
}

/// Resolves an alias: of the store, or else of the upstream. Fetches nothing.
///
/// # Errors
/// `NotFound`; those of the upstream.
pub(crate) fn resolve_alias(
    handler: &Handler,
    request: &Request,
    name: &str,
) -> Result<(Alias, Fingerprint, ImageType)> {
    let found = match find_local_alias(handler, request, name) {
        Ok((alias, image)) => Ok((alias, image.fingerprint, image.image_type)),
        Err(error) if error.kind() == ErrorKind::NotFound => resolve_upstream_alias(handler, name),
        Err(error) => Err(error),
    };
    found.map_err(|error| with_suggestions(handler, error, name))
}

/// Resolves an alias at the upstream that the client does not see in the store.
fn resolve_upstream_alias(handler: &Handler, name: &str) -> Result<(Alias, Fingerprint, ImageType)> {
    let (Some(fetch), Ok(alias)) = (find_upstream(handler), Alias::new(name)) else { return Err(not_found()) };
    for image_type in [ImageType::Container, ImageType::VirtualMachine] {
        let found = handler.upstream_cache.resolve(handler, fetch, name, image_type)?;
        // A fingerprint prefix is no alias.
        let digits = |found: &Fingerprint| name.parse::<FingerprintPrefix>().is_ok_and(|prefix| prefix.matches(found));
        if let Some(fingerprint) = found.filter(|found| !digits(found)) {
            // An alias of the store never resolves to an image of the upstream, also where the client can't see it.
            // Checked last, so that both cases take the same time.
            return match handler.store.alias(name) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok((alias, fingerprint, image_type)),
                Err(error) => Err(error),
                Ok(_) => Err(not_found()),
            };
        }
    }
    Err(not_found())
}

/// Finds an alias and its image, which is fetched from the upstream if the store lacks the alias.
///
/// # Errors
/// `NotFound`; those of the upstream.
pub(crate) fn find_alias(handler: &Handler, request: &Request, name: &str) -> Result<(Alias, StoredImage)> {
    match find_local_alias(handler, request, name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (alias, fingerprint, _) = resolve_upstream_alias(handler, name)?;
            let Some(fetch) = find_upstream(handler) else { return Err(not_found()) };
            Ok((alias, fetch_upstream(handler, request, fetch, &fingerprint)?))
        }
        found => found,
    }
}

/// As [`find_alias`], without the upstream. Where a container's and a virtual machine's image share the name, it is the
/// container's.
///
/// # Errors
/// `NotFound`.
pub(crate) fn find_local_alias(handler: &Handler, request: &Request, name: &str) -> Result<(Alias, StoredImage)> {
    // The container's image may be private while the virtual machine's of the same name is public.
    for image_type in ImageType::ALL {
        // Between the two reads the alias may move, and its image be deleted.
        for _ in 0..3 {
            let (alias, target) = match handler.store.alias_of(name, image_type) {
                Ok(found) => found,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => break,
                Err(error) => return Err(error),
            };
            match handler.store.image(&target.fingerprint) {
                Ok(image) if image.public || request.is_trusted() => return Ok((alias, image)),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Err(not_found())
}

/// All aliases that the client may see, with what they point to, sorted by name. A name that a container's and a
/// virtual machine's image share comes once, as that of the container.
pub(crate) fn list_aliases(handler: &Handler, request: &Request) -> Result<Aliases> {
    let trusted = request.is_trusted();
    let stored = || AliasRows::Stored(Box::new((handler.store.clone(), AliasQuery::new().limit(PAGE), trusted)));
    let rows = if trusted {
        stored()
    } else {
        let public = public::now(handler)?;
        // Not for longer lists: whoever reads one slowly would keep all of it in memory.
        if public.aliases().len() <= PAGE { AliasRows::Public(public) } else { stored() }
    };
    Ok(Aliases { rows, last: None })
}

/// Aliases that come in pages.
#[derive(Debug)]
pub(crate) struct Aliases {
    rows: AliasRows,
    /// The name that came last.
    last: Option<String>,
}

#[derive(Debug)]
enum AliasRows {
    /// Those of the public images, on one page.
    Public(Arc<PublicImages>),
    /// All, or those of public images; the next page is this.
    Stored(Box<(Store, AliasQuery, bool)>),
}

impl Aliases {
    /// Gives the aliases of the next page to `each`; whether others follow.
    pub(crate) fn page(&mut self, each: &mut dyn FnMut(&Alias, &AliasTarget)) -> Result<bool> {
        let last = &mut self.last;
        // Of one name the container's comes first.
        let mut once = |(alias, target): &(Alias, AliasTarget)| {
            if last.as_ref() != Some(&alias.name) {
                each(alias, target);
                *last = Some(alias.name.clone());
            }
        };
        match &mut self.rows {
            AliasRows::Public(public) => {
                public.aliases().iter().for_each(&mut once);
                Ok(false)
            }
            AliasRows::Stored(stored) => {
                let (store, query, trusted) = &mut **stored;
                let page = store.alias_page(query)?;
                for row in &page.aliases {
                    // One that goes meanwhile, or cannot be read, is seen by nobody.
                    if *trusted || store.image(&row.1.fingerprint).is_ok_and(|image| image.public) {
                        once(row);
                    }
                }
                let more = page.next.is_some();
                query.after = page.next;
                Ok(more)
            }
        }
    }
}

/// Adds similar public names to a `NotFound` error. Private names have no influence on it.
pub(crate) fn with_suggestions(handler: &Handler, error: Error, name: &str) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    // Suggestions are best effort.
    let Ok(public) = public::now(handler) else { return error };
    let names = public.suggestions(name);
    if names.is_empty() {
        return error;
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", Escaped(name.as_bytes()))).collect();
    Error::new(ErrorKind::NotFound, format!("not found; did you mean {}?", names.join(" or ")))
}

/// The error for everything that a client can't see.
pub(crate) fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "not found")
}
