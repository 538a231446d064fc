//! [`ImageTransfer`]: how a server fetches images from other servers and pushes images to them. The
//! server module contains no client; the program that starts a server provides one, for example
//! with the crate's `remote` module.
//!
//! The trait exists so that `server` and `remote` do not depend on each other, and so that a
//! program can decide what its server may reach. A program that serves only local images provides
//! none, and the server refuses imports by source, refreshes and pushes with `FeatureDisabled`.
//!
//! # Two kinds of calls
//!
//! - [`resolve`](ImageTransfer::resolve) and [`fetch`](ImageTransfer::fetch) work for anonymous
//!   clients, with the one upstream that the program configured. The caller bounds and caches them.
//! - [`pull`](ImageTransfer::pull), [`refresh`](ImageTransfer::refresh) and
//!   [`push`](ImageTransfer::push) work for trusted clients, with servers that these clients name.
//!   They run as operations, and the caller bounds how many run at once.
//!
//! An implementation decides which addresses it connects to. A trusted client may name any URL, so
//! an implementation for a server in a private network should refuse what it must not reach.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType};
use crate::progress::Monitor;
use crate::redact;
use crate::source_protocol::Protocol;
use crate::store::{ImportOptions, RefreshOptions, Refreshed, Store, StoredImage};

/// Transfers images between the store of a server and other servers. Calls come from several
/// threads at once, and may block: they are made from threads that are allowed to.
///
/// Each method that has a [`Monitor`] must stop soon after it is cancelled, with `Cancelled`: at
/// shutdown the server waits five seconds for running transfers. Whatever ends early must leave no
/// part of an image in the store.
///
/// Errors are shown to clients. Messages must not contain secrets or passwords of URLs; the server
/// removes the secret of the request from them as a second line of defence.
pub trait ImageTransfer: Send + Sync {
    /// Whether there is an upstream. If so, names and images that clients ask for and the store
    /// lacks are looked for there. Called for each request, so it must be cheap and must not ask
    /// the network.
    fn has_upstream(&self) -> bool;

    /// Resolves an alias for this type and architecture, or a fingerprint prefix, at the upstream. `None` where it has
    /// no such image.
    ///
    /// The answer is cached for some minutes, and `None` for one. `alias` comes from an anonymous
    /// client: it may be any text, and an implementation must treat it as untrusted.
    ///
    /// # Errors
    /// `Remote` when the upstream can't be asked.
    fn resolve(
        &self,
        alias: &str,
        image_type: ImageType,
        architecture: Architecture,
        monitor: &Monitor,
    ) -> Result<Option<Fingerprint>>;

    /// Fetches an image of the upstream into `store`, verified, as a cached public image; one that is in the store is
    /// returned as it is. `alias` is the alias that resolved to it, if any, to be recorded in the image's source.
    ///
    /// The result must have the fingerprint that was asked for; the caller refuses any other image.
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

    /// The servers that images can be fetched from by name: `GET /1.0/image-registries` for trusted clients, and
    /// `image_registry` of a source. Must not ask the network. Without an implementation there are none.
    ///
    /// # Errors
    /// Those of reading the settings.
    fn registries(&self) -> Result<Vec<Registry>> {
        Ok(Vec::new())
    }

    /// The images that this program sees on the registry `name`.
    ///
    /// # Errors
    /// `NotFound` without such a registry, which is what happens without an implementation; `Remote`.
    fn registry_images(&self, name: &str, _monitor: &Monitor) -> Result<Vec<StoredImage>> {
        let shown: String = name.chars().take(64).collect();
        Err(Error::new(ErrorKind::NotFound, format!("there is no image registry `{shown}`")))
    }

    /// Imports an image from a source that a trusted client names in `POST /1.0/images`. The image is in the store
    /// afterwards.
    ///
    /// Aliases, visibility and properties are in `options`; `monitor` is that of the operation. The
    /// source is to be recorded in the image, with `auto_update` as the client chose it.
    ///
    /// # Errors
    /// Those of the source and of importing; `Unsupported` for protocols that it does not know.
    fn pull(&self, source: &Pull, store: &Store, options: ImportOptions, monitor: &Monitor) -> Result<StoredImage>;

    /// Replaces an image by the newest of its source, if it has one.
    ///
    /// Like [`Store::refresh`] with `options`, which bound what the client may have stored, and with the same result. Aliases
    /// move to the new image.
    ///
    /// # Errors
    /// Those of [`Store::refresh`].
    fn refresh(
        &self,
        fingerprint: &Fingerprint,
        store: &Store,
        options: &RefreshOptions,
        monitor: &Monitor,
    ) -> Result<Refreshed>;

    /// Pushes an image to another server, which issued an upload token for it.
    ///
    /// The image stays in the store. The target may already have it, which is `AlreadyExists`.
    ///
    /// # Errors
    /// `Remote`, `AlreadyExists`; those of opening an image.
    fn push(&self, target: &Push, fingerprint: &Fingerprint, store: &Store, monitor: &Monitor) -> Result<()>;
}

/// A server that images can be fetched from by its name.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registry {
    /// Its name.
    pub name: String,
    /// The URL of the server. Answers to clients leave out what may be secret in it.
    pub url: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Whether only its public images are used.
    pub public: bool,
    /// Whether it comes with the program.
    pub builtin: bool,
}

impl Registry {
    /// A registry that was added by an administrator.
    #[must_use]
    pub fn new(name: impl Into<String>, url: impl Into<String>, protocol: Protocol) -> Self {
        let public = !protocol.is_rest();
        Self { name: name.into(), url: url.into(), protocol, public, builtin: false }
    }
}

// Without the credentials of a URL.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("name", &self.name)
            .field("url", &redact::address(&self.url))
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// The target of a push: another server that issued an upload token for the image.
///
/// The debug output contains neither the token nor the credentials of the URL.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Push {
    /// The address of the server, like `https://images.example.org:8443`.
    pub url: String,
    /// The certificate that the server must show, as PEM.
    pub certificate: Option<String>,
    /// The secret of the upload token.
    pub secret: String,
}

/// The source of an import, as a trusted client names it in `POST /1.0/images`. All fields come
/// from the request and are checked by the implementation.
///
/// The debug output contains neither the token nor the credentials of the URL.
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
    /// Whether it also gets the aliases that it has there.
    pub copy_aliases: bool,
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
