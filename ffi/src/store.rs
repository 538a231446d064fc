//! The local image store: opened, searched, its images opened, used and deleted.

use std::ffi::c_void;
use std::time::Duration;

use lxd_image::Result;
use lxd_image::store::{ETag, Filter, Store, StoreDescription, StoreOptions};

use crate::args::{self, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::image::lxi_image;
use crate::limits::{limits_or_default, lxi_limits};
use crate::list::lxi_image_list;
use crate::policy::lxi_policy;
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;
use crate::verify::threads;

/// A store of images. Any number of processes may use one store, and any number of threads one handle: every call but
/// `lxi_store_free` takes it as const.
pub struct lxi_store {
    _opaque: (),
}

/// Returns the time in seconds since 1970. Called from any thread, also from several at the same time. Must not unwind
/// or jump out.
pub type lxi_clock_fn = Option<unsafe extern "C" fn(user: *mut c_void) -> i64>;

/// How a store is opened. NULL, or all but `size` zero: makes the store if it is not there, and waits five seconds for
/// other writers.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_store_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_STORE_….
    pub flags: u32,
    /// How many threads decode an image that is verified, at most; 0 for all cores.
    pub threads: u32,
    /// With LXI_STORE_BUSY_TIMEOUT: how long to wait for other writers before failing with LXI_BUSY.
    pub busy_milliseconds: u64,
    /// The limits for images that come in, or NULL.
    pub limits: *const lxi_limits,
    /// Where the time comes from; NULL for the machine's clock. Used until the store and all servers of it are freed.
    pub clock: lxi_clock_fn,
    /// Handed to `clock`.
    pub clock_user: *mut c_void,
    /// What images need before this handle makes them visible, whatever brings them: imports, copies, refreshes,
    /// caches, uploads to a server of it, new aliases. NULL for nothing. An image that is refused fails with
    /// LXI_UNTRUSTED.
    pub policy: *const lxi_policy,
}

/// A store that is not there is an error.
pub const LXI_STORE_NO_CREATE: u32 = 1;
/// Changes nothing, not even leftovers. Works on a file system that can only be read.
pub const LXI_STORE_READ_ONLY: u32 = 2;
/// `busy_milliseconds` is set.
pub const LXI_STORE_BUSY_TIMEOUT: u32 = 4;

versioned!(lxi_store_options since policy);
handles! { lxi_store(16) = Store; }

pub(crate) struct Clock {
    clock: unsafe extern "C" fn(user: *mut c_void) -> i64,
    user: *mut c_void,
}

// SAFETY: the header says that the clock is called from any thread.
unsafe impl Send for Clock {}
// SAFETY: and from several at the same time.
unsafe impl Sync for Clock {}

impl Clock {
    /// A clock of the caller.
    pub(crate) fn new(clock: unsafe extern "C" fn(user: *mut c_void) -> i64, user: *mut c_void) -> Self {
        Self { clock, user }
    }

    pub(crate) fn now(&self) -> i64 {
        // SAFETY: a function of this type, by the caller's promise, with what belongs to it.
        unsafe { (self.clock)(self.user) }
    }
}

pub(crate) unsafe fn store_options(pointer: *const lxi_store_options) -> Result<StoreOptions> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, 7, "flags of opening a store")?;
    let mut options = StoreOptions::new()
        .create(flags & LXI_STORE_NO_CREATE == 0)
        .read_only(flags & LXI_STORE_READ_ONLY != 0)
        .limits(limits_or_default(given.limits)?);
    if flags & LXI_STORE_BUSY_TIMEOUT != 0 {
        options = options.busy_timeout(Duration::from_millis(given.busy_milliseconds));
    }
    if given.threads > 0 {
        options = options.threads(threads(given.threads));
    }
    if let Some(clock) = given.clock {
        let clock = Clock::new(clock, given.clock_user);
        options = options.clock(move || clock.now());
    }
    if let Some(policy) = handle::get_optional(given.policy)? {
        options = options.policy(policy.clone());
    }
    Ok(options)
}

/// Opens the store at `path`: a directory, or a file in TOML that describes where its parts are (see
/// `lxi_store_open_described`). `options` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_store_free`. Threads: any. Errors: LXI_NOT_FOUND when it is not there and
/// not to be made; LXI_UNSUPPORTED for a newer layout and for a directory of something else; LXI_MALFORMED when it is
/// damaged; LXI_FEATURE_DISABLED for a bucket or a database that this build can't use; LXI_BUSY; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_open(
    path: lxi_str,
    options: *const lxi_store_options,
    store: *mut *mut lxi_store,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(store, "store")?;
        let options = store_options(options)?;
        place.set(handle::make(options.open(args::path(path, "store's path")?)?));
        Ok(())
    })
}

