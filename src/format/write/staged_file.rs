//! Files that are written beside their destination and get their names once they are complete, so
//! that no name ever refers to a partial image.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::atomic::{self, Durability, Replace};
use crate::error::{Error, ErrorKind, Result};
use crate::leftovers;
use crate::progress::Monitor;
use crate::rooted::{Dir, staging_name};

/// A file in the destination's directory under a temporary name; removed when dropped uncommitted.
/// A lock on it tells it from a leftover of a crashed process.
pub(crate) struct StagedFile {
    dir: Dir,
    /// Where the file will be.
    path: PathBuf,
    name: Vec<u8>,
    /// The temporary name; `None` once it was committed.
    staging: Option<Vec<u8>>,
    file: File,
}

impl StagedFile {
    /// Makes a file that will be at `path`, where nothing may be yet.
    pub(crate) fn make(path: &Path, monitor: &Monitor) -> Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::invalid("the output has no name of its own").in_file(path))?
            .as_bytes()
            .to_vec();
        let dir = Dir::open(path.parent().unwrap_or(Path::new(""))).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the output's directory can't be opened").with_source(error).in_file(path)
        })?;
        // Checked early, so that a long packing does not fail at its end; the rename checks again
        // without a race.
        if dir.stat(&name).is_ok() {
            return Err(taken(path));
        }
        leftovers::sweep(&dir, monitor.cancel());
        for _ in 0..16 {
            let staging = staging_name(&name);
            // As any program makes files: what the umask leaves.
            let file = dir
                .create(&staging, 0o666)
                .map_err(|error| Error::io("the output can't be made", error).in_file(path))?;
            let named = file.metadata().ok().map(|about| (about.dev(), about.ino()));
            // Swept by another process before it was locked.
            if leftovers::lock(&file) && dir.identity_of(&staging).ok() == named {
                return Ok(Self { dir, path: path.to_path_buf(), name, staging: Some(staging), file });
            }
        }
        Err(Error::new(ErrorKind::Io, "no free name for a staging file was found").in_file(path))
    }

    /// Another handle on the file, at its start.
    pub(crate) fn handle(&self) -> Result<File> {
        let mut file = self.file.try_clone().map_err(|error| Error::io("the output can't be opened again", error))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| Error::io("the output can't be written", error))?;
        Ok(file)
    }

    /// Opens what was written, for reading.
    pub(crate) fn reopen(&self) -> Result<File> {
        let staging = self.staging.as_deref().unwrap_or(&self.name);
        self.dir
            .open_file(staging)
            .map_err(|error| Error::io("the output can't be read again", error).in_file(&self.path))
    }

    /// Gives the file its name, without replacing anything. Content and name are on the disk when
    /// this returns.
    ///
    /// # Errors
    /// `AlreadyExists` where the name was taken meanwhile; `Cancelled`; `Io`.
    pub(crate) fn commit(mut self, monitor: &Monitor) -> Result<PathBuf> {
        monitor.check()?;
        let Some(staging) = self.staging.as_deref() else { return Ok(self.path.clone()) };
        atomic::publish(&self.file, &self.dir, staging, &self.name, Replace::No, Durability::Durable).map_err(
            |error| {
                if error.kind() == std::io::ErrorKind::AlreadyExists {
                    return taken(&self.path);
                }
                Error::io("the output can't be written and given its name", error).in_file(&self.path)
            },
        )?;
        self.staging = None;
        Ok(self.path.clone())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(staging) = self.staging.take() {
            // Nobody is left to be told; the name says what it is.
            let _ = self.dir.remove_file(&staging);
        }
    }
}

/// The error for an output that exists.
fn taken(path: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, "the output exists already")
        .with_hint("remove it first, or name another")
        .in_file(path)
}
