//! Writes a tree from entries, below one directory that nothing can leave.
//!
//! One thread (the caller's) makes names in the order of the archive, since later members may
//! replace or link to earlier ones. Other threads write contents and attributes through descriptors
//! that were opened for them, and never see a name.
//!
//! Invariants against hostile images, with the attack that each stops:
//!
//! * Directories are opened component by component without following links (`rooted::Dir`), so that
//!   a member below a symbolic link from the same archive can't be written elsewhere.
//! * An existing name is removed before a member replaces it, never opened for writing: a hard link
//!   or link of that name is not written through.
//! * A special file is given its attributes by a handle that does not open it, after its type was
//!   checked.
//! * Bytes are charged to a budget before they are written: the limit `output`, and at most 95 % of
//!   the space that was free.

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

/// Which members and attributes are written, and with which owners.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExtractPolicy {
    /// Makes no device nodes.
    pub(crate) skip_devices: bool,
    /// Sets `trusted.*` and all of `security.*`.
    pub(crate) all_xattrs: bool,
    /// From the image's owners to the host's.
    pub(crate) ids: IdMap,
}

/// Writes one tree. Contents are written by threads in the background; [`finish`](Self::finish)
/// waits for them, and errors of theirs are returned by whichever call comes next.
pub(crate) struct Extractor<'scope> {
    directories: DirectoryStack,
    writers: Writers<'scope>,
    applier: Arc<Applier>,
    policy: ExtractPolicy,
    /// Members that were left out, for the judgement of later ones.
    omitted_members: OmittedMembers,
    /// Whether a disk was written in place of a tree.
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
        // Before anything is made: a member below one that was left out is refused, as it would be
        // had that one been made.
        self.omitted_members.check(entry)?;
        let (parent, name) = split_last(&entry.path);
        match &entry.kind {
            EntryKind::Directory => {
                self.directories.make_directory(&entry.path, entry)?;
                Ok(None)
            }
            EntryKind::File { size } => {
                let dir = self.directories.go_to(parent)?;
                // Mode 0600 until the owner is set: content must not be readable by others in
                // between.
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
        // Charged before the bytes are queued, so that the limit holds for what waits too.
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
        // Contents first: writing a file changes no directory, but a failure must not leave
        // directories that look complete.
        self.writers.finish()?;
        // Beside a disk there is no root directory.
        self.directories.finish(!self.disk)?;
        self.applier.take_report()
    }

    /// Makes a further name of an earlier member. The target is looked up from the root without
    /// following links.
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

    /// Leaves a special file out, with the side effects that making it would have had: what had its
    /// name is gone, and later members can't be below it.
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

    /// Makes a device, pipe or socket. Where that is not permitted, it is left out and reported.
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

/// Whether an error means that this user or this file system can't have such a file.
fn is_not_permitted(error: &Error) -> bool {
    use std::error::Error as _;
    error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP].iter().any(|&errno| is(error, errno)))
}

/// Bytes that an image may write: the limit `output`, and never more than what was free at the
/// start less 5 %.
#[derive(Debug, Clone, Copy)]
struct WriteBudget {
    limit: u64,
    /// Bytes that may be filled; `None` for a file system without a size.
    free: Option<u64>,
}

impl WriteBudget {
    /// Measures the free space of the file system that `root` is on. Space that is freed meanwhile
    /// does not count.
    fn of(root: &Dir, limits: &Limits) -> Result<Self> {
        let space = fs::fstatvfs(root.as_fd()).map_err(|error| Error::io("the free space can't be told", error))?;
        // A file system in memory without a bound says that it has no blocks at all.
        let free = (space.f_blocks > 0).then(|| space.f_bavail.saturating_mul(space.f_frsize));
        Ok(Self { limit: limits.output, free: free.map(|free| free - free / 20) })
    }

    /// The number of bytes that may be written.
    fn bytes(self) -> u64 {
        self.free.map_or(self.limit, |free| free.min(self.limit))
    }

    /// The error for a budget that is used up: by the limit, or because the disk would be full.
    fn exceeded(self) -> Error {
        match self.free {
            Some(free) if free < self.limit => Error::storage_full(format!(
                "no space left: the image wants to write more than the {free} bytes that may be filled there"
            )),
            _ => Error::limit("output", self.limit, "what the image wants to write"),
        }
    }
}

/// Makes something named `name`, after removing what has that name, unless it is a directory.
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

/// The error for a component of a member's path that is no directory: a symbolic link is an attack,
/// a file is damage.
fn not_a_directory(dir: &Dir, name: &[u8], error: std::io::Error) -> Error {
    if is(&error, Errno::LOOP) || is(&error, Errno::NOTDIR) {
        return match dir.stat(name).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Symlink) => below_link(),
            _ => below_file(),
        };
    }
    Error::io("a directory can't be opened", error)
}
