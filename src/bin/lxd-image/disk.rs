//! Disks of virtual machines on the command line: formats, block devices, and disks that are no images.
//!
//! A raw disk is never guessed, since what a virtual machine writes to its disk could otherwise choose the format. The
//! others are recognised, also inside of a compressed file.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use clap::Args;
use lxd_image::Limits;
use lxd_image::disk::{BlockDevice, ClusterCompression, DiskFormat, DiskOptions, DiskOutput};
use lxd_image::disk::{Qcow2WriteOptions, RawWriteOptions, WrittenDisk};
use lxd_image::format::{self, Input, PackOptions, StagedUnpack, Verified};
use lxd_image::{Error, ErrorKind, Result};

use crate::options::Session;

/// The format of a disk that is packed, and how it is compressed.
#[derive(Args, Default)]
pub(crate) struct DiskInput {
    /// The format of a virtual machine's disk: raw, qcow2, vmdk, ova, vhd or vhdx (default: recognised, and raw never is)
    #[arg(long, value_name = "FORMAT")]
    disk_input: Option<String>,
    /// How the clusters of a qcow2 disk are compressed: zlib, zstd or none, optionally `:LEVEL` (default: zlib for a disk
    /// that becomes qcow2; a qcow2 disk that is packed stays as it is)
    #[arg(long, value_name = "CODEC[:LEVEL]")]
    disk_compression: Option<String>,
}

impl DiskInput {
    /// Puts it into the options of packing.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown format.
    pub(crate) fn apply(&self, options: PackOptions) -> Result<PackOptions> {
        let options = match self.format()? {
            Some(format) => options.disk_input(format),
            None => options,
        };
        Ok(match self.compression()? {
            Some(compression) => options.disk_compression(compression),
            None => options,
        })
    }

    /// How clusters are compressed, if that was given.
    pub(crate) fn compression(&self) -> Result<Option<ClusterCompression>> {
        self.disk_compression.as_deref().map(str::parse).transpose()
    }

    /// The format, if one was given.
    pub(crate) fn format(&self) -> Result<Option<DiskFormat>> {
        self.disk_input.as_deref().map(str::parse).transpose()
    }
}

/// A device that `--to-device` names, opened before anything else happens: one that is in use is refused at once.
pub(crate) struct Device(BlockDevice);

impl Device {
    /// # Errors
    /// `Busy` for a device that is mounted or in use, `InvalidInput` for what is no block device.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        BlockDevice::open(path).map(Self)
    }

    /// Moves the disk of an image to the device and waits until it is there.
    pub(crate) fn receive(&self, staged: &StagedUnpack<Verified>, session: &Session) -> Result<WrittenDisk> {
        let (monitor, shown) = session.monitor();
        let mut options = RawWriteOptions::new();
        if let Some(threads) = session.threads {
            options = options.threads(threads);
        }
        let written = staged.move_disk_to(&self.0, &options, &monitor);
        drop(shown);
        let written = written?;
        self.0.sync()?;
        Ok(written)
    }
}

/// Whether a path is a disk that is no image: a single file that is recognised, also inside of a compressed one, or that
/// `format` calls a disk. A tar archive is an image unless it is called an OVA.
///
/// # Errors
/// `Io`.
pub(crate) fn is_lone_disk(path: &Path, format: Option<DiskFormat>, limits: &Limits) -> Result<bool> {
    if format.is_some() {
        return Ok(true);
    }
    if !std::fs::metadata(path).is_ok_and(|about| about.is_file()) {
        return Ok(false);
    }
    format::is_disk(&Input::open(path)?, limits)
}

/// Writes a disk in another format to a new file, which is removed after an error.
///
/// # Errors
/// `InvalidInput` for `keep`, and for a compression of a raw disk; `AlreadyExists`; those of the disk.
pub(crate) fn convert(
    disk: &Path,
    format: Option<DiskFormat>,
    out: &Path,
    to: DiskOutput,
    compression: Option<ClusterCompression>,
    session: &Session,
) -> Result<WrittenDisk> {
    if to == DiskOutput::Keep {
        return Err(Error::new(ErrorKind::InvalidInput, "a disk alone is converted to raw or qcow2, and not kept"));
    }
    if to == DiskOutput::Raw && compression.is_some() {
        let sentence = "the option `--disk-compression` has no effect: a raw disk is not compressed";
        return Err(Error::new(ErrorKind::InvalidInput, sentence));
    }
    let mut options = DiskOptions::new().limits(session.limits.clone());
    if let Some(format) = format {
        options = options.format(format);
    }
    let input = Input::open(disk)?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(out).map_err(|error| {
        let (kind, sentence) = match error.kind() {
            std::io::ErrorKind::AlreadyExists => (ErrorKind::AlreadyExists, "the file exists"),
            std::io::ErrorKind::NotFound => (ErrorKind::NotFound, "the directory of the file does not exist"),
            _ => (ErrorKind::Io, "the file can't be made"),
        };
        Error::new(kind, sentence).with_source(error).in_file(out)
    })?;
    let (monitor, shown) = session.monitor();
    // A compressed disk is decoded beside the one that comes out of it, where there must be room in any case.
    let beside = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = format::open_disk(&input, beside, &options, session.thread_count(), &monitor).and_then(|image| {
        if to == DiskOutput::Raw {
            let mut options = RawWriteOptions::new();
            if let Some(threads) = session.threads {
                options = options.threads(threads);
            }
            image.write_raw(&file, &options, &monitor)
        } else {
            let mut options = Qcow2WriteOptions::new().compression(compression.unwrap_or_default());
            if let Some(threads) = session.threads {
                options = options.threads(threads);
            }
            image.write_qcow2(&file, &options, &monitor)
        }
    });
    drop(shown);
    written.map_err(|error| {
        // What was written is part of a disk. Its error is the one to tell.
        let _ = std::fs::remove_file(out);
        error.in_file(disk)
    })
}
