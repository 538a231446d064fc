//! A SquashFS as a file of an image: the same layout and the same visitors as for a tar.
//!
//! A SquashFS is read at positions and in the order of its tree, not in the order of its bytes. So
//! the file is hashed on a thread of its own while its blocks are decoded on others, and the
//! version of the source (for a file: size, times, inode) is compared before and after, to be sure
//! that both saw the same bytes.
//!
//! Unpacking has a way of its own ([`unpack_squashfs`]): names are made in order on the caller's
//! thread, while blocks of many files are decoded and written on all cores. Everything else uses
//! [`visit_squashfs`], member by member.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::chunk::Chunk;
use super::entry::{Entry, EntryKind};
use super::extract::DirectFile;
use super::image::ImageFile;
use super::layout::{Layout, LayoutSummary, MemberPlace};
use super::pipeline::ReadPass;
use super::qcow2::{HEAD_BYTES, Qcow2};
use super::spool;
use super::squashfs::{ExtractSink, FileBytes, FileData, FileTarget, SquashFsReader, TotalSize, extract};
use super::tar::SparseMap;
use super::unpack::TreeWriter;
use super::visitor::{MemberContent, MemberVisitor, bounded_size, show_member};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::io::{self, Blob, ReadAt};
use crate::limits::Limits;

/// The bytes that a SquashFS is read from.
enum SquashFsSource {
    /// The image's own, which are hashed while they are read.
    Own(Blob),
    /// A copy of a stream in a file without a name, hashed while it was made.
    Copy(Blob),
}

impl SquashFsSource {
    /// The source for a file of an image: itself if it can be read at positions, else a copy in
    /// `directory`.
    ///
    /// # Errors
    /// `Io` where the stream can't be read or the copy can't be written; `Cancelled`.
    fn of(part: &ImageFile, pass: &ReadPass<'_>, hasher: &mut Hasher, directory: &Path) -> Result<Self> {
        match part.input.as_blob() {
            Some(blob) => Ok(Self::Own(blob.clone())),
            None => {
                let mut stream = part.input.reader(pass.monitor.cancel())?;
                let copy = spool::keep(&mut stream, pass, hasher, directory)?;
                Blob::file(copy).map(Self::Copy).map_err(unreadable)
            }
        }
    }

    /// The bytes, wherever they are.
    fn blob(&self) -> &Blob {
        match self {
            Self::Own(blob) | Self::Copy(blob) => blob,
        }
    }
}

/// The error for a source that can't be read.
fn unreadable(error: std::io::Error) -> Error {
    Error::io("the image can't be read", error)
}

/// Hashes an image while `work` reads it, and fails if the source changed meanwhile, as far as its
/// engine can tell. A copy was hashed when it was made.
///
/// # Errors
/// Those of `work` and of reading; `Io` if the source changed meanwhile or a thread can't be
/// started.
fn hashing<T>(
    source: &SquashFsSource,
    pass: &ReadPass<'_>,
    hasher: &mut Hasher,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let SquashFsSource::Own(blob) = source else { return work() };
    // The hash and the decoder read at different positions at different times. Only an unchanged
    // version shows that both saw the same bytes; otherwise a file could be swapped after its good
    // bytes were hashed.
    let before = blob.version().map_err(unreadable)?;
    let done = thread::scope(|scope| {
        let hashed = thread::Builder::new()
            .name("lxd-image-hash".to_owned())
            .spawn_scoped(scope, || hash(blob, pass, hasher))
            .map_err(|error| Error::io("a thread can't be started", error))?;
        let done = work();
        let hashed = hashed.join().map_err(|_| Error::new(ErrorKind::Io, "the hashing thread ended unexpectedly"))?;
        let done = done?;
        hashed.map(|()| done)
    })?;
    if blob.version().map_err(unreadable)? != before {
        return Err(Error::new(ErrorKind::Io, "the file was changed while it was read"));
    }
    Ok(done)
}

/// Hashes all bytes of a source and reports progress.
///
/// # Errors
/// `Io`; `Cancelled`.
fn hash(blob: &Blob, pass: &ReadPass<'_>, hasher: &mut Hasher) -> Result<()> {
    let before = hasher.bytes();
    let mut report = |read: u64| pass.monitor.report(pass.phase, before.saturating_add(read), pass.total);
    io::read_all(blob, "the image can't be read", &mut report, &mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })
}

