//! Direct import: an address that answers `HEAD` with the hash of an image and where it lies.
//! LXD and Incus spell the headers differently; a server sends both, a client sends both and takes either.

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::metadata::Architecture;

/// The headers in which a client tells which architectures it runs, best first, separated by `, `.
pub const ARCHITECTURES: [&str; 2] = ["LXD-Server-Architectures", "Incus-Server-Architectures"];
/// The headers in which a client tells its version.
pub const VERSION: [&str; 2] = ["LXD-Server-Version", "Incus-Server-Version"];
/// The headers in which a server tells the sha256 of the image, as 64 hexadecimal digits.
pub const HASH: [&str; 2] = ["LXD-Image-Hash", "Incus-Image-Hash"];
/// The headers in which a server tells where the image lies, as an absolute address.
pub const URL: [&str; 2] = ["LXD-Image-URL", "Incus-Image-URL"];

/// What a server answered: which image, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The image's fingerprint. Nothing is taken without it.
    pub fingerprint: Fingerprint,
    /// Where the image lies. Not checked yet: whoever goes there decides where it may go.
    pub url: String,
}

impl Answer {
    /// Reads the answer. `header` gives the value of a header, whose name is taken in any case.
    ///
    /// # Errors
    /// `Remote` when the hash or the address is missing, or the two spellings contradict each other;
    /// `Malformed` for a hash that is none.
    pub fn from_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let one = |names: [&str; 2], what: &str| {
            let mut values =
                names.iter().filter_map(|name| header(name)).map(str::trim).filter(|value| !value.is_empty());
            let Some(first) = values.next() else {
                return Err(Error::new(ErrorKind::Remote, format!("the server's answer has no header `{}`", names[0]))
                    .with_hint(format!(
                        "an address for direct import answers with {what}; this one may be an image itself"
                    )));
            };
            if values.any(|other| !other.eq_ignore_ascii_case(first)) {
                return Err(Error::new(
                    ErrorKind::Remote,
                    format!("the server's headers `{}` and `{}` contradict each other", names[0], names[1]),
                ));
            }
            Ok(first)
        };
        let hash = one(HASH, "the hash of the image")?;
        let url = one(URL, "where the image lies")?;
        let fingerprint = hash.parse().map_err(|error: Error| {
            Error::malformed(format!("the server's header `{}` is no fingerprint", HASH[0])).with_source(error)
        })?;
        Ok(Self { fingerprint, url: url.to_owned() })
    }

    /// The headers of this answer, in both spellings.
    #[must_use]
    pub fn to_headers(&self) -> [(&'static str, String); 4] {
        let hash = self.fingerprint.to_string();
        [(HASH[0], hash.clone()), (HASH[1], hash), (URL[0], self.url.clone()), (URL[1], self.url.clone())]
    }
}

/// The headers of a question, in both spellings: the architectures that are taken, best first, and a version.
#[must_use]
pub fn question(architectures: &[Architecture], version: &str) -> [(&'static str, String); 4] {
    let names: Vec<_> = architectures.iter().map(|architecture| architecture.kernel_name()).collect();
    let names = names.join(", ");
    [
        (ARCHITECTURES[0], names.clone()),
        (ARCHITECTURES[1], names),
        (VERSION[0], version.to_owned()),
        (VERSION[1], version.to_owned()),
    ]
}

/// The architectures that a client named, in its order and each once; names that are none are left out.
#[must_use]
pub fn architectures(header: &str) -> Vec<Architecture> {
    let mut named = Vec::new();
    for architecture in header.split(',').filter_map(|name| name.trim().parse().ok()) {
        if !named.contains(&architecture) {
            named.push(architecture);
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_that_is_named_a_thousand_times_is_one() {
        let header = "386, amd64,x86_64,what,".repeat(1_000);
        assert_eq!(architectures(&header), [Architecture::I686, Architecture::X86_64]);
    }
}
