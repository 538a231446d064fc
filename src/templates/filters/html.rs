//! Filters that add or remove HTML markup. A tag is whatever stands between `<` and `>`, as in
//! pongo2.

use super::super::engine_error::EngineResult;
use super::super::go::runes;
use super::super::value::Value;
use super::{FilterContext, tag_pattern};

/// `escape`, and `e` in Incus. Also applied by autoescape. Escaping twice escapes the ampersands
/// again.
pub(crate) fn escape(value: &Value, _: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = escaped(&value.text());
    context.fits(text.len())?;
    Ok(Value::bytes(text))
}

/// Replaces the five special characters of HTML by entities (`filterEscape`).
pub(super) fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8);
    for &byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            _ => out.push(byte),
        }
    }
    out
}

/// `escapejs`: everything except ASCII letters, spaces and slashes as `\uXXXX`. Invalid UTF-8 is
/// dropped, and the two characters `\n` count as a line break (`filterEscapejs`).
pub(super) fn escapejs(value: &Value, _: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = value.text();
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut at = 0;
    while at < text.len() {
        let (rune, width) = runes::decode(&text[at..]);
        // pongo2 treats a backslash and a letter in the text like the control character itself.
        let pair = (rune == '\\').then(|| text.get(at + 1)).flatten();
        match (rune, pair) {
            (runes::REPLACEMENT, _) => at += width,
            (_, Some(b'r')) => {
                out.extend_from_slice(b"\\u000D");
                at += 2;
            }
            (_, Some(b'n')) => {
                out.extend_from_slice(b"\\u000A");
                at += 2;
            }
            _ => {
                if rune.is_ascii_alphabetic() || matches!(rune, ' ' | '/') {
                    runes::push(&mut out, rune);
                } else {
                    out.extend_from_slice(format!("\\u{:04X}", u32::from(rune)).as_bytes());
                }
                at += width;
            }
        }
        context.fits(out.len())?;
    }
    Ok(Value::bytes(out))
}

/// `linebreaksbr`: line breaks become `<br />`.
pub(super) fn linebreaksbr(value: &Value, _: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = runes::replace(&value.text(), b"\n", b"<br />");
    context.fits(text.len())?;
    Ok(Value::bytes(text))
}

/// `linebreaks`: paragraphs in `<p>`, single line breaks as `<br />`. Lines that are blank and
/// follow each other give pongo2's odd sequence of tags.
pub(super) fn linebreaks(value: &Value, _: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    if value.len() == 0 {
        return Ok(value.clone());
    }
    let text = value.text();
    let lines = runes::split(&text, b"\n");
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut open = false;
    for (index, line) in lines.iter().enumerate() {
        if !open {
            out.extend_from_slice(b"<p>");
            open = true;
        }
        out.extend_from_slice(line);
        if let Some(next) = lines.get(index + 1)
            && !runes::trim(line).is_empty()
        {
            if runes::trim(next).is_empty() {
                out.extend_from_slice(b"</p>");
                open = false;
            } else {
                out.extend_from_slice(b"<br />");
            }
        }
        context.fits(out.len())?;
    }
    if open {
        out.extend_from_slice(b"</p>");
    }
    Ok(Value::bytes(out))
}

/// `striptags`: removes all tags, and white space at both ends.
pub(super) fn striptags(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = value.text();
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), &text[..]);
    while let Some(open) = rest.iter().position(|&byte| byte == b'<') {
        // An unclosed tag is text.
        let Some(length) = rest[open..].iter().position(|&byte| byte == b'>') else { break };
        out.extend_from_slice(&rest[..open]);
        rest = &rest[open + length + 1..];
    }
    out.extend_from_slice(rest);
    Ok(Value::bytes(runes::trim(&out)))
}

/// `removetags`: removes the tags with these names, separated by commas. pongo2 puts each name into
/// a regular expression unescaped, so it is one, see [`tag_pattern`].
pub(super) fn removetags(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let mut text = value.text().to_vec();
    for name in runes::split(&argument.text(), b",") {
        text = tag_pattern::without_tag(&text, name, context)?;
    }
    Ok(Value::bytes(runes::trim(&text)))
}
