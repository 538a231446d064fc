//! Filters about lists, and about texts as lists of runes. Other values pass unchanged, or become
//! empty.

use std::sync::Arc;

use super::super::Dialect;
use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::runes;
use super::super::value::{GoValue, List, Value, integer_of};
use super::FilterContext;

/// The price of an item of a new list in steps, for its memory.
const ITEM_STEPS: usize = 4;

/// `first`: the first item or rune; the empty text if there is none.
pub(super) fn first(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(if value.can_slice() && value.truth() { value.item(0) } else { Value::from("") })
}

/// `last`: the last item or rune; the empty text if there is none.
pub(super) fn last(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(if value.can_slice() && value.truth() { value.item(value.len() - 1) } else { Value::from("") })
}

/// `random`: any item. Always the first, so that renderings are repeatable.
pub(super) fn random(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(if value.can_slice() && value.truth() { value.item(0) } else { value.clone() })
}

/// `length`: runes of a text, items of a list or map, else 0.
pub(super) fn length(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::from(i64::try_from(value.len()).unwrap_or(i64::MAX)))
}

/// `length_is`: whether the length equals the argument.
pub(super) fn length_is(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::from(i64::try_from(value.len()) == Ok(argument.integer())))
}

/// `join`: the items as texts with a separator between them.
pub(super) fn join(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let separator = argument.text();
    let mut out = Vec::new();
    match &value.data {
        GoValue::List(list) => {
            for (index, item) in list.items.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(&separator);
                }
                item.print(&mut out);
                context.fits(out.len())?;
            }
        }
        GoValue::Str(text) | GoValue::Trigger(text) => {
            for (index, (rune, _)) in runes::runes(text).enumerate() {
                if index > 0 {
                    out.extend_from_slice(&separator);
                }
                runes::push(&mut out, rune);
                context.fits(out.len())?;
            }
        }
        _ => return Ok(value.clone()),
    }
    Ok(Value::bytes(out))
}

/// `make_list`: the runes of the value's text as a list.
pub(super) fn make_list(value: &Value, _: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = value.text();
    context.spend(runes::count(&text) * ITEM_STEPS)?;
    Ok(Value::strings(runes::runes(&text).map(|(rune, _)| Value::bytes(runes::string(rune))).collect()))
}

/// `split`: the parts of a text between separators; with an empty separator, its runes.
pub(super) fn split(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let (text, separator) = (value.text(), argument.text());
    if separator.is_empty() {
        return make_list(value, argument, context);
    }
    let parts = runes::split(&text, &separator);
    context.spend(parts.len() * ITEM_STEPS)?;
    Ok(Value::strings(parts.into_iter().map(Value::bytes).collect()))
}

/// `slice`: the items or runes `from:to`. The dialects differ in what a missing or negative bound
/// means.
pub(super) fn slice(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = argument.text();
    let [from, to] = runes::split(&text, b":")[..] else {
        return Err(EngineError::wrong("`slice` takes `from:to`; either may be missing, but not the colon"));
    };
    if !value.can_slice() {
        return Ok(value.clone());
    }
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let (from, to) = match context.dialect {
        Dialect::Lxd => bounds_4(integer_of(from), integer_of(to), length),
        Dialect::Incus => bounds_6(from, to, length),
    };
    // Go panics in pongo2 4: slice bounds out of range.
    let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else {
        return Err(EngineError::wrong("`slice` takes no negative bound in LXD"));
    };
    match &value.data {
        GoValue::List(list) => {
            context.spend(to.saturating_sub(from))?;
            let items = list.items.get(from..to).unwrap_or(&[]).to_vec();
            Ok(GoValue::List(Arc::new(List { strings: list.strings, items })).into())
        }
        _ => Ok(Value::bytes(runes::section(&value.text(), from, to))),
    }
}

/// Bounds as pongo2 4 reads them: a missing end is 0, and an end before the start is the length
/// (`filterSlice`).
fn bounds_4(from: i64, to: i64, length: i64) -> (i64, i64) {
    let from = from.min(length);
    (from, if (from..=length).contains(&to) { to } else { length })
}

/// Bounds as pongo2 6 reads them: negative ones count from the end, and a missing end is the
/// length.
fn bounds_6(from: &[u8], to: &[u8], length: i64) -> (i64, i64) {
    let counted = |bound: i64| if bound < 0 { length.saturating_add(bound).max(0) } else { bound };
    let from = counted(integer_of(from)).min(length);
    let to = if runes::trim(to).is_empty() { length } else { counted(integer_of(to)) };
    let to = to.max(from);
    (from, if to <= length { to } else { length })
}
