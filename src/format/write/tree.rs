//! Walks the directory tree to be packed: names sorted, no link followed, one file system.
//!
//! Everything is opened by handles of its directory, so that a tree which is changed while it is
//! packed can't lead the walk out of itself. Sorted names and the rule for hard links (the first
//! name in order has the content) make the result reproducible.
//!
//! # What is left out, and reported
//!
//! - Mount points below the tree: the directory is packed, and nothing in it.
//! - Extended attributes of the machine rather than the tree, such as SELinux labels, unless asked
//!   for.
//! - Files that disappear while the tree is packed, and changes to files that are being read.
//!
//! A file that becomes shorter while it is read is an error, because its size was written already.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{self, FileType, Stat};
use rustix::io::Errno;

use super::archive::ImageWriter;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{DeviceNumber, Entry, EntryKind, Timestamp};
use crate::format::extract::IdMap;
use crate::format::holes;
use crate::format::visitor::MemberVisitor;
use crate::omissions::Omitted;
use crate::progress::{Monitor, Phase};
use crate::rooted::{Dir, is, proc_path};

/// Walks one tree into an [`ImageWriter`].
pub(super) struct TreeReader<'a> {
    /// The top of the tree.
    pub(super) root: Dir,
    /// Takes the members.
    pub(super) writer: &'a mut ImageWriter,
    /// Progress and cancellation; checked for each member and each piece of content.
    pub(super) monitor: &'a Monitor,
    /// Times after this one become it.
    pub(super) newest: Option<Timestamp>,
    /// Whether every extended attribute is packed.
    pub(super) all_xattrs: bool,
    /// From the tree's owners to the image's.
    pub(super) ids: &'a IdMap,
    /// The owner and group of everything.
    pub(super) owner: Option<(u32, u32)>,
    /// Bytes of content packed so far.
    pub(super) done: u64,
    /// Takes pieces of files between reading and writing.
    pub(super) buffer: Vec<u8>,
    /// The first name of each file with several, by device and inode.
    pub(super) first_names: HashMap<(u64, u64), Vec<u8>>,
}

/// A directory that the walk is in: its name, its handle while it is open, and the names that are
/// left.
struct DirectoryLevel {
    /// Its name in the directory above.
    name: Vec<u8>,
    /// The handle; `None` when it was closed to save descriptors.
    dir: Option<Arc<Dir>>,
    /// Names that were not packed yet.
    names: std::vec::IntoIter<Vec<u8>>,
}

/// Directories that are kept open; those further up are opened again when the walk comes back.
///
/// A tree may be deeper than the process may have descriptors.
const MAX_OPEN_DIRECTORIES: usize = 64;

