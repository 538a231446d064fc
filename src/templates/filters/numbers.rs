//! Filters over numbers. What is no number counts as one anyway: text by its digits, the rest as 0.
//! `floatformat` rounds as Go does, half to even on the exact value.

use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::{number, runes};
use super::super::value::{GoValue, Value};
use super::FilterContext;

/// A sum of two numbers, else the two texts joined.
pub(super) fn add(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    if value.is_number() && argument.is_number() {
        if value.is_float() || argument.is_float() {
            return Ok(Value::from(value.float() + argument.float()));
        }
        return Ok(Value::from(value.integer().wrapping_add(argument.integer())));
    }
    let (left, right) = (value.text(), argument.text());
    context.fits(left.len() + right.len())?;
    Ok(Value::bytes([left, right].concat()))
}

pub(super) fn divisibleby(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let by = argument.integer();
    Ok(Value::from(by != 0 && value.integer().wrapping_rem(by) == 0))
}

pub(super) fn float(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::from(value.float()))
}

pub(super) fn integer(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::from(value.integer()))
}

pub(super) fn floatformat(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let number = value.float();
    let mut decimals = if argument.is_nil() { -1 } else { argument.integer() };
    let mut trim = !argument.is_number();
    if decimals <= 0 {
        decimals = decimals.wrapping_neg();
        trim = true;
    }
    if trim && number::to_int(number) as f64 == number {
        return Ok(Value::from(value.integer()));
    }
    // The smallest integer has no positive twin, and asks for the shortest text.
    let precision = usize::try_from(decimals).ok();
    context.fits(precision.unwrap_or(0))?;
    Ok(Value::from(number::format(number, b'f', precision)))
}

/// The digit so many places from the right: a byte, whatever stands there.
pub(super) fn get_digit(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = value.text();
    let place = usize::try_from(argument.integer()).ok().filter(|&place| place > 0);
    match place.and_then(|place| text.len().checked_sub(place)) {
        Some(index) => Ok(GoValue::Byte(text[index].wrapping_sub(b'0')).into()),
        None => Ok(value.clone()),
    }
}

pub(super) fn pluralize(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    if !value.is_number() {
        return Err(EngineError::wrong("`pluralize` takes a number"));
    }
    let one = value.integer() == 1;
    if argument.len() == 0 {
        return Ok(Value::from(if one { "" } else { "s" }));
    }
    let text = argument.text();
    match runes::split(&text, b",")[..] {
        [many] => Ok(Value::bytes(if one { b"".as_slice() } else { many })),
        [single, many] => Ok(Value::bytes(if one { single } else { many })),
        _ => Err(EngineError::wrong("`pluralize` takes one or two endings")),
    }
}
