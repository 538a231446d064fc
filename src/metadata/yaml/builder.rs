//! From the parser's events to a tree of nodes, within the limits and without recursion.
//!
//! Aliases and merge keys are resolved here; duplicate keys and unknown tags are refused here. The
//! builder keeps a stack of open collections instead of recursing, so a deeply nested file cannot
//! overflow the thread's stack.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StructureStyle};

use super::location::write_key;
use super::scalar::{Scalar, ScalarTag};
use super::{ExpandedSize, KeyPath, Location, MappingEntry, Node, NodeContent};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The deepest tree that is built, whatever the limits say: trees are compared, written and dropped
/// by recursion, and this depth fits the 2 MiB stack of a thread.
const MAX_DEPTH: u64 = 255;

/// Reads the first document of `bytes`, which must be UTF-8. LXD ignores further documents, too.
///
/// # Errors
/// `LimitExceeded` for more bytes, depth, nodes or aliases than `limits` allows; `Malformed` for
/// text that is not YAML, a NUL, a duplicate key or an unknown tag.
pub(in super::super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Arc<Node>> {
    if bytes.len() as u64 > limits.metadata {
        return Err(Error::limit("metadata", limits.metadata, format!("metadata.yaml with {} bytes", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let location = Location::of_byte(bytes, error.valid_up_to());
        KeyPath::Root
            .malformed(location, "metadata.yaml is not UTF-8")
            .with_hint("save it as UTF-8, not as UTF-16 or Latin-1")
    })?;
    // The parser would take a NUL for the end of the text. Other readers do not, and would see
    // other values.
    if let Some(index) = text.find('\0') {
        return Err(KeyPath::Root.malformed(Location::of_byte(bytes, index), "a NUL character"));
    }

    // A byte order mark, which editors on Windows write. YAML 1.2 section 5.2 allows it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::new(text, limits);
    let mut parser = Parser::new_from_str_with_options(text, builder.options());
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| builder.syntax(&error))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder.event(event, &span)?;
    }
    builder.root.ok_or_else(|| Error::malformed("line 1, column 1: metadata.yaml is empty"))
}

/// The state of reading one document.
struct Builder<'a> {
    text: &'a str,
    limits: &'a Limits,
    /// The smaller of the caller's limit and [`MAX_DEPTH`].
    depth: u64,
    /// The collections that have started and not ended, outermost first.
    open: Vec<Frame>,
    /// Complete nodes by the parser's number of their anchor. An open one is missing, which refuses
    /// cycles.
    anchors: HashMap<usize, Arc<Node>>,
    nodes: u64,
    aliases: u64,
    /// Bytes of text that aliases stand for, over the whole document.
    copied: u64,
    root: Option<Arc<Node>>,
}

/// A collection that has started and not ended.
struct Frame {
    anchor: usize,
    location: Location,
    size: ExpandedSize,
    /// Whether it is in flow style (`[…]`, `{…}`), where tabs are allowed.
    flow: bool,
    content: OpenCollection,
}

/// The content of an open collection. `merges` holds the indexes of merge keys, `key` a key that
/// waits for its value.
enum OpenCollection {
    Sequence(Vec<Arc<Node>>),
    Mapping { entries: Vec<MappingEntry>, merges: Vec<usize>, key: Option<PendingKey> },
}

/// A key that has been read, before its value.
struct PendingKey {
    text: String,
    plain: bool,
    merge: bool,
    location: Location,
}

