//! From the YAML tree to `Metadata`: which keys there are, and of which type each must be.
//! Laxer than our own writer, exactly as strict as LXD and Incus; the error names the key.

use super::document::{Metadata, MetadataField};
use super::properties::Properties;
use super::rule::{RuleField, TemplateRule};
use super::yaml::{KeyPath, MappingEntry, Node, NodeContent};
use crate::error::Result;

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

fn rules(node: &Node, path: KeyPath<'_>) -> Result<Vec<(String, TemplateRule)>> {
    entries(node, path)?
        .iter()
        .map(|entry| Ok((entry.key.clone(), rule(&entry.value, path.key(&entry.key))?)))
        .collect()
}

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
                // As LXD and Incus read it: a rule without events is one that never fires.
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
        template: template.ok_or_else(|| {
            path.key("template").malformed(node.location, "missing or empty, and a template rule needs one")
        })?,
        when,
        create_only,
        properties,
        uid,
        gid,
        mode,
        fields,
    })
}

/// Gives every known key a position, for when it gets a value: behind the one that it usually follows.
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

/// The entries of a map; null is an empty one.
fn entries<'a>(node: &'a Node, path: KeyPath<'_>) -> Result<&'a [MappingEntry]> {
    match &node.content {
        NodeContent::Mapping(entries) => Ok(entries),
        _ if node.is_null() => Ok(&[]),
        _ => Err(path.malformed(node.location, format!("a map belongs here, not {}", node.kind()))),
    }
}

fn text(node: &Node, path: KeyPath<'_>) -> Result<String> {
    let NodeContent::Scalar(scalar) = &node.content else {
        return Err(path.malformed(node.location, format!("a text belongs here, not {}", node.kind())));
    };
    let text = scalar.text().map_err(|what| path.malformed(node.location, what))?;
    // Decoded binary data; other scalars were looked at when they were read.
    if text.contains('\0') {
        return Err(path.malformed(node.location, "a NUL character"));
    }
    Ok(text.into_owned())
}

fn texts(node: &Node, path: KeyPath<'_>) -> Result<Vec<String>> {
    let NodeContent::Sequence(items) = &node.content else {
        return Err(path.malformed(node.location, format!("a list belongs here, not {}", node.kind())));
    };
    items.iter().enumerate().map(|(index, item)| text(item, path.index(index))).collect()
}

fn text_map(node: &Node, path: KeyPath<'_>) -> Result<Properties> {
    let pairs = entries(node, path)?
        .iter()
        .map(|entry| Ok((entry.key.clone(), text(&entry.value, path.key(&entry.key))?)))
        .collect::<Result<_>>()?;
    Ok(Properties::from_checked(pairs))
}

fn boolean(node: &Node, path: KeyPath<'_>) -> Result<Option<bool>> {
    let value = match &node.content {
        _ if node.is_null() => return Ok(None),
        NodeContent::Scalar(scalar) => scalar.boolean(),
        _ => None,
    };
    value.map(Some).ok_or_else(|| path.malformed(node.location, "true or false belongs here, without quotes"))
}

/// Seconds since 1970; `None` for 0 and null.
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
