//! POSIX access control lists: converts the text that `tar --acls` writes into the value of the
//! kernel's extended attribute.
//!
//! The text form is that of `acl_to_text(3)` (draft POSIX.1e), in the PAX records
//! `SCHILY.acl.access` and `SCHILY.acl.default`. The layout of the attribute is from Linux
//! `include/uapi/linux/posix_acl_xattr.h`: a version of four bytes, then entries of tag,
//! permissions and id, all little-endian and sorted by tag and id.

use crate::error::{Error, Result};

/// The only version of the attribute that kernels accept.
const VERSION: u32 = 2;
/// The id of entries that have none: owner, owning group, mask and others.
const NO_ID: u32 = u32::MAX;

/// The value of `system.posix_acl_access` or `…_default` for a text such as
/// `user::rwx,user:1000:r--,group::r-x,mask::r-x,other::r-x` (entries by comma or newline, a
/// comment after `#`). Qualifiers are numbers; a fourth field, star's numeric id, wins.
///
/// `None` when an owner is given by name only: names of the machine that packed say nothing here.
///
/// # Errors
/// `Malformed` for what is no list.
pub(crate) fn to_xattr(text: &[u8]) -> Result<Option<Vec<u8>>> {
    let broken = || Error::malformed("an access control list in a PAX header can't be read");
    let text = std::str::from_utf8(text).map_err(|_| broken())?;
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let mut fields = entry.split(':').map(str::trim);
        let kind = fields.next().ok_or_else(broken)?;
        let mut qualifier = fields.next().ok_or_else(broken)?;
        let permissions = match fields.next() {
            Some(permissions) => permissions,
            // Solaris writes `mask:r-x` and `other:r-x` without an empty qualifier.
            None if matches!(kind, "mask" | "m" | "other" | "o") => std::mem::take(&mut qualifier),
            None => return Err(broken()),
        };
        let star_id = fields.next();
        let id = match (star_id, qualifier) {
            (None, "") => None,
            (Some(id), _) => Some(id),
            (None, name) => Some(name),
        };
        let id = match id.map(str::parse::<u32>) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => return Ok(None),
        };
        if id == Some(NO_ID) {
            return Err(broken());
        }
        let tag: u16 = match (kind, id) {
            ("user" | "u", None) => 0x01,
            ("user" | "u", Some(_)) => 0x02,
            ("group" | "g", None) => 0x04,
            ("group" | "g", Some(_)) => 0x08,
            ("mask" | "m", None) => 0x10,
            ("other" | "o", None) => 0x20,
            _ => return Err(broken()),
        };
        let mut bits: u16 = 0;
        for character in permissions.chars() {
            bits |= match character {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return Err(broken()),
            };
        }
        entries.push((tag, id.unwrap_or(NO_ID), bits));
    }
    entries.sort_by_key(|&(tag, id, _)| (tag, id));
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&bits.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Ok(Some(value))
}
