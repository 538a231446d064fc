//! A tree of files that others serve: on a web server, or on this machine's disk where a person named it.
//! Lists are fetched with conditions, and kept for an hour in a directory of the caller's.

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

/// The root of such a tree.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    base: Url,
    place: Place,
    cache: Option<PathBuf>,
    fresh: Duration,
    most: u64,
}

#[derive(Debug, Clone)]
enum Place {
    Server(Client),
    Disk(PathBuf),
}

/// What is kept of a list beside its bytes. The URL tells a list from another one whose name has the same digest.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    url: String,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    last_modified: Option<String>,
    fetched_at: u64,
    sha256: Option<Fingerprint>,
}

impl Site {
    pub(crate) fn new(options: ClientOptions, base: &Url) -> Result<Self> {
        let base = base.directory();
        let most = options.limits.remote_index;
        let place = match base.scheme() {
            Scheme::File => Place::Disk(base.to_file_path()?),
            _ => Place::Server(Client::new(options)?),
        };
        Ok(Self { base, place, cache: None, fresh: Duration::from_secs(3600), most })
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn keep_in(&mut self, directory: PathBuf) {
        self.cache = Some(directory);
    }

    pub(crate) fn fresh_for(&mut self, time: Duration) {
        self.fresh = time;
    }

    /// A small document, whole. `check` says whether it is one: nothing is kept that it refuses, and what was kept and is refused
    /// goes, so that the next question is asked without conditions.
    pub(crate) fn document(
        &self,
        path: &str,
        monitor: &Monitor,
        check: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Vec<u8>> {
        monitor.check()?;
        match &self.place {
            Place::Disk(root) => {
                let path: ItemPath = path.parse()?;
                let bytes = read_bounded(&root.join(path.to_file()), self.most)?;
                check(&bytes)?;
                Ok(bytes)
            }
            Place::Server(client) => {
                let path: ItemPath = path.parse()?;
                self.fetch(client, &self.base.join(&path.to_url())?, monitor, check)
            }
        }
    }

    fn fetch(
        &self,
        client: &Client,
        url: &Url,
        monitor: &Monitor,
        check: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let file = self.cache.as_ref().map(|directory| directory.join(self.name(client, url)));
        let most = self.most;
        // A limit may have been lowered since, or this program reads lists in another way than the one that kept it.
        let kept =
            file.as_deref().and_then(|file| read_kept(file, url, most)).filter(|(_, bytes)| check(bytes).is_ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some((kept, bytes)) = &kept {
            // A clock that was put back makes a list old, not eternally young.
            let age = now.checked_sub(kept.fetched_at);
            if age.is_some_and(|age| age < self.fresh.as_secs()) {
                return Ok(bytes.clone());
            }
        }
        let (head, changed) = client.options().retry.run(monitor, || {
            let mut request = Request::get(url).may_be_packed().monitor(monitor);
            if let Some((kept, _)) = &kept {
                if let Some(tag) = &kept.etag {
                    request = request.header("if-none-match", tag.clone());
                }
                if let Some(time) = &kept.last_modified {
                    request = request.header("if-modified-since", time.clone());
                }
            }
            let answer = client.send(request)?;
            if let (304, Some((kept, _))) = (answer.status(), &kept) {
                let kept = Kept {
                    url: url.to_wire(),
                    fetched_at: now,
                    etag: kept.etag.clone(),
                    last_modified: kept.last_modified.clone(),
                    sha256: None,
                };
                return Ok((kept, None));
            }
            let answer = answer.success()?;
            let kept = Kept {
                url: url.to_wire(),
                etag: answer.header("etag").map(str::to_owned),
                last_modified: answer.header("last-modified").map(str::to_owned),
                fetched_at: now,
                sha256: None,
            };
            Ok((kept, Some(answer.contents("remote_index", most)?)))
        })?;
        let bytes = match (changed, kept) {
            (Some(bytes), _) => bytes,
            (None, Some((_, bytes))) => {
                self.write_kept(file.as_deref(), head, &bytes);
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
        self.write_kept(file.as_deref(), head, &bytes);
        Ok(bytes)
    }

    /// The name that a list is kept under: of its address and of whom it was believed from.
    fn name(&self, client: &Client, url: &Url) -> String {
        let trust = match &client.options().trust {
            Trust::Pinned(pin) => pin.to_string(),
            _ => String::new(),
        };
        format!("{}.list", Fingerprint::of(format!("{}\n{trust}", url.to_wire()).as_bytes()))
    }

    /// Keeps a list. A cache that can't be written is no reason to fail.
    fn write_kept(&self, file: Option<&Path>, mut kept: Kept, bytes: &[u8]) {
        let Some(file) = file else { return };
        kept.sha256 = Some(Fingerprint::of(bytes));
        let write = || -> std::io::Result<()> {
            let Some(directory) = file.parent() else { return Ok(()) };
            atomic::make_dirs(directory, 0o700)?;
            let mut text = serde_json::to_vec(&kept)?;
            text.push(b'\n');
            text.extend_from_slice(bytes);
            // Its digest is compared when it is read: what a power cut left of it is fetched again.
            atomic::replace(file, 0o600, &text, Durability::Volatile)
        };
        let _ = write();
    }

    /// One file of an image, of which a size, a digest or both are known. Without a digest that of the whole image decides.
    pub(crate) fn open(
        &self,
        path: &ItemPath,
        size: Option<u64>,
        digest: Option<Fingerprint>,
        monitor: &Monitor,
    ) -> Result<Input> {
        match &self.place {
            Place::Server(client) => {
                let mut download = Download::new(client, &self.base.join(&path.to_url())?).monitor(monitor);
                if let Some(size) = size {
                    download = download.size(size);
                }
                if let Some(digest) = digest {
                    download = download.digest(digest);
                }
                Ok(download.open())
            }
            Place::Disk(root) => {
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

fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes)).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Error::new(kind, "the list can't be read").with_source(error).in_file(path)
    })?;
    if bytes.len() as u64 > most {
        return Err(Error::limit("remote_index", most, "the size of the list in bytes").in_file(path));
    }
    Ok(bytes)
}

/// What was kept of a list; nothing when anything of it is not as it was written.
fn read_kept(file: &Path, url: &Url, most: u64) -> Option<(Kept, Vec<u8>)> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(most.saturating_add(64 << 10)).read_to_end(&mut bytes).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let kept: Kept = serde_json::from_slice(bytes.get(..end)?).ok()?;
    let list = bytes.split_off(end + 1);
    (kept.url == url.to_wire() && kept.sha256 == Some(Fingerprint::of(&list))).then_some((kept, list))
}
