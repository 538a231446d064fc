//! `StaticTree`: the files of a simplestreams server, over HTTP or on disk.
//!
//! Documents (index and lists) are cached in a directory of the caller's, if there is one. A cached document is used without a
//! request for an hour, then revalidated with `ETag` and `Last-Modified` (RFC 9110, section 13). Files of images are never
//! cached here: the store is their cache.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::http::{Client, ClientOptions, Request, Scheme, Url};
use super::{Download, Trust};
use crate::atomic::{self, Durability};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::Input;
use crate::progress::Monitor;
use crate::protocol::simplestreams::ItemPath;

/// A tree of static files below one URL.
#[derive(Debug, Clone)]
pub(crate) struct StaticTree {
    /// With a slash at its end.
    base: Url,
    backend: Backend,
    /// Where documents are cached, if anywhere.
    cache_dir: Option<PathBuf>,
    /// How old a cached document may be before it is revalidated.
    max_age: Duration,
    /// `Limits::remote_index`.
    max_bytes: u64,
}

/// Where the files are.
#[derive(Debug, Clone)]
enum Backend {
    /// On a web server.
    Server(Client),
    /// Below a directory, for `file:///DIR`.
    Disk(PathBuf),
}

/// The head of a cached document: one line of JSON before its bytes. It holds the URL too, since the name of the file is only a
/// digest of it, and the digest of the bytes, since the cache is written without `fsync`.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct CacheEntry {
    url: String,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    last_modified: Option<String>,
    /// When the server last said that this is the current document, in seconds since 1970.
    fetched_at: u64,
    /// Of the document. Always there in a file that was written completely.
    sha256: Option<Fingerprint>,
}

impl StaticTree {
    /// The tree below `base`, without a cache. Nothing is asked yet.
    ///
    /// # Errors
    /// Those of [`Client::new`].
    pub(crate) fn new(options: ClientOptions, base: &Url) -> Result<Self> {
        let base = base.directory();
        let max_bytes = options.limits.remote_index;
        let backend = match base.scheme() {
            Scheme::File => Backend::Disk(base.to_file_path()?),
            _ => Backend::Server(Client::new(options)?),
        };
        Ok(Self { base, backend, cache_dir: None, max_age: Duration::from_secs(3600), max_bytes })
    }

