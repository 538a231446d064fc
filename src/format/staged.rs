//! An unpacked image that nobody sees yet: in a private directory beside its destination, removed
//! unless committed.
//!
//! The type parameter says whether its bytes were compared with a fingerprint, so that code which
//! commits an unverified image does not compile by mistake.
//!
//! The directory has mode 0700 and a name of its own, and is identified by device and inode: a user
//! who may write to the parent directory can rename it and put another in its place, and then
//! neither the commit nor the removal must touch that one. An advisory lock tells a directory in
//! use from one that a crash left behind; `leftovers` removes the latter.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs;
use rustix::io::Errno;

use super::extract::UnpackReport;
use crate::disk::{DiskImage, DiskOptions, DiskTarget, RawWriteOptions, WrittenDisk};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::fingerprint::Fingerprint;
use crate::io::Blob;
use crate::leftovers;
use crate::metadata::ImageType;
use crate::metadata::Metadata;
use crate::progress::{Cancel, Monitor};
use crate::rooted::{Dir, is, staging_name};

/// Marks a [`StagedUnpack`] whose bytes were compared with an expected fingerprint, or explicitly
/// accepted without.
#[derive(Debug)]
pub enum Verified {}

/// Marks a [`StagedUnpack`] whose bytes were compared with nothing.
#[derive(Debug)]
pub enum Unverified {}

/// An unpacked image in a private directory beside its destination.
///
/// Dropping it removes everything. [`commit`](StagedUnpack::commit) gives it its name in one step,
/// and exists only once the image was [verified](StagedUnpack::verify) or
/// [accepted](StagedUnpack::accept_unverified).
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::format::{Image, ImageSource, UnpackOptions};
///
/// let image = Image::open(ImageSource::open("debian.tar.xz", None)?)?;
/// let staged = image.stage("/srv/debian", &UnpackOptions::new(), &Monitor::none())?;
/// println!("{}", staged.fingerprint());
/// let path = staged.accept_unverified().commit("debian")?;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[must_use = "dropping it removes what was unpacked"]
pub struct StagedUnpack<Check> {
    place: StagingDir,
    fingerprint: Fingerprint,
    image_type: ImageType,
    metadata: Metadata,
    report: UnpackReport,
    /// How the disk of a virtual machine is opened.
    disk: DiskOptions,
    check: PhantomData<Check>,
}

/// Attempts to remove the directory while another process moves things inside it; the waits between
/// add up to two seconds.
const REMOVALS: u64 = 64;

/// The staging directory; removed when dropped.
pub(crate) struct StagingDir {
    /// The directory that the destination is in, as a handle: its path may be renamed
    /// meanwhile.
    parent: Dir,
    parent_path: PathBuf,
    /// The temporary name; `None` once it was committed or removed.
    name: Option<Vec<u8>>,
    /// Device and inode of the staging directory: whoever may write to the parent can put another in its place.
    identity: (u64, u64),
    /// Where the destination is an empty directory already: its mode and owner.
    existing: Option<(u32, u32, u32)>,
    /// Holds the lock that tells it from a leftover.
    held: Dir,
}

