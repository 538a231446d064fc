//! The walk over a tar stream: one member after the other, each with its one size decided once.
//! Strict where readers in the world disagree, since what two of them see differently is a trap.

use super::header::{self, BLOCK, Dialect, Header};
use super::pax::{self, Extended};
use super::sparse::{MapInData, OldGnu, SparseMap};
use crate::error::{Error, Result};
use crate::format::chunk::{Chunk, Chunks};
use crate::format::entry::{DeviceNumber, Entry, EntryKind, Timestamp};
use crate::format::path;
use crate::limits::Limits;

/// A member and, for a file with holes, where its stored bytes belong.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) entry: Entry,
    pub(crate) sparse: Option<SparseMap>,
    /// Names of extended attributes that the archive has in a form which can't be used.
    pub(crate) lost_xattrs: Vec<Vec<u8>>,
}

/// Reads members from a stream of chunks.
pub(crate) struct TarReader<C> {
    chunks: C,
    current: Option<Chunk>,
    /// Decoded bytes taken so far.
    offset: u64,
    limits: Limits,
    members: u64,
    data: Data,
    ended: bool,
}

/// What is left of the current member's data.
#[derive(Default)]
struct Data {
    stored: u64,
    padding: u64,
    /// Segments still to come, last one first; without holes there is one.
    segments: Vec<(u64, u64)>,
}

/// What stood before a member to be applied to it.
#[derive(Default)]
struct Before {
    pax: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Before {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<C: Chunks> TarReader<C> {
    pub(crate) fn new(chunks: C, limits: &Limits) -> Self {
        Self {
            chunks,
            current: None,
            offset: 0,
            limits: limits.clone(),
            members: 0,
            data: Data::default(),
            ended: false,
        }
    }

    /// The next member; what was left of the one before is skipped. `None` after the end marker,
    /// or at the end of a stream that has none.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        if self.ended {
            return Ok(None);
        }
        self.skip_data()?;
        let at = self.offset;
        self.read_member().map_err(|error| error.at_offset(at))
    }

    /// The next stored bytes of the current member, and where in the file they belong.
    pub(crate) fn data(&mut self) -> Result<Option<(u64, Chunk)>> {
        let Some((offset, length)) = self.data.segments.pop() else { return Ok(None) };
        let piece = self.take_some(length)?;
        let count = piece.len() as u64;
        self.data.stored -= count;
        if count < length {
            self.data.segments.push((offset + count, length - count));
        }
        Ok(Some((offset, piece)))
    }

    /// Reads on to the end of the stream, so that everything before is known to be whole.
    ///
    /// # Errors
    /// Those of the stream, and `LimitExceeded` when too much follows the end marker.
    pub(crate) fn finish(&mut self) -> Result<()> {
        debug_assert!(self.ended, "only after `next` gave `None`");
        let mut trailing = self.current.take().map_or(0, |rest| rest.len() as u64);
        loop {
            if trailing > self.limits.trailing {
                return Err(Error::limit("trailing", self.limits.trailing, "what follows the end of the archive"));
            }
            let Some(chunk) = self.chunks.next_chunk()? else { return Ok(()) };
            trailing += chunk.len() as u64;
        }
    }

    fn read_member(&mut self) -> Result<Option<Member>> {
        let mut before = Before::default();
        loop {
            let Some(block) = self.read_block()? else {
                return self.end(&before);
            };
            if header::is_zero(&block) {
                // One zero block at the very end is a whole archive; before anything else it takes two.
                return match self.read_block()? {
                    Some(second) if !header::is_zero(&second) => {
                        Err(Error::malformed("a single block of zeros stands between the members of an archive"))
                    }
                    _ => self.end(&before),
                };
            }
            let head = Header::parse(&block)?;
            match head.typeflag() {
                b'x' => {
                    let block = self.read_extension(&head, self.limits.extended_header, "extended_header")?;
                    before.pax.get_or_insert_default().apply(&block, &self.limits)?;
                }
                b'g' => {
                    let block = self.read_extension(&head, self.limits.extended_header, "extended_header")?;
                    check_global(&block)?;
                }
                b'L' => before.long_name = Some(self.read_long_name(&head)?),
                b'K' => before.long_link = Some(self.read_long_name(&head)?),
                b'V' => {
                    let size = size_of(&head)?;
                    self.begin_data(size, vec![(0, size)]);
                    self.skip_data()?;
                }
                b'M' => return Err(Error::unsupported("a part of an archive in several volumes")),
                _ => {
                    self.members += 1;
                    if self.members > self.limits.entries {
                        return Err(Error::limit("entries", self.limits.entries, "the number of members"));
                    }
                    let raw = raw_name(&head, &before);
                    return self.member(&head, before, &raw).map(Some).map_err(|error| error.in_entry(&raw));
                }
            }
        }
    }

    fn end(&mut self, before: &Before) -> Result<Option<Member>> {
        if !before.is_empty() {
            return Err(Error::malformed("the archive ends after an extended header that belongs to nothing"));
        }
        self.ended = true;
        Ok(None)
    }

