//! Unpacking in one pass: an image is hashed, decoded, checked and written at the same time, and
//! becomes visible at the end.
//!
//! The steps: a private directory is made beside the destination (`staged`), members are written
//! into it by handle (`extract`) while the bytes are hashed (`pipeline`), the fingerprint is
//! compared, and one rename gives the directory its name. Until then nobody sees anything, and
//! whatever fails or is cancelled removes it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::fs;

use super::chunk::Chunk;
use super::detect::Container;
use super::entry::{Entry, EntryKind};
use super::extract::{ExtractPolicy, Extractor, IdMap, OpenFile, UnpackReport};
use super::image::Image;
use super::layout::{ArchiveRole, LayoutSummary};
use super::pipeline::{ReadPass, default_threads};
use super::qcow2::Qcow2;
use super::squashfs_image::unpack_squashfs;
use super::staged::{StagedUnpack, StagingDir, Unverified, Verified};
use super::tar::SparseMap;
use super::visitor::MemberVisitor;
use super::write::container_has_no_disk;
use crate::disk::{DiskFormat, DiskImage, DiskOptions, DiskOutput, RawWriteOptions};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::io::Blob;
use crate::limits::Limits;
use crate::metadata::ImageType;
use crate::metadata::Metadata;
use crate::omissions::Omitted;
use crate::progress::{Monitor, Phase};
use crate::rooted::Dir;

/// How an image is unpacked.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::format::{Image, ImageSource, UnpackOptions};
///
/// let options = UnpackOptions::new().map_ids("0:100000:65536".parse()?).skip_devices(true);
/// let image = Image::open(ImageSource::open("debian.tar.xz", None)?)?;
/// let unpacked = image.unpack_unverified("/var/lib/containers/debian", &options, &Monitor::none())?;
/// println!("{} members, complete: {}", unpacked.report.entries, unpacked.report.is_complete());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UnpackOptions {
    rootfs_only: bool,
    skip_devices: bool,
    all_xattrs: bool,
    durable: bool,
    disk_format: DiskOutput,
    /// Whether an image without a disk is refused.
    wants_disk: bool,
    ids: IdMap,
    threads: usize,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            rootfs_only: false,
            skip_devices: false,
            all_xattrs: false,
            durable: false,
            disk_format: DiskOutput::Keep,
            wants_disk: false,
            ids: IdMap::identity(),
            threads: default_threads(),
        }
    }
}

impl UnpackOptions {
    /// Everything as the image says, on all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the root file system itself to the destination, without metadata and templates.
    #[must_use]
    pub fn rootfs_only(mut self, yes: bool) -> Self {
        self.rootfs_only = yes;
        self
    }

    /// Makes no device nodes, even where they could be made.
    ///
    /// Without it, an ordinary user's attempt to make one fails and is reported as an omission as
    /// well.
    #[must_use]
    pub fn skip_devices(mut self, yes: bool) -> Self {
        self.skip_devices = yes;
        self
    }

    /// Sets `trusted.*` and every `security.*` attribute too, not only file capabilities.
    ///
    /// Such attributes are honoured by the host's security modules, so take them from trusted
    /// images only.
    #[must_use]
    pub fn all_xattrs(mut self, yes: bool) -> Self {
        self.all_xattrs = yes;
        self
    }

    /// Waits until everything is on the disk before it becomes visible.
    ///
    /// Costs a `syncfs` of the destination's file system. Without it, a crash of the machine soon
    /// after may lose content.
    #[must_use]
    pub fn durable(mut self, yes: bool) -> Self {
        self.durable = yes;
        self
    }

    /// In which format the disk of a virtual machine is written: kept as it is unless this says
    /// otherwise. A raw disk is sparse. A format for a container's image, which has no disk, is refused.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::disk::DiskOutput;
    /// use lxd_image::format::{Image, ImageSource, UnpackOptions};
    ///
    /// let image = Image::open(ImageSource::open("vm.tar.xz", None)?)?;
    /// image.unpack_unverified("vm1", &UnpackOptions::new().disk_format(DiskOutput::Raw), &Monitor::none())?;
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    #[must_use]
    pub fn disk_format(mut self, format: DiskOutput) -> Self {
        self.disk_format = format;
        self.wants_disk = format != DiskOutput::Keep;
        self
    }

