//! The tags other than loops: output, conditions, scopes, captures and the small ones. Each follows
//! pongo2's `tags_*.go`, with an error where that panics.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::{number, time_layout};
use super::super::parser::BLOCK;
use super::super::tree::{Expr, FilterBlock, IfChangedTag, IfEqualTag, IfTag, Nodes, WidthRatioTag, WithTag};
use super::super::value::{Cycle, GoValue, Value};
use super::Renderer;

impl<'t> Renderer<'t> {
    /// Writes `{{ … }}`. Only texts are escaped: numbers and booleans have no special characters.
    pub(super) fn output(&mut self, expr: &'t Expr, safe: bool) -> EngineResult<()> {
        let mut value = self.expr(expr)?;
        if !safe && !value.safe && value.is_string() && self.autoescape() {
            value = self.escaped(&value)?;
        }
        self.write_value(&value)
    }

    /// Runs the body of the first condition that is true. Conditions and bodies pair up by index,
    /// also where an `elif` follows an `else`.
    pub(super) fn if_tag(&mut self, tag: &'t IfTag) -> EngineResult<()> {
        let mut index = 0;
        for condition in &tag.conditions {
            if self.expr(condition)?.truth() {
                break;
            }
            index += 1;
        }
        match tag.bodies.get(index) {
            Some(nodes) => self.nodes(nodes),
            None => Ok(()),
        }
    }

    /// Runs a body in a new scope. All values are evaluated before the first name is set, so they
    /// see the outer scope only.
    pub(super) fn with_tag(&mut self, tag: &'t WithTag) -> EngineResult<()> {
        let mut values = Vec::with_capacity(tag.pairs.len());
        for (name, expr) in &tag.pairs {
            values.push((*name, self.kept(expr)?));
        }
        let before = self.open(self.scope);
        for (name, value) in values {
            self.assign(name, value);
        }
        self.nodes(&tag.body)?;
        self.close(before);
        Ok(())
    }

    /// Runs a block in place. `block` stays set afterwards, in the present scope, as in pongo2.
    pub(super) fn block_tag(&mut self, nodes: &'t Nodes) -> EngineResult<()> {
        self.assign_raw(BLOCK, GoValue::Block.into());
        self.nodes(nodes)
    }

    /// Switches autoescape for a body. No scope is opened.
    pub(super) fn autoescape_tag(&mut self, on: bool, nodes: &'t Nodes) -> EngineResult<()> {
        let scope = self.scope;
        // The flag belongs to the scope, which stays the same: a `for` inside copies it.
        let before = self.autoescape();
        self.set_autoescape(scope, on);
        self.nodes(nodes)?;
        self.set_autoescape(scope, before);
        Ok(())
    }

    fn set_autoescape(&mut self, scope: usize, on: bool) {
        if let Some(scope) = self.scopes.get_mut(scope) {
            scope.autoescape = on;
        }
    }

    /// Renders a body and applies filters to the text.
    pub(super) fn filter_tag(&mut self, tag: &'t FilterBlock) -> EngineResult<()> {
        let mut value = Value::bytes(self.captured(&tag.body)?);
        for call in &tag.filters {
            value = self.filtered(&value, call)?;
        }
        self.write_value(&value)
    }

    /// Runs a body if it, or a watched value, differs from the last time (`tags_ifchanged.go`).
    pub(super) fn ifchanged_tag(&mut self, tag: &'t IfChangedTag) -> EngineResult<()> {
        if tag.watched.is_empty() {
            let content = self.captured(&tag.then)?;
            let changed = self.ifchanged_states.get(tag.index).is_some_and(|watch| watch.content != content);
            if changed {
                self.write(&content)?;
                if let Some(watch) = self.ifchanged_states.get_mut(tag.index) {
                    watch.content = content;
                }
            }
            return Ok(());
        }
        let mut now = Vec::with_capacity(tag.watched.len());
        for expr in &tag.watched {
            now.push(self.kept(expr)?);
        }
        let last =
            self.ifchanged_states.get_mut(tag.index).map(|watch| std::mem::take(&mut watch.values)).unwrap_or_default();
        // The first run counts as changed.
        let mut changed = last.is_empty();
        for (old, new) in last.iter().zip(&now) {
            if !self.equal(&old.clone().now(), &new.clone().now())? {
                changed = true;
                break;
            }
        }
        if let Some(watch) = self.ifchanged_states.get_mut(tag.index) {
            watch.values = now;
        }
        match (&tag.otherwise, changed) {
            (_, true) => self.nodes(&tag.then),
            (Some(nodes), false) => self.nodes(nodes),
            // pongo2 executes the missing `else` and panics with a nil pointer.
            (None, false) => Err(EngineError::wrong("`ifchanged` with values needs an `else`")),
        }
    }

