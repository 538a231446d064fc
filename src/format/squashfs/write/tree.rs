//! The tree that is being written: inodes, and the names that directories give them.
//!
//! What SquashFS or the kernel can't represent is refused here, before anything is compressed.

use std::collections::{BTreeMap, HashMap};

use super::super::directory::check_name;
use super::super::inode::pack_device;
use super::super::superblock::NONE;
use super::xattr_sets::XattrSets;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryKind, Timestamp};
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// The kernel's bound on a name (`NAME_MAX`), which is also SquashFS's.
const NAME_MAX: usize = 255;
/// The kernel's bound on a path without its NUL (`PATH_MAX` less one).
const PATH_MAX: usize = 4095;
/// The superblock counts ids in sixteen bits.
const IDS_MAX: usize = 65_535;
/// The top directory's place among the inodes.
pub(super) const TOP: usize = 0;

/// An inode to be written. There is one for each member until the end, so every byte of it counts.
pub(super) struct Inode {
    /// The type of the member.
    pub(super) kind: InodeKind,
    /// The permission bits, setuid, setgid and sticky.
    pub(super) mode: u16,
    /// The owner, as an index into the ids.
    pub(super) uid: u16,
    /// The group, as an index into the ids.
    pub(super) gid: u16,
    /// The modification time in seconds since 1970.
    pub(super) mtime: u32,
    /// The number of the set of attributes, or [`NONE`].
    pub(super) xattrs: u32,
    /// The number of its names; for a directory, of its subdirectories.
    pub(super) links: u32,
}

