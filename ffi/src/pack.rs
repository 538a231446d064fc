//! Packing a tree or a disk, and converting an image: to a file or to a callback.

use std::ffi::c_void;
use std::os::unix::ffi::OsStrExt;

use lxd_image::format::{
    ConvertOptions, ImageForm, PackOptions, Rootfs, RootfsFormat, Written, pack, pack_metadata, pack_to,
};
use lxd_image::{Monitor, Result};

use crate::about::index_out_of_range;
use crate::args::{self, invalid, versioned};
use crate::disk::{disk_compression, disk_format, disk_output};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::image::lxi_image;
use crate::limits::{limits_or_default, lxi_limits};
use crate::metadata::lxi_metadata;
use crate::monitor::{lxi_monitor, monitor_from};
use crate::stream::{RevocableWriter, Writer, lxi_input, lxi_write_fn, one_input};
use crate::types::*;
use crate::verify::threads;

/// What the rootfs of a split container image is written as: LXI_ROOTFS_….
pub type lxi_rootfs_format = u32;
/// Whichever is usual: tar when packing, the source's own when converting.
pub const LXI_ROOTFS_DEFAULT: lxi_rootfs_format = 0;
/// A tar archive, compressed as a whole.
pub const LXI_ROOTFS_TAR: lxi_rootfs_format = 1;
/// A SquashFS.
pub const LXI_ROOTFS_SQUASHFS: lxi_rootfs_format = 2;

/// What is packed and how. Set `size` to `sizeof(lxi_pack_options)`, a root file system (`tree` or `disk`) and the
/// metadata (`metadata` or `metadata_yaml`); the rest may be zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_pack_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// The directory whose content becomes the root file system; or empty.
    pub tree: lxi_str,
    /// The disk of a virtual machine; or NULL. It becomes qcow2, unless it is.
    pub disk: *const lxi_input,
    /// The metadata; or NULL.
    pub metadata: *const lxi_metadata,
    /// The bytes of a `metadata.yaml`, which go into the image as they are; or empty.
    pub metadata_yaml: lxi_bytes,
    /// The directory whose files become `templates/`; or empty.
    pub templates: lxi_str,
    /// A codec with or without a level, such as `zstd:19`, `xz` or `none`; empty for zstd.
    pub compression: lxi_str,
    /// One file, which is usual, or two.
    pub form: lxi_form,
    /// What the rootfs of a split image is.
    pub rootfs_format: lxi_rootfs_format,
    /// LXI_PACK_….
    pub flags: u32,
    /// How many threads compress, at most; 0 for all cores. The bytes don't depend on it.
    pub threads: u32,
    /// With LXI_PACK_NEWEST_MTIME: seconds since 1970; modification times after this one become it.
    pub newest_mtime: i64,
    /// The limits that metadata, templates and disks are held to, or NULL.
    pub limits: *const lxi_limits,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
    /// The format of the disk: `raw`, `qcow2`, `vmdk`, `ova`, `vhd` or `vhdx`; empty to recognise it, and raw never is.
    pub disk_input: lxi_str,
    /// How the clusters of the disk are compressed: `zlib`, `zstd` or `none`, optionally `:LEVEL`. Empty: a qcow2 disk
    /// stays as it is, and another one gets zlib.
    pub disk_compression: lxi_str,
}

/// Takes `trusted.*` and every `security.*` attribute too, not only file capabilities.
pub const LXI_PACK_ALL_XATTRS: u32 = 1;
/// `newest_mtime` is set.
pub const LXI_PACK_NEWEST_MTIME: u32 = 2;

/// How an image is converted. NULL, or all but `size` zero: to what it is.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_convert_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// One file, or two; 0: as it is.
    pub form: lxi_form,
    /// What the rootfs of a split container image becomes; 0: as it is.
    pub rootfs_format: lxi_rootfs_format,
    /// A codec with or without a level, such as `zstd:19`; empty: as it is.
    pub compression: lxi_str,
    /// The fingerprint that the source must have, or NULL.
    pub expected_fingerprint: *const lxi_fingerprint,
    /// How many threads work, at most; 0 for all cores. The bytes don't depend on it.
    pub threads: u32,
    /// Must be 0.
    pub flags: u32,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
    /// `qcow2`: the disk of a virtual machine is written anew, through temporary files; empty or `keep`: it stays as it
    /// is.
    pub disk_format: lxi_str,
    /// How the clusters of a disk that is written anew are compressed: `zlib`, `zstd` or `none`, optionally `:LEVEL`;
    /// empty for zlib.
    pub disk_compression: lxi_str,
}

