//! Filters for lists: words and `key=value` pairs, as `lxc image list` takes them, with the reason
//! why an image does not match.
//!
//! One function both decides and explains, so that the two cannot differ.

use std::fmt;
use std::str::FromStr;

use regex_lite::Regex;

use super::column::{Column, time_text};
use super::image::StoredImage;
use crate::error::{Error, Escaped, Result};
use crate::fingerprint::FingerprintPrefix;
use crate::metadata::Architecture;
use crate::time::rfc3339;

/// One condition on an image.
///
/// - A word matches a part of an alias, or the beginning of a fingerprint (at least two digits).
/// - `key=value` matches a property, a field of the image by its name in LXD's REST API, or a
///   column of a list, always as a whole. All names of an architecture are equal, and values match
///   as lists show them, too.
/// - A value with characters that are special in a regular expression is also tried as one. It must
///   match the whole value, unless it contains `^` or `$`.
/// - A key that is neither a property nor a field may abbreviate the name of a property, as with `lxc`.
///
/// ```
/// use lxd_image::store::Filter;
///
/// let filters: Vec<Filter> = ["debian", "architecture=amd64", "release=2[24].04"].map(|text| text.parse().unwrap()).into();
/// assert_eq!(filters[1].to_string(), "architecture=amd64");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Kind);

/// The two forms of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    Pair(String, Value),
}

/// The value of a pair, and the regular expression that it may be.
#[derive(Debug, Clone)]
struct Value {
    text: String,
    pattern: Option<Regex>,
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        // The pattern follows from the text.
        self.text == other.text
    }
}

impl Eq for Value {}

impl Value {
    /// Compiles the pattern, if the text has special characters.
    fn new(text: &str) -> Self {
        let pattern =
            text.contains(|letter| r"\.+*?()|[]{}^$".contains(letter)).then(|| match text.contains(['^', '$']) {
                true => Regex::new(text),
                false => Regex::new(&format!("^(?:{text})$")),
            });
        // As LXD does: a text that does not compile is only compared as a text.
        Self { text: text.to_owned(), pattern: pattern.and_then(std::result::Result::ok) }
    }

    /// Whether a value of an image is the wanted one.
    fn is(&self, found: &str) -> bool {
        found == self.text || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(found))
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some(("", _)) => Err(Error::invalid(format!("the filter `{text}` has no key"))),
            Some((key, value)) => Ok(Self(Kind::Pair(key.to_owned(), Value::new(value)))),
            None if text.is_empty() => Err(Error::invalid("an empty filter matches nothing")),
            None => Ok(Self(Kind::Word(text.to_owned()))),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Word(word) => f.write_str(word),
            Kind::Pair(key, value) => write!(f, "{key}={}", value.text),
        }
    }
}

impl Filter {
    /// Whether the image matches.
    #[must_use]
    pub fn matches(&self, image: &StoredImage) -> bool {
        self.reason(image).is_none()
    }

    /// Why the image does not match; `None` if it does.
    #[must_use]
    pub fn reason(&self, image: &StoredImage) -> Option<String> {
        match &self.0 {
            Kind::Word(word) => reason_of_word(word, image),
            Kind::Pair(key, value) => reason_of_pair(key, value, image),
        }
    }
}

