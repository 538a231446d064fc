//! What a member's header and its extended headers say together: size, owners, time, device.
//!
//! The one place that decides which of the two counts: an extended header's value wins over the
//! header's field, as POSIX requires.

use super::header::{self, Header, HeaderFormat};
use super::pax::{self, PaxHeader};
use crate::error::{Error, Result};
use crate::format::entry::{DeviceNumber, Timestamp};

/// The size of a member's data by its header field.
///
/// # Errors
/// `Malformed` for a negative number and for one over 63 bits, which no file system can hold.
pub(super) fn size_of(head: &Header) -> Result<u64> {
    let size = head.number(header::SIZE)?;
    u64::try_from(size)
        .ok()
        .filter(|&size| i64::try_from(size).is_ok())
        .ok_or_else(|| Error::malformed("the size of a member is negative or over 63 bits"))
}

/// An owner or group, by the extended header or else the header's field. 2^32−1 means "leave as it
/// is" to `chown`, and larger numbers would wrap to root when cut to 32 bits.
///
/// # Errors
/// `Malformed` for a number outside of 0 to 2^32−2.
pub(super) fn owner(head: &Header, field: header::Field, extended: Option<u32>) -> Result<u32> {
    if let Some(id) = extended {
        return Ok(id);
    }
    let value = head.number(field)?;
    u32::try_from(value)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| Error::malformed(format!("the {} {value} is not one: they go from 0 to 4294967294", field.name)))
}

/// The number of a device node.
///
/// # Errors
/// `Malformed` for a number out of range, and where neither a header in v7 format nor an extended
/// header gives one.
pub(super) fn device(head: &Header, extended: &PaxHeader) -> Result<DeviceNumber> {
    let part = |extended: Option<u32>, field| {
        if let Some(number) = extended {
            return Ok(number);
        }
        if head.format() == HeaderFormat::V7 {
            return Err(Error::malformed("a device without a number"));
        }
        u32::try_from(head.number(field)?).map_err(|_| Error::malformed("the number of a device is out of range"))
    };
    Ok(DeviceNumber {
        major: part(extended.dev_major, header::DEV_MAJOR)?,
        minor: part(extended.dev_minor, header::DEV_MINOR)?,
    })
}

/// The modification time, by the extended header or else the header's field.
///
/// # Errors
/// `Malformed` for a time outside of the accepted range.
pub(super) fn mtime(head: &Header, extended: Option<Timestamp>) -> Result<Timestamp> {
    if let Some(time) = extended {
        return Ok(time);
    }
    i64::try_from(head.number(header::MTIME)?)
        .ok()
        .and_then(|seconds| pax::in_range(Timestamp::from_seconds(seconds)))
        .ok_or_else(|| Error::malformed("the time of a member is out of range"))
}

/// The refusal of a type flag that is not in the manuals. POSIX has readers treat it as a regular
/// file; which bytes are its data then depends on the reader.
pub(super) fn unknown_type(flag: u8) -> Error {
    Error::unsupported(format!("a member of the unknown type `{}`", char::from(flag).escape_default()))
}
