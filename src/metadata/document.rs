//! [`Metadata`]: all of `metadata.yaml` as values, to inspect, to change and to write.
//!
//! The type excludes what LXD would reject: a missing architecture and a creation date of 0 cannot
//! be expressed. What LXD tolerates (an unknown architecture, a rule that never fires) is kept.

use super::architecture::Architecture;
use super::properties::{Properties, without_nul};
use super::rule::TemplateRule;
use super::yaml::{self, MappingEntry};
use super::{read, write};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The description of an image: its `metadata.yaml`.
///
/// Keys that this library does not know, and the order of keys, survive reading and writing;
/// comments and the style of quoting do not. Keep the original bytes where nothing was changed: an
/// image's fingerprint covers them.
///
/// ```
/// use lxd_image::{Limits, Metadata};
///
/// let yaml = b"architecture: amd64\ncreation_date: 1700000000\nproperties: {release: 12.10}\n";
/// let mut metadata = Metadata::parse(yaml, &Limits::default())?;
/// assert_eq!(metadata.properties().get("release"), Some("12.10"));
///
/// metadata.properties_mut().set("os", "Debian")?;
/// assert_eq!(
///     metadata.to_yaml(),
///     "architecture: amd64\ncreation_date: 1700000000\nproperties:\n  release: \"12.10\"\n  os: Debian\n"
/// );
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// Serde writes the known keys only, as `--format json` prints them; it does not read them.
#[derive(Debug, Clone)]
pub struct Metadata {
    pub(super) architecture: String,
    pub(super) creation_date: i64,
    /// Never `Some(0)`: 0 in the file means that the image does not expire.
    pub(super) expiry_date: Option<i64>,
    pub(super) properties: Properties,
    /// In the order of the file; paths differ. Rules are applied in this order.
    pub(super) templates: Vec<(String, TemplateRule)>,
    /// Holds each known key exactly once, present in the file or not, and the unknown ones.
    pub(super) fields: Vec<MetadataField>,
}

/// A top-level key. The list of them keeps the order in which keys are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MetadataField {
    Architecture,
    CreationDate,
    ExpiryDate,
    Properties,
    Templates,
    Other(MappingEntry),
}

impl MetadataField {
    /// The known keys in the usual order, for new files and for keys that a file did not have.
    pub(super) const KNOWN: &[Self] =
        &[Self::Architecture, Self::CreationDate, Self::ExpiryDate, Self::Properties, Self::Templates];
}

impl Metadata {
    /// Describes a new image. `creation_date` is in seconds since 1970-01-01 UTC.
    ///
    /// ```
    /// use lxd_image::{Metadata, TemplateRule};
    ///
    /// let mut metadata = Metadata::new("x86_64", 1_700_000_000)?;
    /// metadata.set_expiry_date(Some(1_900_000_000));
    /// metadata.set_template("/etc/hostname", TemplateRule::new("hostname.tpl", ["create", "copy"])?)?;
    /// assert!(metadata.template("/etc/hostname").is_some_and(|rule| rule.fires_on("copy")));
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if the architecture is empty or contains a NUL, or the date is 0, which LXD
    /// and Incus read as missing.
    pub fn new(architecture: impl Into<String>, creation_date: i64) -> Result<Self> {
        let mut metadata = Self {
            architecture: String::new(),
            creation_date: 0,
            expiry_date: None,
            properties: Properties::new(),
            templates: Vec::new(),
            fields: MetadataField::KNOWN.to_vec(),
        };
        metadata.set_architecture(architecture)?;
        metadata.set_creation_date(creation_date)?;
        Ok(metadata)
    }

