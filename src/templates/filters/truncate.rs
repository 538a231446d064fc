//! Filters that shorten text: by characters or words, plain or HTML.
//!
//! The HTML ones close the tags that are open at the cut, with pongo2's bookkeeping
//! (`filterTruncateHTMLHelper`), which treats a tag as a name and does not know void elements.

use super::super::engine_error::{EngineError, EngineResult};
use super::super::go::runes;
use super::super::value::Value;
use super::FilterContext;

/// `truncatechars`: so many runes, the last three of them dots. Below 3 there are no dots.
pub(super) fn truncatechars(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = value.text();
    let count = runes::count(&text);
    let wanted = argument.integer();
    let Ok(wanted) = usize::try_from(wanted) else {
        return Err(EngineError::wrong("`truncatechars` takes no negative length"));
    };
    if wanted >= count {
        return Ok(Value::bytes(runes::section(&text, 0, count)));
    }
    // No room for the dots.
    if wanted < 3 {
        return Ok(Value::bytes(runes::section(&text, 0, wanted)));
    }
    let mut out = runes::section(&text, 0, wanted - 3);
    out.extend_from_slice(b"...");
    Ok(Value::bytes(out))
}

/// `truncatewords`: so many words and three dots. White space becomes single spaces.
pub(super) fn truncatewords(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let Some(wanted) = usize::try_from(argument.integer()).ok().filter(|&wanted| wanted > 0) else {
        return Ok(Value::from(""));
    };
    let text = value.text();
    let mut words = runes::fields(&text);
    if wanted < words.len() {
        words.truncate(wanted);
        words.push(b"...");
    }
    Ok(Value::bytes(words.join(&b' ')))
}

/// `truncatechars_html`: as `truncatechars`, where tags do not count. Whether dots follow depends
/// on the length in bytes.
pub(super) fn truncatechars_html(
    value: &Value,
    argument: &Value,
    context: &mut FilterContext<'_>,
) -> EngineResult<Value> {
    let text = value.text();
    // Three of the characters are for the dots.
    let wanted = argument.integer().wrapping_sub(3).max(0).unsigned_abs();
    let mut markup = Markup::new(&text);
    let mut count = 0_u64;
    while markup.at < text.len() && count < wanted {
        let Some((rune, width)) = markup.step() else { continue };
        count += 1;
        runes::push(&mut markup.out, rune);
        markup.at += width;
    }
    // pongo2 compares the count of runes with `len(s)`, the bytes of the markup.
    if count >= wanted && count < text.len() as u64 {
        markup.out.extend_from_slice(b"...");
    }
    markup.finish(context)
}

/// `truncatewords_html`: as `truncatewords`, where tags do not count.
pub(super) fn truncatewords_html(
    value: &Value,
    argument: &Value,
    context: &mut FilterContext<'_>,
) -> EngineResult<Value> {
    let text = value.text();
    let wanted = argument.integer().max(0).unsigned_abs();
    let mut markup = Markup::new(&text);
    let mut count = 0_u64;
    while markup.at < text.len() && count < wanted {
        if markup.step().is_none() {
            continue;
        }
        let mut found = false;
        while markup.at < text.len() {
            let (rune, width) = runes::decode(&text[markup.at..]);
            if rune == runes::REPLACEMENT {
                markup.at += width;
                continue;
            }
            // A word that a tag cuts short does not count.
            if rune == '<' {
                found = false;
                break;
            }
            runes::push(&mut markup.out, rune);
            markup.at += width;
            if matches!(rune, ' ' | '.' | ',' | ';') {
                break;
            }
            found = true;
        }
        count += u64::from(found);
    }
    if count >= wanted {
        markup.out.extend_from_slice(b"...");
    }
    markup.finish(context)
}

/// HTML that is being copied, and the names of the tags that are open.
struct Markup<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
    open: Vec<Vec<u8>>,
}

impl<'a> Markup<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, out: Vec::new(), open: Vec::new() }
    }

    /// Copies a tag or drops an invalid byte; returns the rune if text is next.
    fn step(&mut self) -> Option<(char, usize)> {
        let (rune, width) = runes::decode(&self.text[self.at..]);
        if rune == runes::REPLACEMENT {
            self.at += width;
            return None;
        }
        if rune != '<' {
            return Some((rune, width));
        }
        self.out.push(b'<');
        self.at += 1;
        // pongo2 looks one byte ahead; a `<` as one of the last two bytes opens nothing.
        if self.at + 1 < self.text.len() {
            if self.text[self.at] == b'/' {
                self.close_tag();
            } else {
                self.open_tag();
            }
        }
        None
    }

    /// Copies a closing tag and removes the innermost open tag of that name.
    fn close_tag(&mut self) {
        self.at += 1;
        let mut tag = Vec::new();
        self.until_end(|rune| runes::push(&mut tag, rune));
        if let Some(index) = self.open.iter().rposition(|open| *open == tag) {
            // pongo2 moves the last open tag into the gap, so tags can be closed in another order.
            self.open.swap_remove(index);
        }
        self.out.push(b'/');
        self.out.extend_from_slice(&tag);
        self.out.push(b'>');
    }

    /// Copies an opening tag. Its name ends at the first space.
    fn open_tag(&mut self) {
        let mut all = Vec::new();
        let closed = self.until_end(|rune| runes::push(&mut all, rune));
        let name = all.split(|&byte| byte == b' ').next().unwrap_or(&[]).to_vec();
        self.out.extend_from_slice(&all);
        if closed {
            self.out.push(b'>');
        }
        self.open.push(name);
    }

    /// Passes the runes up to `>` to `take`, and skips that; returns whether there was one.
    fn until_end(&mut self, mut take: impl FnMut(char)) -> bool {
        while self.at < self.text.len() {
            let (rune, width) = runes::decode(&self.text[self.at..]);
            self.at += width;
            match rune {
                runes::REPLACEMENT => {}
                '>' => return true,
                _ => take(rune),
            }
        }
        false
    }

    /// Closes the open tags, innermost first.
    fn finish(mut self, context: &FilterContext<'_>) -> EngineResult<Value> {
        for tag in self.open.iter().rev() {
            self.out.extend_from_slice(b"</");
            self.out.extend_from_slice(tag);
            self.out.push(b'>');
        }
        context.fits(self.out.len())?;
        Ok(Value { safe: true, ..Value::bytes(self.out) })
    }
}
