//! Expressions, level by level as in pongo2's `parser_expression.go`.
//!
//! The grammar, from loosest to tightest. The names in the middle are pongo2's types:
//!
//! ```text
//! expression  Expression            relation { ("and" | "or" | "&&" | "||") relation }
//! relation    relationalExpression  sum { ("==" | "!=" | "<>" | "<" | ">" | "<=" | ">=" | "in") sum }
//! sum         simpleExpression      [ "+" | "-" ] [ "!" | "not" ] product { ("+" | "-") product }
//! product     term                  power { ("*" | "/" | "%") power }
//! power       power                 factor { "^" factor }
//! factor                            "(" expression ")" | operand { "|" name [ ":" operand ] }
//! operand     variableResolver      number | string | "true" | "false" | path
//! path                              name { "." (name | digits) | "(" arguments ")" | "[" expression "]" }
//! ```
//!
//! Three levels recurse to the right in pongo2 where other languages group from the left:
//! expression, relation and power. `0 and 1 or 1` is `0 and (1 or 1)`, and `1 < 2 == true` is `1 <
//! (2 == true)`. They are flat lists here, evaluated in that order, so that a long chain takes no
//! stack.
//!
//! What surprises, and is pongo2's: the sign and `not` bind to the first product only (`not a == b`
//! is `(not a) == b`), no filter can follow a parenthesis, a filter's argument has neither sign nor
//! filters, and a subscript, which only Incus has, ends the path.

use super::super::Dialect;
use super::super::engine_error::{EngineError, EngineResult};
use super::super::filters::Filter;
use super::super::go::number;
use super::super::lexer::{Keyword, Symbol, TokenKind, unescaped};
use super::super::tree::{Accessor, Expr, FilterCall, Logic, PathSegment, Product, Relation, Sum, VariablePath};
use super::super::value::Value;
use super::{Parser, TokenCursor};

