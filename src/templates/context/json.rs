//! JSON to [`Context`]: the one conversion behind `template render --context`, the C function
//! `lxi_context_from_json` and Go's `ContextFromJSON`.
//!
//! JSON says less than a template can see: it has no 64-bit integers apart from floats, no byte strings, and no
//! named types. Three rules close the gap:
//!
//! - the names that LXD and Incus set (`container`, `config`, `devices`, …) get the Go types that they have there;
//! - any other name becomes a variable whose type is read off the JSON value;
//! - an object with the single key `$int`, `$float` or `$bytes` is a number or a byte string that JSON cannot hold.
//!
//! Nesting is bounded by `serde_json` itself (128 levels) and size by [`Context::MAX_JSON_BYTES`], so that the
//! recursion over the tree needs no bound of its own.

use serde_json::{Map as JsonObject, Value as Json};

use super::super::value::Value;
use super::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::decode_base64;

impl Context {
    /// The largest JSON text that [`from_json`](Self::from_json) accepts: 16 MiB. All of it is held in memory,
    /// once as text and once as values.
    pub const MAX_JSON_BYTES: u64 = 16 << 20;

    /// Reads a context from a JSON object with the names that LXD and Incus give to templates.
    ///
    /// | key | value | variables in the template |
    /// |---|---|---|
    /// | `container` or `instance` | object of texts | `container` and `instance`; both keys set them apart |
    /// | `config` | object of texts | `config`, and `config_get(key, default)` |
    /// | `devices` | object of objects of texts | `devices` |
    /// | `properties` | object of texts | `properties` |
    /// | `trigger`, `path` | text | `trigger`, `path` |
    /// | any other | any value | a variable of that name |
    ///
    /// Where a text is expected, a number or a boolean is taken as it is spelled, because LXD stores all
    /// configuration as text. A key that is missing leaves an empty variable, as in [`Context::new`].
    ///
    /// ```
    /// use lxd_image::templates::{Context, Dialect, Template};
    /// use lxd_image::Limits;
    ///
    /// let context = Context::from_json(br#"{"container": {"name": "c1"}, "config": {"user.port": 80}, "n": 2}"#)?;
    /// let source = b"{{ instance.name }}:{{ config_get('user.port', '') }} {{ n + 1 }}";
    /// let template = Template::parse(source, Dialect::Lxd, &Limits::default())?;
    /// assert_eq!(template.render(&context, &Limits::default())?, b"c1:80 3");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// `LimitExceeded` above [`MAX_JSON_BYTES`](Self::MAX_JSON_BYTES); `Malformed` if the bytes are not a JSON
    /// object, or a value does not have the type in the table.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let keys = object(json)?;
        let mut context = Self::new();
        // One key stands for both names. Only a file with both keys can tell them apart.
        if let Some(instance) = keys.get("container").or_else(|| keys.get("instance")) {
            context = context.instance(texts("container", instance)?);
        }
        for (key, value) in &keys {
            context = match key.as_str() {
                "container" => context,
                "instance" => context.variable("instance", text_map(texts(key, value)?)),
                "trigger" => context.trigger(&text(key, value)?),
                "path" => context.path(&text(key, value)?),
                "config" => context.config(texts(key, value)?),
                "properties" => context.properties(texts(key, value)?),
                "devices" => devices(context, value)?,
                _ => context.variable(key, any(value)?),
            };
        }
        Ok(context)
    }

    /// Reads a context that has exactly the variables of a JSON object, for templates that are not an image's.
    ///
    /// Three keys are special, because their Go types cannot be read off the JSON: `trigger` is the named string
    /// that equals no plain one, `devices` a map of devices, and `$config` sets `config` and `config_get`. Values
    /// are otherwise as in [`from_json`](Self::from_json).
    ///
    /// ```
    /// use lxd_image::templates::{Context, Dialect, Template};
    /// use lxd_image::Limits;
    ///
    /// let context = Context::from_json_variables(br#"{"big": {"$int": "9007199254740993"}}"#)?;
    /// let template = Template::parse(b"{{ big }}{{ container }}", Dialect::Lxd, &Limits::default())?;
    /// assert_eq!(template.render(&context, &Limits::default())?, b"9007199254740993");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_json_variables(json: &[u8]) -> Result<Self> {
        object(json)?.iter().try_fold(Self::empty(), |context, (key, value)| {
            Ok(match key.as_str() {
                "trigger" => context.trigger(&text(key, value)?),
                "devices" => devices(context, value)?,
                "$config" => context.config(texts(key, value)?),
                _ => context.variable(key, any(value)?),
            })
        })
    }
}

