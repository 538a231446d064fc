//! Disks of virtual machines: opened, read as the machine sees them, converted.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lxd_image::disk::{
    BlockDevice, ClusterCompression, DiskFormat, DiskImage, DiskOptions, DiskOutput, DiskTarget, Qcow2WriteOptions,
    RawWriteOptions, WrittenDisk,
};
use lxd_image::format::open_disk;
use lxd_image::io::ReadAt;
use lxd_image::{Error, ErrorKind, Monitor, Result};

use crate::args::{self, invalid, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::limits::{limits_or_default, lxi_limits};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::staged::{Stage, lxi_staged};
use crate::stream::{lxi_input, one_input};
use crate::types::*;
use crate::verify::threads;

/// A disk image: qcow2, VMDK, OVA, VHD, VHDX or raw. Read-only, so it may be shared between threads.
///
/// A disk that needs another file (a backing file, external data, a parent, further parts) is refused with
/// LXI_UNSUPPORTED, whose message names the file: nothing but the one file is ever opened.
pub struct lxi_disk {
    _opaque: (),
}

/// How a disk is opened. NULL, or all but `size` zero: its format is recognised, and raw never is.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_disk_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// The format that it must have: `raw`, `qcow2`, `vmdk`, `ova`, `vhd` or `vhdx`; empty to recognise it.
    pub format: lxi_str,
    /// Where a disk in a compressed file is decoded to; empty for the directory of temporary files.
    pub directory: lxi_str,
    /// How many threads decode a compressed file, at most; 0 for all cores.
    pub threads: u32,
    /// Must be 0.
    pub flags: u32,
    /// The limits that tables and sizes are held to, or NULL.
    pub limits: *const lxi_limits,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// A disk; filled by `lxi_disk_get`. Set `size` to `sizeof(lxi_disk_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_disk_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The format of the file: `raw`, `qcow2`, `vmdk`, `ova`, `vhd` or `vhdx`.
    pub format: lxi_str,
    /// The format of the disk in an OVA; otherwise that of the file.
    pub disk_format: lxi_str,
    /// The kind within the format, for people: `version 3, zstd`, `streamOptimized`. Empty for a raw disk.
    pub variant: lxi_str,
    /// The size that the virtual machine sees, in bytes.
    pub virtual_size: u64,
    /// Bytes that one entry of the format's tables stands for; 0 for a raw disk and a fixed VHD.
    pub cluster_size: u64,
}

/// How a disk is written. NULL, or all but `size` zero: as qcow2 to a new file, its clusters compressed with zlib.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_disk_write_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// `qcow2` or `raw`; empty for qcow2.
    pub format: lxi_str,
    /// How the clusters of a qcow2 disk are compressed: `zlib`, `zstd` or `none`, optionally `:LEVEL`; empty for zlib.
    /// Refused for a raw disk.
    pub compression: lxi_str,
    /// Bytes of a cluster of a qcow2 disk, a power of two from 512 to 2 MiB; 0 for 64 KiB. Refused for a raw disk.
    pub cluster_size: u64,
    /// How many threads work, at most; 0 for all cores. The bytes don't depend on it.
    pub threads: u32,
    /// LXI_DISK_….
    pub flags: u32,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// The output is a block device, which a raw disk is written to; it is on the device when the call returns.
pub const LXI_DISK_TO_DEVICE: u32 = 1;

/// A disk that was written; filled by `lxi_disk_write` and `lxi_staged_move_disk`. Set `size` to
/// `sizeof(lxi_disk_written)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_disk_written {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The size that the virtual machine sees, in bytes.
    pub virtual_size: u64,
    /// Bytes that were written: of a raw disk its data, of a qcow2 disk the whole file.
    pub bytes: u64,
}

versioned!(lxi_disk_options, lxi_disk_info, lxi_disk_write_options, lxi_disk_written);
handles! { lxi_disk(46) = DiskImage; }

/// The format of a disk that is read.
pub(crate) unsafe fn disk_format(given: lxi_str) -> Result<Option<DiskFormat>> {
    args::optional_text(given, "format of the disk")?.map(str::parse).transpose()
}

/// How clusters are compressed.
pub(crate) unsafe fn disk_compression(given: lxi_str) -> Result<Option<ClusterCompression>> {
    args::optional_text(given, "compression of the disk")?.map(str::parse).transpose()
}

/// What the disk of an image becomes.
pub(crate) unsafe fn disk_output(given: lxi_str) -> Result<Option<DiskOutput>> {
    args::optional_text(given, "format of the disk")?.map(str::parse).transpose()
}

