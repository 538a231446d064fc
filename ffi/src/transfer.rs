//! Images that come from remotes into a store: copied, cached, refreshed.

use lxd_image::remote::{CopyOptions, RemoteRefresh, copy, open_source};
use lxd_image::store::{RefreshOptions, Refreshed};
use lxd_image::{Fingerprint, Monitor, Result};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::error::{Report, call, free, lxi_error, lxi_error_info};
use crate::handle::{self, handles};
use crate::import::{self, lxi_alias};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::remote::{architectures, client_of_many, lxi_client_options, lxi_remote};
use crate::settings::lxi_settings;
use crate::store::lxi_store;
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;

/// How an image is copied from a remote. NULL, or all but `size` zero: a private copy of a container's image for this
/// machine, without an alias, that is not refreshed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_copy_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_COPY_….
    pub flags: u32,
    /// The type that an alias must have: LXI_TYPE_…, or 0 for containers.
    pub image_type: lxi_image_type,
    /// Aliases that the copy gets.
    pub aliases: *const lxi_alias,
    /// How many.
    pub aliases_len: usize,
    /// Properties that win over those of the image and of the remote.
    pub properties: *const lxi_pair,
    /// How many.
    pub properties_len: usize,
    /// The machines that an alias may mean, best first, by any of their names; none for this one.
    pub architectures: *const lxi_str,
    /// How many.
    pub architectures_len: usize,
    /// The fingerprint that it must have, whatever the server says; or NULL.
    pub expected_fingerprint: *const lxi_fingerprint,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// The copy also gets the aliases that it has on the remote.
pub const LXI_COPY_COPY_ALIASES: u32 = 1;
/// Aliases that are taken move to the copy, instead of being an error.
pub const LXI_COPY_REUSE_ALIASES: u32 = 2;
/// An image that loses its last alias to the copy is deleted, unless it is to be kept.
pub const LXI_COPY_REPLACE_IMAGES: u32 = 4;
/// The copy follows its source when it is refreshed. It must be named by an alias then.
pub const LXI_COPY_AUTO_UPDATE: u32 = 8;
/// Clients that have not authenticated may read it.
pub const LXI_COPY_PUBLIC: u32 = 16;
/// An image may be copied although nothing names its fingerprint before the download: the server decides what its bytes
/// are.
pub const LXI_COPY_TRUST_TRANSPORT: u32 = 32;

/// How images are refreshed. NULL, or all but `size` zero: newer ones are fetched and take the place of the old ones.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_refresh_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_REFRESH_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// How servers are spoken to that have no name in the settings, or NULL.
    pub client: *const lxi_client_options,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// Replaces nothing, and tells what would be replaced.
pub const LXI_REFRESH_DRY_RUN: u32 = 1;

/// What became of an image that was refreshed: LXI_REFRESHED_….
pub type lxi_refreshed = u32;
/// A value that this version of the list does not know.
pub const LXI_REFRESHED_OTHER: lxi_refreshed = 0;
/// It follows no source, and was not changed.
pub const LXI_REFRESHED_NOT_FOLLOWING: lxi_refreshed = 1;
/// It is the newest of its source.
pub const LXI_REFRESHED_CURRENT: lxi_refreshed = 2;
/// A newer image took its place, or would.
pub const LXI_REFRESHED_REPLACED: lxi_refreshed = 3;
/// It could not be refreshed; `lxi_refresh_report_error_at` says why. It is as it was.
pub const LXI_REFRESHED_FAILED: lxi_refreshed = 4;

/// What a refresh did, image by image. Read-only, so it may be shared between threads.
pub struct lxi_refresh_report {
    _opaque: (),
}

/// The outcome of one image, with the newer image where there is one.
pub struct Outcome {
    image: Fingerprint,
    kind: lxi_refreshed,
    newest: Option<Fingerprint>,
    error: Option<Report>,
}