    /// The URL of the tree, with a slash at its end.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Whether it is a directory of this machine.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self.backend, Backend::Disk(_))
    }

    /// Caches documents in a directory, which is made when the first one is written.
    pub(crate) fn set_cache_dir(&mut self, directory: PathBuf) {
        self.cache_dir = Some(directory);
    }

    /// The same tree, where each cached document is revalidated.
    pub(crate) fn revalidating(&self) -> Self {
        Self { max_age: Duration::ZERO, ..self.clone() }
    }

    /// How old a cached document may be before the server is asked whether it changed.
    pub(crate) fn set_max_age(&mut self, time: Duration) {
        self.max_age = time;
    }

    /// Reads a document, at most `remote_index` bytes of it. `check` parses it: a document that it refuses is not cached, and a
    /// cached one that it refuses is removed, so that the next request is unconditional. It may be called twice, for the cached
    /// and for the fetched document.
    ///
    /// # Errors
    /// `NotFound`; `LimitExceeded`; `UnsafePath` for a path that leads out of the tree; those of `check` and [`Client::send`].
    pub(crate) fn document(
        &self,
        path: &str,
        monitor: &Monitor,
        check: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Vec<u8>> {
        monitor.check()?;
        match &self.backend {
            Backend::Disk(root) => {
                let path: ItemPath = path.parse()?;
                let bytes = read_bounded(&root.join(path.to_file()), self.max_bytes)?;
                check(&bytes)?;
                Ok(bytes)
            }
            Backend::Server(client) => {
                let path: ItemPath = path.parse()?;
                self.fetch(client, &self.base.join(&path.to_url())?, monitor, check)
            }
        }
    }

    /// Reads a document of a server: from the cache, after revalidation, or from the server.
    fn fetch(
        &self,
        client: &Client,
        url: &Url,
        monitor: &Monitor,
        check: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let file = self.cache_dir.as_ref().map(|directory| directory.join(self.name(client, url)));
        let max_bytes = self.max_bytes;
        // A limit may have been lowered since, or this program reads lists in another way than the version that cached it.
        let entry =
            file.as_deref().and_then(|file| read_entry(file, url, max_bytes)).filter(|(_, bytes)| check(bytes).is_ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some((entry, bytes)) = &entry {
            // A clock that was put back makes a list old, not eternally young.
            let age = now.checked_sub(entry.fetched_at);
            if age.is_some_and(|age| age < self.max_age.as_secs()) {
                return Ok(bytes.clone());
            }
        }
        let (head, changed) = client.options().retry.run(monitor, || {
            let mut request = Request::get(url).accept_gzip().monitor(monitor);
            if let Some((entry, _)) = &entry {
                if let Some(tag) = &entry.etag {
                    request = request.header("if-none-match", tag.clone());
                }
                if let Some(time) = &entry.last_modified {
                    request = request.header("if-modified-since", time.clone());
                }
            }
            let answer = client.send(request)?;
            if let (304, Some((entry, _))) = (answer.status(), &entry) {
                let entry = CacheEntry {
                    url: url.to_wire(),
                    fetched_at: now,
                    etag: entry.etag.clone(),
                    last_modified: entry.last_modified.clone(),
                    sha256: None,
                };
                return Ok((entry, None));
            }
            let answer = answer.success()?;
            let entry = CacheEntry {
                url: url.to_wire(),
                etag: answer.header("etag").map(str::to_owned),
                last_modified: answer.header("last-modified").map(str::to_owned),
                fetched_at: now,
                sha256: None,
            };
            Ok((entry, Some(answer.contents("remote_index", max_bytes)?)))
        })?;
        let bytes = match (changed, entry) {
            (Some(bytes), _) => bytes,
            (None, Some((_, bytes))) => {
                self.write_entry(file.as_deref(), head, &bytes);
                return Ok(bytes);
            }
            (None, None) => {
                return Err(Error::remote(format!("{url} has not changed, says a server that was not asked")));
            }
        };
        if let Err(error) = check(&bytes) {
            if let Some(file) = &file {
                let _ = std::fs::remove_file(file);
            }
            return Err(error.context(url));
        }
        self.write_entry(file.as_deref(), head, &bytes);
        Ok(bytes)
    }

    /// The file name of a cached document. The pinned certificate is part of it: a document that was trusted under another pin
    /// must not be used.
    fn name(&self, client: &Client, url: &Url) -> String {
        let trust = match &client.options().trust {
            Trust::Pinned(pin) => pin.to_string(),
            _ => String::new(),
        };
        format!("{}.list", Fingerprint::of(format!("{}\n{trust}", url.to_wire()).as_bytes()))
    }

    /// Writes a document to the cache. Errors are ignored: the document is here, and the next run fetches it again.
    fn write_entry(&self, file: Option<&Path>, mut entry: CacheEntry, bytes: &[u8]) {
        let Some(file) = file else { return };
        entry.sha256 = Some(Fingerprint::of(bytes));
        let write = || -> std::io::Result<()> {
            let Some(directory) = file.parent() else { return Ok(()) };
            atomic::make_dirs(directory, 0o700)?;
            let mut text = serde_json::to_vec(&entry)?;
            text.push(b'\n');
            text.extend_from_slice(bytes);
            // Its digest is compared when it is read: what a power cut left of it is fetched again.
            atomic::replace(file, 0o600, &text, Durability::Volatile)
        };
        let _ = write();
    }

    /// Opens one file of an image. Size and digest are checked where they are known; where the digest is not, the fingerprint of
    /// the whole image decides.
    ///
    /// # Errors
    /// `Mismatch` for the size of a file on disk. Errors of a server come when the input is read, see [`Download::open`].
    pub(crate) fn open(
        &self,
        path: &ItemPath,
        size: Option<u64>,
        digest: Option<Fingerprint>,
        monitor: &Monitor,
    ) -> Result<Input> {
        match &self.backend {
            Backend::Server(client) => {
                let mut download = Download::new(client, &self.base.join(&path.to_url())?).monitor(monitor);
                if let Some(size) = size {
                    download = download.size(size);
                }
                if let Some(digest) = digest {
                    download = download.digest(digest);
                }
                Ok(download.open())
            }
            Backend::Disk(root) => {
                let file = root.join(path.to_file());
                let input = Input::open(&file)?;
                match input.len().zip(size) {
                    Some((length, size)) if length != size => {
                        let what = format!("the size of {} in bytes", file.display());
                        Err(Error::mismatch(&what, size.to_string(), length.to_string()))
                    }
                    _ => Ok(input),
                }
            }
        }
    }
}

/// Reads a whole file of at most `max_bytes` bytes.
fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)).map_err(
        |error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the list can't be read").with_source(error).in_file(path)
        },
    )?;
    if bytes.len() as u64 > max_bytes {
        return Err(Error::limit("remote_index", max_bytes, "the size of the list in bytes").in_file(path));
    }
    Ok(bytes)
}

/// Reads a cached document; `None` if it is damaged, cut short or of another URL.
fn read_entry(file: &Path, url: &Url, max_bytes: u64) -> Option<(CacheEntry, Vec<u8>)> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(max_bytes.saturating_add(64 << 10)).read_to_end(&mut bytes).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let entry: CacheEntry = serde_json::from_slice(bytes.get(..end)?).ok()?;
    let list = bytes.split_off(end + 1);
    (entry.url == url.to_wire() && entry.sha256 == Some(Fingerprint::of(&list))).then_some((entry, list))
}
