//! What templates can see of Go's standard library: runes, numbers, `fmt`, `time` layouts.
//! pongo2 hands these through to the page byte by byte, so they are imitated byte by byte.

pub(crate) mod number;
pub(crate) mod quote;
pub(crate) mod runes;
pub(crate) mod sprintf;
pub(crate) mod time_layout;
mod verbs;
