//! `ListRecord`: which signed lists of a remote were accepted last, so that older ones are refused.
//!
//! A server, or whoever stands before it, can hold on to an old list with its valid signature, and hide a newer image or a
//! withdrawn one that way. So the times of each document are recorded, and only go forward.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic::{self, Durability};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::trust::ListSignature;

/// The largest record in bytes. One of a server with a hundred lists has 40 KB.
const MAX_BYTES: u64 = 4 << 20;

/// The signed lists of a remote that were accepted last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListRecord {
    /// When the last change was accepted, in seconds since 1970.
    pub accepted_at: i64,
    /// The documents by their paths without suffix, like `streams/v1/index`: a document keeps its place, whether it comes
    /// with its signature inside or beside it.
    pub documents: BTreeMap<String, AcceptedList>,
}

/// One document that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AcceptedList {
    /// What it says of its last change (`updated`), in seconds since 1970.
    pub updated: Option<i64>,
    /// Who signed it, and when.
    pub signature: ListSignature,
    /// The digest of the signed bytes.
    pub sha256: Fingerprint,
}

impl ListRecord {
    /// Reads a record; an empty one if there is no file.
    ///
    /// # Errors
    /// `Malformed` for a damaged file, since without it an old list could not be told from a new one; `Io`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut text = Vec::new();
        match File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text)) {
            Ok(_) => serde_json::from_slice(&text).map_err(|error| {
                Error::malformed("the record of the last signed list is damaged")
                    .with_hint("`lxd-image remote accept-older NAME` replaces it")
                    .with_source(error)
                    .in_file(path)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("the record of the last signed list can't be read", error).in_file(path)),
        }
    }

    /// The newest time in it: of what the lists say, else of their signatures.
    #[must_use]
    pub fn newest(&self) -> Option<i64> {
        self.documents.values().filter_map(|list| list.updated.or(list.signature.signed_at)).max()
    }

    /// Refuses a document that is older than the one that was accepted last.
    pub(super) fn check(&self, name: &str, list: &AcceptedList) -> Result<()> {
        let (Some(updated), signed) = (list.updated.or(list.signature.signed_at), list.signature.signed_at) else {
            return Err(Error::new(
                ErrorKind::Untrusted,
                format!(
                    "the list {name} has no time, neither in itself nor in its signature: an old one can't be told"
                ),
            ));
        };
        let Some(last) = self.documents.get(name).filter(|last| last.sha256 != list.sha256) else { return Ok(()) };
        let last_signed = last.signature.signed_at;
        let older = match (list.updated, last.updated) {
            (Some(updated), Some(last)) if updated != last => updated < last,
            // Without a time of its own, or with the same one, the signature decides. One without a time is the older one.
            _ => signed < last_signed,
        };
        if !older {
            return Ok(());
        }
        let time = |seconds: i64| crate::time::rfc3339(Some(seconds));
        let shown = if list.updated == last.updated { signed } else { Some(updated) };
        let known = if list.updated == last.updated { last_signed } else { last.updated.or(last_signed) };
        Err(Error::new(
            ErrorKind::Untrusted,
            format!(
                "the list {name} is of {}, and one of {} was accepted before",
                shown.map_or_else(|| "no known time".into(), time),
                known.map_or_else(|| "no known time".into(), time)
            ),
        )
        .with_hint(
            "someone may hide newer lists; if the owner went back on purpose: lxd-image remote accept-older NAME",
        ))
    }
}

/// Where a record is kept, and whether an older list is accepted this time.
#[derive(Debug, Clone)]
pub(super) struct RecordFile {
    pub(super) path: PathBuf,
}

impl RecordFile {
    /// Records documents that were verified, under a lock: another process may have accepted newer ones meanwhile.
    ///
    /// # Errors
    /// Those of [`ListRecord::check`]; `Io`.
    pub(super) fn accept(&self, lists: &[(String, AcceptedList)], older: bool, now: i64) -> Result<()> {
        let failed =
            |error| Error::io("the record of the last signed list can't be written", error).in_file(&self.path);
        let directory = self.path.parent().unwrap_or(Path::new("."));
        // Nothing is written for lists that are known, so that a read-only directory serves as long as nothing changes.
        let known = |record: &ListRecord| {
            lists.iter().all(|(name, list)| record.documents.get(name).is_some_and(|last| last == list))
        };
        if !older && known(&ListRecord::read(&self.path)?) {
            return Ok(());
        }
        atomic::make_dirs(directory, 0o700).map_err(failed)?;
        let lock = directory.join("lock");
        let held = File::options().create(true).write(true).truncate(false).mode(0o600).open(&lock).map_err(failed)?;
        held.lock().map_err(failed)?;
        let mut record = if older { ListRecord::default() } else { ListRecord::read(&self.path)? };
        for (name, list) in lists {
            if !older {
                record.check(name, list)?;
            }
            record.documents.insert(name.clone(), list.clone());
        }
        record.accepted_at = now;
        let mut text = serde_json::to_vec_pretty(&record).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        atomic::replace(&self.path, 0o600, &text, Durability::Durable).map_err(failed)
    }
}
