//! What a call left out, changed, defaulted or could not honour: one record for every call that
//! reads or writes images. Nothing is lost without an entry here;
//! [`Monitor::omit`](crate::Monitor::omit) is the only way in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::error::Escaped;

/// What was left out of an object, or how it differs from what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Omitted {
    /// A device node, not created: not permitted here, or not wanted.
    Device,
    /// The owner, left as the caller's own: only root can give files away.
    Owner,
    /// Setuid and setgid bits, left off because the owner is not the image's.
    SetId,
    /// An extended attribute, by its name (raw bytes), that is taken only on request: `all_xattrs`, `--all-xattrs`.
    Xattr(Vec<u8>),
    /// The modification time, which the file system would not take.
    Time,
    /// The whole entry, which stands at the top of the archive and is not part of an image.
    Stray,
    /// The whole object, and why.
    Skipped {
        /// Why, as the rest of a sentence: "it has no size".
        reason: Cow<'static, str>,
    },
    /// The whole image, which was in the store and was removed, and why.
    Removed {
        /// Why, as the rest of a sentence: "its last alias moved to another image".
        reason: Cow<'static, str>,
    },
    /// One part of the object (an alias, a property, an attribute of a set), and why.
    Dropped {
        /// The part that was left out: "alias `a:b`".
        part: Cow<'static, str>,
        /// Why, as the rest of a sentence: "a store takes no colon in an alias".
        reason: Cow<'static, str>,
    },
    /// A value that was outside of its range, and what stands in its place.
    Clamped {
        /// The field: "modification time".
        field: Cow<'static, str>,
        /// What stood there.
        from: String,
        /// What was written instead.
        to: String,
    },
    /// A value that was missing, and what was used for it.
    Defaulted {
        /// The field: "architecture".
        field: Cow<'static, str>,
        /// What was used.
        value: String,
    },
    /// Something that the caller asked for and that had no effect.
    NotHonoured {
        /// What was asked for: "`--public`".
        option: Cow<'static, str>,
        /// Why it had no effect.
        reason: Cow<'static, str>,
    },
}

impl Omitted {
    /// An extended attribute that could not be kept, and why.
    pub(crate) fn attribute(name: &[u8], reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Dropped { part: format!("attribute {}", Escaped(name)).into(), reason: reason.into() }
    }

    /// What it is in one lower-case word, for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Owner => "owner",
            Self::SetId => "set-id",
            Self::Xattr(_) => "xattr",
            Self::Time => "time",
            Self::Stray => "stray",
            Self::Skipped { .. } => "skipped",
            Self::Removed { .. } => "removed",
            Self::Dropped { .. } => "dropped",
            Self::Clamped { .. } => "clamped",
            Self::Defaulted { .. } => "defaulted",
            Self::NotHonoured { .. } => "not-honoured",
        }
    }
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| Escaped(text.as_bytes()).to_string();
        match self {
            Self::Device => f.write_str("device node not created"),
            Self::Owner => f.write_str("owner not set"),
            Self::SetId => f.write_str("setuid or setgid not set, since the owner is not the image's"),
            Self::Xattr(name) => {
                write!(f, "attribute {} left out: it is taken only with `--all-xattrs`", Escaped(name))
            }
            Self::Time => f.write_str("modification time not set"),
            Self::Stray => f.write_str("not part of an image, left out"),
            Self::Skipped { reason } => write!(f, "skipped: {}", text(reason)),
            Self::Removed { reason } => write!(f, "removed: {}", text(reason)),
            Self::Dropped { part, reason } => write!(f, "{} left out: {}", text(part), text(reason)),
            Self::Clamped { field, from, to } => {
                write!(f, "{} {} is out of range, {} is used", text(field), text(from), text(to))
            }
            Self::Defaulted { field, value } => write!(f, "no {}, {} is used", text(field), text(value)),
            Self::NotHonoured { option, reason } => write!(f, "{} has no effect: {}", text(option), text(reason)),
        }
    }
}

