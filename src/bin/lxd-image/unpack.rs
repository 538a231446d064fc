//! `unpack`: unpacks an image to a new directory, in one pass.
//!
//! The destination must not exist or be an empty directory. Everything is written to a private staging directory
//! beside it and renamed at the end, so a failed or cancelled run leaves nothing. With `--fingerprint` the image is
//! compared before the rename; without it the image is not verified against anything but the rules of the format. What
//! this user may not set (owners, devices, some attributes) is left out and reported as omissions on standard error.

use std::path::PathBuf;

use clap::Args;
use lxd_image::format::UnpackOptions;
use lxd_image::{Error, ErrorKind, Fingerprint, Result};

use crate::failure::Failure;
use crate::options::Session;
use crate::owners::IdArguments;
use crate::store::TypeArgument;

/// Unpack an image to a new directory
#[derive(Args)]
#[command(override_usage = "lxd-image unpack [OPTIONS] <IMAGE> [ROOTFS] <DEST>")]
pub(crate) struct Arguments {
    /// The image (or both files of a split image, in either order, or the name of an image of the store or a remote),
    /// then the destination
    #[arg(num_args = 2..=3, required = true, value_names = ["IMAGE", "[ROOTFS]", "DEST"])]
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
    #[command(flatten)]
    ids: IdArguments,
    /// Sync everything to disk before the end
    #[arg(long)]
    sync: bool,
}

/// Unpacks the image and prints its fingerprint.
///
/// The last path is the destination, the others are the input.
///
/// # Errors
/// `Mismatch` for another fingerprint than `--fingerprint`; `AlreadyExists` for the destination; those of the image.
/// Nothing is left after an error.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (destination, files) = arguments
        .paths
        .split_last()
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "an image and a destination are needed"))?;
    let expected = arguments.fingerprint.as_deref().map(str::parse::<Fingerprint>).transpose()?;
    let ids = arguments.ids.map()?;
    let Some(first) = files.first() else {
        return Err(Error::new(ErrorKind::InvalidInput, "an image and a destination are needed").into());
    };
    let image = session.open(first, files.get(1).map(PathBuf::as_path), arguments.which)?;
    let (monitor, shown) = session.monitor();
    let mut options = UnpackOptions::new()
        .rootfs_only(arguments.rootfs_only)
        .skip_devices(arguments.skip_devices)
        .all_xattrs(arguments.all_xattrs)
        .durable(arguments.sync)
        .map_ids(ids)
        .monitor(monitor);
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let done = match expected {
        Some(expected) => image.unpack_verified(destination, &expected, &options),
        None => image.unpack_unverified(destination, &options),
    };
    drop(shown);
    let done = done?;
    session.explain(|| format!("{} entries, {} bytes in files", done.report.entries, done.report.bytes));
    session.print_fingerprint(&done.fingerprint)
}
