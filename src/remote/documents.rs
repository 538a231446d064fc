//! `Documents`: reads index and lists of a simplestreams server, as they are or only with a valid signature.
//!
//! With keys, what is parsed is exactly what a key signed: the text inside a signed message (`.sjson`), or a document whose
//! signature stands beside it (`.json.gpg`, `.json.minisig`). Nothing is read a second time after it was verified. Documents
//! from the cache are verified like others, since keys expire.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use super::list_record::{AcceptedList, ListRecord, RecordFile};
use super::static_tree::StaticTree;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{Index, Products};
use crate::trust::{ListKeys, ListSignature};

/// Where every server has its index (simplestreams, and LXD: `shared/simplestreams`).
pub(super) const INDEX: &str = "streams/v1/index.json";
/// The same, as a signed message.
const SIGNED_INDEX: &str = "streams/v1/index.sjson";
/// Where a tree of this library has its list.
const LIST: &str = "streams/v1/images.json";
/// The same, as a signed message.
const SIGNED_LIST: &str = "streams/v1/images.sjson";
/// How often a document and the signature beside it are asked for: a writer replaces one after the other.
const ATTEMPTS: u32 = 6;
/// The pause between two of these.
const PAUSE: Duration = Duration::from_millis(100);

/// Parses a document; an error refuses it.
pub(super) type Check<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// What a remote demands of the lists that it reads.
#[derive(Debug, Clone, Default)]
pub(super) struct SignedLists {
    /// Who may sign. Empty: lists need no signature.
    pub(super) keys: ListKeys,
    pub(super) record: Option<RecordFile>,
    /// Whether lists that are older than those that were accepted last are accepted.
    pub(super) accept_older: bool,
    /// What this process accepted last, shared by clones.
    pub(super) last: Arc<Mutex<LastLists>>,
}

/// The lists that a process accepted last.
#[derive(Debug, Default)]
pub(super) struct LastLists {
    /// For callers without a file: what older lists are told by.
    record: ListRecord,
    /// Who signed the last reading.
    signatures: Vec<ListSignature>,
}

impl SignedLists {
    pub(super) fn record_in(&mut self, file: PathBuf) {
        self.record = Some(RecordFile { path: file });
    }

    /// Who signed the lists that were read last, each key once with its newest signature.
    pub(super) fn signatures(&self) -> Vec<ListSignature> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).signatures.clone()
    }
}

/// Index and list of a server with their signatures, byte for byte: what a mirror publishes that keeps the signatures.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SignedDocuments {
    /// Paths and bytes, in the order in which a tree publishes them.
    pub files: Vec<(String, Vec<u8>)>,
    /// The list, parsed.
    pub products: Products,
    /// Who signed them, each key once.
    pub signatures: Vec<ListSignature>,
}

/// The documents of one reading, from the index to the last list.
pub(super) struct Documents<'a> {
    tree: &'a StaticTree,
    limits: &'a Limits,
    signed: Option<&'a SignedLists>,
    monitor: &'a Monitor,
    /// What was verified, by the paths without suffix.
    verified: Vec<(String, AcceptedList)>,
}

impl<'a> Documents<'a> {
    pub(super) fn new(tree: &'a StaticTree, limits: &'a Limits, signed: &'a SignedLists, monitor: &'a Monitor) -> Self {
        let signed = Some(signed).filter(|signed| !signed.keys.is_empty());
        Self { tree, limits, signed, monitor, verified: Vec::new() }
    }

