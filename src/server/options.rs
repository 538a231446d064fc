//! `ServerOptions`: what a server is told at its start.
//! Bounds on what clients send are in `Limits`, like all others.

use std::sync::Arc;

use crate::limits::Limits;
use crate::server::core::transfer::ImageTransfer;

/// How a store is served.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ServerOptions {
    pub(crate) limits: Limits,
    pub(crate) name: Option<String>,
    pub(crate) base_url: Option<String>,
    pub(crate) image_transfer: Option<Arc<dyn ImageTransfer>>,
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
    /// The usual bounds, no name, no upstream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds on what clients send.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The name that the page for people has as its title.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The address under which clients reach this server, like `https://images.example.org:8443`, where it is another
    /// than the one that they name in their requests.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into().trim_end_matches('/').to_owned());
        self
    }

    /// Where images come from that clients ask for and that are not in the store.
    #[must_use]
    pub fn image_transfer(mut self, image_transfer: Arc<dyn ImageTransfer>) -> Self {
        self.image_transfer = Some(image_transfer);
        self
    }
}