impl<'t, 'a> Parser<'t, 'a> {
    /// Parses `relation (and|or relation)*` (`ParseExpression`). `and` and `or` have one
    /// precedence.
    pub(super) fn expression(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        let first = self.relation(cursor)?;
        let mut rest = Vec::new();
        while let Some(op) = logic(cursor) {
            cursor.next += 1;
            self.chain(rest.len() + 1, cursor.at())?;
            rest.push((op, self.relation(cursor)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Logic(Box::new(first), rest) })
    }

    /// Parses an expression inside parentheses or brackets, one level deeper.
    fn nested(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        if self.parens_open >= self.bounds.nesting {
            return Err(self.too_deep(cursor.at()));
        }
        self.parens_open += 1;
        let expr = self.expression(cursor)?;
        self.parens_open -= 1;
        Ok(expr)
    }

    /// Parses `sum (== sum)*` (`parseRelationalExpression`).
    fn relation(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        let first = self.sum(cursor)?;
        let mut rest = Vec::new();
        while let Some(op) = relation(cursor) {
            cursor.next += 1;
            self.chain(rest.len() + 1, cursor.at())?;
            rest.push((op, self.sum(cursor)?));
            // pongo2 parses only a simple expression behind `in`, and does not look for another
            // operator.
            if matches!(op, Relation::In) {
                break;
            }
        }
        Ok(if rest.is_empty() { first } else { Expr::Relation(Box::new(first), rest) })
    }

    /// Parses `[+|-] [!|not] product ((+|-) product)*` (`parseSimpleExpression`). The sign comes
    /// before `not`, once each, and both apply to the first product only.
    fn sum(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        let minus = cursor.take_symbol(Symbol::Minus);
        // `+-1` is an error, as is `--1`: one sign only.
        if !minus {
            cursor.take_symbol(Symbol::Plus);
        }
        let not = cursor.take_symbol(Symbol::Not) || cursor.take_keyword(Keyword::Not);
        let first = self.product(cursor)?;
        let mut rest = Vec::new();
        while let Some(op @ (Symbol::Plus | Symbol::Minus)) = cursor.peek_symbol() {
            cursor.next += 1;
            self.chain(rest.len() + 1, cursor.at())?;
            rest.push((op == Symbol::Plus, self.product(cursor)?));
        }
        if !minus && !not && rest.is_empty() {
            return Ok(first);
        }
        Ok(Expr::Sum(Box::new(Sum { minus, not, first, rest })))
    }

    /// Parses `power ((*|/|%) power)*` (`parseTerm`), grouped from the left.
    fn product(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        let first = self.power(cursor)?;
        let mut rest = Vec::new();
        loop {
            let op = match cursor.peek_symbol() {
                Some(Symbol::Star) => Product::Times,
                Some(Symbol::Slash) => Product::Divide,
                Some(Symbol::Percent) => Product::Modulo,
                _ => break,
            };
            cursor.next += 1;
            self.chain(rest.len() + 1, cursor.at())?;
            rest.push((op, self.power(cursor)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Product(Box::new(first), rest) })
    }

    /// Parses `factor (^ factor)*` (`parsePower`), grouped from the right.
    fn power(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        let first = self.factor(cursor)?;
        if cursor.peek_symbol() != Some(Symbol::Caret) {
            return Ok(first);
        }
        let mut all = vec![first];
        while cursor.take_symbol(Symbol::Caret) {
            self.chain(all.len(), cursor.at())?;
            all.push(self.factor(cursor)?);
        }
        Ok(Expr::Power(all))
    }

    /// Parses a parenthesised expression, or an operand with its filters (`parseFactor`). No filter
    /// can follow a parenthesis.
    fn factor(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        if cursor.take_symbol(Symbol::OpenParen) {
            let expr = self.nested(cursor)?;
            if !cursor.take_symbol(Symbol::CloseParen) {
                return Err(cursor.wrong("expected `)`"));
            }
            return Ok(expr);
        }
        let value = self.operand(cursor)?;
        let mut filters = Vec::new();
        while cursor.take_symbol(Symbol::Pipe) {
            self.chain(filters.len() + 1, cursor.at())?;
            filters.push(self.filter(cursor)?);
        }
        Ok(if filters.is_empty() { value } else { Expr::Filtered(Box::new(value), filters) })
    }

    /// Parses the name and argument of a filter. Unknown names are errors here.
    fn filter(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<FilterCall> {
        let at = cursor.at();
        let Some(name) = cursor.take_any_word() else { return Err(cursor.wrong("expected the name of a filter")) };
        let Some(filter) = Filter::named(name, self.dialect) else {
            return Err(EngineError::wrong(format!("there is no filter `{}`", String::from_utf8_lossy(name))).at(at));
        };
        let argument = self.filter_argument(cursor)?;
        Ok(FilterCall { filter: Some(filter), argument, at })
    }

    /// Parses `:operand`, if there is one. The argument is a literal or a variable, without sign or
    /// filters.
    pub(super) fn filter_argument(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Option<Expr>> {
        if cursor.take_symbol(Symbol::Colon) { Ok(Some(self.operand(cursor)?)) } else { Ok(None) }
    }

    /// Parses a literal or a variable, without filters (`parseVariableOrLiteral`).
    fn operand(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        let Some(token) = cursor.peek() else {
            return Err(cursor.wrong("expected a number, a string or a name"));
        };
        match token.kind {
            TokenKind::Number(digits) => {
                cursor.next += 1;
                self.number(digits, cursor)
            }
            TokenKind::String(raw) => {
                cursor.next += 1;
                Ok(Expr::Literal(Value::bytes(unescaped(raw))))
            }
            TokenKind::Keyword(Keyword::True) => {
                cursor.next += 1;
                Ok(Expr::Literal(Value::from(true)))
            }
            TokenKind::Keyword(Keyword::False) => {
                cursor.next += 1;
                Ok(Expr::Literal(Value::from(false)))
            }
            TokenKind::Keyword(_) => Err(cursor.wrong("a keyword may not stand here")),
            TokenKind::Word(word) => {
                cursor.next += 1;
                self.path(word, token.at, cursor)
            }
            _ => Err(cursor.wrong("expected a number, a string or a name")),
        }
    }

    /// Parses an integer, or a float of two numbers around a dot.
    fn number(&mut self, digits: &[u8], cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        if !cursor.take_symbol(Symbol::Dot) {
            return Ok(Expr::Literal(Value::from(integer(digits, cursor)?)));
        }
        let Some(TokenKind::Number(fraction)) = cursor.peek().map(|token| token.kind) else {
            return Err(cursor.wrong("expected digits after the point"));
        };
        cursor.next += 1;
        match number::parse_float(&[digits, b".", fraction].concat()) {
            Some(value) => Ok(Expr::Literal(Value::from(value))),
            None => Err(cursor.wrong("the number is too large")),
        }
    }

    /// Parses what follows a variable's name: `.key`, `.0`, `(arguments)` and, in Incus, `[expr]`.
    fn path(&mut self, word: &'a [u8], at: u32, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Expr> {
        let mut path = VariablePath { name: self.name(word), call: None, segments: Vec::new(), at };
        loop {
            match cursor.peek_symbol() {
                Some(Symbol::Dot) => {
                    cursor.next += 1;
                    path.segments.push(PathSegment { step: self.step(cursor)?, call: None });
                }
                Some(Symbol::OpenParen) => {
                    cursor.next += 1;
                    let arguments = self.call_arguments(cursor)?;
                    // pongo2 collects the arguments of repeated parentheses into one call, so
                    // `f(1)(2)` is `f(1, 2)`.
                    let call = path.segments.last_mut().map_or(&mut path.call, |part| &mut part.call);
                    call.get_or_insert_default().extend(arguments);
                }
                Some(Symbol::OpenBracket) if self.dialect == Dialect::Incus => {
                    cursor.next += 1;
                    let inner = self.nested(cursor)?;
                    if !cursor.take_symbol(Symbol::CloseBracket) {
                        return Err(cursor.wrong("expected `]`"));
                    }
                    path.segments.push(PathSegment { step: Accessor::Subscript(inner), call: None });
                    // pongo2 6 reads no further behind a bracket.
                    break;
                }
                _ => break,
            }
            self.chain(path.segments.len(), cursor.at())?;
        }
        Ok(Expr::Path(Box::new(path)))
    }

    /// Parses the key or index behind a dot.
    fn step(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Accessor> {
        let step = match cursor.peek().map(|token| token.kind) {
            Some(TokenKind::Word(word)) => Accessor::Field(word.into()),
            Some(TokenKind::Number(digits)) => {
                Accessor::Index(usize::try_from(integer(digits, cursor)?).unwrap_or(usize::MAX))
            }
            _ => return Err(cursor.wrong("expected a name or an index after the point")),
        };
        cursor.next += 1;
        Ok(step)
    }

    /// Parses call arguments up to the closing parenthesis. A trailing comma is allowed.
    fn call_arguments(&mut self, cursor: &mut TokenCursor<'t, 'a>) -> EngineResult<Vec<Expr>> {
        let mut arguments = Vec::new();
        while !cursor.take_symbol(Symbol::CloseParen) {
            arguments.push(self.nested(cursor)?);
            if cursor.take_symbol(Symbol::CloseParen) {
                break;
            }
            if !cursor.take_symbol(Symbol::Comma) {
                return Err(cursor.wrong("expected `,` or `)` after the argument"));
            }
        }
        Ok(arguments)
    }
}

/// Converts digits. Integers have 63 bits and a sign; Go's `strconv.Atoi` fails beyond that.
fn integer(digits: &[u8], cursor: &TokenCursor<'_, '_>) -> EngineResult<i64> {
    let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| cursor.wrong("the number is too large"))
}

fn logic(cursor: &TokenCursor<'_, '_>) -> Option<Logic> {
    match cursor.peek()?.kind {
        TokenKind::Symbol(Symbol::And) | TokenKind::Keyword(Keyword::And) => Some(Logic::And),
        TokenKind::Symbol(Symbol::Or) | TokenKind::Keyword(Keyword::Or) => Some(Logic::Or),
        _ => None,
    }
}

fn relation(cursor: &TokenCursor<'_, '_>) -> Option<Relation> {
    Some(match cursor.peek()?.kind {
        TokenKind::Symbol(Symbol::Equal) => Relation::Equal,
        TokenKind::Symbol(Symbol::Unequal | Symbol::Differs) => Relation::Unequal,
        TokenKind::Symbol(Symbol::Less) => Relation::Less,
        TokenKind::Symbol(Symbol::Greater) => Relation::Greater,
        TokenKind::Symbol(Symbol::AtMost) => Relation::AtMost,
        TokenKind::Symbol(Symbol::AtLeast) => Relation::AtLeast,
        TokenKind::Keyword(Keyword::In) => Relation::In,
        _ => return None,
    })
}
