//! Documents of OCI and Docker: descriptors, manifests and indexes.
//!
//! They are parsed strictly where two readers could see different images in one document, and keep what they don't
//! know: fields of later versions survive reading and writing.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digest::Digest;
use super::media_type;
use super::platform::Platform;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::protocol::{json_depth, nullable};

/// Annotations and labels: names and values, sorted.
pub type Annotations = BTreeMap<String, String>;

/// Names a blob: its type, digest and size.
///
/// ```
/// use lxd_image::oci::Descriptor;
///
/// let empty = Descriptor::of("application/vnd.oci.empty.v1+json", b"{}");
/// assert_eq!(empty.size, 2);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub size: u64,
    /// Other places that have the bytes. They are never followed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What the manifest that is named here holds, where that is no container image.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The machine that a manifest of an index is for.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// Describes a blob by its type, digest and size.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            artifact_type: None,
            platform: None,
            annotations: Annotations::new(),
            extra: Map::new(),
        }
    }

    /// Describes bytes in memory.
    #[must_use]
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// An annotation by its name.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }
}

/// A manifest: a configuration and layers. Docker's schema 2 has the same form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2, in all manifests that are read.
    pub schema_version: u64,
    /// The type of this document. OCI images need not state it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it holds, where it is no container image.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers: of a container image, the lowest one first.
    #[serde(deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// An OCI manifest of a configuration and layers.
    #[must_use]
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::IMAGE_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: Annotations::new(),
            extra: Map::new(),
        }
    }

    /// What the manifest holds, where it is no container image: its artifact type, or the type of its configuration
    /// as artifacts stated it before OCI 1.1.
    #[must_use]
    pub fn artifact_type(&self) -> Option<&str> {
        let config = self.config.media_type.as_str();
        let of_config =
            !matches!(config, media_type::IMAGE_CONFIG | media_type::DOCKER_CONFIG | media_type::EMPTY | "");
        self.artifact_type.as_deref().filter(|text| !text.is_empty()).or_else(|| of_config.then_some(config))
    }
}

/// An index: manifests for several machines, or the images of a layout. Docker calls it a manifest list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2, in all indexes that are read.
    pub schema_version: u64,
    /// The type of this document. OCI indexes need not state it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it holds, where it is no container image.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, or further indexes.
    #[serde(deserialize_with = "nullable")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index says something about.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Index {
    /// An OCI index of manifests.
    #[must_use]
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::IMAGE_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: Annotations::new(),
            extra: Map::new(),
        }
    }
}

/// A document that a tag or a digest names.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one is parsed at a time, and none is kept in a list")]
pub enum Document {
    /// A manifest.
    Manifest(Manifest),
    /// An index of manifests.
    Index(Index),
}

/// The fields that tell documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: Value,
    #[serde(default, deserialize_with = "nullable")]
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Parses a manifest or an index. `stated` is the type that its descriptor or the server states, if any; a type in
    /// the document itself must be the same.
    ///
    /// # Errors
    /// `Unsupported` for schema 1 and for types that are neither; `Malformed`, also for a document that would pass for
    /// both; `LimitExceeded` for `oci_document`, `oci_layers`, `oci_manifests` and `json_depth`.
    pub fn parse(bytes: &[u8], stated: Option<&str>, limits: &Limits) -> Result<Self> {
        let probe: Probe = parse(bytes, "the manifest", limits)?;
        let is_schema_1 = |media_type: &str| media_type.starts_with("application/vnd.docker.distribution.manifest.v1+");
        let inner = probe.media_type.as_deref().filter(|inner| !inner.is_empty());
        if probe.fs_layers.is_some()
            || probe.schema_version == 1
            || inner.is_some_and(is_schema_1)
            || stated.is_some_and(is_schema_1)
        {
            return Err(Error::unsupported("a manifest of schema 1, which Docker gave up in 2017")
                .with_hint("push the image again with a current tool"));
        }
        if probe.schema_version != 2 {
            return Err(Error::malformed("the manifest has no `schemaVersion` of 2"));
        }
        let stated = stated.filter(|stated| media_type::DOCUMENTS.contains(stated));
        if let (Some(inner), Some(stated)) = (inner, stated)
            && inner != stated
        {
            return Err(Error::mismatch("the type of a manifest", stated, shorten(inner)));
        }
        // A reader that sees layers and one that sees manifests would run different images (CVE-2021-41190).
        if probe.manifests.is_some() && (probe.layers.is_some() || probe.config.is_some()) {
            return Err(Error::malformed("the document is both a manifest and an index"));
        }
        let is_index = match inner.or(stated) {
            Some(media_type::IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST) => true,
            Some(media_type::IMAGE_MANIFEST | media_type::DOCKER_MANIFEST) => false,
            None => probe.manifests.is_some(),
            Some(other) => {
                let shown = shorten(other);
                return Err(Error::unsupported(format!("`{shown}` is neither a manifest nor an index known here")));
            }
        };
        if is_index {
            let index: Index = parse(bytes, "the index", limits)?;
            let count = index.manifests.len() as u64;
            if count > limits.oci_manifests {
                return Err(Error::limit("oci_manifests", limits.oci_manifests, format_args!("an index of {count}")));
            }
            return Ok(Self::Index(index));
        }
        let manifest: Manifest = parse(bytes, "the manifest", limits)?;
        let count = manifest.layers.len() as u64;
        if count > limits.oci_layers {
            return Err(Error::limit("oci_layers", limits.oci_layers, format_args!("a manifest of {count} layers")));
        }
        Ok(Self::Manifest(manifest))
    }

    /// The manifest.
    ///
    /// # Errors
    /// `Unsupported` for an index.
    pub fn into_manifest(self) -> Result<Manifest> {
        match self {
            Self::Manifest(manifest) => Ok(manifest),
            Self::Index(_) => Err(Error::unsupported("an index stands where a manifest should be")),
        }
    }
}

/// A bounded part of untrusted text for a message.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Parses a document after its size and its nesting were compared with the limits.
pub(super) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str, limits: &Limits) -> Result<T> {
    if bytes.len() as u64 > limits.oci_document {
        let size = bytes.len();
        return Err(Error::limit("oci_document", limits.oci_document, format_args!("{what} of {size} bytes")));
    }
    if json_depth(bytes) > limits.json_depth {
        return Err(Error::limit("json_depth", limits.json_depth, format_args!("the nesting of {what}")));
    }
    // serde takes an array for a struct, field by field.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Error::malformed(format!("{what} holds no JSON object")));
    }
    serde_json::from_slice(bytes).map_err(|error| Error::malformed(format!("{what} cannot be parsed: {error}")))
}

/// The bytes of a document. The same value gives the same bytes.
///
/// # Errors
/// None in practice: what is written here has text for keys.
pub fn to_json<T: Serialize>(document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(document)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "a document cannot be written").with_source(error))
}
