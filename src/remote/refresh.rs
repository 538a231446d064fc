//! `RemoteRefresh`: answers what [`Store::refresh`](crate::store::Store::refresh) asks, from the remotes that the sources of images
//! name.
//!
//! The store knows no network: it asks a trait, in two steps. `newest` says what stands behind the source now, `fetch` opens its
//! bytes if the store lacks them. Between the two the alias may move; then `fetch` fails as transient, and the next run sees the
//! newer image.
//!
//! A container image of a registry has no fingerprint before its conversion. Its source holds the digest of its content, so that an
//! image that is current costs one request. Where the digest is another one, `newest` fetches and converts into temporary files
//! to say which image that is, and `fetch` takes them.

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};

use super::copy::{followed, is_for_applications, pinned, restarting};
use super::resolution::reports_all_properties;
use super::{ClientOptions, Remote, RemoteAddress, Resolution, UnverifiedImage, Wanted};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::{ImageSource, ImageType, Input, nameless};
use crate::io::Blob;
use crate::progress::{Monitor, Phase};
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
/// use lxd_image::Monitor;
/// use lxd_image::remote::{ClientOptions, RemoteRefresh, open_source};
/// use lxd_image::store::{RefreshOptions, Store};
///
/// let store = Store::open("/var/lib/lxd-image")?;
/// let sources = RemoteRefresh::new(|source| open_source(source, ClientOptions::new())).deltas_from(&store);
/// for image in store.images()? {
///     println!("{:?}", store.refresh(&image.fingerprint, &sources, &RefreshOptions::new(), &Monitor::none())?);
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct RemoteRefresh {
    open: Box<Open>,
    store: Option<Store>,
    /// What `newest` fetched last, for `fetch`.
    fetched: Mutex<Option<(Fingerprint, ImageSource)>>,
}

impl RemoteRefresh {
    /// Connects to remotes with `open`, which is called for each question: it may cache clients.
    #[must_use]
    pub fn new(open: impl Fn(&UpdateSource) -> Result<Box<dyn Remote>> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), store: None, fetched: Mutex::default() }
    }

    /// The store that is refreshed: where the server has a delta from an image of it, only the delta is downloaded, and of a
    /// container image only the layers that it does not keep.
    #[must_use]
    pub fn deltas_from(mut self, store: &Store) -> Self {
        self.store = Some(store.clone());
        self
    }

    /// The remote of a source and what stands behind it now.
    fn find(
        &self,
        image: &StoredImage,
        source: &UpdateSource,
        monitor: &Monitor,
    ) -> Result<(Box<dyn Remote>, Resolution)> {
        let remote = (self.open)(source)?;
        // An image never changes its architecture, whatever machine this is.
        let wanted = Wanted::new(followed(&source.alias))
            .image_type(if source.image_type.is_empty() { image.image_type } else { type_of(source) })
            .architectures([image.architecture])
            .system(!is_for_applications(&image.original_properties));
        let found = remote.locate(&wanted, monitor)?;
        Ok((remote, found))
    }

    /// The newest image where only the digest of its content is known.
    fn convert(
        &self,
        image: &StoredImage,
        source: &UpdateSource,
        remote: &dyn Remote,
        found: &UnverifiedImage,
        monitor: &Monitor,
    ) -> Result<Newest> {
        let Some(digest) = &found.content_digest else {
            return Err(found.refused("its fingerprint is needed before its download"));
        };
        let alias = pinned(&source.alias, digest);
        if alias == source.alias {
            return Ok(Newest::new(image.fingerprint));
        }
        let (fingerprint, files) = restarting(monitor, || {
            let bytes = match &self.store {
                Some(store) => remote.open_unverified_from(found, store, monitor)?,
                None => remote.open_unverified(found, monitor)?,
            };
            keep(&bytes, found.size, monitor)
        })?;
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner) = Some((fingerprint, files));
        let mut now = source.clone();
        now.alias = alias;
        Ok(Newest::new(fingerprint).properties(found.properties.clone()).expires_at(found.expires_at).source(now))
    }
}

/// Copies an image that comes as a stream into unnamed temporary files, and computes its fingerprint.
fn keep(source: &ImageSource, size: u64, monitor: &Monitor) -> Result<(Fingerprint, ImageSource)> {
    let directory = std::env::temp_dir();
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut copy = |input: &Input| -> Result<Input> {
        let unkept = |error| Error::io("the image can't be kept while it is compared", error).in_file(&directory);
        let mut file = nameless(&directory).map_err(unkept)?;
        let mut reader = input.reader(monitor.cancel())?;
        loop {
            let count = reader.read(&mut buffer).map_err(|error| Error::io("the image can't be read", error))?;
            if count == 0 {
                break;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            hasher.update(bytes);
            file.write_all(bytes).map_err(unkept)?;
            monitor.report(Phase::Hash, hasher.bytes(), Some(size).filter(|size| *size > 0))?;
        }
        Ok(Input::blob(Blob::file(file).map_err(unkept)?))
    };
    let first = copy(&source.first)?;
    let second = source.second.as_ref().map(&mut copy).transpose()?;
    Ok((hasher.finish(), ImageSource { first, second }))
}

/// The type in a source. Anything but a virtual machine is a container, as older sources leave it empty.
fn type_of(source: &UpdateSource) -> ImageType {
    if source.image_type == ImageType::VirtualMachine.name() { ImageType::VirtualMachine } else { ImageType::Container }
}

impl RefreshSource for RemoteRefresh {
    fn newest(&self, image: &StoredImage, source: &UpdateSource, monitor: &Monitor) -> Result<Newest> {
        let (remote, found) = self.find(image, source, monitor)?;
        let found = match found {
            Resolution::Named { image } => image,
            Resolution::AfterDownload { image: found } => {
                return self.convert(image, source, &*remote, &found, monitor);
            }
        };
        let exact = reports_all_properties(&source.protocol);
        let newest =
            Newest::new(found.fingerprint).expires_at(found.expires_at).exact(exact).source_fields(found.other.clone());
        #[cfg(feature = "trust")]
        let newest = if found.fingerprint == image.fingerprint {
            newest
        } else {
            newest.evidence(remote.evidence(&found, monitor)?)
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
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, files)) = fetched.filter(|(fingerprint, _)| *fingerprint == newest.fingerprint) {
            return Ok(files);
        }
        let (remote, found) = self.find(image, source, monitor)?;
        let found = found.into_named()?;
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
