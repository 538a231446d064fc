//! Looks paths up in the tree of layers, as a process whose root it is would: links are followed, and none leads out.

use super::tree::{NodeId, NodeKind, ROOT, Tree};
use crate::error::{Error, Result};

/// Links in one path, as the kernel counts them.
const MAX_LINKS: u32 = 40;

/// Looks one path up.
pub(super) struct Resolver<'a> {
    tree: &'a mut Tree,
    links: u32,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(tree: &'a mut Tree) -> Self {
        Self { tree, links: 0 }
    }

    /// The directory of a path, as far as it is there, and the names that are missing below it. What stands in the
    /// way without being a directory counts as missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<(NodeId, Vec<Box<[u8]>>)> {
        self.walk(ROOT, path, true)
    }

    /// The directory of a path; `None` unless it is there.
    pub(super) fn existing_directory(&mut self, path: &[u8]) -> Result<Option<NodeId>> {
        self.existing_directory_from(ROOT, path)
    }

    /// As [`existing_directory`](Self::existing_directory), from another directory on.
    pub(super) fn existing_directory_from(&mut self, from: NodeId, path: &[u8]) -> Result<Option<NodeId>> {
        Ok(self.existing(from, path)?.filter(|node| self.tree.is_directory(*node)))
    }

    /// What a path leads to; `None` unless it is there.
    pub(super) fn existing(&mut self, from: NodeId, path: &[u8]) -> Result<Option<NodeId>> {
        let (node, missing) = self.walk(from, path, false)?;
        Ok(missing.is_empty().then_some(node))
    }

    /// Follows a path. With `replace`, a component that is no directory counts as missing; without, the last one may
    /// be anything.
    fn walk(&mut self, from: NodeId, path: &[u8], replace: bool) -> Result<(NodeId, Vec<Box<[u8]>>)> {
        let mut node = from;
        let mut missing: Vec<Box<[u8]>> = Vec::new();
        // The component that comes next is the last one.
        let mut rest: Vec<Box<[u8]>> = Vec::new();
        push(&mut rest, path);
        if path.first() == Some(&b'/') {
            node = ROOT;
        }
        while let Some(name) = rest.pop() {
            if self.links > 0 {
                self.tree.link_steps_left = self.tree.link_steps_left.checked_sub(1).ok_or_else(too_many_steps)?;
            }
            if *name == *b".." {
                // Above the root is the root.
                if missing.pop().is_none() {
                    node = self.tree.nodes[node].parent;
                }
                continue;
            }
            let child = if missing.is_empty() { self.tree.child(node, &name) } else { None };
            let Some(child) = child else {
                missing.push(name);
                continue;
            };
            match self.tree.nodes[child].kind {
                NodeKind::Directory { .. } => node = child,
                NodeKind::Other(inode) => match self.tree.inodes[inode].target.as_deref() {
                    Some(target) => {
                        self.links += 1;
                        if self.links > MAX_LINKS {
                            return Err(Error::malformed(
                                "a path leads through too many symbolic links, or in a circle",
                            ));
                        }
                        if target.first() == Some(&b'/') {
                            node = ROOT;
                        }
                        push(&mut rest, target);
                    }
                    None if replace || !rest.is_empty() => missing.push(name),
                    None => node = child,
                },
            }
        }
        Ok((node, missing))
    }
}

/// Puts the components of a path before those that are left.
fn push(rest: &mut Vec<Box<[u8]>>, path: &[u8]) {
    let components = path.split(|&byte| byte == b'/').rev();
    rest.extend(components.filter(|name| !matches!(*name, b"" | b".")).map(Into::into));
}

/// The error for layers whose paths lead through links again and again.
fn too_many_steps() -> Error {
    Error::malformed("the paths of the layers lead through too many symbolic links")
}
