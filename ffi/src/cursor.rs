//! Lists by cursor: images one at a time, read page by page, so that a long list is never in memory.

use std::vec;

use lxd_image::store::{Filter, ImageQuery, Order, Store, StoredImage};
use lxd_image::{Monitor, Omitted, Result};

use crate::args::{self, invalid, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::store::lxi_store;
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;

/// A position in a list of images: of a store, or of a remote. Depends on nothing that it was made of.
pub struct lxi_image_cursor {
    _opaque: (),
}

/// Which images of a store, and in which order. NULL, or all but `size` zero: all, in the order of their fingerprints.
/// All conditions must hold. An index of the catalog serves all of them but `filters`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_image_query {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_QUERY_….
    pub flags: u32,
    /// LXI_TYPE_…, or 0 for both.
    pub image_type: lxi_image_type,
    /// How many rows are read at once, up to 10,000; 0 for 1,000. Bounds the memory of the cursor.
    pub page: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// Only images for this machine, by any of its names; empty for all.
    pub architecture: lxi_str,
    /// Only images whose fingerprint begins so, at least four digits; empty for all.
    pub prefix: lxi_str,
    /// Only images with all of these properties, each a name and its whole value.
    pub properties: *const lxi_pair,
    /// How many.
    pub properties_len: usize,
    /// Only images that meet these filters, as `lxi_store_list` takes them. Each row is looked at.
    pub filters: *const lxi_str,
    /// How many.
    pub filters_len: usize,
}

/// Only public images.
pub const LXI_QUERY_PUBLIC: u32 = 1;
/// Only private images.
pub const LXI_QUERY_PRIVATE: u32 = 2;
/// Only cached images.
pub const LXI_QUERY_CACHED: u32 = 4;
/// Only images that are not cached.
pub const LXI_QUERY_KEPT: u32 = 8;
/// Only images that follow a source.
pub const LXI_QUERY_AUTO_UPDATE: u32 = 16;
/// In the order of the first alias, then of the fingerprint; those without an alias last.
pub const LXI_QUERY_BY_ALIAS: u32 = 32;

/// The rest of a list.
pub struct Cursor {
    pending: vec::IntoIter<StoredImage>,
    /// Where more pages come from; `None` after the last one.
    pages: Option<(Store, ImageQuery)>,
    filters: Vec<Filter>,
}

versioned!(lxi_image_query);
handles! { lxi_image_cursor(30) = Cursor; }

impl Cursor {
    /// A cursor over images that are there already.
    pub(crate) fn over(images: Vec<StoredImage>, filters: Vec<Filter>) -> *mut lxi_image_cursor {
        handle::make(Self { pending: images.into_iter(), pages: None, filters })
    }

    /// The next image. A row that cannot be read hides no other one: it is recorded in the monitor.
    fn next(&mut self, monitor: &Monitor) -> Result<Option<StoredImage>> {
        loop {
            monitor.check()?;
            if let Some(image) = self.pending.find(|image| self.filters.iter().all(|filter| filter.matches(image))) {
                return Ok(Some(image));
            }
            let Some((store, query)) = &self.pages else { return Ok(None) };
            let page = store.query(query)?;
            for (name, error) in page.skipped {
                monitor.omit(name, Omitted::Skipped { reason: error.message().to_owned().into() });
            }
            let next = page.next.map(|next| (store.clone(), query.clone().after(Some(next))));
            self.pages = next;
            self.pending = page.images.into_iter();
        }
    }
}

/// Filters as words and pairs.
pub(crate) unsafe fn filters(data: *const lxi_str, len: usize) -> Result<Vec<Filter>> {
    args::texts(data, len, "filters")?.iter().map(|text| text.parse()).collect()
}

