//! An image in two files on its way from a server: one body, of which the metadata comes first.
//! Both files are read as they come; whoever asks for the second one first gets it after the first was put aside, within a bound.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result, Shown};
use crate::format::{Input, Source};
use crate::limits::Limits;
use crate::progress::{Cancel, Monitor};
use crate::protocol::multipart::{Part, Reader};
use crate::remote::ahead::read_ahead;
use crate::remote::http::Response;

/// The two files of the image that an answer brings.
pub(super) fn open(mut answer: Response, kind: &str, stop: Cancel, monitor: &Monitor) -> Result<Source> {
    answer.watched_by(Monitor::none().with_cancel(stop.clone()));
    let (name, limits, length) = (answer.url().to_string(), answer.limits().clone(), answer.length());
    if let Some(length) = length.filter(|length| *length > limits.download) {
        return Err(Error::limit("download", limits.download, format!("{length} bytes of {name}")));
    }
    let body = read_ahead(answer.into_body(), stop, monitor.clone());
    let mut reader = Reader::new(Box::new(body) as Box<dyn Read + Send>, kind, &limits)?;
    expect(reader.next_part()?, &["metadata"])?;
    let shared = Arc::new(Mutex::new(Shared { reader, stage: Stage::Metadata, aside: Vec::new(), bytes: 0, limits }));
    let rootfs = Input::stream(Half { shared: Arc::clone(&shared), second: true, at: 0 }).named(&*name);
    let metadata = Input::stream(Half { shared, second: false, at: 0 }).named(name);
    // Nearly all of it is the rootfs.
    Ok(Source::split(
        metadata.announced(0),
        match length {
            Some(length) => rootfs.announced(length),
            None => rootfs,
        },
    ))
}

fn expect(part: Option<Part>, names: &[&str]) -> Result<()> {
    match part {
        Some(part) if names.contains(&&*part.name) => Ok(()),
        Some(part) => {
            let shown: String = part.name.chars().take(64).collect();
            let sentence = format!("the server sends `{}` where `{}` belongs", Shown(shown.as_bytes()), names[0]);
            Err(Error::malformed(sentence))
        }
        None => Err(Error::malformed(format!("the server sends an image in two files without its `{}`", names[0]))),
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
    limits: Limits,
}

impl Shared {
    /// Reads the file that is due, and goes on to the next at its end.
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let count = self.reader.read(out)?;
        self.bytes = self.bytes.saturating_add(count as u64);
        if self.bytes > self.limits.download {
            return Err(Error::limit("download", self.limits.download, "the size of the image in bytes"));
        }
        if count == 0 && !out.is_empty() {
            match (self.stage, self.reader.next_part()?) {
                (Stage::Metadata, part) => {
                    expect(part, &["rootfs", "rootfs.img"])?;
                    self.stage = Stage::Rootfs;
                }
                (_, None) => self.stage = Stage::Over,
                (_, Some(_)) => return Err(Error::malformed("the server sends an image in more than two files")),
            }
        }
        Ok(count)
    }

    fn put_aside(&mut self) -> Result<()> {
        let most = self.limits.metadata_file;
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
struct Half {
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
        // Such a body can't be gone on with where it broke: its boundaries are new each time.
        Ok(self.next(out).map_err(|error| if error.is_temporary() { error.begin_anew() } else { error })?)
    }
}
