//! The parts of Go's standard library that show in the output of templates: runes, numbers, `fmt`,
//! `time` layouts.
//!
//! pongo2 passes values to these functions and writes what they return, so the results must be
//! equal byte for byte. Each function names its Go counterpart. They know nothing of templates,
//! except that `sprintf` prints a [`Value`](super::value::Value).

pub(crate) mod number;
pub(crate) mod quote;
pub(crate) mod runes;
pub(crate) mod sprintf;
pub(crate) mod time_layout;
mod verbs;
