//! Writing a file so that it is old or new at every moment: a new file beside it, then a rename.
//!
//! LXD and Incus truncate and rewrite in place, before the template is even parsed, so an error
//! leaves an empty file. Here the new file gets owner, mode and extended attributes of the old one
//! and replaces it in one step. The price: other hard links keep the old content, which also means
//! that a link planted in a shared directory is not written through.
//!
//! The order in a new file is content, owner, mode, extended attributes. It cannot be changed:
//! chown(2) clears set-id bits and `security.capability`, and setting attributes may need the final
//! mode. Until the rename the file has mode 0600, so nobody reads a secret from it before its
//! permissions are right.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, FileType, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

pub(super) use crate::atomic::Replace;
use crate::atomic::{self, Durability};
use crate::error::{Error, ErrorKind, Result};
use crate::rooted::{Dir, is, proc_path, reopen, staging_name};

/// What a file gets beside its content: owner, mode, extended attributes.
#[derive(Debug, Clone)]
pub(super) struct FileAttributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    /// Those of the file that is replaced. `None` for a new file, which keeps what it inherits from
    /// its directory (default ACLs, SELinux labels).
    xattrs: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl FileAttributes {
    /// Attributes of a new file.
    pub(super) fn new(uid: u32, gid: u32, mode: u32) -> Self {
        Self { uid, gid, mode, xattrs: None }
    }
}

/// A regular file at the target, by a handle that stays on it even if the name is given to another
/// file.
#[derive(Debug)]
pub(super) struct ExistingFile {
    handle: OwnedFd,
    pub(super) size: u64,
    pub(super) attributes: FileAttributes,
}

impl ExistingFile {
    /// Looks at the name without opening it: opening a fifo would block, opening a device may act.
    ///
    /// # Errors
    /// `UnsafePath` if it is not a regular file.
    pub(super) fn open(dir: &Dir, name: &[u8]) -> Result<Option<Self>> {
        let cant = |error| Error::io("the target can't be examined", error);
        let handle = match dir.handle(name) {
            Err(error) if is(&error, Errno::NOENT) => return Ok(None),
            handle => handle.map_err(cant)?,
        };
        let stat = fs::fstat(&handle).map_err(|error| cant(error.into()))?;
        // Renaming over a device or a fifo would replace what the instance has there for a purpose.
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let xattrs = Some(xattrs(handle.as_fd())?);
                let attributes =
                    FileAttributes { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777, xattrs };
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                return Ok(Some(Self { handle, size, attributes }));
            }
            FileType::Directory => "a directory",
            FileType::Symlink => "a link",
            FileType::Fifo => "a fifo",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            _ => "no regular file",
        };
        Err(Error::unsafe_path(format!("the target is {what}, and only a regular file is written")))
    }

    /// Its content, at most `limit` bytes.
    pub(super) fn content(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        reopen(self.handle.as_fd())?.take(limit).read_to_end(&mut content)?;
        Ok(content)
    }

    /// Whether its content equals `content`. A file that cannot be read counts as different.
    pub(super) fn holds(&self, content: &[u8]) -> bool {
        let size = content.len() as u64;
        self.size == size && self.content(size + 1).is_ok_and(|old| old == content)
    }
}

/// All extended attributes of a file. The kernel bounds the list and each value to 64 KiB
/// (xattr(7)), so one buffer of that size always suffices.
fn xattrs(handle: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let cant = |error: Errno| Error::io("the target's extended attributes can't be read", error);
    let place = proc_path(handle);
    let mut buffer = vec![0; 64 << 10];
    let length = match fs::listxattr(&place, &mut buffer[..]) {
        Ok(length) => length,
        // A file system without extended attributes has none to keep.
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(cant(error)),
    };
    let names: Vec<Vec<u8>> =
        buffer[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    let mut found = Vec::new();
    for name in names {
        match fs::getxattr(&place, name.as_slice(), &mut buffer[..]) {
            Ok(length) => found.push((name, buffer[..length].to_vec())),
            // Removed between the list and this call.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(cant(error)),
        }
    }
    Ok(found)
}

/// Writes `content` under `name` in one step. Returns `false` if the name was taken and `replace`
/// forbids that.
pub(super) fn write(
    dir: &Dir,
    name: &[u8],
    content: &[u8],
    attributes: &FileAttributes,
    replace: Replace,
) -> Result<bool> {
    // In the same directory: rename(2) is atomic only within one file system.
    let (staging, file) = beside(dir, name)?;
    let done = fill(&file, content, attributes).and_then(|()| {
        // Not synced to disk: the daemon applies templates again at the next start, and a start
        // must not wait for the disk.
        match atomic::publish(&file, dir, &staging, name, replace, Durability::Volatile) {
            Ok(()) => Ok(true),
            Err(error) if replace == Replace::No && is(&error, Errno::EXIST) => Ok(false),
            Err(error) => Err(Error::io("the new file can't be given its name", error)),
        }
    });
    if !matches!(done, Ok(true)) {
        // Nothing half written stays; that it can't be removed would hide why it failed.
        let _ = dir.remove_file(&staging);
    }
    done
}

/// Creates an empty file beside the target, under a random name. A collision is tried again with
/// another one.
fn beside(dir: &Dir, name: &[u8]) -> Result<(Vec<u8>, File)> {
    for _ in 0..16 {
        let staging = staging_name(name);
        match dir.create(&staging, 0o600) {
            Err(error) if is(&error, Errno::EXIST) => {}
            Err(error) => return Err(Error::io("no file can be made beside the target", error)),
            Ok(file) => return Ok((staging, file)),
        }
    }
    Err(Error::new(ErrorKind::Io, "no free name for a file beside the target was found"))
}

/// Writes content and attributes into the new file, before it gets its name.
fn fill(mut file: &File, content: &[u8], attributes: &FileAttributes) -> Result<()> {
    file.write_all(content).map_err(|error| Error::io("the new file can't be written", error))?;
    // The owner first: chown(2) clears set-id bits and file capabilities, which are set below.
    if attributes.xattrs.is_some() {
        // An ordinary user cannot keep another user's file as that user's. Then the rewrite fails
        // rather than changing the owner.
        fs::fchown(file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
            .map_err(|error| Error::io("the new file can't be given the target's owner", error))?;
    } else {
        give(file.as_fd(), attributes.uid, attributes.gid)?;
    }
    let cant = |error: Errno| Error::io("the new file can't be given the target's attributes", error);
    fs::fchmod(file, Mode::from_raw_mode(attributes.mode)).map_err(cant)?;
    if let Some(wanted) = &attributes.xattrs {
        let there = xattrs(file.as_fd())?;
        for (name, _) in there.iter().filter(|(name, _)| !wanted.iter().any(|(kept, _)| kept == name)) {
            // Inherited from the directory; the replaced file did not have it.
            fs::fremovexattr(file, name.as_slice()).map_err(cant)?;
        }
        for (name, value) in wanted.iter().filter(|xattr| !there.contains(xattr)) {
            fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).map_err(cant)?;
        }
    }
    Ok(())
}

/// Sets the owner of an open file or directory. Without privileges the files stay the caller's own,
/// so that an ordinary user can apply templates to a tree that is unpacked in a user namespace.
pub(super) fn give(file: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    match fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
        // As root, EPERM means a file system that cannot store the id, which must not pass in
        // silence.
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        given => given.map_err(|error| Error::io("an owner can't be set", error)),
    }
}
