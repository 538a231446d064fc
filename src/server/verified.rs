//! `Verified`: which files of the store were read whole and found to be what their fingerprint says, so that a file is hashed
//! on its way to the first client and not on its way to the thousandth. A file that changed in any way is another one.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use crate::fingerprint::Fingerprint;

/// How many images are remembered; more than that are hashed again.
const REMEMBERED: usize = 100_000;

/// Device, inode, length, time of the last change of content and of the last change of anything.
pub(crate) type State = [(u64, u64, u64, i64, i64, i64, i64); 2];

/// What was verified.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashMap<Fingerprint, State>>);

impl Verified {
    /// Whether these files were found to be this image, and were not touched since.
    pub(crate) fn knows(&self, fingerprint: &Fingerprint, files: (&File, Option<&File>)) -> bool {
        let Some(state) = state(files) else { return false };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint) == Some(&state)
    }

    /// Remembers that these files, as they were at `state`, are this image.
    pub(crate) fn remember(&self, fingerprint: Fingerprint, state: State) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(fingerprint, state);
    }
}

/// What tells whether files are the same as before.
pub(crate) fn state(files: (&File, Option<&File>)) -> Option<State> {
    let one = |file: &File| {
        let data = file.metadata().ok()?;
        Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()))
    };
    let second = match files.1 {
        Some(file) => one(file)?,
        None => (0, 0, 0, 0, 0, 0, 0),
    };
    Some([one(files.0)?, second])
}
