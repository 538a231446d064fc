//! Sets of extended attributes, each stored once however many members have it.
//!
//! Most members of a tree have no attributes or the same ones as many others, so a member refers to
//! a set by its number. Names are stored without their prefix: `user.`, `trusted.` or `security.`.
//! Names in other name spaces, such as ACLs in `system.`, can't be stored.

use std::collections::HashMap;
use std::io::{Read, Seek, Write};

use super::super::xattr::PREFIXES;
use super::content::DataWriter;
use super::encode::Encoder;
use super::records::{self, MetadataWriter};
use crate::error::{Error, Result};

/// The kernel's bound on an attribute's name (`XATTR_NAME_MAX`).
const NAME_MAX: usize = 255;
/// The kernel's bound on an attribute's value (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 64 << 10;

/// A set's names and values, encoded as in the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct XattrSet {
    /// The number of its attributes.
    count: u32,
    /// Names and values as the table has them, sorted, so that equal sets have equal bytes.
    pairs: Vec<u8>,
}

/// All sets so far, numbered in the order in which they came.
#[derive(Default)]
pub(super) struct XattrSets {
    /// The sets by their numbers.
    sets: Vec<XattrSet>,
    /// The number of each set.
    numbers: HashMap<XattrSet, u32>,
}

impl XattrSets {
    /// Fails if an attribute is over the kernel's bounds, or stands twice.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(super) fn check(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        for (name, value) in xattrs {
            if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) || value.len() > VALUE_MAX {
                return Err(Error::invalid(
                    "an extended attribute has a name of 1 to 255 bytes without NUL and a value of at most 65536",
                ));
            }
        }
        let mut names: Vec<_> = xattrs.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Error::invalid("an extended attribute is given twice"));
        }
        Ok(())
    }

    /// The number of the set with these attributes. `lost` is called with the name of each that it can't hold.
    ///
    /// `None` if there are none that can be stored.
    ///
    /// # Errors
    /// `Unsupported` for more sets than 32 bits can count.
    pub(super) fn add(&mut self, xattrs: &[(Vec<u8>, Vec<u8>)], mut lost: impl FnMut(&[u8])) -> Result<Option<u32>> {
        let mut sorted: Vec<_> = xattrs.iter().collect();
        sorted.sort_unstable();
        let mut set = XattrSet { count: 0, pairs: Vec::new() };
        for (name, value) in &sorted {
            let split = (0u16..).zip(PREFIXES).find_map(|(kind, prefix)| Some((kind, name.strip_prefix(prefix)?)));
            let Some((kind, rest)) = split.filter(|(_, rest)| !rest.is_empty()) else {
                lost(name);
                continue;
            };
            set.count += 1;
            set.pairs.extend(kind.to_le_bytes());
            // Both were checked to be far below their bounds.
            set.pairs.extend((rest.len() as u16).to_le_bytes());
            set.pairs.extend(rest);
            set.pairs.extend((value.len() as u32).to_le_bytes());
            set.pairs.extend(value);
        }
        if set.count == 0 {
            return Ok(None);
        }
        if let Some(number) = self.numbers.get(&set) {
            return Ok(Some(*number));
        }
        let number = u32::try_from(self.sets.len()).ok().filter(|number| *number < u32::MAX);
        let number = number.ok_or_else(|| Error::unsupported("there are too many sets of extended attributes"))?;
        self.sets.push(set.clone());
        self.numbers.insert(set, number);
        Ok(Some(number))
    }
}

/// Writes the sets and returns where their table stands; nothing if there are none.
pub(super) fn write<W: Read + Write + Seek>(
    contents: &mut DataWriter<W>,
    encoder: Encoder,
    sets: &XattrSets,
) -> Result<Option<u64>> {
    if sets.sets.is_empty() {
        return Ok(None);
    }
    let mut table = MetadataWriter::new(encoder);
    let mut records = Vec::new();
    for set in &sets.sets {
        let (block, offset) = table.place();
        records.extend((block << 16 | u64::from(offset)).to_le_bytes());
        records.extend(set.count.to_le_bytes());
        records.extend(u32::try_from(set.pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
        table.write(&set.pairs)?;
    }
    let (pairs, mut encoder) = table.finish()?;
    let start = contents.append(&pairs)?;
    let index = records::write_blocks(contents, &mut encoder, &records)?;
    let place = contents.append(&start.to_le_bytes())?;
    contents.append(&(sets.sets.len() as u32).to_le_bytes())?;
    contents.append(&[0; 4])?;
    contents.append(&index)?;
    Ok(Some(place))
}
