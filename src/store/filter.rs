//! Filters of lists: words and `key=value`, as `lxc image list` takes them, and why an image is not listed.
//! One function decides and explains, so that the two never differ.

use std::fmt;
use std::str::FromStr;

use super::image::StoredImage;
use super::open::Store;
use crate::error::{Error, Result};
use crate::metadata::Architecture;
use crate::time::rfc3339;

/// One condition on an image.
///
/// A word matches a part of an alias or the beginning of a fingerprint. `key=value` matches a
/// property, or a field of the image; all names of an architecture are equal.
///
/// ```
/// use lxd_image::store::Filter;
///
/// let filters: Vec<Filter> = ["debian", "architecture=amd64"].map(|text| text.parse().unwrap()).into();
/// assert_eq!(filters[1].to_string(), "architecture=amd64");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    Pair(String, String),
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some(("", _)) => Err(Error::invalid(format!("the filter `{text}` has no key"))),
            Some((key, value)) => Ok(Self(Kind::Pair(key.to_owned(), value.to_owned()))),
            None if text.is_empty() => Err(Error::invalid("an empty filter matches nothing")),
            None => Ok(Self(Kind::Word(text.to_owned()))),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Word(word) => f.write_str(word),
            Kind::Pair(key, value) => write!(f, "{key}={value}"),
        }
    }
}

impl Filter {
    /// Whether the image meets the condition.
    #[must_use]
    pub fn matches(&self, image: &StoredImage) -> bool {
        self.reason(image).is_none()
    }

    /// Why the image does not meet the condition; `None` when it does.
    #[must_use]
    pub fn reason(&self, image: &StoredImage) -> Option<String> {
        match &self.0 {
            Kind::Word(word) => reason_of_word(word, image),
            Kind::Pair(key, value) => reason_of_pair(key, value, image),
        }
    }
}

impl Filter {
    /// Of some images those that meet all filters, sorted by their first alias, those without one at the end.
    #[must_use]
    pub fn select(mut images: Vec<StoredImage>, filters: &[Self]) -> Vec<StoredImage> {
        images.retain(|image| filters.iter().all(|filter| filter.matches(image)));
        images.sort_by_cached_key(|image| {
            let name = image.aliases.first().map(|alias| alias.name.clone());
            (name.is_none(), name, image.fingerprint)
        });
        images
    }
}

fn reason_of_word(word: &str, image: &StoredImage) -> Option<String> {
    let begins = image.fingerprint.to_string().starts_with(&word.to_ascii_lowercase());
    if begins || image.aliases.iter().any(|alias| alias.name.contains(word)) {
        return None;
    }
    let lower = word.to_lowercase();
    if let Some(alias) = image.aliases.iter().find(|alias| alias.name.to_lowercase().contains(&lower)) {
        return Some(format!("`{word}`: the alias `{}` is written differently", alias.name));
    }
    if let Some((key, value)) = image.properties.iter().find(|(_, value)| value.to_lowercase() == lower) {
        return Some(format!("`{word}` is in no alias; a property has it: use `{key}={value}`"));
    }
    Some(if image.aliases.is_empty() {
        format!("`{word}`: it has no alias, and its fingerprint does not begin so")
    } else {
        let names: Vec<&str> = image.aliases.iter().map(|alias| alias.name.as_str()).collect();
        format!("`{word}` is neither in its aliases ({}) nor the beginning of its fingerprint", names.join(", "))
    })
}

fn reason_of_pair(key: &str, value: &str, image: &StoredImage) -> Option<String> {
    let mut found = Vec::new();
    let property = key.strip_prefix("properties.").unwrap_or(key);
    found.extend(image.properties.get(property).map(str::to_owned));
    found.extend(field(key, image));
    if found.iter().any(|found| equal(key, found, value)) {
        return None;
    }
    if let Some(other) = found.iter().find(|found| found.to_lowercase() == value.to_lowercase()) {
        return Some(format!("`{key}` is `{other}`, which is written differently from `{value}`"));
    }
    if !found.is_empty() {
        return Some(format!("`{key}` is `{}`, not `{value}`", found.join("`, `")));
    }
    let near = image.properties.iter().map(|(name, _)| name).find(|name| name.to_lowercase() == key.to_lowercase());
    Some(match near {
        Some(near) => format!("it has no `{key}`, but `{near}`"),
        None => format!("it has neither a property nor a field `{key}`"),
    })
}

fn equal(key: &str, found: &str, wanted: &str) -> bool {
    if found == wanted {
        return true;
    }
    matches!(key, "architecture" | "arch" | "properties.architecture" | "properties.arch")
        && match (found.parse::<Architecture>(), wanted.parse::<Architecture>()) {
            (Ok(found), Ok(wanted)) => found == wanted,
            _ => false,
        }
}

/// The values of a field, by the names that LXD's REST API has for them.
fn field(key: &str, image: &StoredImage) -> Vec<String> {
    let one = |value: &dyn fmt::Display| vec![value.to_string()];
    match key {
        "fingerprint" => one(&image.fingerprint),
        "type" => one(&image.image_type.name()),
        "architecture" => one(&image.architecture),
        "size" => one(&image.size),
        "public" => one(&image.public),
        "auto_update" => one(&image.auto_update),
        "cached" => one(&image.cached),
        "filename" => image.file_name.iter().cloned().collect(),
        "alias" | "aliases" => image.aliases.iter().map(|alias| alias.name.clone()).collect(),
        "created_at" => vec![rfc3339(Some(image.created_at))],
        "expires_at" => vec![rfc3339(image.expires_at)],
        "uploaded_at" => vec![rfc3339(Some(image.uploaded_at))],
        "last_used_at" => vec![rfc3339(image.last_used_at)],
        _ => Vec::new(),
    }
}

/// An image that a list left out, and why.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NearMiss {
    /// The image.
    pub image: StoredImage,
    /// One sentence for each filter that it does not meet.
    pub reasons: Vec<String>,
}

impl Store {
    /// The images that meet all filters, sorted by their first alias, those without one at the end.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    pub fn list(&self, filters: &[Filter]) -> Result<Vec<StoredImage>> {
        Ok(Filter::select(self.catalog.images()?, filters))
    }

    /// The images that do not meet all filters and why, those that nearly do first.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    pub fn explain(&self, filters: &[Filter]) -> Result<Vec<NearMiss>> {
        let mut misses: Vec<NearMiss> = self
            .catalog
            .images()?
            .into_iter()
            .map(|image| NearMiss {
                reasons: filters.iter().filter_map(|filter| filter.reason(&image)).collect(),
                image,
            })
            .filter(|miss| !miss.reasons.is_empty())
            .collect();
        misses.sort_by_key(|miss| (miss.reasons.len(), miss.image.fingerprint));
        Ok(misses)
    }
}
