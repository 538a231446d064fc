//! Writes a virtual machine's disk as a file of its own, with holes where it has only zeros.

use std::fs::File;

use crate::error::{Error, Result};
use crate::format::holes;

/// Writes a disk at the offsets of its pieces.
pub(super) struct DiskFile {
    file: File,
    size: u64,
}

impl DiskFile {
    /// Takes a new, empty file, and the size that the disk will have.
    pub(super) fn new(file: File, size: u64) -> Self {
        Self { file, size }
    }

    /// Writes bytes at an offset; zeros become holes.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        holes::write(&self.file, bytes, offset).map(drop).map_err(|error| Error::io("the disk can't be written", error))
    }

    /// Sets the size, as the disk may end with a hole.
    pub(super) fn finish(self) -> Result<()> {
        self.file.set_len(self.size).map_err(|error| Error::io("the disk's size can't be set", error))
    }
}