    /// Reads a `metadata.yaml`. Only the first YAML document counts; LXD ignores further ones, too.
    ///
    /// # Errors
    /// `LimitExceeded` if the file is larger, deeper or has more values or aliases than `limits`
    /// allows; `Malformed`, with line, column and key, if it is not YAML or not what
    /// `metadata.yaml` must be.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        read::metadata(&*yaml::parse(bytes, limits)?)
    }

    /// Writes the file. Equal values always give equal bytes, so that packing is reproducible.
    ///
    /// Texts that some YAML reader takes for a number, a date or a boolean are quoted.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        write::metadata(self)
    }

    /// The architecture as the file has it, never empty. It may be an alias (`amd64`) or an unknown
    /// name.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The architecture, if LXD and Incus know its name; else `None`.
    #[must_use]
    pub fn known_architecture(&self) -> Option<Architecture> {
        self.architecture.parse().ok()
    }

    /// Changes the architecture. Any name is accepted; use the kernel's (`x86_64`) for new images.
    ///
    /// # Errors
    /// `InvalidInput` if the name is empty or contains a NUL.
    pub fn set_architecture(&mut self, architecture: impl Into<String>) -> Result<()> {
        let architecture = without_nul(architecture, "an architecture")?;
        if architecture.is_empty() {
            return Err(Error::invalid("an image needs an architecture"));
        }
        self.architecture = architecture;
        Ok(())
    }

    /// When the image was made, in seconds since 1970-01-01 UTC. May be negative, is never 0.
    #[must_use]
    pub fn creation_date(&self) -> i64 {
        self.creation_date
    }

    /// Changes when the image was made, in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// `InvalidInput` for 0, which LXD and Incus read as a missing date.
    pub fn set_creation_date(&mut self, creation_date: i64) -> Result<()> {
        if creation_date == 0 {
            return Err(Error::invalid("the creation date can't be 0: LXD and Incus take it for a missing one"));
        }
        self.creation_date = creation_date;
        Ok(())
    }

    /// When the image expires and may be removed, in seconds since 1970-01-01 UTC; `None` for
    /// never.
    #[must_use]
    pub fn expiry_date(&self) -> Option<i64> {
        self.expiry_date
    }

    /// Changes when the image expires. `Some(0)` means never, as 0 does in the file.
    pub fn set_expiry_date(&mut self, expiry_date: Option<i64>) {
        self.expiry_date = expiry_date.filter(|date| *date != 0);
    }

    /// The image's properties, in the order of the file.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The image's properties, for changing them.
    pub fn properties_mut(&mut self) -> &mut Properties {
        &mut self.properties
    }

    /// The demands on an instance of this image: the properties `requirements.*`, without that
    /// prefix.
    ///
    /// LXD refuses to start an instance that does not meet them (`requirements.secureboot`,
    /// `requirements.cgroup`).
    ///
    /// ```
    /// # let mut metadata = lxd_image::Metadata::new("amd64", 1)?;
    /// metadata.properties_mut().set("requirements.secureboot", "false")?;
    /// assert_eq!(metadata.requirements().collect::<Vec<_>>(), [("secureboot", "false")]);
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    pub fn requirements(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().filter_map(|(key, value)| Some((key.strip_prefix("requirements.")?, value)))
    }

    /// The template rules by the path that each writes, in the order of the file.
    ///
    /// The paths are as the file has them and may contain `..`;
    /// [`templates::apply`](crate::templates::apply()) checks them.
    pub fn templates(&self) -> impl ExactSizeIterator<Item = (&str, &TemplateRule)> + Clone {
        self.templates.iter().map(|(path, rule)| (path.as_str(), rule))
    }

    /// The rule for one path, spelled as in the file; `None` if there is no rule for it.
    #[must_use]
    pub fn template(&self, path: &str) -> Option<&TemplateRule> {
        self.templates.iter().find(|(known, _)| known == path).map(|(_, rule)| rule)
    }

    /// Replaces the rule for `path` at its present position, or appends it.
    ///
    /// # Errors
    /// `InvalidInput` unless the path is absolute and without a NUL.
    pub fn set_template(&mut self, path: impl Into<String>, rule: TemplateRule) -> Result<()> {
        let path = without_nul(path, "a path")?;
        if !path.starts_with('/') {
            return Err(Error::invalid(format!("the path of a template rule is absolute, `{path}` is not")));
        }
        match self.templates.iter_mut().find(|(known, _)| *known == path) {
            Some(pair) => pair.1 = rule,
            None => self.templates.push((path, rule)),
        }
        Ok(())
    }

    /// Removes and returns the rule for `path`.
    pub fn remove_template(&mut self, path: &str) -> Option<TemplateRule> {
        let index = self.templates.iter().position(|(known, _)| known == path)?;
        Some(self.templates.remove(index).1)
    }

    /// The keys that have a value to write, in order. Equality compares these: an empty map equals
    /// a missing one.
    pub(super) fn written(&self) -> impl Iterator<Item = &MetadataField> {
        self.fields.iter().filter(|field| match field {
            MetadataField::Architecture | MetadataField::CreationDate | MetadataField::Other(_) => true,
            MetadataField::ExpiryDate => self.expiry_date.is_some(),
            MetadataField::Properties => !self.properties.is_empty(),
            MetadataField::Templates => !self.templates.is_empty(),
        })
    }
}

/// Two descriptions are equal if they have the same values in the same order. A key without a value
/// counts as missing.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.architecture == other.architecture
            && (self.creation_date, self.expiry_date) == (other.creation_date, other.expiry_date)
            && self.properties == other.properties
            && self.templates == other.templates
            && self.written().eq(other.written())
    }
}

impl Eq for Metadata {}
