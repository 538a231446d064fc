//! Evaluation of variables: names, keys, indexes and calls (`variable.go`,
//! `variableResolver.resolve`).
//!
//! A path that reaches nil stays nil, and prints as nothing. A path that asks a value for something
//! its type cannot have (a key of a text, an index of a number) is an error.

use std::sync::Arc;

use super::super::Dialect;
use super::super::engine_error::{EngineError, EngineResult};
use super::super::tree::{Accessor, Expr, VariablePath};
use super::super::value::{Function, GoValue, LoopInfo, MapType, Value};
use super::{Renderer, weight};

impl<'t> Renderer<'t> {
    /// The present value of a variable.
    pub(super) fn path(&mut self, path: &'t VariablePath) -> EngineResult<Value> {
        Ok(self.live_path(path)?.now())
    }

    /// The value as a variable keeps it: a field of a running loop changes with the loop.
    pub(super) fn live_path(&mut self, path: &'t VariablePath) -> EngineResult<Value> {
        self.follow(path).map_err(|fault| fault.at(path.at))
    }

    /// Resolves the name, then each segment.
    fn follow(&mut self, path: &'t VariablePath) -> EngineResult<Value> {
        self.spend(0)?;
        let mut current = match self.private(path.name)? {
            Some(slot) if slot.wrapped => slot.value,
            // A bare nil in a scope ends the lookup: the context is not asked for a name that a
            // scope holds.
            Some(slot) if matches!(slot.value.data, GoValue::Nil) => return Ok(Value::NIL),
            Some(slot) => slot.value,
            None => match self.context.get(self.name_of(path.name)) {
                Some(value) if !matches!(value.data, GoValue::Nil) => value.clone(),
                _ => return Ok(Value::NIL),
            },
        };
        current = self.called(current, path.call.as_deref())?;
        for part in &path.segments {
            // A field of a loop is read when the path goes through it, not when it was stored.
            current = current.now();
            if matches!(current.data, GoValue::Nil | GoValue::NoLoop) {
                return Ok(Value::NIL);
            }
            // A value taken out of a macro's output counts as safe, too.
            let safe = current.safe;
            let Some(data) = self.step(&current, &part.step)? else { return Ok(Value::NIL) };
            current = self.called(Value { data, safe }, part.call.as_deref())?;
        }
        Ok(current)
    }

    /// Takes one step into a value. `None` means that there is nothing, which ends the path with
    /// nil.
    fn step(&mut self, current: &Value, step: &'t Accessor) -> EngineResult<Option<GoValue>> {
        match step {
            Accessor::Field(name) => field(current, name),
            Accessor::Index(index) => indexed(current, *index),
            Accessor::Subscript(expr) => match &current.data {
                GoValue::Str(_) | GoValue::Trigger(_) | GoValue::List(_) => {
                    let index = self.expr(expr)?;
                    self.spend(weight(&index))?;
                    match usize::try_from(index.integer()) {
                        Ok(index) => indexed(current, index),
                        // A negative index finds nothing, while one past the end gives nil.
                        Err(_) => Ok(None),
                    }
                }
                GoValue::Map(map) => match self.expr(expr)?.data {
                    GoValue::Str(key) => Ok(map.get(&key).map(|value| value.data.clone())),
                    GoValue::Nil => Err(EngineError::wrong("nil is no key")),
                    _ => Ok(None),
                },
                GoValue::Loop(_) | GoValue::Cycle(_) | GoValue::Block => {
                    let name = self.expr(expr)?.text();
                    structure(current, &name)
                }
                _ => Err(no_index(current)),
            },
        }
    }

    /// Calls a function. Naming one without parentheses calls it without arguments, as in pongo2.
    fn called(&mut self, current: Value, call: Option<&'t [Expr]>) -> EngineResult<Value> {
        let GoValue::Function(function) = &current.data else {
            if call.is_some() {
                return Err(EngineError::wrong(format!("this is no function, but a {}", current.type_name())));
            }
            return Ok(current);
        };
        let call = call.unwrap_or(&[]);
        let wanted = match function {
            // LXD's Go function has two parameters, and reflection refuses another number of
            // arguments.
            Function::ConfigGet(_) => Some(2),
            Function::Macro { .. } => None,
            Function::Super | Function::Text(_) => Some(0),
        };
        if let Some(wanted) = wanted.filter(|&wanted| wanted != call.len()) {
            return Err(EngineError::wrong(format!("this function takes {wanted} arguments, not {}", call.len())));
        }
        self.enter()?;
        let mut arguments = Vec::with_capacity(call.len());
        for expr in call {
            arguments.push(self.expr(expr)?);
        }
        let result = match function {
            Function::ConfigGet(config) => config_get(config, arguments),
            Function::Macro { index, scope } => self.call_macro(*index, *scope, arguments)?,
            Function::Super => Value { safe: self.dialect == Dialect::Incus, ..Value::from("") },
            Function::Text(text) => Value::bytes(text.clone()),
        };
        self.leave();
        Ok(result)
    }

