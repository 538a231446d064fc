//! The one loop over an archive's members: decides where each belongs and shows it to a visitor, in
//! order.
//!
//! Unpacking, verifying, converting, comparing and listing templates are implementations of
//! [`MemberVisitor`], so all of them see the same members and apply the same rules. The loop exists
//! once per way of reading ([`drive_tar`], [`drive_disk`], and `visit_squashfs` beside the SquashFS
//! reader); what happens with a member by its place exists once, in [`show_member`].

use super::chunk::{Chunk, Chunks};
use super::codec::Codec;
use super::detect::Container;
use super::entry::{Entry, EntryKind};
use super::holes::{self, SegmentFilter};
use super::image::{Image, ImageFile};
use super::layout::{ArchiveRole, Layout, LayoutSummary, MemberPlace};
use super::pipeline::ReadPass;
use super::qcow2::{HEAD_BYTES, Qcow2};
use super::squashfs_image::visit_squashfs;
use super::tar::{SparseMap, TarReader};
use crate::error::{Error, Result};
use crate::fingerprint::Hasher;
use crate::limits::Limits;
use crate::omissions::Omitted;

/// Receives what an image holds.
///
/// The order of calls: members in the order of the archive. For a file of the rootfs and for the
/// disk, [`data`](Self::data) follows piece by piece in ascending order, holes left out, and then
/// [`end`](Self::end). An error of any method ends the pass, except as [`broken`](Self::broken)
/// says.
pub(crate) trait MemberVisitor {
    /// The content of `metadata.yaml`. A second one, which must be the same, is shown as well.
    fn metadata(&mut self, entry: &Entry, content: &[u8]) -> Result<()>;
    /// A file of `templates/`, by its name there.
    fn template(&mut self, entry: &Entry, name: &[u8], content: &[u8]) -> Result<()>;
    /// The content of `config.json`, which images that were made of OCI images have. A second one, which must be the
    /// same, is shown as well. By default nothing is done with it.
    fn runtime_config(&mut self, entry: &Entry, content: &[u8]) -> Result<()> {
        let _ = (entry, content);
        Ok(())
    }
    /// A member of the root file system; its path is relative to the root, and the root's own is
    /// empty. `sparse` says where a file has data, if it has holes.
    fn rootfs(&mut self, entry: &Entry, sparse: Option<&SparseMap>) -> Result<()>;
    /// The disk of a virtual machine, once its header was checked.
    fn disk(&mut self, entry: &Entry, sparse: Option<&SparseMap>, about: &Qcow2) -> Result<()>;
    /// Whether the visitor writes down where the disk has holes. Then holes have to be found by
    /// content instead of by what the file system stores, so that equal disks give equal archives.
    fn records_holes(&self) -> bool {
        false
    }
    /// The next bytes of the current file or disk, and where they belong in it.
    fn data(&mut self, offset: u64, piece: Chunk) -> Result<()>;
    /// All bytes of the current file or disk were shown. A hole may remain at its end.
    fn end(&mut self) -> Result<()>;
    /// A member at the top of the archive that no image has. Images of other tools have some, so it
    /// is no error.
    fn stray(&mut self, entry: &Entry) -> Result<()>;
    /// Something that the archive states about a member of the rootfs and that can't be
    /// represented.
    fn omitted(&mut self, _path: &[u8], _what: &Omitted) {}
    /// A member breaks a rule. Returning `Ok` skips the member and goes on, as verifying does to
    /// find all errors; the default stops with the error.
    fn broken(&mut self, error: Error) -> Result<()> {
        Err(error)
    }
}

/// Takes a visitor through a tar to the end of its stream, and returns what the layout found.
///
/// # Errors
/// `Malformed` for a damaged archive and for an image without the parts it needs; those of the
/// visitor.
pub(crate) fn drive_tar<C: Chunks>(
    chunks: C,
    role: ArchiveRole,
    limits: &Limits,
    visitor: &mut impl MemberVisitor,
) -> Result<LayoutSummary> {
    let mut tar = TarReader::new(chunks, limits);
    let mut layout = Layout::new(role, limits);
    while let Some(member) = tar.next()? {
        let mut entry = member.entry;
        let name = entry.path.clone();
        let place = match layout.place(&mut entry) {
            Ok(place) => {
                if let MemberPlace::Rootfs(path) = &place {
                    member.omitted.iter().for_each(|what| visitor.omitted(path, what));
                }
                place
            }
            Err(error) => {
                visitor.broken(error.in_entry(&name))?;
                continue;
            }
        };
        let mut content = TarContent::new(&mut tar);
        let taken = show_member(&mut content, &mut layout, entry, member.sparse.as_ref(), place, limits, visitor);
        if let Err(error) = taken {
            let error = error.in_entry(&name);
            // What is wrong with the stream itself ends it; a rule that one member breaks may not.
            if matches!(error.kind(), crate::ErrorKind::UnsafePath) {
                visitor.broken(error)?;
            } else {
                return Err(error);
            }
        }
    }
    tar.finish()?;
    layout.finish()
}

