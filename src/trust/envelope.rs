//! [`Envelope`]: a signed statement as it travels, by DSSE (Dead Simple Signing Envelope) version 1.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;

use super::public_key::{KeyId, PublicKey};
use super::secret_key::SecretKey;
use super::statement::Statement;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;

/// The one type of payload that is accepted.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// What is appended to the name of an image's file to name the file with the statements about it, as SLSA has it: JSON
/// lines, one envelope on each.
pub const BUNDLE_ENDING: &str = ".intoto.jsonl";

/// How many signatures one envelope may have. Real ones have one to three.
const MAX_SIGNATURES: usize = 32;

/// A statement with its signatures.
///
/// Parsed is not checked: [`signers`](Self::signers) tells which keys really signed it. The key ids in an envelope
/// are claims of whoever wrote it, and decide nothing.
///
/// ```
/// use lxd_image::Fingerprint;
/// use lxd_image::trust::{Envelope, SecretKey, Statement};
///
/// let key = SecretKey::generate()?;
/// let statement = Statement::new("https://example.com/tested/v1", serde_json::json!({"passed": true}))
///     .image(&Fingerprint::of(b"image"))
///     .file("image.tar.xz", &Fingerprint::of(b"image"));
/// let envelope = Envelope::sign(&statement, &[&key])?;
/// assert_eq!(envelope.signers(&[key.public_key().clone()]), [key.public_key().id()]);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
    /// The envelope on one line, with everything that its maker wrote.
    text: String,
    statement: Statement,
}

/// Fields that are not known are ignored, as DSSE demands; the text keeps them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    payload: String,
    payload_type: String,
    signatures: Vec<WrittenSignature>,
}

/// A signature may have further fields, such as a certificate; they mean nothing here.
#[derive(Deserialize)]
struct WrittenSignature {
    sig: String,
    #[serde(default, rename = "keyid")]
    _key_id: Option<String>,
}

impl Envelope {
    /// Parses an envelope with the default limits.
    ///
    /// # Errors
    /// As [`parse_with`](Self::parse_with).
    pub fn parse(content: &[u8]) -> Result<Self> {
        Self::parse_with(content, &Limits::default())
    }

    /// Parses an envelope and the statement in it.
    ///
    /// # Errors
    /// `Malformed` for anything but an envelope with a statement; `Unsupported` for another payload type or
    /// version of the statement; `LimitExceeded` (`statement`).
    pub fn parse_with(content: &[u8], limits: &Limits) -> Result<Self> {
        if content.len() as u64 > limits.statement {
            return Err(Error::limit("statement", limits.statement, "a statement"));
        }
        let fail = |error| Error::malformed("the statement's envelope is not what DSSE says").with_source(error);
        // Fields that occur twice are errors of this parser: two readers must not see two payloads.
        let written: Written = serde_json::from_slice(content).map_err(fail)?;
        if written.payload_type != PAYLOAD_TYPE {
            let found: String = written.payload_type.chars().take(64).collect();
            return Err(Error::unsupported(format!("the envelope holds `{found}`, not `{PAYLOAD_TYPE}`")));
        }
        if written.signatures.is_empty() || written.signatures.len() > MAX_SIGNATURES {
            let found = written.signatures.len();
            return Err(Error::malformed(format!("the envelope has {found} signatures, not 1 to {MAX_SIGNATURES}")));
        }
        let payload = decode(&written.payload, "the payload")?;
        let signatures =
            written.signatures.iter().map(|one| decode(&one.sig, "a signature")).collect::<Result<Vec<_>>>()?;
        let value: serde_json::Value = serde_json::from_slice(content).map_err(fail)?;
        let statement = Statement::parse(&payload)?;
        Ok(Self { payload, signatures, text: value.to_string(), statement })
    }