impl StagingDir {
    /// Makes a private directory beside `destination`, which must not exist or be an empty directory.
    ///
    /// Returns it with an open handle and the destination's last component. Leftovers of crashed
    /// processes in the parent directory are removed first.
    pub(crate) fn make(destination: &Path, cancel: &Cancel) -> Result<(Self, Dir, Vec<u8>)> {
        use std::os::unix::ffi::OsStrExt;
        let name = destination
            .file_name()
            .ok_or_else(|| Error::invalid("the destination has no name of its own").in_file(destination))?;
        let parent_path = destination.parent().unwrap_or(Path::new("")).to_path_buf();
        let parent = Dir::open(&parent_path).map_err(|error| {
            let kind = if is(&error, Errno::NOENT) { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the directory that the destination goes into can't be opened")
                .with_source(error)
                .in_file(if parent_path.as_os_str().is_empty() { Path::new(".") } else { &parent_path })
        })?;
        let existing = check_destination(&parent, name.as_bytes()).map_err(|error| error.in_file(destination))?;
        leftovers::sweep(&parent, cancel);
        // A name is random, so a second attempt is rare; the bound is for a directory in which
        // somebody makes all of them fail.
        for _ in 0..16 {
            let staging = staging_name(name.as_bytes());
            match parent.make_dir(&staging, 0o700) {
                Ok(()) => {}
                Err(error) if is(&error, Errno::EXIST) => continue,
                Err(error) => {
                    return Err(Error::io("nothing can be made beside the destination", error).in_file(destination));
                }
            }
            let dir = match parent.child(&staging) {
                // Another process took it for a leftover.
                Err(error) if is(&error, Errno::NOENT) => continue,
                dir => dir.map_err(|error| Error::io("the staging directory can't be opened", error))?,
            };
            let identity = private_and_empty(&dir).map_err(|error| {
                let _ = parent.remove_dir(&staging);
                error.in_file(destination)
            })?;
            // The lock is taken after the directory exists, so another process may have swept it in
            // between. Then it is not ours any more, and another name is tried.
            if !leftovers::lock(&dir) || parent.identity_of(&staging).ok() != Some(identity) {
                continue;
            }
            let held = dir.try_clone().map_err(|error| Error::io("the staging directory can't be opened", error))?;
            let place = Self { parent, parent_path, name: Some(staging), identity, existing, held };
            return Ok((place, dir, name.as_bytes().to_vec()));
        }
        Err(Error::new(ErrorKind::Io, "no free name for a staging directory was found").in_file(destination))
    }

    /// Renames the directory to `name`. Unless `keep_mode`, it gets the mode and owner of the empty
    /// directory that it replaces.
    pub(crate) fn commit(&mut self, name: &[u8], keep_mode: bool) -> Result<PathBuf> {
        use std::os::unix::ffi::OsStrExt;
        let Some(staging) = self.name.as_deref() else {
            return Err(Error::invalid("it was committed before"));
        };
        let destination = self.parent_path.join(std::ffi::OsStr::from_bytes(name));
        if !self.is_own(staging) {
            return Err(
                Error::unsafe_path("something else was put in the place of what was unpacked").in_file(&destination)
            );
        }
        if let (Some((mode, uid, gid)), false) = (self.existing, keep_mode) {
            let dir = self
                .parent
                .child(staging)
                .map_err(|error| Error::io("the staging directory can't be opened", error))?;
            // An ordinary user can't give it away; then it stays the user's.
            let _ = fs::fchown(dir.as_fd(), Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid)));
            fs::fchmod(dir.as_fd(), fs::Mode::from_raw_mode(mode))
                .map_err(|error| Error::io("the destination's mode can't be set", error))?;
        }
        // A directory replaces nothing but an empty directory: not a file, not a link, not a full one.
        self.parent.rename(staging, name).map_err(|error| {
            let taken = [Errno::NOTEMPTY, Errno::EXIST, Errno::NOTDIR].iter().any(|&errno| is(&error, errno));
            let kind = if taken { ErrorKind::AlreadyExists } else { ErrorKind::Io };
            Error::new(kind, "the unpacked image can't be given its name").with_source(error).in_file(&destination)
        })?;
        self.name = None;
        Ok(destination)
    }

    /// The staging directory, for a further change of what is in it.
    fn own_dir(&self) -> Result<&Dir> {
        match &self.name {
            Some(_) => Ok(&self.held),
            None => Err(Error::invalid("it was committed before")),
        }
    }

    /// Whether the staging directory still has its name.
    fn is_own(&self, name: &[u8]) -> bool {
        self.parent.identity_of(name).ok() == Some(self.identity)
    }

    /// Removes everything. Another process may move things inside meanwhile: then it starts again,
    /// a bounded number of times.
    pub(super) fn discard(&mut self) -> Result<()> {
        let Some(name) = self.name.take() else { return Ok(()) };
        // Whoever cancelled wants it gone, too.
        let never = Cancel::new();
        let mut removed = self.parent.remove_tree(&name, self.identity, &never);
        for attempt in 0..REMOVALS {
            if removed.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(attempt));
            removed = self.parent.remove_tree(&name, self.identity, &never);
        }
        removed.map_err(|error| {
            use std::os::unix::ffi::OsStrExt;
            Error::io("what was unpacked can't be removed", error)
                .in_file(self.parent_path.join(std::ffi::OsStr::from_bytes(&name)))
        })
    }

    /// Removes everything after `error`, which then says what could not be removed.
    pub(super) fn discard_after(&mut self, error: Error) -> Error {
        let Err(left) = self.discard() else { return error };
        let left = format!("{left}; remove it by hand");
        let hint = error.hint().map_or_else(|| left.clone(), |hint| format!("{hint}; {left}"));
        error.with_hint(hint)
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        // `discard` tells whoever wants to know; here there is nobody to tell.
        let _ = self.discard();
    }
}

