//! Files of images: staged and hashed in one pass, then renamed to their digest.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind as Io, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::tree::{STAGING, Tree, TreeWriter, fail};
use crate::atomic;
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher, HashingWriter};
use crate::format::Input;
use crate::progress::{Monitor, Phase};
use crate::protocol::simplestreams::{ItemPath, PublishedFile, RootKind, STATEMENTS_TYPE};
use crate::rooted::Dir;
use crate::sparse::SparseFile;

/// The role of a file in an image, which decides the suffix of its name. The suffixes are those of `incus-simplestreams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The only file of a unified image.
    Unified,
    /// The metadata of a split image.
    Metadata,
    /// The rootfs of a split image.
    Rootfs(RootKind),
    /// A delta that makes the rootfs.
    Delta(RootKind),
    /// The statements about an image.
    Statements,
}

impl Part {
    /// The suffix of the file name.
    fn suffix(self) -> &'static str {
        match self {
            Self::Statements => STATEMENTS_TYPE,
            Self::Unified => "incus_combined.tar.gz",
            Self::Metadata => "incus.tar.xz",
            Self::Rootfs(RootKind::Squashfs) => "squashfs",
            Self::Rootfs(RootKind::Tar) => "root.tar.xz",
            Self::Rootfs(RootKind::DiskKvm | RootKind::Disk1 | RootKind::Uefi1) => "qcow2",
            Self::Delta(RootKind::Squashfs) => "squashfs.vcdiff",
            Self::Delta(_) => "qcow2.vcdiff",
        }
    }

    /// The path of a file with this digest in the tree.
    pub(super) fn path(self, tree: &Tree, sha256: &Fingerprint) -> Result<ItemPath> {
        format!("{}/{sha256}.{}", tree.stream(), self.suffix()).parse()
    }
}

/// A staged file. Removed when dropped, unless it was moved to its name.
#[derive(Debug)]
pub(super) struct Staged {
    /// Where it is staged.
    pub(super) path: PathBuf,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its own digest.
    pub(super) sha256: Fingerprint,
    /// Open until it is moved to its name; `None` means that dropping must not remove it.
    file: Option<File>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Staged {
    /// Opens the staged bytes, under the name of the original for errors.
    pub(super) fn input(&self, original: &Input) -> Result<Input> {
        let input = Input::file(File::open(&self.path).map_err(fail(&self.path))?)?;
        Ok(match original.name() {
            Some(name) => input.named(name),
            None => input,
        })
    }
}

/// Hash and progress over all files of one image.
pub(super) struct Counted<'a> {
    /// Over all files so far: gives the fingerprint.
    pub(super) whole: Hasher,
    /// The size of all files in bytes, if it is known.
    pub(super) total: Option<u64>,
    pub(super) monitor: &'a Monitor,
}

impl TreeWriter {
    /// Copies one file of an image into staging under `name`, keeping holes, and hashes it alone and as part of the image.
    pub(super) fn stage(&self, name: &str, input: &Input, counted: &mut Counted<'_>) -> Result<Staged> {
        let path = self.tree.root.join(STAGING).join(name);
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o644).open(&path).map_err(fail(&path))?;
        let mut staged = Staged { path, size: 0, sha256: Fingerprint::of(b""), file: Some(file) };
        let mut own = Hasher::new();
        let mut reader = input.reader(counted.monitor.cancel())?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            counted.monitor.report(Phase::Hash, counted.whole.bytes(), counted.total)?;
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), Io::Interrupted | Io::WouldBlock) => continue,
                Err(error) => return Err(input.name_error(Error::io("the image can't be read", error))),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            if let Some(file) = &mut staged.file {
                let mut file = SparseFile::at(file, own.bytes());
                file.write_all(bytes).map_err(fail(&staged.path))?;
            }
            own.update(bytes);
            counted.whole.update(bytes);
        }
        staged.size = own.bytes();
        staged.sha256 = own.finish();
        Ok(staged)
    }

    /// Stages what `write` writes, under `name`.
    pub(super) fn stage_written<T>(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<T>,
    ) -> Result<(Staged, T)> {
        let path = self.tree.root.join(STAGING).join(name);
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o644).open(&path).map_err(fail(&path))?;
        let mut staged = Staged { path, size: 0, sha256: Fingerprint::of(b""), file: None };
        // Removed when this fails from here on; `&File` writes, too.
        let file = &*staged.file.insert(file);
        let mut out = HashingWriter::new(file);
        let done = {
            let mut buffered = BufWriter::with_capacity(256 << 10, &mut out);
            let done = write(&mut buffered)?;
            buffered.flush().map_err(|error| Error::io("the tree can't be read or written", error))?;
            done
        };
        let hasher = out.hasher;
        staged.size = hasher.bytes();
        staged.sha256 = hasher.finish();
        Ok((staged, done))
    }

    /// Moves a staged file to its name, durably. If a file with that name is there, it is read: it stays if its bytes are right, and
    /// is replaced if not, since a name alone proves nothing in a directory that others write.
    pub(super) fn place(&self, staged: Staged, part: Part, monitor: &Monitor) -> Result<PublishedFile> {
        let published = PublishedFile::new(part.path(&self.tree, &staged.sha256)?, staged.size, staged.sha256);
        if self.has(&published, monitor)? {
            return Ok(published);
        }
        self.move_to(staged, &self.tree.root.join(published.path.as_str()))?;
        Ok(published)
    }

    /// Moves a staged file to a path, durably.
    pub(super) fn move_to(&self, mut staged: Staged, path: &Path) -> Result<()> {
        if let Some(file) = staged.file.take() {
            atomic::rename(&file, &staged.path, path).map_err(|error| {
                let _ = fs::remove_file(&staged.path);
                fail(path)(error)
            })?;
        }
        Ok(())
    }

    /// Moves a staged file to a name in an open directory, durably. `path` names it in errors.
    pub(super) fn move_into(&self, mut staged: Staged, directory: &Dir, name: &str, path: &Path) -> Result<()> {
        let Some(file) = staged.file.take() else { return Ok(()) };
        let moved = file.sync_all().and_then(|()| directory.take(&staged.path, name.as_bytes()));
        moved.and_then(|()| directory.sync()).map_err(|error| {
            let _ = fs::remove_file(&staged.path);
            fail(path)(error)
        })
    }

    /// Whether a file is there with the right size and digest. Reads all of it.
    pub(super) fn has(&self, file: &PublishedFile, monitor: &Monitor) -> Result<bool> {
        let path = self.tree.root.join(file.path.to_file());
        match fs::metadata(&path) {
            Ok(about) if about.is_file() && about.len() == file.size => {}
            Err(error) if error.kind() != Io::NotFound => return Err(fail(&path)(error)),
            _ => return Ok(false),
        }
        let mut own = Hasher::new();
        read_whole(&path, &mut [&mut own], monitor)?;
        Ok(own.finish() == file.sha256)
    }
}

/// Reads a whole file into hashers.
pub(super) fn read_whole(path: &Path, hashers: &mut [&mut Hasher], monitor: &Monitor) -> Result<()> {
    let file = File::open(path).map_err(fail(path))?;
    read_all(&file, path, hashers, monitor)
}

/// Reads a whole open file into hashers. `path` names it in errors.
pub(super) fn read_all(mut file: &File, path: &Path, hashers: &mut [&mut Hasher], monitor: &Monitor) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        monitor.check()?;
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == Io::Interrupted => continue,
            Err(error) => return Err(fail(path)(error)),
        };
        for hasher in hashers.iter_mut() {
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
    }
}
