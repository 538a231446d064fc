//! Just enough YAML for `metadata.yaml`: an ordered tree that keeps how scalars were written.
//! Reading ends in a tree of [`Node`]s, writing begins from one or from plain texts.

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
/// Children are shared, so that an alias costs nothing until somebody copies its texts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: NodeContent,
    pub(super) location: Location,
    size: ExpandedSize,
}

/// What a node holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NodeContent {
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<MappingEntry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct MappingEntry {
    pub(super) key: String,
    /// To be written without quotes again, as it was found: `1` and `"1"` differ to some readers.
    plain: bool,
    pub(super) location: Location,
    pub(super) value: Arc<Node>,
}

/// How large a node is with all its aliases written out.
#[derive(Debug, Clone, Copy, Default)]
struct ExpandedSize {
    nodes: u64,
    text: u64,
    height: u64,
}

// Where something stood is no part of what it is.
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
    /// What the node is, for a sentence.
    pub(super) fn kind(&self) -> &'static str {
        match self.content {
            NodeContent::Scalar(_) => "a single value",
            NodeContent::Sequence(_) => "a list",
            NodeContent::Mapping(_) => "a map",
        }
    }

    /// Null, or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, NodeContent::Scalar(scalar) if scalar.is_null())
    }
}
