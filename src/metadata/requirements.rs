//! Requirements of an image on its instances: properties `requirements.NAME`, and what the peers make of them.

use super::properties::Properties;

/// A requirement of an image: a property whose key begins with `requirements.`.
///
/// ```
/// let mut properties = lxd_image::Properties::new();
/// properties.set("requirements.secureboot", "false")?;
/// let found: Vec<_> = properties.requirements().collect();
/// assert_eq!((found[0].name, found[0].value), ("secureboot", "false"));
/// assert!(found[0].meaning().is_some_and(|meaning| meaning.contains("security.secureboot")));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirement<'a> {
    /// The name behind `requirements.`.
    pub name: &'a str,
    /// The value, as it is written.
    pub value: &'a str,
}

/// Names that the daemons check before they start an instance, the values that require something, and what that is.
/// LXD checks `secureboot`, `cgroup`, `privileged` and `nesting`; Incus all of them.
const KNOWN: &[(&str, Means, &str)] = &[
    ("cgroup", Means::Text("v1"), "the host must have version 1 of cgroups"),
    ("privileged", Means::False, "the container must not be privileged: `security.privileged` stays unset"),
    ("nesting", Means::True, "set `security.nesting=true`"),
    ("secureboot", Means::False, "set `security.secureboot=false`"),
    ("cdrom_agent", Means::True, "add a disk with `source=agent:config`"),
    ("cdrom_cloud_init", Means::True, "add a disk with `source=cloud-init:config`"),
];

/// The value with which a requirement has an effect.
#[derive(Debug, Clone, Copy)]
enum Means {
    True,
    False,
    Text(&'static str),
}

impl Means {
    /// Whether a value has the effect; booleans in all spellings that the daemons take.
    fn is(self, value: &str) -> bool {
        let lower = value.to_ascii_lowercase();
        match self {
            Self::True => matches!(lower.as_str(), "true" | "1" | "yes" | "on"),
            Self::False => matches!(lower.as_str(), "false" | "0" | "no" | "off"),
            Self::Text(text) => value == text,
        }
    }
}

impl Requirement<'_> {
    /// What an instance needs by it, as a clause for people; `None` where the daemons do nothing with this name or value.
    #[must_use]
    pub fn meaning(&self) -> Option<&'static str> {
        KNOWN.iter().find(|(name, means, _)| *name == self.name && means.is(self.value)).map(|(_, _, meaning)| *meaning)
    }
}

impl Properties {
    /// The requirements among the properties, in their order.
    pub fn requirements(&self) -> impl Iterator<Item = Requirement<'_>> {
        self.iter().filter_map(|(key, value)| Some(Requirement { name: key.strip_prefix("requirements.")?, value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_mean_something_with_the_values_that_daemons_check() {
        for (name, value, means) in [
            ("secureboot", "false", true),
            ("secureboot", "No", true),
            ("secureboot", "true", false),
            ("privileged", "0", true),
            ("nesting", "on", true),
            ("nesting", "false", false),
            ("cgroup", "v1", true),
            ("cgroup", "v2", false),
            ("cdrom_agent", "true", true),
            ("cdrom_cloud_init", "1", true),
            ("colour", "true", false),
        ] {
            assert_eq!(Requirement { name, value }.meaning().is_some(), means, "{name}={value}");
        }
    }
}
