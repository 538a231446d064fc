//! Compares two images by what they hold, whatever their form and codec.
//!
//! Metadata is compared by meaning, templates, files and disks by digest, and entries attribute by
//! attribute. Each image is read once: members become records that are sorted by path
//! (`external_sort`), and the two sorted lists are merged.
//!
//! # What counts as equal
//!
//! - Form and codec don't count: a unified tar and a split SquashFS may hold the same.
//! - Metadata is the same if it means the same, however its YAML is written.
//! - A time without a fraction of a second equals one with any fraction, since some formats have
//!   none.
//! - A hard link is compared by its target's name only; the target has the attributes.
//! - The order of members does not count. Of several members of one path the last one counts, as in
//!   a tar that is unpacked.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, EntryKind};
use super::external_sort::{ExternalSorter, SortedRecords};
use super::image::Image;
use super::verify::{SurveyItem, VerifyOptions};
use crate::error::{ErrorKind, Escaped, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;

/// One difference between two images.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Only the first image has a member of this path.
    OnlyInFirst(Vec<u8>),
    /// Only the second image has a member of this path.
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

/// The attributes of one member as text: name and value, sorted by name.
type Facts = BTreeMap<String, String>;

/// Compares what two images hold: metadata, templates, the disk, and every member of the rootfs with
/// its attributes and content. Their form and codecs don't count, nor fractions of a second where one
/// of two times has none: SquashFS and old archives hold whole seconds.
///
/// Takes memory for what differs; [`for_each_difference`] does not.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::format::{Image, ImageSource, VerifyOptions, differences};
///
/// let old = Image::open(ImageSource::open("old.tar.zst", None)?)?;
/// let new = Image::open(ImageSource::open("new.tar.zst", None)?)?;
/// for difference in differences(&old, &new, &VerifyOptions::default(), &Monitor::none())? {
///     println!("{}", String::from_utf8_lossy(difference.path()));
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// # Errors
/// Those of reading either image; `Malformed` when one of them breaks a rule.
pub fn differences(
    first: &Image,
    second: &Image,
    options: &VerifyOptions,
    monitor: &Monitor,
) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for_each_difference(first, second, options, monitor, &mut |difference| {
        found.push(difference);
        Ok(())
    })?;
    Ok(found)
}

/// As [`differences`], and gives each to `take`, by path. Reads each image once, so either may be a
/// stream. Memory does not grow with the images: over
/// [`Limits::diff_memory`](crate::Limits::diff_memory) a temporary file is used.
///
/// # Errors
/// As [`differences`], and those of `take`.
pub fn for_each_difference(
    first: &Image,
    second: &Image,
    options: &VerifyOptions,
    monitor: &Monitor,
    take: &mut dyn FnMut(Difference) -> Result<()>,
) -> Result<()> {
    let (mut first, mut second) = (inventory(first, options, monitor)?, inventory(second, options, monitor)?);
    let (mut one, mut other) = (first.next().transpose()?, second.next().transpose()?);
    loop {
        let order = match (&one, &other) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.key.cmp(&other.key),
        };
        // Advance a side only if its record is consumed below; both sides when the paths are equal.
        monitor.check()?;
        let left = if order.is_le() { std::mem::replace(&mut one, first.next().transpose()?) } else { None };
        let right = if order.is_ge() { std::mem::replace(&mut other, second.next().transpose()?) } else { None };
        match (left, right) {
            (Some(left), Some(right)) => {
                let changed = if left.value == right.value { Vec::new() } else { changes(&left.value, &right.value) };
                if !changed.is_empty() {
                    take(Difference::Changed(left.key, changed))?;
                }
            }
            (Some(left), None) => take(Difference::OnlyInFirst(left.key))?,
            (None, Some(right)) => take(Difference::OnlyInSecond(right.key))?,
            (None, None) => {}
        }
    }
}

