//! `Entries`: a map of named entries that are parsed one by one, so that an invalid entry does not hide the others.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An invalid entry. Kept, so that a document that is read and written again still has it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OddEntry {
    /// The value in the document.
    pub value: Value,
    /// What is wrong with it, as a clause: "its `size` is wrong: invalid type: …".
    pub reason: String,
}

/// Entries by name. Dereferences to the map of valid entries; [`odd`](Self::odd) has the others.
///
/// ```
/// use lxd_image::Limits;
/// use lxd_image::protocol::simplestreams::Products;
///
/// let products = Products::from_json(br#"{"products": {"good": {"arch": "amd64"}, "bad": 5}}"#, &Limits::default())?;
/// assert_eq!((products.products.len(), products.products.odd().len()), (1, 1));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Entries<T> {
    /// Valid entries.
    good: BTreeMap<String, T>,
    /// Invalid ones, written back as they were.
    odd: BTreeMap<String, OddEntry>,
}

/// How many characters of untrusted text a reason repeats.
const MAX_REASON_CHARS: usize = 200;

impl<T> Entries<T> {
    /// The invalid entries, by name.
    #[must_use]
    pub fn odd(&self) -> &BTreeMap<String, OddEntry> {
        &self.odd
    }

    /// Whether there is no entry at all, valid or odd. Shadows the method of the map, so that a version whose items are all odd is
    /// not removed as empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.good.is_empty() && self.odd.is_empty()
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { good: BTreeMap::new(), odd: BTreeMap::new() }
    }
}

impl<T> From<BTreeMap<String, T>> for Entries<T> {
    fn from(good: BTreeMap<String, T>) -> Self {
        Self { good, odd: BTreeMap::new() }
    }
}

impl<T> Deref for Entries<T> {
    type Target = BTreeMap<String, T>;

    fn deref(&self) -> &Self::Target {
        &self.good
    }
}

impl<T> DerefMut for Entries<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.good
    }
}

impl<'a, T> IntoIterator for &'a Entries<T> {
    type Item = (&'a String, &'a T);
    type IntoIter = std::collections::btree_map::Iter<'a, String, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.good.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Entries<T> {
    type Item = (&'a String, &'a mut T);
    type IntoIter = std::collections::btree_map::IterMut<'a, String, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.good.iter_mut()
    }
}

impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let odd = || self.odd.iter().filter(|(name, _)| !self.good.contains_key(*name));
        let mut map = serializer.serialize_map(Some(self.good.len() + odd().count()))?;
        for (name, entry) in &self.good {
            map.serialize_entry(name, entry)?;
        }
        for (name, entry) in odd() {
            map.serialize_entry(name, &entry.value)?;
        }
        map.end()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Each<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of entries by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Entries::default();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    // Of duplicate names the last counts, as in Go, which LXD and Incus are written in.
                    entries.good.remove(&name);
                    entries.odd.remove(&name);
                    let read = if value.is_object() { T::deserialize(&value).ok() } else { None };
                    match read {
                        Some(entry) => _ = entries.good.insert(name, entry),
                        None => {
                            let reason = reason::<T>(&value);
                            entries.odd.insert(name, OddEntry { value, reason });
                        }
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Each(PhantomData))
    }
}

/// Why a value is no `T`: each field is tried alone, since the error of the whole does not name it.
fn reason<T: DeserializeOwned>(value: &Value) -> String {
    let Value::Object(fields) = value else {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        return format!("it is {kind} where an object belongs");
    };
    let wrong = fields.iter().find_map(|(name, value)| {
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        T::deserialize(&alone).err().map(|error| format!("its `{name}` is wrong: {error}"))
    });
    wrong.unwrap_or_else(|| "it can't be read".to_owned()).chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::protocol::simplestreams::Item;

    fn read(text: &str) -> Entries<Item> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn one_wrong_entry_leaves_the_others() {
        let entries = read(r#"{"a": {"ftype": "squashfs"}, "b": null, "c": {"size": "5"}, "d": [], "e": {"path": 5}}"#);
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(entries.odd().keys().collect::<Vec<_>>(), ["b", "c", "d", "e"]);
        assert!(entries.odd()["c"].reason.starts_with("its `size` is wrong"), "{}", entries.odd()["c"].reason);
    }

    #[test]
    fn wrong_entries_are_written_again() {
        let entries = read(r#"{"a": {"ftype": "x", "path": "y"}, "b": {"size": -1, "more": [1]}}"#);
        let again: Entries<Item> = serde_json::from_str(&serde_json::to_string(&entries).unwrap()).unwrap();
        assert_eq!(again, entries);
        assert!(!entries.is_empty());
    }
}
