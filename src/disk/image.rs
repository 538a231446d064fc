//! [`DiskImage`]: a disk image that was recognised, whatever its format.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::claims::Claims;
use super::codec::Loader;
use super::format::DiskFormat;
use super::opened::Opened;
use super::runs::{FlatMap, Run, RunMap, Source};
use super::{ova, qcow2, vhd, vhdx, vmdk};
use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;
use crate::progress::Monitor;

/// How a disk image is opened.
///
/// ```
/// use lxd_image::disk::{DiskFormat, DiskOptions};
///
/// let options = DiskOptions::new().format(DiskFormat::Raw);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DiskOptions {
    pub(crate) format: Option<DiskFormat>,
    pub(crate) limits: Limits,
}

impl DiskOptions {
    /// The format is recognised, under the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The format that the disk must have. Without it, it is recognised by its magic number, and a
    /// disk without one is refused: only a caller can know that a disk is [`Raw`](DiskFormat::Raw).
    #[must_use]
    pub fn format(mut self, format: DiskFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// The limits that tables and sizes are held to.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// A disk image: a file in one of the formats of [`DiskFormat`].
///
/// As a [`ReadAt`] it is what the virtual machine sees, byte by byte; a [`Blob`] of it can be read
/// like a raw disk. Reading checks the tables that it uses. [`extents`](Self::extents) and the
/// conversions check all of them.
pub struct DiskImage {
    /// The disk's own file: for an OVA the part of the archive that is the disk.
    pub(super) blob: Blob,
    pub(super) limits: Limits,
    pub(super) map: Box<dyn RunMap>,
    format: DiskFormat,
    /// The format inside of an OVA.
    inner: Option<DiskFormat>,
    variant: String,
    virtual_size: u64,
    /// Loaders that no read uses at the moment.
    loaders: Mutex<Vec<Loader>>,
}

impl DiskImage {
    /// Opens a disk image: reads its header and its first table, up to 32 MiB.
    ///
    /// # Errors
    /// `Unsupported` for what would need another file (backing file, external data, parent, several
    /// parts), for encryption, for unknown features and for content without a magic number that the
    /// caller did not call raw; `Malformed` for headers and tables that do not hold together;
    /// `InvalidInput` for another format than the options ask for; `LimitExceeded`; `Io`.
    pub fn open(blob: Blob, options: &DiskOptions) -> Result<Self> {
        let limits = options.limits.clone();
        let format = match options.format {
            Some(DiskFormat::Raw) => DiskFormat::Raw,
            wanted => {
                let found = DiskFormat::detect(&blob)?;
                match (wanted, found) {
                    (Some(wanted), found) if found != Some(wanted) => return Err(not_that(wanted, found)),
                    (_, Some(found)) => found,
                    (_, None) => return Err(unknown(&blob)),
                }
            }
        };
        let (blob, inner) = match format {
            DiskFormat::Ova => {
                let disk = ova::disk(&blob, &limits)?;
                let inner = DiskFormat::detect(&disk)?.filter(|inner| *inner != DiskFormat::Ova);
                let inner = inner.ok_or_else(|| {
                    Error::unsupported("the disk in the appliance has a format that is not known")
                        .with_hint("unpack it with `tar -xf`; if it is a raw disk, say so with `--disk-input raw`")
                })?;
                (disk, Some(inner))
            }
            _ => (blob, None),
        };
        let opened = match inner.unwrap_or(format) {
            DiskFormat::Qcow2 => qcow2::open(&blob, &limits)?,
            DiskFormat::Vmdk => vmdk::open(&blob, &limits)?,
            DiskFormat::Vhd => vhd::open(&blob, &limits)?,
            DiskFormat::Vhdx => vhdx::open(&blob, &limits)?,
            DiskFormat::Raw | DiskFormat::Ova => open_raw(&blob)?,
        };
        let Opened { map, virtual_size, variant } = opened;
        if virtual_size > limits.qcow2_size {
            return Err(Error::limit("qcow2_size", limits.qcow2_size, format_args!("a disk of {virtual_size} bytes")));
        }
        Ok(Self { blob, limits, map, format, inner, variant, virtual_size, loaders: Mutex::default() })
    }

    /// The format of the file.
    #[must_use]
    pub fn format(&self) -> DiskFormat {
        self.format
    }

    /// The format of the disk inside of an OVA; otherwise that of the file.
    #[must_use]
    pub fn disk_format(&self) -> DiskFormat {
        self.inner.unwrap_or(self.format)
    }

    /// The kind within the format, for people: `version 3, zstd`, `streamOptimized`, `dynamic`.
    /// Empty for a raw disk.
    #[must_use]
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// The size that the virtual machine sees, in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// Bytes that one entry of the format's tables stands for: a cluster of qcow2, a grain of VMDK, a
    /// block of VHD and VHDX. `None` for a raw disk and a fixed VHD.
    #[must_use]
    pub fn cluster_size(&self) -> Option<u64> {
        self.map.cluster_size()
    }

    /// The parts of the disk in order: data, zeros and holes. Reads and checks all tables on the
    /// way, and no data.
    ///
    /// ```
    /// use lxd_image::disk::{DiskFormat, DiskImage, DiskOptions, ExtentKind};
    /// use lxd_image::io::Blob;
    ///
    /// let raw = DiskImage::open(Blob::from(vec![0; 4096]), &DiskOptions::new().format(DiskFormat::Raw))?;
    /// for extent in raw.extents()? {
    ///     let extent = extent?;
    ///     assert_eq!((extent.offset, extent.length, extent.kind), (0, 4096, ExtentKind::Data));
    /// }
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Malformed` for tables that overlap, `LimitExceeded` for a map of the file over `disk_map`.
    pub fn extents(&self) -> Result<Extents<'_>> {
        Ok(Extents { runs: self.runs()?.peekable() })
    }

    /// Bytes of the disk that are not known to be zeros: what a sparse raw file of it takes at most.
    ///
    /// # Errors
    /// As [`extents`](Self::extents), and `Cancelled`.
    pub fn allocated_bytes(&self, monitor: &Monitor) -> Result<u64> {
        let mut allocated = 0_u64;
        for run in self.runs()? {
            monitor.check()?;
            let run = run?;
            if run.is_data() {
                allocated = allocated.saturating_add(run.length);
            }
        }
        Ok(allocated)
    }

    /// All runs of the disk in order, with a check that none uses what another one does.
    pub(super) fn runs(&self) -> Result<Runs<'_>> {
        Ok(Runs { disk: self, at: 0, claims: self.map.claims(&self.blob)? })
    }

    /// The run that begins at `offset`, cut at the end of the disk.
    fn run_at(&self, offset: u64, claims: Option<&mut Claims>) -> Result<Run> {
        let run = self.map.run_at(&self.blob, offset, claims)?;
        let end = run.offset.saturating_add(run.length).min(self.virtual_size);
        if end <= offset {
            return Err(Error::malformed("the tables of the disk lead nowhere").at_offset(offset));
        }
        Ok(run.cut(offset, end))
    }

    /// A loader for one read; [`give_back`](Self::give_back) keeps it for the next.
    pub(super) fn loader(&self) -> Loader {
        self.loaders.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, loader: Loader) {
        self.loaders.lock().unwrap_or_else(PoisonError::into_inner).push(loader);
    }
}

impl ReadAt for DiskImage {
    /// Reads what the virtual machine sees at `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.virtual_size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        let (mut rest, _) = buffer.split_at_mut(count);
        let mut at = offset;
        let mut loader = self.loader();
        while !rest.is_empty() {
            let run = self.run_at(at, None)?;
            let length = usize::try_from(run.length).unwrap_or(usize::MAX).min(rest.len());
            let (part, behind) = rest.split_at_mut(length);
            loader.load(&self.blob, &run, part)?;
            rest = behind;
            at = at.saturating_add(length as u64);
        }
        self.give_back(loader);
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.virtual_size
    }

    fn version(&self) -> io::Result<Option<crate::io::Version>> {
        self.blob.version()
    }

    fn data_ranges(&self, min_hole: u64) -> io::Result<Option<Vec<Range<u64>>>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for run in self.runs()? {
            let run = run?;
            if !run.is_data() {
                continue;
            }
            let end = run.offset.saturating_add(run.length);
            match ranges.last_mut() {
                Some(last) if run.offset.saturating_sub(last.end) < min_hole.max(1) => last.end = end,
                _ => ranges.push(run.offset..end),
            }
        }
        Ok(Some(ranges))
    }
}

