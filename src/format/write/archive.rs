//! The writer of an image: takes members one by one, and puts each where the image's form wants it.
//!
//! It is a [`MemberVisitor`], so that a tree being packed and an image being converted look the
//! same to it. Members are checked again by [`Namespace`], so that no image is written that the
//! reader would refuse.
//!
//! # Where members go
//!
//! | form | metadata and templates | rootfs |
//! |---|---|---|
//! | unified | the one archive | the same archive, below `rootfs/`, or as `rootfs.img` |
//! | split, tar | the metadata archive | a second archive, names from the root |
//! | split, SquashFS | the metadata archive | a SquashFS as the second file |
//! | split, disk | the metadata archive | the qcow2 file as it is |
//!
//! The second file of a split image is begun by the first member of the rootfs. Files get their
//! names at the very end, the metadata last: a crash leaves either nothing or a complete image.

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::disk::DiskFile;
use super::encode_thread::EncodeThread;
use super::staged_file::StagedFile;
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::cancellable::CancelReader;
use crate::format::chunk::Chunk;
use crate::format::codec::{Codec, Compression};
use crate::format::entry::{Entry, EntryKind, Timestamp};
use crate::format::image::ImageForm;
use crate::format::namespace::Namespace;
use crate::format::omitted_members::OmittedMembers;
use crate::format::qcow2::Qcow2;
use crate::format::squashfs;
use crate::format::tar::{self, SparseMap, TarWriter};
use crate::format::visitor::MemberVisitor;
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::omissions::{Omissions, Omitted};
use crate::progress::Monitor;

/// The result of packing or converting.
#[derive(Debug)]
#[non_exhaustive]
pub struct Written {
    /// The fingerprint of the new image.
    pub fingerprint: Fingerprint,
    /// Its files, in the order in which they make the fingerprint; none when it went to a stream or into a store.
    pub files: Vec<PathBuf>,
    /// The size of all files in bytes.
    pub size: u64,
    /// What was left out or changed: members that no image can hold, attributes, times.
    pub omissions: Omissions,
}

/// What the root file system is written as.
pub(in crate::format) enum RootTarget {
    /// Into the one archive, or an archive of its own.
    Tar,
    /// A SquashFS with this compression.
    SquashFs(squashfs::WriteOptions),
}

/// Writes an image. Call [`finish`](Self::finish) at the end; dropping it removes what was written.
pub(in crate::format) struct ImageWriter {
    /// The archive with metadata; of a unified image the only one.
    meta: TarWriter<EncodeThread>,
    /// The file of that archive; `None` for a stream.
    meta_file: Option<StagedFile>,
    /// Where the rootfs goes.
    root: RootWriter,
    /// The second file of a split image.
    root_file: Option<RootFile>,
    /// Whether the directory `templates` was written.
    templates_made: bool,
    /// Whether there is a rootfs.
    rootfs_made: bool,
    /// Members are judged once more, whoever says they are good.
    names: Namespace,
    /// The content of `metadata.yaml`, for a last check.
    metadata: Option<Vec<u8>>,
    /// Limits of the reader, so that nothing is written that it would refuse.
    limits: Limits,
    /// The file whose content comes now; `None` between members.
    open_member: Option<OpenMember>,
    /// Collects the omissions of this image only.
    monitor: Monitor,
    /// Sockets that a tar can't hold.
    omitted_members: OmittedMembers,
    /// Members whose time has a fraction of a second that a SquashFS can't hold.
    fractions: u64,
}

/// Where members of the rootfs go. A split image's second file is begun with its first member,
/// which decides between a container's tree and a virtual machine's disk.
enum RootWriter {
    /// In the one archive.
    Unified,
    /// In an archive of its own.
    Split(TarWriter<EncodeThread>),
    /// A SquashFS as the second file.
    SquashFs(Box<squashfs::Writer<File>>),
    /// A disk as the second file.
    Disk(DiskFile),
    /// A split image whose second file is not begun: container or virtual machine is not known yet.
    NotBegun(RootTarget, Compression, usize),
    /// It is finished, or failed.
    Done,
}

