//! Writing a tree from entries, below one directory that nothing can leave.
//! One thread makes names in the archive's order; others write contents and attributes by descriptor.

mod attributes;
mod directory_stack;
mod ids;
mod report;
mod writers;

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{self, FileType};
use rustix::io::Errno;

use self::attributes::{Applier, Attributes};
use self::directory_stack::DirectoryStack;
pub use self::ids::{IdMap, IdRange};
pub use self::report::UnpackReport;
use self::writers::Writers;
pub(crate) use self::writers::{DirectFile, OpenFile};
use super::chunk::Chunk;
use super::entry::{DeviceNumber, Entry, EntryKind};
use super::namespace::{self, below_file, below_link};
use super::omitted_members::OmittedMembers;
use super::path::split_last;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::rooted::{Dir, is};

/// What to write and what to leave out.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExtractPolicy {
    pub(crate) skip_devices: bool,
    pub(crate) all_xattrs: bool,
    pub(crate) ids: IdMap,
}

/// Writes one tree. Files' contents are written behind its back; [`finish`](Self::finish) waits for them.
pub(crate) struct Extractor<'scope> {
    directories: DirectoryStack,
    writers: Writers<'scope>,
    applier: Arc<Applier>,
    policy: ExtractPolicy,
    omitted_members: OmittedMembers,
    disk: bool,
}

