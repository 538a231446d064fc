//! `TemplateRule`: when a file of an instance is written from a template, and how.
//! Names and paths are kept as they stand; whether they are safe is asked where files are written.

use super::properties::{Properties, without_nul};
use super::yaml::MappingEntry;
use crate::error::{Error, Result};

/// One entry of `templates`: which template writes a file, and at which events.
///
/// ```
/// use lxd_image::TemplateRule;
///
/// let rule = TemplateRule::new("hostname.tpl", ["create", "copy"])?.with_create_only(true);
/// assert!(rule.fires_on("copy"));
/// assert!(!rule.fires_on("start"));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TemplateRule {
    pub(super) template: String,
    pub(super) when: Vec<String>,
    pub(super) create_only: Option<bool>,
    pub(super) properties: Properties,
    pub(super) uid: Option<String>,
    pub(super) gid: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) fields: Vec<RuleField>,
}

/// The keys of a rule, in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RuleField {
    Template,
    When,
    CreateOnly,
    Properties,
    Uid,
    Gid,
    Mode,
    Other(MappingEntry),
}

impl RuleField {
    pub(super) const KNOWN: &[Self] =
        &[Self::Template, Self::When, Self::CreateOnly, Self::Properties, Self::Uid, Self::Gid, Self::Mode];
}

/// The events that exist.
const EVENTS: [&str; 4] = ["create", "copy", "rename", "start"];

impl TemplateRule {
    /// A rule that writes `template`, a file below the image's `templates/`, at the events `when`:
    /// `create`, `copy`, `rename` and `start` are the ones that exist.
    ///
    /// # Errors
    /// `InvalidInput` for an empty name, and for a NUL in any text.
    pub fn new<T: Into<String>>(template: impl Into<String>, when: impl IntoIterator<Item = T>) -> Result<Self> {
        let template = without_nul(template, "a template's name")?;
        if template.is_empty() {
            return Err(Error::invalid("a template rule needs the name of a template"));
        }
        Ok(Self {
            template,
            when: when.into_iter().map(|event| without_nul(event, "an event's name")).collect::<Result<_>>()?,
            create_only: None,
            properties: Properties::new(),
            uid: None,
            gid: None,
            mode: None,
            fields: RuleField::KNOWN.to_vec(),
        })
    }

    /// Whether a file that exists already is left alone.
    #[must_use]
    pub fn with_create_only(mut self, create_only: bool) -> Self {
        self.create_only = Some(create_only);
        self
    }

    /// Adds a property, or replaces it.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL in either text.
    pub fn with_property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.properties.set(key, value)?;
        Ok(self)
    }

    /// Sets the owner of a new file, as numbers inside the instance. Only Incus reads it.
    #[must_use]
    pub fn with_owner(mut self, uid: u32, gid: u32) -> Self {
        self.uid = Some(uid.to_string());
        self.gid = Some(gid.to_string());
        self
    }

    /// Sets the permission bits of a new file, such as `0o600`. Only Incus reads it.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        // Four digits with a leading zero: octal to Incus, whatever the first digit.
        self.mode = Some(format!("{:04o}", mode & 0o777));
        self
    }

    /// The name of the template as it stands in the file. It may try to climb out of `templates/`.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The events, in order, with those that nobody knows.
    pub fn when(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.when.iter().map(String::as_str)
    }

    /// Whether no event that exists is among those that the rule names, so that it has no effect.
    #[must_use]
    pub fn never_fires(&self) -> bool {
        !EVENTS.iter().any(|event| self.fires_on(event))
    }

    /// Whether `event` is one of those that the rule names.
    #[must_use]
    pub fn fires_on(&self, event: &str) -> bool {
        self.when.iter().any(|named| named == event)
    }

    /// Whether a file that exists already is left alone.
    #[must_use]
    pub fn create_only(&self) -> bool {
        self.create_only.unwrap_or(false)
    }

    /// What the template is given as `properties`.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The properties, to change them.
    pub fn properties_mut(&mut self) -> &mut Properties {
        &mut self.properties
    }

    /// The owner's number inside the instance, as text. Incus only.
    #[must_use]
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// The group's number inside the instance, as text. Incus only.
    #[must_use]
    pub fn gid(&self) -> Option<&str> {
        self.gid.as_deref()
    }

    /// The permission bits, as text in one of Incus' several notations. Incus only.
    #[must_use]
    pub fn mode(&self) -> Option<&str> {
        self.mode.as_deref()
    }

    /// The keys that have something to write, in order.
    pub(super) fn written(&self) -> impl Iterator<Item = &RuleField> {
        self.fields.iter().filter(|field| match field {
            RuleField::Template | RuleField::When | RuleField::Other(_) => true,
            RuleField::CreateOnly => self.create_only.is_some(),
            RuleField::Properties => !self.properties.is_empty(),
            RuleField::Uid => self.uid.is_some(),
            RuleField::Gid => self.gid.is_some(),
            RuleField::Mode => self.mode.is_some(),
        })
    }
}

impl PartialEq for TemplateRule {
    fn eq(&self, other: &Self) -> bool {
        self.template == other.template
            && self.when == other.when
            && self.create_only == other.create_only
            && self.properties == other.properties
            && (&self.uid, &self.gid, &self.mode) == (&other.uid, &other.gid, &other.mode)
            && self.written().eq(other.written())
    }
}

impl Eq for TemplateRule {}