/// The attributes that differ, with both values; empty for one that a side does not have.
///
/// Values are text for people, such as `0644` or a digest.
fn changes(one: &[u8], other: &[u8]) -> Vec<(String, String, String)> {
    let (one, other) = (unpack(one), unpack(other));
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let value = |facts: &Facts, key| facts.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .map(|key| (key.clone(), value(&one, key), value(&other, key)))
        .filter(|(key, one, other)| one != other && !(key == MTIME && same_second(one, other)))
        .collect()
}

/// The attribute that is compared with the precision of the less precise image.
const MTIME: &str = "mtime";
/// The fraction of a time in whole seconds.
const WHOLE: &str = "000000000";

/// Whether two times differ in their fractions only, and one of them has none.
fn same_second(one: &str, other: &str) -> bool {
    match (one.split_once('.'), other.split_once('.')) {
        (Some((one, a)), Some((other, b))) => one == other && (a == WHOLE || b == WHOLE),
        _ => false,
    }
}

/// Attributes as bytes for the sorter: names and values in turn, each behind its length.
fn pack(facts: &BTreeMap<&'static str, String>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(facts.iter().map(|(name, value)| name.len() + value.len() + 8).sum());
    for text in facts.iter().flat_map(|(name, value)| [*name, value]) {
        bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The reverse of [`pack`].
fn unpack(mut bytes: &[u8]) -> Facts {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let Some((text, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { break };
        texts.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest;
    }
    let mut texts = texts.into_iter();
    std::iter::from_fn(|| texts.next().zip(texts.next())).collect()
}

/// The members of an image by path, from one pass over it.
///
/// # Errors
/// Those of reading the image, and `Malformed` for the first finding of the pass that breaks a
/// rule.
fn inventory(image: &Image, options: &VerifyOptions, monitor: &Monitor) -> Result<SortedRecords> {
    let mut members = ExternalSorter::new(image.limits.diff_memory);
    let verified = image.survey_all(options, monitor, true, &mut |surveyed| match surveyed {
        SurveyItem::Member(entry, digest) => {
            let path =
                if entry.path.is_empty() { b"rootfs".to_vec() } else { [b"rootfs/", entry.path.as_slice()].concat() };
            members.push(path, pack(&facts(entry, digest)))
        }
        SurveyItem::Template(name, content) => {
            let facts = BTreeMap::from([("content", Fingerprint::of(content).to_string())]);
            members.push([b"templates/", name].concat(), pack(&facts))
        }
        SurveyItem::Config(content) => {
            let facts = BTreeMap::from([("content", Fingerprint::of(content).to_string())]);
            members.push(b"config.json".to_vec(), pack(&facts))
        }
        SurveyItem::Disk(size, digest) => {
            let facts = BTreeMap::from([("content", digest.to_string()), ("size", size.to_string())]);
            members.push(b"rootfs.img".to_vec(), pack(&facts))
        }
    })?;
    // A rule whose template is missing is a difference of metadata, not of what can be compared.
    if let Some(error) = verified.findings.into_iter().find(|error| error.kind() != ErrorKind::NotFound) {
        return Err(error);
    }
    if let Some(metadata) = verified.metadata {
        // Compared by meaning: the same mapping written in another style is the same.
        members.push(b"metadata.yaml".to_vec(), pack(&BTreeMap::from([("content", metadata.to_yaml())])))?;
    }
    members.finish()
}

/// The attributes of a member that are compared. Those of a hard link are its target's.
///
/// An attribute that an image can't express is absent, not empty, so that the two differ.
fn facts(entry: &Entry, digest: Option<&Fingerprint>) -> BTreeMap<&'static str, String> {
    let mut facts = BTreeMap::new();
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
        facts.insert("target", Escaped(target).to_string());
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
    facts.insert(MTIME, format!("{}.{:09}", mtime.seconds, mtime.nanoseconds));
    if !entry.xattrs.is_empty() {
        let mut xattrs: Vec<_> = entry
            .xattrs
            .iter()
            .map(|(name, value)| format!("{}={}", Escaped(name), Fingerprint::of(value).short()))
            .collect();
        xattrs.sort();
        facts.insert("xattrs", xattrs.join(" "));
    }
    facts
}
