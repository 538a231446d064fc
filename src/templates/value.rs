//! The values of a template, with the Go types that pongo2 tells apart: a named string is no string.
//! Conversions between them are pongo2's, down to its surprises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::go::{number, runes};

/// A value as templates see it.
///
/// Bytes need not be UTF-8. Cloning is cheap.
///
/// ```
/// use lxd_image::templates::Value;
///
/// let nic = Value::map([("type", Value::from("nic")), ("hwaddr", Value::from("00:16:3e:11:22:33"))]);
/// let list = Value::list([Value::from(1), Value::from("x")]);
/// # let _ = (nic, list);
/// ```
#[derive(Debug, Clone)]
pub struct Value {
    pub(crate) data: Data,
    /// The output of a macro, which autoescape leaves alone.
    pub(crate) safe: bool,
}

/// What a value is. The comments give the Go type.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// `nil`
    Nil,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint8`, what indexing a string gives
    Byte(u8),
    /// `float64`
    Float(f64),
    /// `string`
    Str(Arc<[u8]>),
    /// `instance.TemplateTrigger`, a named string
    Trigger(Arc<[u8]>),
    /// A slice
    List(Arc<List>),
    /// A map with strings for keys
    Map(Arc<Map>),
    /// `*tagForLoopInformation`
    Loop(Arc<LoopInfo>),
    /// A field of a loop that is kept in a variable: Go keeps the place, so that it counts on
    Field(Arc<LoopInfo>, usize),
    /// A nil `*tagForLoopInformation`: nil to look at, yet not equal to nil
    NoLoop,
    /// `*tagCycleValue`
    Cycle(Arc<Cycle>),
    /// `tagBlockInformation`
    Block,
    /// `func`
    Function(Function),
}

/// What can be called.
#[derive(Debug, Clone)]
pub(crate) enum Function {
    /// `config_get(key, default)` over this configuration.
    ConfigGet(Arc<Map>),
    /// A macro of the template, and the scope that it was defined in.
    Macro { index: usize, scope: usize },
    /// `block.Super`, which finds no parent here.
    Super,
    /// A method without arguments that gives a text.
    Text(Arc<[u8]>),
}

/// A list, `[]string` or `[]interface {}`.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) strings: bool,
    pub(crate) items: Vec<Value>,
}

/// The Go type of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapType {
    Strings,
    StringMaps,
    Any,
    Devices,
    Device,
    Context,
}

/// A map, sorted by its keys: Go's own order is none.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) kind: MapType,
    pub(crate) entries: Vec<(Arc<[u8]>, Value)>,
}

impl Map {
    pub(crate) fn new(kind: MapType, mut entries: Vec<(Arc<[u8]>, Value)>) -> Self {
        // The last of several entries of one key wins, as in a Go map.
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, first| later.0 == first.0);
        Self { kind, entries }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Value> {
        let at = self.entries.binary_search_by(|(name, _)| name.as_ref().cmp(key)).ok()?;
        self.entries.get(at).map(|(_, value)| value)
    }
}

/// `forloop`: shared by everything that looks at the same loop, and written by the loop alone.
#[derive(Debug)]
pub(crate) struct LoopInfo {
    pub(crate) counter: AtomicUsize,
    pub(crate) counter0: AtomicUsize,
    pub(crate) revcounter: AtomicUsize,
    pub(crate) revcounter0: AtomicUsize,
    pub(crate) first: AtomicBool,
    pub(crate) last: AtomicBool,
    pub(crate) parent: Option<Arc<Self>>,
}

impl LoopInfo {
    /// The fields that the rounds change, the first of [`FIELDS`](Self::FIELDS).
    pub(crate) const CHANGING: usize = 6;

    /// The names of the fields, in Go's order.
    pub(crate) const FIELDS: [&[u8]; 7] =
        [b"Counter", b"Counter0", b"Revcounter", b"Revcounter0", b"First", b"Last", b"Parentloop"];

    pub(crate) fn new(parent: Option<Arc<Self>>) -> Self {
        Self {
            counter: AtomicUsize::new(0),
            counter0: AtomicUsize::new(0),
            revcounter: AtomicUsize::new(0),
            revcounter0: AtomicUsize::new(0),
            first: AtomicBool::new(true),
            last: AtomicBool::new(false),
            parent,
        }
    }

    pub(crate) fn field(&self, name: &[u8]) -> Option<Data> {
        let count = |number: &AtomicUsize| Data::Int(i64::try_from(number.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
        Some(match name {
            b"Counter" => count(&self.counter),
            b"Counter0" => count(&self.counter0),
            b"Revcounter" => count(&self.revcounter),
            b"Revcounter0" => count(&self.revcounter0),
            b"First" => Data::Bool(self.first.load(Ordering::Relaxed)),
            b"Last" => Data::Bool(self.last.load(Ordering::Relaxed)),
            b"Parentloop" => self.parent.clone().map_or(Data::NoLoop, Data::Loop),
            _ => return None,
        })
    }
}

/// What `cycle … as name` leaves behind: the tag it came from and its present value.
#[derive(Debug)]
pub(crate) struct Cycle {
    pub(crate) tag: usize,
    pub(crate) value: std::sync::Mutex<Value>,
}

impl Cycle {
    pub(crate) fn current(&self) -> Value {
        self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone().now()
    }
}

impl From<Data> for Value {
    fn from(data: Data) -> Self {
        Self { data, safe: false }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::bytes(text.as_bytes())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::bytes(text.into_bytes())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Data::Int(number).into()
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Data::Float(number).into()
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Data::Bool(truth).into()
    }
}

impl Value {
    /// Go's nil, which prints as nothing.
    pub const NIL: Self = Self { data: Data::Nil, safe: false };

    /// A Go string of any bytes.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Data::Str(bytes.into()).into()
    }

    /// A string of the type that the peers give to `trigger`, which equals no plain string.
    pub fn trigger(text: &str) -> Self {
        Data::Trigger(text.as_bytes().into()).into()
    }

    /// A list: `[]string` if it holds nothing but strings and is not empty, else `[]interface {}`.
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        let items: Vec<Self> = items.into_iter().collect();
        let strings = !items.is_empty() && items.iter().all(|item| matches!(item.data, Data::Str(_)));
        Data::List(Arc::new(List { strings, items })).into()
    }

    /// A map: `map[string]string`, `map[string]map[string]string` or `map[string]interface {}`, by
    /// what it holds.
    pub fn map<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries: Vec<_> = entries.into_iter().map(|(key, value)| (key.as_ref().as_bytes().into(), value)).collect();
        let all = |fits: fn(&Self) -> bool| !entries.is_empty() && entries.iter().all(|(_, value)| fits(value));
        let kind = if all(|value| matches!(value.data, Data::Str(_))) {
            MapType::Strings
        } else if all(|value| matches!(&value.data, Data::Map(map) if map.kind == MapType::Strings)) {
            MapType::StringMaps
        } else {
            MapType::Any
        };
        Data::Map(Arc::new(Map::new(kind, entries))).into()
    }

    /// The value as it is now, where it is a field of a loop that goes on.
    pub(crate) fn now(self) -> Self {
        match &self.data {
            Data::Field(info, index) => {
                let name = LoopInfo::FIELDS.get(*index).copied().unwrap_or(b"");
                Self { data: info.field(name).unwrap_or(Data::Nil), safe: self.safe }
            }
            _ => self,
        }
    }

    pub(crate) fn strings(items: Vec<Self>) -> Self {
        Data::List(Arc::new(List { strings: true, items })).into()
    }

    /// The value behind `cycle`'s pointer is looked at in few places; this is the text of it.
    pub(crate) fn text(&self) -> Arc<[u8]> {
        match &self.data {
            Data::Nil | Data::NoLoop => Arc::new([]),
            Data::Str(text) | Data::Trigger(text) => text.clone(),
            Data::Cycle(cycle) => match cycle.current().data {
                // A cycle is never stored inside a cycle, so that this ends.
                Data::Cycle(_) => Arc::new([]),
                data => Self::from(data).text(),
            },
            _ => {
                let mut out = Vec::new();
                self.print(&mut out);
                out.into()
            }
        }
    }

    /// Appends the text of the value.
    pub(crate) fn print(&self, out: &mut Vec<u8>) {
        use std::io::Write;
        match &self.data {
            Data::Nil | Data::NoLoop => {}
            Data::Bool(truth) => out.extend_from_slice(if *truth { b"True" } else { b"False" }),
            Data::Int(number) => drop(write!(out, "{number}")),
            Data::Byte(number) => drop(write!(out, "{number}")),
            Data::Float(number) => out.extend_from_slice(number::format(*number, b'f', Some(6)).as_bytes()),
            Data::Str(text) | Data::Trigger(text) => out.extend_from_slice(text),
            Data::Cycle(_) => out.extend_from_slice(&self.text()),
            Data::Loop(_) => out.extend_from_slice(b"<pongo2.tagForLoopInformation Value>"),
            _ => drop(write!(out, "<{} Value>", self.type_name())),
        }
    }

    /// The name of the Go type, as `%T` prints it.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.data {
            Data::Nil => "<nil>",
            Data::Bool(_) => "bool",
            Data::Int(_) | Data::Field(..) => "int",
            Data::Byte(_) => "uint8",
            Data::Float(_) => "float64",
            Data::Str(_) => "string",
            Data::Trigger(_) => "instance.TemplateTrigger",
            Data::List(list) => {
                if list.strings {
                    "[]string"
                } else {
                    "[]interface {}"
                }
            }
            Data::Map(map) => match map.kind {
                MapType::Strings => "map[string]string",
                MapType::StringMaps => "map[string]map[string]string",
                MapType::Any => "map[string]interface {}",
                MapType::Devices => "config.Devices",
                MapType::Device => "config.Device",
                MapType::Context => "pongo2.Context",
            },
            Data::Loop(_) | Data::NoLoop => "*pongo2.tagForLoopInformation",
            Data::Cycle(_) => "*pongo2.tagCycleValue",
            Data::Block => "pongo2.tagBlockInformation",
            Data::Function(_) => "func(...*pongo2.Value) *pongo2.Value",
        }
    }

    pub(crate) fn is_nil(&self) -> bool {
        matches!(self.data, Data::Nil | Data::NoLoop)
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self.data, Data::Str(_) | Data::Trigger(_))
    }

    pub(crate) fn is_integer(&self) -> bool {
        matches!(self.data, Data::Int(_) | Data::Byte(_))
    }

    pub(crate) fn is_float(&self) -> bool {
        matches!(self.data, Data::Float(_))
    }

    pub(crate) fn is_number(&self) -> bool {
        self.is_integer() || self.is_float()
    }

    /// Strings and lists can be sliced, indexed and joined.
    pub(crate) fn can_slice(&self) -> bool {
        self.is_string() || matches!(self.data, Data::List(_))
    }

    /// The value as an `int`: text by way of a float, anything else 0.
    pub(crate) fn integer(&self) -> i64 {
        match &self.data {
            Data::Int(number) => *number,
            Data::Byte(number) => i64::from(*number),
            Data::Float(number) => number::to_int(*number),
            Data::Str(text) | Data::Trigger(text) => integer_of(text),
            _ => 0,
        }
    }

    /// The value as a `float64`.
    pub(crate) fn float(&self) -> f64 {
        match &self.data {
            Data::Int(number) => *number as f64,
            Data::Byte(number) => f64::from(*number),
            Data::Float(number) => *number,
            Data::Str(text) | Data::Trigger(text) => number::parse_float(text).unwrap_or(0.0),
            _ => 0.0,
        }
    }

    /// Whether `if` takes the branch.
    pub(crate) fn truth(&self) -> bool {
        match &self.data {
            Data::Nil | Data::NoLoop | Data::Function(_) | Data::Field(..) => false,
            Data::Bool(truth) => *truth,
            Data::Int(number) => *number != 0,
            Data::Byte(number) => *number != 0,
            Data::Float(number) => *number != 0.0,
            Data::Str(text) | Data::Trigger(text) => !text.is_empty(),
            Data::List(list) => !list.items.is_empty(),
            Data::Map(map) => !map.entries.is_empty(),
            Data::Loop(_) | Data::Cycle(_) | Data::Block => true,
        }
    }

    /// `not`: a number stays a number.
    pub(crate) fn negated(&self) -> Self {
        match &self.data {
            Data::Int(_) | Data::Byte(_) => Self::from(i64::from(self.integer() == 0)),
            Data::Float(number) => Self::from(if *number == 0.0 { 1.1 } else { 0.0 }),
            _ => Self::from(!self.truth()),
        }
    }

    /// Runes of a string, entries of a list or a map, else 0.
    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::Str(text) | Data::Trigger(text) => runes::count(text),
            Data::List(list) => list.items.len(),
            Data::Map(map) => map.entries.len(),
            _ => 0,
        }
    }

    /// `==`; `None` where Go panics because the type has no equality.
    pub(crate) fn equals(&self, other: &Self) -> Option<bool> {
        Some(match (&self.data, &other.data) {
            (Data::Nil, Data::Nil) | (Data::NoLoop, Data::NoLoop) => true,
            (Data::Bool(a), Data::Bool(b)) => a == b,
            (Data::Int(_) | Data::Byte(_), Data::Int(_) | Data::Byte(_)) => self.integer() == other.integer(),
            (Data::Float(a), Data::Float(b)) => a == b,
            (Data::Str(a), Data::Str(b)) | (Data::Trigger(a), Data::Trigger(b)) => a == b,
            (Data::List(a), Data::List(b)) if a.strings == b.strings => return None,
            (Data::Map(a), Data::Map(b)) if a.kind == b.kind => return None,
            (Data::Block, Data::Block) | (Data::Function(_), Data::Function(_)) => return None,
            (Data::Loop(a), Data::Loop(b)) => Arc::ptr_eq(a, b),
            (Data::Cycle(a), Data::Cycle(b)) => Arc::ptr_eq(a, b),
            _ => false,
        })
    }

    /// `other in self`; `None` where Go panics.
    pub(crate) fn contains(&self, other: &Self) -> Option<bool> {
        Some(match &self.data {
            Data::Str(text) | Data::Trigger(text) => runes::contains(text, &other.text()),
            Data::List(list) => {
                for item in &list.items {
                    if other.equals(item)? {
                        return Some(true);
                    }
                }
                false
            }
            Data::Map(map) => match &other.data {
                Data::Str(key) => map.get(key).is_some(),
                Data::Int(_) => return None,
                _ => false,
            },
            Data::Loop(_) => LoopInfo::FIELDS.contains(&other.text().as_ref()),
            Data::Cycle(_) => matches!(other.text().as_ref(), b"node" | b"value"),
            Data::Block => matches!(other.text().as_ref(), b"ctx" | b"wrappers"),
            _ => false,
        })
    }

    /// The item of a list, or the rune of a string as a string.
    pub(crate) fn item(&self, index: usize) -> Self {
        match &self.data {
            Data::List(list) => list.items.get(index).cloned().unwrap_or(Self::NIL),
            Data::Str(text) | Data::Trigger(text) => {
                Self::bytes(runes::runes(text).nth(index).map_or(Vec::new(), |(rune, _)| runes::string(rune)))
            }
            _ => Self::NIL,
        }
    }
}

/// The text as an `int`, by way of a float.
pub(crate) fn integer_of(text: &[u8]) -> i64 {
    number::parse_float(text).map_or(0, number::to_int)
}