/// Takes a visitor through a SquashFS, member by member in the order of its tree.
///
/// # Errors
/// As `drive_tar`.
pub(super) fn visit_squashfs(
    part: &ImageFile,
    pass: &ReadPass<'_>,
    hasher: &mut Hasher,
    visitor: &mut impl MemberVisitor,
) -> Result<LayoutSummary> {
    let source = SquashFsSource::of(part, pass, hasher, &std::env::temp_dir())?;
    let reader = SquashFsReader::open(source.blob(), pass.limits)?;
    hashing(&source, pass, hasher, || {
        let mut layout = Layout::new(part.role, pass.limits);
        let mut sizes = TotalSize::default();
        for node in reader.walk() {
            pass.monitor.check()?;
            let node = node?;
            sizes.add(node.data.as_ref(), pass.limits)?;
            let mut entry = node.entry;
            let name = entry.path.clone();
            let place = match layout.place(&mut entry) {
                Ok(place) => place,
                Err(error) => {
                    visitor.broken(error.in_entry(&name))?;
                    continue;
                }
            };
            let data = node.data.as_ref();
            // Only what unpacking writes: what is no part of an image is judged by neither.
            let sparse = match (data, &entry.kind, &place) {
                (Some(data), EntryKind::File { size }, MemberPlace::Rootfs(_) | MemberPlace::Disk) => {
                    let segments = reader.segments(data)?;
                    (segments != [(0, *size)] && *size > 0).then_some(SparseMap { segments, size: *size })
                }
                _ => None,
            };
            let mut content = SquashFsContent { reader: &reader, data, pass };
            show_member(&mut content, &mut layout, entry, sparse.as_ref(), place, pass.limits, visitor)
                .map_err(|error| error.in_entry(&name))?;
        }
        layout.finish()
    })
}

/// The content of one member of a SquashFS, which can be read as often as needed.
struct SquashFsContent<'a, S> {
    /// The image that holds it.
    reader: &'a SquashFsReader<S>,
    /// `None` for a member without content of its own.
    data: Option<&'a FileData>,
    /// Progress and cancellation.
    pass: &'a ReadPass<'a>,
}

impl<S: ReadAt> MemberContent for SquashFsContent<'_, S> {
    fn read(&mut self, take: &mut dyn FnMut(u64, Chunk) -> Result<()>) -> Result<()> {
        let Some(data) = self.data else { return Ok(()) };
        self.reader.read_file(data, &mut |offset, piece| {
            self.pass.monitor.check()?;
            match piece {
                FileBytes::Bytes(bytes) => take(offset, Chunk::from_bytes(bytes.to_vec())),
                FileBytes::Hole(_) => Ok(()),
            }
        })
    }

    fn head(&mut self) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        self.read(&mut |offset, piece| {
            take_head(&mut head, offset, &piece);
            Ok(())
        })?;
        Ok(head)
    }
}

/// Adds bytes at `offset` to the first bytes of a file; bytes beyond [`HEAD_BYTES`] are dropped.
fn take_head(head: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if offset >= HEAD_BYTES as u64 {
        return;
    }
    head.resize(usize::try_from(offset).unwrap_or(0).max(head.len()), 0);
    head.extend_from_slice(bytes);
    head.truncate(HEAD_BYTES);
}

/// The content of one file, read without touching the rest; `None` where the image has none of that
/// name.
///
/// # Errors
/// `InvalidInput` for a stream, `UnsafePath` for what is no regular file, `LimitExceeded` by the
/// limit of this `name`.
pub(super) fn find_in_squashfs(
    part: &ImageFile,
    path: &[u8],
    limit: u64,
    name: &'static str,
    limits: &Limits,
) -> Result<Option<Vec<u8>>> {
    let Some(blob) = part.input.as_blob() else {
        return Err(
            Error::invalid("a SquashFS can't be looked into while it is a stream").with_hint("save it to a file first")
        );
    };
    let reader = SquashFsReader::open(blob, limits)?;
    let node = match reader.find(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        node => node?,
    };
    let Some(data) = node.data else {
        return Err(Error::unsafe_path("this is not a regular file").in_entry(path));
    };
    let EntryKind::File { size } = node.entry.kind else { return Ok(Some(Vec::new())) };
    let mut content = vec![0; bounded_size(size, limit, name)?];
    reader.read_file(&data, &mut |offset, piece| {
        if let FileBytes::Bytes(bytes) = piece
            && let Some(room) = usize::try_from(offset).ok().and_then(|at| content.get_mut(at..at + bytes.len()))
        {
            room.copy_from_slice(bytes);
        }
        Ok(())
    })?;
    Ok(Some(content))
}

/// Unpacks a SquashFS: names in order on this thread, contents on others.
///
/// # Errors
/// Those of reading and of writing. The caller removes what was written.
pub(super) fn unpack_squashfs(
    part: &ImageFile,
    pass: &ReadPass<'_>,
    hasher: &mut Hasher,
    writer: &mut TreeWriter<'_, '_>,
) -> Result<LayoutSummary> {
    let source = SquashFsSource::of(part, pass, hasher, &std::env::temp_dir())?;
    let reader = SquashFsReader::open(source.blob(), pass.limits)?;
    hashing(&source, pass, hasher, || {
        let mut sink = TreeSink {
            layout: Layout::new(part.role, pass.limits),
            limits: pass.limits,
            small: Vec::new(),
            disk: None,
            writer,
        };
        extract(&reader, &mut sink, pass.threads, pass.monitor)?;
        sink.finish()
    })
}

