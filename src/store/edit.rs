//! Edits: what may change of an image, as one transaction, on condition that nobody else changed it.
//! And the two other things that happen to an image in its life: being used, being deleted.

use super::image::{ETag, StoredImage};
use super::open::{Store, missing};
use super::reconcile::note_sidecar;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::metadata::{Plain, Properties, plain_map};
use crate::time::parse_time;

/// A change to an image: only what is named changes.
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
    /// Changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether clients that have not authenticated may read it.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = Some(yes);
        self
    }

    /// Whether it follows its source.
    #[must_use]
    pub fn auto_update(mut self, yes: bool) -> Self {
        self.auto_update = Some(yes);
        self
    }

    /// When it may be removed, in seconds since 1970; `None` for never.
    #[must_use]
    pub fn expires_at(mut self, seconds: Option<i64>) -> Self {
        self.expires_at = Some(seconds);
        self
    }

    /// Sets one property.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL in either text.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (key, value) = (key.into(), value.into());
        Properties::new().set(&*key, &*value)?;
        self.properties.push((key, Some(value)));
        Ok(self)
    }

    /// Removes one property, if it is there.
    #[must_use]
    pub fn remove_property(mut self, key: impl Into<String>) -> Self {
        self.properties.push((key.into(), None));
        self
    }

    /// Replaces all properties, before single ones are set.
    #[must_use]
    pub fn properties(mut self, all: Properties) -> Self {
        self.replace = Some(all);
        self
    }

    /// Fails unless the image is still at this [`revision`](StoredImage::revision): stricter than an
    /// ETag, which does not cover the expiry date.
    #[must_use]
    pub fn based_on_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Reads an edit from YAML, with the keys of LXD's REST API: `auto_update`, `public`,
    /// `expires_at` and `properties`, which replaces all. Keys that are not there change nothing;
    /// those that can't change (`fingerprint`, `aliases`, `architecture` …) are ignored, as LXD does.
    ///
    /// # Errors
    /// `Malformed` for what is no YAML, `InvalidInput` for a value of the wrong kind or a key that
    /// no image has.
    pub fn from_yaml(text: &[u8], limits: &Limits) -> Result<Self> {
        let mut edit = Self::new();
        for (key, value) in plain_map(text, limits)? {
            edit = match (key.as_str(), value) {
                ("properties", Plain::Map(all)) => edit.properties(all),
                ("properties", Plain::Text(None)) => edit.properties(Properties::new()),
                (_, Plain::Text(Some(value))) => edit.field(&key, &value)?,
                _ if FIXED.contains(&key.as_str()) => edit,
                _ => return Err(Error::invalid(format!("`{key}` cannot be set to a list or a map"))),
            };
        }
        Ok(edit)
    }

    /// Sets one field by the name and in the form that LXD's REST API has for it.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none, or a value of the wrong kind.
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
            _ if FIXED.contains(&key) => self,
            _ => {
                return Err(Error::invalid(format!("`{key}` cannot be set"))
                    .with_hint("public, auto_update and expires_at can be set; properties with `set-property`"));
            }
        })
    }

    /// Changes what is known of an image.
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

/// What the REST object has and nobody can change.
const FIXED: &[&str] = &[
    "aliases",
    "architecture",
    "cached",
    "created_at",
    "filename",
    "fingerprint",
    "last_used_at",
    "profiles",
    "size",
    "type",
    "update_source",
    "uploaded_at",
];

/// A time of the REST API or as people write one ([`parse_time`]), or `never`.
fn moment(text: &str) -> Result<Option<i64>> {
    // "Never" of the peers is the beginning of 1970, or of our era where nobody set the field.
    if matches!(text, "" | "0" | "never" | "1970-01-01T00:00:00Z" | "0001-01-01T00:00:00Z") {
        return Ok(None);
    }
    let hint =
        "write a date (2030-01-31), a time (2030-01-31T12:00:00Z), a duration from now (30d, 2w, 1h30m), or never";
    // Nobody's image expires in the seventies: a small number is a year, or a duration without its unit.
    if text.len() < 9 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::invalid(format!("`{text}` is not a time")).with_hint(hint));
    }
    parse_time(text, jiff::Timestamp::now().as_second()).map(Some).map_err(|error| error.with_hint(hint))
}

impl Store {
    /// Changes an image, if it still is as `based_on` says.
    ///
    /// # Errors
    /// `NotFound`; `Mismatch` when somebody else changed it in between; `Busy`; `Io`. Nothing has
    /// changed then.
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

    /// Notes that something was made from the image now: a cached image stays a while longer.
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

    /// Removes an image and its aliases. Who has it open reads on. Works on a full disk.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Io`.
    pub fn delete(&self, fingerprint: &Fingerprint) -> Result<StoredImage> {
        self.remove(fingerprint, None)
    }

    /// As [`delete`](Self::delete), of an image that still is what `based_on` was read of.
    ///
    /// # Errors
    /// As there, and `Mismatch` when it was edited since; nothing is removed then.
    pub fn delete_unchanged(&self, fingerprint: &Fingerprint, based_on: &ETag) -> Result<StoredImage> {
        self.remove(fingerprint, Some(based_on))
    }

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

fn unchanged(image: &StoredImage, based_on: Option<&ETag>) -> Result<()> {
    let Some(expected) = based_on else { return Ok(()) };
    let found = image.etag();
    if *expected == found {
        return Ok(());
    }
    Err(changed(Error::mismatch("the image's ETag", expected.as_str(), found.as_str())))
}

fn changed(error: Error) -> Error {
    error.with_hint("somebody else changed the image in between: look at it again, then decide")
}
