//! The renderer: walks a tree with a context and writes bytes. This file holds its state (scopes,
//! output, budget); what single nodes and expressions do is in the files beside it.
//!
//! # Budget
//!
//! Every operation pays from a budget of steps ([`Renderer::spend`]): one for each node and
//! expression, and one for every few bytes read or written. Work is therefore bounded whatever the
//! template does, and the bound is a count, not a time, so that a template fails on every machine
//! or on none. Output and single values share a bound in bytes. Nesting at rendering (macros that
//! call themselves) is bounded by frames, which stand for stack.
//!
//! # Scopes
//!
//! A name is looked up in the scopes, innermost first, and then in the context. What opens a scope
//! follows pongo2:
//!
//! - `for` opens one for all rounds together, `with` one for its body, a macro call one inside the
//!   scope of the macro's definition;
//! - `if`, `block`, `filter`, `autoescape` and the others open none;
//! - `set`, `cycle … as` and `widthratio … as` write to the innermost scope and shadow outer names.
//!
//! # Errors
//!
//! An error leaves the renderer in an unfinished state, with scopes and captures open. That is
//! fine: it is used once and dropped.

mod expression;
mod loops;
mod lorem;
mod path;
mod spaceless;
mod tags;

use std::sync::Arc;

use super::context::Context;
use super::engine_error::{EngineError, EngineResult};
use super::filters::FilterContext;
use super::parser::{PONGO2, SyntaxTree};
use super::tree::{FilterCall, NameId, Node, Nodes};
use super::value::{GoValue, Map, MapType, Value};
use super::{Dialect, filters};
use crate::progress::Cancel;

/// The deepest nesting of evaluations: tags, parentheses and macros together. Each takes stack, and
/// this many fit a thread of 2 MiB in a build without optimisation, which a test checks.
const MAX_FRAMES: u32 = 800;

/// The number of bytes that are written, read or copied for one step.
const BYTES_PER_STEP: usize = 16;

/// The bounds of one rendering, from `Limits::template_*`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RenderLimits {
    pub(crate) output: u64,
    pub(crate) steps: u64,
    pub(crate) depth: u64,
}

/// The value of a name in a scope.
#[derive(Clone)]
struct Variable {
    value: Value,
    /// Whether pongo2 stores it as `*Value` and not as the bare Go value. A nil inside a `*Value`
    /// is found as a variable; a bare nil counts as undefined.
    wrapped: bool,
}

/// A scope, opened by `for`, `with` and macro calls. `if` opens none.
///
/// In pongo2 a scope is a copy of the one around it (`NewChildExecutionContext`). Nothing can
/// change an outer scope while an inner one runs, so a chain of scopes gives the same results
/// without the copies.
struct Scope {
    parent: usize,
    autoescape: bool,
    vars: Vec<(NameId, Variable)>,
}

/// The index of the outermost scope, where every chain ends.
const ROOT: usize = 0;

/// What an `ifchanged` tag remembers from the last time it ran.
#[derive(Default)]
struct IfChangedState {
    content: Vec<u8>,
    values: Vec<Value>,
}

/// Steps between two checks for cancellation: less than a millisecond of work.
const CANCEL_CHECK_STEPS: u64 = 4096;

/// The state of one rendering.
pub(crate) struct Renderer<'t> {
    tree: &'t SyntaxTree,
    source: &'t [u8],
    context: &'t Context,
    dialect: Dialect,
    bounds: RenderLimits,
    /// The largest output, and the largest single value, in bytes.
    cap: usize,
    steps: u64,
    /// Evaluations that are open at present.
    frames: u32,
    macros_open: u64,
    out: Vec<u8>,
    scopes: Vec<Scope>,
    scope: usize,
    /// The variables of the outermost scope, indexed by name.
    root: Vec<Option<Variable>>,
    /// The position of each `cycle` tag, which lasts for the whole rendering.
    cycles: Vec<usize>,
    ifchanged_states: Vec<IfChangedState>,
    cancel: Option<&'t Cancel>,
}

impl<'t> Renderer<'t> {
    /// Prepares a rendering. The variable `pongo2` is the only one set by the language itself.
    pub(crate) fn new(
        tree: &'t SyntaxTree,
        source: &'t [u8],
        context: &'t Context,
        dialect: Dialect,
        bounds: RenderLimits,
    ) -> Self {
        let mut root = Vec::new();
        root.resize_with(tree.names.len(), || None);
        if let Some(slot) = root.get_mut(PONGO2 as usize) {
            *slot = Some(Variable { value: about(dialect), wrapped: false });
        }
        let mut ifchanged_states = Vec::new();
        ifchanged_states.resize_with(tree.ifchanged_count, IfChangedState::default);
        Self {
            tree,
            source,
            context,
            dialect,
            bounds,
            cap: usize::try_from(bounds.output).unwrap_or(usize::MAX),
            steps: bounds.steps,
            frames: 0,
            macros_open: 0,
            // Most templates add little to their own text.
            out: Vec::with_capacity(source.len() + source.len() / 4),
            scopes: vec![Scope { parent: ROOT, autoescape: true, vars: Vec::new() }],
            scope: ROOT,
            root,
            cycles: vec![0; tree.cycles.len()],
            ifchanged_states,
            cancel: None,
        }
    }

