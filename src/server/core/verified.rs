//! [`Verified`]: remembers which stored files have been hashed and match their fingerprint, so that
//! a file is hashed for the first client only. A file is identified by its version, so that a
//! changed file is hashed again.
//!
//! The version of a blob is an opaque token that changes when the bytes may have changed (for a
//! file: device, inode, length and times). So damage that changes the file is found. Damage below
//! the file system, which changes bytes and no times, is found by `Store::check` and not here.
//!
//! Nothing is persistent: after a restart each image is hashed once more, while it is sent.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::fingerprint::Fingerprint;
use crate::io::{Blob, ReadAt, Version};

/// Images that are remembered, some 20 MiB. When there are more, all are forgotten and hashed
/// again: the cost is one digest per image, and no order of use needs to be kept.
const MAX_IMAGES: usize = 100_000;

/// The versions of an image's file, or of its metadata file and its rootfs file. Two equal states
/// mean the same bytes.
pub(crate) type State = (Version, Option<Version>);

/// The verified images of a store, each with the state of its files when they were hashed.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashMap<Fingerprint, State>>);

impl Verified {
    /// Whether these files were verified as this image and have not changed since.
    ///
    /// Asks the blob store for the versions, which is a `stat` for files, and reads no content.
    pub(crate) fn knows(&self, fingerprint: &Fingerprint, files: (&Blob, Option<&Blob>)) -> bool {
        let Some(state) = state(files) else { return false };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint) == Some(&state)
    }

    /// Remembers that the files with these versions are this image. The caller took `state` before
    /// it read the bytes: a file that was changed meanwhile then has another version than the
    /// remembered one.
    pub(crate) fn remember(&self, fingerprint: Fingerprint, state: State) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_IMAGES {
            // Without an order of use it is not known which to drop; hashing again is always right.
            known.clear();
        }
        known.insert(fingerprint, state);
    }
}

/// The versions of files; `None` where their blob store has none, so that nothing can be remembered.
pub(crate) fn state(files: (&Blob, Option<&Blob>)) -> Option<State> {
    let version = |file: &Blob| file.version().ok().flatten();
    let rootfs = match files.1 {
        Some(file) => Some(version(file)?),
        None => None,
    };
    Some((version(files.0)?, rootfs))
}
