//! Deltas: what differs between two versions of a file.

use std::fs::File;
use std::path::Path;

use lxd_image::delta::{self, DeltaOptions};
use lxd_image::io::Blob;
use lxd_image::{Error, ErrorKind, Result};

use crate::args::{self, versioned};
use crate::error::{call, lxi_error};
use crate::limits::{limits_or_default, lxi_limits};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::types::*;
use crate::verify::threads;

/// How a delta is made. NULL, or all but `size` zero: as small as it gets, with all cores.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_delta_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_DELTA_….
    pub flags: u32,
    /// With LXI_DELTA_LEVEL: how hard to compress, from 1 (fast) to 9 (small); 0 does not compress.
    pub level: u32,
    /// How many threads work; 0 for all cores. The delta is the same for every number; each needs up to 700 MiB.
    pub threads: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// How many bytes the index of the old file may take; 0 for 256 MiB. The delta depends on it.
    pub index_memory: u64,
    /// Progress and cancellation of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// `level` is said.
pub const LXI_DELTA_LEVEL: u32 = 1;

/// What a delta was made of, or what it made. Set `size` to `sizeof(lxi_delta_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_delta_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The size of the delta in bytes.
    pub delta_bytes: u64,
    /// The size of the new file in bytes.
    pub new_bytes: u64,
    /// How many bytes of the new file are copied from the old one.
    pub copied_bytes: u64,
    /// How many windows the delta has.
    pub windows: u64,
    /// Whether each window has a checksum. Without them only a digest shows that the old file was the right one.
    pub has_checksums: bool,
}

versioned!(lxi_delta_options, lxi_delta_info);

fn open(path: &Path) -> Result<Blob> {
    File::open(path).and_then(Blob::file).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
            _ => ErrorKind::Io,
        };
        Error::new(kind, "the file can't be opened").with_source(error).in_file(path)
    })
}

/// Writes the delta that makes the file `new_file` out of `old_file` to `out`, in the format of xdelta3. `out` gets its
/// name when it is complete. `options` and `info` may be NULL.
///
/// Threads: any. Errors: LXI_NOT_FOUND for a file that is not there, LXI_ALREADY_EXISTS for an output that is,
/// LXI_CANCELLED, LXI_STORAGE_FULL, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_delta_make(
    old_file: lxi_str,
    new_file: lxi_str,
    out: lxi_str,
    options: *const lxi_delta_options,
    info: *mut lxi_delta_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let given = args::options(options)?;
        let flags = args::flags(given.flags, LXI_DELTA_LEVEL, "flags of a delta")?;
        args::flags(given.reserved, 0, "reserved bits of a delta")?;
        let mut options = DeltaOptions::new();
        if flags != 0 {
            options = options.level(given.level);
        }
        if given.threads > 0 {
            options = options.threads(threads(given.threads));
        }
        if given.index_memory > 0 {
            options = options.index_memory(given.index_memory);
        }
        let (old, new) = (open(args::path(old_file, "old file")?)?, open(args::path(new_file, "new file")?)?);
        let out = args::path(out, "path of the delta")?;
        let report = delta::make_file(&old, &new, out, &options, &monitor_from(given.monitor)?)?;
        if info.is_null() {
            return Ok(());
        }
        let told = lxi_delta_info {
            size: 0,
            delta_bytes: report.delta_bytes,
            new_bytes: report.new_bytes,
            copied_bytes: report.copied_bytes,
            windows: report.windows,
            has_checksums: true,
        };
        args::fill(info, &told)
    })
}

/// Applies the delta in the file `delta` to `old_file` and writes the new version to `out`, which gets its name when it is
/// complete and, with `expected_sha256`, which may be NULL, has that digest. A delta is as hostile as any input: compare
/// the digest. `limits`, `monitor` and `info` may be NULL.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_ALREADY_EXISTS; LXI_MALFORMED for a broken delta; LXI_MISMATCH where `old_file`
/// is not the one that it was made from, and for another digest; LXI_UNSUPPORTED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED;
/// LXI_STORAGE_FULL; LXI_IO. There is no output then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_delta_apply(
    old_file: lxi_str,
    delta: lxi_str,
    out: lxi_str,
    expected_sha256: *const lxi_fingerprint,
    limits: *const lxi_limits,
    monitor: *const lxi_monitor,
    info: *mut lxi_delta_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let old = open(args::path(old_file, "old file")?)?;
        let path = args::path(delta, "path of the delta")?;
        let delta = File::open(path).map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let kind = if missing { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the file can't be opened").with_source(error).in_file(path)
        })?;
        let out = args::path(out, "path of the new file")?;
        let expected = args::optional_fingerprint(expected_sha256)?;
        let (limits, monitor) = (limits_or_default(limits)?, monitor_from(monitor)?);
        let report = delta::apply_file(&old, delta, out, expected.as_ref(), &limits, &monitor)?;
        if info.is_null() {
            return Ok(());
        }
        let told = lxi_delta_info {
            size: 0,
            delta_bytes: report.delta_bytes,
            new_bytes: report.output_bytes,
            copied_bytes: report.copied_bytes,
            windows: report.windows,
            has_checksums: report.checksums,
        };
        args::fill(info, &told)
    })
}
