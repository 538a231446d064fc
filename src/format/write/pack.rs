//! Packing: makes an image of a directory tree or a disk, with metadata and templates.
//!
//! The same tree, options and metadata give the same bytes, whatever machine packs and however many
//! threads it has: members are sorted, nothing of the machine is recorded, and `newest_mtime` caps
//! times as `SOURCE_DATE_EPOCH` asks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::archive::{DEFAULT_CODEC, ImageWriter, RootTarget, Written, time_of};
use super::disk_source::DiskSource;
use super::extension;
use super::tree::TreeReader;
use crate::disk::{ClusterCompression, DiskFormat};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::format::codec::{Codec, Compression};
use crate::format::entry::{Entry, EntryKind, Timestamp};
use crate::format::extract::IdMap;
use crate::format::holes;
use crate::format::image::ImageForm;
use crate::format::input::Input;
use crate::format::pipeline::ReadPass;
use crate::format::pipeline::default_threads;
use crate::format::squashfs;
use crate::format::visitor::{MemberVisitor, drive_disk};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::progress::{Monitor, Phase};
use crate::rooted::Dir;

/// The root file system to be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RootfsFormat {
    /// A tar archive, compressed as a whole.
    #[default]
    Tar,
    /// A SquashFS.
    SquashFs,
}

impl FromStr for RootfsFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tar" => Ok(Self::Tar),
            "squashfs" => Ok(Self::SquashFs),
            other => Err(Error::invalid(format!("`{other}` is no format of a rootfs; tar and squashfs are"))),
        }
    }
}

/// What is packed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rootfs {
    /// A directory whose content becomes the root file system.
    Directory(PathBuf),
    /// A disk. A qcow2 disk is packed as it is; other formats of [`DiskFormat`] are recognised and
    /// become qcow2, which is what LXD and Incus take. A raw disk has to be announced with
    /// [`PackOptions::disk_input`].
    Disk(Input),
}

impl Rootfs {
    /// A directory or a disk, whichever is at `path`.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() { Ok(Self::Directory(path.to_path_buf())) } else { Input::open(path).map(Self::Disk) }
    }
}

/// How a tree or a disk is packed.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::Limits;
/// use lxd_image::format::{PackOptions, Rootfs, pack};
///
/// let options = PackOptions::from_metadata_bytes(std::fs::read("metadata.yaml")?, &Limits::default())?
///     .compression("zstd:19".parse()?)
///     .newest_mtime(Some(1_700_000_000));
/// let written = pack(&Rootfs::open("rootfs")?, "image.tar.zst", &options, &Monitor::none())?;
/// println!("{}", written.fingerprint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PackOptions {
    metadata: Metadata,
    pub(super) metadata_bytes: Vec<u8>,
    pub(super) templates: Option<PathBuf>,
    /// The content of `config.json`.
    pub(super) config_json: Option<Vec<u8>>,
    pub(super) form: ImageForm,
    pub(super) rootfs_format: RootfsFormat,
    pub(super) compression: Option<Compression>,
    /// The latest modification time that is kept, in seconds since 1970.
    pub(super) newest: Option<i64>,
    pub(super) all_xattrs: bool,
    pub(super) ids: IdMap,
    /// The owner and group of all members.
    pub(super) owner: Option<(u32, u32)>,
    /// The format of the disk that is packed.
    pub(super) disk_input: Option<DiskFormat>,
    /// How the clusters of the disk are compressed.
    pub(super) disk_compression: Option<ClusterCompression>,
    threads: usize,
    limits: Limits,
}

impl PackOptions {
    /// A unified image with this metadata, compressed as the output's name says, else with zstd.
    #[must_use]
    pub fn new(metadata: Metadata) -> Self {
        let metadata_bytes = metadata.to_yaml().into_bytes();
        Self {
            metadata,
            metadata_bytes,
            templates: None,
            config_json: None,
            form: ImageForm::Unified,
            rootfs_format: RootfsFormat::Tar,
            compression: None,
            newest: None,
            all_xattrs: false,
            ids: IdMap::identity(),
            owner: None,
            disk_input: None,
            disk_compression: None,
            threads: default_threads(),
            limits: Limits::default(),
        }
    }

