//! From the YAML tree to [`Metadata`]: which keys exist, and which type each value must have.
//!
//! As strict as LXD and Incus, which decode the file into `api.ImageMetadata` with Go's `yaml.v2`:
//! null is an empty value, a boolean or a number must not be quoted, unknown keys are allowed.
//! Every error names line, column and key.

use super::document::{Metadata, MetadataField};
use super::properties::Properties;
use super::rule::{RuleField, TemplateRule};
use super::yaml::{KeyPath, MappingEntry, Node, NodeContent};
use crate::error::Result;

/// Builds the description from the top-level map.
///
/// # Errors
/// `Malformed` if the root is not a map, a value has the wrong type, or architecture or creation
/// date is missing.
pub(super) fn metadata(root: &Node) -> Result<Metadata> {
    let mut architecture = None;
    let mut creation_date = None;
    let mut expiry_date = None;
    let mut properties = Properties::new();
    let mut templates = Vec::new();
    let mut fields = Vec::new();
    let path = KeyPath::Root;
    if !matches!(root.content, NodeContent::Mapping(_)) {
        return Err(path.malformed(root.location, format!("metadata.yaml must be a map, this is {}", root.kind())));
    }
    for entry in entries(root, path)? {
        let (key, value) = (path.key(&entry.key), &*entry.value);
        fields.push(match entry.key.as_str() {
            "architecture" => {
                architecture = Some(text(value, key)?).filter(|name| !name.is_empty());
                MetadataField::Architecture
            }
            "creation_date" => {
                creation_date = date(value, key)?;
                MetadataField::CreationDate
            }
            "expiry_date" => {
                expiry_date = date(value, key)?;
                MetadataField::ExpiryDate
            }
            "properties" => {
                properties = text_map(value, key)?;
                MetadataField::Properties
            }
            "templates" => {
                templates = rules(value, key)?;
                MetadataField::Templates
            }
            _ => MetadataField::Other(entry.clone()),
        });
    }
    add_missing(&mut fields, MetadataField::KNOWN);
    Ok(Metadata {
        architecture: architecture.ok_or_else(|| {
            path.key("architecture").malformed(root.location, "missing or empty, and an image needs one")
        })?,
        creation_date: creation_date.ok_or_else(|| {
            path.key("creation_date").malformed(root.location, "missing or 0, and an image needs one")
        })?,
        expiry_date,
        properties,
        templates,
        fields,
    })
}

/// The map `templates`, in the order of the file.
fn rules(node: &Node, path: KeyPath<'_>) -> Result<Vec<(String, TemplateRule)>> {
    entries(node, path)?
        .iter()
        .map(|entry| Ok((entry.key.clone(), rule(&entry.value, path.key(&entry.key))?)))
        .collect()
}

/// One template rule. Incus's keys are read for both daemons.
fn rule(node: &Node, path: KeyPath<'_>) -> Result<TemplateRule> {
    let mut template = None;
    let mut when = Vec::new();
    let mut create_only = None;
    let mut properties = Properties::new();
    let (mut uid, mut gid, mut mode) = (None, None, None);
    let mut fields = Vec::new();
    for entry in entries(node, path)? {
        let (key, value) = (path.key(&entry.key), &*entry.value);
        let optional = || text(value, key).map(|text| Some(text).filter(|text| !text.is_empty()));
        fields.push(match entry.key.as_str() {
            "template" => {
                template = optional()?;
                RuleField::Template
            }
            "when" => {
                // LXD and Incus accept a rule without events. It never fires, and `image check`
                // warns about it.
                when = if value.is_null() { Vec::new() } else { texts(value, key)? };
                RuleField::When
            }
            "create_only" => {
                create_only = boolean(value, key)?;
                RuleField::CreateOnly
            }
            "properties" => {
                properties = text_map(value, key)?;
                RuleField::Properties
            }
            "uid" => {
                uid = optional()?;
                RuleField::Uid
            }
            "gid" => {
                gid = optional()?;
                RuleField::Gid
            }
            "mode" => {
                mode = optional()?;
                RuleField::Mode
            }
            _ => RuleField::Other(entry.clone()),
        });
    }
    add_missing(&mut fields, RuleField::KNOWN);
    Ok(TemplateRule {
        // LXD and Incus accept a rule without a template, and fail when it fires. `verify` reports it.
        template: template.unwrap_or_default(),
        when,
        create_only,
        properties,
        uid,
        gid,
        mode,
        fields,
    })
}