impl std::fmt::Debug for DiskImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskImage")
            .field("format", &self.format)
            .field("variant", &self.variant)
            .field("virtual_size", &self.virtual_size)
            .finish_non_exhaustive()
    }
}

/// A raw disk is the file itself; holes are those that its file system knows.
fn open_raw(blob: &Blob) -> Result<Opened> {
    /// Holes shorter than this are read like data: a seek costs more.
    const MIN_HOLE_BYTES: u64 = 64 << 10;
    let data = blob.data_ranges(MIN_HOLE_BYTES).map_err(|error| Error::io("the disk's holes can't be found", error))?;
    let map = FlatMap { start: 0, length: blob.len(), data };
    Ok(Opened { map: Box::new(map), virtual_size: blob.len(), variant: String::new() })
}

/// The error for another format than was asked for.
fn not_that(wanted: DiskFormat, found: Option<DiskFormat>) -> Error {
    match found {
        Some(found) => Error::invalid(format!("the disk is not in the format {wanted}: it is in the format {found}")),
        None => Error::invalid(format!("the disk is not in the format {wanted}")),
    }
}

/// The error for content without a magic number.
fn unknown(blob: &Blob) -> Error {
    let mut head = vec![0; usize::try_from(blob.len()).unwrap_or(usize::MAX).min(crate::format::FOREIGN_HEAD_BYTES)];
    match blob.read_exact_at(&mut head, 0) {
        Ok(()) => crate::format::unknown_disk(&head),
        Err(error) => error,
    }
}