    /// As [`new`](Self::new), with the bytes of a `metadata.yaml`, which go into the image as they are. The limits are
    /// those of the packing, too.
    ///
    /// # Errors
    /// `Malformed` for bytes that are not a metadata document; `LimitExceeded`.
    pub fn from_metadata_bytes(bytes: Vec<u8>, limits: &Limits) -> Result<Self> {
        let mut options = Self::new(Metadata::parse(&bytes, limits)?);
        options.metadata_bytes = bytes;
        options.limits = limits.clone();
        Ok(options)
    }

    /// Sets a property of the image's metadata. Metadata that was given in bytes is rewritten then.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL in either text.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.metadata.properties_mut().set(key, value)?;
        self.metadata_bytes = self.metadata.to_yaml().into_bytes();
        Ok(self)
    }

    /// The directory whose files become `templates/`.
    ///
    /// Subdirectories and links in it are refused, since an image can't have them there.
    #[must_use]
    pub fn templates(mut self, directory: impl Into<PathBuf>) -> Self {
        self.templates = Some(directory.into());
        self
    }

    /// The bytes that become `config.json`, from which Incus takes what it runs in a container of an OCI image. Packing
    /// fails with `LimitExceeded` for more bytes than the limit `metadata`: readers would not take them for that file.
    #[must_use]
    pub fn config_json(mut self, bytes: Vec<u8>) -> Self {
        self.config_json = Some(bytes);
        self
    }

    /// Whether a split image is asked for.
    #[cfg(feature = "store")]
    pub(crate) fn is_split(&self) -> bool {
        self.form == ImageForm::Split
    }

    /// One file, or metadata and rootfs apart.
    #[must_use]
    pub fn form(mut self, form: ImageForm) -> Self {
        self.form = form;
        self
    }

    /// What the rootfs of a split image is.
    #[must_use]
    pub fn rootfs_format(mut self, format: RootfsFormat) -> Self {
        self.rootfs_format = format;
        self
    }

    /// The codec and its level (default: what the output's name ends with, else zstd). Where the
    /// name says something else, that is among the omissions.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Seconds since 1970: modification times after this one become it, as `SOURCE_DATE_EPOCH` asks.
    #[must_use]
    pub fn newest_mtime(mut self, seconds: Option<i64>) -> Self {
        self.newest = seconds;
        self
    }

    /// Takes `trusted.*` and every `security.*` attribute too, not only file capabilities. What is
    /// not taken is reported.
    #[must_use]
    pub fn all_xattrs(mut self, yes: bool) -> Self {
        self.all_xattrs = yes;
        self
    }

    /// Shifts owners and groups: from the tree's numbers to the image's, as those of a tree that
    /// was unpacked with a map. Owners outside of the map are refused by path; those in access
    /// control lists and file capabilities are shifted too.
    #[must_use]
    pub fn map_ids(mut self, ids: IdMap) -> Self {
        self.ids = ids;
        self
    }

    /// Gives every member this owner and group, whoever owns it in the tree. Not together with
    /// [`map_ids`](Self::map_ids).
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// The format of the disk that is packed. Without it, it is recognised; a raw disk is not.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::Metadata;
    /// use lxd_image::disk::DiskFormat;
    /// use lxd_image::format::{PackOptions, Rootfs, pack};
    ///
    /// let metadata = Metadata::new("x86_64", 1_700_000_000)?;
    /// let options = PackOptions::new(metadata).disk_input(DiskFormat::Raw);
    /// pack(&Rootfs::open("disk.img")?, "vm.tar.zst", &options, &Monitor::none())?;
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    #[must_use]
    pub fn disk_input(mut self, format: DiskFormat) -> Self {
        self.disk_input = Some(format);
        self
    }

    /// How the clusters of the disk are compressed: then a qcow2 disk is written anew, too. Without it, a qcow2 disk goes into
    /// the image as it is, and every other one becomes qcow2 with [the usual compression](ClusterCompression::default).
    ///
    /// [`ClusterCompression::None`] leaves the work to the compression of the image, which makes a smaller file, and a disk
    /// that is faster to unpack.
    #[must_use]
    pub fn disk_compression(mut self, compression: ClusterCompression) -> Self {
        self.disk_compression = Some(compression);
        self
    }

    /// How many threads compress, at most. The bytes don't depend on it.
    ///
    /// The default is one per core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The limits that templates and disks are held to.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