/// The second file of a split image.
enum RootFile {
    /// It gets a name in the end.
    Staged(StagedFile),
    /// The caller's.
    #[cfg(feature = "store")]
    Given(File),
}

impl RootFile {
    /// Another handle on the file, at its start.
    fn handle(&self) -> Result<File> {
        match self {
            Self::Staged(file) => file.handle(),
            #[cfg(feature = "store")]
            Self::Given(file) => {
                use std::io::{Seek, SeekFrom};
                let mut file =
                    file.try_clone().map_err(|error| Error::io("the output can't be opened again", error))?;
                file.seek(SeekFrom::Start(0)).map_err(|error| Error::io("the output can't be written", error))?;
                Ok(file)
            }
        }
    }

    /// Opens what was written, for reading.
    fn reopen(&self) -> Result<File> {
        match self {
            Self::Staged(file) => file.reopen(),
            // Nothing else uses its position any more.
            #[cfg(feature = "store")]
            Self::Given(_) => self.handle(),
        }
    }

    /// Gives it its name, if it is to have one.
    fn commit(self, monitor: &Monitor) -> Result<Option<PathBuf>> {
        match self {
            Self::Staged(file) => file.commit(monitor).map(Some),
            #[cfg(feature = "store")]
            Self::Given(_) => Ok(None),
        }
    }
}

/// The kind of the file whose bytes are coming.
enum OpenMember {
    /// A member of an archive, which takes its bytes in order.
    Tar,
    /// A file of a SquashFS, which may be suspended between two pieces.
    SquashFs(Box<squashfs::PendingFile>),
    /// The disk of a split image, written at positions.
    Disk,
}

