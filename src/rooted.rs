//! Directories as handles: every name is one component below a descriptor, no link is ever followed.
//! The only place that makes, changes or removes files in a tree that a stranger had a say in.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::progress::Cancel;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory that the caller chose; links on the way are the caller's own.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // The empty path means the working directory, as in `out.tar`'s parent.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(Self(fs::open(path, OPEN_DIR, Mode::empty())?))
    }

    /// Opens the directory `name` in this one. A link is `ELOOP` or `ENOTDIR`.
    pub(crate) fn child(&self, name: &[u8]) -> io::Result<Self> {
        Ok(Self(fs::openat(&self.0, name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// Takes over a descriptor that the caller opened.
    pub(crate) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        Ok(Self(fd))
    }

    /// Opens the directory at `path` as a process sees it whose root is this directory: links and `..`
    /// are followed, and never lead out. `ENOSYS` where the kernel can't.
    pub(crate) fn inside(&self, path: &[u8]) -> io::Result<Self> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..1_000 {
            match fs::openat2(&self.0, path, OPEN_DIR, Mode::empty(), resolve) {
                // Something was renamed meanwhile, so that the kernel can't tell whether `..` stayed inside.
                Err(Errno::AGAIN) => std::thread::yield_now(),
                opened => return Ok(Self(opened?)),
            }
        }
        Err(Errno::AGAIN.into())
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    pub(crate) fn make_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(fs::mkdirat(&self.0, name, Mode::from_raw_mode(mode))?)
    }

    /// Makes a file that was not there, open for writing and reading.
    pub(crate) fn create(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?))
    }

    /// Opens a regular file for reading: no link, and nothing that would hang or act.
    pub(crate) fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&self.0, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        Ok(File::from(file))
    }

    /// A handle on whatever has this name, link included, that opens nothing.
    pub(crate) fn handle(&self, name: &[u8]) -> io::Result<OwnedFd> {
        Ok(fs::openat(&self.0, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
    }

    pub(crate) fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(crate) fn stat_self(&self) -> io::Result<Stat> {
        Ok(fs::fstat(&self.0)?)
    }

    pub(crate) fn symlink(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, &self.0, name)?)
    }

    pub(crate) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// Gives `name` in `from` the further name `new` here. A link gets the name itself.
    pub(crate) fn link(&self, from: &Self, name: &[u8], new: &[u8]) -> io::Result<()> {
        Ok(fs::linkat(&from.0, name, &self.0, new, AtFlags::empty())?)
    }

    pub(crate) fn make_node(&self, name: &[u8], kind: FileType, device: u64) -> io::Result<()> {
        Ok(fs::mknodat(&self.0, name, kind, Mode::from_raw_mode(0o600), device)?)
    }

    pub(crate) fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    pub(crate) fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Returns when the names in this directory are on the disk, as far as the file system can say that.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match fs::fsync(&self.0) {
            // A file system that knows no sync of a directory keeps its names in some other way.
            Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Renames within this directory; whatever has the new name is replaced as `rename(2)` does.
    pub(crate) fn rename(&self, old: &[u8], new: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(&self.0, old, &self.0, new)?)
    }

    /// Renames within this directory, and fails with `EEXIST` when the new name is taken. Where the
    /// file system can't do that in one step, a file gets the new name by a link.
    pub(crate) fn rename_new(&self, old: &[u8], new: &[u8]) -> io::Result<()> {
        match fs::renameat_with(&self.0, old, &self.0, new, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                self.link(self, old, new)?;
                self.remove_file(old)
            }
            done => Ok(done?),
        }
    }

    /// The names in this directory, sorted by their bytes.
    pub(crate) fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        Ok(self.names()?.is_empty())
    }

    /// Removes the directory `name` and everything below it, following no link, as long as it is the one
    /// with this [`identity`](Self::identity): what somebody else put in its place is not touched.
    ///
    /// Works whatever the depth: it goes down and up by one descriptor, and checks on the way up
    /// that it comes out where it went in. Stops, with all that is left, when `cancel` is switched on.
    pub(crate) fn remove_tree(&self, name: &[u8], own: (u64, u64), cancel: &Cancel) -> io::Result<()> {
        match self.identity_of(name) {
            Ok(found) if found == own => {}
            Ok(_) => return Ok(()),
            Err(error) if is(&error, Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut above: Vec<(Vec<u8>, (u64, u64))> = vec![(name.to_vec(), self.identity()?)];
        let mut here = self.enter_to_remove(name)?;
        if here.identity()? != own {
            return Ok(());
        }
        loop {
            cancel.check()?;
            match here.empty_or_first_dir()? {
                Some(child) => {
                    let below = here.enter_to_remove(&child)?;
                    above.push((child, here.identity()?));
                    here = below;
                }
                None => {
                    let Some((name, identity)) = above.pop() else { return Ok(()) };
                    let up = if above.is_empty() {
                        self.try_clone()?
                    } else {
                        Self(fs::openat(&here.0, "..", OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())?)
                    };
                    if up.identity()? != identity {
                        return Err(io::Error::other("a directory was moved away while it was removed"));
                    }
                    up.remove_dir(&name)?;
                    if above.is_empty() {
                        return Ok(());
                    }
                    here = up;
                }
            }
        }
    }

    fn enter_to_remove(&self, name: &[u8]) -> io::Result<Self> {
        match self.child(name) {
            Err(error) if is(&error, Errno::ACCESS) => {
                // An ordinary user's own directory without permissions; a handle can't go wrong on a link.
                let handle = self.handle(name)?;
                if FileType::from_raw_mode(fs::fstat(&handle)?.st_mode) == FileType::Directory {
                    fs::chmod(proc_path(handle.as_fd()), Mode::from_raw_mode(0o700))?;
                }
                self.child(name)
            }
            opened => {
                let opened = opened?;
                // Without write permission its entries can't be removed; root does not need this.
                if fs::fstat(&opened.0)?.st_mode & 0o300 != 0o300 {
                    let _ = fs::fchmod(&opened.0, Mode::from_raw_mode(0o700));
                }
                Ok(opened)
            }
        }
    }

    /// Removes all that is no directory; the first directory that is not empty, if any.
    fn empty_or_first_dir(&self) -> io::Result<Option<Vec<u8>>> {
        for name in self.names()? {
            match self.remove_file(&name) {
                Err(error) if is(&error, Errno::ISDIR) || is(&error, Errno::PERM) => match self.remove_dir(&name) {
                    Err(error) if is(&error, Errno::NOTEMPTY) || is(&error, Errno::EXIST) => return Ok(Some(name)),
                    Err(error) if is(&error, Errno::ACCESS) => return Ok(Some(name)),
                    done => done?,
                },
                done => done?,
            }
        }
        Ok(None)
    }

    /// The device and inode of this directory, by which it is known whatever its name becomes.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = self.stat_self()?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// The device and inode of whatever has this name, link included.
    pub(crate) fn identity_of(&self, name: &[u8]) -> io::Result<(u64, u64)> {
        let stat = self.stat(name)?;
        Ok((stat.st_dev, stat.st_ino))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether an error is this one of the operating system.
pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Opens for reading what a handle stands for, once it is known to be a regular file.
pub(crate) fn reopen(handle: BorrowedFd<'_>) -> io::Result<File> {
    if FileType::from_raw_mode(fs::fstat(handle)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(fs::open(proc_path(handle), flags, Mode::empty())?))
}

/// A path that leads to an open descriptor's own file, for calls that have no form for descriptors.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// What stands between the name and the random part of a staging name.
const STAGING_MARK: &[u8] = b".lxd-image-";
/// How much of the name is repeated: leaves room for the rest within the 255 bytes of a name.
const STAGED_BYTES: usize = 200;

/// A name that nobody guesses, for something that stands beside `name` until it is done.
pub(crate) fn staging_name(name: &[u8]) -> Vec<u8> {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = RandomState::new().build_hasher().finish();
    let mut staging = b".".to_vec();
    staging.extend_from_slice(&name[..name.len().min(STAGED_BYTES)]);
    staging.extend_from_slice(STAGING_MARK);
    staging.extend_from_slice(format!("{random:016x}").as_bytes());
    staging
}

/// Whether [`staging_name`] makes names like this one.
pub(crate) fn is_staging_name(name: &[u8]) -> bool {
    staged_for(name).is_some()
}

/// Whether [`staging_name`] makes names like this one for `name`.
pub(crate) fn is_staging_name_of(staging: &[u8], name: &[u8]) -> bool {
    staged_for(staging) == Some(&name[..name.len().min(STAGED_BYTES)])
}

/// The beginning of the name that a staging name stands for.
fn staged_for(staging: &[u8]) -> Option<&[u8]> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let rest = staging.strip_prefix(b".")?;
    let (rest, random) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
    rest.strip_suffix(STAGING_MARK).filter(|_| random.iter().all(is_digit))
}
