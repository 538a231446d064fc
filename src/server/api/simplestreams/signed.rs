//! The signed forms of index and list, made when they are asked for and kept with the documents that they sign.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::documents::Documents;
use crate::error::Result;
use crate::server::core::access;
use crate::trust::ListSigner;

/// Signed forms by the names of their files.
#[derive(Debug, Default)]
pub(super) struct SignedForms(Mutex<BTreeMap<String, Arc<[u8]>>>);

/// Whether a file name is that of a signed form.
pub(super) fn is_signed_form(name: &str) -> bool {
    ["index", "images"].iter().any(|document| {
        name.strip_prefix(document).is_some_and(|form| matches!(form, ".sjson" | ".json.gpg" | ".json.minisig"))
    })
}

/// The signed form of this name.
///
/// # Errors
/// `NotFound` where no key makes it.
pub(super) fn signed_form(documents: &Documents, name: &str, signers: &[ListSigner], now: i64) -> Result<Arc<[u8]>> {
    let forms = &documents.signed.0;
    if let Some(made) = forms.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
        return Ok(Arc::clone(made));
    }
    // Made without the lock: a long list takes some milliseconds. Of two that are made at once, the first one stays.
    let (document, text) = match name.split_once('.') {
        Some(("index", _)) => ("index.json", documents.index.to_vec()),
        _ => ("images.json", documents.images.iter().flat_map(|chunk| chunk.iter().copied()).collect()),
    };
    let made: Arc<[u8]> = if name.ends_with(".sjson") {
        let signer = signers.iter().find(|signer| signer.makes_messages()).ok_or_else(access::not_found)?;
        let mut text = String::from_utf8_lossy(&text).into_owned();
        if document == "index.json" {
            // The signed index names the signed list.
            text = text.replace("\"streams/v1/images.json\"", "\"streams/v1/images.sjson\"");
        }
        signer.sign_message(&text, now)?.into_bytes().into()
    } else {
        let signer = signers.iter().find(|signer| name.ends_with(signer.suffix())).ok_or_else(access::not_found)?;
        signer.sign_beside(document, &text, now)?.into_bytes().into()
    };
    let mut forms = forms.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Arc::clone(forms.entry(name.to_owned()).or_insert(made)))
}
