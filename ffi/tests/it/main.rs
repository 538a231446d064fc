//! The C interface seen from C: its header, its layout, and what programs in C get from it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod abi;
mod cases;
mod compile;
mod corpus;
mod header;
mod programs;
mod sections;

use std::path::{Path, PathBuf};

/// The project's top.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// An empty directory for one test, which stays for whoever looks into a failure.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("ffi").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
