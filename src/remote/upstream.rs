//! `Upstreams`: what `Store::refresh` asks, answered by the remotes that the sources of images name.

use super::{Certificate, ClientOptions, Direct, Lxd, Remote, Simplestreams, Trust, Wanted};
use crate::error::{Error, Result};
use crate::format::{ImageSource, ImageType};
use crate::progress::Monitor;
use crate::store::{Newest, StoredImage, UpdateSource, Upstream};

type Open = dyn Fn(&UpdateSource) -> Result<Box<dyn Remote>> + Send + Sync;

/// The remote that a source names. Where the source holds a certificate, the server must show it.
///
/// # Errors
/// `Unsupported` for a protocol that is not known, `InvalidInput` for an address that is none,
/// `Malformed` for a certificate that is none; those of making the remote.
pub fn open_source(source: &UpdateSource, options: ClientOptions) -> Result<Box<dyn Remote>> {
    let options = if source.certificate.is_empty() {
        options
    } else {
        options.trust(Trust::Pinned(Certificate::from_pem(&source.certificate)?.fingerprint()))
    };
    let url = source.server.parse()?;
    match &*source.protocol {
        "direct" => Ok(Box::new(Direct::new(options, url)?.certificate(&*source.certificate))),
        "simplestreams" => Ok(Box::new(Simplestreams::new(options, &url)?.certificate(&*source.certificate))),
        "lxd" | "incus" => {
            Ok(Box::new(Lxd::new(options, &url)?.protocol(&*source.protocol).certificate(&*source.certificate)))
        }
        other => {
            let shown: String = other.chars().take(64).collect();
            Err(Error::unsupported(format!("images can't be fetched by the protocol `{shown}`")))
        }
    }
}

/// Whether a server of this protocol tells all properties that an image has, and not only what is to be said beyond its own.
pub(super) fn tells_all(protocol: &str) -> bool {
    matches!(protocol, "lxd" | "incus")
}

/// The remotes behind the sources of stored images. How one is opened is the caller's business:
/// which certificates it shows, and what it trusts beyond what the source says.
pub struct Upstreams {
    open: Box<Open>,
    monitor: Monitor,
}

impl Upstreams {
    /// Opens remotes by `open`.
    #[must_use]
    pub fn new(open: impl Fn(&UpdateSource) -> Result<Box<dyn Remote>> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), monitor: Monitor::none() }
    }

    /// Listens for cancellation while servers are asked.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    fn find(&self, image: &StoredImage, source: &UpdateSource) -> Result<(Box<dyn Remote>, StoredImage)> {
        let remote = (self.open)(source)?;
        // An image never changes its architecture, whatever machine this is.
        let wanted = Wanted::new(&*source.alias)
            .image_type(if source.image_type.is_empty() { image.image_type } else { type_of(source) })
            .architectures([image.architecture]);
        let found = remote.resolve(&wanted, &self.monitor)?;
        Ok((remote, found))
    }
}

fn type_of(source: &UpdateSource) -> ImageType {
    if source.image_type == ImageType::VirtualMachine.name() { ImageType::VirtualMachine } else { ImageType::Container }
}

impl Upstream for Upstreams {
    fn newest(&self, image: &StoredImage, source: &UpdateSource) -> Result<Newest> {
        let (_, found) = self.find(image, source)?;
        let exact = tells_all(&source.protocol);
        Ok(Newest::new(found.fingerprint).properties(found.properties).expires_at(found.expires_at).exact(exact))
    }

    fn fetch(
        &self,
        image: &StoredImage,
        source: &UpdateSource,
        newest: &Newest,
        monitor: &Monitor,
    ) -> Result<ImageSource> {
        let (remote, found) = self.find(image, source)?;
        // It may have moved on since; then the bytes would be of another image than was announced.
        if found.fingerprint != newest.fingerprint {
            return Err(Error::remote("the alias moved on while it was asked for").transient());
        }
        remote.open(&found, monitor)
    }
}
