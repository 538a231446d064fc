//! `fingerprint`: prints the 64 hex digits of one file or of a split image, and nothing else.
//!
//! A single file is hashed as it is, whether or not it is an image: the result is that of `sha256sum`. Two files are
//! recognised first, because the fingerprint of a split image covers the metadata file before the rootfs, in whichever
//! order they were given. A name that is not a file means an image of the store or of a remote.

use std::path::PathBuf;

use clap::Args;
use lxd_image::format::{Image, fingerprint_of};

use crate::failure::Failure;
use crate::options::{Session, input};
use crate::store::TypeArgument;

/// Print an image's fingerprint
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image, or one file of a split image, or the name of an image of the store or a remote; `-` is standard input
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
    #[command(flatten)]
    which: TypeArgument,
}

/// Computes and prints the fingerprint.
///
/// # Errors
/// `NotFound` for a file or name that does not exist; for two files those of recognising a split image.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (image, rootfs) = (&*arguments.image, arguments.rootfs.as_deref());
    let named = if rootfs.is_none() { session.named(image, arguments.which)? } else { None };
    let (monitor, _shown) = session.monitor();
    let fingerprint = match (named, rootfs) {
        // A single file need not be an image: hash it as it is.
        (None, None) => {
            let file = input(image)?;
            let total = file.len();
            fingerprint_of([&file], total, &monitor)?
        }
        // The metadata file is hashed first, so the files must be recognised.
        (None, Some(_)) => session.open(image, rootfs, arguments.which)?.fingerprint(&monitor)?,
        (Some(source), _) => Image::open_with(source, &session.limits)?.fingerprint(&monitor)?,
    };
    session.print_fingerprint(&fingerprint)
}
