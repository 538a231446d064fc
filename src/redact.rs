//! Redaction: addresses and messages for display, without passwords and secret values of queries.
//!
//! One rule for the client's URLs, the server's access log and the sources of images. It is an
//! allow list: any query value may be a token or a signature under a name that is not known here.

use std::borrow::Cow;

/// The query keys whose values are shown. All other values are hidden, since any key may carry a secret.
const HARMLESS: &[&str] = &[
    "all-projects",
    "architecture",
    "filter",
    "os",
    "page",
    "project",
    "public",
    "q",
    "recursion",
    "sort",
    "target",
    "timeout",
    "type",
];

/// The replacement for a secret.
const HIDDEN: &str = "***";

/// Redacts the pairs of a query.
pub(crate) fn query(query: &str) -> String {
    let mut shown = String::with_capacity(query.len());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            shown.push('&');
        }
        match pair.split_once('=') {
            // An escaped key is shown as it is, and is never in the allow list.
            Some((key, value)) if value.is_empty() || HARMLESS.contains(&key) => shown.push_str(pair),
            Some((key, _)) => {
                shown.push_str(key);
                shown.push('=');
                shown.push_str(HIDDEN);
            }
            None if pair.is_empty() || HARMLESS.contains(&pair) => shown.push_str(pair),
            None => shown.push_str(HIDDEN),
        }
    }
    shown
}

/// The values of a query that must not be shown, in their escaped form.
#[cfg(feature = "remote")]
pub(crate) fn secrets(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter_map(|pair| match pair.split_once('=') {
        Some((key, value)) => Some(value).filter(|_| !HARMLESS.contains(&key)),
        None => Some(pair).filter(|pair| !HARMLESS.contains(pair)),
    })
}

/// All forms in which a secret may appear in a text: as it is, escaped as a path segment, and
/// escaped as a query value.
pub(crate) fn spellings(secret: &str) -> Vec<String> {
    let escaped = |upper: bool, plus: bool| -> String {
        secret.bytes().fold(String::new(), |mut text, byte| {
            match byte {
                b' ' if plus => text.push('+'),
                _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => text.push(char::from(byte)),
                // `application/x-www-form-urlencoded` keeps `*` and escapes `~`; path segments do the reverse.
                b'*' if plus => text.push('*'),
                _ if upper => text.push_str(&format!("%{byte:02X}")),
                _ => text.push_str(&format!("%{byte:02x}")),
            }
            text
        })
    };
    let mut all = vec![secret.to_owned(), escaped(true, false), escaped(false, false), escaped(true, true)];
    all.push(escaped(true, true).replace('~', "%7E"));
    all.dedup();
    all
}

/// Redacts a text that is, or was meant to be, an address: hides user and password, secret values
/// of the query, and drops the fragment.
///
/// It need not be well formed: most often it is shown in an error because it is not.
pub(crate) fn address(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (front, pairs) = match text.split_once('?') {
        Some((front, pairs)) => (front, Some(pairs)),
        None => (text, None),
    };
    let (scheme, rest) = match front.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, front),
    };
    // An unescaped password may contain a slash, so everything up to the last `@` is hidden.
    let host = rest.split('/').next().unwrap_or_default();
    let end = if host.contains('@') || host.contains(':') { rest.rfind('@') } else { None };
    let rest = end.map_or_else(|| rest.to_owned(), |at| format!("{HIDDEN}{}", rest.get(at..).unwrap_or_default()));
    let mut shown = scheme.map_or(rest.clone(), |scheme| format!("{scheme}://{rest}"));
    if let Some(pairs) = pairs {
        shown.push('?');
        shown.push_str(&query(pairs));
    }
    shown
}

/// Redacts all addresses in a sentence.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find("://") else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len());
    let (mut done, mut at) = (0, first);
    loop {
        // In a sentence an address ends at a blank, a quote or bracket, or a final colon.
        let rest = text.get(at..).unwrap_or_default();
        let ends =
            |letter: char| letter.is_whitespace() || matches!(letter, '`' | '"' | '<' | '>' | ',' | ';' | '(' | ')');
        let end = at + rest.find(ends).unwrap_or(rest.len());
        let last = rest.get(..end - at).unwrap_or_default();
        let colon = last.ends_with(':');
        let end = if colon { end - 1 } else { end };
        shown.push_str(text.get(done..at).unwrap_or_default());
        shown.push_str(&address(text.get(at..end).unwrap_or_default()));
        done = end;
        match text.get(end..).and_then(|rest| rest.find("://")) {
            Some(next) => at = end + next,
            None => break,
        }
    }
    shown.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_unknown_keys_are_hidden() {
        for (text, shown) in [
            ("recursion=1&filter=a", "recursion=1&filter=a"),
            ("secret=hidden&x=1", "secret=***&x=***"),
            ("%73ecret=hidden", "%73ecret=***"),
            ("X-Amz-Signature=ab%2Fc&X-Amz-Date=20200101", "X-Amz-Signature=***&X-Amz-Date=***"),
            ("hidden", "***"),
            ("a=&&b", "a=&&***"),
            ("", ""),
        ] {
            assert_eq!(query(text), shown);
        }
    }

    #[test]
    fn addresses_in_a_sentence_are_redacted() {
        for (sentence, shown) in [
            ("no remote `https://user:word@host/` here", "no remote `https://***@host/` here"),
            ("https://host/x?token=t: not there", "https://host/x?token=***: not there"),
            ("a ftp://u:p@h and http://u:p@h/?a=b.", "a ftp://***@h and http://***@h/?a=***"),
            ("https://host:8443/1.0: expected 1", "https://host:8443/1.0: expected 1"),
            ("user@host", "user@host"),
            ("://", "://"),
            ("ü://ü:ü@ü", "ü://***@ü"),
        ] {
            assert_eq!(text(sentence), shown);
        }
    }

    #[test]
    fn passwords_in_malformed_addresses_are_hidden() {
        for (text, shown) in [
            ("https://user:word@host/x?token=t#f", "https://***@host/x?token=***"),
            ("ftp://user:word@host/", "ftp://***@host/"),
            ("user:word@host", "***@host"),
            ("https://user:wo/rd@host/", "https://***@host/"),
            ("https://us er:wo rd@host/", "https://***@host/"),
            ("https://host:8443/a@1", "https://***@1"),
            ("https://host/a@1", "https://host/a@1"),
            ("", ""),
        ] {
            assert_eq!(address(text), shown);
        }
    }
}
