//! The SquashFS writer: members in, an image out, the same bytes for the same tree on any number of
//! threads.
//!
//! Content is compressed and written as it comes (`content`, `pipeline`); inodes and listings are
//! kept in memory (`tree`) and written at the end (`listings`, `records`, `xattr_sets`), then the
//! superblock. The order of members does not change the tables, only the order of the data.
//!
//! Reproducible by construction: blocks are numbered before they are compressed and written in that
//! order; there is no time but that of the newest member, and no thread decides anything.

mod content;
mod encode;
mod listings;
mod pipeline;
mod records;
mod tree;
mod xattr_sets;

use std::io::{Read, Seek, SeekFrom, Write};

use content::DataWriter;
pub(crate) use content::{FileWriter, PendingFile};
use encode::Encoder;
use pipeline::EncodePipeline;
use tree::{InodeKind, Tree};

use super::superblock::{BLOCK_SIZES, SUPERBLOCK, SquashFsCompression, Superblock, flags};
use crate::error::{Error, Result};
use crate::format::codec::{Codec, Compression};
use crate::format::entry::{Entry, EntryKind};
use crate::progress::Monitor;

/// Images are padded to whole pages, since older kernels read the last one as a whole.
const PAGE: u64 = 4096;

/// Which ends of files share blocks with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "tests write every kind of image that the reader must take"))]
pub(crate) enum Tails {
    /// None: every file has blocks of its own.
    Never,
    /// Files that are shorter than a block, as `mksquashfs` does unless told otherwise.
    SmallFiles,
    /// The tail of every file: smaller images, one more block to read for each file.
    All,
}

/// How an image is written. The defaults are those of `mksquashfs`.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub(crate) compression: SquashFsCompression,
    /// The codec's own scale: gzip 1 to 9 (9), xz 0 to 9 (6), zstd 1 to 22 (15); lz4 has none.
    pub(crate) level: Option<u32>,
    /// Bytes of a data block: a power of two, 4 KiB to 1 MiB.
    pub(crate) block_size: u32,
    pub(crate) tails: Tails,
    /// Whether blocks and tables are stored as they are, whatever the compression is called.
    pub(crate) stored: bool,
    /// Whether files with the same content share it.
    pub(crate) duplicates: bool,
    /// Whether NFS can serve the mounted image.
    pub(crate) export: bool,
    /// When the image was made, in seconds since 1970; without it the time of its newest member.
    pub(crate) made: Option<u32>,
    /// Threads that compress, beside the caller's; with one or none, the caller's does.
    pub(crate) threads: usize,
    /// Told, by path, of what SquashFS can't hold: times that were clamped, attributes that were left out.
    pub(crate) monitor: Monitor,
}

impl WriteOptions {
    /// The compression that a codec of whole archives stands for here.
    ///
    /// # Errors
    /// `InvalidInput` for a codec that SquashFS does not have.
    pub(crate) fn for_compression(compression: Compression) -> Result<Self> {
        let chosen = match compression.codec() {
            Codec::Gzip => SquashFsCompression::Gzip,
            Codec::Xz => SquashFsCompression::Xz,
            Codec::Zstd => SquashFsCompression::Zstd,
            Codec::Lz4 => SquashFsCompression::Lz4,
            Codec::None => {
                // Every image names a compressor; one that stores all blocks as they are need not be asked.
                return Ok(Self { stored: true, ..Self::new(SquashFsCompression::Gzip) });
            }
            other => {
                return Err(Error::invalid(format!("a SquashFS can't be compressed with {other}"))
                    .with_hint("gzip, xz, zstd, lz4 and none can be had"));
            }
        };
        Ok(Self { level: compression.level(), ..Self::new(chosen) })
    }

