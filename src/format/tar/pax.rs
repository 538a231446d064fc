//! PAX extended headers (type `x`): records that say about the next member what its header can't.
//!
//! Format facts: POSIX.1-2001, "pax Extended Header", for the record's form and the standard
//! keywords; the manuals of GNU tar, star and libarchive for `GNU.sparse.*`, `SCHILY.*` and
//! `LIBARCHIVE.*`. Parsing is strict: a reader that skips what it does not understand may disagree
//! with others about where the next member begins.
//!
//! Records that are understood become fields of [`PaxHeader`]. Keywords that say nothing about a
//! tree are ignored by a list; everything else is reported as an omission with its keyword, so that
//! no information is lost without a note.

use super::acl;
use super::sparse::PaxSparse;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::format::entry::{Timestamp, Xattr};
use crate::limits::Limits;
use crate::omissions::Omitted;

/// What the extended headers before a member say about it. Fields are `None` where no record gave
/// them.
#[derive(Debug, Default)]
pub(crate) struct PaxHeader {
    /// The name, in place of the header's.
    pub(crate) path: Option<Vec<u8>>,
    /// The target of a link, in place of the header's.
    pub(crate) link_path: Option<Vec<u8>>,
    /// Bytes of data in the archive, in place of the header's.
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) dev_major: Option<u32>,
    pub(crate) dev_minor: Option<u32>,
    pub(crate) xattrs: Vec<Xattr>,
    /// What the records say and the entry can't.
    pub(crate) omitted: Vec<Omitted>,
    /// Access control lists as text: the attribute's name, and its value where it can be had.
    acls: Vec<(&'static [u8], Option<Vec<u8>>)>,
    /// What makes the member a sparse file.
    pub(crate) sparse: PaxSparse,
}

/// An iterator over a header's records, as key and value. Ends after the first error.
pub(crate) struct PaxRecords<'a>(&'a [u8]);

impl<'a> Iterator for PaxRecords<'a> {
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = take_record(self.0);
        match record {
            Some((key, value, rest)) => {
                self.0 = rest;
                Some(Ok((key, value)))
            }
            None => {
                self.0 = &[];
                Some(Err(Error::malformed("a PAX extended header holds a record that is none")))
            }
        }
    }
}

/// The records of a header's content.
pub(crate) fn records(block: &[u8]) -> PaxRecords<'_> {
    PaxRecords(block)
}

/// Splits off one record, `length SP key=value LF`, where the length counts the whole record with
/// its own digits.
fn take_record(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = block.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&block[..blank])?).ok()?;
    let record = block.get(blank + 1..length)?;
    let (&last, record) = record.split_last()?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    (last == b'\n' && equals > 0).then_some((&record[..equals], &record[equals + 1..], &block[length..]))
}

