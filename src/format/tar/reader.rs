//! Reads a tar stream: one member after the other, each with its one size decided once.
//!
//! The reader is strict where readers in the world disagree, since what two of them see differently
//! is a trap: a scanner would check one tree and the extractor write another. Examples: data behind
//! a directory's header, a single block of zeros between members, a name with a NUL in a GNU long
//! name, a regular file whose name ends with a slash.
//!
//! Call [`TarReader::next`] until it returns `None`, [`TarReader::data`] between for the member's
//! bytes, and [`TarReader::finish`] at the end; only then is the whole stream known to be good (the
//! codec's checksum comes last).

use super::fields::{device, mtime, owner, size_of, unknown_type};
use super::global::GlobalPaxHeader;
use super::header::{self, BLOCK, Header};
use super::pax::{self, PaxHeader};
use super::sparse::{InlineSparseMap, OldGnuSparse, SparseMap};
use crate::error::{Error, Result};
use crate::format::chunk::{Chunk, Chunks};
use crate::format::entry::{Entry, EntryKind};
use crate::format::path;
use crate::limits::Limits;
use crate::omissions::Omitted;

/// A member with its attributes. For a file with holes, `sparse` says where its stored bytes
/// belong.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) entry: Entry,
    pub(crate) sparse: Option<SparseMap>,
    /// What the archive says about it in a form which can't be used.
    pub(crate) omitted: Vec<Omitted>,
}

/// Reads members from a stream of decoded chunks. Holds one chunk at a time, and no list of
/// members.
pub(crate) struct TarReader<C> {
    chunks: C,
    /// The chunk that is being parsed.
    current: Option<Chunk>,
    /// Decoded bytes taken so far.
    offset: u64,
    limits: Limits,
    /// Members so far, for the limit.
    members: u64,
    data: MemberData,
    global: GlobalPaxHeader,
    /// Whether the end of the archive was reached.
    ended: bool,
    /// Whether names may begin with a slash, which is then left out.
    absolute: bool,
}

/// What is left of the current member's data in the stream, padding to the end of its last block
/// included.
#[derive(Default)]
struct MemberData {
    /// Bytes of data that are left.
    stored: u64,
    /// Bytes after the data, up to a whole block.
    padding: u64,
    /// Segments still to come, last one first; without holes there is one.
    segments: Vec<(u64, u64)>,
}

/// The extension headers that came before a member and apply to it: PAX, GNU long names, Solaris
/// ACLs.
#[derive(Default)]
struct PendingHeaders {
    pax: Option<PaxHeader>,
    /// GNU's long name.
    long_name: Option<Vec<u8>>,
    /// GNU's long link target.
    long_link: Option<Vec<u8>>,
    /// Whether Solaris stored an ACL, which is not read.
    solaris_acl: bool,
}

impl PendingHeaders {
    /// Whether nothing is pending.
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none() && !self.solaris_acl
    }
}

impl<C: Chunks> TarReader<C> {
    /// Reads the archive from the start of a stream.
    pub(crate) fn new(chunks: C, limits: &Limits) -> Self {
        Self {
            chunks,
            current: None,
            offset: 0,
            limits: limits.clone(),
            members: 0,
            data: MemberData::default(),
            global: GlobalPaxHeader::default(),
            ended: false,
            absolute: false,
        }
    }

    /// Reads a layer of a container image. Its names may begin with a slash, as some builders write them: there is only
    /// one root that they can mean.
    #[cfg(feature = "oci")]
    pub(crate) fn of_layer(chunks: C, limits: &Limits) -> Self {
        Self { absolute: true, ..Self::new(chunks, limits) }
    }

