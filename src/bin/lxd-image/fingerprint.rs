//! `fingerprint`: the 64 digits of one file or two, nothing else.

use std::path::PathBuf;

use clap::Args;
use lxd_image::Result;
use lxd_image::format::{Image, Input, Source, fingerprint_of};

use crate::failure::Failure;
use crate::options::{Session, input};
use crate::output;

/// Print an image's fingerprint
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image, or one file of a split image; `-` is standard input
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (monitor, _shown) = session.monitor();
    let fingerprint = match &arguments.rootfs {
        // One file has one digest, whatever it is.
        None => {
            let file: Input = input(&arguments.image)?;
            let total = file.len();
            fingerprint_of([&file], total, &monitor)?
        }
        // Of two, the metadata comes first.
        Some(rootfs) => {
            let source = Source::split(input(&arguments.image)?, input(rootfs)?);
            Image::open_with(source, &session.limits)?.fingerprint(&monitor)?
        }
    };
    Ok(output::line(&fingerprint.to_string())?)
}
