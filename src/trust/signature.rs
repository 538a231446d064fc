//! [`Signature`]: a detached signature of `minisign`.

use super::key_file::{self, decode, encode, part};
use super::public_key::KeyId;
use crate::error::{Error, Result};

/// The longest trusted comment, in bytes. `minisign` has the same bound.
const MAX_COMMENT: usize = 8192;

/// A detached signature in the form of `minisign`: four lines of text, a `.minisig` file.
///
/// Parsed is not checked: [`PublicKey::verify_detached`](super::PublicKey::verify_detached) checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    prehashed: bool,
    number: [u8; 8],
    signature: [u8; 64],
    comment: String,
    comment_signature: [u8; 64],
}

impl Signature {
    /// Parses the text of a `.minisig` file.
    ///
    /// # Errors
    /// `Malformed` for anything but the four lines; `Unsupported` for another algorithm.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let malformed = |what: &str| Error::malformed(format!("the signature {what}"));
        let text = key_file::text(content, "the signature")?;
        let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let mut line = || lines.next().ok_or_else(|| malformed("has fewer than four lines"));
        // With the blank, as `minisign` demands it.
        if !line()?.starts_with("untrusted comment: ") {
            return Err(malformed("does not start with an untrusted comment"));
        }
        let raw: [u8; 74] = decode(line()?, "the signature")?;
        let comment =
            line()?.strip_prefix("trusted comment: ").ok_or_else(|| malformed("has no trusted comment"))?.to_owned();
        let comment_signature = decode(line()?, "the signature of the trusted comment")?;
        if lines.any(|line| !line.is_empty()) {
            return Err(malformed("has something after its fourth line"));
        }
        if comment.len() > MAX_COMMENT {
            return Err(malformed("has a trusted comment of more than 8192 bytes"));
        }
        let prehashed = match &raw[..2] {
            b"ED" => true,
            b"Ed" => false,
            _ => return Err(Error::unsupported("the signature is of another algorithm than Ed25519")),
        };
        Ok(Self { prehashed, number: part(&raw, 2)?, signature: part(&raw, 10)?, comment, comment_signature })
    }

    /// Puts a signature together; `comment` has one line, see [`check_comment`].
    pub(super) fn new(number: [u8; 8], signature: [u8; 64], comment: &str, comment_signature: [u8; 64]) -> Self {
        Self { prehashed: true, number, signature, comment: comment.to_owned(), comment_signature }
    }

    /// The text of a `.minisig` file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let algorithm = if self.prehashed { b"ED" } else { b"Ed" };
        let raw = [algorithm.as_slice(), &self.number, &self.signature].concat();
        format!(
            "untrusted comment: signature from the key {}\n{}\ntrusted comment: {}\n{}\n",
            self.key_id(),
            encode(&raw),
            self.comment,
            encode(&self.comment_signature)
        )
    }

    /// The name of the key that made it, as far as the file says. Not proven before it is verified.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId::of_number(self.number)
    }

    /// The trusted comment. Not proven before the signature is verified.
    #[must_use]
    pub fn trusted_comment(&self) -> &str {
        &self.comment
    }

    pub(super) fn key_number(&self) -> [u8; 8] {
        self.number
    }

    pub(super) fn is_prehashed(&self) -> bool {
        self.prehashed
    }

    pub(super) fn bytes(&self) -> &[u8; 64] {
        &self.signature
    }

    pub(super) fn comment_signature(&self) -> &[u8; 64] {
        &self.comment_signature
    }

    /// What the second signature is over: the first one, and the trusted comment.
    pub(super) fn signed_comment(&self) -> Vec<u8> {
        signed_comment(&self.signature, &self.comment)
    }
}

/// What the second signature is over.
pub(super) fn signed_comment(signature: &[u8; 64], comment: &str) -> Vec<u8> {
    [signature.as_slice(), comment.as_bytes()].concat()
}

/// Fails with `InvalidInput` for a trusted comment that does not fit on its line.
pub(super) fn check_comment(comment: &str) -> Result<()> {
    if comment.len() > MAX_COMMENT || comment.contains(|c: char| c.is_control() && c != '\t') {
        return Err(Error::invalid("a trusted comment is one line of at most 8192 bytes"));
    }
    Ok(())
}