    /// A name without the slashes at its beginning, where that is allowed.
    fn relative<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        let slashes = name.iter().take_while(|byte| self.absolute && **byte == b'/').count();
        match name.get(slashes..) {
            // The root itself.
            Some(b"") if slashes > 0 => b".",
            rest => rest.unwrap_or_default(),
        }
    }

    /// The next member; what was left of the one pending is skipped. `None` after the end marker,
    /// or at the end of a stream that has none.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        if self.ended {
            return Ok(None);
        }
        self.skip_data()?;
        let at = self.offset;
        self.read_member().map_err(|error| error.at_offset(at))
    }

    /// Decoded bytes taken so far: after [`next`](Self::next), where the data of a member without holes begins.
    #[cfg(feature = "oci")]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next stored bytes of the current member, and their offset in the file; `None` after the
    /// last. Pieces share the chunk's buffer, so nothing is copied. Holes are not returned.
    ///
    /// # Errors
    /// `Malformed` where the stream ends within the data; those of the stream.
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

    /// Reads on to the end of the stream, so that everything pending is known to be whole.
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

    /// Reads headers up to and including the next member's own.
    fn read_member(&mut self) -> Result<Option<Member>> {
        let mut pending = PendingHeaders::default();
        loop {
            let Some(block) = self.read_block()? else {
                return self.end(&pending);
            };
            if header::is_zero(&block) {
                // One zero block ends an archive, as for GNU tar, whatever rubbish follows it. But where a member
                // follows, other readers go on.
                return match self.read_second()? {
                    Some(second) if Header::looks_like_one(&second) => {
                        Err(Error::malformed("a single block of zeros stands between the members of an archive"))
                    }
                    _ => self.end(&pending),
                };
            }
            let head = Header::parse(&block)?;
            match head.typeflag() {
                // `X` is what Solaris wrote pending POSIX had the other.
                b'x' | b'X' => {
                    let block = self.read_extension(&head, self.limits.extended_header, "extended_header")?;
                    pending.pax.get_or_insert_with(|| self.global.extended()).apply(&block, &self.limits)?;
                }
                b'g' => {
                    let block = self.read_extension(&head, self.limits.extended_header, "extended_header")?;
                    self.global.apply(&block)?;
                }
                b'L' => pending.long_name = Some(self.read_long_name(&head)?),
                b'K' => pending.long_link = Some(self.read_long_name(&head)?),
                b'V' => self.skip_member(&head)?,
                b'A' => {
                    self.skip_member(&head)?;
                    pending.solaris_acl = true;
                }
                b'M' => return Err(pax::several_volumes()),
                b'N' => {
                    return Err(Error::unsupported("a list of long names as GNU tar wrote it pending 1992")
                        .with_hint("unpack the archive with GNU tar and make it again"));
                }
                _ => {
                    self.members += 1;
                    // Before the name is parsed, so that the limit holds for broken members as
                    // well.
                    if self.members > self.limits.entries {
                        return Err(Error::limit("entries", self.limits.entries, "the number of members"));
                    }
                    let raw = raw_name(&head, &pending);
                    return self.member(&head, pending, &raw).map(Some).map_err(|error| error.in_entry(&raw));
                }
            }
        }
    }

    /// Skips a member that is no part of the tree, such as a volume label, with its data.
    fn skip_member(&mut self, head: &Header) -> Result<()> {
        let size = size_of(head)?;
        self.begin_data(size, Vec::new());
        self.skip_data()
    }

    /// Ends the archive. An extension header without a member is damage, as it is where an archive
    /// was cut.
    fn end(&mut self, pending: &PendingHeaders) -> Result<Option<Member>> {
        if !pending.is_empty() {
            return Err(Error::malformed("the archive ends after an extended header that belongs to nothing"));
        }
        self.ended = true;
        Ok(None)
    }

    /// Makes a member of its header and what was pending for it. `raw` is the name as it stands in
    /// the archive.
    fn member(&mut self, head: &Header, pending: PendingHeaders, raw: &[u8]) -> Result<Member> {
        let mut extended = match pending.pax {
            Some(pax) => pax,
            None if self.global.is_empty() => PaxHeader::default(),
            None => self.global.extended(),
        };
        if pending.solaris_acl {
            extended.omitted.push(Omitted::Dropped {
                part: "access control list".into(),
                reason: "it is in the form of Solaris".into(),
            });
        }
        // A copy, since the methods below borrow the whole reader.
        let limits = self.limits.clone();
        let path = path::normalize(self.relative(raw), &limits)?;
        // The size decides where the next header is. It is taken from one place only, the extended
        // header if it has one, as POSIX requires; readers that mix the two can be shown different
        // members.
        let stored = match extended.size {
            // The header's own size is not used, but must be a number.
            Some(size) => head.number(header::SIZE).map(|_| size)?,
            None => size_of(head)?,
        };
        let is_file = matches!(head.typeflag(), b'0' | 0 | b'7' | b'S');
        // Version 7 knew directories by the slash at the end of their names, and readers still do.
        // Not the archive's own top, which has to say that it is one.
        let is_old_directory = is_file
            && raw.ends_with(b"/")
            && head.typeflag() != b'S'
            && stored == 0
            && (head.typeflag() == 0 || !path.is_empty());
        if !is_file && !matches!(head.typeflag(), b'1'..=b'6' | b'D') {
            return Err(unknown_type(head.typeflag()));
        }
        // GNU tar would make a directory of it, others a file.
        if raw.ends_with(b"/") && is_file && !is_old_directory {
            return Err(Error::malformed("a regular file whose name ends with a slash"));
        }
        if is_file {
            if stored > limits.file_size {
                return Err(Error::limit("file_size", limits.file_size, format_args!("a file of {stored} bytes")));
            }
        } else if head.typeflag() == b'D' {
            // The names that an incremental backup found in the directory: every reader passes them over.
            self.begin_data(stored, Vec::new());
        } else if stored != 0 {
            return Err(Error::malformed(format!(
                "a member that is no regular file has {stored} bytes of data, which readers take differently"
            )));
        }
        let link = || pending.long_link.clone().unwrap_or_else(|| head.link_name().to_vec());
        let mut sparse = None;
        let kind = match head.typeflag() {
            _ if is_old_directory => EntryKind::Directory,
            b'0' | 0 | b'7' | b'S' => {
                sparse = self.begin_file(head, &mut extended, stored)?;
                EntryKind::File { size: sparse.as_ref().map_or(stored, |map| map.size) }
            }
            b'1' => {
                let target = extended.link_path.take().unwrap_or_else(link);
                let target = path::normalize(self.relative(&target), &limits).map_err(|error| {
                    Error::new(error.kind(), format!("the target of a hard link is refused: {}", error.message()))
                })?;
                EntryKind::HardLink { target }
            }
            b'2' => {
                let target = extended.link_path.take().unwrap_or_else(link);
                path::check_link_target(&target, &limits)?;
                EntryKind::Symlink { target }
            }
            b'3' => EntryKind::CharDevice(device(head, &extended)?),
            b'4' => EntryKind::BlockDevice(device(head, &extended)?),
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(unknown_type(other)),
        };
        let mode = u32::try_from(head.number(header::MODE)?)
            .map_err(|_| Error::malformed("the mode of a member is out of range"))?;
        let (xattrs, omitted) = extended.take_xattrs();
        let entry = Entry {
            path,
            kind,
            mode: mode & 0o7777,
            uid: owner(head, header::UID, extended.uid)?,
            gid: owner(head, header::GID, extended.gid)?,
            mtime: mtime(head, extended.mtime)?,
            xattrs,
        };
        Ok(Member { entry, sparse, omitted })
    }

    /// Makes the data of a regular file ready to be read, and reads its map when it has holes.
    fn begin_file(&mut self, head: &Header, extended: &mut PaxHeader, stored: u64) -> Result<Option<SparseMap>> {
        let limits = self.limits.clone();
        let map = if head.typeflag() == b'S' {
            let mut old = OldGnuSparse::from_header(head, &limits)?;
            while old.wants_block() {
                let block = self.need_block()?;
                old.take_block(&block, &limits)?;
            }
            old.into_map(stored)?
        } else if extended.sparse.is_sparse() {
            if extended.sparse.map_in_data()? {
                let mut map = InlineSparseMap::default();
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

    /// Compares the logical size of a sparse file with the limit: a map of a few bytes may claim 8
    /// EiB.
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

    /// Makes `stored` bytes the current member's data, of which `segments` are to be returned, last
    /// one first.
    fn begin_data(&mut self, stored: u64, mut segments: Vec<(u64, u64)>) {
        segments.retain(|&(_, length)| length > 0);
        self.data = MemberData { stored, padding: padding(stored), segments };
    }

    /// Reads over the rest of the current member's data and its padding.
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
        self.data = MemberData::default();
        Ok(())
    }

    /// The content of an extension header, bounded pending it is read.
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

    /// The content of a GNU long name or long link header (types `L` and `K`), without its closing
    /// NUL.
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

    /// The block after one of zeros; nothing where there is no whole one.
    fn read_second(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let filled = self.fill(&mut block)?;
        Ok((filled == BLOCK).then_some(block))
    }

    /// One block, or nothing at the end of the stream.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(Error::malformed("the archive ends in the middle of a header")),
        }
    }

    /// Reads bytes into a block until it is full or the stream ends, and returns how many.
    fn fill(&mut self, block: &mut [u8; BLOCK]) -> Result<usize> {
        let mut filled = 0;
        while filled < BLOCK && self.refill()? {
            if let Some(chunk) = &mut self.current {
                let piece = chunk.split_to(BLOCK - filled);
                block[filled..filled + piece.len()].copy_from_slice(&piece);
                filled += piece.len();
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// A block that must be there.
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

    /// Makes sure that `current` holds bytes, fetching the next chunk where needed; false at the
    /// end of the stream.
    fn refill(&mut self) -> Result<bool> {
        while self.current.as_ref().is_none_or(|chunk| chunk.is_empty()) {
            // The old chunk goes back to its pool pending a new one is waited for.
            self.current = None;
            match self.chunks.next_chunk()? {
                Some(chunk) => self.current = Some(chunk),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// The error for a stream that ends within a member.
fn cut_in_data() -> Error {
    Error::malformed("the archive ends in the middle of a member's data")
}

/// Bytes from the end of data of this size to the end of its block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Segments with the last one first, so that they can be taken off the end.
fn reversed(segments: &[(u64, u64)]) -> Vec<(u64, u64)> {
    segments.iter().rev().copied().collect()
}

/// The member's name as it stands in the archive. In order of precedence: a sparse file's own name
/// record, PAX `path`, GNU's long name, the header's field.
fn raw_name(head: &Header, pending: &PendingHeaders) -> Vec<u8> {
    let pax = pending.pax.as_ref();
    pax.and_then(|pax| pax.sparse.name.clone())
        .or_else(|| pax.and_then(|pax| pax.path.clone()))
        .or_else(|| pending.long_name.clone())
        .unwrap_or_else(|| head.name())
}
