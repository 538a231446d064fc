//! `spaceless`: takes the white space between two tags away, over and over until nothing changes.
//! pongo2 does it by a regular expression; here each round is one pass.

use super::super::engine_error::EngineResult;
use super::super::tree::Nodes;
use super::Renderer;

impl<'t> Renderer<'t> {
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

/// Where `byte` is next, at or after `from`; the end if nowhere. `known` is the last answer, which
/// stands as long as it is not behind `from`.
fn next(text: &[u8], byte: u8, from: usize, known: &mut usize) -> usize {
    if *known < from || *known == usize::MAX {
        *known = text[from..].iter().position(|&b| b == byte).map_or(text.len(), |offset| from + offset);
    }
    *known
}

/// Each match of `<…>` white space `<…>`, with no line break inside the tags, loses the space.
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
                // Whatever else begins in this line finds no more than this one did.
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
