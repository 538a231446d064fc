//! Templates of images: the language that LXD and Incus render with pongo2, byte for byte, and its
//! application to an instance's files.
//!
//! A template is a file in an image's `templates/` directory. A rule in `metadata.yaml` says which
//! file of the instance it becomes and on which events. Two uses, one above the other:
//!
//! - **Rendering.** [`Template::parse`] once, [`Template::render`] with a [`Context`] as often as
//!   needed. A context comes from an [`Instance`], from JSON ([`Context::from_json`]), or is built
//!   by hand from [`Value`]s.
//! - **Applying.** [`apply()`] takes an unpacked image ([`InstanceDir`]), the rules of its
//!   [`Metadata`](crate::Metadata) and a [`Trigger`], renders each template whose rule fires and
//!   writes the result. [`DeferredTrigger`] remembers which trigger an instance's next start owes.
//!
//! ```
//! use lxd_image::templates::{Context, Dialect, Template};
//! use lxd_image::Limits;
//!
//! let limits = Limits::default();
//! let template = Template::parse(b"{{ container.name }}\n", Dialect::Lxd, &limits)?;
//! let context = Context::new().instance([("name", "c1")]);
//! assert_eq!(template.render(&context, &limits)?, b"c1\n");
//! # Ok::<(), lxd_image::Error>(())
//! ```
//!
//! # The language
//!
//! It looks like Django's and computes like Go. `TEMPLATES.md` beside this file is the reference
//! for authors: variables, operators, filters, tags, the differences between LXD and Incus
//! ([`Dialect`]) and between both and this library.
//!
//! # How a template is rendered
//!
//! Source → `lexer` (tokens) → `parser` (the tree of `tree`) → `render`, which walks the tree with
//! a context and writes bytes. `value` is Go's values as pongo2 sees them, `go` the parts of Go's
//! standard library that show in the output, `filters` the table of filters. Errors inside are an
//! `EngineError`, a reason and an offset; [`Template`] turns it into an [`Error`] with line, column
//! and the source line.
//!
//! # Untrusted input
//!
//! Templates come from whoever built the image. A template reads no file and calls nothing outside;
//! `include`, `import`, `extends` and `ssi` are refused, as LXD and Incus do. Work, output, nesting
//! and recursion are bounded by [`Limits`] (`template_*`), in time and in stack. Where pongo2 would
//! panic, the result is an error.
//!
//! The implementation follows pongo2's documented and observed behaviour; it contains no code of
//! it. Comments name the file or function of pongo2 (4.0.2 and 6.0.0, MIT licence) in which a quirk
//! can be seen.

mod apply;
mod check;
mod context;
mod engine_error;
mod filters;
mod go;
mod instance;
mod lexer;
mod parser;
mod render;
mod tree;
mod value;

use crate::error::{Error, ErrorKind, Result, TemplateStage};
use crate::limits::Limits;
use crate::progress::Cancel;

pub use apply::{
    Action, ApplyError, ApplyOptions, ApplyReport, ContentChange, DeferredTrigger, InstanceDir, RenderedFile,
    RuleOutcome, SkipReason, Trigger, apply,
};
pub use check::TemplateWarning;
pub use context::Context;
use engine_error::{EngineError, EngineErrorKind};
pub use instance::Instance;
pub use value::Value;

/// The version of the template language: LXD's or Incus's.
///
/// Both daemons use pongo2, in different versions. Most templates give the same output;
/// `TEMPLATES.md` lists the differences. The dialect is chosen when a template is parsed.
///
/// ```
/// use lxd_image::templates::{Context, Dialect, Template};
/// use lxd_image::Limits;
///
/// let render = |dialect| {
///     let limits = Limits::default();
///     Template::parse(br#"{{ "a" + "b" }}"#, dialect, &limits)?.render(&Context::new(), &limits)
/// };
/// assert_eq!(render(Dialect::Lxd)?, b"0");
/// assert_eq!(render(Dialect::Incus)?, b"ab");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// LXD: pongo2 4.0.2.
    Lxd,
    /// Incus: pongo2 6.0.0, which adds subscripts (`x[0]`), text addition and the filter `e`.
    Incus,
}

/// How a template is parsed, for [`Template::parse_with`].
///
/// ```
/// use lxd_image::templates::{Context, Dialect, ParseOptions, Template};
/// use lxd_image::Limits;
///
/// // As a web page: pongo2 alone escapes HTML, image templates do not.
/// let options = ParseOptions::new(Dialect::Lxd).raw(true);
/// let template = Template::parse_with(b"{{ '<b>' }}", options, &Limits::default())?;
/// assert_eq!(template.render(&Context::new(), &Limits::default())?, b"&lt;b&gt;");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ParseOptions {
    dialect: Dialect,
    raw: bool,
}