/// The device and inode of a directory that was just made. Fails unless it is ours, private and
/// empty: between `mkdir` and `open` another process may have replaced it.
fn private_and_empty(dir: &Dir) -> Result<(u64, u64)> {
    let stat = dir.stat_self().map_err(|error| Error::io("the staging directory can't be read", error))?;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0;
    if !ours || !dir.is_empty().map_err(|error| Error::io("the staging directory can't be read", error))? {
        return Err(Error::unsafe_path("another directory was put in the place of the staging directory"));
    }
    dir.identity().map_err(|error| Error::io("the staging directory can't be read", error))
}

/// The mode and owner of an empty directory at the destination; `None` where there is nothing.
///
/// # Errors
/// `AlreadyExists` for anything else, `UnsafePath` for a symbolic link.
fn check_destination(parent: &Dir, name: &[u8]) -> Result<Option<(u32, u32, u32)>> {
    let stat = match parent.stat(name) {
        Err(error) if is(&error, Errno::NOENT) => return Ok(None),
        stat => stat.map_err(|error| Error::io("the destination can't be examined", error))?,
    };
    match fs::FileType::from_raw_mode(stat.st_mode) {
        fs::FileType::Directory => {
            let dir = parent.child(name).map_err(|error| Error::io("the destination can't be opened", error))?;
            if !dir.is_empty().map_err(|error| Error::io("the destination can't be read", error))? {
                return Err(Error::new(ErrorKind::AlreadyExists, "the destination is not empty")
                    .with_hint("name a new directory, or remove this one"));
            }
            Ok(Some((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)))
        }
        fs::FileType::Symlink => {
            Err(Error::unsafe_path("the destination is a symbolic link, and links are not followed"))
        }
        _ => Err(Error::new(ErrorKind::AlreadyExists, "the destination exists and is no directory")),
    }
}

impl<Check> StagedUnpack<Check> {
    /// An image that was unpacked into `place`.
    pub(super) fn new(
        place: StagingDir,
        fingerprint: Fingerprint,
        image_type: ImageType,
        metadata: Metadata,
        report: UnpackReport,
        disk: DiskOptions,
    ) -> Self {
        Self { place, fingerprint, image_type, metadata, report, disk, check: PhantomData }
    }

    /// The fingerprint of the bytes that were unpacked.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether `rootfs/` or `rootfs.img` was written.
    #[must_use]
    pub fn image_type(&self) -> ImageType {
        self.image_type
    }

    /// The image's metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What was written and what was not.
    #[must_use]
    pub fn report(&self) -> &UnpackReport {
        &self.report
    }

    /// Removes everything, and says so if that fails.
    ///
    /// Dropping the handle does the same and ignores errors.
    ///
    /// # Errors
    /// `Io`.
    pub fn discard(mut self) -> Result<()> {
        self.place.discard()
    }

    /// Removes everything because of `error`, and returns it.
    fn into_failed(mut self, error: Error) -> Error {
        self.place.discard_after(error)
    }

    /// The same image with another marker.
    fn into_checked<Other>(self) -> StagedUnpack<Other> {
        StagedUnpack {
            place: self.place,
            fingerprint: self.fingerprint,
            image_type: self.image_type,
            metadata: self.metadata,
            report: self.report,
            disk: self.disk,
            check: PhantomData,
        }
    }
}

impl StagedUnpack<Unverified> {
    /// Compares the fingerprint. On a mismatch everything is removed.
    ///
    /// # Errors
    /// `Mismatch` with both values.
    pub fn verify(self, expected: &Fingerprint) -> Result<StagedUnpack<Verified>> {
        if self.fingerprint == *expected {
            Ok(self.into_checked())
        } else {
            let error = Error::mismatch("the fingerprint", expected.to_string(), self.fingerprint.to_string());
            Err(self.into_failed(error))
        }
    }

    /// Takes the image as it is: its origin is trusted, or nobody knows its fingerprint.
    ///
    /// Named so that a reader of the calling code sees what is not checked.
    pub fn accept_unverified(self) -> StagedUnpack<Verified> {
        self.into_checked()
    }
}

