//! A small file system in memory, where this process may mount one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one of this size at `path`, which must not exist; `None` where this process may not.
    pub(crate) fn at(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&path).status();
        mount.is_ok_and(|status| status.success()).then_some(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
