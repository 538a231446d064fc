//! `split_files`: an image in two files in one `multipart/form-data` body, as two readers.
//!
//! The metadata comes first in the body, as LXD sends it. If the rootfs is read first, the rest of the metadata is spooled into
//! memory within `Limits::metadata_file`, so that the two readers can be used in either order.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::multipart::{Part, Reader};
use crate::error::{Error, Escaped, Result};
use crate::limits::Limits;

/// Limits on the body, and who sends it.
pub(crate) struct SplitBounds<'a> {
    pub(crate) limits: &'a Limits,
    /// The limit on both files together, by its name.
    pub(crate) limit_name: &'static str,
    /// How many bytes both have together, as was told before: more of them are not read.
    pub(crate) announced: Option<u64>,
    /// For errors: `the server`, `the client`.
    pub(crate) sender: &'static str,
}

/// Opens the two files of a body with this `Content-Type`, and returns the file name of the first one.
///
/// # Errors
/// `Malformed` when the body does not begin with the metadata; those of [`Reader::new`]. All others come when the files are read.
pub(crate) fn split_files(
    body: Box<dyn Read + Send>,
    content_type: &str,
    bounds: &SplitBounds<'_>,
) -> Result<(SplitFile, SplitFile, Option<String>)> {
    let mut reader = Reader::new(body, content_type, bounds.limits)?;
    let first = expect(reader.next_part()?, &["metadata"], bounds.sender)?;
    let shared = Arc::new(Mutex::new(SplitBody {
        reader,
        stage: Stage::Metadata,
        spooled: Vec::new(),
        bytes: 0,
        max_bytes: (bounds.limit_name, bounds.limits.get(bounds.limit_name).unwrap_or(0)),
        max_metadata: bounds.limits.metadata_file,
        announced: bounds.announced,
        sender: bounds.sender,
    }));
    let file = |second| SplitFile { shared: Arc::clone(&shared), second, at: 0 };
    Ok((file(false), file(true), first.file_name))
}

/// Checks that a part is there and has one of these field names.
fn expect(part: Option<Part>, names: &[&str], sender: &str) -> Result<Part> {
    match part {
        Some(part) if names.contains(&&*part.name) => Ok(part),
        Some(part) => {
            let shown: String = part.name.chars().take(64).collect();
            let sentence = format!("{sender} sends `{}` where `{}` belongs", Escaped(shown.as_bytes()), names[0]);
            Err(Error::malformed(sentence))
        }
        None => Err(Error::malformed(format!("{sender} sends an image in two files without its `{}`", names[0]))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
/// Which part the body is in. The order is that of the body.
enum Stage {
    /// In the metadata, of which nothing was spooled.
    Metadata,
    /// In the rootfs; the rest of the metadata, if any, is spooled.
    Rootfs,
    /// After the rootfs.
    Over,
}

/// The body, shared by both files.
struct SplitBody {
    /// At the part that `stage` says.
    reader: Reader<Box<dyn Read + Send>>,
    stage: Stage,
    /// What was left of the metadata when the rootfs was asked for.
    spooled: Vec<u8>,
    /// Bytes of both files so far.
    bytes: u64,
    /// The limit on both, by name and value.
    max_bytes: (&'static str, u64),
    /// The limit on what is spooled.
    max_metadata: u64,
    announced: Option<u64>,
    sender: &'static str,
}

impl SplitBody {
    /// Reads the current part, and moves on to the next at its end. Checks both size limits over both files.
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let count = self.reader.read(out)?;
        self.bytes = self.bytes.saturating_add(count as u64);
        if self.bytes > self.max_bytes.1 {
            return Err(Error::limit(self.max_bytes.0, self.max_bytes.1, "the size of the image in bytes"));
        }
        if let Some(announced) = self.announced.filter(|announced| self.bytes > *announced) {
            let found = format!("at least {}", self.bytes);
            return Err(Error::mismatch("the size of the image in bytes", announced.to_string(), found));
        }
        if count == 0 && !out.is_empty() {
            match (self.stage, self.reader.next_part()?) {
                (Stage::Metadata, part) => {
                    expect(part, &["rootfs", "rootfs.img"], self.sender)?;
                    self.stage = Stage::Rootfs;
                }
                (_, None) => self.stage = Stage::Over,
                (_, Some(_)) => {
                    return Err(Error::malformed(format!("{} sends an image in more than two files", self.sender)));
                }
            }
        }
        Ok(count)
    }

    /// Reads the rest of the metadata into memory, so that the body is at the rootfs.
    fn spool_metadata(&mut self) -> Result<()> {
        let max_bytes = self.max_metadata;
        let mut piece = vec![0; 64 << 10];
        while self.stage == Stage::Metadata {
            let count = self.read(&mut piece)?;
            self.spooled.extend_from_slice(piece.get(..count).unwrap_or_default());
            if self.spooled.len() as u64 > max_bytes {
                return Err(Error::limit("metadata_file", max_bytes, "the metadata file of the image, in bytes,"));
            }
        }
        Ok(())
    }
}

/// A reader for one of the two files.
pub(crate) struct SplitFile {
    shared: Arc<Mutex<SplitBody>>,
    /// Whether it is the rootfs.
    second: bool,
    /// How much of the spooled metadata was read.
    at: usize,
}

impl SplitFile {
    /// Reads from the body or, for metadata that was spooled, from memory.
    fn next(&mut self, out: &mut [u8]) -> Result<usize> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if self.second {
            shared.spool_metadata()?;
            return if shared.stage == Stage::Rootfs { shared.read(out) } else { Ok(0) };
        }
        if shared.stage == Stage::Metadata {
            return shared.read(out);
        }
        let rest = shared.spooled.get(self.at..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Read for SplitFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.next(out)?)
    }
}
