//! What differs between two images, whatever their form and codec.
//! Compares what they hold: metadata by meaning, templates and files by digest, entries by attribute.

use std::collections::BTreeMap;

use super::entry::{Entry, EntryKind};
use super::image::Image;
use super::verify::VerifyOptions;
use crate::error::{ErrorKind, Result, Shown};
use crate::fingerprint::Fingerprint;

/// What differs between two images.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Only the first has this member.
    OnlyInFirst(Vec<u8>),
    /// Only the second has this member.
    OnlyInSecond(Vec<u8>),
    /// Both have it, and these attributes differ: name, the first's value, the second's.
    Changed(Vec<u8>, Vec<(String, String, String)>),
}

impl Difference {
    /// The member: raw bytes, with `metadata.yaml`, `templates/` and `rootfs/` in front as in a unified image.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        match self {
            Self::OnlyInFirst(path) | Self::OnlyInSecond(path) | Self::Changed(path, _) => path,
        }
    }
}

/// One member, in the form in which it is compared.
type Facts = BTreeMap<&'static str, String>;

/// Compares what two images hold: metadata, templates, and every member of the rootfs with its
/// attributes and content. Their form and codecs don't count.
///
/// # Errors
/// Those of reading either image; `Malformed` when one of them breaks a rule.
pub fn differences(first: &Image, second: &Image, options: &VerifyOptions) -> Result<Vec<Difference>> {
    let first = inventory(first, options)?;
    let mut second = inventory(second, options)?;
    let mut found = Vec::new();
    for (path, facts) in first {
        match second.remove(&path) {
            None => found.push(Difference::OnlyInFirst(path)),
            Some(others) if others != facts => {
                let keys: std::collections::BTreeSet<_> = facts.keys().chain(others.keys()).copied().collect();
                let value = |facts: &Facts, key| facts.get(key).cloned().unwrap_or_default();
                let changed = keys
                    .into_iter()
                    .filter(|key| facts.get(key) != others.get(key))
                    .map(|key| (key.to_owned(), value(&facts, key), value(&others, key)))
                    .collect();
                found.push(Difference::Changed(path, changed));
            }
            Some(_) => {}
        }
    }
    found.extend(second.into_keys().map(Difference::OnlyInSecond));
    found.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(found)
}

fn inventory(image: &Image, options: &VerifyOptions) -> Result<BTreeMap<Vec<u8>, Facts>> {
    let mut members = BTreeMap::new();
    let verified = image.survey_contents(options, &mut |entry, digest| {
        let path =
            if entry.path.is_empty() { b"rootfs".to_vec() } else { [b"rootfs/", entry.path.as_slice()].concat() };
        members.insert(path, facts(entry, digest));
        Ok(())
    })?;
    // A rule whose template is missing is a difference of metadata, not of what can be compared.
    if let Some(error) = verified.findings.into_iter().find(|error| error.kind() != ErrorKind::NotFound) {
        return Err(error);
    }
    if let Some(metadata) = verified.metadata {
        // Compared by meaning: the same mapping written in another style is the same.
        let text = metadata.to_yaml();
        members.insert(b"metadata.yaml".to_vec(), Facts::from([("content", text)]));
    }
    for name in verified.templates {
        let content = image.template(&String::from_utf8_lossy(&name))?;
        let path = [b"templates/", name.as_slice()].concat();
        members.insert(path, Facts::from([("content", Fingerprint::of(&content).to_string())]));
    }
    Ok(members)
}

fn facts(entry: &Entry, digest: Option<&Fingerprint>) -> Facts {
    let mut facts = Facts::new();
    let (kind, target) = match &entry.kind {
        EntryKind::File { size } => {
            facts.insert("size", size.to_string());
            ("file", None)
        }
        EntryKind::Directory => ("directory", None),
        EntryKind::Symlink { target } => ("symlink", Some(target)),
        EntryKind::HardLink { target } => ("hard link", Some(target)),
        EntryKind::CharDevice(number) => {
            facts.insert("device", format!("{}:{}", number.major, number.minor));
            ("character device", None)
        }
        EntryKind::BlockDevice(number) => {
            facts.insert("device", format!("{}:{}", number.major, number.minor));
            ("block device", None)
        }
        EntryKind::Fifo => ("fifo", None),
        EntryKind::Socket => ("socket", None),
    };
    facts.insert("type", kind.to_owned());
    if let Some(target) = target {
        facts.insert("target", Shown(target).to_string());
    }
    if let Some(digest) = digest {
        facts.insert("content", digest.to_string());
    }
    if matches!(entry.kind, EntryKind::HardLink { .. }) {
        // Its attributes are those of the member it names.
        return facts;
    }
    if !matches!(entry.kind, EntryKind::Symlink { .. }) {
        facts.insert("mode", format!("{:04o}", entry.mode));
    }
    facts.insert("owner", format!("{}:{}", entry.uid, entry.gid));
    let mtime = entry.mtime;
    facts.insert("mtime", format!("{}.{:09}", mtime.seconds, mtime.nanoseconds));
    if !entry.xattrs.is_empty() {
        let mut xattrs: Vec<_> = entry
            .xattrs
            .iter()
            .map(|(name, value)| format!("{}={}", Shown(name), Fingerprint::of(value).short()))
            .collect();
        xattrs.sort();
        facts.insert("xattrs", xattrs.join(" "));
    }
    facts
}
