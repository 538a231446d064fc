//! Templates: the corpus of pongo2's answers, the bounds, the errors, and random templates.
//! Contexts come as JSON, in the format of the corpus.

mod apply;
mod cases;
mod corpus;
mod differential;
mod errors;
mod grammar;
mod limits;
mod regressions;
mod words;

pub(crate) use cases::read_context;
