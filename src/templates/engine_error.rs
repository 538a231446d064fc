//! Errors inside the template engine: a reason and an offset, without the source.
//!
//! Lexer, parser and renderer do not know line numbers. [`Template`](super::Template) adds line,
//! column and the source line when the error leaves the engine. The error is boxed: results of
//! expressions are returned millions of times, and a small `Result` keeps that cheap.

use std::borrow::Cow;

/// An error and the byte offset in the wrapped source where it happened, if known.
#[derive(Debug)]
pub(crate) struct EngineError {
    pub(crate) reason: EngineErrorKind,
    pub(crate) at: Option<u32>,
}

/// Why lexing, parsing or rendering stopped.
#[derive(Debug)]
pub(crate) enum EngineErrorKind {
    /// The template is wrong, in these words.
    Wrong(Cow<'static, str>),
    /// A limit is reached: the name of its field in `Limits`, its value, and what exceeds it.
    Limit(&'static str, u64, &'static str),
    /// The caller cancelled the rendering.
    Cancelled,
}

/// The result of the engine's functions.
pub(crate) type EngineResult<T> = Result<T, Box<EngineError>>;

impl EngineError {
    /// Creates an error about the template itself.
    pub(crate) fn wrong(message: impl Into<Cow<'static, str>>) -> Box<Self> {
        Box::new(Self { reason: EngineErrorKind::Wrong(message.into()), at: None })
    }

    /// Creates an error about a limit.
    pub(crate) fn limit(name: &'static str, value: u64, what: &'static str) -> Box<Self> {
        Box::new(Self { reason: EngineErrorKind::Limit(name, value, what), at: None })
    }

    /// Creates the error of a cancelled rendering.
    pub(crate) fn cancelled() -> Box<Self> {
        Box::new(Self { reason: EngineErrorKind::Cancelled, at: None })
    }

    /// Sets the offset, unless an inner expression has set a closer one.
    pub(crate) fn at(mut self: Box<Self>, at: u32) -> Box<Self> {
        self.at.get_or_insert(at);
        self
    }
}
