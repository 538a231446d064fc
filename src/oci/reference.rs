//! [`OciReference`]: what a registry is asked for: a repository, and a tag or a digest in it.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::source::{Reference, Tag};
use crate::error::{Error, Result};

/// The longest name of a repository that registries take.
const MAX_REPOSITORY: usize = 255;
/// The tag that is meant where none is written.
const DEFAULT_TAG: &str = "latest";

/// An image in a registry: `REPOSITORY[:TAG][@DIGEST]`, without the registry itself.
///
/// Where there is a digest, it decides, and the tag is only a remark. Without either, the tag is `latest`.
///
/// ```
/// use lxd_image::oci::OciReference;
///
/// let alpine: OciReference = "library/alpine:3.20".parse()?;
/// assert_eq!((alpine.repository(), alpine.tag()), ("library/alpine", Some(&"3.20".parse()?)));
/// assert_eq!("team/web".parse::<OciReference>()?.to_string(), "team/web:latest");
/// assert!("Team/Web".parse::<OciReference>().is_err());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OciReference {
    repository: String,
    /// What is asked for.
    target: Reference,
    /// The tag beside a digest.
    remark: Option<Tag>,
}

impl OciReference {
    /// A tag of a repository.
    ///
    /// # Errors
    /// `InvalidInput` where the repository can't be a name.
    pub fn tagged(repository: &str, tag: Tag) -> Result<Self> {
        check_repository(repository)?;
        Ok(Self { repository: repository.to_owned(), target: Reference::Tag(tag), remark: None })
    }

    /// The repository, like `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one is written or nothing else is.
    #[must_use]
    pub fn tag(&self) -> Option<&Tag> {
        match &self.target {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => self.remark.as_ref(),
        }
    }

    /// The digest, which always means the same image.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        match &self.target {
            Reference::Tag(_) => None,
            Reference::Digest(digest) => Some(digest),
        }
    }

    /// What is asked for in the repository: the digest, else the tag.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.target
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        match self.digest() {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for OciReference {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` for a name that no registry takes, `Malformed` or `Unsupported` for the digest.
    fn from_str(text: &str) -> Result<Self> {
        let (front, digest) = match text.split_once('@') {
            Some((front, digest)) => (front, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (repository, tag) = match front.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.parse::<Tag>()?)),
            None => (front, None),
        };
        check_repository(repository)?;
        let (target, remark) = match (digest, tag) {
            (Some(digest), remark) => (Reference::Digest(digest), remark),
            (None, Some(tag)) => (Reference::Tag(tag), None),
            (None, None) => (Reference::Tag(DEFAULT_TAG.parse()?), None),
        };
        Ok(Self { repository: repository.to_owned(), target, remark })
    }
}

/// Refuses what is no name of a repository: parts of lower-case letters and digits with single `.`, `_`, `__` or any
/// number of `-` between them, separated by slashes. What passes is safe as a part of a path.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check_repository(text: &str) -> Result<()> {
    let shown = || text.chars().take(64).collect::<String>();
    let fits = !text.is_empty() && text.len() <= MAX_REPOSITORY && text.split('/').all(is_component);
    if fits {
        return Ok(());
    }
    let error = Error::invalid(format!("`{}` can't be a repository of a registry", shown()));
    Err(if text.is_empty() {
        error.with_hint("write NAME:REPOSITORY:TAG, like docker:library/alpine:3.20")
    } else {
        error.with_hint("it has lower-case letters, digits, and `.`, `_` or `-` between them, and slashes")
    })
}

/// Whether a text is one part of a repository's name.
fn is_component(part: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = part.split(is_plain).filter(|between| !between.is_empty());
    part.starts_with(is_plain)
        && part.ends_with(is_plain)
        && separators.all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::ErrorKind;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn reference_prints_as_it_was_parsed() {
        let digest = format!("a/b@{DIGEST}");
        let both = format!("a:1@{DIGEST}");
        for text in ["library/alpine:3.20", "a:V1.0-rc_2", "a.b/c__d/e---f:latest", &digest, &both] {
            assert_eq!(text.parse::<OciReference>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn digest_decides_over_a_tag() {
        let both: OciReference = format!("a:1@{DIGEST}").parse().unwrap();
        assert_eq!(both.reference().to_string(), DIGEST);
    }

    #[test]
    fn what_no_registry_takes_is_refused() {
        let long = "a/".repeat(128) + "a";
        let tag = format!("a:{}", "t".repeat(129));
        for text in [
            "", "A", "a//b", "/a", "a/", "../a", "a/..", "a/./b", "a b", "a..b", "a___b", "-a", "a-", "a:", "a:-1",
            "a:.", "a:1:2/3", "a:b/c", "ä", "a\n", "a%2fb", "a?b", "a#b", &long, &tag,
        ] {
            assert_eq!(text.parse::<OciReference>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
        for text in ["a@", "a@sha256:1", "a@latest"] {
            assert!(text.parse::<OciReference>().is_err(), "{text}");
        }
    }
}
