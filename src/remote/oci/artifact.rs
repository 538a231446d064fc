//! Images of LXD and Incus as artifacts of a registry: the form that is written here, and those that others write.
//!
//! | artifact type | layers | fingerprint |
//! |---|---|---|
//! | `application/vnd.lxd-image.v1` | the files in the order of the fingerprint | annotation; if unified, its layer's digest |
//! | `application/vnd.incus.image.v1` | one unified file | its layer's digest |
//! | any | `application/vnd.incus.metadata` and a disk or a rootfs | known after the download |
//! | none | the rootfs, with the metadata attached (`attached.rs`) | known after the download |

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::metadata::{Architecture, Properties};
use crate::oci::{Annotations, Descriptor, Manifest};

/// The artifact type of an image.
pub(super) const ARTIFACT: &str = "application/vnd.lxd-image.v1";
/// Before the media types of its files.
pub(super) const LAYER: &str = "application/vnd.lxd-image.";
/// The fingerprint.
pub(super) const FINGERPRINT: &str = "vnd.lxd-image.fingerprint";
/// `container` or `virtual-machine`.
pub(super) const TYPE: &str = "vnd.lxd-image.type";
/// The kernel's name of the machine.
pub(super) const ARCHITECTURE: &str = "vnd.lxd-image.architecture";
/// When it expires, in RFC 3339.
pub(super) const EXPIRES: &str = "vnd.lxd-image.expires";
/// Before the name of a property.
pub(super) const PROPERTY: &str = "vnd.lxd-image.property.";
/// When it was made, in RFC 3339.
pub(super) const CREATED: &str = "org.opencontainers.image.created";
/// What it is.
pub(super) const DESCRIPTION: &str = "org.opencontainers.image.description";
/// The name of a file.
pub(super) const TITLE: &str = "org.opencontainers.image.title";

/// What a file of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PartRole {
    /// All of it.
    Unified,
    /// The metadata file, which comes first.
    Metadata,
    /// The root file system.
    Rootfs,
    /// The disk of a virtual machine.
    Disk,
}

/// An image in a manifest.
pub(super) struct ImageArtifact {
    /// Its files in the order of the fingerprint.
    pub(super) parts: Vec<(PartRole, Descriptor)>,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) image_type: ImageType,
    pub(super) architecture: Option<Architecture>,
    pub(super) properties: Properties,
    pub(super) created_at: Option<i64>,
    pub(super) expires_at: Option<i64>,
}

impl ImageArtifact {
    /// The image that a manifest holds, if it holds one.
    ///
    /// # Errors
    /// `Malformed` where it claims to and can't.
    pub(super) fn of(manifest: &Manifest) -> Result<Option<Self>> {
        let mut parts: Vec<(PartRole, Descriptor)> = Vec::new();
        for layer in &manifest.layers {
            if let Some(role) = role(&layer.media_type) {
                parts.push((role, layer.clone()));
            }
        }
        let claims = matches!(manifest.artifact_type(), Some(ARTIFACT | "application/vnd.incus.image.v1"));
        // A rootfs or a disk alone may be anything; metadata make it an image.
        if !claims && !parts.iter().any(|(role, _)| matches!(role, PartRole::Unified | PartRole::Metadata)) {
            return Ok(None);
        }
        parts.sort_by_key(|(role, _)| *role);
        let roles: Vec<PartRole> = parts.iter().map(|(role, _)| *role).collect();
        if !matches!(&roles[..], [PartRole::Unified] | [PartRole::Metadata, PartRole::Rootfs | PartRole::Disk]) {
            return Err(Error::malformed("the artifact does not hold the one file or the two files of an image"));
        }
        let of_layer = match &parts[..] {
            [(PartRole::Unified, only)] => only.digest.as_fingerprint(),
            _ => None,
        };
        let notes = &manifest.annotations;
        let claimed: Option<Fingerprint> =
            [FINGERPRINT, "incus.image.fingerprint"].iter().find_map(|key| notes.get(*key)?.parse().ok());
        if let (Some(claimed), Some(of_layer)) = (claimed, of_layer)
            && claimed != of_layer
        {
            return Err(Error::mismatch("the fingerprint of an artifact", claimed.to_string(), of_layer.to_string()));
        }
        let has_disk = roles.contains(&PartRole::Disk);
        let image_type = match notes.get(TYPE).map(String::as_str) {
            Some("virtual-machine") => ImageType::VirtualMachine,
            None if has_disk => ImageType::VirtualMachine,
            _ => ImageType::Container,
        };
        let seconds = |key: &str| notes.get(key).and_then(|text| crate::time::parse(text));
        Ok(Some(Self {
            fingerprint: of_layer.or(claimed),
            image_type,
            architecture: notes.get(ARCHITECTURE).and_then(|name| name.parse().ok()),
            properties: properties(notes),
            created_at: seconds(CREATED),
            expires_at: seconds(EXPIRES),
            parts,
        }))
    }

    /// The size of all files in bytes.
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().fold(0, |sum, (_, part)| sum.saturating_add(part.size))
    }

    /// The size of the second file in bytes.
    pub(super) fn second_size(&self) -> Option<u64> {
        self.parts.get(1).map(|(_, part)| part.size)
    }

    /// The name of the first file, if it has one.
    pub(super) fn file_name(&self) -> Option<String> {
        let name = self.parts.first()?.1.annotation(TITLE)?;
        let is_plain = !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0']) && !name.starts_with('.');
        is_plain.then(|| name.to_owned())
    }
}

/// The properties among annotations. Those that can't be one are left out.
fn properties(notes: &Annotations) -> Properties {
    let mut properties = Properties::new();
    if let Some(text) = notes.get(DESCRIPTION) {
        let _ = properties.set("description", text);
    }
    for (key, value) in notes {
        if let Some(key) = key.strip_prefix(PROPERTY) {
            let _ = properties.set(key, value);
        }
    }
    properties
}

/// What a layer is, by its media type.
fn role(media_type: &str) -> Option<PartRole> {
    if let Some(rest) = media_type.strip_prefix(LAYER) {
        return match rest.split('.').next() {
            Some("unified") => Some(PartRole::Unified),
            Some("metadata") => Some(PartRole::Metadata),
            Some("rootfs") => Some(PartRole::Rootfs),
            Some("disk") => Some(PartRole::Disk),
            _ => None,
        };
    }
    match media_type {
        "application/vnd.incus.metadata" => Some(PartRole::Metadata),
        "application/x-qcow2" => Some(PartRole::Disk),
        "application/vnd.squashfs" | "application/x-squashfs" => Some(PartRole::Rootfs),
        other if other.starts_with("application/vnd.incus.image.layer.v1.") => Some(PartRole::Unified),
        _ => None,
    }
}

/// The type of the image in an entry of an index, if the entry says so.
pub(super) fn type_of_entry(entry: &Descriptor) -> Option<ImageType> {
    match entry.annotation(TYPE)? {
        "virtual-machine" => Some(ImageType::VirtualMachine),
        "container" => Some(ImageType::Container),
        _ => None,
    }
}
