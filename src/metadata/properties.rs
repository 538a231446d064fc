//! [`Properties`]: ordered text values under text keys, of an image or of a template rule.
//!
//! A vector and not a hash map: real images have about ten properties, and the order of the file is
//! kept.

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// An ordered map of texts. Keys are unique; neither keys nor values contain a NUL.
///
/// ```
/// let mut properties = lxd_image::Properties::new();
/// properties.set("os", "Debian")?;
/// properties.set("release", "12.04")?;
/// assert_eq!(properties.get("release"), Some("12.04"));
/// assert_eq!(properties.iter().next(), Some(("os", "Debian")));
/// assert_eq!(properties.remove("os").as_deref(), Some("Debian"));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// Creates an empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes pairs whose keys are known to be unique and free of NULs, as the YAML reader
    /// guarantees.
    pub(super) const fn from_checked(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The value of `key`, or `None`. Linear in the number of properties.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Keys and values, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + DoubleEndedIterator + Clone {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The number of properties.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no properties.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces the value of `key` at its present position, or appends the pair.
    ///
    /// ```
    /// let mut properties = lxd_image::Properties::new();
    /// properties.set("os", "debian")?;
    /// properties.set("release", "13")?;
    /// properties.set("os", "Debian")?;
    /// assert_eq!(properties.iter().collect::<Vec<_>>(), [("os", "Debian"), ("release", "13")]);
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if key or value contains a NUL, where LXD's database would cut the text.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) -> Result<()> {
        let (key, value) = (without_nul(key, "a property's name")?, without_nul(value, "a property's value")?);
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some(pair) => pair.1 = value,
            None => self.0.push((key, value)),
        }
        Ok(())
    }

    /// Removes `key` and returns its value. The order of the others stays.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let index = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(index).1)
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// Checks that a caller's text contains no NUL. `what` names it in the error.
pub(super) fn without_nul(text: impl Into<String>, what: &str) -> Result<String> {
    let text = text.into();
    if text.contains('\0') {
        return Err(Error::invalid(format!("{what} can't hold a NUL character")));
    }
    Ok(text)
}
