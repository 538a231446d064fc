//! `strconv.Quote` and `strconv.QuoteRune`: Go's notation of strings and runes, for `%q` and `%#v`.

use super::runes;

/// Whether Go prints the rune as it is (`strconv.IsPrint`): letters, marks, numbers, punctuation,
/// symbols, and of the spaces only ASCII's.
pub(crate) fn is_print(rune: char) -> bool {
    if rune.is_ascii() {
        return (' '..='~').contains(&rune);
    }
    // Rust's `escape_debug` escapes the same classes, except that it leaves a mark alone after
    // another character. Hence the `a`.
    let text: String = ['a', rune].iter().collect();
    text.escape_debug().eq(text.chars())
}

/// A string in double quotes. With `ascii` everything beyond ASCII is escaped.
pub(crate) fn string(bytes: &[u8], ascii: bool) -> Vec<u8> {
    let mut out = vec![b'"'];
    let mut rest = bytes;
    while !rest.is_empty() {
        let (rune, width) = runes::decode(rest);
        if width == 1 && rune == runes::REPLACEMENT {
            out.extend_from_slice(format!("\\x{:02x}", rest[0]).as_bytes());
        } else {
            escaped(&mut out, rune, '"', ascii);
        }
        rest = &rest[width..];
    }
    out.push(b'"');
    out
}

/// A rune in single quotes.
pub(crate) fn rune(rune: char, ascii: bool) -> Vec<u8> {
    let mut out = vec![b'\''];
    escaped(&mut out, rune, '\'', ascii);
    out.push(b'\'');
    out
}

/// Appends one rune, escaped if needed.
fn escaped(out: &mut Vec<u8>, rune: char, quote: char, ascii: bool) {
    if rune == quote || rune == '\\' {
        out.push(b'\\');
        return runes::push(out, rune);
    }
    if is_print(rune) && (!ascii || rune.is_ascii()) {
        return runes::push(out, rune);
    }
    let text = match rune {
        '\u{7}' => "\\a".into(),
        '\u{8}' => "\\b".into(),
        '\u{c}' => "\\f".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        '\u{b}' => "\\v".into(),
        _ if rune < ' ' || rune == '\u{7f}' => format!("\\x{:02x}", u32::from(rune)),
        _ if u32::from(rune) < 0x1_0000 => format!("\\u{:04x}", u32::from(rune)),
        _ => format!("\\U{:08x}", u32::from(rune)),
    };
    out.extend_from_slice(text.as_bytes());
}

/// Whether the string can stand between back quotes (`strconv.CanBackquote`), as `%#q` prefers.
pub(crate) fn can_backquote(bytes: &[u8]) -> bool {
    runes::runes(bytes).all(|(rune, width)| match rune {
        '\u{feff}' | '`' | '\u{7f}' => false,
        runes::REPLACEMENT => width > 1,
        _ => rune >= ' ' || rune == '\t',
    })
}
