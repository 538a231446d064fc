//! Access control: which images and aliases a client sees. Every lookup on behalf of a client goes
//! through here, so that to an untrusted client a private image is indistinguishable from a missing
//! one: same error, same lists, same work.
//!
//! A single image or alias that the store lacks is looked for at the upstream, if there is one.
//! Lists are of the store only, and come in pages.
//!
//! # Which function to use
//!
//! | the caller has | the upstream is asked | the upstream is not asked |
//! |---|---|---|
//! | a fingerprint or a prefix of one | [`find_image`] | [`find_local_image`] |
//! | an alias, and needs its image | [`find_alias`] | [`find_local_alias`] |
//! | an alias, and needs its target only | [`resolve_alias`] | |
//! | nothing: it lists | | [`list_images`], [`list_fingerprints`], [`list_aliases`] |
//!
//! Reads of single objects ask the upstream. Writes, pages for browsers and files of simplestreams
//! do not: a change is made to an image that is here, and browsing must not cause downloads.
//!
//! # Who sees what
//!
//! - A trusted client sees every image and every alias of the store.
//! - An untrusted client sees public images and the aliases of public images. A download token in
//!   the request adds the one private image that it was issued for.
//! - Pages and direct import ask for [`Client::Untrusted`] in place of the client, so that they show
//!   the same to everybody and can be cached.
//!
//! A hidden image may still have an effect where two names collide: an alias of the store never
//! resolves to an image of the upstream, even if the client may not see the alias. The answer is
//! then that of a missing alias, after the same query to the upstream.

use std::sync::Arc;

use super::client::Client;
pub(crate) use super::not_found::not_found;
use super::notes::Notes;
use super::public::PublicImages;
use super::services::Services;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::metadata::ImageType;
use crate::store::{Alias, AliasQuery, AliasTarget, ImageQuery, Store, StoredImage};

/// The most images of one prefix that are examined. Fingerprints are digests, and 1,000 of them
/// share four hexadecimal digits by chance only in a store of tens of millions of images. The bound
/// keeps a store that was filled on purpose from making one request expensive.
const MAX_CANDIDATES: usize = 1_000;

/// The number of images or aliases in one page of a list. A page is in memory as a whole while it
/// is sent, for each client that reads a list; 1,000 rows are a few MiB at most.
pub(crate) const PAGE: usize = 1_000;

/// All images that the client may see, in the order of their fingerprints.
///
/// Short lists of public images come from the index that is kept for everybody, longer ones and
/// those of trusted clients from the catalog, page by page. Both have the same order and the same
/// rows.
///
/// # Errors
/// Those of reading the catalog for the index. Errors of later pages come from [`Images::page`].
pub(crate) fn list_images(services: &Services, client: &Client) -> Result<Images> {
    if !client.is_trusted() {
        let public = services.public_images()?;
        // Not for longer lists: a client that reads slowly would keep all of it in memory.
        if public.whole().is_some_and(|whole| whole.len() <= PAGE) {
            return Ok(Images::Kept(public));
        }
    }
    let query = visible(client);
    let (store, notes) = (services.store.clone(), Arc::clone(&services.notes));
    Ok(Images::Stored(Box::new(StoredImages { store, query, notes })))
}

/// Images that come in pages: those that are kept for everybody, or read for this request.
///
/// An image that is added or deleted while the pages are read may or may not be in the list; the
/// images that exist all the time are in it exactly once, because each page begins after the last
/// fingerprint of the page before.
#[derive(Debug)]
pub(crate) enum Images {
    /// Kept for everybody, on one page.
    Kept(Arc<PublicImages>),
    /// Read for this request; the next page is this.
    Stored(Box<StoredImages>),
}

/// Images as a query finds them.
///
/// Owns a clone of the store instead of borrowing the handler: the list is generated while it is
/// sent, after the function of the route has returned.
#[derive(Debug)]
pub(crate) struct StoredImages {
    store: Store,
    query: ImageQuery,
    notes: Arc<Notes>,
}

impl Images {
    /// Passes the images of the next page to `each`, and returns whether more pages follow. A row
    /// that can't be read is written to the log, and does not hide the other rows.
    ///
    /// A page may have no images and still be followed by others, so callers go by the return
    /// value.
    ///
    /// # Errors
    /// Those of the catalog, and the first error of `each`. The list can't be continued after an
    /// error.
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
///
/// Use it where nothing but the fingerprint is needed: it is much cheaper than [`list_images`].
pub(crate) fn list_fingerprints(services: &Services, client: &Client) -> Fingerprints {
    Fingerprints { store: services.store.clone(), query: visible(client) }
}

/// The query for the first page of the images that the client may see. The catalog filters by
/// `public`, so that private rows are not even read for an untrusted client.
fn visible(client: &Client) -> ImageQuery {
    let mut query = ImageQuery::new().limit(PAGE);
    query.public = (!client.is_trusted()).then_some(true);
    query
}

/// A list of fingerprints that is read in pages.
///
/// Owns a clone of the store, as the list outlives the function of its route.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    store: Store,
    /// The query for the next page.
    query: ImageQuery,
}

