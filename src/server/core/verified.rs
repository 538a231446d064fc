//! [`Verified`]: remembers which stored files have been hashed and match their fingerprint, so that a file is hashed
//! for the first client only. A file is identified by its version, so that a changed file is hashed again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::fingerprint::Fingerprint;
use crate::io::{Blob, ReadAt, Version};

/// Images that are remembered; when there are more, all are hashed again.
const MAX_IMAGES: usize = 100_000;

/// The versions of an image's file, or of its metadata file and its rootfs file.
pub(crate) type State = (Version, Option<Version>);

/// The verified files of a store.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashMap<Fingerprint, State>>);

impl Verified {
    /// Whether these files were verified as this image and have not changed since.
    pub(crate) fn knows(&self, fingerprint: &Fingerprint, files: (&Blob, Option<&Blob>)) -> bool {
        let Some(state) = state(files) else { return false };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint) == Some(&state)
    }

    /// Remembers that the files with these versions are this image.
    pub(crate) fn remember(&self, fingerprint: Fingerprint, state: State) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_IMAGES {
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
