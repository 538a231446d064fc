//! Shifts owners between the image and the host, as unprivileged containers need it: container root
//! becomes an unprivileged user such as 100000.
//!
//! Two extended attributes hold owners themselves and are rewritten: ACLs (named users and groups)
//! and file capabilities (the root user of the namespace they apply to).

use std::fmt;
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
/// For unpacking `inside` is the image and `outside` the host; for packing `inside` is the tree that
/// is packed and `outside` the image, so that the same tree goes back by the map with both sides
/// exchanged.
///
/// ```
/// let map: lxd_image::format::IdMap = "0:100000:65536".parse()?;
/// assert_eq!(map.shift_uid(1000)?, 101_000);
/// assert!(map.shift_gid(70_000).is_err());
///
/// let apart: lxd_image::format::IdMap = "u:0:100000:65536,g:0:200000:65536".parse()?;
/// assert_eq!((apart.shift_uid(0)?, apart.shift_gid(0)?), (100_000, 200_000));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap {
    uids: Ranges,
    gids: Ranges,
}

/// The ranges of users, or those of groups. Empty: nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Ranges(Vec<IdRange>);

impl Ranges {
    /// Adds a range, which must not overlap others on either side.
    fn add(&mut self, range: IdRange) -> Result<()> {
        let IdRange { inside, outside, count } = range;
        let fits = |first: u32| count > 0 && first.checked_add(count - 1).is_some_and(|last| last < u32::MAX);
        if !fits(inside) || !fits(outside) {
            return Err(Error::invalid(format!(
                "the range {inside}:{outside}:{count} is empty or goes beyond the largest owner"
            )));
        }
        let overlap = |one: u32, its: u32, other: u32| one < other + its && other < one + count;
        // On either side, as for the kernel: two owners that become one could not be told apart again.
        if self
            .0
            .iter()
            .any(|known| overlap(inside, known.count, known.inside) || overlap(outside, known.count, known.outside))
        {
            return Err(Error::invalid(format!("the range {inside}:{outside}:{count} overlaps another")));
        }
        self.0.push(range);
        Ok(())
    }

    /// The number outside for one inside; unchanged without ranges.
    ///
    /// # Errors
    /// `InvalidInput` when there are ranges and none holds the number. `what` names it in the
    /// error.
    fn shift(&self, id: u32, what: &str) -> Result<u32> {
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
                Error::invalid(format!("the {what} {id} is outside of the id map"))
                    .with_hint("widen the map, for example `--map-ids 0:100000:1000000`")
            })
    }

    /// Whether no range changes a number.
    fn is_identity(&self) -> bool {
        self.0.iter().all(|range| range.inside == range.outside)
    }
}

impl IdMap {
    /// Leaves every number as it is.
    #[must_use]
    pub fn identity() -> Self {
        Self::default()
    }

    /// Adds a range for users and for groups.
    ///
    /// The kernel applies the same rules to the maps of a user namespace (`user_namespaces(7)`).
    ///
    /// # Errors
    /// `InvalidInput` when it is empty, ends beyond 2^32−2, or overlaps one that is there, on either side.
    pub fn with_range(self, inside: u32, outside: u32, count: u32) -> Result<Self> {
        self.with_uid_range(inside, outside, count)?.with_gid_range(inside, outside, count)
    }

    /// Adds a range for users only.
    ///
    /// # Errors
    /// As [`with_range`](Self::with_range).
    pub fn with_uid_range(mut self, inside: u32, outside: u32, count: u32) -> Result<Self> {
        self.uids.add(IdRange { inside, outside, count })?;
        Ok(self)
    }

    /// Adds a range for groups only.
    ///
    /// # Errors
    /// As [`with_range`](Self::with_range).
    pub fn with_gid_range(mut self, inside: u32, outside: u32, count: u32) -> Result<Self> {
        self.gids.add(IdRange { inside, outside, count })?;
        Ok(self)
    }

    /// The number outside for a user inside.
    ///
    /// # Errors
    /// `InvalidInput` when there are ranges for users and none holds it.
    pub fn shift_uid(&self, uid: u32) -> Result<u32> {
        self.uids.shift(uid, "owner")
    }

    /// The number outside for a group inside.
    ///
    /// # Errors
    /// `InvalidInput` when there are ranges for groups and none holds it.
    pub fn shift_gid(&self, gid: u32) -> Result<u32> {
        self.gids.shift(gid, "group")
    }

