//! Sidecars: for each image an object with what its row says, so that a lost catalog can be rebuilt.
//!
//! A sidecar describes one revision of a row and is never changed; the next revision gets a new
//! one. The architecture, the type and the sizes are not part of it, since the image itself has
//! them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blobs::BlobKey;
use super::catalog::Attachment;
use super::image::{Alias, StoredImage, UpdateSource};
use crate::error::{Error, Result};
use crate::metadata::Properties;

/// The content of a sidecar: JSON, one object. Fields may be added in later layouts, and never change their meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sidecar {
    layout: u64,
    fingerprint: String,
    revision: u64,
    aliases: Vec<SidecarAlias>,
    public: bool,
    auto_update: bool,
    cached: bool,
    expires_at: Option<i64>,
    uploaded_at: i64,
    file_name: Option<String>,
    rootfs_name: Option<String>,
    source: Option<UpdateSource>,
    /// Fields of the source's description that are not known here. Left out without any, as older versions do.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
    properties: Map<String, Value>,
    original_properties: Map<String, Value>,
    /// The keys of the image's files; layout 1 had no others than the fingerprint's.
    #[serde(default)]
    image_object: Option<String>,
    #[serde(default)]
    rootfs_object: Option<String>,
    /// The texts beside the image. Left out without any, as older versions do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
}

/// An alias in a sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SidecarAlias {
    name: String,
    description: String,
}

/// The largest sidecar that is read, in bytes. Real ones have some hundred bytes to some KiB,
/// depending on the properties; statements about the image can make them larger ([`crate::Limits::statements`]).
pub(crate) const MAX_BYTES: u64 = 128 << 20;

/// Properties as a JSON object.
fn map(properties: &Properties) -> Map<String, Value> {
    properties.iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}

/// The properties in a JSON object, all of which must be strings.
fn properties(map: &Map<String, Value>) -> Result<Properties> {
    let mut properties = Properties::new();
    for (key, value) in map {
        let value = value.as_str().ok_or_else(|| Error::malformed("a property in a sidecar is not a string"))?;
        properties.set(key, value)?;
    }
    Ok(properties)
}

impl Sidecar {
    /// The sidecar of a row and of the texts beside the image.
    pub(crate) fn of(image: &StoredImage, attachments: &[Attachment]) -> Self {
        Self {
            layout: super::layout::VERSION,
            fingerprint: image.fingerprint.to_string(),
            revision: image.revision,
            aliases: image
                .aliases
                .iter()
                .map(|alias| SidecarAlias { name: alias.name.clone(), description: alias.description.clone() })
                .collect(),
            public: image.public,
            auto_update: image.auto_update,
            cached: image.cached,
            expires_at: image.expires_at,
            uploaded_at: image.uploaded_at,
            file_name: image.file_name.clone(),
            rootfs_name: image.rootfs_name.clone(),
            source: image.source.clone(),
            fields: image.other.clone(),
            properties: map(&image.properties),
            original_properties: map(&image.original_properties),
            image_object: Some(image.objects.image.to_string()),
            rootfs_object: image.objects.rootfs.as_ref().map(BlobKey::to_string),
            attachments: attachments.to_vec(),
        }
    }

    /// Whether it says what the row says. A sidecar of an older layout is compared without the
    /// fields that it did not have.
    pub(crate) fn agrees_with(&self, image: &StoredImage, attachments: &[Attachment]) -> bool {
        let mut expected = Self::of(image, attachments);
        if self.layout < expected.layout {
            // Written by an older version, which had fewer fields.
            (expected.layout, expected.image_object, expected.rootfs_object) = (self.layout, None, None);
        }
        *self == expected
    }

    /// The text of the sidecar, indented: people read it when something went wrong.
    pub(crate) fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|error| Error::malformed("a sidecar can't be written").with_source(error))? + "\n")
    }

    /// Parses a sidecar.
    ///
    /// # Errors
    /// `Malformed` for text that is no sidecar, `Unsupported` for one of a newer layout.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let sidecar: Self = serde_json::from_slice(text)
            .map_err(|error| Error::malformed("a sidecar file is damaged").with_source(error))?;
        if !(1..=super::layout::VERSION).contains(&sidecar.layout) {
            return Err(Error::unsupported(format!("a sidecar file has layout version {}", sidecar.layout)));
        }
        // A revision is a signed 64-bit integer in the catalog.
        if i64::try_from(sidecar.revision).is_err() {
            return Err(Error::malformed("a sidecar file has a revision that no store comes to"));
        }
        Ok(sidecar)
    }

    /// The texts beside the image.
    pub(crate) fn into_attachments(self) -> Vec<Attachment> {
        self.attachments
    }

    /// Sets the fields of `image` that the sidecar has.
    ///
    /// # Errors
    /// `Mismatch` for the sidecar of another image; `InvalidInput` or `Malformed` for values that no store writes.
    pub(crate) fn restore(&self, image: &mut StoredImage) -> Result<()> {
        if self.fingerprint != image.fingerprint.to_string() {
            return Err(Error::mismatch(
                "the fingerprint in a sidecar",
                image.fingerprint.to_string(),
                &*self.fingerprint,
            ));
        }
        image.properties = properties(&self.properties)?;
        image.original_properties = properties(&self.original_properties)?;
        image.revision = self.revision;
        image.public = self.public;
        image.auto_update = self.auto_update;
        image.cached = self.cached;
        image.expires_at = self.expires_at;
        image.uploaded_at = self.uploaded_at;
        image.file_name = self.file_name.as_deref().and_then(super::stage::plain_name);
        image.rootfs_name = self.rootfs_name.as_deref().and_then(super::stage::plain_name);
        image.source.clone_from(&self.source);
        image.other.clone_from(&self.fields);
        image.aliases.clear();
        for alias in &self.aliases {
            image.aliases.push(Alias::new(&*alias.name)?.described(&*alias.description));
        }
        Ok(())
    }
}
