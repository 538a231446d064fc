//! The parsed template: nodes that write and expressions that give values.
//! Chains (`a and b and …`, `x|f|g`) are flat lists, so that depth comes from nesting alone.

use super::filters::Filter;
use super::value::Value;

/// A byte position in the source.
pub(crate) type SourceOffset = u32;

/// A name, as an index into the template's table of names.
pub(crate) type NameId = u32;

/// A node and its place.
#[derive(Debug)]
pub(crate) struct LocatedNode {
    pub(crate) at: SourceOffset,
    pub(crate) node: Node,
}

/// What stands between a tag and its end.
pub(crate) type Nodes = Vec<LocatedNode>;

/// Something that writes.
#[derive(Debug)]
pub(crate) enum Node {
    /// Text, as a range of the source.
    Text(u32, u32),
    /// A text that does not stand in the source as such.
    Literal(&'static str),
    /// `{{ … }}`; the flag tells that `safe` keeps autoescape away.
    Output(Box<Expr>, bool),
    If(Box<IfTag>),
    For(Box<ForTag>),
    Set(NameId, Box<Expr>),
    With(Box<WithTag>),
    Macro(usize),
    Block(Nodes),
    Autoescape(bool, Nodes),
    Filter(Box<FilterBlock>),
    Spaceless(Nodes),
    IfChanged(Box<IfChangedTag>),
    IfEqual(Box<IfEqualTag>),
    FirstOf(Vec<(Expr, bool)>),
    Cycle(usize),
    WidthRatio(Box<WidthRatioTag>),
    Lorem(LoremTag),
    Now(Vec<u8>, bool),
}

/// The conditions and the bodies, which pair up by their index.
#[derive(Debug)]
pub(crate) struct IfTag {
    pub(crate) conditions: Vec<Expr>,
    pub(crate) bodies: Vec<Nodes>,
}

#[derive(Debug)]
pub(crate) struct ForTag {
    pub(crate) key: NameId,
    pub(crate) value: Option<NameId>,
    pub(crate) over: Expr,
    pub(crate) reversed: bool,
    pub(crate) sorted: bool,
    pub(crate) body: Nodes,
    pub(crate) empty: Option<Nodes>,
}

#[derive(Debug)]
pub(crate) struct WithTag {
    pub(crate) pairs: Vec<(NameId, Expr)>,
    pub(crate) body: Nodes,
}

/// A macro; the arguments in order, each default once a name.
#[derive(Debug)]
pub(crate) struct MacroTag {
    pub(crate) name: NameId,
    pub(crate) arguments: Vec<NameId>,
    pub(crate) defaults: Vec<(NameId, Option<Expr>)>,
    pub(crate) exported: bool,
    pub(crate) body: Nodes,
}

#[derive(Debug)]
pub(crate) struct FilterBlock {
    pub(crate) body: Nodes,
    pub(crate) filters: Vec<FilterCall>,
}

#[derive(Debug)]
pub(crate) struct IfChangedTag {
    pub(crate) index: usize,
    pub(crate) watched: Vec<Expr>,
    pub(crate) then: Nodes,
    pub(crate) otherwise: Option<Nodes>,
}

#[derive(Debug)]
pub(crate) struct IfEqualTag {
    pub(crate) wanted: bool,
    pub(crate) left: Expr,
    pub(crate) right: Expr,
    pub(crate) then: Nodes,
    pub(crate) otherwise: Option<Nodes>,
}

#[derive(Debug)]
pub(crate) struct CycleTag {
    pub(crate) items: Vec<Expr>,
    pub(crate) name: Option<NameId>,
    pub(crate) silent: bool,
}

#[derive(Debug)]
pub(crate) struct WidthRatioTag {
    pub(crate) current: Expr,
    pub(crate) max: Expr,
    pub(crate) width: Expr,
    pub(crate) name: Option<NameId>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LoremTag {
    pub(crate) count: i64,
    pub(crate) method: LoremMethod,
    pub(crate) random: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoremMethod {
    Words,
    Paragraphs,
    Plain,
}

/// Something that has a value.
#[derive(Debug)]
pub(crate) enum Expr {
    Literal(Value),
    Path(Box<Path>),
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

#[derive(Debug, Clone, Copy)]
pub(crate) enum Logic {
    And,
    Or,
}

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

#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) minus: bool,
    pub(crate) not: bool,
    pub(crate) first: Expr,
    pub(crate) rest: Vec<(bool, Expr)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Product {
    Times,
    Divide,
    Modulo,
}

/// A variable with everything that hangs on it.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) name: NameId,
    pub(crate) call: Option<Vec<Expr>>,
    pub(crate) segments: Vec<PathSegment>,
    pub(crate) at: SourceOffset,
}

#[derive(Debug)]
pub(crate) struct PathSegment {
    pub(crate) step: Accessor,
    pub(crate) call: Option<Vec<Expr>>,
}

#[derive(Debug)]
pub(crate) enum Accessor {
    Field(Box<[u8]>),
    Index(usize),
    Subscript(Expr),
}

/// A filter and its argument. An unknown filter is found out when a `filter` tag runs.
#[derive(Debug)]
pub(crate) struct FilterCall {
    pub(crate) filter: Option<Filter>,
    pub(crate) argument: Option<Expr>,
    pub(crate) at: SourceOffset,
}

impl Expr {
    /// Whether `safe` has been applied to every part, which keeps autoescape away.
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
