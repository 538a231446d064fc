//! One image of a store, as it was when it was looked up.

use lxd_image::store::StoredImage;
use lxd_image::{Error, ErrorKind};

use crate::about::{PropertyOut, index_out_of_range};
use crate::args::{self, versioned};
use crate::buffer::{buffer, lxi_buffer};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::image::form_of;
use crate::metadata::no_property;
use crate::types::*;

/// An image of a store, as it was when it was looked up. Read-only, so it may be shared between threads.
pub struct lxi_stored_image {
    _opaque: (),
}

/// What a store knows of an image; filled by `lxi_stored_image_get`. Set `size` to `sizeof(lxi_stored_image_info)`
/// before. Times are seconds since 1970.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_stored_image_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The digest of its bytes, which names it.
    pub fingerprint: lxi_fingerprint,
    /// Container or virtual machine.
    pub image_type: lxi_image_type,
    /// One file or two.
    pub form: lxi_form,
    /// The kernel's name of the machine that it is for: `x86_64`.
    pub architecture: lxi_str,
    /// The size of all its files in bytes.
    pub bytes: u64,
    /// The size of the rootfs file of a split image in bytes; else 0.
    pub rootfs_bytes: u64,
    /// When it was made, as its metadata says.
    pub created_at: i64,
    /// When it may be removed; 0 for never.
    pub expires_at: i64,
    /// When it came into this store.
    pub uploaded_at: i64,
    /// When something was last made from it; 0 for never.
    pub last_used_at: i64,
    /// Counts the changes made to it in this store.
    pub revision: u64,
    /// What an edit may be based on: the ETag that LXD's REST API gives.
    pub etag: lxi_str,
    /// The name that its file came with: of a split image, the metadata's. May be empty.
    pub file_name: lxi_str,
    /// The name that the rootfs file came with. May be empty.
    pub rootfs_name: lxi_str,
    /// Where newer versions come from: the server's address; empty for nowhere.
    pub source_server: lxi_str,
    /// How to talk to it: `lxd`, `simplestreams` or `direct`.
    pub source_protocol: lxi_str,
    /// The alias that was asked for there.
    pub source_alias: lxi_str,
    /// How many properties it has: `lxi_stored_image_property_at`.
    pub properties: usize,
    /// How many aliases it has: `lxi_stored_image_alias_at`.
    pub aliases: usize,
    /// Whether clients that have not authenticated may read it.
    pub is_public: bool,
    /// Whether it follows its source.
    pub auto_update: bool,
    /// Whether it came as a side effect of using a remote image, and goes when it is not used.
    pub cached: bool,
}

/// An image with the texts that C may look at.
pub struct Known {
    image: StoredImage,
    etag: String,
}

versioned!(lxi_stored_image_info);
handles! { lxi_stored_image(17) = Known; }

/// Puts an image behind a handle.
pub(crate) fn stored(image: StoredImage) -> *mut lxi_stored_image {
    let etag = image.etag().to_string();
    handle::make(Known { image, etag })
}

/// Fills `info` with what the store knew of the image.
///
/// Owner: the texts belong to the image. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_stored_image_get(
    image: *const lxi_stored_image,
    info: *mut lxi_stored_image_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let Known { image, etag } = handle::get(image)?;
        let source = image.source.as_ref();
        args::fill(
            info,
            &lxi_stored_image_info {
                size: 0,
                fingerprint: image.fingerprint.into(),
                image_type: image_type(image.image_type),
                form: form_of(image.form()),
                architecture: lxi_str::of(image.architecture.kernel_name()),
                bytes: image.size,
                rootfs_bytes: image.rootfs_size.unwrap_or(0),
                created_at: image.created_at,
                expires_at: image.expires_at.unwrap_or(0),
                uploaded_at: image.uploaded_at,
                last_used_at: image.last_used_at.unwrap_or(0),
                revision: image.revision,
                etag: lxi_str::of(etag),
                file_name: lxi_str::of_optional(image.file_name.as_deref()),
                rootfs_name: lxi_str::of_optional(image.rootfs_name.as_deref()),
                source_server: lxi_str::of_optional(source.map(|source| source.server.as_str())),
                source_protocol: lxi_str::of_optional(source.map(|source| source.protocol.as_str())),
                source_alias: lxi_str::of_optional(source.map(|source| source.alias.as_str())),
                properties: image.properties.len(),
                aliases: image.aliases.len(),
                is_public: image.public,
                auto_update: image.auto_update,
                cached: image.cached,
            },
        )
    })
}

/// A property of the image, with an index from 0.
///
/// Owner: the texts belong to the image. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_stored_image_property_at(
    image: *const lxi_stored_image,
    index: usize,
    key: *mut lxi_str,
    value: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = PropertyOut::new(key, value)?;
        place.set(&handle::get(image)?.image.properties, index)
    })
}

/// The value of a property.
///
/// Owner: the text belongs to the image. Threads: any. Errors: LXI_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_stored_image_property(
    image: *const lxi_stored_image,
    key: lxi_str,
    value: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let value = args::out_str(value, "value")?;
        let key = args::text(key, "name of a property")?;
        value.set(lxi_str::of(handle::get(image)?.image.properties.get(key).ok_or_else(|| no_property(key))?));
        Ok(())
    })
}

/// An alias of the image, sorted, with an index from 0.
///
/// Owner: the texts belong to the image. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_stored_image_alias_at(
    image: *const lxi_stored_image,
    index: usize,
    name: *mut lxi_str,
    description: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (name, description) = (args::out_str(name, "name")?, args::out_str(description, "description")?);
        let found = handle::get(image)?.image.aliases.get(index).ok_or_else(|| index_out_of_range(index, "alias"))?;
        name.set(lxi_str::of(&found.name));
        description.set(lxi_str::of(&found.description));
        Ok(())
    })
}

/// The image as the image object of LXD's REST API.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_stored_image_to_json(
    image: *const lxi_stored_image,
    json: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let json = args::out_handle(json, "json")?;
        let bytes = serde_json::to_vec(&handle::get(image)?.image).map_err(|error| {
            Error::new(ErrorKind::Malformed, "the image can't be written as JSON").with_source(error)
        })?;
        json.set(buffer(bytes));
        Ok(())
    })
}

/// Frees what was known of an image; NULL is allowed. The image stays.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_stored_image_free(image: *mut lxi_stored_image) -> lxi_status {
    free(image)
}
