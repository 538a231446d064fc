//! Writes tar that every reader takes: ustar headers, with PAX records only where ustar has no
//! room.
//!
//! The same members give the same bytes: no time, name, user or process of the machine gets into an
//! archive, xattrs are sorted, and the extended header has a fixed name. This is what makes `pack`
//! reproducible.
//!
//! Records are used for names over 256 bytes or without a slash in the right place, numbers that
//! don't fit their octal field, times with fractions or before 1970, extended attributes
//! (`SCHILY.xattr.`, as GNU tar and libarchive write them) and sparse files (GNU form 1.0).

use std::io::Write;

use super::header::{BLOCK, checksums};
use super::sparse::SparseMap;
use crate::error::{Error, Result};
use crate::format::entry::{DeviceNumber, Entry, EntryKind, Timestamp};

/// The largest number of an 8-byte octal field with its closing NUL.
const OCTAL_8: u64 = 0o777_7777;
/// The largest number of a 12-byte octal field with its closing NUL: 8 GiB less one byte for sizes.
const OCTAL_12: u64 = 0o777_7777_7777;

/// Writes members to a stream. Each regular file must get exactly the bytes that its header states
/// before the next member begins; both too few and too many are errors, since the archive would be
/// damaged.
pub(crate) struct TarWriter<W> {
    sink: W,
    /// Bytes written so far, for padding.
    written: u64,
    /// Stored bytes of the current member that are still to come.
    owed: u64,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self { sink, written: 0, owed: 0 }
    }

    /// Begins a member. For a file, exactly its bytes (those of `sparse`, if given) follow by [`data`](Self::data).
    ///
    /// The top of the tree, whose path is empty, is written as `./`.
    ///
    /// # Errors
    /// `Unsupported` for a socket and for a device number that does not fit; `InvalidInput` when
    /// the member before is incomplete; `Io`.
    pub(crate) fn begin(&mut self, entry: &Entry, sparse: Option<&SparseMap>) -> Result<()> {
        self.pad()?;
        let mut name = entry.path.clone();
        if name.is_empty() {
            name.push(b'.');
        }
        if entry.is_directory() {
            name.push(b'/');
        }
        let map = sparse.map(map_blocks);
        let stored = match (&entry.kind, sparse) {
            (EntryKind::File { .. }, Some(sparse)) => {
                let data = sparse.segments.iter().try_fold(0_u64, |sum, &(_, length)| sum.checked_add(length));
                let map = map.as_ref().map_or(0, |map| map.len() as u64);
                data.and_then(|data| data.checked_add(map))
                    .ok_or_else(|| Error::invalid("a sparse file's segments are over 64 bits"))?
            }
            (EntryKind::File { size }, None) => *size,
            _ => 0,
        };
        HeaderBuilder::new(entry, &name, stored, sparse.map(|map| map.size))?.write(self)?;
        self.owed = stored;
        if let Some(map) = map {
            self.data(&map)?;
        }
        Ok(())
    }

    /// The next bytes of the current file.
    ///
    /// # Errors
    /// `InvalidInput` when there are more than the header promised.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.owed = self
            .owed
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Error::invalid("a file has more bytes than its header says"))?;
        self.put(bytes)
    }

    /// Writes the end marker, to full records of 10,240 bytes as POSIX wants them, and gives the stream back.
    pub(crate) fn finish(mut self) -> Result<W> {
        const RECORD: u64 = 20 * BLOCK as u64;
        self.pad()?;
        self.put(&[0; 2 * BLOCK])?;
        let rest = usize::try_from(self.written.next_multiple_of(RECORD) - self.written).unwrap_or(0);
        let zeros = [0; 20 * BLOCK];
        self.put(&zeros[..rest])?;
        Ok(self.sink)
    }

    /// Fills up the last block of the current member with zeros, after checking that all of its
    /// bytes came.
    fn pad(&mut self) -> Result<()> {
        if self.owed > 0 {
            return Err(Error::invalid(format!("a file has {} bytes fewer than its header says", self.owed)));
        }
        let rest = usize::try_from(self.written.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        self.put(&[0; BLOCK][..rest])
    }

    /// Writes bytes and counts them.
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write_all(bytes).map_err(|error| Error::io("the archive can't be written", error))?;
        self.written = self.written.wrapping_add(bytes.len() as u64);
        Ok(())
    }
}