    /// As [`disk_format`](Self::disk_format), and the image may be a container's, whose tree it doesn't concern.
    #[must_use]
    pub fn disk_format_if_any(mut self, format: DiskOutput) -> Self {
        self.disk_format = format;
        self.wants_disk = false;
        self
    }

    /// Shifts owners and groups: from the image's numbers to the host's. The disk of a virtual machine has none, and is
    /// refused with a map.
    #[must_use]
    pub fn map_ids(mut self, ids: IdMap) -> Self {
        self.ids = ids;
        self
    }

    /// How many threads decode and write, at most. At least one.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }
}

impl UnpackOptions {
    /// The directory that the root file system goes to, in the staging directory.
    fn root_of(&self, dir: &Dir) -> Result<Dir> {
        let root = if self.rootfs_only {
            dir.try_clone()
        } else {
            dir.make_dir(b"rootfs", 0o700).and_then(|()| dir.child(b"rootfs"))
        };
        root.map_err(|error| Error::io("the root directory can't be made", error))
    }

    fn policy(&self) -> ExtractPolicy {
        ExtractPolicy { skip_devices: self.skip_devices, all_xattrs: self.all_xattrs, ids: self.ids.clone() }
    }

    /// Waits for the disk, if that was asked for.
    fn settle(&self, dir: &Dir, monitor: &Monitor) -> Result<()> {
        if self.durable {
            monitor.check()?;
            fs::syncfs(dir.as_fd()).map_err(|error| Error::io("the unpacked image can't be made durable", error))?;
        }
        Ok(())
    }

    /// What the options say of threads.
    #[cfg(feature = "oci")]
    pub(crate) fn thread_count(&self) -> usize {
        self.threads
    }
}

/// The result of unpacking: what is at the destination now.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unpacked {
    /// Where it is.
    pub path: PathBuf,
    /// The fingerprint of the bytes that were unpacked.
    pub fingerprint: Fingerprint,
    /// Whether there is a tree or a disk.
    pub image_type: ImageType,
    /// The image's metadata.
    pub metadata: Metadata,
    /// What was written and what was not.
    pub report: UnpackReport,
}

impl Image {
    /// Unpacks into a private directory beside `destination`, computing the fingerprint in the same
    /// pass. The destination must not exist, or be an empty directory; it stays as it is until
    /// [`StagedUnpack::commit`].
    ///
    /// Use it where the fingerprint is learned only afterwards, or the destination's name depends
    /// on it; otherwise [`unpack_verified`](Self::unpack_verified) is shorter.
    ///
    /// # Errors
    /// `AlreadyExists` or `UnsafePath` for the destination; for the image `Malformed`,
    /// `UnsafePath`, `Unsupported`, `LimitExceeded`; `InvalidInput` for an owner outside of the id map;
    /// `Cancelled`; `StorageFull`; `Io`. Whatever the error, nothing is left.
    pub fn stage(
        &self,
        destination: impl AsRef<Path>,
        options: &UnpackOptions,
        monitor: &Monitor,
    ) -> Result<StagedUnpack<Unverified>> {
        let destination = destination.as_ref();
        self.stage_beside(destination, options, monitor)
            .map_err(|error| error.on_disk_of(destination.parent().unwrap_or(Path::new(""))))
    }

    /// Unpacks to `destination` and verifies: nothing is visible unless the fingerprint is `expected`.
    ///
    /// # Errors
    /// `Mismatch` with both values, and those of [`stage`](Self::stage).
    pub fn unpack_verified(
        &self,
        destination: impl AsRef<Path>,
        expected: &Fingerprint,
        options: &UnpackOptions,
        monitor: &Monitor,
    ) -> Result<Unpacked> {
        let destination = destination.as_ref();
        commit(self.stage(destination, options, monitor)?.verify(expected)?, destination, options)
    }

