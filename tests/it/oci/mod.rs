//! Container images: layers to trees, layouts, bundles, and what hostile ones lead to. Everything is made by code; the
//! trees are compared with umoci's, and layouts go through skopeo.
#![allow(clippy::type_complexity, reason = "tables of cases")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "cli")]
mod bundles;
mod hostile;
mod layouts;
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lxd_image::format::{Codec, UnpackOptions};
use lxd_image::oci::{ContainerImage, ContainerOptions, Digest, Image, Layout};
use lxd_image::{Architecture, Limits, Monitor, Result};
use serde_json::{Value, json};

use crate::format::Place;
use crate::format::forge::{archive, compressed};

/// An image in the making: each layer a tar, with its codec.
pub(crate) struct Forged {
    pub(crate) layers: Vec<(Codec, Vec<u8>)>,
    /// Fields of the configuration, laid over those that a good one has.
    pub(crate) config: Value,
    /// Changes the manifest before it is written.
    pub(crate) change: fn(&mut Value),
}

impl Forged {
    /// An image of layers made of members.
    pub(crate) fn new(layers: &[&[Vec<u8>]]) -> Self {
        let layers = layers.iter().map(|members| (Codec::Gzip, archive(members))).collect();
        Self { layers, config: json!({}), change: |_| () }
    }

    pub(crate) fn codec(mut self, codec: Codec) -> Self {
        self.layers.iter_mut().for_each(|layer| layer.0 = codec);
        self
    }

    pub(crate) fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    pub(crate) fn change(mut self, change: fn(&mut Value)) -> Self {
        self.change = change;
        self
    }

    /// Writes a layout with the image under the name `box`; returns its directory.
    pub(crate) fn layout(&self, place: &Place, name: &str) -> PathBuf {
        let top = place.directory(name);
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for (codec, tar) in &self.layers {
            let (ending, bytes) = match codec {
                Codec::None => ("", tar.clone()),
                codec => (if *codec == Codec::Zstd { "+zstd" } else { "+gzip" }, compressed(*codec, tar)),
            };
            let kind = format!("application/vnd.oci.image.layer.v1.tar{ending}");
            layers.push(put(&top, &kind, &bytes));
            diff_ids.push(Digest::of(tar).to_string());
        }
        let mut config = json!({
            "created": "2023-11-14T22:13:20Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        for (key, value) in self.config.as_object().unwrap() {
            config[key] = value.clone();
        }
        let config = put(&top, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        (self.change)(&mut manifest);
        let mut entry = put(&top, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "box"});
        index(&top, &[entry]);
        top
    }
}

/// Writes a blob into a layout; its descriptor.
pub(crate) fn put(top: &Path, kind: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    let blobs = top.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(digest.hex()), bytes).unwrap();
    json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
}

/// Writes the marker and the index of a layout.
pub(crate) fn index(top: &Path, entries: &[Value]) {
    fs::write(top.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(top.join("index.json"), json!({"schemaVersion": 2, "manifests": entries}).to_string()).unwrap();
}

/// The image of a layout.
pub(crate) fn resolve(layout: &Layout, limits: &Limits) -> Result<Image> {
    Image::resolve(layout, layout.find(Some("box"))?, Architecture::X86_64, limits, &Monitor::none())
}

/// Unpacks the image of a layout.
pub(crate) fn unpack(
    layout: &Path,
    destination: &Path,
    options: &ContainerOptions,
    limits: &Limits,
    monitor: &Monitor,
) -> Result<()> {
    let layout = Layout::open(layout, limits, &Monitor::none())?;
    let image = resolve(&layout, limits)?;
    let container = ContainerImage::read(&layout, &image, &options.clone().limits(limits.clone()), monitor)?;
    container.unpack(destination, &UnpackOptions::new().all_xattrs(true), monitor).map(|_| ())
}

/// The paths and contents of a layout, whatever their times.
pub(crate) fn files(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut rest = vec![top.to_path_buf()];
    while let Some(at) = rest.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rest.push(path);
            } else {
                found.insert(path.strip_prefix(top).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}
