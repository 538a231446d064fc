//! From the YAML tree to `Metadata`: which keys there are, and of which type each must be.
//! Laxer than our own writer, exactly as strict as LXD and Incus; the error names the key.

use super::document::{Field, Metadata};
use super::properties::Properties;
use super::rule::{RuleField, TemplateRule};
use super::yaml::{Content, Entry, Node, Path};
use crate::error::Result;

pub(super) fn metadata(root: &Node) -> Result<Metadata> {
    let mut architecture = None;
    let mut creation_date = None;
    let mut expiry_date = None;
    let mut properties = Properties::new();
    let mut templates = Vec::new();
    let mut fields = Vec::new();
    let path = Path::Root;
    if !matches!(root.content, Content::Mapping(_)) {
        return Err(path.malformed(root.place, format!("metadata.yaml must be a map, this is {}", root.kind())));
    }
    for entry in entries(root, path)? {
        let (key, value) = (path.key(&entry.key), &*entry.value);
        fields.push(match entry.key.as_str() {
            "architecture" => {
                architecture = Some(text(value, key)?).filter(|name| !name.is_empty());
                Field::Architecture
            }
            "creation_date" => {
                creation_date = date(value, key)?;
                Field::CreationDate
            }
            "expiry_date" => {
                expiry_date = date(value, key)?;
                Field::ExpiryDate
            }
            "properties" => {
                properties = text_map(value, key)?;
                Field::Properties
            }
            "templates" => {
                templates = rules(value, key)?;
                Field::Templates
            }
            _ => Field::Other(entry.clone()),
        });
    }
    add_missing(&mut fields, Field::KNOWN);
    Ok(Metadata {
        architecture: architecture.ok_or_else(|| {
            path.key("architecture").malformed(root.place, "missing or empty, and an image needs one")
        })?,
        creation_date: creation_date
            .ok_or_else(|| path.key("creation_date").malformed(root.place, "missing or 0, and an image needs one"))?,
        expiry_date,
        properties,
        templates,
        fields,
    })
}

fn rules(node: &Node, path: Path<'_>) -> Result<Vec<(String, TemplateRule)>> {
    entries(node, path)?
        .iter()
        .map(|entry| Ok((entry.key.clone(), rule(&entry.value, path.key(&entry.key))?)))
        .collect()
}

fn rule(node: &Node, path: Path<'_>) -> Result<TemplateRule> {
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
            path.key("template").malformed(node.place, "missing or empty, and a template rule needs one")
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

/// Gives every known key a place, for when it gets a value: behind the one that it usually follows.
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
fn entries<'a>(node: &'a Node, path: Path<'_>) -> Result<&'a [Entry]> {
    match &node.content {
        Content::Mapping(entries) => Ok(entries),
        _ if node.is_null() => Ok(&[]),
        _ => Err(path.malformed(node.place, format!("a map belongs here, not {}", node.kind()))),
    }
}

fn text(node: &Node, path: Path<'_>) -> Result<String> {
    let Content::Scalar(scalar) = &node.content else {
        return Err(path.malformed(node.place, format!("a text belongs here, not {}", node.kind())));
    };
    let text = scalar.text().map_err(|what| path.malformed(node.place, what))?;
    // Decoded binary data; other scalars were looked at when they were read.
    if text.contains('\0') {
        return Err(path.malformed(node.place, "a NUL character"));
    }
    Ok(text.into_owned())
}

fn texts(node: &Node, path: Path<'_>) -> Result<Vec<String>> {
    let Content::Sequence(items) = &node.content else {
        return Err(path.malformed(node.place, format!("a list belongs here, not {}", node.kind())));
    };
    items.iter().enumerate().map(|(index, item)| text(item, path.index(index))).collect()
}

fn text_map(node: &Node, path: Path<'_>) -> Result<Properties> {
    let pairs = entries(node, path)?
        .iter()
        .map(|entry| Ok((entry.key.clone(), text(&entry.value, path.key(&entry.key))?)))
        .collect::<Result<_>>()?;
    Ok(Properties::from_checked(pairs))
}

fn boolean(node: &Node, path: Path<'_>) -> Result<Option<bool>> {
    let value = match &node.content {
        _ if node.is_null() => return Ok(None),
        Content::Scalar(scalar) => scalar.boolean(),
        _ => None,
    };
    value.map(Some).ok_or_else(|| path.malformed(node.place, "true or false belongs here, without quotes"))
}

/// Seconds since 1970; `None` for 0 and null.
fn date(node: &Node, path: Path<'_>) -> Result<Option<i64>> {
    let date = match &node.content {
        _ if node.is_null() => Some(0),
        Content::Scalar(scalar) => scalar.integer(),
        _ => None,
    };
    let date = date.ok_or_else(|| {
        path.malformed(node.place, "a number of seconds since 1970 belongs here, without quotes, of 64 bits at most")
    })?;
    Ok(Some(date).filter(|date| *date != 0))
}
