//! Verifies documents against a keyring, and decides what several signatures mean together.

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType, SignatureVersion, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::KeyDetails;

use super::keyring::Keyring;
use super::usable::{self, Key, made};
use super::{armor, cleartext, refused, shown};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::trust::list_form::{CLOCK_SKEW, is_packets};

/// A signature that a key of the keyring made, and that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoodSignature {
    /// The fingerprint of the certificate's primary key, in upper case.
    pub certificate: String,
    /// The fingerprint of the key that signed: the same, or that of a subkey.
    pub key: String,
    /// When it was made, in seconds since 1970, by the clock of the signer.
    pub created_at: i64,
}

/// What became of one signature.
enum Outcome {
    Good(GoodSignature),
    /// It does not count, but proves nothing bad: the reason as a sentence.
    Ignored(String),
    /// A key of the keyring is said to have made it, and did not.
    Bad(String),
}

impl Keyring {
    /// Verifies a cleartext message (`.sjson`, `.asc`) and returns the text that was signed, with a line end at its end.
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    /// `Malformed` for anything but exactly one message; `Untrusted` when no key of the keyring vouches for it, or when a
    /// signature that claims to be by one is wrong; `LimitExceeded` (`signature`, `signatures`).
    pub fn verify_cleartext(&self, message: &[u8], now: i64, limits: &Limits) -> Result<(Vec<u8>, GoodSignature)> {
        let cleartext::Cleartext { mut text, hashes, signatures } = cleartext::split(message, limits.signature)?;
        let signatures = packets(&signatures, limits)?;
        let good = self.decide(&signatures, SignatureType::Text, Some(&hashes), &text, now)?;
        text.push(b'\n');
        Ok((text, good))
    }

    /// Verifies bytes against a detached signature, armored or binary.
    ///
    /// # Errors
    /// As [`verify_cleartext`](Self::verify_cleartext).
    pub fn verify_detached(&self, bytes: &[u8], signature: &[u8], now: i64, limits: &Limits) -> Result<GoodSignature> {
        if signature.len() as u64 > limits.signature {
            return Err(Error::limit("signature", limits.signature, "the size of the signatures in bytes"));
        }
        let is_binary = is_packets(signature);
        let signatures = if is_binary {
            packets(signature, limits)?
        } else {
            packets(&armor::decode(signature, pgp::armor::BlockType::Signature)?, limits)?
        };
        self.decide(&signatures, SignatureType::Binary, None, bytes, now)
    }

    /// One good signature suffices; one bad signature by a key of this keyring is too many.
    fn decide(
        &self,
        signatures: &[Signature],
        kind: SignatureType,
        announced: Option<&[HashAlgorithm]>,
        data: &[u8],
        now: i64,
    ) -> Result<GoodSignature> {
        let mut good: Option<GoodSignature> = None;
        let mut reasons = Vec::new();
        for signature in signatures {
            match self.judge(signature, kind, announced, data, now) {
                Outcome::Good(found) => {
                    if good.as_ref().is_none_or(|known| known.created_at < found.created_at) {
                        good = Some(found);
                    }
                }
                Outcome::Ignored(reason) => reasons.push(reason),
                Outcome::Bad(reason) => return Err(refused(reason)),
            }
        }
        good.ok_or_else(|| refused(reasons.join("; ")))
    }

    /// Judges one signature.
    fn judge(
        &self,
        signature: &Signature,
        kind: SignatureType,
        announced: Option<&[HashAlgorithm]>,
        data: &[u8],
        now: i64,
    ) -> Outcome {
        let by = issuer(signature);
        let ignored = |reason: String| Outcome::Ignored(format!("the signature by {by} {reason}"));
        if !matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6) {
            return ignored("has a version that is not supported".into());
        }
        let candidates: Vec<Key<'_>> = self
            .certificates
            .iter()
            .flat_map(usable::keys)
            .filter(|key| is_issuer(signature, key).unwrap_or_else(|| key.may_sign(now).is_ok()))
            .collect();
        if candidates.is_empty() {
            return ignored("is by none of the keys that are trusted".into());
        }
        if let Err(reason) = check_form(signature, kind, announced) {
            return ignored(reason);
        }
        let Some(key) = candidates.into_iter().find(|key| signature.verify(key, data).is_ok()) else {
            // Without a word on who made it, it may be anybody's.
            return if names_issuer(signature) {
                Outcome::Bad(format!("the signature by {by} does not match what is signed"))
            } else {
                ignored("is by none of the keys that are trusted".into())
            };
        };
        let created_at = made(signature);
        if created_at > now.saturating_add(CLOCK_SKEW) {
            return ignored(format!("was made in the future, on {}", usable::date(created_at)));
        }
        if created_at < i64::from(key.created_at().as_secs()) {
            return ignored("is older than its key".into());
        }
        if usable::has_expired(signature, now) {
            return ignored("has expired".into());
        }
        if let Err(reason) = key.may_sign(now) {
            return Outcome::Ignored(format!("the key {:X} does not count: {reason}", key.fingerprint()));
        }
        Outcome::Good(GoodSignature {
            certificate: key.certificate_fingerprint(),
            key: format!("{:X}", key.fingerprint()),
            created_at,
        })
    }
}

