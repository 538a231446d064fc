//! What a client may see. Every look at an image on behalf of a client goes through here, so that what is private is, for a
//! stranger, in no way different from what is not there.

use super::handler::Handler;
use super::message::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Prefix;
use crate::store::{Alias, StoredImage};

/// How many images of one prefix are looked at. Fingerprints are digests: so many never have four digits in common by chance.
const CANDIDATES: usize = 1_000;

/// All images that the client may see, in the order of their fingerprints.
pub(crate) fn all(handler: &Handler, request: &Request) -> Result<Vec<StoredImage>> {
    let mut images = handler.store.images()?;
    images.retain(|image| image.public || request.is_trusted());
    Ok(images)
}

/// The image whose fingerprint begins with `text`, with at least four digits. A private one is also shown to whoever has
/// a `secret` for it.
///
/// # Errors
/// `InvalidInput` for a text that is no beginning of a fingerprint; `NotFound`, `Ambiguous`.
pub(crate) fn image(handler: &Handler, request: &Request, text: &str, secret: Option<&str>) -> Result<StoredImage> {
    let prefix: Prefix = text.parse()?;
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

/// The alias of this name and the image that it points to.
///
/// # Errors
/// `NotFound`.
pub(crate) fn alias(handler: &Handler, request: &Request, name: &str) -> Result<(Alias, StoredImage)> {
    // Between the two looks the alias may move, and the image go.
    for _ in 0..3 {
        let (alias, target) = match handler.store.alias(name) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => break,
            Err(error) => return Err(error),
        };
        match handler.store.image(&target) {
            Ok(image) if image.public || request.is_trusted() => return Ok((alias, image)),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(absent())
}

/// All aliases that the client may see, with what they point to, sorted by name.
pub(crate) fn aliases(handler: &Handler, request: &Request) -> Result<Vec<(Alias, StoredImage)>> {
    let mut found = Vec::new();
    for image in all(handler, request)? {
        found.extend(image.aliases.iter().map(|alias| (alias.clone(), image.clone())));
    }
    found.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    Ok(found)
}

/// The one sentence for everything that a client can't see.
pub(crate) fn absent() -> Error {
    Error::new(ErrorKind::NotFound, "not found")
}
