//! Owner and mode of a file that a rule creates, read from the rule as Incus reads them.
//!
//! All three keys are texts. Incus parses them with Go's `strconv` in `templateApplyNow`
//! (`internal/server/instance/drivers/driver_lxc.go`), whose notations this file follows.

use crate::error::{Error, Result};
use crate::metadata::TemplateRule;

/// Owner and mode of a new file, with ids inside the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewFile {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl NewFile {
    /// What a file gets if the rule does not say, and always in LXD.
    pub(super) const DEFAULT: Self = Self { uid: 0, gid: 0, mode: 0o644 };

    /// Reads the keys of a rule.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is not a number in Incus's notation, or does not fit.
    pub(super) fn of(rule: &TemplateRule) -> Result<Self> {
        Ok(Self {
            uid: rule.uid().map_or(Ok(Self::DEFAULT.uid), |text| owner("uid", text))?,
            gid: rule.gid().map_or(Ok(Self::DEFAULT.gid), |text| owner("gid", text))?,
            mode: rule.mode().map_or(Ok(Self::DEFAULT.mode), mode)?,
        })
    }
}

/// Reads a decimal id. The largest 32-bit number is refused: to chown(2) it means "do not change".
fn owner(key: &str, text: &str) -> Result<u32> {
    text.parse::<i64>()
        .ok()
        .and_then(|number| u32::try_from(number).ok())
        // -1 means "unchanged" to chown(2).
        .filter(|&number| number != u32::MAX)
        .ok_or_else(|| Error::invalid(format!("`{key}` is `{text}`, which is no owner's number")))
}

/// Reads permission bits: three characters are octal, anything else is Go's base 0. Other bits are
/// dropped.
fn mode(text: &str) -> Result<u32> {
    // Incus prepends the zero that Go's base 0 needs to read octal.
    let padded = if text.len() == 3 { format!("0{text}") } else { text.to_owned() };
    let number = base_zero(&padded).ok_or_else(|| {
        Error::invalid(format!("`mode` is `{text}`, which is no number"))
            .with_hint("write it in octal, with a leading zero: \"0644\"")
    })?;
    // Nine bits are left, so the conversion cannot fail.
    Ok(u32::try_from(number & 0o777).unwrap_or_default())
}

/// `strconv.ParseInt(text, 0, 64)`: a prefix selects the base, a leading zero octal, underscores
/// separate digits.
fn base_zero(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, rest, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    // An underscore stands between digits, or between the prefix and the first digit.
    if (rest.starts_with('_') && !prefixed) || rest.ends_with('_') || rest.contains("__") {
        return None;
    }
    let plain = rest.replace('_', "");
    if plain.is_empty() || !plain.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(&plain, radix).ok()?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_is_read_as_incus_reads_it() {
        for (text, expected) in [
            ("755", Some(0o755)),
            ("600", Some(0o600)),
            ("0755", Some(0o755)),
            ("0o755", Some(0o755)),
            ("0O755", Some(0o755)),
            ("0x1ed", Some(0o755)),
            ("0b111101101", Some(0o755)),
            // Decimal, and then only the permission bits of it.
            ("1755", Some(1755 & 0o777)),
            ("04755", Some(0o755)),
            ("0_755", Some(0o755)),
            ("7", Some(7)),
            ("0", Some(0)),
            ("-1", Some(0o777)),
            ("888", None),
            ("0x1", None),
            ("rwx", None),
            ("", None),
            ("0o", None),
            ("7__55", None),
            ("_755", None),
            ("+75", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(mode(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn owner_is_decimal_and_fits_the_kernel() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("010", Some(10)),
            ("+5", Some(5)),
            ("4294967294", Some(u32::MAX - 1)),
            ("4294967295", None),
            ("4294967296", None),
            ("-1", None),
            ("root", None),
            ("0x10", None),
            (" 1", None),
        ] {
            assert_eq!(owner("uid", text).ok(), expected, "{text}");
        }
    }
}
