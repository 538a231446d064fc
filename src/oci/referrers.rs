//! Referrers: manifests that say something about another one, their `subject`.
//!
//! OCI 1.1 gives registries an endpoint that lists them. Where there is none, in a layout and in older registries, whoever
//! writes a referrer keeps an index of them under the tag `sha256-HEX` of the subject.

use super::digest::Digest;
use super::document::{Descriptor, Manifest};
use super::source::Tag;
use crate::error::Result;

/// The tag of the index of referrers: `sha256-HEX`, cut to the length of a tag.
pub(crate) fn fallback_tag(digest: &Digest) -> Result<Tag> {
    let name: String = format!("{}-{}", digest.algorithm(), digest.hex()).chars().take(128).collect();
    name.parse()
}

/// Whether a name is one that [`fallback_tag`] makes.
pub(super) fn is_fallback_tag(name: &str) -> bool {
    let hex = [("sha256-", 64), ("sha512-", 121)]
        .iter()
        .find_map(|(front, length)| name.strip_prefix(front).filter(|hex| hex.len() == *length));
    hex.is_some_and(|hex| hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// What an index of referrers says of one.
pub(crate) fn referrer_entry(descriptor: &Descriptor, manifest: &Manifest) -> Descriptor {
    let mut entry = Descriptor::new(&*descriptor.media_type, descriptor.digest, descriptor.size);
    entry.artifact_type = manifest.artifact_type().map(str::to_owned);
    entry.annotations.clone_from(&manifest.annotations);
    entry
}

/// Whether an entry in a list of referrers is of an artifact type, or does not say: tools of before OCI 1.1, such as
/// `skopeo` 1.9, drop the types when they copy a list.
pub(crate) fn is_or_may_be(entry: &Descriptor, artifact_type: &str) -> bool {
    entry.artifact_type.as_deref().is_none_or(|stated| stated == artifact_type)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn fallback_tags_are_recognised() {
        for text in [format!("sha256:{}", "0a".repeat(32)), format!("sha512:{}", "fe".repeat(64))] {
            assert!(is_fallback_tag(fallback_tag(&text.parse().unwrap()).unwrap().as_str()), "{text}");
        }
        for name in
            ["sha256-", "latest", &format!("sha256-{}.sig", "0a".repeat(32)), &format!("sha256-{}", "0A".repeat(32))]
        {
            assert!(!is_fallback_tag(name), "{name}");
        }
    }
}
