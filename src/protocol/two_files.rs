//! An image in two files in one multipart body, of which the metadata comes first, as two readers.
//! Both are read as they come; whoever asks for the second one first gets it after the first was put aside, within a bound.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::multipart::{Part, Reader};
use crate::error::{Error, Escaped, Result};
use crate::limits::Limits;

/// What may come, and who sends it.
pub(crate) struct Bounds<'a> {
    pub(crate) limits: &'a Limits,
    /// The limit on both files together, by its name.
    pub(crate) most: &'static str,
    /// How many bytes both have together, as was told before: more of them are not read.
    pub(crate) announced: Option<u64>,
    /// For errors: `the server`, `the client`.
    pub(crate) sender: &'static str,
}

/// The two files of a body with this `Content-Type`, and the name of the first one.
///
/// # Errors
/// `Malformed` when it does not begin with the metadata; those of [`Reader::new`]. All others come when the files are read.
pub(crate) fn two_files(
    body: Box<dyn Read + Send>,
    content_type: &str,
    bounds: &Bounds<'_>,
) -> Result<(Half, Half, Option<String>)> {
    let mut reader = Reader::new(body, content_type, bounds.limits)?;
    let first = expect(reader.next_part()?, &["metadata"], bounds.sender)?;
    let shared = Arc::new(Mutex::new(Shared {
        reader,
        stage: Stage::Metadata,
        aside: Vec::new(),
        bytes: 0,
        most: (bounds.most, bounds.limits.get(bounds.most).unwrap_or(0)),
        most_aside: bounds.limits.metadata_file,
        announced: bounds.announced,
        sender: bounds.sender,
    }));
    let half = |second| Half { shared: Arc::clone(&shared), second, at: 0 };
    Ok((half(false), half(true), first.file_name))
}

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
enum Stage {
    Metadata,
    Rootfs,
    Over,
}

struct Shared {
    reader: Reader<Box<dyn Read + Send>>,
    stage: Stage,
    /// What was left of the metadata when the rootfs was asked for.
    aside: Vec<u8>,
    bytes: u64,
    most: (&'static str, u64),
    most_aside: u64,
    announced: Option<u64>,
    sender: &'static str,
}

impl Shared {
    /// Reads the file that is due, and goes on to the next at its end.
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let count = self.reader.read(out)?;
        self.bytes = self.bytes.saturating_add(count as u64);
        if self.bytes > self.most.1 {
            return Err(Error::limit(self.most.0, self.most.1, "the size of the image in bytes"));
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

    fn put_aside(&mut self) -> Result<()> {
        let most = self.most_aside;
        let mut piece = vec![0; 64 << 10];
        while self.stage == Stage::Metadata {
            let count = self.read(&mut piece)?;
            self.aside.extend_from_slice(piece.get(..count).unwrap_or_default());
            if self.aside.len() as u64 > most {
                return Err(Error::limit("metadata_file", most, "the metadata file of the image, in bytes,"));
            }
        }
        Ok(())
    }
}

/// One of the two files.
pub(crate) struct Half {
    shared: Arc<Mutex<Shared>>,
    second: bool,
    at: usize,
}

impl Half {
    fn next(&mut self, out: &mut [u8]) -> Result<usize> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if self.second {
            shared.put_aside()?;
            return if shared.stage == Stage::Rootfs { shared.read(out) } else { Ok(0) };
        }
        if shared.stage == Stage::Metadata {
            return shared.read(out);
        }
        let rest = shared.aside.get(self.at..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Read for Half {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.next(out)?)
    }
}
