//! Runs a tree against a context: the machine, its fuel, its scopes and its output.
//! What the single nodes and expressions do is next door.

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

/// Evaluations inside evaluations: nested tags, parentheses and macros together. Each takes a
/// piece of the stack, and this many fit a thread of 2 MiB in a build without optimisation.
const MAX_FRAMES: u32 = 800;

/// Bytes that are written, read or copied for one step.
const BYTES_PER_STEP: usize = 16;

/// The bounds of one rendering.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RenderLimits {
    pub(crate) output: u64,
    pub(crate) steps: u64,
    pub(crate) depth: u64,
}

/// A name's value in a scope.
#[derive(Clone)]
struct Variable {
    value: Value,
    /// Whether pongo2 keeps it as a `*Value`; then a nil is not the same as nothing.
    wrapped: bool,
}

/// What `for`, `with` and macros open. In pongo2 a scope is a copy of the one around it; since
/// nothing can change an outer scope while an inner one runs, a chain does the same.
struct Scope {
    parent: usize,
    autoescape: bool,
    vars: Vec<(NameId, Variable)>,
}

/// The outermost scope, and the end of every chain.
const ROOT: usize = 0;

/// What an `ifchanged` remembers.
#[derive(Default)]
struct IfChangedState {
    content: Vec<u8>,
    values: Vec<Value>,
}

/// Steps after which the renderer looks whether it was cancelled: less than a millisecond.
const CANCEL_CHECK_STEPS: u64 = 4096;

pub(crate) struct Renderer<'t> {
    tree: &'t SyntaxTree,
    source: &'t [u8],
    context: &'t Context,
    dialect: Dialect,
    bounds: RenderLimits,
    cap: usize,
    steps: u64,
    frames: u32,
    macros_open: u64,
    out: Vec<u8>,
    scopes: Vec<Scope>,
    scope: usize,
    /// The names of the outermost scope, by their number.
    root: Vec<Option<Variable>>,
    cycles: Vec<usize>,
    ifchanged_states: Vec<IfChangedState>,
    cancel: Option<&'t Cancel>,
}

impl<'t> Renderer<'t> {
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
            out: Vec::with_capacity(source.len() + source.len() / 4),
            scopes: vec![Scope { parent: ROOT, autoescape: true, vars: Vec::new() }],
            scope: ROOT,
            root,
            cycles: vec![0; tree.cycles.len()],
            ifchanged_states,
            cancel: None,
        }
    }

    /// Stops when `cancel` is switched on.
    pub(crate) fn until(mut self, cancel: &'t Cancel) -> Self {
        self.cancel = Some(cancel);
        self
    }

    pub(crate) fn run(mut self) -> EngineResult<Vec<u8>> {
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

    fn name_of(&self, name: NameId) -> &'t [u8] {
        self.tree.names.get(name as usize).map_or(&[], |text| text)
    }

    fn out_of_steps(&self) -> Box<EngineError> {
        EngineError::limit("template_steps", self.bounds.steps, "the work of the template")
    }

    /// Pays one step, and one for every few of `bytes`.
    fn spend(&mut self, bytes: usize) -> EngineResult<()> {
        match self.steps.checked_sub(1 + (bytes / BYTES_PER_STEP) as u64) {
            Some(left) => {
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

    /// Goes one evaluation deeper.
    fn enter(&mut self) -> EngineResult<()> {
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

    fn write(&mut self, bytes: &[u8]) -> EngineResult<()> {
        if bytes.len() > self.cap.saturating_sub(self.out.len()) {
            return Err(EngineError::limit("template_output", self.bounds.output, "the output of the template"));
        }
        self.spend(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn write_value(&mut self, value: &Value) -> EngineResult<()> {
        match &value.data {
            GoValue::Str(text) | GoValue::Trigger(text) => self.write(text),
            GoValue::Nil => Ok(()),
            _ => self.write(&value.text()),
        }
    }

    /// What the nodes write, apart from the output.
    fn captured(&mut self, nodes: &'t Nodes) -> EngineResult<Vec<u8>> {
        let outer = std::mem::take(&mut self.out);
        self.nodes(nodes)?;
        Ok(std::mem::replace(&mut self.out, outer))
    }

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

    /// Looks a name up in the scopes, without the context.
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
        // Macros that call each other make long chains, which are no way around the fuel.
        if looked_at > BYTES_PER_STEP {
            self.spend(looked_at)?;
        }
        Ok(self.root.get(name as usize).and_then(Clone::clone))
    }

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

    /// Sets a name in the innermost scope, as `set`, `with` and `for` do.
    fn assign(&mut self, name: NameId, value: Value) {
        self.put(name, Variable { value, wrapped: true });
    }

    /// Sets a name to what pongo2 keeps as it is: its own structures, and arguments of macros.
    fn assign_raw(&mut self, name: NameId, value: Value) {
        self.put(name, Variable { value: Value { safe: false, ..value }, wrapped: false });
    }

    fn autoescape(&self) -> bool {
        self.scopes.get(self.scope).is_some_and(|scope| scope.autoescape)
    }

    /// Opens a scope inside `parent` and gives what [`close`](Self::close) needs.
    fn open(&mut self, parent: usize) -> (usize, usize) {
        let before = (self.scopes.len(), self.scope);
        let autoescape = self.scopes.get(parent).is_some_and(|scope| scope.autoescape);
        self.scope = self.scopes.len();
        self.scopes.push(Scope { parent, autoescape, vars: Vec::new() });
        before
    }

    fn close(&mut self, (length, scope): (usize, usize)) {
        self.scopes.truncate(length);
        self.scope = scope;
    }

    /// Applies one filter, and pays for what it reads and makes.
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

    fn escaped(&mut self, value: &Value) -> EngineResult<Value> {
        self.spend(weight(value))?;
        let mut context = FilterContext { dialect: self.dialect, cap: self.cap, steps: &mut self.steps };
        filters::escape(value, &Value::NIL, &mut context)
    }
}

/// About how many bytes one has to look at to do something with a value.
fn weight(value: &Value) -> usize {
    match &value.data {
        GoValue::Str(text) | GoValue::Trigger(text) => text.len(),
        GoValue::List(list) => list.items.len() * BYTES_PER_STEP,
        GoValue::Map(map) => map.entries.len() * BYTES_PER_STEP,
        GoValue::Cycle(cycle) => weight(&cycle.current()),
        _ => 0,
    }
}

/// The variable `pongo2`, which tells its version.
fn about(dialect: Dialect) -> Value {
    let version = match dialect {
        Dialect::Lxd => "4.0.2",
        Dialect::Incus => "6.0.0",
    };
    let entries = vec![(Arc::from(b"version".as_slice()), Value::from(version))];
    GoValue::Map(Arc::new(Map::new(MapType::Context, entries))).into()
}
