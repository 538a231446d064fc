//! From [`Metadata`] to the text of `metadata.yaml`, key by key in the order that the description
//! keeps.
//!
//! The layout is that of LXD's own files: block style, two spaces a level. It is fixed, because the
//! bytes are part of the fingerprint of a packed image.

use super::document::{Metadata, MetadataField};
use super::rule::{RuleField, TemplateRule};
use super::yaml::Emitter;

/// Writes the whole file.
pub(super) fn metadata(metadata: &Metadata) -> String {
    let mut out = Emitter::default();
    for field in metadata.written() {
        match field {
            MetadataField::Architecture => out.entry("architecture", |out| out.text(&metadata.architecture)),
            MetadataField::CreationDate => {
                out.entry("creation_date", |out| out.raw(&metadata.creation_date.to_string()));
            }
            MetadataField::ExpiryDate => {
                out.entry("expiry_date", |out| out.raw(&metadata.expiry_date.unwrap_or_default().to_string()));
            }
            MetadataField::Properties => out.entry("properties", |out| out.text_map(metadata.properties.iter())),
            MetadataField::Templates => out.entry("templates", |out| {
                out.nested(|out| {
                    for (path, rule) in metadata.templates() {
                        out.entry(path, |out| out.nested(|out| write_rule(out, rule)));
                    }
                });
            }),
            MetadataField::Other(entry) => out.unknown(entry),
        }
    }
    out.finish()
}

/// Writes the keys of one template rule at the emitter's level.
fn write_rule(out: &mut Emitter, rule: &TemplateRule) {
    for field in rule.written() {
        match field {
            RuleField::Template => out.entry("template", |out| out.text(&rule.template)),
            RuleField::When => out.entry("when", |out| out.texts(rule.when())),
            RuleField::CreateOnly => {
                out.entry("create_only", |out| out.raw(if rule.create_only() { "true" } else { "false" }));
            }
            RuleField::Properties => out.entry("properties", |out| out.text_map(rule.properties.iter())),
            RuleField::Uid => out.entry("uid", |out| out.text(rule.uid().unwrap_or_default())),
            RuleField::Gid => out.entry("gid", |out| out.text(rule.gid().unwrap_or_default())),
            RuleField::Mode => out.entry("mode", |out| out.text(rule.mode().unwrap_or_default())),
            RuleField::Other(entry) => out.unknown(entry),
        }
    }
}
