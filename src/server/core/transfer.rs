//! [`ImageTransfer`]: how a server fetches images from other servers and pushes images to them. The server module
//! contains no client; the program that starts a server provides one, for example with the crate's `remote` module.

use std::fmt;

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType};
use crate::progress::Monitor;
use crate::redact;
use crate::store::{ImportOptions, Refreshed, Store, StoredImage};

/// Transfers images between the store of a server and other servers. Calls come from several threads at once.
pub trait ImageTransfer: Send + Sync {
    /// Whether there is an upstream. If so, names and images that clients ask for and the store lacks are looked for
    /// there.
    fn has_upstream(&self) -> bool;

    /// Resolves an alias for this type and architecture, or a fingerprint prefix, at the upstream. `None` where it has
    /// no such image.
    ///
    /// # Errors
    /// `Remote` when the upstream can't be asked.
    fn resolve(&self, alias: &str, image_type: ImageType, architecture: Architecture) -> Result<Option<Fingerprint>>;

    /// Fetches an image of the upstream into `store`, verified, as a cached public image; one that is in the store is
    /// returned as it is. `alias` is the alias that resolved to it, if any, to be recorded in the image's source.
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

    /// Imports an image from a source that a trusted client names in `POST /1.0/images`. The image is in the store
    /// afterwards.
    ///
    /// # Errors
    /// Those of the source and of importing; `Unsupported` for protocols that it does not know.
    fn pull(&self, source: &Pull, store: &Store, options: ImportOptions) -> Result<StoredImage>;

    /// Replaces an image by the newest of its source, if it has one.
    ///
    /// # Errors
    /// Those of [`Store::refresh`].
    fn refresh(&self, fingerprint: &Fingerprint, store: &Store, monitor: &Monitor) -> Result<Refreshed>;

    /// Pushes an image to another server, which issued an upload token for it.
    ///
    /// # Errors
    /// `Remote`, `AlreadyExists`; those of opening an image.
    fn push(&self, target: &Push, fingerprint: &Fingerprint, store: &Store, monitor: &Monitor) -> Result<()>;
}

/// The target of a push.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Push {
    /// The address of the server.
    pub url: String,
    /// The certificate that the server must show, as PEM.
    pub certificate: Option<String>,
    /// The secret of the upload token.
    pub secret: String,
}

/// The source of an import.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pull {
    /// The URL of the server, or of a direct import.
    pub url: String,
    /// The protocol: `lxd`, `incus`, `simplestreams` or `direct`.
    pub protocol: String,
    /// The alias, if the client names one.
    pub alias: Option<String>,
    /// The fingerprint or a prefix of it, if the client names one.
    pub fingerprint: Option<String>,
    /// The certificate that the server must show, as PEM.
    pub certificate: Option<String>,
    /// The secret of a download token, for a private image.
    pub secret: Option<String>,
    /// The image type, if the client names one.
    pub image_type: Option<ImageType>,
    /// Whether the image is to be refreshed automatically from its source.
    pub auto_update: bool,
    /// The expiry that the client wants, in seconds since 1970; `None` for that of the source.
    pub expires_at: Option<i64>,
}

// Without secrets, and without the credentials of a URL.
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
