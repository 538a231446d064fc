//! The 512-byte header block: its checksum, its numbers, its names.
//!
//! Format facts: v7 and ustar after POSIX.1-1988, GNU after the GNU tar manual, "Basic Tar Format".
//! Numbers are octal text or GNU's base 256; the reader accepts both in every format, as all tars
//! do.

use crate::error::{Error, Result};

/// Bytes of a block. Headers, data and the end of an archive all come in whole blocks.
pub(crate) const BLOCK: usize = 512;

/// A header block whose checksum is right. Its other fields are checked when they are read.
#[derive(Clone)]
pub(crate) struct Header([u8; BLOCK]);

/// The three layouts, told apart by the magic number at offset 257.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFormat {
    /// The layout of Unix version 7, without a magic number.
    V7,
    /// POSIX.1-1988, with a prefix for long names.
    Ustar,
    /// GNU tar's, with other fields in place of the prefix.
    Gnu,
}

/// A numeric field of the header: its name in the manuals, its offset and its length in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// Permission bits.
pub(crate) const MODE: Field = Field { name: "mode", at: 100, len: 8 };
/// The owner's number.
pub(crate) const UID: Field = Field { name: "uid", at: 108, len: 8 };
/// The group's number.
pub(crate) const GID: Field = Field { name: "gid", at: 116, len: 8 };
/// Bytes of data after the header.
pub(crate) const SIZE: Field = Field { name: "size", at: 124, len: 12 };
/// Seconds since 1970.
pub(crate) const MTIME: Field = Field { name: "mtime", at: 136, len: 12 };
/// The sum of the header's bytes, with this field as blanks.
pub(crate) const CHECKSUM: Field = Field { name: "checksum", at: 148, len: 8 };
/// A device's driver.
pub(crate) const DEV_MAJOR: Field = Field { name: "devmajor", at: 329, len: 8 };
/// The device of that driver.
pub(crate) const DEV_MINOR: Field = Field { name: "devminor", at: 337, len: 8 };

impl Header {
    /// Takes a block as a header.
    ///
    /// # Errors
    /// `Malformed` when the checksum is wrong, taken as unsigned (POSIX) and as signed bytes (old
    /// Sun and BSD tars).
    pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Self> {
        let header = Self(*block);
        let stated = header.number(CHECKSUM)?;
        // Old Sun and BSD tars summed `char`s, which were signed. Both sums are equal for headers
        // in ASCII.
        let (unsigned, signed) = checksums(block);
        if stated != i128::from(unsigned) && stated != i128::from(signed) {
            return Err(Error::malformed(format!(
                "a tar header's checksum is wrong: it says {stated}, its bytes sum up to {unsigned}"
            )));
        }
        Ok(header)
    }

    /// Whether a block is likely to be the first header of a tar archive: not all zeros, and with a
    /// correct checksum. Used for detection, since v7 archives have no magic number.
    pub(crate) fn looks_like_one(block: &[u8]) -> bool {
        block.first_chunk::<BLOCK>().is_some_and(|block| !is_zero(block) && Self::parse(block).is_ok())
    }

    /// Which layout the header has, by its magic number.
    pub(crate) fn format(&self) -> HeaderFormat {
        match &self.0[257..265] {
            b"ustar  \0" => HeaderFormat::Gnu,
            magic if magic.starts_with(b"ustar") => HeaderFormat::Ustar,
            _ => HeaderFormat::V7,
        }
    }

    /// The type of the member as the byte at offset 156; 0 is v7's regular file.
    pub(crate) fn typeflag(&self) -> u8 {
        self.0[156]
    }

    /// The name field, with the ustar prefix where the layout has one.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        if self.format() == HeaderFormat::Ustar {
            let prefix = until_nul(&self.0[345..500]);
            if !prefix.is_empty() {
                return [prefix, b"/", name].concat();
            }
        }
        name.to_vec()
    }

    /// The target of a link, up to the first NUL. All 100 bytes may be used.
    pub(crate) fn link_name(&self) -> &[u8] {
        until_nul(&self.0[157..257])
    }

    /// The raw bytes from `at` on, for the parts that only GNU's sparse headers have.
    pub(crate) fn bytes(&self, at: usize, len: usize) -> &[u8] {
        self.0.get(at..at.saturating_add(len)).unwrap_or_default()
    }

    /// A numeric field by its place in the header.
    ///
    /// # Errors
    /// `Malformed`, naming the field.
    pub(crate) fn number(&self, field: Field) -> Result<i128> {
        let bytes = self.bytes(field.at, field.len);
        // A leading NUL, which an overflow of the field before left in old tars, is passed over as GNU tar does it. But
        // readers differ on it, and what they take as a size decides where the next header is.
        let bytes = match bytes {
            [0, rest @ ..] if field.at != SIZE.at => rest,
            _ => bytes,
        };
        number(bytes).ok_or_else(|| Error::malformed(format!("the {} in a tar header is no number", field.name)))
    }
}

/// Whether a block is all zeros, which ends an archive.
pub(crate) fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

/// A number as tar writes it: octal digits with blanks or NULs around, or GNU's base 256, whose
/// first byte has its high bit set. An empty field is 0. At most 96 bits, so `i128` holds it.
pub(crate) fn number(field: &[u8]) -> Option<i128> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let mut value = if first & 0x40 != 0 { i128::from(first | 0x80) - 256 } else { i128::from(first & 0x7f) };
        for &byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        }
        return Some(value);
    }
    let start = field.iter().position(|&byte| byte != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(digits.len());
    let rest = &digits[end..];
    // Blanks may stand before the NUL that ends the number. What stands behind it no reader looks
    // at, if there are digits.
    let ended = if end > 0 { rest.split(|&byte| byte == 0).next().unwrap_or_default() } else { rest };
    if ended.iter().any(|&byte| byte != 0 && byte != b' ') {
        return None;
    }
    digits[..end].iter().try_fold(0_i128, |value, digit| value.checked_mul(8)?.checked_add(i128::from(digit - b'0')))
}

/// The sum of a header's bytes with the checksum field taken as blanks: unsigned and signed.
pub(crate) fn checksums(block: &[u8; BLOCK]) -> (u32, i32) {
    let mut unsigned: u32 = 0;
    let mut signed: i32 = 0;
    for (index, &byte) in block.iter().enumerate() {
        let byte = if (CHECKSUM.at..CHECKSUM.at + CHECKSUM.len).contains(&index) { b' ' } else { byte };
        unsigned += u32::from(byte);
        signed += i32::from(byte.cast_signed());
    }
    (unsigned, signed)
}

/// A text field without the NUL that ends it and what follows.
fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}