    /// Unpacks to `destination` whatever the fingerprint is, for images whose origin is trusted.
    ///
    /// The fingerprint is computed nevertheless, and returned.
    ///
    /// # Errors
    /// Those of [`stage`](Self::stage).
    pub fn unpack_unverified(
        &self,
        destination: impl AsRef<Path>,
        options: &UnpackOptions,
        monitor: &Monitor,
    ) -> Result<Unpacked> {
        let destination = destination.as_ref();
        commit(self.stage(destination, options, monitor)?.accept_unverified(), destination, options)
    }

    /// Makes the staging directory and unpacks into it; removes it after an error.
    fn stage_beside(
        &self,
        destination: &Path,
        options: &UnpackOptions,
        monitor: &Monitor,
    ) -> Result<StagedUnpack<Unverified>> {
        let (mut place, dir, _) = StagingDir::make(destination, monitor.cancel())?;
        let unpacked = self.stage_in(&dir, options, monitor).and_then(|unpacked| {
            options.settle(&dir, monitor)?;
            monitor.report(Phase::Unpack, unpacked.bytes, Some(unpacked.bytes))?;
            Ok(unpacked)
        });
        match unpacked {
            Ok(UnpackedContent { fingerprint, image_type, metadata, report, .. }) => {
                let disk = DiskOptions::new().limits(self.limits.clone());
                let disk = disk.format(options.disk_format.format());
                Ok(StagedUnpack::new(place, fingerprint, image_type, metadata, report, disk))
            }
            Err(error) => Err(place.discard_after(error)),
        }
    }

    /// Unpacks into a directory: all files of the image in order, then checks of the whole.
    fn stage_in(&self, dir: &Dir, options: &UnpackOptions, monitor: &Monitor) -> Result<UnpackedContent> {
        let wants_disk = options.wants_disk;
        if wants_disk
            && self.parts.iter().any(|part| part.container == Container::SquashFs && part.role == ArchiveRole::Rootfs)
        {
            return Err(container_has_no_disk());
        }
        let root = options.root_of(dir)?;
        let policy = options.policy();
        let pass = ReadPass {
            limits: &self.limits,
            monitor,
            phase: Phase::Unpack,
            threads: options.threads,
            total: self.size(),
        };
        let mut hasher = Hasher::new();
        let (mut summary, report) = thread::scope(|scope| {
            // The extractor's threads belong to this scope: they end before the staging directory
            // can be removed, so that no thread writes into a directory that is being deleted.
            let mut writer = TreeWriter {
                dir,
                rootfs_only: options.rootfs_only,
                wants_disk,
                extractor: Extractor::new(scope, root, policy, &self.limits, options.threads, monitor)?,
                current: None,
            };
            let mut whole = LayoutSummary { metadata: Vec::new(), templates: Vec::new(), disk: false };
            for part in &self.parts {
                let summary = match part.container {
                    // Decoded on several threads, straight into the files.
                    Container::SquashFs => unpack_squashfs(part, &pass, &mut hasher, &mut writer),
                    Container::Tar(_) | Container::Qcow2 => self.visit(part, &pass, &mut hasher, &mut writer),
                }
                .map_err(|error| part.name_error(error))?;
                whole.disk |= summary.disk;
                if part.role != ArchiveRole::Rootfs {
                    whole.metadata = summary.metadata;
                    whole.templates = summary.templates;
                }
            }
            Ok::<_, Error>((whole, writer.extractor.finish()?))
        })?;
        if wants_disk && !summary.disk {
            return Err(container_has_no_disk());
        }
        if options.disk_format == DiskOutput::Raw && summary.disk {
            disk_to_raw(dir, &self.limits, options, monitor).map_err(|error| error.in_entry(b"rootfs.img"))?;
        }
        let metadata_bytes = std::mem::take(&mut summary.metadata);
        let metadata = Metadata::parse(&metadata_bytes, &self.limits)
            .map_err(|error| self.parts[0].name_error(error.in_entry(b"metadata.yaml")))?;
        let image_type = if summary.disk { ImageType::VirtualMachine } else { ImageType::Container };
        if summary.disk && !options.rootfs_only {
            // Whether an image has a tree or a disk is known only after reading it, so the
            // directory was made in advance.
            dir.remove_dir(b"rootfs")
                .map_err(|error| Error::io("the unused root directory can't be removed", error))?;
        }
        Ok(UnpackedContent { bytes: hasher.bytes(), fingerprint: hasher.finish(), image_type, metadata, report })
    }
}