impl TreeReader<'_> {
    /// Writes all of it, and returns how many bytes its files hold.
    ///
    /// # Errors
    /// `Io` for what can't be read, with the path of the member; those of the writer.
    pub(super) fn run(mut self) -> Result<u64> {
        let stat = self.root.stat_self().map_err(|error| Error::io("the tree can't be read", error))?;
        let device = stat.st_dev;
        let mut top = self.entry(Vec::new(), EntryKind::Directory, &stat)?;
        top.xattrs = self.xattrs(self.root.as_fd(), &[])?;
        self.writer.rootfs(&top, None)?;
        let root = Arc::new(self.root.try_clone().map_err(|error| Error::io("the tree can't be read", error))?);
        let mut levels = vec![DirectoryLevel { name: Vec::new(), names: names(&root, &[])?, dir: Some(root) }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            self.monitor.report(Phase::Pack, self.done, None)?;
            let dir = here(&self.root, &mut levels)?;
            let mut path = path_of(&levels);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if let Some(child) = self.member(&dir, &name, &path, device).map_err(|error| error.in_entry(&path))? {
                let names = names(&child, &path)?;
                levels.push(DirectoryLevel { name, dir: Some(Arc::new(child)), names });
                // The first stays: everything is found from there.
                if let Some(far) = levels.len().checked_sub(MAX_OPEN_DIRECTORIES).filter(|&far| far > 0)
                    && let Some(level) = levels.get_mut(far)
                {
                    level.dir = None;
                }
            }
        }
        Ok(self.done)
    }

    /// Writes one member; the directory to go into, if it is one.
    ///
    /// A name that is gone by now is reported and is no error.
    fn member(&mut self, dir: &Dir, name: &[u8], path: &[u8], device: u64) -> Result<Option<Dir>> {
        let stat = match dir.stat(name) {
            // A tree in use.
            Err(error) if is(&error, Errno::NOENT) => {
                self.writer.omit(path, Omitted::Skipped { reason: "it was removed while the tree was packed".into() });
                return Ok(None);
            }
            stat => stat.map_err(|error| Error::io("a file can't be read", error))?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let child = dir.child(name).map_err(|error| Error::io("a directory can't be opened", error))?;
                let stat = child.stat_self().map_err(|error| Error::io("a directory can't be read", error))?;
                let mut entry = self.entry(path.to_vec(), EntryKind::Directory, &stat)?;
                entry.xattrs = self.xattrs(child.as_fd(), path)?;
                self.writer.rootfs(&entry, None)?;
                // As `tar --one-file-system`: `/proc` or a bind mount inside of a tree is no part
                // of it.
                if stat.st_dev != device {
                    self.writer.omit(path, Omitted::Skipped { reason: "another file system is mounted here".into() });
                    return Ok(None);
                }
                return Ok(Some(child));
            }
            FileType::RegularFile => {
                let file = dir.open_file(name).map_err(|error| Error::io("a file can't be opened", error))?;
                self.file(&file, path)?;
            }
            kind => self.special(dir, name, path, kind, &stat)?,
        }
        Ok(None)
    }

    /// Writes a link, device, pipe or socket.
    ///
    /// The file is not opened: opening a device may have effects, and opening a pipe may wait
    /// forever.
    fn special(&mut self, dir: &Dir, name: &[u8], path: &[u8], kind: FileType, stat: &Stat) -> Result<()> {
        if self.hard_link(path, stat)? {
            return Ok(());
        }
        let number = DeviceNumber { major: fs::major(stat.st_rdev), minor: fs::minor(stat.st_rdev) };
        let kind = match kind {
            FileType::Symlink => {
                let target = dir.read_link(name).map_err(|error| Error::io("a link can't be read", error))?;
                EntryKind::Symlink { target }
            }
            FileType::CharacterDevice => EntryKind::CharDevice(number),
            FileType::BlockDevice => EntryKind::BlockDevice(number),
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            _ => return Err(Error::unsupported("a file of a kind that no archive knows")),
        };
        let mut entry = self.entry(path.to_vec(), kind, stat)?;
        let handle = dir.handle(name).map_err(|error| Error::io("a file can't be opened", error))?;
        entry.xattrs = self.xattrs_at(&proc_path(handle.as_fd()), path)?;
        self.writer.rootfs(&entry, None)
    }

    /// Writes a regular file with its holes. A file that changed while it was read is reported.
    ///
    /// Its size is the one at the beginning; bytes that are appended meanwhile are not packed.
    fn file(&mut self, file: &File, path: &[u8]) -> Result<()> {
        let stat = fs::fstat(file).map_err(|error| Error::io("a file can't be read", error))?;
        if self.hard_link(path, &stat)? {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut entry = self.entry(path.to_vec(), EntryKind::File { size }, &stat)?;
        entry.xattrs = self.xattrs(file.as_fd(), path)?;
        let sparse = holes::of_file(file, size)?;
        self.writer.rootfs(&entry, sparse.as_ref())?;
        match &sparse {
            None => self.content(file, 0, size)?,
            Some(map) => {
                for &(offset, length) in &map.segments {
                    self.content(file, offset, length)?;
                }
            }
        }
        self.writer.end()?;
        let after = fs::fstat(file).map_err(|error| Error::io("a file can't be read", error))?;
        if version(&after) != version(&stat) {
            let (part, reason) = ("changes made to it meanwhile", "it was written to while it was packed");
            self.writer.omit(path, Omitted::Dropped { part: part.into(), reason: reason.into() });
        }
        Ok(())
    }

    /// Writes a range of a file.
    ///
    /// # Errors
    /// `Io`, also for a file that became shorter.
    fn content(&mut self, file: &File, mut offset: u64, mut length: u64) -> Result<()> {
        while length > 0 {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match file.read_at(&mut self.buffer[..most], offset) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                count => count.map_err(|error| Error::io("a file can't be read", error))?,
            };
            if count == 0 {
                return Err(Error::new(ErrorKind::Io, "the file became shorter while it was packed")
                    .with_hint("stop what writes to the tree, or pack a snapshot of it"));
            }
            self.writer.write_data(offset, &self.buffer[..count])?;
            offset += count as u64;
            length -= count as u64;
            self.done += count as u64;
            self.monitor.report(Phase::Pack, self.done, None)?;
        }
        Ok(())
    }

    /// Writes a further name of a file that was packed already; false if it was not.
    ///
    /// Files are compared by device and inode; those with one name are never remembered.
    fn hard_link(&mut self, path: &[u8], stat: &Stat) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let target = match self.first_names.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Occupied(first) => first.get().clone(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(path.to_vec());
                return Ok(false);
            }
        };
        let entry = self.entry(path.to_vec(), EntryKind::HardLink { target }, stat)?;
        self.writer.rootfs(&entry, None)?;
        Ok(true)
    }

    /// The entry of a file: its attributes with owners shifted and its time capped.
    ///
    /// # Errors
    /// `InvalidInput` for an owner that the map of ids does not have.
    fn entry(&self, path: Vec<u8>, kind: EntryKind, stat: &Stat) -> Result<Entry> {
        let mut entry = Entry::new(path, kind, stat.st_mode & 0o7777);
        (entry.uid, entry.gid) = match self.owner {
            Some(owner) => owner,
            None => (self.ids.shift_uid(stat.st_uid)?, self.ids.shift_gid(stat.st_gid)?),
        };
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let time = Timestamp { seconds: stat.st_mtime, nanoseconds };
        entry.mtime = self.newest.map_or(time, |newest| newest.min(time));
        Ok(entry)
    }

    /// The extended attributes of an open file.
    ///
    /// One call for most files: a list of names that is empty.
    fn xattrs(&self, fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut names = [0_u8; 512];
        // Most files have none, which one call tells.
        match fs::flistxattr(fd, &mut names) {
            Ok(0) | Err(Errno::NOTSUP) => Ok(Vec::new()),
            _ => self.xattrs_at(&proc_path(fd), path),
        }
    }

    /// The attributes that are taken, with the owners in them shifted; the others are reported.
    fn xattrs_at(&self, place: &str, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        // The kernel's bound for a list of names and for a value.
        let mut list = vec![0; 64 << 10];
        let length = match fs::listxattr(place, &mut list) {
            Ok(length) => length,
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("extended attributes can't be listed", error).in_entry(path)),
        };
        let mut value = vec![0; 64 << 10];
        let mut found = Vec::new();
        for name in list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            if !self.wants(name) {
                self.writer.omit(path, Omitted::Xattr(name.to_vec()));
                continue;
            }
            let length = match fs::getxattr(place, name, &mut value) {
                Ok(length) => length,
                Err(Errno::NODATA) => continue,
                Err(error @ (Errno::PERM | Errno::ACCESS | Errno::RANGE | Errno::NOTSUP)) => {
                    let reason = format!("it can't be read: {}", std::io::Error::from(error));
                    self.writer.omit(path, Omitted::attribute(name, reason));
                    continue;
                }
                Err(error) => return Err(Error::io("an extended attribute can't be read", error).in_entry(path)),
            };
            match self.ids.shift_xattr(name, &value[..length]) {
                Ok(value) => found.push((name.to_vec(), value)),
                Err(error) if error.kind() == ErrorKind::Malformed => {
                    self.writer.omit(path, Omitted::attribute(name, error.message().to_owned()));
                }
                Err(error) => return Err(error.in_entry(path)),
            }
        }
        found.sort();
        Ok(found)
    }

    /// The attributes that belong to the tree, not to the machine it lies on.
    fn wants(&self, name: &[u8]) -> bool {
        self.all_xattrs
            || name.starts_with(b"user.")
            || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
    }
}

