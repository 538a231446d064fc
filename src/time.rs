//! Times: seconds since 1970 from and to RFC 3339, the dates of simplestreams, HTTP and mail, and
//! times as people write them.
//!
//! Stores and protocols share this module. The formats of the wire are here, what people type is in `human`.
//!
//! The clients of LXD and Incus are written in Go, whose `encoding/json` accepts the years 0 to
//! 9999 only: a single time outside of them, and a client cannot read the list of images at all. So
//! all times are kept within these years, to their last second; times outside are clamped before
//! they are stored or sent ([`within_range`]).

mod human;

pub use human::{parse_duration, parse_time};

#[cfg(any(feature = "protocol", feature = "server"))]
use jiff::Timestamp;

/// The first second of year 0.
const FIRST: i64 = -62_167_219_200;
/// The last second of year 9999.
const LAST: i64 = 253_402_300_799;
/// "Never" and "not set" as Go's programs write them, and as both peers' clients understand them: Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

const DAY: i64 = 86_400;

/// The time of this machine, in seconds since 1970.
#[cfg(feature = "store")]
pub(crate) fn system_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Clamps a time to the years 0 to 9999.
pub(crate) fn within_range(seconds: i64) -> i64 {
    seconds.clamp(FIRST, LAST)
}

/// Formats seconds since 1970 as RFC 3339 in UTC, as LXD's API does; `None` is its "never". Times
/// out of range are clamped.
pub(crate) fn rfc3339(seconds: Option<i64>) -> String {
    let Some(seconds) = seconds else { return NEVER.to_owned() };
    let seconds = within_range(seconds);
    let (year, month, day) = date_of(seconds.div_euclid(DAY));
    let clock = seconds.rem_euclid(DAY);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", clock / 3_600, clock / 60 % 60, clock % 60)
}

/// Parses a time of RFC 3339 in the years 0 to 9999; fractions of a second are cut off, and a time
/// that its offset moves out of these years is clamped.
#[cfg(feature = "protocol")]
pub(crate) fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let sign = |at: usize, any: &[u8]| bytes.get(at).filter(|byte| any.contains(byte)).copied();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    sign(4, b"-").and(sign(7, b"-")).and(sign(10, b"Tt ")).and(sign(13, b":")).and(sign(16, b":"))?;
    let last_day = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    // A leap second is the second before it.
    if !(1..=12).contains(&month) || !(1..=last_day).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    if sign(at, b".,").is_some() {
        let digits = bytes.get(at + 1..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        at += 1 + digits;
    }
    let offset = match sign(at, b"Zz+-")? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        direction @ (b'+' | b'-') if bytes.len() == at + 6 => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            sign(at + 3, b":")?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3_600 + minutes * 60;
            if direction == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let clock = hour * 3_600 + minute * 60 + second.min(59);
    Some(within_range(days_to(year, month, day) * DAY + clock - offset))
}

/// Parses a time of LXD's API. `None` also for "never": 1970, or the year 1 from programs that did not set the field.
#[cfg(feature = "protocol")]
pub(crate) fn from_rfc3339(text: &str) -> Option<i64> {
    parse(text).filter(|seconds| *seconds > 0)
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
#[cfg(feature = "protocol")]
fn days_to(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, in_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + of_year - 719_468
}

/// Year, month and day of the day that is `days` after 1970-01-01; the inverse of [`days_to`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, in_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let of_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// The time of a version key: of `YYYYMMDD_HHMM`, as LXD's image servers name builds, else midnight UTC of the date
/// `YYYYMMDD` that the key begins with. LXD reads no other clock out of a key, so neither does this.
#[cfg(feature = "protocol")]
pub(crate) fn from_serial(text: &str) -> Option<i64> {
    let date = serial_date(text)?;
    let clock = || -> Option<i64> {
        let digits = text.get(8..)?.strip_prefix('_').filter(|digits| digits.len() == 4)?;
        let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok());
        let (hours, minutes): (i64, i64) = (number(digits.get(..2)?)??, number(digits.get(2..)?)??);
        (hours < 24 && minutes < 60).then_some(hours * 3_600 + minutes * 60)
    };
    Some(date + clock().unwrap_or(0))
}

