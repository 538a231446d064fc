//! Layers to one root file system: tars that are applied one upon the other, lowest first, with whiteouts between.
//!
//! Nothing is written twice, and no tree is made on disk. Reading takes two steps:
//!
//! 1. [`LayerTree::read`] applies the names of all layers to a tree in memory, in which links are resolved inside of
//!    the root. The digest of each layer is checked, as stored and as decoded.
//! 2. [`LayerTree::visit`] shows a [`MemberVisitor`] what is left: directories first, then each file once, from the
//!    one layer that has its content. A layer of which nothing is left is not read again. Digests are checked again,
//!    so that what is written is what was judged.
//!
//! The result is the one of umoci with `--keep-dirlinks`, which Incus uses: a directory member where a lower layer has a
//! symbolic link to a directory keeps the link, and what follows is written through it.

mod resolve;
mod tree;
mod write;

use std::io::Read;

use sha2::{Digest as _, Sha256, Sha512};

use self::tree::{Applied, InodeId, NodeId, NodeKind, Tree};
pub(crate) use self::write::{LayerImage, LayerWriteOptions};
use super::chunk::{Chunk, Chunks, ReceivedChunks};
use super::codec::Codec;
use super::entry::{Entry, EntryKind, Timestamp};
use super::pipeline::ReadPass;
use super::tar::TarReader;
use super::visitor::{MemberContent, MemberVisitor, TarContent};
use crate::error::{Error, Result};
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// A layer that can be read from its beginning, more than once.
pub(crate) trait Layer: Sync {
    /// How it is compressed.
    fn codec(&self) -> Codec;
    /// What it is called in errors.
    fn name(&self) -> String;
    /// A reader that fails at its end unless the bytes are those of the layer.
    fn open(&self, monitor: &Monitor) -> Result<Box<dyn Read + Send>>;
    /// The digest that the decoded bytes must have: the name of the algorithm and the digits.
    fn decoded_digest(&self) -> (&'static str, String);
}

/// The tree that layers make.
pub(crate) struct LayerTree {
    tree: Tree,
    /// Directories, each before what it holds.
    directories: Vec<NodeId>,
    /// For each layer the members that are left, in their order, and what they are in the tree.
    members: Vec<Vec<(u64, InodeId)>>,
    /// The time of directories that no layer has a member for.
    time: Timestamp,
}

impl LayerTree {
    /// Reads and checks all layers, the lowest first.
    ///
    /// # Errors
    /// `Mismatch` where a layer has another digest; `UnsafePath`, `Malformed` and `LimitExceeded` for what layers may not
    /// hold; those of the layers. Each names the layer.
    pub(crate) fn read(layers: &[&dyn Layer], time: Timestamp, pass: &ReadPass<'_>, done: &mut u64) -> Result<Self> {
        let mut tree = Tree::new(pass.limits);
        for layer in layers {
            tree.begin_layer();
            read_layer(*layer, pass, done, |chunks| scan(*layer, chunks, &mut tree, pass))
                .map_err(|error| error.context(layer.name()))?;
        }
        let directories = tree.finish();
        let mut members = vec![Vec::new(); layers.len()];
        for (id, inode) in tree.inodes.iter().enumerate().filter(|(_, inode)| !inode.names.is_empty()) {
            members[inode.layer].push((inode.member, id));
        }
        Ok(Self { tree, directories, members, time })
    }

    /// Shows what is left of all layers.
    ///
    /// # Errors
    /// Those of the layers and of the visitor.
    pub(crate) fn visit(
        &self,
        layers: &[&dyn Layer],
        pass: &ReadPass<'_>,
        done: &mut u64,
        visitor: &mut impl MemberVisitor,
    ) -> Result<()> {
        for &node in &self.directories {
            pass.monitor.check()?;
            let mut entry = Entry::new(self.tree.path(node), EntryKind::Directory, 0o755);
            entry.mtime = self.time;
            if let NodeKind::Directory { attributes: Some(attributes), .. } = &self.tree.nodes[node].kind {
                attributes.apply_to(&mut entry);
            }
            visitor.rootfs(&entry, None).map_err(|error| error.in_entry(&entry.path))?;
        }
        for (layer, members) in layers.iter().zip(&self.members) {
            if members.is_empty() {
                continue;
            }
            read_layer(*layer, pass, done, |chunks| self.show(chunks, members, pass, visitor))
                .map_err(|error| error.context(layer.name()))?;
        }
        Ok(())
    }

    /// Bytes of the layers that [`visit`](Self::visit) reads again.
    pub(crate) fn bytes_to_visit(&self, sizes: impl Iterator<Item = u64>) -> u64 {
        let read = sizes.zip(&self.members).filter(|(_, members)| !members.is_empty());
        read.map(|(size, _)| size).fold(0, u64::saturating_add)
    }

    /// The content of a small file, links followed inside of the root; `None` where there is none.
    ///
    /// # Errors
    /// `LimitExceeded` for a file of more than the limit `metadata`; those of the layer.
    pub(crate) fn small_file(
        &mut self,
        path: &[u8],
        layers: &[&dyn Layer],
        pass: &ReadPass<'_>,
    ) -> Result<Option<Vec<u8>>> {
        let Some(inode) = self.tree.find(path)? else { return Ok(None) };
        let inode = &self.tree.inodes[inode];
        let Some(layer) = layers.get(inode.layer) else { return Ok(None) };
        let mut content = None;
        read_layer(*layer, pass, &mut 0, |chunks| {
            let mut tar = TarReader::of_layer(chunks, pass.limits);
            let mut number = 0;
            while let Some(member) = tar.next()? {
                if number == inode.member && matches!(member.entry.kind, EntryKind::File { .. }) {
                    let limit = pass.limits.metadata;
                    let whole = TarContent::new(&mut tar).whole(&member.entry, limit, "metadata");
                    content = Some(whole.map_err(|error| error.in_entry(path))?);
                }
                number += 1;
            }
            tar.finish()
        })
        .map_err(|error| error.context(layer.name()))?;
        Ok(content)
    }

