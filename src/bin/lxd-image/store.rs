//! The store that a verb works on, and what references mean on the command line.
//! Shared by all verbs of the store.

use std::path::{Path, PathBuf};

use lxd_image::store::{Store, StoreOptions, StoredImage};
use lxd_image::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::options::Session;

impl Session {
    /// The directory of the store: `--store`, else the system's for root and the user's own for others.
    pub(crate) fn store_path(&self) -> Result<PathBuf> {
        if let Some(path) = &self.store {
            return Ok(path.clone());
        }
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/var/lib/lxd-image"));
        }
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
        data.map(|data| data.join("lxd-image")).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "it is not known where the store is").with_hint("give --store DIR")
        })
    }

    pub(crate) fn store_options(&self) -> StoreOptions {
        let options = StoreOptions::new().limits(self.limits.clone());
        match self.threads {
            Some(threads) => options.threads(threads),
            None => options,
        }
    }

    /// Opens the store to change it, or makes it.
    pub(crate) fn store(&self) -> Result<Store> {
        self.store_options().open(self.store_path()?)
    }

    /// Opens the store to look at it: also where this user may only read.
    pub(crate) fn store_to_read(&self) -> Result<Store> {
        open_to_read(&self.store_options(), &self.store_path()?)
    }

    /// As [`store_to_read`](Self::store_to_read), of a store that must be there.
    pub(crate) fn existing_store_to_read(&self) -> Result<Store> {
        open_to_read(&self.store_options().create(false), &self.store_path()?)
    }
}

fn open_to_read(options: &StoreOptions, path: &Path) -> Result<Store> {
    match options.open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::StorageFull) => options.clone().read_only(true).open(path).map_err(|_| error),
        opened => opened,
    }
}

/// A reference to an image of the local store: `local:` may stand before it.
pub(crate) fn local(reference: &str) -> Result<&str> {
    match reference.split_once(':') {
        None => Ok(reference),
        Some(("local", name)) => Ok(name),
        Some((remote, _)) => Err(no_remotes(remote)),
    }
}

pub(crate) fn no_remotes(what: &str) -> Error {
    let sentence = format!("`{what}` is not here, and this verb works on the local store and on files only");
    Error::new(ErrorKind::Unsupported, sentence).with_hint("`lxd-image copy` brings images here and to servers")
}

/// The image that a reference on the command line names.
pub(crate) fn resolve(store: &Store, reference: &str) -> Result<StoredImage> {
    store.resolve(local(reference)?)
}

/// An image as the object of the REST API.
pub(crate) fn object(image: &StoredImage) -> Map<String, Value> {
    match serde_json::to_value(image) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A size as `lxc` shows it: 1024-based, two digits behind the point.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = Some(next);
    }
    format!("{value:.2}{}", unit.unwrap_or(&"KiB"))
}

/// A time for people, in UTC, to the minute; `otherwise` when there is none.
pub(crate) fn time(seconds: Option<i64>, otherwise: &str) -> String {
    match seconds.map(jiff::Timestamp::from_second) {
        None => otherwise.to_owned(),
        Some(Ok(time)) => time.strftime("%Y/%m/%d %H:%M UTC").to_string(),
        Some(Err(_)) => seconds.unwrap_or_default().to_string(),
    }
}

/// A pair written `key=value`.
pub(crate) fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Whether text that names a file is a URL.
pub(crate) fn is_url(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with("https://") || text.starts_with("http://"))
}