/// Midnight UTC of the date `YYYYMMDD` that `text` begins with; the rest is ignored.
#[cfg(feature = "protocol")]
fn serial_date(text: &str) -> Option<i64> {
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
    parse(&format!("{year}-{month}-{day}T00:00:00Z"))
}

/// Formats seconds since 1970 as RFC 2822, the format of `updated` in simplestreams.
#[cfg(feature = "protocol")]
pub(crate) fn to_rfc2822(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Parses a time of RFC 2822 in the years 1970 to 9999.
#[cfg(feature = "remote")]
pub(crate) fn from_rfc2822(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(time.as_second()).filter(|seconds| *seconds >= 0)
}

/// Formats seconds since 1970 as `YYYYMMDDHHMM` in UTC: the key of a version of a simplestreams product.
#[cfg(feature = "protocol")]
pub(crate) fn to_serial(seconds: i64) -> String {
    let text = rfc3339(Some(seconds));
    text.chars().filter(char::is_ascii_digit).take(12).collect()
}

/// Formats seconds since 1970 as an `IMF-fixdate` of HTTP (RFC 9110, 5.6.7).
#[cfg(feature = "server")]
pub(crate) fn to_http_date(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Parses an `IMF-fixdate`, the one form of HTTP dates that is sent today; the obsolete forms are not read.
#[cfg(feature = "server")]
pub(crate) fn from_http_date(text: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", text.trim()).ok()?;
    Some(jiff::tz::Offset::UTC.to_timestamp(time).ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_0_to_9999_survive_a_round_trip() {
        for (seconds, text) in [
            (FIRST, "0000-01-01T00:00:00Z"),
            (-62_135_596_800, "0001-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!((rfc3339(Some(seconds)).as_str(), parse(text)), (text, Some(seconds)));
        }
    }

    #[cfg(feature = "protocol")]
    #[test]
    fn serials_have_a_date_and_with_an_underscore_a_time() {
        for (serial, time) in [
            ("20240601", Some("2024-06-01T00:00:00Z")),
            ("20240601_0524", Some("2024-06-01T05:24:00Z")),
            ("20240601_05:24", Some("2024-06-01T00:00:00Z")),
            ("202406010524", Some("2024-06-01T00:00:00Z")),
            ("20240601_2400", Some("2024-06-01T00:00:00Z")),
            ("20240601_05241", Some("2024-06-01T00:00:00Z")),
            ("20240601_\u{e9}\u{e9}", Some("2024-06-01T00:00:00Z")),
            ("20240631_0524", None),
            ("2024", None),
        ] {
            assert_eq!(from_serial(serial).map(|seconds| rfc3339(Some(seconds))).as_deref(), time, "{serial}");
        }
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        assert_eq!(rfc3339(Some(i64::MAX)), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(Some(i64::MIN)), "0000-01-01T00:00:00Z");
        assert_eq!(rfc3339(None), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn offsets_and_fractions_are_read() {
        for (text, seconds) in [
            ("2024-01-01T10:00:00+02:00", Some(1_704_096_000)),
            ("2024-01-01T00:00:00.123456789Z", Some(1_704_067_200)),
            ("2024-01-01t00:00:00-00:30", Some(1_704_069_000)),
            ("9999-12-31T23:59:59.999999999Z", Some(LAST)),
            ("9999-12-31T23:59:59-12:00", Some(LAST)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_799)),
            ("2023-02-29T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01-01T00:00:00.Z", None),
            ("2024-01-01T00:00:00Zx", None),
            ("10000-01-01T00:00:00Z", None),
            ("-001-01-01T00:00:00Z", None),
            ("2024-01-01T00:00:00+0é:0", None),
            ("", None),
        ] {
            assert_eq!(parse(text), seconds, "{text}");
        }
    }

    #[test]
    fn every_day_of_two_eras_survives_a_round_trip() {
        for day in -200_000..200_000 {
            let (year, month, date) = date_of(day);
            assert_eq!(days_to(year, month, date), day);
        }
    }
}
