//! Which keys of a certificate may sign: revocations, expiry, key flags and back-signatures.
//!
//! Everything is computed from self-signatures, verified here. Those of the pinned certificate may use SHA-1.

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{self, KeyFlags, Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Fingerprint, KeyDetails, KeyId, KeyVersion, PublicParams, SignatureBytes, Tag, VerifyingKey};

use crate::trust::list_form::CLOCK_SKEW;

/// The least size of an RSA key in bits.
const RSA_BITS: u16 = 2048;

/// One key of a certificate: the primary key or a subkey.
#[derive(Debug)]
pub(super) struct Key<'a> {
    certificate: &'a SignedPublicKey,
    subkey: Option<&'a SignedPublicSubKey>,
}

/// All keys of a certificate, the primary key first.
pub(super) fn keys(certificate: &SignedPublicKey) -> Vec<Key<'_>> {
    let subkeys = certificate.public_subkeys.iter().map(|subkey| Key { certificate, subkey: Some(subkey) });
    std::iter::once(Key { certificate, subkey: None }).chain(subkeys).collect()
}

impl KeyDetails for Key<'_> {
    fn version(&self) -> KeyVersion {
        self.subkey.map_or_else(|| self.primary().version(), |subkey| subkey.key.version())
    }

    fn legacy_key_id(&self) -> KeyId {
        self.subkey.map_or_else(|| self.primary().legacy_key_id(), |subkey| subkey.key.legacy_key_id())
    }

    fn fingerprint(&self) -> Fingerprint {
        self.subkey.map_or_else(|| self.primary().fingerprint(), |subkey| subkey.key.fingerprint())
    }

    fn algorithm(&self) -> pgp::crypto::public_key::PublicKeyAlgorithm {
        self.subkey.map_or_else(|| self.primary().algorithm(), |subkey| subkey.key.algorithm())
    }

    fn created_at(&self) -> pgp::types::Timestamp {
        self.subkey.map_or_else(|| self.primary().created_at(), |subkey| subkey.key.created_at())
    }

    fn legacy_v3_expiration_days(&self) -> Option<u16> {
        None
    }

    fn public_params(&self) -> &PublicParams {
        self.subkey.map_or_else(|| self.primary().public_params(), |subkey| subkey.key.public_params())
    }
}

impl VerifyingKey for Key<'_> {
    fn verify(&self, hash: HashAlgorithm, data: &[u8], signature: &SignatureBytes) -> pgp::errors::Result<()> {
        match self.subkey {
            None => self.primary().verify(hash, data, signature),
            Some(subkey) => subkey.key.verify(hash, data, signature),
        }
    }
}

