//! The one loop over an archive's members: decides where each belongs and shows it to a visitor, in
//! order.
//!
//! Unpacking, verifying, converting, comparing and listing templates are implementations of
//! [`MemberVisitor`], so all of them see the same members and apply the same rules. The loop exists
//! once per way of reading: [`drive_tar`], [`drive_disk`], and `visit_squashfs` beside the SquashFS
//! reader.

use super::chunk::{Chunk, Chunks};
use super::entry::{Entry, EntryKind};
use super::holes::SegmentFilter;
use super::layout::{ArchiveRole, Layout, LayoutSummary, MemberPlace};
use super::qcow2::{HEAD_BYTES, Qcow2};
use super::tar::{SparseMap, TarReader};
use crate::error::{Error, Result};
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
        let taken = take(&mut tar, &mut layout, entry, member.sparse.as_ref(), place, limits, visitor);
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

fn take<C: Chunks>(
    tar: &mut TarReader<C>,
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
            let content = whole(tar, &entry, limits.metadata, "metadata")?;
            visitor.metadata(&entry, &content)?;
            layout.metadata(content)
        }
        MemberPlace::Template(name) => {
            let content = whole(tar, &entry, limits.template_file, "template_file")?;
            visitor.template(&entry, &name, &content)
        }
        MemberPlace::Rootfs(path) => {
            entry.path = path;
            visitor.rootfs(&entry, sparse)?;
            if matches!(entry.kind, EntryKind::File { .. }) {
                while let Some((offset, piece)) = tar.data()? {
                    visitor.data(offset, piece)?;
                }
                visitor.end()?;
            }
            Ok(())
        }
        MemberPlace::Disk => {
            let EntryKind::File { size } = entry.kind else { return Ok(()) };
            let mut head = Vec::new();
            let mut held = Vec::new();
            while head.len() < HEAD_BYTES {
                let Some((offset, piece)) = tar.data()? else { break };
                // A hole before the data means that there are zeros, and no magic number.
                let at = usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_BYTES);
                head.resize(head.len().max(at), 0);
                head.extend_from_slice(&piece);
                held.push((offset, piece));
            }
            head.truncate(HEAD_BYTES);
            let about = Qcow2::parse(&head, size, limits)?;
            visitor.disk(&entry, sparse, &about)?;
            for (offset, piece) in held {
                visitor.data(offset, piece)?;
            }
            while let Some((offset, piece)) = tar.data()? {
                visitor.data(offset, piece)?;
            }
            visitor.end()
        }
    }
}

/// The whole content of a small file, bounded before it is read.
pub(super) fn whole<C: Chunks>(
    tar: &mut TarReader<C>,
    entry: &Entry,
    limit: u64,
    name: &'static str,
) -> Result<Vec<u8>> {
    let EntryKind::File { size } = entry.kind else { return Ok(Vec::new()) };
    if size > limit {
        return Err(Error::limit(name, limit, format_args!("a file of {size} bytes")));
    }
    let mut content = Vec::new();
    while let Some((offset, piece)) = tar.data()? {
        content.resize(usize::try_from(offset).unwrap_or(usize::MAX).min(usize::try_from(size).unwrap_or(0)), 0);
        content.extend_from_slice(&piece);
    }
    content.resize(usize::try_from(size).unwrap_or(0), 0);
    Ok(content)
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
