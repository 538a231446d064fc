//! `strconv.Quote` and its kin: Go's own spelling of strings and runes, for `%q` and `%#v`.

use super::runes;

/// Whether Go prints the rune as it is: letters, marks, numbers, punctuation, symbols, the ASCII space.
pub(crate) fn is_print(rune: char) -> bool {
    if rune.is_ascii() {
        return (' '..='~').contains(&rune);
    }
    // Rust escapes the same classes, but for marks, which it leaves alone behind another character.
    let text: String = ['a', rune].iter().collect();
    text.escape_debug().eq(text.chars())
}

/// A string between double quotes.
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

/// A rune between single quotes.
pub(crate) fn rune(rune: char, ascii: bool) -> Vec<u8> {
    let mut out = vec![b'\''];
    escaped(&mut out, rune, '\'', ascii);
    out.push(b'\'');
    out
}

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

/// Whether the string can stand between back quotes, as `%#q` asks.
pub(crate) fn can_backquote(bytes: &[u8]) -> bool {
    runes::runes(bytes).all(|(rune, width)| match rune {
        '\u{feff}' | '`' | '\u{7f}' => false,
        runes::REPLACEMENT => width > 1,
        _ => rune >= ' ' || rune == '\t',
    })
}
