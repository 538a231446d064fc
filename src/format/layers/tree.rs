//! The tree that layers make when they are applied one upon the other, lowest first.
//!
//! Only names, kinds, targets of links and attributes of directories are kept: contents stay in the layers, and each
//! file knows the layer and the member that it comes from. A path is resolved inside of this tree alone, so that no
//! link leads out of it.

use std::collections::BTreeMap;

use super::resolve::Resolver;
use crate::error::{Error, Escaped, Result};
use crate::format::entry::{Entry, EntryKind, Timestamp, Xattr};
use crate::format::path::split_last;
use crate::limits::Limits;

/// The number of a node.
pub(super) type NodeId = usize;
/// The number of an inode.
pub(super) type InodeId = usize;

/// The top of the tree.
pub(super) const ROOT: NodeId = 0;

/// Attributes of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: Vec<Xattr>,
}

impl Attributes {
    fn of(entry: &Entry) -> Self {
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Self { mode, uid, gid, mtime, xattrs: entry.xattrs.clone() }
    }

    /// An entry with these attributes.
    pub(super) fn apply_to(&self, entry: &mut Entry) {
        (entry.mode, entry.uid, entry.gid, entry.mtime) = (self.mode, self.uid, self.gid, self.mtime);
        entry.xattrs.clone_from(&self.xattrs);
    }
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum NodeKind {
    /// A directory. Without attributes where no layer has a member for it.
    Directory { attributes: Option<Box<Attributes>>, children: BTreeMap<Box<[u8]>, NodeId> },
    /// Anything else, which may have several names.
    Other(InodeId),
}

/// A name in the tree.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: NodeId,
    pub(super) name: Box<[u8]>,
    pub(super) kind: NodeKind,
    /// The last layer that had a member here or below, counted from 1.
    touched: usize,
    /// The last layer for which nothing from lower layers is left below, counted from 1.
    cleared: usize,
}

/// A file, link or special file, and the member that it is.
#[derive(Debug)]
pub(super) struct Inode {
    /// The layer that has the member, counted from 0.
    pub(super) layer: usize,
    /// The number of the member in its layer.
    pub(super) member: u64,
    /// Where it points, if it is a symbolic link.
    pub(super) target: Option<Box<[u8]>>,
    /// Attributes that a directory of a later layer gave to a link that was kept.
    pub(super) replaced: Option<Box<Attributes>>,
    /// Its names, sorted by path: known once all layers were applied.
    pub(super) names: Vec<NodeId>,
}

/// Layers applied so far.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) inodes: Vec<Inode>,
    /// The current layer, counted from 1.
    layer: usize,
    /// Nodes that may still be made.
    nodes_left: u64,
    /// Bytes that the tree may still take.
    memory_left: u64,
    /// Components that may still be looked up because a symbolic link is in a path.
    pub(super) link_steps_left: u64,
    limits: Limits,
}

/// Bytes of memory that a node or an inode takes beside its name and its target, roughly.
const NODE_BYTES: u64 = 192;
/// Whiteouts and other names that are reserved begin so.
const WHITEOUT: &[u8] = b".wh.";
/// Names of AUFS' own; of these only the opaque whiteout means anything.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a member of a layer did to the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is in the tree, or took something out of it.
    Taken,
    /// It is a file of the storage driver AUFS, and no part of the tree.
    Ignored,
}

impl Tree {
    pub(super) fn new(limits: &Limits) -> Self {
        let kind = NodeKind::Directory { attributes: None, children: BTreeMap::new() };
        Self {
            nodes: vec![Node { parent: ROOT, name: Box::default(), kind, touched: 0, cleared: 0 }],
            inodes: Vec::new(),
            layer: 0,
            nodes_left: limits.entries,
            memory_left: limits.oci_tree,
            link_steps_left: limits.entries.saturating_mul(8),
            limits: limits.clone(),
        }
    }

