//! The context of `template render` and `template apply`, read from a JSON file.
//!
//! Known keys (container, config, devices, properties, trigger, path) become what LXD and Incus pass to templates; any
//! other key becomes a variable. LXD's values are strings, so numbers and booleans under known keys are converted to
//! strings.

use std::path::Path;

use lxd_image::templates::{Context, Value};
use lxd_image::{Error, ErrorKind, Result};
use serde_json::Value as Json;

use crate::signals::{self, or_cancelled};

/// The largest context file: all of it is kept in memory and may be copied into the result.
const MAX_CONTEXT_BYTES: u64 = 16 << 20;

/// Reads a context from a file, or from standard input for `-`.
///
/// # Errors
/// `Malformed` for a text that is not JSON, or for values of the wrong type, naming the key.
pub(super) fn read(path: &Path) -> Result<Context> {
    let bytes = bytes(path, MAX_CONTEXT_BYTES)?;
    // serde_json limits nesting to 128, which bounds the recursion here.
    let json: Json = serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(ErrorKind::Malformed, "the context is not JSON").with_source(error).in_file(path)
    })?;
    context(&json).map_err(|error| error.in_file(path))
}

/// All bytes of a file, or of standard input for `-`.
///
/// # Errors
/// `NotFound`, `Io`; `LimitExceeded` beyond `most` bytes; `Cancelled`.
pub(super) fn bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    let cant = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Error::new(kind, "the file can't be read").with_source(error).in_file(path)
    };
    let bytes = signals::read(path, most + 1).map_err(|error| or_cancelled(error, cant))?;
    if bytes.len() as u64 > most {
        return Err(Error::new(ErrorKind::LimitExceeded, format!("it has more than {most} bytes")).in_file(path));
    }
    Ok(bytes)
}

/// Converts the JSON object, key by key.
fn context(json: &Json) -> Result<Context> {
    let Json::Object(keys) = json else {
        return Err(Error::new(ErrorKind::Malformed, "a context is an object with names and values"));
    };
    let mut context = Context::new();
    // Templates see one object under both names: either key sets both, unless both are given.
    if let Some(instance) = json.get("container").or_else(|| json.get("instance")) {
        context = context.instance(texts("container", instance)?);
    }
    for (key, value) in keys {
        context = match key.as_str() {
            "container" => context,
            "instance" => context.variable("instance", map(texts(key, value)?)),
            "trigger" => context.trigger(&text(key, value)?),
            "path" => context.path(&text(key, value)?),
            "config" => context.config(texts(key, value)?),
            "properties" => context.properties(texts(key, value)?),
            "devices" => {
                let Json::Object(devices) = value else { return Err(wrong(key, "an object of objects")) };
                devices.iter().try_fold(context, |context, (name, device)| {
                    Ok::<_, Error>(context.device(name, texts(&format!("devices.{name}"), device)?))
                })?
            }
            _ => context.variable(key, other(value)?),
        };
    }
    Ok(context)
}

/// A map of strings as a template value.
fn map(entries: Vec<(String, String)>) -> Value {
    Value::map(entries.into_iter().map(|(key, value)| (key, Value::from(value))))
}

/// The error for a value of the wrong type.
fn wrong(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("`{key}` in the context must be {what}"))
}

/// A value as a string. LXD's configuration consists of strings, so numbers and booleans become their text.
fn text(key: &str, value: &Json) -> Result<String> {
    match value {
        Json::String(text) => Ok(text.clone()),
        Json::Bool(_) | Json::Number(_) => Ok(value.to_string()),
        _ => Err(wrong(key, "a text")),
    }
}

/// An object of strings, in the order of the file.
fn texts(key: &str, value: &Json) -> Result<Vec<(String, String)>> {
    let Json::Object(entries) = value else { return Err(wrong(key, "an object of texts")) };
    entries.iter().map(|(name, value)| Ok((name.clone(), text(&format!("{key}.{name}"), value)?))).collect()
}

/// Any JSON value as a template value; numbers become integers where they are, otherwise floats.
fn other(value: &Json) -> Result<Value> {
    Ok(match value {
        Json::Null => Value::NIL,
        Json::Bool(truth) => Value::from(*truth),
        Json::String(text) => Value::from(text.as_str()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => return Err(wrong(&number.to_string(), "a number of 64 bits")),
        },
        Json::Array(items) => Value::list(items.iter().map(other).collect::<Result<Vec<_>>>()?),
        Json::Object(entries) => {
            Value::map(entries.iter().map(|(key, value)| Ok((key.clone(), other(value)?))).collect::<Result<Vec<_>>>()?)
        }
    })
}
