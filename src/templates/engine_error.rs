//! What stops a template from the inside, before it is known which template it was.
//! The template turns it into an error that shows the place.

use std::borrow::Cow;

/// A fault and where it happened: a byte position of the source.
#[derive(Debug)]
pub(crate) struct EngineError {
    pub(crate) reason: EngineErrorKind,
    pub(crate) at: Option<u32>,
}

/// Why the template goes no further.
#[derive(Debug)]
pub(crate) enum EngineErrorKind {
    /// The template is wrong.
    Wrong(Cow<'static, str>),
    /// A bound is reached: its field in `Limits`, its value, and what is over it.
    Limit(&'static str, u64, &'static str),
    /// The caller asked to stop.
    Cancelled,
}

/// What the parts of the template engine give back.
pub(crate) type EngineResult<T> = Result<T, Box<EngineError>>;

impl EngineError {
    pub(crate) fn wrong(message: impl Into<Cow<'static, str>>) -> Box<Self> {
        Box::new(Self { reason: EngineErrorKind::Wrong(message.into()), at: None })
    }

    pub(crate) fn limit(name: &'static str, value: u64, what: &'static str) -> Box<Self> {
        Box::new(Self { reason: EngineErrorKind::Limit(name, value, what), at: None })
    }

    pub(crate) fn cancelled() -> Box<Self> {
        Box::new(Self { reason: EngineErrorKind::Cancelled, at: None })
    }

    /// Gives the place, unless a closer one is known.
    pub(crate) fn at(mut self: Box<Self>, at: u32) -> Box<Self> {
        self.at.get_or_insert(at);
        self
    }
}
