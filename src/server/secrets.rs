//! `Secrets`: passes to private images, given out to trusted clients for one use by others.
//! Never kept on disk; a wrong one is no different from none.

use crate::fingerprint::Fingerprint;

/// The secrets that are valid now.
#[derive(Debug, Default)]
pub(crate) struct Secrets {}

impl Secrets {
    /// Whether `secret` opens the image. Reading with it makes it run out soon.
    pub(crate) fn opens(&self, _fingerprint: &Fingerprint, _secret: &str) -> bool {
        false
    }
}
