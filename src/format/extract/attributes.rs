//! Sets owners, modes, extended attributes and times, always by descriptor and in an order that
//! keeps them:
//!
//! 1. owner, since `chown` clears setuid, setgid and file capabilities;
//! 2. mode, which ACLs in extended attributes may refine;
//! 3. extended attributes, file capabilities among them;
//! 4. times, which everything before changes.
//!
//! What can't be set (not permitted, not supported, out of range) is reported as an omission and
//! does not fail the unpacking.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::ExtractPolicy;
use super::ids::IdMap;
use super::report::UnpackReport;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, Timestamp};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::rooted::{Dir, proc_path};

/// The attributes of an entry, with owners already shifted to the host's.
#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    /// The owner on the host.
    uid: u32,
    /// The group on the host.
    gid: u32,
    /// The permission bits, setuid, setgid and sticky.
    mode: u32,
    /// The modification time. The access time is set to the same.
    mtime: Timestamp,
    /// Extended attributes: names and values, with owners in them shifted.
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// The attributes of an entry. Attributes that the kernel would refuse are omitted and
    /// reported.
    ///
    /// # Errors
    /// `InvalidInput` for an owner that the map of ids does not have.
    pub(crate) fn of(entry: &Entry, applier: &Applier) -> Result<Self> {
        let ids = &applier.ids;
        let mut xattrs = Vec::with_capacity(entry.xattrs.len());
        for (name, value) in &entry.xattrs {
            match ids.shift_xattr(name, value) {
                Ok(value) => xattrs.push((name.clone(), value)),
                // The kernel would not take it either.
                Err(error) if error.kind() == ErrorKind::Malformed => {
                    applier.omit(&entry.path, Omitted::attribute(name, error.message().to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            uid: ids.shift_uid(entry.uid)?,
            gid: ids.shift_gid(entry.gid)?,
            mode: entry.mode & 0o7777,
            mtime: entry.mtime,
            xattrs,
        })
    }

    /// The attributes of a directory that no member of the archive names: 0755, owned by the
    /// image's root, made now.
    ///
    /// # Errors
    /// `InvalidInput` if the map of ids has no root.
    pub(crate) fn implied(ids: &IdMap) -> Result<Self> {
        let now = Timestamp::from(std::time::SystemTime::now());
        Ok(Self { uid: ids.shift_uid(0)?, gid: ids.shift_gid(0)?, mode: 0o755, mtime: now, xattrs: Vec::new() })
    }

    /// The attributes of a file for the caller only, such as a disk.
    ///
    /// The owner is the caller and not the image's root: a disk is used by the process that runs
    /// the machine.
    pub(crate) fn private_file() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let now = Timestamp::from(std::time::SystemTime::now());
        Self { uid, gid, mode: 0o600, mtime: now, xattrs: Vec::new() }
    }

    /// The permission bits.
    pub(crate) fn mode(&self) -> u32 {
        self.mode
    }

    /// The same with other permission bits.
    pub(crate) fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// Applies attributes, and collects what could not be applied. Shared by all writing threads.
#[derive(Debug)]
pub(crate) struct Applier {
    /// Whether the process is root, so that owners can be set.
    root: bool,
    /// Whether `trusted.*` and all of `security.*` are set.
    all_xattrs: bool,
    /// From the image's owners to the host's.
    ids: IdMap,
    /// Collects the omissions of this unpacking.
    monitor: Monitor,
    /// Counts of members and bytes. Locked for an addition only.
    report: Mutex<UnpackReport>,
}

impl Applier {
    /// `monitor` is told of omissions; it gets a list of its own, so that a report has those of one
    /// unpacking only.
    pub(crate) fn new(policy: &ExtractPolicy, monitor: &Monitor) -> Self {
        Self {
            root: rustix::process::geteuid().is_root(),
            all_xattrs: policy.all_xattrs,
            ids: policy.ids.clone(),
            monitor: monitor.nested(),
            report: Mutex::default(),
        }
    }

    /// The map from the image's owners to the host's.
    pub(crate) fn ids(&self) -> &IdMap {
        &self.ids
    }

    /// Whether the process may enter any directory, whatever its mode.
    pub(crate) fn is_root(&self) -> bool {
        self.root
    }

    /// The mode that a directory of an ordinary user gets in the end: without setuid and setgid
    /// where the owner could not be set.
    pub(crate) fn last_mode(&self, wanted: &Attributes) -> u32 {
        if self.is_own(wanted) { wanted.mode } else { wanted.mode & 0o1777 }
    }

    /// Whether the wanted owner and group are those that a new file gets anyway.
    fn is_own(&self, wanted: &Attributes) -> bool {
        wanted.uid == rustix::process::geteuid().as_raw() && wanted.gid == rustix::process::getegid().as_raw()
    }

    /// Reports something that was left out.
    pub(crate) fn omit(&self, path: &[u8], what: Omitted) {
        self.monitor.omit(path, what);
    }

    /// Counts a member that is complete, with the bytes of its content.
    pub(crate) fn count(&self, bytes: u64) {
        self.with_report(|report| {
            report.entries += 1;
            report.bytes += bytes;
        });
    }

    /// Changes the counts.
    fn with_report(&self, change: impl FnOnce(&mut UnpackReport)) {
        // A writer that panicked is an error of its own; its counts stand.
        change(&mut self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// The report so far, leaving an empty one.
    pub(crate) fn take_report(&self) -> Result<UnpackReport> {
        let mut report = UnpackReport::default();
        self.with_report(|collected| std::mem::swap(collected, &mut report));
        report.omissions = self.monitor.omissions();
        Ok(report)
    }

    /// Applies attributes to an open file or directory.
    ///
    /// The descriptor was opened by this process below the destination, so no link can lead
    /// elsewhere.
    ///
    /// # Errors
    /// `Io` where a mode can't be set, or for a failure that no retry as an omission explains.
    pub(crate) fn apply(&self, fd: BorrowedFd<'_>, wanted: &Attributes, path: &[u8]) -> Result<()> {
        let mode = self.owner(wanted, path, |uid, gid| fs::fchown(fd, Some(uid), Some(gid)))?;
        fs::fchmod(fd, Mode::from_raw_mode(mode)).map_err(|error| Error::io("a mode can't be set", error))?;
        for (name, value) in self.wanted_xattrs(wanted, path) {
            self.xattr(fd, path, (name, value), fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()))?;
        }
        self.time(path, wanted, fs::futimens(fd, &times(wanted.mtime)), || fs::fstat(fd))
    }

    /// Applies attributes to a special file through an `O_PATH` handle, which never opens the
    /// device or pipe. `fchmod` refuses such handles, so mode and attributes go through
    /// `/proc/self/fd`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(crate) fn apply_to_handle(&self, handle: BorrowedFd<'_>, wanted: &Attributes, path: &[u8]) -> Result<()> {
        let place = proc_path(handle);
        let mode =
            self.owner(wanted, path, |uid, gid| fs::chownat(handle, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH))?;
        fs::chmod(&place, Mode::from_raw_mode(mode)).map_err(|error| Error::io("a mode can't be set", error))?;
        for (name, value) in self.wanted_xattrs(wanted, path) {
            let set = fs::setxattr(&place, name.as_slice(), value, XattrFlags::empty());
            self.xattr(handle, path, (name, value), set)?;
        }
        let set = fs::utimensat(fs::CWD, &place, &times(wanted.mtime), AtFlags::empty());
        self.time(path, wanted, set, || fs::fstat(handle))
    }

    /// Applies attributes to a symbolic link itself. Linux has no mode for links.
    ///
    /// The path in the text is for omissions only; the link is named by its directory's handle and
    /// its name.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(crate) fn apply_to_link(&self, dir: &Dir, name: &[u8], wanted: &Attributes, path: &[u8]) -> Result<()> {
        self.owner(&Attributes { mode: 0, ..wanted.clone() }, path, |uid, gid| {
            fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        })?;
        for (key, value) in self.wanted_xattrs(wanted, path) {
            let mut place = proc_path(dir.as_fd()).into_bytes();
            place.push(b'/');
            place.extend_from_slice(name);
            let set = fs::lsetxattr(place.as_slice(), key.as_slice(), value, XattrFlags::empty());
            self.xattr(dir.as_fd(), path, (key, value), set)?;
        }
        let set = fs::utimensat(dir, name, &times(wanted.mtime), AtFlags::SYMLINK_NOFOLLOW);
        self.time(path, wanted, set, || fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
        self.count(0);
        Ok(())
    }

    /// Sets the owner where that is possible; returns the mode to set. Without the wanted owner a
    /// file must not be setuid or setgid: it would run with the rights of whoever unpacked it.
    fn owner(&self, wanted: &Attributes, path: &[u8], set: impl FnOnce(Uid, Gid) -> Result<(), Errno>) -> Result<u32> {
        let mut given = false;
        if self.root {
            match set(Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid)) {
                Ok(()) => given = true,
                // Root of a user namespace that does not hold this owner.
                Err(Errno::PERM | Errno::INVAL) => {}
                Err(error) => return Err(Error::io("an owner can't be set", error)),
            }
        } else {
            given = self.is_own(wanted);
        }
        if given {
            return Ok(wanted.mode);
        }
        self.omit(path, Omitted::Owner);
        // The bits would apply to the wrong owner.
        if wanted.mode & 0o6000 != 0 {
            self.omit(path, Omitted::SetId);
        }
        Ok(wanted.mode & !0o6000)
    }

    /// The attributes to set; the others are reported. `trusted.*` and most of `security.*` are set
    /// on request only, since the host's security modules act on them.
    fn wanted_xattrs<'a>(
        &'a self,
        wanted: &'a Attributes,
        path: &'a [u8],
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
        wanted.xattrs.iter().map(|(name, value)| (name, value)).filter(move |(name, _)| {
            let allowed = self.all_xattrs
                || name.starts_with(b"user.")
                || matches!(
                    name.as_slice(),
                    b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
                );
            if !allowed {
                self.omit(path, Omitted::Xattr((*name).clone()));
            }
            allowed
        })
    }

    /// Handles the result of setting an attribute. One that the kernel or file system can't hold is
    /// omitted; a full disk is an error. ext4 reports both by `ENOSPC`, so free space decides.
    fn xattr(
        &self,
        on: BorrowedFd<'_>,
        path: &[u8],
        (name, value): (&[u8], &[u8]),
        set: Result<(), Errno>,
    ) -> Result<()> {
        match set {
            Ok(()) => Ok(()),
            Err(error @ Errno::NOSPC) if self.is_full(on, value.len()) => {
                Err(Error::io("an extended attribute can't be set", error))
            }
            Err(
                error @ (Errno::PERM
                | Errno::ACCESS
                | Errno::NOTSUP
                | Errno::INVAL
                | Errno::NOENT
                | Errno::NOSPC
                | Errno::TOOBIG
                | Errno::RANGE
                | Errno::NAMETOOLONG
                | Errno::FBIG),
            ) => {
                let reason = match error {
                    Errno::PERM | Errno::ACCESS => "not permitted on this file",
                    Errno::NOTSUP => "the file system has no such attributes",
                    Errno::INVAL | Errno::NOENT => "the kernel refuses its value",
                    _ => "the file system cannot hold so much",
                };
                self.omit(path, Omitted::attribute(name, reason));
                Ok(())
            }
            Err(error) => Err(Error::io("an extended attribute can't be set", error)),
        }
    }

    /// Whether the file system has no room for a value of `len` bytes in blocks of its own.
    fn is_full(&self, on: BorrowedFd<'_>, len: usize) -> bool {
        let Ok(space) = fs::fstatvfs(on) else { return true };
        // What is kept for root can be used by root.
        let free = if self.root { space.f_bfree } else { space.f_bavail };
        space.f_blocks > 0 && free.saturating_mul(space.f_frsize) < len as u64 + 4 * space.f_frsize
    }

    /// Handles the result of setting a time: file systems refuse it or silently store the nearest
    /// that they can.
    fn time(
        &self,
        path: &[u8],
        wanted: &Attributes,
        set: Result<(), Errno>,
        stat: impl FnOnce() -> Result<fs::Stat, Errno>,
    ) -> Result<()> {
        // What every file system holds, so that only odd times cost a look.
        const EVERYWHERE: std::ops::Range<i64> = 0..i32::MAX as i64;
        let seconds = wanted.mtime.seconds;
        match set {
            Ok(()) if EVERYWHERE.contains(&seconds) => Ok(()),
            Ok(()) => {
                let found = stat().map_err(|error| Error::io("a time can't be read", error))?.st_mtime;
                if found != seconds {
                    let field = "modification time".into();
                    self.omit(path, Omitted::Clamped { field, from: seconds.to_string(), to: found.to_string() });
                }
                Ok(())
            }
            Err(Errno::INVAL | Errno::OVERFLOW | Errno::PERM) => {
                self.omit(path, Omitted::Time);
                Ok(())
            }
            Err(error) => Err(Error::io("a time can't be set", error)),
        }
    }
}

/// Access time the same as modification time, so that the same image gives the same tree.
fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
