//! A virtual machine's disk as a file of its own, with holes where it holds nothing but zeros.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// Writes a disk at the offsets that its pieces come with.
pub(super) struct DiskFile {
    file: File,
    size: u64,
}

/// Zeros shorter than this are written: a hole costs a system call too.
const GRAIN: usize = 64 << 10;

impl DiskFile {
    pub(super) fn new(file: File, size: u64) -> Self {
        Self { file, size }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut at = offset;
        for piece in bytes.chunks(GRAIN) {
            if piece.len() < GRAIN || piece.iter().any(|&byte| byte != 0) {
                self.file.write_all_at(piece, at).map_err(|error| Error::io("the disk can't be written", error))?;
            }
            at = at.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        self.file.set_len(self.size).map_err(|error| Error::io("the disk's size can't be set", error))
    }
}