/// A decimal number of digits only, within 64 bits. `str::parse` alone would accept a plus sign.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl PaxHeader {
    /// Takes the records of one `x` header. A later header adds to an earlier one and wins over it.
    pub(crate) fn apply(&mut self, block: &[u8], limits: &Limits) -> Result<()> {
        for record in records(block) {
            let (key, value) = record?;
            self.apply_record(key, value, limits).map_err(|error| match error.kind() {
                ErrorKind::Malformed => error.with_hint("the archive was not made by a working tar; make it again"),
                _ => error,
            })?;
        }
        Ok(())
    }

    /// Takes one record. An empty value takes an earlier record of that keyword back, as POSIX has
    /// it.
    fn apply_record(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
        match key {
            // An empty value takes an earlier record back.
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link_path = text(value)?,
            b"size" => self.size = optional(value, || decimal(value), "size")?,
            b"uid" => self.uid = optional(value, || id(value), "uid")?,
            b"gid" => self.gid = optional(value, || id(value), "gid")?,
            b"mtime" => self.mtime = optional(value, || time(value), "mtime")?,
            b"SCHILY.devmajor" => self.dev_major = optional(value, || number(value), "SCHILY.devmajor")?,
            b"SCHILY.devminor" => self.dev_minor = optional(value, || number(value), "SCHILY.devminor")?,
            b"SCHILY.realsize" => return Err(Error::unsupported("a sparse file in the form of `star`")),
            // An older form of GNU tar's; the kernel's value ends with a NUL.
            b"RHT.security.selinux" => {
                self.xattr(b"security.selinux".to_vec(), [value, b"\0"].concat(), limits)?;
            }
            b"SCHILY.acl.ace" => note(&mut self.omitted, dropped("NFSv4 access control list", "Linux has none")),
            b"SCHILY.fflags" => note(&mut self.omitted, dropped("file flags", "an image has none")),
            b"SCHILY.acl.access" => self.acl(b"system.posix_acl_access", value, limits)?,
            b"SCHILY.acl.default" => self.acl(b"system.posix_acl_default", value, limits)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(xattr_name(name), value.to_vec(), limits)?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let name = percent_decoded(name)
                        .ok_or_else(|| Error::malformed("an attribute's name in a PAX header is badly encoded"))?;
                    let value = base64_decoded(value)
                        .ok_or_else(|| Error::malformed("an attribute's value in a PAX header is no base64"))?;
                    // bsdtar writes both forms; the plain one needs no decoding and wins.
                    if !self.xattrs.iter().any(|(known, _)| *known == name) {
                        self.xattr(name, value, limits)?;
                    }
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.apply(name, value, limits)?;
                } else if is_part_of_volume(key) {
                    return Err(several_volumes());
                } else if KeywordMeaning::of(key) == KeywordMeaning::Unknown {
                    note(&mut self.omitted, unknown_record("PAX record", key));
                }
            }
        }
        Ok(())
    }

    /// Adds an extended attribute; a later one of the same name replaces the earlier.
    ///
    /// # Errors
    /// `Malformed` for a name that no kernel takes, `LimitExceeded` for a too long name or value or
    /// too many attributes.
    fn xattr(&mut self, name: Vec<u8>, value: Vec<u8>, limits: &Limits) -> Result<()> {
        if name.is_empty() || name.contains(&0) {
            return Err(Error::malformed("an extended attribute has no name, or a NUL in it"));
        }
        if name.len() as u64 > limits.xattr_name {
            return Err(Error::limit("xattr_name", limits.xattr_name, "the name of an extended attribute"));
        }
        if value.len() as u64 > limits.xattr_value {
            return Err(Error::limit("xattr_value", limits.xattr_value, "the value of an extended attribute"));
        }
        self.xattrs.retain(|(known, _)| *known != name);
        self.xattrs.push((name, value));
        if self.xattrs.len() as u64 > limits.xattrs_per_entry {
            return Err(Error::limit("xattrs_per_entry", limits.xattrs_per_entry, "the number of extended attributes"));
        }
        Ok(())
    }

    /// Adds an access control list given as text. A later one of its name replaces an earlier one;
    /// an empty text removes it.
    fn acl(&mut self, name: &'static [u8], text: &[u8], limits: &Limits) -> Result<()> {
        if text.is_empty() {
            self.acls.retain(|(known, _)| *known != name);
            return Ok(());
        }
        let value = acl::to_xattr(text)?;
        if value.as_ref().is_some_and(|value| value.len() as u64 > limits.xattr_value) {
            return Err(Error::limit("xattr_value", limits.xattr_value, "an access control list"));
        }
        self.acls.retain(|(known, _)| *known != name);
        self.acls.push((name, value));
        Ok(())
    }

    /// Removes and returns the extended attributes, with access control lists converted to
    /// attributes, and what could not be converted. Call it once, after the last record.
    pub(crate) fn take_xattrs(&mut self) -> (Vec<Xattr>, Vec<Omitted>) {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        let mut omitted = std::mem::take(&mut self.omitted);
        for (name, value) in std::mem::take(&mut self.acls) {
            // GNU tar writes both forms; the kernel's own holds numbers and wins.
            if xattrs.iter().any(|(known, _)| known == name) {
                continue;
            }
            match value {
                Some(value) => xattrs.push((name.to_vec(), value)),
                None => omitted.push(Omitted::attribute(name, "it gives owners by name only")),
            }
        }
        (xattrs, omitted)
    }
}

/// Whether a record that is not handled may be ignored silently or has to be reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeywordMeaning {
    /// It says nothing about a tree: access times, names of owners, comments.
    Ignored,
    /// Its meaning is not known here, so it is reported.
    Unknown,
}

impl KeywordMeaning {
    /// Looks a keyword up in the list of those that are ignored.
    pub(super) fn of(key: &[u8]) -> Self {
        match key {
            b"atime" | b"ctime" | b"comment" | b"charset" | b"hdrcharset" | b"uname" | b"gname" => Self::Ignored,
            b"SCHILY.dev" | b"SCHILY.ino" | b"SCHILY.nlink" | b"SCHILY.filetype" | b"SCHILY.tarfiletype" => {
                Self::Ignored
            }
            b"SCHILY.archtype" | b"SCHILY.release" | b"SCHILY.volhdr" | b"SCHILY.dir" => Self::Ignored,
            b"LIBARCHIVE.creationtime" | b"LIBARCHIVE.symlinktype" => Self::Ignored,
            b"GNU.dumpdir" | b"GNU.volume.label" => Self::Ignored,
            _ => Self::Unknown,
        }
    }
}

