//! Editing an image in one transaction, on condition that it was not changed meanwhile. And the two
//! other events in its life: being used, and being deleted.

use super::image::{ETag, StoredImage};
use super::open::{Store, missing};
use super::reconcile::note_sidecar;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::metadata::{FlatValue, Properties, parse_flat_map};
use crate::time::parse_time;

/// A change to the row of an image. Only fields that are set change.
///
/// ```
/// use lxd_image::store::Edit;
///
/// let edit = Edit::new().public(true).property("os", "Debian")?.remove_property("serial");
/// # let _ = edit;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Edit {
    public: Option<bool>,
    auto_update: Option<bool>,
    expires_at: Option<Option<i64>>,
    replace: Option<Properties>,
    properties: Vec<(String, Option<String>)>,
    revision: Option<u64>,
}

impl Edit {
    /// An edit that changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether anonymous clients of a server may read the image.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = Some(yes);
        self
    }

    /// Sets whether a refresh replaces it.
    #[must_use]
    pub fn auto_update(mut self, yes: bool) -> Self {
        self.auto_update = Some(yes);
        self
    }

    /// Sets when it expires, in seconds since 1970; `None` for never.
    #[must_use]
    pub fn expires_at(mut self, seconds: Option<i64>) -> Self {
        self.expires_at = Some(seconds);
        self
    }

    /// Sets one property.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL byte in either string.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (key, value) = (key.into(), value.into());
        Properties::new().set(&*key, &*value)?;
        self.properties.push((key, Some(value)));
        Ok(self)
    }

    /// Removes one property, if it exists.
    #[must_use]
    pub fn remove_property(mut self, key: impl Into<String>) -> Self {
        self.properties.push((key.into(), None));
        self
    }

    /// Replaces all properties. Single properties of the same edit are set after that.
    #[must_use]
    pub fn properties(mut self, all: Properties) -> Self {
        self.replace = Some(all);
        self
    }

    /// Makes the edit fail with `Mismatch` unless the image is still at this
    /// [`revision`](StoredImage::revision). Stricter than an ETag, which does not cover the expiry
    /// date and the aliases.
    #[must_use]
    pub fn based_on_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Parses an edit from YAML with the keys of LXD's REST API: `auto_update`, `public`,
    /// `expires_at`, and `properties`, which replaces all.
    ///
    /// Keys that are missing change nothing. Keys that cannot be changed (`fingerprint`, `aliases`,
    /// `architecture` …) are ignored, as in LXD.
    ///
    /// # Errors
    /// `Malformed` for text that is not YAML; `InvalidInput` for a value of the wrong type or an unknown key.
    pub fn from_yaml(text: &[u8], limits: &Limits) -> Result<Self> {
        let mut edit = Self::new();
        for (key, value) in parse_flat_map(text, limits)? {
            edit = match (key.as_str(), value) {
                ("properties", FlatValue::Map(all)) => edit.properties(all),
                ("properties", FlatValue::Text(None)) => edit.properties(Properties::new()),
                (_, FlatValue::Text(Some(value))) => edit.field(&key, &value)?,
                _ if is_fixed(&key) => edit,
                _ => return Err(Error::invalid(format!("`{key}` cannot be set to a list or a map"))),
            };
        }
        Ok(edit)
    }

    /// Sets one field by its name and in its format in LXD's REST API.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown name, or a value of the wrong type.
    pub fn field(self, key: &str, value: &str) -> Result<Self> {
        let boolean = || match value {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(Error::invalid(format!("`{key}` is true or false, not `{value}`"))),
        };
        Ok(match key {
            "public" => self.public(boolean()?),
            "auto_update" => self.auto_update(boolean()?),
            "expires_at" => self.expires_at(moment(value)?),
            _ if is_fixed(key) => self,
            _ => {
                return Err(Error::invalid(format!("`{key}` cannot be set"))
                    .with_hint("public, auto_update and expires_at can be set; properties with `set-property`"));
            }
        })
    }

    /// Applies the edit to a row.
    pub(crate) fn apply(&self, image: &mut StoredImage) -> Result<()> {
        image.public = self.public.unwrap_or(image.public);
        image.auto_update = self.auto_update.unwrap_or(image.auto_update);
        image.expires_at = self.expires_at.unwrap_or(image.expires_at);
        if let Some(all) = &self.replace {
            image.properties = all.clone();
        }
        for (key, value) in &self.properties {
            match value {
                Some(value) => image.properties.set(&**key, &**value)?,
                None => drop(image.properties.remove(key)),
            }
        }
        Ok(())
    }
}

/// The fields of the REST object that no server lets a client change.
pub(crate) const SET_BY_SERVER: [&str; 11] = [
    "aliases",
    "architecture",
    "cached",
    "created_at",
    "filename",
    "fingerprint",
    "last_used_at",
    "size",
    "type",
    "update_source",
    "uploaded_at",
];

