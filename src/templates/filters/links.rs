//! Filters about URLs: percent-encoding, and links for text that looks like an address.
//!
//! pongo2 finds addresses with two regular expressions (`filterUrlizeURLRegexp`,
//! `filterUrlizeEmailRegexp`). They are matched by hand here, in linear time.

use super::super::engine_error::EngineResult;
use super::super::go::runes;
use super::super::value::{GoValue, Value};
use super::{FilterContext, html};

/// Go's `url.QueryEscape`: a space becomes `+`.
fn query_escape(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
        }
    }
}

/// `urlencode`: percent-encodes as a query parameter.
pub(super) fn urlencode(value: &Value, _: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let mut out = Vec::new();
    query_escape(&mut out, &value.text());
    context.fits(out.len())?;
    Ok(Value::bytes(out))
}

/// `iriencode`: as `urlencode`, but keeps the characters that separate the parts of a URL.
pub(super) fn iriencode(value: &Value, _: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let out = iri(&value.text());
    context.fits(out.len())?;
    Ok(Value::bytes(out))
}

/// Encodes all runes except the reserved characters of a URL.
fn iri(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (rune, _) in runes::runes(text) {
        if "/#%[]=:;$&()+,!?*@'~".contains(rune) {
            runes::push(&mut out, rune);
        } else {
            query_escape(&mut out, &runes::string(rune));
        }
    }
    out
}

/// `urlize`: makes addresses links. The argument `false` leaves their text unescaped.
pub(super) fn urlize(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let escape = !matches!(argument.data, GoValue::Bool(false));
    linked(&value.text(), escape, -1, context)
}

/// `urlizetrunc`: as `urlize`, with the text of links cut to the given number of bytes.
pub(super) fn urlizetrunc(value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    linked(&value.text(), true, argument.integer(), context)
}

/// Links web addresses, then mail addresses in the result, as `filterUrlizeHelper` does. A negative
/// `trunc` cuts nothing.
fn linked(text: &[u8], escape: bool, trunc: i64, context: &mut FilterContext<'_>) -> EngineResult<Value> {
    let mut sites = Vec::with_capacity(text.len());
    let (mut at, mut copied) = (0, 0);
    // Where the next space or line break is, so that it is looked for once.
    let mut stop = 0;
    while at < text.len() {
        let Some(start) = site_start(text, at) else {
            at += 1;
            continue;
        };
        stop = stop.max(start);
        while text.get(stop).is_some_and(|byte| !matches!(byte, b' ' | b'\n')) {
            stop += 1;
        }
        // The expression needs the end of the text or spaces behind an address; at a line break it
        // does not match.
        if text.get(stop) == Some(&b'\n') {
            at += 1;
            continue;
        }
        let end = stop + text[stop..].iter().take_while(|&&byte| byte == b' ').count();
        sites.extend_from_slice(&text[copied..at]);
        site_link(&mut sites, &text[at..end], escape, trunc);
        context.fits(sites.len())?;
        (at, copied) = (end, end);
    }
    sites.extend_from_slice(&text[copied..]);
    let out = mail_links(&sites, trunc, context)?;
    Ok(Value::bytes(out))
}

/// Where the free part of an address begins, if one starts at `at`: behind the scheme, `www.`, or a
/// host of one of the known domains at the start of the text or behind a space.
fn site_start(text: &[u8], at: usize) -> Option<usize> {
    let rest = &text[at..];
    for prefix in [b"http://".as_slice(), b"https://", b"www."] {
        if rest.starts_with(prefix) {
            return Some(at + prefix.len());
        }
    }
    let host = match (at, rest.first()) {
        (_, Some(b' ')) => at + 1,
        (0, _) => 0,
        _ => return None,
    };
    let length = text[host..].iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
    if length == 0 {
        return None;
    }
    [".com", ".net", ".org", ".info", ".biz", ".de"]
        .iter()
        .find(|domain| text[host + length..].starts_with(domain.as_bytes()))
        .map(|domain| host + length + domain.len())
}

/// The text of a link, cut to `trunc` bytes with three dots.
fn cut_title(title: &[u8], trunc: i64) -> Vec<u8> {
    match usize::try_from(trunc) {
        Ok(trunc) if trunc > 3 && title.len() > trunc => [&title[..trunc - 3], b"..."].concat(),
        _ => title.to_vec(),
    }
}

/// Appends the link for one web address, keeping the single spaces that its match included.
fn site_link(out: &mut Vec<u8>, raw: &[u8], escape: bool, trunc: i64) {
    let address = runes::trim(raw);
    if raw.starts_with(b" ") {
        out.push(b' ');
    }
    let url = iri(address);
    out.extend_from_slice(b"<a href=\"");
    // Only the first four letters count, so `httpfoo.com` gets no scheme.
    if !url.starts_with(b"http") {
        out.extend_from_slice(b"http://");
    }
    out.extend_from_slice(&url);
    out.extend_from_slice(b"\" rel=\"nofollow\">");
    let title = cut_title(address, trunc);
    out.extend_from_slice(&if escape { html::escaped(&title) } else { title });
    out.extend_from_slice(b"</a>");
    if raw.ends_with(b" ") {
        out.push(b' ');
    }
}

/// Makes mail addresses links. The domain ends in two to four word characters, however long it goes
/// on.
fn mail_links(text: &[u8], trunc: i64, context: &FilterContext<'_>) -> EngineResult<Vec<u8>> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let run = |from: usize| text[from..].iter().take_while(|byte| word(byte)).count();
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let name = run(at);
        if name == 0 {
            out.push(text[at]);
            at += 1;
            continue;
        }
        let mut end = at + name;
        if text.get(end) == Some(&b'@') {
            let host = run(end + 1);
            let dot = end + 1 + host;
            // The expression asks for `\w{2,4}`, and a regular expression takes as many as it may.
            let domain = if host > 0 && text.get(dot) == Some(&b'.') { run(dot + 1).min(4) } else { 0 };
            if domain >= 2 {
                let mail = &text[at..dot + 1 + domain];
                out.extend_from_slice(b"<a href=\"mailto:");
                out.extend_from_slice(mail);
                out.extend_from_slice(b"\">");
                out.extend_from_slice(&cut_title(mail, trunc));
                out.extend_from_slice(b"</a>");
                context.fits(out.len())?;
                at += mail.len();
                continue;
            }
            end += 1;
        }
        out.extend_from_slice(&text[at..end]);
        at = end;
    }
    context.fits(out.len())?;
    Ok(out)
}
