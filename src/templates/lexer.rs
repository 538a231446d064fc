//! The lexer: cuts a template into text and tokens, with pongo2's idea of where a tag ends
//! (`lexer.go`).
//!
//! Two modes alternate. Text runs up to `{{`, `{%` or `{#`; inside a tag, tokens follow until `}}`
//! or `%}`. A character that begins no token ends the tag without an error (`stateCode` returns);
//! the parser then finds text where none may be, and reports that.
//!
//! Rules that differ from Jinja's and Django's:
//!
//! - comments `{# … #}` and tags end on the line where they begin;
//! - `{% verbatim %}` is handled here, in exactly this spelling, and everything up to `{%
//!   endverbatim %}` is text;
//! - `{{-` is one token, so `{{- x }}` trims white space and `{{ -x }}` negates;
//! - strings have two escapes, `\"` and `\\`; any other is an error;
//! - `7x` and `1e3` are names of variables that do not exist, and print as nothing.
//!
//! Input is bytes. pongo2 decodes runes, but only ASCII has a meaning to it, so bytes give the same
//! tokens.

use super::Dialect;
use super::engine_error::{EngineError, EngineResult};
use super::go::runes;

/// A token and the offset of its first byte in the wrapped source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind<'a>,
    pub(crate) at: u32,
}