/// The content of one member, whichever container holds it.
///
/// [`show_member`] decides what is done with a member by its place; this trait is all that it needs
/// to know about tar and SquashFS. Offsets ascend, and holes are left out.
pub(super) trait MemberContent {
    /// Passes the data, piece by piece, to `take`. The disk's head may have been read before.
    fn read(&mut self, take: &mut dyn FnMut(u64, Chunk) -> Result<()>) -> Result<()>;

    /// The first [`HEAD_BYTES`] of the content, holes as zeros, or all of it where it is shorter.
    /// [`read`](Self::read) returns these bytes again.
    fn head(&mut self) -> Result<Vec<u8>>;

    /// The whole content of a small file.
    ///
    /// # Errors
    /// `LimitExceeded`, by the limit of this `name`, for a file of more than `limit` bytes: before anything is read.
    fn whole(&mut self, entry: &Entry, limit: u64, name: &'static str) -> Result<Vec<u8>> {
        let EntryKind::File { size } = entry.kind else { return Ok(Vec::new()) };
        let mut content = vec![0; bounded_size(size, limit, name)?];
        self.read(&mut |offset, piece| {
            if let Some(room) = usize::try_from(offset).ok().and_then(|at| content.get_mut(at..at + piece.len())) {
                room.copy_from_slice(&piece);
            }
            Ok(())
        })?;
        Ok(content)
    }
}

/// The size of a small file as a length in memory.
///
/// # Errors
/// `LimitExceeded`, by the limit of this `name`, for a file of more than `limit` bytes.
pub(super) fn bounded_size(size: u64, limit: u64, name: &'static str) -> Result<usize> {
    usize::try_from(size)
        .ok()
        .filter(|_| size <= limit)
        .ok_or_else(|| Error::limit(name, limit, format_args!("a file of {size} bytes")))
}

/// The current member's content in a tar, which passes once: pieces that were read for the head are kept.
pub(super) struct TarContent<'a, C> {
    tar: &'a mut TarReader<C>,
    /// Pieces that were read for the head.
    kept: Vec<(u64, Chunk)>,
}

impl<'a, C: Chunks> TarContent<'a, C> {
    /// The content of the member that `tar` returned last.
    pub(super) fn new(tar: &'a mut TarReader<C>) -> Self {
        Self { tar, kept: Vec::new() }
    }
}

impl<C: Chunks> MemberContent for TarContent<'_, C> {
    fn read(&mut self, take: &mut dyn FnMut(u64, Chunk) -> Result<()>) -> Result<()> {
        for (offset, piece) in self.kept.drain(..) {
            take(offset, piece)?;
        }
        while let Some((offset, piece)) = self.tar.data()? {
            take(offset, piece)?;
        }
        Ok(())
    }

    fn head(&mut self) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES {
            let Some((offset, piece)) = self.tar.data()? else { break };
            // A hole before the data means that there are zeros, and no magic number.
            let at = usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_BYTES);
            head.resize(head.len().max(at), 0);
            head.extend_from_slice(&piece);
            self.kept.push((offset, piece));
        }
        head.truncate(HEAD_BYTES);
        Ok(head)
    }
}

/// Shows one member to a visitor, by its place in the image. The one dispatch for tar and SquashFS.
///
/// # Errors
/// Those of the content and of the visitor.
pub(super) fn show_member(
    content: &mut dyn MemberContent,
    layout: &mut Layout,
    mut entry: Entry,
    sparse: Option<&SparseMap>,
    place: MemberPlace,
    limits: &Limits,
    visitor: &mut impl MemberVisitor,
) -> Result<()> {
    match place {
        MemberPlace::Top | MemberPlace::TemplatesDir => Ok(()),
        MemberPlace::Stray => visitor.stray(&entry),
        MemberPlace::Metadata => {
            let bytes = content.whole(&entry, limits.metadata, "metadata")?;
            visitor.metadata(&entry, &bytes)?;
            layout.metadata(bytes)
        }
        MemberPlace::Template(name) => {
            let bytes = content.whole(&entry, limits.template_file, "template_file")?;
            visitor.template(&entry, &name, &bytes)
        }
        MemberPlace::RuntimeConfig => {
            let bytes = content.whole(&entry, limits.metadata, "metadata")?;
            visitor.runtime_config(&entry, &bytes)?;
            layout.runtime_config(bytes)
        }
        MemberPlace::Rootfs(path) => {
            entry.path = path;
            visitor.rootfs(&entry, sparse)?;
            if matches!(entry.kind, EntryKind::File { .. }) {
                content.read(&mut |offset, piece| visitor.data(offset, piece))?;
                visitor.end()?;
            }
            Ok(())
        }
        MemberPlace::Disk => {
            let EntryKind::File { size } = entry.kind else { return Ok(()) };
            let about = Qcow2::parse(&content.head()?, size, limits)?;
            visitor.disk(&entry, sparse, &about)?;
            content.read(&mut |offset, piece| visitor.data(offset, piece))?;
            visitor.end()
        }
    }
}

