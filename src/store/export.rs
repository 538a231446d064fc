//! Export: an image's files back to where people want them, byte for byte, compared with the fingerprint.
//! A file appears under its name when it is complete, and never over another one.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};

use super::image::StoredImage;
use super::open::{OpenedImage, Store};
use super::scratch::write_all;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::{Codec, Container};
use crate::io::{self as bytes, Blob, ReadAt};
use crate::omissions::Omitted;
use crate::progress::{Monitor, Phase};
use crate::rooted::{Dir, proc_path, staging_name};
use crate::sparse::SparseFile;

/// How an image is exported.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ExportOptions {
    monitor: Monitor,
}

impl ExportOptions {
    /// Without progress.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports progress and listens for cancellation.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }
}

/// Whether a path can only be a directory's: it ends in a slash.
fn names_directory(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// Says which properties were given to the image in the store: its files are the bytes that came, and know nothing of them.
fn report_edits(image: &StoredImage, monitor: &Monitor) {
    let (now, came) = (&image.properties, &image.original_properties);
    let removed = came.iter().filter(|(key, _)| now.get(key).is_none());
    for (key, _) in now.iter().filter(|(key, value)| came.get(key) != Some(value)).chain(removed) {
        let part = format!("property `{key}` of the store");
        let reason = "the files are those that were imported; `pack` and `publish` write properties into an image";
        monitor.omit(image.fingerprint.to_string(), Omitted::Dropped { part: part.into(), reason: reason.into() });
    }
}

/// What was exported.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exported {
    /// The image, or the metadata and the rootfs of a split one.
    pub files: Vec<PathBuf>,
    /// Bytes in all files.
    pub size: u64,
}

impl Store {
    /// Writes an image's files to `target`; they are on the disk when this returns. Into a directory (one that ends in `/` is made) they go
    /// under the name they came with,
    /// or their fingerprint's: one file, or metadata as `meta-NAME` and rootfs. Any other target is
    /// a name: the image, or the metadata, gets it with its own ending, a rootfs with `.root`.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` for a file that is there; `Mismatch` when the store's bytes are
    /// no longer the image; `Cancelled`; `Io`. No part of the image is left then.
    pub fn export(
        &self,
        fingerprint: &Fingerprint,
        target: impl AsRef<Path>,
        options: &ExportOptions,
    ) -> Result<Exported> {
        let target = target.as_ref();
        let opened = self.open_image(fingerprint)?;
        // A name that ends in a slash is a directory's, and nothing is written beside it.
        let made = names_directory(target) && !target.is_dir();
        if made {
            std::fs::create_dir(target)
                .map_err(|error| Error::io("the directory to export to can't be made", error).in_file(target))?;
        }
        let done = self.export_into(&opened, target, options);
        if made && done.is_err() {
            let _ = std::fs::remove_dir(target);
        }
        done
    }

