//! Writes YAML in block style, two spaces a level, so that every reader sees the same strings.
//!
//! The output depends on nothing but the values. Text is unquoted only if all readers agree that it
//! is a string; otherwise it is in double quotes, on one line.

use std::fmt::Write;

use super::scalar::is_plain_string;
use super::{MappingEntry, Node, NodeContent, Scalar};

/// The longest key in the short form. Readers look for the colon only within 1,024 characters (YAML
/// 1.2 section 7.4.2), so longer keys are written with `?`.
const MAX_SIMPLE_KEY: usize = 512;

/// YAML text under construction, at a level of nesting.
#[derive(Debug, Default)]
pub(in super::super) struct Emitter {
    out: String,
    level: usize,
}

impl Emitter {
    /// The finished text.
    pub(in super::super) fn finish(self) -> String {
        self.out
    }

    /// Writes `key:`, then what `value` writes behind it.
    pub(in super::super) fn entry(&mut self, key: &str, value: impl FnOnce(&mut Self)) {
        let mut written = String::with_capacity(key.len() + 2);
        write_text(&mut written, key);
        self.written_key(&written, value);
    }

    /// Writes a number, or other text that is known to be a scalar as it is.
    pub(in super::super) fn raw(&mut self, text: &str) {
        self.out.push(' ');
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// Writes a string, in quotes if some reader could take it for another type.
    pub(in super::super) fn text(&mut self, text: &str) {
        self.out.push(' ');
        write_text(&mut self.out, text);
        self.out.push('\n');
    }

    /// Writes a list of strings.
    pub(in super::super) fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) {
        if texts.len() == 0 {
            return self.raw("[]");
        }
        self.nested(|emitter| {
            for text in texts {
                emitter.item(|emitter| emitter.text(text));
            }
        });
    }

    /// Writes a mapping of strings.
    pub(in super::super) fn text_map<'a>(&mut self, pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>) {
        if pairs.len() == 0 {
            return self.raw("{}");
        }
        self.nested(|emitter| {
            for (key, value) in pairs {
                emitter.entry(key, |emitter| emitter.text(value));
            }
        });
    }

    /// Writes a block one level deeper.
    pub(in super::super) fn nested(&mut self, block: impl FnOnce(&mut Self)) {
        self.out.push('\n');
        self.level += 1;
        block(self);
        self.level -= 1;
    }

    /// Writes an entry whose key this library does not know, with the types that it was read with.
    pub(in super::super) fn unknown(&mut self, entry: &MappingEntry) {
        if entry.plain {
            self.written_key(&entry.key, |emitter| emitter.node(&entry.value));
        } else {
            self.entry(&entry.key, |emitter| emitter.node(&entry.value));
        }
    }

    // Recursion is safe: reading bounds the depth.
    fn node(&mut self, node: &Node) {
        match &node.content {
            NodeContent::Scalar(scalar) => self.scalar(scalar),
            NodeContent::Sequence(items) if items.is_empty() => self.raw("[]"),
            NodeContent::Mapping(entries) if entries.is_empty() => self.raw("{}"),
            NodeContent::Sequence(items) => self.nested(|emitter| {
                for item in items {
                    emitter.item(|emitter| emitter.node(item));
                }
            }),
            NodeContent::Mapping(entries) => self.nested(|emitter| {
                for entry in entries {
                    emitter.unknown(entry);
                }
            }),
        }
    }

    /// Writes a scalar with its tag.
    fn scalar(&mut self, scalar: &Scalar) {
        if let Some(tag) = scalar.tag_name() {
            self.out.push_str(" !!");
            self.out.push_str(tag);
        }
        if scalar.is_plain() {
            self.raw(scalar.raw());
        } else if scalar.tag_name().is_some() {
            self.out.push(' ');
            write_quoted(&mut self.out, scalar.raw());
            self.out.push('\n');
        } else {
            self.text(scalar.raw());
        }
    }

    /// Writes a list item.
    fn item(&mut self, value: impl FnOnce(&mut Self)) {
        self.indent();
        self.out.push('-');
        value(self);
    }

    /// Writes a key that is quoted already if it must be.
    fn written_key(&mut self, written: &str, value: impl FnOnce(&mut Self)) {
        self.indent();
        if written.len() > MAX_SIMPLE_KEY {
            self.out.push_str("? ");
            self.out.push_str(written);
            self.out.push('\n');
            self.indent();
        } else {
            self.out.push_str(written);
        }
        self.out.push(':');
        value(self);
    }

    fn indent(&mut self) {
        self.out.extend(std::iter::repeat_n("  ", self.level));
    }
}

/// Appends a string, quoted if needed.
fn write_text(out: &mut String, text: &str) {
    if is_plain_string(text) {
        out.push_str(text);
    } else {
        write_quoted(out, text);
    }
}

/// Appends a string in double quotes, on one line. Everything that YAML does not count as printable
/// is escaped (YAML 1.2 section 5.1).
fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~'
            | '\u{a1}'..='\u{2027}'
            | '\u{202a}'..='\u{d7ff}'
            | '\u{e000}'..='\u{fefe}'
            | '\u{ff00}'..='\u{fffd}'
            | '\u{10000}'.. => out.push(character),
            // Writing into a `String` can't fail.
            other if u32::from(other) <= 0xff => drop(write!(out, "\\x{:02X}", u32::from(other))),
            other => drop(write!(out, "\\u{:04X}", u32::from(other))),
        }
    }
    out.push('"');
}