    /// Reads the index.
    ///
    /// # Errors
    /// `NotFound` without one; `Untrusted` for one that no key vouches for; those of [`StaticTree::document`].
    pub(super) fn index(&mut self) -> Result<(Vec<u8>, Index)> {
        let mut index = None;
        let limits = self.limits;
        let mut check = |bytes: &[u8]| {
            index = Some(Index::from_json(bytes, limits)?);
            Ok(())
        };
        let document = match self.signed {
            Some(signed) if signed.keys.has_openpgp() => match self.read(SIGNED_INDEX, &mut check) {
                Err(error) if error.kind() == ErrorKind::NotFound => self.read(INDEX, &mut check),
                found => found,
            },
            _ => self.read(INDEX, &mut check),
        };
        let document = document.map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                error.with_hint("a simplestreams server has `streams/v1/index.json` below its address")
            } else {
                error
            }
        })?;
        let index = match index {
            Some(index) => index,
            None => Index::from_json(&document, limits)?,
        };
        Ok((document, index))
    }

    /// Reads a document, and parses it with `check`, which may be called several times.
    ///
    /// # Errors
    /// `Untrusted` when keys are demanded and none of them vouches for it; otherwise as [`StaticTree::document`].
    pub(super) fn read(&mut self, path: &str, check: &mut Check<'_>) -> Result<Vec<u8>> {
        let Some(signed) = self.signed else { return self.tree.document(path, self.monitor, check) };
        let now = now();
        let (stem, (text, signature)) = match path.strip_suffix(".sjson") {
            Some(stem) => (stem, self.message(path, &signed.keys, now, check)?),
            None => (path.strip_suffix(".json").unwrap_or(path), self.detached(path, &signed.keys, now, check)?),
        };
        let stem = stem.to_owned();
        let accepted = AcceptedList { updated: updated(&text), signature, sha256: Fingerprint::of(&text) };
        if !signed.accept_older {
            // Before anything else is fetched; `accept` checks again, under the lock.
            if let Some(file) = &signed.record {
                ListRecord::read(&file.path)?.check(&stem, &accepted)?;
            }
            signed.last.lock().unwrap_or_else(PoisonError::into_inner).record.check(&stem, &accepted)?;
        }
        self.verified.push((stem, accepted));
        Ok(text)
    }

    /// Reads a signed message. The bytes that are cached are the message; what is handed out is its text.
    fn message(
        &self,
        path: &str,
        keys: &ListKeys,
        now: i64,
        check: &mut Check<'_>,
    ) -> Result<(Vec<u8>, ListSignature)> {
        let mut found = None;
        let limits = self.limits;
        self.tree.document(path, self.monitor, &mut |message| {
            let (text, signature) =
                keys.verify_cleartext(message, now, limits).map_err(|error| unsigned(path, &error))?;
            check(&text)?;
            found = Some((text, signature));
            Ok(())
        })?;
        // The last call was for the bytes that were returned.
        found.ok_or_else(|| Error::remote(format!("the list {path} was not verified")))
    }

    /// Reads a document and the signature beside it.
    fn detached(
        &self,
        path: &str,
        keys: &ListKeys,
        now: i64,
        check: &mut Check<'_>,
    ) -> Result<(Vec<u8>, ListSignature)> {
        let mut tree = None;
        for attempt in 1.. {
            let from = tree.as_ref().unwrap_or(self.tree);
            let text = from.document(path, self.monitor, check)?;
            match self.signature_beside(from, path, &text, keys, now) {
                Ok(signature) => return Ok((text, signature)),
                // The pair may be half old, in the cache or on the server.
                Err(error) if error.kind() == ErrorKind::Untrusted && attempt < ATTEMPTS => {
                    self.monitor.check()?;
                    std::thread::sleep(PAUSE);
                    tree = Some(self.tree.revalidating());
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Finds and verifies the signature of a document.
    fn signature_beside(
        &self,
        tree: &StaticTree,
        path: &str,
        text: &[u8],
        keys: &ListKeys,
        now: i64,
    ) -> Result<ListSignature> {
        let read = |suffix: &str| match tree.document(&format!("{path}{suffix}"), self.monitor, &mut |_| Ok(())) {
            Ok(signature) => Ok(Some(signature)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let wrong = |error: Error| unsigned(path, &error);
        if keys.has_openpgp()
            && let Some(signature) = read(".gpg")?
        {
            return keys.verify_openpgp(text, &signature, now, self.limits).map_err(wrong);
        }
        if keys.has_minisign()
            && let Some(signature) = read(".minisig")?
        {
            return keys.verify_minisign(text, &signature, now, self.limits).map_err(wrong);
        }
        Err(Error::new(ErrorKind::Untrusted, format!("the list {path} is not signed"))
            .with_hint("only lists that a key of this remote signed are read; `remote show` lists the keys"))
    }

    /// Reads index and list byte for byte with all signatures of them that count. A form that no key signed is not among them: a plain
    /// document is then the text that was signed.
    ///
    /// # Errors
    /// `Unsupported`, with the reason, where a tree can't hold them as they are; `Remote` for forms that say different things; those of
    /// [`index`](Self::index) and [`read`](Self::read).
    pub(super) fn signed(mut self) -> Result<SignedDocuments> {
        let Some(signed) = self.signed else { return Err(Error::unsupported("the lists are not signed")) };
        let (index_text, index) = self.index()?;
        let mut lists = index.image_lists();
        let (Some(entry), None, 1) = (lists.next(), lists.next(), index.index.len()) else {
            return Err(Error::unsupported("the signed index names other lists, too"));
        };
        if !index.index.odd().is_empty() || ![LIST, SIGNED_LIST].contains(&&*entry.path) {
            return Err(Error::unsupported(format!("the signed index names another list than {LIST}")));
        }
        let mut products = None;
        let list_text = self.read(&entry.path, &mut |bytes| {
            products = Some(Products::from_json(bytes, self.limits)?);
            Ok(())
        })?;
        let products = products.ok_or_else(|| Error::remote("the list was not read"))?;
        let mut files = Vec::new();
        for (plain, message, text) in [(LIST, SIGNED_LIST, list_text), (INDEX, SIGNED_INDEX, index_text)] {
            self.forms(plain, message, &text, &signed.keys, &mut files)?;
        }
        let signatures = signers(&self.verified);
        self.accept()?;
        Ok(SignedDocuments { files, products, signatures })
    }

    /// Adds the signed forms of one document, and the plain one, in the order in which a tree publishes them.
    fn forms(
        &self,
        plain: &str,
        message: &str,
        text: &[u8],
        keys: &ListKeys,
        files: &mut Vec<(String, Vec<u8>)>,
    ) -> Result<()> {
        let (now, tree) = (now(), self.tree.revalidating());
        let optional = |path: &str| match tree.document(path, self.monitor, &mut |_| Ok(())) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        // The index names the messages in a message, and the plain lists beside.
        let plain_text = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.replace(&format!("\"{SIGNED_LIST}\""), &format!("\"{LIST}\"")).into_bytes()
        };
        let says = |text: &[u8]| serde_json::from_slice::<Value>(&plain_text(text)).ok();
        let same = |other: &[u8]| {
            if says(other).is_some() && says(other) == says(text) {
                return Ok(());
            }
            Err(Error::remote(format!("the signed forms of {plain} say different things"))
                .with_hint("the server may be in the middle of a change; try again"))
        };
        if keys.has_openpgp()
            && let Some(bytes) = optional(message)?
            && let Ok((found, _)) = keys.verify_cleartext(&bytes, now, self.limits)
        {
            same(&found)?;
            files.push((message.to_owned(), bytes));
        }
        let mut document = plain_text(text);
        if let Some(bytes) = optional(plain)? {
            let mut is_signed = false;
            for suffix in [".gpg", ".minisig"] {
                let Some(signature) = optional(&format!("{plain}{suffix}"))? else { continue };
                let verified = match suffix {
                    ".gpg" => keys.verify_openpgp(&bytes, &signature, now, self.limits),
                    _ => keys.verify_minisign(&bytes, &signature, now, self.limits),
                };
                if verified.is_ok() {
                    is_signed = true;
                    files.push((format!("{plain}{suffix}"), signature));
                }
            }
            if is_signed {
                same(&bytes)?;
                document = bytes;
            }
        }
        files.push((plain.to_owned(), document));
        Ok(())
    }

    /// Records what was verified: the reading is complete, and older lists are refused from now on.
    ///
    /// # Errors
    /// `Untrusted` when another process accepted newer lists meanwhile; `Io` when they can't be recorded.
    pub(super) fn accept(self) -> Result<()> {
        let Some(signed) = self.signed else { return Ok(()) };
        let now = now();
        if let Some(file) = &signed.record {
            file.accept(&self.verified, signed.accept_older, now)?;
        }
        let mut last = signed.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.signatures = signers(&self.verified);
        last.record.documents.extend(self.verified);
        last.record.accepted_at = now;
        Ok(())
    }
}

/// Who signed documents, each key once with its newest signature.
fn signers(documents: &[(String, AcceptedList)]) -> Vec<ListSignature> {
    let mut found: Vec<ListSignature> = Vec::new();
    for (_, list) in documents {
        match found.iter_mut().find(|known| known.signed_by == list.signature.signed_by) {
            Some(known) if known.signed_at >= list.signature.signed_at => {}
            Some(known) => *known = list.signature.clone(),
            None => found.push(list.signature.clone()),
        }
    }
    found
}

/// The time, in seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// When a document says that it changed last: the list itself, or of an index its newest list.
fn updated(text: &[u8]) -> Option<i64> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Entry {
        updated: Value,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Document {
        updated: Value,
        index: BTreeMap<String, Entry>,
    }
    let document: Document = serde_json::from_slice(text).ok()?;
    let own = std::iter::once(&document.updated);
    let times = own.chain(document.index.values().map(|entry| &entry.updated));
    times.filter_map(Value::as_str).filter_map(crate::time::from_rfc2822).max()
}

/// The error for a list whose signature is wrong. Whatever is wrong with it, the list must not be skipped like one that is
/// only malformed: someone may have put it there.
fn unsigned(path: &str, error: &Error) -> Error {
    if error.kind() == ErrorKind::LimitExceeded || error.kind() == ErrorKind::FeatureDisabled {
        return Error::new(ErrorKind::Untrusted, format!("the list {path} can't be verified: {}", error.message()));
    }
    Error::new(
        ErrorKind::Untrusted,
        format!("the list {path} is not signed by a key of this remote: {}", error.message()),
    )
    .with_hint("`remote show` lists the keys; `remote set-key` pins a new one of the owner")
}
