//! The directory that the next name goes into, kept as a stack of handles from the root down.
//!
//! Archives list a directory's members together, so most members need no look-up. A directory's own
//! attributes are applied when the stack leaves it, so that later members don't change its times;
//! nothing else about the tree is remembered.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{self, FileType, Timespec, Timestamps};
use rustix::io::Errno;

use super::attributes::{Applier, Attributes};
use super::not_a_directory;
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::format::namespace;
use crate::rooted::{Dir, is};

/// Directories that are kept open, well below the usual limit of 1,024 descriptors. Those further
/// up are opened again, from the root, when they are needed.
const MAX_OPEN_DIRECTORIES: usize = 64;

/// The directories from the root to the current one.
pub(crate) struct DirectoryStack {
    root: Arc<Dir>,
    /// From the root's children down.
    levels: Vec<DirectoryLevel>,
    /// What the root gets at the end, if a member names it.
    root_attributes: Option<Attributes>,
    applier: Arc<Applier>,
    /// How many directories may still be made that no member names.
    implied: u64,
    /// The limit on entries, for the error.
    limit: u64,
    /// Directories that an ordinary user could not enter again once they have their mode.
    late_modes: Vec<(Vec<u8>, u32)>,
}

/// One directory of the stack; its handle is closed when too many are open.
struct DirectoryLevel {
    name: Vec<u8>,
    /// The handle; `None` when it was closed to save descriptors.
    dir: Option<Arc<Dir>>,
    /// What is applied on leaving.
    pending: PendingAttributes,
}

/// What a directory gets when the stack leaves it.
enum PendingAttributes {
    /// All of an entry's attributes.
    Attributes(Attributes),
    /// The times that it had when the walk came back to it.
    Times(Timestamps),
}

impl DirectoryStack {
    /// `most` is the limit on entries: directories that are made for a member's path count as such.
    pub(crate) fn new(root: Dir, applier: Arc<Applier>, most: u64) -> Self {
        Self {
            root: Arc::new(root),
            levels: Vec::new(),
            root_attributes: None,
            applier,
            implied: most,
            limit: most,
            late_modes: Vec::new(),
        }
    }

    /// Remembers what the root itself gets in the end.
    pub(crate) fn root_attributes(&mut self, entry: &Entry) -> Result<()> {
        self.root_attributes = Some(Attributes::of(entry, &self.applier)?);
        Ok(())
    }

    /// Goes to a directory, making it and its parents where they are missing.
    pub(crate) fn go_to(&mut self, path: &[u8]) -> Result<Arc<Dir>> {
        let mut wanted = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let mut shared = 0;
        let mut next = wanted.next();
        while let Some(name) = next
            && self.levels.get(shared).is_some_and(|level| level.name == name)
        {
            shared += 1;
            next = wanted.next();
        }
        self.leave_to(shared)?;
        while let Some(name) = next {
            self.enter(name)?;
            next = wanted.next();
        }
        self.here()
    }