/// Replaces `rootfs.img` with the same disk in raw. The copy in `dir` is read, which nobody else can
/// change any more, and not the image, whose bytes were hashed before.
fn disk_to_raw(dir: &Dir, limits: &Limits, options: &UnpackOptions, monitor: &Monitor) -> Result<()> {
    const RAW: &[u8] = b"rootfs.raw";
    let disk = dir.open_file(b"rootfs.img").and_then(Blob::file);
    let disk = disk.map_err(|error| Error::io("the disk can't be read", error))?;
    let disk = DiskImage::open(disk, &DiskOptions::new().format(DiskFormat::Qcow2).limits(limits.clone()))?;
    let raw = dir.create(RAW, 0o600).map_err(|error| Error::io("the disk can't be made", error))?;
    disk.write_raw(&raw, &RawWriteOptions::new().threads(options.threads), monitor)?;
    dir.rename(RAW, b"rootfs.img").map_err(|error| Error::io("the disk can't be given its name", error))
}

/// Fills a new directory that becomes visible in one step: `fill` shows its visitor what there is. Returns the path
/// and what was written.
///
/// # Errors
/// `AlreadyExists` or `UnsafePath` for the destination; those of `fill`. Whatever the error, nothing is left.
#[cfg(feature = "oci")]
pub(super) fn unpack_from(
    destination: &Path,
    limits: &Limits,
    options: &UnpackOptions,
    monitor: &Monitor,
    fill: impl FnOnce(&mut TreeWriter<'_, '_>) -> Result<()>,
) -> Result<(PathBuf, UnpackReport)> {
    let (mut place, dir, name) = StagingDir::make(destination, monitor.cancel())?;
    let write = || {
        let root = options.root_of(&dir)?;
        thread::scope(|scope| {
            let extractor = Extractor::new(scope, root, options.policy(), limits, options.threads, monitor)?;
            let mut writer =
                TreeWriter { dir: &dir, rootfs_only: options.rootfs_only, wants_disk: false, extractor, current: None };
            fill(&mut writer)?;
            writer.extractor.finish()
        })
    };
    let unpacked = write().and_then(|report| {
        options.settle(&dir, monitor)?;
        Ok((place.commit(&name, options.rootfs_only)?, report))
    });
    unpacked.map_err(|error| place.discard_after(error).on_disk_of(destination.parent().unwrap_or(Path::new(""))))
}

/// What was unpacked into the staging directory, before it is verified.
struct UnpackedContent {
    /// Of the image as stored.
    bytes: u64,
    fingerprint: Fingerprint,
    image_type: ImageType,
    metadata: Metadata,
    report: UnpackReport,
}

/// Gives the staged image its name, and collects what the caller wants to know of it.
fn commit(staged: StagedUnpack<Verified>, destination: &Path, options: &UnpackOptions) -> Result<Unpacked> {
    use std::os::unix::ffi::OsStrExt;
    let name = destination.file_name().unwrap_or_default().as_bytes().to_vec();
    let (fingerprint, image_type) = (staged.fingerprint(), staged.image_type());
    let (metadata, report) = (staged.metadata().clone(), staged.report().clone());
    // A root file system brings its own mode for its top.
    let path = staged.commit_bytes(&name, options.rootfs_only)?;
    Ok(Unpacked { path, fingerprint, image_type, metadata, report })
}

/// The visitor that writes: metadata and templates at once, files of the rootfs through the
/// extractor's threads.
pub(super) struct TreeWriter<'a, 'scope> {
    pub(super) dir: &'a Dir,
    rootfs_only: bool,
    /// Whether a tree in place of a disk is refused.
    wants_disk: bool,
    pub(super) extractor: Extractor<'scope>,
    current: Option<OpenMember>,
}

