//! Space that is kept for deleting on a full disk: the write-ahead log grows before anything shrinks.
//! Also how files that are nobody else's business are made.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, Result};
use crate::store::layout::beside;

/// A delete writes some ten pages to the log, and the log's index has 32 KiB.
const RESERVE_BYTES: u64 = 1 << 20;

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

/// Keeps some space, as far as there is any. Best effort: without it only deleting on a full disk suffers.
pub(super) fn reserve(catalog: &Path) {
    let path = beside(catalog, "-reserve");
    if std::fs::metadata(&path).is_ok_and(|about| about.len() >= RESERVE_BYTES) || private_file(&path).is_err() {
        return;
    }
    if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path)
        && rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES).is_err()
    {
        // What was got of it is of no use to anyone else.
        let _ = file.set_len(0);
    }
}

pub(super) fn release_reserve(catalog: &Path) -> bool {
    let path = beside(catalog, "-reserve");
    let held = std::fs::metadata(&path).is_ok_and(|about| about.len() > 0);
    held && std::fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0)).is_ok()
}
