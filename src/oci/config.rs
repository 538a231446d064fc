//! [`ImageConfig`]: the configuration of a container image, which names its uncompressed layers and what it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digest::Digest;
use super::document::{Annotations, Manifest, parse};
use super::platform::Platform;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::protocol::nullable;

/// The configuration of a container image, of OCI or Docker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, in RFC 3339.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Go's name of the architecture, such as `amd64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Go's name of the operating system, such as `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// The variant of the architecture, such as `v7`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What a container of it runs.
    #[serde(default, deserialize_with = "nullable")]
    pub config: RunConfig,
    /// The layers.
    pub rootfs: RootfsLayers,
    /// How each layer was made.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a container of an image runs, and how.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user`, `uid`, `user:group` …; empty for root.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port/protocol`, the keys of an object.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=value`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entry point.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories whose content belongs to the instance.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Value>,
    /// The directory to start in; empty for `/`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Annotations,
    /// The signal that stops it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The digests of the uncompressed layers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RootfsLayers {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One digest for each layer, the lowest first.
    #[serde(deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// How a layer was made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, in RFC 3339.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A step that changed no file and has no layer.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ImageConfig {
    /// Parses the configuration of a manifest.
    ///
    /// # Errors
    /// `Malformed`, also where it doesn't name exactly one uncompressed layer for each layer of the manifest;
    /// `LimitExceeded` for `oci_document` and `json_depth`.
    pub fn parse(bytes: &[u8], manifest: &Manifest, limits: &Limits) -> Result<Self> {
        let config: Self = parse(bytes, "the image's configuration", limits)?;
        if config.rootfs.kind != "layers" {
            return Err(Error::malformed("the `rootfs.type` of the image's configuration is not `layers`"));
        }
        let (ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
        if ids != layers {
            return Err(Error::malformed(format!(
                "the image's configuration has {ids} layers in `rootfs.diff_ids`, its manifest has {layers}"
            )));
        }
        Ok(config)
    }

    /// The machine that the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
            extra: Map::new(),
        }
    }

    /// When the image was made, in seconds since 1970; `None` where it doesn't say.
    #[must_use]
    pub fn created_seconds(&self) -> Option<i64> {
        self.created.as_deref().and_then(crate::time::parse)
    }
}