/// One member's header block and the PAX records that go before it.
struct HeaderBuilder {
    block: [u8; BLOCK],
    records: Vec<u8>,
}

impl HeaderBuilder {
    /// Builds the header of an entry. `stored` is the size of its data in the archive, `sparse` the
    /// logical size of a sparse file.
    fn new(entry: &Entry, name: &[u8], stored: u64, sparse: Option<u64>) -> Result<Self> {
        let mut head = Self { block: [0; BLOCK], records: Vec::new() };
        head.block[257..265].copy_from_slice(b"ustar\x0000");
        match sparse {
            Some(size) => head.sparse(name, size),
            None => head.name(name),
        }
        head.octal(100, 8, u64::from(entry.mode & 0o7777));
        head.number(108, 8, OCTAL_8, u64::from(entry.uid), "uid");
        head.number(116, 8, OCTAL_8, u64::from(entry.gid), "gid");
        head.number(124, 12, OCTAL_12, stored, "size");
        head.time(entry.mtime);
        let (flag, link, device) = match &entry.kind {
            EntryKind::File { .. } => (b'0', None, None),
            EntryKind::HardLink { target } => (b'1', Some(target), None),
            EntryKind::Symlink { target } => (b'2', Some(target), None),
            EntryKind::CharDevice(number) => (b'3', None, Some(*number)),
            EntryKind::BlockDevice(number) => (b'4', None, Some(*number)),
            EntryKind::Directory => (b'5', None, None),
            EntryKind::Fifo => (b'6', None, None),
            EntryKind::Socket => {
                return Err(Error::unsupported("tar can't hold a socket").in_entry(&entry.path));
            }
        };
        head.block[156] = flag;
        if let Some(target) = link {
            if target.len() <= 100 {
                head.block[157..157 + target.len()].copy_from_slice(target);
            } else {
                head.block[157..257].copy_from_slice(&target[..100]);
                head.record(b"linkpath", target);
            }
        }
        if let Some(DeviceNumber { major, minor }) = device {
            if u64::from(major) > OCTAL_8 || u64::from(minor) > OCTAL_8 {
                return Err(Error::unsupported("the number of a device is too large for tar").in_entry(&entry.path));
            }
            head.octal(329, 8, u64::from(major));
            head.octal(337, 8, u64::from(minor));
        }
        let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
        // Sorted, so that the same tree gives the same bytes whatever order the file system lists
        // attributes in.
        xattrs.sort();
        for (name, value) in xattrs {
            head.record(&[b"SCHILY.xattr.", super::pax::xattr_keyword(name).as_slice()].concat(), value);
        }
        Ok(head)
    }

    /// A name: in one field, in two (ustar's prefix), or in a record.
    fn name(&mut self, name: &[u8]) {
        if name.len() <= 100 {
            self.block[..name.len()].copy_from_slice(name);
            return;
        }
        let split = (0..name.len().min(156))
            .rev()
            .find(|&at| name[at] == b'/' && at > 0 && (1..=100).contains(&(name.len() - at - 1)));
        if let Some(at) = split {
            self.block[345..345 + at].copy_from_slice(&name[..at]);
            let rest = &name[at + 1..];
            self.block[..rest.len()].copy_from_slice(rest);
        } else {
            // What readers without PAX would see.
            self.block[..100].copy_from_slice(&name[..100]);
            self.record(b"path", name);
        }
    }

    /// GNU's form 1.0: the real name and size in records, the map before the data. The name in the
    /// header is the one that tars without this form would give the condensed file.
    fn sparse(&mut self, name: &[u8], size: u64) {
        let (directory, base) = crate::format::path::split_last(name);
        let mut condensed = directory.to_vec();
        if !condensed.is_empty() {
            condensed.push(b'/');
        }
        condensed.extend_from_slice(b"GNUSparseFile.0/");
        condensed.extend_from_slice(base);
        self.record(b"GNU.sparse.major", b"1");
        self.record(b"GNU.sparse.minor", b"0");
        self.record(b"GNU.sparse.name", name);
        self.record(b"GNU.sparse.realsize", size.to_string().as_bytes());
        self.name(&condensed);
    }

