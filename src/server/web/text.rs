//! Untrusted texts and numbers as people read them. Escaping for HTML is done by the templates;
//! this module replaces the characters that escaping leaves alone and that deceive the eye.

use crate::time;

/// Whether a character is invisible or changes the order in which others are displayed, as in the
/// attack known as Trojan Source (CVE-2021-42574).
pub(super) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// A text with every hidden character replaced by U+FFFD. Line feeds stay.
pub(super) fn visible(text: &str) -> String {
    text.chars()
        .map(|character| if is_hidden(character) && character != '\n' { '\u{fffd}' } else { character })
        .collect()
}

/// The beginning of a text on one line, at most `most` characters, with an ellipsis if there is
/// more.
pub(super) fn short(text: &str, most: usize) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(most).map(|one| if one == '\n' { ' ' } else { one }).collect();
    if characters.next().is_some() {
        shown.truncate(shown.trim_end().len());
        shown.push('…');
    }
    visible(&shown)
}

/// A size in bytes.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // Rounding to one decimal would show `1024.0 KiB` instead of the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The day of a time in seconds since 1970, as `2024-06-01`.
pub(super) fn day(seconds: i64) -> String {
    let text = time::rfc3339(Some(seconds));
    text.split_once('T').map_or_else(|| text.clone(), |(day, _)| day.to_owned())
}

/// A time in seconds since 1970, to the minute, like `2024-06-01 12:30 UTC`.
pub(super) fn minute(seconds: i64) -> String {
    let text = time::rfc3339(Some(seconds));
    let clock = text.split_once('T').and_then(|(day, clock)| Some(format!("{day} {} UTC", clock.get(..5)?)));
    clock.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn what_can_not_be_seen_is_seen() {
        assert_eq!(visible("a\u{202e}b\tc\nd\0"), "a\u{fffd}b\u{fffd}c\nd\u{fffd}");
        assert_eq!(short("one two\nthree", 8), "one two…");
        assert_eq!(short("é", 1), "é");
    }

    #[test]
    fn times_are_days_and_minutes_and_never_a_panic() {
        assert_eq!((day(1_700_000_000), minute(1_700_000_000)), ("2023-11-14".into(), "2023-11-14 22:13 UTC".into()));
        for seconds in [i64::MIN, -1, 0, i64::MAX] {
            assert!(!day(seconds).is_empty() && !minute(seconds).is_empty());
        }
    }
}