impl Filter {
    /// Keeps the images that match all filters, sorted by their first alias; those without one are last.
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

/// Why an image does not match a word, with a hint if a property or another spelling would match.
fn reason_of_word(word: &str, image: &StoredImage) -> Option<String> {
    // A single digit would match every sixteenth image: it is taken as a letter of a name only.
    let begins = word.len() > 1 && image.fingerprint.to_string().starts_with(&word.to_ascii_lowercase());
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

/// Why an image does not match a pair.
fn reason_of_pair(key: &str, value: &Value, image: &StoredImage) -> Option<String> {
    let mut found = Vec::new();
    let property = key.strip_prefix("properties.").unwrap_or(key);
    found.extend(image.properties.get(property).map(str::to_owned));
    found.extend(field(key, image));
    let shown = shown(key, image);
    let known = !found.is_empty() || !shown.is_empty();
    if !known {
        found
            .extend(image.properties.iter().filter(|(name, _)| abbreviates(property, name)).map(|(_, v)| v.to_owned()));
    }
    if found.iter().chain(&shown).any(|found| equal(key, found, value)) {
        return None;
    }
    let wanted = &value.text;
    if let Some(other) = found.iter().find(|found| found.to_lowercase() == wanted.to_lowercase()) {
        return Some(format!("`{key}` is `{other}`, which is written differently from `{wanted}`"));
    }
    // A flag or a time has several spellings; naming the first is enough.
    let is = if found.is_empty() { shown } else { found };
    let several = matches!(key, "alias" | "aliases");
    let is: Vec<&str> = is.iter().map(String::as_str).take(if several { usize::MAX } else { 1 }).collect();
    if !is.is_empty() {
        return Some(format!("`{key}` is `{}`, not `{wanted}`", is.join("`, `")));
    }
    let near = image.properties.iter().map(|(name, _)| name).find(|name| name.to_lowercase() == key.to_lowercase());
    Some(match near {
        Some(near) => format!("it has no `{key}`, but `{near}`"),
        None => format!("it has neither a property nor a field `{key}`"),
    })
}

/// Whether `key` abbreviates the name of a property, component by component between the dots, as `lxc` does.
fn abbreviates(key: &str, name: &str) -> bool {
    key.split('.').count() == name.split('.').count()
        && key.split('.').zip(name.split('.')).all(|(short, whole)| !short.is_empty() && whole.starts_with(short))
}

/// Whether a value of an image equals the wanted one, with the equivalences of its key.
fn equal(key: &str, found: &str, wanted: &Value) -> bool {
    if wanted.is(found) {
        return true;
    }
    let text = &*wanted.text;
    match key {
        "architecture" | "arch" | "properties.architecture" | "properties.arch" => {
            match (found.parse::<Architecture>(), text.parse::<Architecture>()) {
                (Ok(found), Ok(wanted)) => found == wanted,
                _ => false,
            }
        }
        "type" | "public" | "cached" | "auto_update" => found.eq_ignore_ascii_case(text),
        "fingerprint" => text.parse::<FingerprintPrefix>().is_ok_and(|digits| found.starts_with(digits.as_str())),
        // Lists escape control characters, and people copy what lists show.
        _ => Escaped(found.as_bytes()).to_string() == text,
    }
}

/// The values that lists show in the column `key`, with `_` or `-` for blanks in its name.
fn shown(key: &str, image: &StoredImage) -> Vec<String> {
    let key = match key {
        "uploaded_at" => "upload date".to_owned(),
        other => other.replace(['_', '-'], " "),
    };
    let columns = Column::ALL.into_iter().filter(|column| column.name() == key);
    columns.flat_map(|column| column.values(image)).filter(|value| !value.is_empty()).collect()
}

/// The values of a field, by its name in LXD's REST API.
fn field(key: &str, image: &StoredImage) -> Vec<String> {
    let one = |value: &dyn fmt::Display| vec![value.to_string()];
    // Lists show `yes` where the API writes `true`: both match.
    let flag = |yes: bool| vec![yes.to_string(), (if yes { "yes" } else { "no" }).to_owned()];
    match key {
        "fingerprint" => one(&image.fingerprint),
        "type" => one(&image.image_type.name()),
        "architecture" | "arch" => one(&image.architecture),
        "size" => one(&image.size),
        "public" => flag(image.public),
        "auto_update" => flag(image.auto_update),
        "cached" => flag(image.cached),
        "filename" => image.file_name.iter().cloned().collect(),
        "alias" | "aliases" => image.aliases.iter().map(|alias| alias.name.clone()).collect(),
        "created_at" => moment(Some(image.created_at), ""),
        "expires_at" => moment(image.expires_at, "never"),
        "uploaded_at" => moment(Some(image.uploaded_at), ""),
        "last_used_at" => moment(image.last_used_at, "never"),
        _ => Vec::new(),
    }
}

/// The spellings of a time: as the API writes it, as lists show it, and its day.
fn moment(seconds: Option<i64>, otherwise: &str) -> Vec<String> {
    let written = rfc3339(seconds);
    let day = written.split('T').next().filter(|_| seconds.is_some()).map(str::to_owned);
    [written.clone(), time_text(seconds, otherwise)].into_iter().chain(day).collect()
}

impl Filter {
    /// The images that do not match all filters, with the reasons; those that match most filters are first.
    #[must_use]
    pub fn explain(images: Vec<StoredImage>, filters: &[Self]) -> Vec<NearMiss> {
        let mut misses: Vec<NearMiss> = images
            .into_iter()
            .map(|image| NearMiss {
                reasons: filters.iter().filter_map(|filter| filter.reason(&image)).collect(),
                image,
            })
            .filter(|miss| !miss.reasons.is_empty())
            .collect();
        misses.sort_by_key(|miss| (miss.reasons.len(), miss.image.fingerprint));
        misses
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