impl<'scope> Extractor<'scope> {
    /// Writes below `root`, with contents on `threads` threads of `scope`.
    pub(crate) fn new<'env>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        root: Dir,
        policy: ExtractPolicy,
        limits: &Limits,
        threads: usize,
        monitor: &Monitor,
    ) -> Result<Self> {
        let budget = WriteBudget::of(&root, limits)?;
        let applier = Arc::new(Applier::new(&policy, monitor));
        Ok(Self {
            directories: DirectoryStack::new(root, Arc::clone(&applier), limits.entries),
            writers: Writers::start(scope, Arc::clone(&applier), budget, threads)?,
            applier,
            policy,
            omitted_members: OmittedMembers::default(),
            disk: false,
        })
    }

    /// Writes everything of an entry but a file's bytes, for which it gives the place to put them.
    ///
    /// # Errors
    /// `UnsafePath` and `Malformed` for what the tree so far does not allow, `Io` for the disk's refusals.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Result<Option<Arc<OpenFile>>> {
        self.writers.check()?;
        if entry.path.is_empty() {
            self.directories.root_attributes(entry)?;
            return Ok(None);
        }
        self.omitted_members.check(entry)?;
        let (parent, name) = split_last(&entry.path);
        match &entry.kind {
            EntryKind::Directory => {
                self.directories.make_directory(&entry.path, entry)?;
                Ok(None)
            }
            EntryKind::File { size } => {
                let dir = self.directories.go_to(parent)?;
                let file = make_replacing(&dir, name, || dir.create(name, 0o600))?;
                let attributes = Attributes::of(entry, &self.applier)?;
                Ok(Some(self.writers.file(file, attributes, *size, &entry.path)))
            }
            EntryKind::Symlink { target } => {
                let dir = self.directories.go_to(parent)?;
                make_replacing(&dir, name, || dir.symlink(target, name))?;
                self.applier.apply_to_link(&dir, name, &Attributes::of(entry, &self.applier)?, &entry.path)?;
                Ok(None)
            }
            EntryKind::HardLink { target } => {
                self.hard_link(entry, target, parent, name)?;
                Ok(None)
            }
            EntryKind::CharDevice(number) => self.node(entry, FileType::CharacterDevice, Some(*number)),
            EntryKind::BlockDevice(number) => self.node(entry, FileType::BlockDevice, Some(*number)),
            EntryKind::Fifo => self.node(entry, FileType::Fifo, None),
            EntryKind::Socket => self.node(entry, FileType::Socket, None),
        }
    }

    /// Hands bytes of a file over to be written.
    ///
    /// # Errors
    /// `LimitExceeded` when the image writes more than allowed, or an earlier write's error.
    pub(crate) fn data(&mut self, file: &Arc<OpenFile>, pieces: Vec<(u64, Chunk)>) -> Result<()> {
        let bytes: u64 = pieces.iter().map(|(_, piece)| piece.len() as u64).sum();
        self.charge(bytes)?;
        self.writers.write(file, pieces)
    }

    /// Reports something that the image's form made impossible.
    pub(crate) fn omit(&self, path: &[u8], what: Omitted) {
        self.applier.omit(path, what);
    }

    /// Takes `bytes` off what the image may still write.
    pub(crate) fn charge(&self, bytes: u64) -> Result<()> {
        self.writers.charge(bytes)
    }

    /// A way to write a file on threads of the caller's own.
    pub(crate) fn direct(&self, file: Arc<OpenFile>) -> DirectFile {
        self.writers.direct(file)
    }

    /// Hands the last bytes of a file over.
    pub(crate) fn close(&mut self, file: Arc<OpenFile>, pieces: Vec<(u64, Chunk)>) -> Result<()> {
        self.charge(pieces.iter().map(|(_, piece)| piece.len() as u64).sum())?;
        self.writers.close(file, pieces)
    }

    /// The disk of a virtual machine, as `rootfs.img` in `dir`.
    pub(crate) fn disk(&mut self, dir: &Dir, size: u64) -> Result<Arc<OpenFile>> {
        if !self.policy.ids.is_empty() {
            return Err(Error::invalid("the image is a virtual machine's: its owners are inside of the disk")
                .with_hint("unpack it without an id map"));
        }
        self.disk = true;
        let file = dir.create(b"rootfs.img", 0o600).map_err(|error| Error::io("the disk can't be made", error))?;
        let attributes = Attributes::private_file();
        Ok(self.writers.disk(file, attributes, size, b"rootfs.img"))
    }

    /// Waits for all contents, then gives directories their last attributes.
    pub(crate) fn finish(self) -> Result<UnpackReport> {
        self.writers.finish()?;
        // Beside a disk there is no root directory.
        self.directories.finish(!self.disk)?;
        self.applier.take_report()
    }

    fn hard_link(&mut self, entry: &Entry, target: &[u8], parent: &[u8], name: &[u8]) -> Result<()> {
        if entry.path == target {
            return Err(namespace::link_to_itself());
        }
        if self.omitted_members.holds(target) {
            // A further name of what was not made is not made either.
            return self.leave_out(entry, parent, name, Omitted::Device);
        }
        let dir = self.directories.go_to(parent)?;
        let (target_parent, target_name) = split_last(target);
        let from = self.directories.look_up(target_parent, target)?;
        let stat = from.stat(target_name).map_err(|error| {
            if is(&error, Errno::NOENT) {
                namespace::link_before_target(target)
            } else {
                Error::io("a hard link's target can't be read", error)
            }
        })?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(namespace::link_to_directory());
        }
        make_replacing(&dir, name, || dir.link(&from, target_name, name))?;
        self.applier.count(0);
        Ok(())
    }

    /// Makes no special file, but all that making it would have changed: what had its name is gone.
    fn leave_out(&mut self, entry: &Entry, parent: &[u8], name: &[u8], what: Omitted) -> Result<()> {
        let dir = self.directories.go_to(parent)?;
        match dir.remove_file(name) {
            Err(error) if is(&error, Errno::ISDIR) || is(&error, Errno::PERM) => {
                return Err(namespace::directory_becomes_file());
            }
            Err(error) if !is(&error, Errno::NOENT) => {
                return Err(Error::io("an earlier member can't be replaced", error));
            }
            _ => {}
        }
        self.omitted_members.insert(&entry.path);
        self.applier.omit(&entry.path, what);
        Ok(())
    }

    fn node(&mut self, entry: &Entry, kind: FileType, device: Option<DeviceNumber>) -> Result<Option<Arc<OpenFile>>> {
        let (parent, name) = split_last(&entry.path);
        let dir = self.directories.go_to(parent)?;
        if device.is_some() && self.policy.skip_devices {
            return self.leave_out(entry, parent, name, Omitted::Device).map(|()| None);
        }
        let number = device.map_or(0, |number| fs::makedev(number.major, number.minor));
        let made = make_replacing(&dir, name, || dir.make_node(name, kind, number));
        match made {
            // Ordinary users, and root in a user namespace.
            Err(error) if device.is_some() && is_not_permitted(&error) => {
                return self.leave_out(entry, parent, name, Omitted::Device).map(|()| None);
            }
            // A file system without pipes and sockets.
            Err(error) if device.is_none() && is_not_permitted(&error) => {
                let reason = "the file system takes no special files".into();
                return self.leave_out(entry, parent, name, Omitted::Skipped { reason }).map(|()| None);
            }
            made => made?,
        }
        let handle = dir.handle(name).map_err(|error| Error::io("a new special file can't be opened", error))?;
        let made = fs::fstat(&handle).map_err(|error| Error::io("a new special file can't be read", error))?;
        // By its handle it is known to be what was made, and no link that took its name since.
        if FileType::from_raw_mode(made.st_mode) == kind {
            let attributes = Attributes::of(entry, &self.applier)?;
            self.applier.apply_to_handle(handle.as_fd(), &attributes, &entry.path)?;
            self.applier.count(0);
        }
        Ok(None)
    }
}

