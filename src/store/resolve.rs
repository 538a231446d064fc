//! From what people write to the one image that they mean: alias, fingerprint, or the beginning of one.
//! Where that fails, the error names what they may have meant.

use std::collections::BTreeSet;

use super::catalog::AliasQuery;
use super::image::StoredImage;
use super::open::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Prefix};
use crate::format::ImageType;

/// How many candidates an error names.
const NAMED: usize = 10;
/// How many suggestions an error makes.
const SUGGESTED: usize = 5;
/// How many aliases a mistyped name is compared with, of those that begin like it, and of all.
const COMPARED: usize = 2_000;

impl Store {
    /// The image that `reference` names: an alias, a whole fingerprint, or the first digits of
    /// exactly one, at least four. An alias wins over a fingerprint that begins like it; where a container and a virtual machine
    /// share it, the container is meant.
    ///
    /// # Errors
    /// `NotFound`, suggesting what is near; `Ambiguous`, naming the candidates; `Malformed` when the
    /// catalog is damaged; `Io`.
    pub fn resolve(&self, reference: &str) -> Result<StoredImage> {
        self.resolve_preferring(reference, ImageType::Container)
    }

    /// As [`resolve`](Self::resolve), with the type that is meant where an image of each shares an alias.
    ///
    /// # Errors
    /// As there.
    pub fn resolve_preferring(&self, reference: &str, image_type: ImageType) -> Result<StoredImage> {
        // Between two looks another process may move the alias or delete the image.
        for _ in 0..3 {
            let Some(fingerprint) = self.find(reference, image_type)? else { break };
            if let Some(image) = self.catalog.image(&fingerprint)? {
                return Ok(image);
            }
        }
        Err(self.not_found(reference))
    }

    /// The fingerprints that begin with these digits, `most` of them.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged; `Io`.
    pub fn with_prefix(&self, prefix: &Prefix, most: usize) -> Result<Vec<Fingerprint>> {
        self.catalog.with_prefix(prefix, most)
    }

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
        let Ok(prefix) = reference.parse::<Prefix>() else { return Ok(None) };
        let found = self.catalog.with_prefix(&prefix, NAMED + 1)?;
        if found.len() < 2 {
            return Ok(found.first().copied());
        }
        let mut names: Vec<String> = found.iter().take(NAMED).map(ToString::to_string).collect();
        if found.len() > NAMED {
            names.push("more".to_owned());
        }
        Err(Error::new(
            ErrorKind::Ambiguous,
            format!("`{prefix}` is the beginning of several images: {}", names.join(", ")),
        )
        .with_hint("give more digits"))
    }

    fn not_found(&self, reference: &str) -> Error {
        let shown: String = reference.chars().take(64).collect();
        let error = Error::new(ErrorKind::NotFound, format!("there is no image `{shown}` in the store"));
        let digits = !reference.is_empty() && reference.chars().all(|character| character.is_ascii_hexdigit());
        if digits && reference.len() < Prefix::MIN_DIGITS {
            return error
                .with_hint(format!("the beginning of a fingerprint has at least {} digits", Prefix::MIN_DIGITS));
        }
        // Suggestions are best effort.
        let near = self.suggestions(reference).unwrap_or_default();
        if near.is_empty() {
            return error.with_hint("`lxd-image list` shows what is there");
        }
        error.with_hint(format!("near it are: {}", near.join(", ")))
    }
}

impl Store {
    /// Names like `reference`, the nearest first. However many names there are, a bounded number is looked at: those that begin
    /// like it, and the first ones of all.
    fn suggestions(&self, reference: &str) -> Result<Vec<String>> {
        let wanted = reference.to_lowercase();
        let most = (wanted.chars().count() / 4).clamp(1, 3);
        let mut found: BTreeSet<(usize, String)> = BTreeSet::new();
        let mut first = String::new();
        first.extend(reference.chars().take(2));
        for query in [AliasQuery::new().prefix(first), AliasQuery::new()] {
            for (alias, _) in self.catalog.aliases(&query.limit(COMPARED))?.aliases {
                let name = alias.name.to_lowercase();
                if let Some(steps) = steps(&wanted, &name, most) {
                    found.insert((steps, alias.name));
                } else if wanted.len() >= 2 && (name.contains(&wanted) || name.len() >= 3 && wanted.contains(&name)) {
                    found.insert((most + 1, alias.name));
                }
            }
        }
        if wanted.len() > Prefix::MIN_DIGITS
            && let Some(front) = wanted.get(..Prefix::MIN_DIGITS)
            && let Ok(prefix) = front.parse()
        {
            let near = self.catalog.with_prefix(&prefix, SUGGESTED)?;
            found.extend(near.iter().map(|fingerprint| (most + 2, fingerprint.short())));
        }
        Ok(found.into_iter().take(SUGGESTED).map(|(_, name)| name).collect())
    }
}

/// How many letters must be changed, added or left out to come from one to the other, up to `most`.
pub(crate) fn steps(from: &str, to: &str, most: usize) -> Option<usize> {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) > most || from.len() > 128 {
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
    row.last().copied().filter(|steps| *steps <= most)
}
