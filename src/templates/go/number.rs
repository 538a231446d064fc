//! Go's numbers: `strconv.ParseFloat`, conversion to `int`, `strconv.FormatFloat` and `math.Pow`.
//!
//! Rust rounds the same way, but differs in what templates can see:
//!
//! - parsing: Go accepts hexadecimal floats and underscores, and refuses overflow;
//! - conversion to an integer: on amd64 Go gives the smallest integer where Rust saturates;
//! - formatting: Go writes `+Inf`, at least two digits of exponent, and `%g` and `%x`, which Rust
//!   lacks;
//! - powers: Go computes in software, and the last digit can differ from the C library's.

/// `strconv.ParseFloat(s, 64)`; `None` where Go answers with an error.
pub(crate) fn parse_float(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let sign = if negative { -1.0 } else { 1.0 };
    // Go accepts the names in any case, with a sign; `nan` only without.
    if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    let hex = body.len() > 2 && body.is_char_boundary(2) && body[..2].eq_ignore_ascii_case("0x");
    if body.contains('_') && !underscores_ok(body.as_bytes()) {
        return None;
    }
    let digits: String = body.chars().filter(|&c| c != '_').collect();
    let value = if hex { parse_hex(&digits[2..])? } else { parse_decimal(&digits)? };
    // A decimal that overflows is an error in Go (`ErrRange`), and pongo2 then uses 0.
    value.is_finite().then_some(sign * value)
}

/// Parses the decimal notation, without a sign.
fn parse_decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    // Rust would accept a second sign. Infinities are handled by the caller.
    if !plain || text.starts_with(['+', '-']) {
        return None;
    }
    text.parse().ok()
}

/// Parses hexadecimal notation (`1.8p3`) without its prefix. The exponent is required, as in Go.
///
/// Bits beyond the 60th are collected in a sticky bit, so that rounding to 53 bits is exact.
fn parse_hex(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if (whole.is_empty() && fraction.is_empty()) || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut exponent: i64 = exponent
        .parse::<i64>()
        .map_or(if exponent.starts_with('-') { -100_000 } else { 100_000 }, |e| e.clamp(-100_000, 100_000));
    let (mut bits, mut sticky) = (0_u64, false);
    for (place, digit) in whole.chars().map(|c| (0, c)).chain(fraction.chars().map(|c| (4, c))) {
        let digit = u64::from(digit.to_digit(16)?);
        if bits < 1 << 56 {
            bits = bits << 4 | digit;
            exponent -= place;
        } else {
            sticky |= digit != 0;
            exponent += 4 - place;
        }
    }
    let value = (bits | u64::from(sticky)) as f64;
    Some(scaled(value, i32::try_from(exponent.clamp(-10_000, 10_000)).unwrap_or(0)))
}

/// Whether underscores stand only between digits or after the base prefix (`strconv.underscoreOK`).
fn underscores_ok(text: &[u8]) -> bool {
    let mut last = b'^';
    let mut rest = text;
    let mut hex = false;
    if rest.len() >= 2 && rest[0] == b'0' && matches!(rest[1] | 0x20, b'b' | b'o' | b'x') {
        hex = rest[1] | 0x20 == b'x';
        rest = &rest[2..];
        last = b'0';
    }
    for &byte in rest {
        if byte.is_ascii_digit() || hex && byte.is_ascii_hexdigit() {
            last = b'0';
        } else if byte == b'_' {
            if last != b'0' {
                return false;
            }
            last = b'_';
        } else {
            if last == b'_' {
                return false;
            }
            last = b'!';
        }
    }
    last != b'_'
}

/// `int(f)` as amd64 computes it: a float out of range becomes the smallest integer, where Rust
/// would saturate.
pub(crate) fn to_int(value: f64) -> i64 {
    const EDGE: f64 = 9_223_372_036_854_775_808.0;
    if (-EDGE..EDGE).contains(&value) { value as i64 } else { i64::MIN }
}

/// The most decimals of a double that can differ from 0 (1,074), rounded up. Rust's formatter is
/// asked for no more, because its precision is limited to 16 bits.
const EXACT_DECIMALS: usize = 1_100;

