//! `Properties`: texts under names, in the order of the file, of an image or of a template rule.
//! A vector, not a hash map: real images have about ten, and their order is worth keeping.

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// An ordered map of texts.
///
/// ```
/// let mut properties = lxd_image::Properties::new();
/// properties.set("os", "Debian")?;
/// properties.set("release", "12.04")?;
/// assert_eq!(properties.get("release"), Some("12.04"));
/// assert_eq!(properties.iter().next(), Some(("os", "Debian")));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Pairs whose keys are known to differ and to hold no NUL.
    pub(super) const fn from_checked(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + DoubleEndedIterator + Clone {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets `key` at its present position, or appends it at the end.
    ///
    /// # Errors
    /// `InvalidInput` when either text holds a NUL, which LXD's database cuts at.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) -> Result<()> {
        let (key, value) = (without_nul(key, "a property's name")?, without_nul(value, "a property's value")?);
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some(pair) => pair.1 = value,
            None => self.0.push((key, value)),
        }
        Ok(())
    }

    /// Takes `key` out and returns its value.
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

/// A text of the caller that may stand in `metadata.yaml`.
pub(super) fn without_nul(text: impl Into<String>, what: &str) -> Result<String> {
    let text = text.into();
    if text.contains('\0') {
        return Err(Error::invalid(format!("{what} can't hold a NUL character")));
    }
    Ok(text)
}
