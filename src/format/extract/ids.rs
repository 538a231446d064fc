//! Owner shifting: the numbers in an image to the numbers on the host, as unprivileged containers need it.
//! Reaches into the two attributes that hold owners themselves: ACLs and file capabilities.

use std::str::FromStr;

use crate::error::{Error, Result};

/// A run of owners: `count` numbers from `inside` (the image) become those from `outside` (the host).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdRange {
    /// First number in the image.
    pub inside: u32,
    /// First number on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// How owners and groups are shifted. Empty: not at all.
///
/// ```
/// let map: lxd_image::format::IdMap = "0:100000:65536".parse()?;
/// assert_eq!(map.shift(1000)?, 101_000);
/// assert!(map.shift(70_000).is_err());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap(Vec<IdRange>);

impl IdMap {
    /// Leaves every number as it is.
    #[must_use]
    pub fn identity() -> Self {
        Self::default()
    }

    /// Adds a range.
    ///
    /// # Errors
    /// `InvalidInput` when it is empty, ends beyond 2^32−2, or overlaps one that is there.
    pub fn with_range(mut self, inside: u32, outside: u32, count: u32) -> Result<Self> {
        let fits = |first: u32| count > 0 && first.checked_add(count - 1).is_some_and(|last| last < u32::MAX);
        if !fits(inside) || !fits(outside) {
            return Err(Error::invalid(format!(
                "the range {inside}:{outside}:{count} is empty or goes beyond the largest owner"
            )));
        }
        if self.0.iter().any(|range| inside < range.inside + range.count && range.inside < inside + count) {
            return Err(Error::invalid(format!("the range {inside}:{outside}:{count} overlaps another")));
        }
        self.0.push(IdRange { inside, outside, count });
        Ok(self)
    }

    /// The number on the host for one in the image.
    ///
    /// # Errors
    /// `InvalidInput` when there are ranges and none holds it.
    pub fn shift(&self, id: u32) -> Result<u32> {
        if self.0.is_empty() {
            return Ok(id);
        }
        self.0
            .iter()
            .find_map(|range| {
                let into = id.checked_sub(range.inside).filter(|&into| into < range.count)?;
                range.outside.checked_add(into)
            })
            .ok_or_else(|| {
                Error::invalid(format!("the owner {id} is outside of the id map"))
                    .with_hint("widen the map, for example `--map-ids 0:100000:1000000`")
            })
    }

    /// Whether numbers change at all.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.0.iter().all(|range| range.inside == range.outside)
    }

    /// The value of an extended attribute with the owners in it shifted.
    pub(crate) fn shift_xattr(&self, name: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        if self.is_identity() {
            return Ok(value.to_vec());
        }
        match name {
            b"system.posix_acl_access" | b"system.posix_acl_default" => self.shift_acl(value),
            b"security.capability" => self.shift_capability(value),
            _ => Ok(value.to_vec()),
        }
    }

    /// Entries of 8 bytes after a version of 4: tag, permissions, id. Users are tag 2, groups 8.
    fn shift_acl(&self, value: &[u8]) -> Result<Vec<u8>> {
        let mut shifted = value.to_vec();
        if value.len() < 4 || !(value.len() - 4).is_multiple_of(8) {
            return Err(Error::malformed("an access control list has a length that none has"));
        }
        for entry in shifted[4..].chunks_exact_mut(8) {
            if matches!(u16::from_le_bytes([entry[0], entry[1]]), 2 | 8) {
                let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
                entry[4..].copy_from_slice(&self.shift(id)?.to_le_bytes());
            }
        }
        Ok(shifted)
    }

    /// A capability for the root of this user namespace (revision 2, 20 bytes) becomes one for the
    /// mapped root (revision 3, 24 bytes); after Linux `include/uapi/linux/capability.h`.
    fn shift_capability(&self, value: &[u8]) -> Result<Vec<u8>> {
        const REVISION: std::ops::Range<usize> = 3..4;
        let mut shifted = value.to_vec();
        match (value.len(), value.get(REVISION)) {
            (20, Some([2])) => {
                shifted[3] = 3;
                shifted.extend_from_slice(&self.shift(0)?.to_le_bytes());
            }
            (24, Some([3])) => {
                let root = u32::from_le_bytes([value[20], value[21], value[22], value[23]]);
                shifted[20..].copy_from_slice(&self.shift(root)?.to_le_bytes());
            }
            _ => return Err(Error::malformed("a file capability of an unknown revision can't be shifted")),
        }
        Ok(shifted)
    }
}

impl FromStr for IdMap {
    type Err = Error;

    /// `inside:outside:count`, several of them by commas.
    fn from_str(text: &str) -> Result<Self> {
        text.split(',').try_fold(Self::default(), |map, range| {
            let numbers: Option<Vec<u32>> = range.split(':').map(|number| number.parse().ok()).collect();
            match numbers.as_deref() {
                Some([inside, outside, count]) => map.with_range(*inside, *outside, *count),
                _ => Err(Error::invalid(format!("`{range}` is no range of ids"))
                    .with_hint("write `inside:outside:count`, for example `0:100000:65536`")),
            }
        })
    }
}