unsafe fn query(given: &lxi_image_query) -> Result<ImageQuery> {
    let flags = args::flags(given.flags, 63, "flags of a query")?;
    args::flags(given.reserved, 0, "reserved bits of a query")?;
    let either = |yes: u32, no: u32, what: &str| match (flags & yes != 0, flags & no != 0) {
        (true, true) => Err(invalid(format!("the flags of a query exclude each other: {what}"))),
        (yes, no) => Ok((yes || no).then_some(yes)),
    };
    let mut query = ImageQuery::new();
    if let Some(yes) = either(LXI_QUERY_PUBLIC, LXI_QUERY_PRIVATE, "public and private")? {
        query = query.public(yes);
    }
    if let Some(yes) = either(LXI_QUERY_CACHED, LXI_QUERY_KEPT, "cached and not cached")? {
        query = query.cached(yes);
    }
    if flags & LXI_QUERY_AUTO_UPDATE != 0 {
        query = query.auto_update(true);
    }
    if flags & LXI_QUERY_BY_ALIAS != 0 {
        query = query.order(Order::Alias);
    }
    if let Some(image_type) = optional_image_type(given.image_type)? {
        query = query.image_type(image_type);
    }
    if let Some(name) = args::optional_text(given.architecture, "architecture")? {
        query = query.architecture(name.parse()?);
    }
    if let Some(prefix) = args::optional_text(given.prefix, "beginning of a fingerprint")? {
        query = query.prefix(prefix.parse()?);
    }
    for (key, value) in args::pairs(given.properties, given.properties_len, "properties")? {
        query = query.property(key, value);
    }
    Ok(if given.page == 0 { query } else { query.limit(given.page.min(10_000) as usize) })
}

/// Begins a list of the images of a store that meet `query`, which may be NULL. Nothing is read yet.
///
/// Owner: the caller, who frees the cursor with `lxi_image_cursor_free`; it may outlive the store. Threads: any. Errors:
/// LXI_INVALID_INPUT for a condition that is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_query(
    store: *const lxi_store,
    query: *const lxi_image_query,
    cursor: *mut *mut lxi_image_cursor,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(cursor, "cursor")?;
        let store = handle::get(store)?.clone();
        let given = args::options(query)?;
        let filters = filters(given.filters, given.filters_len)?;
        let pages = Some((store, self::query(&given)?));
        place.set(handle::make(Cursor { pending: Vec::new().into_iter(), pages, filters }));
        Ok(())
    })
}

/// How many images of a store meet `query`, which may be NULL, and the bytes of their files. The catalog counts them:
/// `filters` must be empty. `images` and `bytes` may be NULL.
///
/// Threads: any. Errors: LXI_INVALID_INPUT for a condition that is none and for filters; LXI_MALFORMED when the catalog
/// is damaged; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_totals(
    store: *const lxi_store,
    query: *const lxi_image_query,
    images: *mut u64,
    bytes: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let images = args::optional_out(images, 0, "images")?;
        let bytes = args::optional_out(bytes, 0, "bytes")?;
        let given = args::options(query)?;
        if given.filters_len > 0 {
            return Err(invalid("filters can't be counted: list the images instead"));
        }
        let totals = handle::get(store)?.totals(&self::query(&given)?)?;
        if let Some(images) = images {
            images.set(totals.images);
        }
        if let Some(bytes) = bytes {
            bytes.set(totals.bytes);
        }
        Ok(())
    })
}

/// The next image; `image` is NULL after the last one, and the call works then too. Images that are added or removed
/// meanwhile may be among them or not; all others come exactly once. A row that cannot be read is an omission of
/// `monitor`, which may be NULL.
///
/// Owner: the caller, who frees the image with `lxi_stored_image_free`. Threads: one at a time. Errors: LXI_MALFORMED
/// when the catalog is damaged; LXI_CANCELLED; LXI_IO. The cursor may be used again after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_cursor_next(
    cursor: *mut lxi_image_cursor,
    monitor: *const lxi_monitor,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let monitor = monitor_from(monitor)?;
        if let Some(found) = handle::get_mut(cursor)?.next(&monitor)? {
            place.set(stored(found));
        }
        Ok(())
    })
}

/// Frees a cursor; NULL is allowed.
///
/// Threads: any, the cursor being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_cursor_free(cursor: *mut lxi_image_cursor) -> lxi_status {
    free(cursor)
}
