//! `Verified`: which files of the store were read whole and found to be what their fingerprint says, so that a file is hashed
//! on its way to the first client and not on its way to the thousandth. A file that changed in any way is another one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::fingerprint::Fingerprint;
use crate::io::{Blob, ReadAt, Version};

/// How many images are remembered; more than that are hashed again.
const MAX_IMAGES: usize = 100_000;

/// The versions of an image's file, or of its metadata file and its rootfs file.
pub(crate) type State = (Version, Option<Version>);

/// What was verified.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashMap<Fingerprint, State>>);

impl Verified {
    /// Whether these files were found to be this image, and were not touched since.
    pub(crate) fn knows(&self, fingerprint: &Fingerprint, files: (&Blob, Option<&Blob>)) -> bool {
        let Some(state) = state(files) else { return false };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint) == Some(&state)
    }

    /// Remembers that these files, as they were at `state`, are this image.
    pub(crate) fn remember(&self, fingerprint: Fingerprint, state: State) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_IMAGES {
            known.clear();
        }
        known.insert(fingerprint, state);
    }
}

/// What tells whether files are the same as before; `None` where their engine can't tell.
pub(crate) fn state(files: (&Blob, Option<&Blob>)) -> Option<State> {
    let version = |file: &Blob| file.version().ok().flatten();
    let rootfs = match files.1 {
        Some(file) => Some(version(file)?),
        None => None,
    };
    Some((version(files.0)?, rootfs))
}