    /// Makes the rendering stop when `cancel` is set.
    pub(crate) fn until(mut self, cancel: &'t Cancel) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Renders the document and returns the output.
    pub(crate) fn run(mut self) -> EngineResult<Vec<u8>> {
        // pongo2 refuses to execute a template whose exported macro has the name of a context
        // variable (`Template.newContextForExecution`).
        for exported in self.tree.macros.iter().filter(|known| known.exported) {
            let name = self.name_of(exported.name);
            if self.context.get(name).is_some() {
                let name = String::from_utf8_lossy(name);
                return Err(EngineError::wrong(format!("the exported macro `{name}` has the name of a variable")));
            }
        }
        self.nodes(&self.tree.nodes)?;
        Ok(self.out)
    }

    /// The text of a name.
    fn name_of(&self, name: NameId) -> &'t [u8] {
        self.tree.names.get(name as usize).map_or(&[], |text| text)
    }

    fn out_of_steps(&self) -> Box<EngineError> {
        EngineError::limit("template_steps", self.bounds.steps, "the work of the template")
    }

    /// Pays one step, and one more for every few of `bytes`. Checks for cancellation now and then.
    fn spend(&mut self, bytes: usize) -> EngineResult<()> {
        match self.steps.checked_sub(1 + (bytes / BYTES_PER_STEP) as u64) {
            Some(left) => {
                // True when the count passes a multiple, which also holds if one step pays for a
                // lot.
                let look = left / CANCEL_CHECK_STEPS != self.steps / CANCEL_CHECK_STEPS;
                self.steps = left;
                if look && self.cancel.is_some_and(Cancel::is_cancelled) {
                    return Err(EngineError::cancelled());
                }
                Ok(())
            }
            None => Err(self.out_of_steps()),
        }
    }

