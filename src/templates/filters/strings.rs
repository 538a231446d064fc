//! Filters over text: case, padding, words.
//! Lengths are counted in runes, as pongo2 counts them, whatever the text looks like on a screen.

use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::{runes, sprintf};
use super::super::value::Value;
use super::FilterContext;

pub(super) fn upper(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::bytes(runes::map(&value.text(), runes::upper)))
}

pub(super) fn lower(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::bytes(runes::map(&value.text(), runes::lower)))
}

pub(super) fn title(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    if !value.is_string() {
        return Ok(Value::from(""));
    }
    let mut previous = ' ';
    Ok(Value::bytes(runes::map(&value.text(), |rune| {
        let rune = runes::lower(rune);
        let starts = runes::is_separator(previous);
        previous = rune;
        if starts { runes::title(rune) } else { rune }
    })))
}

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

pub(super) fn cut(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::bytes(runes::replace(&value.text(), &argument.text(), b"")))
}

/// As many spaces, text, and spaces, if that is allowed.
fn padded(text: &[u8], before: u64, after: u64, context: &FilterContext<'_>) -> EngineResult<Value> {
    let total = before.saturating_add(after).saturating_add(text.len() as u64);
    context.fits(usize::try_from(total).unwrap_or(usize::MAX))?;
    let count = |spaces: u64| usize::try_from(spaces).unwrap_or(0);
    let mut out = vec![b' '; count(before)];
    out.extend_from_slice(text);
    out.resize(out.len() + count(after), b' ');
    Ok(Value::bytes(out))
}

fn length(value: &Value) -> i64 {
    i64::try_from(value.len()).unwrap_or(i64::MAX)
}

pub(super) fn center(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let (width, length) = (argument.integer(), length(value));
    if width <= length {
        return Ok(value.clone());
    }
    let spaces = width.abs_diff(length);
    padded(&value.text(), spaces / 2 + spaces % 2, spaces / 2, context)
}

pub(super) fn ljust(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let missing = argument.integer().wrapping_sub(length(value)).max(0);
    padded(&value.text(), 0, missing.unsigned_abs(), context)
}

pub(super) fn rjust(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let format = format!("%{}s", argument.integer());
    formatted(format.as_bytes(), &Value::bytes(value.text()), context)
}

pub(super) fn stringformat(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    formatted(&argument.text(), value, context)
}

fn formatted(format: &[u8], value: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    match sprintf::sprintf(format, value, context.cap) {
        Some(text) => Ok(Value::bytes(text)),
        None => Err(context.too_large()),
    }
}

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

pub(super) fn wordcount(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let count = runes::fields(&value.text()).len();
    Ok(Value::from(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// Wraps after so many words. pongo2 counts the lines wrongly, and slices beyond the end.
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
