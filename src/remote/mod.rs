//! Images on servers: simplestreams, LXD and Incus, and single URLs, behind one trait.
//! Nothing that a server says is believed: what is stored is named by the digest of what came.
//!
//! ```no_run
//! use lxd_image::remote::{ClientOptions, CopyOptions, Direct, copy};
//! use lxd_image::store::{Alias, Store};
//!
//! let server = Direct::new(ClientOptions::new(), "https://images.example/lxd".parse()?)?;
//! let options = CopyOptions::new().alias(Alias::new("busybox")?);
//! let image = copy(&server, "", &Store::open("/var/lib/lxd-image")?, &options)?;
//! println!("{}", image.fingerprint);
//! # Ok::<(), lxd_image::Error>(())
//! ```

mod ahead;
mod copy;
mod direct;
mod download;
mod http;
mod mirror;
mod near;
mod rest;
mod retry;
mod settings;
mod simplestreams;
mod site;
mod upstream;
mod wanted;

pub use copy::{CopyOptions, copy, fetch};
pub use direct::Direct;
pub use download::Download;
pub use http::{
    Body, Certificate, Client, ClientOptions, Identity, Method, Proxy, Request, Response, Scheme, Trust, Url,
};
pub use mirror::{MirrorOptions, MirrorTarget, Mirrored, mirror};
pub use rest::{Lxd, UploadOptions};
pub use retry::Retry;
pub use settings::{FirstUse, KnownRemote, Protocol, Settings};
pub use simplestreams::Simplestreams;
pub use upstream::{Upstreams, open_source};
pub use wanted::Wanted;

use std::collections::BTreeSet;

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::format::ImageSource;
use crate::progress::Monitor;
use crate::protocol::simplestreams::StreamImage;
use crate::store::{StoredImage, UpdateSource};

/// A place where others keep images: a server, or a tree of files made for one.
///
/// Its images are described as those of a store, since a server is one. What is not told stays
/// empty; texts of aliases and properties are a stranger's. Only the fingerprint is relied on, and
/// only as a question: bytes that don't have it are refused by whoever takes them.
pub trait Remote: Send + Sync {
    /// How an image that comes from here is brought up to date later: protocol, server and, where
    /// no known authority vouches for the server, its certificate. Without an alias.
    fn source(&self) -> UpdateSource;

    /// All images that this client may see, in any order. What the server names and nobody can use is left out and recorded in
    /// the monitor; it hides no other image.
    ///
    /// # Errors
    /// Those of [`Client::send`]; `Malformed` when the list can't be read; `Unsupported` where
    /// there is no list.
    fn list(&self, monitor: &Monitor) -> Result<Vec<StoredImage>>;

    /// The image that is wanted, as it is now.
    ///
    /// # Errors
    /// `NotFound`, saying what there is instead: other architectures, aliases that are near;
    /// `Ambiguous` for the beginning of several fingerprints; those of [`list`](Self::list).
    fn resolve(&self, wanted: &Wanted, monitor: &Monitor) -> Result<StoredImage>;

    /// The bytes of an image that was listed or resolved here. Errors of the way may come when they
    /// are read.
    ///
    /// # Errors
    /// `NotFound` when it is gone; those of [`list`](Self::list).
    fn open(&self, image: &StoredImage, monitor: &Monitor) -> Result<ImageSource>;

    /// Fingerprints that the lists here name and that [`list`](Self::list) leaves out, since nobody can use what they name: such an
    /// image is not gone. Digests of single files may be among them.
    ///
    /// # Errors
    /// `Remote` when a whole list can't be read, so that it is not known what is gone; those of [`list`](Self::list).
    fn withheld(&self, monitor: &Monitor) -> Result<BTreeSet<Fingerprint>> {
        let _ = monitor;
        Ok(BTreeSet::new())
    }

    /// What a list of a simplestreams server says of an image that was listed or resolved here; `None` where there
    /// are no such lists.
    ///
    /// # Errors
    /// `NotFound` when it is gone; those of [`list`](Self::list).
    fn listed(&self, image: &StoredImage, monitor: &Monitor) -> Result<Option<StreamImage>> {
        let _ = (image, monitor);
        Ok(None)
    }
}
