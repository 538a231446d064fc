//! `ListSigner`: signs lists, with an OpenPGP or a minisign key.

use std::sync::Arc;

use super::list_form::{BLOCK, is_packets};
use super::{ListKeys, SecretKey};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// A secret key that signs the lists of a tree.
///
/// ```
/// use lxd_image::Limits;
/// use lxd_image::trust::{ListSigner, SecretKey};
///
/// let secret = SecretKey::generate()?;
/// let signer = ListSigner::parse(secret.to_text(None)?.as_bytes(), None, 1_800_000_000, &Limits::default())?;
/// let signature = signer.sign_beside("index.json", b"{}", 1_800_000_000)?;
/// let keys = signer.keys();
/// keys.verify_minisign(b"{}", signature.as_bytes(), 1_800_000_000, &Limits::default())?;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ListSigner(Kind);

#[derive(Debug, Clone)]
enum Kind {
    #[cfg(feature = "signatures")]
    OpenPgp(super::openpgp::SecretKey),
    Minisign(Arc<SecretKey>),
}

impl ListSigner {
    /// Reads a secret key: OpenPGP, as `gpg --export-secret-keys` writes it, armored or not; or minisign. `now` is in seconds
    /// since 1970.
    ///
    /// # Errors
    /// `InvalidInput` for a missing passphrase, a wrong one of an OpenPGP key, and a key that may not sign now; `Unsupported` for
    /// another kind of key; `Untrusted` for a wrong passphrase of a minisign key; `FeatureDisabled` for OpenPGP without the feature `signatures`;
    /// `Malformed`; `LimitExceeded` (`key_file`).
    pub fn parse(bytes: &[u8], passphrase: Option<&[u8]>, now: i64, limits: &Limits) -> Result<Self> {
        if bytes.len() as u64 > limits.key_file {
            return Err(Error::limit("key_file", limits.key_file, "the size of the key in bytes"));
        }
        let is_openpgp = is_packets(bytes) || bytes.windows(BLOCK.len()).any(|window| window == BLOCK.as_bytes());
        if is_openpgp {
            return Self::openpgp(bytes, passphrase, now, limits);
        }
        let secret = SecretKey::parse(bytes, passphrase)?;
        // A key from PEM has no key ID, and can't sign in the form of minisign.
        secret.sign_detached(b"", "")?;
        Ok(Self(Kind::Minisign(Arc::new(secret))))
    }

    #[cfg(feature = "signatures")]
    fn openpgp(bytes: &[u8], passphrase: Option<&[u8]>, now: i64, limits: &Limits) -> Result<Self> {
        Ok(Self(Kind::OpenPgp(super::openpgp::SecretKey::parse(bytes, passphrase, now, limits)?)))
    }

    #[cfg(not(feature = "signatures"))]
    fn openpgp(_: &[u8], _: Option<&[u8]>, _: i64, _: &Limits) -> Result<Self> {
        Err(Error::new(ErrorKind::FeatureDisabled, "OpenPGP keys need the Cargo feature `signatures`"))
    }

    /// The public key, which verifies what this key signs.
    #[must_use]
    pub fn keys(&self) -> ListKeys {
        match &self.0 {
            #[cfg(feature = "signatures")]
            Kind::OpenPgp(key) => ListKeys::of_openpgp(key.public().clone()),
            Kind::Minisign(key) => ListKeys::of_minisign(key.public_key().clone()),
        }
    }

    /// Whether this key makes signed messages (`.sjson`): OpenPGP does, minisign has none.
    #[must_use]
    pub fn makes_messages(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "signatures")]
            Kind::OpenPgp(_) => true,
            Kind::Minisign(_) => false,
        }
    }

    /// The suffix of a signature beside a document: `.gpg` or `.minisig`.
    #[must_use]
    pub fn suffix(&self) -> &'static str {
        match &self.0 {
            #[cfg(feature = "signatures")]
            Kind::OpenPgp(_) => ".gpg",
            Kind::Minisign(_) => ".minisig",
        }
    }

    /// Signs a text as a message (`.sjson`).
    ///
    /// # Errors
    /// `Unsupported` for minisign; `InvalidInput` for carriage returns in the text.
    pub fn sign_message(&self, text: &str, now: i64) -> Result<String> {
        match &self.0 {
            #[cfg(feature = "signatures")]
            Kind::OpenPgp(key) => key.sign_cleartext(text, now),
            Kind::Minisign(_) => {
                let _ = (text, now);
                Err(Error::new(
                    ErrorKind::Unsupported,
                    "minisign has no signed messages, only signatures beside a file",
                ))
            }
        }
    }

    /// Signs a document; the result stands beside it in a file with the [`suffix`](Self::suffix). `name` is the document's file
    /// name, which minisign notes in the signature.
    ///
    /// # Errors
    /// `InvalidInput` for a name of several lines.
    pub fn sign_beside(&self, name: &str, document: &[u8], now: i64) -> Result<String> {
        match &self.0 {
            #[cfg(feature = "signatures")]
            Kind::OpenPgp(key) => key.sign_detached(document, now),
            // As minisign itself writes it.
            Kind::Minisign(key) => {
                Ok(key.sign_detached(document, &format!("timestamp:{now}\tfile:{name}\thashed"))?.to_text())
            }
        }
    }
}
