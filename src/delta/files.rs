//! Deltas between files with names: the output gets its name when it is complete.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::{AppliedDelta, DeltaOptions, DeltaReport, apply, make};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::StagedFile;
use crate::io::Blob;
use crate::limits::Limits;
use crate::progress::Monitor;
use crate::sparse::SparseFile;

/// Bytes that are collected before they are written: a delta has small parts between large ones.
const BUFFER_BYTES: usize = 256 << 10;

/// [`make()`](make()) with a file as its output. The file gets its name when it is complete and on the disk.
///
/// # Errors
/// Those of `make`; `AlreadyExists` when there is a file with that name.
pub fn make_file(
    old: &Blob,
    new: &Blob,
    path: impl AsRef<Path>,
    options: &DeltaOptions,
    monitor: &Monitor,
) -> Result<DeltaReport> {
    let staged = StagedFile::make(path.as_ref(), monitor)?;
    let report = make(old, new, BufWriter::with_capacity(BUFFER_BYTES, staged.handle()?), options, monitor)?;
    staged.commit(monitor)?;
    Ok(report)
}

/// [`apply`] with a file as its output. Whole blocks of zeros become holes, and the file gets its name when it is complete
/// and on the disk. With `expected` it gets it only if it has that sha256.
///
/// # Errors
/// Those of `apply`; `AlreadyExists` when there is a file with that name; `Mismatch` for another digest. There is no output
/// after an error.
pub fn apply_file(
    base: &Blob,
    delta: impl Read,
    path: impl AsRef<Path>,
    expected: Option<&Fingerprint>,
    limits: &Limits,
    monitor: &Monitor,
) -> Result<AppliedDelta> {
    let path: PathBuf = path.as_ref().to_path_buf();
    let staged = StagedFile::make(&path, monitor)?;
    let mut output = Output { file: staged.handle()?, length: 0, hasher: expected.map(|_| Hasher::new()) };
    let report = apply(base, delta, &mut output, limits, monitor)?;
    if let (Some(expected), Some(hasher)) = (expected, output.hasher) {
        let found = hasher.finish();
        if found != *expected {
            let what = "the digest of what the delta makes";
            return Err(Error::mismatch(what, expected.to_string(), found.to_string()).in_file(path));
        }
    }
    staged.commit(monitor)?;
    Ok(report)
}

/// Writes a sparse file, and hashes what it writes.
struct Output {
    file: File,
    length: u64,
    hasher: Option<Hasher>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SparseFile::at(&mut self.file, self.length).write_all(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
