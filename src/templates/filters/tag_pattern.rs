//! The regular expressions of `removetags`: pongo2 compiles `</?NAME/?>` with the argument inserted
//! as it is (`filterRemovetags`), so NAME can be any expression.
//!
//! This is a small matcher for that: a parser into instructions, and a simulation of all threads at
//! once (Thompson and Pike), as Go's own engine works. Its time is bounded by text times
//! instructions, whatever the expression. Flags, named groups and Unicode classes are not
//! supported, and are an error.

use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::runes;
use super::FilterContext;

/// The most instructions of an expression. A tag's name needs about ten.
const MAX_INSTRUCTIONS: usize = 500;

/// The largest count of a repetition, which is Go's own limit (`regexp/syntax`, 1000).
const MAX_REPEAT: usize = 1_000;

/// The deepest nesting of groups, since parsing them recurses.
const MAX_GROUP_DEPTH: usize = 50;

/// An instruction of a compiled expression. Offsets are relative to it.
#[derive(Clone)]
enum Instruction {
    /// Matches one rune inside of these ranges; outside of them if the flag is set.
    Rune(Vec<(char, char)>, bool),
    /// Continues at both offsets, of which the first is preferred.
    Split(isize, isize),
    Jump(isize),
    Start,
    End,
}

/// Removes all matches of `</?NAME/?>` from the text.
pub(super) fn without_tag(text: &[u8], name: &[u8], context: &mut FilterContext<'_>) -> EngineResult<Vec<u8>> {
    let whole = [b"</?", name, b"/?>"].concat();
    let mut parser = PatternParser { text: &whole, depth: 0 };
    let steps = parser.alternatives()?;
    if !parser.text.is_empty() {
        return Err(bad("a parenthesis too many"));
    }
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    // Without an alternative every match starts with `<`, so other positions need no attempt.
    let anywhere = name.contains(&b'|');
    while at < text.len() {
        let (_, width) = runes::decode(&text[at..]);
        let found = if anywhere || text[at] == b'<' { matched(&steps, text, at, context)? } else { None };
        match found.filter(|&end| end > at) {
            Some(end) => at = end,
            None => {
                out.extend_from_slice(&text[at..at + width]);
                at += width;
            }
        }
    }
    Ok(out)
}

/// Creates the error for an expression that Go refuses, or that is not supported.
fn bad(why: &str) -> Box<EngineError> {
    EngineError::wrong(format!("the argument of `removetags` is no regular expression: {why}"))
}

/// The rest of an expression that is being parsed.
struct PatternParser<'p> {
    text: &'p [u8],
    depth: usize,
}

/// A length as a relative offset.
fn offset(length: usize) -> isize {
    isize::try_from(length).unwrap_or(isize::MAX)
}

