//! Where in a document something is: line and column for editors, keys for people.
//!
//! Errors begin with it: `line 4, column 7, properties.os: …`.

use std::fmt;

use granit_parser::Marker;

use crate::error::Error;

/// A line and a column, both counted from 1.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Location {
    line: usize,
    column: usize,
}

impl Location {
    /// The location of a parser's marker, which counts columns from 0.
    pub(super) fn of(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }

    /// The location of a byte in text that may not be UTF-8. The column counts bytes.
    pub(super) fn of_byte(bytes: &[u8], index: usize) -> Self {
        let before = bytes.get(..index).unwrap_or(bytes);
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        Self { line: before.iter().filter(|byte| **byte == b'\n').count() + 1, column: before.len() - line_start + 1 }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The keys that lead to a node, linked from the inside out, so that descending allocates nothing.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum KeyPath<'a> {
    Root,
    Key(&'a KeyPath<'a>, &'a str),
    Index(&'a KeyPath<'a>, usize),
}

impl<'a> KeyPath<'a> {
    pub(in super::super) const fn key(&'a self, key: &'a str) -> Self {
        KeyPath::Key(self, key)
    }

    pub(in super::super) const fn index(&'a self, index: usize) -> Self {
        KeyPath::Index(self, index)
    }

    /// Creates a `Malformed` error for this node.
    pub(in super::super) fn malformed(&self, location: Location, what: impl fmt::Display) -> Error {
        Error::malformed(match self {
            KeyPath::Root => format!("{location}: {what}"),
            _ => format!("{location}, {self}: {what}"),
        })
    }
}

impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyPath::Root => Ok(()),
            KeyPath::Key(parent, key) => {
                parent.fmt(f)?;
                write_key(f, key, matches!(parent, KeyPath::Root))
            }
            KeyPath::Index(parent, index) => {
                parent.fmt(f)?;
                write!(f, "[{index}]")
            }
        }
    }
}

/// Writes a simple key with a dot before it, any other in brackets:
/// `properties["requirements.cpu"]`.
pub(super) fn write_key(out: &mut dyn fmt::Write, key: &str, first: bool) -> fmt::Result {
    let simple = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    if !key.is_empty() && key.len() <= 64 && key.chars().all(simple) {
        return write!(out, "{}{key}", if first { "" } else { "." });
    }
    write!(out, "[\"{}\"]", Abbreviated(key))
}

/// The first 64 characters of a text of the document, for errors. Keys can be megabytes long.
pub(in super::super) struct Abbreviated<'a>(pub(in super::super) &'a str);

impl fmt::Display for Abbreviated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(64) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}
