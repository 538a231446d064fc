//! `Prefetch`: blobs that are fetched by several threads into temporary files, and read from there in any order.
//!
//! A reader need not wait for the end of its blob: it follows the thread that writes. A blob may be read several times,
//! as a conversion does, and is fetched once. The bytes of all files together are bounded by `Limits::spool`; what does
//! not fit is not fetched ahead. Everything is gone as soon as nobody can read any more.
//!
//! With a store, blobs that it keeps are taken from there, and the others are staged and kept there for the next image, each
//! as soon as it is whole: of a download that is cancelled nothing is left but these. What a killed process had of a blob is
//! not fetched again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::{Resource, getrlimit};

use super::repository::OciRepository;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::nameless;
use crate::io::{Blob, ReadAt};
use crate::oci::Descriptor;
use crate::omissions::Omitted;
use crate::progress::{Cancel, Monitor};
use crate::remote::http::POLL_INTERVAL;
use crate::store::{StagedFile, Store};

/// How many blobs are fetched at once. More connections to one registry rarely are faster.
const THREADS: usize = 4;
/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Of how many blobs the files may be open where the process may open any number. Each stays open until all are read.
const MAX_BLOBS: u64 = 4_096;

/// Blobs on their way.
#[derive(Clone)]
pub(super) struct Prefetch(Arc<Running>);

/// What readers and the repository share; the last of them stops the threads.
struct Running {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Closed when the last thread has ended. Nothing is sent.
    ended: Receiver<()>,
}

/// What the threads work on.
struct Queue {
    slots: Vec<Arc<Slot>>,
    /// The first slot that no thread has begun.
    next: AtomicUsize,
    stop: Cancel,
    /// Where blobs are kept for other images.
    store: Option<Store>,
    /// Whether one was kept.
    has_kept: AtomicBool,
    /// Records what could not be kept.
    monitor: Monitor,
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
    /// What was written so far, or the whole blob where the store had it.
    blob: Option<Blob>,
    written: u64,
    end: Option<End>,
}

impl Prefetch {
    /// Begins to fetch the blobs of a repository, in this order, and keeps them in a store, where one is given.
    ///
    /// # Errors
    /// `Io` where no thread can be started.
    pub(super) fn start(
        repository: &OciRepository,
        descriptors: &[Descriptor],
        store: Option<&Store>,
        monitor: &Monitor,
    ) -> Result<Self> {
        monitor.check()?;
        let mut room = repository.registry().client().limits().spool;
        let most = max_blobs();
        let mut slots: Vec<Arc<Slot>> = Vec::new();
        for descriptor in descriptors {
            let fits = room.checked_sub(descriptor.size);
            // A blob that is named twice is fetched once.
            if let Some(left) = fits
                && slots.len() < most
                && !slots.iter().any(|slot| slot.descriptor.digest == descriptor.digest)
            {
                room = left;
                let descriptor = descriptor.clone();
                slots.push(Arc::new(Slot { descriptor, progress: Mutex::default(), changed: Condvar::new() }));
            }
        }
        let count = slots.len().min(THREADS);
        let queue = Arc::new(Queue {
            slots,
            next: AtomicUsize::new(0),
            stop: Cancel::new(),
            store: store.cloned(),
            has_kept: AtomicBool::new(false),
            monitor: monitor.clone(),
        });
        let (alive, ended) = bounded(0);
        let running = Running { queue: Arc::clone(&queue), threads: Mutex::default(), ended };
        for _ in 0..count {
            // Without the repository's own handle on this, so that the last reader can end it.
            let own = OciRepository::new(repository.registry().clone(), repository.name().to_owned())?;
            let (queue, alive): (_, Sender<()>) = (Arc::clone(&queue), alive.clone());
            let thread = std::thread::Builder::new()
                .name("prefetch".into())
                .spawn(move || {
                    queue.work(&own);
                    drop(alive);
                })
                .map_err(|error| Error::io("a thread for the download can't be started", error))?;
            running.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(Self(Arc::new(running)))
    }

    /// Waits until everything was fetched and kept. Keeping may be a long upload, which ends where the monitor is cancelled.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn finish(&self, monitor: &Monitor) -> Result<()> {
        while let Err(RecvTimeoutError::Timeout) = self.0.ended.recv_timeout(POLL_INTERVAL) {
            if let Err(error) = monitor.check() {
                self.0.queue.stop.cancel();
                self.0.join();
                return Err(error);
            }
        }
        self.0.join();
        Ok(())
    }

    /// A reader of a blob, if that is fetched here.
    pub(super) fn take(&self, descriptor: &Descriptor, monitor: &Monitor) -> Option<impl Read + Send + use<>> {
        let wanted =
            |slot: &&Arc<Slot>| slot.descriptor.digest == descriptor.digest && slot.descriptor.size == descriptor.size;
        let slot = self.0.queue.slots.iter().find(wanted)?;
        Some(FollowingReader { slot: Arc::clone(slot), at: 0, monitor: monitor.clone(), _running: Arc::clone(&self.0) })
    }
}

impl Running {
    /// Waits until all threads have ended.
    fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queue.stop.cancel();
        self.join();
        if let Some(store) = self.queue.store.as_ref().filter(|_| self.queue.has_kept.load(Ordering::Relaxed)) {
            // Where this fails, the next download or pruning finds what is too much.
            let _ = store.trim_layers();
        }
    }
}