impl PackOptions {
    /// Refuses options that this rootfs, the metadata alone, or a stream can't honour.
    fn check(&self, rootfs: Option<&Rootfs>, stream: bool) -> Result<()> {
        let most = self.limits.metadata;
        if let Some(bytes) = &self.config_json
            && bytes.len() as u64 > most
        {
            return Err(Error::limit("metadata", most, format_args!("a `config.json` of {} bytes", bytes.len())));
        }
        if let Some((uid, gid)) = self.owner
            && (uid == u32::MAX || gid == u32::MAX)
        {
            return Err(Error::invalid("owners go from 0 to 4294967294"));
        }
        if self.owner.is_some() && !self.ids.is_empty() {
            return Err(Error::invalid("owners can't be shifted and forced at once").with_hint("give one of the two"));
        }
        let chosen = self.owner.is_some() || !self.ids.is_empty();
        if chosen && !matches!(rootfs, Some(Rootfs::Directory(_))) {
            return Err(Error::invalid("owners can be chosen for a tree only: those of a disk are inside of it"));
        }
        let squashfs = self.rootfs_format == RootfsFormat::SquashFs;
        let refuse = |option: &str, why: &str| Err(Error::invalid(format!("the option {option} has no effect: {why}")));
        if self.disk_input.is_some() && !matches!(rootfs, Some(Rootfs::Disk(_))) {
            return refuse("`disk_input`", "no disk is packed");
        }
        if self.disk_compression.is_some() && !matches!(rootfs, Some(Rootfs::Disk(_))) {
            return refuse("`disk_compression`", "no disk is packed");
        }
        match rootfs {
            None if squashfs => refuse("`rootfs_format`", "the metadata alone is packed"),
            None if self.all_xattrs => refuse("`all_xattrs`", "the metadata alone is packed"),
            Some(Rootfs::Disk(_)) if squashfs => refuse("`rootfs_format`", "a disk stays the qcow2 file that it is"),
            Some(Rootfs::Disk(_)) if self.all_xattrs => refuse("`all_xattrs`", "a disk has none outside of it"),
            Some(_) if stream && squashfs => refuse_squashfs_in_stream(),
            _ => Ok(()),
        }
    }
}

/// The refusal of a SquashFS for an image that is written to a stream.
pub(super) fn refuse_squashfs_in_stream<T>() -> Result<T> {
    Err(Error::invalid(
        "the option `rootfs_format` has no effect: a SquashFS is the second file of a split image, and a stream is one",
    )
    .with_hint("write to a file, and ask for a split image"))
}

/// Packs to the file `out`; a split image's rootfs goes to `out` with `.root` behind it.
///
/// The fingerprint of the result is computed while it is written.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::{format::{PackOptions, Rootfs, pack}, metadata::Metadata, Limits};
///
/// let metadata = Metadata::parse(b"architecture: x86_64\ncreation_date: 1700000000\n", &Limits::default())?;
/// let written = pack(&Rootfs::open("rootfs")?, "image.tar.zst", &PackOptions::new(metadata), &Monitor::none())?;
/// println!("{}", written.fingerprint);
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// # Errors
/// `AlreadyExists` when a file of that name is there; `Unsupported` for a disk that is no image's;
/// `InvalidInput` for an owner outside of the id map; `Io` naming the file of the tree; `StorageFull`; `Cancelled`.
/// Whatever the error, nothing is left.
pub fn pack(rootfs: &Rootfs, out: impl AsRef<Path>, options: &PackOptions, monitor: &Monitor) -> Result<Written> {
    options.check(Some(rootfs), false)?;
    let (out, usual) = (out.as_ref(), Compression::new(DEFAULT_CODEC));
    let compression = extension::compression(out, options.compression, usual, monitor)?;
    let squashfs = extension::squashfs_compression(out, options.compression, usual);
    let target = root_target(options.rootfs_format, options.form, squashfs, options.threads, options.newest)?;
    ImageWriter::to_file(out, options.form, target, compression, options.threads, &options.limits, monitor)
        .and_then(|writer| write(rootfs, writer, beside(out), options, monitor))
        .map_err(|error| error.on_disk_of(out.parent().unwrap_or(Path::new(""))))
}

