//! [`Image`]: what a reference leads to: one manifest, for one machine.

use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use super::document::{Descriptor, Document, Manifest};
use super::media_type;
use super::source::{BlobSource, RawDocument, Reference};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::metadata::Architecture;
use crate::progress::Monitor;

/// The manifest that a reference leads to on a machine: of a container image, or of an artifact.
///
/// ```no_run
/// use lxd_image::oci::{Image, Layout};
/// use lxd_image::{Architecture, Limits, Monitor};
///
/// let layout = Layout::open("bundle.tar", &Limits::default(), &Monitor::none())?;
/// let entry = layout.find(Some("debian"))?;
/// let image = Image::resolve(&layout, entry, Architecture::X86_64, &Limits::default(), &Monitor::none())?;
/// println!("{} in {} layers", image.digest(), image.manifest().layers.len());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Image {
    descriptor: Descriptor,
    manifest: Manifest,
}

impl Image {
    /// Resolves a tag or a digest; of an index, the manifest for `architecture`.
    ///
    /// # Errors
    /// `NotFound` for a reference or a platform that is not there; `Malformed`, `Unsupported`, `Mismatch` and
    /// `LimitExceeded` for documents; those of the source.
    pub fn open(
        source: &dyn BlobSource,
        reference: &Reference,
        architecture: Architecture,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Self> {
        Self::follow(source, source.document(reference, limits, monitor)?, architecture, limits, monitor)
    }

    /// Resolves what an index, such as that of a layout, has an entry for.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn resolve(
        source: &dyn BlobSource,
        entry: &Descriptor,
        architecture: Architecture,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Self> {
        Self::follow(source, fetch(source, entry, limits, monitor)?, architecture, limits, monitor)
    }

    /// An image whose manifest was chosen already, by more than its architecture.
    #[cfg(feature = "remote")]
    pub(crate) fn of(descriptor: Descriptor, manifest: Manifest) -> Self {
        Self { descriptor, manifest }
    }

    /// Follows indexes to the manifest.
    fn follow(
        source: &dyn BlobSource,
        mut raw: RawDocument,
        architecture: Architecture,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Self> {
        // A cycle needs a digest that contains itself, so that only lying sources could have one; the depth bounds them.
        for _ in 0..=limits.oci_index_depth {
            match raw.document(limits)? {
                Document::Manifest(manifest) => {
                    let mut descriptor = raw.descriptor;
                    if descriptor.media_type.is_empty() {
                        let stated = manifest.media_type.as_deref().unwrap_or(media_type::IMAGE_MANIFEST);
                        stated.clone_into(&mut descriptor.media_type);
                    }
                    return Ok(Self { descriptor, manifest });
                }
                Document::Index(index) => {
                    raw = fetch(source, index.for_architecture(architecture)?, limits, monitor)?;
                }
            }
        }
        Err(Error::limit("oci_index_depth", limits.oci_index_depth, "the nesting of indexes"))
    }

    /// The type, digest and size of the manifest.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.descriptor.digest
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether it is a container image, whose layers make a root file system; otherwise it is an artifact.
    #[must_use]
    pub fn is_container(&self) -> bool {
        self.manifest.artifact_type().is_none()
            && matches!(self.manifest.config.media_type.as_str(), media_type::IMAGE_CONFIG | media_type::DOCKER_CONFIG)
    }

    /// The size of all layers as stored, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.manifest.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }

    /// The fingerprint that Incus gives the image: the SHA-256 of the text of all layers' digests, and of no bytes.
    #[must_use]
    pub fn incus_fingerprint(&self) -> Fingerprint {
        let mut hasher = Sha256::new();
        for layer in &self.manifest.layers {
            hasher.update(layer.digest.to_string().as_bytes());
        }
        Fingerprint::from_bytes(hasher.finalize().into())
    }
}

/// The document that a descriptor names; digest and size are compared.
pub(super) fn fetch(
    source: &dyn BlobSource,
    entry: &Descriptor,
    limits: &Limits,
    monitor: &Monitor,
) -> Result<RawDocument> {
    let mut raw = source.document(&Reference::Digest(entry.digest), limits, monitor)?;
    if raw.descriptor.size != entry.size {
        let what = format!("the size of the manifest {} in bytes", entry.digest);
        return Err(Error::mismatch(&what, entry.size.to_string(), raw.descriptor.size.to_string()));
    }
    if !entry.media_type.is_empty() {
        raw.descriptor.media_type.clone_from(&entry.media_type);
    }
    raw.descriptor.annotations.clone_from(&entry.annotations);
    raw.descriptor.platform.clone_from(&entry.platform);
    Ok(raw)
}
