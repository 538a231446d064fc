//! `removetags` hands its argument to a regular expression, `</?NAME/?>`.
//! Names are plain words in practice; they are matched as such.

use super::super::fault::{Fault, Outcome};
use super::Means;

/// `text` without `<name>`, `</name>`, `<name/>` and `</name/>`.
pub(super) fn without_tag(text: &[u8], name: &[u8], means: &mut Means<'_>) -> Outcome<Vec<u8>> {
    if name.iter().any(|byte| br"\.+*?()|[]{}^$".contains(byte)) {
        return Err(Fault::wrong("`removetags` takes plain names here, no regular expressions"));
    }
    means.spend(text.len() / 16)?;
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        match tag_length(&text[at..], name) {
            Some(length) => at += length,
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    Ok(out)
}

fn tag_length(text: &[u8], name: &[u8]) -> Option<usize> {
    let inner = text.strip_prefix(b"<")?;
    let slashed = inner.strip_prefix(b"/").into_iter().chain([inner]);
    for rest in slashed {
        if let Some(rest) = rest.strip_prefix(name) {
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            if let Some(rest) = rest.strip_prefix(b">") {
                return Some(text.len() - rest.len());
            }
        }
    }
    None
}
