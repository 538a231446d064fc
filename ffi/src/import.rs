//! Bringing images into a store: from files, streams, or a tree that is packed on the way.

use lxd_image::metadata::Properties;
use lxd_image::store::{Alias, ImportOptions, UpdateSource};
use lxd_image::trust::Evidence;
use lxd_image::{Monitor, Result};

use crate::args::{self, versioned};
use crate::error::{call, lxi_error};
use crate::handle;
use crate::monitor::{lxi_monitor, monitor_from};
use crate::pack::{lxi_pack_options, lxi_written, pack_options};
use crate::statement::{envelopes, lxi_statements};
use crate::store::lxi_store;
use crate::stored::{lxi_stored_image, stored};
use crate::stream::{lxi_input, source};
use crate::types::*;

/// A name that points to an image.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_alias {
    /// The name; it may hold `/`.
    pub name: lxi_str,
    /// What it is for, in words; may be empty.
    pub description: lxi_str,
}

/// Where an image came from and newer versions of it come from. Set `size` to `sizeof(lxi_update_source)`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_update_source {
    /// The size of this structure in bytes.
    pub size: usize,
    /// The server's address.
    pub server: lxi_str,
    /// How to talk to the server: `lxd`, `simplestreams` or `direct`.
    pub protocol: lxi_str,
    /// The alias that was asked for.
    pub alias: lxi_str,
    /// The server's certificate in PEM, where it is not signed by a known authority; or empty.
    pub certificate: lxi_str,
    /// Whether a container's or a virtual machine's image is meant by the alias; 0 if that is not said.
    pub image_type: lxi_image_type,
}

/// How an image is imported. NULL, or all but `size` zero: a private image without an alias, described by its own
/// metadata.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_import_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_IMPORT_….
    pub flags: u32,
    /// Aliases that it gets.
    pub aliases: *const lxi_alias,
    /// How many.
    pub aliases_len: usize,
    /// Properties that win over the image's own, and survive a refresh.
    pub properties: *const lxi_pair,
    /// How many.
    pub properties_len: usize,
    /// Properties that the image's source tells: they win over the image's own, and a refresh brings newer ones.
    pub source_properties: *const lxi_pair,
    /// How many.
    pub source_properties_len: usize,
    /// The fingerprint that it must have, or NULL.
    pub expected_fingerprint: *const lxi_fingerprint,
    /// When it may be removed, in seconds since 1970; wins over the image's own date. 0 if that is not said.
    pub expires_at: i64,
    /// The name that its file is exported under; or empty. Refused unless it is a plain name.
    pub file_name: lxi_str,
    /// Where it comes from, or NULL.
    pub source: *const lxi_update_source,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
    /// Statements about the image, which are kept beside it, and which the policy of the store may demand; or NULL.
    pub statements: *const lxi_statements,
}

/// Aliases that are taken move to the new image, instead of being an error.
pub const LXI_IMPORT_REUSE_ALIASES: u32 = 1;
/// Clients that have not authenticated may read it.
pub const LXI_IMPORT_PUBLIC: u32 = 2;
/// It follows its source, which must be given.
pub const LXI_IMPORT_AUTO_UPDATE: u32 = 4;
/// It comes as a side effect of being used, and goes when it is no longer used.
pub const LXI_IMPORT_CACHED: u32 = 8;
/// An image that is there already gets the aliases, instead of being an error.
pub const LXI_IMPORT_ADD_ALIASES: u32 = 16;
/// An image that loses its last alias to it is deleted, unless it is to be kept.
pub const LXI_IMPORT_REPLACE_IMAGES: u32 = 32;

versioned!(lxi_import_options since statements);
versioned!(lxi_update_source);

/// An alias, checked.
pub(crate) unsafe fn alias(given: lxi_alias) -> Result<Alias> {
    let alias = Alias::new(args::text(given.name, "name of an alias")?)?;
    Ok(alias.described(args::text(given.description, "description of an alias")?))
}

