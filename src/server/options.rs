//! [`ServerOptions`]: the configuration of a [`Handler`](super::Handler). What the network needs is in
//! [`ListenerOptions`](super::ListenerOptions); bounds on what clients send are in [`Limits`], like all others.

use std::sync::Arc;

use crate::limits::Limits;
use crate::server::core::redirect::Redirect;
use crate::server::core::transfer::ImageTransfer;
use crate::trust::ListSigner;

/// How a store is served.
///
/// ```
/// use lxd_image::server::{Handler, ServerOptions};
/// use lxd_image::store::Store;
///
/// let options = ServerOptions::new().name("Images of the lab").base_url("https://images.example.org:8443");
/// let handler = Handler::new(Store::in_memory()?, options);
/// # let _ = handler;
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// All options are optional. They can't be changed once the handler exists; a program that reloads
/// its configuration makes a new handler on the same store.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Limits on requests, uploads, images and the cache.
    pub(crate) limits: Limits,
    /// The title of the web pages.
    pub(crate) name: Option<String>,
    /// The URL of this server, without a slash at the end.
    pub(crate) base_url: Option<String>,
    /// The way to other servers; `None` without an upstream and without imports by source.
    pub(crate) image_transfer: Option<Arc<dyn ImageTransfer>>,
    /// Where downloads are redirected to; `None` to stream all.
    pub(crate) redirect: Option<Redirect>,
    /// Who signs the simplestreams lists; at most one of each kind.
    pub(crate) signers: Vec<ListSigner>,
}

impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions")
            .field("name", &self.name)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl ServerOptions {
    /// The default limits, no name, no upstream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Signs the simplestreams lists: an OpenPGP key makes `index.sjson` and `images.sjson`, and signatures beside the plain
    /// documents (`.json.gpg`), a minisign key `.json.minisig`. One key of each kind; another one of a kind takes its place.
    #[must_use]
    pub fn sign_with(mut self, signer: ListSigner) -> Self {
        self.signers.retain(|other| other.suffix() != signer.suffix());
        self.signers.push(signer);
        self
    }

    /// Sets the limits on what clients send. `upload` bounds the bytes of one image, `request`
    /// those of a JSON body, and `cache` the bytes of all images that were fetched from the
    /// upstream.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the title of the web pages. The default is the host name that the browser uses.
    /// Characters that can't be seen are replaced.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the URL under which clients reach this server, like `https://images.example.org:8443`, for a server behind
    /// a proxy that changes the host of requests. Without it, URLs in responses have the host of the request.
    ///
    /// The URL is written into the headers of direct import and into the commands of the web pages.
    /// A request of a browser whose `Origin` is this URL counts as one of this site.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into().trim_end_matches('/').to_owned());
        self
    }

    /// Sets how images are transferred from and to other servers. Without it, the server has no upstream, and refuses
    /// imports by source, refreshes and pushes.
    #[must_use]
    pub fn image_transfer(mut self, image_transfer: Arc<dyn ImageTransfer>) -> Self {
        self.image_transfer = Some(image_transfer);
        self
    }

    /// Redirects downloads of whole files (307) to the object storage of the store, or to a CDN before it. A store
    /// without presigned addresses, a file that was not verified yet, and clients that would not follow are served by
    /// this server, as without this option.
    #[must_use]
    pub fn redirect(mut self, redirect: Redirect) -> Self {
        self.redirect = Some(redirect);
        self
    }
}