/// The type of an inode, with what is particular to it.
pub(super) enum InodeKind {
    /// A directory, with the names in it.
    Directory(Box<DirectoryNames>),
    /// The number of the file's content.
    File(u32),
    /// A symbolic link.
    Symlink(Box<LinkTarget>),
    /// A block device, with its number as the format packs it.
    BlockDevice(u32),
    /// A character device, with its number as the format packs it.
    CharDevice(u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The names in a directory, and the numbers of their inodes.
#[derive(Default)]
pub(super) struct DirectoryNames(pub(super) BTreeMap<Box<[u8]>, u32>);

/// Where a symbolic link points. A type of its own, boxed, to keep [`Inode`] small.
pub(super) struct LinkTarget(pub(super) Box<[u8]>);

impl InodeKind {
    /// For all but regular files and further names.
    ///
    /// # Errors
    /// `InvalidInput` for a link target that the kernel would refuse; `Unsupported` for a device
    /// whose number does not fit.
    pub(super) fn new(kind: &EntryKind) -> Result<Self> {
        let device = |number| {
            pack_device(number).ok_or_else(|| {
                Error::unsupported(format!("SquashFS can't hold a device {}:{}", number.major, number.minor))
            })
        };
        Ok(match kind {
            EntryKind::Directory => Self::Directory(Box::default()),
            EntryKind::Symlink { target } => {
                if target.is_empty() || target.len() > PATH_MAX || target.contains(&0) {
                    return Err(Error::invalid("the target of a symbolic link has 1 to 4095 bytes and no NUL"));
                }
                Self::Symlink(Box::new(LinkTarget(target.as_slice().into())))
            }
            EntryKind::CharDevice(number) => Self::CharDevice(device(*number)?),
            EntryKind::BlockDevice(number) => Self::BlockDevice(device(*number)?),
            EntryKind::Fifo => Self::Fifo,
            EntryKind::Socket => Self::Socket,
            EntryKind::File { .. } | EntryKind::HardLink { .. } => return Err(Error::invalid("this has no inode yet")),
        })
    }
}

/// All inodes and names so far, with the tables of ids and xattr sets that they refer to.
pub(super) struct Tree {
    /// The inodes, in the order in which they came. Inodes that lost all their names stay and are
    /// not written.
    inodes: Vec<Inode>,
    /// Owners and groups, by index.
    ids: Vec<u32>,
    /// The index of each owner or group.
    id_numbers: HashMap<u32, u16>,
    /// The sets of extended attributes.
    xattrs: XattrSets,
    /// The latest modification time.
    newest: u32,
}

impl Tree {
    /// A tree with only the top directory.
    pub(super) fn new() -> Self {
        let mut this = Self {
            inodes: Vec::new(),
            ids: Vec::new(),
            id_numbers: HashMap::new(),
            xattrs: XattrSets::default(),
            newest: 0,
        };
        this.add_missing_directory();
        this
    }

    /// The inode with this number.
    pub(super) fn inode(&self, number: usize) -> Option<&Inode> {
        self.inodes.get(number)
    }

    /// How many inodes there are, also without a name.
    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// The owners and groups, by the index that inodes have.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The sets of extended attributes, by the numbers that inodes have.
    pub(super) fn xattrs(&self) -> &XattrSets {
        &self.xattrs
    }

    /// The latest modification time so far, in seconds since 1970.
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    /// Fails if `entry` can't be in an image, whatever else is.
    ///
    /// # Errors
    /// `InvalidInput`, with the path of the member.
    pub(super) fn check(&self, entry: &Entry) -> Result<()> {
        let path = entry.path.as_slice();
        let wrong = |error: Error| error.in_entry(path);
        if path.len() > PATH_MAX {
            return Err(wrong(Error::invalid("a path has at most 4095 bytes")));
        }
        if !path.is_empty() {
            for name in path.split(|byte| *byte == b'/') {
                check_name(name).map_err(wrong)?;
                if name.len() > NAME_MAX {
                    return Err(wrong(Error::invalid("a name has at most 255 bytes")));
                }
            }
        }
        if entry.mode > 0o7777 {
            return Err(wrong(Error::invalid("a mode has at most twelve bits")));
        }
        if entry.uid == u32::MAX || entry.gid == u32::MAX {
            return Err(wrong(Error::invalid("4294967295 is no owner")));
        }
        XattrSets::check(&entry.xattrs).map_err(wrong)
    }

    /// Adds a member, with the directories above it where they are missing. A later member takes
    /// the place of an earlier one of its name, but no directory's, nor does a directory another's.
    ///
    /// # Errors
    /// `InvalidInput` where a directory and another member have one name; those of
    /// [`check`](Self::check).
    pub(super) fn insert(&mut self, entry: &Entry, kind: InodeKind, monitor: &Monitor) -> Result<()> {
        self.check(entry)?;
        let inode = self.describe(entry, kind, monitor).map_err(|error| error.in_entry(&entry.path))?;
        let (parent, name) = self.parent(&entry.path)?;
        let existing = if name.is_empty() { Some(TOP) } else { self.child(parent, name) };
        let is_directory = matches!(inode.kind, InodeKind::Directory(_));
        if let Some(existing) = existing.and_then(|existing| self.inodes.get_mut(existing))
            && let InodeKind::Directory(names) = &mut existing.kind
        {
            if !is_directory {
                return Err(Error::invalid("a directory of this name is there already").in_entry(&entry.path));
            }
            let (names, links) = (std::mem::take(names), existing.links);
            *existing = Inode { kind: InodeKind::Directory(names), links, ..inode };
            return Ok(());
        }
        if is_directory && existing.is_some() {
            return Err(Error::invalid("a member of this directory's name is there already").in_entry(&entry.path));
        }
        let number = self.inodes.len();
        self.inodes.push(inode);
        self.name(parent, name, number)
    }

    /// Gives the inode of `target` a further name.
    ///
    /// # Errors
    /// `InvalidInput` where the target is missing or a directory.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        self.check(&Entry::new(path, EntryKind::Fifo, 0))?;
        let wrong = |sentence| Error::invalid(sentence).in_entry(path);
        let number = self.find(target).ok_or_else(|| wrong("the target of a hard link is not there"))?;
        if matches!(self.inodes.get(number), Some(Inode { kind: InodeKind::Directory(_), .. })) {
            return Err(wrong("a directory has one name only"));
        }
        let (parent, name) = self.parent(path)?;
        match self.child(parent, name) {
            // A link to itself changes nothing.
            Some(existing) if existing == number => return Ok(()),
            Some(existing)
                if matches!(self.inodes.get(existing), Some(Inode { kind: InodeKind::Directory(_), .. })) =>
            {
                return Err(wrong("a directory of this name is there already"));
            }
            _ => {}
        }
        if let Some(inode) = self.inodes.get_mut(number) {
            inode.links = inode.links.checked_add(1).ok_or_else(|| wrong("an inode has too many names"))?;
        }
        self.name(parent, name, number)
    }

    /// Makes an inode of an entry: clamps its time to what the format has, and numbers its owners
    /// and attributes.
    fn describe(&mut self, entry: &Entry, kind: InodeKind, monitor: &Monitor) -> Result<Inode> {
        let mtime = clamp(entry.mtime);
        if i64::from(mtime) != entry.mtime.seconds {
            let field = "modification time".into();
            let (from, to) = (entry.mtime.seconds.to_string(), mtime.to_string());
            monitor.omit(entry.path.as_slice(), Omitted::Clamped { field, from, to });
        }
        self.newest = self.newest.max(mtime);
        let lost = |name: &[u8]| {
            monitor.omit(entry.path.as_slice(), Omitted::attribute(name, "SquashFS has no place for it"));
        };
        let xattrs = self.xattrs.add(&entry.xattrs, lost)?.unwrap_or(NONE);
        // The mode has twelve bits, as was checked.
        let mode = (entry.mode & 0o7777) as u16;
        let links = u32::from(!matches!(kind, InodeKind::Directory(_)));
        Ok(Inode { kind, mode, uid: self.id(entry.uid)?, gid: self.id(entry.gid)?, mtime, xattrs, links })
    }

    /// The index of an owner or group in the id table, added if it is new.
    fn id(&mut self, id: u32) -> Result<u16> {
        if let Some(number) = self.id_numbers.get(&id) {
            return Ok(*number);
        }
        if self.ids.len() >= IDS_MAX {
            return Err(Error::unsupported("SquashFS holds at most 65,535 different owners and groups"));
        }
        let number = self.ids.len() as u16;
        self.ids.push(id);
        self.id_numbers.insert(id, number);
        Ok(number)
    }

    /// The inode that a directory gives this name.
    fn child(&self, parent: usize, name: &[u8]) -> Option<usize> {
        match &self.inodes.get(parent)?.kind {
            InodeKind::Directory(names) => names.0.get(name).map(|number| *number as usize),
            _ => None,
        }
    }

    /// The inode at a path.
    fn find(&self, path: &[u8]) -> Option<usize> {
        path.split(|byte| *byte == b'/').try_fold(TOP, |at, name| self.child(at, name))
    }

    /// The directory that holds `path`, made if need be, and the last name. Both are the top's and
    /// empty for the empty path.
    fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(usize, &'p [u8])> {
        let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let last = names.pop().unwrap_or_default();
        let mut at = TOP;
        for name in names {
            at = match self.child(at, name) {
                Some(next) => next,
                None => {
                    let next = self.add_missing_directory();
                    self.name(at, name, next)?;
                    next
                }
            };
            if !matches!(self.inodes.get(at), Some(Inode { kind: InodeKind::Directory(_), .. })) {
                return Err(Error::invalid("a member lies below one that is no directory").in_entry(path));
            }
        }
        Ok((at, last))
    }

    /// Gives an inode a name in a directory; an earlier inode of that name loses it.
    fn name(&mut self, parent: usize, name: &[u8], number: usize) -> Result<()> {
        let is_directory = matches!(self.inodes.get(number), Some(Inode { kind: InodeKind::Directory(_), .. }));
        let Some(Inode { kind: InodeKind::Directory(names), links, .. }) = self.inodes.get_mut(parent) else {
            return Err(Error::invalid("a member lies below one that is no directory"));
        };
        *links += u32::from(is_directory);
        let number = u32::try_from(number).map_err(|_| Error::unsupported("SquashFS holds fewer than 2^32 inodes"))?;
        if let Some(old) = names.0.insert(name.into(), number)
            && let Some(old) = self.inodes.get_mut(old as usize)
        {
            old.links -= 1;
        }
        Ok(())
    }

    /// A directory that nobody has described: root's, for all to see, at the time 0.
    fn add_missing_directory(&mut self) -> usize {
        let number = self.inodes.len();
        // Root's id is the first, as the top directory is added before anything else.
        if self.ids.is_empty() {
            self.ids.push(0);
            self.id_numbers.insert(0, 0);
        }
        let kind = InodeKind::Directory(Box::default());
        self.inodes.push(Inode { kind, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: NONE, links: 0 });
        number
    }
}

/// The nearest whole second from 1970 to 2106, which is what the format has.
fn clamp(time: Timestamp) -> u32 {
    u32::try_from(time.seconds).unwrap_or(if time.seconds < 0 { 0 } else { u32::MAX })
}
