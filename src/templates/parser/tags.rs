//! The tags: arguments, bodies and end tags, each as in pongo2's `tags_*.go`.
//!
//! pongo2 often parses the body before the arguments. The order here differs where it only decides
//! which of two errors is reported.

use super::super::engine_error::{EngineError, EngineResult};
use super::super::filters::Filter;
use super::super::lexer::{Keyword, Symbol, TokenKind, unescaped};
use super::super::tree::{
    CycleTag, Expr, FilterBlock, FilterCall, ForTag, IfChangedTag, IfEqualTag, IfTag, LoremMethod, LoremTag, MacroTag,
    Node, Nodes, WidthRatioTag, WithTag,
};
use super::super::value::integer_of;
use super::{Parser, TokenCursor};

/// The tags by name, sorted.
const TAGS: &[&str] = &[
    "autoescape",
    "block",
    "comment",
    "cycle",
    "filter",
    "firstof",
    "for",
    "if",
    "ifchanged",
    "ifequal",
    "ifnotequal",
    "lorem",
    "macro",
    "now",
    "set",
    "spaceless",
    "templatetag",
    "widthratio",
    "with",
];

/// Tags that read another file. LXD bans them (`pongo2.NewSet` with `BanTag`), and so does Incus.
const REFUSED: [&str; 4] = ["extends", "import", "include", "ssi"];

/// Looks a tag up by name.
///
/// # Errors
/// Unknown tags, refused ones, and end tags without a start.
pub(super) fn check(name: &[u8]) -> EngineResult<&'static str> {
    if let Some(known) = TAGS.iter().find(|known| known.as_bytes() == name) {
        return Ok(known);
    }
    let shown = String::from_utf8_lossy(name);
    if REFUSED.iter().any(|refused| refused.as_bytes() == name) {
        return Err(EngineError::wrong(format!("`{shown}` is refused: an image template reads no other file")));
    }
    if name.starts_with(b"end") || matches!(name, b"else" | b"elif" | b"empty") {
        return Err(EngineError::wrong(format!("`{shown}` has no tag here that it belongs to")));
    }
    Err(EngineError::wrong(format!("there is no tag `{shown}`")))
}

impl<'t, 'a> Parser<'t, 'a> {
    /// Parses a tag whose name is known. `None` for `comment`, which leaves no node.
    pub(super) fn tag_named(
        &mut self,
        name: &str,
        at: u32,
        mut args: TokenCursor<'t, 'a>,
    ) -> EngineResult<Option<Node>> {
        let args = &mut args;
        let node = match name {
            "if" => self.if_tag(at, args)?,
            "for" => self.for_tag(at, args)?,
            "set" => self.set_tag(args)?,
            "with" => self.with_tag(at, args)?,
            "macro" => self.macro_tag(at, args)?,
            "block" => self.block_tag(at, args)?,
            "autoescape" => self.autoescape_tag(at, args)?,
            "filter" => self.filter_tag(at, args)?,
            "spaceless" => {
                let body = self.body(at, &[b"endspaceless"])?;
                args.finish("`spaceless`")?;
                Node::Spaceless(body.nodes)
            }
            "comment" => {
                self.skip(at, b"endcomment")?;
                args.finish("`comment`")?;
                return Ok(None);
            }
            "ifchanged" => self.ifchanged_tag(at, args)?,
            "ifequal" => self.ifequal_tag(at, args, true, b"endifequal")?,
            "ifnotequal" => self.ifequal_tag(at, args, false, b"endifnotequal")?,
            "cycle" => self.cycle_tag(args)?,
            "firstof" => Node::FirstOf(
                self.all_expressions(args)?
                    .into_iter()
                    .map(|e| {
                        let safe = e.is_safe();
                        (e, safe)
                    })
                    .collect(),
            ),
            "widthratio" => self.widthratio_tag(args)?,
            "lorem" => lorem_tag(args)?,
            "now" => now_tag(args)?,
            _ => templatetag_tag(args)?,
        };
        Ok(Some(node))
    }

