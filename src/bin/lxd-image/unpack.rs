//! `unpack`: unpacks an image to a new directory, in one pass.
//!
//! The destination must not exist or be an empty directory. Everything is written to a private staging directory
//! beside it and renamed at the end, so a failed or cancelled run leaves nothing. With `--fingerprint` the image is
//! compared before the rename; without it the image is not verified against anything but the rules of the format. What
//! this user may not set (owners, devices, some attributes) is left out and reported as omissions on standard error.
//!
//! The disk of a virtual machine becomes a sparse raw `rootfs.img`, as LXD makes it; `--disk-format` says otherwise, and
//! `--to-device` writes it to a block device instead. The device is opened for this process alone before anything else
//! happens, and written only after the image was read to its end and every table of the disk checked.

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::disk::DiskOutput;
use lxd_image::format::{Image, UnpackOptions};
use lxd_image::{Error, ErrorKind, Fingerprint, Monitor, Result};

use crate::disk::Device;
use crate::failure::Failure;
use crate::options::Session;
use crate::owners::IdArguments;
use crate::store::TypeArgument;

/// Unpack an image to a new directory
#[derive(Args)]
#[command(override_usage = "lxd-image unpack [OPTIONS] <IMAGE> [ROOTFS] <DEST>
       lxd-image unpack [OPTIONS] --to-device <DEVICE> <IMAGE> [DEST]")]
pub(crate) struct Arguments {
    /// The image (or both files of a split image, in either order, or the name of an image of the store or a remote),
    /// then the destination, which may be left out with --to-device
    #[arg(num_args = 1..=3, required = true, value_names = ["IMAGE", "[ROOTFS]", "DEST"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    which: TypeArgument,
    /// Put the root file system itself at DEST, without metadata and templates
    #[arg(long)]
    rootfs_only: bool,
    /// The fingerprint that the image must have; the destination appears only if it matches
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Create no device nodes
    #[arg(long)]
    skip_devices: bool,
    /// Set trusted.* and all security.* attributes too
    #[arg(long)]
    all_xattrs: bool,
    /// What the disk of a virtual machine becomes: raw (sparse), qcow2, or keep for the bytes in the image
    /// (default: raw)
    #[arg(long, value_name = "FORMAT")]
    disk_format: Option<String>,
    /// Write the disk of a virtual machine to this block device, which must not be in use, and the rest to DEST
    #[arg(long, value_name = "DEVICE", conflicts_with = "rootfs_only")]
    to_device: Option<PathBuf>,
    #[command(flatten)]
    ids: IdArguments,
    /// Sync everything to disk before the end
    #[arg(long)]
    sync: bool,
}

/// Ends the program with the status of wrong usage: clap can't tell which arguments `--to-device` makes optional.
fn missing_destination() -> ! {
    clap::Error::raw(clap::error::ErrorKind::MissingRequiredArgument, "an image and a destination are needed\n").exit()
}

/// Unpacks the image and prints its fingerprint.
///
/// The last path is the destination, the others are the input.
///
/// # Errors
/// `Mismatch` for another fingerprint than `--fingerprint`; `AlreadyExists` for the destination; `Busy` for a device in
/// use; those of the image. Nothing is left after an error, but on a device that was being written.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (files, destination) = match (arguments.paths.as_slice(), &arguments.to_device) {
        (files @ [_], Some(_)) => (files, None),
        ([files @ .., destination], _) if !files.is_empty() => (files, Some(destination.as_path())),
        _ => missing_destination(),
    };
    let Some(first) = files.first() else {
        return Err(Error::new(ErrorKind::InvalidInput, "an image is needed").into());
    };
    let expected = arguments.fingerprint.as_deref().map(str::parse::<Fingerprint>).transpose()?;
    let ids = arguments.ids.map()?;
    let disk_format = arguments.disk_format.as_deref().map(str::parse::<DiskOutput>).transpose()?;
    let device = match &arguments.to_device {
        Some(_) if disk_format.is_some_and(|format| format != DiskOutput::Raw) => {
            return Err(Error::new(ErrorKind::InvalidInput, "the disk on a device is a raw one")
                .with_hint("leave `--disk-format` out")
                .into());
        }
        Some(path) => Some(Device::open(path)?),
        None => None,
    };
    let image = session.open(first, files.get(1).map(PathBuf::as_path), arguments.which)?;
    let (monitor, shown) = session.monitor();
    let mut options = UnpackOptions::new()
        .rootfs_only(arguments.rootfs_only)
        .skip_devices(arguments.skip_devices)
        .all_xattrs(arguments.all_xattrs)
        .durable(arguments.sync)
        .map_ids(ids);
    options = match disk_format {
        // What the image has is what is moved.
        _ if device.is_some() => options,
        Some(format) => options.disk_format(format),
        None => options.disk_format_if_any(DiskOutput::Raw),
    };
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    if let Some(device) = device {
        let fingerprint = to_device(&image, &device, destination, expected, &options, session, &monitor)?;
        drop(shown);
        return session.print_fingerprint(&fingerprint);
    }
    let Some(destination) = destination else { missing_destination() };
    let done = match expected {
        Some(expected) => image.unpack_verified(destination, &expected, &options, &monitor),
        None => image.unpack_unverified(destination, &options, &monitor),
    };
    drop(shown);
    let done = done?;
    session.explain(|| format!("{} entries, {} bytes in files", done.report.entries, done.report.bytes));
    session.print_fingerprint(&done.fingerprint)
}

/// Unpacks an image whose disk goes to a device. Without a destination the rest is only checked.
fn to_device(
    image: &Image,
    device: &Device,
    destination: Option<&Path>,
    expected: Option<Fingerprint>,
    options: &UnpackOptions,
    session: &Session,
    monitor: &Monitor,
) -> Result<Fingerprint> {
    let name = format!("lxd-image-disk-{}", std::process::id());
    let place = destination.map_or_else(|| std::env::temp_dir().join(name), Path::to_path_buf);
    let staged = image.stage(&place, options, monitor)?;
    let staged = match expected {
        Some(expected) => staged.verify(&expected)?,
        None => staged.accept_unverified(),
    };
    let written = device.receive(&staged, session)?;
    session.explain(|| format!("{} of {} bytes written to the device", written.bytes, written.virtual_size));
    let fingerprint = staged.fingerprint();
    match destination {
        Some(destination) => {
            staged.commit(destination.file_name().unwrap_or_default())?;
        }
        None => staged.discard()?,
    }
    Ok(fingerprint)
}