/// Whether a record belongs to an archive that GNU tar split over several volumes.
pub(super) fn is_part_of_volume(key: &[u8]) -> bool {
    matches!(key, b"GNU.volume.filename" | b"GNU.volume.size" | b"GNU.volume.offset")
}

/// The refusal of such an archive.
pub(super) fn several_volumes() -> Error {
    Error::unsupported("a part of an archive in several volumes").with_hint("join the volumes with `tar -M` first")
}

/// Omissions that are reported of one member at most: it may hold a hundred thousand records.
const MAX_OMISSIONS_PER_MEMBER: usize = 128;

/// Adds an omission unless the member has enough of them.
pub(super) fn note(omitted: &mut Vec<Omitted>, what: Omitted) {
    if omitted.len() < MAX_OMISSIONS_PER_MEMBER {
        omitted.push(what);
    }
}

/// An omission of a known part of a member, with the reason.
fn dropped(part: &'static str, reason: &'static str) -> Omitted {
    Omitted::Dropped { part: part.into(), reason: reason.into() }
}

/// The omission of a record with an unknown keyword. A keyword is as long as its maker likes; 80
/// bytes of it are kept.
pub(super) fn unknown_record(what: &str, key: &[u8]) -> Omitted {
    let part = format!("{what} `{}`", Escaped(&key[..key.len().min(80)]));
    Omitted::Dropped { part: part.into(), reason: "its meaning is not known".into() }
}

/// A name or link target; empty means that the header's own counts.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        return Err(Error::malformed("a name in a PAX header holds a NUL byte"));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// A value that takes an earlier record back when it is empty, as POSIX has it; anything else must
/// parse.
pub(super) fn optional<T>(value: &[u8], parse: impl Fn() -> Option<T>, key: &str) -> Result<Option<T>> {
    if value.is_empty() {
        return Ok(None);
    }
    parse()
        .map(Some)
        .ok_or_else(|| Error::malformed(format!("the `{key}` in a PAX header is out of range or no number")))
}

/// An owner: 0 to 2^32−2. The last value means "leave as it is" to `chown`, so a file would keep
/// the extracting user's owner, and its setuid bit.
pub(super) fn id(value: &[u8]) -> Option<u32> {
    number(value).filter(|&id| id != u32::MAX)
}

/// A number within 32 bits.
fn number(value: &[u8]) -> Option<u32> {
    u32::try_from(decimal(value)?).ok()
}

/// Seconds with an optional sign and fraction. Digits past the ninth are below our unit and round down.
pub(super) fn time(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds: u32 = 0;
    for place in 0..9 {
        nanoseconds = nanoseconds * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    let below = fraction.iter().skip(9).any(|&digit| digit != b'0');
    let stamp = match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) if !below => Timestamp::from_seconds(-seconds),
        (true, _) => {
            let up = nanoseconds + u32::from(below);
            Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - up }
        }
    };
    in_range(stamp)
}

/// The earliest modification time that is accepted, in seconds since 1970.
pub(crate) const FIRST_SECOND: i64 = -LAST_SECOND - 1;
/// The latest modification time that is accepted, in seconds since 1970: the year 36812.
pub(crate) const LAST_SECOND: i64 = (1 << 40) - 1;

/// The time, if it is within the accepted range. Times further away than any file system counts
/// (ext4 ends in 2446) are a mistake or a trap: they overflow in programs that convert them.
pub(crate) fn in_range(stamp: Timestamp) -> Option<Timestamp> {
    (FIRST_SECOND..=LAST_SECOND).contains(&stamp.seconds).then_some(stamp)
}

/// An attribute's name as part of a keyword, which must not hold `=`: escaped as GNU tar does it.
pub(crate) fn xattr_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            byte => keyword.push(byte),
        }
    }
    keyword
}

/// Decodes an attribute's name from a keyword. Only the two escapes of [`xattr_keyword`] exist;
/// anything else after a `%` is part of the name.
fn xattr_name(keyword: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(keyword.len());
    let mut rest = keyword;
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, tail) = match rest {
            [b'%', b'2', b'5', tail @ ..] => (b'%', tail),
            [b'%', b'3', b'D', tail @ ..] => (b'=', tail),
            _ => (byte, tail),
        };
        name.push(byte);
        rest = tail;
    }
    name
}

/// Decodes a name in URL encoding, as libarchive writes it; `None` for an incomplete escape.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail.get(2..)?;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    Some(out)
}

/// Base 64 with or without its padding, as libarchive writes it.
fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for &byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    (count < 6).then_some(out)
}