/// Opens a store whose catalog and images are at the addresses that a text in TOML says: `catalog` is the path of an
/// SQLite database or `postgresql://USER@HOST/DATABASE`, `blobs` a directory, `s3://BUCKET/PREFIX`, `gs://…` or
/// `az://…`; a table `[s3]` may have `endpoint`, `region`, `allow_http` and `path_style`, and `scratch` is a local
/// directory for what arrives. Relative paths start at `directory`. Credentials come from the engines' usual
/// environment variables and files. `options` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_store_free`. Threads: any. Errors: as `lxi_store_open`; LXI_MALFORMED with
/// the line for a text that is no description.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_open_described(
    description: lxi_str,
    directory: lxi_str,
    options: *const lxi_store_options,
    store: *mut *mut lxi_store,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(store, "store")?;
        let options = store_options(options)?;
        let directory = args::path(directory, "directory of the description")?;
        let description = StoreDescription::from_toml(args::text(description, "description of a store")?, directory)?;
        place.set(handle::make(options.open_described(&description)?));
        Ok(())
    })
}

/// Frees a store; NULL is allowed. What is on the disk stays.
///
/// Threads: any, the store being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_free(store: *mut lxi_store) -> lxi_status {
    free(store)
}

/// The images that meet all filters, or all images, in the order of their fingerprints. A filter is a word, which
/// matches a part of an alias or the beginning of a fingerprint, or `key=value`, which matches a property or a field.
///
/// Owner: the caller, who frees the list with `lxi_image_list_free`. Threads: any. Errors: LXI_INVALID_INPUT for a
/// filter that is none, LXI_MALFORMED when the catalog is damaged, LXI_IO. All of them are in memory at once:
/// `lxi_store_query` is for large stores.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_list(
    store: *const lxi_store,
    filters: *const lxi_str,
    filters_len: usize,
    images: *mut *mut lxi_image_list,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(images, "images")?;
        let store = handle::get(store)?;
        let filters = args::texts(filters, filters_len, "filters")?;
        let filters = filters.iter().map(|text| text.parse()).collect::<Result<Vec<Filter>>>()?;
        let mut images = store.images()?;
        images.retain(|image| filters.iter().all(|filter| filter.matches(image)));
        place.set(handle::make(images));
        Ok(())
    })
}

/// The image that `reference` names: an alias, a whole fingerprint, or the first digits of exactly one, at least four.
/// An alias wins over a fingerprint that begins like it; where a container's and a virtual machine's image share it,
/// the container's is meant.
///
/// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND, whose hint
/// suggests what is near; LXI_AMBIGUOUS, naming the candidates; LXI_MALFORMED when the catalog is damaged; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_resolve(
    store: *const lxi_store,
    reference: lxi_str,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        place.set(stored(handle::get(store)?.resolve(args::text(reference, "reference")?)?));
        Ok(())
    })
}

/// As `lxi_store_resolve`, with the type that is meant where a container's and a virtual machine's image share an
/// alias: LXI_TYPE_…, or 0. An image of the other type is found where none of this type has the alias.
///
/// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: as `lxi_store_resolve`;
/// LXI_INVALID_INPUT for an unknown type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_resolve_preferring(
    store: *const lxi_store,
    reference: lxi_str,
    preferred: lxi_image_type,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let (store, reference) = (handle::get(store)?, args::text(reference, "reference")?);
        place.set(stored(match optional_image_type(preferred)? {
            Some(image_type) => store.resolve_preferring(reference, image_type)?,
            None => store.resolve(reference)?,
        }));
        Ok(())
    })
}

/// One image, as it is now.
///
/// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND, LXI_MALFORMED
/// when the catalog is damaged, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_image(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        place.set(stored(handle::get(store)?.image(&args::fingerprint(fingerprint)?)?));
        Ok(())
    })
}

/// Opens an image's files to verify, unpack or convert them. They stay readable to the end, also when the image is
/// deleted. `limits` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_image_free`; it may outlive the store. Threads: any. Errors:
/// LXI_NOT_FOUND; LXI_MISMATCH when a file is not as long as it was; LXI_MALFORMED when one is missing; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_open_image(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    limits: *const lxi_limits,
    image: *mut *mut lxi_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let limits = limits_or_default(limits)?;
        let opened = handle::get(store)?.open_image(&args::fingerprint(fingerprint)?)?;
        place.set(handle::make(opened.open(&limits)?));
        Ok(())
    })
}

/// Records that the image is used now: a cached image is then kept longer.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_mark_used(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get(store)?.mark_used(&args::fingerprint(fingerprint)?).map(drop))
}

/// Removes an image and its aliases. Calls that have it open can read it to the end. Works on a full disk.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_delete(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get(store)?.delete(&args::fingerprint(fingerprint)?).map(drop))
}

/// Removes an image and its aliases, if nobody changed it since it was looked up: `etag` is that of
/// `lxi_stored_image_info`.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_MISMATCH when it was changed, LXI_BUSY, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_delete_unchanged(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    etag: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let etag = ETag::new(args::text(etag, "ETag")?);
        handle::get(store)?.delete_unchanged(&args::fingerprint(fingerprint)?, &etag).map(drop)
    })
}