/// The content of a small file, shared with the thread that decodes it.
type SmallContent = Arc<Mutex<Vec<u8>>>;

/// Places members and writes them. Small files (metadata and templates) are kept until all content
/// was decoded, because they are judged as a whole.
struct TreeSink<'w, 'a, 'scope> {
    /// Decides where each member belongs.
    layout: Layout,
    /// Bounds on metadata, templates and the disk's header.
    limits: &'w Limits,
    /// Metadata and templates, until their content is complete.
    small: Vec<(Entry, MemberPlace, SmallContent)>,
    /// The disk's entry and size, for the check of its header.
    disk: Option<(Entry, u64)>,
    /// Writes below the destination.
    writer: &'w mut TreeWriter<'a, 'scope>,
}

impl TreeSink<'_, '_, '_> {
    /// Judges the small files and the disk's header, after all content was written.
    ///
    /// # Errors
    /// Those of metadata, templates and the header, with the name of the member.
    fn finish(mut self) -> Result<LayoutSummary> {
        for (entry, place, content) in std::mem::take(&mut self.small) {
            let content = std::mem::take(&mut *content.lock().unwrap_or_else(PoisonError::into_inner));
            match place {
                MemberPlace::Template(name) => self.writer.template(&entry, &name, &content)?,
                MemberPlace::RuntimeConfig => {
                    self.writer.runtime_config(&entry, &content)?;
                    self.layout.runtime_config(content)?;
                }
                _ => {
                    self.writer.metadata(&entry, &content)?;
                    self.layout.metadata(content)?;
                }
            }
        }
        // Workers write the disk in any order, so its header can be checked only now. Nothing is
        // visible before it is.
        if let Some((entry, size)) = self.disk {
            let file =
                self.writer.dir.open_file(b"rootfs.img").map_err(|error| Error::io("the disk can't be read", error))?;
            let mut head = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, HEAD_BYTES as u64), &mut head)
                .map_err(|error| Error::io("the disk can't be read", error))?;
            Qcow2::parse(&head, size, self.limits).map_err(|error| error.in_entry(&entry.path))?;
        }
        self.layout.finish()
    }
}

impl ExtractSink for TreeSink<'_, '_, '_> {
    type Target = MemberTarget;

    fn entry(&mut self, entry: &Entry) -> Result<Option<MemberTarget>> {
        let mut entry = entry.clone();
        let place = self.layout.place(&mut entry)?;
        let small = |limit, name| {
            let EntryKind::File { size } = entry.kind else { return Ok(Arc::default()) };
            Ok::<_, Error>(Arc::new(Mutex::new(vec![0; bounded_size(size, limit, name)?])))
        };
        let content = match &place {
            MemberPlace::Top | MemberPlace::TemplatesDir => return Ok(None),
            MemberPlace::Stray => return self.writer.stray(&entry).map(|()| None),
            MemberPlace::Rootfs(path) => {
                entry.path.clone_from(path);
                let file = self.writer.extractor.entry(&entry)?;
                return Ok(file.map(|file| MemberTarget::Direct(self.writer.extractor.direct(file))));
            }
            MemberPlace::Disk => {
                let EntryKind::File { size } = entry.kind else { return Ok(None) };
                let file = self.writer.extractor.disk(self.writer.dir, size)?;
                self.disk = Some((entry, size));
                return Ok(Some(MemberTarget::Direct(self.writer.extractor.direct(file))));
            }
            MemberPlace::Metadata | MemberPlace::RuntimeConfig => small(self.limits.metadata, "metadata")?,
            MemberPlace::Template(_) => small(self.limits.template_file, "template_file")?,
        };
        self.small.push((entry, place, Arc::clone(&content)));
        Ok(Some(MemberTarget::Small(content)))
    }
}

/// Where a file's content goes: into the file on disk, or into memory.
enum MemberTarget {
    /// The file below the destination.
    Direct(DirectFile),
    /// Memory, for a file that is judged as a whole.
    Small(SmallContent),
}

impl FileTarget for MemberTarget {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        match self {
            Self::Direct(file) => file.write_at(bytes, offset),
            Self::Small(content) => {
                let mut content = content.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(place) =
                    usize::try_from(offset).ok().and_then(|start| content.get_mut(start..start + bytes.len()))
                {
                    place.copy_from_slice(bytes);
                }
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Direct(file) => file.finish(),
            Self::Small(_) => Ok(()),
        }
    }
}
