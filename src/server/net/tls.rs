//! The TLS configuration: versions, protocols, and client certificates. The handshake accepts any certificate whose key
//! the client has; whether it is trusted is decided per request. So a client with an untrusted certificate reads like
//! an anonymous one.
//!
//! Clients of LXD and Incus show self-signed certificates, and identify by them; there is no
//! authority that could vouch for one. So the chain, the name and the dates of a client certificate
//! mean nothing here. What counts is the proof in the handshake that the client has the key, and
//! that the SHA-256 of the certificate is among the trusted ones. The same holds in the other
//! direction: clients pin the SHA-256 of the server's certificate.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use super::certificate::ServerCertificate;
use crate::error::{Error, Result};

/// The ALPN name of HTTP/2.
///
/// Agreed on during the handshake (RFC 7301); a client that names no protocol gets HTTP/1.1.
pub(super) const H2: &[u8] = b"h2";

/// The configuration for a certificate. Clients are asked for one of their own where anybody is trusted at all:
/// browsers bother people with that.
///
/// # Errors
/// `Malformed` when the certificate and the key don't belong together, or the key is of a kind that
/// the TLS library does not know.
pub(super) fn config(certificate: ServerCertificate, ask: bool) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |error| Error::malformed("the certificate and the key can't be used").with_source(error);
    // 1.2 for clients of old distributions, whose Go has no 1.3.
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(wrong)?;
    let builder = if ask {
        builder.with_client_cert_verifier(Arc::new(Anybody { provider }))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(certificate.chain, certificate.key).map_err(wrong)?;
    // In the order of preference (RFC 7301, section 3.2).
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts any client certificate, and verifies that the client has its key.
///
/// Refusing an untrusted certificate here would end the handshake, and its client could not even
/// read public images, as it can without one.
#[derive(Debug)]
struct Anybody {
    /// The algorithms with which signatures are verified.
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Anybody {
    // A client without a certificate is an anonymous one.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // No names of authorities: with a list, clients would not offer their self-signed certificates.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    // Only the certificate is accepted here. The signature that proves the key is verified below.
    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
