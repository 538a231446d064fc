//! Signed lists: written with each change, and verified.
//!
//! Each document is published in the order: the signed message (`.sjson`), the signature beside it (`.json.gpg`,
//! `.json.minisig`), the document (`.json`). Each is one rename. A reader of messages finds a signed state at every moment, since
//! a message holds its signature; it reads nothing else, because the signed index names `.sjson` lists. The plain documents stay
//! for readers that verify nothing. A reader of signatures beside documents may meet a new signature with the old document, for
//! as long as a rename takes, and reads both again.

use std::fs;
use std::sync::PoisonError;

use serde_json::Value;

use super::document::read;
use super::tree::{INDEX, Tree, TreeWriter, fail};
use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::protocol::simplestreams::Index;
use crate::trust::{ListKeys, ListSignature, ListSigner};

/// Signatures that may stand beside a document. Those of the last kind are only known, not written.
const BESIDE: [&str; 3] = [".gpg", ".minisig", ".asc"];

/// The path of the signed message for a document.
pub(super) fn message_path(name: &str) -> String {
    format!("{}.sjson", name.strip_suffix(".json").unwrap_or(name))
}

impl Tree {
    /// The files with signatures of index and list that are there, the one that readers begin with first.
    #[must_use]
    pub fn signature_files(&self) -> Vec<String> {
        let list = self.list();
        let of = |name: &str| {
            let beside = BESIDE.iter().map(|suffix| format!("{name}{suffix}"));
            std::iter::once(message_path(name)).chain(beside).collect::<Vec<_>>()
        };
        of(INDEX)
            .into_iter()
            .chain(of(&list))
            .filter(|path| fs::symlink_metadata(self.root.join(path)).is_ok())
            .collect()
    }

    /// Whether changes are signed by a key of the tree's own.
    #[cfg(feature = "remote")]
    pub(crate) fn has_signers(&self) -> bool {
        !self.options.signers.is_empty()
    }

