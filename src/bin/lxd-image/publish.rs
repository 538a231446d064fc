//! `publish`: packs a directory straight into the store, or onto a server.
//!
//! The directory is an instance's (`metadata.yaml`, `rootfs` or `rootfs.img`, `templates`), or with `--metadata` a
//! root file system alone. The image is packed to the store's own staging and hashed while it is written, so it exists
//! only once. Properties become part of `metadata.yaml` and with that of the fingerprint, unlike those that `import`
//! sets.

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::format::{Compression, ImageForm, PackOptions, Rootfs, RootfsFormat};
use lxd_image::store::{ImportOptions, StoredImage};
use lxd_image::{Error, ErrorKind, Result};

use crate::disk::DiskInput;
use crate::failure::Failure;
use crate::import::{NewImageArguments, Positionals};
use crate::options::Session;
use crate::owners::TreeArguments;
use crate::reproduce::{ProvenanceArguments, ProvenanceSigner};
use crate::signals::{self, or_cancelled};

/// Publish an instance's directory as an image
#[derive(Args)]
#[command(override_usage = "lxd-image publish [OPTIONS] <DIRECTORY> [REMOTE:] [KEY=VALUE]...")]
pub(crate) struct Arguments {
    /// A directory with metadata.yaml, rootfs (or rootfs.img) and templates, or with --metadata a rootfs or a disk
    /// itself; then a server's name and a colon, and properties, which go into the image
    #[arg(required = true, value_name = "DIRECTORY")]
    words: Vec<PathBuf>,
    /// The metadata.yaml, when DIRECTORY is a root file system or a disk
    #[arg(long, value_name = "FILE")]
    metadata: Option<PathBuf>,
    /// xz, gzip, zstd, bzip2, lz4 or none, optionally `:LEVEL`
    #[arg(long, value_name = "CODEC[:LEVEL]", default_value = "zstd")]
    compression: String,
    /// Make a split image: metadata and rootfs apart; `--format split` means the same here
    #[arg(long)]
    split: bool,
    /// What the rootfs of a split image is: tar or squashfs
    #[arg(long, value_name = "FORMAT", default_value = "tar")]
    rootfs_format: String,
    #[command(flatten)]
    disk: DiskInput,
    #[command(flatten)]
    tree: TreeArguments,
    #[command(flatten)]
    provenance: ProvenanceArguments,
    #[command(flatten)]
    about: NewImageArguments,
}

/// Packs the directory, imports the image, and prints its fingerprint.
///
/// # Errors
/// `InvalidInput` unless exactly one directory is given; those of packing and importing.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let words = Positionals::of(&arguments.words)?;
    let [path] = words.files.as_slice() else {
        return Err(Error::new(ErrorKind::InvalidInput, "one directory becomes one image").into());
    };
    let options = arguments.about.options(&words, true)?;
    let compression = arguments.compression.parse()?;
    let rootfs_format: RootfsFormat = arguments.rootfs_format.parse()?;
    if rootfs_format != RootfsFormat::Tar && !arguments.split {
        return Err(Error::new(ErrorKind::InvalidInput, "a SquashFS is the rootfs of a split image")
            .with_hint("add --split")
            .into());
    }
    arguments.about.preflight(&words, session)?;
    let source = Source {
        path,
        metadata: arguments.metadata.as_deref(),
        form: if arguments.split { ImageForm::Split } else { ImageForm::Unified },
        rootfs_format,
        tree: &arguments.tree,
        disk: &arguments.disk,
    };
    let provenance = arguments.provenance.signer()?;
    let image = directory(&source, &options, Some(compression), provenance, session)?;
    arguments.about.finish(&image, &words, session)
}

/// What is published.
pub(crate) struct Source<'a> {
    /// The directory of an instance; with metadata a root file system or a disk.
    pub(crate) path: &'a Path,
    pub(crate) metadata: Option<&'a Path>,
    pub(crate) form: ImageForm,
    /// Of a split image.
    pub(crate) rootfs_format: RootfsFormat,
    pub(crate) tree: &'a TreeArguments,
    pub(crate) disk: &'a DiskInput,
}

/// Refuses a directory with a part of an image that is a symbolic link.
///
/// Such a directory may come from an archive of somebody else that `tar` unpacked. Following `rootfs -> /` or
/// `metadata.yaml -> /etc/shadow` would publish files of this machine.
///
/// # Errors
/// `UnsafePath` for a link.
fn refuse_links(directory: &Path) -> Result<()> {
    for name in ["metadata.yaml", "config.json", "templates", "rootfs", "rootfs.img"] {
        let path = directory.join(name);
        if std::fs::symlink_metadata(&path).is_ok_and(|about| about.is_symlink()) {
            return Err(Error::new(ErrorKind::UnsafePath, format!("`{name}` is a symbolic link"))
                .with_hint("name the root file system itself, and the metadata with `--metadata`")
                .in_file(path));
        }
    }
    Ok(())
}

/// Packs a directory and imports the image in one step.
///
/// Without `metadata` the directory is an instance's: a `rootfs.img` makes it a virtual machine, else `rootfs` is the
/// container's tree. With `metadata` the directory itself is the root file system, and there are no templates.
///
/// # Errors
/// `NotFound` for missing metadata; those of packing and importing.
pub(crate) fn directory(
    source: &Source<'_>,
    options: &ImportOptions,
    compression: Option<Compression>,
    provenance: Option<ProvenanceSigner>,
    session: &Session,
) -> Result<StoredImage> {
    let Source { path: directory, metadata, form, rootfs_format, tree, disk } = *source;
    if metadata.is_none() {
        refuse_links(directory)?;
    }
    let (metadata_path, rootfs) = match metadata {
        Some(metadata) => (metadata.to_path_buf(), directory.to_path_buf()),
        None => {
            let image = directory.join("rootfs.img");
            (directory.join("metadata.yaml"), if image.exists() { image } else { directory.join("rootfs") })
        }
    };
    let bytes = signals::read(&metadata_path, u64::MAX).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        or_cancelled(error, |error| {
            Error::new(kind, "the metadata can't be read").with_source(error).in_file(&metadata_path)
        })
    })?;
    let (monitor, shown) = session.monitor();
    let mut packing = PackOptions::from_metadata_bytes(bytes, &session.limits)
        .map_err(|error| error.in_file(&metadata_path))?
        .newest_mtime(crate::pack::source_date_epoch()?);
    packing = disk.apply(tree.apply(packing.form(form).rootfs_format(rootfs_format))?)?;
    if let Some(compression) = compression {
        packing = packing.compression(compression);
    }
    let config = directory.join("config.json");
    if metadata.is_none() && std::fs::symlink_metadata(&config).is_ok_and(|about| about.is_file()) {
        let bytes = signals::read(&config, session.limits.metadata.saturating_add(1)).map_err(|error| {
            or_cancelled(error, |error| {
                Error::new(ErrorKind::Io, "it can't be read").with_source(error).in_file(&config)
            })
        })?;
        packing = packing.config_json(bytes);
    }
    let templates = directory.join("templates");
    if metadata.is_none() && templates.is_dir() {
        packing = packing.templates(templates);
    }
    if let Some(threads) = session.threads {
        packing = packing.threads(threads);
    }
    let store = session.store()?;
    let mut options = options.clone();
    if let Some(signer) = provenance {
        let recorded = options.recorded(&packing)?;
        options = options.stated_by(move |fingerprint| signer.sign(&recorded, fingerprint, &[]));
    }
    let published = store.publish(&Rootfs::open(&rootfs)?, &packing, &options, &monitor);
    drop(shown);
    Ok(published?.0)
}
