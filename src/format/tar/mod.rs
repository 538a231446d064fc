//! Tar in all its dialects: a strict streaming reader, and a writer of ustar with PAX records.
//! Knows blocks and records; what a member means in an image is judged elsewhere.

mod acl;
mod fields;
mod global;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub(crate) use header::{BLOCK, Header};
pub(crate) use pax::{FIRST_SECOND, LAST_SECOND};
pub(crate) use reader::TarReader;
pub(crate) use sparse::SparseMap;
pub(crate) use writer::TarWriter;
