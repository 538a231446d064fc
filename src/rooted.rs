//! [`Dir`]: directories as descriptors. Every name is one component below a descriptor, and no
//! symbolic link is followed.
//!
//! This is the only code that creates, changes or removes files in a tree whose content is
//! untrusted. A path is never resolved twice: what was checked through a descriptor is what is
//! used, whatever other processes rename meanwhile.

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

    /// Opens the directory at `path` as a process sees it whose root is this directory: links and
    /// `..` are followed, and never lead out (`openat2(2)` with `RESOLVE_IN_ROOT`).
    ///
    /// Fails with `ENOSYS` on a kernel without `openat2`.
    pub(crate) fn inside(&self, path: &[u8]) -> io::Result<Self> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..1_000 {
            match fs::openat2(&self.0, path, OPEN_DIR, Mode::empty(), resolve) {
                // A concurrent rename: the kernel cannot tell whether `..` stayed inside, and asks to try again.
                Err(Errno::AGAIN) => std::thread::yield_now(),
                opened => return Ok(Self(opened?)),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Duplicates the descriptor.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Creates the directory `name` with `mode` less the umask. `EEXIST` for any entry of that name.
    pub(crate) fn make_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(fs::mkdirat(&self.0, name, Mode::from_raw_mode(mode))?)
    }

    /// Creates a file for reading and writing. `EEXIST` for any entry of that name, links included.
    pub(crate) fn create(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?))
    }

    /// Opens a regular file for reading. Links, devices and pipes are refused, since opening them may block or act.
    pub(crate) fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&self.0, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        Ok(File::from(file))
    }

    /// A descriptor for the entry `name`, even a link, that opens nothing (`O_PATH`).
    pub(crate) fn handle(&self, name: &[u8]) -> io::Result<OwnedFd> {
        Ok(fs::openat(&self.0, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens the directory at `path` below this one, through no symbolic link.
    #[cfg(feature = "simplestreams")]
    pub(crate) fn descend(&self, path: &str) -> io::Result<Self> {
        let mut at = self.try_clone()?;
        for name in path.split('/') {
            if matches!(name, "" | "." | "..") {
                return Err(Errno::INVAL.into());
            }
            at = at.child(name.as_bytes())?;
        }
        Ok(at)
    }

    /// This directory as a file: for its times.
    #[cfg(feature = "simplestreams")]
    pub(crate) fn as_file(&self) -> io::Result<File> {
        Ok(File::from(self.0.try_clone()?))
    }

    /// Gives the file at the caller's own path `from` the name `name` here, replacing any entry of that name.
    #[cfg(feature = "simplestreams")]
    pub(crate) fn take(&self, from: &Path, name: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(fs::CWD, from, &self.0, name)?)
    }

    /// The metadata of the entry `name`; of a link itself.
    pub(crate) fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The metadata of this directory.
    pub(crate) fn stat_self(&self) -> io::Result<Stat> {
        Ok(fs::fstat(&self.0)?)
    }

    /// Creates the symbolic link `name` to `target`.
    pub(crate) fn symlink(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, &self.0, name)?)
    }

    /// The target of the symbolic link `name`.
    pub(crate) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// Gives the entry `name` of `from` the further name `new` in this directory. A symbolic link is linked itself.
    pub(crate) fn link(&self, from: &Self, name: &[u8], new: &[u8]) -> io::Result<()> {
        Ok(fs::linkat(&from.0, name, &self.0, new, AtFlags::empty())?)
    }

    /// Creates a device node, pipe or socket, accessible by its owner only.
    pub(crate) fn make_node(&self, name: &[u8], kind: FileType, device: u64) -> io::Result<()> {
        Ok(fs::mknodat(&self.0, name, kind, Mode::from_raw_mode(0o600), device)?)
    }

    /// Removes the entry `name`, which is no directory.
    pub(crate) fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Removes the empty directory `name`.
    pub(crate) fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Returns once the names in this directory are on the disk, if the file system supports that.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match fs::fsync(&self.0) {
            // Some file systems (FUSE, network) cannot sync a directory; their servers decide about durability.
            Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Renames within this directory, replacing an entry of the new name as `rename(2)` does.
    pub(crate) fn rename(&self, old: &[u8], new: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(&self.0, old, &self.0, new)?)
    }

    /// Renames within this directory, and fails with `EEXIST` if the new name exists. On a file
    /// system without `RENAME_NOREPLACE`, links the file and removes the old name.
    pub(crate) fn rename_new(&self, old: &[u8], new: &[u8]) -> io::Result<()> {
        match fs::renameat_with(&self.0, old, &self.0, new, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                self.link(self, old, new)?;
                self.remove_file(old)
            }
            done => Ok(done?),
        }
    }

    /// All names in this directory but `.` and `..`, sorted by their bytes.
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

    /// Whether this directory has no entries.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        Ok(self.names()?.is_empty())
    }

    /// Removes the directory `name` and everything below it, without following links, if it is the
    /// one with the [`identity`](Self::identity) `own`. A directory that another process put in its
    /// place is not touched.
    ///
    /// Works at any depth with two descriptors: it descends one level at a time, and verifies on
    /// the way up that it returns to where it came from. Cancelling leaves the rest in place.
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

    /// Opens a directory, and gives this process the permissions to remove its entries.
    fn enter_to_remove(&self, name: &[u8]) -> io::Result<Self> {
        match self.child(name) {
            Err(error) if is(&error, Errno::ACCESS) => {
                // The user's own directory without permissions. `O_PATH` needs none, and does not follow a link.
                let handle = self.handle(name)?;
                if FileType::from_raw_mode(fs::fstat(&handle)?.st_mode) == FileType::Directory {
                    fs::chmod(proc_path(handle.as_fd()), Mode::from_raw_mode(0o700))?;
                }
                self.child(name)
            }
            opened => {
                let opened = opened?;
                // Removing entries needs write and search permission; root has them anyway.
                if fs::fstat(&opened.0)?.st_mode & 0o300 != 0o300 {
                    let _ = fs::fchmod(&opened.0, Mode::from_raw_mode(0o700));
                }
                Ok(opened)
            }
        }
    }

    /// Removes all entries that are no directories or empty ones. Returns the first directory that is not empty.
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

    /// The device and inode of this directory: its identity, whatever its name becomes.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = self.stat_self()?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// The device and inode of the entry `name`; of a link itself.
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

