//! A directory store: the names of its files, and the marker, which tells a store from any other directory and says which
//! layout it has.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::atomic::{self, Durability};
use crate::error::{Error, ErrorKind, Result};

/// The layout that this version writes. It reads all earlier ones, and brings them to this one.
pub(crate) const VERSION: u64 = 2;

const MARKER: &str = "lxd-image-store";
const CATALOG: &str = "catalog.sqlite";

pub(crate) fn catalog(store: &Path) -> PathBuf {
    store.join(CATALOG)
}

/// The catalog that a repair makes, until it is whole and takes the place of the old one.
pub(crate) fn rebuilt_catalog(store: &Path) -> PathBuf {
    store.join("catalog.sqlite.rebuilt")
}

/// The files that SQLite has for one catalog, and the one that is kept beside it for a full disk.
pub(crate) const CATALOG_SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-reserve"];

/// A path with something added to its last name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What the marker says.
#[derive(Clone)]
pub(crate) struct Marker {
    pub(crate) id: String,
    pub(crate) layout: u64,
}

impl Marker {
    /// Reads the marker of the store at `store`; `None` when there is none.
    pub(crate) fn read(store: &Path) -> Result<Option<Self>> {
        let path = store.join(MARKER);
        let mut text = String::new();
        match std::fs::File::open(&path).and_then(|file| file.take(4 << 10).read_to_string(&mut text)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("the store's marker can't be read", error).in_file(path)),
            Ok(_) => {}
        }
        Self::parse(&text).map(Some).map_err(|error| error.in_file(path))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some("lxd-image store") {
            return Err(Error::unsupported("this is not the marker of an image store"));
        }
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let version = value("layout:").and_then(|version| version.parse::<u64>().ok());
        let version = version.ok_or_else(|| Error::malformed("the store's marker has no layout version"))?;
        if !(1..=VERSION).contains(&version) {
            return Err(Error::unsupported(format!(
                "the store has layout version {version}, and this program knows versions 1 to {VERSION}"
            ))
            .with_hint("use the version of lxd-image that wrote it, or a newer one"));
        }
        let id = value("id:").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Error::malformed("the store's marker has no id"))?;
        Ok(Self { id: id.to_owned(), layout: version })
    }

    /// Writes the marker, which makes the directory a store of the newest layout: the last step of making or upgrading one.
    pub(crate) fn write(&self, store: &Path) -> Result<()> {
        let text = format!("lxd-image store\nlayout: {VERSION}\nid: {}\n", self.id);
        atomic::replace(&store.join(MARKER), 0o600, text.as_bytes(), Durability::Durable)
            .map_err(|error| Error::io("the store's marker can't be written", error).in_file(store))
    }

    /// A marker with an id that no other store has.
    pub(crate) fn new() -> Self {
        Self { id: super::scratch::random_id(), layout: VERSION }
    }
}

/// Whether a directory without a marker holds nothing but what making a store leaves when it is cut short.
pub(crate) fn is_unfinished(store: &Path) -> Result<bool> {
    let fail = |error| Error::io("the directory can't be read", error).in_file(store);
    for entry in std::fs::read_dir(store).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let name = name.to_string_lossy();
        let ours = ["blobs", "staging", "quarantine"].contains(&name.as_ref())
            || name.starts_with(CATALOG)
            || name.trim_start_matches('.').starts_with(MARKER);
        if !ours {
            return Ok(false);
        }
    }
    // A store whose marker is lost has images; making one anew would call them rubbish.
    match std::fs::read_dir(store.join("blobs")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(fail(error)),
        Ok(blobs) => {
            for entry in blobs {
                if entry.map_err(fail)?.file_name() != "store-id" {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// The error for a directory that is no store.
pub(crate) fn foreign(store: &Path) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("this directory is not an image store: it has no `{MARKER}`, and other files"),
    )
    .with_hint("name a new or an empty directory")
    .in_file(store)
}
