//! Verifies TLS signatures by the public key of a pinned certificate, without validating the rest of it.
//!
//! A pinned certificate is compared as a whole by its sha256, so its version, dates, names and extensions add nothing. The usual
//! verifier (`webpki`) refuses certificates of version 1 or with odd extensions, which self-signed ones of LXD servers and
//! `openssl` may be. So the key is taken out of the DER here (RFC 5280, 4.1) and given to `rustls` as a raw key. Only the
//! structure on the way to the key is parsed; lengths are checked against the bytes that are there.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// Tags of ASN.1 values in DER.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// `[0]`, which holds the version of a certificate unless that is 1.
const VERSION: u8 = 0xa0;
/// The object identifier of RSA keys, as DER.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// The smallest RSA key that `ring` verifies signatures with.
const MIN_RSA_BITS: usize = 2048;

/// One value in DER, with its tag and length, its content, and the bytes that follow it.
struct Value<'a> {
    tag: u8,
    whole: &'a [u8],
    content: &'a [u8],
    rest: &'a [u8],
}

/// Reads the value at the start of some DER; `None` if it is cut short or longer than 4 GiB.
fn value(der: &[u8]) -> Option<Value<'_>> {
    let (&tag, behind) = der.split_first()?;
    let (&first, behind) = behind.split_first()?;
    let (length, behind) = if first < 0x80 {
        (usize::from(first), behind)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, behind) = behind.split_at_checked(count)?;
        (digits.iter().fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit)), behind)
    };
    let (content, rest) = behind.split_at_checked(length)?;
    Some(Value { tag, whole: der.get(..der.len() - rest.len())?, content, rest })
}

/// Reads a value that must have this tag.
fn expect(der: &[u8], tag: u8) -> Option<Value<'_>> {
    value(der).filter(|found| found.tag == tag)
}

/// The key of a certificate, as `SubjectPublicKeyInfo` in DER.
fn key_of(certificate: &[u8]) -> Option<&[u8]> {
    let signed = expect(expect(certificate, SEQUENCE)?.content, SEQUENCE)?.content;
    let version = value(signed)?;
    let serial = if version.tag == VERSION { version.rest } else { signed };
    let mut behind = expect(serial, INTEGER)?.rest;
    // Skips the signature algorithm, the issuer, the validity and the subject.
    for _ in 0..4 {
        behind = expect(behind, SEQUENCE)?.rest;
    }
    Some(expect(behind, SEQUENCE)?.whole)
}

/// The algorithm of a key, as the content of its `AlgorithmIdentifier`, and the bits of the key.
fn parts(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let algorithm = expect(expect(key, SEQUENCE)?.content, SEQUENCE)?;
    let (&unused, bits) = expect(algorithm.rest, BIT_STRING)?.content.split_first()?;
    (unused == 0).then_some((algorithm.content, bits))
}

/// The size of an RSA key in bits; `None` for other keys.
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let (algorithm, bits) = parts(key)?;
    if !algorithm.starts_with(RSA) {
        return None;
    }
    let modulus = expect(expect(bits, SEQUENCE)?.content, INTEGER)?.content;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0))
}

/// The error inside of a handshake for a key that signatures can't be verified with.
#[derive(Debug)]
pub(super) struct UnusableKey(String);

impl fmt::Display for UnusableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnusableKey {}

/// The key of a certificate, if it is safe to verify signatures with.
fn usable_key<'a>(certificate: &'a CertificateDer<'_>) -> Result<&'a [u8], Error> {
    let unusable = |why: String| Error::Other(OtherError(Arc::new(UnusableKey(why))));
    let key = key_of(certificate).ok_or_else(|| unusable("no public key is found in it".to_owned()))?;
    match rsa_bits(key) {
        Some(bits) if bits < MIN_RSA_BITS => {
            Err(unusable(format!("its RSA key has {bits} bits, and fewer than {MIN_RSA_BITS} are not safe")))
        }
        _ => Ok(key),
    }
}

/// Whether a TLS 1.2 handshake was signed with the key of this certificate.
pub(super) fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = usable_key(certificate)?;
    let (algorithm, bits) = parts(key).ok_or(CertificateError::BadEncoding)?;
    let of_scheme = |entry: &&(SignatureScheme, _)| entry.0 == signed.scheme;
    let candidates = known.mapping.iter().find(of_scheme).map(|(_, all)| *all).unwrap_or_default();
    let fitting = candidates.iter().find(|candidate| candidate.public_key_alg_id().as_ref() == algorithm);
    let fitting = fitting.ok_or(CertificateError::BadSignature)?;
    match fitting.verify_signature(bits, message, signed.signature()) {
        Ok(()) => Ok(HandshakeSignatureValid::assertion()),
        Err(_) => Err(CertificateError::BadSignature.into()),
    }
}

/// Whether a TLS 1.3 handshake was signed with the key of this certificate.
pub(super) fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(usable_key(certificate)?);
    verify_tls13_signature_with_raw_key(message, &key, signed, known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn key_of_a_certificate_is_found() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = key_of(made.cert.der()).unwrap();
        let (_, bits) = parts(key).unwrap();
        assert_eq!(bits.len(), 65, "an uncompressed point of P-256");
        assert_eq!(rsa_bits(key), None);
    }

    #[test]
    fn cut_certificates_have_no_key() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let der = made.cert.der();
        for length in 0..der.len() {
            assert_eq!(key_of(&der[..length]), None, "{length}");
        }
    }
}