    fn export_into(&self, opened: &OpenedImage, target: &Path, options: &ExportOptions) -> Result<Exported> {
        let fingerprint = &opened.image().fingerprint;
        let (directory, names) = if target.is_dir() {
            (target.to_path_buf(), self.file_names(opened)?)
        } else {
            let name = target
                .file_name()
                .and_then(|name| name.to_str())
                .ok_or_else(|| Error::invalid("the target has no name of its own").in_file(target))?;
            (target.parent().unwrap_or(Path::new("")).to_path_buf(), self.names_for(opened, name)?)
        };
        let dir = Dir::open(&directory).map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the directory to export to can't be opened").with_source(error).in_file(&directory)
        })?;
        let mut transfer = HashedCopy { hasher: Hasher::new(), total: opened.image().size, monitor: &options.monitor };
        let (first, rootfs) = opened.files();
        let mut targets = Vec::new();
        for (file, name) in std::iter::once(first).chain(rootfs).zip(&names) {
            let mut target =
                ExportFile::create(&dir, name.as_bytes()).map_err(|error| error.in_file(directory.join(name)))?;
            transfer.copy(file, &mut target.file, true).map_err(|error| error.in_file(directory.join(name)))?;
            targets.push(target);
        }
        let size = transfer.finish(fingerprint)?;
        report_edits(opened.image(), &options.monitor);
        let mut named: Vec<&ExportFile<'_>> = Vec::new();
        for target in &mut targets {
            if let Err(error) = target.publish() {
                for other in named {
                    let _ = dir.remove_file(&other.name);
                }
                return Err(error.in_file(directory.join(String::from_utf8_lossy(&target.name).as_ref())));
            }
            named.push(target);
        }
        // Whoever deletes the image now has nothing but these files.
        if let Err(error) = dir.sync() {
            for target in named {
                let _ = dir.remove_file(&target.name);
            }
            return Err(Error::io("the files can't be made durable", error).in_file(directory));
        }
        Ok(Exported { files: names.iter().map(|name| directory.join(name)).collect(), size })
    }

    /// Writes a unified image to a stream. Returns its size in bytes.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a split image, which is two streams; `Mismatch` when the
    /// store's bytes turn out not to be the image, after they were written; `Cancelled`; `Io`.
    pub fn export_to(&self, fingerprint: &Fingerprint, sink: &mut dyn Write, options: &ExportOptions) -> Result<u64> {
        let opened = self.open_image(fingerprint)?;
        let (file, rootfs) = opened.files();
        if rootfs.is_some() {
            return Err(Error::invalid("a split image is two files, and a stream holds one")
                .with_hint("export it to a directory, or convert it to a unified image"));
        }
        let mut transfer = HashedCopy { hasher: Hasher::new(), total: opened.image().size, monitor: &options.monitor };
        transfer.stream(file, sink)?;
        sink.flush().map_err(|error| Error::io("the image can't be written", error))?;
        report_edits(opened.image(), &options.monitor);
        transfer.finish(fingerprint)
    }

    /// The names of an image's files in a directory.
    pub(crate) fn file_names(&self, opened: &OpenedImage) -> Result<Vec<String>> {
        let image = opened.image();
        let endings = self.endings(opened)?;
        Ok(match endings.as_slice() {
            [first, rootfs, ..] => {
                let name = image.rootfs_name.clone().unwrap_or_else(|| format!("{}{rootfs}", image.fingerprint));
                let stem = ["", ".root"]
                    .iter()
                    .chain(ENDINGS)
                    .filter(|ending| !ending.is_empty())
                    .find_map(|ending| name.strip_suffix(ending))
                    .unwrap_or(&name);
                vec![format!("meta-{stem}{first}"), name]
            }
            [ending] => vec![unified_name(image, ending)],
            [] => Vec::new(),
        })
    }

    fn names_for(&self, opened: &OpenedImage, name: &str) -> Result<Vec<String>> {
        let endings = self.endings(opened)?;
        let with = |ending: &str| if name.ends_with(ending) { name.to_owned() } else { format!("{name}{ending}") };
        Ok(match endings.as_slice() {
            [first, _, ..] => vec![with(first), format!("{name}.root")],
            [ending] => vec![with(ending)],
            [] => Vec::new(),
        })
    }

    /// The endings that tell what the files are.
    fn endings(&self, opened: &OpenedImage) -> Result<Vec<&'static str>> {
        Ok(opened.open(&self.options.limits)?.containers().map(ending).collect())
    }
}

/// The name of a unified image's file: the one it came with, or its fingerprint's.
fn unified_name(image: &StoredImage, ending: &str) -> String {
    image.file_name.clone().unwrap_or_else(|| format!("{}{ending}", image.fingerprint))
}

/// The endings of rootfs files.
const ENDINGS: &[&str] =
    &[".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.lzma", ".tar.zst", ".tar.lz4", ".squashfs", ".qcow2", ".img"];

