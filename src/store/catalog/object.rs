//! Notes about objects that no image row names: objects that are being uploaded, sidecars to be
//! written, and dead objects.
//!
//! Every object is noted before it is created, so that whatever a crash leaves is found without listing the blobs.

use crate::fingerprint::Fingerprint;
use crate::store::blobs::BlobKey;

/// A note about an object that no image row names, yet or any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// The key of the object, which is never used for another one.
    pub key: BlobKey,
    /// The image that it belongs to.
    pub fingerprint: Fingerprint,
    /// What it is waiting for.
    pub state: ObjectState,
}

/// What an object without a row is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectState {
    /// A process is uploading it. The upload is abandoned if the uploader's staged file is no
    /// longer locked, or, if that file is on another machine, if the lease has expired.
    Uploading {
        /// The staged file of the uploader: the id of its scratch and the name of the file. An upload in parts says
        /// here how far it is (`parts/…`, `part/…`), and is abandoned by its lease alone.
        holder: String,
        /// When the lease expires, in seconds since 1970.
        lease_until: i64,
    },
    /// The sidecar of one revision of a row must be written.
    Sidecar {
        /// The revision that the sidecar describes.
        revision: u64,
    },
    /// No row will ever name it again, and it is to be deleted.
    Dead {
        /// When it may be deleted, in seconds since 1970.
        delete_after: i64,
    },
}

impl Object {
    /// A note.
    #[must_use]
    pub fn new(key: BlobKey, fingerprint: Fingerprint, state: ObjectState) -> Self {
        Self { key, fingerprint, state }
    }
}