    /// Begins the next layer.
    pub(super) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    /// Applies the member number `member` of the current layer.
    ///
    /// # Errors
    /// `UnsafePath` for what would change the root itself; `Malformed` for hard links to nothing or to directories, for
    /// loops of links and reserved names; `LimitExceeded`.
    pub(super) fn apply(&mut self, entry: &Entry, member: u64) -> Result<Applied> {
        if entry.path.is_empty() {
            if !entry.is_directory() {
                return Err(Error::unsafe_path("a layer replaces the root directory by something else"));
            }
            return self.set_attributes(ROOT, entry).map(|()| Applied::Taken);
        }
        let (directory, name) = split_last(&entry.path);
        for component in directory.split(|&byte| byte == b'/') {
            if component.starts_with(AUFS) {
                return Ok(Applied::Ignored);
            }
            if component.starts_with(WHITEOUT) {
                return Err(Error::malformed("a member lies below a whiteout, which is no directory"));
            }
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(directory, name, hidden);
        }
        let parent = self.make_directories(directory)?;
        let existing = self.child(parent, name);
        if entry.is_directory() {
            match existing {
                Some(node) if self.is_directory(node) => {
                    self.set_attributes(node, entry)?;
                    self.touch(node);
                    return Ok(Applied::Taken);
                }
                // A link to a directory stays: layers that were made on another base write through it.
                Some(node) if self.leads_to_directory(parent, node)? => {
                    self.charge(attribute_bytes(entry))?;
                    if let NodeKind::Other(inode) = self.nodes[node].kind {
                        self.inodes[inode].replaced = Some(Box::new(Attributes::of(entry)));
                    }
                    self.touch(node);
                    return Ok(Applied::Taken);
                }
                _ => {}
            }
        }
        if let Some(node) = existing {
            self.remove(node);
        }
        let kind = match &entry.kind {
            EntryKind::Directory => NodeKind::Directory { attributes: None, children: BTreeMap::new() },
            EntryKind::HardLink { target } => NodeKind::Other(self.linked(target)?),
            kind => {
                let target = match kind {
                    EntryKind::Symlink { target } => Some(target.clone().into_boxed_slice()),
                    _ => None,
                };
                self.charge(NODE_BYTES + target.as_ref().map_or(0, |target| target.len() as u64))?;
                let layer = self.layer.saturating_sub(1);
                self.inodes.push(Inode { layer, member, target, replaced: None, names: Vec::new() });
                NodeKind::Other(self.inodes.len() - 1)
            }
        };
        let node = self.insert(parent, name, kind)?;
        if entry.is_directory() {
            self.set_attributes(node, entry)?;
        }
        self.touch(node);
        Ok(Applied::Taken)
    }

    /// Takes out what lower layers have under a name, or below a directory.
    fn whiteout(&mut self, directory: &[u8], name: &[u8], hidden: &[u8]) -> Result<Applied> {
        if name != OPAQUE && name.starts_with(AUFS) {
            return Ok(Applied::Ignored);
        }
        match hidden {
            b"" => return Err(Error::malformed("a whiteout has no name")),
            b"." | b".." => {
                return Err(Error::unsafe_path("a whiteout names a directory above it or itself, and no member of it"));
            }
            _ => {}
        }
        let Some(parent) = Resolver::new(self).existing_directory(directory)? else { return Ok(Applied::Taken) };
        if name == OPAQUE {
            self.clear_below(parent);
        } else if let Some(node) = self.child(parent, hidden) {
            if self.nodes[node].touched == self.layer {
                self.clear_below(node);
            } else {
                self.remove(node);
            }
        }
        Ok(Applied::Taken)
    }

    /// Takes everything out below a node that the current layer did not make or enter.
    fn clear_below(&mut self, top: NodeId) {
        let mut rest = vec![top];
        while let Some(node) = rest.pop() {
            // Once cleared, a directory gets members of the current layer only: each is walked once for a layer,
            // however often the layer asks for it.
            if self.nodes[node].cleared == self.layer {
                continue;
            }
            self.nodes[node].cleared = self.layer;
            let NodeKind::Directory { children, .. } = &self.nodes[node].kind else { continue };
            let (kept, gone): (Vec<NodeId>, Vec<NodeId>) =
                children.values().partition(|child| self.nodes[**child].touched == self.layer);
            rest.extend(kept);
            for node in gone {
                self.remove(node);
            }
        }
    }

    /// The inode of an earlier member, for a further name.
    fn linked(&mut self, target: &[u8]) -> Result<InodeId> {
        let missing = || {
            let shown = Escaped(target).to_string();
            Error::malformed(format!("a hard link to `{shown}`, which is in no layer below and not yet in this one"))
        };
        let (directory, name) = split_last(target);
        let parent = Resolver::new(self).existing_directory(directory)?.ok_or_else(missing)?;
        let node = self.child(parent, name).filter(|_| !name.is_empty()).ok_or_else(missing)?;
        match self.nodes[node].kind {
            NodeKind::Other(inode) => Ok(inode),
            NodeKind::Directory { .. } => Err(Error::malformed("a hard link to a directory")),
        }
    }

