//! The part of YAML that `metadata.yaml` needs: an ordered tree that keeps how scalars were
//! written.
//!
//! [`parse`] (`builder`) turns the parser's events into a tree of [`Node`]s, with aliases resolved
//! and merge keys applied; [`Emitter`] (`emit`) writes YAML from a tree or from texts. `scalar` and
//! `number` hold the typing rules of Go's `yaml.v2`, which LXD uses; `location` the places that
//! errors name.
//!
//! Invariants of a tree: it has at most [`Limits::yaml_depth`](crate::Limits) levels and
//! `yaml_nodes` nodes with aliases counted as often as they occur, no duplicate keys, no NUL, and
//! no unknown tag. Recursion over a tree is therefore safe.

mod builder;
mod emit;
mod location;
mod number;
mod scalar;

use std::sync::Arc;

pub(super) use builder::parse;
pub(super) use emit::Emitter;
pub(super) use location::{KeyPath, Location};
pub(super) use scalar::Scalar;
pub(crate) use scalar::decode_base64;

/// One value of the document, with aliases resolved and merge keys applied.
///
/// Children are shared by reference count, so an alias costs nothing until its text is copied.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: NodeContent,
    pub(super) location: Location,
    /// How much the node counts when an alias repeats it.
    size: ExpandedSize,
}

/// The value of a node. Mappings keep the order of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NodeContent {
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<MappingEntry>),
}

/// A key of a mapping and its value.
#[derive(Debug, Clone)]
pub(super) struct MappingEntry {
    pub(super) key: String,
    /// Whether the key is written without quotes again: `1` and `"1"` are different keys to some
    /// readers.
    plain: bool,
    pub(super) location: Location,
    pub(super) value: Arc<Node>,
}

/// The size of a node with all its aliases written out, for charging an alias before it is
/// expanded.
#[derive(Debug, Clone, Copy, Default)]
struct ExpandedSize {
    /// The number of nodes, itself included.
    nodes: u64,
    /// The bytes of all scalars.
    text: u64,
    /// The levels of collections; 0 for a scalar.
    height: u64,
}

// The location is not part of the value: a file with other line breaks is equal.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for Node {}

impl PartialEq for MappingEntry {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, self.plain, &self.value) == (&other.key, other.plain, &other.value)
    }
}

impl Eq for MappingEntry {}

impl Node {
    /// What the node is, in words for an error.
    pub(super) fn kind(&self) -> &'static str {
        match self.content {
            NodeContent::Scalar(_) => "a single value",
            NodeContent::Sequence(_) => "a list",
            NodeContent::Mapping(_) => "a map",
        }
    }

    /// Whether the node is null, written as `~`, `null` or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, NodeContent::Scalar(scalar) if scalar.is_null())
    }
}