    /// Whether the list has a signature, of whomever.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        !self.signature_files().is_empty()
    }

    /// The text of the signed message for a document: of the index with the paths of messages.
    fn message_text(&self, name: &str, document: &[u8]) -> Result<String> {
        if name != INDEX {
            return String::from_utf8(document.to_vec()).map_err(|_| Error::malformed("the list is not UTF-8"));
        }
        let mut index = Index::from_json(document, &self.options.limits)?;
        for entry in index.index.values_mut() {
            let message = message_path(&entry.path);
            // Lists of other tools are named as messages where they have one.
            if entry.path == self.list() || (entry.path != message && self.root.join(&message).is_file()) {
                entry.path = message;
            }
        }
        Ok(index.to_json())
    }

    /// Verifies the signatures of index and list by these keys, and that what is signed is what the plain documents say.
    /// Returns who signed, and what is wrong.
    pub(super) fn check_signatures(&self, keys: &ListKeys) -> Result<(Vec<ListSignature>, Vec<Error>)> {
        let (mut signed, mut findings) = (Vec::new(), Vec::new());
        for name in [INDEX, &*self.list()] {
            let path = self.root.join(name);
            let document = read(&path, &self.options.limits)?;
            let mut found = Vec::new();
            if keys.has_openpgp() {
                found.extend(self.check_message(name, &document, keys)?);
                found.extend(self.check_beside(name, ".gpg", |signature| {
                    keys.verify_openpgp(&document, signature, self.options.now(), &self.options.limits)
                })?);
            }
            if keys.has_minisign() {
                found.extend(self.check_beside(name, ".minisig", |signature| {
                    keys.verify_minisign(&document, signature, self.options.now(), &self.options.limits)
                })?);
            }
            if found.is_empty() {
                findings.push(Error::new(ErrorKind::Untrusted, "it has no signature of these keys").in_file(&path));
            }
            for result in found {
                match result {
                    Ok(signature) => signed.push(signature),
                    Err(error) => findings.push(error),
                }
            }
        }
        Ok((signed, findings))
    }

    /// Verifies the signed message for a document; `None` if there is none.
    fn check_message(&self, name: &str, document: &[u8], keys: &ListKeys) -> Result<Option<Result<ListSignature>>> {
        let path = self.root.join(message_path(name));
        let message = match read(&path, &self.options.limits) {
            Ok(message) => message,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let verified = keys.verify_cleartext(&message, self.options.now(), &self.options.limits);
        let expected = self.message_text(name, document)?;
        Ok(Some(
            verified
                .map_err(untrusted)
                .and_then(|(text, signature)| {
                    // Other tools write the same JSON in other ways.
                    let value = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
                    if value(&text).is_some() && value(&text) == value(expected.as_bytes()) {
                        return Ok(signature);
                    }
                    let digest = |text: &[u8]| Fingerprint::of(text).to_string();
                    Err(Error::mismatch(
                        "the signed list, which says something else than the plain one,",
                        digest(expected.as_bytes()),
                        digest(&text),
                    ))
                })
                .map_err(|error| error.in_file(&path)),
        ))
    }

    /// Verifies the signature beside a document; `None` if there is none.
    fn check_beside(
        &self,
        name: &str,
        suffix: &str,
        verify: impl FnOnce(&[u8]) -> Result<ListSignature>,
    ) -> Result<Option<Result<ListSignature>>> {
        let path = self.root.join(format!("{name}{suffix}"));
        match read(&path, &self.options.limits) {
            Ok(signature) => Ok(Some(verify(&signature).map_err(untrusted).map_err(|error| error.in_file(&path)))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A finding: whatever is wrong with a signature, nobody vouches by it.
fn untrusted(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Untrusted => error,
        _ => Error::new(ErrorKind::Untrusted, error.message().to_owned()),
    }
}

impl TreeWriter {
    /// Fails where a change would leave signatures that no key of this writer renews, unless they are to be removed. Changes
    /// nothing.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(crate) fn check_renewable(&self) -> Result<()> {
        let stale = self.stale_signatures();
        match stale.first() {
            Some(first) if !self.tree.options.drop_signatures => {
                Err(Error::invalid(format!("the tree is signed ({first}), and this change would leave old signatures"))
                    .with_hint("sign the change: --sign KEYFILE; or remove the signatures: --drop-signatures")
                    .in_file(&self.tree.root))
            }
            _ => Ok(()),
        }
    }

    /// Signatures that no key of this writer renews.
    fn stale_signatures(&self) -> Vec<String> {
        let renewed =
            |path: &String| {
                self.tree.options.signers.iter().any(|signer| {
                    path.ends_with(signer.suffix()) || (signer.makes_messages() && path.ends_with(".sjson"))
                })
            };
        self.tree.signature_files().into_iter().filter(|path| !renewed(path)).collect()
    }

    /// Removes the signatures that a change leaves out of date, before anything of it is written; fails if they are to stay.
    pub(super) fn remove_stale(&self) -> Result<()> {
        self.check_renewable()?;
        let stale = self.stale_signatures();
        if stale.is_empty() {
            return Ok(());
        }
        // The index first: without it a reader sees that the tree is not signed any more, and refuses it.
        for path in &stale {
            let path = self.tree.root.join(path);
            fs::remove_file(&path).map_err(fail(&path))?;
        }
        let path = self.tree.root.join(INDEX);
        atomic::sync_parent(&path).map_err(fail(&path))
    }

    /// Publishes a document with its signatures, in the order of the module front.
    pub(super) fn publish(&self, name: &str, document: &[u8]) -> Result<()> {
        self.remove_stale()?;
        for signer in &self.tree.options.signers {
            self.write_signatures(signer, name, document)?;
        }
        self.replace(name, document)?;
        self.note_sealed(name, Fingerprint::of(document));
        Ok(())
    }

    fn note_sealed(&self, name: &str, digest: Fingerprint) {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), digest);
    }

    /// Signs the documents that are there, where they have no valid signature by the keys of this writer: after a change that was
    /// interrupted, with a new key, and for a tree that was not signed before.
    ///
    /// # Errors
    /// `Io`; `Malformed` when index or list can't be read.
    pub(super) fn seal(&self) -> Result<()> {
        let options = &self.tree.options;
        for name in [&*self.tree.list(), INDEX] {
            if options.signers.is_empty() {
                return Ok(());
            }
            let document = read(&self.tree.root.join(name), &options.limits)?;
            let digest = Fingerprint::of(&document);
            // A mirror changes a list once for each image, and verifying a long list takes longer than hashing it.
            if self.sealed.lock().unwrap_or_else(PoisonError::into_inner).get(name) == Some(&digest) {
                continue;
            }
            for signer in &options.signers {
                if !self.is_signed(signer, name, &document)? {
                    self.write_signatures(signer, name, &document)?;
                }
            }
            self.note_sealed(name, digest);
        }
        Ok(())
    }

    /// Whether a document has all signatures that a key makes, for what it says now.
    fn is_signed(&self, signer: &ListSigner, name: &str, document: &[u8]) -> Result<bool> {
        let keys = signer.keys();
        let (now, limits) = (self.tree.options.now(), &self.tree.options.limits);
        let beside = self.tree.check_beside(name, signer.suffix(), |signature| match signer.suffix() {
            ".gpg" => keys.verify_openpgp(document, signature, now, limits),
            _ => keys.verify_minisign(document, signature, now, limits),
        })?;
        if beside.is_none_or(|result| result.is_err()) {
            return Ok(false);
        }
        if !signer.makes_messages() {
            return Ok(true);
        }
        Ok(self.tree.check_message(name, document, &keys)?.is_some_and(|result| result.is_ok()))
    }

    /// Writes the signatures of one key.
    fn write_signatures(&self, signer: &ListSigner, name: &str, document: &[u8]) -> Result<()> {
        let now = self.tree.options.now();
        if signer.makes_messages() {
            let message = signer.sign_message(&self.tree.message_text(name, document)?, now)?;
            self.replace(&message_path(name), message.as_bytes())?;
        }
        let file = name.rsplit('/').next().unwrap_or(name);
        let signature = signer.sign_beside(file, document, now)?;
        self.replace(&format!("{name}{}", signer.suffix()), signature.as_bytes())
    }

    /// Removes all signatures: for a tree that is discarded.
    pub(super) fn remove_signatures(&self) {
        for path in self.tree.signature_files() {
            // Best effort, as for the other files of a discarded tree.
            let _ = fs::remove_file(self.tree.root.join(path));
        }
    }
}
