//! `fingerprint`: the 64 digits of one file or two, nothing else.

use std::path::PathBuf;

use clap::Args;
use lxd_image::format::{Image, fingerprint_of};

use crate::failure::Failure;
use crate::options::{Session, input};
use crate::store::Which;

/// Print an image's fingerprint
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image, or one file of a split image, or what the store or a remote calls it; `-` is standard input
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (image, rootfs) = (&*arguments.image, arguments.rootfs.as_deref());
    let named = if rootfs.is_none() { session.named(image, arguments.which)? } else { None };
    let (monitor, _shown) = session.monitor();
    let fingerprint = match (named, rootfs) {
        // One file has one digest, whatever it is.
        (None, None) => {
            let file = input(image)?;
            let total = file.len();
            fingerprint_of([&file], total, &monitor)?
        }
        // Of two, the metadata comes first.
        (None, Some(_)) => session.open(image, rootfs, arguments.which)?.fingerprint(&monitor)?,
        (Some(source), _) => Image::open_with(source, &session.limits)?.fingerprint(&monitor)?,
    };
    session.print_fingerprint(&fingerprint)
}
