//! [`Metadata`] for serde: the known keys of `metadata.yaml`, as `--format json` prints them.
//!
//! For programs: every known key is present even if it is empty, except those that only Incus
//! knows.

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use super::document::Metadata;
use super::rule::TemplateRule;

impl Serialize for Metadata {
    /// A struct with `architecture`, `creation_date`, `expiry_date` (0 for never), `properties`
    /// and `templates`; unknown keys are left out.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Metadata", 5)?;
        out.serialize_field("architecture", &self.architecture)?;
        out.serialize_field("creation_date", &self.creation_date)?;
        out.serialize_field("expiry_date", &self.expiry_date.unwrap_or_default())?;
        out.serialize_field("properties", &self.properties)?;
        out.serialize_field("templates", &Templates(&self.templates))?;
        out.end()
    }
}

/// The map of rules by path. A map and not a list, as in the file; serde keeps the order.
struct Templates<'a>(&'a [(String, TemplateRule)]);

impl Serialize for Templates<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(path, rule)| (path, rule)))
    }
}

impl Serialize for TemplateRule {
    /// A map with `template`, `when`, `create_only`, `properties`; `uid`, `gid` and `mode` where set.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("template", &self.template)?;
        out.serialize_entry("when", &self.when)?;
        out.serialize_entry("create_only", &self.create_only())?;
        out.serialize_entry("properties", &self.properties)?;
        for (key, value) in [("uid", &self.uid), ("gid", &self.gid), ("mode", &self.mode)] {
            if let Some(value) = value {
                out.serialize_entry(key, value)?;
            }
        }
        out.end()
    }
}