impl Queue {
    /// One thread: fetches blobs until there are none left.
    fn work(&self, repository: &OciRepository) {
        while !self.stop.is_cancelled() {
            let Some(slot) = self.slots.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return };
            let (end, written) = match self.fetch(slot, repository) {
                Ok(written) => (End::Complete, written),
                Err(error) => (End::Failed(Some(error)), None),
            };
            slot.lock().end = Some(end);
            slot.changed.notify_all();
            if let (Some(store), Some(digest), Some(Target::Staged(staged))) = (&self.store, slot.digest(), written) {
                self.keep(store, &digest, staged);
            }
        }
        // Readers of what was not begun must not wait for it.
        for slot in &self.slots {
            slot.lock().end.get_or_insert_with(|| End::Failed(Some(Error::cancelled())));
            slot.changed.notify_all();
        }
    }

    /// Fetches one blob into a file, and returns that; `None` where the store had the blob. Its digest is checked by the
    /// reader, and by the download where that can.
    fn fetch(&self, slot: &Slot, repository: &OciRepository) -> Result<Option<Target>> {
        let monitor = Monitor::none().with_cancel(self.stop.clone());
        let kept = self.store.as_ref().filter(|_| slot.digest().is_some());
        if let Some(store) = kept
            && self.take_kept(slot, store, &monitor)?
        {
            return Ok(None);
        }
        let (mut target, before) = match kept.zip(slot.digest()) {
            Some((store, digest)) => {
                let (staged, before) = store.stage_layer(&digest, slot.descriptor.size, &monitor)?;
                (Target::Staged(staged), before)
            }
            None => (Target::Unnamed(nameless(&std::env::temp_dir()).map_err(unnamed_error)?), Hasher::new()),
        };
        // One for all readers: it reads what is written after it was opened, too.
        let blob = target.blob()?;
        let mut written = before.bytes();
        let is_resumed = written > 0;
        let mut reader = repository.download(&slot.descriptor, &monitor)?.reader_after(before);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => {
                    slot.publish(&blob, written);
                    return Ok(Some(target));
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let error = Error::from(error);
                    // The part that was there may be damaged, and is gone now: the copy begins again without it.
                    let is_damaged = is_resumed && error.kind() == ErrorKind::Mismatch;
                    return Err(if is_damaged { error.needs_restart() } else { error });
                }
            };
            target.append(buffer.get(..count).unwrap_or_default())?;
            written = written.saturating_add(count as u64);
            // What a killed process left is shown to nobody before the digest of all was compared.
            if !is_resumed {
                slot.publish(&blob, written);
            }
        }
    }

    /// Takes a blob from the store. Returns whether it was there and whole.
    fn take_kept(&self, slot: &Slot, store: &Store, monitor: &Monitor) -> Result<bool> {
        let Some(digest) = slot.digest() else { return Ok(false) };
        let found = store.cached_layer(&digest, slot.descriptor.size, monitor);
        self.monitor.omit_all(&monitor.omissions());
        match found {
            Ok(Some(blob)) => {
                slot.publish(&blob, slot.descriptor.size);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            // The registry has it as well.
            Err(error) => {
                self.unkept(&digest, error.message());
                Ok(false)
            }
        }
    }

    /// Keeps a whole blob in the store. The download does not fail with it.
    fn keep(&self, store: &Store, digest: &Fingerprint, mut staged: StagedFile) {
        match store.keep_layer(digest, &mut staged, &Monitor::none().with_cancel(self.stop.clone())) {
            Ok(true) => self.has_kept.store(true, Ordering::Relaxed),
            Ok(false) => self.unkept(digest, "it is over the limit `layer_cache`, or over a quarter of the free space"),
            Err(error) if error.kind() == ErrorKind::Cancelled => {}
            Err(error) => self.unkept(digest, error.message()),
        }
    }

    fn unkept(&self, digest: &Fingerprint, reason: &str) {
        let part = "the copy in the store, for other images".into();
        self.monitor.omit(format!("sha256:{digest}"), Omitted::Dropped { part, reason: reason.to_owned().into() });
    }
}

/// How many blobs may be fetched ahead: their files take half of the descriptors that the process may have, at most.
fn max_blobs() -> usize {
    let most = getrlimit(Resource::Nofile).current.map_or(MAX_BLOBS, |most| (most / 2).min(MAX_BLOBS));
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// The file that a blob is fetched into.
enum Target {
    /// In scratch of the store that is to keep it.
    Staged(StagedFile),
    /// Gone when nobody reads it any more.
    Unnamed(File),
}

impl Target {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Staged(staged) => staged
                .write_all(bytes)
                .map_err(|error| Error::io("a layer can't be written into the store's staging", error)),
            Self::Unnamed(file) => file.write_all(bytes).map_err(unnamed_error),
        }
    }

    /// What was appended, and what will be.
    fn blob(&self) -> Result<Blob> {
        match self {
            Self::Staged(staged) => staged.reader(),
            Self::Unnamed(file) => file.try_clone().and_then(Blob::file).map_err(unnamed_error),
        }
    }
}

/// The error for the directory of temporary files.
fn unnamed_error(error: io::Error) -> Error {
    Error::io("a layer can't be kept while it is read", error)
        .in_file(std::env::temp_dir())
        .with_hint("name a directory with more room in TMPDIR")
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest by which a store keeps it; `None` for another algorithm than SHA-256.
    fn digest(&self) -> Option<Fingerprint> {
        self.descriptor.digest.as_fingerprint()
    }

    /// Lets readers go on to `written` bytes of `blob`.
    fn publish(&self, blob: &Blob, written: u64) {
        let mut progress = self.lock();
        progress.blob.get_or_insert_with(|| blob.clone());
        progress.written = written;
        self.changed.notify_all();
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
        let (blob, there) = loop {
            let there = progress.written.saturating_sub(self.at);
            if let Some(blob) = progress.blob.as_ref().filter(|_| there > 0) {
                break (blob.clone(), there);
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
        let count = blob.read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}