impl Fingerprints {
    /// Passes the fingerprints of the next page to `each`, and returns whether more pages follow.
    ///
    /// Reads an index only, never the rows. An image with a damaged row is therefore included: a
    /// request for it returns an error that names the damage.
    pub(crate) fn page(&mut self, each: &mut dyn FnMut(&Fingerprint)) -> Result<bool> {
        let (fingerprints, next) = self.store.fingerprints(&self.query)?;
        fingerprints.iter().for_each(each);
        self.query.after = next;
        Ok(self.query.after.is_some())
    }
}

/// Finds the image whose fingerprint begins with `text`, four digits at least. `secret` is that of
/// a download token, which shows one private image. An image that the store lacks is fetched from
/// the upstream, if there is one.
///
/// # Errors
/// `NotFound`, also for a text that is no beginning of a fingerprint, naming what may have been
/// meant; `Ambiguous`; those of the upstream.
pub(crate) fn find_image(
    services: &Services,
    client: &Client,
    text: &str,
    secret: Option<&str>,
) -> Result<StoredImage> {
    find_or_fetch(services, client, text, secret).map_err(|error| with_suggestions(services, error, text))
}

/// [`find_image`] without the suggestions that it adds to a `NotFound` error.
fn find_or_fetch(services: &Services, client: &Client, text: &str, secret: Option<&str>) -> Result<StoredImage> {
    let absent = match find_local_image(services, client, text, secret) {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        found => return found,
    };
    // Checked first: without an upstream nothing else is worth the work.
    if services.upstream().is_none() {
        return Err(absent);
    }
    let Ok(prefix) = text.parse::<FingerprintPrefix>() else { return Err(absent) };
    // The upstream is asked also when the store has a private image, or the time would tell that it does.
    match services.resolve_upstream(prefix.as_str(), ImageType::Container)? {
        // An upstream could answer with any image; this one was asked for by its digits.
        Some(fingerprint) if prefix.matches(&fingerprint) => fetch_upstream(services, client, &fingerprint),
        _ => Err(absent),
    }
}

/// Fetches an image of the upstream, if the client may see it: one that is in the store as a private image stays
/// private.
///
/// # Errors
/// `NotFound` if the image turned out to be private; those of the upstream cache.
fn fetch_upstream(services: &Services, client: &Client, fingerprint: &Fingerprint) -> Result<StoredImage> {
    let image = services.fetch_upstream(fingerprint)?;
    if image.public || client.is_trusted() { Ok(image) } else { Err(not_found()) }
}