    fn member(&mut self, head: &Header, before: Before, raw: &[u8]) -> Result<Member> {
        let mut extended = before.pax.unwrap_or_default();
        let limits = self.limits.clone();
        let path = path::normalize(raw, &limits)?;
        let stored = match extended.size {
            // The header's own size is not used, but must be a number.
            Some(size) => head.number(header::SIZE).map(|_| size)?,
            None => size_of(head)?,
        };
        let is_file = matches!(head.typeflag(), b'0' | 0 | b'7' | b'S');
        if !is_file && !matches!(head.typeflag(), b'1'..=b'6') {
            return Err(unknown_type(head.typeflag()));
        }
        if raw.ends_with(b"/") && is_file && !(head.typeflag() == 0 && stored == 0) {
            return Err(Error::malformed("a regular file whose name ends with a slash"));
        }
        if is_file {
            if stored > limits.file_size {
                return Err(Error::limit("file_size", limits.file_size, format_args!("a file of {stored} bytes")));
            }
        } else if stored != 0 {
            return Err(Error::malformed(format!(
                "a member that is no regular file has {stored} bytes of data, which readers take differently"
            )));
        }
        let link = || before.long_link.clone().unwrap_or_else(|| head.link_name().to_vec());
        let mut sparse = None;
        let kind = match head.typeflag() {
            // Version 7 knew directories by the slash at the end of their names.
            0 if raw.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' | b'S' => {
                sparse = self.begin_file(head, &mut extended, stored)?;
                EntryKind::File { size: sparse.as_ref().map_or(stored, |map| map.size) }
            }
            b'1' => {
                let target = extended.link_path.take().unwrap_or_else(link);
                let target = path::normalize(&target, &limits).map_err(|error| {
                    Error::new(error.kind(), format!("the target of a hard link is refused: {}", error.message()))
                })?;
                EntryKind::HardLink { target }
            }
            b'2' => {
                let target = extended.link_path.take().unwrap_or_else(link);
                path::check_link_target(&target, &limits)?;
                EntryKind::Symlink { target }
            }
            b'3' => EntryKind::CharDevice(device(head)?),
            b'4' => EntryKind::BlockDevice(device(head)?),
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(unknown_type(other)),
        };
        let mode = u32::try_from(head.number(header::MODE)?)
            .map_err(|_| Error::malformed("the mode of a member is out of range"))?;
        let (xattrs, lost_xattrs) = extended.take_xattrs();
        let entry = Entry {
            path,
            kind,
            mode: mode & 0o7777,
            uid: owner(head, header::UID, extended.uid)?,
            gid: owner(head, header::GID, extended.gid)?,
            mtime: match extended.mtime {
                Some(time) => time,
                None => i64::try_from(head.number(header::MTIME)?)
                    .ok()
                    .and_then(|seconds| pax::in_range(Timestamp::from_seconds(seconds)))
                    .ok_or_else(|| Error::malformed("the time of a member is out of range"))?,
            },
            xattrs,
        };
        Ok(Member { entry, sparse, lost_xattrs })
    }

    /// Makes the data of a regular file ready to be read, and reads its map when it has holes.
    fn begin_file(&mut self, head: &Header, extended: &mut Extended, stored: u64) -> Result<Option<SparseMap>> {
        let limits = self.limits.clone();
        let map = if head.typeflag() == b'S' {
            let mut old = OldGnu::from_header(head, &limits)?;
            while old.wants_block() {
                let block = self.need_block()?;
                old.take_block(&block, &limits)?;
            }
            old.into_map(stored)?
        } else if extended.sparse.is_sparse() {
            if extended.sparse.map_in_data()? {
                let mut map = MapInData::default();
                let mut blocks: u64 = 0;
                loop {
                    blocks += BLOCK as u64;
                    if blocks > stored {
                        return Err(Error::malformed("the map of a sparse file is longer than its data"));
                    }
                    let block = self.need_block()?;
                    if map.take_block(&block, &limits)? {
                        break;
                    }
                }
                let checked = SparseMap::checked(map.into_segments(), extended.sparse.real_size()?, stored - blocks)?;
                self.begin_data(stored - blocks, reversed(&checked.segments));
                return self.sparse_checked(checked);
            }
            extended.sparse.take_map(stored)?
        } else {
            self.begin_data(stored, vec![(0, stored)]);
            return Ok(None);
        };
        self.begin_data(stored, reversed(&map.segments));
        self.sparse_checked(map)
    }

    fn sparse_checked(&self, map: SparseMap) -> Result<Option<SparseMap>> {
        if map.size > self.limits.file_size {
            return Err(Error::limit(
                "file_size",
                self.limits.file_size,
                format_args!("a sparse file of {} bytes", map.size),
            ));
        }
        Ok(Some(map))
    }

    fn begin_data(&mut self, stored: u64, mut segments: Vec<(u64, u64)>) {
        segments.retain(|&(_, length)| length > 0);
        self.data = Data { stored, padding: padding(stored), segments };
    }

    fn skip_data(&mut self) -> Result<()> {
        self.data.segments.clear();
        let mut left = self.data.stored;
        while left > 0 {
            left -= self.take_some(left)?.len() as u64;
        }
        let mut padding = self.data.padding;
        while padding > 0 {
            padding -= self.take_some(padding)?.len() as u64;
        }
        self.data = Data::default();
        Ok(())
    }

    /// The content of an extension header, bounded before it is read.
    fn read_extension(&mut self, head: &Header, limit: u64, name: &'static str) -> Result<Vec<u8>> {
        let size = size_of(head)?;
        if size > limit {
            return Err(Error::limit(name, limit, format_args!("an extended header of {size} bytes")));
        }
        let mut content = Vec::new();
        while (content.len() as u64) < size {
            let piece = self.take_some(size - content.len() as u64)?;
            content.extend_from_slice(&piece);
        }
        self.data.padding = padding(size);
        self.skip_data()?;
        Ok(content)
    }

    fn read_long_name(&mut self, head: &Header) -> Result<Vec<u8>> {
        let mut name = self.read_extension(head, self.limits.gnu_name, "gnu_name")?;
        if name.last() == Some(&0) {
            name.pop();
        }
        // GNU tar ends the name at the first NUL; a second name behind it would be seen by some only.
        if name.contains(&0) {
            return Err(Error::malformed("a long name holds a NUL byte"));
        }
        Ok(name)
    }

    /// One block, or nothing at the end of the stream.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            if !self.refill()? {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(Error::malformed("the archive ends in the middle of a header"));
            }
            if let Some(chunk) = &mut self.current {
                let piece = chunk.split_to(BLOCK - filled);
                block[filled..filled + piece.len()].copy_from_slice(&piece);
                filled += piece.len();
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    fn need_block(&mut self) -> Result<[u8; BLOCK]> {
        self.read_block()?.ok_or_else(cut_in_data)
    }

    /// At least one and at most `most` bytes, without a copy.
    fn take_some(&mut self, most: u64) -> Result<Chunk> {
        if !self.refill()? {
            return Err(cut_in_data().at_offset(self.offset));
        }
        let Some(chunk) = &mut self.current else { return Err(cut_in_data()) };
        let piece = chunk.split_to(usize::try_from(most).unwrap_or(usize::MAX));
        self.offset += piece.len() as u64;
        Ok(piece)
    }

    /// Whether there is anything in `current`, after fetching it where needed.
    fn refill(&mut self) -> Result<bool> {
        while self.current.as_ref().is_none_or(|chunk| chunk.is_empty()) {
            // The old chunk goes back to its pool before a new one is waited for.
            self.current = None;
            match self.chunks.next_chunk()? {
                Some(chunk) => self.current = Some(chunk),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn unknown_type(flag: u8) -> Error {
    Error::unsupported(format!("a member of the unknown type `{}`", char::from(flag).escape_default()))
}

fn cut_in_data() -> Error {
    Error::malformed("the archive ends in the middle of a member's data")
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn reversed(segments: &[(u64, u64)]) -> Vec<(u64, u64)> {
    segments.iter().rev().copied().collect()
}

fn size_of(head: &Header) -> Result<u64> {
    let size = head.number(header::SIZE)?;
    u64::try_from(size)
        .ok()
        .filter(|&size| i64::try_from(size).is_ok())
        .ok_or_else(|| Error::malformed("the size of a member is negative or over 63 bits"))
}

/// The member's name: a sparse file's own, else PAX, else GNU's long name, else the header's.
fn raw_name(head: &Header, before: &Before) -> Vec<u8> {
    let pax = before.pax.as_ref();
    pax.and_then(|pax| pax.sparse.name.clone())
        .or_else(|| pax.and_then(|pax| pax.path.clone()))
        .or_else(|| before.long_name.clone())
        .unwrap_or_else(|| head.name())
}

/// An owner of the header. 2^32−1 means "leave as it is" to `chown`, and what is beyond would wrap to root.
fn owner(head: &Header, field: header::Field, extended: Option<u32>) -> Result<u32> {
    if let Some(id) = extended {
        return Ok(id);
    }
    let value = head.number(field)?;
    u32::try_from(value)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| Error::malformed(format!("the {} {value} is not one: they go from 0 to 4294967294", field.name)))
}

fn device(head: &Header) -> Result<DeviceNumber> {
    if head.dialect() == Dialect::V7 {
        return Err(Error::malformed("a device without a number"));
    }
    let part = |field| {
        u32::try_from(head.number(field)?).map_err(|_| Error::malformed("the number of a device is out of range"))
    };
    Ok(DeviceNumber { major: part(header::DEV_MAJOR)?, minor: part(header::DEV_MINOR)? })
}

/// A global header may comment (git does), but what it says about names and sizes would hold for
/// members that other readers see without it.
fn check_global(block: &[u8]) -> Result<()> {
    for record in pax::records(block) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err(Error::malformed(format!(
                "a global header sets `{}` for every member after it",
                crate::error::Shown(key)
            )));
        }
    }
    Ok(())
}
