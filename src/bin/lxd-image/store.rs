//! The local store, and how references on the command line select an image in it. Shared by all verbs of the store.
//!
//! Verbs that change something open the store for writing and create it if necessary ([`Session::store`]); verbs that
//! only look open it for reading where that is all this user may do ([`Session::store_to_read`]). A reference is an
//! alias, a fingerprint, or a prefix of one; `--vm` selects the virtual machine where both image types have the alias.

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::store::{ImageQuery, Store, StoreOptions, StoredImage};
pub(crate) use lxd_image::store::{size_text as size, time_text as time};
use lxd_image::{Error, ErrorKind, FingerprintPrefix, ImageType, Omitted, Result};
use serde_json::{Map, Value};

use crate::options::Session;

impl Session {
    /// The directory of the store: `--store` (or `LXD_IMAGE_STORE`), else `/var/lib/lxd-image` for root and the XDG
    /// data directory for other users.
    ///
    /// # Errors
    /// `InvalidInput` if neither `XDG_DATA_HOME` nor `HOME` is an absolute path.
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
            Error::new(ErrorKind::InvalidInput, "the directory of the store is unknown").with_hint("give --store DIR")
        })
    }

    /// Options for opening the store with the limits, threads and cancellation of this run.
    pub(crate) fn store_options(&self) -> StoreOptions {
        let options = StoreOptions::new().limits(self.limits.clone()).cancel(self.cancel());
        match self.threads {
            Some(threads) => options.threads(threads),
            None => options,
        }
    }

    /// Opens the store for changes; creates it if it is missing.
    ///
    /// # Errors
    /// `Busy`, `Io`; `Unsupported` for a newer layout or for a directory with other content.
    pub(crate) fn store(&self) -> Result<Store> {
        self.admitting_options()?.open(self.store_path()?)
    }

    /// [`store_options`](Self::store_options) with the policy of this run, for handles that make images visible.
    ///
    /// # Errors
    /// Those of [`policy`](Self::policy).
    pub(crate) fn admitting_options(&self) -> Result<StoreOptions> {
        let options = self.store_options();
        Ok(match self.policy()? {
            Some(policy) => options.policy(policy),
            None => options,
        })
    }

    /// Opens the store for reading, also where this user has no permission to write.
    pub(crate) fn store_to_read(&self) -> Result<Store> {
        open_to_read(&self.store_options(), &self.store_path()?)
    }

    /// All images of the store, read page by page.
    ///
    /// A catalog row that cannot be read does not hide the others: it is recorded as an omission.
    pub(crate) fn listed_images(&self) -> Result<Vec<StoredImage>> {
        let (monitor, _) = self.monitor();
        let mut images = Vec::new();
        let mut collect = |image| {
            images.push(image);
            Ok(())
        };
        self.store_to_read()?.for_each(&ImageQuery::new(), &mut collect, &mut |name, error| {
            let reason = format!("{}; `lxd-image check --repair` puts the catalog right", error.message());
            monitor.omit(name, Omitted::Skipped { reason: reason.into() });
        })?;
        Ok(images)
    }

    /// Like [`store_to_read`](Self::store_to_read), but never creates a store: `NotFound` if it is missing.
    pub(crate) fn existing_store_to_read(&self) -> Result<Store> {
        open_to_read(&self.store_options().create(false), &self.store_path()?)
    }
}

/// Opens for writing if possible, since that also finishes interrupted work; otherwise for reading.
fn open_to_read(options: &StoreOptions, path: &Path) -> Result<Store> {
    match options.open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::StorageFull) => {
            options.clone().read_only(true).open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

/// Removes `local:` from a reference to an image of the local store.
///
/// # Errors
/// `Unsupported` for a remote, with a hint to `copy`.
pub(crate) fn local(reference: &str) -> Result<&str> {
    match reference.split_once(':') {
        None => Ok(reference),
        Some(("local", name)) => Ok(name),
        Some((remote, _)) => Err(no_remotes(remote)),
    }
}

/// The error for a remote where a verb works on the local store only.
pub(crate) fn no_remotes(what: &str) -> Error {
    let sentence = format!("`{what}` is a remote, and this works on the local store only");
    Error::new(ErrorKind::Unsupported, sentence).with_hint("`lxd-image copy` brings images here and to servers")
}

/// TypeArgument image is meant where a container's and a virtual machine's share a name.
#[derive(Args, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TypeArgument {
    /// The image for virtual machines, not the one for containers
    #[arg(long)]
    pub(crate) vm: bool,
}

impl TypeArgument {
    /// The image type to prefer: containers unless `--vm` is given.
    pub(crate) fn image_type(self) -> ImageType {
        if self.vm { ImageType::VirtualMachine } else { ImageType::Container }
    }

    /// The image type if `--vm` is given; `None` means any, containers preferred.
    pub(crate) fn requested(self) -> Option<ImageType> {
        self.vm.then_some(ImageType::VirtualMachine)
    }

    /// The image of the store that a name means.
    ///
    /// # Errors
    /// Those of resolving; `NotFound` where only a container has the name and a virtual machine was said.
    pub(crate) fn find(self, store: &Store, reference: &str) -> Result<StoredImage> {
        let image = store.resolve_preferring(reference, self.image_type())?;
        if self.vm && image.image_type != ImageType::VirtualMachine {
            let by_digits =
                reference.parse::<FingerprintPrefix>().is_ok_and(|prefix| prefix.matches(&image.fingerprint));
            let what = if by_digits { "the image" } else { "the alias" };
            let sentence =
                format!("{what} `{reference}` is one for containers, and none for virtual machines is called so");
            return Err(Error::new(ErrorKind::NotFound, sentence).with_hint("leave `--vm` out"));
        }
        Ok(image)
    }
}

/// The image of the store that a command line reference names.
///
/// # Errors
/// Those of [`local`] and [`TypeArgument::find`].
pub(crate) fn resolve(store: &Store, reference: &str, which: TypeArgument) -> Result<StoredImage> {
    which.find(store, local(reference)?)
}

/// An image as the object of the REST API.
pub(crate) fn object(image: &StoredImage) -> Map<String, Value> {
    match serde_json::to_value(image) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// An error and its hint as the message of wrong usage.
fn usage(error: &Error) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}: {hint}"))
}

/// Parses a point in time as people write it (a date, an RFC 3339 time, `30d`), in seconds since 1970. For clap.
pub(crate) fn moment(text: &str) -> std::result::Result<i64, String> {
    lxd_image::parse_time(text, jiff::Timestamp::now().as_second()).map_err(|error| usage(&error))
}

/// Parses a duration such as `10d` or `1h30m`. For clap.
pub(crate) fn duration(text: &str) -> std::result::Result<std::time::Duration, String> {
    lxd_image::parse_duration(text).map_err(|error| usage(&error))
}

/// One name for an image: its shortest alias, or a prefix of its fingerprint.
pub(crate) fn name_of(image: &StoredImage) -> String {
    image.shortest_alias().map_or_else(|| image.fingerprint.short(), |alias| alias.name.clone())
}

/// `1 image`, `2 images`.
pub(crate) fn images(count: u64) -> String {
    counted(count, "image")
}

/// A number with its noun, in the plural by `s`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Parses `KEY=VALUE` at the first `=`; the value may be empty and may have more of them. For clap.
pub(crate) fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Whether text that names a file is a URL.
pub(crate) fn is_url(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with("https://") || text.starts_with("http://"))
}
