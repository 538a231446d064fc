//! [`StreamConfig`]: the section `simplestream` of an `image.yaml`, from which a list of images is made: the name of the
//! distribution, aliases of releases, requirements.
//!
//! The file is the recipe that an image was built by; everything else in it is not read.

use super::properties::Properties;
use super::read::{entries, text, text_map, texts};
use super::yaml::{self, KeyPath, Node, NodeContent};
use crate::error::Result;
use crate::limits::Limits;

/// The section `simplestream` of an `image.yaml`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct StreamConfig {
    /// The name of the distribution for people.
    pub(crate) distro_name: String,
    /// Releases, and the further names of each, separated by commas.
    release_aliases: Properties,
    /// Requirements, each for some products.
    requirements: Vec<Filtered>,
}

/// Requirements of the products that a filter matches.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Filtered {
    requirements: Properties,
    releases: Vec<String>,
    architectures: Vec<String>,
    variants: Vec<String>,
}

impl StreamConfig {
    /// Reads an `image.yaml`; one without the section is an empty one.
    ///
    /// # Errors
    /// `Malformed` for what is no YAML or has values of another type; `LimitExceeded`.
    pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let root = yaml::parse(bytes, limits)?;
        let mut config = Self::default();
        for entry in entries(&root, KeyPath::Root)?.iter().filter(|entry| entry.key == "simplestream") {
            let path = KeyPath::Root.key(&entry.key);
            for entry in entries(&entry.value, path)? {
                let (key, value) = (path.key(&entry.key), &*entry.value);
                match entry.key.as_str() {
                    "distro_name" => config.distro_name = text(value, key)?,
                    "release_aliases" => config.release_aliases = text_map(value, key)?,
                    "requirements" => config.requirements = filtered(value, key)?,
                    _ => {}
                }
            }
        }
        Ok(config)
    }

    /// The further names of a release.
    pub(crate) fn aliases_of(&self, release: &str) -> Vec<String> {
        let names = self.release_aliases.get(release).unwrap_or_default().split(',').map(str::trim);
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// The requirements of a product; a later one overrides an earlier one of the same name.
    pub(crate) fn requirements_of(&self, release: &str, architecture: &str, variant: &str) -> Vec<(String, String)> {
        let fits = |list: &[String], name: &str| list.is_empty() || list.iter().any(|listed| listed == name);
        let matching = self.requirements.iter().filter(|filtered| {
            fits(&filtered.releases, release)
                && fits(&filtered.architectures, architecture)
                && fits(&filtered.variants, variant)
        });
        matching
            .flat_map(|filtered| filtered.requirements.iter())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

/// The list `requirements`.
fn filtered(node: &Node, path: KeyPath<'_>) -> Result<Vec<Filtered>> {
    let NodeContent::Sequence(items) = &node.content else {
        if node.is_null() {
            return Ok(Vec::new());
        }
        return Err(path.malformed(node.location, format!("a list belongs here, not {}", node.kind())));
    };
    let mut all = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let mut one = Filtered::default();
        for entry in entries(item, path)? {
            let (key, value) = (path.key(&entry.key), &*entry.value);
            match entry.key.as_str() {
                "requirements" => one.requirements = text_map(value, key)?,
                "releases" => one.releases = texts(value, key)?,
                "architectures" => one.architectures = texts(value, key)?,
                "variants" => one.variants = texts(value, key)?,
                _ => {}
            }
        }
        all.push(one);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn requirements_are_those_whose_filter_matches() {
        let text = "image:\n  name: x\nsimplestream:\n  distro_name: Box Linux\n  release_aliases:\n    \"12.10\": a, b,\n  requirements:\n  \
                    - requirements:\n      secureboot: false\n  - requirements:\n      nesting: true\n      secureboot: \"true\"\n    \
                    releases: [\"12.10\"]\n    architectures: [amd64]\n    variants: [cloud]\n";
        let config = StreamConfig::parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(config.distro_name, "Box Linux");
        assert_eq!(config.aliases_of("12.10"), ["a", "b"]);
        assert!(config.aliases_of("12.1").is_empty());
        let of = |release, variant| config.requirements_of(release, "amd64", variant).len();
        assert_eq!((of("12.10", "cloud"), of("12.10", "default"), of("13", "cloud")), (3, 1, 1));
        assert_eq!(StreamConfig::parse(b"image: {}\n", &Limits::default()).unwrap(), StreamConfig::default());
        assert!(StreamConfig::parse(b"simplestream: [1]\n", &Limits::default()).is_err());
    }
}
