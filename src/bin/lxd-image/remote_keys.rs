//! Keys of remotes: `remote add --key`, `remote set-key`, `remote show` and `remote accept-older`.
//!
//! With keys only lists are read that one of them signed, by every verb. Lists that are older than those that were
//! accepted last are refused, since somebody may hide newer ones; `accept-older` accepts them once, where their owner
//! went back on purpose.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use lxd_image::remote::{KnownRemote, ListRecord};
use lxd_image::trust::ListKeys;
use lxd_image::{Error, ErrorKind, Limits, Result};
use serde_json::{Map, Value, json};

use crate::options::Session;
use crate::output::{self, Records};
use crate::signals::{self, or_cancelled};
use crate::store::time;

/// Reads the files of `--key`.
///
/// # Errors
/// Those of reading them and of [`ListKeys::parse`], with the file; `InvalidInput` where none of the keys can sign now.
pub(crate) fn read(files: &[PathBuf], limits: &Limits) -> Result<ListKeys> {
    let mut keys = ListKeys::default();
    for file in files {
        let bytes = read_file(file, limits)?;
        keys.extend(ListKeys::parse(&bytes, limits).map_err(|error| error.in_file(file))?);
    }
    let all = keys.describe(now());
    if let Some(reason) = all.first().and_then(|key| key.unusable.clone())
        && all.iter().all(|key| key.unusable.is_some())
    {
        let sentence = format!("none of the keys can sign: {reason}");
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("get the owner's present key"));
    }
    Ok(keys)
}

/// Reads a file with keys, of at most `key_file` bytes.
pub(crate) fn read_file(file: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let bytes = signals::read(file, limits.key_file.saturating_add(1)).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        or_cancelled(error, |error| Error::new(kind, "the key can't be read").with_source(error).in_file(file))
    })?;
    if bytes.len() as u64 > limits.key_file {
        let sentence = format!("the key has more than {} bytes", limits.key_file);
        return Err(Error::new(ErrorKind::LimitExceeded, sentence)
            .with_hint("raise it with `--limit key_file=BYTES`")
            .in_file(file));
    }
    Ok(bytes)
}

/// Prints everything that is known of a remote: address, certificate, keys, and the signed lists that were accepted
/// last. Nothing is asked of the server.
///
/// # Errors
/// `NotFound` for an unknown name; those of reading the settings.
pub(crate) fn show(name: &str, session: &Session) -> Result<()> {
    let settings = session.settings()?;
    let known = settings.get(name)?;
    let record = settings.list_record(name)?;
    output::show(Records::One(describe(name, &known, &record)), &session.format)
}

/// Pins other keys of a remote, or further ones, and prints what is known of it then.
///
/// Its lists are read once. If the new keys did not sign them, that is told and no error: a stolen key must go at once, whatever
/// the server has at the moment.
///
/// # Errors
/// `NotFound` for an unknown name; those of [`read`] and of writing the settings.
pub(crate) fn set(name: &str, files: &[PathBuf], add: bool, session: &Session) -> Result<()> {
    let settings = session.settings()?;
    let mut keys = if add { settings.get(name)?.keys } else { ListKeys::default() };
    keys.extend(read(files, &session.limits)?);
    settings.set_keys(name, keys)?;
    let (monitor, shown) = session.monitor();
    let listed = settings.connect(name, session.client_options()).and_then(|remote| remote.list(&monitor));
    drop(shown);
    if let Err(error) = listed {
        if error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        session.note(|| format!("The keys are pinned. The lists of `{name}` can't be read with them now: {error}"));
    }
    show(name, session)
}

/// Accepts the lists of a remote as they are now, even if they are older than those that were accepted last.
///
/// # Errors
/// `InvalidInput` for a remote without keys; `Untrusted` for lists that are not signed; those of the connection.
pub(crate) fn accept_older(name: &str, session: &Session) -> Result<()> {
    let settings = session.settings()?;
    let (monitor, shown) = session.monitor();
    let accepted = settings.accept_older(name, session.client_options(), &monitor);
    drop(shown);
    let record = accepted?;
    output::show(Records::One(describe(name, &settings.get(name)?, &record)), &session.format)
}

/// A remote as a record for all formats.
fn describe(name: &str, known: &KnownRemote, record: &ListRecord) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut add = |key: &str, value: Value| drop(facts.insert(key.to_owned(), value));
    add("name", json!(name));
    add("url", json!(known.url.to_string()));
    add("protocol", json!(known.protocol.to_string()));
    add("public", json!(known.public));
    add("certificate", json!(known.certificate.as_ref().map(|certificate| certificate.fingerprint().to_string())));
    let keys: Vec<Value> = known
        .keys
        .describe(now())
        .into_iter()
        .map(|key| {
            json!({"key": key.key, "kind": key.kind, "name": key.name, "usable": key.unusable.is_none(), "reason": key.unusable})
        })
        .collect();
    add("keys", Value::Array(keys));
    if known.keys.is_empty() {
        return facts;
    }
    let newest = record.newest();
    let lists: Vec<Value> = record
        .documents
        .iter()
        .map(|(path, list)| {
            json!({
                "path": path,
                "updated": list.updated.map(|at| time(Some(at), "")),
                "signed_by": list.signature.key,
                "signing_key": list.signature.signed_by,
                "signed_at": list.signature.signed_at.map(|at| time(Some(at), "")),
                "sha256": list.sha256.to_string(),
            })
        })
        .collect();
    add("lists", Value::Array(lists));
    let accepted = Some(record.accepted_at).filter(|_| !record.documents.is_empty());
    add("accepted_at", json!(accepted.map(|at| time(Some(at), ""))));
    add("list_updated_at", json!(newest.map(|at| time(Some(at), ""))));
    add("list_age_seconds", json!(newest.map(|at| now().saturating_sub(at).max(0))));
    facts
}

/// The time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