pub(crate) unsafe fn import_options(pointer: *const lxi_import_options) -> Result<(ImportOptions, Monitor)> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, 63, "flags of importing")?;
    let mut options = ImportOptions::new()
        .reuse_aliases(flags & LXI_IMPORT_REUSE_ALIASES != 0)
        .public(flags & LXI_IMPORT_PUBLIC != 0)
        .auto_update(flags & LXI_IMPORT_AUTO_UPDATE != 0)
        .cached(flags & LXI_IMPORT_CACHED != 0)
        .add_aliases_to_existing(flags & LXI_IMPORT_ADD_ALIASES != 0)
        .replace_images(flags & LXI_IMPORT_REPLACE_IMAGES != 0);
    for given in args::items(given.aliases, given.aliases_len, "aliases")? {
        options = options.alias(alias(*given)?);
    }
    for (key, value) in args::pairs(given.properties, given.properties_len, "properties")? {
        options = options.property(key, value)?;
    }
    let mut told = Properties::new();
    for (key, value) in args::pairs(given.source_properties, given.source_properties_len, "source's properties")? {
        told.set(key, value)?;
    }
    options = options.source_properties(told);
    if let Some(expected) = args::optional_fingerprint(given.expected_fingerprint)? {
        options = options.expected_fingerprint(expected);
    }
    if given.expires_at != 0 {
        options = options.expires_at(given.expires_at);
    }
    if let Some(name) = args::optional_text(given.file_name, "file's name")? {
        options = options.file_name(name);
    }
    if !given.source.is_null() {
        options = options.source(update_source(given.source)?);
    }
    let statements = envelopes(given.statements)?;
    if !statements.is_empty() {
        options = options.evidence(Evidence::new().statements(statements));
    }
    Ok((options, monitor_from(given.monitor)?))
}

unsafe fn update_source(pointer: *const lxi_update_source) -> Result<UpdateSource> {
    let given = args::required(pointer)?;
    let text = |given, what| args::text(given, what);
    let source = UpdateSource::new(
        text(given.server, "server")?,
        text(given.protocol, "protocol")?,
        text(given.alias, "source's alias")?,
    )
    .certificate(text(given.certificate, "certificate")?);
    Ok(match optional_image_type(given.image_type)? {
        Some(image_type) => source.image_type(image_type),
        None => source,
    })
}

/// Brings an image in, one file with `second` NULL, or metadata and rootfs in either order: its bytes are copied into
/// the store's own file system, hashed and verified, and become visible with all that `options` say in one step. A
/// cached image that is imported on purpose becomes a published one. `options` and `image` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: LXI_ALREADY_EXISTS for
/// an image that is there, or an alias that is taken; LXI_MISMATCH for another fingerprint than the expected one;
/// those of verifying an image; LXI_INVALID_INPUT for an alias or a file name that is none, or an architecture that is
/// not known; LXI_BUSY; LXI_CANCELLED; LXI_IO. The store is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_import(
    store: *const lxi_store,
    first: *const lxi_input,
    second: *const lxi_input,
    options: *const lxi_import_options,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let source = source(first, second);
        let place = args::optional_out_handle(image, "image")?;
        let store = handle::get(store)?;
        let (options, monitor) = import_options(options)?;
        let done = store.import(source?, &options, &monitor)?;
        if let Some(place) = place {
            place.set(stored(done));
        }
        Ok(())
    })
}

/// Packs a root file system and imports the image in one step: what a container manager does with a stopped instance.
/// `options`, `image` and `written` may be NULL. The monitor is that of `packing` or of `options`; two that differ are
/// LXI_INVALID_INPUT.
///
/// Owner: the caller, who frees the results with `lxi_stored_image_free` and `lxi_written_free`. Threads: any. Errors:
/// those of `lxi_pack_to` and of `lxi_store_import`; the store is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_publish(
    store: *const lxi_store,
    packing: *const lxi_pack_options,
    options: *const lxi_import_options,
    image: *mut *mut lxi_stored_image,
    written: *mut *mut lxi_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let packed_by = pack_options(packing);
        let image = args::optional_out_handle(image, "image")?;
        let written = args::optional_out_handle(written, "written")?;
        let store = handle::get(store)?;
        let monitors = (args::required(packing)?.monitor, args::options(options)?.monitor);
        if monitors.0 != monitors.1 && !monitors.0.is_null() && !monitors.1.is_null() {
            return Err(args::invalid("the two monitors differ, and the call has one"));
        }
        let (options, importing) = import_options(options)?;
        let (rootfs, packing, monitor) = packed_by?;
        let monitor = if monitors.1.is_null() { monitor } else { importing };
        let (done, packed) = store.publish(&rootfs, &packing, &options, &monitor)?;
        if let Some(image) = image {
            image.set(stored(done));
        }
        if let Some(written) = written {
            written.set(handle::make(packed.into()));
        }
        Ok(())
    })
}