/// Parses packets, all of which must be signatures.
fn packets(bytes: &[u8], limits: &Limits) -> Result<Vec<Signature>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let FirstPacket { packet, body, after } =
            first_packet(rest).ok_or_else(|| Error::malformed("the signature is not framed as signatures are"))?;
        rest = after;
        match PacketParser::new(packet).next() {
            Some(Ok(Packet::Signature(signature))) => {
                // Numbers with other bit counts than theirs, and whatever else the crate reads and would write in another way.
                if signature.to_bytes().ok().as_deref() != Some(body) {
                    return Err(Error::malformed("the signature is not written as signatures are"));
                }
                found.push(signature);
            }
            Some(Ok(_)) => return Err(Error::malformed("the signature holds packets that are no signatures")),
            Some(Err(error)) => {
                return Err(Error::malformed(format!("the signature can't be read: {}", shown(&error))));
            }
            None => return Err(Error::malformed("the signature holds an empty packet")),
        }
        // Each costs a pass over the document.
        if found.len() as u64 > limits.signatures {
            return Err(Error::limit("signatures", limits.signatures, "the number of signatures"));
        }
    }
    if found.is_empty() {
        return Err(Error::malformed("there is no signature in it"));
    }
    Ok(found)
}

/// A packet in what may be several.
struct FirstPacket<'a> {
    /// With its header.
    packet: &'a [u8],
    body: &'a [u8],
    after: &'a [u8],
}

/// The first packet. `None` for one that is cut off, and for a length that is not known at
/// its beginning (partial or indeterminate), which only packets of data may have (RFC 9580, section 4.2). The crate takes
/// both, and ignores half a header at the end.
fn first_packet(bytes: &[u8]) -> Option<FirstPacket<'_>> {
    let tag = *bytes.first()?;
    let number = |from: usize, size: usize| {
        let bytes = bytes.get(from..from.checked_add(size)?)?;
        Some(bytes.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (header, length) = if tag & 0xc0 == 0xc0 {
        match number(1, 1)? {
            length @ 0..192 => (2, length),
            192..224 => (3, (number(1, 2)? - (192 << 8)) + 192),
            255 => (6, number(2, 4)?),
            _ => return None,
        }
    } else {
        let size = match tag & 0x83 {
            0x80 => 1,
            0x81 => 2,
            0x82 => 4,
            _ => return None,
        };
        (1 + size, number(1, size)?)
    };
    let (packet, after) = bytes.split_at_checked(header.checked_add(length)?)?;
    Some(FirstPacket { packet, body: packet.get(header..)?, after })
}

/// Checks what the signature says of itself: its type, its digest, its date and what it holds.
fn check_form(signature: &Signature, kind: SignatureType, announced: Option<&[HashAlgorithm]>) -> Result<(), String> {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    if signature.typ() != Some(kind) {
        return Err("is of another type than this document needs".into());
    }
    let Some(hash @ (Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512)) = signature.hash_alg() else {
        let hash = signature.hash_alg().map(|hash| hash.to_string()).unwrap_or_default();
        return Err(format!("uses the digest {hash}, which is too weak"));
    };
    if announced.is_some_and(|announced| !announced.contains(&hash)) {
        return Err(format!("uses the digest {hash}, which the message does not announce"));
    }
    if signature.created().is_none() {
        return Err("has no date".into());
    }
    let parts = || signature.config().into_iter();
    if parts().flat_map(|config| config.unhashed_subpackets()).any(|subpacket| subpacket.is_critical) {
        return Err("has a critical part that is not signed".into());
    }
    let critical = parts().flat_map(|config| config.hashed_subpackets()).any(|subpacket| {
        let unknown = matches!(
            subpacket.data,
            SubpacketData::Notation(_) | SubpacketData::Experimental(..) | SubpacketData::Other(..)
        );
        subpacket.is_critical && unknown
    });
    if critical { Err("has a critical part that is not known".into()) } else { Ok(()) }
}

/// Whether a signature says who made it.
fn names_issuer(signature: &Signature) -> bool {
    !signature.issuer_fingerprint().is_empty() || !signature.issuer_key_id().is_empty()
}

/// Whether a key is the one that a signature names; `None` if it names nobody.
fn is_issuer(signature: &Signature, key: &Key<'_>) -> Option<bool> {
    if !names_issuer(signature) {
        return None;
    }
    let (fingerprint, id) = (key.fingerprint(), key.legacy_key_id());
    let by_fingerprint = signature.issuer_fingerprint().iter().any(|named| **named == fingerprint);
    Some(by_fingerprint || signature.issuer_key_id().iter().any(|named| **named == id))
}

/// Who is said to have made a signature, for messages.
fn issuer(signature: &Signature) -> String {
    if let Some(fingerprint) = signature.issuer_fingerprint().first() {
        return format!("{fingerprint:X}");
    }
    signature.issuer_key_id().first().map_or_else(|| "an unnamed key".into(), |id| id.to_string().to_uppercase())
}
