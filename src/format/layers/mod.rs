//! Layers to one root file system: tars that are applied one upon the other, lowest first, with whiteouts between.
//!
//! No tree is made on disk. Reading takes two steps:
//!
//! 1. [`LayerTree::read`] applies the names of all layers to a tree in memory, in which links are resolved inside of
//!    the root. The digest of each layer is checked, as stored and as decoded.
//! 2. [`LayerTree::visit`] shows a [`MemberVisitor`] what is left: directories first, then each file once, from the
//!    one layer that has its content. A layer of which nothing is left is not read again. One whose decoding is slow was
//!    kept decoded in an unnamed file (`decoded`). Digests are checked again, so that what is written is what was judged.
//!
//! The result is the one of umoci with `--keep-dirlinks`, which Incus uses: a directory member where a lower layer has a
//! symbolic link to a directory keeps the link, and what follows is written through it.

mod decoded;
mod resolve;
mod tree;
mod write;

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest as _, Sha256, Sha512};

use self::decoded::{DecodedLayer, DecodedLayers, DecodedWriter};
use self::tree::{Applied, InodeId, NodeId, NodeKind, Tree};
pub(crate) use self::write::{LayerImage, LayerWriteOptions};
use super::chunk::{Chunk, Chunks, ReceivedChunks};
use super::codec::Codec;
use super::entry::{Entry, EntryKind, Timestamp};
use super::pipeline::ReadPass;
use super::tar::TarReader;
use super::visitor::{MemberContent, MemberVisitor, TarContent};
use crate::error::{Error, Result};
use crate::io::Blob;
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// A layer that can be read from its beginning, more than once.
pub(crate) trait Layer: Sync {
    /// How it is compressed.
    fn codec(&self) -> Codec;
    /// Its size as stored, in bytes.
    fn size(&self) -> u64;
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
    /// For each layer its decoded bytes, where they were kept.
    decoded: Vec<Option<(DecodedLayer, Blob)>>,
    /// The time of directories that no layer has a member for.
    time: Timestamp,
    kept: KeptFiles,
}

/// Contents of a few small files that the first pass keeps, so that no layer is decoded once more for them.
struct KeptFiles {
    /// Paths as layers spell them. A file that is reached in another way is read from its layer again.
    paths: &'static [&'static [u8]],
    /// For each path what the uppermost layer has there.
    found: BTreeMap<&'static [u8], (InodeId, Vec<u8>)>,
}

impl KeptFiles {
    /// Keeps the content of the member that became the newest inode, if it is one of the files and small enough.
    fn keep<C: Chunks>(&mut self, entry: &Entry, inode: InodeId, reader: &mut TarReader<C>, limit: u64) -> Result<()> {
        let path = self.paths.iter().find(|path| **path == entry.path);
        if let (Some(path), EntryKind::File { size }) = (path, &entry.kind)
            && *size <= limit
        {
            self.found.insert(path, (inode, TarContent::new(reader).whole(entry, limit, "metadata")?));
        }
        Ok(())
    }
}