/// What a part of a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExtentKind {
    /// The file has bytes for it.
    Data,
    /// The file says that it is zeros.
    Zero,
    /// The file has nothing for it; it reads as zeros.
    Hole,
}

/// A part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Where it begins on the disk.
    pub offset: u64,
    /// Its bytes on the disk.
    pub length: u64,
    /// What it is.
    pub kind: ExtentKind,
}

/// The extents of a disk in order, see [`DiskImage::extents`]. Neighbours differ in kind. It ends
/// after the first error.
pub struct Extents<'a> {
    runs: std::iter::Peekable<Runs<'a>>,
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = match self.runs.next()? {
            Ok(run) => run,
            Err(error) => return Some(Err(error)),
        };
        let mut extent = Extent { offset: run.offset, length: run.length, kind: kind(&run) };
        while let Some(next) = self.runs.next_if(|next| next.as_ref().is_ok_and(|next| kind(next) == extent.kind)) {
            extent.length = extent.length.saturating_add(next.map_or(0, |next| next.length));
        }
        Some(Ok(extent))
    }
}

impl std::fmt::Debug for Extents<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extents").finish_non_exhaustive()
    }
}

fn kind(run: &Run) -> ExtentKind {
    match run.source {
        Source::Hole => ExtentKind::Hole,
        Source::Zero => ExtentKind::Zero,
        Source::Stored(_) | Source::Packed(_) => ExtentKind::Data,
    }
}

/// The runs of a disk in order; ends after the first error.
pub(super) struct Runs<'a> {
    disk: &'a DiskImage,
    at: u64,
    claims: Claims,
}

impl Iterator for Runs<'_> {
    type Item = Result<Run>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.disk.virtual_size {
            return None;
        }
        let run = self.disk.run_at(self.at, Some(&mut self.claims));
        self.at = run.as_ref().map_or(u64::MAX, |run| run.offset.saturating_add(run.length));
        Some(run)
    }
}
