//! What a member's header and its extended headers say together: size, owners, time, device.
//! The one place that decides which of the two counts.

use super::header::{self, Header, HeaderFormat};
use super::pax::{self, PaxHeader};
use crate::error::{Error, Result};
use crate::format::entry::{DeviceNumber, Timestamp};

pub(super) fn size_of(head: &Header) -> Result<u64> {
    let size = head.number(header::SIZE)?;
    u64::try_from(size)
        .ok()
        .filter(|&size| i64::try_from(size).is_ok())
        .ok_or_else(|| Error::malformed("the size of a member is negative or over 63 bits"))
}

/// An owner of the header. 2^32−1 means "leave as it is" to `chown`, and what is beyond would wrap to root.
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

/// The time of the header, where no extended header says another.
pub(super) fn mtime(head: &Header, extended: Option<Timestamp>) -> Result<Timestamp> {
    if let Some(time) = extended {
        return Ok(time);
    }
    i64::try_from(head.number(header::MTIME)?)
        .ok()
        .and_then(|seconds| pax::in_range(Timestamp::from_seconds(seconds)))
        .ok_or_else(|| Error::malformed("the time of a member is out of range"))
}

pub(super) fn unknown_type(flag: u8) -> Error {
    Error::unsupported(format!("a member of the unknown type `{}`", char::from(flag).escape_default()))
}