/// Parses the text, which must be a JSON object.
fn object(json: &[u8]) -> Result<JsonObject<String, Json>> {
    let limit = Context::MAX_JSON_BYTES;
    if json.len() as u64 > limit {
        return Err(Error::new(ErrorKind::LimitExceeded, format!("the context has more than {limit} bytes")));
    }
    let json: Json = serde_json::from_slice(json)
        .map_err(|error| Error::new(ErrorKind::Malformed, "the context is not JSON").with_source(error))?;
    match json {
        Json::Object(keys) => Ok(keys),
        _ => Err(Error::new(ErrorKind::Malformed, "the context must be a JSON object with names and values")),
    }
}

fn devices(context: Context, value: &Json) -> Result<Context> {
    let Json::Object(devices) = value else { return Err(wrong_type("devices", "an object of objects")) };
    devices.iter().try_fold(context, |context, (name, device)| {
        Ok(context.device(name, texts(&format!("devices.{name}"), device)?))
    })
}

fn wrong_type(key: &str, expected: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("`{key}` in the context must be {expected}"))
}

/// A text. Numbers and booleans count as their spelling: `"privileged": false` means `"false"`.
fn text(key: &str, value: &Json) -> Result<String> {
    match value {
        Json::String(text) => Ok(text.clone()),
        Json::Bool(_) | Json::Number(_) => Ok(value.to_string()),
        _ => Err(wrong_type(key, "a text")),
    }
}

/// An object of texts. `key` is the path to it, for the error.
fn texts(key: &str, value: &Json) -> Result<Vec<(String, String)>> {
    let Json::Object(entries) = value else { return Err(wrong_type(key, "an object of texts")) };
    entries.iter().map(|(name, value)| Ok((name.clone(), text(&format!("{key}.{name}"), value)?))).collect()
}

fn text_map(entries: Vec<(String, String)>) -> Value {
    Value::map(entries.into_iter().map(|(key, value)| (key, Value::from(value))))
}

/// A variable of any type: the Go type is the one that the JSON value looks like.
fn any(value: &Json) -> Result<Value> {
    Ok(match value {
        Json::Null => Value::NIL,
        Json::Bool(truth) => Value::from(*truth),
        Json::String(text) => Value::from(text.as_str()),
        // An integer stays one as long as it fits 64 bits: to a template `1` and `1.0` differ.
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => return Err(wrong_type(&number.to_string(), "a number of 64 bits")),
        },
        Json::Array(items) => Value::list(items.iter().map(any).collect::<Result<Vec<_>>>()?),
        Json::Object(entries) => match typed(entries)? {
            Some(value) => value,
            None => Value::map(
                entries.iter().map(|(key, value)| Ok((key.clone(), any(value)?))).collect::<Result<Vec<_>>>()?,
            ),
        },
    })
}

/// The value of `{"$int": text}`, `{"$float": text}` or `{"$bytes": base64}`; `None` for any other object.
fn typed(entries: &JsonObject<String, Json>) -> Result<Option<Value>> {
    let mut all = entries.iter();
    let (Some((key, Json::String(text))), None) = (all.next(), all.next()) else { return Ok(None) };
    let wrong = || wrong_type(key, "a value of its type");
    Ok(Some(match key.as_str() {
        "$int" => Value::from(text.parse::<i64>().map_err(|_| wrong())?),
        "$float" => Value::from(text.parse::<f64>().map_err(|_| wrong())?),
        "$bytes" => Value::bytes(decode_base64(text).ok_or_else(wrong)?),
        _ => return Ok(None),
    }))
}
