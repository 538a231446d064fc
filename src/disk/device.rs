//! [`BlockDevice`]: a device as the target of a disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use super::target::DiskTarget;
use crate::error::{Error, ErrorKind, Result};

/// A block device that nobody else uses, to write a disk to.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::disk::{BlockDevice, DiskImage, DiskOptions, RawWriteOptions};
/// use lxd_image::io::Blob;
///
/// let disk = DiskImage::open(Blob::file(std::fs::File::open("disk.qcow2")?)?, &DiskOptions::new())?;
/// let device = BlockDevice::open("/dev/vg0/vm1")?;
/// disk.write_raw(&device, &RawWriteOptions::new(), &Monitor::none())?;
/// device.sync()?;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    path: PathBuf,
    size: u64,
}

/// Zeros that are written at once where the device can't make them itself.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl BlockDevice {
    /// Opens a device for this process alone: the kernel refuses one that is mounted, used as swap
    /// or held by another program, or has such a partition.
    ///
    /// # Errors
    /// `InvalidInput` for what is no block device, `Busy` for one that is in use, `NotFound`, `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::open_exclusive(path).map_err(|error| error.in_file(path))
    }

    fn open_exclusive(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the device can't be examined").with_source(error)
        })?;
        // Looked at before it is opened: opening a pipe would wait, and opening a tape would rewind it.
        if !about.file_type().is_block_device() {
            return Err(Error::invalid("this is not a block device")
                .with_hint("a disk in a file is written with `--disk-format raw`"));
        }
        let flags = OFlags::EXCL | OFlags::CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(path)
            .map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::BUSY) => Error::new(ErrorKind::Busy, "the device is in use")
                    .with_hint("unmount it and its partitions, and stop what else holds it"),
                _ => Error::io("the device can't be opened for writing", error),
            })?;
        // Between the look and the opening another file may have taken the name.
        if !file
            .metadata()
            .map_err(|error| Error::io("the device can't be examined", error))?
            .file_type()
            .is_block_device()
        {
            return Err(Error::invalid("this is not a block device"));
        }
        let size = rustix::fs::seek(&file, SeekFrom::End(0))
            .map_err(|error| Error::io("the size of the device can't be found", error))?;
        Ok(Self { file, path: path.to_path_buf(), size })
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until everything is on the device.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io("the device can't be synced", error).in_file(&self.path))
    }
}

impl DiskTarget for BlockDevice {
    fn write_bytes(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        // What was on the device before must not show through, so holes are written, by the device itself where it can.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.file, flags, offset, length).is_ok() {
            return Ok(());
        }
        let (mut at, end) = (offset, offset.saturating_add(length));
        while at < end {
            let count = usize::try_from(end.saturating_sub(at)).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.file.write_all_at(ZEROS.get(..count).unwrap_or_default(), at)?;
            at = at.saturating_add(count as u64);
        }
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        if size > self.size {
            let sentence = format!("the disk has {size} bytes, and the device has room for {}", self.size);
            return Err(Error::invalid(sentence).in_file(&self.path).into());
        }
        Ok(())
    }
}