    /// The number outside for a user or a group, where both are shifted alike.
    ///
    /// # Errors
    /// `InvalidInput` when no range holds it, and when users and groups are shifted differently.
    pub fn shift(&self, id: u32) -> Result<u32> {
        if self.uids != self.gids {
            return Err(Error::invalid("users and groups are shifted differently, so that one number says nothing")
                .with_hint("give one map for both"));
        }
        self.shift_uid(id)
    }

    /// Whether there are no ranges at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.uids.0.is_empty() && self.gids.0.is_empty()
    }

    /// Whether numbers change at all.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.uids.is_identity() && self.gids.is_identity()
    }

    /// The value of an extended attribute with the owners in it shifted.
    pub(crate) fn shift_xattr(&self, name: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        if self.is_empty() {
            return Ok(value.to_vec());
        }
        match name {
            b"system.posix_acl_access" | b"system.posix_acl_default" => self.shift_acl(value),
            b"security.capability" => self.shift_capability(value),
            _ => Ok(value.to_vec()),
        }
    }

    /// Rewrites an ACL: after a version of 4 bytes, entries of 8 bytes with tag, permissions and
    /// id. Tag 2 names a user, 8 a group.
    fn shift_acl(&self, value: &[u8]) -> Result<Vec<u8>> {
        let mut shifted = value.to_vec();
        if value.len() < 4 || !(value.len() - 4).is_multiple_of(8) {
            return Err(Error::malformed("an access control list has a length that none has"));
        }
        for entry in shifted[4..].chunks_exact_mut(8) {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let shifted = match u16::from_le_bytes([entry[0], entry[1]]) {
                2 => self.shift_uid(id)?,
                8 => self.shift_gid(id)?,
                _ => continue,
            };
            entry[4..].copy_from_slice(&shifted.to_le_bytes());
        }
        Ok(shifted)
    }

    /// A capability for the root of this user namespace (revision 2, 20 bytes) becomes one for the
    /// mapped root (revision 3, 24 bytes), and goes back where that is 0; after Linux
    /// `include/uapi/linux/capability.h`.
    fn shift_capability(&self, value: &[u8]) -> Result<Vec<u8>> {
        const REVISION: std::ops::Range<usize> = 3..4;
        let root = match (value, value.get(REVISION)) {
            ([_, .., a, b, c, d], Some([3])) if value.len() == 24 => u32::from_le_bytes([*a, *b, *c, *d]),
            (_, Some([2])) if value.len() == 20 => 0,
            _ => return Err(Error::malformed("a file capability of an unknown revision can't be shifted")),
        };
        let root = self.shift_uid(root)?;
        let mut shifted = value[..20].to_vec();
        shifted[3] = if root == 0 { 2 } else { 3 };
        if root != 0 {
            shifted.extend_from_slice(&root.to_le_bytes());
        }
        Ok(shifted)
    }
}

impl fmt::Display for IdMap {
    /// The map as [`FromStr`] reads it; nothing for the identity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: &[(&str, &Ranges)] =
            if self.uids == self.gids { &[("", &self.uids)] } else { &[("u:", &self.uids), ("g:", &self.gids)] };
        let mut separator = "";
        for (side, ranges) in sides {
            for range in &ranges.0 {
                write!(f, "{separator}{side}{}:{}:{}", range.inside, range.outside, range.count)?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl FromStr for IdMap {
    type Err = Error;

    /// `inside:outside:count`, several of them by commas; `u:` before one makes it one of users,
    /// `g:` one of groups, and `b:` says that it is for both.
    fn from_str(text: &str) -> Result<Self> {
        text.split(',').try_fold(Self::default(), |map, range| {
            let (side, numbers) = match range.split_once(':') {
                Some((side @ ("u" | "uid" | "g" | "gid" | "b" | "both"), numbers)) => (side, numbers),
                _ => ("b", range),
            };
            let numbers: Option<Vec<u32>> = numbers.split(':').map(|number| number.parse().ok()).collect();
            match (numbers.as_deref(), side) {
                (Some([inside, outside, count]), "u" | "uid") => map.with_uid_range(*inside, *outside, *count),
                (Some([inside, outside, count]), "g" | "gid") => map.with_gid_range(*inside, *outside, *count),
                (Some([inside, outside, count]), _) => map.with_range(*inside, *outside, *count),
                _ => Err(Error::invalid(format!("`{range}` is no range of ids")).with_hint(
                    "write `inside:outside:count`, for example `0:100000:65536`, with `u:` or `g:` before it for users or groups only",
                )),
            }
        })
    }
}
