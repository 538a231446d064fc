//! Other YAML than `metadata.yaml`: a map of texts and of maps of texts, read under the same bounds.
//! For the text that people edit when they change what a store knows of an image.

use super::Properties;
use super::yaml::{self, Node, NodeContent};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// A value that is no deeper than it needs to be.
#[derive(Debug)]
pub(crate) enum FlatValue {
    /// A scalar as it stands there; nothing for null.
    Text(Option<String>),
    /// A map of scalars.
    Map(Properties),
    /// A list, which nobody looks into.
    List,
}

/// Reads a document that is a map.
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
