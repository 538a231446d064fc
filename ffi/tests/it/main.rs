//! The C interface seen from C: its header, its layout, and what programs in C get from it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod header;

use std::path::PathBuf;

/// A path for a file of a test, in a directory that cargo empties.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("ffi");
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}