    /// Parses a name.
    fn identifier(&mut self, args: &mut TokenCursor<'t, 'a>) -> EngineResult<u32> {
        match args.take_any_word() {
            Some(word) => Ok(self.name(word)),
            None => Err(args.wrong("expected a name")),
        }
    }

    /// Parses expressions up to the end of the arguments, separated by nothing but blanks.
    fn all_expressions(&mut self, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Vec<Expr>> {
        let mut all = Vec::new();
        while !args.is_done() {
            all.push(self.expression(args)?);
        }
        Ok(all)
    }

    /// Parses `if`. pongo2 accepts an `elif` after `else` and appends its condition, which can
    /// never be reached; the indexes of conditions and bodies then differ by one, and that is kept.
    fn if_tag(&mut self, at: u32, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let mut tag = IfTag { conditions: vec![self.expression(args)?], bodies: Vec::new() };
        args.finish("the condition")?;
        loop {
            let mut body = self.body(at, &[b"elif", b"else", b"endif"])?;
            tag.bodies.push(body.nodes);
            if body.end == b"elif" {
                tag.conditions.push(self.expression(&mut body.arguments)?);
            }
            body.arguments.finish("the tag")?;
            if body.end == b"endif" {
                return Ok(Node::If(Box::new(tag)));
            }
        }
    }

    /// Parses `for`. `reversed` and `sorted` are accepted in this order only.
    fn for_tag(&mut self, at: u32, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let key = self.identifier(args)?;
        let value = if args.take_symbol(Symbol::Comma) { Some(self.identifier(args)?) } else { None };
        if !args.take_keyword(Keyword::In) {
            return Err(args.wrong("expected `in`"));
        }
        let over = self.expression(args)?;
        let reversed = args.take_word(b"reversed");
        let sorted = args.take_word(b"sorted");
        args.finish("`for`")?;
        let (body, empty) = self.two_bodies(at, b"empty", b"endfor")?;
        Ok(Node::For(Box::new(ForTag { key, value, over, reversed, sorted, body, empty })))
    }

    /// Parses a body and, if `middle` follows, a second one.
    #[allow(clippy::type_complexity)]
    fn two_bodies(
        &mut self,
        at: u32,
        middle: &'static [u8],
        end: &'static [u8],
    ) -> EngineResult<(Nodes, Option<Nodes>)> {
        let first = self.body(at, &[middle, end])?;
        first.arguments.finish("the tag")?;
        if first.end != middle {
            return Ok((first.nodes, None));
        }
        let second = self.body(at, &[end])?;
        second.arguments.finish("the tag")?;
        Ok((first.nodes, Some(second.nodes)))
    }

    fn set_tag(&mut self, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let name = self.identifier(args)?;
        if !args.take_symbol(Symbol::Assign) {
            return Err(args.wrong("expected `=`"));
        }
        let value = self.expression(args)?;
        args.finish("`set`")?;
        Ok(Node::Set(name, Box::new(value)))
    }

    /// Parses `with` in both styles, `a=1 b=2` and `1 as a`. A single `as` anywhere selects the
    /// second for all pairs (`tagWithParser`).
    fn with_tag(&mut self, at: u32, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        if args.is_done() {
            return Err(args.wrong("`with` needs a name and a value"));
        }
        let body = self.body(at, &[b"endwith"])?;
        body.arguments.finish("`endwith`")?;
        // One `as` anywhere makes it the old style, `with value as name`.
        let old_style = args.tokens.iter().any(|token| token.kind == TokenKind::Keyword(Keyword::As));
        let mut pairs: Vec<(u32, Expr)> = Vec::new();
        while !args.is_done() {
            let (name, value) = if old_style {
                let value = self.expression(args)?;
                if !args.take_keyword(Keyword::As) {
                    return Err(args.wrong("expected `as`"));
                }
                (self.identifier(args)?, value)
            } else {
                let name = self.identifier(args)?;
                if !args.take_symbol(Symbol::Assign) {
                    return Err(args.wrong("expected `=`"));
                }
                (name, self.expression(args)?)
            };
            match pairs.iter_mut().find(|(known, _)| *known == name) {
                Some(pair) => pair.1 = value,
                None => pairs.push((name, value)),
            }
            self.chain(pairs.len(), args.at())?;
        }
        Ok(Node::With(Box::new(WithTag { pairs, body: body.nodes })))
    }

    /// Parses `macro NAME(a, b=default) [export]`. An argument named twice keeps the last default.
    fn macro_tag(&mut self, at: u32, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let mut tag = MacroTag {
            name: self.identifier(args)?,
            arguments: Vec::new(),
            defaults: Vec::new(),
            exported: false,
            body: Vec::new(),
        };
        if !args.take_symbol(Symbol::OpenParen) {
            return Err(args.wrong("expected `(`"));
        }
        while !args.take_symbol(Symbol::CloseParen) {
            let name = self.identifier(args)?;
            tag.arguments.push(name);
            self.chain(tag.arguments.len(), args.at())?;
            let default = if args.take_symbol(Symbol::Assign) { Some(self.expression(args)?) } else { None };
            match tag.defaults.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = default,
                None => tag.defaults.push((name, default)),
            }
            if args.take_symbol(Symbol::CloseParen) {
                break;
            }
            if !args.take_symbol(Symbol::Comma) {
                return Err(args.wrong("expected `,` or `)`"));
            }
        }
        tag.exported = args.take_keyword(Keyword::Export);
        args.finish("`macro`")?;
        let body = self.body(at, &[b"endmacro"])?;
        body.arguments.finish("`endmacro`")?;
        tag.body = body.nodes;
        // pongo2 keeps exported macros in a map of the template and refuses a duplicate there.
        // Others may repeat.
        if tag.exported && self.tree.macros.iter().any(|known| known.exported && known.name == tag.name) {
            return Err(EngineError::wrong("another macro of this name is exported already").at(at));
        }
        self.tree.macros.push(tag);
        Ok(Node::Macro(self.tree.macros.len() - 1))
    }

