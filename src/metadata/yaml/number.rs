//! Numbers as Go's `yaml.v2` reads them into an integer field (`resolve.go`), which is how LXD
//! reads dates.
//!
//! Underscores anywhere, `0x`, `0o`, `0b`, a leading zero for octal, and floats, which are cut to
//! integers.

/// The integer that an unquoted text means, if it is a number and fits. Sexagesimal numbers, dates,
/// `.nan` and infinities are not numbers here.
pub(super) fn integer(text: &str) -> Option<i64> {
    match number(text)? {
        YamlNumber::Integer(value) => i64::try_from(value).ok(),
        YamlNumber::Float(value) => {
            // Both bounds are exact as floats; the upper one is the first that no longer fits.
            #[allow(clippy::cast_possible_truncation, reason = "checked against both bounds")]
            (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value).then_some(value as i64)
        }
    }
}

/// Whether the text is an integer, of any size that Go parses.
pub(super) fn is_integer(text: &str) -> bool {
    matches!(number(text), Some(YamlNumber::Integer(_)))
}

/// Whether the text is an integer or a float, including infinities and `.nan`.
pub(super) fn is_number(text: &str) -> bool {
    number(text).is_some()
        || matches!(text.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
}

/// A number in the notation in which it was written.
enum YamlNumber {
    Integer(i128),
    Float(f64),
}

/// Parses a number. The first character decides, as in `yaml.v2`'s `resolveTable`.
fn number(text: &str) -> Option<YamlNumber> {
    match text.bytes().next()? {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = text.replace('_', "");
            based_integer(&digits).map(YamlNumber::Integer).or_else(|| float(&digits))
        }
        _ => None,
    }
}

/// Go's `ParseInt` with base 0, then `ParseUint`: up to 64 bits of either kind.
fn based_integer(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = unsigned.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match lower.as_deref() {
        Some("0x") => (16, &unsigned[2..]),
        Some("0o") => (8, &unsigned[2..]),
        Some("0b") => (2, &unsigned[2..]),
        Some(octal) if octal.starts_with('0') => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    // `from_str_radix` would take a second sign.
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    Some(if negative { -value } else { value })
}

/// Parses `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, the expression `yamlStyleFloat`.
/// Rust's parser accepts more, so the form is checked first.
fn float(text: &str) -> Option<YamlNumber> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = all_digits(whole) && all_digits(fraction) && all_digits(exponent);
    if !well_formed || exponent.is_empty() || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(YamlNumber::Float)
}
