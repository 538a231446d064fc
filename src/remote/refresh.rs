//! `RemoteRefresh`: answers what [`Store::refresh`](crate::store::Store::refresh) asks, from the remotes that the sources of images
//! name.
//!
//! The store knows no network: it asks a trait, in two steps. `newest` says what stands behind the source now, `fetch` opens its
//! bytes if the store lacks them. Between the two the alias may move; then `fetch` fails as transient, and the next run sees the
//! newer image.

use super::resolution::reports_all_properties;
use super::{ClientOptions, Remote, RemoteAddress, Wanted};
use crate::error::{Error, Result};
use crate::format::{ImageSource, ImageType};
use crate::progress::Monitor;
use crate::store::{Newest, RefreshSource, Store, StoredImage, UpdateSource};

/// Connects to the remote of a source.
type Open = dyn Fn(&UpdateSource) -> Result<Box<dyn Remote>> + Send + Sync;

/// Connects to the remote that the source of an image names. If the source holds a certificate, the server must show it.
///
/// # Errors
/// Those of [`RemoteAddress::from_source`] and [`RemoteAddress::connect`].
pub fn open_source(source: &UpdateSource, options: ClientOptions) -> Result<Box<dyn Remote>> {
    RemoteAddress::from_source(source)?.connect(options)
}

/// The remotes behind the sources of stored images. The caller supplies the function that connects to one, and with it the
/// client certificate and the trust beyond what the source says.
///
/// ```no_run
/// use lxd_image::remote::{ClientOptions, RemoteRefresh, open_source};
/// use lxd_image::store::{RefreshOptions, Store};
///
/// let store = Store::open("/var/lib/lxd-image")?;
/// let sources = RemoteRefresh::new(|source| open_source(source, ClientOptions::new())).deltas_from(&store);
/// for image in store.images()? {
///     println!("{:?}", store.refresh(&image.fingerprint, &sources, &RefreshOptions::new())?);
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct RemoteRefresh {
    open: Box<Open>,
    store: Option<Store>,
    monitor: Monitor,
}

impl RemoteRefresh {
    /// Connects to remotes with `open`, which is called for each question: it may cache clients.
    #[must_use]
    pub fn new(open: impl Fn(&UpdateSource) -> Result<Box<dyn Remote>> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), store: None, monitor: Monitor::none() }
    }

    /// The store that is refreshed: where the server has a delta from an image of it, only the delta is downloaded.
    #[must_use]
    pub fn deltas_from(mut self, store: &Store) -> Self {
        self.store = Some(store.clone());
        self
    }

    /// Sets the monitor whose cancellation ends requests for the newest image.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// The remote of a source and the image that stands behind it now.
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

/// The type in a source. Anything but a virtual machine is a container, as older sources leave it empty.
fn type_of(source: &UpdateSource) -> ImageType {
    if source.image_type == ImageType::VirtualMachine.name() { ImageType::VirtualMachine } else { ImageType::Container }
}

impl RefreshSource for RemoteRefresh {
    fn newest(&self, image: &StoredImage, source: &UpdateSource) -> Result<Newest> {
        let (remote, found) = self.find(image, source)?;
        let exact = reports_all_properties(&source.protocol);
        let newest = Newest::new(found.fingerprint).expires_at(found.expires_at).exact(exact);
        #[cfg(feature = "trust")]
        let newest = if found.fingerprint == image.fingerprint {
            newest
        } else {
            newest.evidence(remote.evidence(&found, &self.monitor)?)
        };
        #[cfg(not(feature = "trust"))]
        drop(remote);
        Ok(newest.properties(found.properties))
    }

    fn fetch(
        &self,
        image: &StoredImage,
        source: &UpdateSource,
        newest: &Newest,
        monitor: &Monitor,
    ) -> Result<ImageSource> {
        let (remote, found) = self.find(image, source)?;
        // The store has already decided to replace the old image by this one; bytes of a third would fail as `Mismatch`.
        if found.fingerprint != newest.fingerprint {
            return Err(Error::remote("the alias moved on while it was asked for").transient());
        }
        match &self.store {
            Some(store) => remote.open_from(&found, store, monitor),
            None => remote.open(&found, monitor),
        }
    }
}
