//! What a template is rendered with, from JSON: as LXD and Incus name it, or any variables at all.

use std::time::{Duration, SystemTime};

use lxd_image::templates::Context;

use crate::args::{self, invalid};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::types::*;

/// The variables that a template is rendered with. Rendering takes it as const, so that threads may share it.
pub struct lxi_template_context {
    _opaque: (),
}

handles! { lxi_template_context(14) = Context; }

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
        place.set(handle::make(Context::from_json(args::bytes(json, "JSON")?)?));
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
        let context = Context::from_json_variables(args::bytes(json, "JSON")?)?;
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