/// Takes a visitor through a disk that is a file of its own, with the holes that it has there.
///
/// `length` is the file's size; a file that turns out to be shorter or longer changed while it was
/// read.
///
/// # Errors
/// `Unsupported` or `Malformed` for a disk that is refused by its header; those of the visitor.
pub(crate) fn drive_disk<C: Chunks>(
    chunks: &mut C,
    length: u64,
    sparse: Option<&SparseMap>,
    limits: &Limits,
    visitor: &mut impl MemberVisitor,
) -> Result<LayoutSummary> {
    let mut held = Vec::new();
    let mut head = Vec::new();
    while head.len() < HEAD_BYTES {
        let Some(chunk) = chunks.next_chunk()? else { break };
        head.extend_from_slice(&chunk);
        held.push(chunk);
    }
    head.truncate(HEAD_BYTES);
    let about = Qcow2::parse(&head, length, limits)?;
    let entry = Entry::new(*b"rootfs.img", EntryKind::File { size: length }, 0o644);
    visitor.disk(&entry, sparse, &about)?;
    let mut segments = sparse.map(SegmentFilter::new);
    let mut offset = 0_u64;
    let mut held = held.into_iter();
    while let Some(chunk) = held.next().map_or_else(|| chunks.next_chunk(), |chunk| Ok(Some(chunk)))? {
        let next = offset + chunk.len() as u64;
        match &mut segments {
            None => visitor.data(offset, chunk)?,
            Some(segments) => segments.take(offset, &chunk, &mut |offset, piece| visitor.data(offset, piece))?,
        }
        offset = next;
    }
    if offset != length {
        return Err(Error::malformed(format!(
            "the disk has {offset} bytes instead of {length}: it changed while it was read"
        )));
    }
    visitor.end()?;
    Ok(LayoutSummary { metadata: Vec::new(), templates: Vec::new(), disk: true })
}

impl Image {
    /// Takes a visitor through one file of the image, whatever holds it.
    ///
    /// Hashes the file's bytes as stored, whatever the container. A disk has to be seekable, as its
    /// length is needed first.
    ///
    /// # Errors
    /// Those of reading and decoding, and those of the visitor.
    pub(super) fn visit(
        &self,
        part: &ImageFile,
        pass: &ReadPass<'_>,
        hasher: &mut Hasher,
        visitor: &mut impl MemberVisitor,
    ) -> Result<LayoutSummary> {
        match part.container {
            Container::Tar(codec) => pass.run(part.input.reader(pass.monitor.cancel())?, codec, hasher, |chunks| {
                drive_tar(BorrowedChunks(chunks), part.role, &self.limits, visitor)
            }),
            Container::Qcow2 => {
                let length = part.input.len().ok_or_else(|| {
                    Error::invalid("a disk can't be read from a stream").with_hint("save it to a file first")
                })?;
                let sparse = match part.input.as_blob() {
                    Some(blob) if visitor.records_holes() => holes::of_content(blob, length, pass.monitor)?,
                    Some(blob) => holes::of_blob(blob, length)?,
                    None => None,
                };
                pass.run(part.input.reader(pass.monitor.cancel())?, Codec::None, hasher, |chunks| {
                    drive_disk(chunks, length, sparse.as_ref(), &self.limits, visitor)
                })
            }
            Container::SquashFs => visit_squashfs(part, pass, hasher, visitor),
        }
    }
}

/// A stream of chunks by reference, for a consumer that takes its stream by value.
pub(super) struct BorrowedChunks<'a, C>(pub(super) &'a mut C);

impl<C: Chunks> Chunks for BorrowedChunks<'_, C> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        self.0.next_chunk()
    }
}