fn is_not_permitted(error: &Error) -> bool {
    use std::error::Error as _;
    error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP].iter().any(|&errno| is(error, errno)))
}

/// What an image may write in bytes: the limit, and never past what is free now less 5 %.
#[derive(Debug, Clone, Copy)]
struct WriteBudget {
    limit: u64,
    free: Option<u64>,
}

impl WriteBudget {
    fn of(root: &Dir, limits: &Limits) -> Result<Self> {
        let space = fs::fstatvfs(root.as_fd()).map_err(|error| Error::io("the free space can't be told", error))?;
        // A file system in memory without a bound says that it has no blocks at all.
        let free = (space.f_blocks > 0).then(|| space.f_bavail.saturating_mul(space.f_frsize));
        Ok(Self { limit: limits.output, free: free.map(|free| free - free / 20) })
    }

    fn bytes(self) -> u64 {
        self.free.map_or(self.limit, |free| free.min(self.limit))
    }

    /// It is used up: by the limit, or since the disk would be full.
    fn exceeded(self) -> Error {
        match self.free {
            Some(free) if free < self.limit => Error::storage_full(format!(
                "no space left: the image wants to write more than the {free} bytes that may be filled there"
            )),
            _ => Error::limit("output", self.limit, "what the image wants to write"),
        }
    }
}

/// Makes something under `name`; what has that name already is replaced, unless it is a directory.
fn make_replacing<T>(dir: &Dir, name: &[u8], make: impl Fn() -> std::io::Result<T>) -> Result<T> {
    match make() {
        Err(error) if is(&error, Errno::EXIST) => {
            if let Err(error) = dir.remove_file(name) {
                if is(&error, Errno::ISDIR) || is(&error, Errno::PERM) {
                    return Err(namespace::directory_becomes_file());
                }
                if !is(&error, Errno::NOENT) {
                    return Err(Error::io("an earlier member can't be replaced", error));
                }
            }
            make().map_err(|error| Error::io("a member can't be made", error))
        }
        made => made.map_err(|error| Error::io("a member can't be made", error)),
    }
}

/// The error for a component on the way to a member that is no directory.
fn not_a_directory(dir: &Dir, name: &[u8], error: std::io::Error) -> Error {
    if is(&error, Errno::LOOP) || is(&error, Errno::NOTDIR) {
        return match dir.stat(name).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Symlink) => below_link(),
            _ => below_file(),
        };
    }
    Error::io("a directory can't be opened", error)
}
