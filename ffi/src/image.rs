//! Images: opened from one file or two, and looked into without unpacking.

use lxd_image::format::{Container, Image, ImageForm};

use crate::args::{self, versioned};
use crate::buffer::{buffer, lxi_buffer};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::limits::{limits_or_default, lxi_limits};
use crate::metadata::lxi_metadata;
use crate::monitor::{lxi_monitor, monitor_from};
use crate::stream::{lxi_input, source};
use crate::types::*;

/// An image: one file or two that were recognised. Every call takes it as const, so that threads may share it; only of
/// one that came as a stream the content passes once, to whoever reads it first.
pub struct lxi_image {
    _opaque: (),
}

/// What is known of an image without reading it; filled by `lxi_image_get`. Set `size` to `sizeof(lxi_image_info)`
/// before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_image_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// LXI_FORM_UNIFIED or LXI_FORM_SPLIT.
    pub form: lxi_form,
    /// Whether `bytes` is known: not of a stream.
    pub has_bytes: bool,
    /// The size of all files in bytes.
    pub bytes: u64,
    /// What the unified image or the metadata file is: `tar` or `squashfs`.
    pub container: lxi_str,
    /// How it is compressed as a whole: `none`, `gzip`, `bzip2`, `xz`, `lzma`, `zstd`, `lz4`; empty for a `squashfs`.
    pub codec: lxi_str,
    /// What the rootfs file of a split image is: `tar`, `squashfs` or `qcow2`; else empty.
    pub rootfs_container: lxi_str,
    /// How that is compressed as a whole; else empty.
    pub rootfs_codec: lxi_str,
}

versioned!(lxi_image_info);
handles! { lxi_image(7) = Image; }

/// Recognises an image: one file with `second` NULL, or metadata and rootfs in either order. Looks at the first KiB of
/// each; of a split image whose files are both tars, at as much of each as tells which is the metadata. `limits`, which
/// may be NULL, hold for all that is done with the image.
///
/// Owner: the caller, who frees it with `lxi_image_free`. Threads: any. Errors: LXI_MALFORMED and LXI_UNSUPPORTED for
/// what is no image, LXI_AMBIGUOUS and LXI_INVALID_INPUT for two files that don't make one, LXI_FEATURE_DISABLED when a
/// codec is compiled out, LXI_NOT_FOUND, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_open(
    first: *const lxi_input,
    second: *const lxi_input,
    limits: *const lxi_limits,
    image: *mut *mut lxi_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let source = source(first, second);
        let image = args::out_handle(image, "image")?;
        let limits = limits_or_default(limits)?;
        image.set(handle::make(Image::open_with(source?, &limits)?));
        Ok(())
    })
}

/// Fills `info` with what is known of the image.
///
/// Owner: the texts are the library's, and never freed. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_get(
    image: *const lxi_image,
    info: *mut lxi_image_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let image = handle::get(image)?;
        let name = |container: Option<Container>| lxi_str::of_optional(container.map(Container::name));
        let codec = |container: Option<Container>| {
            lxi_str::of_optional(container.and_then(Container::codec).map(lxd_image::format::Codec::name))
        };
        let mut containers = image.containers();
        let (first, rootfs) = (containers.next(), containers.next());
        args::fill(
            info,
            &lxi_image_info {
                size: 0,
                form: form_of(image.form()),
                has_bytes: image.size().is_some(),
                bytes: image.size().unwrap_or(0),
                container: name(first),
                codec: codec(first),
                rootfs_container: name(rootfs),
                rootfs_codec: codec(rootfs),
            },
        )
    })
}

pub(crate) fn form_of(form: ImageForm) -> lxi_form {
    match form {
        ImageForm::Unified => LXI_FORM_UNIFIED,
        ImageForm::Split => LXI_FORM_SPLIT,
    }
}

/// The metadata, without unpacking anything: reads up to `metadata.yaml` and no further.
///
/// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_MALFORMED when there is none or
/// it breaks a rule, LXI_LIMIT_EXCEEDED, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_metadata(
    image: *const lxi_image,
    metadata: *mut *mut lxi_metadata,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let metadata = args::out_handle(metadata, "metadata")?;
        metadata.set(handle::make(handle::get(image)?.metadata()?));
        Ok(())
    })
}

/// The bytes of `metadata.yaml`, as they stand in the archive.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: as `lxi_image_metadata`, but
/// for the content.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_metadata_bytes(
    image: *const lxi_image,
    yaml: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let yaml = args::out_handle(yaml, "yaml")?;
        yaml.set(buffer(handle::get(image)?.metadata_bytes()?));
        Ok(())
    })
}

/// The bytes of a template, by its name in `templates/`.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_NOT_FOUND when there is
/// none of that name, LXI_LIMIT_EXCEEDED, LXI_MALFORMED, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_template(
    image: *const lxi_image,
    name: lxi_str,
    source: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let source = args::out_handle(source, "source")?;
        source.set(buffer(handle::get(image)?.template(args::text(name, "name of a template")?)?));
        Ok(())
    })
}

/// The fingerprint, read from the files' bytes as stored. Unpacking and verifying compute it anyway. `monitor` may be
/// NULL.
///
/// Threads: any. Errors: LXI_CANCELLED, LXI_IO; LXI_INVALID_INPUT for a stream that was read before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_fingerprint(
    image: *const lxi_image,
    monitor: *const lxi_monitor,
    fingerprint: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let fingerprint = args::out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        fingerprint.set(handle::get(image)?.fingerprint(&monitor_from(monitor)?)?.into());
        Ok(())
    })
}

/// Frees an image; NULL is allowed. Releases its streams.
///
/// Threads: any, the image being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_free(image: *mut lxi_image) -> lxi_status {
    free(image)
}