    /// Whether a node is a symbolic link to a directory that is there.
    fn leads_to_directory(&mut self, parent: NodeId, node: NodeId) -> Result<bool> {
        let NodeKind::Other(inode) = self.nodes[node].kind else { return Ok(false) };
        let Some(target) = self.inodes[inode].target.clone() else { return Ok(false) };
        match Resolver::new(self).existing_directory_from(parent, &target) {
            Ok(found) => Ok(found.is_some()),
            // A link that leads in a circle leads to no directory, and is replaced.
            Err(error) if error.kind() == crate::ErrorKind::Malformed => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The directory of this path, made as far as it is not there.
    fn make_directories(&mut self, path: &[u8]) -> Result<NodeId> {
        let (mut node, missing) = Resolver::new(self).directory(path)?;
        for name in missing {
            if let Some(child) = self.child(node, &name) {
                // A file of a lower layer gives way to a directory, as it would on an overlay file system.
                if self.nodes[child].touched == self.layer {
                    return Err(Error::malformed("a member lies below something that is no directory"));
                }
                self.remove(child);
            }
            let kind = NodeKind::Directory { attributes: None, children: BTreeMap::new() };
            node = self.insert(node, &name, kind)?;
        }
        Ok(node)
    }

    /// Adds a name to a directory.
    fn insert(&mut self, parent: NodeId, name: &[u8], kind: NodeKind) -> Result<NodeId> {
        let Some(left) = self.nodes_left.checked_sub(1) else {
            return Err(Error::limit("entries", self.limits.entries, "the number of members of all layers"));
        };
        self.nodes_left = left;
        self.charge(NODE_BYTES + 2 * name.len() as u64)?;
        let id = self.nodes.len();
        self.nodes.push(Node { parent, name: name.into(), kind, touched: 0, cleared: 0 });
        if let NodeKind::Directory { children, .. } = &mut self.nodes[parent].kind {
            children.insert(name.into(), id);
        }
        Ok(id)
    }

    /// Takes a name and everything below it out of the tree.
    fn remove(&mut self, top: NodeId) {
        let (parent, name) = (self.nodes[top].parent, self.nodes[top].name.clone());
        if let NodeKind::Directory { children, .. } = &mut self.nodes[parent].kind {
            children.remove(&name);
        }
        let mut rest = vec![top];
        while let Some(node) = rest.pop() {
            if let NodeKind::Directory { children, .. } = &mut self.nodes[node].kind {
                rest.extend(std::mem::take(children).into_values());
            }
        }
    }

    /// Notes that the current layer has a member here.
    fn touch(&mut self, mut node: NodeId) {
        while self.nodes[node].touched != self.layer {
            self.nodes[node].touched = self.layer;
            node = self.nodes[node].parent;
        }
    }

    fn set_attributes(&mut self, node: NodeId, entry: &Entry) -> Result<()> {
        self.charge(attribute_bytes(entry))?;
        if let NodeKind::Directory { attributes, .. } = &mut self.nodes[node].kind {
            *attributes = Some(Box::new(Attributes::of(entry)));
        }
        Ok(())
    }

    /// Takes memory off what the tree may use. What was replaced is not given back: a layer can ask for no more than
    /// this, however often it replaces.
    fn charge(&mut self, bytes: u64) -> Result<()> {
        match self.memory_left.checked_sub(bytes) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => Err(Error::limit("oci_tree", self.limits.oci_tree, "the memory for the names of all layers")),
        }
    }

    /// A member of a directory, by its name.
    pub(super) fn child(&self, node: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.nodes[node].kind {
            NodeKind::Directory { children, .. } => children.get(name).copied(),
            NodeKind::Other(_) => None,
        }
    }

    pub(super) fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.nodes[node].kind, NodeKind::Directory { .. })
    }

    /// The path of a node below the root.
    pub(super) fn path(&self, mut node: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        while node != ROOT {
            names.push(&*self.nodes[node].name);
            node = self.nodes[node].parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Ends the tree: gives each inode its names, and returns all directories, each before what it holds.
    pub(super) fn finish(&mut self) -> Vec<NodeId> {
        let mut directories = Vec::new();
        let mut rest = vec![ROOT];
        while let Some(node) = rest.pop() {
            match &self.nodes[node].kind {
                NodeKind::Directory { children, .. } => {
                    directories.push(node);
                    rest.extend(children.values().rev());
                }
                NodeKind::Other(inode) => self.inodes[*inode].names.push(node),
            }
        }
        directories
    }

    /// The inode that a path leads to, links followed inside of the root.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<InodeId>> {
        let mut resolver = Resolver::new(self);
        let Some(node) = resolver.existing(ROOT, path)? else { return Ok(None) };
        Ok(match self.nodes[node].kind {
            NodeKind::Other(inode) => Some(inode),
            NodeKind::Directory { .. } => None,
        })
    }
}

/// Bytes of memory that the attributes of a directory take, roughly.
fn attribute_bytes(entry: &Entry) -> u64 {
    64 + entry.xattrs.iter().map(|(name, value)| (name.len() + value.len() + 48) as u64).sum::<u64>()
}