/// The names in a directory, sorted.
fn names(dir: &Dir, path: &[u8]) -> Result<std::vec::IntoIter<Vec<u8>>> {
    let names = dir.names().map_err(|error| Error::io("a directory can't be read", error).in_entry(path))?;
    Ok(names.into_iter())
}

/// The current directory's path below the root.
fn path_of(levels: &[DirectoryLevel]) -> Vec<u8> {
    levels.iter().skip(1).map(|level| level.name.as_slice()).collect::<Vec<_>>().join(&b'/')
}

/// Values that change when a file's content does.
fn version(stat: &Stat) -> impl PartialEq {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
}

/// The innermost directory, opened again where it was closed on the way down.
///
/// A directory that was closed is found again from the top, one name after the other. If somebody
/// moved it meanwhile, that fails instead of packing another one.
fn here(root: &Dir, levels: &mut [DirectoryLevel]) -> Result<Arc<Dir>> {
    if let Some(dir) = levels.last().and_then(|level| level.dir.as_ref()) {
        return Ok(Arc::clone(dir));
    }
    let mut dir = Arc::new(root.try_clone().map_err(|error| Error::io("the tree can't be read", error))?);
    for level in levels.iter().skip(1) {
        dir = Arc::new(dir.child(&level.name).map_err(|error| Error::io("a directory can't be opened", error))?);
    }
    if let Some(level) = levels.last_mut() {
        level.dir = Some(Arc::clone(&dir));
    }
    Ok(dir)
}
