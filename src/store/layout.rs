//! The layout of a directory store: the names of its files, and the marker that identifies a directory as a store.
//!
//! `LAYOUT.md` describes the layout for people.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::atomic::{self, Durability};
use crate::error::{Error, ErrorKind, Result};

/// The layout that this version writes. It reads all earlier layouts, and upgrades them when a
/// store is opened for writing.
pub(crate) const VERSION: u64 = 2;

/// The file that makes a directory a store. It has three lines: a magic line, the layout version,
/// and the id of the store.
const MARKER: &str = "lxd-image-store";
/// The SQLite database of the catalog.
const CATALOG: &str = "catalog.sqlite";

/// The path of the catalog.
pub(crate) fn catalog(store: &Path) -> PathBuf {
    store.join(CATALOG)
}

/// The path of the catalog that a repair builds, until it replaces the old one.
pub(crate) fn rebuilt_catalog(store: &Path) -> PathBuf {
    store.join("catalog.sqlite.rebuilt")
}

/// The suffixes of the files that belong to a catalog: the database, its write-ahead log and shared
/// memory, and the space that is reserved for deleting on a full disk.
pub(crate) const CATALOG_SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-reserve"];

/// Appends `suffix` to the last component of `path`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The content of the marker.
#[derive(Clone)]
pub(crate) struct Marker {
    /// The random id of the store, which its blobs and its catalog repeat.
    pub(crate) id: String,
    /// The layout version of the store.
    pub(crate) layout: u64,
}

impl Marker {
    /// Reads the marker of the directory `store`; `None` if there is none.
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

    /// Parses a marker. Keys that are not known are ignored, so that a newer version may add some.
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

    /// Writes the marker with this version's layout. The last step of creating or upgrading a
    /// store: it makes the directory a store.
    pub(crate) fn write(&self, store: &Path) -> Result<()> {
        let text = format!("lxd-image store\nlayout: {VERSION}\nid: {}\n", self.id);
        atomic::replace(&store.join(MARKER), 0o600, text.as_bytes(), Durability::Durable)
            .map_err(|error| Error::io("the store's marker can't be written", error).in_file(store))
    }

    /// A marker with a new random id.
    pub(crate) fn new() -> Self {
        Self { id: super::random::random_id(), layout: VERSION }
    }
}

/// Whether a directory without a marker holds nothing but what an interrupted creation of a store
/// leaves. Only then may a store be created in it.
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
    // A store whose marker is lost has images; a new one would count them as foreign.
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