impl PatternParser<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let hit = self.text.first() == Some(&byte);
        self.text = &self.text[usize::from(hit)..];
        hit
    }

    fn rune(&mut self) -> Option<char> {
        let (rune, width) = runes::decode(self.text);
        self.text = &self.text[width..];
        (width > 0).then_some(rune)
    }

    /// Parses `a|b|c`. The first alternative is preferred, as in Go.
    fn alternatives(&mut self) -> EngineResult<Vec<Instruction>> {
        let mut steps = self.sequence()?;
        if self.take(b'|') {
            let other = self.alternatives()?;
            steps.insert(0, Instruction::Split(1, offset(steps.len()) + 2));
            steps.push(Instruction::Jump(offset(other.len()) + 1));
            steps.extend(other);
        }
        if steps.len() > MAX_INSTRUCTIONS { Err(bad("it is too long")) } else { Ok(steps) }
    }

    /// Parses atoms and their repetitions up to `|`, `)` or the end.
    fn sequence(&mut self) -> EngineResult<Vec<Instruction>> {
        let mut steps = Vec::new();
        while !matches!(self.text.first(), None | Some(b'|' | b')')) {
            let atom = self.atom()?;
            steps.extend(self.repeated(atom)?);
            if steps.len() > MAX_INSTRUCTIONS {
                return Err(bad("it is too long"));
            }
        }
        Ok(steps)
    }

    /// Parses a repetition behind an atom and expands it into instructions.
    fn repeated(&mut self, atom: Vec<Instruction>) -> EngineResult<Vec<Instruction>> {
        let bounds = match self.text.first() {
            Some(b'*') => Some((0, None, 1)),
            Some(b'+') => Some((1, None, 1)),
            Some(b'?') => Some((0, Some(1), 1)),
            Some(b'{') => counts(self.text),
            _ => None,
        };
        let Some((least, most, length)) = bounds else { return Ok(atom) };
        self.text = &self.text[length..];
        let lazy = self.take(b'?');
        let again = matches!(self.text.first(), Some(b'*' | b'+' | b'?')) || counts(self.text).is_some();
        if again || least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || most < least) {
            return Err(bad("a repetition is repeated, or its counts are wrong"));
        }
        // Checked before expanding, so that `a{1000}{1000}` costs nothing.
        if least.max(most.unwrap_or(0)) * (atom.len() + 1) > MAX_INSTRUCTIONS {
            return Err(bad("it is too long"));
        }
        let split =
            |go: isize, stop: isize| if lazy { Instruction::Split(stop, go) } else { Instruction::Split(go, stop) };
        let mut steps: Vec<Instruction> = std::iter::repeat_n(&atom, least).flatten().cloned().collect();
        match most {
            None => {
                let length = offset(atom.len());
                steps.push(split(1, length + 2));
                steps.extend(atom);
                steps.push(Instruction::Jump(-length - 1));
            }
            Some(most) => {
                // Each optional round may skip all further ones.
                let round = atom.len() + 1;
                for left in (1..=most - least).rev() {
                    steps.push(split(1, offset(left * round)));
                    steps.extend(atom.iter().cloned());
                }
            }
        }
        Ok(steps)
    }

    /// Parses one rune, class, escape, anchor or group.
    fn atom(&mut self) -> EngineResult<Vec<Instruction>> {
        Ok(vec![match self.rune() {
            Some('(') => return self.group(),
            Some('[') => self.class()?,
            Some('.') => Instruction::Rune(vec![('\n', '\n')], true),
            Some('^') => Instruction::Start,
            Some('$') => Instruction::End,
            Some('\\') => self.escape()?,
            Some('*' | '+' | '?') => return Err(bad("there is nothing to repeat")),
            Some(rune) => Instruction::Rune(vec![(rune, rune)], false),
            None => return Err(bad("it ends too early")),
        }])
    }

    /// Parses a group. Captures are not needed, so `(…)` and `(?:…)` are the same.
    fn group(&mut self) -> EngineResult<Vec<Instruction>> {
        self.depth += 1;
        if self.depth > MAX_GROUP_DEPTH {
            return Err(bad("it is too deep"));
        }
        if self.take(b'?') && !self.take(b':') {
            return Err(bad("flags are not supported"));
        }
        let steps = self.alternatives()?;
        if !self.take(b')') {
            return Err(bad("a parenthesis is not closed"));
        }
        self.depth -= 1;
        Ok(steps)
    }

    /// Parses an escape: a Perl class, or a punctuation character.
    fn escape(&mut self) -> EngineResult<Instruction> {
        Ok(match self.rune() {
            Some('d') => Instruction::Rune(vec![('0', '9')], false),
            Some('D') => Instruction::Rune(vec![('0', '9')], true),
            Some('w') => Instruction::Rune(vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')], false),
            Some('W') => Instruction::Rune(vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')], true),
            Some('s') => Instruction::Rune(vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')], false),
            Some('S') => Instruction::Rune(vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')], true),
            Some(rune) if rune.is_ascii_punctuation() => Instruction::Rune(vec![(rune, rune)], false),
            _ => return Err(bad("this escape is not supported")),
        })
    }

    /// Parses `[…]`. A `]` right after the start is a member.
    fn class(&mut self) -> EngineResult<Instruction> {
        let outside = self.take(b'^');
        let mut ranges = Vec::new();
        loop {
            let rune = match self.rune() {
                None => return Err(bad("a class is not closed")),
                // As the first character `]` is a member of the class.
                Some(']') if !ranges.is_empty() => return Ok(Instruction::Rune(ranges, outside)),
                Some('\\') => match self.escape()? {
                    Instruction::Rune(inner, false) if inner.len() > 1 || inner.iter().any(|(from, to)| from != to) => {
                        ranges.extend(inner);
                        continue;
                    }
                    Instruction::Rune(inner, false) => inner.first().map_or(runes::REPLACEMENT, |range| range.0),
                    _ => return Err(bad("this class is not supported")),
                },
                Some(rune) => rune,
            };
            let ranged = self.text.first() == Some(&b'-') && !matches!(self.text.get(1), None | Some(b']'));
            let end = if ranged {
                self.text = &self.text[1..];
                self.rune().unwrap_or(rune)
            } else {
                rune
            };
            if end < rune {
                return Err(bad("a range runs backwards"));
            }
            ranges.push((rune, end));
        }
    }
}

/// `{n}`, `{n,}` or `{n,m}`: the bounds, and how long that is. Anything else is text.
fn counts(text: &[u8]) -> Option<(usize, Option<usize>, usize)> {
    let inner = text.strip_prefix(b"{")?;
    let close = inner.iter().position(|&byte| byte == b'}')?;
    let inner = std::str::from_utf8(&inner[..close]).ok()?;
    let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty() {
        true => Some(digits.parse().unwrap_or(usize::MAX)),
        false => None,
    };
    let (least, most) = match inner.split_once(',') {
        None => (number(inner)?, Some(number(inner)?)),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, close + 2))
}

/// The end of the preferred match that starts at `start`, if there is one.
fn matched(
    steps: &[Instruction],
    text: &[u8],
    start: usize,
    context: &mut FilterContext<'_>,
) -> EngineResult<Option<usize>> {
    let mut best = None;
    let mut at = start;
    let mut threads = Threads::new(steps.len());
    threads.follow(steps, 0, at, text.len());
    loop {
        let (rune, width) = runes::decode(&text[at..]);
        context.spend(1 + threads.order.len() / 8)?;
        let mut next = Threads::new(steps.len());
        for &thread in &threads.order {
            match steps.get(thread) {
                // The end is reached; threads behind this one are not preferred.
                None => {
                    best = Some(at);
                    break;
                }
                Some(Instruction::Rune(ranges, outside)) if width > 0 => {
                    if ranges.iter().any(|(from, to)| (from..=to).contains(&&rune)) != *outside {
                        next.follow(steps, thread + 1, at + width, text.len());
                    }
                }
                Some(_) => {}
            }
        }
        if width == 0 || next.order.is_empty() {
            return Ok(best);
        }
        at += width;
        threads = next;
    }
}

/// The positions in an expression at which a match may stand, preferred first.
struct Threads {
    order: Vec<usize>,
    seen: Vec<bool>,
}

impl Threads {
    fn new(steps: usize) -> Self {
        Self { order: Vec::new(), seen: vec![false; steps + 1] }
    }

    /// Adds a position and everything that is reachable from it without reading a rune.
    fn follow(&mut self, steps: &[Instruction], from: usize, at: usize, end: usize) {
        let mut todo = vec![from];
        while let Some(place) = todo.pop() {
            // Each position is added once, which bounds the threads by the instructions.
            if std::mem::replace(&mut self.seen[place], true) {
                continue;
            }
            let away = |by: isize| place.saturating_add_signed(by).min(steps.len());
            match steps.get(place) {
                Some(Instruction::Jump(by)) => todo.push(away(*by)),
                Some(Instruction::Split(first, second)) => todo.extend([away(*second), away(*first)]),
                Some(Instruction::Start) if at == 0 => todo.push(place + 1),
                Some(Instruction::End) if at == end => todo.push(place + 1),
                Some(Instruction::Start | Instruction::End) => {}
                _ => self.order.push(place),
            }
        }
    }
}
