//! Exporting: writes the files of an image to a directory or a stream, byte for byte, and compares
//! them with the fingerprint.
//!
//! A file appears under its name only once it is complete, verified and on the disk, and it never
//! replaces another file.

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

/// Whether a path can only mean a directory, because it ends with a slash.
fn names_directory(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// Records which properties were changed in the store: the exported files are the bytes that were
/// imported, and do not contain these changes.
fn report_edits(image: &StoredImage, monitor: &Monitor) {
    let (now, came) = (&image.properties, &image.original_properties);
    let removed = came.iter().filter(|(key, _)| now.get(key).is_none());
    for (key, _) in now.iter().filter(|(key, value)| came.get(key) != Some(value)).chain(removed) {
        let part = format!("property `{key}` of the store");
        let reason = "the files are those that were imported; `pack` and `publish` write properties into an image";
        monitor.omit(image.fingerprint.to_string(), Omitted::Dropped { part: part.into(), reason: reason.into() });
    }
}

/// The result of [`Store::export`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exported {
    /// The file of the image, or the metadata and the rootfs of a split one.
    pub files: Vec<PathBuf>,
    /// The file with the statements about the image, if there are any: named after the first file, with
    /// `.intoto.jsonl` behind it.
    pub statements: Option<PathBuf>,
    /// The size of all files in bytes.
    pub size: u64,
}

impl Store {
    /// Writes the files of an image to `target`. They are on the disk when this returns.
    ///
    /// If `target` is a directory (one that ends with `/` is created), the files get the name that
    /// the image was imported with, or its fingerprint: one file, or the metadata as `meta-NAME`
    /// and the rootfs. Otherwise `target` is a file name: the image, or the metadata, gets it with
    /// an extension that tells its format, the rootfs gets `.root`.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::store::Store;
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = Store::open("/var/lib/lxd-image")?;
    /// let image = store.resolve("debian/12")?;
    /// let exported = store.export(&image.fingerprint, "backup/", &Monitor::none())?;
    /// for file in &exported.files {
    ///     println!("{}", file.display());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` for a file of that name; `Mismatch` if the bytes in the store
    /// are damaged; `Cancelled`; `StorageFull`; `Io`. No file remains then.
    pub fn export(&self, fingerprint: &Fingerprint, target: impl AsRef<Path>, monitor: &Monitor) -> Result<Exported> {
        let target = target.as_ref();
        let opened = self.open_image(fingerprint)?;
        // A target with a slash at its end must become a directory, and not the prefix of file names.
        let made = names_directory(target) && !target.is_dir();
        if made {
            std::fs::create_dir(target)
                .map_err(|error| Error::io("the directory to export to can't be made", error).in_file(target))?;
        }
        let done = self.export_into(&opened, target, monitor);
        if made && done.is_err() {
            let _ = std::fs::remove_dir(target);
        }
        done
    }

    /// Exports into a directory that exists, or to a file name.
    fn export_into(&self, opened: &OpenedImage, target: &Path, monitor: &Monitor) -> Result<Exported> {
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
        let mut transfer = HashedCopy { hasher: Hasher::new(), total: opened.image().size, monitor };
        let (first, rootfs) = opened.files();
        let mut targets = Vec::new();
        for (file, name) in std::iter::once(first).chain(rootfs).zip(&names) {
            let mut target =
                ExportFile::create(&dir, name.as_bytes()).map_err(|error| error.in_file(directory.join(name)))?;
            transfer.copy(file, &mut target.file, true).map_err(|error| error.in_file(directory.join(name)))?;
            targets.push(target);
        }
        let size = transfer.finish(fingerprint)?;
        let bundle = self.bundle(fingerprint)?;
        let mut statements = None;
        if let (Some(first), false) = (names.first(), bundle.is_empty()) {
            let name = format!("{first}.intoto.jsonl");
            let path = directory.join(&name);
            let mut target = ExportFile::create(&dir, name.as_bytes()).map_err(|error| error.in_file(&path))?;
            let written = target.file.write_all(bundle.as_bytes());
            written.map_err(|error| Error::io("the statements can't be written", error).in_file(&path))?;
            targets.push(target);
            statements = Some(path);
        }
        report_edits(opened.image(), monitor);
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
        // The caller may delete the image now, so the names must be durable, too.
        if let Err(error) = dir.sync() {
            for target in named {
                let _ = dir.remove_file(&target.name);
            }
            return Err(Error::io("the files can't be made durable", error).in_file(directory));
        }
        Ok(Exported { files: names.iter().map(|name| directory.join(name)).collect(), statements, size })
    }

    /// The statements about an image, one on each line; empty without any.
    #[cfg(feature = "trust")]
    pub(crate) fn bundle(&self, fingerprint: &Fingerprint) -> Result<String> {
        Ok(crate::trust::Envelope::bundle(&self.statements(fingerprint)?))
    }

    #[cfg(not(feature = "trust"))]
    pub(crate) fn bundle(&self, _: &Fingerprint) -> Result<String> {
        Ok(String::new())
    }

    /// Writes a unified image to a stream, and returns its size in bytes.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a split image, which has two files; `Mismatch` if the bytes
    /// in the store are damaged, which is known only after they were written; `Cancelled`; `Io`.
    pub fn export_to(&self, fingerprint: &Fingerprint, sink: &mut dyn Write, monitor: &Monitor) -> Result<u64> {
        let opened = self.open_image(fingerprint)?;
        let (file, rootfs) = opened.files();
        if rootfs.is_some() {
            return Err(Error::invalid("a split image is two files, and a stream holds one")
                .with_hint("export it to a directory, or convert it to a unified image"));
        }
        let mut transfer = HashedCopy { hasher: Hasher::new(), total: opened.image().size, monitor };
        transfer.stream(file, sink)?;
        sink.flush().map_err(|error| Error::io("the image can't be written", error))?;
        report_edits(opened.image(), monitor);
        transfer.finish(fingerprint)
    }