/// One thing that was left out or changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Omission {
    /// The object, as raw bytes: for a member of an image its path below the root file system
    /// ([`Omitted::Stray`]: below the archive's top), for an image its fingerprint or name, for an
    /// entry of a list its name there. Empty for the call itself.
    pub path: Vec<u8>,
    /// What was left out of it.
    pub what: Omitted,
}

impl Omission {
    /// What was left out of the object named `path`.
    pub fn new(path: impl Into<Vec<u8>>, what: Omitted) -> Self {
        Self { path: path.into(), what }
    }
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { self.what.fmt(f) } else { write!(f, "{}: {}", Escaped(&self.path), self.what) }
    }
}

/// All that a call left out: the first [`MAX_LISTED`](Self::MAX_LISTED) one by one, the rest counted.
///
/// ```
/// use lxd_image::{Monitor, Omitted};
///
/// let monitor = Monitor::none();
/// // … `monitor` is given to calls; each records here what it leaves out …
/// monitor.omit("etc/machine-id", Omitted::Owner);
/// let omissions = monitor.omissions();
/// assert_eq!(omissions.total(), 1);
/// assert_eq!(omissions.iter().next().unwrap().to_string(), "etc/machine-id: owner not set");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Omissions {
    listed: Vec<Omission>,
    counts: BTreeMap<String, u64>,
    total: u64,
}

impl Omissions {
    /// How many are kept one by one; beyond, they are only counted. Also the bound on kinds that
    /// are counted apart, since an image chooses the names of its attributes.
    pub const MAX_LISTED: usize = 1_000;

    /// Records one.
    pub fn add(&mut self, omission: Omission) {
        self.count(omission.what.to_string(), 1);
        if self.listed.len() < Self::MAX_LISTED {
            self.listed.push(omission);
        }
    }

    fn count(&mut self, mut kind: String, times: u64) {
        if !self.counts.contains_key(&kind) && self.counts.len() >= Self::MAX_LISTED {
            kind = "something else left out".to_owned();
        }
        let count = self.counts.entry(kind).or_default();
        *count = count.saturating_add(times);
        self.total = self.total.saturating_add(times);
    }

    /// Records all of another record.
    pub fn extend(&mut self, other: &Self) {
        for (kind, times) in &other.counts {
            self.count(kind.clone(), *times);
        }
        let room = Self::MAX_LISTED.saturating_sub(self.listed.len());
        self.listed.extend(other.listed.iter().take(room).cloned());
    }

    /// The ones that are kept, in the order in which they were met.
    pub fn iter(&self) -> std::slice::Iter<'_, Omission> {
        self.listed.iter()
    }

    /// How many there are of each kind, by the text that [`Omitted`] shows.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether nothing was left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl<'a> IntoIterator for &'a Omissions {
    type Item = &'a Omission;
    type IntoIter = std::slice::Iter<'a, Omission>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_omissions_are_counted() {
        let mut all = Omissions::default();
        for n in 0..1_500_u32 {
            all.add(Omission::new(n.to_string(), Omitted::Owner));
        }
        assert_eq!((all.iter().count(), all.total(), all.counts().len()), (1_000, 1_500, 1));
    }

    #[test]
    fn names_from_an_image_do_not_make_kinds_without_bound() {
        let mut all = Omissions::default();
        for n in 0..3_000_u32 {
            all.add(Omission::new("x", Omitted::Xattr(n.to_string().into_bytes())));
        }
        assert_eq!((all.counts().len(), all.total()), (1_001, 3_000));
    }

    #[test]
    fn control_characters_are_escaped() {
        let reason = Cow::Borrowed("it is \u{1b}[31mred");
        let shown = Omission::new(*b"a\nb", Omitted::Skipped { reason }).to_string();
        assert!(!shown.contains(['\n', '\u{1b}']), "{shown}");
    }

    #[test]
    fn joined_records_keep_all_counts() {
        let (mut one, mut other) = (Omissions::default(), Omissions::default());
        one.add(Omission::new("a", Omitted::Time));
        other.add(Omission::new("b", Omitted::Time));
        one.extend(&other);
        assert_eq!((one.total(), one.counts().get("modification time not set")), (2, Some(&2)));
    }
}
