//! YAML other than `metadata.yaml`: a map of texts and of maps of texts, read under the same
//! limits.
//!
//! Two files have this shape: the text that people edit to change a stored image's properties
//! (`store::edit`), and the configuration of remotes (`remote::settings`).

use super::Properties;
use super::yaml::{self, Node, NodeContent};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// A value of the outer map.
#[derive(Debug)]
pub(crate) enum FlatValue {
    /// A scalar as it is spelled; `None` for null.
    Text(Option<String>),
    /// A map of scalars. Null inside counts as the empty text.
    Map(Properties),
    /// A list. No key of these files takes one, so its items are not kept; the caller reports it.
    List,
}

/// Reads a document whose root is a map, in the order of the file.
///
/// # Errors
/// As [`Metadata::parse`](super::Metadata::parse), and `Malformed` for maps nested deeper than two
/// levels.
pub(crate) fn parse_flat_map(bytes: &[u8], limits: &Limits) -> Result<Vec<(String, FlatValue)>> {
    let root = yaml::parse(bytes, limits)?;
    let NodeContent::Mapping(entries) = &root.content else {
        return Err(Error::malformed(format!("a map belongs here, not {}", root.kind())));
    };
    entries
        .iter()
        .map(|entry| {
            let value = match &entry.value.content {
                NodeContent::Scalar(_) => FlatValue::Text(text(&entry.value, &entry.key)?),
                NodeContent::Sequence(_) => FlatValue::List,
                NodeContent::Mapping(inner) => {
                    let mut map = Properties::new();
                    for inner in inner {
                        map.set(&*inner.key, text(&inner.value, &inner.key)?.unwrap_or_default())?;
                    }
                    FlatValue::Map(map)
                }
            };
            Ok((entry.key.clone(), value))
        })
        .collect()
}

/// The text of a scalar; `None` for null. `key` is named in the error.
fn text(node: &Node, key: &str) -> Result<Option<String>> {
    match &node.content {
        NodeContent::Scalar(scalar) if scalar.is_null() => Ok(None),
        NodeContent::Scalar(scalar) => match scalar.text() {
            Ok(text) => Ok(Some(text.into_owned())),
            Err(what) => Err(Error::malformed(format!("`{key}`: {what}"))),
        },
        _ => Err(Error::malformed(format!("`{key}`: a text belongs here, not {}", node.kind()))),
    }
}