/// Inserts the known keys that the file lacks, each after the key that it usually follows.
///
/// Setting a value later then writes the key where a reader expects it, and not at the end.
fn add_missing<F: Clone + PartialEq>(fields: &mut Vec<F>, known: &[F]) {
    let mut at = 0;
    for field in known {
        match fields.iter().position(|there| there == field) {
            Some(index) => at = index + 1,
            None => {
                fields.insert(at, field.clone());
                at += 1;
            }
        }
    }
}

/// The entries of a map; null counts as an empty map.
pub(super) fn entries<'a>(node: &'a Node, path: KeyPath<'_>) -> Result<&'a [MappingEntry]> {
    match &node.content {
        NodeContent::Mapping(entries) => Ok(entries),
        _ if node.is_null() => Ok(&[]),
        _ => Err(path.malformed(node.location, format!("a map belongs here, not {}", node.kind()))),
    }
}

/// A scalar as text, exactly as it is spelled in the file.
pub(super) fn text(node: &Node, path: KeyPath<'_>) -> Result<String> {
    let NodeContent::Scalar(scalar) = &node.content else {
        return Err(path.malformed(node.location, format!("a text belongs here, not {}", node.kind())));
    };
    let text = scalar.text().map_err(|what| path.malformed(node.location, what))?;
    // Only `!!binary` can decode to a NUL. In other scalars the tree builder refused it already.
    if text.contains('\0') {
        return Err(path.malformed(node.location, "a NUL character"));
    }
    Ok(text.into_owned())
}

/// A list of texts.
pub(super) fn texts(node: &Node, path: KeyPath<'_>) -> Result<Vec<String>> {
    let NodeContent::Sequence(items) = &node.content else {
        return Err(path.malformed(node.location, format!("a list belongs here, not {}", node.kind())));
    };
    items.iter().enumerate().map(|(index, item)| text(item, path.index(index))).collect()
}

/// A map of texts.
pub(super) fn text_map(node: &Node, path: KeyPath<'_>) -> Result<Properties> {
    let pairs = entries(node, path)?
        .iter()
        .map(|entry| Ok((entry.key.clone(), text(&entry.value, path.key(&entry.key))?)))
        .collect::<Result<_>>()?;
    Ok(Properties::from_checked(pairs))
}

/// A boolean in one of YAML 1.1's spellings (`yes`, `on`, `true`), unquoted; `None` for null.
fn boolean(node: &Node, path: KeyPath<'_>) -> Result<Option<bool>> {
    let value = match &node.content {
        _ if node.is_null() => return Ok(None),
        NodeContent::Scalar(scalar) => scalar.boolean(),
        _ => None,
    };
    value.map(Some).ok_or_else(|| path.malformed(node.location, "true or false belongs here, without quotes"))
}

/// Seconds since 1970-01-01 UTC; `None` for 0 and null, which LXD does not tell apart.
fn date(node: &Node, path: KeyPath<'_>) -> Result<Option<i64>> {
    let date = match &node.content {
        _ if node.is_null() => Some(0),
        NodeContent::Scalar(scalar) => scalar.integer(),
        _ => None,
    };
    let date = date.ok_or_else(|| {
        path.malformed(node.location, "a number of seconds since 1970 belongs here, without quotes, of 64 bits at most")
    })?;
    Ok(Some(date).filter(|date| *date != 0))
}
