//! Images of Incus whose rootfs is the only layer of a container image, and whose metadata file is attached to it: a
//! manifest of the type `application/vnd.incus.metadata`, of which the container image is the subject.
//!
//! The attached manifest names both by digest, so it stands for the image.

use super::container::ContainerConfig;
use super::images::{Located, image_of};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ImageSource, Input};
use crate::oci::{BlobSource, Descriptor, Image, Reference};
use crate::progress::Monitor;
use crate::remote::{UnverifiedImage, Wanted};

/// The artifact type of the attached manifest.
const METADATA: &str = "application/vnd.incus.metadata";
/// At how many referrers is looked. Most lists say which of them are metadata.
const MAX_LOOKS: usize = 16;

/// Whether a manifest is attached metadata.
pub(super) fn is_metadata(image: &Image) -> bool {
    image.manifest().artifact_type() == Some(METADATA) && image.manifest().subject.is_some()
}

/// The metadata that are attached to a container image of one layer; the last ones, if there are several.
///
/// # Errors
/// `Cancelled`. Whatever else fails, it is a container image like others: registries need not support the referrers API.
pub(super) fn find(found: &Located, monitor: &Monitor) -> Result<Option<Image>> {
    // Docker's registry counts such requests, and has no such images.
    if found.image.manifest().layers.len() != 1 || found.repository.registry().is_docker() {
        return Ok(None);
    }
    let limits = found.repository.registry().client().limits().clone();
    let attached = || -> Result<Option<Image>> {
        let all = found.repository.referrers(&found.image.digest(), Some(METADATA), monitor)?;
        for entry in all.iter().rev().take(MAX_LOOKS) {
            let raw = found.repository.document(&Reference::Digest(entry.digest), &limits, monitor)?;
            let image = image_of(raw, &limits)?;
            let subject = image.manifest().subject.as_ref().map(|subject| subject.digest);
            if is_metadata(&image) && subject == Some(found.image.digest()) {
                return Ok(Some(image));
            }
        }
        Ok(None)
    };
    match attached() {
        Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
        attached => Ok(attached.unwrap_or_default()),
    }
}

/// What is known of the image before its files are fetched.
pub(super) fn describe(
    found: &Located,
    metadata: &Image,
    config: &ContainerConfig,
    wanted: &Wanted,
) -> UnverifiedImage {
    let mut image = config.describe(found, wanted);
    image.locator = format!("{}@{}", found.repository.name(), metadata.digest());
    image.size = found.image.size().saturating_add(metadata.size());
    image.content_digest = Some(metadata.digest().to_string());
    // The attached metadata describes the image; the properties of the application image do not apply.
    image.incus_fingerprint = None;
    for key in ["type", "description"] {
        image.properties.remove(key);
    }
    image
}

/// Opens both files.
///
/// # Errors
/// `Malformed` where there is not one layer in each manifest; those of the registry.
pub(super) fn open(found: &Located, monitor: &Monitor) -> Result<ImageSource> {
    let limits = found.repository.registry().client().limits().clone();
    let manifest = found.image.manifest();
    let subject = manifest.subject.as_ref().ok_or_else(|| Error::malformed("the metadata are attached to nothing"))?;
    let rootfs = image_of(found.repository.document(&Reference::Digest(subject.digest), &limits, monitor)?, &limits)?;
    let only = |layers: &[Descriptor]| match layers {
        [only] => Ok(only.clone()),
        _ => Err(Error::malformed("metadata and rootfs of an image are one layer each")),
    };
    let input = |descriptor: &Descriptor| -> Result<Input> {
        Ok(found.repository.download(descriptor, monitor)?.open().announced(descriptor.size))
    };
    Ok(ImageSource::split(input(&only(&manifest.layers)?)?, input(&only(&rootfs.manifest().layers)?)?))
}