/// Packs a unified image into a stream.
///
/// Nothing is written before the first member; after an error the stream has a part of an archive,
/// which every reader refuses.
///
/// # Errors
/// As [`pack`]; `InvalidInput` when the options ask for a split image or a SquashFS.
pub fn pack_to(
    rootfs: &Rootfs,
    out: impl Write + Send + 'static,
    options: &PackOptions,
    monitor: &Monitor,
) -> Result<Written> {
    if options.form == ImageForm::Split {
        return Err(Error::invalid("a split image is two files, and a stream is one"));
    }
    options.check(Some(rootfs), true)?;
    let compression = options.compression.unwrap_or(Compression::new(DEFAULT_CODEC));
    let writer = ImageWriter::to_stream(out, compression, options.threads, &options.limits, monitor)?;
    write(rootfs, writer, &std::env::temp_dir(), options, monitor)
}

/// Packs a split image into two open files, metadata and rootfs, for a store. Temporary files go to `directory`.
///
/// # Errors
/// As [`pack`].
#[cfg(feature = "store")]
pub(crate) fn pack_into(
    rootfs: &Rootfs,
    files: [std::fs::File; 2],
    directory: &Path,
    options: &PackOptions,
    monitor: &Monitor,
) -> Result<Written> {
    options.check(Some(rootfs), false)?;
    let compression = options.compression.unwrap_or(Compression::new(DEFAULT_CODEC));
    let target = root_target(options.rootfs_format, options.form, compression, options.threads, options.newest)?;
    ImageWriter::to_open_files(files, target, compression, options.threads, &options.limits, monitor)
        .and_then(|writer| write(rootfs, writer, directory, options, monitor))
        .map_err(|error| error.on_disk_of(directory))
}