    /// The file names of an image in a directory: see [`export`](Self::export).
    pub(crate) fn file_names(&self, opened: &OpenedImage) -> Result<Vec<String>> {
        let image = opened.image();
        let endings = self.endings(opened)?;
        Ok(match endings.as_slice() {
            [first, rootfs, ..] => {
                let name = image.rootfs_name.clone().unwrap_or_else(|| format!("{}{rootfs}", image.fingerprint));
                let mut known = std::iter::once(".root").chain(rootfs_endings());
                let stem = known.find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
                vec![format!("meta-{stem}{first}"), name]
            }
            [ending] => vec![unified_name(image, ending)],
            [] => Vec::new(),
        })
    }

    /// The file names of an image if the caller chose `name`.
    fn names_for(&self, opened: &OpenedImage, name: &str) -> Result<Vec<String>> {
        let endings = self.endings(opened)?;
        let with = |ending: &str| if name.ends_with(ending) { name.to_owned() } else { format!("{name}{ending}") };
        Ok(match endings.as_slice() {
            [first, _, ..] => vec![with(first), format!("{name}.root")],
            [ending] => vec![with(ending)],
            [] => Vec::new(),
        })
    }

    /// The extension of each file, by its format.
    fn endings(&self, opened: &OpenedImage) -> Result<Vec<&'static str>> {
        Ok(opened.open(&self.options.limits)?.containers().map(Container::ending).collect())
    }
}

/// The file name of a unified image: the one it was imported with, or its fingerprint.
fn unified_name(image: &StoredImage, ending: &str) -> String {
    image.file_name.clone().unwrap_or_else(|| format!("{}{ending}", image.fingerprint))
}

/// The endings of rootfs files, which are not repeated in the name of the metadata file.
fn rootfs_endings() -> impl Iterator<Item = &'static str> {
    Codec::ALL.iter().map(|codec| codec.tar_ending()).chain([
        Container::SquashFs.ending(),
        Container::Qcow2.ending(),
        ".img",
    ])
}

/// A file that is written before it gets its name.
struct ExportFile<'a> {
    dir: &'a Dir,
    name: Vec<u8>,
    file: File,
    /// The temporary name, if the file system has no files without names (`O_TMPFILE`).
    staging: Option<Vec<u8>>,
}

impl<'a> ExportFile<'a> {
    /// Creates the file without a name, or with a temporary one. Fails with `AlreadyExists` before
    /// anything is written.
    fn create(dir: &'a Dir, name: &[u8]) -> Result<Self> {
        let fail = |error: io::Error| Error::io("the file can't be made", error);
        if dir.stat(name).is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a file of that name already"));
        }
        let mode = Mode::from_raw_mode(0o644);
        // The kernel frees a file without a name when the process ends, so nothing is left after a crash.
        if let Ok(file) = openat(dir.as_fd(), ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            return Ok(Self { dir, name: name.to_vec(), file: File::from(file), staging: None });
        }
        let staging = staging_name(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir.as_fd(), staging.as_slice(), flags, mode).map_err(|error| fail(error.into()))?;
        Ok(Self { dir, name: name.to_vec(), file: File::from(file), staging: Some(staging) })
    }

    /// Syncs the file and gives it its name, which must be free.
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

/// Copies the files of an image and hashes them on the way.
struct HashedCopy<'a> {
    hasher: Hasher,
    total: u64,
    monitor: &'a Monitor,
}

impl HashedCopy<'_> {
    /// Copies one file. With `share` its blocks are shared where the file system can; then the copy
    /// is hashed, since it is what must be right.
    fn copy(&mut self, from: &Blob, to: &mut File, share: bool) -> Result<()> {
        if share && from.reflink_to(to.as_fd()) {
            let copy = to.try_clone().and_then(Blob::file);
            return self.stream(&copy.map_err(|error| Error::io(UNREADABLE, error))?, &mut io::sink());
        }
        self.stream(from, &mut SparseFile::at(to, 0))
    }

    /// Copies one file to any sink.
    fn stream(&mut self, from: &Blob, to: &mut (impl Write + ?Sized)) -> Result<()> {
        let (before, total, monitor) = (self.hasher.bytes(), self.total, self.monitor);
        let mut report = |read: u64| monitor.report(Phase::Hash, before.saturating_add(read), Some(total));
        bytes::read_all(from, UNREADABLE, &mut report, &mut |bytes| {
            self.hasher.update(bytes);
            write_all(to, bytes).map_err(|error| Error::io("the image can't be written", error))
        })
    }

    /// Compares the fingerprint, and returns the number of bytes.
    fn finish(self, expected: &Fingerprint) -> Result<u64> {
        let (size, found) = (self.hasher.bytes(), self.hasher.finish());
        if found == *expected {
            return Ok(size);
        }
        Err(Error::mismatch("the fingerprint of the image in the store", expected.to_string(), found.to_string())
            .with_hint("`lxd-image check --repair` puts damaged images aside"))
    }
}

/// The message for errors of reading a blob.
const UNREADABLE: &str = "the image in the store can't be read";
