//! The kinds of handles, and how each is freed.

use lxd_image_ffi::*;

/// A type that is only known by pointers.
pub(crate) trait Handle {
    /// Its place in [`FREES`].
    const KIND: usize;
}

/// What frees a handle of unknown type.
type Free = unsafe fn(usize) -> lxi_status;

macro_rules! kinds {
    ($($number:literal $name:ident $free:ident,)*) => {
        $(impl Handle for $name {
            const KIND: usize = $number;
        })*

        /// By kind.
        pub(crate) const FREES: &[Free] = &[$({
            // SAFETY: the address is a living handle's of this kind.
            unsafe fn free(address: usize) -> lxi_status {
                unsafe { $free(std::ptr::with_exposed_provenance_mut(address)) }
            }
            free
        }),*];
    };
}

kinds! {
    0 lxi_error lxi_error_free,
    1 lxi_buffer lxi_buffer_free,
    2 lxi_limits lxi_limits_free,
    3 lxi_cancel lxi_cancel_free,
    4 lxi_hasher lxi_hasher_free,
    5 lxi_metadata lxi_metadata_free,
    6 lxi_image lxi_image_free,
    7 lxi_verify_report lxi_verify_report_free,
    8 lxi_unpacked lxi_unpacked_free,
    9 lxi_staged lxi_staged_free,
    10 lxi_written lxi_written_free,
    11 lxi_differences lxi_differences_free,
    12 lxi_template lxi_template_free,
    13 lxi_template_context lxi_template_context_free,
    14 lxi_applied lxi_applied_free,
    15 lxi_store lxi_store_free,
    16 lxi_stored_image lxi_stored_image_free,
    17 lxi_image_list lxi_image_list_free,
    18 lxi_alias_list lxi_alias_list_free,
    19 lxi_exported lxi_exported_free,
    20 lxi_pruned lxi_pruned_free,
    21 lxi_check_report lxi_check_report_free,
}
