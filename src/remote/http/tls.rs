//! Whom a connection trusts and who it is: authorities, pinned certificates, a client certificate.
//! Nothing here is verified less than TLS itself asks: a pin stands in for names, dates and authorities, not for signatures.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::spki;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;

/// A certificate, as bytes in DER.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate(Vec<u8>);

impl Certificate {
    /// The first certificate in a PEM text.
    ///
    /// # Errors
    /// `Malformed` when there is none.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| Error::malformed(format!("this is no certificate in PEM: {error}")))?;
        Ok(Self(der.as_ref().to_vec()))
    }

    /// Its bytes, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// Its sha256, by which people and servers recognise it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }

    /// It as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in self.0.chunks(48) {
            pem.push_str(&super::proxy::base64(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint())
    }
}

/// Which servers are believed to be who they say they are.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Trust {
    /// Those with a certificate from an authority that this system trusts; `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name others.
    #[default]
    System,
    /// Those, and what these certificates signed: authorities of one's own.
    SystemAnd(Vec<Certificate>),
    /// Only the one whose certificate has this sha256, whatever name and dates stand in it.
    Pinned(Fingerprint),
}

/// Who this client is: a certificate with its key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<Vec<u8>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// A certificate, perhaps with those above it, and its private key, both in PEM.
    ///
    /// # Errors
    /// `Malformed` when either is not there, or the key is not of a kind that TLS can use.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        let chain: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .map(|der| der.map(|der| der.as_ref().to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|error| Error::malformed(format!("the client certificate is no PEM: {error}")))?;
        if chain.is_empty() {
            return Err(Error::malformed("there is no client certificate in the PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| Error::malformed(format!("the client's key is no private key in PEM: {error}")))?;
        ring::sign::any_supported_type(&key)
            .map_err(|error| Error::malformed(format!("the client's key can't be used: {error}")))?;
        Ok(Self { chain, key: Arc::new(key) })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        Certificate(self.chain.first().cloned().unwrap_or_default())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.certificate().fingerprint())
    }
}

/// Said inside of a handshake: the server's certificate is another than the pinned one.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) pinned: Fingerprint,
    pub(crate) found: Fingerprint,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's certificate is {}, and {} was pinned", self.found, self.pinned)
    }
}

impl std::error::Error for Changed {}

/// Where a certificate that was shown is put.
type Seen = Arc<Mutex<Option<Certificate>>>;

/// What a verifier of our own asks of a server's certificate.
#[derive(Debug)]
enum Question {
    IsIt(Fingerprint),
    /// Only noted; the handshake ends here.
    WhichIsIt(Seen),
}

#[derive(Debug)]
struct Verifier {
    question: Question,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.question {
            Question::IsIt(pinned) => {
                let found = Fingerprint::of(end_entity);
                if found == *pinned {
                    return Ok(ServerCertVerified::assertion());
                }
                let changed = Changed { pinned: *pinned, found };
                Err(rustls::Error::Other(rustls::OtherError(Arc::new(changed))))
            }
            Question::WhichIsIt(seen) => {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Certificate(end_entity.to_vec()));
                Err(rustls::Error::General("only the certificate was asked for".to_owned()))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        spki::verify_tls12(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        spki::verify_tls13(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What authorities vouch for, and servers whose own certificate was named as one.
///
/// Many a private server's only certificate says of itself that it is an authority (`openssl req -x509` makes such); for
/// those who named that very certificate it is as good as another.
#[derive(Debug)]
struct Anchored {
    usual: Arc<WebPkiServerVerifier>,
    anchors: HashSet<Fingerprint>,
}

impl ServerCertVerifier for Anchored {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.usual.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        let Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(why))) = &judged else {
            return judged;
        };
        // Said after its dates were looked at, and before its name is.
        if why.0.to_string() == "CaUsedAsEndEntity" && self.anchors.contains(&Fingerprint::of(end_entity)) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

fn builder(provider: &Arc<CryptoProvider>) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Unsupported, "TLS can't be set up").with_source(error))
}

/// What TLS needs to know for a client.
pub(crate) fn config(trust: &Trust, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = builder(&provider)?;
    let builder = match trust {
        Trust::Pinned(pin) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { question: Question::IsIt(*pin), provider })),
        Trust::System => builder.dangerous().with_custom_certificate_verifier(anchored(&[], provider)?),
        Trust::SystemAnd(more) => builder.dangerous().with_custom_certificate_verifier(anchored(more, provider)?),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
            builder.with_client_auth_cert(chain, identity.key.clone_key()).map_err(|error| {
                Error::invalid("the client certificate and its key don't fit together").with_source(error)
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A configuration whose handshakes end with the server's certificate.
pub(crate) fn asking() -> Result<(Arc<ClientConfig>, Seen)> {
    let provider = Arc::new(ring::default_provider());
    let seen = Seen::default();
    let question = Question::WhichIsIt(Arc::clone(&seen));
    let config = builder(&provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { question, provider }))
        .with_no_client_auth();
    Ok((Arc::new(config), seen))
}

fn anchored(more: &[Certificate], provider: Arc<CryptoProvider>) -> Result<Arc<Anchored>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let mut anchors = HashSet::new();
    for certificate in found.certs {
        anchors.insert(Fingerprint::of(&certificate));
        // A system has odd old ones among its authorities; those that can be used are enough.
        let _ = roots.add(certificate);
    }
    for certificate in more {
        anchors.insert(certificate.fingerprint());
        roots
            .add(CertificateDer::from(certificate.der().to_vec()))
            .map_err(|error| Error::malformed("an authority's certificate can't be used").with_source(error))?;
    }
    if roots.is_empty() {
        let error = Error::invalid("this system has no certificates of authorities, so no server can be trusted")
            .with_hint("install `ca-certificates`, or name a file of them in SSL_CERT_FILE");
        return Err(match found.errors.into_iter().next() {
            Some(why) => error.with_source(std::io::Error::other(why.to_string())),
            None => error,
        });
    }
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::invalid("the authorities that are trusted can't be used").with_source(error))?;
    Ok(Arc::new(Anchored { usual, anchors }))
}
