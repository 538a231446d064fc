//! `Metadata`: the whole of `metadata.yaml` as values, to look at, to change and to write.
//! What a program must not get wrong (a missing architecture, a date of 0) can't be expressed.

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
/// comments and the manner of quoting do not. Keep the original bytes where nothing was changed:
/// an image's fingerprint covers them.
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
#[derive(Debug, Clone)]
pub struct Metadata {
    pub(super) architecture: String,
    pub(super) creation_date: i64,
    pub(super) expiry_date: Option<i64>,
    pub(super) properties: Properties,
    pub(super) templates: Vec<(String, TemplateRule)>,
    pub(super) fields: Vec<MetadataField>,
}

/// The keys at the top, in the order in which they are written.
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
    pub(super) const KNOWN: &[Self] =
        &[Self::Architecture, Self::CreationDate, Self::ExpiryDate, Self::Properties, Self::Templates];
}

impl Metadata {
    /// Describes a new image. `creation_date` is in seconds since 1970.
    ///
    /// # Errors
    /// `InvalidInput` for an empty architecture or one with a NUL, and for the date 0, which
    /// stands for a missing one.
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

    /// Reads a `metadata.yaml`. A second document in it is ignored, as LXD does.
    ///
    /// # Errors
    /// `LimitExceeded` when the file is larger, deeper or richer in values or aliases than
    /// `limits` allows; `Malformed`, with line, column and key, when it is no YAML or not what
    /// `metadata.yaml` must be.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        read::metadata(&*yaml::parse(bytes, limits)?)
    }

    /// Writes the file anew: the same values always give the same bytes.
    ///
    /// Strings that some YAML reader takes for a number, a date or a boolean are quoted.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        write::metadata(self)
    }

    /// The architecture as the file has it, never empty. It may be an alias or an unknown name.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The architecture, if its name is one that LXD and Incus know.
    #[must_use]
    pub fn known_architecture(&self) -> Option<Architecture> {
        self.architecture.parse().ok()
    }

    /// Names another architecture.
    ///
    /// # Errors
    /// `InvalidInput` for an empty name, or one with a NUL.
    pub fn set_architecture(&mut self, architecture: impl Into<String>) -> Result<()> {
        let architecture = without_nul(architecture, "an architecture")?;
        if architecture.is_empty() {
            return Err(Error::invalid("an image needs an architecture"));
        }
        self.architecture = architecture;
        Ok(())
    }

    /// When the image was made, in seconds since 1970; negative before, never 0.
    #[must_use]
    pub fn creation_date(&self) -> i64 {
        self.creation_date
    }

    /// Changes when the image was made, in seconds since 1970.
    ///
    /// # Errors
    /// `InvalidInput` for 0, which stands for a missing date.
    pub fn set_creation_date(&mut self, creation_date: i64) -> Result<()> {
        if creation_date == 0 {
            return Err(Error::invalid("the creation date can't be 0: LXD and Incus take it for a missing one"));
        }
        self.creation_date = creation_date;
        Ok(())
    }

    /// When the image may be removed, in seconds since 1970; `None` for never.
    #[must_use]
    pub fn expiry_date(&self) -> Option<i64> {
        self.expiry_date
    }

    /// Changes when the image may be removed, in seconds since 1970. 0 is never, as in the file.
    pub fn set_expiry_date(&mut self, expiry_date: Option<i64>) {
        self.expiry_date = expiry_date.filter(|date| *date != 0);
    }

    /// The image's properties, in the order of the file.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The properties, to change them.
    pub fn properties_mut(&mut self) -> &mut Properties {
        &mut self.properties
    }

    /// What the image asks of an instance: the properties `requirements.*`, without that prefix.
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

    /// Paths in the instance and the rules for them, in the order of the file. The paths are as
    /// they stand there, and may try to climb.
    pub fn templates(&self) -> impl ExactSizeIterator<Item = (&str, &TemplateRule)> + Clone {
        self.templates.iter().map(|(path, rule)| (path.as_str(), rule))
    }

    /// The rule for one path, spelled as in the file.
    #[must_use]
    pub fn template(&self, path: &str) -> Option<&TemplateRule> {
        self.templates.iter().find(|(known, _)| known == path).map(|(_, rule)| rule)
    }

    /// Sets the rule for `path` at its present position, or appends it at the end.
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

    /// Takes the rule for `path` out and returns it.
    pub fn remove_template(&mut self, path: &str) -> Option<TemplateRule> {
        let index = self.templates.iter().position(|(known, _)| known == path)?;
        Some(self.templates.remove(index).1)
    }

    /// The keys that have something to write, in order.
    pub(super) fn written(&self) -> impl Iterator<Item = &MetadataField> {
        self.fields.iter().filter(|field| match field {
            MetadataField::Architecture | MetadataField::CreationDate | MetadataField::Other(_) => true,
            MetadataField::ExpiryDate => self.expiry_date.is_some(),
            MetadataField::Properties => !self.properties.is_empty(),
            MetadataField::Templates => !self.templates.is_empty(),
        })
    }
}

/// Equal are those that say the same, in the same order; a key without a value says nothing.
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
