//! `Prefetch`: blobs that are fetched by several threads into unnamed temporary files, and read from there in any
//! order.
//!
//! A reader need not wait for the end of its blob: it follows the thread that writes. A blob may be read several times,
//! as a conversion does, and is fetched once. The bytes of all files together are bounded by `Limits::spool`; what does
//! not fit is not fetched ahead. Everything is gone as soon as nobody can read any more.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::repository::OciRepository;
use crate::error::{Error, Result};
use crate::format::nameless;
use crate::oci::Descriptor;
use crate::progress::{Cancel, Monitor};
use crate::remote::http::POLL_INTERVAL;

/// How many blobs are fetched at once. More connections to one registry rarely are faster.
const THREADS: usize = 4;
/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Blobs on their way.
#[derive(Clone)]
pub(super) struct Prefetch(Arc<Running>);

/// What readers and the repository share; the last of them stops the threads.
struct Running {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads work on.
struct Queue {
    slots: Vec<Arc<Slot>>,
    /// The first slot that no thread has begun.
    next: AtomicUsize,
    stop: Cancel,
}

/// One blob.
struct Slot {
    descriptor: Descriptor,
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// How the fetching of a blob ended.
enum End {
    Complete,
    /// The error, for the first reader who comes to it.
    Failed(Option<Error>),
}

#[derive(Default)]
struct Progress {
    file: Option<Arc<File>>,
    written: u64,
    end: Option<End>,
}

impl Prefetch {
    /// Begins to fetch the blobs of a repository, in this order.
    ///
    /// # Errors
    /// `Io` where no thread can be started.
    pub(super) fn start(repository: &OciRepository, descriptors: &[Descriptor], monitor: &Monitor) -> Result<Self> {
        monitor.check()?;
        let mut room = repository.registry().client().limits().spool;
        let mut slots: Vec<Arc<Slot>> = Vec::new();
        for descriptor in descriptors {
            let fits = room.checked_sub(descriptor.size);
            // A blob that is named twice is fetched once.
            if let Some(left) = fits
                && !slots.iter().any(|slot| slot.descriptor.digest == descriptor.digest)
            {
                room = left;
                let descriptor = descriptor.clone();
                slots.push(Arc::new(Slot { descriptor, progress: Mutex::default(), changed: Condvar::new() }));
            }
        }
        let count = slots.len().min(THREADS);
        let queue = Arc::new(Queue { slots, next: AtomicUsize::new(0), stop: Cancel::new() });
        let running = Running { queue: Arc::clone(&queue), threads: Mutex::default() };
        for _ in 0..count {
            // Without the repository's own handle on this, so that the last reader can end it.
            let own = OciRepository::new(repository.registry().clone(), repository.name().to_owned())?;
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new()
                .name("prefetch".into())
                .spawn(move || queue.work(&own))
                .map_err(|error| Error::io("a thread for the download can't be started", error))?;
            running.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(Self(Arc::new(running)))
    }

    /// A reader of a blob, if that is fetched here.
    pub(super) fn take(&self, descriptor: &Descriptor, monitor: &Monitor) -> Option<impl Read + Send + use<>> {
        let wanted =
            |slot: &&Arc<Slot>| slot.descriptor.digest == descriptor.digest && slot.descriptor.size == descriptor.size;
        let slot = self.0.queue.slots.iter().find(wanted)?;
        Some(FollowingReader { slot: Arc::clone(slot), at: 0, monitor: monitor.clone(), _running: Arc::clone(&self.0) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queue.stop.cancel();
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// One thread: fetches blobs until there are none left.
    fn work(&self, repository: &OciRepository) {
        while !self.stop.is_cancelled() {
            let Some(slot) = self.slots.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return };
            let ended = self.fetch(slot, repository);
            slot.lock().end = Some(ended.map_or_else(|error| End::Failed(Some(error)), |()| End::Complete));
            slot.changed.notify_all();
        }
        // Readers of what was not begun must not wait for it.
        for slot in &self.slots {
            slot.lock().end.get_or_insert_with(|| End::Failed(Some(Error::cancelled())));
            slot.changed.notify_all();
        }
    }

    /// Fetches one blob into a file. Its digest is checked by the reader, and by the download where that can.
    fn fetch(&self, slot: &Slot, repository: &OciRepository) -> Result<()> {
        let directory = std::env::temp_dir();
        let unkept = |error| {
            Error::io("a layer can't be kept while it is read", error)
                .in_file(&directory)
                .with_hint("name a directory with more room in TMPDIR")
        };
        let file = Arc::new(nameless(&directory).map_err(unkept)?);
        slot.lock().file = Some(Arc::clone(&file));
        let mut reader =
            repository.download(&slot.descriptor, &Monitor::none().with_cancel(self.stop.clone()))?.reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut written = 0_u64;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            file.write_all_at(buffer.get(..count).unwrap_or_default(), written).map_err(unkept)?;
            written = written.saturating_add(count as u64);
            slot.lock().written = written;
            slot.changed.notify_all();
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file behind the thread that writes it.
struct FollowingReader {
    slot: Arc<Slot>,
    at: u64,
    monitor: Monitor,
    /// Keeps the threads at work.
    _running: Arc<Running>,
}

impl Read for FollowingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut progress = self.slot.lock();
        let (file, there) = loop {
            let there = progress.written.saturating_sub(self.at);
            if let Some(file) = progress.file.as_ref().filter(|_| there > 0) {
                break (Arc::clone(file), there);
            }
            match &mut progress.end {
                Some(End::Complete) => return Ok(0),
                Some(End::Failed(error)) => {
                    let error = error.take().unwrap_or_else(|| Error::remote("a layer could not be fetched"));
                    return Err(error.into());
                }
                None => {
                    let waited = self.slot.changed.wait_timeout(progress, POLL_INTERVAL);
                    progress = waited.unwrap_or_else(PoisonError::into_inner).0;
                    self.monitor.check()?;
                }
            }
        };
        drop(progress);
        let most = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let count = file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}