/// `strconv.FormatFloat(value, format, precision, 64)`, with `None` for the shortest text.
pub(crate) fn format(value: f64, format: u8, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    match format {
        b'e' | b'E' => exponential(value, precision, format),
        b'g' | b'G' => general(value, precision, format),
        b'b' => binary(value),
        b'x' | b'X' => hexadecimal(value, precision, format),
        _ => fixed(value, precision),
    }
}

/// The format `%f`: without exponent.
fn fixed(value: f64, precision: Option<usize>) -> String {
    let Some(precision) = precision else { return format!("{value}") };
    let exact = precision.min(EXACT_DECIMALS);
    let mut text = format!("{value:.exact$}");
    text.extend(std::iter::repeat_n('0', precision - exact));
    text
}

/// The format `%e`. Go writes at least two digits of exponent and always its sign.
fn exponential(value: f64, precision: Option<usize>, letter: u8) -> String {
    let exact = precision.map(|p| p.min(EXACT_DECIMALS));
    let text = match exact {
        Some(exact) => format!("{value:.exact$e}"),
        None => format!("{value:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mut out = mantissa.to_owned();
    out.extend(std::iter::repeat_n('0', precision.unwrap_or(0) - exact.unwrap_or(0)));
    out.push(char::from(letter));
    out.push_str(&signed_exponent(exponent.parse().unwrap_or(0)));
    out
}

/// An exponent with sign and at least two digits.
fn signed_exponent(exponent: i32) -> String {
    format!("{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

/// The format `%g`: fixed or exponential, by the size of the exponent (`strconv.formatDigits`).
fn general(value: f64, precision: Option<usize>, letter: u8) -> String {
    let letter = if letter == b'G' { b'E' } else { b'e' };
    let (text, shortest) = match precision {
        None => (format!("{value:e}"), true),
        Some(p) => {
            let digits = p.clamp(1, EXACT_DECIMALS) - 1;
            (format!("{value:.digits$e}"), false)
        }
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Go counts digits without trailing zeros. A zero has none.
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = if count == 0 { 0 } else { exponent + 1 };
    let precision = match precision {
        None => count.max(1),
        Some(p) => i32::try_from(p.max(1)).unwrap_or(i32::MAX),
    };
    let mut bound = if precision > count && count >= point { count } else { precision };
    // For the shortest text Go compares with 6 and not with the precision (`eprec` in
    // `strconv/ftoa.go`).
    if shortest {
        bound = 6;
    }
    let decimals = |n: i32| usize::try_from(n.max(0)).ok();
    if point - 1 < -4 || point > bound {
        let shown = if precision > count { count } else { precision };
        return exponential(value, decimals(shown - 1), letter);
    }
    let shown = if precision > point { count } else { precision };
    fixed(value, decimals(shown - point))
}

/// Sign, 53-bit mantissa and binary exponent of a finite double.
fn parts(value: f64) -> (bool, u64, i32) {
    let bits = value.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0);
    let mantissa = bits & ((1 << 52) - 1);
    match exponent {
        0 => (value.is_sign_negative(), mantissa, -1022),
        _ => (value.is_sign_negative(), mantissa | 1 << 52, exponent - 1023),
    }
}

/// The format `%b`: mantissa and exponent in decimal.
fn binary(value: f64) -> String {
    let (negative, mantissa, exponent) = parts(value);
    format!("{}{mantissa}p{:+}", if negative { "-" } else { "" }, exponent - 52)
}

/// The format `%x`: `0x1.8p+01` (`strconv.fmtX`).
fn hexadecimal(value: f64, precision: Option<usize>, letter: u8) -> String {
    let (negative, mantissa, mut exponent) = parts(value);
    if mantissa == 0 {
        exponent = 0;
    }
    let mut bits = mantissa << 8;
    while bits != 0 && bits & 1 << 60 == 0 {
        bits <<= 1;
        exponent -= 1;
    }
    if let Some(precision) = precision.filter(|&p| p < 15) {
        let shift = precision * 4;
        let extra = (bits << shift) & ((1 << 60) - 1);
        bits >>= 60 - shift;
        // Rounds half to even. The operators are Go's, in Go's precedence.
        if extra | (bits & 1) > 1 << 59 {
            bits += 1;
        }
        bits <<= 60 - shift;
        if bits & 1 << 61 != 0 {
            bits >>= 1;
            exponent += 1;
        }
    }
    let mut out = format!("{}0{}{}", if negative { "-" } else { "" }, char::from(letter), bits >> 60 & 1);
    bits <<= 4;
    let wanted = precision.unwrap_or(if bits == 0 { 0 } else { usize::MAX });
    if wanted > 0 {
        out.push('.');
        let mut written = 0;
        while written < wanted && (precision.is_some() || bits != 0) {
            let digit = char::from_digit(u32::try_from(bits >> 60 & 15).unwrap_or(0), 16).unwrap_or('0');
            out.push(if letter == b'X' { digit.to_ascii_uppercase() } else { digit });
            bits <<= 4;
            written += 1;
        }
    }
    out.push(if letter == b'X' { 'P' } else { 'p' });
    out.push_str(&signed_exponent(exponent));
    out
}

/// `math.Frexp`: a fraction in [½, 1) and a power of two.
fn frexp(value: f64) -> (f64, i32) {
    if value == 0.0 || !value.is_finite() {
        return (value, 0);
    }
    let (value, shift) = if value.abs() < f64::MIN_POSITIVE { (value * (1_u64 << 52) as f64, -52) } else { (value, 0) };
    let exponent = i32::try_from(value.to_bits() >> 52 & 0x7ff).unwrap_or(0) - 1022;
    (f64::from_bits(value.to_bits() & !(0x7ff << 52) | 1022 << 52), exponent + shift)
}

/// `math.Ldexp` for a finite value: `value` times a power of two.
fn scaled(value: f64, exponent: i32) -> f64 {
    let (fraction, own) = frexp(value);
    let exponent = exponent.saturating_add(own);
    if fraction == 0.0 || exponent < -1_080 {
        return 0.0_f64.copysign(value);
    }
    if exponent > 1_024 {
        return f64::INFINITY.copysign(value);
    }
    // Two multiplications, of which only the second can round: the result is a subnormal.
    if exponent < -1_021 {
        return fraction * 2_f64.powi(-1_021) * 2_f64.powi(exponent + 1_021);
    }
    fraction * 2.0 * 2_f64.powi(exponent - 1)
}

/// `math.Pow` as Go computes it in software, by successive squaring. The C library's result differs
/// in the last place, which shows when a template prints it.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    let special = y == 0.0 || x == 1.0 || y == 1.0 || x == 0.0 || !x.is_finite() || !y.is_finite();
    if special {
        return x.powf(y);
    }
    // Go's special cases, which are exact where the loop below would round.
    if y == 0.5 {
        return x.sqrt();
    }
    if y == -0.5 {
        return 1.0 / x.sqrt();
    }
    let (mut whole, mut fraction) = (y.abs().trunc(), y.abs().fract());
    if fraction != 0.0 && x < 0.0 {
        return f64::NAN;
    }
    if whole >= 9_223_372_036_854_775_808.0 {
        return match x {
            -1.0 => 1.0,
            _ if (x.abs() < 1.0) == (y > 0.0) => 0.0,
            _ => f64::INFINITY,
        };
    }
    let (mut result, mut exponent) = (1.0, 0_i32);
    if fraction != 0.0 {
        // Keeps the part that goes through `exp` and `log` small, as Go does.
        if fraction > 0.5 {
            fraction -= 1.0;
            whole += 1.0;
        }
        result = (fraction * x.ln()).exp();
    }
    let (mut base, mut base_exponent) = frexp(x);
    let mut bits = whole as i64;
    while bits != 0 {
        // The result overflows or underflows for certain; Go stops here, too.
        if !(-(1 << 12)..=1 << 12).contains(&base_exponent) {
            exponent += base_exponent;
            break;
        }
        if bits & 1 == 1 {
            result *= base;
            exponent += base_exponent;
        }
        base *= base;
        base_exponent <<= 1;
        if base < 0.5 {
            base += base;
            base_exponent -= 1;
        }
        bits >>= 1;
    }
    if y < 0.0 {
        result = 1.0 / result;
        exponent = -exponent;
    }
    scaled(result, exponent)
}