impl StagedUnpack<Verified> {
    /// Gives the directory its name beside where it was staged, in one step: a plain name, that of
    /// the destination or another one. On failure the handle comes back with the error.
    ///
    /// # Errors
    /// `AlreadyExists` when something other than an empty directory has that name, `InvalidInput`
    /// for a name with a slash, `Io`.
    pub fn commit(self, name: impl AsRef<OsStr>) -> Result<PathBuf, CommitFailed> {
        use std::os::unix::ffi::OsStrExt;
        let name = name.as_ref().as_bytes();
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            let sentence = format!("`{}` is no plain name", Escaped(name));
            return Err(CommitFailed::new(Error::invalid(sentence), self));
        }
        self.commit_bytes(name, false)
    }

    /// Writes the disk of a virtual machine, as the machine sees it, to `target`, and removes it from
    /// what was unpacked: for block devices and other places that are not part of the directory. Only a
    /// verified image has it, as a device can't be put back; for the same reason all tables of the disk and
    /// the size of the target are checked before the first byte is written.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::disk::{BlockDevice, RawWriteOptions};
    /// use lxd_image::format::{Image, ImageSource, UnpackOptions};
    ///
    /// let device = BlockDevice::open("/dev/vg0/vm1")?;
    /// let image = Image::open(ImageSource::open("vm.tar.xz", None)?)?;
    /// let staged = image.stage("vm1", &UnpackOptions::new(), &Monitor::none())?.verify(&"c0ffee".parse()?)?;
    /// staged.move_disk_to(&device, &RawWriteOptions::new(), &Monitor::none())?;
    /// device.sync()?;
    /// staged.commit("vm1")?; // metadata and templates
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a container, and for a target that is too small; those of
    /// [`DiskImage::write_raw`].
    pub fn move_disk_to(
        &self,
        target: &dyn DiskTarget,
        options: &RawWriteOptions,
        monitor: &Monitor,
    ) -> Result<WrittenDisk> {
        if self.image_type != ImageType::VirtualMachine {
            return Err(Error::invalid("the image is a container's, which has no disk"));
        }
        let unreadable = |error| Error::io("the disk can't be read", error);
        let dir = self.place.own_dir()?;
        let blob = dir.open_file(b"rootfs.img").and_then(Blob::file).map_err(unreadable)?;
        let disk = DiskImage::open(blob, &self.disk).map_err(|error| error.in_entry(b"rootfs.img"))?;
        target.set_size(disk.virtual_size()).map_err(|error| Error::io("the disk can't be written", error))?;
        disk.allocated_bytes(monitor).map_err(|error| error.in_entry(b"rootfs.img"))?;
        let written = disk.write_raw(target, options, monitor)?;
        dir.remove_file(b"rootfs.img").map_err(|error| Error::io("the disk's copy can't be removed", error))?;
        Ok(written)
    }

    /// As `commit`, by any name of bytes. With `keep_mode` the directory keeps the mode that the
    /// image gave it.
    pub(super) fn commit_bytes(mut self, name: &[u8], keep_mode: bool) -> Result<PathBuf, CommitFailed> {
        match self.place.commit(name, keep_mode) {
            Ok(path) => Ok(path),
            Err(error) => Err(CommitFailed::new(error, self)),
        }
    }
}

/// The error of a [`StagedUnpack::commit`], with the image, which can still be committed under
/// another name.
///
/// Converting it to an [`Error`] removes the image.
#[derive(Debug)]
#[non_exhaustive]
pub struct CommitFailed {
    /// Why.
    pub error: Error,
    /// What was unpacked, as it was before.
    pub staged: Box<StagedUnpack<Verified>>,
}

impl CommitFailed {
    fn new(error: Error, staged: StagedUnpack<Verified>) -> Self {
        Self { error, staged: Box::new(staged) }
    }
}

impl From<CommitFailed> for Error {
    /// Keeps the error and removes what was unpacked.
    fn from(failed: CommitFailed) -> Self {
        failed.staged.into_failed(failed.error)
    }
}

impl<Check> fmt::Debug for StagedUnpack<Check> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedUnpack")
            .field("fingerprint", &self.fingerprint)
            .field("image_type", &self.image_type)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