/// Opens a disk image, also one in a compressed file, which is decoded to a temporary file. `options` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_disk_free`. Threads: any. Errors: LXI_UNSUPPORTED for what needs another
/// file, for encryption, for unknown features, and for content without a magic number that `options` don't call raw;
/// LXI_MALFORMED; LXI_INVALID_INPUT for another format than the one that is asked for, and for a stream;
/// LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_disk_open(
    input: *const lxi_input,
    options: *const lxi_disk_options,
    disk: *mut *mut lxi_disk,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        // Taken first, so that a stream is released whatever else is wrong.
        let input = one_input(input);
        let place = args::out_handle(disk, "disk")?;
        let given = args::options(options)?;
        args::flags(given.flags, 0, "flags of opening a disk")?;
        let mut options = DiskOptions::new().limits(limits_or_default(given.limits)?);
        if let Some(format) = disk_format(given.format)? {
            options = options.format(format);
        }
        let directory = args::optional_path(given.directory, "directory of temporary files")?;
        let directory = directory.map_or_else(std::env::temp_dir, Path::to_owned);
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if given.threads > 0 { threads(given.threads) } else { cores() };
        place.set(handle::make(open_disk(&input?, directory, &options, threads, &monitor_from(given.monitor)?)?));
        Ok(())
    })
}

/// Fills `info` with what a disk is.
///
/// Owner: the texts belong to the disk. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_disk_get(
    disk: *const lxi_disk,
    info: *mut lxi_disk_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let disk = handle::get(disk)?;
        let told = lxi_disk_info {
            size: 0,
            format: lxi_str::of(disk.format().name()),
            disk_format: lxi_str::of(disk.disk_format().name()),
            variant: lxi_str::of(disk.variant()),
            virtual_size: disk.virtual_size(),
            cluster_size: disk.cluster_size().unwrap_or(0),
        };
        args::fill(info, &told)
    })
}

/// Bytes of the disk that are not known to be zeros: what a sparse raw file of it takes at most. Reads and checks all
/// tables, and no data. `monitor` may be NULL.
///
/// Threads: any. Errors: LXI_MALFORMED for tables that overlap; LXI_LIMIT_EXCEEDED (`disk_map`); LXI_CANCELLED; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_disk_allocated(
    disk: *const lxi_disk,
    monitor: *const lxi_monitor,
    bytes: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out(bytes, 0, "bytes")?;
        place.set(handle::get(disk)?.allocated_bytes(&monitor_from(monitor)?)?);
        Ok(())
    })
}

/// Reads what the virtual machine sees from `offset` on: up to `capacity` bytes to `buffer`, and how many to `got`:
/// fewer only at the end of the disk, and 0 past it.
///
/// Threads: any, also several with one disk. Errors: LXI_MALFORMED for a part of the disk that can't be decoded;
/// LXI_IO. What `buffer` holds then is not said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_disk_read_at(
    disk: *const lxi_disk,
    offset: u64,
    buffer: *mut u8,
    capacity: usize,
    got: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out(got, 0, "got")?;
        let disk = handle::get(disk)?;
        let left = usize::try_from(disk.virtual_size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let buffer = args::writable(buffer, capacity, "buffer")?;
        let wanted = buffer.get_mut(..left.min(capacity)).unwrap_or_default();
        disk.read_exact_at(wanted, offset)?;
        place.set(wanted.len());
        Ok(())
    })
}

fn new_file(out: &Path) -> Result<std::fs::File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(out).map_err(|error| {
        let (kind, sentence) = match error.kind() {
            std::io::ErrorKind::AlreadyExists => (ErrorKind::AlreadyExists, "the file exists"),
            std::io::ErrorKind::NotFound => (ErrorKind::NotFound, "the directory of the file does not exist"),
            _ => (ErrorKind::Io, "the file can't be made"),
        };
        Error::new(kind, sentence).with_source(error).in_file(out)
    })
}

fn raw_options(given: &lxi_disk_write_options) -> RawWriteOptions {
    match given.threads {
        0 => RawWriteOptions::new(),
        some => RawWriteOptions::new().threads(threads(some)),
    }
}

unsafe fn write(
    disk: &DiskImage,
    target: &dyn DiskTarget,
    given: &lxi_disk_write_options,
    to: DiskOutput,
    monitor: &Monitor,
) -> Result<WrittenDisk> {
    let compression = disk_compression(given.compression)?;
    if to == DiskOutput::Raw {
        if compression.is_some() || given.cluster_size > 0 {
            return Err(invalid("a raw disk has no clusters: compression and cluster size are for qcow2"));
        }
        return disk.write_raw(target, &raw_options(given), monitor);
    }
    let mut options = Qcow2WriteOptions::new().compression(compression.unwrap_or_default());
    if given.cluster_size > 0 {
        options = options.cluster_size(given.cluster_size);
    }
    if given.threads > 0 {
        options = options.threads(threads(given.threads));
    }
    disk.write_qcow2(target, &options, monitor)
}

