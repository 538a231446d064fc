//! Times as the wire writes them: seconds since 1970 from and to RFC 3339, and the dates of simplestreams.
//! Private; stores and protocols share it.

use jiff::Timestamp;
#[cfg(feature = "protocol")]
use jiff::{civil::Date, tz};

/// Seconds since 1970 as LXD's API writes times; `None` is its "never".
pub(crate) fn rfc3339(seconds: Option<i64>) -> String {
    let time = Timestamp::from_second(seconds.unwrap_or(0));
    // No calendar reaches further; the ends of it say "long ago" and "in a very long time".
    let end = if seconds.unwrap_or(0) < 0 { Timestamp::MIN } else { Timestamp::MAX };
    time.unwrap_or(end).to_string()
}

/// A time of LXD's API. Its "never" is 1970, and from programs that don't set one the year 1.
#[cfg(feature = "protocol")]
pub(crate) fn from_rfc3339(text: &str) -> Option<i64> {
    let seconds = text.parse::<Timestamp>().ok()?.as_second();
    (seconds > 0).then_some(seconds)
}

/// Midnight UTC of the date that `text` begins with, written as `YYYYMMDD`; the rest is not looked at.
#[cfg(feature = "protocol")]
pub(crate) fn from_serial(text: &str) -> Option<i64> {
    let digits = text.get(..8)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    midnight(digits.get(..4)?, digits.get(4..6)?, digits.get(6..)?)
}

/// Midnight UTC of a date that is written as `YYYY-MM-DD`.
#[cfg(feature = "protocol")]
pub(crate) fn from_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let well_formed = year.len() == 4 && month.len() == 2 && day.len() == 2 && parts.next().is_none();
    if well_formed { midnight(year, month, day) } else { None }
}

#[cfg(feature = "protocol")]
fn midnight(year: &str, month: &str, day: &str) -> Option<i64> {
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()?;
    Some(tz::Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).ok()?.as_second())
}

/// Seconds since 1970 as mail writes a time, which simplestreams' `updated` carries.
#[cfg(feature = "protocol")]
pub(crate) fn to_rfc2822(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Seconds since 1970 as `YYYYMMDDHHMM`, in UTC: the key of a version of a simplestreams product.
#[cfg(feature = "protocol")]
pub(crate) fn to_serial(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y%m%d%H%M").to_string()
}

/// Seconds since 1970 as headers of HTTP have times.
#[cfg(feature = "server")]
pub(crate) fn to_http_date(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A time of a header of HTTP, in the one form that is written today.
#[cfg(feature = "server")]
pub(crate) fn from_http_date(text: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", text.trim()).ok()?;
    Some(tz::Offset::UTC.to_timestamp(time).ok()?.as_second())
}
