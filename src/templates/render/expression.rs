//! Evaluation of expressions (`parser_expression.go`). Chains run in loops, so only nesting takes
//! stack.
//!
//! Where Go panics, which takes down a goroutine of the daemon, the result here is an error:
//! integer division by zero, comparing lists or maps.

use super::super::Dialect;
use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::number;
use super::super::tree::{Expr, FilterCall, Logic, Product, Relation, Sum};
use super::super::value::Value;
use super::{Renderer, weight};

impl<'t> Renderer<'t> {
    /// Evaluates an expression.
    pub(super) fn expr(&mut self, expr: &'t Expr) -> EngineResult<Value> {
        match expr {
            // Literals and variables are most of all expressions. They need no frame, since they
            // nest no further.
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Path(path) => self.path(path),
            _ => {
                self.enter()?;
                self.spend(0)?;
                let value = self.compound(expr)?;
                self.leave();
                Ok(value)
            }
        }
    }

    /// Evaluates an expression whose value a variable will hold. A field of `forloop` stays live
    /// then, see [`GoValue::Field`](super::GoValue).
    pub(super) fn kept(&mut self, expr: &'t Expr) -> EngineResult<Value> {
        match expr {
            Expr::Path(path) => self.live_path(path),
            _ => self.expr(expr),
        }
    }

    /// Evaluates an expression that has operands.
    fn compound(&mut self, expr: &'t Expr) -> EngineResult<Value> {
        match expr {
            Expr::Filtered(first, filters) => self.filters(first, filters),
            Expr::Logic(first, rest) => self.logic(first, rest),
            Expr::Relation(first, rest) => self.relation(first, rest),
            Expr::Sum(sum) => self.sum(sum),
            Expr::Product(first, rest) => self.product(first, rest),
            Expr::Power(all) => self.power(all),
            Expr::Literal(_) | Expr::Path(_) => self.expr(expr),
        }
    }

    /// Applies filters from left to right.
    fn filters(&mut self, first: &'t Expr, filters: &'t [FilterCall]) -> EngineResult<Value> {
        let mut value = self.expr(first)?;
        for call in filters {
            value = self.filtered(&value, call)?;
        }
        Ok(value)
    }

    /// Evaluates `and` and `or`. One level, grouped from the right, so the first operand that
    /// decides ends the evaluation: `0 and 1 or 1` is False.
    fn logic(&mut self, first: &'t Expr, rest: &'t [(Logic, Expr)]) -> EngineResult<Value> {
        let mut truth = self.expr(first)?.truth();
        for (op, next) in rest {
            match (op, truth) {
                (Logic::And, false) | (Logic::Or, true) => break,
                _ => truth = self.expr(next)?.truth(),
            }
        }
        Ok(Value::from(truth))
    }

    /// Evaluates relations, grouped from the right: `1 < 2 == true` compares 1 with the result of
    /// `2 == true`. All operands are evaluated first, as in pongo2.
    fn relation(&mut self, first: &'t Expr, rest: &'t [(Relation, Expr)]) -> EngineResult<Value> {
        let mut operands = vec![self.expr(first)?];
        for (_, expr) in rest {
            operands.push(self.expr(expr)?);
        }
        let mut right = operands.pop().unwrap_or(Value::NIL);
        for ((op, _), left) in rest.iter().zip(operands).rev() {
            self.spend(weight(&left) + weight(&right))?;
            right = Value::from(self.compare(*op, &left, &right)?);
        }
        Ok(right)
    }

    /// Compares two values. `<` and the like compare numbers, never text: a text that is not a
    /// number counts as 0.
    fn compare(&mut self, op: Relation, left: &Value, right: &Value) -> EngineResult<bool> {
        let numbers = |floats: fn(&f64, &f64) -> bool, integers: fn(&i64, &i64) -> bool| {
            if left.is_float() || right.is_float() {
                floats(&left.float(), &right.float())
            } else {
                integers(&left.integer(), &right.integer())
            }
        };
        Ok(match op {
            Relation::Equal => self.equal(left, right)?,
            Relation::Unequal => !self.equal(left, right)?,
            Relation::Less => numbers(f64::lt, i64::lt),
            Relation::Greater => numbers(f64::gt, i64::gt),
            Relation::AtMost => numbers(f64::le, i64::le),
            Relation::AtLeast => numbers(f64::ge, i64::ge),
            Relation::In => {
                // Each item may be compared with the whole of the left side.
                if let super::GoValue::List(list) = &right.data {
                    self.spend(list.items.len().saturating_mul(weight(left)))?;
                }
                right
                    .contains(left)
                    .ok_or_else(|| EngineError::wrong("`in` can't look for a value of this type here"))?
            }
        })
    }