/// As [`find_image`], without the upstream.
///
/// A prefix is ambiguous only among the images that the client may see. Otherwise the error would
/// tell an untrusted client that a private image with this prefix exists.
///
/// # Errors
/// `NotFound`, also for a text that is no fingerprint prefix; `Ambiguous`.
pub(crate) fn find_local_image(
    services: &Services,
    client: &Client,
    text: &str,
    secret: Option<&str>,
) -> Result<StoredImage> {
    let Ok(prefix) = text.parse::<FingerprintPrefix>() else { return Err(not_found()) };
    // A whole fingerprint needs no scan of the index.
    let candidates = match prefix.as_fingerprint() {
        Some(whole) => vec![whole],
        None => services.store.with_prefix(&prefix, MAX_CANDIDATES)?,
    };
    let mut seen = None;
    for fingerprint in candidates {
        let image = match services.store.image(&fingerprint) {
            Ok(image) => image,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let opened = || match secret {
            Some(secret) => services.tokens.opens(&image.fingerprint, secret),
            None => Ok(false),
        };
        if !(image.public || client.is_trusted() || opened()?) {
            continue;
        }
        // Only images that the client may see get here, so `Ambiguous` reveals no private one.
        if seen.is_some() {
            return Err(Error::new(ErrorKind::Ambiguous, format!("`{prefix}` is the beginning of several images")));
        }
        seen = Some(image);
    }
    seen.ok_or_else(not_found)
}

/// Resolves an alias: of the store, or else of the upstream. Fetches nothing.
///
/// Returns the alias with its description, the fingerprint that it points to, and the image's type.
/// Use it for `GET /1.0/images/aliases/NAME`: a client that asks for an alias may never download
/// the image.
///
/// # Errors
/// `NotFound`; those of the upstream.
pub(crate) fn resolve_alias(
    services: &Services,
    client: &Client,
    name: &str,
) -> Result<(Alias, Fingerprint, ImageType)> {
    let found = match find_local_alias(services, client, name) {
        Ok((alias, image)) => Ok((alias, image.fingerprint, image.image_type)),
        Err(error) if error.kind() == ErrorKind::NotFound => resolve_upstream_alias(services, name),
        Err(error) => Err(error),
    };
    found.map_err(|error| with_suggestions(services, error, name))
}

/// Resolves an alias at the upstream that the client does not see in the store.
///
/// The container's image is preferred to the virtual machine's, as everywhere in the API, which has
/// only one alias of a name.
fn resolve_upstream_alias(services: &Services, name: &str) -> Result<(Alias, Fingerprint, ImageType)> {
    let Ok(alias) = Alias::new(name) else { return Err(not_found()) };
    for image_type in [ImageType::Container, ImageType::VirtualMachine] {
        let found = services.resolve_upstream(name, image_type)?;
        // A fingerprint prefix is no alias.
        let digits = |found: &Fingerprint| name.parse::<FingerprintPrefix>().is_ok_and(|prefix| prefix.matches(found));
        if let Some(fingerprint) = found.filter(|found| !digits(found)) {
            // An alias of the store never resolves to an image of the upstream, also where the client can't see it.
            // Checked last, so that both cases take the same time.
            return match services.store.alias(name) {
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
pub(crate) fn find_alias(services: &Services, client: &Client, name: &str) -> Result<(Alias, StoredImage)> {
    match find_local_alias(services, client, name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (alias, fingerprint, _) = resolve_upstream_alias(services, name)?;
            Ok((alias, fetch_upstream(services, client, &fingerprint)?))
        }
        found => found,
    }
}

/// As [`find_alias`], without the upstream. Where a container's and a virtual machine's image share the name, it is the
/// container's.
///
/// An alias and its image are two reads of the catalog. If the image is deleted in between, the
/// alias is read again, three times at most: somebody who keeps moving an alias must not hold a
/// thread here.
///
/// # Errors
/// `NotFound`.
pub(crate) fn find_local_alias(services: &Services, client: &Client, name: &str) -> Result<(Alias, StoredImage)> {
    // The container's image may be private while the virtual machine's of the same name is public.
    // Each type is looked up by itself, because a name stands for one image of each type.
    for image_type in ImageType::ALL {
        // Between the two reads the alias may move, and its image be deleted.
        for _ in 0..3 {
            let (alias, target) = match services.store.alias_of(name, image_type) {
                Ok(found) => found,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => break,
                Err(error) => return Err(error),
            };
            match services.store.image(&target.fingerprint) {
                Ok(image) if image.public || client.is_trusted() => return Ok((alias, image)),
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
///
/// # Errors
/// Those of reading the catalog for the index. Errors of later pages come from [`Aliases::page`].
pub(crate) fn list_aliases(services: &Services, client: &Client) -> Result<Aliases> {
    let trusted = client.is_trusted();
    let stored = || AliasRows::Stored(Box::new((services.store.clone(), AliasQuery::new().limit(PAGE), trusted)));
    let rows = if trusted {
        stored()
    } else {
        let public = services.public_images()?;
        // Not for longer lists: a client that reads slowly would keep all of it in memory.
        if public.aliases().len() <= PAGE { AliasRows::Public(public) } else { stored() }
    };
    Ok(Aliases { rows, last: None })
}

/// Aliases that come in pages.
///
/// The rows are sorted by name and type, so that the duplicates of a name follow each other and one
/// remembered name is enough to drop them, also across pages.
#[derive(Debug)]
pub(crate) struct Aliases {
    rows: AliasRows,
    /// The name that was passed on last, to drop the virtual machine's alias of the same name.
    last: Option<String>,
}

/// Where the aliases come from.
#[derive(Debug)]
enum AliasRows {
    /// Those of the public images, on one page.
    Public(Arc<PublicImages>),
    /// All, or those of public images; the next page is this.
    Stored(Box<(Store, AliasQuery, bool)>),
}

impl Aliases {
    /// Gives the aliases of the next page to `each`; whether others follow.
    ///
    /// # Errors
    /// Those of the catalog. The list can't be continued after an error.
    pub(crate) fn page(&mut self, each: &mut dyn FnMut(&Alias, &AliasTarget)) -> Result<bool> {
        let last = &mut self.last;
        // Of two aliases with one name, the container's comes first.
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
                // The catalog can't filter aliases by the visibility of their image, so that is
                // looked up for each.
                let page = store.alias_page(query)?;
                for row in &page.aliases {
                    // An alias whose image was deleted meanwhile or can't be read is left out.
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
///
/// Other errors are returned unchanged. A client that mistypes a name gets up to three similar
/// ones; the search costs the same for every name, so that its time reveals nothing either.
pub(crate) fn with_suggestions(services: &Services, error: Error, name: &str) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    // Suggestions are best effort.
    let Ok(public) = services.public_images() else { return error };
    let names = public.suggestions(name);
    if names.is_empty() {
        return error;
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", Escaped(name.as_bytes()))).collect();
    Error::new(ErrorKind::NotFound, format!("not found; did you mean {}?", names.join(" or ")))
}
