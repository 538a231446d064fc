//! Filters about text: case, padding, words. Lengths are counted in runes.

use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::{runes, sprintf};
use super::super::value::Value;
use super::FilterContext;

/// `upper`: upper case, rune by rune.
pub(super) fn upper(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::bytes(runes::map(&value.text(), runes::upper)))
}

/// `lower`: lower case, rune by rune. The result is a plain string, which is why `trigger|lower ==
/// "create"` works.
pub(super) fn lower(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::bytes(runes::map(&value.text(), runes::lower)))
}

/// `title`: each word with a capital. Values that are no texts become empty.
pub(super) fn title(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    if !value.is_string() {
        return Ok(Value::from(""));
    }
    let mut previous = ' ';
    Ok(Value::bytes(runes::map(&value.text(), |rune| {
        let rune = runes::lower(rune);
        // Lower case first: `strings.Title(strings.ToLower(s))`.
        let starts = runes::is_separator(previous);
        previous = rune;
        if starts { runes::title(rune) } else { rune }
    })))
}

/// `capfirst`: the first rune in upper case.
pub(super) fn capfirst(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    if value.len() == 0 {
        return Ok(Value::from(""));
    }
    let text = value.text();
    let (first, width) = runes::decode(&text);
    let mut out = runes::string(runes::upper(first));
    out.extend_from_slice(&text[width..]);
    Ok(Value::bytes(out))
}

/// `addslashes`: a backslash before quotes and backslashes.
pub(super) fn addslashes(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = value.text();
    let mut out = Vec::with_capacity(text.len());
    for &byte in text.iter() {
        if matches!(byte, b'\\' | b'"' | b'\'') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    Ok(Value::bytes(out))
}

/// `cut`: removes every occurrence of the argument.
pub(super) fn cut(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::bytes(runes::replace(&value.text(), &argument.text(), b"")))
}

/// Text between spaces, if the result is within the bound.
fn padded(text: &[u8], before: u64, after: u64, context: &FilterContext<'_>) -> EngineResult<Value> {
    let total = before.saturating_add(after).saturating_add(text.len() as u64);
    context.fits(usize::try_from(total).unwrap_or(usize::MAX))?;
    let count = |spaces: u64| usize::try_from(spaces).unwrap_or(0);
    let mut out = vec![b' '; count(before)];
    out.extend_from_slice(text);
    out.resize(out.len() + count(after), b' ');
    Ok(Value::bytes(out))
}

/// The length of a value as a signed number.
fn length(value: &Value) -> i64 {
    i64::try_from(value.len()).unwrap_or(i64::MAX)
}

/// `center`: spaces on both sides up to the width. An odd space goes to the left (`filterCenter`).
pub(super) fn center(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let (width, length) = (argument.integer(), length(value));
    if width <= length {
        return Ok(value.clone());
    }
    let spaces = width.abs_diff(length);
    padded(&value.text(), spaces / 2 + spaces % 2, spaces / 2, context)
}

/// `ljust`: spaces behind the text up to the width.
pub(super) fn ljust(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    // Go's subtraction wraps, and `strings.Repeat` gets 0 for a negative count.
    let missing = argument.integer().wrapping_sub(length(value)).max(0);
    padded(&value.text(), 0, missing.unsigned_abs(), context)
}

/// `rjust`: spaces before the text. pongo2 formats with `%<width>s`, so a negative width pads on
/// the other side.
pub(super) fn rjust(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let format = format!("%{}s", argument.integer());
    formatted(format.as_bytes(), &Value::bytes(value.text()), context)
}

/// `stringformat`: Go's `fmt.Sprintf` with the value as the only argument.
pub(super) fn stringformat(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    formatted(&argument.text(), value, context)
}

/// Formats within the bound on values.
fn formatted(format: &[u8], value: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    match sprintf::sprintf(format, value, context.cap) {
        Some(text) => Ok(Value::bytes(text)),
        None => Err(context.too_large()),
    }
}

/// `linenumbers`: a number before each line.
pub(super) fn linenumbers(value: &Value, _: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let mut out = Vec::new();
    for (index, line) in runes::split(&value.text(), b"\n").into_iter().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(format!("{}. ", index + 1).as_bytes());
        out.extend_from_slice(line);
    }
    context.fits(out.len())?;
    Ok(Value::bytes(out))
}

/// `phone2numeric`: letters as the digits of a telephone's keys.
pub(super) fn phone2numeric(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let digit = |byte: &u8| match byte.to_ascii_lowercase() {
        b'a'..=b'c' => b'2',
        b'd'..=b'f' => b'3',
        b'g'..=b'i' => b'4',
        b'j'..=b'l' => b'5',
        b'm'..=b'o' => b'6',
        b'p'..=b's' => b'7',
        b't'..=b'v' => b'8',
        b'w'..=b'z' => b'9',
        _ => *byte,
    };
    Ok(Value::bytes(value.text().iter().map(digit).collect::<Vec<_>>()))
}

/// `wordcount`: the number of words.
pub(super) fn wordcount(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let count = runes::fields(&value.text()).len();
    Ok(Value::from(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// `wordwrap`: a line break after so many words, not characters.
///
/// pongo2 computes the number of lines as quotient plus remainder, which is too many if the
/// remainder is above 1, and then slices past the last word. Go panics there; this is an error
/// (`filterWordwrap`).
pub(super) fn wordwrap(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let Some(width) = usize::try_from(argument.integer()).ok().filter(|&width| width > 0) else {
        return Ok(value.clone());
    };
    let text = value.text();
    let words = runes::fields(&text);
    let lines = words.len() / width + words.len() % width;
    let mut out = Vec::with_capacity(text.len());
    for line in 0..lines {
        let start = width.saturating_mul(line);
        let end = width.saturating_mul(line + 1).min(words.len());
        let Some(part) = words.get(start..end) else {
            return Err(EngineError::wrong("`wordwrap` runs past the last word"));
        };
        if line > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(&part.join(&b' '));
    }
    Ok(Value::bytes(out))
}
