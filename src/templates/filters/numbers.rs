//! Filters about numbers. Values of other types are converted: a text counts as the number it
//! spells, anything else as 0.

use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::{number, runes};
use super::super::value::{GoValue, Value};
use super::FilterContext;

/// `add`: the sum of two numbers, else both texts joined. `5|add:"2"` is therefore `52`
/// (`filterAdd`).
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

/// `divisibleby`: whether the argument divides the value. Nothing is divisible by 0.
pub(super) fn divisibleby(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let by = argument.integer();
    Ok(Value::from(by != 0 && value.integer().wrapping_rem(by) == 0))
}

/// `float`: the value as a float.
pub(super) fn float(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::from(value.float()))
}

/// `integer`: the value as an integer.
pub(super) fn integer(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(Value::from(value.integer()))
}

/// `floatformat`: so many decimals; with a negative number, or none, only if they are not zero.
/// Rounds half to even on the exact binary value, so `1.25|floatformat:1` is `1.2`
/// (`filterFloatformat`).
pub(super) fn floatformat(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let number = value.float();
    let mut decimals = if argument.is_nil() { -1 } else { argument.integer() };
    // A text as the argument counts for the number of decimals and still trims zeros.
    let mut trim = !argument.is_number();
    if decimals <= 0 {
        decimals = decimals.wrapping_neg();
        trim = true;
    }
    // Compared after the conversion to `int` and back, so a float beyond 63 bits is not whole.
    if trim && number::to_int(number) as f64 == number {
        return Ok(Value::from(value.integer()));
    }
    // The smallest integer stays negative under negation. Go then formats the shortest text.
    let precision = usize::try_from(decimals).ok();
    context.fits(precision.unwrap_or(0))?;
    Ok(Value::from(number::format(number, b'f', precision)))
}

/// `get_digit`: the digit at a position from the right. Computes with the byte even if it is not a
/// digit, and the result is a byte that wraps (`filterGetdigit`).
pub(super) fn get_digit(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = value.text();
    let place = usize::try_from(argument.integer()).ok().filter(|&place| place > 0);
    match place.and_then(|place| text.len().checked_sub(place)) {
        // Go computes in `uint8`: a character before `0` wraps to a large number.
        Some(index) => Ok(GoValue::Byte(text[index].wrapping_sub(b'0')).into()),
        None => Ok(value.clone()),
    }
}

/// `pluralize`: the ending for a number, `s` unless endings are given.
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
