//! OCI layouts: an image of one into a store or a file, and bundles that carry several.

use std::collections::BTreeMap;

use lxd_image::bundle::{Bundle, BundleImportOptions, BundleWriter, LayoutImage, LayoutOptions};
use lxd_image::oci::Layout;
use lxd_image::{Fingerprint, Result};

use crate::args::{self, versioned};
use crate::error::{call, lxi_error};
use crate::handle;
use crate::import::{import_options, lxi_import_options};
use crate::limits::{limits_or_default, lxi_limits};
use crate::list::lxi_image_list;
use crate::monitor::{lxi_monitor, monitor_from};
use crate::names::lxi_names;
use crate::pack::lxi_written;
use crate::store::lxi_store;
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;
use crate::verify::threads;

/// Which image of an OCI layout is meant, and what a container image becomes. NULL, or all but `size` zero: the only
/// image, for this machine, on all cores.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_layout_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_LAYOUT_….
    pub flags: u32,
    /// How many threads work, at most; 0 for all cores.
    pub threads: u32,
    /// The image's name in the layout; empty for the only one.
    pub image: lxi_str,
    /// The machine, by any of its names, of an image that is there for several; empty for this one.
    pub architecture: lxi_str,
    /// The codec of a container image, with or without a level, such as `zstd:19`; empty for the usual one.
    pub compression: lxi_str,
    /// The limits that the layout and its image are held to, or NULL.
    pub limits: *const lxi_limits,
}

/// A container image boots its init, instead of running its entry point.
pub const LXI_LAYOUT_SYSTEM: u32 = 1;

/// How a bundle is imported. NULL, or all but `size` zero: private images, whose aliases must be free.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_bundle_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_BUNDLE_….
    pub flags: u32,
    /// How many threads convert a container image, at most; 0 for all cores.
    pub threads: u32,
    /// The limits that the layout and its images are held to, or NULL.
    pub limits: *const lxi_limits,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// Clients that have not authenticated may read the images.
pub const LXI_BUNDLE_PUBLIC: u32 = 1;
/// Aliases that are taken move; an image that thereby loses its last one is deleted, unless it is to be kept.
pub const LXI_BUNDLE_REUSE_ALIASES: u32 = 2;

versioned!(lxi_layout_options, lxi_bundle_options);

unsafe fn layout_options(pointer: *const lxi_layout_options) -> Result<LayoutOptions> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, LXI_LAYOUT_SYSTEM, "flags of a layout")?;
    let mut options = LayoutOptions::new().system(flags != 0).limits(limits_or_default(given.limits)?);
    if let Some(name) = args::optional_text(given.image, "image's name")? {
        options = options.image(name);
    }
    if let Some(name) = args::optional_text(given.architecture, "architecture")? {
        options = options.architecture(name.parse()?);
    }
    if let Some(compression) = args::optional_text(given.compression, "compression")? {
        options = options.compression(compression.parse()?);
    }
    if given.threads > 0 {
        options = options.threads(threads(given.threads));
    }
    Ok(options)
}

/// The names of the images in an OCI layout, a directory or a tar that is not compressed. `limits` and `monitor` may be
/// NULL.
///
/// Owner: the caller, who frees the list with `lxi_names_free`. Threads: any. Errors: LXI_NOT_FOUND; LXI_MALFORMED for
/// what is no layout; LXI_UNSUPPORTED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_layout_names(
    path: lxi_str,
    limits: *const lxi_limits,
    monitor: *const lxi_monitor,
    names: *mut *mut lxi_names,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(names, "names")?;
        let path = args::path(path, "layout's path")?;
        let layout = Layout::open(path, &limits_or_default(limits)?, &monitor_from(monitor)?)?;
        let entries = layout.entries().iter().filter(|entry| !Layout::lists_referrers(entry));
        place.set(handle::make(entries.filter_map(Layout::name_of).map(str::to_owned).collect::<Vec<_>>()));
        Ok(())
    })
}

