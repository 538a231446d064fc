//! Direct import: a URL that answers `HEAD` with the hash of an image and the URL of its file.
//!
//! LXD and Incus spell the headers differently. A server sends both spellings; a client sends both and accepts either, but
//! refuses two that contradict each other.
//!
//! ```
//! use lxd_image::protocol::direct::Answer;
//!
//! let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
//! let answer = Answer::from_headers(|name| match name {
//!     "LXD-Image-Hash" => Some(hash),
//!     "LXD-Image-URL" => Some("https://images.example/box.tar.xz"),
//!     _ => None,
//! })?;
//! assert_eq!(answer.fingerprint.to_string(), hash);
//! # Ok::<(), lxd_image::Error>(())
//! ```

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::metadata::Architecture;

/// Request headers: the architectures that the client runs, best first, separated by `, `.
pub const ARCHITECTURES: [&str; 2] = ["LXD-Server-Architectures", "Incus-Server-Architectures"];
/// Request headers: the version of the client.
pub const VERSION: [&str; 2] = ["LXD-Server-Version", "Incus-Server-Version"];
/// Response headers: the sha256 of the image, as 64 hexadecimal digits.
pub const HASH: [&str; 2] = ["LXD-Image-Hash", "Incus-Image-Hash"];
/// Response headers: the absolute URL of the file of the image.
pub const URL: [&str; 2] = ["LXD-Image-URL", "Incus-Image-URL"];

/// The response: which image, and where its file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The fingerprint of the image.
    pub fingerprint: Fingerprint,
    /// The URL of its file. Unchecked: the client decides where it may connect to.
    pub url: String,
}

impl Answer {
    /// Reads a response. `header` returns the value of a header and must ignore case in its name.
    ///
    /// # Errors
    /// `Remote` when the hash or the URL is missing, or the two spellings contradict each other; `Malformed` for an invalid hash.
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

    /// The headers of this response, in both spellings.
    #[must_use]
    pub fn to_headers(&self) -> [(&'static str, String); 4] {
        let hash = self.fingerprint.to_string();
        [(HASH[0], hash.clone()), (HASH[1], hash), (URL[0], self.url.clone()), (URL[1], self.url.clone())]
    }
}

/// The headers of a request, in both spellings: the accepted architectures, best first, and the version of the client.
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

/// Parses the architectures of a request, in order and without duplicates. Unknown names are skipped.
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
    fn architecture_that_is_named_a_thousand_times_is_one() {
        let header = "386, amd64,x86_64,what,".repeat(1_000);
        assert_eq!(architectures(&header), [Architecture::I686, Architecture::X86_64]);
    }
}