/// The directory of a file.
pub(super) fn beside(out: &Path) -> &Path {
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Packs the metadata file of a split image alone, with the templates, to the file `out`: for a
/// rootfs that is there already. The fingerprint is that of this file, not of an image.
///
/// # Errors
/// `AlreadyExists` when a file of that name is there; `InvalidInput` for options about a rootfs;
/// `Io`. Whatever the error, nothing is left.
pub fn pack_metadata(out: impl AsRef<Path>, options: &PackOptions, monitor: &Monitor) -> Result<Written> {
    options.check(None, false)?;
    let (out, usual) = (out.as_ref(), Compression::new(DEFAULT_CODEC));
    let compression = extension::compression(out, options.compression, usual, monitor)?;
    let mut writer = ImageWriter::to_file(
        out,
        ImageForm::Unified,
        RootTarget::Tar,
        compression,
        options.threads,
        &options.limits,
        monitor,
    )?;
    write_metadata(&mut writer, options)?;
    writer.finish_metadata()
}

/// Writes metadata and templates.
fn write_metadata(writer: &mut ImageWriter, options: &PackOptions) -> Result<()> {
    let newest = options.newest.map(Timestamp::from_seconds);
    let own_time = time_of(&options.metadata);
    let mut about = Entry::new(Vec::new(), EntryKind::Directory, 0o755);
    about.mtime = newest.map_or(own_time, |newest| newest.min(own_time));
    writer.metadata(&about, &options.metadata_bytes)?;
    if let Some(bytes) = &options.config_json {
        writer.config(&about, bytes)?;
    }
    if let Some(directory) = &options.templates {
        for (name, content) in templates(directory, &options.limits)? {
            writer.template(&about, &name, &content)?;
        }
    }
    Ok(())
}

/// Writes metadata, templates and the rootfs, and finishes the image. Temporary files go to `directory`.
fn write(
    rootfs: &Rootfs,
    mut writer: ImageWriter,
    directory: &Path,
    options: &PackOptions,
    monitor: &Monitor,
) -> Result<Written> {
    let newest = options.newest.map(Timestamp::from_seconds);
    write_metadata(&mut writer, options)?;
    let bytes = match rootfs {
        Rootfs::Directory(path) => {
            let root = Dir::open(path).map_err(|error| Error::io("the tree can't be opened", error).in_file(path))?;
            TreeReader {
                root,
                writer: &mut writer,
                monitor,
                newest,
                all_xattrs: options.all_xattrs,
                ids: &options.ids,
                owner: options.owner,
                done: 0,
                buffer: vec![0; 256 << 10],
                first_names: HashMap::new(),
            }
            .run()
            .map_err(|error| error.in_file(path))?
        }
        Rootfs::Disk(input) => {
            let source = DiskSource {
                format: options.disk_input,
                compression: options.disk_compression,
                directory,
                threads: options.threads,
                limits: &options.limits,
                monitor,
            };
            let converted = source.qcow2(input).map_err(|error| input.name_error(error))?;
            let disk = converted.as_ref().unwrap_or(input);
            let length = disk.len().ok_or_else(|| Error::invalid("a disk can't be packed from a stream"))?;
            let pass =
                ReadPass { limits: &options.limits, monitor, phase: Phase::Pack, threads: 1, total: Some(length) };
            let sparse = match disk.as_blob() {
                Some(blob) if writer.records_holes() => holes::of_content(blob, length, monitor)?,
                Some(blob) => holes::of_blob(blob, length)?,
                None => None,
            };
            pass.run(disk.reader(monitor.cancel())?, Codec::None, &mut Hasher::new(), |chunks| {
                drive_disk(chunks, length, sparse.as_ref(), &options.limits, &mut writer)
            })
            .map_err(|error| input.name_error(error))?;
            length
        }
    };
    let written = writer.finish()?;
    // It is done: whoever wants to stop now comes too late.
    let _ = monitor.report(Phase::Pack, bytes, Some(bytes));
    Ok(written)
}

/// What the options ask the rootfs to be written as.
pub(in crate::format) fn root_target(
    format: RootfsFormat,
    form: ImageForm,
    compression: Compression,
    threads: usize,
    newest: Option<i64>,
) -> Result<RootTarget> {
    if format == RootfsFormat::Tar {
        return Ok(RootTarget::Tar);
    }
    if form == ImageForm::Unified {
        return Err(Error::invalid("a SquashFS is the rootfs of a split image").with_hint("ask for a split image"));
    }
    let mut options = squashfs::WriteOptions::for_compression(compression)?;
    options.threads = threads;
    options.made = newest.map(u32::try_from).transpose().map_err(|_| {
        Error::invalid("the option `newest_mtime` is out of the range of a SquashFS, which holds 1970 to 2106")
    })?;
    Ok(RootTarget::SquashFs(options))
}

/// The files of a templates directory, sorted by name.
fn templates(directory: &Path, limits: &Limits) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let kind = |error: &std::io::Error| {
        if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io }
    };
    let dir = Dir::open(directory).map_err(|error| {
        Error::new(kind(&error), "the templates' directory can't be opened").with_source(error).in_file(directory)
    })?;
    let mut found = Vec::new();
    for name in dir.names().map_err(|error| Error::io("the templates can't be listed", error).in_file(directory))? {
        let file = dir.open_file(&name).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "templates are regular files")
                .with_source(error)
                .in_file(directory)
                .in_entry(&name)
        })?;
        let mut content = Vec::new();
        let most = limits.template_file;
        file.take(most.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|error| Error::io("a template can't be read", error).in_file(directory).in_entry(&name))?;
        if content.len() as u64 > most {
            return Err(Error::limit("template_file", most, "a template").in_file(directory).in_entry(&name));
        }
        found.push((name, content));
    }
    if found.len() as u64 > limits.templates {
        return Err(Error::limit("templates", limits.templates, "the number of templates").in_file(directory));
    }
    let bytes: u64 = found.iter().map(|(_, content)| content.len() as u64).sum();
    if bytes > limits.template_bytes {
        return Err(
            Error::limit("template_bytes", limits.template_bytes, "the size of all templates").in_file(directory)
        );
    }
    Ok(found)
}