impl Frame {
    fn new(anchor: usize, location: Location, style: StructureStyle, content: OpenCollection) -> Self {
        let flow = style == StructureStyle::Flow;
        Self { anchor, location, size: ExpandedSize { nodes: 1, text: 0, height: 1 }, flow, content }
    }
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, limits: &'a Limits) -> Self {
        Self {
            text,
            limits,
            depth: limits.yaml_depth.min(MAX_DEPTH),
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            aliases: 0,
            copied: 0,
            root: None,
        }
    }

    fn options(&self) -> granit_parser::Options {
        let depth = usize::try_from(self.depth).unwrap_or(usize::MAX);
        granit_parser::options! {
            // As libyaml, from which LXD's reader descends.
            // The parser's defaults are stricter at the end of the file.
            block_scalar_eof_without_line_feed: true,
            flow_nesting_limit: depth,
            block_nesting_limit: depth,
        }
    }

    /// Handles one event of the parser.
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<()> {
        let location = Location::of(&span.start);
        if event.is_node() && self.is_indented_with_a_tab(span) {
            return Err(self.malformed(location, "a tab is no indentation"));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, location)?;
                if text.contains('\0') {
                    return Err(self.malformed(location, "a NUL character"));
                }
                let tag = match tag.as_deref() {
                    None => None,
                    Some(tag) => Some(ScalarTag::of(tag).ok_or_else(|| self.foreign(location, tag))?),
                };
                let size = ExpandedSize { nodes: 1, text: text.len() as u64, height: 0 };
                let scalar = Scalar::new(text, style == ScalarStyle::Plain, tag);
                self.complete(anchor, Node { content: NodeContent::Scalar(scalar), location, size })
            }
            Event::SequenceStart(style, anchor, tag) => {
                let content = OpenCollection::Sequence(Vec::new());
                self.open(tag.as_deref(), "seq", Frame::new(anchor, location, style, content))
            }
            Event::MappingStart(style, anchor, tag) => {
                let content = OpenCollection::Mapping { entries: Vec::new(), merges: Vec::new(), key: None };
                self.open(tag.as_deref(), "map", Frame::new(anchor, location, style, content))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, location),
            _ => Ok(()),
        }
    }

    /// Whether the blanks before a node of a block collection contain a tab.
    ///
    /// `granit-parser` refuses tabs only at the start of a line; libyaml, from which Go's `yaml.v2`
    /// descends, refuses all.
    fn is_indented_with_a_tab(&self, span: &Span) -> bool {
        let in_block = self.open.last().is_some_and(|frame| !frame.flow);
        let Some(before) = span.byte_range().and_then(|range| self.text.get(..range.start)).filter(|_| in_block) else {
            return false;
        };
        let blanks = before.len() - before.trim_end_matches([' ', '\t']).len();
        let (line, blanks) = before.split_at(before.len() - blanks);
        !span.is_empty() && blanks.contains('\t') && (line.is_empty() || line.ends_with(['\n', '\r']))
    }

    /// Starts a collection, after checking its depth, its tag, and that it is not used as a key.
    fn open(&mut self, tag: Option<&granit_parser::Tag>, kind: &str, frame: Frame) -> Result<()> {
        let location = frame.location;
        self.count(1, location)?;
        if self.open.len() as u64 >= self.depth {
            return Err(self.too_deep(location));
        }
        if let Some(tag) = tag
            && !tag.is_yaml_core_schema_tag(kind)
        {
            return Err(self.foreign(location, tag));
        }
        if matches!(&self.open.last().map(|frame| &frame.content), Some(OpenCollection::Mapping { key: None, .. })) {
            return Err(self.malformed(location, "a key must be a single value"));
        }
        self.open.push(frame);
        Ok(())
    }

    /// Ends the innermost collection and applies its merge keys.
    fn close(&mut self) -> Result<()> {
        // The parser pairs starts with ends.
        let Some(Frame { anchor, location, size, content, .. }) = self.open.pop() else { return Ok(()) };
        let content = match content {
            OpenCollection::Sequence(items) => NodeContent::Sequence(items),
            OpenCollection::Mapping { entries, merges, .. } => NodeContent::Mapping(self.merged(entries, &merges)?),
        };
        self.complete(anchor, Node { content, location, size })
    }

    /// Puts the node that an alias stands for, and charges it as if it were written out.
    ///
    /// Charging before sharing is what stops "billion laughs": nested aliases grow the charge
    /// exponentially, and the first one above the limit fails.
    fn alias(&mut self, anchor: usize, location: Location) -> Result<()> {
        let Some(node) = self.anchors.get(&anchor).map(Arc::clone) else {
            return Err(self.malformed(location, "an alias inside the value that it stands for"));
        };
        self.aliases += 1;
        if self.aliases > self.limits.alias_expansions {
            return Err(self.limit(
                "alias_expansions",
                self.limits.alias_expansions,
                location,
                "the number of aliases",
            ));
        }
        self.count(node.size.nodes, location)?;
        if self.open.len() as u64 + node.size.height > self.depth {
            return Err(self.too_deep(location));
        }
        // Without aliases a file cannot contain more text than its size. With aliases it must not
        // either.
        self.copied = self.copied.saturating_add(node.size.text);
        if self.copied > self.limits.metadata {
            return Err(self.limit("metadata", self.limits.metadata, location, "the text that aliases stand for"));
        }
        self.place_node(node, location)
    }

    /// Registers the node under its anchor and puts it into the tree.
    fn complete(&mut self, anchor: usize, node: Node) -> Result<()> {
        let location = node.location;
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.place_node(node, location)
    }

    /// Adds a complete node to the innermost open collection, or makes it the root.
    fn place_node(&mut self, node: Arc<Node>, location: Location) -> Result<()> {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.size.nodes = frame.size.nodes.saturating_add(node.size.nodes);
        frame.size.text = frame.size.text.saturating_add(node.size.text);
        frame.size.height = frame.size.height.max(node.size.height + 1);
        match &mut frame.content {
            OpenCollection::Sequence(items) => items.push(node),
            OpenCollection::Mapping { entries, merges, key } => match key.take() {
                Some(key) => {
                    if key.merge {
                        merges.push(entries.len());
                    }
                    entries.push(MappingEntry { key: key.text, plain: key.plain, location: key.location, value: node });
                }
                None => match read_key(&node, location) {
                    Ok(read) => *key = Some(read),
                    Err(what) => return Err(self.malformed(location, what)),
                },
            },
        }
        Ok(())
    }

    /// The entries with those of merge keys inserted where the merge key stood.
    ///
    /// An explicit entry wins over a merged one, and an earlier merged one over a later, as in YAML
    /// 1.1's `merge` type and in `yaml.v2`'s `decode.go`.
    fn merged(&self, entries: Vec<MappingEntry>, merges: &[usize]) -> Result<Vec<MappingEntry>> {
        let mut seen = HashSet::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            // The second merge key is a duplicate of the first; a quoted "<<" is no merge key.
            let merge = merges.binary_search(&index).is_ok();
            if !seen.insert((merge, entry.key.as_str())) {
                return Err(self.malformed(
                    entry.location,
                    format!("the key `{}` is here twice", super::location::Abbreviated(&entry.key)),
                ));
            }
        }
        if merges.is_empty() {
            return Ok(entries);
        }
        let mut keys: HashSet<String> =
            seen.into_iter().filter(|(merge, _)| !merge).map(|(_, key)| key.to_owned()).collect();
        let mut out = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            if merges.binary_search(&index).is_err() {
                out.push(entry);
                continue;
            }
            let sources = match &entry.value.content {
                NodeContent::Sequence(items) => items.as_slice(),
                _ => std::slice::from_ref(&entry.value),
            };
            for source in sources {
                let NodeContent::Mapping(merged) = &source.content else {
                    return Err(self.malformed(entry.location, "a merge key needs a map, or a list of maps"));
                };
                out.extend(merged.iter().filter(|entry| keys.insert(entry.key.clone())).cloned());
            }
        }
        Ok(out)
    }

    /// Charges nodes against `Limits::yaml_nodes`.
    fn count(&mut self, nodes: u64, location: Location) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.limits.yaml_nodes {
            return Err(self.limit("yaml_nodes", self.limits.yaml_nodes, location, "the number of values"));
        }
        Ok(())
    }

    fn too_deep(&self, location: Location) -> Error {
        self.limit("yaml_depth", self.depth, location, "nesting")
    }

    fn foreign(&self, location: Location, tag: &granit_parser::Tag) -> Error {
        self.malformed(
            location,
            format!("the tag `{}` is not known here", super::location::Abbreviated(&tag.original())),
        )
    }

    fn syntax(&self, error: &ScanError) -> Error {
        let location = Location::of(error.marker());
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => self.too_deep(location),
            kind => self.malformed(location, kind),
        }
    }

    fn malformed(&self, location: Location, what: impl fmt::Display) -> Error {
        Error::malformed(format!("{}: {what}", self.here(location)))
    }

    fn limit(&self, name: &'static str, value: u64, location: Location, what: &str) -> Error {
        Error::limit(name, value, format!("{}: {what}", self.here(location)))
    }

    /// The location and the path of keys of all open collections, for an error.
    fn here(&self, location: Location) -> String {
        let mut here = location.to_string();
        let start = here.len();
        for frame in &self.open {
            let first = here.len() == start;
            let mut step = String::new();
            // Writing into a `String` can't fail.
            let _ = match &frame.content {
                OpenCollection::Sequence(items) => write!(step, "[{}]", items.len()),
                OpenCollection::Mapping { key: Some(key), .. } => write_key(&mut step, &key.text, first),
                OpenCollection::Mapping { .. } => Ok(()),
            };
            if first && !step.is_empty() {
                here.push_str(", ");
            }
            here.push_str(&step);
        }
        here
    }
}

/// Checks that a node can be a key, and takes its text. Returns the reason if it cannot.
fn read_key(node: &Node, location: Location) -> Result<PendingKey, String> {
    let NodeContent::Scalar(scalar) = &node.content else {
        return Err("a key must be a single value".to_owned());
    };
    if scalar.is_merge() {
        return Ok(PendingKey { text: "<<".to_owned(), plain: false, merge: true, location });
    }
    let text = scalar.text()?.into_owned();
    if text.contains('\0') {
        return Err("a NUL character".to_owned());
    }
    Ok(PendingKey { plain: scalar.is_plain() && !scalar.is_null(), text, merge: false, location })
}
