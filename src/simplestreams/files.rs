//! Files of images on their way into a tree: staged and hashed as they come, then named by their own digest.

use std::fs::{self, File};
use std::io::{ErrorKind as Io, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::tree::{IMAGES, STAGING, TreeWriter, fail};
use crate::atomic;
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::Input;
use crate::progress::{Monitor, Phase};
use crate::protocol::simplestreams::{ItemPath, PublishedFile, RootKind};
use crate::sparse::SparseFile;

/// What a file of an image is, which its name ends with. The endings are those of `incus-simplestreams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Unified,
    Metadata,
    Rootfs(RootKind),
}

impl Part {
    fn ending(self) -> &'static str {
        match self {
            Self::Unified => "incus_combined.tar.gz",
            Self::Metadata => "incus.tar.xz",
            Self::Rootfs(RootKind::Squashfs) => "squashfs",
            Self::Rootfs(RootKind::Tar) => "root.tar.xz",
            Self::Rootfs(RootKind::DiskKvm | RootKind::Disk1 | RootKind::Uefi1) => "qcow2",
        }
    }

    pub(super) fn path(self, sha256: &Fingerprint) -> Result<ItemPath> {
        format!("{IMAGES}/{sha256}.{}", self.ending()).parse()
    }
}

/// A file without its name, gone when dropped.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) sha256: Fingerprint,
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
    pub(super) fn input(&self, original: &Input) -> Result<Input> {
        let input = Input::file(File::open(&self.path).map_err(fail(&self.path))?)?;
        Ok(match original.name() {
            Some(name) => input.named(name),
            None => input,
        })
    }
}

/// Bytes of one image, counted over its files.
pub(super) struct Counted<'a> {
    pub(super) whole: Hasher,
    pub(super) total: Option<u64>,
    pub(super) monitor: &'a Monitor,
}

impl TreeWriter {
    /// Copies one file into staging; `name` tells it from others there.
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

    /// Gives a file its name. One that is there already is read: it stays if it is right, and is replaced if not.
    pub(super) fn place(&self, mut staged: Staged, part: Part, monitor: &Monitor) -> Result<PublishedFile> {
        let published = PublishedFile::new(part.path(&staged.sha256)?, staged.size, staged.sha256);
        if self.has(&published, monitor)? {
            return Ok(published);
        }
        let path = self.tree.root.join(published.path.as_str());
        if let Some(file) = staged.file.take() {
            atomic::rename(&file, &staged.path, &path).map_err(|error| {
                let _ = fs::remove_file(&staged.path);
                fail(&path)(error)
            })?;
        }
        Ok(published)
    }

    /// Whether a file is there, with the right bytes.
    pub(super) fn has(&self, file: &PublishedFile, monitor: &Monitor) -> Result<bool> {
        let path = self.tree.root.join(file.path.as_str());
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

/// Feeds a file to hashers.
pub(super) fn read_whole(path: &Path, hashers: &mut [&mut Hasher], monitor: &Monitor) -> Result<()> {
    let mut file = File::open(path).map_err(fail(path))?;
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