fn ending(container: Container) -> &'static str {
    match container {
        Container::SquashFs => ".squashfs",
        Container::Qcow2 => ".qcow2",
        Container::Tar(codec) => match codec {
            Codec::None => ".tar",
            Codec::Gzip => ".tar.gz",
            Codec::Bzip2 => ".tar.bz2",
            Codec::Xz => ".tar.xz",
            Codec::Lzma => ".tar.lzma",
            Codec::Zstd => ".tar.zst",
            Codec::Lz4 => ".tar.lz4",
        },
    }
}

/// A file that is written before it has its name.
struct ExportFile<'a> {
    dir: &'a Dir,
    name: Vec<u8>,
    file: File,
    /// Where the file system has no files without names.
    staging: Option<Vec<u8>>,
}

impl<'a> ExportFile<'a> {
    fn create(dir: &'a Dir, name: &[u8]) -> Result<Self> {
        let fail = |error: io::Error| Error::io("the file can't be made", error);
        if dir.stat(name).is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a file of that name already"));
        }
        let mode = Mode::from_raw_mode(0o644);
        // Nothing is left of a file without a name when its process ends.
        if let Ok(file) = openat(dir.as_fd(), ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            return Ok(Self { dir, name: name.to_vec(), file: File::from(file), staging: None });
        }
        let staging = staging_name(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir.as_fd(), staging.as_slice(), flags, mode).map_err(|error| fail(error.into()))?;
        Ok(Self { dir, name: name.to_vec(), file: File::from(file), staging: Some(staging) })
    }

    fn publish(&mut self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io("the file can't be made durable", error))?;
        let done = match &self.staging {
            Some(staging) => self.dir.rename_new(staging, &self.name),
            None => linkat(
                CWD,
                proc_path(self.file.as_fd()),
                self.dir.as_fd(),
                self.name.as_slice(),
                AtFlags::SYMLINK_FOLLOW,
            )
            .map_err(Into::into),
        };
        match done {
            Ok(()) => {
                self.staging = None;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::new(ErrorKind::AlreadyExists, "there is a file of that name already"))
            }
            Err(error) => Err(Error::io("the file can't be given its name", error)),
        }
    }
}

impl Drop for ExportFile<'_> {
    fn drop(&mut self) {
        if let Some(staging) = &self.staging {
            let _ = self.dir.remove_file(staging);
        }
    }
}

/// Bytes on their way out, hashed.
struct HashedCopy<'a> {
    hasher: Hasher,
    total: u64,
    monitor: &'a Monitor,
}

impl HashedCopy<'_> {
    fn copy(&mut self, from: &Blob, to: &mut File, share: bool) -> Result<()> {
        if share && from.reflink_to(to.as_fd()) {
            // The copy is what must be right.
            let copy = to.try_clone().and_then(Blob::file);
            return self.stream(&copy.map_err(|error| Error::io(UNREADABLE, error))?, &mut io::sink());
        }
        self.stream(from, &mut SparseFile::at(to, 0))
    }

    fn stream(&mut self, from: &Blob, to: &mut (impl Write + ?Sized)) -> Result<()> {
        let (before, total, monitor) = (self.hasher.bytes(), self.total, self.monitor);
        let mut report = |read: u64| monitor.report(Phase::Hash, before.saturating_add(read), Some(total));
        bytes::read_all(from, UNREADABLE, &mut report, &mut |bytes| {
            self.hasher.update(bytes);
            write_all(to, bytes).map_err(|error| Error::io("the image can't be written", error))
        })
    }

    fn finish(self, expected: &Fingerprint) -> Result<u64> {
        let (size, found) = (self.hasher.bytes(), self.hasher.finish());
        if found == *expected {
            return Ok(size);
        }
        Err(Error::mismatch("the fingerprint of the image in the store", expected.to_string(), found.to_string())
            .with_hint("`lxd-image check --repair` puts damaged images aside"))
    }
}

const UNREADABLE: &str = "the image in the store can't be read";
