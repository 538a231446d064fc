//! Objects that no image row names: those that are being uploaded, those that are to be written, and dead ones. Every object is
//! noted before its bytes are created, so that whatever a crash leaves is found without listing the blobs.

use crate::fingerprint::Fingerprint;
use crate::store::blobs::BlobKey;

/// A note about an object that no image row names, yet or any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// Its key, which is never used for anything else.
    pub key: BlobKey,
    /// The image that it is of.
    pub fingerprint: Fingerprint,
    /// What is to become of it.
    pub state: ObjectState,
}

/// What is to become of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectState {
    /// Somebody uploads it. Abandoned when the uploader's file in scratch is no longer locked or, where scratch is another
    /// machine's, when the lease ran out.
    Uploading {
        /// The scratch directory and the staged file of the uploader.
        holder: String,
        /// When the lease runs out, in seconds since 1970.
        lease_until: i64,
    },
    /// The sidecar of one revision of an image's row, to be written.
    Sidecar {
        /// The revision that it tells of.
        revision: u64,
    },
    /// No row will ever name it again.
    Dead {
        /// When its bytes may go, in seconds since 1970.
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
