//! Tokens of all servers of a store: records that are found by the digest of the secret.
//!
//! A look-up by digest needs no comparison in constant time: whoever does not know the secret can't choose the digest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MAX_TOKENS, TokenScope, UNUSED_LIFETIME, USED_LIFETIME, too_many};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::server::core::fleet::{Fleet, TOKEN};
use crate::server::core::secret::SecretDigest;
use crate::server::core::upload_spec::UploadSpec;
use crate::store::Expected;

/// The content of a token's record.
#[derive(Debug, Serialize, Deserialize)]
struct SharedToken {
    /// The operation that represents it.
    operation: String,
    /// The image that it lets download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// The settings of the upload that it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<UploadSpec>,
    /// Whether a download token was used before.
    #[serde(default)]
    used: bool,
}

/// Records a token.
///
/// # Errors
/// `Busy` when there are too many; those of the catalog.
pub(super) fn issue(fleet: &Fleet, digest: &SecretDigest, scope: TokenScope, operation: &str) -> Result<()> {
    let records = fleet.records()?;
    if records.list(TOKEN, "", MAX_TOKENS)?.len() >= MAX_TOKENS {
        return Err(too_many());
    }
    let operation = operation.to_owned();
    let token = match scope {
        TokenScope::Image(image) => {
            SharedToken { operation, image: Some(image.to_string()), upload: None, used: false }
        }
        TokenScope::Upload(spec) => SharedToken { operation, image: None, upload: Some(*spec), used: false },
    };
    records.put(TOKEN, &digest.name(), &text(&token), UNUSED_LIFETIME, Expected::Any).map(|_| ())
}

fn text(token: &SharedToken) -> String {
    serde_json::to_string(token).unwrap_or_default()
}

/// Whether a token allows to download the image. Returns the operation to end at the first use.
///
/// # Errors
/// Those of the catalog.
pub(super) fn opens(fleet: &Fleet, fingerprint: &Fingerprint, digest: &SecretDigest) -> Result<Option<Option<String>>> {
    let records = fleet.records()?;
    let Some(record) = records.get(TOKEN, &digest.name())? else { return Ok(None) };
    let Ok(mut token) = serde_json::from_str::<SharedToken>(&record.value) else { return Ok(None) };
    if token.image.as_deref() != Some(fingerprint.to_string().as_str()) {
        return Ok(None);
    }
    if token.used {
        return Ok(Some(None));
    }
    token.used = true;
    let lifetime: Duration = USED_LIFETIME;
    // Another server may use it at the same moment: one of them shortens its life, both downloads are one.
    let first = records.put(TOKEN, &record.id, &text(&token), lifetime, Expected::Revision(record.revision))?.is_some();
    Ok(Some(first.then_some(token.operation)))
}

/// Takes an upload token: what it allows, and the operation that represents it.
///
/// # Errors
/// Those of the catalog.
pub(super) fn take_upload(fleet: &Fleet, digest: &SecretDigest) -> Result<Option<(UploadSpec, String)>> {
    let records = fleet.records()?;
    let parse = |value: &str| serde_json::from_str::<SharedToken>(value).ok();
    // Looked at first, so that a download token that is shown here stays valid.
    let is_upload = records.get(TOKEN, &digest.name())?.and_then(|record| parse(&record.value));
    if is_upload.is_none_or(|token| token.upload.is_none()) {
        return Ok(None);
    }
    // Of two clients with the same secret one takes it.
    let Some(record) = records.take(TOKEN, &digest.name())? else { return Ok(None) };
    Ok(parse(&record.value).and_then(|token| Some((token.upload?, token.operation))))
}

/// Revokes the token that this operation represents.
///
/// # Errors
/// Those of the catalog.
pub(super) fn revoke(fleet: &Fleet, operation: &str) -> Result<()> {
    let records = fleet.records()?;
    for record in records.list(TOKEN, "", MAX_TOKENS)? {
        let token = serde_json::from_str::<SharedToken>(&record.value);
        if token.is_ok_and(|token| token.operation == operation) {
            records.take(TOKEN, &record.id)?;
        }
    }
    Ok(())
}
