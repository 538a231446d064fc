//! The trait `Remote`: the contract of everything that images are fetched from.

use std::collections::BTreeSet;

use super::{Resolution, SignedDocuments, UnverifiedImage, Wanted};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageSource, Input};
use crate::progress::Monitor;
use crate::protocol::simplestreams::{File, StreamDelta, StreamImage};
use crate::store::{Store, StoredImage, UpdateSource};
use crate::trust::{Evidence, ListSignature};

/// A source of images: a server, or a static tree on disk.
///
/// Its images are described as [`StoredImage`]s. Fields that the remote does not report stay empty, and all text (aliases,
/// properties, file names) is untrusted. Of a description only the fingerprint matters, and only as a claim to check: whoever
/// takes the bytes refuses those that don't have it.
///
/// A new protocol implements [`source`](Self::source), [`list`](Self::list), [`locate`](Self::locate) and
/// [`open`](Self::open). If it can't name fingerprints before a download, `locate` says so with
/// [`Resolution::AfterDownload`] and [`open_unverified`](Self::open_unverified) delivers the bytes; callers that need a
/// fingerprint call [`resolve`](Self::resolve), which refuses such an image.
///
/// ```
/// use lxd_image::format::ImageSource;
/// use lxd_image::remote::{Protocol, Remote, Resolution, Wanted};
/// use lxd_image::store::{StoredImage, UpdateSource};
/// use lxd_image::{Error, Monitor, Result};
///
/// /// A remote that offers nothing.
/// struct Empty;
///
/// impl Remote for Empty {
///     fn source(&self) -> UpdateSource {
///         UpdateSource::new("https://empty.example", Protocol::Lxd, "")
///     }
///     fn list(&self, _: &Monitor) -> Result<Vec<StoredImage>> {
///         Ok(Vec::new())
///     }
///     fn locate(&self, _: &Wanted, _: &Monitor) -> Result<Resolution> {
///         Err(Error::new(lxd_image::ErrorKind::NotFound, "there are no images"))
///     }
///     fn open(&self, _: &StoredImage, _: &Monitor) -> Result<ImageSource> {
///         Err(Error::new(lxd_image::ErrorKind::NotFound, "there are no images"))
///     }
/// }
///
/// assert!(Empty.list(&Monitor::none())?.is_empty());
/// # Ok::<(), Error>(())
/// ```
pub trait Remote: Send + Sync {
    /// How an image from here is refreshed later: protocol, address and, where no known authority vouches for the server, its
    /// certificate. Without an alias.
    fn source(&self) -> UpdateSource;

    /// All images that this client may see, in any order. An entry that can't be used is left out and recorded in the
    /// monitor; it does not hide the others.
    ///
    /// # Errors
    /// Those of [`Client::send`](super::Client::send); `Malformed` when the list can't be read; `Unsupported` where there is
    /// no list.
    fn list(&self, monitor: &Monitor) -> Result<Vec<StoredImage>>;

    /// Finds the image that is wanted, as it is now, and says whether its fingerprint is known before its bytes are.
    ///
    /// # Errors
    /// `NotFound`, with other architectures or similar aliases as a hint; `Ambiguous` for a prefix of several fingerprints;
    /// those of [`list`](Self::list).
    fn locate(&self, wanted: &Wanted, monitor: &Monitor) -> Result<Resolution>;

    /// [`locate`](Self::locate) for callers that need the fingerprint before the bytes: caches, mirrors, refresh. Not to be
    /// overridden.
    ///
    /// # Errors
    /// As `locate`; `Unsupported` for an image whose fingerprint is known only after its download.
    fn resolve(&self, wanted: &Wanted, monitor: &Monitor) -> Result<StoredImage> {
        self.locate(wanted, monitor)?.into_named()
    }

    /// Opens the bytes of an image that was listed or resolved here. Transport errors may come only when they are read. The
    /// caller checks the fingerprint.
    ///
    /// # Errors
    /// `NotFound` when it is gone; those of [`list`](Self::list).
    fn open(&self, image: &StoredImage, monitor: &Monitor) -> Result<ImageSource>;

