//! Go's `time.Time.Format`: layouts in which `2006-01-02` is pattern and example in one.
//!
//! `now` is the only tag that shows a time; the contexts of images contain none.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in UTC, with nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UtcTime {
    seconds: i64,
    nanos: u32,
}

impl UtcTime {
    /// The moment that `now … fake` shows: 2014-02-05 18:31:45, which pongo2 fixes for its tests.
    pub(crate) const FAKE: Self = Self { seconds: 1_391_625_105, nanos: 0 };

    /// The moment of a system time. Times before 1970 become 1970.
    pub(crate) fn from_system(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self { seconds: i64::try_from(since.as_secs()).unwrap_or(0), nanos: since.subsec_nanos() },
            Err(_) => Self { seconds: 0, nanos: 0 },
        }
    }

    /// Year, month (from 0), day and day of the year (from 1), by Howard Hinnant's
    /// `civil_from_days`.
    fn date(self) -> (i64, usize, i64, i64) {
        let days = self.seconds.div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let index = usize::try_from(month - 1).unwrap_or(0);
        (year, index, day, BEFORE[index] + day + i64::from(leap && month > 2))
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// An element of a layout, which the output replaces (`std…` constants of `time/format.go`).
#[derive(Clone, Copy)]
enum LayoutElement {
    LongMonth,
    Month,
    Number(TimeField, usize, u8),
    LongWeekday,
    Weekday,
    Zone,
    Pm,
    LowerPm,
    Offset { z: bool, colon: bool, minutes: bool, seconds: bool },
    Fraction { digits: usize, trim: bool, separator: u8 },
}

/// A numeric field of a time.
#[derive(Clone, Copy)]
enum TimeField {
    Year,
    ShortYear,
    Month,
    Day,
    YearDay,
    Hour,
    Hour12,
    Minute,
    Second,
}

/// The spellings of elements. A longer spelling stands before one that it begins with.
const ELEMENTS: &[(&[u8], LayoutElement)] = &[
    (b"January", LayoutElement::LongMonth),
    (b"Jan", LayoutElement::Month),
    (b"Monday", LayoutElement::LongWeekday),
    (b"Mon", LayoutElement::Weekday),
    (b"MST", LayoutElement::Zone),
    (b"01", LayoutElement::Number(TimeField::Month, 2, b'0')),
    (b"02", LayoutElement::Number(TimeField::Day, 2, b'0')),
    (b"03", LayoutElement::Number(TimeField::Hour12, 2, b'0')),
    (b"04", LayoutElement::Number(TimeField::Minute, 2, b'0')),
    (b"05", LayoutElement::Number(TimeField::Second, 2, b'0')),
    (b"06", LayoutElement::Number(TimeField::ShortYear, 2, b'0')),
    (b"002", LayoutElement::Number(TimeField::YearDay, 3, b'0')),
    (b"15", LayoutElement::Number(TimeField::Hour, 2, b'0')),
    (b"1", LayoutElement::Number(TimeField::Month, 0, b'0')),
    (b"2006", LayoutElement::Number(TimeField::Year, 4, b'0')),
    (b"2", LayoutElement::Number(TimeField::Day, 0, b'0')),
    (b"_2", LayoutElement::Number(TimeField::Day, 2, b' ')),
    (b"__2", LayoutElement::Number(TimeField::YearDay, 3, b' ')),
    (b"3", LayoutElement::Number(TimeField::Hour12, 0, b'0')),
    (b"4", LayoutElement::Number(TimeField::Minute, 0, b'0')),
    (b"5", LayoutElement::Number(TimeField::Second, 0, b'0')),
    (b"PM", LayoutElement::Pm),
    (b"pm", LayoutElement::LowerPm),
    (b"-070000", LayoutElement::Offset { z: false, colon: false, minutes: true, seconds: true }),
    (b"-07:00:00", LayoutElement::Offset { z: false, colon: true, minutes: true, seconds: true }),
    (b"-0700", LayoutElement::Offset { z: false, colon: false, minutes: true, seconds: false }),
    (b"-07:00", LayoutElement::Offset { z: false, colon: true, minutes: true, seconds: false }),
    (b"-07", LayoutElement::Offset { z: false, colon: false, minutes: false, seconds: false }),
    (b"Z070000", LayoutElement::Offset { z: true, colon: false, minutes: true, seconds: true }),
    (b"Z07:00:00", LayoutElement::Offset { z: true, colon: true, minutes: true, seconds: true }),
    (b"Z0700", LayoutElement::Offset { z: true, colon: false, minutes: true, seconds: false }),
    (b"Z07:00", LayoutElement::Offset { z: true, colon: true, minutes: true, seconds: false }),
    (b"Z07", LayoutElement::Offset { z: true, colon: false, minutes: false, seconds: false }),
];

/// The element at the start of `layout`, and its length (`nextStdChunk`).
fn next_element(layout: &[u8]) -> Option<(LayoutElement, usize)> {
    // `_2006` is an underscore and the year, not `_2` and `006`.
    if layout.starts_with(b"_2006") {
        return None;
    }
    for &(spelling, element) in ELEMENTS {
        if layout.starts_with(spelling) {
            // `Janet` is text: a short name followed by a lower-case letter is no element.
            let word = matches!(element, LayoutElement::Month | LayoutElement::Weekday);
            if !(word && layout.get(3).is_some_and(u8::is_ascii_lowercase)) {
                return Some((element, spelling.len()));
            }
        }
    }
    let (&separator, rest) = layout.split_first()?;
    let digit = *rest.first()?;
    if !matches!(separator, b'.' | b',') || !matches!(digit, b'0' | b'9') {
        return None;
    }
    // Any number of zeros or nines, if no other digit follows.
    let digits = rest.iter().take_while(|&&byte| byte == digit).count();
    if rest.get(digits).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    Some((LayoutElement::Fraction { digits, trim: digit == b'9', separator }, digits + 1))
}

/// Formats a moment (`time.Time.Format`). Unknown text is copied.
pub(crate) fn format(now: UtcTime, layout: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(layout.len() + 16);
    let mut at = 0;
    while at < layout.len() {
        match next_element(&layout[at..]) {
            Some((element, length)) => {
                write(&mut out, now, element);
                at += length;
            }
            None => {
                out.push(layout[at]);
                at += 1;
            }
        }
    }
    out
}

/// Appends one element.
fn write(out: &mut Vec<u8>, now: UtcTime, element: LayoutElement) {
    let (_, month, _, _) = now.date();
    let weekday = usize::try_from((now.seconds.div_euclid(86_400) + 4).rem_euclid(7)).unwrap_or(0);
    let afternoon = now.seconds.rem_euclid(86_400) >= 43_200;
    let text = match element {
        LayoutElement::LongMonth => MONTHS[month].to_owned(),
        LayoutElement::Month => MONTHS[month][..3].to_owned(),
        LayoutElement::LongWeekday => DAYS[weekday].to_owned(),
        LayoutElement::Weekday => DAYS[weekday][..3].to_owned(),
        LayoutElement::Zone => "UTC".to_owned(),
        LayoutElement::Pm => if afternoon { "PM" } else { "AM" }.to_owned(),
        LayoutElement::LowerPm => if afternoon { "pm" } else { "am" }.to_owned(),
        LayoutElement::Number(field, width, fill) => {
            let digits = number(now, field).to_string();
            let missing = width.saturating_sub(digits.len());
            char::from(fill).to_string().repeat(missing) + &digits
        }
        LayoutElement::Offset { z: true, .. } => "Z".to_owned(),
        LayoutElement::Offset { colon, minutes, seconds, .. } => {
            let colon = if colon { ":" } else { "" };
            let minutes = if minutes { format!("{colon}00") } else { String::new() };
            let seconds = if seconds { format!("{colon}00") } else { String::new() };
            format!("+00{minutes}{seconds}")
        }
        LayoutElement::Fraction { digits, trim, separator } => {
            let all = format!("{:09}", now.nanos);
            let mut shown = &all[..digits.min(9)];
            if trim {
                shown = shown.trim_end_matches('0');
            }
            if trim && shown.is_empty() { String::new() } else { format!("{}{shown}", char::from(separator)) }
        }
    };
    out.extend_from_slice(text.as_bytes());
}

/// The value of a numeric field.
fn number(now: UtcTime, field: TimeField) -> i64 {
    let (year, month, day, year_day) = now.date();
    let of_day = now.seconds.rem_euclid(86_400);
    match field {
        TimeField::Year => year,
        TimeField::ShortYear => year % 100,
        TimeField::Month => i64::try_from(month).unwrap_or(0) + 1,
        TimeField::Day => day,
        TimeField::YearDay => year_day,
        TimeField::Hour => of_day / 3_600,
        TimeField::Hour12 => (of_day / 3_600 + 11) % 12 + 1,
        TimeField::Minute => of_day / 60 % 60,
        TimeField::Second => of_day % 60,
    }
}