/// Whether an error is this error number of the operating system.
pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Opens the regular file of an `O_PATH` descriptor for reading.
pub(crate) fn reopen(handle: BorrowedFd<'_>) -> io::Result<File> {
    if FileType::from_raw_mode(fs::fstat(handle)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(fs::open(proc_path(handle), flags, Mode::empty())?))
}

/// A path to the file of an open descriptor, for system calls that take paths only.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// What separates the name and the random part of a staging name.
const STAGING_MARK: &[u8] = b".lxd-image-";
/// How many bytes of the name are repeated. Leaves room for the rest within the 255 bytes of `NAME_MAX`.
const STAGED_BYTES: usize = 200;

/// A random name for a file or directory that stands beside `name` until it is complete: `.NAME.lxd-image-RANDOM`.
pub(crate) fn staging_name(name: &[u8]) -> Vec<u8> {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = RandomState::new().build_hasher().finish();
    let mut staging = b".".to_vec();
    staging.extend_from_slice(&name[..name.len().min(STAGED_BYTES)]);
    staging.extend_from_slice(STAGING_MARK);
    staging.extend_from_slice(format!("{random:016x}").as_bytes());
    staging
}

/// Whether this is a name that [`staging_name`] makes.
pub(crate) fn is_staging_name(name: &[u8]) -> bool {
    staged_for(name).is_some()
}

/// Whether this is a name that [`staging_name`] makes for `name`.
pub(crate) fn is_staging_name_of(staging: &[u8], name: &[u8]) -> bool {
    staged_for(staging) == Some(&name[..name.len().min(STAGED_BYTES)])
}

/// The (shortened) name that a staging name was made for.
fn staged_for(staging: &[u8]) -> Option<&[u8]> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let rest = staging.strip_prefix(b".")?;
    let (rest, random) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
    rest.strip_suffix(STAGING_MARK).filter(|_| random.iter().all(is_digit))
}