/// An image that was written. Read-only, so it may be shared between threads.
pub struct lxi_written {
    _opaque: (),
}

/// An image that was written; filled by `lxi_written_get`. Set `size` to `sizeof(lxi_written_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_written_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The fingerprint of the new image.
    pub fingerprint: lxi_fingerprint,
    /// The size of all its files in bytes.
    pub bytes: u64,
    /// How many files there are: `lxi_written_file_at`. None when it went to a callback.
    pub files: usize,
    /// How many members were left out: `lxi_written_omission_at`.
    pub omissions: usize,
}

versioned!(lxi_pack_options since disk_input);
versioned!(lxi_convert_options since disk_format);
versioned!(lxi_written_info);
handles! { lxi_written(11) = WrittenView; }

/// An image that was written, with its omissions in words for C to point to.
pub(crate) struct WrittenView {
    written: Written,
    omissions: Vec<(Vec<u8>, String)>,
}

impl From<Written> for WrittenView {
    fn from(written: Written) -> Self {
        let omissions = written.omissions.iter().map(|one| (one.path.clone(), one.what.to_string())).collect();
        Self { written, omissions }
    }
}

fn form(given: lxi_form) -> Result<Option<ImageForm>> {
    match given {
        LXI_FORM_DEFAULT => Ok(None),
        LXI_FORM_UNIFIED => Ok(Some(ImageForm::Unified)),
        LXI_FORM_SPLIT => Ok(Some(ImageForm::Split)),
        other => Err(invalid(format!("{other} is not an image form"))),
    }
}

fn rootfs_format(given: lxi_rootfs_format) -> Result<Option<RootfsFormat>> {
    match given {
        LXI_ROOTFS_DEFAULT => Ok(None),
        LXI_ROOTFS_TAR => Ok(Some(RootfsFormat::Tar)),
        LXI_ROOTFS_SQUASHFS => Ok(Some(RootfsFormat::SquashFs)),
        other => Err(invalid(format!("{other} is not a rootfs format"))),
    }
}

/// What is packed, and how.
pub(crate) unsafe fn pack_options(pointer: *const lxi_pack_options) -> Result<(Rootfs, PackOptions, Monitor)> {
    let (rootfs, options, monitor) = optional_rootfs(pointer)?;
    Ok((rootfs.ok_or_else(|| invalid("either a tree or a disk is packed"))?, options, monitor))
}

/// What is packed, if anything but metadata and templates is, and how.
unsafe fn optional_rootfs(pointer: *const lxi_pack_options) -> Result<(Option<Rootfs>, PackOptions, Monitor)> {
    let given = args::required(pointer)?;
    // Taken first, so that a stream is released whatever else is wrong.
    let disk = (!given.disk.is_null()).then(|| one_input(given.disk));
    let tree = args::optional_path(given.tree, "tree")?;
    let rootfs = match (tree, disk) {
        (Some(tree), None) => Some(Rootfs::Directory(tree.to_path_buf())),
        (None, Some(disk)) => Some(Rootfs::Disk(disk?)),
        (None, None) => None,
        (Some(_), Some(_)) => return Err(invalid("either a tree or a disk is packed")),
    };
    let limits = limits_or_default(given.limits)?;
    let yaml = args::bytes(given.metadata_yaml, "metadata's YAML")?;
    let mut options = match (handle::get_optional(given.metadata)?, yaml) {
        (Some(metadata), []) => PackOptions::new(metadata.clone()),
        (None, [_, ..]) => PackOptions::from_metadata_bytes(yaml.to_vec(), &limits)?,
        _ => return Err(invalid("an image needs either metadata or its YAML")),
    };
    if let Some(templates) = args::optional_path(given.templates, "directory of templates")? {
        options = options.templates(templates);
    }
    if let Some(compression) = args::optional_text(given.compression, "compression")? {
        options = options.compression(compression.parse()?);
    }
    if let Some(form) = form(given.form)? {
        options = options.form(form);
    }
    if let Some(format) = rootfs_format(given.rootfs_format)? {
        options = options.rootfs_format(format);
    }
    if let Some(format) = disk_format(given.disk_input)? {
        options = options.disk_input(format);
    }
    if let Some(compression) = disk_compression(given.disk_compression)? {
        options = options.disk_compression(compression);
    }
    let flags = args::flags(given.flags, 3, "flags of packing")?;
    if flags & LXI_PACK_NEWEST_MTIME != 0 {
        options = options.newest_mtime(Some(given.newest_mtime));
    }
    if given.threads > 0 {
        options = options.threads(threads(given.threads));
    }
    let options = options.all_xattrs(flags & LXI_PACK_ALL_XATTRS != 0).limits(limits);
    Ok((rootfs, options, monitor_from(given.monitor)?))
}

