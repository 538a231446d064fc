//! Where written bytes go: through a codec on a thread of its own, hashed, into a file that has no
//! name yet or into a stream.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::atomic::{self, Durability, Replace};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::format::codec::{self, Compression};
use crate::rooted::{Dir, staging_name};

/// A file beside its place, gone unless committed.
pub(super) struct StagedFile {
    dir: Dir,
    path: PathBuf,
    name: Vec<u8>,
    staging: Option<Vec<u8>>,
    file: File,
}

impl StagedFile {
    /// Makes a file that will be at `path`, where nothing may be yet.
    pub(super) fn make(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::invalid("the output has no name of its own").in_file(path))?
            .as_bytes()
            .to_vec();
        let dir = Dir::open(path.parent().unwrap_or(Path::new(""))).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the output's directory can't be opened").with_source(error).in_file(path)
        })?;
        if dir.stat(&name).is_ok() {
            return Err(taken(path));
        }
        let staging = staging_name(&name);
        // As any program makes files: what the umask leaves.
        let file =
            dir.create(&staging, 0o666).map_err(|error| Error::io("the output can't be made", error).in_file(path))?;
        Ok(Self { dir, path: path.to_path_buf(), name, staging: Some(staging), file })
    }

    /// Another handle on the file, at its start.
    pub(super) fn handle(&self) -> Result<File> {
        let mut file = self.file.try_clone().map_err(|error| Error::io("the output can't be opened again", error))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| Error::io("the output can't be written", error))?;
        Ok(file)
    }

    /// Opens what was written, for reading.
    pub(super) fn reopen(&self) -> Result<File> {
        let staging = self.staging.as_deref().unwrap_or(&self.name);
        self.dir
            .open_file(staging)
            .map_err(|error| Error::io("the output can't be read again", error).in_file(&self.path))
    }

    /// Gives the file its name; both are on the disk when this returns.
    pub(super) fn commit(mut self) -> Result<PathBuf> {
        let Some(staging) = self.staging.as_deref() else { return Ok(self.path.clone()) };
        atomic::publish(&self.file, &self.dir, staging, &self.name, Replace::No, Durability::Durable).map_err(
            |error| {
                if error.kind() == std::io::ErrorKind::AlreadyExists {
                    return taken(&self.path);
                }
                Error::io("the output can't be written and given its name", error).in_file(&self.path)
            },
        )?;
        self.staging = None;
        Ok(self.path.clone())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(staging) = self.staging.take() {
            // Nobody is left to be told; the name says what it is.
            let _ = self.dir.remove_file(&staging);
        }
    }
}

fn taken(path: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, "the output exists already")
        .with_hint("remove it first, or name another")
        .in_file(path)
}

/// Bytes on their way through a codec on another thread.
pub(super) struct Sink {
    buffer: Vec<u8>,
    filled: Option<Sender<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<Result<()>>>,
    hasher: Arc<Mutex<Hasher>>,
}

/// Size and number of the buffers between the threads.
const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 8;

impl Sink {
    /// Compresses into `out`. What arrives there goes on in `hasher`.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        compression: Compression,
        threads: usize,
        hasher: Hasher,
    ) -> Result<Self> {
        let hasher = Arc::new(Mutex::new(hasher));
        let (filled, queue) = crossbeam_channel::bounded::<Vec<u8>>(BUFFERS);
        let (done, empty) = crossbeam_channel::bounded::<Vec<u8>>(BUFFERS);
        let hashed = Hashed { out, hasher: Arc::clone(&hasher) };
        let mut encoder = codec::encoder(compression, hashed, threads)?;
        let thread = std::thread::Builder::new()
            .name("lxd-image-encode".to_owned())
            .spawn(move || {
                for mut buffer in queue {
                    // An empty buffer ends the stream; a queue that ends without one was abandoned.
                    if buffer.is_empty() {
                        return encoder.finish();
                    }
                    encoder.write_all(&buffer).map_err(|error| Error::io("the output can't be written", error))?;
                    buffer.clear();
                    let _ = done.try_send(buffer);
                }
                Err(Error::cancelled())
            })
            .map_err(|error| Error::io("a thread can't be started", error))?;
        Ok(Self { buffer: Vec::with_capacity(BUFFER), filled: Some(filled), empty, thread: Some(thread), hasher })
    }

    /// Ends the stream, waits until all of it is written, and gives the hasher back.
    pub(super) fn finish(mut self) -> Result<Hasher> {
        if !self.buffer.is_empty() {
            self.send()?;
        }
        self.send()?;
        self.join()?;
        let hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(hasher)
    }

    fn send(&mut self) -> Result<()> {
        let next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        let full = std::mem::replace(&mut self.buffer, next);
        match &self.filled {
            Some(filled) if filled.send(full).is_ok() => Ok(()),
            // The thread has ended before its time: it knows why.
            _ => self.join().and_then(|()| Err(Error::new(ErrorKind::Io, "the output's thread has ended"))),
        }
    }

    fn join(&mut self) -> Result<()> {
        self.filled = None;
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(done)) => done,
            Some(Err(_)) => Err(Error::new(ErrorKind::Io, "the output's thread ended unexpectedly")),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == BUFFER {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Whatever it says, the output is not finished and nobody will see it.
        let _ = self.join();
    }
}

/// Hashes what passes.
struct Hashed<W> {
    out: W,
    hasher: Arc<Mutex<Hasher>>,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