    /// Starts an evaluation inside the present one. Every `enter` that succeeds is followed by a
    /// `leave`, unless an error ends the rendering.
    fn enter(&mut self) -> EngineResult<()> {
        // Counted down in `leave`. After an error nobody looks at the count again.
        self.frames += 1;
        if self.frames > MAX_FRAMES {
            return Err(EngineError::limit(
                "template_depth",
                self.bounds.depth,
                "the depth of tags, parentheses and macros",
            ));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.frames -= 1;
    }

    /// Appends bytes to the output, within its bound.
    fn write(&mut self, bytes: &[u8]) -> EngineResult<()> {
        if bytes.len() > self.cap.saturating_sub(self.out.len()) {
            return Err(EngineError::limit("template_output", self.bounds.output, "the output of the template"));
        }
        self.spend(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a value as text.
    fn write_value(&mut self, value: &Value) -> EngineResult<()> {
        match &value.data {
            GoValue::Str(text) | GoValue::Trigger(text) => self.write(text),
            GoValue::Nil => Ok(()),
            _ => self.write(&value.text()),
        }
    }

    /// Renders nodes into a buffer of their own and returns it.
    fn captured(&mut self, nodes: &'t Nodes) -> EngineResult<Vec<u8>> {
        // The buffer starts empty, so a capture can be as large as the whole output, but not
        // larger.
        let outer = std::mem::take(&mut self.out);
        self.nodes(nodes)?;
        Ok(std::mem::replace(&mut self.out, outer))
    }

    /// Renders nodes in order. Errors get the offset of the node.
    fn nodes(&mut self, nodes: &'t Nodes) -> EngineResult<()> {
        self.enter()?;
        for placed in nodes {
            self.spend(0).and_then(|()| self.node(&placed.node)).map_err(|fault| fault.at(placed.at))?;
        }
        self.leave();
        Ok(())
    }

    fn node(&mut self, node: &'t Node) -> EngineResult<()> {
        match node {
            Node::Text(from, to) => {
                let source = self.source;
                self.write(source.get(*from as usize..*to as usize).unwrap_or(&[]))
            }
            Node::Literal(text) => self.write(text.as_bytes()),
            Node::Output(expr, safe) => self.output(expr, *safe),
            Node::If(tag) => self.if_tag(tag),
            Node::For(tag) => self.for_tag(tag),
            Node::Set(name, expr) => {
                let value = self.kept(expr)?;
                self.assign(*name, value);
                Ok(())
            }
            Node::With(tag) => self.with_tag(tag),
            Node::Macro(index) => {
                self.define(*index);
                Ok(())
            }
            Node::Block(nodes) => self.block_tag(nodes),
            Node::Autoescape(on, nodes) => self.autoescape_tag(*on, nodes),
            Node::Filter(tag) => self.filter_tag(tag),
            Node::Spaceless(nodes) => self.spaceless_tag(nodes),
            Node::IfChanged(tag) => self.ifchanged_tag(tag),
            Node::IfEqual(tag) => self.ifequal_tag(tag),
            Node::FirstOf(items) => self.firstof_tag(items),
            Node::Cycle(index) => self.cycle_tag(*index),
            Node::WidthRatio(tag) => self.widthratio_tag(tag),
            Node::Lorem(tag) => self.lorem_tag(*tag),
            Node::Now(layout, fake) => self.now_tag(layout, *fake),
        }
    }

    /// Looks a name up in the scopes, innermost first; the context is not searched.
    fn private(&mut self, name: NameId) -> EngineResult<Option<Variable>> {
        let (mut scope, mut looked_at) = (self.scope, 0);
        while scope != ROOT {
            let Some(here) = self.scopes.get(scope) else { break };
            looked_at += 1 + here.vars.len();
            if let Some((_, slot)) = here.vars.iter().find(|(known, _)| *known == name) {
                return Ok(Some(slot.clone()));
            }
            scope = here.parent;
        }
        // Macros that call each other make long chains of scopes. Searching them must cost steps.
        if looked_at > BYTES_PER_STEP {
            self.spend(looked_at)?;
        }
        Ok(self.root.get(name as usize).and_then(Clone::clone))
    }

    /// Stores a variable in the innermost scope.
    fn put(&mut self, name: NameId, slot: Variable) {
        if self.scope == ROOT {
            if let Some(place) = self.root.get_mut(name as usize) {
                *place = Some(slot);
            }
        } else if let Some(scope) = self.scopes.get_mut(self.scope) {
            match scope.vars.iter_mut().find(|(known, _)| *known == name) {
                Some(var) => var.1 = slot,
                None => scope.vars.push((name, slot)),
            }
        }
    }

    /// Sets a name as `set`, `with` and `for` do: pongo2 stores a `*Value`.
    fn assign(&mut self, name: NameId, value: Value) {
        self.put(name, Variable { value, wrapped: true });
    }

    /// Sets a name to a bare Go value: pongo2's own structures, and arguments of macros.
    fn assign_raw(&mut self, name: NameId, value: Value) {
        self.put(name, Variable { value: Value { safe: false, ..value }, wrapped: false });
    }

    /// Whether autoescape is on in the innermost scope.
    fn autoescape(&self) -> bool {
        self.scopes.get(self.scope).is_some_and(|scope| scope.autoescape)
    }

    /// Opens a scope inside `parent`, which also gives it its autoescape. Returns what
    /// [`close`](Self::close) restores.
    fn open(&mut self, parent: usize) -> (usize, usize) {
        let before = (self.scopes.len(), self.scope);
        let autoescape = self.scopes.get(parent).is_some_and(|scope| scope.autoescape);
        self.scope = self.scopes.len();
        self.scopes.push(Scope { parent, autoescape, vars: Vec::new() });
        before
    }

    /// Closes the scopes opened since the matching [`open`](Self::open).
    fn close(&mut self, (length, scope): (usize, usize)) {
        self.scopes.truncate(length);
        self.scope = scope;
    }

    /// Applies one filter, and pays for what it reads and produces.
    fn filtered(&mut self, value: &Value, call: &'t FilterCall) -> EngineResult<Value> {
        let argument = match &call.argument {
            Some(expr) => self.expr(expr)?,
            None => Value::NIL,
        };
        let Some(filter) = call.filter else { return Err(EngineError::wrong("there is no such filter").at(call.at)) };
        self.spend(weight(value) + weight(&argument))?;
        let mut context = FilterContext { dialect: self.dialect, cap: self.cap, steps: &mut self.steps };
        let result = filter.apply(value, &argument, &mut context).map_err(|fault| fault.at(call.at))?;
        let size = weight(&result);
        if size > self.cap {
            return Err(
                EngineError::limit("template_output", self.bounds.output, "a value of the template").at(call.at)
            );
        }
        self.spend(size)?;
        Ok(result)
    }

    /// Applies the filter `escape`, as autoescape does.
    fn escaped(&mut self, value: &Value) -> EngineResult<Value> {
        self.spend(weight(value))?;
        let mut context = FilterContext { dialect: self.dialect, cap: self.cap, steps: &mut self.steps };
        filters::escape(value, &Value::NIL, &mut context)
    }
}

/// About how many bytes are read to use a value once.
fn weight(value: &Value) -> usize {
    match &value.data {
        GoValue::Str(text) | GoValue::Trigger(text) => text.len(),
        GoValue::List(list) => list.items.len() * BYTES_PER_STEP,
        GoValue::Map(map) => map.entries.len() * BYTES_PER_STEP,
        GoValue::Cycle(cycle) => weight(&cycle.current()),
        _ => 0,
    }
}

/// The variable `pongo2`, which holds the version of the language.
fn about(dialect: Dialect) -> Value {
    let version = match dialect {
        Dialect::Lxd => "4.0.2",
        Dialect::Incus => "6.0.0",
    };
    let entries = vec![(Arc::from(b"version".as_slice()), Value::from(version))];
    GoValue::Map(Arc::new(Map::new(MapType::Context, entries))).into()
}
