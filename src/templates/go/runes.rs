//! Go's strings: bytes that are decoded rune by rune, where each invalid byte counts as U+FFFD.
//!
//! Case mapping, trimming, splitting and searching follow `strings` and `unicode`. All functions
//! are linear in the text, because templates choose both text and arguments.

/// The rune that stands for a byte which is not valid UTF-8 (`utf8.RuneError`).
pub(crate) const REPLACEMENT: char = '\u{fffd}';

/// The first rune and its width in bytes (`utf8.DecodeRune`). An invalid byte has width 1, empty
/// input width 0.
pub(crate) fn decode(bytes: &[u8]) -> (char, usize) {
    match bytes.first() {
        None => (REPLACEMENT, 0),
        Some(&byte) if byte < 0x80 => (char::from(byte), 1),
        Some(&byte) => {
            let width = match byte {
                // 0xc0 and 0xc1 would be overlong. `from_utf8` refuses the other overlong forms and
                // surrogates.
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return (REPLACEMENT, 1),
            };
            bytes
                .get(..width)
                .and_then(|head| std::str::from_utf8(head).ok())
                .and_then(|text| text.chars().next())
                .map_or((REPLACEMENT, 1), |rune| (rune, width))
        }
    }
}

/// An iterator over runes and their widths.
#[derive(Clone)]
pub(crate) struct Runes<'a>(&'a [u8]);

impl Iterator for Runes<'_> {
    type Item = (char, usize);

    fn next(&mut self) -> Option<(char, usize)> {
        let (rune, width) = decode(self.0);
        if width == 0 {
            return None;
        }
        self.0 = &self.0[width..];
        Some((rune, width))
    }
}

/// The runes of `bytes`.
pub(crate) fn runes(bytes: &[u8]) -> Runes<'_> {
    Runes(bytes)
}

/// `len([]rune(s))`.
pub(crate) fn count(bytes: &[u8]) -> usize {
    if bytes.is_ascii() { bytes.len() } else { runes(bytes).count() }
}

/// Appends one rune.
pub(crate) fn push(out: &mut Vec<u8>, rune: char) {
    out.extend_from_slice(rune.encode_utf8(&mut [0; 4]).as_bytes());
}

/// One rune as a string of its own.
pub(crate) fn string(rune: char) -> Vec<u8> {
    rune.encode_utf8(&mut [0; 4]).as_bytes().to_vec()
}

/// `string([]rune(s)[from..to])`. Invalid bytes come out as U+FFFD, as in Go.
pub(crate) fn section(bytes: &[u8], from: usize, to: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (rune, _) in runes(bytes).take(to).skip(from) {
        push(&mut out, rune);
    }
    out
}

/// `strings.Map`.
pub(crate) fn map(bytes: &[u8], mut change: impl FnMut(char) -> char) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (rune, _) in runes(bytes) {
        push(&mut out, change(rune));
    }
    out
}

/// `unicode.ToUpper`, which maps one rune to one rune. Rust's mapping may give several (`ß` →
/// `SS`); Go leaves such runes alone.
pub(crate) fn upper(rune: char) -> char {
    if rune.is_ascii() {
        return rune.to_ascii_uppercase();
    }
    let mut mapped = rune.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        // Greek letters with iota subscript have a single-rune mapping beside the full one.
        _ => match rune {
            '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => shifted(rune, 8),
            '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => shifted(rune, 9),
            _ => rune,
        },
    }
}

/// The rune `by` code points further on.
fn shifted(rune: char, by: u32) -> char {
    char::from_u32(u32::from(rune) + by).unwrap_or(rune)
}

/// `unicode.ToLower`, the first rune of Rust's mapping.
pub(crate) fn lower(rune: char) -> char {
    if rune.is_ascii() {
        return rune.to_ascii_lowercase();
    }
    rune.to_lowercase().next().unwrap_or(rune)
}

/// `unicode.ToTitle`: upper case, except for digraphs with a title case of their own, and Georgian,
/// which has none.
pub(crate) fn title(rune: char) -> char {
    match rune {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => rune,
        _ => upper(rune),
    }
}

