//! `RemoteAddress`: where a remote is and how it is spoken to, parsed and checked once.

use super::{
    Certificate, ClientOptions, Direct, Lxd, OciLogin, OciRegistry, Protocol, Remote, Simplestreams, Trust, Url,
};
use crate::error::Result;
use crate::store::UpdateSource;

/// The address of a remote: protocol, URL and, where no known authority vouches for the server, its certificate.
///
/// The only place where a protocol is turned into a client. An [`UpdateSource`] holds the same as text, since a catalog may
/// hold what this version does not know.
///
/// ```no_run
/// use lxd_image::remote::{ClientOptions, Protocol, RemoteAddress};
///
/// let address = RemoteAddress::new(Protocol::Simplestreams, "https://images.example/".parse()?);
/// let remote = address.connect(ClientOptions::new())?;
/// println!("{}", remote.source().server);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteAddress {
    protocol: Protocol,
    url: Url,
    certificate: Option<Certificate>,
    /// The certificate as it was written. Sources of stored images are compared as text, so it must not be normalized.
    pem: String,
}

impl RemoteAddress {
    /// The address of a server that authorities vouch for.
    #[must_use]
    pub fn new(protocol: Protocol, url: Url) -> Self {
        Self { protocol, url, certificate: None, pem: String::new() }
    }

    /// Pins the certificate that the server must show.
    #[must_use]
    pub fn pinned(mut self, certificate: Certificate) -> Self {
        self.pem = certificate.to_pem();
        self.certificate = Some(certificate);
        self
    }

    /// Parses the source of a stored image.
    ///
    /// # Errors
    /// `Unsupported` for an unknown protocol, `InvalidInput` for an invalid URL, `Malformed` for a certificate that is not PEM.
    pub fn from_source(source: &UpdateSource) -> Result<Self> {
        let certificate = match &*source.certificate {
            "" => None,
            pem => Some(Certificate::from_pem(pem)?),
        };
        let url = source.server.parse()?;
        Ok(Self { protocol: source.protocol.parse()?, url, certificate, pem: source.certificate.clone() })
    }

    /// How the server is spoken to.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The server's URL; for direct import the URL of the image; for simplestreams also `file:///DIR`.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The certificate that the server must show. Without one, the authorities that the client trusts decide.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The client of this remote. Nothing is sent yet. A pinned certificate takes the place of the trust in `options`.
    ///
    /// # Errors
    /// Those of [`Client::new`](super::Client::new); `InvalidInput` for a `file` URL that the protocol can't use.
    pub fn connect(&self, options: ClientOptions) -> Result<Box<dyn Remote>> {
        let options = match &self.certificate {
            Some(certificate) => options.trust(Trust::Pinned(certificate.fingerprint())),
            None => options,
        };
        let pem = self.pem.clone();
        Ok(match self.protocol {
            Protocol::Direct => Box::new(Direct::new(options, self.url.clone())?.certificate(pem)),
            Protocol::Simplestreams => Box::new(Simplestreams::new(options, &self.url)?.certificate(pem)),
            Protocol::Oci => Box::new(OciRegistry::new(options, &self.url, &OciLogin::Anonymous)?.certificate(pem)),
            Protocol::Lxd | Protocol::Incus => {
                Box::new(Lxd::new(options, &self.url)?.protocol(self.protocol).certificate(pem))
            }
        })
    }
}