impl LayerTree {
    /// Reads and checks all layers, the lowest first, and keeps the contents of the files `keep` for
    /// [`small_file`](Self::small_file).
    ///
    /// # Errors
    /// `Mismatch` where a layer has another digest; `UnsafePath`, `Malformed` and `LimitExceeded` for what layers may not
    /// hold; those of the layers. Each names the layer.
    pub(crate) fn read(
        layers: &[&dyn Layer],
        time: Timestamp,
        keep: &'static [&'static [u8]],
        pass: &ReadPass<'_>,
        done: &mut u64,
    ) -> Result<Self> {
        let mut tree = Tree::new(pass.limits);
        let mut kept = KeptFiles { paths: keep, found: BTreeMap::new() };
        let mut file = DecodedLayers::new(layers, pass.limits.spool);
        let mut decoded = Vec::new();
        for layer in layers {
            tree.begin_layer();
            let mut keep = file.begin(*layer);
            read_layer(*layer, None, keep.as_mut(), pass, done, |chunks| {
                scan(*layer, chunks, &mut tree, &mut kept, pass)
            })
            .map_err(|error| error.context(layer.name()))?;
            let keep = keep.and_then(DecodedWriter::finish);
            keep.into_iter().for_each(|layer| file.add(layer));
            decoded.push(keep);
        }
        let directories = tree.finish();
        let mut members = vec![Vec::new(); layers.len()];
        for (id, inode) in tree.inodes.iter().enumerate().filter(|(_, inode)| !inode.names.is_empty()) {
            members[inode.layer].push((inode.member, id));
        }
        for (decoded, members) in decoded.iter_mut().zip(&members) {
            // What nobody reads need not take space.
            decoded.take_if(|_| members.is_empty()).into_iter().for_each(|layer| file.forget(layer));
        }
        let blob = file.blob();
        let decoded = decoded.into_iter().map(|layer| layer.zip(blob.clone())).collect();
        Ok(Self { tree, directories, members, decoded, time, kept })
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
        for ((layer, members), decoded) in layers.iter().zip(&self.members).zip(&self.decoded) {
            if members.is_empty() {
                continue;
            }
            let show = |chunks: DigestChunks<'_>| self.show(chunks, members, pass, visitor);
            let shown = read_layer(*layer, decoded.as_ref(), None, pass, done, show);
            shown.map_err(|error| error.context(layer.name()))?;
        }
        Ok(())
    }

    /// Bytes that [`visit`](Self::visit) reads, of layers with these sizes.
    pub(crate) fn bytes_to_visit(&self, sizes: impl Iterator<Item = u64>) -> u64 {
        let read = sizes.zip(&self.members).zip(&self.decoded).filter(|((_, members), _)| !members.is_empty());
        let size = |((size, _), decoded): ((u64, _), &Option<(DecodedLayer, Blob)>)| {
            decoded.as_ref().map_or(size, |(decoded, _)| decoded.length)
        };
        read.map(size).fold(0, u64::saturating_add)
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
        if let Some((_, content)) = self.kept.found.values().find(|(kept, _)| *kept == inode) {
            return Ok(Some(content.clone()));
        }
        let inode = &self.tree.inodes[inode];
        let Some(layer) = layers.get(inode.layer) else { return Ok(None) };
        let mut content = None;
        read_layer(*layer, None, None, pass, &mut 0, |chunks| {
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
fn scan(
    layer: &dyn Layer,
    chunks: DigestChunks<'_>,
    tree: &mut Tree,
    kept: &mut KeptFiles,
    pass: &ReadPass<'_>,
) -> Result<()> {
    let mut reader = TarReader::of_layer(chunks, pass.limits);
    let mut number = 0;
    while let Some(member) = reader.next()? {
        pass.monitor.check()?;
        let before = tree.inodes.len();
        let applied = tree.apply(&member.entry, number).map_err(|error| error.in_entry(&member.entry.path))?;
        if tree.inodes.len() > before {
            let keeping = kept.keep(&member.entry, before, &mut reader, pass.limits.metadata);
            keeping.map_err(|error| error.in_entry(&member.entry.path))?;
        }
        if applied == Applied::Ignored {
            let reason = format!("it belongs to the storage driver AUFS of the program that made {}", layer.name());
            pass.monitor.omit(member.entry.path, Omitted::Skipped { reason: reason.into() });
        }
        number += 1;
    }
    reader.finish()
}

/// Reads a layer to its end and compares its digests. What is decoded goes to `keep` as well.
///
/// With `decoded` it is read as it was decoded before. Its digest is compared all the same: a file that was never synced
/// may read back other bytes after a write error that the kernel did not report.
fn read_layer<T>(
    layer: &dyn Layer,
    decoded: Option<&(DecodedLayer, Blob)>,
    keep: Option<&mut DecodedWriter>,
    pass: &ReadPass<'_>,
    done: &mut u64,
    consume: impl FnOnce(DigestChunks<'_>) -> Result<T>,
) -> Result<T> {
    let (algorithm, expected) = layer.decoded_digest();
    let mut digest = if algorithm == "sha512" { Digest::Sha512(Sha512::new()) } else { Digest::Sha256(Sha256::new()) };
    let (input, codec): (Box<dyn Read + Send>, Codec) = match decoded {
        Some((decoded, blob)) => (Box::new(blob.reader_from(decoded.offset, decoded.length)), Codec::None),
        None => (layer.open(pass.monitor)?, layer.codec()),
    };
    let taken = pass.run_observed(
        input,
        codec,
        done,
        |_| (),
        |chunks| consume(DigestChunks { chunks, digest: &mut digest, keep }),
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

/// Decoded bytes that are hashed and kept as they pass.
struct DigestChunks<'a> {
    chunks: &'a mut ReceivedChunks,
    digest: &'a mut Digest,
    keep: Option<&'a mut DecodedWriter>,
}

impl Chunks for DigestChunks<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let next = self.chunks.next_chunk()?;
        if let Some(chunk) = &next {
            match &mut self.digest {
                Digest::Sha256(digest) => digest.update(&**chunk),
                Digest::Sha512(digest) => digest.update(&**chunk),
            }
            if let Some(keep) = &mut self.keep {
                keep.append(chunk);
            }
        }
        Ok(next)
    }
}