/// The file whose bytes are coming, and pieces that wait to be handed to the writing threads
/// together.
struct OpenMember {
    file: Arc<OpenFile>,
    pieces: Vec<(u64, Chunk)>,
    /// Bytes that wait.
    bytes: usize,
}

/// Bytes after which pieces are handed over: one message per batch instead of one per 512 bytes.
const BATCH_BYTES: usize = 512 << 10;

/// Pieces after which they are handed over: those of a sparse file may hold one byte each, and each
/// holds a buffer.
const BATCH_PIECES: usize = 2048;

impl TreeWriter<'_, '_> {
    /// A file beside the rootfs, written at once.
    fn write_small(&mut self, dir: &Dir, name: &[u8], content: &[u8]) -> Result<()> {
        use std::io::Write;
        self.extractor.charge(content.len() as u64)?;
        match dir.remove_file(name) {
            Err(error) if !crate::rooted::is(&error, rustix::io::Errno::NOENT) => {
                return Err(Error::io("an earlier file can't be replaced", error));
            }
            _ => {}
        }
        let mut file = dir.create(name, 0o600).map_err(|error| Error::io("a file can't be made", error))?;
        file.write_all(content).map_err(|error| Error::io("a file can't be written", error))?;
        fs::fchmod(&file, fs::Mode::from_raw_mode(0o644)).map_err(|error| Error::io("a mode can't be set", error))
    }
}

impl MemberVisitor for TreeWriter<'_, '_> {
    fn metadata(&mut self, _: &Entry, content: &[u8]) -> Result<()> {
        if self.rootfs_only {
            return Ok(());
        }
        self.write_small(self.dir, b"metadata.yaml", content)
    }

    fn config(&mut self, _: &Entry, content: &[u8]) -> Result<()> {
        if self.rootfs_only {
            return Ok(());
        }
        self.write_small(self.dir, b"config.json", content)
    }

    fn template(&mut self, _: &Entry, name: &[u8], content: &[u8]) -> Result<()> {
        if self.rootfs_only {
            return Ok(());
        }
        match self.dir.make_dir(b"templates", 0o755) {
            Err(error) if !crate::rooted::is(&error, rustix::io::Errno::EXIST) => {
                return Err(Error::io("the templates' directory can't be made", error));
            }
            _ => {}
        }
        let templates = self
            .dir
            .child(b"templates")
            .map_err(|error| Error::io("the templates' directory can't be opened", error))?;
        fs::fchmod(templates.as_fd(), fs::Mode::from_raw_mode(0o755))
            .map_err(|error| Error::io("a mode can't be set", error))?;
        self.write_small(&templates, name, content)
    }

    fn rootfs(&mut self, entry: &Entry, _: Option<&SparseMap>) -> Result<()> {
        if self.wants_disk {
            return Err(container_has_no_disk());
        }
        let file = self.extractor.entry(entry)?;
        self.current = file.map(|file| OpenMember { file, pieces: Vec::new(), bytes: 0 });
        Ok(())
    }

    fn disk(&mut self, entry: &Entry, _: Option<&SparseMap>, _: &Qcow2) -> Result<()> {
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        let file = self.extractor.disk(self.dir, size)?;
        self.current = Some(OpenMember { file, pieces: Vec::new(), bytes: 0 });
        Ok(())
    }

    fn data(&mut self, offset: u64, piece: Chunk) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.bytes += piece.len();
        current.pieces.push((offset, piece));
        if current.bytes >= BATCH_BYTES || current.pieces.len() >= BATCH_PIECES {
            current.bytes = 0;
            let pieces = std::mem::take(&mut current.pieces);
            self.extractor.data(&current.file, pieces)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self.current.take() {
            Some(current) => self.extractor.close(current.file, current.pieces),
            None => Ok(()),
        }
    }

    fn omitted(&mut self, path: &[u8], what: &Omitted) {
        self.extractor.omit(path, what.clone());
    }

    fn stray(&mut self, entry: &Entry) -> Result<()> {
        self.extractor.omit(&entry.path, Omitted::Stray);
        Ok(())
    }
}
