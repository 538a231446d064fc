//! `removetags` hands its argument to a regular expression, `</?NAME/?>`, as it comes.
//! A small matcher for that, without back-tracking: its time is bounded by text times expression.

use super::super::fault::{Fault, Outcome};
use super::super::go::runes;
use super::Means;

/// Expressions beyond this many steps are no names of tags.
const MOST: usize = 500;

/// The largest count that Go takes.
const LARGEST: usize = 1_000;

/// Nor are groups inside groups beyond this.
const DEEPEST: usize = 50;

#[derive(Clone)]
enum Step {
    /// One rune of these ranges; or, if the flag is set, one outside of them.
    Rune(Vec<(char, char)>, bool),
    /// Goes on at both offsets, the first preferred.
    Split(isize, isize),
    Jump(isize),
    Start,
    End,
}

/// `text` without what matches `</?NAME/?>`.
pub(super) fn without_tag(text: &[u8], name: &[u8], means: &mut Means<'_>) -> Outcome<Vec<u8>> {
    let whole = [b"</?", name, b"/?>"].concat();
    let mut parser = Parser { text: &whole, depth: 0 };
    let steps = parser.alternatives()?;
    if !parser.text.is_empty() {
        return Err(bad("a parenthesis too many"));
    }
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    // Without an alternative every match begins with the bracket.
    let anywhere = name.contains(&b'|');
    while at < text.len() {
        let (_, width) = runes::decode(&text[at..]);
        let found = if anywhere || text[at] == b'<' { matched(&steps, text, at, means)? } else { None };
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

fn bad(why: &str) -> Box<Fault> {
    Fault::wrong(format!("the argument of `removetags` is no regular expression: {why}"))
}

struct Parser<'p> {
    text: &'p [u8],
    depth: usize,
}

fn offset(length: usize) -> isize {
    isize::try_from(length).unwrap_or(isize::MAX)
}

impl Parser<'_> {
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

    fn alternatives(&mut self) -> Outcome<Vec<Step>> {
        let mut steps = self.sequence()?;
        if self.take(b'|') {
            let other = self.alternatives()?;
            steps.insert(0, Step::Split(1, offset(steps.len()) + 2));
            steps.push(Step::Jump(offset(other.len()) + 1));
            steps.extend(other);
        }
        if steps.len() > MOST { Err(bad("it is too long")) } else { Ok(steps) }
    }

    fn sequence(&mut self) -> Outcome<Vec<Step>> {
        let mut steps = Vec::new();
        while !matches!(self.text.first(), None | Some(b'|' | b')')) {
            let atom = self.atom()?;
            steps.extend(self.repeated(atom)?);
            if steps.len() > MOST {
                return Err(bad("it is too long"));
            }
        }
        Ok(steps)
    }

    fn repeated(&mut self, atom: Vec<Step>) -> Outcome<Vec<Step>> {
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
        if again || least > LARGEST || most.is_some_and(|most| most > LARGEST || most < least) {
            return Err(bad("a repetition is repeated, or its counts are wrong"));
        }
        if least.max(most.unwrap_or(0)) * (atom.len() + 1) > MOST {
            return Err(bad("it is too long"));
        }
        let split = |go: isize, stop: isize| if lazy { Step::Split(stop, go) } else { Step::Split(go, stop) };
        let mut steps: Vec<Step> = std::iter::repeat_n(&atom, least).flatten().cloned().collect();
        match most {
            None => {
                let length = offset(atom.len());
                steps.push(split(1, length + 2));
                steps.extend(atom);
                steps.push(Step::Jump(-length - 1));
            }
            Some(most) => {
                // Each optional round can leave for the end of all of them.
                let round = atom.len() + 1;
                for left in (1..=most - least).rev() {
                    steps.push(split(1, offset(left * round)));
                    steps.extend(atom.iter().cloned());
                }
            }
        }
        Ok(steps)
    }

    fn atom(&mut self) -> Outcome<Vec<Step>> {
        Ok(vec![match self.rune() {
            Some('(') => return self.group(),
            Some('[') => self.class()?,
            Some('.') => Step::Rune(vec![('\n', '\n')], true),
            Some('^') => Step::Start,
            Some('$') => Step::End,
            Some('\\') => self.escape()?,
            Some('*' | '+' | '?') => return Err(bad("there is nothing to repeat")),
            Some(rune) => Step::Rune(vec![(rune, rune)], false),
            None => return Err(bad("it ends too early")),
        }])
    }

    fn group(&mut self) -> Outcome<Vec<Step>> {
        self.depth += 1;
        if self.depth > DEEPEST {
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

    fn escape(&mut self) -> Outcome<Step> {
        Ok(match self.rune() {
            Some('d') => Step::Rune(vec![('0', '9')], false),
            Some('D') => Step::Rune(vec![('0', '9')], true),
            Some('w') => Step::Rune(vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')], false),
            Some('W') => Step::Rune(vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')], true),
            Some('s') => Step::Rune(vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')], false),
            Some('S') => Step::Rune(vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')], true),
            Some(rune) if rune.is_ascii_punctuation() => Step::Rune(vec![(rune, rune)], false),
            _ => return Err(bad("this escape is not supported")),
        })
    }

    fn class(&mut self) -> Outcome<Step> {
        let outside = self.take(b'^');
        let mut ranges = Vec::new();
        loop {
            let rune = match self.rune() {
                None => return Err(bad("a class is not closed")),
                Some(']') if !ranges.is_empty() => return Ok(Step::Rune(ranges, outside)),
                Some('\\') => match self.escape()? {
                    Step::Rune(inner, false) if inner.len() > 1 || inner.iter().any(|(from, to)| from != to) => {
                        ranges.extend(inner);
                        continue;
                    }
                    Step::Rune(inner, false) => inner.first().map_or(runes::REPLACEMENT, |range| range.0),
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

/// Where the preferred match that begins at `start` ends.
fn matched(steps: &[Step], text: &[u8], start: usize, means: &mut Means<'_>) -> Outcome<Option<usize>> {
    let mut best = None;
    let mut at = start;
    let mut threads = Threads::new(steps.len());
    threads.follow(steps, 0, at, text.len());
    loop {
        let (rune, width) = runes::decode(&text[at..]);
        means.spend(1 + threads.order.len() / 8)?;
        let mut next = Threads::new(steps.len());
        for &thread in &threads.order {
            match steps.get(thread) {
                // The end is reached; threads behind this one are not preferred.
                None => {
                    best = Some(at);
                    break;
                }
                Some(Step::Rune(ranges, outside)) if width > 0 => {
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

/// The places in the expression that a match may stand at, the preferred first.
struct Threads {
    order: Vec<usize>,
    seen: Vec<bool>,
}

impl Threads {
    fn new(steps: usize) -> Self {
        Self { order: Vec::new(), seen: vec![false; steps + 1] }
    }

    fn follow(&mut self, steps: &[Step], from: usize, at: usize, end: usize) {
        let mut todo = vec![from];
        while let Some(place) = todo.pop() {
            if std::mem::replace(&mut self.seen[place], true) {
                continue;
            }
            let away = |by: isize| place.saturating_add_signed(by).min(steps.len());
            match steps.get(place) {
                Some(Step::Jump(by)) => todo.push(away(*by)),
                Some(Step::Split(first, second)) => todo.extend([away(*second), away(*first)]),
                Some(Step::Start) if at == 0 => todo.push(place + 1),
                Some(Step::End) if at == end => todo.push(place + 1),
                Some(Step::Start | Step::End) => {}
                _ => self.order.push(place),
            }
        }
    }
}
