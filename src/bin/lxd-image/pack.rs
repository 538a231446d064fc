//! `pack`: packs a directory or a virtual machine's disk to an image.
//!
//! The result is reproducible: the same tree, metadata and options give the same bytes, on any number of threads.
//! `SOURCE_DATE_EPOCH` (https://reproducible-builds.org/specs/source-date-epoch/) is the default of the creation date
//! and the upper bound of modification times. A `--metadata` file goes into the image byte for byte; without it the
//! metadata is built from `--architecture`, `--property` and `--creation-date`.
//!
//! A disk that is qcow2 goes into the image byte for byte; every other becomes qcow2, which is what LXD and Incus take.

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::format::{Compression, ImageForm, PackOptions, Rootfs, RootfsFormat, Written, pack, pack_to};
use lxd_image::{Error, ErrorKind, Metadata, Result};

use crate::disk::DiskInput;
use crate::failure::Failure;
use crate::options::Session;
use crate::out_file::OutFile;
use crate::output;
use crate::owners::TreeArguments;
use crate::reproduce::ProvenanceArguments;
use crate::signals::{self, or_cancelled};
use crate::store::pair;

/// Pack a root file system, or a virtual machine's disk, to an image
#[derive(Args)]
pub(crate) struct Arguments {
    /// A directory, or for a virtual machine a disk: qcow2, VMDK, OVA, VHD, VHDX, or a raw one with --disk-input raw
    rootfs: PathBuf,
    /// The image to write, or a directory to write it into; `-` is standard output
    out: PathBuf,
    /// A metadata.yaml, which becomes part of the image unchanged
    #[arg(long, value_name = "FILE", conflicts_with_all = ["architecture", "property", "creation_date"])]
    metadata: Option<PathBuf>,
    /// The architecture, as the kernel or the distribution names it
    #[arg(long, value_name = "NAME", required_unless_present = "metadata")]
    architecture: Option<String>,
    /// A property (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
    /// A date, a time or seconds since 1970 (default: SOURCE_DATE_EPOCH, else now)
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = crate::store::moment)]
    creation_date: Option<i64>,
    /// The directory whose files become the templates
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// xz, gzip, zstd, bzip2, lz4 or none, optionally `:LEVEL` (default: by the ending of OUT, else zstd)
    #[arg(long, value_name = "CODEC[:LEVEL]")]
    compression: Option<String>,
    /// Write OUT (metadata) and OUT.root
    #[arg(long)]
    split: bool,
    /// What OUT.root is: tar or squashfs
    #[arg(long, value_name = "FORMAT", default_value = "tar")]
    rootfs_format: String,
    #[command(flatten)]
    disk: DiskInput,
    #[command(flatten)]
    tree: TreeArguments,
    #[command(flatten)]
    provenance: ProvenanceArguments,
}

/// Packs the image and prints its fingerprint.
///
/// # Errors
/// `InvalidInput` for an unknown architecture, or SquashFS without `--split`; those of reading the tree and writing the
/// output, after which no output is left.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let epoch = source_date_epoch()?;
    let mut options = match &arguments.metadata {
        Some(path) => {
            PackOptions::from_metadata_bytes(read(path)?, &session.limits).map_err(|error| error.in_file(path))?
        }
        None => PackOptions::new(metadata(arguments, epoch)?),
    };
    let rootfs_format: RootfsFormat = arguments.rootfs_format.parse()?;
    if arguments.split {
        options = options.form(ImageForm::Split);
    } else if rootfs_format != RootfsFormat::Tar {
        return Err(Error::new(ErrorKind::InvalidInput, "a SquashFS is the rootfs of a split image")
            .with_hint("add --split")
            .into());
    }
    let (monitor, shown) = session.monitor();
    options = options.rootfs_format(rootfs_format).newest_mtime(epoch).limits(session.limits.clone());
    options = arguments.disk.apply(arguments.tree.apply(options)?)?;
    if let Some(compression) = &arguments.compression {
        options = options.compression(compression.parse::<Compression>()?);
    }
    if let Some(templates) = &arguments.templates {
        options = options.templates(templates);
    }
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let rootfs = Rootfs::open(&arguments.rootfs)?;
    let to_stream = arguments.out == Path::new("-");
    let provenance = arguments.provenance.signer()?;
    if to_stream && provenance.is_some() {
        let sentence = "a statement is written beside the image, and this one goes to standard output";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("name a file").into());
    }
    let written = if to_stream {
        pack_to(&rootfs, output::Stdout, &options, &monitor)
    } else {
        let codec = arguments.compression.as_deref().unwrap_or("zstd");
        OutFile::of(&arguments.out, &arguments.rootfs, codec)?.write(|out| {
            let written = pack(&rootfs, out, &options, &monitor)?;
            if let Some(signer) = provenance {
                signer.write_beside(out, &options, &written)?;
            }
            Ok(written)
        })
    };
    drop(shown);
    report(&written?, to_stream, session)
}

/// Prints the fingerprint to standard output, or to standard error if the image itself was written to standard output.
pub(crate) fn report(written: &Written, to_stream: bool, session: &Session) -> Result<(), Failure> {
    session.explain(|| format!("{} bytes", written.size));
    if to_stream {
        session.note(|| written.fingerprint.to_string());
        return Ok(());
    }
    session.print_fingerprint(&written.fingerprint)
}

/// Builds the metadata from the options. Names of architectures are checked here, because LXD refuses images for
/// unknown ones only when they are imported.
fn metadata(arguments: &Arguments, epoch: Option<i64>) -> Result<Metadata> {
    let architecture = arguments.architecture.as_deref().unwrap_or_default();
    let now = || jiff::Timestamp::now().as_second();
    let created = arguments.creation_date.or(epoch).unwrap_or_else(now);
    let mut metadata = Metadata::new(architecture, created)?;
    if metadata.known_architecture().is_none() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("the architecture `{architecture}` is not known")));
    }
    for (key, value) in &arguments.property {
        metadata.properties_mut().set(key, value)?;
    }
    Ok(metadata)
}

/// The time of `SOURCE_DATE_EPOCH` in seconds since 1970, if it is set.
///
/// # Errors
/// `InvalidInput` if it is not a number: silently ignoring it would make the result irreproducible.
pub(crate) fn source_date_epoch() -> Result<Option<i64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().map(Some).map_err(|_| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("SOURCE_DATE_EPOCH is `{text}`, which is not a number of seconds"),
            )
        }),
        Err(_) => Ok(None),
    }
}

/// Reads a file that the command line names; a signal interrupts it.
fn read(path: &Path) -> Result<Vec<u8>> {
    signals::read(path, u64::MAX).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        or_cancelled(error, |error| Error::new(kind, "the file can't be read").with_source(error).in_file(path))
    })
}