    /// The options for a compression at its default level, with blocks of 128 KiB.
    pub(crate) fn new(compression: SquashFsCompression) -> Self {
        Self {
            compression,
            level: None,
            block_size: 128 << 10,
            tails: Tails::SmallFiles,
            stored: false,
            duplicates: true,
            export: true,
            made: None,
            threads: 1,
            monitor: Monitor::none(),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Bytes of the image with its padding.
    pub(crate) bytes: u64,
    pub(crate) inodes: u32,
    /// Files whose content an earlier file had.
    pub(crate) duplicates: u64,
}

/// Writes an image. Members may come in any order, but a hard link after its target.
pub(crate) struct Writer<W> {
    tree: Tree,
    contents: DataWriter<W>,
    options: WriteOptions,
    summary: Summary,
}

impl<W: Read + Write + Seek> Writer<W> {
    /// Begins an image at the start of `out`, which is read only to take back bytes written before.
    pub(crate) fn new(mut out: W, options: WriteOptions) -> Result<Self> {
        let size = options.block_size;
        if !BLOCK_SIZES.contains(&size) || !size.is_power_of_two() {
            return Err(Error::invalid(format!("a block of SquashFS can't have {size} bytes"))
                .with_hint("it is a power of two from 4096 to 1048576"));
        }
        let described = Encoder::describe(options.compression, options.level)?;
        let mut head = vec![0; SUPERBLOCK];
        if let Some(described) = &described {
            // Kernels read these uncompressed, as the compressor is what they tell of.
            head.extend((described.len() as u16 | super::metadata_blocks::RAW).to_le_bytes());
            head.extend(described);
        }
        out.seek(SeekFrom::Start(0)).and_then(|_| out.write_all(&head)).map_err(content::unwritable)?;
        let pipeline = EncodePipeline::new(&options)?;
        let contents = DataWriter::new(out, head.len() as u64, pipeline, &options);
        Ok(Self { tree: Tree::new(), contents, options, summary: Summary::default() })
    }

    /// Adds a member that has no content: anything but a regular file.
    pub(crate) fn push(&mut self, entry: &Entry) -> Result<()> {
        let kind = match &entry.kind {
            EntryKind::File { .. } => return Err(Error::invalid("a file needs its content").in_entry(&entry.path)),
            EntryKind::HardLink { target } => return self.tree.link(&entry.path, target),
            other => InodeKind::new(other).map_err(|error| error.in_entry(&entry.path))?,
        };
        self.tree.insert(entry, kind, &self.options.monitor)
    }

    /// Adds a regular file with what `content` gives, which must be as long as the entry says.
    #[cfg(test)]
    pub(crate) fn push_file(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let size = self.options.block_size;
        let mut file = self.begin_file(entry)?;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(1 << 20)];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return file.finish(),
                Ok(count) => file.write(buffer.get(..count).unwrap_or_default())?,
                Err(source) if source.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::io("the content can't be read", source).in_entry(&entry.path)),
            }
        }
    }

    /// Adds a regular file whose content is written piece by piece, with holes where it has them.
    pub(crate) fn begin_file(&mut self, entry: &Entry) -> Result<FileWriter<'_, W>> {
        let EntryKind::File { size } = entry.kind else {
            return Err(Error::invalid("this is no regular file").in_entry(&entry.path));
        };
        self.tree.check(entry)?;
        FileWriter::new(self, entry.clone(), size)
    }

    /// As [`begin_file`](Self::begin_file), for a caller that can't keep a borrow between the pieces.
    pub(crate) fn begin_pending(&mut self, entry: &Entry) -> Result<PendingFile> {
        self.begin_file(entry).map(FileWriter::suspend)
    }

    /// Appends bytes at `offset`, which is never before the last ones' end; what is between is a hole.
    pub(crate) fn write_pending(&mut self, file: PendingFile, offset: u64, bytes: &[u8]) -> Result<PendingFile> {
        let mut file = FileWriter::resume(self, file);
        file.hole_up_to(offset)?;
        file.write(bytes)?;
        Ok(file.suspend())
    }

    /// Ends a file, with a hole where its last bytes were not given.
    pub(crate) fn end_pending(&mut self, file: PendingFile) -> Result<()> {
        FileWriter::resume(self, file).finish_with_hole()
    }

    /// Writes what is left: shared blocks, inodes, listings, tables, the superblock and the padding.
    pub(crate) fn finish(mut self) -> Result<(W, Summary)> {
        self.contents.flush()?;
        let (compression, level) = (self.options.compression, self.options.level);
        let (stored, cancel) = (self.options.stored, self.options.monitor.cancel().clone());
        let new_encoder = || Ok(Encoder::for_metadata(compression, level)?.unless(stored).until(&cancel));
        let tables = listings::write(&self.tree, self.contents.files(), new_encoder)?;
        let mut encoder = new_encoder()?;
        let inode_table = self.contents.append(&tables.inodes)?;
        let directory_table = self.contents.append(&tables.listings)?;
        let fragments = self.contents.fragment_records();
        let fragment_count = self.contents.fragment_count();
        let fragment_table = records::write(&mut self.contents, &mut encoder, &fragments)?;
        let export_table = if self.options.export {
            let places: Vec<u8> = tables.places.iter().flat_map(|place| place.to_le_bytes()).collect();
            Some(records::write(&mut self.contents, &mut encoder, &places)?)
        } else {
            None
        };
        let ids: Vec<u8> = self.tree.ids().iter().flat_map(|id| id.to_le_bytes()).collect();
        let id_table = records::write(&mut self.contents, &mut encoder, &ids)?;
        let xattr_table = xattr_sets::write(&mut self.contents, encoder, self.tree.xattrs())?;
        let bytes_used = self.contents.position();
        let superblock = Superblock {
            inodes: tables.places.len() as u32,
            mkfs_time: self.options.made.unwrap_or_else(|| self.tree.newest()),
            block_size: self.options.block_size,
            fragments: fragment_count,
            compression,
            flags: self.flags()?,
            // The tree refuses more than fit.
            ids: self.tree.ids().len() as u16,
            root: tables.root,
            bytes_used,
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table: Some(fragment_table),
            export_table,
        };
        // `bytes_used` in the superblock does not count the padding.
        let padding = bytes_used.next_multiple_of(PAGE) - bytes_used;
        self.contents.append(&[0; PAGE as usize][..padding as usize])?;
        self.summary.bytes = self.contents.position();
        self.summary.inodes = superblock.inodes;
        // The superblock comes last, over the zeros at the start: an image that is cut has no magic
        // number.
        let mut out = self.contents.into_output();
        out.seek(SeekFrom::Start(0))
            .and_then(|_| out.write_all(&superblock.encode()))
            .and_then(|()| out.flush())
            .map_err(content::unwritable)?;
        Ok((out, self.summary))
    }

    /// The superblock's flags, which describe the image to people and old kernels; readers need
    /// none.
    fn flags(&self) -> Result<u16> {
        let mut set = match self.options.tails {
            Tails::Never => flags::NO_FRAGMENTS,
            Tails::SmallFiles => 0,
            Tails::All => flags::ALWAYS_FRAGMENTS,
        };
        for (wanted, flag) in [
            (self.options.duplicates, flags::DUPLICATES),
            (self.options.export, flags::EXPORTABLE),
            (self.options.stored, flags::STORED),
            (Encoder::describe(self.options.compression, self.options.level)?.is_some(), flags::OPTIONS),
        ] {
            if wanted {
                set |= flag;
            }
        }
        Ok(set)
    }
}
