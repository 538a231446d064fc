//! Writes a raw disk: data where it belongs, holes where there are zeros.

use std::sync::atomic::{AtomicU64, Ordering};

use super::codec::Loader;
use super::image::DiskImage;
use super::pieces::{Piece, Pieces};
use super::qcow2::WrittenDisk;
use super::target::DiskTarget;
use crate::error::{Error, Result};
use crate::format::{default_threads, is_zero};
use crate::progress::{Monitor, Phase};

/// How a raw disk is written.
///
/// ```
/// use lxd_image::disk::RawWriteOptions;
///
/// let options = RawWriteOptions::new().threads(2);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RawWriteOptions {
    threads: usize,
}

impl Default for RawWriteOptions {
    fn default() -> Self {
        Self { threads: default_threads() }
    }
}

impl RawWriteOptions {
    /// On all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many threads decode and write, at most. At least one.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }
}

/// Zeros are left out in blocks of this size: that of most file systems.
const BLOCK_BYTES: usize = 4096;

impl DiskImage {
    /// Writes the disk as the virtual machine sees it. Zeros are not written to a file, which keeps
    /// holes in their place; a [`BlockDevice`](super::BlockDevice) is told to forget them.
    ///
    /// All tables are checked on the way. The target is not synced.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::disk::{DiskImage, DiskOptions, RawWriteOptions};
    /// use lxd_image::io::Blob;
    ///
    /// let disk = DiskImage::open(Blob::file(std::fs::File::open("disk.qcow2")?)?, &DiskOptions::new())?;
    /// let written = disk.write_raw(&std::fs::File::create_new("disk.img")?, &RawWriteOptions::new(), &Monitor::none())?;
    /// println!("{} of {} bytes", written.bytes, written.virtual_size);
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Malformed` for tables and clusters that do not hold together; `LimitExceeded` for more than
    /// `file_size` or `output` allow; `Cancelled`; `StorageFull`; `Io`. After an error the target
    /// holds a part of the disk.
    pub fn write_raw(
        &self,
        target: &dyn DiskTarget,
        options: &RawWriteOptions,
        monitor: &Monitor,
    ) -> Result<WrittenDisk> {
        let size = self.virtual_size();
        if size > self.limits.file_size {
            return Err(Error::limit("file_size", self.limits.file_size, format_args!("a raw disk of {size} bytes")));
        }
        let failed = |error| Error::io("the disk can't be written", error);
        target.set_size(size).map_err(failed)?;
        let written = AtomicU64::new(0);
        let mut packed = PackedBytes::new(self);
        let mut pieces = Pieces::new(
            self,
            BLOCK_BYTES as u64,
            |hole: &super::runs::Run| target.write_zeros(hole.offset, hole.length).map_err(failed),
            monitor,
        )?;
        pieces.crew(options.threads).run(
            || pieces.next(),
            || Ok((Loader::default(), Vec::new())),
            |(loader, buffer), piece: Piece| {
                monitor.check()?;
                let mut used = 0_u64;
                let mut runs = piece.runs.iter().peekable();
                while let Some(first) = runs.peek().copied() {
                    // Runs that follow each other are written at once.
                    let mut end = first.offset;
                    buffer.resize(piece.length, 0);
                    let mut filled = 0_usize;
                    while let Some(run) = runs.next_if(|run| run.offset == end) {
                        let length = usize::try_from(run.length).unwrap_or(usize::MAX);
                        let part = buffer.get_mut(filled..filled.saturating_add(length)).unwrap_or_default();
                        used = used.saturating_add(loader.load(&self.blob, run, part)?);
                        filled = filled.saturating_add(length);
                        end = end.saturating_add(run.length);
                    }
                    let count =
                        write_blocks(target, buffer.get(..filled).unwrap_or_default(), first.offset).map_err(failed)?;
                    let all = written.fetch_add(count, Ordering::Relaxed).saturating_add(count);
                    if all > self.limits.output {
                        return Err(Error::limit("output", self.limits.output, "the disk's data"));
                    }
                }
                Ok(used)
            },
            |used| packed.add(used),
        )?;
        monitor.report(Phase::Convert, size, Some(size))?;
        Ok(WrittenDisk { virtual_size: size, bytes: written.into_inner() })
    }
}

/// Writes bytes and leaves out blocks of zeros, which become zeros of the target. Returns how many were written.
fn write_blocks(target: &dyn DiskTarget, bytes: &[u8], offset: u64) -> std::io::Result<u64> {
    let (mut written, mut at) = (0_u64, offset);
    for group in bytes.chunk_by_blocks() {
        match group {
            Group::Data(data) => {
                target.write_bytes(data, at)?;
                written = written.saturating_add(data.len() as u64);
                at = at.saturating_add(data.len() as u64);
            }
            Group::Zeros(length) => {
                target.write_zeros(at, length as u64)?;
                at = at.saturating_add(length as u64);
            }
        }
    }
    Ok(written)
}

/// Blocks that follow each other and are all data, or all zeros.
enum Group<'a> {
    Data(&'a [u8]),
    Zeros(usize),
}

trait Blocks {
    fn chunk_by_blocks(&self) -> impl Iterator<Item = Group<'_>>;
}

impl Blocks for [u8] {
    fn chunk_by_blocks(&self) -> impl Iterator<Item = Group<'_>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let zeros = is_zero(rest.chunks(BLOCK_BYTES).next()?);
            let count = rest.chunks(BLOCK_BYTES).take_while(|block| is_zero(block) == zeros).count();
            let (group, behind) = rest.split_at(count.saturating_mul(BLOCK_BYTES).min(rest.len()));
            rest = behind;
            Some(if zeros { Group::Zeros(group.len()) } else { Group::Data(group) })
        })
    }
}

/// Counts the bytes of compressed clusters. They lie one after the other in the file, so that more
/// than the file has means that some are used twice.
pub(super) struct PackedBytes {
    used: u64,
    length: u64,
}

impl PackedBytes {
    pub(super) fn new(disk: &DiskImage) -> Self {
        Self { used: 0, length: crate::io::ReadAt::len(&disk.blob) }
    }

    /// # Errors
    /// `Malformed` when clusters are used twice.
    pub(super) fn add(&mut self, bytes: u64) -> Result<()> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.length {
            return Err(Error::malformed("compressed clusters of the disk are used more than once"));
        }
        Ok(())
    }
}