/// Imports an image of an OCI layout: one of LXD or Incus as it is, with the statements that the layout has beside it,
/// and a container image as the instance image that it becomes. What can't be taken along is an omission of the monitor
/// of `import_options`. Both options, `image` and `incus_fingerprint` may be NULL; the last one gets the fingerprint
/// that Incus would give a container image, and zeros for another one.
///
/// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: those of
/// `lxi_store_import`; LXI_NOT_FOUND, with the names that are there; LXI_AMBIGUOUS without a name where there are
/// several; LXI_UNSUPPORTED for what is no such image, and where none is for the machine; LXI_INVALID_INPUT for
/// LXI_LAYOUT_SYSTEM with an image of LXD or Incus. The store is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_import_layout(
    store: *const lxi_store,
    path: lxi_str,
    options: *const lxi_layout_options,
    import_options: *const lxi_import_options,
    image: *mut *mut lxi_stored_image,
    incus_fingerprint: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(image, "image")?;
        let incus = args::optional_out(incus_fingerprint, lxi_fingerprint::NONE, "incus_fingerprint")?;
        let (store, path) = (handle::get(store)?, args::path(path, "layout's path")?);
        let (importing, monitor) = self::import_options(import_options)?;
        let found = LayoutImage::open(path, &layout_options(options)?, &monitor)?;
        let (done, other) = found.import(store, &importing, &monitor)?;
        if let (Some(incus), Some(other)) = (incus, other) {
            incus.set(other.into());
        }
        if let Some(place) = place {
            place.set(stored(done));
        }
        Ok(())
    })
}

/// Writes a container image of an OCI layout to the new file `out`, as an instance image. `options`, `monitor` and
/// `written` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_written_free`. Threads: any. Errors: as `lxi_store_import_layout`
/// and `lxi_pack`; LXI_UNSUPPORTED for an image of LXD or Incus, which needs no conversion.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_layout_write(
    path: lxi_str,
    options: *const lxi_layout_options,
    out: lxi_str,
    monitor: *const lxi_monitor,
    written: *mut *mut lxi_written,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(written, "written")?;
        let (path, out) = (args::path(path, "layout's path")?, args::path(out, "output")?);
        let monitor = monitor_from(monitor)?;
        let done = LayoutImage::open(path, &layout_options(options)?, &monitor)?.write(out, &monitor)?;
        if let Some(place) = place {
            place.set(handle::make(done.into()));
        }
        Ok(())
    })
}

/// Writes images of a store with their aliases and the statements about them to a bundle: an OCI layout that is a new
/// tar, or a new directory if `path` ends in a slash. The same images give the same bytes. What a bundle can't hold is
/// an omission of `monitor`, which may be NULL.
///
/// Threads: any. Errors: LXI_ALREADY_EXISTS; LXI_NOT_FOUND for an image that is not there; LXI_INVALID_INPUT without an
/// image; LXI_MISMATCH where the bytes in the store are damaged; LXI_CANCELLED; LXI_IO. Nothing is left then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_bundle_create(
    store: *const lxi_store,
    fingerprints: *const lxi_fingerprint,
    fingerprints_len: usize,
    path: lxi_str,
    monitor: *const lxi_monitor,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let store = handle::get(store)?;
        let named = args::items(fingerprints, fingerprints_len, "fingerprints")?;
        let monitor = monitor_from(monitor)?;
        let file = args::path(path, "bundle's path")?;
        let mut images = BTreeMap::new();
        for of in named {
            let of = Fingerprint::from_bytes(of.bytes);
            images.insert(of, store.image(&of)?);
        }
        let mut bundle = if args::raw_bytes(path.data.cast(), path.len, "bundle's path")?.ends_with(b"/") {
            BundleWriter::directory(file, &monitor)?
        } else {
            BundleWriter::tar(file, &monitor)?
        };
        for image in images.values() {
            bundle.add(store, image, &monitor)?;
        }
        bundle.finish(&monitor).map(drop)
    })
}

/// Imports all images of a bundle, or of any OCI layout, with their names as aliases and the statements about them. An
/// image that is in the store already gets the aliases. What can't be taken is an omission of the monitor. `options`
/// and `images` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_image_list_free`. Threads: any. Errors: those of
/// `lxi_store_import_layout`; LXI_NOT_FOUND for a layout without an image. Images that were imported before stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_bundle_import(
    store: *const lxi_store,
    path: lxi_str,
    options: *const lxi_bundle_options,
    images: *mut *mut lxi_image_list,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(images, "images")?;
        let (store, path) = (handle::get(store)?, args::path(path, "bundle's path")?);
        let given = args::options(options)?;
        let flags = args::flags(given.flags, 3, "flags of a bundle")?;
        let monitor = monitor_from(given.monitor)?;
        let mut options = BundleImportOptions::new()
            .public(flags & LXI_BUNDLE_PUBLIC != 0)
            .reuse_aliases(flags & LXI_BUNDLE_REUSE_ALIASES != 0);
        if given.threads > 0 {
            options = options.threads(threads(given.threads));
        }
        let bundle = Bundle::open(path, &limits_or_default(given.limits)?, &monitor)?;
        let imported = bundle.import(store, &options, &monitor)?;
        if let Some(place) = place {
            let found = imported.iter().map(|of| store.image(of)).collect::<Result<Vec<_>>>()?;
            place.set(handle::make(found));
        }
        Ok(())
    })
}
