//! `spaceless` (`tags_spaceless.go`): removes white space between tags, repeatedly until nothing
//! changes.
//!
//! pongo2 uses a regular expression, `(?U:(<.*>))([\t\n\v\f\r ]+)(?U:(<.*>))`, until its output
//! stops changing. Here each round is one linear pass with the same matches.

use super::super::engine_error::EngineResult;
use super::super::tree::Nodes;
use super::Renderer;

impl<'t> Renderer<'t> {
    /// Renders the body and removes white space between its tags. Each round pays for the text it
    /// reads.
    pub(super) fn spaceless_tag(&mut self, nodes: &'t Nodes) -> EngineResult<()> {
        let mut text = self.captured(nodes)?;
        loop {
            self.spend(text.len())?;
            let next = pass(&text);
            if next.len() == text.len() {
                return self.write(&text);
            }
            text = next;
        }
    }
}

/// The position of `byte` at or after `from`, or the end of the text. `known` caches the last
/// answer, which keeps the whole pass linear.
fn next(text: &[u8], byte: u8, from: usize, known: &mut usize) -> usize {
    if *known < from || *known == usize::MAX {
        *known = text[from..].iter().position(|&b| b == byte).map_or(text.len(), |offset| from + offset);
    }
    *known
}

/// One round: each match of a tag, white space, and a tag loses the white space. A tag has no line
/// break, as `.` in the expression matches none.
fn pass(text: &[u8]) -> Vec<u8> {
    let (mut out, mut copied, mut at) = (Vec::with_capacity(text.len()), 0, 0);
    let (mut next_open, mut next_close, mut line_end) = (usize::MAX, usize::MAX, usize::MAX);
    let (mut inner_close, mut inner_line) = (usize::MAX, usize::MAX);
    'starts: while at < text.len() {
        let open = next(text, b'<', at, &mut next_open);
        if open == text.len() {
            break;
        }
        let line = next(text, b'\n', open, &mut line_end);
        let mut from = open + 1;
        loop {
            let close = if from <= text.len() { next(text, b'>', from, &mut next_close) } else { text.len() };
            if close >= line {
                // A later `<` in this line ends at the same line break, so it cannot match either.
                at = line.max(open + 1);
                continue 'starts;
            }
            let space = text[close + 1..].iter().take_while(|byte| matches!(byte, b'\t'..=b'\r' | b' ')).count();
            let second = close + 1 + space;
            if space > 0 && text.get(second) == Some(&b'<') {
                let end = next(text, b'>', second + 1, &mut inner_close);
                if end < text.len() && end < next(text, b'\n', second + 1, &mut inner_line) {
                    out.extend_from_slice(&text[copied..=close]);
                    out.extend_from_slice(&text[second..=end]);
                    at = end + 1;
                    copied = at;
                    continue 'starts;
                }
            }
            from = close + 1;
        }
    }
    out.extend_from_slice(&text[copied..]);
    out
}