    /// Parses `block`. Without inheritance it only renders in place, but its name must be unique
    /// and `endblock NAME` must match.
    fn block_tag(&mut self, at: u32, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let Some(name) = args.take_any_word() else { return Err(args.wrong("expected the name of the block")) };
        args.finish("`block`")?;
        let mut body = self.body(at, &[b"endblock"])?;
        if !body.arguments.is_done() && !body.arguments.take_word(name) {
            return Err(body.arguments.wrong("expected the name of the block that ends here"));
        }
        body.arguments.finish("`endblock`")?;
        if !self.block_names.insert(name) {
            return Err(EngineError::wrong("there is a block of this name already").at(at));
        }
        Ok(Node::Block(body.nodes))
    }

    fn autoescape_tag(&mut self, at: u32, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let body = self.body(at, &[b"endautoescape"])?;
        let on = args.take_word(b"on");
        if !on && !args.take_word(b"off") {
            return Err(args.wrong("expected `on` or `off`"));
        }
        args.finish("`autoescape`")?;
        Ok(Node::Autoescape(on, body.nodes))
    }

    /// Parses `filter a|b:1`. An unknown filter is an error only when the tag runs
    /// (`tagFilterNode.Execute`).
    fn filter_tag(&mut self, at: u32, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let body = self.body(at, &[b"endfilter"])?;
        let mut filters = Vec::new();
        while !args.is_done() {
            let place = args.at();
            let Some(name) = args.take_any_word() else { return Err(args.wrong("expected the name of a filter")) };
            let argument = self.filter_argument(args)?;
            filters.push(FilterCall { filter: Filter::named(name, self.dialect), argument, at: place });
            self.chain(filters.len(), place)?;
            if !args.take_symbol(Symbol::Pipe) {
                break;
            }
        }
        args.finish("`filter`")?;
        Ok(Node::Filter(Box::new(FilterBlock { body: body.nodes, filters })))
    }

    /// Parses `ifchanged`, with or without values to watch.
    fn ifchanged_tag(&mut self, at: u32, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let watched = self.all_expressions(args)?;
        let (then, otherwise) = self.two_bodies(at, b"else", b"endifchanged")?;
        let index = self.tree.ifchanged_count;
        self.tree.ifchanged_count += 1;
        Ok(Node::IfChanged(Box::new(IfChangedTag { index, watched, then, otherwise })))
    }

