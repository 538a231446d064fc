//! From what people write to the one image that they mean: alias, fingerprint, or the beginning of one.
//! Where that fails, the error names what they may have meant.

use super::image::StoredImage;
use super::open::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Prefix};

/// How many candidates or suggestions an error names.
const NAMED: usize = 10;

impl Store {
    /// The image that `reference` names: an alias, a whole fingerprint, or the first digits of
    /// exactly one, at least four. An alias wins over a fingerprint that begins like it.
    ///
    /// # Errors
    /// `NotFound`, suggesting what is near; `Ambiguous`, naming the candidates; `Malformed` when the
    /// catalog is damaged; `Io`.
    pub fn resolve(&self, reference: &str) -> Result<StoredImage> {
        // Between two looks another process may move the alias or delete the image.
        for _ in 0..3 {
            let Some(fingerprint) = self.find(reference)? else { break };
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

    fn find(&self, reference: &str) -> Result<Option<Fingerprint>> {
        if let Some((_, target)) = self.catalog.alias(reference)? {
            return Ok(Some(target));
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
        // The error is the answer; that nothing can be suggested is no second one.
        let near = self.catalog.images().map(|images| near(reference, &images)).unwrap_or_default();
        if near.is_empty() {
            return error.with_hint("`lxd-image list` shows what is there");
        }
        error.with_hint(format!("near it are: {}", near.join(", ")))
    }
}

/// Names like `reference`, the nearest first.
fn near(reference: &str, images: &[StoredImage]) -> Vec<String> {
    let wanted = reference.to_lowercase();
    let most = (wanted.chars().count() / 4).clamp(1, 3);
    let mut found: Vec<(usize, String)> = Vec::new();
    for image in images {
        for alias in &image.aliases {
            let name = alias.name.to_lowercase();
            let steps = steps(&wanted, &name, most);
            if let Some(steps) = steps {
                found.push((steps, alias.name.clone()));
            } else if wanted.len() >= 2 && (name.contains(&wanted) || name.len() >= 3 && wanted.contains(&name)) {
                found.push((most + 1, alias.name.clone()));
            }
        }
        let text = image.fingerprint.to_string();
        if wanted.len() > Prefix::MIN_DIGITS
            && wanted.get(..Prefix::MIN_DIGITS).is_some_and(|front| text.starts_with(front))
        {
            found.push((most + 2, image.fingerprint.short()));
        }
    }
    found.sort();
    found.truncate(5);
    found.into_iter().map(|(_, name)| name).collect()
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
