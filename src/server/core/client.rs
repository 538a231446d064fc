//! [`Client`]: who asks, as far as the server knows. It comes from the connection, and never from what a request says.

use crate::fingerprint::Fingerprint;

/// Who a client is, as its certificate proves. Tokens in a request grant single actions and do not change who the
/// client is.
///
/// The listener determines it for each request, not for each connection: when a certificate is
/// removed from the trusted ones, requests on open connections are untrusted from then on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Client {
    /// Without a trusted certificate: sees public images only.
    #[default]
    Untrusted,
    /// With a trusted certificate, whose SHA-256 this is: sees and changes everything.
    Trusted(Fingerprint),
}

impl Client {
    /// Whether the client is trusted.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        matches!(self, Self::Trusted(_))
    }
}
