//! Templates: parsed once, rendered many times, from any thread.

use lxd_image::Result;
use lxd_image::templates::{Dialect, ParseOptions, Template, TemplateWarning};

use crate::about::index_out_of_range;
use crate::args::{self, invalid, versioned};
use crate::buffer::{buffer, lxi_buffer};
use crate::context::lxi_template_context;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::limits::{limits_or_default, lxi_limits};
use crate::types::*;

/// A parsed template. Read-only, so it may be shared between threads.
pub struct lxi_template {
    _opaque: (),
}

/// Whose templates: LXI_DIALECT_….
pub type lxi_dialect = u32;
/// LXD's: pongo2 4.
pub const LXI_DIALECT_LXD: lxi_dialect = 0;
/// Incus's: pongo2 6.
pub const LXI_DIALECT_INCUS: lxi_dialect = 1;

/// Parses as pongo2 itself does, with autoescape on, and not as LXD and Incus parse the templates of an image.
pub const LXI_TEMPLATE_RAW: u32 = 1;

/// Something in a template that is allowed, yet surely not meant; filled by `lxi_template_warning_at`. Set `size` to
/// `sizeof(lxi_warning)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_warning {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// One sentence.
    pub message: lxi_str,
    /// The line, from 1.
    pub line: u32,
    /// The column in bytes, from 1.
    pub column: u32,
}

/// A template with its warnings.
pub struct Parsed {
    template: Template,
    warnings: Vec<TemplateWarning>,
}

versioned!(lxi_warning);
handles! { lxi_template(13) = Parsed; }

pub(crate) fn dialect(given: lxi_dialect) -> Result<Dialect> {
    match given {
        LXI_DIALECT_LXD => Ok(Dialect::Lxd),
        LXI_DIALECT_INCUS => Ok(Dialect::Incus),
        other => Err(invalid(format!("{other} is no dialect of templates"))),
    }
}

/// Parses a template. `flags` are LXI_TEMPLATE_… or 0; `limits` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_template_free`. Threads: any. Errors: LXI_TEMPLATE if it is not well
/// formed or asks for another file, LXI_LIMIT_EXCEEDED if it nests too deep or chains too much; the error tells where.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_template_parse(
    source: lxi_bytes,
    dialect: lxi_dialect,
    flags: u32,
    limits: *const lxi_limits,
    parsed: *mut *mut lxi_template,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(parsed, "template")?;
        let dialect = self::dialect(dialect)?;
        let raw = args::flags(flags, LXI_TEMPLATE_RAW, "flags of parsing")? != 0;
        let limits = limits_or_default(limits)?;
        let source = args::bytes(source, "template")?;
        let template = Template::parse_with(source, ParseOptions::new(dialect).raw(raw), &limits)?;
        let warnings = template.warnings();
        place.set(handle::make(Parsed { template, warnings }));
        Ok(())
    })
}

/// Renders a template. `limits` may be NULL. It can't be cancelled, and need not be: `template_steps` and the other
/// limits of templates bound how long it takes, whatever the template asks for.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any, also several with one template and
/// one context. Errors: LXI_TEMPLATE if it asks for what can't be, LXI_LIMIT_EXCEEDED if it writes, works or nests too
/// much; the error tells where.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_template_render(
    parsed: *const lxi_template,
    context: *const lxi_template_context,
    limits: *const lxi_limits,
    text: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(text, "text")?;
        let limits = limits_or_default(limits)?;
        place.set(buffer(handle::get(parsed)?.template.render(handle::get(context)?, &limits)?));
        Ok(())
    })
}

/// Fills `warning` with a warning about a template, with an index from 0, in the order of the source.
///
/// Owner: the text is the library's, and never freed. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_template_warning_at(
    parsed: *const lxi_template,
    index: usize,
    warning: *mut lxi_warning,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let found = handle::get(parsed)?.warnings.get(index).ok_or_else(|| index_out_of_range(index, "warning"))?;
        let filled =
            lxi_warning { size: 0, message: lxi_str::of(found.message), line: found.line, column: found.column };
        args::fill(warning, &filled)
    })
}

/// Frees a template; NULL is allowed.
///
/// Threads: any, the template being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_template_free(parsed: *mut lxi_template) -> lxi_status {
    free(parsed)
}
