//! `Keyring`: the certificates that may vouch for something, from one file of the caller's.

use std::fmt;
use std::io::Read;

use pgp::armor::{BlockType, Dearmor, DearmorOptions};
use pgp::composed::{ArmorOptions, Deserializable, SignedPublicKey};
use pgp::packet::{Packet, PacketParser};
use pgp::types::KeyDetails;

use super::{shown, usable};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::trust::list_form::is_packets;

/// Public keys with their certificates.
///
/// A keyring comes from the caller, who pins it: nothing says whether its keys belong to the people that they name. Which of
/// its keys may sign is decided when a signature is verified, since keys expire.
///
/// ```no_run
/// use lxd_image::Limits;
/// use lxd_image::trust::openpgp::Keyring;
///
/// let keyring = Keyring::parse(&std::fs::read("/usr/share/keyrings/ubuntu-cloudimage-keyring.gpg")?, &Limits::default())?;
/// for fingerprint in keyring.fingerprints() {
///     println!("{fingerprint}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    /// Never empty.
    pub(super) certificates: Vec<SignedPublicKey>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fingerprints()).finish()
    }
}

impl Keyring {
    /// Reads public keys: armored, also several blocks in one file, or binary, as Debian packages ship keyrings.
    ///
    /// # Errors
    /// `InvalidInput` for secret keys, which are never to be handed out, and for a keybox of GnuPG; `Malformed`;
    /// `LimitExceeded` (`key_file`).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        if bytes.len() as u64 > limits.key_file {
            return Err(Error::limit("key_file", limits.key_file, "the size of the keys in bytes"));
        }
        if bytes.get(8..12) == Some(b"KBXf") {
            return Err(Error::invalid("this is a keybox, GnuPG's private format")
                .with_hint("export the keys: gpg --export FINGERPRINT > FILE"));
        }
        let mut certificates = Vec::new();
        for packets in blocks(bytes)? {
            refuse_secrets(&packets)?;
            let found = SignedPublicKey::from_bytes_many(&packets[..]).map_err(unreadable)?;
            for certificate in found {
                certificates.push(certificate.map_err(unreadable)?);
            }
        }
        if certificates.is_empty() {
            return Err(Error::malformed("there is no OpenPGP public key in it"));
        }
        Ok(Self { certificates })
    }

    /// The fingerprints of the primary keys in upper case, as `gpg` prints them without blanks.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.certificates.iter().map(|certificate| format!("{:X}", certificate.fingerprint())).collect()
    }

    /// The first user ID of each certificate, for people; whoever made the key wrote it.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let name = |certificate: &SignedPublicKey| {
            let id = certificate.details.users.first().map(|user| String::from_utf8_lossy(user.id.id()).into_owned());
            id.unwrap_or_default()
        };
        self.certificates.iter().map(name).collect()
    }

    /// Why each certificate can't sign at a time, in seconds since 1970; `None` for one that can.
    #[must_use]
    pub fn unusable(&self, now: i64) -> Vec<Option<String>> {
        let reason = |certificate: &SignedPublicKey| {
            let keys = usable::keys(certificate);
            let mut reasons = keys.iter().map(|key| key.may_sign(now).err());
            let first = reasons.next().flatten()?;
            reasons.all(|reason| reason.is_some()).then_some(first)
        };
        self.certificates.iter().map(reason).collect()
    }

    /// The keys as text: one armored block for each.
    ///
    /// # Errors
    /// `Malformed` for a key that can't be written.
    pub fn to_armored(&self) -> Result<String> {
        let options = || ArmorOptions { headers: None, include_checksum: true };
        self.certificates
            .iter()
            .map(|certificate| certificate.to_armored_string(options()).map_err(unreadable))
            .collect()
    }

    /// Adds the certificates of another keyring, each once.
    pub fn extend(&mut self, other: Self) {
        for certificate in other.certificates {
            if !self.certificates.contains(&certificate) {
                self.certificates.push(certificate);
            }
        }
    }
}

/// The binary packets of a file: itself, or of each of its armored blocks.
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    if is_packets(bytes) {
        return Ok(vec![bytes.to_vec()]);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::malformed("it is neither an armored nor a binary key"))?;
    let mut found = Vec::new();
    // Text around the blocks is for people, as in files of `gpg --armor --export` with comments.
    for (start, _) in text.match_indices("-----BEGIN PGP ") {
        let block = text.get(start..).unwrap_or_default();
        let limit = DearmorOptions::new().set_limit(block.len().saturating_add(1));
        let mut decoder = Dearmor::with_options(block.as_bytes(), limit);
        decoder.read_header().map_err(unreadable)?;
        if !matches!(decoder.typ, Some(BlockType::PublicKey | BlockType::PrivateKey)) {
            return Err(Error::malformed("it holds an armored block that is no key"));
        }
        let mut packets = Vec::new();
        decoder
            .read_to_end(&mut packets)
            .map_err(|error| Error::malformed(format!("the armored key can't be read: {error}")))?;
        found.push(packets);
    }
    Ok(found)
}

/// Refuses packets with secret keys before anything of them is kept.
fn refuse_secrets(packets: &[u8]) -> Result<()> {
    for packet in PacketParser::new(packets) {
        if let Ok(Packet::SecretKey(_) | Packet::SecretSubkey(_)) = packet {
            return Err(Error::invalid("this is a secret key; verification needs the public key")
                .with_hint("export the public key: gpg --export FINGERPRINT > FILE"));
        }
        // What can't be read is skipped or refused by the parser of certificates; a packet that is cut short ends here.
        if packet.is_err_and(|error| matches!(error, pgp::errors::Error::IO { .. })) {
            break;
        }
    }
    Ok(())
}

/// The error for a key that the crate can't read or write.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
pub(super) fn unreadable(error: pgp::errors::Error) -> Error {
    Error::malformed(format!("the OpenPGP key can't be used: {}", shown(&error)))
}