    /// Makes a directory of the archive, or takes one that is there, and stays in it.
    pub(crate) fn make_directory(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let attributes = Attributes::of(entry, &self.applier)?;
        let (parent, name) = crate::format::path::split_last(path);
        let already_here = self.levels.last().is_some_and(|level| level.name == name) && self.path() == path;
        if !already_here {
            let dir = self.go_to(parent)?;
            match dir.make_dir(name, 0o700) {
                Err(error) if is(&error, Errno::EXIST) => {
                    match dir.stat(name).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                        Ok(FileType::Directory) => {}
                        Ok(FileType::Symlink) => return Err(namespace::link_becomes_directory()),
                        _ => return Err(namespace::file_becomes_directory()),
                    }
                }
                made => made.map_err(|error| Error::io("a directory can't be made", error))?,
            }
            self.enter(name)?;
        }
        if let Some(level) = self.levels.last_mut() {
            level.pending = PendingAttributes::Attributes(attributes);
        }
        self.applier.count(0);
        Ok(())
    }

    /// Opens a directory without making anything or changing the stack: the directory of a hard
    /// link's target.
    pub(crate) fn look_up(&self, path: &[u8], target: &[u8]) -> Result<Arc<Dir>> {
        let mut dir = Arc::clone(&self.root);
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            dir = match dir.child(name) {
                Ok(child) => Arc::new(child),
                Err(error) if is(&error, Errno::NOENT) => return Err(namespace::link_before_target(target)),
                Err(error) => {
                    return Err(match not_a_directory(&dir, name, error) {
                        error if error.kind() == crate::ErrorKind::UnsafePath => namespace::through_link(),
                        error => error,
                    });
                }
            };
        }
        Ok(dir)
    }

    /// Leaves every directory and gives the root its attributes, if it is kept: those of its member, or as any
    /// directory that no member names.
    pub(crate) fn finish(mut self, root: bool) -> Result<()> {
        self.leave_to(0)?;
        // Deepest first: a parent that can't be entered must not come before its children.
        self.late_modes.sort_by(|a, b| b.0.cmp(&a.0));
        for (path, mode) in std::mem::take(&mut self.late_modes) {
            let (parent, name) = crate::format::path::split_last(&path);
            let dir = self
                .look_up(parent, &path)?
                .child(name)
                .map_err(|error| Error::io("a directory can't be opened", error))?;
            fs::fchmod(dir.as_fd(), fs::Mode::from_raw_mode(mode))
                .map_err(|error| Error::io("a mode can't be set", error))?;
        }
        if root {
            let attributes = match self.root_attributes.take() {
                Some(attributes) => attributes,
                None => Attributes::implied(self.applier.ids())?,
            };
            self.applier.apply(self.root.as_fd(), &attributes, &[])?;
        }
        Ok(())
    }

    /// The current directory's path below the root.
    fn path(&self) -> Vec<u8> {
        self.levels.iter().map(|level| level.name.as_slice()).collect::<Vec<_>>().join(&b'/')
    }

    /// The current directory, opened again from the root where it was closed.
    fn here(&mut self) -> Result<Arc<Dir>> {
        let Some(last) = self.levels.last() else { return Ok(Arc::clone(&self.root)) };
        if let Some(dir) = &last.dir {
            return Ok(Arc::clone(dir));
        }
        // Those just above are wanted next, on the way up: kept too, or each would cost a walk from the root.
        let keep = self.levels.len().saturating_sub(MAX_OPEN_DIRECTORIES);
        let mut dir = Arc::clone(&self.root);
        for (depth, level) in self.levels.iter_mut().enumerate() {
            dir = Arc::new(dir.child(&level.name).map_err(|error| not_a_directory(&dir, &level.name, error))?);
            if depth >= keep {
                level.dir = Some(Arc::clone(&dir));
            }
        }
        Ok(dir)
    }

    /// Goes into a child of the current directory, and makes it if it is missing.
    fn enter(&mut self, name: &[u8]) -> Result<()> {
        let parent = self.here()?;
        let mut made = false;
        let child = match parent.child(name) {
            Err(error) if is(&error, Errno::NOENT) => {
                self.implied = self.implied.checked_sub(1).ok_or_else(|| namespace::too_many_implied(self.limit))?;
                parent.make_dir(name, 0o700).map_err(|error| Error::io("a directory can't be made", error))?;
                made = true;
                parent.child(name)
            }
            opened => opened,
        };
        let child = child.map_err(|error| not_a_directory(&parent, name, error))?;
        let pending = if made {
            PendingAttributes::Attributes(Attributes::implied(self.applier.ids())?)
        } else {
            let stat = child.stat_self().map_err(|error| Error::io("a directory can't be read", error))?;
            PendingAttributes::Times(Timestamps {
                last_access: Timespec {
                    tv_sec: stat.st_atime,
                    tv_nsec: i64::try_from(stat.st_atime_nsec).unwrap_or(0),
                },
                last_modification: Timespec {
                    tv_sec: stat.st_mtime,
                    tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
                },
            })
        };
        self.levels.push(DirectoryLevel { name: name.to_vec(), dir: Some(Arc::new(child)), pending });
        if let Some(far) = self.levels.len().checked_sub(MAX_OPEN_DIRECTORIES + 1)
            && let Some(level) = self.levels.get_mut(far)
        {
            level.dir = None;
        }
        Ok(())
    }

    /// Leaves directories until `depth` are left, and applies what is pending for each. An ordinary
    /// user keeps access to a directory without permissions until the end, as a later member may go
    /// into it again.
    fn leave_to(&mut self, depth: usize) -> Result<()> {
        while self.levels.len() > depth {
            let dir = self.here()?;
            let path = self.path();
            let Some(level) = self.levels.pop() else { return Ok(()) };
            match level.pending {
                PendingAttributes::Attributes(mut attributes) => {
                    let mode = attributes.mode();
                    if !self.applier.is_root() && mode & 0o700 != 0o700 {
                        // Root may enter any directory; others need the permissions that the image
                        // does not give, until nothing is left to be written.
                        self.late_modes.push((path.clone(), self.applier.last_mode(&attributes)));
                        attributes = attributes.with_mode(mode | 0o700);
                    }
                    self.applier.apply(dir.as_fd(), &attributes, &path)?;
                }
                PendingAttributes::Times(times) => {
                    fs::futimens(dir.as_fd(), &times)
                        .map_err(|error| Error::io("a directory's times can't be set", error))?;
                }
            }
        }
        Ok(())
    }
}