    /// Parses `ifequal` and `ifnotequal`: two expressions separated by blanks.
    fn ifequal_tag(
        &mut self,
        at: u32,
        args: &mut TokenCursor<'t, 'a>,
        wanted: bool,
        end: &'static [u8],
    ) -> EngineResult<Node> {
        let left = self.expression(args)?;
        let right = self.expression(args)?;
        args.finish("the tag")?;
        let (then, otherwise) = self.two_bodies(at, b"else", end)?;
        Ok(Node::IfEqual(Box::new(IfEqualTag { wanted, left, right, then, otherwise })))
    }

    /// Parses `cycle A B … [as NAME [silent]]`.
    fn cycle_tag(&mut self, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let mut tag = CycleTag { items: Vec::new(), name: None, silent: false };
        while !args.is_done() {
            tag.items.push(self.expression(args)?);
            if args.take_keyword(Keyword::As) {
                tag.name = Some(self.identifier(args)?);
                tag.silent = args.take_word(b"silent");
                break;
            }
        }
        args.finish("`cycle`")?;
        self.tree.cycles.push(tag);
        Ok(Node::Cycle(self.tree.cycles.len() - 1))
    }

    /// Parses `widthratio`: three expressions separated by blanks, and a name for the result.
    fn widthratio_tag(&mut self, args: &mut TokenCursor<'t, 'a>) -> EngineResult<Node> {
        let current = self.expression(args)?;
        let max = self.expression(args)?;
        let width = self.expression(args)?;
        let name = if args.take_keyword(Keyword::As) { Some(self.identifier(args)?) } else { None };
        args.finish("`widthratio`")?;
        Ok(Node::WidthRatio(Box::new(WidthRatioTag { current, max, width, name })))
    }
}

/// Parses `lorem [COUNT] [w|p|b] [random]`.
fn lorem_tag(args: &mut TokenCursor<'_, '_>) -> EngineResult<Node> {
    let mut tag = LoremTag { count: 1, method: LoremMethod::Plain, random: false };
    if let Some(TokenKind::Number(digits)) = args.peek().map(|token| token.kind) {
        // By way of a float, as pongo2 does with `AsValue(...).Integer()`: a number beyond 63 bits
        // is not an error here.
        tag.count = integer_of(digits);
        args.next += 1;
    }
    if args.peek().is_some_and(|token| token.word().is_some()) {
        tag.method = match args.peek().and_then(|token| token.word()) {
            Some(b"w") => LoremMethod::Words,
            Some(b"p") => LoremMethod::Paragraphs,
            Some(b"b") => LoremMethod::Plain,
            _ => return Err(args.wrong("expected `w`, `p` or `b`")),
        };
        args.next += 1;
    }
    tag.random = args.take_word(b"random");
    args.finish("`lorem`")?;
    Ok(Node::Lorem(tag))
}

/// Parses `now "LAYOUT" [fake]`. The layout is a literal: a variable is an error.
fn now_tag(args: &mut TokenCursor<'_, '_>) -> EngineResult<Node> {
    let Some(TokenKind::String(raw)) = args.peek().map(|token| token.kind) else {
        return Err(args.wrong("expected a layout in quotes"));
    };
    args.next += 1;
    let fake = args.take_word(b"fake");
    args.finish("`now`")?;
    Ok(Node::Now(unescaped(raw), fake))
}

/// Parses `templatetag NAME`, which writes a delimiter.
fn templatetag_tag(args: &mut TokenCursor<'_, '_>) -> EngineResult<Node> {
    let text = match args.peek().and_then(|token| token.word()) {
        Some(b"openblock") => "{%",
        Some(b"closeblock") => "%}",
        Some(b"openvariable") => "{{",
        Some(b"closevariable") => "}}",
        Some(b"openbrace") => "{",
        Some(b"closebrace") => "}",
        Some(b"opencomment") => "{#",
        Some(b"closecomment") => "#}",
        _ => return Err(args.wrong("expected the name of a template tag, such as `openblock`")),
    };
    args.next += 1;
    args.finish("`templatetag`")?;
    Ok(Node::Literal(text))
}
