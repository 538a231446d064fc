//! The parser: tokens into a tree. This file handles the document, its text, and the search for end
//! tags; expressions and the arguments of each tag are in [`expression`] and [`tags`].
//!
//! It is a recursive descent parser like pongo2's, with two bounds that pongo2 lacks: nesting (of
//! blocks, and of parentheses) and the length of chains. Both are checked before recursing or
//! growing, so no source can exhaust stack or memory.

mod expression;
mod tags;

use std::collections::{BTreeMap, BTreeSet};

use super::Dialect;
use super::engine_error::{EngineError, EngineResult};
use super::lexer::{Keyword, Symbol, Token, TokenKind};
use super::tree::{CycleTag, LocatedNode, MacroTag, NameId, Node, Nodes};

/// The bounds of one parse.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParseLimits {
    /// The deepest nesting of the author's blocks, and of parentheses.
    pub(crate) nesting: u64,
    /// Blocks around the author's text, which do not count as nesting.
    pub(crate) wrapped: u64,
    /// The offset at which the author's text ends and the wrapping continues.
    pub(crate) own_end: u32,
    /// The longest chain of operators, filters, path segments or arguments.
    pub(crate) chain: u64,
}

/// The result of parsing: the nodes, and tables that they refer to by index.
#[derive(Debug, Default)]
pub(crate) struct SyntaxTree {
    pub(crate) nodes: Nodes,
    /// The names, indexed by [`NameId`].
    pub(crate) names: Vec<Box<[u8]>>,
    pub(crate) macros: Vec<MacroTag>,
    pub(crate) cycles: Vec<CycleTag>,
    /// The number of `ifchanged` tags, each of which has a memory at rendering.
    pub(crate) ifchanged_count: usize,
}

/// Names with a meaning of their own in pongo2. Every table of names begins with these three.
pub(crate) const FORLOOP: NameId = 0;
pub(crate) const BLOCK: NameId = 1;
pub(crate) const PONGO2: NameId = 2;

/// A position in the tokens of the document, or of one tag's arguments.
#[derive(Clone, Copy)]
pub(crate) struct TokenCursor<'t, 'a> {
    tokens: &'t [Token<'a>],
    next: usize,
    /// The place of what has no token: the end.
    end: u32,
}

impl<'t, 'a> TokenCursor<'t, 'a> {
    fn new(tokens: &'t [Token<'a>], end: u32) -> Self {
        Self { tokens, next: 0, end }
    }

    fn peek(&self) -> Option<&'t Token<'a>> {
        self.tokens.get(self.next)
    }

    fn is_done(&self) -> bool {
        self.next >= self.tokens.len()
    }

    /// The offset of the current token.
    fn at(&self) -> u32 {
        self.peek().map_or(self.end, |token| token.at)
    }

    fn peek_symbol(&self) -> Option<Symbol> {
        self.peek().and_then(Token::symbol)
    }

    /// Advances if the current token is `symbol`, and returns whether it was.
    fn take_symbol(&mut self, symbol: Symbol) -> bool {
        let hit = self.peek_symbol() == Some(symbol);
        self.next += usize::from(hit);
        hit
    }

    /// Advances if the current token is `keyword`, and returns whether it was.
    fn take_keyword(&mut self, keyword: Keyword) -> bool {
        let hit = self.peek().is_some_and(|token| token.kind == TokenKind::Keyword(keyword));
        self.next += usize::from(hit);
        hit
    }

    /// Advances over a name and returns it.
    fn take_any_word(&mut self) -> Option<&'a [u8]> {
        let word = self.peek()?.word()?;
        self.next += 1;
        Some(word)
    }

    /// Advances if the current token is the name `word`, and returns whether it was.
    fn take_word(&mut self, word: &[u8]) -> bool {
        let hit = self.peek().and_then(Token::word) == Some(word);
        self.next += usize::from(hit);
        hit
    }

    /// Creates an error at the current token, which the message names.
    fn wrong(&self, message: impl Into<String>) -> Box<EngineError> {
        let mut message = message.into();
        match self.peek().map(|token| token.kind) {
            Some(TokenKind::Symbol(symbol) | TokenKind::Trim(symbol)) => {
                message += &format!(", found `{}`", symbol.text());
            }
            Some(TokenKind::Word(word)) => message += &format!(", found `{}`", String::from_utf8_lossy(word)),
            Some(_) => {}
            None => message += ", but here it ends",
        }
        EngineError::wrong(message).at(self.at())
    }

    /// Fails unless all tokens are used.
    fn finish(&self, what: &str) -> EngineResult<()> {
        if self.is_done() { Ok(()) } else { Err(self.wrong(format!("{what} is over here"))) }
    }
}

