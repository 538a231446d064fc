//! The public interface of the reader: looks into a SquashFS without unpacking it.

use std::io::Write;

use super::reader::{FileBytes, SquashFsReader};
use super::superblock::SquashFsCompression;
use super::tree_walk::TreeWalk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, Timestamp};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;

/// A SquashFS 4.0 file, opened for looking into: its tree, one directory, one file.
///
/// Nothing is read that was not asked for, and memory does not grow with the image. Every size
/// and place in the file is checked before it is used.
///
/// ```no_run
/// use std::fs::File;
/// use lxd_image::{Limits, format::SquashFs, io::Blob};
///
/// let file = Blob::file(File::open("rootfs.squashfs")?)?;
/// let image = SquashFs::open(file, &Limits::default())?;
/// for entry in image.entries() {
///     println!("{}", lxd_image::Escaped(&entry?.path));
/// }
/// image.read_file(b"etc/os-release", &mut std::io::stdout())?;
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct SquashFs {
    reader: SquashFsReader<Blob>,
}

impl SquashFs {
    /// Reads the superblock and finds the tables, of a file or of anything else that can be read at positions.
    ///
    /// # Errors
    /// `Malformed` if this is no SquashFS or its tables can't be where they are said to be,
    /// `Unsupported` for another version or an unknown compressor, `FeatureDisabled` for
    /// a compressor that was compiled out, `LimitExceeded`, `Io`.
    pub fn open(source: impl ReadAt + 'static, limits: &Limits) -> Result<Self> {
        SquashFsReader::open(Blob::new(source), limits).map(|reader| Self { reader })
    }

    /// How its blocks are compressed.
    #[must_use]
    pub fn compression(&self) -> SquashFsCompression {
        self.reader.compression()
    }

    /// Bytes of a data block: 4 KiB to 1 MiB.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.reader.block_size()
    }

    /// Inodes, as the image itself counts them.
    #[must_use]
    pub fn inode_count(&self) -> u32 {
        self.reader.inode_count()
    }

    /// When the image was made.
    #[must_use]
    pub fn made(&self) -> Timestamp {
        self.reader.made()
    }

    /// All members from the top on, depth first, parents before children, siblings by name.
    ///
    /// Reads metadata as the iterator goes on; an error ends it.
    #[must_use]
    pub fn entries(&self) -> SquashFsEntries<'_> {
        SquashFsEntries { walk: self.reader.walk() }
    }

    /// The member at `path`; the empty path is the top. Links are not followed, and a further name
    /// of a file is told as a file.
    ///
    /// A further name of a file is returned as a file, not as a hard link, since the first name is
    /// not known without a walk.
    ///
    /// # Errors
    /// `NotFound`, and what reading the directories on the way can give.
    pub fn entry(&self, path: &[u8]) -> Result<Entry> {
        Ok(self.reader.find(path)?.entry)
    }

    /// The members of the directory at `path`, by name.
    ///
    /// Reads the directory's listing and the inodes of its members.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` if it is no directory, and what reading it can give.
    pub fn list(&self, path: &[u8]) -> Result<impl Iterator<Item = Result<Entry>>> {
        let members = self.reader.list(&self.reader.find(path)?)?;
        let members = members.ok_or_else(|| Error::invalid("this is no directory").in_entry(path))?;
        Ok(members.map(|node| node.map(|node| node.entry)))
    }

    /// Writes the content of the regular file at `path` to `out`, holes as zeros, and returns its size.
    ///
    /// Reads and decodes the blocks of this file only, and the fragment block with its tail.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` if it is no regular file, `Malformed` if its blocks don't decode,
    /// `Io` from `out`.
    pub fn read_file(&self, path: &[u8], out: &mut dyn Write) -> Result<u64> {
        let data = self.reader.find(path)?.data;
        let data = data.ok_or_else(|| Error::invalid("this is no regular file").in_entry(path))?;
        let failed = |source| Error::io("the file's content can't be written", source);
        self.reader.read_file(&data, &mut |_, part| match part {
            FileBytes::Bytes(bytes) => out.write_all(bytes).map_err(failed),
            FileBytes::Hole(length) => {
                std::io::copy(&mut std::io::Read::take(std::io::repeat(0), length), out).map_err(failed).map(drop)
            }
        })?;
        Ok(data.size())
    }

    /// As [`read_file`](Self::read_file), into memory, for a file of at most `most` bytes.
    ///
    /// # Errors
    /// As there, and `LimitExceeded` for a larger file.
    pub fn read_small_file(&self, path: &[u8], most: u64) -> Result<Vec<u8>> {
        let data = self.reader.find(path)?.data;
        if data.is_some_and(|data| data.size() > most) {
            return Err(
                Error::new(ErrorKind::LimitExceeded, format!("the file has more than {most} bytes")).in_entry(path)
            );
        }
        let mut content = Vec::new();
        self.read_file(path, &mut content)?;
        Ok(content)
    }
}

impl std::fmt::Debug for SquashFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SquashFs")
            .field("compression", &self.compression())
            .field("block_size", &self.block_size())
            .finish_non_exhaustive()
    }
}

/// The members of a [`SquashFs`]. Ends after the first error.
pub struct SquashFsEntries<'a> {
    walk: TreeWalk<'a, Blob>,
}

impl Iterator for SquashFsEntries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.walk.next()?.map(|node| node.entry))
    }
}

impl std::fmt::Debug for SquashFsEntries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SquashFsEntries").finish_non_exhaustive()
    }
}
