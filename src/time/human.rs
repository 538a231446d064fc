//! Times and durations as people write them: one parser for every option and field that takes one.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::within_range;
use crate::error::{Error, Result};

const TIME_HINT: &str = "write a date (2030-01-31), a time (2030-01-31T12:00:00Z), a duration from now (30d, 2w, 1h30m), or seconds since \
    1970 behind an @ (@1893456000)";

/// Parses a time that a person wrote, and returns it in seconds since 1970.
///
/// It may be a date (`2030-01-31`, its midnight in UTC), a time with an offset or in UTC
/// (`2030-01-31T12:00:00Z`), a duration from `now` (`30d`, see [`parse_duration`]), or seconds
/// since 1970, plain or after an `@`. `now` is in seconds since 1970, too.
///
/// ```
/// # fn main() -> lxd_image::Result<()> {
/// assert_eq!(lxd_image::parse_time("2027-01-31", 0)?, 1_801_353_600);
/// assert_eq!(lxd_image::parse_time("1h30m", 1_000)?, 6_400);
/// assert!(lxd_image::parse_time("2027", 0).is_err());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `InvalidInput` for anything else, for times outside of the years 0 to 9999, and for a bare
/// number that may be meant as a year or a date (`2027`, `20270131`).
pub fn parse_time(text: &str, now: i64) -> Result<i64> {
    let text = text.trim();
    let no_time = || Error::invalid(format!("`{text}` is not a time")).with_hint(TIME_HINT);
    let seconds = if let Some(seconds) = text.strip_prefix('@') {
        seconds.parse().map_err(|_| no_time())?
    } else if let Ok(seconds) = text.parse::<i64>() {
        if looks_like_a_date(text) {
            return Err(Error::invalid(format!("`{text}` may be a date or a number of seconds")).with_hint(TIME_HINT));
        }
        seconds
    } else if let Some(seconds) = calendar(text) {
        seconds
    } else {
        let after = parse_duration(text).map_err(|_| no_time())?;
        i64::try_from(after.as_secs()).ok().and_then(|after| now.checked_add(after)).unwrap_or(i64::MAX)
    };
    if within_range(seconds) == seconds {
        return Ok(seconds);
    }
    Err(Error::invalid(format!("`{text}` is outside of the years 0 to 9999")))
}

/// Whether a person may have meant these bare digits as `YYYY`, `YYYYMM` or `YYYYMMDD`.
fn looks_like_a_date(digits: &str) -> bool {
    let number = |range| digits.get(range).and_then(|part: &str| part.parse::<u32>().ok());
    // Other numbers of four digits are seconds of a build that sets its dates to the beginning of time.
    let month = digits.len() == 4 || number(4..6).is_some_and(|month| (1..=12).contains(&month));
    let day = digits.len() < 8 || number(6..8).is_some_and(|day| (1..=31).contains(&day));
    matches!(digits.len(), 4 | 6 | 8) && number(0..4).is_some_and(|year| (1900..3000).contains(&year)) && month && day
}

/// Parses a date or a time as RFC 3339 writes it, or as the command `list` shows it (`2027/01/31
/// 12:30 UTC`). More lenient than the parser for the wire, since people leave out seconds and
/// offsets.
fn calendar(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_second());
    }
    let in_utc = text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix("UTC").map(str::trim_end)).unwrap_or(text);
    // A civil time has no offset: one that stands there would be ignored silently.
    if in_utc.get(10..).is_some_and(|clock| clock.contains(['+', '-', '['])) {
        return None;
    }
    // Computed from the civil time: jiff's `Timestamp` ends some hours before the end of the year 9999.
    let civil: DateTime = in_utc.replace('/', "-").parse().ok()?;
    Some(civil.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_secs())
}

/// Parses a duration that a person wrote: numbers with units, several in a row, such as `30d`, `2w` or `1h30m`.
///
/// The units are `s`, `m` (minutes), `h`, `d`, `w` and `y` (365 days). `0` needs no unit.
///
/// ```
/// assert_eq!(lxd_image::parse_duration("1h30m").unwrap().as_secs(), 5_400);
/// ```
///
/// # Errors
/// `InvalidInput` for anything else, and for a duration over 2^64 - 1 seconds.
pub fn parse_duration(text: &str) -> Result<Duration> {
    const HINT: &str =
        "write a number with a unit, several in a row: 30d, 2w, 1h30m; the units are s, m, h, d, w and y";
    let wrong = || Error::invalid(format!("`{text}` is not a duration")).with_hint(HINT);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let (digits, behind) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?);
        let mut letters = behind.chars();
        let unit = match letters.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 7 * 86_400,
            Some('y') => 365 * 86_400,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        total = number
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| Error::invalid(format!("`{text}` is too long for a duration")))?;
        rest = letters.as_str();
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_durations_are_times() {
        for (text, seconds) in [
            ("2027-01-31", 1_801_353_600),
            ("2027-01-31T12:30:00Z", 1_801_398_600),
            ("2027-01-31T12:30:00+02:00", 1_801_391_400),
            ("2027-01-31T12:30:00", 1_801_398_600),
            ("2027-01-31 12:30", 1_801_398_600),
            ("2027/01/31 12:30 UTC", 1_801_398_600),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
            ("0000-01-01", -62_167_219_200),
            ("30d", 1_000 + 30 * 86_400),
            ("2w", 1_000 + 14 * 86_400),
            ("1h30m", 1_000 + 5_400),
            ("@2027", 2_027),
            ("@-5", -5),
            ("1700000000", 1_700_000_000),
            ("-5", -5),
            ("0", 0),
            ("1", 1),
        ] {
            assert_eq!(parse_time(text, 1_000).ok(), Some(seconds), "{text}");
        }
    }

    #[test]
    fn bare_years_and_dates_are_refused_as_seconds() {
        for text in ["2027", "202701", "20270131", "1970"] {
            assert!(parse_time(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "x",
            "2027-13-01",
            "2027-01",
            "d",
            "30 d",
            "30D",
            "1h30",
            "10000-01-01",
            "-0001-01-01",
            "@",
            "@x",
            "@1e9",
            "@999999999999999",
            "-1d",
            "9999y",
            "99999999999999999999s",
            "18446744073709551615w",
            "--5",
        ] {
            assert!(parse_time(text, 0).is_err(), "{text}");
        }
    }
}