    /// Whether there is a file of this path, links followed inside of the root.
    pub(crate) fn has_file(&mut self, path: &[u8]) -> bool {
        self.tree.find(path).is_ok_and(|found| found.is_some())
    }

    /// Shows the members of one layer that are left.
    fn show(
        &self,
        chunks: DigestChunks<'_>,
        members: &[(u64, InodeId)],
        pass: &ReadPass<'_>,
        visitor: &mut impl MemberVisitor,
    ) -> Result<()> {
        let mut tar = TarReader::of_layer(chunks, pass.limits);
        let mut members = members.iter().peekable();
        let mut number = 0;
        while let Some(member) = tar.next()? {
            pass.monitor.check()?;
            let inode = members.next_if(|(next, _)| *next == number).map(|(_, inode)| &self.tree.inodes[*inode]);
            number += 1;
            let Some((inode, (first, others))) = inode.and_then(|inode| Some((inode, inode.names.split_first()?)))
            else {
                continue;
            };
            let mut entry = member.entry;
            entry.path = self.tree.path(*first);
            if let Some(replaced) = &inode.replaced {
                let mode = entry.mode;
                replaced.apply_to(&mut entry);
                entry.mode = mode;
            }
            member.omitted.iter().for_each(|what| visitor.omitted(&entry.path, what));
            let shown = show_file(&entry, member.sparse.as_ref(), &mut tar, visitor);
            shown.map_err(|error| error.in_entry(&entry.path))?;
            for name in others {
                let mut link = entry.clone();
                link.path = self.tree.path(*name);
                link.kind = EntryKind::HardLink { target: entry.path.clone() };
                visitor.rootfs(&link, None).map_err(|error| error.in_entry(&link.path))?;
            }
        }
        tar.finish()
    }
}

/// Shows a member with its content.
fn show_file<C: Chunks>(
    entry: &Entry,
    sparse: Option<&super::tar::SparseMap>,
    tar: &mut TarReader<C>,
    visitor: &mut impl MemberVisitor,
) -> Result<()> {
    visitor.rootfs(entry, sparse)?;
    if matches!(entry.kind, EntryKind::File { .. }) {
        while let Some((offset, piece)) = tar.data()? {
            visitor.data(offset, piece)?;
        }
        visitor.end()?;
    }
    Ok(())
}

/// Applies the members of a layer to the tree.
fn scan(layer: &dyn Layer, chunks: DigestChunks<'_>, tree: &mut Tree, pass: &ReadPass<'_>) -> Result<()> {
    let mut reader = TarReader::of_layer(chunks, pass.limits);
    let mut number = 0;
    while let Some(member) = reader.next()? {
        pass.monitor.check()?;
        let applied = tree.apply(&member.entry, number).map_err(|error| error.in_entry(&member.entry.path))?;
        if applied == Applied::Ignored {
            let reason = format!("it belongs to the storage driver AUFS of whoever made {}", layer.name());
            pass.monitor.omit(member.entry.path, Omitted::Skipped { reason: reason.into() });
        }
        number += 1;
    }
    reader.finish()
}

/// Reads a layer to its end and compares its digests.
fn read_layer<T>(
    layer: &dyn Layer,
    pass: &ReadPass<'_>,
    done: &mut u64,
    consume: impl FnOnce(DigestChunks<'_>) -> Result<T>,
) -> Result<T> {
    let (algorithm, expected) = layer.decoded_digest();
    let mut digest = if algorithm == "sha512" { Digest::Sha512(Sha512::new()) } else { Digest::Sha256(Sha256::new()) };
    let input = layer.open(pass.monitor)?;
    let taken = pass.run_observed(
        input,
        layer.codec(),
        done,
        |_| (),
        |chunks| consume(DigestChunks { chunks, digest: &mut digest }),
    )?;
    let found = digest.finish();
    if found != expected {
        let (expected, found) = (format!("{algorithm}:{expected}"), format!("{algorithm}:{found}"));
        return Err(Error::mismatch("the digest of the decoded layer (its DiffID)", expected, found));
    }
    Ok(taken)
}

/// A hash of the decoded bytes.
enum Digest {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Digest {
    fn finish(self) -> String {
        let bytes = match self {
            Self::Sha256(digest) => digest.finalize().to_vec(),
            Self::Sha512(digest) => digest.finalize().to_vec(),
        };
        crate::fingerprint::hex(&bytes)
    }
}

/// Decoded bytes that are hashed as they pass.
struct DigestChunks<'a> {
    chunks: &'a mut ReceivedChunks,
    digest: &'a mut Digest,
}

impl Chunks for DigestChunks<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let next = self.chunks.next_chunk()?;
        if let Some(chunk) = &next {
            match self.digest {
                Digest::Sha256(digest) => digest.update(&**chunk),
                Digest::Sha512(digest) => digest.update(&**chunk),
            }
        }
        Ok(next)
    }
}
