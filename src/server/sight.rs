//! What a client may see. Every look at an image on behalf of a client goes through here, so that what is private is, for a
//! stranger, in no way different from what is not there. Single images and names that are not here are asked of the upstream,
//! where there is one; lists are of what is here, and come in pages.

use std::sync::Arc;

use super::handler::Handler;
use super::message::Request;
use super::notes::Notes;
use super::public::{self, PublicImages};
use super::upstream::Fetch;
use crate::error::{Error, ErrorKind, Result, Shown};
use crate::fingerprint::{Fingerprint, Prefix};
use crate::metadata::ImageType;
use crate::store::{Alias, AliasQuery, AliasTarget, ImageQuery, Store, StoredImage};

/// How many images of one prefix are looked at. Fingerprints are digests: so many never have four digits in common by chance.
const CANDIDATES: usize = 1_000;

/// How many images or aliases one page of a list has.
pub(crate) const PAGE: usize = 1_000;

/// Somebody of whom nothing is known: what is shown alike to everybody is what they may see.
pub(crate) fn anybody() -> Request {
    Request::new(http::Method::GET, http::Uri::from_static("/"))
}

/// All images that the client may see, in the order of their fingerprints.
pub(crate) fn images(handler: &Handler, request: &Request) -> Result<Images> {
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
    /// Gives the images of the next page to `each`; whether others follow. A row that can't be read is told to the log, and hides no
    /// other.
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

/// The fingerprints of all images that the client may see, in their order.
pub(crate) fn fingerprints(handler: &Handler, request: &Request) -> Fingerprints {
    Fingerprints { store: handler.store.clone(), query: visible(request) }
}

/// The first page of the images that the client may see.
fn visible(request: &Request) -> ImageQuery {
    let mut query = ImageQuery::new().limit(PAGE);
    query.public = (!request.is_trusted()).then_some(true);
    query
}

/// Fingerprints that come in pages.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    store: Store,
    /// The next page is this.
    query: ImageQuery,
}

impl Fingerprints {
    /// Gives the fingerprints of the next page to `each`; whether others follow. Costs a look at an index and not at the rows, so
    /// that an image whose row can't be read is among them: asked for by its name, it is an error that says so.
    pub(crate) fn page(&mut self, each: &mut dyn FnMut(&Fingerprint)) -> Result<bool> {
        let (fingerprints, next) = self.store.fingerprints(&self.query)?;
        fingerprints.iter().for_each(each);
        self.query.after = next;
        Ok(self.query.after.is_some())
    }
}

/// The image whose fingerprint begins with `text`, with at least four digits. A private one is also shown to whoever has
/// a `secret` for it. One that is not here is brought from the upstream, where there is one.
///
/// # Errors
/// `NotFound`, also for a text that is no beginning of a fingerprint, naming what may have been meant; `Ambiguous`; those of the
/// upstream.
pub(crate) fn image(handler: &Handler, request: &Request, text: &str, secret: Option<&str>) -> Result<StoredImage> {
    found(handler, request, text, secret).map_err(|error| suggesting(handler, error, text))
}

fn found(handler: &Handler, request: &Request, text: &str, secret: Option<&str>) -> Result<StoredImage> {
    let absent = match here(handler, request, text, secret) {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        found => return found,
    };
    let Some(fetch) = upstream(handler) else { return Err(absent) };
    let Ok(prefix) = text.parse::<Prefix>() else { return Err(absent) };
    // Asked also where a private image is here, which must not be told from none.
    match handler.through.resolve(handler, fetch, prefix.as_str(), ImageType::Container)? {
        Some(fingerprint) if prefix.matches(&fingerprint) => brought(handler, request, fetch, &fingerprint),
        _ => Err(absent),
    }
}

/// What brings images of the upstream, where there is one.
pub(crate) fn upstream(handler: &Handler) -> Option<&dyn Fetch> {
    handler.options.fetch.as_deref().filter(|fetch| fetch.has_upstream())
}

/// An image of the upstream, if the client may see it: one that is here and private stays so, whoever else shows it.
fn brought(handler: &Handler, request: &Request, fetch: &dyn Fetch, fingerprint: &Fingerprint) -> Result<StoredImage> {
    let image = handler.through.fetch(handler, fetch, fingerprint)?;
    if image.public || request.is_trusted() { Ok(image) } else { Err(absent()) }
}

