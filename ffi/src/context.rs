//! What a template is rendered with, from JSON: as LXD and Incus name it, or any variables at all.

use std::time::{Duration, SystemTime};

use lxd_image::templates::{Context, Value};
use lxd_image::{Error, ErrorKind, Result};
use serde_json::Value as Json;

use crate::args::{self, invalid};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::types::*;

/// The variables that a template is rendered with. Rendering takes it as const, so that threads may share it.
pub struct lxi_template_context {
    _opaque: (),
}

handles! { lxi_template_context(14) = Context; }

/// Everything in it goes into a rendering.
const MOST: usize = 16 << 20;

/// Makes a context from a JSON object with the names that LXD and Incus give to templates:
///
///     { "container": { "name": "c1", "type": "container", "architecture": "x86_64",
///                      "privileged": "false", "ephemeral": "false" },
///       "config":    { "user.fqdn": "c1.example.org" },
///       "devices":   { "eth0": { "type": "nic" } } }
///
/// `container` (or `instance`) stands for both of them, `config` for `config_get` too. `trigger`, `path` and
/// `properties` may be given; `lxi_apply` sets them for each rule. Names that are not given are there and empty. Any
/// other name becomes a variable: numbers, truth values, texts, lists and maps are what they look like, and an object
/// with the one key `$int`, `$float` (a text with the number) or `$bytes` (base64) is what JSON can't say.
///
/// Owner: the caller, who frees it with `lxi_template_context_free`. Threads: any. Errors: LXI_MALFORMED for what is
/// no JSON or no such object, LXI_LIMIT_EXCEEDED above 16 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_template_context_from_json(
    json: lxi_bytes,
    context: *mut *mut lxi_template_context,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(context, "context")?;
        place.set(handle::make(named(&object(args::bytes(json, "JSON")?)?)?));
        Ok(())
    })
}

/// Makes a context from a JSON object of variables, and nothing else in it. Values are as in
/// `lxi_template_context_from_json`; only `trigger` is made as LXD makes it, `devices` is a map of devices, and
/// `$config` gives `config` and `config_get`.
///
/// Owner, threads and errors: as `lxi_template_context_from_json`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_template_context_from_variables(
    json: lxi_bytes,
    context: *mut *mut lxi_template_context,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(context, "context")?;
        let keys = object(args::bytes(json, "JSON")?)?;
        let context = keys.iter().try_fold(Context::empty(), |context, (key, value)| {
            Ok::<_, Error>(match key.as_str() {
                "trigger" => context.trigger(&text(key, value)?),
                "devices" => devices(context, value)?,
                "$config" => context.config(texts(key, value)?),
                _ => context.variable(key, other(value)?),
            })
        })?;
        place.set(handle::make(context));
        Ok(())
    })
}

/// Says what time `{% now %}` shows, in UTC: seconds since 1970. Without it, it is the clock's.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT for a time that no clock of this machine can show.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_template_context_set_now(
    context: *mut lxi_template_context,
    seconds: i64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let context = handle::get_mut(context)?;
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let now = if seconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
        let now = now.ok_or_else(|| invalid(format!("{seconds} is no time")))?;
        *context = std::mem::take(context).now(now);
        Ok(())
    })
}

/// Frees a context; NULL is allowed.
///
/// Threads: any, the context being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_template_context_free(context: *mut lxi_template_context) -> lxi_status {
    free(context)
}

fn object(bytes: &[u8]) -> Result<serde_json::Map<String, Json>> {
    if bytes.len() > MOST {
        return Err(Error::new(ErrorKind::LimitExceeded, format!("the context has more than {MOST} bytes")));
    }
    // `serde_json` itself stops at a depth of 128.
    let json: Json = serde_json::from_slice(bytes)
        .map_err(|error| Error::new(ErrorKind::Malformed, "the context is not JSON").with_source(error))?;
    match json {
        Json::Object(keys) => Ok(keys),
        _ => Err(Error::new(ErrorKind::Malformed, "a context is an object with names and values")),
    }
}

/// As the command line's `--context` takes it.
fn named(keys: &serde_json::Map<String, Json>) -> Result<Context> {
    let mut context = Context::new();
    // One stands for both; only who gives two different ones gets them.
    if let Some(instance) = keys.get("container").or_else(|| keys.get("instance")) {
        context = context.instance(texts("container", instance)?);
    }
    for (key, value) in keys {
        context = match key.as_str() {
            "container" => context,
            "instance" => {
                let entries = texts(key, value)?;
                context.variable("instance", Value::map(entries.into_iter().map(|(k, v)| (k, Value::from(v)))))
            }
            "trigger" => context.trigger(&text(key, value)?),
            "path" => context.path(&text(key, value)?),
            "config" => context.config(texts(key, value)?),
            "properties" => context.properties(texts(key, value)?),
            "devices" => devices(context, value)?,
            _ => context.variable(key, other(value)?),
        };
    }
    Ok(context)
}

fn devices(context: Context, value: &Json) -> Result<Context> {
    let Json::Object(devices) = value else { return Err(wrong("devices", "an object of objects")) };
    devices.iter().try_fold(context, |context, (name, device)| {
        Ok(context.device(name, texts(&format!("devices.{name}"), device)?))
    })
}

fn wrong(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("`{key}` in the context must be {what}"))
}

/// LXD's values are texts; a number or a truth value is what it looks like.
fn text(key: &str, value: &Json) -> Result<String> {
    match value {
        Json::String(text) => Ok(text.clone()),
        Json::Bool(_) | Json::Number(_) => Ok(value.to_string()),
        _ => Err(wrong(key, "a text")),
    }
}

fn texts(key: &str, value: &Json) -> Result<Vec<(String, String)>> {
    let Json::Object(entries) = value else { return Err(wrong(key, "an object of texts")) };
    entries.iter().map(|(name, value)| Ok((name.clone(), text(&format!("{key}.{name}"), value)?))).collect()
}

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
        Json::Object(entries) => match typed(entries)? {
            Some(value) => value,
            None => Value::map(
                entries.iter().map(|(key, value)| Ok((key.clone(), other(value)?))).collect::<Result<Vec<_>>>()?,
            ),
        },
    })
}

/// What JSON has no way to say.
fn typed(entries: &serde_json::Map<String, Json>) -> Result<Option<Value>> {
    let mut all = entries.iter();
    let (Some((key, Json::String(text))), None) = (all.next(), all.next()) else { return Ok(None) };
    let bad = || wrong(key, "a value of its type");
    Ok(Some(match key.as_str() {
        "$int" => Value::from(text.parse::<i64>().map_err(|_| bad())?),
        "$float" => Value::from(text.parse::<f64>().map_err(|_| bad())?),
        "$bytes" => Value::bytes(base64(text).ok_or_else(bad)?),
        _ => return Ok(None),
    }))
}

/// Standard base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.trim_end_matches('=').as_bytes();
    let (mut out, mut bits, mut count) = (Vec::with_capacity(digits.len()), 0_u32, 0);
    for &byte in digits {
        bits = bits << 6 | u32::from(digit(byte)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}