impl Outcome {
    fn new(image: Fingerprint, result: Result<Refreshed>) -> Self {
        let (kind, newest, error) = match result {
            Ok(Refreshed::NotFollowing) => (LXI_REFRESHED_NOT_FOLLOWING, None, None),
            Ok(Refreshed::Current) => (LXI_REFRESHED_CURRENT, Some(image), None),
            Ok(Refreshed::Replaced { fingerprint }) => (LXI_REFRESHED_REPLACED, Some(fingerprint), None),
            Ok(_) => (LXI_REFRESHED_OTHER, None, None),
            Err(error) => (LXI_REFRESHED_FAILED, None, Some(Report::new(error))),
        };
        Self { image, kind, newest, error }
    }
}

versioned!(lxi_copy_options, lxi_refresh_options);
handles! { lxi_refresh_report(34) = Vec<Outcome>; }

unsafe fn copy_options(pointer: *const lxi_copy_options) -> Result<(CopyOptions, Monitor)> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, 63, "flags of copying")?;
    let mut options = CopyOptions::new()
        .copy_aliases(flags & LXI_COPY_COPY_ALIASES != 0)
        .reuse_aliases(flags & LXI_COPY_REUSE_ALIASES != 0)
        .replace_images(flags & LXI_COPY_REPLACE_IMAGES != 0)
        .auto_update(flags & LXI_COPY_AUTO_UPDATE != 0)
        .public(flags & LXI_COPY_PUBLIC != 0)
        .trust_transport(flags & LXI_COPY_TRUST_TRANSPORT != 0)
        .architectures(architectures(given.architectures, given.architectures_len)?);
    for given in args::items(given.aliases, given.aliases_len, "aliases")? {
        options = options.alias(import::alias(*given)?);
    }
    for (key, value) in args::pairs(given.properties, given.properties_len, "properties")? {
        options = options.property(key, value)?;
    }
    if let Some(image_type) = optional_image_type(given.image_type)? {
        options = options.image_type(image_type);
    }
    if let Some(expected) = args::optional_fingerprint(given.expected_fingerprint)? {
        options = options.expected_fingerprint(expected);
    }
    Ok((options, monitor_from(given.monitor)?))
}

/// Copies the image that `reference` names on a remote into the store. One that is there already gets what `options` say,
/// and nothing is downloaded; a cached image becomes one that stays. `options` and `image` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: those of
/// `lxi_remote_resolve` and of `lxi_store_import`, above all LXI_MISMATCH when the bytes are not those of the fingerprint
/// that was named; LXI_ALREADY_EXISTS for an alias that is taken; LXI_INVALID_INPUT for an image that is to follow its
/// source and is named by a fingerprint. The store is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_copy_from(
    store: *const lxi_store,
    remote: *const lxi_remote,
    reference: lxi_str,
    options: *const lxi_copy_options,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(image, "image")?;
        let (store, remote) = (handle::get(store)?, handle::get(remote)?);
        let (options, monitor) = copy_options(options)?;
        let done = copy(remote.source(), args::text(reference, "reference")?, store, &options, &monitor)?;
        if let Some(place) = place {
            place.set(stored(done));
        }
        Ok(())
    })
}

/// The image that `reference` names on a remote: from the store if it is there, else downloaded, and cached until it is
/// unused for long enough (`lxi_store_prune`). Marks it as used. Options about aliases are refused, as a cached image has
/// none. If the server can't be reached, the image that the alias meant last is given, if that is here. `options` may be
/// NULL.
///
/// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: as `lxi_store_copy_from`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_get_or_fetch(
    store: *const lxi_store,
    remote: *const lxi_remote,
    reference: lxi_str,
    options: *const lxi_copy_options,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let (store, remote) = (handle::get(store)?, handle::get(remote)?);
        let reference = args::text(reference, "reference")?;
        let (options, monitor) = copy_options(options)?;
        place.set(stored(store.get_or_fetch(remote.source(), reference, &options, &monitor)?));
        Ok(())
    })
}