    /// Parses a bundle of in-toto: envelopes in JSON, one on each line. One envelope on several lines is accepted, too.
    ///
    /// # Errors
    /// As [`parse_with`](Self::parse_with); `LimitExceeded` (`statements`) for a file that is larger than all
    /// statements of an image may be.
    pub fn parse_bundle(content: &[u8], limits: &Limits) -> Result<Vec<Self>> {
        if content.len() as u64 > limits.statements {
            return Err(Error::limit("statements", limits.statements, "a bundle of statements"));
        }
        let lines: Vec<&[u8]> =
            content.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
        let is_bundle = lines.len() > 1 && lines.iter().all(|line| line.trim_ascii().starts_with(b"{\""));
        if !is_bundle || lines.get(1).is_some_and(|line| !line.trim_ascii().ends_with(b"}")) {
            return Ok(vec![Self::parse_with(content, limits)?]);
        }
        lines.into_iter().map(|line| Self::parse_with(line, limits)).collect()
    }

    /// The bundle of some envelopes: one on each line; empty without any.
    #[must_use]
    pub fn bundle(envelopes: &[Self]) -> String {
        envelopes.iter().map(|envelope| format!("{}\n", envelope.as_json())).collect()
    }

    /// Signs a statement with one or several keys.
    ///
    /// # Errors
    /// `InvalidInput` without a key, or for a statement about nothing.
    pub fn sign(statement: &Statement, keys: &[&SecretKey]) -> Result<Self> {
        if keys.is_empty() || keys.len() > MAX_SIGNATURES {
            return Err(Error::invalid("a statement is signed by 1 to 32 keys"));
        }
        let payload = statement.to_json()?;
        let message = pre_authentication_encoding(&payload);
        let signatures: Vec<Vec<u8>> = keys.iter().map(|key| key.sign(&message)).collect();
        let written: Vec<serde_json::Value> = keys
            .iter()
            .zip(&signatures)
            .map(|(key, sig)| serde_json::json!({"keyid": key.public_key().id().as_str(), "sig": STANDARD.encode(sig)}))
            .collect();
        let envelope = serde_json::json!({
            "payload": STANDARD.encode(&payload), "payloadType": PAYLOAD_TYPE, "signatures": written,
        });
        // Read again, so that what is made here is what would be accepted here.
        let parsed = Self::parse_with(envelope.to_string().as_bytes(), &Limits::trusted())?;
        debug_assert_eq!(parsed.signatures, signatures);
        Ok(parsed)
    }

    /// The envelope in JSON on one line, without a line feed.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.text
    }

    /// The sha256 of [`as_json`](Self::as_json), in hex: what identifies the envelope in a store.
    #[must_use]
    pub fn digest(&self) -> String {
        Fingerprint::of(self.text.as_bytes()).to_string()
    }

    /// The statement, whoever signed it.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Those of `keys` that really signed it, each once.
    #[must_use]
    pub fn signers(&self, keys: &[PublicKey]) -> Vec<KeyId> {
        let message = pre_authentication_encoding(&self.payload);
        let mut found: Vec<&PublicKey> = Vec::new();
        for key in keys {
            if !found.contains(&key) && self.signatures.iter().any(|one| key.verify(&message, one).is_ok()) {
                found.push(key);
            }
        }
        found.into_iter().map(PublicKey::id).collect()
    }

    /// Fails unless at least one of `keys` signed it; returns those that did.
    ///
    /// # Errors
    /// `Untrusted`.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<Vec<KeyId>> {
        let signers = self.signers(keys);
        if signers.is_empty() {
            let what = format!("the statement `{}` is not signed by a given key", self.statement.predicate_type());
            return Err(Error::new(ErrorKind::Untrusted, what));
        }
        Ok(signers)
    }
}

/// What is signed: the type and the payload with their lengths, so that neither can be taken for the other.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Decodes base64 of either alphabet, as DSSE demands of readers; with padding and nothing between.
fn decode(text: &str, what: &str) -> Result<Vec<u8>> {
    let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    decoded.map_err(|_| Error::malformed(format!("{what} of the envelope is not valid base64")))
}
