//! Warnings about templates, for `template check`: constructs that LXD and Incus accept in silence
//! and that do not do what they say.
//!
//! There is one so far, the most frequent mistake in published images: comparing `trigger` with a
//! text.

use super::Template;
use super::tree::{Expr, FilterCall, Node, Nodes, Relation};
use super::value::GoValue;

/// A warning about a template, from [`Template::warnings`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateWarning {
    /// The line, counted from 1.
    pub line: u32,
    /// The column in bytes, counted from 1.
    pub column: u32,
    /// What is wrong and what to write instead, in one sentence.
    pub message: &'static str,
}

/// In LXD's context `trigger` is an `instance.TemplateTrigger`, a named string type. pongo2
/// compares Go interfaces (`Value.EqualValueTo`), and values of different types are never equal.
const TRIGGER: &str = "`trigger` is no plain string to LXD and Incus, so that comparing it with one is always \
                       unequal: write `trigger|lower == …`, or list the triggers in the rule's `when`";

/// Searches the whole tree, macros included, and returns the warnings in the order of the source.
pub(super) fn warnings(template: &Template) -> Vec<TemplateWarning> {
    let mut search = Search { template, found: Vec::new() };
    search.nodes(&template.tree.nodes);
    for tag in &template.tree.macros {
        search.nodes(&tag.body);
    }
    search.found.sort_by_key(|warning| (warning.line, warning.column));
    search.found
}

/// A walk over the tree that collects warnings.
struct Search<'t> {
    template: &'t Template,
    found: Vec<TemplateWarning>,
}

impl Search<'_> {
    fn nodes(&mut self, nodes: &Nodes) {
        for placed in nodes {
            self.node(&placed.node, placed.at);
        }
    }

    fn node(&mut self, node: &Node, at: u32) {
        match node {
            Node::Output(expr, _) | Node::Set(_, expr) => self.expr(expr, at),
            Node::If(tag) => {
                tag.conditions.iter().for_each(|expr| self.expr(expr, at));
                tag.bodies.iter().for_each(|nodes| self.nodes(nodes));
            }
            Node::For(tag) => {
                self.nodes(&tag.body);
                tag.empty.iter().for_each(|nodes| self.nodes(nodes));
            }
            Node::With(tag) => {
                tag.pairs.iter().for_each(|(_, expr)| self.expr(expr, at));
                self.nodes(&tag.body);
            }
            Node::Block(nodes) | Node::Autoescape(_, nodes) | Node::Spaceless(nodes) => self.nodes(nodes),
            Node::Filter(tag) => self.nodes(&tag.body),
            Node::IfChanged(tag) => {
                self.nodes(&tag.then);
                tag.otherwise.iter().for_each(|nodes| self.nodes(nodes));
            }
            Node::IfEqual(tag) => {
                self.pair(&tag.left, &tag.right, at);
                self.nodes(&tag.then);
                tag.otherwise.iter().for_each(|nodes| self.nodes(nodes));
            }
            _ => {}
        }
    }

    fn expr(&mut self, expr: &Expr, at: u32) {
        match expr {
            Expr::Relation(first, rest) => {
                let mut left: &Expr = first;
                self.expr(first, at);
                for (op, right) in rest {
                    if matches!(op, Relation::Equal | Relation::Unequal) {
                        self.pair(left, right, at);
                    }
                    self.expr(right, at);
                    left = right;
                }
            }
            Expr::Logic(first, rest) => {
                self.expr(first, at);
                rest.iter().for_each(|(_, expr)| self.expr(expr, at));
            }
            Expr::Sum(sum) => {
                self.expr(&sum.first, at);
                sum.rest.iter().for_each(|(_, expr)| self.expr(expr, at));
            }
            Expr::Filtered(first, _) => self.expr(first, at),
            _ => {}
        }
    }

    /// Warns if one side of a comparison is `trigger` unchanged and the other a text.
    fn pair(&mut self, left: &Expr, right: &Expr, at: u32) {
        if (self.is_trigger(left) && is_text(right)) || (self.is_trigger(right) && is_text(left)) {
            let (line, column, _) = self.template.place(at);
            self.found.push(TemplateWarning { line, column, message: TRIGGER });
        }
    }

    /// Whether the expression is `trigger`, possibly through filters that keep its type.
    fn is_trigger(&self, expr: &Expr) -> bool {
        // These filters return their input with its Go type. Others, such as `lower`, make a plain
        // string.
        let kept = |call: &FilterCall| {
            call.filter.is_some_and(|filter| matches!(filter.name(), "safe" | "default" | "default_if_none"))
        };
        match expr {
            Expr::Path(path) => {
                let name = self.template.tree.names.get(path.name as usize);
                path.segments.is_empty() && name.is_some_and(|name| name.as_ref() == b"trigger")
            }
            Expr::Filtered(first, filters) => filters.iter().all(kept) && self.is_trigger(first),
            _ => false,
        }
    }
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value) if matches!(value.data, GoValue::Str(_)))
}
