//! Tar in all its dialects: a strict streaming reader, and a writer of ustar with PAX records.
//!
//! In the flow of data this module stands behind the codec: [`TarReader`] takes decoded chunks and
//! gives members, each an [`Entry`](super::Entry) with its data in pieces. It knows blocks and
//! records. What a member means in an image is decided in `layout`, and whether it may be written
//! in `extract` and `namespace`.
//!
//! Format facts: POSIX.1-1988 (ustar), POSIX.1-2001 "pax Interchange Format" (extended headers),
//! and the GNU tar manual, chapters "Basic Tar Format" and "Storing Sparse Files". What real
//! archives do differently is noted where it is handled.
//!
//! Invariants against hostile archives:
//!
//! * Each member has one size, decided once from header and extended header, so that no two readers
//!   see different members in one archive (the class of CVE-2025-62518 in other tar libraries).
//! * Names are normalised in `path` and never contain `..` or start with a slash.
//! * Nothing is allocated by a size that a header states: extended headers, names and maps are
//!   compared with [`Limits`](crate::Limits) first, and data passes in chunks of a bounded pool.
//! * What this reader can't represent is either refused or reported as an omission, never dropped
//!   silently.

mod acl;
mod fields;
mod global;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub(crate) use header::{BLOCK, Header, SIZE};
pub(crate) use pax::{FIRST_SECOND, LAST_SECOND};
pub(crate) use reader::TarReader;
pub(crate) use sparse::SparseMap;
pub(crate) use writer::TarWriter;
