//! Space that is reserved for deleting on a full disk: SQLite's write-ahead log has to grow before anything shrinks.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, Result};
use crate::store::layout::beside;

/// The reserved space. Deleting an image writes about ten pages to the log, and the index of the log has 32 KiB.
const RESERVE_BYTES: u64 = 1 << 20;

/// Creates a file that only its owner can read, whatever the umask. SQLite gives further files of a
/// database the mode of the first.
pub(super) fn private_file(path: &Path) -> Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
        .map_err(|error| Error::io("the file can't be made", error).in_file(path))
}

/// Reserves the space, if it is available. Best effort: without it only deleting on a full disk fails.
pub(super) fn reserve(catalog: &Path) {
    let path = beside(catalog, "-reserve");
    if std::fs::metadata(&path).is_ok_and(|about| about.len() >= RESERVE_BYTES) || private_file(&path).is_err() {
        return;
    }
    if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path)
        && rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES).is_err()
    {
        // A part of it is not enough for a transaction: give it back.
        let _ = file.set_len(0);
    }
}

/// Frees the reserved space. Returns whether there was any, in which case a failed transaction is
/// worth another attempt.
pub(super) fn release_reserve(catalog: &Path) -> bool {
    let path = beside(catalog, "-reserve");
    let held = std::fs::metadata(&path).is_ok_and(|about| about.len() > 0);
    held && std::fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0)).is_ok()
}
