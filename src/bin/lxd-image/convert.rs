//! `convert`: writes an image in another form or with another codec, in one stream.
//!
//! No tree is written to disk in between: members go from the decoder to the encoder. The output is a file, a file in
//! a directory (see [`OutFile`]), or standard output. With `--fingerprint` the source is compared while it is read, and
//! a mismatch removes the output. The fingerprint of the new image is the result on standard output; where the image
//! itself goes to standard output, the fingerprint is a note on standard error.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lxd_image::format::{Codec, Compression, ConvertOptions, ImageForm, RootfsFormat};
use lxd_image::{Error, ErrorKind, Fingerprint, Result};

use crate::failure::Failure;
use crate::options::Session;
use crate::out_file::OutFile;
use crate::output;
use crate::pack::report;
use crate::store::TypeArgument;

/// Convert an image to another form or compression
#[derive(Args)]
#[command(override_usage = "lxd-image convert [OPTIONS] <IMAGE> [ROOTFS] <OUT>")]
pub(crate) struct Arguments {
    /// The image (or both files of a split image, in either order, or the name of an image of the store or a remote),
    /// then the output: a file, a directory, or `-` for standard output
    #[arg(num_args = 2..=3, required = true, value_names = ["IMAGE", "[ROOTFS]", "OUT"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    which: TypeArgument,
    /// The form of the output (default: that of the image)
    #[arg(long, value_enum, value_name = "FORM")]
    to: Option<To>,
    /// xz, gzip, zstd, bzip2, lz4 or none, optionally `:LEVEL` (default: by the ending of OUT, else that of the
    /// image)
    #[arg(long, value_name = "CODEC[:LEVEL]")]
    compression: Option<String>,
    /// What the rootfs of a split image becomes: tar or squashfs
    #[arg(long, value_name = "FORMAT")]
    rootfs_format: Option<String>,
    /// The fingerprint that the image must have
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// One file
    Unified,
    /// OUT and OUT.root
    Split,
}

/// Converts the image and prints the fingerprint of the result.
///
/// The last path is the output, the others are the input; clap cannot express that, because the second is optional.
///
/// # Errors
/// Those of opening and converting; `Mismatch` for another fingerprint than `--fingerprint`, after which no output is
/// left.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (Some((out, files)), Some(first)) = (arguments.paths.split_last(), arguments.paths.first()) else {
        return Err(Error::new(ErrorKind::InvalidInput, "an image and an output are needed").into());
    };
    let image = session.open(first, files.get(1).map(PathBuf::as_path), arguments.which)?;
    let (monitor, shown) = session.monitor();
    let mut options = ConvertOptions::new().monitor(monitor);
    if let Some(to) = arguments.to {
        options = options.form(match to {
            To::Unified => ImageForm::Unified,
            To::Split => ImageForm::Split,
        });
    }
    if let Some(compression) = &arguments.compression {
        options = options.compression(compression.parse::<Compression>()?);
    }
    if let Some(format) = &arguments.rootfs_format {
        options = options.rootfs_format(format.parse::<RootfsFormat>()?);
    }
    if let Some(fingerprint) = &arguments.fingerprint {
        options = options.expect(fingerprint.parse::<Fingerprint>()?);
    }
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let to_stream = out == Path::new("-");
    let written = if to_stream {
        image.convert_to(output::Stdout, &options)
    } else {
        let codec = arguments
            .compression
            .as_deref()
            .unwrap_or_else(|| image.containers().next().and_then(|c| c.codec()).map_or("none", Codec::name));
        OutFile::of(out, first, codec)?.write(|out| image.convert(out, &options))
    };
    drop(shown);
    report(&written?, to_stream, session)
}