unsafe fn convert_options(pointer: *const lxi_convert_options) -> Result<(ConvertOptions, Monitor)> {
    let given = args::options(pointer)?;
    args::flags(given.flags, 0, "flags of converting")?;
    let mut options = ConvertOptions::new();
    if let Some(form) = form(given.form)? {
        options = options.form(form);
    }
    if let Some(format) = rootfs_format(given.rootfs_format)? {
        options = options.rootfs_format(format);
    }
    if let Some(compression) = args::optional_text(given.compression, "compression")? {
        options = options.compression(compression.parse()?);
    }
    if let Some(expected) = args::optional_fingerprint(given.expected_fingerprint)? {
        options = options.expected_fingerprint(expected);
    }
    if let Some(format) = disk_output(given.disk_format)? {
        options = options.disk_format(format);
    }
    if let Some(compression) = disk_compression(given.disk_compression)? {
        options = options.disk_compression(compression);
    }
    if given.threads > 0 {
        options = options.threads(threads(given.threads));
    }
    Ok((options, monitor_from(given.monitor)?))
}

/// Packs to the file `out`; a split image's rootfs goes to `out` with `.root` behind it. The same tree gives the same
/// bytes. `written` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_written_free`. Threads: any. Errors: LXI_ALREADY_EXISTS when a
/// file of that name is there, LXI_UNSUPPORTED for a disk that is no image's, LXI_MALFORMED for the metadata,
/// LXI_NOT_FOUND, LXI_IO, LXI_CANCELLED. Whatever the error, nothing is left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_pack(
    options: *const lxi_pack_options,
    out: lxi_str,
    written: *mut *mut lxi_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let packing = pack_options(options);
        let place = args::optional_out_handle(written, "written")?;
        let (rootfs, options, monitor) = packing?;
        let done = pack(&rootfs, args::path(out, "output")?, &options, &monitor)?;
        if let Some(place) = place {
            place.set(handle::make(done.into()));
        }
        Ok(())
    })
}

/// Packs the metadata file of a split image alone, with the templates, to the file `out`: for a rootfs that is there
/// already. `options` name no tree and no disk. The fingerprint is that of this file, not of an image. `written` may be
/// NULL.
///
/// Owner, threads and errors: as `lxi_pack`; LXI_INVALID_INPUT for options about a rootfs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_pack_metadata(
    options: *const lxi_pack_options,
    out: lxi_str,
    written: *mut *mut lxi_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let packing = optional_rootfs(options);
        let place = args::optional_out_handle(written, "written")?;
        let (rootfs, options, monitor) = packing?;
        if rootfs.is_some() {
            return Err(invalid("metadata is packed without a tree and without a disk"));
        }
        let done = pack_metadata(args::path(out, "output")?, &options, &monitor)?;
        if let Some(place) = place {
            place.set(handle::make(done.into()));
        }
        Ok(())
    })
}

