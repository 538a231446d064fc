//! Trust and identity of TLS connections: authorities, pinned certificates, client certificates.
//!
//! A pin takes the place of names, dates and authorities, as LXD's clients do it for servers with certificates of their own
//! making; signatures of the handshake are verified all the same, since without them anyone could show the pinned certificate.

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

/// An X.509 certificate.
///
/// ```
/// use lxd_image::remote::Certificate;
///
/// let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
/// let certificate = Certificate::from_pem(pem)?;
/// assert_eq!((certificate.der(), certificate.to_pem()), (&[0x30, 0][..], pem.to_owned()));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate(Vec<u8>);

impl Certificate {
    /// The first certificate in a PEM text.
    ///
    /// # Errors
    /// `Malformed` when the text holds no certificate.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| Error::malformed(format!("this is no certificate in PEM: {error}")))?;
        Ok(Self(der.as_ref().to_vec()))
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// The sha256 of the DER, which LXD and Incus show as the fingerprint of a certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }

    /// The certificate in PEM, with lines of 64 characters.
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

/// Which server certificates are trusted.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Trust {
    /// Those of authorities that this system trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
    #[default]
    System,
    /// Those, and those of the given authorities.
    SystemAnd(Vec<Certificate>),
    /// Only the certificate with this sha256, whatever its name and dates.
    Pinned(Fingerprint),
}

/// A client certificate with its private key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate and those that signed it, in DER.
    chain: Vec<Vec<u8>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// Reads a certificate, with or without its chain, and its private key, both in PEM.
    ///
    /// # Errors
    /// `Malformed` when either is missing, or when TLS can't use the kind of key.
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

    /// The certificate itself, without its chain.
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

/// The error inside of a handshake for a certificate that is not the pinned one.
#[derive(Debug)]
pub(crate) struct PinMismatch {
    pub(crate) pinned: Fingerprint,
    pub(crate) found: Fingerprint,
}

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's certificate is {}, and {} was pinned", self.found, self.pinned)
    }
}

impl std::error::Error for PinMismatch {}

/// Where the verifier puts the certificate that a server shows.
type RecordedCertificate = Arc<Mutex<Option<Certificate>>>;

/// What [`PinVerifier`] does with the certificate of a server.
#[derive(Debug)]
enum VerifierMode {
    /// Accepts only this one.
    Pinned(Fingerprint),
    /// Records it and ends the handshake.
    Record(RecordedCertificate),
}

/// Verifies a pin, or records the certificate. Signatures are verified by the key alone, see `spki`.
#[derive(Debug)]
struct PinVerifier {
    mode: VerifierMode,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.mode {
            VerifierMode::Pinned(pinned) => {
                let found = Fingerprint::of(end_entity);
                if found == *pinned {
                    return Ok(ServerCertVerified::assertion());
                }
                let changed = PinMismatch { pinned: *pinned, found };
                Err(rustls::Error::Other(rustls::OtherError(Arc::new(changed))))
            }
            VerifierMode::Record(seen) => {
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

/// Verifies by authorities, and accepts a server whose own certificate was given as an authority.
///
/// Certificates of private servers are often marked as authorities (`openssl req -x509` makes such), which `webpki` refuses for a
/// server. If the user named that very certificate, its name and dates decide.
#[derive(Debug)]
struct AnchoredVerifier {
    /// The verifier of `rustls`, by authorities and names.
    usual: Arc<WebPkiServerVerifier>,
    /// The sha256 of each certificate that the user gave as an authority.
    anchors: HashSet<Fingerprint>,
}

impl ServerCertVerifier for AnchoredVerifier {
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
        // `webpki` reports this after it checked the dates and before it checks the name, so that only the name is left.
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

/// The part of the configuration that all connections share.
fn builder(provider: &Arc<CryptoProvider>) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Unsupported, "TLS can't be set up").with_source(error))
}

/// The TLS configuration of a client. ALPN offers HTTP/1.1 only: `ureq` speaks nothing else.
pub(crate) fn config(trust: &Trust, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = builder(&provider)?;
    let builder = match trust {
        Trust::Pinned(pin) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinVerifier { mode: VerifierMode::Pinned(*pin), provider })),
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

/// A configuration whose handshakes record the certificate of the server and fail.
pub(crate) fn recording_config() -> Result<(Arc<ClientConfig>, RecordedCertificate)> {
    let provider = Arc::new(ring::default_provider());
    let seen = RecordedCertificate::default();
    let mode = VerifierMode::Record(Arc::clone(&seen));
    let config = builder(&provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinVerifier { mode, provider }))
        .with_no_client_auth();
    Ok((Arc::new(config), seen))
}

/// The verifier for the system's authorities and more of them.
fn anchored(more: &[Certificate], provider: Arc<CryptoProvider>) -> Result<Arc<AnchoredVerifier>> {
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
    Ok(Arc::new(AnchoredVerifier { usual, anchors }))
}
