//! The syntax tree: nodes that write, and expressions that have values.
//!
//! Chains (`a and b and …`, `x|f|g`, `a.b.c`) are flat lists although pongo2 parses some of them
//! recursively. Depth then comes from nesting alone, which the parser bounds, and a chain of a
//! thousand operators takes no stack.
//!
//! Names are indexes into a table, so that looking up a variable compares numbers. Text is a range
//! of the source.

use super::filters::Filter;
use super::value::Value;

/// A byte offset in the wrapped source.
pub(crate) type SourceOffset = u32;

/// A name, as an index into the tree's table of names.
pub(crate) type NameId = u32;

/// A node and its offset, which errors during rendering are given.
#[derive(Debug)]
pub(crate) struct LocatedNode {
    pub(crate) at: SourceOffset,
    pub(crate) node: Node,
}

/// The nodes of a document or of a tag's body, in order.
pub(crate) type Nodes = Vec<LocatedNode>;

/// A node: something that writes output or changes variables.
#[derive(Debug)]
pub(crate) enum Node {
    /// Text, as a range of the source.
    Text(u32, u32),
    /// A text that is not in the source, from `templatetag`.
    Literal(&'static str),
    /// `{{ … }}`. The flag is set if `safe` exempts it from autoescape.
    Output(Box<Expr>, bool),
    If(Box<IfTag>),
    For(Box<ForTag>),
    Set(NameId, Box<Expr>),
    With(Box<WithTag>),
    /// The definition of a macro, by its index. The macro is known only after this node has run.
    Macro(usize),
    Block(Nodes),
    Autoescape(bool, Nodes),
    Filter(Box<FilterBlock>),
    Spaceless(Nodes),
    IfChanged(Box<IfChangedTag>),
    IfEqual(Box<IfEqualTag>),
    FirstOf(Vec<(Expr, bool)>),
    /// `cycle`, by its index, since each has a position that survives loops.
    Cycle(usize),
    WidthRatio(Box<WidthRatioTag>),
    Lorem(LoremTag),
    /// `now`: the layout, and whether the fixed time of `fake` is shown.
    Now(Vec<u8>, bool),
}

/// `if`: conditions and bodies pair up by their index. One more body is the `else`.
#[derive(Debug)]
pub(crate) struct IfTag {
    /// The conditions of `if` and each `elif`.
    pub(crate) conditions: Vec<Expr>,
    /// The bodies, in the order of the source.
    pub(crate) bodies: Vec<Nodes>,
}

/// `for KEY[, VALUE] in OVER [reversed] [sorted]`.
#[derive(Debug)]
pub(crate) struct ForTag {
    pub(crate) key: NameId,
    pub(crate) value: Option<NameId>,
    /// The value to iterate.
    pub(crate) over: Expr,
    pub(crate) reversed: bool,
    pub(crate) sorted: bool,
    pub(crate) body: Nodes,
    /// Runs instead if there is nothing to iterate.
    pub(crate) empty: Option<Nodes>,
}

/// `with`: names and values, of which a repeated name keeps the last value.
#[derive(Debug)]
pub(crate) struct WithTag {
    /// Names and values. A name occurs once.
    pub(crate) pairs: Vec<(NameId, Expr)>,
    pub(crate) body: Nodes,
}

/// A macro. `arguments` may repeat a name; `defaults` has each name once.
#[derive(Debug)]
pub(crate) struct MacroTag {
    pub(crate) name: NameId,
    /// The parameters in order, by which arguments are assigned.
    pub(crate) arguments: Vec<NameId>,
    /// Each parameter's default, evaluated in the scope of the definition at every call.
    pub(crate) defaults: Vec<(NameId, Option<Expr>)>,
    /// Whether the name must not be a variable of the context. Without `import` it has no other
    /// effect.
    pub(crate) exported: bool,
    pub(crate) body: Nodes,
}

/// `filter`: a body whose output goes through filters.
#[derive(Debug)]
pub(crate) struct FilterBlock {
    pub(crate) body: Nodes,
    pub(crate) filters: Vec<FilterCall>,
}

/// `ifchanged`: without `watched` the rendered body is compared, else the values.
#[derive(Debug)]
pub(crate) struct IfChangedTag {
    /// The number of this tag among all `ifchanged`, for what it remembers.
    pub(crate) index: usize,
    /// The values to compare. If there are none, the rendered body is compared.
    pub(crate) watched: Vec<Expr>,
    pub(crate) then: Nodes,
    pub(crate) otherwise: Option<Nodes>,
}

/// `ifequal` (`wanted` is true) and `ifnotequal`.
#[derive(Debug)]
pub(crate) struct IfEqualTag {
    /// The result of `==` for which the body runs.
    pub(crate) wanted: bool,
    pub(crate) left: Expr,
    pub(crate) right: Expr,
    pub(crate) then: Nodes,
    pub(crate) otherwise: Option<Nodes>,
}

/// `cycle A B … [as NAME [silent]]`.
#[derive(Debug)]
pub(crate) struct CycleTag {
    pub(crate) items: Vec<Expr>,
    pub(crate) name: Option<NameId>,
    /// Whether the first item is not written where the tag stands.
    pub(crate) silent: bool,
}

/// `widthratio CURRENT MAX WIDTH [as NAME]`.
#[derive(Debug)]
pub(crate) struct WidthRatioTag {
    pub(crate) current: Expr,
    pub(crate) max: Expr,
    pub(crate) width: Expr,
    pub(crate) name: Option<NameId>,
}

/// `lorem [COUNT] [w|p|b] [random]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoremTag {
    pub(crate) count: i64,
    pub(crate) method: LoremMethod,
    pub(crate) random: bool,
}