impl ParseOptions {
    /// The options of an image's template: autoescape is off, as LXD and Incus set it.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, raw: false }
    }

    /// Sets whether to parse as pongo2 itself does, with autoescape on. For templates that are not
    /// an image's.
    #[must_use]
    pub fn raw(mut self, raw: bool) -> Self {
        self.raw = raw;
        self
    }
}

/// LXD and Incus turn autoescape off by wrapping the source, not by an option (`templateApplyNow`
/// in `driver_lxc.go`). It is done the same way here because it shows: a template can close the tag
/// early.
const WRAP_START: &[u8] = b"{% autoescape off %}";
const WRAP_END: &[u8] = b"{% endautoescape %}";

/// The deepest nesting that is parsed, whatever the limits say: each level takes stack.
const MAX_NESTING: u64 = 200;

/// A parsed template. Render it any number of times, from any thread.
///
/// Parsing checks everything that does not depend on values: syntax, tags, filters, nesting. It
/// opens no file.
///
/// ```
/// use lxd_image::templates::{Dialect, Instance, Template};
/// use lxd_image::{ErrorKind, Limits};
///
/// let limits = Limits::default();
/// let hosts = b"127.0.1.1 {{ container.name }} {{ config_get('user.fqdn', 'local') }}\n";
/// let template = Template::parse(hosts, Dialect::Lxd, &limits)?;
/// for name in ["c1", "c2"] {
///     let output = template.render(&Instance::new(name).context(), &limits)?;
///     assert_eq!(output, format!("127.0.1.1 {name} local\n").into_bytes());
/// }
///
/// let error = Template::parse(b"{% if x %}", Dialect::Lxd, &limits).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Template);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug)]
pub struct Template {
    /// The wrapped source. Text nodes are ranges of it, so it is kept as long as the tree.
    source: Vec<u8>,
    /// Bytes of the wrapping in front of the author's text, taken off columns in errors.
    before: usize,
    /// Bytes of the wrapping behind it.
    after: usize,
    dialect: Dialect,
    tree: parser::SyntaxTree,
}

impl Template {
    /// Parses a template as LXD or Incus do.
    ///
    /// # Errors
    /// `Template` if the source is not well formed or asks for another file, `LimitExceeded` if it
    /// is too large, nests too deep or chains too much. [`Error::template_place`] gives line and
    /// column.
    pub fn parse(source: &[u8], dialect: Dialect, limits: &Limits) -> Result<Self> {
        Self::parse_with(source, ParseOptions::new(dialect), limits)
    }