/// Whether the rune separates words for `strings.Title` (`strings.isSeparator`). An apostrophe
/// does, so `it's` becomes `It'S`.
pub(crate) fn is_separator(rune: char) -> bool {
    if rune.is_ascii() {
        return !(rune.is_ascii_alphanumeric() || rune == '_');
    }
    !rune.is_alphabetic() && !rune.is_numeric() && rune.is_whitespace()
}

/// `strings.TrimSpace`.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let mut start = 0;
    for (rune, width) in runes(bytes) {
        if !rune.is_whitespace() {
            break;
        }
        start += width;
    }
    let mut end = bytes.len();
    while end > start {
        let mut head = end - 1;
        // Back to the byte that begins the last rune.
        while head > start && bytes[head] & 0xc0 == 0x80 && end - head < 4 {
            head -= 1;
        }
        let (rune, width) = decode(&bytes[head..end]);
        if width != end - head || !rune.is_whitespace() {
            break;
        }
        end = head;
    }
    &bytes[start..end]
}

/// `strings.Fields`: the words between runs of white space.
pub(crate) fn fields(bytes: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let (mut at, mut begin) = (0, None);
    for (rune, width) in runes(bytes) {
        if rune.is_whitespace() {
            if let Some(start) = begin.take() {
                words.push(&bytes[start..at]);
            }
        } else if begin.is_none() {
            begin = Some(at);
        }
        at += width;
    }
    if let Some(start) = begin {
        words.push(&bytes[start..]);
    }
    words
}

/// A search for one needle, in linear time for any text (Knuth, Morris and Pratt).
pub(crate) struct Finder<'n> {
    needle: &'n [u8],
    /// The failure table; empty for short needles, which are compared at each position.
    table: Vec<u32>,
}

impl<'n> Finder<'n> {
    /// Up to this length, comparing at each position is faster than the table.
    const SHORT: usize = 8;

    pub(crate) fn new(needle: &'n [u8]) -> Self {
        let mut table = Vec::new();
        if needle.len() > Self::SHORT {
            table.resize(needle.len(), 0);
            let mut length = 0;
            for at in 1..needle.len() {
                while length > 0 && needle[at] != needle[length] {
                    length = table[length - 1] as usize;
                }
                length += usize::from(needle[at] == needle[length]);
                table[at] = u32::try_from(length).unwrap_or(0);
            }
        }
        Self { needle, table }
    }

    /// The position of the needle in `bytes`, at or after `from`. An empty needle is not found.
    pub(crate) fn find(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let (&first, rest) = (self.needle.first()?, bytes.get(from..)?);
        if self.table.is_empty() {
            let mut at = 0;
            while rest.len() - at >= self.needle.len() {
                at += rest[at..].iter().position(|&byte| byte == first)?;
                if rest[at..].starts_with(self.needle) {
                    return Some(from + at);
                }
                at += 1;
            }
            return None;
        }
        let mut length = 0;
        for (at, &byte) in rest.iter().enumerate() {
            while length > 0 && byte != self.needle[length] {
                length = self.table[length - 1] as usize;
            }
            length += usize::from(byte == self.needle[length]);
            if length == self.needle.len() {
                return Some(from + at + 1 - length);
            }
        }
        None
    }
}

/// `strings.Contains`.
pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || Finder::new(needle).find(bytes, 0).is_some()
}

/// `strings.Split`; with an empty separator, rune by rune (`strings.explode`). Always at least one
/// part, unless text and separator are empty.
pub(crate) fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    if separator.is_empty() {
        let mut at = 0;
        return runes(bytes)
            .map(|(_, width)| {
                at += width;
                &bytes[at - width..at]
            })
            .collect();
    }
    let finder = Finder::new(separator);
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(hit) = finder.find(bytes, at) {
        parts.push(&bytes[at..hit]);
        at = hit + separator.len();
    }
    parts.push(&bytes[at..]);
    parts
}

/// `strings.ReplaceAll` with a needle that is not empty. With an empty one nothing is replaced,
/// where Go inserts everywhere; the only caller that can pass one, `cut`, inserts nothing.
pub(crate) fn replace(bytes: &[u8], needle: &[u8], with: &[u8]) -> Vec<u8> {
    let finder = Finder::new(needle);
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(hit) = finder.find(bytes, at) {
        out.extend_from_slice(&bytes[at..hit]);
        out.extend_from_slice(with);
        at = hit + needle.len();
    }
    out.extend_from_slice(&bytes[at..]);
    out
}
