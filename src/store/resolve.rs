//! Resolves a reference (an alias, a fingerprint or a prefix of one) to the one image that it names.
//! If no image matches, the error suggests names that are similar.

use std::collections::BTreeSet;

use super::catalog::AliasQuery;
use super::image::StoredImage;
use super::open::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;

/// How many candidates the error for an ambiguous prefix lists.
const MAX_CANDIDATES: usize = 10;
/// How many suggestions the error for an unknown name makes.
const MAX_SUGGESTIONS: usize = 5;
/// How many aliases an unknown name is compared with: first among those with the same two letters
/// in front, then among all. Bounds the work that a request for a missing image causes.
const MAX_COMPARED: usize = 2_000;

impl Store {
    /// Finds the image that `reference` names: an alias, a whole fingerprint, or a prefix of
    /// exactly one fingerprint with at least four digits ([`FingerprintPrefix::MIN_DIGITS`]).
    ///
    /// An alias takes precedence over a fingerprint with the same beginning. If a container and a
    /// virtual machine share the alias, the container is returned;
    /// [`resolve_preferring`](Self::resolve_preferring) chooses.
    ///
    /// # Errors
    /// `NotFound`, with similar names in the hint; `Ambiguous`, with the candidates in the message;
    /// `Malformed` if the catalog is damaged; `Io`.
    pub fn resolve(&self, reference: &str) -> Result<StoredImage> {
        self.resolve_preferring(reference, ImageType::Container)
    }

    /// Like [`resolve`](Self::resolve), but prefers images of `image_type` if a container and a
    /// virtual machine share the alias.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_preferring(&self, reference: &str, image_type: ImageType) -> Result<StoredImage> {
        // Alias and image are two reads: another process may move the alias or delete the image between them.
        for _ in 0..3 {
            let Some(fingerprint) = self.find(reference, image_type)? else { break };
            if let Some(image) = self.catalog.image(&fingerprint)? {
                return Ok(image);
            }
        }
        Err(self.not_found(reference))
    }

    /// Lists up to `limit` fingerprints that begin with `prefix`, in ascending order.
    ///
    /// # Errors
    /// `Malformed` if the catalog is damaged; `Io`.
    pub fn with_prefix(&self, prefix: &FingerprintPrefix, limit: usize) -> Result<Vec<Fingerprint>> {
        self.catalog.with_prefix(prefix, limit)
    }

    /// The fingerprint that `reference` stands for. A whole fingerprint is returned without a look
    /// at whether its image exists.
    fn find(&self, reference: &str, image_type: ImageType) -> Result<Option<Fingerprint>> {
        let others = ImageType::ALL.into_iter().filter(|of| *of != image_type);
        for of in std::iter::once(image_type).chain(others) {
            if let Some((_, target)) = self.catalog.alias(reference, of)? {
                return Ok(Some(target.fingerprint));
            }
        }
        if let Ok(fingerprint) = reference.parse() {
            return Ok(Some(fingerprint));
        }
        let Ok(prefix) = reference.parse::<FingerprintPrefix>() else { return Ok(None) };
        let found = self.catalog.with_prefix(&prefix, MAX_CANDIDATES + 1)?;
        if found.len() < 2 {
            return Ok(found.first().copied());
        }
        let mut names: Vec<String> = found.iter().take(MAX_CANDIDATES).map(ToString::to_string).collect();
        if found.len() > MAX_CANDIDATES {
            names.push("more".to_owned());
        }
        Err(Error::new(
            ErrorKind::Ambiguous,
            format!("`{prefix}` is the beginning of several images: {}", names.join(", ")),
        )
        .with_hint("give more digits"))
    }

    /// The error for a reference that no image matches, with suggestions in its hint.
    fn not_found(&self, reference: &str) -> Error {
        let shown: String = reference.chars().take(64).collect();
        let error = Error::new(ErrorKind::NotFound, format!("there is no image `{shown}` in the store"));
        let digits = !reference.is_empty() && reference.chars().all(|character| character.is_ascii_hexdigit());
        if digits && reference.len() < FingerprintPrefix::MIN_DIGITS {
            return error.with_hint(format!(
                "the beginning of a fingerprint has at least {} digits",
                FingerprintPrefix::MIN_DIGITS
            ));
        }
        // Suggestions are best effort.
        let near = self.suggestions(reference).unwrap_or_default();
        if near.is_empty() {
            return error.with_hint("`lxd-image list` shows what is there");
        }
        error.with_hint(format!("similar names: {}", near.join(", ")))
    }
}

impl Store {
    /// Names similar to `reference`, the closest first: by edit distance, then names that contain
    /// it or are contained in it, then fingerprints with the same four digits in front.
    fn suggestions(&self, reference: &str) -> Result<Vec<String>> {
        let wanted = reference.to_lowercase();
        let max_distance = (wanted.chars().count() / 4).clamp(1, 3);
        let mut found: BTreeSet<(usize, String)> = BTreeSet::new();
        let mut first = String::new();
        first.extend(reference.chars().take(2));
        for query in [AliasQuery::new().prefix(first), AliasQuery::new()] {
            for (alias, _) in self.catalog.aliases(&query.limit(MAX_COMPARED))?.aliases {
                let name = alias.name.to_lowercase();
                if let Some(distance) = edit_distance(&wanted, &name, max_distance) {
                    found.insert((distance, alias.name));
                } else if wanted.len() >= 2 && (name.contains(&wanted) || name.len() >= 3 && wanted.contains(&name)) {
                    found.insert((max_distance + 1, alias.name));
                }
            }
        }
        if wanted.len() > FingerprintPrefix::MIN_DIGITS
            && let Some(front) = wanted.get(..FingerprintPrefix::MIN_DIGITS)
            && let Ok(prefix) = front.parse()
        {
            let near = self.catalog.with_prefix(&prefix, MAX_SUGGESTIONS)?;
            found.extend(near.iter().map(|fingerprint| (max_distance + 2, fingerprint.short())));
        }
        Ok(found.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name).collect())
    }
}

/// The edit distance (Levenshtein) of two names in characters, or `None` if it exceeds `max`.
///
/// Names over 128 characters are not compared: the cost is the product of both lengths, and callers
/// pass names that an unauthenticated client chose.
pub(crate) fn edit_distance(from: &str, to: &str, max: usize) -> Option<usize> {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) > max || from.len() > 128 {
        return None;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in to.iter().enumerate() {
            let change = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().filter(|distance| *distance <= max)
}
