//! `ImageTransfer`: how a server gets what it does not have, and sends what others want. Clients of other servers are not its business; whoever starts
//! it brings one.

use std::fmt;

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType};
use crate::progress::Monitor;
use crate::redact;
use crate::store::{ImportOptions, Refreshed, Store, StoredImage};

/// Brings images from elsewhere into the store of a server.
pub trait ImageTransfer: Send + Sync {
    /// Whether there is an upstream, of which what clients ask for and the store lacks is brought.
    fn has_upstream(&self) -> bool;

    /// The fingerprint of what the upstream has under this alias for this type and architecture, or of its image whose
    /// fingerprint begins so; `None` where it has none.
    ///
    /// # Errors
    /// `Remote` when it can't be asked.
    fn resolve(&self, alias: &str, image_type: ImageType, architecture: Architecture) -> Result<Option<Fingerprint>>;

    /// Brings an image of the upstream into `store`, verified, as a cached public one; one that is there is given as it is.
    /// `alias` is what led to it, where one did: it is recorded in the image's source.
    ///
    /// # Errors
    /// `NotFound`, `Mismatch`, `Remote`; those of importing.
    fn fetch(
        &self,
        fingerprint: &Fingerprint,
        alias: Option<&str>,
        store: &Store,
        monitor: &Monitor,
    ) -> Result<StoredImage>;

    /// Brings an image that a trusted client names by its source, as `POST /1.0/images` with a JSON body does: `image` with
    /// its server, protocol, alias or fingerprint, or `url`. The image is in the store afterwards.
    ///
    /// # Errors
    /// Those of the source and of importing; `Unsupported` for sources that it does not know.
    fn pull(&self, source: &Pull, store: &Store, options: ImportOptions) -> Result<StoredImage>;

    /// Replaces an image by the newest of its source, if it follows one.
    ///
    /// # Errors
    /// Those of [`Store::refresh`].
    fn refresh(&self, fingerprint: &Fingerprint, store: &Store, monitor: &Monitor) -> Result<Refreshed>;

    /// Sends an image to another server, which gave out a pass for it.
    ///
    /// # Errors
    /// `Remote`, `AlreadyExists`; those of opening an image.
    fn push(&self, target: &Push, fingerprint: &Fingerprint, store: &Store, monitor: &Monitor) -> Result<()>;
}

/// Where a trusted client wants to have an image sent.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Push {
    /// The address of the server.
    pub url: String,
    /// The certificate that the server must show, as PEM.
    pub certificate: Option<String>,
    /// The pass that the server gave out for it.
    pub secret: String,
}

/// What a client wants to have brought.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pull {
    /// The address of the server, or of a direct import.
    pub url: String,
    /// `lxd`, `incus`, `simplestreams`, `direct`.
    pub protocol: String,
    /// The alias, where one was given.
    pub alias: Option<String>,
    /// The fingerprint, where one was given.
    pub fingerprint: Option<String>,
    /// The certificate that the server must show, as PEM.
    pub certificate: Option<String>,
    /// A secret for a private image.
    pub secret: Option<String>,
    /// The type that is wanted.
    pub image_type: Option<ImageType>,
    /// Whether the image is to follow its source.
    pub auto_update: bool,
    /// When the client wants it to end, in seconds since 1970; else it ends when its source says.
    pub expires_at: Option<i64>,
}

// Neither shows what opens something.
impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("url", &redact::address(&self.url)).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull")
            .field("url", &redact::address(&self.url))
            .field("protocol", &self.protocol)
            .field("alias", &self.alias)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}
