//! Values of templates, with the Go types that pongo2 tells apart (`value.go`).
//!
//! [`Value`] is public and opaque; [`GoValue`] is what the engine matches on. Cloning shares texts,
//! lists and maps.
//!
//! Types matter: `==` is False between an int and a float, printing a list shows the name of its
//! type, and the named string type of `trigger` equals no string. The conversions are pongo2's,
//! including their surprises:
//!
//! | value | prints as | `if` | as an int | as a float | length |
//! |---|---|---|---|---|---|
//! | nil, undefined | nothing | false | 0 | 0 | 0 |
//! | bool | `True`, `False` | itself | 0 | 0 | 0 |
//! | int | digits | not 0 | itself | exact up to 2⁵³ | 0 |
//! | float | six decimals | not 0 | cut; out of range: the smallest int | itself | 0 |
//! | text | itself | not empty | by way of a float; 0 if it is not a number | what it spells, or 0 | runes |
//! | list | `<[]string Value>` | not empty | 0 | 0 | items |
//! | map | `<map[string]string Value>` | not empty | 0 | 0 | keys |
//! | function | `<func(…) Value>` | false | 0 | 0 | 0 |
//!
//! Text indexes, and loops over a text, go by bytes; lengths, slices and most filters by runes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::go::{number, runes};

/// A value of a template's variable: nil, a boolean, an integer, a float, a text, a list or a map.
///
/// Texts are bytes and need not be UTF-8. Cloning is cheap. For a context in JSON,
/// [`Context::from_json`](super::Context::from_json) makes the values.
///
/// ```
/// use lxd_image::templates::{Context, Dialect, Template, Value};
/// use lxd_image::Limits;
///
/// let nic = Value::map([("type", Value::from("nic")), ("mtu", Value::from(1500))]);
/// let context = Context::new().variable("nics", Value::list([nic]));
/// let source = b"{% for nic in nics %}{{ nic.type }} {{ nic.mtu / 2 }}{% endfor %}";
/// let template = Template::parse(source, Dialect::Lxd, &Limits::default())?;
/// assert_eq!(template.render(&context, &Limits::default())?, b"nic 750");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Value {
    pub(crate) data: GoValue,
    /// Whether autoescape leaves the value alone: the output of a macro.
    pub(crate) safe: bool,
}