/// The kinds of tokens. Slices borrow from the source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TokenKind<'a> {
    /// Everything outside of tags.
    Text(&'a [u8]),
    /// An identifier that is not a keyword.
    Word(&'a [u8]),
    Keyword(Keyword),
    /// The text between the quotes, with its escapes.
    String(&'a [u8]),
    /// Decimal digits. A float is three tokens: number, dot, number.
    Number(&'a [u8]),
    Symbol(Symbol),
    /// An edge of a tag with a trim mark, `{{-` or `-%}`. pongo2 keeps these as symbols of their
    /// own.
    Trim(Symbol),
}

/// Words that cannot be names (`TokenKeywords`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Keyword {
    In,
    And,
    Or,
    Not,
    True,
    False,
    As,
    Export,
}

macro_rules! symbols {
    ($($name:ident $text:literal)*) => {
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub(crate) enum Symbol { $($name,)* }

        impl Symbol {
            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

symbols! {
    Equal "==" AtLeast ">=" AtMost "<=" And "&&" Or "||" OpenVariable "{{" CloseVariable "}}" OpenTag "{%" CloseTag "%}"
    Unequal "!=" Differs "<>" OpenParen "(" CloseParen ")" Plus "+" Minus "-" Star "*" Less "<" Greater ">" Slash "/"
    Caret "^" Comma "," Dot "." Not "!" Pipe "|" Colon ":" Assign "=" Percent "%" OpenBracket "[" CloseBracket "]"
}

impl<'a> Token<'a> {
    /// The symbol, with or without a trim mark.
    pub(crate) fn symbol(&self) -> Option<Symbol> {
        match self.kind {
            TokenKind::Symbol(symbol) | TokenKind::Trim(symbol) => Some(symbol),
            _ => None,
        }
    }

    /// The identifier, if the token is one.
    pub(crate) fn word(&self) -> Option<&'a [u8]> {
        match self.kind {
            TokenKind::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// The value of a string token.
pub(crate) fn unescaped(raw: &[u8]) -> Vec<u8> {
    // One replacement after the other, as pongo2 does it (`lexer.emit`): `\\"` in single quotes
    // becomes one `"` with one backslash less than a scanner would leave.
    let quotes = runes::replace(raw, br#"\""#, b"\"");
    runes::replace(&quotes, br"\\", br"\")
}

/// The tag is the lexer's, and recognised in exactly this spelling (`lexer.run`). Any other
/// spelling is an unknown tag to the parser.
const VERBATIM: &[u8] = b"{% verbatim %}";
const ENDVERBATIM: &[u8] = b"{% endverbatim %}";

/// The state of the lexer: a position in the input and the tokens so far.
struct Lexer<'a> {
    input: &'a [u8],
    pos: usize,
    dialect: Dialect,
    tokens: Vec<Token<'a>>,
}

/// Cuts a template into tokens.
///
/// # Errors
/// Unclosed comments, strings and verbatim blocks, line breaks inside a tag, and unknown escapes.
pub(crate) fn lex(input: &[u8], dialect: Dialect) -> EngineResult<Vec<Token<'_>>> {
    let mut lexer = Lexer { input, pos: 0, dialect, tokens: Vec::with_capacity(16 + input.len() / 8) };
    lexer.document()?;
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.input[self.pos..]
    }

    fn push(&mut self, kind: TokenKind<'a>, at: usize) {
        self.tokens.push(Token { kind, at: u32::try_from(at).unwrap_or(u32::MAX) });
    }

    /// Emits the text from `start` to the present position, if there is any.
    fn text(&mut self, start: usize) {
        if self.pos > start {
            self.push(TokenKind::Text(&self.input[start..self.pos]), start);
        }
    }

    fn wrong<T>(&self, message: &'static str, at: usize) -> EngineResult<T> {
        Err(EngineError::wrong(message).at(u32::try_from(at).unwrap_or(u32::MAX)))
    }

    /// Reads text and everything in it, to the end of the input.
    fn document(&mut self) -> EngineResult<()> {
        let mut start = 0;
        let mut verbatim = None;
        while let Some(&byte) = self.input.get(self.pos) {
            // pongo2's end-of-file mark is the constant 1 (`EOF` follows `TokenError` in an `iota`
            // block), so a byte 1 in the file ends it, and the rest is dropped.
            if byte == 1 {
                self.pos += 1;
                break;
            }
            if byte != b'{' {
                self.pos += 1;
                continue;
            }
            if verbatim.is_some() {
                if self.rest().starts_with(ENDVERBATIM) {
                    self.text(start);
                    self.pos += ENDVERBATIM.len();
                    start = self.pos;
                    verbatim = None;
                    // pongo2 looks for the start again in the same round, before it advances. A `{%
                    // verbatim %}` right behind the end starts a block only in the next round.
                    if !self.rest().starts_with(VERBATIM) {
                        continue;
                    }
                }
            } else if self.rest().starts_with(VERBATIM) {
                self.text(start);
                verbatim = Some(self.pos);
                self.pos += VERBATIM.len();
                start = self.pos;
            }
            if verbatim.is_none() {
                if self.rest().starts_with(b"{#") {
                    self.text(start);
                    self.comment()?;
                    start = self.pos;
                    continue;
                }
                if matches!(self.rest(), [b'{', b'{' | b'%', ..]) {
                    self.text(start);
                    start = self.tag()?;
                    continue;
                }
            }
            if self.pos < self.input.len() && self.input[self.pos] != 1 {
                self.pos += 1;
            }
        }
        self.text(start);
        match verbatim {
            Some(at) => self.wrong("`verbatim` is not closed by `{% endverbatim %}`", at),
            None => Ok(()),
        }
    }

    /// Skips a comment, which must end on its line.
    fn comment(&mut self) -> EngineResult<()> {
        let open = self.pos;
        self.pos += 2;
        loop {
            match self.rest() {
                [] | [1, ..] => return self.wrong("the comment is not closed by `#}`", open),
                [b'\n', ..] => return self.wrong("a comment may not hold a line break", open),
                [b'#', b'}', ..] => {
                    self.pos += 2;
                    return Ok(());
                }
                _ => self.pos += 1,
            }
        }
    }

    /// Reads the tokens of a tag up to its end, or to the first character that begins no token.
    /// Returns the offset at which text continues.
    fn tag(&mut self) -> EngineResult<usize> {
        while let Some(&byte) = self.input.get(self.pos) {
            let at = self.pos;
            match byte {
                // `lexer.go` reports a newline inside a tag. CR alone is white space.
                b'\n' => return self.wrong("a tag may not hold a line break", at),
                b' ' | b'\r' | b'\t' => self.pos += 1,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.identifier(at),
                b'0'..=b'9' => {
                    self.run(|byte| byte.is_ascii_digit());
                    // `7x` is a name, not a number followed by a name (`stateNumber` falls through
                    // to `stateIdentifier`).
                    if self.rest().first().is_some_and(|&byte| byte.is_ascii_alphabetic() || byte == b'_') {
                        self.identifier(at);
                    } else {
                        self.push(TokenKind::Number(&self.input[at..self.pos]), at);
                    }
                }
                b'"' | b'\'' => self.string(byte)?,
                _ => {
                    let Some((kind, length)) = symbol(self.rest(), self.dialect) else { return Ok(at) };
                    self.pos += length;
                    self.push(kind, at);
                    if matches!(kind, TokenKind::Symbol(s) | TokenKind::Trim(s) if matches!(s, Symbol::CloseTag | Symbol::CloseVariable))
                    {
                        return Ok(self.pos);
                    }
                }
            }
        }
        Ok(self.pos)
    }

    /// Advances over bytes that satisfy `fits`.
    fn run(&mut self, fits: fn(u8) -> bool) {
        self.pos += self.rest().iter().take_while(|&&byte| fits(byte)).count();
    }

    /// Reads the rest of an identifier that began at `at`, and tells keywords from names.
    fn identifier(&mut self, at: usize) {
        self.run(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let word = &self.input[at..self.pos];
        let keyword = match word {
            b"in" => Some(Keyword::In),
            b"and" => Some(Keyword::And),
            b"or" => Some(Keyword::Or),
            b"not" => Some(Keyword::Not),
            b"true" => Some(Keyword::True),
            b"false" => Some(Keyword::False),
            b"as" => Some(Keyword::As),
            b"export" => Some(Keyword::Export),
            _ => None,
        };
        self.push(keyword.map_or(TokenKind::Word(word), TokenKind::Keyword), at);
    }

    /// Reads a string. `}}` and `%}` in it do not end the tag. Only `\"` and `\\` are escapes, also
    /// between single quotes.
    fn string(&mut self, quote: u8) -> EngineResult<()> {
        let open = self.pos;
        self.pos += 1;
        loop {
            match self.rest() {
                [] | [1, ..] => return self.wrong("the string is not closed", open),
                [byte, ..] if *byte == quote => break,
                [b'\n', ..] => return self.wrong("a string may not hold a line break", open),
                // The escaped character is skipped unseen, so `\"` does not close a string.
                [b'\\', b'"' | b'\\', ..] => self.pos += 2,
                [b'\\', ..] => return self.wrong("a string knows the escapes `\\\"` and `\\\\` only", self.pos),
                _ => self.pos += 1,
            }
        }
        self.push(TokenKind::String(&self.input[open + 1..self.pos]), open);
        self.pos += 1;
        Ok(())
    }
}

/// The longest symbol at the start of `rest`, and its length. The order matters: `{{-` before `{{`,
/// `==` before `=`.
fn symbol(rest: &[u8], dialect: Dialect) -> Option<(TokenKind<'static>, usize)> {
    use Symbol as S;
    let trim = match rest {
        [b'{', b'{', b'-', ..] => Some(S::OpenVariable),
        [b'-', b'}', b'}', ..] => Some(S::CloseVariable),
        [b'{', b'%', b'-', ..] => Some(S::OpenTag),
        [b'-', b'%', b'}', ..] => Some(S::CloseTag),
        _ => None,
    };
    if let Some(symbol) = trim {
        return Some((TokenKind::Trim(symbol), 3));
    }
    let (symbol, length) = match rest {
        [b'=', b'=', ..] => (S::Equal, 2),
        [b'>', b'=', ..] => (S::AtLeast, 2),
        [b'<', b'=', ..] => (S::AtMost, 2),
        [b'&', b'&', ..] => (S::And, 2),
        [b'|', b'|', ..] => (S::Or, 2),
        [b'{', b'{', ..] => (S::OpenVariable, 2),
        [b'}', b'}', ..] => (S::CloseVariable, 2),
        [b'{', b'%', ..] => (S::OpenTag, 2),
        [b'%', b'}', ..] => (S::CloseTag, 2),
        [b'!', b'=', ..] => (S::Unequal, 2),
        [b'<', b'>', ..] => (S::Differs, 2),
        [b'(', ..] => (S::OpenParen, 1),
        [b')', ..] => (S::CloseParen, 1),
        [b'+', ..] => (S::Plus, 1),
        [b'-', ..] => (S::Minus, 1),
        [b'*', ..] => (S::Star, 1),
        [b'<', ..] => (S::Less, 1),
        [b'>', ..] => (S::Greater, 1),
        [b'/', ..] => (S::Slash, 1),
        [b'^', ..] => (S::Caret, 1),
        [b',', ..] => (S::Comma, 1),
        [b'.', ..] => (S::Dot, 1),
        [b'!', ..] => (S::Not, 1),
        [b'|', ..] => (S::Pipe, 1),
        [b':', ..] => (S::Colon, 1),
        [b'=', ..] => (S::Assign, 1),
        [b'%', ..] => (S::Percent, 1),
        [b'[', ..] if dialect == Dialect::Incus => (S::OpenBracket, 1),
        [b']', ..] if dialect == Dialect::Incus => (S::CloseBracket, 1),
        _ => return None,
    };
    Some((TokenKind::Symbol(symbol), length))
}