impl ImageWriter {
    /// Writes a unified image to a stream.
    ///
    /// # Errors
    /// `Io` where a thread can't be started.
    pub(in crate::format) fn to_stream(
        out: impl Write + Send + 'static,
        compression: Compression,
        threads: usize,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Self> {
        let sink = EncodeThread::start(out, compression, threads, Hasher::new(), monitor)?;
        Ok(Self::new(sink, None, RootWriter::Unified, None, limits, monitor))
    }

    /// Writes a split image into two open files: metadata and rootfs.
    ///
    /// # Errors
    /// `Io` where a thread can't be started.
    #[cfg(feature = "store")]
    pub(in crate::format) fn to_open_files(
        [meta, root]: [File; 2],
        target: RootTarget,
        compression: Compression,
        threads: usize,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Self> {
        let sink = EncodeThread::start(meta, compression, threads, Hasher::new(), monitor)?;
        let begun = RootWriter::NotBegun(target, compression, threads);
        Ok(Self::new(sink, None, begun, Some(RootFile::Given(root)), limits, monitor))
    }

    /// Writes an image to `out`, and a split image's rootfs to `out` with `.root` behind it.
    ///
    /// Both files are written under temporary names until [`finish`](Self::finish).
    ///
    /// # Errors
    /// `Io` where a file can't be made; `InvalidInput` for an output without a name of its own.
    pub(in crate::format) fn to_file(
        out: &Path,
        form: ImageForm,
        target: RootTarget,
        compression: Compression,
        threads: usize,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Self> {
        let meta_file = StagedFile::make(out, monitor)?;
        let sink = EncodeThread::start(meta_file.handle()?, compression, threads, Hasher::new(), monitor)?;
        let (root, root_file) = match form {
            ImageForm::Unified => (RootWriter::Unified, None),
            ImageForm::Split => {
                let mut path = out.as_os_str().to_owned();
                path.push(".root");
                let file = StagedFile::make(Path::new(&path), monitor)?;
                (RootWriter::NotBegun(target, compression, threads), Some(RootFile::Staged(file)))
            }
        };
        Ok(Self::new(sink, Some(meta_file), root, root_file, limits, monitor))
    }

    /// A writer that has written nothing yet.
    fn new(
        sink: EncodeThread,
        meta_file: Option<StagedFile>,
        root: RootWriter,
        root_file: Option<RootFile>,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Self {
        Self {
            meta: TarWriter::new(sink),
            meta_file,
            root,
            root_file,
            templates_made: false,
            rootfs_made: false,
            names: Namespace::new(limits),
            metadata: None,
            limits: limits.clone(),
            open_member: None,
            monitor: monitor.nested(),
            omitted_members: OmittedMembers::default(),
            fractions: 0,
        }
    }

    /// Notes something that the image does without.
    pub(super) fn omit(&self, path: &[u8], what: Omitted) {
        self.monitor.omit(path, what);
    }

    /// Writes what remains and gives the files their names.
    ///
    /// # Errors
    /// `Malformed` for an image without metadata or without a rootfs; `AlreadyExists` where a name
    /// was taken meanwhile; those of writing. Nothing is left then.
    pub(in crate::format) fn finish(mut self) -> Result<Written> {
        let metadata = self.metadata.take().ok_or_else(|| Error::malformed("the image has no `metadata.yaml`"))?;
        Metadata::parse(&metadata, &self.limits).map_err(|error| error.in_entry(b"metadata.yaml"))?;
        let hasher = self.meta.finish()?.finish()?;
        let (hasher, size) = match std::mem::replace(&mut self.root, RootWriter::Done) {
            RootWriter::Unified if !self.rootfs_made => {
                return Err(Error::malformed("the image has no root file system"));
            }
            RootWriter::Unified | RootWriter::Done => {
                let size = hasher.bytes();
                (hasher, size)
            }
            RootWriter::NotBegun(..) => return Err(Error::malformed("the image has no root file system")),
            RootWriter::Split(tar) => {
                tar.finish()?.finish()?;
                hash_rootfs(self.root_file.as_ref(), hasher, &self.monitor)?
            }
            RootWriter::SquashFs(writer) => {
                writer.finish()?;
                if self.fractions > 0 {
                    // Of nearly every member of most trees, so that naming each would hide the rest.
                    let part = format!("fractions of a second of {} modification times", self.fractions).into();
                    let reason = "SquashFS holds whole seconds".into();
                    self.monitor.omit(*b"", Omitted::Dropped { part, reason });
                }
                hash_rootfs(self.root_file.as_ref(), hasher, &self.monitor)?
            }
            RootWriter::Disk(disk) => {
                disk.finish()?;
                hash_rootfs(self.root_file.as_ref(), hasher, &self.monitor)?
            }
        };
        let mut files = Vec::new();
        // The metadata comes last, so that a crash in between leaves no file that looks like an image.
        let root = self.root_file.take().map(|file| file.commit(&self.monitor)).transpose()?.flatten();
        if let Some(meta) = self.meta_file.take() {
            match meta.commit(&self.monitor) {
                Ok(path) => files.push(path),
                Err(error) => {
                    if let Some(root) = &root {
                        // It was made a moment ago by this call, under a name that was free.
                        let _ = std::fs::remove_file(root);
                    }
                    return Err(error);
                }
            }
        }
        files.extend(root);
        Ok(Written { fingerprint: hasher.finish(), files, size, omissions: self.monitor.omissions() })
    }

    /// Ends an archive that has metadata and templates only, and gives the file its name.
    ///
    /// Used where the rootfs is a file of its own that somebody else writes.
    ///
    /// # Errors
    /// `Malformed` without metadata; those of writing.
    pub(super) fn finish_metadata(mut self) -> Result<Written> {
        let metadata = self.metadata.take().ok_or_else(|| Error::malformed("the image has no `metadata.yaml`"))?;
        Metadata::parse(&metadata, &self.limits).map_err(|error| error.in_entry(b"metadata.yaml"))?;
        let hasher = self.meta.finish()?.finish()?;
        let size = hasher.bytes();
        let files = self.meta_file.take().map(|file| file.commit(&self.monitor)).transpose()?.into_iter().collect();
        Ok(Written { fingerprint: hasher.finish(), files, size, omissions: self.monitor.omissions() })
    }

    /// Writes a file of the metadata archive, with mode 0644 and root as its owner whatever it had
    /// before.
    fn small_file(&mut self, entry: &Entry, path: &[u8], content: &[u8]) -> Result<()> {
        let mut file = Entry::new(path, EntryKind::File { size: content.len() as u64 }, 0o644);
        file.mtime = entry.mtime;
        self.meta.begin(&file, None)?;
        self.meta.data(content)
    }

    /// Begins the second file of a split image, for a container.
    ///
    /// Does nothing if it was begun already.
    ///
    /// # Errors
    /// Those of starting its writer.
    fn begin_tree(&mut self) -> Result<()> {
        if !matches!(self.root, RootWriter::NotBegun(..)) {
            return Ok(());
        }
        let RootWriter::NotBegun(target, compression, threads) = std::mem::replace(&mut self.root, RootWriter::Done)
        else {
            return Ok(());
        };
        let file =
            self.root_file.as_ref().ok_or_else(|| Error::invalid("a split image needs a second file"))?.handle()?;
        self.root = match target {
            RootTarget::Tar => RootWriter::Split(TarWriter::new(EncodeThread::start(
                file,
                compression,
                threads,
                Hasher::new(),
                &self.monitor,
            )?)),
            RootTarget::SquashFs(mut options) => {
                options.monitor = self.monitor.clone();
                RootWriter::SquashFs(Box::new(squashfs::Writer::new(file, options)?))
            }
        };
        Ok(())
    }
}

impl MemberVisitor for ImageWriter {
    fn metadata(&mut self, entry: &Entry, content: &[u8]) -> Result<()> {
        if self.metadata.is_some() {
            // The layout has made sure that it is the same.
            return Ok(());
        }
        self.metadata = Some(content.to_vec());
        self.small_file(entry, b"metadata.yaml", content)
    }

    fn config(&mut self, entry: &Entry, content: &[u8]) -> Result<()> {
        self.small_file(entry, b"config.json", content)
    }

    fn template(&mut self, entry: &Entry, name: &[u8], content: &[u8]) -> Result<()> {
        if !std::mem::replace(&mut self.templates_made, true) {
            let mut directory = Entry::new(*b"templates", EntryKind::Directory, 0o755);
            directory.mtime = entry.mtime;
            self.meta.begin(&directory, None)?;
        }
        self.small_file(entry, &[b"templates/", name].concat(), content)
    }

    fn rootfs(&mut self, entry: &Entry, sparse: Option<&SparseMap>) -> Result<()> {
        // Judged as a reader will judge it: an image that can't be unpacked must not be written.
        self.names.take(&entry.path, entry)?;
        self.check_limits(entry)?;
        self.rootfs_made = true;
        self.begin_tree()?;
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        let in_tar = matches!(self.root, RootWriter::Unified | RootWriter::Split(_));
        if in_tar && self.leaves_out(entry) {
            return Ok(());
        }
        let fitted = if in_tar { self.fit_tar(entry) } else { self.fit_squashfs(entry) };
        let entry = fitted.as_ref();
        match &mut self.root {
            RootWriter::Unified => {
                let mut entry = fitted.into_owned();
                entry.path = below_rootfs(&entry.path);
                if let EntryKind::HardLink { target } = &mut entry.kind {
                    *target = below_rootfs(target);
                }
                self.meta.begin(&entry, sparse)?;
                self.open_member = is_file.then_some(OpenMember::Tar);
            }
            RootWriter::Split(tar) => {
                tar.begin(entry, sparse)?;
                self.open_member = is_file.then_some(OpenMember::Tar);
            }
            RootWriter::SquashFs(writer) => {
                if is_file {
                    self.open_member = Some(OpenMember::SquashFs(Box::new(writer.begin_pending(entry)?)));
                } else {
                    writer.push(entry)?;
                }
            }
            RootWriter::Disk(_) | RootWriter::NotBegun(..) | RootWriter::Done => {
                return Err(Error::malformed("the image has both `rootfs/` and `rootfs.img`"));
            }
        }
        Ok(())
    }

    fn records_holes(&self) -> bool {
        matches!(self.root, RootWriter::Unified)
    }

    fn disk(&mut self, entry: &Entry, sparse: Option<&SparseMap>, _: &Qcow2) -> Result<()> {
        self.rootfs_made = true;
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        match &mut self.root {
            RootWriter::Unified => {
                let mut disk = Entry::new(*b"rootfs.img", EntryKind::File { size }, 0o644);
                disk.mtime = entry.mtime;
                self.meta.begin(&disk, sparse)?;
                self.open_member = Some(OpenMember::Tar);
            }
            RootWriter::NotBegun(RootTarget::SquashFs(_), ..) => {
                return Err(Error::invalid(
                    "the rootfs is a disk, which stays the qcow2 file that it is: it can't become a SquashFS",
                ));
            }
            RootWriter::NotBegun(..) => {
                let file =
                    self.root_file.as_ref().ok_or_else(|| Error::invalid("a split image needs a second file"))?;
                self.root = RootWriter::Disk(DiskFile::new(file.handle()?, size));
                self.open_member = Some(OpenMember::Disk);
            }
            _ => return Err(Error::malformed("the image has both `rootfs/` and `rootfs.img`")),
        }
        Ok(())
    }

    fn data(&mut self, offset: u64, piece: Chunk) -> Result<()> {
        self.write_data(offset, &piece)
    }

    fn end(&mut self) -> Result<()> {
        match (self.open_member.take(), &mut self.root) {
            (Some(OpenMember::SquashFs(file)), RootWriter::SquashFs(writer)) => writer.end_pending(*file),
            _ => Ok(()),
        }
    }

    fn stray(&mut self, entry: &Entry) -> Result<()> {
        self.omit(&entry.path, Omitted::Stray);
        Ok(())
    }

    fn omitted(&mut self, path: &[u8], what: &Omitted) {
        self.omit(path, what.clone());
    }
}

impl ImageWriter {
    /// Whether a tar does without this member: a socket, or a further name of one.
    ///
    /// Further names of a socket are left out as well: their target is not in the archive.
    fn leaves_out(&mut self, entry: &Entry) -> bool {
        let omitted = match &entry.kind {
            EntryKind::Socket => true,
            EntryKind::HardLink { target } => self.omitted_members.holds(target),
            _ => false,
        };
        if omitted {
            self.omitted_members.insert(&entry.path);
            self.omit(&entry.path, Omitted::Skipped { reason: "tar cannot hold a socket".into() });
        } else {
            self.omitted_members.forget(&entry.path);
        }
        omitted
    }

    /// The member with a time that readers of tar take.
    fn fit_tar<'e>(&self, entry: &'e Entry) -> Cow<'e, Entry> {
        self.fit_time(entry, tar::FIRST_SECOND, tar::LAST_SECOND)
    }

    /// The member with the attributes and the time that a SquashFS holds.
    ///
    /// Fractions of a second are counted and reported once at the end, because nearly every member
    /// has one.
    fn fit_squashfs<'e>(&mut self, entry: &'e Entry) -> Cow<'e, Entry> {
        if matches!(entry.kind, EntryKind::HardLink { .. }) {
            // Its attributes are those of the target, which came before.
            return Cow::Borrowed(entry);
        }
        self.fractions += u64::from(entry.mtime.nanoseconds != 0);
        let mut fitted = self.fit_time(entry, 0, u32::MAX.into());
        for (name, _) in entry.xattrs.iter().filter(|(name, _)| !squashfs::holds_xattr(name)) {
            self.omit(&entry.path, Omitted::attribute(name, "SquashFS has no place for it"));
            fitted.to_mut().xattrs.retain(|(other, _)| other != name);
        }
        fitted
    }