    /// Parses a template with options.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(source: &[u8], options: ParseOptions, limits: &Limits) -> Result<Self> {
        let size = source.len() as u64;
        if size > limits.template_file.min(u64::from(u32::MAX) / 2) {
            return Err(Error::limit("template_file", limits.template_file, "the size of the template"));
        }
        let (before, after) = if options.raw { (&[][..], &[][..]) } else { (WRAP_START, WRAP_END) };
        let mut template = Self {
            source: [before, source, after].concat(),
            before: before.len(),
            after: after.len(),
            dialect: options.dialect,
            tree: parser::SyntaxTree::default(),
        };
        // Offsets are 32 bits to keep the tree small; the check above keeps the source below half
        // of that.
        let end = u32::try_from(template.source.len()).unwrap_or(u32::MAX);
        let bounds = parser::ParseLimits {
            nesting: limits.template_nesting.min(MAX_NESTING),
            wrapped: u64::from(!options.raw),
            own_end: u32::try_from(template.source.len() - after.len()).unwrap_or(u32::MAX),
            chain: limits.template_chain,
        };
        let tree = lexer::lex(&template.source, options.dialect)
            .and_then(|tokens| parser::parse(&tokens, end, options.dialect, bounds));
        match tree {
            Ok(tree) => template.tree = tree,
            Err(fault) => return Err(template.error(*fault, TemplateStage::Parse)),
        }
        Ok(template)
    }

    /// Renders the template with the variables of `context`. Equal input gives equal output, except
    /// for `{% now %}` without [`Context::now`].
    ///
    /// The output is bytes: a template may write text that is not UTF-8.
    ///
    /// # Errors
    /// `Template` for an operation that is not possible (division by zero, calling a text),
    /// `LimitExceeded` if output, work or nesting exceed `limits`.
    pub fn render(&self, context: &Context, limits: &Limits) -> Result<Vec<u8>> {
        self.render_until(context, limits, &Cancel::new())
    }

    /// Renders the template unless `cancel` is set meanwhile. With raised limits a template can run
    /// for minutes.
    ///
    /// ```
    /// use lxd_image::templates::{Context, Dialect, Template};
    /// use lxd_image::{Cancel, ErrorKind, Limits};
    ///
    /// let source = b"{% for a in s %}{% for b in s %}{% for c in s %}x{% endfor %}{% endfor %}{% endfor %}";
    /// let template = Template::parse(source, Dialect::Lxd, &Limits::default())?;
    /// let context = Context::new().variable("s", "y".repeat(100).into());
    /// let cancel = Cancel::new();
    /// cancel.cancel();
    /// let error = template.render_until(&context, &Limits::default(), &cancel).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Cancelled);
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`render`](Self::render), and `Cancelled`.
    pub fn render_until(&self, context: &Context, limits: &Limits, cancel: &Cancel) -> Result<Vec<u8>> {
        // pongo2 checks this at execution, not when the context is made
        // (`Context.checkForValidIdentifiers`).
        if let Some(name) = context.wrong_name() {
            let message = format!("the context's name `{}` is none for a template", String::from_utf8_lossy(name));
            return Err(self.error(*EngineError::wrong(message), TemplateStage::Exec));
        }
        let bounds = render::RenderLimits {
            output: limits.template_output,
            steps: limits.template_steps,
            depth: limits.template_depth,
        };
        render::Renderer::new(&self.tree, &self.source, context, self.dialect, bounds)
            .until(cancel)
            .run()
            .map_err(|fault| self.error(*fault, TemplateStage::Exec))
    }

    /// Finds constructs that are allowed and almost certainly not meant, for authors of templates.
    ///
    /// ```
    /// use lxd_image::templates::{Dialect, Template};
    /// use lxd_image::Limits;
    ///
    /// let source = b"{% if trigger == \"create\" %}new{% endif %}";
    /// let template = Template::parse(source, Dialect::Lxd, &Limits::default())?;
    /// assert_eq!(template.warnings().len(), 1);
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    #[must_use]
    pub fn warnings(&self) -> Vec<TemplateWarning> {
        check::warnings(self)
    }

    /// The dialect in which the template was parsed.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Line, column (in bytes, both from 1) and source line of an offset, in the author's own text.
    fn place(&self, at: u32) -> (u32, u32, &[u8]) {
        let own = self.source.get(self.before..self.source.len() - self.after).unwrap_or(&[]);
        let at = (at as usize).saturating_sub(self.before).min(own.len());
        let start = own[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let end = own[at..].iter().position(|&byte| byte == b'\n').map_or(own.len(), |newline| at + newline);
        let line = 1 + own[..start].iter().filter(|&&byte| byte == b'\n').count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (number(line), number(at - start + 1), &own[start..end])
    }

    /// Adds the stage, the place and the source line to an engine error.
    fn error(&self, fault: EngineError, stage: TemplateStage) -> Error {
        let place = fault.at.map(|at| self.place(at));
        let shown = place.map_or(String::new(), |(line, column, text)| {
            format!("line {line}, column {column} of {}: ", excerpt(text, column as usize))
        });
        let error = match fault.reason {
            EngineErrorKind::Wrong(message) => {
                let verb = match stage {
                    TemplateStage::Parse => "the template can't be parsed",
                    TemplateStage::Exec => "the template can't be rendered",
                };
                Error::new(ErrorKind::Template, format!("{verb}: {shown}{message}"))
            }
            EngineErrorKind::Cancelled => return Error::cancelled(),
            EngineErrorKind::Limit(name, value, what) => Error::limit(name, value, format!("{shown}{what}")),
        };
        error.in_template(stage, place.map(|(line, column, _)| (line, column)))
    }
}

/// The part of a line around a column, in backquotes. Lines may be megabytes long.
fn excerpt(line: &[u8], column: usize) -> String {
    const SIDE: usize = 40;
    let start = column.saturating_sub(SIDE + 1).min(line.len());
    let end = (column + SIDE).min(line.len());
    let text = String::from_utf8_lossy(&line[start..end]);
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < line.len() { "…" } else { "" });
    format!("`{before}{}{after}`", text.trim_end())
}