/// Whether a field of the REST object cannot be changed here: a store has no profiles.
fn is_fixed(key: &str) -> bool {
    key == "profiles" || SET_BY_SERVER.contains(&key)
}

/// Parses an expiry date: a time of the REST API, anything that [`parse_time`] accepts, or `never` (`None`).
fn moment(text: &str) -> Result<Option<i64>> {
    // LXD and Incus write 1970 for "never", and Go's zero time (the year 1) for a field that was not set.
    if matches!(text, "" | "0" | "never" | "1970-01-01T00:00:00Z" | "0001-01-01T00:00:00Z") {
        return Ok(None);
    }
    let hint =
        "write a date (2030-01-31), a time (2030-01-31T12:00:00Z), a duration from now (30d, 2w, 1h30m), or never";
    // No image expires in the 1970s: a small number is a year, or a duration without its unit.
    if text.len() < 9 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::invalid(format!("`{text}` is not a time")).with_hint(hint));
    }
    parse_time(text, jiff::Timestamp::now().as_second()).map(Some).map_err(|error| error.with_hint(hint))
}

impl Store {
    /// Changes an image. With `based_on`, only if its ETag is still the same.
    ///
    /// ```no_run
    /// use lxd_image::store::{Edit, Store};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = Store::open("/var/lib/lxd-image")?;
    /// let image = store.resolve("debian/12")?;
    /// // Fails if somebody else has edited the image since it was read.
    /// let edit = Edit::new().public(true).property("tested", "yes")?;
    /// let edited = store.edit(&image.fingerprint, &edit, Some(&image.etag()))?;
    /// assert!(edited.public);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound`; `Mismatch` if it was changed meanwhile; `Busy`; `Io`. Nothing changes then.
    pub fn edit(&self, fingerprint: &Fingerprint, edit: &Edit, based_on: Option<&ETag>) -> Result<StoredImage> {
        let mut edited = None;
        self.change(&mut |catalog| {
            let before = catalog.image(fingerprint)?.ok_or_else(|| missing(fingerprint))?;
            unchanged(&before, based_on)?;
            if let Some(expected) = edit.revision.filter(|expected| *expected != before.revision) {
                let found = before.revision.to_string();
                return Err(changed(Error::mismatch("the image's revision", expected.to_string(), found)));
            }
            let mut image = before.clone();
            edit.apply(&mut image)?;
            if image != before {
                image.revision = image.revision.saturating_add(1);
                catalog.update(&image, before.revision)?;
                note_sidecar(catalog, &image)?;
            }
            edited = Some(image);
            Ok(())
        })?;
        edited.ok_or_else(|| missing(fingerprint))
    }

    /// Records that the image was used now, which delays the pruning of a cached image. Does not change its revision.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Io`.
    pub fn mark_used(&self, fingerprint: &Fingerprint) -> Result<StoredImage> {
        let now = self.now();
        let mut used = None;
        self.catalog.write(&mut |catalog| {
            catalog.set_last_used(fingerprint, now)?;
            used = catalog.image(fingerprint)?;
            Ok(())
        })?;
        used.ok_or_else(|| missing(fingerprint))
    }

    /// Deletes an image and its aliases. Readers that have it open can read to the end. Works on a full disk.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Io`.
    pub fn delete(&self, fingerprint: &Fingerprint) -> Result<StoredImage> {
        self.remove(fingerprint, None)
    }

    /// As [`delete`](Self::delete), but only if the ETag of the image is still `based_on`.
    ///
    /// # Errors
    /// As [`delete`](Self::delete), and `Mismatch` if it was changed meanwhile.
    pub fn delete_unchanged(&self, fingerprint: &Fingerprint, based_on: &ETag) -> Result<StoredImage> {
        self.remove(fingerprint, Some(based_on))
    }

    /// The transaction of both ways to delete.
    fn remove(&self, fingerprint: &Fingerprint, based_on: Option<&ETag>) -> Result<StoredImage> {
        self.blobs.check_identity()?;
        let mut removed = None;
        self.change(&mut |catalog| {
            let image = catalog.image(fingerprint)?.ok_or_else(|| missing(fingerprint))?;
            unchanged(&image, based_on)?;
            self.remove_image(catalog, &image)?;
            removed = Some(image);
            Ok(())
        })?;
        removed.ok_or_else(|| missing(fingerprint))
    }
}

/// Fails with `Mismatch` unless the image has the ETag `based_on`.
fn unchanged(image: &StoredImage, based_on: Option<&ETag>) -> Result<()> {
    let Some(expected) = based_on else { return Ok(()) };
    let found = image.etag();
    if *expected == found {
        return Ok(());
    }
    Err(changed(Error::mismatch("the image's ETag", expected.as_str(), found.as_str())))
}

/// Adds what to do about a conflict.
fn changed(error: Error) -> Error {
    error.with_hint("the image was changed in between: read it again, then decide")
}