/// The kinds of values. Each names its Go type.
#[derive(Debug, Clone)]
pub(crate) enum GoValue {
    /// `nil`
    Nil,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint8`, the result of indexing a string
    Byte(u8),
    /// `float64`
    Float(f64),
    /// `string`
    Str(Arc<[u8]>),
    /// `instance.TemplateTrigger`, LXD's named string type
    Trigger(Arc<[u8]>),
    /// A slice
    List(Arc<List>),
    /// A map with strings for keys
    Map(Arc<Map>),
    /// `*tagForLoopInformation`, the variable `forloop`
    Loop(Arc<LoopInfo>),
    /// A field of `forloop` kept in a variable: pongo2 keeps a reference to the field, so it goes
    /// on counting
    Field(Arc<LoopInfo>, usize),
    /// A nil `*tagForLoopInformation`, the `Parentloop` of an outermost loop: prints as nil, is not
    /// equal to nil
    NoLoop,
    /// `*tagCycleValue`, the variable of `cycle … as name`
    Cycle(Arc<Cycle>),
    /// `tagBlockInformation`, the variable `block`
    Block,
    /// `func`
    Function(Function),
}

/// The functions that a template can call.
#[derive(Debug, Clone)]
pub(crate) enum Function {
    /// `config_get(key, default)` over this configuration.
    ConfigGet(Arc<Map>),
    /// A macro of the template, and the scope in which it was defined.
    Macro { index: usize, scope: usize },
    /// `block.Super`, which is empty because there are no parent templates.
    Super,
    /// A method without arguments whose result is known.
    Text(Arc<[u8]>),
}

/// A list: `[]string` if `strings` is set, else `[]interface {}`.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) strings: bool,
    pub(crate) items: Vec<Value>,
}

/// The Go type of a map, which shows when the map is printed or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapType {
    Strings,
    StringMaps,
    Any,
    Devices,
    Device,
    Context,
}

/// A map with text keys, sorted by key. Go's maps have no order, so any order is as good, and this
/// one is repeatable.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) kind: MapType,
    pub(crate) entries: Vec<(Arc<[u8]>, Value)>,
}

impl Map {
    /// Builds a map. The last of several entries with one key wins, as in Go.
    pub(crate) fn new(kind: MapType, mut entries: Vec<(Arc<[u8]>, Value)>) -> Self {
        // The sort is stable and `dedup` keeps the first: reversing makes the last entry the first.
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, first| later.0 == first.0);
        Self { kind, entries }
    }

    /// The value of a key, by binary search.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Value> {
        let at = self.entries.binary_search_by(|(name, _)| name.as_ref().cmp(key)).ok()?;
        self.entries.get(at).map(|(_, value)| value)
    }
}

/// The variable `forloop`, written by its loop and shared with all variables that refer to it.
///
/// Atomics only because values must be `Sync`: a rendering is single-threaded.
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
    /// The number of [`FIELDS`](Self::FIELDS), from the first, that change from round to round.
    pub(crate) const CHANGING: usize = 6;

    /// The names of the fields in the order of the Go struct. Go exports only capitalised names, so
    /// templates write `forloop.Counter`.
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

    /// The present value of a field; `None` for other names.
    pub(crate) fn field(&self, name: &[u8]) -> Option<GoValue> {
        let count =
            |number: &AtomicUsize| GoValue::Int(i64::try_from(number.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
        Some(match name {
            b"Counter" => count(&self.counter),
            b"Counter0" => count(&self.counter0),
            b"Revcounter" => count(&self.revcounter),
            b"Revcounter0" => count(&self.revcounter0),
            b"First" => GoValue::Bool(self.first.load(Ordering::Relaxed)),
            b"Last" => GoValue::Bool(self.last.load(Ordering::Relaxed)),
            b"Parentloop" => self.parent.clone().map_or(GoValue::NoLoop, GoValue::Loop),
            _ => return None,
        })
    }
}

/// The variable of `cycle … as name`: the tag it belongs to, and its present item.
#[derive(Debug)]
pub(crate) struct Cycle {
    pub(crate) tag: usize,
    pub(crate) value: std::sync::Mutex<Value>,
}

impl Cycle {
    /// The present item.
    pub(crate) fn current(&self) -> Value {
        self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone().now()
    }
}

impl From<GoValue> for Value {
    fn from(data: GoValue) -> Self {
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
        GoValue::Int(number).into()
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        GoValue::Float(number).into()
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        GoValue::Bool(truth).into()
    }
}

impl Value {
    /// Go's nil: undefined. It prints as nothing.
    pub const NIL: Self = Self { data: GoValue::Nil, safe: false };

    /// A text of any bytes. Text that is UTF-8 is shorter to write as `Value::from("…")`.
    ///
    /// ```
    /// use lxd_image::templates::{Context, Dialect, Template, Value};
    /// use lxd_image::Limits;
    ///
    /// let context = Context::new().variable("raw", Value::bytes(&b"\xff\x00"[..]));
    /// let template = Template::parse(b"{{ raw }}", Dialect::Lxd, &Limits::default())?;
    /// assert_eq!(template.render(&context, &Limits::default())?, b"\xff\x00");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        GoValue::Str(bytes.into()).into()
    }

    /// A text of the type that LXD and Incus give to `trigger`, which equals no other text.
    pub fn trigger(text: &str) -> Self {
        GoValue::Trigger(text.as_bytes().into()).into()
    }

    /// A list. Its Go type is `[]string` if it has items and all are texts, else `[]interface {}`.
    ///
    /// The type shows where a template prints the list itself, and decides whether `sorted` has an
    /// effect.
    ///
    /// ```
    /// use lxd_image::templates::{Context, Dialect, Template, Value};
    /// use lxd_image::Limits;
    ///
    /// let context = Context::new().variable("names", Value::list(["b", "a"].map(Value::from)));
    /// let source = b"{{ names }}{% for name in names sorted %} {{ name }}{% endfor %}";
    /// let template = Template::parse(source, Dialect::Lxd, &Limits::default())?;
    /// assert_eq!(template.render(&context, &Limits::default())?, b"<[]string Value> a b");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        let items: Vec<Self> = items.into_iter().collect();
        let strings = !items.is_empty() && items.iter().all(|item| matches!(item.data, GoValue::Str(_)));
        GoValue::List(Arc::new(List { strings, items })).into()
    }

    /// A map. Its Go type follows from its values: `map[string]string`,
    /// `map[string]map[string]string` or `map[string]interface {}`. Empty maps are of the last
    /// kind.
    pub fn map<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries: Vec<_> = entries.into_iter().map(|(key, value)| (key.as_ref().as_bytes().into(), value)).collect();
        let all = |fits: fn(&Self) -> bool| !entries.is_empty() && entries.iter().all(|(_, value)| fits(value));
        let kind = if all(|value| matches!(value.data, GoValue::Str(_))) {
            MapType::Strings
        } else if all(|value| matches!(&value.data, GoValue::Map(map) if map.kind == MapType::Strings)) {
            MapType::StringMaps
        } else {
            MapType::Any
        };
        GoValue::Map(Arc::new(Map::new(kind, entries))).into()
    }

    /// The value at this moment, if it is a field of a running loop; else the value itself.
    pub(crate) fn now(self) -> Self {
        match &self.data {
            GoValue::Field(info, index) => {
                let name = LoopInfo::FIELDS.get(*index).copied().unwrap_or(b"");
                Self { data: info.field(name).unwrap_or(GoValue::Nil), safe: self.safe }
            }
            _ => self,
        }
    }

    /// A `[]string`, which may be empty.
    pub(crate) fn strings(items: Vec<Self>) -> Self {
        GoValue::List(Arc::new(List { strings: true, items })).into()
    }

    /// The value as text, as printing shows it (`Value.String`). Shares the bytes of a text.
    pub(crate) fn text(&self) -> Arc<[u8]> {
        match &self.data {
            GoValue::Nil | GoValue::NoLoop => Arc::new([]),
            GoValue::Str(text) | GoValue::Trigger(text) => text.clone(),
            GoValue::Cycle(cycle) => match cycle.current().data {
                // A cycle is never stored inside a cycle, so that this ends.
                GoValue::Cycle(_) => Arc::new([]),
                data => Self::from(data).text(),
            },
            _ => {
                let mut out = Vec::new();
                self.print(&mut out);
                out.into()
            }
        }
    }

    /// Appends the value as text.
    pub(crate) fn print(&self, out: &mut Vec<u8>) {
        use std::io::Write;
        match &self.data {
            GoValue::Nil | GoValue::NoLoop => {}
            GoValue::Bool(truth) => out.extend_from_slice(if *truth { b"True" } else { b"False" }),
            GoValue::Int(number) => drop(write!(out, "{number}")),
            GoValue::Byte(number) => drop(write!(out, "{number}")),
            GoValue::Float(number) => out.extend_from_slice(number::format(*number, b'f', Some(6)).as_bytes()),
            GoValue::Str(text) | GoValue::Trigger(text) => out.extend_from_slice(text),
            GoValue::Cycle(_) => out.extend_from_slice(&self.text()),
            // pongo2 prints the type that the pointer refers to (`reflect.Indirect`), not the
            // pointer's.
            GoValue::Loop(_) => out.extend_from_slice(b"<pongo2.tagForLoopInformation Value>"),
            _ => drop(write!(out, "<{} Value>", self.type_name())),
        }
    }

    /// The name of the Go type, as `fmt`'s `%T` prints it.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.data {
            GoValue::Nil => "<nil>",
            GoValue::Bool(_) => "bool",
            GoValue::Int(_) | GoValue::Field(..) => "int",
            GoValue::Byte(_) => "uint8",
            GoValue::Float(_) => "float64",
            GoValue::Str(_) => "string",
            GoValue::Trigger(_) => "instance.TemplateTrigger",
            GoValue::List(list) => {
                if list.strings {
                    "[]string"
                } else {
                    "[]interface {}"
                }
            }
            GoValue::Map(map) => match map.kind {
                MapType::Strings => "map[string]string",
                MapType::StringMaps => "map[string]map[string]string",
                MapType::Any => "map[string]interface {}",
                MapType::Devices => "config.Devices",
                MapType::Device => "config.Device",
                MapType::Context => "pongo2.Context",
            },
            GoValue::Loop(_) | GoValue::NoLoop => "*pongo2.tagForLoopInformation",
            GoValue::Cycle(_) => "*pongo2.tagCycleValue",
            GoValue::Block => "pongo2.tagBlockInformation",
            GoValue::Function(_) => "func(...*pongo2.Value) *pongo2.Value",
        }
    }

    pub(crate) fn is_nil(&self) -> bool {
        matches!(self.data, GoValue::Nil | GoValue::NoLoop)
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self.data, GoValue::Str(_) | GoValue::Trigger(_))
    }

    pub(crate) fn is_integer(&self) -> bool {
        matches!(self.data, GoValue::Int(_) | GoValue::Byte(_))
    }

    pub(crate) fn is_float(&self) -> bool {
        matches!(self.data, GoValue::Float(_))
    }

    pub(crate) fn is_number(&self) -> bool {
        self.is_integer() || self.is_float()
    }

    /// Whether the value can be sliced, indexed and joined (`Value.CanSlice`).
    pub(crate) fn can_slice(&self) -> bool {
        self.is_string() || matches!(self.data, GoValue::List(_))
    }

    /// The value as `int` (`Value.Integer`): a text by way of a float, a boolean or nil as 0.
    pub(crate) fn integer(&self) -> i64 {
        match &self.data {
            GoValue::Int(number) => *number,
            GoValue::Byte(number) => i64::from(*number),
            GoValue::Float(number) => number::to_int(*number),
            GoValue::Str(text) | GoValue::Trigger(text) => integer_of(text),
            _ => 0,
        }
    }

    /// The value as `float64` (`Value.Float`), with the same conversions.
    pub(crate) fn float(&self) -> f64 {
        match &self.data {
            GoValue::Int(number) => *number as f64,
            GoValue::Byte(number) => f64::from(*number),
            GoValue::Float(number) => *number,
            GoValue::Str(text) | GoValue::Trigger(text) => number::parse_float(text).unwrap_or(0.0),
            _ => 0.0,
        }
    }

    /// Whether `if` takes its branch (`Value.IsTrue`). The texts `0` and `false` are true.
    pub(crate) fn truth(&self) -> bool {
        match &self.data {
            // Kinds that `IsTrue` does not list are false: functions, and references to fields.
            GoValue::Nil | GoValue::NoLoop | GoValue::Function(_) | GoValue::Field(..) => false,
            GoValue::Bool(truth) => *truth,
            GoValue::Int(number) => *number != 0,
            GoValue::Byte(number) => *number != 0,
            GoValue::Float(number) => *number != 0.0,
            GoValue::Str(text) | GoValue::Trigger(text) => !text.is_empty(),
            GoValue::List(list) => !list.items.is_empty(),
            GoValue::Map(map) => !map.entries.is_empty(),
            GoValue::Loop(_) | GoValue::Cycle(_) | GoValue::Block => true,
        }
    }

    /// The result of `not` (`Value.Negate`). A number stays a number, and the negation of 0.0 is
    /// 1.1.
    pub(crate) fn negated(&self) -> Self {
        match &self.data {
            GoValue::Int(_) | GoValue::Byte(_) => Self::from(i64::from(self.integer() == 0)),
            // 1.1 is what the Go code says; every float that is not zero would be true.
            GoValue::Float(number) => Self::from(if *number == 0.0 { 1.1 } else { 0.0 }),
            _ => Self::from(!self.truth()),
        }
    }

    /// The length (`Value.Len`): runes of a text, entries of a list or map, else 0.
    pub(crate) fn len(&self) -> usize {
        match &self.data {
            GoValue::Str(text) | GoValue::Trigger(text) => runes::count(text),
            GoValue::List(list) => list.items.len(),
            GoValue::Map(map) => map.entries.len(),
            _ => 0,
        }
    }

    /// The result of `==`, or `None` where Go panics because the type is not comparable. Values of
    /// different types are unequal.
    pub(crate) fn equals(&self, other: &Self) -> Option<bool> {
        Some(match (&self.data, &other.data) {
            (GoValue::Nil, GoValue::Nil) | (GoValue::NoLoop, GoValue::NoLoop) => true,
            (GoValue::Bool(a), GoValue::Bool(b)) => a == b,
            // pongo2 compares integers by value before it compares types (`Value.EqualValueTo`), so
            // a byte can equal an int.
            (GoValue::Int(_) | GoValue::Byte(_), GoValue::Int(_) | GoValue::Byte(_)) => {
                self.integer() == other.integer()
            }
            (GoValue::Float(a), GoValue::Float(b)) => a == b,
            (GoValue::Str(a), GoValue::Str(b)) | (GoValue::Trigger(a), GoValue::Trigger(b)) => a == b,
            (GoValue::List(a), GoValue::List(b)) if a.strings == b.strings => return None,
            (GoValue::Map(a), GoValue::Map(b)) if a.kind == b.kind => return None,
            (GoValue::Block, GoValue::Block) | (GoValue::Function(_), GoValue::Function(_)) => return None,
            (GoValue::Loop(a), GoValue::Loop(b)) => Arc::ptr_eq(a, b),
            (GoValue::Cycle(a), GoValue::Cycle(b)) => Arc::ptr_eq(a, b),
            _ => false,
        })
    }

    /// The result of `other in self` (`Value.Contains`), or `None` where Go panics.
    pub(crate) fn contains(&self, other: &Self) -> Option<bool> {
        Some(match &self.data {
            GoValue::Str(text) | GoValue::Trigger(text) => runes::contains(text, &other.text()),
            GoValue::List(list) => {
                for item in &list.items {
                    if other.equals(item)? {
                        return Some(true);
                    }
                }
                false
            }
            GoValue::Map(map) => match &other.data {
                GoValue::Str(key) => map.get(key).is_some(),
                // Go's `reflect.Value.MapIndex` panics for a key of another type.
                GoValue::Int(_) => return None,
                _ => false,
            },
            GoValue::Loop(_) => LoopInfo::FIELDS.contains(&other.text().as_ref()),
            GoValue::Cycle(_) => matches!(other.text().as_ref(), b"node" | b"value"),
            GoValue::Block => matches!(other.text().as_ref(), b"ctx" | b"wrappers"),
            _ => false,
        })
    }

    /// The item of a list, or the rune of a text as a text (`Value.Index`).
    pub(crate) fn item(&self, index: usize) -> Self {
        match &self.data {
            GoValue::List(list) => list.items.get(index).cloned().unwrap_or(Self::NIL),
            GoValue::Str(text) | GoValue::Trigger(text) => {
                Self::bytes(runes::runes(text).nth(index).map_or(Vec::new(), |(rune, _)| runes::string(rune)))
            }
            _ => Self::NIL,
        }
    }
}

/// A text as `int`, by way of a float: `1.5` is 1, and text that is not a number is 0.
pub(crate) fn integer_of(text: &[u8]) -> i64 {
    number::parse_float(text).map_or(0, number::to_int)
}