/// Packs a unified image into `write`, which gets `user`; both are used during the call only. `written` may be NULL.
///
/// Owner, threads and errors: as `lxi_pack`; what `write` returns; LXI_INVALID_INPUT when the options ask for a split
/// image.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_pack_to(
    options: *const lxi_pack_options,
    write: lxi_write_fn,
    user: *mut c_void,
    written: *mut *mut lxi_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let packing = pack_options(options);
        let place = args::optional_out_handle(written, "written")?;
        let (rootfs, options, monitor) = packing?;
        let (revoker, writer) = RevocableWriter::new(Writer::new(write, user)?);
        let done = pack_to(&rootfs, writer, &options, &monitor);
        drop(revoker);
        let done = done?;
        if let Some(place) = place {
            place.set(handle::make(done.into()));
        }
        Ok(())
    })
}

/// Writes the image to `out` in another form or codec, in one stream; a split image's rootfs goes to `out` with `.root`
/// behind it. `options` and `written` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_written_free`. Threads: any. Errors: LXI_ALREADY_EXISTS for the
/// output; those of `lxi_image_verify` for the source, and the first rule that it breaks; LXI_MISMATCH. Whatever the
/// error, nothing is left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_convert(
    image: *const lxi_image,
    options: *const lxi_convert_options,
    out: lxi_str,
    written: *mut *mut lxi_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(written, "written")?;
        let (options, monitor) = convert_options(options)?;
        let done = handle::get(image)?.convert(args::path(out, "output")?, &options, &monitor)?;
        if let Some(place) = place {
            place.set(handle::make(done.into()));
        }
        Ok(())
    })
}

/// Writes the image to `write`, which gets `user`, as a unified one; both are used during the call only. `options` and
/// `written` may be NULL.
///
/// Owner, threads and errors: as `lxi_image_convert`; what `write` returns; LXI_INVALID_INPUT when the options ask for
/// a split image.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_convert_to(
    image: *const lxi_image,
    options: *const lxi_convert_options,
    write: lxi_write_fn,
    user: *mut c_void,
    written: *mut *mut lxi_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(written, "written")?;
        let (revoker, writer) = RevocableWriter::new(Writer::new(write, user)?);
        let done = convert_options(options)
            .and_then(|(options, monitor)| handle::get(image)?.convert_to(writer, &options, &monitor));
        drop(revoker);
        let done = done?;
        if let Some(place) = place {
            place.set(handle::make(done.into()));
        }
        Ok(())
    })
}

/// Fills `info` with what was written.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_written_get(
    written: *const lxi_written,
    info: *mut lxi_written_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let WrittenView { written, omissions } = handle::get(written)?;
        args::fill(
            info,
            &lxi_written_info {
                size: 0,
                fingerprint: written.fingerprint.into(),
                bytes: written.size,
                files: written.files.len(),
                omissions: omissions.len(),
            },
        )
    })
}

/// A file of the new image, with an index from 0, in the order in which they make the fingerprint.
///
/// Owner: the path belongs to `written`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_written_file_at(
    written: *const lxi_written,
    index: usize,
    path: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let path = args::out_str(path, "path")?;
        let found = handle::get(written)?.written.files.get(index).ok_or_else(|| index_out_of_range(index, "file"))?;
        path.set(lxi_str::of_bytes(found.as_os_str().as_bytes()));
        Ok(())
    })
}

/// A member that no image can hold, or that was left out, with an index from 0: bytes of its path, and why in words.
///
/// Owner: both belong to `written`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_written_omission_at(
    written: *const lxi_written,
    index: usize,
    path: *mut lxi_bytes,
    reason: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (path, reason) = (args::out(path, lxi_bytes::EMPTY, "path")?, args::out_str(reason, "reason")?);
        let found = handle::get(written)?.omissions.get(index).ok_or_else(|| index_out_of_range(index, "omission"))?;
        path.set(lxi_bytes::of(&found.0));
        reason.set(lxi_str::of(&found.1));
        Ok(())
    })
}

/// Frees what tells of a written image; NULL is allowed. The image stays.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_written_free(written: *mut lxi_written) -> lxi_status {
    free(written)
}