/// Replaces images by the newest of their sources: those named, or with `fingerprints_len` 0 all that follow one. A source
/// with a name in `settings`, which may be NULL, is spoken to as they say. One image that fails does not stop the others:
/// its outcome is LXI_REFRESHED_FAILED. `options` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_refresh_report_free`. Threads: any. Errors: LXI_MALFORMED when the
/// catalog is damaged, LXI_CANCELLED, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_refresh(
    store: *const lxi_store,
    settings: *const lxi_settings,
    fingerprints: *const lxi_fingerprint,
    fingerprints_len: usize,
    options: *const lxi_refresh_options,
    report: *mut *mut lxi_refresh_report,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(report, "report")?;
        let store = handle::get(store)?;
        let settings = handle::get_optional(settings)?.cloned();
        let given = args::options(options)?;
        let flags = args::flags(given.flags, LXI_REFRESH_DRY_RUN, "flags of refreshing")?;
        args::flags(given.reserved, 0, "reserved bits of refreshing")?;
        let monitor = monitor_from(given.monitor)?;
        let client = client_of_many(given.client)?;
        let sources = RemoteRefresh::new(move |source| match &settings {
            Some(settings) => settings.open_source(source, client.clone()),
            None => open_source(source, client.clone()),
        });
        let options = RefreshOptions::new().dry_run(flags != 0);
        let named = args::items(fingerprints, fingerprints_len, "fingerprints")?;
        let outcomes: Vec<Outcome> = if named.is_empty() {
            let done = store.refresh_all(&sources, &options, &monitor)?;
            done.into_iter().map(|(image, result)| Outcome::new(image.fingerprint, result)).collect()
        } else {
            let mut outcomes = Vec::with_capacity(named.len());
            for of in named {
                monitor.check()?;
                let of = Fingerprint::from_bytes(of.bytes);
                outcomes.push(Outcome::new(of, store.refresh(&of, &sources, &options, &monitor)));
            }
            outcomes
        };
        place.set(handle::make(outcomes));
        Ok(())
    })
}

/// How many images a report is about.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_refresh_report_len(
    report: *const lxi_refresh_report,
    len: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        args::out(len, 0, "len")?.set(handle::get(report)?.len());
        Ok(())
    })
}

/// What became of the image with an index from 0: its fingerprint, the outcome, and the newest image of its source, which
/// is the same one where it is current, and zero where it is not known. `newest` may be NULL.
///
/// Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_refresh_report_at(
    report: *const lxi_refresh_report,
    index: usize,
    image: *mut lxi_fingerprint,
    outcome: *mut lxi_refreshed,
    newest: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let image = args::out(image, lxi_fingerprint::NONE, "image")?;
        let outcome = args::out(outcome, LXI_REFRESHED_OTHER, "outcome")?;
        let newest = args::optional_out(newest, lxi_fingerprint::NONE, "newest")?;
        let found = handle::get(report)?.get(index).ok_or_else(|| index_out_of_range(index, "image"))?;
        image.set(found.image.into());
        outcome.set(found.kind);
        if let (Some(place), Some(found)) = (newest, found.newest) {
            place.set(found.into());
        }
        Ok(())
    })
}

/// Fills `info` with why the image with an index from 0 could not be refreshed.
///
/// Owner: the texts belong to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end, and for an image
/// that did not fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_refresh_report_error_at(
    report: *const lxi_refresh_report,
    index: usize,
    info: *mut lxi_error_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let found = handle::get(report)?.get(index).and_then(|found| found.error.as_ref());
        args::fill(info, &found.ok_or_else(|| index_out_of_range(index, "image that failed"))?.info())
    })
}

/// Frees a report; NULL is allowed.
///
/// Threads: any, the report being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_refresh_report_free(report: *mut lxi_refresh_report) -> lxi_status {
    free(report)
}