    /// Writes an octal number with leading zeros into a field of `len` bytes, the last of which
    /// stays NUL.
    fn octal(&mut self, at: usize, len: usize, value: u64) {
        let text = format!("{value:0width$o}", width = len - 1);
        let bytes = text.as_bytes();
        self.block[at..at + len - 1].copy_from_slice(&bytes[bytes.len() - (len - 1)..]);
    }

    /// A number: in its field, or as a record when it does not fit.
    fn number(&mut self, at: usize, len: usize, most: u64, value: u64, key: &str) {
        if value <= most {
            self.octal(at, len, value);
        } else {
            self.octal(at, len, 0);
            self.record(key.as_bytes(), value.to_string().as_bytes());
        }
    }

    /// Writes the modification time: whole seconds from 1970 that fit go into the field, all others
    /// into a record.
    fn time(&mut self, time: Timestamp) {
        let plain = u64::try_from(time.seconds).ok().filter(|&seconds| seconds <= OCTAL_12);
        self.octal(136, 12, plain.unwrap_or(0));
        if plain.is_some() && time.nanoseconds == 0 {
            return;
        }
        let text = if time.nanoseconds == 0 {
            time.seconds.to_string()
        } else if time.seconds < 0 {
            // −1 s + 0.25 s is written −0.75.
            let whole = (time.seconds + 1).unsigned_abs();
            format!("-{whole}.{:09}", 1_000_000_000 - time.nanoseconds)
        } else {
            format!("{}.{:09}", time.seconds, time.nanoseconds)
        };
        let text = if text.contains('.') { text.trim_end_matches('0') } else { &text };
        self.record(b"mtime", text.as_bytes());
    }

    /// Appends a record, `length SP key=value LF`. The length counts its own digits, so it is found
    /// by trying.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        // A blank, an equals sign and a line feed. The length's own digits may add a digit, so it
        // is repeated until it is stable.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.records.extend_from_slice(length.to_string().as_bytes());
        self.records.push(b' ');
        self.records.extend_from_slice(key);
        self.records.push(b'=');
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }

    /// Writes the extended header, if there are records, and then the member's own.
    fn write<W: Write>(mut self, writer: &mut TarWriter<W>) -> Result<()> {
        if !self.records.is_empty() {
            let mut extension = Self { block: [0; BLOCK], records: Vec::new() };
            extension.block[257..265].copy_from_slice(b"ustar\x0000");
            extension.block[..9].copy_from_slice(b"PaxHeader");
            extension.octal(100, 8, 0o644);
            extension.octal(108, 8, 0);
            extension.octal(116, 8, 0);
            extension.octal(124, 12, self.records.len() as u64);
            extension.octal(136, 12, 0);
            extension.block[156] = b'x';
            extension.seal();
            writer.put(&extension.block)?;
            writer.put(&self.records)?;
            writer.pad()?;
        }
        self.seal();
        writer.put(&self.block)
    }

    /// Sets the checksum, which must be the last field to be written.
    fn seal(&mut self) {
        let (sum, _) = checksums(&self.block);
        let text = format!("{sum:06o}\0 ");
        self.block[148..156].copy_from_slice(text.as_bytes());
    }
}

/// The map of a sparse file of form 1.0: decimal numbers, one a line, padded to full blocks.
fn map_blocks(sparse: &SparseMap) -> Vec<u8> {
    let mut text = String::new();
    // A file that ends in a hole gets an empty segment at its end, as GNU tar writes it.
    let end = sparse.segments.last().map_or(0, |&(offset, length)| offset + length);
    let tail = (end < sparse.size || sparse.segments.is_empty()).then_some((sparse.size, 0));
    let segments = sparse.segments.iter().copied().chain(tail);
    text.push_str(&format!("{}\n", sparse.segments.len() + usize::from(tail.is_some())));
    for (offset, length) in segments {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut blocks = text.into_bytes();
    blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    blocks
}
