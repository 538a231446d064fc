//! `Resolution`: what a remote knows of an image before its bytes are here, and what that knowledge is worth.
//!
//! Most protocols name an image by its fingerprint, so that the bytes are checked against something that was said before they
//! came. An OCI registry can't: its tag names a manifest of layers, and the fingerprint of the image that is made of them is
//! known only when all of it has arrived. Both cases are variants here, so that a caller can't take one for the other.

use super::Protocol;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::metadata::{Architecture, Properties};
use crate::store::StoredImage;

/// The answer of [`Remote::locate`](super::Remote::locate).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Resolution {
    /// The remote names the image by its fingerprint. Bytes with another one are refused, whoever sent them.
    Named {
        /// The image as the remote describes it. Only its fingerprint is relied on.
        image: Box<StoredImage>,
    },
    /// The fingerprint is known only after the download. Unless the caller brings one to expect, nothing but the transport
    /// vouches for the bytes, which the caller has to accept explicitly:
    /// [`CopyOptions::trust_transport`](super::CopyOptions::trust_transport).
    AfterDownload {
        /// What is known before the download.
        image: Box<UnverifiedImage>,
    },
}

impl Resolution {
    /// A resolution to an image that the remote names by its fingerprint.
    #[must_use]
    pub fn named(image: StoredImage) -> Self {
        Self::Named { image: Box::new(image) }
    }

    /// A resolution to an image whose fingerprint is known only after its download.
    #[must_use]
    pub fn after_download(image: UnverifiedImage) -> Self {
        Self::AfterDownload { image: Box::new(image) }
    }

    /// The fingerprint that the bytes are checked against, if the remote names one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Named { image } => Some(image.fingerprint),
            Self::AfterDownload { .. } => None,
        }
    }

    /// The image, where the remote names its fingerprint. For all that can't work without: caches, mirrors, refresh.
    ///
    /// # Errors
    /// `Unsupported` for an image whose fingerprint is known only after its download.
    pub fn into_named(self) -> Result<StoredImage> {
        match self {
            Self::Named { image } => Ok(*image),
            Self::AfterDownload { image } => Err(image
                .refused("its fingerprint is needed before its download")
                .with_hint("copy it into a store, with the fingerprint to expect or with trust in the transport")),
        }
    }
}

/// An image that a remote can deliver without naming its fingerprint first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnverifiedImage {
    /// What the remote needs to find it again, like the digest of a manifest or a URL. Shown in errors.
    pub locator: String,
    /// Whether it is for containers or for virtual machines.
    pub image_type: ImageType,
    /// The machine that it is for.
    pub architecture: Architecture,
    /// What the remote says of it beyond its own metadata.
    pub properties: Properties,
    /// The name of its file, if it has one there.
    pub file_name: Option<String>,
    /// When it may be removed, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// The size of what is downloaded, in bytes; 0 if it is not known.
    pub size: u64,
    /// When it was built, in seconds since 1970.
    pub created_at: Option<i64>,
    /// The digest that every byte is checked against by the remote, if there is one: an OCI registry's digest of the manifest.
    /// The transport then vouches for no more than for what a name means, as where a remote names fingerprints.
    pub content_digest: Option<String>,
    /// Whether it becomes an image for system containers ([`Wanted::system`](super::Wanted::system)).
    pub system: bool,
    /// The fingerprint that Incus gives a container image, which is one of no bytes ([`oci::Image::incus_fingerprint`]).
    ///
    /// [`oci::Image::incus_fingerprint`]: crate::oci::Image::incus_fingerprint
    pub incus_fingerprint: Option<Fingerprint>,
}

impl UnverifiedImage {
    /// An image of which the remote says nothing else.
    #[must_use]
    pub fn new(locator: impl Into<String>, image_type: ImageType, architecture: Architecture) -> Self {
        let (locator, properties) = (locator.into(), Properties::new());
        Self {
            locator,
            image_type,
            architecture,
            properties,
            file_name: None,
            expires_at: None,
            size: 0,
            created_at: None,
            content_digest: None,
            system: false,
            incus_fingerprint: None,
        }
    }

    /// The digest that every byte is checked against by the remote.
    #[must_use]
    pub fn content_digest(mut self, digest: impl Into<String>) -> Self {
        self.content_digest = Some(digest.into());
        self
    }

    /// The properties that the remote says it has.
    #[must_use]
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// The error for a use that this image is not fit for.
    pub(super) fn refused(&self, why: &str) -> Error {
        let shown: String = self.locator.chars().take(128).collect();
        Error::unsupported(format!("the remote does not name the fingerprint of `{shown}`: {why}"))
    }
}

/// Whether a server of this protocol reports all properties of an image; a word that is not known is taken for one that does
/// not, so that the image keeps its own.
pub(super) fn reports_all_properties(protocol: &str) -> bool {
    protocol.parse().is_ok_and(Protocol::is_rest)
}