/// As [`image`], of those that are here.
///
/// # Errors
/// `NotFound`, also for a text that is no beginning of a fingerprint: nothing is called so; `Ambiguous`.
pub(crate) fn here(handler: &Handler, request: &Request, text: &str, secret: Option<&str>) -> Result<StoredImage> {
    let Ok(prefix) = text.parse::<Prefix>() else { return Err(absent()) };
    let candidates = match prefix.as_fingerprint() {
        Some(whole) => vec![whole],
        None => handler.store.with_prefix(&prefix, CANDIDATES)?,
    };
    let mut seen = None;
    for fingerprint in candidates {
        let image = match handler.store.image(&fingerprint) {
            Ok(image) => image,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let opened = || secret.is_some_and(|secret| handler.secrets.opens(&image.fingerprint, secret));
        if !(image.public || request.is_trusted() || opened()) {
            continue;
        }
        if seen.is_some() {
            return Err(Error::new(ErrorKind::Ambiguous, format!("`{prefix}` is the beginning of several images")));
        }
        seen = Some(image);
    }
    seen.ok_or_else(absent)
}

/// What a name stands for: an alias of this server, or else one of the upstream. Nothing is brought.
///
/// # Errors
/// `NotFound`; those of the upstream.
pub(crate) fn meaning(handler: &Handler, request: &Request, name: &str) -> Result<(Alias, Fingerprint, ImageType)> {
    let found = match alias_here(handler, request, name) {
        Ok((alias, image)) => Ok((alias, image.fingerprint, image.image_type)),
        Err(error) if error.kind() == ErrorKind::NotFound => above(handler, name),
        Err(error) => Err(error),
    };
    found.map_err(|error| suggesting(handler, error, name))
}

/// What a name that the client does not see here stands for on the upstream.
fn above(handler: &Handler, name: &str) -> Result<(Alias, Fingerprint, ImageType)> {
    let (Some(fetch), Ok(alias)) = (upstream(handler), Alias::new(name)) else { return Err(absent()) };
    for image_type in [ImageType::Container, ImageType::VirtualMachine] {
        let found = handler.through.resolve(handler, fetch, name, image_type)?;
        // The beginning of a fingerprint is no alias.
        let digits = |found: &Fingerprint| name.parse::<Prefix>().is_ok_and(|prefix| prefix.matches(found));
        if let Some(fingerprint) = found.filter(|found| !digits(found)) {
            // A name of this server is never given another meaning, also where the client must not see that it is there;
            // looked at last, so that both take the same time.
            return match handler.store.alias(name) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok((alias, fingerprint, image_type)),
                Err(error) => Err(error),
                Ok(_) => Err(absent()),
            };
        }
    }
    Err(absent())
}

/// The alias of this name and the image that it points to, which is brought from the upstream where it is only there.
///
/// # Errors
/// `NotFound`; those of the upstream.
pub(crate) fn alias(handler: &Handler, request: &Request, name: &str) -> Result<(Alias, StoredImage)> {
    match alias_here(handler, request, name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (alias, fingerprint, _) = above(handler, name)?;
            let Some(fetch) = upstream(handler) else { return Err(absent()) };
            Ok((alias, brought(handler, request, fetch, &fingerprint)?))
        }
        found => found,
    }
}

/// As [`alias`], of those that are here: where a container's and a virtual machine's image share the name, the container's.
///
/// # Errors
/// `NotFound`.
pub(crate) fn alias_here(handler: &Handler, request: &Request, name: &str) -> Result<(Alias, StoredImage)> {
    // A name that the container's image has and the client must not see may be the one of a virtual machine's.
    for image_type in ImageType::ALL {
        // Between the two looks the alias may move, and the image go.
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
    Err(absent())
}

/// All aliases that the client may see, with what they point to, sorted by name. A name that a container's and a virtual machine's
/// image share comes once, as that of the container.
pub(crate) fn aliases(handler: &Handler, request: &Request) -> Result<Aliases> {
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

/// What is told of a name that means nothing to the client: the same whether or not something private is called so, with the
/// public names that may have been meant.
pub(crate) fn suggesting(handler: &Handler, error: Error, name: &str) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    // Suggestions are best effort.
    let Ok(public) = public::now(handler) else { return error };
    let names = public.suggestions(name);
    if names.is_empty() {
        return error;
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", Shown(name.as_bytes()))).collect();
    Error::new(ErrorKind::NotFound, format!("not found; did you mean {}?", names.join(" or ")))
}

/// The one sentence for everything that a client can't see.
pub(crate) fn absent() -> Error {
    Error::new(ErrorKind::NotFound, "not found")
}