    /// [`open`](Self::open) for an image that is about to be imported into `store`: a remote that offers deltas may make a file
    /// of the image out of one that the store has, and download less. A delta that can't be used is recorded in the monitor, and
    /// the whole file is downloaded. Nothing is added to the store.
    ///
    /// # Errors
    /// As `open`.
    fn open_from(&self, image: &StoredImage, store: &Store, monitor: &Monitor) -> Result<ImageSource> {
        let _ = store;
        self.open(image, monitor)
    }

    /// Opens the file of a delta that [`listed`](Self::listed) names.
    ///
    /// # Errors
    /// `Unsupported` for remotes without deltas; those of [`open`](Self::open).
    fn open_delta(&self, delta: &StreamDelta, monitor: &Monitor) -> Result<Input> {
        let _ = (delta, monitor);
        Err(Error::unsupported("this remote has no deltas"))
    }

    /// Opens another file that the lists here name: statements, and what a mirror copies with an owner's lists.
    ///
    /// # Errors
    /// `Unsupported` for remotes without lists of files; those of [`open`](Self::open).
    fn open_file(&self, file: &File, monitor: &Monitor) -> Result<Input> {
        let _ = (file, monitor);
        Err(Error::unsupported("this remote has no lists of files"))
    }

    /// Reads the lists byte for byte with all signatures of them that count, for a mirror that keeps them; `None` for a remote
    /// without signed lists.
    ///
    /// # Errors
    /// Those of [`list`](Self::list); `Unsupported`, with the reason, for signed lists that a tree can't hold as they are.
    fn signed_documents(&self, monitor: &Monitor) -> Result<Option<SignedDocuments>> {
        let _ = monitor;
        Ok(None)
    }

    /// Opens the bytes of an image that was located as [`Resolution::AfterDownload`]. The caller computes the fingerprint and
    /// has already accepted that nothing but the transport vouches for it.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Unsupported` for a remote that names all its images.
    fn open_unverified(&self, image: &UnverifiedImage, monitor: &Monitor) -> Result<ImageSource> {
        let _ = monitor;
        Err(image.refused("this remote has no downloads without a fingerprint"))
    }

    /// As [`open_unverified`](Self::open_unverified), for an image that is imported into `store`: a remote may take from there
    /// what images share, such as layers, and keep it there for the next one.
    ///
    /// # Errors
    /// As `open_unverified`.
    fn open_unverified_from(&self, image: &UnverifiedImage, store: &Store, monitor: &Monitor) -> Result<ImageSource> {
        let _ = store;
        self.open_unverified(image, monitor)
    }

    /// Fingerprints that the lists here name and that [`list`](Self::list) leaves out because nobody can use the entry: such
    /// an image is not gone, so a mirror must not delete its copy. Digests of single files may be among them.
    ///
    /// # Errors
    /// `Remote` when a whole list can't be read, so that it is not known what is gone; those of [`list`](Self::list).
    fn withheld(&self, monitor: &Monitor) -> Result<BTreeSet<Fingerprint>> {
        let _ = monitor;
        Ok(BTreeSet::new())
    }

    /// What vouches for an image that was listed or resolved here: who signed the list, where signatures are demanded and
    /// checked, and the statements about it. Nothing, for remotes that have neither.
    ///
    /// # Errors
    /// Those of [`list`](Self::list); `LimitExceeded` (`statements`); `Malformed` for statements that can't be read.
    fn evidence(&self, image: &StoredImage, monitor: &Monitor) -> Result<Evidence> {
        let _ = (image, monitor);
        Ok(Evidence::new())
    }

    /// The simplestreams entry of an image that was listed or resolved here, so that a mirror keeps its product and version;
    /// `None` for remotes of other protocols.
    ///
    /// # Errors
    /// `NotFound` when it is gone; those of [`list`](Self::list).
    fn listed(&self, image: &StoredImage, monitor: &Monitor) -> Result<Option<StreamImage>> {
        let _ = (image, monitor);
        Ok(None)
    }

    /// Who signed the lists that were read last, each signer once; empty for a remote without signed lists. All of them vouch
    /// together: an image is as trustworthy as the least of them.
    fn list_signatures(&self) -> Vec<ListSignature> {
        Vec::new()
    }
}