impl<'a> Key<'a> {
    fn primary(&self) -> &'a packet::PublicKey {
        &self.certificate.primary_key
    }

    /// The fingerprint of the certificate's primary key, in upper case.
    pub(super) fn certificate_fingerprint(&self) -> String {
        format!("{:X}", self.certificate.fingerprint())
    }

    /// Whether this key may sign documents at a time.
    ///
    /// # Errors
    /// The reason as a clause, such as "it expired on …".
    pub(super) fn may_sign(&self, now: i64) -> Result<(), String> {
        self.check_algorithm()?;
        let certificate = self.check_primary(now)?;
        match self.subkey {
            Some(subkey) => self.check_subkey(subkey, now),
            None if certificate.as_ref().is_some_and(|flags| !flags.sign()) => {
                Err("its key flags do not allow it to sign".into())
            }
            None => Ok(()),
        }
    }

    /// Refuses keys that are too weak, and those that only encrypt.
    fn check_algorithm(&self) -> Result<(), String> {
        if !matches!(self.version(), KeyVersion::V4 | KeyVersion::V6) {
            return Err("it is a key of an old version".into());
        }
        match self.public_params() {
            params @ PublicParams::RSA(_) => {
                // The first number is the modulus, after its size in bits.
                let bytes = params.to_bytes().unwrap_or_default();
                let bits = bytes.first_chunk::<2>().map_or(0, |size| u16::from_be_bytes(*size));
                if bits < RSA_BITS {
                    return Err(format!("it is an RSA key of {bits} bits, and {RSA_BITS} are the least"));
                }
                Ok(())
            }
            PublicParams::ECDSA(_)
            | PublicParams::EdDSALegacy(_)
            | PublicParams::Ed25519(_)
            | PublicParams::Ed448(_) => Ok(()),
            PublicParams::DSA(_) => Err("it is a DSA key, which is too weak".into()),
            _ => Err("its algorithm does not sign".into()),
        }
    }

    /// Checks the primary key, on which everything of the certificate depends, and returns its key flags.
    fn check_primary(&self, now: i64) -> Result<Option<KeyFlags>, String> {
        let primary = self.primary();
        let details = &self.certificate.details;
        let created = i64::from(primary.created_at().as_secs());
        if created > now.saturating_add(CLOCK_SKEW) {
            return Err(format!("it was made in the future, on {}", date(created)));
        }
        // Wherever they stand: a file may hold a revocation among other signatures on the key.
        let on_key = || details.revocation_signatures.iter().chain(&details.direct_signatures);
        let revoked = on_key().any(|signature| {
            signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok()
        });
        if revoked {
            return Err("it is revoked".into());
        }
        let direct = on_key().filter(|signature| {
            signature.typ() == Some(SignatureType::Key)
                && is_current(signature, now)
                && signature.verify_key(primary).is_ok()
        });
        let direct = newest(direct);
        let mut of_users = Vec::new();
        for user in &details.users {
            let valid = |signature: &&Signature| {
                is_current(signature, now) && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
            };
            let own = newest(user.signatures.iter().filter(|signature| signature.is_certification()).filter(valid));
            let gone = newest(
                user.signatures
                    .iter()
                    .filter(|signature| signature.typ() == Some(SignatureType::CertRevocation))
                    .filter(valid),
            );
            match (own, gone) {
                (Some(own), Some(gone)) if made(gone) >= made(own) => {}
                (Some(own), _) => of_users.push(own),
                (None, _) => {}
            }
        }
        let of_user = newest(of_users.into_iter());
        if direct.is_none() && of_user.is_none() {
            return Err("it has no valid self-signature".into());
        }
        let newer_first = if direct.map(made) > of_user.map(made) { [direct, of_user] } else { [of_user, direct] };
        for signature in newer_first.into_iter().flatten() {
            check_expiry(created, signature, now)?;
        }
        Ok(newer_first.into_iter().flatten().find_map(flags))
    }

    /// Checks a subkey: bound by the primary key, to sign, and bound back by itself.
    fn check_subkey(&self, subkey: &SignedPublicSubKey, now: i64) -> Result<(), String> {
        let primary = self.primary();
        let created = i64::from(subkey.key.created_at().as_secs());
        if created > now.saturating_add(CLOCK_SKEW) {
            return Err(format!("it was made in the future, on {}", date(created)));
        }
        let by_primary = |kind: SignatureType| {
            subkey.signatures.iter().filter(move |signature| {
                signature.typ() == Some(kind) && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
            })
        };
        if by_primary(SignatureType::SubkeyRevocation).next().is_some() {
            return Err("the subkey is revoked".into());
        }
        let bound = newest(by_primary(SignatureType::SubkeyBinding).filter(|signature| is_current(signature, now)));
        let bound = bound.ok_or("the subkey is not bound to its certificate")?;
        check_expiry(created, bound, now)?;
        if !flags(bound).is_some_and(|flags| flags.sign()) {
            return Err("its key flags do not allow it to sign".into());
        }
        // Without it anybody could claim another one's signing key as a subkey.
        let back = bound.embedded_signature().filter(|back| is_current(back, now));
        if back.is_none_or(|back| back.verify_primary_key_binding(&subkey.key, primary).is_err()) {
            return Err("the subkey does not confirm that it belongs to its certificate".into());
        }
        Ok(())
    }
}

/// When a signature was made, in seconds since 1970.
pub(super) fn made(signature: &Signature) -> i64 {
    signature.created().map_or(0, |time| i64::from(time.as_secs()))
}

/// The signature that was made last.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| made(signature))
}

/// Whether a self-signature counts now: dated, not from the future, not expired, and by a digest that still means something.
fn is_current(signature: &Signature, now: i64) -> bool {
    use HashAlgorithm::{Sha1, Sha3_256, Sha3_512, Sha224, Sha256, Sha384, Sha512};
    let strong = matches!(signature.hash_alg(), Some(Sha1 | Sha224 | Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512));
    let dated = signature.created().is_some() && made(signature) <= now.saturating_add(CLOCK_SKEW);
    strong && dated && !has_expired(signature, now)
}

/// Whether a signature has expired by its own date.
pub(super) fn has_expired(signature: &Signature, now: i64) -> bool {
    let lifetime = signature.signature_expiration_time().map_or(0, |time| i64::from(time.as_secs()));
    lifetime != 0 && made(signature).saturating_add(lifetime) <= now
}

/// The key flags in the signed part of a signature; `None` if it says nothing.
fn flags(signature: &Signature) -> Option<KeyFlags> {
    let says =
        signature.config()?.hashed_subpackets().any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)));
    says.then(|| signature.key_flags())
}

/// Refuses a key that has expired, by what a self-signature says.
fn check_expiry(created: i64, signature: &Signature, now: i64) -> Result<(), String> {
    let lifetime = signature.key_expiration_time().map_or(0, |time| i64::from(time.as_secs()));
    let ends = created.saturating_add(lifetime);
    if lifetime != 0 && ends <= now { Err(format!("it expired on {}", date(ends))) } else { Ok(()) }
}

/// A day for people.
pub(super) fn date(seconds: i64) -> String {
    crate::time::rfc3339(Some(seconds)).chars().take(10).collect()
}
