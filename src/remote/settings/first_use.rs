//! Trust on first use: which certificate a server shows, and whether an authority vouches for it.
//! Whoever accepts it has it pinned; nothing is sent to the server before.

use super::KnownRemote;
use crate::error::{ErrorKind, Result};
use crate::progress::Monitor;
use crate::remote::http::{Certificate, Client, ClientOptions, Request, Scheme};

/// What is seen of a server before it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FirstUse {
    /// It is spoken to without TLS: on this machine, or since that was allowed.
    Plain,
    /// An authority that this system trusts vouches for it, or it was pinned before.
    Vouched,
    /// No authority vouches for this certificate. Somebody must compare its fingerprint with what
    /// the server's owner says, and pin it.
    Unknown(Certificate),
}

impl KnownRemote {
    /// Asks a server for its certificate, and whether that is to be believed.
    ///
    /// # Errors
    /// `Remote` when it can't be reached, or shows another certificate than the pinned one;
    /// `InvalidInput` for plain http that is not allowed.
    pub fn first_use(&self, options: &ClientOptions, monitor: &Monitor) -> Result<FirstUse> {
        if self.url.scheme() == Scheme::File {
            return Ok(FirstUse::Plain);
        }
        let client = Client::new(super::believing(self, options.clone()))?;
        let asked = client.send(Request::head(&self.url).monitor(monitor));
        match asked {
            Ok(_) if self.url.scheme() == Scheme::Http => Ok(FirstUse::Plain),
            // Whatever it answers, its certificate was believed.
            Ok(_) => Ok(FirstUse::Vouched),
            Err(error) if self.certificate.is_none() && error.kind() == ErrorKind::Remote && !error.is_transient() => {
                // The error of the way says more than that no certificate came.
                match client.server_certificate(&self.url, monitor) {
                    Ok(certificate) => Ok(FirstUse::Unknown(certificate)),
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}
