//! Editing an image of a store: only what is named changes, if nobody else changed it.

use lxd_image::metadata::Properties;
use lxd_image::store::{ETag, Edit};

use crate::args::{self, versioned};
use crate::error::{call, lxi_error};
use crate::handle;
use crate::store::lxi_store;
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;

/// A change to an image. Set `size` to `sizeof(lxi_edit)`; what is zero does not change.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_edit {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_EDIT_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// With LXI_EDIT_EXPIRES_AT: when it may be removed, in seconds since 1970; 0 for never.
    pub expires_at: i64,
    /// Properties to set.
    pub properties: *const lxi_pair,
    /// How many.
    pub properties_len: usize,
    /// Names of properties to remove, where they are there.
    pub remove: *const lxi_str,
    /// How many.
    pub remove_len: usize,
    /// The ETag that the image must still have; or empty.
    pub etag: lxi_str,
    /// With LXI_EDIT_REVISION: the revision that the image must still have.
    pub revision: u64,
}

/// Clients that have not authenticated may read it.
pub const LXI_EDIT_PUBLIC: u32 = 1;
/// They may not.
pub const LXI_EDIT_PRIVATE: u32 = 2;
/// It follows its source.
pub const LXI_EDIT_AUTO_UPDATE: u32 = 4;
/// It does not.
pub const LXI_EDIT_NO_AUTO_UPDATE: u32 = 8;
/// `expires_at` is said.
pub const LXI_EDIT_EXPIRES_AT: u32 = 16;
/// The properties replace all that are there.
pub const LXI_EDIT_REPLACE_PROPERTIES: u32 = 32;
/// `revision` is said.
pub const LXI_EDIT_REVISION: u32 = 64;

versioned!(lxi_edit);

/// Changes an image, if it still is as `edit` says. `image`, which gets the image as it is then, may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND;
/// LXI_MISMATCH when somebody else changed it in between; LXI_INVALID_INPUT; LXI_BUSY; LXI_IO. Nothing has changed
/// then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_edit(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    edit: *const lxi_edit,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(image, "image")?;
        let store = handle::get(store)?;
        let fingerprint = args::fingerprint(fingerprint)?;
        let given = args::required(edit)?;
        let flags = args::flags(given.flags, 127, "flags of editing")?;
        args::flags(given.reserved, 0, "reserved bits of an edit")?;
        let one_of = |yes: u32, no: u32, what: &str| match (flags & yes != 0, flags & no != 0) {
            (true, true) => Err(args::invalid(format!("the edit says both yes and no to {what}"))),
            (yes, no) => Ok((yes || no).then_some(yes)),
        };
        let mut edit = Edit::new();
        if let Some(yes) = one_of(LXI_EDIT_PUBLIC, LXI_EDIT_PRIVATE, "public")? {
            edit = edit.public(yes);
        }
        if let Some(yes) = one_of(LXI_EDIT_AUTO_UPDATE, LXI_EDIT_NO_AUTO_UPDATE, "auto_update")? {
            edit = edit.auto_update(yes);
        }
        if flags & LXI_EDIT_EXPIRES_AT != 0 {
            edit = edit.expires_at(Some(given.expires_at).filter(|seconds| *seconds != 0));
        }
        if flags & LXI_EDIT_REPLACE_PROPERTIES != 0 {
            edit = edit.properties(Properties::new());
        }
        if flags & LXI_EDIT_REVISION != 0 {
            edit = edit.based_on_revision(given.revision);
        }
        for (key, value) in args::pairs(given.properties, given.properties_len, "properties")? {
            edit = edit.property(key, value)?;
        }
        for key in args::texts(given.remove, given.remove_len, "names of properties")? {
            edit = edit.remove_property(key);
        }
        let etag = args::optional_text(given.etag, "ETag")?.map(ETag::new);
        let done = store.edit(&fingerprint, &edit, etag.as_ref())?;
        if let Some(place) = place {
            place.set(stored(done));
        }
        Ok(())
    })
}
