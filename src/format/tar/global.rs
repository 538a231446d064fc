//! Global PAX headers (type `g`): records that hold for every member after them.
//!
//! Owners and times are applied as GNU tar applies them. Records that would rename or resize
//! members are refused by name, since readers differ on them: a hostile archive could show one tree
//! to a scanner and another to the extractor.

use super::pax::{self, KeywordMeaning, PaxHeader};
use crate::error::{Error, Escaped, Result};
use crate::format::entry::Timestamp;
use crate::omissions::Omitted;

/// The records of the last global header, as far as they apply to members.
#[derive(Debug, Default)]
pub(super) struct GlobalPaxHeader {
    values: GlobalValues,
    /// PaxRecords that no reader here understands, told with the next member.
    unknown: Vec<Omitted>,
}

/// The values in effect. A record that was never given is `None`, and so is one with an empty
/// value, which POSIX defines as taking the record back.
#[derive(Debug, Default, Clone, Copy)]
struct GlobalValues {
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Timestamp>,
}

impl GlobalPaxHeader {
    /// Takes the records of one `g` header, which replace those of the one before.
    ///
    /// # Errors
    /// `Malformed` for records that name or size members, and where an earlier header's owner or time is not
    /// repeated: GNU tar then forgets it, and others don't. `Unsupported` for attributes and parts of volumes.
    pub(super) fn apply(&mut self, block: &[u8]) -> Result<()> {
        let before = std::mem::take(&mut self.values);
        let mut repeated = [false; 3];
        for record in pax::records(block) {
            let (key, value) = record?;
            match key {
                b"uid" => {
                    self.values.uid = pax::optional(value, || pax::id(value), "uid")?;
                    repeated[0] = true;
                }
                b"gid" => {
                    self.values.gid = pax::optional(value, || pax::id(value), "gid")?;
                    repeated[1] = true;
                }
                b"mtime" => {
                    self.values.mtime = pax::optional(value, || pax::time(value), "mtime")?;
                    repeated[2] = true;
                }
                b"path" | b"linkpath" | b"size" | b"SCHILY.devmajor" | b"SCHILY.devminor" | b"SCHILY.realsize" => {
                    return Err(Error::malformed(sets(key)));
                }
                _ if key.starts_with(b"GNU.sparse.") => return Err(Error::malformed(sets(key))),
                _ if pax::is_part_of_volume(key) => return Err(pax::several_volumes()),
                _ if is_attribute(key) => {
                    return Err(Error::unsupported(sets(key))
                        .with_hint("make the archive again with the attributes on the members that have them"));
                }
                _ if KeywordMeaning::of(key) == KeywordMeaning::Ignored => {}
                _ => pax::note(&mut self.unknown, pax::unknown_record("global PAX record", key)),
            }
        }
        let had = [before.uid.is_some(), before.gid.is_some(), before.mtime.is_some()];
        for ((key, had), repeated) in ["uid", "gid", "mtime"].iter().zip(had).zip(repeated) {
            if had && !repeated {
                return Err(Error::malformed(format!(
                    "a second global header does not repeat the `{key}` of the first, and readers differ on whether it still holds"
                )));
            }
        }
        Ok(())
    }

    /// What a member starts from, before its own extended headers.
    pub(super) fn extended(&mut self) -> PaxHeader {
        let GlobalValues { uid, gid, mtime } = self.values;
        let mut extended = PaxHeader::default();
        (extended.uid, extended.gid, extended.mtime) = (uid, gid, mtime);
        extended.omitted = std::mem::take(&mut self.unknown);
        extended
    }

    /// Whether members have anything from here.
    pub(super) fn is_empty(&self) -> bool {
        let GlobalValues { uid, gid, mtime } = self.values;
        uid.is_none() && gid.is_none() && mtime.is_none() && self.unknown.is_empty()
    }
}

/// The sentence for a record that must not be global.
fn sets(key: &[u8]) -> String {
    format!("a global header sets `{}` for every member after it", Escaped(key))
}

/// Whether a record is an extended attribute or an access control list.
fn is_attribute(key: &[u8]) -> bool {
    [&b"SCHILY.xattr."[..], b"LIBARCHIVE.xattr.", b"SCHILY.acl.", b"RHT.security."]
        .iter()
        .any(|prefix| key.starts_with(prefix))
}