    /// Calls a macro in the scope of its definition (`tagMacroNode.call`).
    ///
    /// Defaults are evaluated first, in that scope; then arguments replace them. Missing arguments
    /// are nil.
    fn call_macro(&mut self, index: usize, scope: usize, arguments: Vec<Value>) -> EngineResult<Value> {
        let Some(tag) = self.tree.macros.get(index) else { return Ok(Value::NIL) };
        self.macros_open += 1;
        if self.macros_open > self.bounds.depth {
            return Err(EngineError::limit("template_depth", self.bounds.depth, "the depth of macro calls"));
        }
        let mut vars = Vec::with_capacity(tag.defaults.len());
        // Defaults see the scope of the definition. The caller's scope is back after the call.
        let caller = std::mem::replace(&mut self.scope, scope);
        for (name, default) in &tag.defaults {
            let value = match default {
                Some(expr) => Some(self.kept(expr)?),
                None => None,
            };
            vars.push((*name, value));
        }
        // pongo2 4 prints this error's text as the macro's output. An error in both dialects is
        // kinder, see `TEMPLATES.md`.
        if arguments.len() > tag.arguments.len() {
            let (name, wanted) = (String::from_utf8_lossy(self.name_of(tag.name)), tag.arguments.len());
            return Err(EngineError::wrong(format!(
                "the macro `{name}` takes {wanted} arguments, not {}",
                arguments.len()
            )));
        }
        let before = self.open(scope);
        for (name, value) in vars {
            match value {
                Some(value) => self.assign(name, value),
                None => self.assign_raw(name, Value::NIL),
            }
        }
        for (name, value) in tag.arguments.iter().zip(arguments) {
            self.assign_raw(*name, value);
        }
        // The body sees its definition's variables and its arguments, not the caller's `with`.
        let text = self.captured(&tag.body)?;
        self.close(before);
        self.scope = caller;
        self.macros_open -= 1;
        Ok(Value { safe: true, ..Value::bytes(text) })
    }

    /// Makes a macro known in the innermost scope. It remembers that scope.
    pub(super) fn define(&mut self, index: usize) {
        if let Some(tag) = self.tree.macros.get(index) {
            let function = Function::Macro { index, scope: self.scope };
            self.assign_raw(tag.name, GoValue::Function(function).into());
        }
    }
}

/// LXD's function `config_get`: the value of a key without trailing CR and LF, or the default
/// unchanged. A key with an empty value gives the empty text, not the default.
fn config_get(config: &Arc<super::Map>, arguments: Vec<Value>) -> Value {
    let mut arguments = arguments.into_iter();
    let (key, default) = (arguments.next().unwrap_or(Value::NIL), arguments.next().unwrap_or(Value::NIL));
    match config.get(&key.text()) {
        Some(value) => {
            let text = value.text();
            let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
            if end == text.len() { Value::bytes(text) } else { Value::bytes(&text[..end]) }
        }
        None => default,
    }
}

/// A key of a map, or a field of one of pongo2's structures.
fn field(current: &Value, name: &[u8]) -> EngineResult<Option<GoValue>> {
    match &current.data {
        GoValue::Map(map) if map.kind == MapType::Context && name == b"Update" => {
            // `pongo2` is a Go map type with a method `Update`, which reflection finds before the
            // keys.
            Err(EngineError::wrong("`pongo2.Update` can't be called"))
        }
        GoValue::Map(map) => Ok(map.get(name).map(|value| value.data.clone())),
        GoValue::Loop(_) | GoValue::Cycle(_) | GoValue::Block => structure(current, name),
        _ => Err(EngineError::wrong(format!(
            "a {} has no field `{}`",
            current.type_name(),
            String::from_utf8_lossy(name)
        ))),
    }
}

/// A field or method of one of pongo2's own structures, which Go's reflection makes visible to
/// templates.
fn structure(current: &Value, name: &[u8]) -> EngineResult<Option<GoValue>> {
    match (&current.data, name) {
        (GoValue::Loop(info), _) => Ok(match LoopInfo::FIELDS.iter().position(|field| *field == name) {
            Some(index) if index < LoopInfo::CHANGING => Some(GoValue::Field(info.clone(), index)),
            _ => info.field(name),
        }),
        (GoValue::Cycle(cycle), b"String") => Ok(Some(GoValue::Function(Function::Text(cycle.current().text())))),
        (GoValue::Block, b"Super") => Ok(Some(GoValue::Function(Function::Super))),
        (GoValue::Cycle(_), b"node" | b"value") | (GoValue::Block, b"ctx" | b"wrappers") => {
            // Unexported fields: reflection finds them and panics when they are used.
            Err(EngineError::wrong("this field is pongo2's own"))
        }
        _ => Ok(None),
    }
}

/// An item of a list, or a byte of a text as a number (Go's `reflect.Value.Index` on a string).
fn indexed(current: &Value, index: usize) -> EngineResult<Option<GoValue>> {
    match &current.data {
        GoValue::Str(text) | GoValue::Trigger(text) => Ok(text.get(index).map(|&byte| GoValue::Byte(byte))),
        GoValue::List(list) => Ok(list.items.get(index).map(|value| value.data.clone())),
        _ => Err(no_index(current)),
    }
}

/// Creates the error for an index into a value without items.
fn no_index(current: &Value) -> Box<EngineError> {
    EngineError::wrong(format!("a {} has no items to point at", current.type_name()))
}
