//! `metadata.yaml` for C: parsed, built, looked at, changed and written.

use lxd_image::{Error, ErrorKind, Metadata};

use crate::about::PropertyOut;
use crate::args::{self, versioned};
use crate::buffer::{buffer, lxi_buffer};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::limits::{limits_or_default, lxi_limits};
use crate::types::*;

/// The description of an image: its `metadata.yaml` as values. Keys that this library does not know, and the order of
/// keys, survive reading and writing.
pub struct lxi_metadata {
    _opaque: (),
}

/// What a metadata says; filled by `lxi_metadata_get`. Set `size` to `sizeof(lxi_metadata_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_metadata_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The architecture as the file has it, never empty. It may be an alias (`amd64`) or an unknown name.
    pub architecture: lxi_str,
    /// The kernel's name for it (`x86_64`); empty if it is not known.
    pub kernel_architecture: lxi_str,
    /// Debian's name for it (`amd64`); empty if it is not known.
    pub debian_architecture: lxi_str,
    /// When the image was made, in seconds since 1970; never 0.
    pub creation_date: i64,
    /// When the image may be removed, in seconds since 1970; 0 for never.
    pub expiry_date: i64,
    /// How many properties there are.
    pub properties: usize,
    /// How many template rules there are.
    pub rules: usize,
}

versioned!(lxi_metadata_info);
handles! { lxi_metadata(6) = Metadata; }

/// Reads a `metadata.yaml`. `limits` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_MALFORMED with line, column and
/// key in the message, LXI_LIMIT_EXCEEDED, LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_parse(
    yaml: lxi_bytes,
    limits: *const lxi_limits,
    metadata: *mut *mut lxi_metadata,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let metadata = args::out_handle(metadata, "metadata")?;
        let parsed = Metadata::parse(args::bytes(yaml, "YAML")?, &limits_or_default(limits)?)?;
        metadata.set(handle::make(parsed));
        Ok(())
    })
}

/// Describes a new image. `creation_date` is in seconds since 1970, and not 0.
///
/// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_new(
    architecture: lxi_str,
    creation_date: i64,
    metadata: *mut *mut lxi_metadata,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let metadata = args::out_handle(metadata, "metadata")?;
        let made = Metadata::new(args::text(architecture, "architecture")?, creation_date)?;
        metadata.set(handle::make(made));
        Ok(())
    })
}

/// Makes a copy that can be changed apart.
///
/// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any, while nobody changes the metadata. Errors:
/// LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_copy(
    metadata: *const lxi_metadata,
    copy: *mut *mut lxi_metadata,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let copy = args::out_handle(copy, "copy")?;
        copy.set(handle::make(handle::get(metadata)?.clone()));
        Ok(())
    })
}

/// Fills `info` with what the metadata says.
///
/// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_get(
    metadata: *const lxi_metadata,
    info: *mut lxi_metadata_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let metadata = handle::get(metadata)?;
        let known = metadata.known_architecture();
        args::fill(
            info,
            &lxi_metadata_info {
                size: 0,
                architecture: lxi_str::of(metadata.architecture()),
                kernel_architecture: lxi_str::of_optional(known.map(lxd_image::Architecture::kernel_name)),
                debian_architecture: lxi_str::of_optional(known.map(lxd_image::Architecture::debian_name)),
                creation_date: metadata.creation_date(),
                expiry_date: metadata.expiry_date().unwrap_or(0),
                properties: metadata.properties().len(),
                rules: metadata.templates().len(),
            },
        )
    })
}

/// Names another architecture.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT for an empty name, or one with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_set_architecture(
    metadata: *mut lxi_metadata,
    architecture: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get_mut(metadata)?.set_architecture(args::text(architecture, "architecture")?))
}

/// Changes when the image was made, in seconds since 1970.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT for 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_set_creation_date(
    metadata: *mut lxi_metadata,
    seconds: i64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get_mut(metadata)?.set_creation_date(seconds))
}

/// Changes when the image may be removed, in seconds since 1970; 0 for never.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_set_expiry_date(
    metadata: *mut lxi_metadata,
    seconds: i64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        handle::get_mut(metadata)?.set_expiry_date(Some(seconds));
        Ok(())
    })
}

/// The property with an index from 0, in the order of the file.
///
/// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
/// one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_property_at(
    metadata: *const lxi_metadata,
    index: usize,
    key: *mut lxi_str,
    value: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = PropertyOut::new(key, value)?;
        place.set(handle::get(metadata)?.properties(), index)
    })
}

/// The value of a property.
///
/// Owner: the text belongs to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_property(
    metadata: *const lxi_metadata,
    key: lxi_str,
    value: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let value = args::out_str(value, "value")?;
        let key = args::text(key, "name of a property")?;
        value.set(lxi_str::of(handle::get(metadata)?.properties().get(key).ok_or_else(|| no_property(key))?));
        Ok(())
    })
}

pub(crate) fn no_property(key: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no property `{key}`"))
}

/// Sets a property in its place, or adds it at the end.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT for a NUL in either text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_set_property(
    metadata: *mut lxi_metadata,
    key: lxi_str,
    value: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (key, value) = (args::text(key, "name of a property")?, args::text(value, "value of a property")?);
        handle::get_mut(metadata)?.properties_mut().set(key, value)
    })
}

/// Removes a property.
///
/// Threads: one at a time. Errors: LXI_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_remove_property(
    metadata: *mut lxi_metadata,
    key: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let key = args::text(key, "name of a property")?;
        let removed = handle::get_mut(metadata)?.properties_mut().remove(key);
        removed.map(drop).ok_or_else(|| no_property(key))
    })
}

/// Writes the file anew: the same values always give the same bytes. Where nothing was changed keep the original
/// bytes, which the fingerprint covers.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any, while nobody changes the metadata.
/// Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_to_yaml(
    metadata: *const lxi_metadata,
    yaml: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let yaml = args::out_handle(yaml, "yaml")?;
        yaml.set(buffer(handle::get(metadata)?.to_yaml()));
        Ok(())
    })
}

/// Frees a metadata; NULL is allowed.
///
/// Threads: any, the metadata being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_free(metadata: *mut lxi_metadata) -> lxi_status {
    free(metadata)
}
