//! Information about the library itself: its version, its interface version, and the features compiled in.

use std::ffi::{CStr, c_char};

use lxd_image::format::Codec;
use lxd_image::{ErrorKind, Properties};

use crate::args;
use crate::error::{call, lxi_error};
use crate::types::*;

/// The version of this interface: it grows by one when programs have to be compiled anew. Compare it with what
/// `lxi_abi_version` returns to find a library that does not fit its header.
pub const LXI_ABI_VERSION: u32 = 1;

/// The version of the interface that the library has.
///
/// Threads: any. Can't fail.
#[unsafe(no_mangle)]
pub extern "C" fn lxi_abi_version() -> u32 {
    LXI_ABI_VERSION
}

/// The version of the library, such as `0.2.0`, terminated by NUL.
///
/// Owner: the library; never freed. Threads: any. Can't fail.
#[unsafe(no_mangle)]
pub extern "C" fn lxi_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The name of a status, such as `UnsafePath`, terminated by NUL; `Unknown` for an unknown number.
///
/// Owner: the library; never freed. Threads: any. Can't fail.
#[unsafe(no_mangle)]
pub extern "C" fn lxi_status_name(status: lxi_status) -> *const c_char {
    match status {
        LXI_OK => c"Ok",
        LXI_NOT_FOUND => c"NotFound",
        LXI_ALREADY_EXISTS => c"AlreadyExists",
        LXI_INVALID_INPUT => c"InvalidInput",
        LXI_MALFORMED => c"Malformed",
        LXI_UNSUPPORTED => c"Unsupported",
        LXI_FEATURE_DISABLED => c"FeatureDisabled",
        LXI_MISMATCH => c"Mismatch",
        LXI_UNSAFE_PATH => c"UnsafePath",
        LXI_LIMIT_EXCEEDED => c"LimitExceeded",
        LXI_AMBIGUOUS => c"Ambiguous",
        LXI_BUSY => c"Busy",
        LXI_TEMPLATE => c"Template",
        LXI_REMOTE => c"Remote",
        LXI_CANCELLED => c"Cancelled",
        LXI_IO => c"Io",
        LXI_STORAGE_FULL => c"StorageFull",
        LXI_TRANSIENT => c"Transient",
        LXI_UNTRUSTED => c"Untrusted",
        LXI_PANIC => c"Panic",
        LXI_OTHER => c"Other",
        _ => c"Unknown",
    }
    .as_ptr()
}

/// Whether a part of the library was compiled in: a codec such as `gzip` or `zstd`, `disk`, `oci`,
/// `remote`, `server`, `signatures`, `store`, `templates`, `trust`, `object-store`, `postgres`. A name
/// that this version does not know is not there either.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_has_feature(name: lxi_str, yes: *mut bool, error: *mut *mut lxi_error) -> lxi_status {
    call(error, || {
        let yes = args::out(yes, false, "yes")?;
        let name = args::text(name, "name of a feature")?;
        yes.set(match name {
            "store" | "templates" | "remote" | "server" | "simplestreams" | "delta" | "disk" | "oci" | "signatures"
            | "trust" => true,
            "object-store" | "postgres" => cfg!(feature = "shared-store"),
            name => Codec::ALL.iter().any(|codec| codec.feature() == Some(name) && codec.is_enabled()),
        });
        Ok(())
    })
}

/// The error for an index past the end of a list.
pub(crate) fn index_out_of_range(index: usize, what: &str) -> lxd_image::Error {
    lxd_image::Error::new(ErrorKind::NotFound, format!("there is no {what} with the index {index}"))
}

/// Where the key and the value of a property go.
pub(crate) struct PropertyOut {
    key: args::Out<lxi_str>,
    value: args::Out<lxi_str>,
}

impl PropertyOut {
    /// Checks both pointers.
    ///
    /// # Safety
    /// That of [`args::out_str`] for both.
    pub(crate) unsafe fn new(key: *mut lxi_str, value: *mut lxi_str) -> lxd_image::Result<Self> {
        // SAFETY: the caller's promise.
        let (key, value) = unsafe { (args::out_str(key, "key")?, args::out_str(value, "value")?) };
        Ok(Self { key, value })
    }

    /// Sets them to the property with an index from 0, which belongs to what the properties belong to.
    pub(crate) fn set(self, properties: &Properties, index: usize) -> lxd_image::Result<()> {
        let (key, value) = properties.iter().nth(index).ok_or_else(|| index_out_of_range(index, "property"))?;
        self.key.set(lxi_str::of(key));
        self.value.set(lxi_str::of(value));
        Ok(())
    }
}