    /// The entry with its modification time moved to the nearest that the format has, which is
    /// reported.
    fn fit_time<'e>(&self, entry: &'e Entry, first: i64, last: i64) -> Cow<'e, Entry> {
        let seconds = entry.mtime.seconds;
        let nearest = seconds.clamp(first, last);
        if nearest == seconds {
            return Cow::Borrowed(entry);
        }
        let (from, to) = (seconds.to_string(), nearest.to_string());
        self.omit(&entry.path, Omitted::Clamped { field: "modification time".into(), from, to });
        let mut fitted = entry.clone();
        fitted.mtime = Timestamp::from_seconds(nearest);
        Cow::Owned(fitted)
    }

    /// Refuses a path or a number of attributes that a reader with the same limits would refuse.
    ///
    /// # Errors
    /// `LimitExceeded`.
    fn check_limits(&self, entry: &Entry) -> Result<()> {
        let (length, count) = (entry.path.len() as u64, entry.xattrs.len() as u64);
        if length > self.limits.path {
            return Err(Error::limit("path", self.limits.path, format_args!("a path of {length} bytes")));
        }
        if count > self.limits.xattrs_per_entry {
            let limit = self.limits.xattrs_per_entry;
            return Err(Error::limit("xattrs_per_entry", limit, "the number of extended attributes"));
        }
        Ok(())
    }

    /// The next bytes of the open_member file, as [`MemberVisitor::data`] takes them.
    ///
    /// # Errors
    /// `InvalidInput` where no file was begun; those of the writer.
    pub(super) fn write_data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if let (Some(OpenMember::SquashFs(_)), RootWriter::SquashFs(writer)) = (&self.open_member, &mut self.root) {
            let Some(OpenMember::SquashFs(file)) = self.open_member.take() else { return Ok(()) };
            self.open_member = Some(OpenMember::SquashFs(Box::new(writer.write_pending(*file, offset, bytes)?)));
            return Ok(());
        }
        match (&mut self.open_member, &mut self.root) {
            (Some(OpenMember::Tar), RootWriter::Unified) => self.meta.data(bytes),
            (Some(OpenMember::Tar), RootWriter::Split(tar)) => tar.data(bytes),
            (Some(OpenMember::Disk), RootWriter::Disk(disk)) => disk.write(offset, bytes),
            _ => Err(Error::invalid("bytes came without a file to put them in")),
        }
    }
}

/// Hashes the rootfs file after the metadata file. The fingerprint is that of both in this order,
/// but the rootfs is often complete before the metadata is.
fn hash_rootfs(file: Option<&RootFile>, mut hasher: Hasher, monitor: &Monitor) -> Result<(Hasher, u64)> {
    if let Some(file) = file {
        hasher.read_all(CancelReader { reader: file.reopen()?, cancel: monitor.cancel().clone() })?;
    }
    let size = hasher.bytes();
    Ok((hasher, size))
}

/// A path of the rootfs as it is in a unified image.
fn below_rootfs(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { b"rootfs".to_vec() } else { [b"rootfs/", path].concat() }
}

/// The default compression of what is written: fast, small, and read by every LXD since 5.0.
pub(in crate::format) const DEFAULT_CODEC: Codec = Codec::Zstd;

/// The time of members that have none of their own, such as `metadata.yaml` of a packed tree: the
/// creation date of the image, so that packing again gives the same bytes.
pub(super) fn time_of(metadata: &Metadata) -> Timestamp {
    Timestamp::from_seconds(metadata.creation_date().max(0))
}