/// The state of the parser.
pub(crate) struct Parser<'t, 'a> {
    doc: TokenCursor<'t, 'a>,
    dialect: Dialect,
    bounds: ParseLimits,
    /// Blocks that are open at present; compared with the bound on nesting.
    blocks_open: u64,
    /// Parentheses and subscripts that are open at present.
    parens_open: u64,
    tree: SyntaxTree,
    names: BTreeMap<&'a [u8], NameId>,
    /// Names of `block` tags, which must differ.
    block_names: BTreeSet<&'a [u8]>,
}

/// The body of a tag, the name of the end tag that was found, and that tag's arguments.
struct TagBody<'t, 'a> {
    nodes: Nodes,
    end: &'a [u8],
    arguments: TokenCursor<'t, 'a>,
}

/// Parses a whole document. `end` is the length of the source.
pub(crate) fn parse(tokens: &[Token<'_>], end: u32, dialect: Dialect, bounds: ParseLimits) -> EngineResult<SyntaxTree> {
    let mut parser = Parser {
        doc: TokenCursor::new(tokens, end),
        dialect,
        bounds,
        blocks_open: 0,
        parens_open: 0,
        tree: SyntaxTree::default(),
        names: BTreeMap::new(),
        block_names: BTreeSet::new(),
    };
    // In the order of the constants above.
    for known in [b"forloop".as_slice(), b"block", b"pongo2"] {
        parser.name(known);
    }
    let mut nodes = Vec::new();
    while !parser.doc.is_done() {
        parser.element(&mut nodes)?;
    }
    parser.tree.nodes = nodes;
    Ok(parser.tree)
}

impl<'t, 'a> Parser<'t, 'a> {
    /// The index of a name, added to the table if it is new.
    fn name(&mut self, text: &'a [u8]) -> NameId {
        if let Some(&name) = self.names.get(text) {
            return name;
        }
        let name = NameId::try_from(self.tree.names.len()).unwrap_or(NameId::MAX);
        self.tree.names.push(text.into());
        self.names.insert(text, name);
        name
    }

    /// Creates the error for too much nesting.
    fn too_deep(&self, at: u32) -> Box<EngineError> {
        EngineError::limit("template_nesting", self.bounds.nesting, "the nesting of blocks or parentheses").at(at)
    }

    /// Checks the length of a chain of operators, filters or path segments.
    fn chain(&self, length: usize, at: u32) -> EngineResult<()> {
        if length as u64 > self.bounds.chain {
            let what = "the number of operators, filters or segments in one chain";
            return Err(EngineError::limit("template_chain", self.bounds.chain, what).at(at));
        }
        Ok(())
    }

    /// Parses one text, variable or tag.
    fn element(&mut self, nodes: &mut Nodes) -> EngineResult<()> {
        let Some(token) = self.doc.peek() else { return Ok(()) };
        match token.kind {
            TokenKind::Text(text) => {
                self.text(text, token.at, nodes);
                Ok(())
            }
            TokenKind::Symbol(Symbol::OpenVariable) | TokenKind::Trim(Symbol::OpenVariable) => self.variable(nodes),
            TokenKind::Symbol(Symbol::OpenTag) | TokenKind::Trim(Symbol::OpenTag) => self.tag(nodes),
            _ => Err(self.doc.wrong("only text, variables and tags may stand here")),
        }
    }

    /// Adds a text, without the white space that trim marks next to it remove (space, tab, CR, LF).
    fn text(&mut self, text: &[u8], at: u32, nodes: &mut Nodes) {
        let trims = |index: Option<usize>| {
            index.and_then(|i| self.doc.tokens.get(i)).is_some_and(|token| matches!(token.kind, TokenKind::Trim(_)))
        };
        let space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        let (mut start, mut end) = (0, text.len());
        // The token before the text is the end of a tag, `-}}` or `-%}`; the one behind is the
        // start of the next.
        if trims(self.doc.next.checked_sub(1)) {
            start = text.iter().take_while(|byte| space(byte)).count();
        }
        if trims(self.doc.next.checked_add(1)) {
            end -= text[start..].iter().rev().take_while(|byte| space(byte)).count();
        }
        self.doc.next += 1;
        if start < end {
            let place = |offset: usize| at.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
            nodes.push(LocatedNode { at: place(start), node: Node::Text(place(start), place(end)) });
        }
    }

    /// Parses `{{ … }}`.
    fn variable(&mut self, nodes: &mut Nodes) -> EngineResult<()> {
        let at = self.doc.at();
        self.doc.next += 1;
        let mut cursor = self.doc;
        let expr = self.expression(&mut cursor)?;
        if !cursor.take_symbol(Symbol::CloseVariable) {
            return Err(cursor.wrong("expected `}}`"));
        }
        self.doc = cursor;
        let safe = expr.is_safe();
        nodes.push(LocatedNode { at, node: Node::Output(Box::new(expr), safe) });
        Ok(())
    }

    /// Parses a tag and, through [`tags`], its body.
    fn tag(&mut self, nodes: &mut Nodes) -> EngineResult<()> {
        self.doc.next += 1;
        let at = self.doc.at();
        let Some(name) = self.doc.take_any_word() else {
            return Err(self.doc.wrong("expected the name of a tag"));
        };
        // Checked before the arguments, so an unknown tag is reported even if its arguments do not
        // close.
        let known = tags::check(name).map_err(|fault| fault.at(at))?;
        let arguments = self.arguments()?;
        nodes.extend(self.tag_named(known, at, arguments)?.map(|node| LocatedNode { at, node }));
        Ok(())
    }

    /// The tokens up to the end of the tag. pongo2 cuts arguments out before parsing them
    /// (`parseTagElement`), so a `%}` cannot be part of an expression.
    fn arguments(&mut self) -> EngineResult<TokenCursor<'t, 'a>> {
        let rest = self.doc.tokens.get(self.doc.next..).unwrap_or(&[]);
        let Some(length) = rest.iter().position(|token| token.symbol() == Some(Symbol::CloseTag)) else {
            self.doc.next = self.doc.tokens.len();
            return Err(self.doc.wrong("expected `%}`"));
        };
        self.doc.next += length + 1;
        Ok(TokenCursor::new(&rest[..length], rest[length].at))
    }

    /// The name of the tag that starts here, if it is one of `ends`.
    fn end_tag(&self, ends: &[&'static [u8]]) -> Option<&'a [u8]> {
        if self.doc.peek_symbol() != Some(Symbol::OpenTag) {
            return None;
        }
        let word = self.doc.tokens.get(self.doc.next + 1)?.word()?;
        ends.contains(&word).then_some(word)
    }

    /// Parses nodes up to one of the end tags (`Parser.WrapUntilTag`).
    fn body(&mut self, at: u32, ends: &[&'static [u8]]) -> EngineResult<TagBody<'t, 'a>> {
        if self.blocks_open >= self.bounds.nesting + self.bounds.wrapped {
            return Err(self.too_deep(at));
        }
        // Counted down at the end tag only. An error ends the parse, so the count no longer matters
        // then.
        self.blocks_open += 1;
        let mut nodes = Vec::new();
        while !self.doc.is_done() {
            if let Some(end) = self.end_tag(ends) {
                self.doc.next += 2;
                let arguments = self.arguments()?;
                self.blocks_open -= 1;
                return Ok(TagBody { nodes, end, arguments });
            }
            // The wrapping's own end tag follows. One of the author's tags is still open, and the
            // message names that one.
            if self.doc.at() >= self.bounds.own_end {
                return Err(self.unclosed(at, ends));
            }
            self.element(&mut nodes)?;
        }
        Err(self.unclosed(at, ends))
    }

    /// Creates the error for a tag without its end tag.
    fn unclosed(&self, at: u32, ends: &[&'static [u8]]) -> Box<EngineError> {
        let names: Vec<_> = ends.iter().map(|end| format!("`{}`", String::from_utf8_lossy(end))).collect();
        EngineError::wrong(format!("this tag is not closed: expected {}", names.join(" or "))).at(at)
    }

    /// Skips the tokens of a `comment` block, which must be lexically correct and nothing else.
    fn skip(&mut self, at: u32, end: &'static [u8]) -> EngineResult<()> {
        while !self.doc.is_done() {
            if self.end_tag(&[end]).is_some() {
                self.doc.next += 2;
                let arguments = self.arguments()?;
                return arguments.finish("`endcomment`");
            }
            self.doc.next += 1;
        }
        Err(self.unclosed(at, &[end]))
    }
}
