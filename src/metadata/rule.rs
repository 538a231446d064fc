//! [`TemplateRule`]: which template writes a file of an instance, and at which events.
//!
//! Names and paths are kept as they are written, even if they are unsafe: an image with a bad rule
//! can still be inspected, copied and repaired. [`templates::apply`](crate::templates::apply())
//! refuses them before it opens a file.

use super::properties::{Properties, without_nul};
use super::yaml::MappingEntry;
use crate::error::{Error, Result};

/// An entry of `templates` in `metadata.yaml`: which template writes a file, and at which events.
///
/// ```
/// use lxd_image::TemplateRule;
///
/// let rule = TemplateRule::new("hostname.tpl", ["create", "copy"])?
///     .with_create_only(true)
///     .with_property("default", "none")?
///     .with_mode(0o600);
/// assert!(rule.fires_on("copy"));
/// assert!(!rule.fires_on("start"));
/// assert_eq!(rule.mode(), Some("0600"));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TemplateRule {
    pub(super) template: String,
    pub(super) when: Vec<String>,
    /// `None` if the file does not say, which is kept apart from `false` for writing only.
    pub(super) create_only: Option<bool>,
    pub(super) properties: Properties,
    /// `uid`, `gid` and `mode` stay texts: what they mean is Incus's business, and a bad one is an
    /// error only when the rule is applied.
    pub(super) uid: Option<String>,
    pub(super) gid: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) fields: Vec<RuleField>,
}

/// A key of a rule. The list of them keeps the order in which keys are written.
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
    /// The known keys in the usual order, for new rules and for keys that a file did not have.
    pub(super) const KNOWN: &[Self] =
        &[Self::Template, Self::When, Self::CreateOnly, Self::Properties, Self::Uid, Self::Gid, Self::Mode];
}

/// The events that LXD and Incus know. A rule may name others; they never happen.
const EVENTS: [&str; 4] = ["create", "copy", "rename", "start"];

impl TemplateRule {
    /// Creates a rule that writes `template`, a file in the image's `templates/`, at the events
    /// `when`.
    ///
    /// The events that exist are `create`, `copy`, `rename` and `start`; see
    /// [`Trigger`](crate::templates::Trigger).
    ///
    /// # Errors
    /// `InvalidInput` if the template's name is empty, or a text contains a NUL.
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

    /// Sets whether a file that already exists is left alone.
    #[must_use]
    pub fn with_create_only(mut self, create_only: bool) -> Self {
        self.create_only = Some(create_only);
        self
    }

    /// Sets a property of the rule, which the template sees as `properties.KEY`.
    ///
    /// # Errors
    /// `InvalidInput` if key or value contains a NUL.
    pub fn with_property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.properties.set(key, value)?;
        Ok(self)
    }

    /// Sets the owner of a new file, as ids inside the instance. Only Incus reads them.
    #[must_use]
    pub fn with_owner(mut self, uid: u32, gid: u32) -> Self {
        self.uid = Some(uid.to_string());
        self.gid = Some(gid.to_string());
        self
    }

    /// Sets the permission bits of a new file, such as `0o600`. Only Incus reads them.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        // Four digits with a leading zero are octal to Incus, whatever the first digit. Three
        // digits would be octal too, but four without the zero are decimal.
        self.mode = Some(format!("{:04o}", mode & 0o777));
        self
    }

    /// The name of the template, as the file has it. It may contain `/` or `..`.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The events of the rule in order, including unknown ones.
    pub fn when(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.when.iter().map(String::as_str)
    }

    /// Whether the rule names no event that exists, so that it never has an effect.
    #[must_use]
    pub fn never_fires(&self) -> bool {
        !EVENTS.iter().any(|event| self.fires_on(event))
    }

    /// Whether the rule names `event`. The comparison is exact, as in LXD.
    #[must_use]
    pub fn fires_on(&self, event: &str) -> bool {
        self.when.iter().any(|named| named == event)
    }

    /// Whether a file that already exists is left alone. `false` if the file does not say.
    #[must_use]
    pub fn create_only(&self) -> bool {
        self.create_only.unwrap_or(false)
    }

    /// The rule's properties, which the template sees as `properties`.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The rule's properties, for changing them.
    pub fn properties_mut(&mut self) -> &mut Properties {
        &mut self.properties
    }

    /// The user id of a new file inside the instance, as text. Only Incus reads it.
    #[must_use]
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// The group id of a new file inside the instance, as text. Only Incus reads it.
    #[must_use]
    pub fn gid(&self) -> Option<&str> {
        self.gid.as_deref()
    }

    /// The permission bits of a new file, as text in one of Incus's notations (`755`, `0755`,
    /// `0o755`). Only Incus reads it.
    #[must_use]
    pub fn mode(&self) -> Option<&str> {
        self.mode.as_deref()
    }

    /// The keys that have a value to write, in order.
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