/// Writes the disk to `out`, a new file, or a block device with LXI_DISK_TO_DEVICE. A raw file is sparse. `options` and
/// `written` may be NULL.
///
/// Threads: any. Errors: LXI_ALREADY_EXISTS; LXI_BUSY for a device that is mounted or in use; LXI_INVALID_INPUT for
/// what is no block device, one that is too small, a format that is none, and options that a raw disk has none of;
/// LXI_MALFORMED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_STORAGE_FULL; LXI_IO. A new file is removed then; a device may
/// hold a part of the disk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_disk_write(
    disk: *const lxi_disk,
    out: lxi_str,
    options: *const lxi_disk_write_options,
    written: *mut lxi_disk_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let disk = handle::get(disk)?;
        check_written(written)?;
        let out = args::path(out, "output")?;
        let given = args::options(options)?;
        let flags = args::flags(given.flags, LXI_DISK_TO_DEVICE, "flags of writing a disk")?;
        let to = disk_output(given.format)?.unwrap_or(DiskOutput::Qcow2);
        if to == DiskOutput::Keep {
            return Err(invalid("a disk alone is written as raw or qcow2, and not kept"));
        }
        let monitor = monitor_from(given.monitor)?;
        let done = if flags != 0 {
            if to != DiskOutput::Raw {
                return Err(invalid("a block device takes a raw disk").with_hint("set the format `raw`"));
            }
            let device = BlockDevice::open(out)?;
            let done = write(disk, &device, &given, to, &monitor)?;
            device.sync()?;
            done
        } else {
            let file = new_file(out)?;
            write(disk, &file, &given, to, &monitor).inspect_err(|_| {
                // What was written is part of a disk. Its error is the one to tell.
                let _ = std::fs::remove_file(out);
            })?
        };
        fill_written(written, done)
    })
}

/// Looks at where the result goes before anything is written.
unsafe fn check_written(place: *mut lxi_disk_written) -> Result<()> {
    if place.is_null() { Ok(()) } else { args::fill(place, &lxi_disk_written { size: 0, virtual_size: 0, bytes: 0 }) }
}

unsafe fn fill_written(place: *mut lxi_disk_written, done: WrittenDisk) -> Result<()> {
    if place.is_null() {
        return Ok(());
    }
    args::fill(place, &lxi_disk_written { size: 0, virtual_size: done.virtual_size, bytes: done.bytes })
}

/// Moves the disk of a staged image of a virtual machine to `out`, a new raw file, or a block device with
/// LXI_DISK_TO_DEVICE: the rest is committed without it. The image must be verified or accepted before, as a device
/// can't be put back. Of `options`, which may be NULL, flags, threads and monitor count; the format is raw. `written`
/// may be NULL.
///
/// Threads: one at a time. Errors: those of `lxi_disk_write`; LXI_INVALID_INPUT for a container, and for an image that
/// is not verified.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_staged_move_disk(
    staged: *mut lxi_staged,
    out: lxi_str,
    options: *const lxi_disk_write_options,
    written: *mut lxi_disk_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let Stage::Verified(staged, _) = handle::get_mut(staged)? else {
            return Err(invalid("the image must be verified or accepted before its disk is moved"));
        };
        check_written(written)?;
        let out = args::path(out, "output")?;
        let given = args::options(options)?;
        let flags = args::flags(given.flags, LXI_DISK_TO_DEVICE, "flags of moving a disk")?;
        let to = disk_output(given.format)?.unwrap_or(DiskOutput::Raw);
        if to != DiskOutput::Raw || given.cluster_size > 0 || disk_compression(given.compression)?.is_some() {
            return Err(invalid("the disk of an image is moved as a raw disk, which has no clusters"));
        }
        let monitor = monitor_from(given.monitor)?;
        let done = if flags != 0 {
            let device = BlockDevice::open(out)?;
            let done = staged.move_disk_to(&device, &raw_options(&given), &monitor)?;
            device.sync()?;
            done
        } else {
            let file = new_file(out)?;
            staged.move_disk_to(&file, &raw_options(&given), &monitor).inspect_err(|_| {
                // What was written is part of a disk. Its error is the one to tell.
                let _ = std::fs::remove_file(out);
            })?
        };
        fill_written(written, done)
    })
}

/// Frees a disk; NULL is allowed. The file stays.
///
/// Threads: any, the disk being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_disk_free(disk: *mut lxi_disk) -> lxi_status {
    free(disk)
}
