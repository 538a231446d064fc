//! Templates of images, rendered as LXD's and Incus's pongo2 render them, byte for byte.
//! A template is parsed once and rendered many times; it reads no file, and its work is bounded.
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

/// Whose templates: the two differ in a few places, listed in `TEMPLATES.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// LXD: pongo2 4.
    Lxd,
    /// Incus: pongo2 6.
    Incus,
}

/// How a template is parsed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ParseOptions {
    dialect: Dialect,
    raw: bool,
}

impl ParseOptions {
    /// As the peers parse a template of an image: with autoescape off.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, raw: false }
    }

    /// Whether to parse as pongo2 itself does, with autoescape on.
    #[must_use]
    pub fn raw(mut self, raw: bool) -> Self {
        self.raw = raw;
        self
    }
}

/// What the peers put around a template.
const WRAP_START: &[u8] = b"{% autoescape off %}";
const WRAP_END: &[u8] = b"{% endautoescape %}";

/// Nesting takes stack while parsing; no limit may ask for more than this.
const MAX_NESTING: u64 = 200;

/// A parsed template, for any number of renderings, from any thread.
#[derive(Debug)]
pub struct Template {
    source: Vec<u8>,
    before: usize,
    after: usize,
    dialect: Dialect,
    tree: parser::SyntaxTree,
}

impl Template {
    /// Parses a template as LXD or Incus do.
    ///
    /// # Errors
    /// `Template` if it is not well formed or asks for another file, `LimitExceeded` if it nests too deep
    /// or chains too much. [`Error::template_place`] tells where.
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

    /// Renders the template.
    ///
    /// # Errors
    /// `Template` if it asks for what can't be, `LimitExceeded` if it writes, works or nests too much.
    pub fn render(&self, context: &Context, limits: &Limits) -> Result<Vec<u8>> {
        self.render_until(context, limits, &Cancel::new())
    }

    /// Renders the template unless `cancel` is switched on meanwhile: raised limits let one work for minutes.
    ///
    /// # Errors
    /// As [`render`](Self::render), and `Cancelled`.
    pub fn render_until(&self, context: &Context, limits: &Limits, cancel: &Cancel) -> Result<Vec<u8>> {
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

    /// What is allowed, yet surely not meant: warnings for people who write templates.
    #[must_use]
    pub fn warnings(&self) -> Vec<TemplateWarning> {
        check::warnings(self)
    }

    /// The dialect that it was parsed in.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Line, column (in bytes) and the source line of a place in the author's own text.
    fn place(&self, at: u32) -> (u32, u32, &[u8]) {
        let own = self.source.get(self.before..self.source.len() - self.after).unwrap_or(&[]);
        let at = (at as usize).saturating_sub(self.before).min(own.len());
        let start = own[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let end = own[at..].iter().position(|&byte| byte == b'\n').map_or(own.len(), |newline| at + newline);
        let line = 1 + own[..start].iter().filter(|&&byte| byte == b'\n').count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (number(line), number(at - start + 1), &own[start..end])
    }

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

/// The part of a line around a column, in quotes; lines may be long.
fn excerpt(line: &[u8], column: usize) -> String {
    const SIDE: usize = 40;
    let start = column.saturating_sub(SIDE + 1).min(line.len());
    let end = (column + SIDE).min(line.len());
    let text = String::from_utf8_lossy(&line[start..end]);
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < line.len() { "…" } else { "" });
    format!("`{before}{}{after}`", text.trim_end())
}