    /// `==`, as an error where Go panics.
    pub(super) fn equal(&mut self, left: &Value, right: &Value) -> EngineResult<bool> {
        self.spend(weight(left))?;
        left.equals(right).ok_or_else(|| EngineError::wrong("values of this type can't be compared"))
    }

    /// Evaluates the sign and `not` on the first term, then the rest from the left.
    fn sum(&mut self, sum: &'t Sum) -> EngineResult<Value> {
        let mut value = self.expr(&sum.first)?;
        if sum.not {
            value = value.negated();
        }
        if sum.minus {
            value = if value.is_float() {
                // Go negates a float's sign bit, so `-0.0` prints as `-0.000000`.
                Value::from(-value.float())
            } else if value.is_integer() {
                Value::from(value.integer().wrapping_neg())
            } else {
                // The only operator without a conversion: `-"5"` is an error in both versions
                // (`simpleExpression.Evaluate`).
                return Err(EngineError::wrong("a minus sign needs a number"));
            };
        }
        for (plus, expr) in &sum.rest {
            let next = self.expr(expr)?;
            value = self.add(&value, &next, *plus)?;
        }
        Ok(value)
    }

    /// Adds or subtracts. pongo2 6 concatenates if one side of `+` is a text; pongo2 4 takes a text
    /// for the number that it spells, or 0.
    fn add(&mut self, left: &Value, right: &Value, plus: bool) -> EngineResult<Value> {
        self.spend(weight(left) + weight(right))?;
        if plus && self.dialect == Dialect::Incus && (left.is_string() || right.is_string()) {
            let (left, right) = (left.text(), right.text());
            if left.len() + right.len() > self.cap {
                return Err(EngineError::limit("template_output", self.bounds.output, "a value of the template"));
            }
            return Ok(Value::bytes([left, right].concat()));
        }
        if left.is_float() || right.is_float() {
            let right = if plus { right.float() } else { -right.float() };
            return Ok(Value::from(left.float() + right));
        }
        let (left, right) = (left.integer(), right.integer());
        Ok(Value::from(if plus { left.wrapping_add(right) } else { left.wrapping_sub(right) }))
    }

    /// Multiplies and divides from the left.
    fn product(&mut self, first: &'t Expr, rest: &'t [(Product, Expr)]) -> EngineResult<Value> {
        let mut value = self.expr(first)?;
        for (op, expr) in rest {
            let next = self.expr(expr)?;
            self.spend(weight(&value) + weight(&next))?;
            value = multiply(*op, &value, &next)?;
        }
        Ok(value)
    }

    /// Raises to a power, from the right. The result is always a float.
    fn power(&mut self, all: &'t [Expr]) -> EngineResult<Value> {
        let mut operands = Vec::with_capacity(all.len());
        for expr in all {
            let value = self.expr(expr)?;
            self.spend(weight(&value))?;
            operands.push(value.float());
        }
        // From the right: `2^3^2` is `2^9`.
        let mut result = operands.pop().unwrap_or(0.0);
        for base in operands.into_iter().rev() {
            result = number::pow(base, result);
        }
        Ok(Value::from(result))
    }
}

/// One multiplication, division or modulo. Integers wrap; `%` converts floats to integers first
/// (`term.Evaluate`).
fn multiply(op: Product, left: &Value, right: &Value) -> EngineResult<Value> {
    let floats = left.is_float() || right.is_float();
    Ok(match op {
        // There is no such arm for modulo: pongo2 converts both sides to integers, so `5 % 2.5` is
        // `5 % 2`.
        Product::Times if floats => Value::from(left.float() * right.float()),
        Product::Divide if floats => Value::from(left.float() / right.float()),
        Product::Times => Value::from(left.integer().wrapping_mul(right.integer())),
        Product::Divide | Product::Modulo => {
            let (left, right) = (left.integer(), right.integer());
            // Go panics with a runtime error for integers. Floats divide to infinity, in Go and
            // here.
            if right == 0 {
                return Err(EngineError::wrong("division by zero"));
            }
            Value::from(match op {
                Product::Modulo => left.wrapping_rem(right),
                _ => left.wrapping_div(right),
            })
        }
    })
}