    /// Compares two values by `==`, without conversion of types.
    pub(super) fn ifequal_tag(&mut self, tag: &'t IfEqualTag) -> EngineResult<()> {
        let left = self.expr(&tag.left)?;
        let right = self.expr(&tag.right)?;
        if self.equal(&left, &right)? == tag.wanted {
            return self.nodes(&tag.then);
        }
        match &tag.otherwise {
            Some(nodes) => self.nodes(nodes),
            None => Ok(()),
        }
    }

    /// Writes the first value that is true. Unlike `{{ }}`, it escapes values of all types.
    pub(super) fn firstof_tag(&mut self, items: &'t [(Expr, bool)]) -> EngineResult<()> {
        for (expr, safe) in items {
            let mut value = self.expr(expr)?;
            if value.truth() {
                if self.autoescape() && !safe {
                    value = self.escaped(&value)?;
                }
                return self.write_value(&value);
            }
        }
        Ok(())
    }

    /// The next item of a `cycle`, whose position advances at each use.
    fn next_item(&mut self, index: usize) -> EngineResult<Value> {
        let Some(tag) = self.tree.cycles.get(index) else { return Ok(Value::NIL) };
        let Some(turn) = self.cycles.get_mut(index) else { return Ok(Value::NIL) };
        // The index goes up without bound in pongo2, too, and is reduced at each use.
        let item = tag.items.get(turn.checked_rem(tag.items.len()).unwrap_or(0));
        *turn += 1;
        match item {
            Some(expr) => self.kept(expr),
            None => Err(EngineError::wrong("`cycle` needs something to go through")),
        }
    }

    /// Writes the next item (`tags_cycle.go`). If the item is a named cycle itself, that cycle
    /// advances.
    pub(super) fn cycle_tag(&mut self, index: usize) -> EngineResult<()> {
        let Some(tag) = self.tree.cycles.get(index) else { return Ok(()) };
        let value = self.next_item(index)?;
        if let GoValue::Cycle(cycle) = &value.data {
            // `cycle name` moves the cycle of that name on.
            // `{% cycle name %}` has a `*tagCycleValue` as its only item, which pongo2 recognises
            // by type.
            let next = self.next_item(cycle.tag)?;
            let next = match &next.data {
                GoValue::Cycle(other) if Arc::ptr_eq(cycle, other) => {
                    return Err(EngineError::wrong("a `cycle` goes through itself"));
                }
                GoValue::Cycle(other) => other.current(),
                _ => next,
            };
            *cycle.value.lock().unwrap_or_else(PoisonError::into_inner) = next.clone();
            let silent = self.tree.cycles.get(cycle.tag).is_some_and(|tag| tag.silent);
            return if silent { Ok(()) } else { self.write_value(&next.now()) };
        }
        if let Some(name) = tag.name {
            let cycle = Cycle { tag: index, value: Mutex::new(value.clone()) };
            self.assign_raw(name, GoValue::Cycle(Arc::new(cycle)).into());
        }
        if tag.silent { Ok(()) } else { self.write_value(&value.now()) }
    }

    /// Writes `current / max * width`, rounded up.
    pub(super) fn widthratio_tag(&mut self, tag: &'t WidthRatioTag) -> EngineResult<()> {
        let current = self.expr(&tag.current)?.float();
        let max = self.expr(&tag.max)?.float();
        let width = self.expr(&tag.width)?.float();
        // pongo2 adds a half and then rounds up (`math.Ceil(current/max*width + 0.5)`), so whole
        // numbers become one too many.
        let value = Value::from(number::to_int((current / max * width + 0.5).ceil()));
        match tag.name {
            Some(name) => {
                self.assign_raw(name, value);
                Ok(())
            }
            None => self.write_value(&value),
        }
    }

    /// Writes the time in a Go layout. Always UTC: the host's time zone is none of an image's
    /// business.
    pub(super) fn now_tag(&mut self, layout: &[u8], fake: bool) -> EngineResult<()> {
        let moment = if fake { time_layout::UtcTime::FAKE } else { self.context.moment() };
        // An element of a layout writes at most eight times its own length (`2` as a month's name
        // takes none).
        if layout.len() > self.cap / 8 {
            return Err(EngineError::limit("template_output", self.bounds.output, "the output of the template"));
        }
        self.spend(layout.len())?;
        self.write(&time_layout::format(moment, layout))
    }
}
