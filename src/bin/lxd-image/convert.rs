//! `convert`: writes an image in another form or with another codec, in one stream.
//!
//! No tree is written to disk in between: members go from the decoder to the encoder. The output is a file, a file in
//! a directory (see [`OutFile`]), or standard output. With `--fingerprint` the source is compared while it is read, and
//! a mismatch removes the output. The fingerprint of the new image is the result on standard output; where the image
//! itself goes to standard output, the fingerprint is a note on standard error.
//!
//! With `--disk-format` the disk of a virtual machine is rewritten, and a disk alone becomes another one: nothing is
//! printed then, since a disk has no fingerprint.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lxd_image::disk::{DiskFormat, DiskOutput};
use lxd_image::format::{Codec, Compression, ConvertOptions, ImageForm, RootfsFormat};
use lxd_image::{Error, ErrorKind, Fingerprint, Result};

use crate::disk::{self, DiskInput};
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
    /// Rewrite the disk of a virtual machine: qcow2, or keep for the bytes in the image. A disk alone, which is no
    /// image, is converted to raw or qcow2
    #[arg(long, value_name = "FORMAT")]
    disk_format: Option<String>,
    #[command(flatten)]
    disk: DiskInput,
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
    let disk_format = arguments.disk_format.as_deref().map(str::parse::<DiskOutput>).transpose()?;
    let disk_input = arguments.disk.format()?;
    if let (Some(format), [disk]) = (disk_format, files)
        && disk::is_lone_disk(disk, disk_input, &session.limits)?
    {
        return lone_disk(arguments, disk, disk_input, out, format, session);
    }
    if disk_input.is_some() {
        let sentence = "the option `--disk-input` has no effect: it is for converting a disk alone";
        return Err(Error::new(ErrorKind::InvalidInput, sentence)
            .with_hint("add `--disk-format raw` or `qcow2`")
            .into());
    }
    let image = session.open(first, files.get(1).map(PathBuf::as_path), arguments.which)?;
    let (monitor, shown) = session.monitor();
    let mut options = ConvertOptions::new();
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
    if let Some(format) = disk_format {
        options = options.disk_format(format);
    }
    if let Some(compression) = arguments.disk.compression()? {
        options = options.disk_compression(compression);
    }
    if let Some(fingerprint) = &arguments.fingerprint {
        options = options.expected_fingerprint(fingerprint.parse::<Fingerprint>()?);
    }
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let to_stream = out == Path::new("-");
    let written = if to_stream {
        image.convert_to(output::Stdout, &options, &monitor)
    } else {
        let codec = arguments
            .compression
            .as_deref()
            .unwrap_or_else(|| image.containers().next().and_then(|c| c.codec()).map_or("none", Codec::name));
        OutFile::of(out, first, codec)?.write(|out| image.convert(out, &options, &monitor))
    };
    drop(shown);
    report(&written?, to_stream, session)
}

/// Converts a disk that is no image.
///
/// # Errors
/// `InvalidInput` for options about images; those of [`disk::convert`].
fn lone_disk(
    arguments: &Arguments,
    disk: &Path,
    input: Option<DiskFormat>,
    out: &Path,
    format: DiskOutput,
    session: &Session,
) -> Result<(), Failure> {
    let given = [
        ("--to", arguments.to.is_some()),
        ("--compression", arguments.compression.is_some()),
        ("--rootfs-format", arguments.rootfs_format.is_some()),
        ("--fingerprint", arguments.fingerprint.is_some()),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
        let sentence = format!("the option `{option}` has no effect: a disk alone is converted, which is no image");
        return Err(Error::new(ErrorKind::InvalidInput, sentence).into());
    }
    let written = disk::convert(disk, input, out, format, arguments.disk.compression()?, session)?;
    session.explain(|| format!("{} bytes for a disk of {}", written.bytes, written.virtual_size));
    Ok(())
}