/// What `lorem` writes: words, paragraphs in `<p>`, or plain paragraphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoremMethod {
    Words,
    Paragraphs,
    Plain,
}

/// An expression: something that has a value. Levels are pongo2's, see `parser/expression.rs`.
#[derive(Debug)]
pub(crate) enum Expr {
    /// A number, a text, `true` or `false`.
    Literal(Value),
    /// A variable.
    Path(Box<VariablePath>),
    /// A value and the filters it goes through.
    Filtered(Box<Expr>, Vec<FilterCall>),
    /// `a and (b or (c …))`
    Logic(Box<Expr>, Vec<(Logic, Expr)>),
    /// `a == (b < (c …))`
    Relation(Box<Expr>, Vec<(Relation, Expr)>),
    /// The sign and `not` belong to the first term alone.
    Sum(Box<Sum>),
    /// `(a * b) / c …`
    Product(Box<Expr>, Vec<(Product, Expr)>),
    /// `a ^ (b ^ (c …))`
    Power(Vec<Expr>),
}

/// The operators of the loosest level.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Logic {
    And,
    Or,
}

/// The relational operators.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Relation {
    Equal,
    Unequal,
    Less,
    Greater,
    AtMost,
    AtLeast,
    In,
}

/// A sum. `minus` and `not` belong to the first term only; in `rest` the flag is set for `+`.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) minus: bool,
    pub(crate) not: bool,
    pub(crate) first: Expr,
    pub(crate) rest: Vec<(bool, Expr)>,
}

/// The operators of a term.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Product {
    Times,
    Divide,
    Modulo,
}

/// A variable and what follows it: calls, keys and indexes.
#[derive(Debug)]
pub(crate) struct VariablePath {
    pub(crate) name: NameId,
    pub(crate) call: Option<Vec<Expr>>,
    pub(crate) segments: Vec<PathSegment>,
    pub(crate) at: SourceOffset,
}

/// One step of a path, and the call behind it.
#[derive(Debug)]
pub(crate) struct PathSegment {
    pub(crate) step: Accessor,
    pub(crate) call: Option<Vec<Expr>>,
}

/// A key (`.name`), an index (`.0`), or in Incus a subscript (`[expr]`).
#[derive(Debug)]
pub(crate) enum Accessor {
    Field(Box<[u8]>),
    Index(usize),
    Subscript(Expr),
}

/// A filter and its argument. `filter` is `None` for an unknown name in a `filter` tag, which
/// pongo2 reports only when the tag runs.
#[derive(Debug)]
pub(crate) struct FilterCall {
    pub(crate) filter: Option<Filter>,
    pub(crate) argument: Option<Expr>,
    pub(crate) at: SourceOffset,
}

impl Expr {
    /// Whether `safe` is applied in every operand, which exempts the output from autoescape.
    ///
    /// pongo2 decides this from the tree, not from the value (`FilterApplied` of each expression
    /// node).
    pub(crate) fn is_safe(&self) -> bool {
        match self {
            Self::Literal(_) | Self::Path(_) => false,
            Self::Filtered(_, filters) => filters.iter().any(|call| call.filter.is_some_and(Filter::is_safe)),
            Self::Logic(first, rest) => first.is_safe() && rest.iter().all(|(_, expr)| expr.is_safe()),
            Self::Relation(first, rest) => first.is_safe() && rest.iter().all(|(_, expr)| expr.is_safe()),
            Self::Sum(sum) => sum.first.is_safe() && sum.rest.iter().all(|(_, expr)| expr.is_safe()),
            Self::Product(first, rest) => first.is_safe() && rest.iter().all(|(_, expr)| expr.is_safe()),
            Self::Power(all) => all.iter().all(Self::is_safe),
        }
    }
}
