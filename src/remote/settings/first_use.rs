//! `FirstUse`: trust on first use, as `lxc remote add` does it.
//!
//! The caller shows the fingerprint of an unknown certificate to the user and pins it if the user agrees. Nothing but a request
//! for the root of the server is sent before.

use super::{KnownRemote, Protocol};
use crate::error::{ErrorKind, Result};
use crate::progress::Monitor;
use crate::remote::OciRegistry;
use crate::remote::http::{Certificate, Client, ClientOptions, Request, Scheme};

/// What is known of a server before it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FirstUse {
    /// It is spoken to without TLS, because it is this machine or because that was allowed.
    Plain,
    /// An authority that the client trusts vouches for it, or its certificate is pinned already.
    Vouched,
    /// No authority vouches for this certificate. The user must compare its fingerprint with what the owner of the server says
    /// before it is pinned.
    Unknown(Certificate),
}

impl KnownRemote {
    /// Asks a server for its certificate and says whether that can be trusted.
    ///
    /// # Errors
    /// `Remote` when it can't be reached, or shows another certificate than the pinned one;
    /// `InvalidInput` for plain http that is not allowed.
    pub fn first_use(&self, options: &ClientOptions, monitor: &Monitor) -> Result<FirstUse> {
        if self.url.scheme() == Scheme::File {
            return Ok(FirstUse::Plain);
        }
        let client = Client::new(super::client_options_for(self, options.clone()))?;
        let url = if self.protocol == Protocol::Oci { OciRegistry::root(&self.url)? } else { self.url.clone() };
        let asked = client.send(Request::head(&url).monitor(monitor));
        match asked {
            Ok(_) if self.url.scheme() == Scheme::Http => Ok(FirstUse::Plain),
            // The status does not matter: the handshake was completed.
            Ok(_) => Ok(FirstUse::Vouched),
            Err(error) if self.certificate.is_none() && error.kind() == ErrorKind::Remote && !error.is_transient() => {
                // The first error says more than that no certificate was shown.
                match client.server_certificate(&url, monitor) {
                    Ok(certificate) => Ok(FirstUse::Unknown(certificate)),
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}
