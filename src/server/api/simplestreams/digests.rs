//! [`Digests`]: the SHA-256 of each file of a split image. The store knows only the digest of both
//! files together, which is the fingerprint, and a simplestreams list needs one for each.
//!
//! The files are read once, when a list or a file is first asked for, on all cores, and the digests
//! are remembered as long as the image is listed. The same pass verifies the fingerprint, so that a
//! damaged image is found and not listed.
//!
//! # Who reads, who waits
//!
//! - A list has all its unknown images read by one background thread with helpers. There is one
//!   such work at a time, as it uses all cores and the whole disk.
//! - A request for a single file does not wait for that: up to four images are read by themselves.
//! - Each image is read by one of them only; the others wait for the result.
//! - A request waits for 30 seconds at most, and 32 requests at once. Reading goes on without them,
//!   so that a later request finds it done.
//!
//! The lock is held for look-ups only, never while files are read.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::names::root_kind;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::io::{self, Blob};
use crate::protocol::simplestreams::RootKind;
use crate::server::core::verified::{self, State, Verified};
use crate::store::{Store, StoredImage};

/// How long a request waits for files to be read. Clients of the peers give up after a minute or
/// so; a client that comes again finds more done.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a damaged image is taken for damaged without looking at its files. Anybody may ask, and
/// each look opens them.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Images that are read by themselves at once, beside those of a list.
const ALONE: usize = 4;
/// Requests that wait at once. Each has a thread, and other requests need some.
pub(super) const WAITERS: usize = 32;

/// A split image whose digests are needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    pub(super) fingerprint: Fingerprint,
    /// Bytes of both files; the largest images are read first.
    pub(super) size: u64,
}

impl From<&StoredImage> for Split {
    fn from(image: &StoredImage) -> Self {
        Self { fingerprint: image.fingerprint, size: image.size }
    }
}

/// The digests of the files of a split image, and the kind of its rootfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) kind: RootKind,
    /// The digest of the metadata file.
    pub(super) first: Fingerprint,
    /// The digest of the rootfs file.
    pub(super) rootfs: Fingerprint,
}

/// The digests of a server's split images. Dropping it ends the background work soon.
#[derive(Debug, Default)]
pub(super) struct Digests(Arc<Shared>);

/// What the requests and the background threads share.
#[derive(Debug, Default)]
struct Shared {
    /// What is known and in progress.
    known: Mutex<Known>,
    /// Notified when an image was read, and when some work ends.
    changed: Condvar,
    /// Whether the server is gone: reading stops at the next chunk.
    ended: AtomicBool,
}

/// What the lock protects.
#[derive(Debug, Default)]
struct Known {
    /// The result for each image that was read.
    found: HashMap<Fingerprint, Found>,
    /// Whether the images of a list are being read.
    at_work: bool,
    /// The images that are being read now, for a list or by themselves.
    reading: HashSet<Fingerprint>,
    /// The number of images that are being read by themselves.
    alone: usize,
    /// The number of requests that wait.
    waiting: usize,
}

/// The result of reading an image.
#[derive(Debug, Clone)]
enum Found {
    /// It is what its fingerprint says.
    Parts(Parts),
    /// It is whole, but no client could use it from a list: its rootfs is of an unknown kind, or
    /// not that of its type.
    Unlisted,
    /// Its files could not be read or are not the image: the versions that they had then, and when
    /// somebody looked at them last. Without versions nobody can tell that they were repaired.
    Damaged(Option<State>, Instant),
}

impl Drop for Digests {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Digests {
    /// The digests of these images, except of those that can't be listed or are damaged. Reads what
    /// is not known yet.
    ///
    /// # Errors
    /// `Busy` when reading takes longer than a request waits, or too many requests wait; reading
    /// goes on.
    pub(super) fn of(
        &self,
        store: &Store,
        verified: &Arc<Verified>,
        images: &[Split],
    ) -> Result<HashMap<Fingerprint, Parts>> {
        let deadline = Instant::now() + PATIENCE;
        let mut tried = HashSet::new();
        self.forget_mended(store, images);
        let mut known = self.0.lock();
        loop {
            // An image is tried once for each call: one that could not be opened must not be tried
            // in a loop.
            let mut unknown: Vec<Split> = images
                .iter()
                .copied()
                .filter(|image| !tried.contains(&image.fingerprint) && !known.found.contains_key(&image.fingerprint))
                .collect();
            if unknown.is_empty() {
                break;
            }
            // A request for one image need not wait for a whole list.
            let one = if let [image] = images { Some(image.fingerprint) } else { None };
            if let Some(one) = one
                && known.alone < ALONE
                && known.reading.insert(one)
            {
                tried.insert(one);
                known.alone += 1;
                self.begin(&mut known, store.clone(), Arc::clone(verified), vec![one], true)?;
            } else if !known.at_work && unknown.iter().any(|image| !known.reading.contains(&image.fingerprint)) {
                // The largest first: the last one to be done is small then, and no core waits long for another.
                unknown.sort_by_key(|image| std::cmp::Reverse(image.size));
                let unknown: Vec<Fingerprint> = unknown.iter().map(|image| image.fingerprint).collect();
                tried.extend(unknown.iter().copied());
                self.begin(&mut known, store.clone(), Arc::clone(verified), unknown, false)?;
            }
            let busy = || Error::new(ErrorKind::Busy, "the files of the images are still being read");
            if known.waiting >= WAITERS {
                return Err(busy());
            }
            known.waiting += 1;
            let goes_on = |known: &mut Known| match one {
                Some(one) => known.reading.contains(&one) && !known.found.contains_key(&one),
                None => known.at_work || images.iter().any(|image| known.reading.contains(&image.fingerprint)),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            // The condition ends the wait early: a request for one image need not wait for a list.
            let waited = self.0.changed.wait_timeout_while(known, left, goes_on);
            let (guard, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            known = guard;
            known.waiting -= 1;
            if waited.timed_out() {
                return Err(busy());
            }
        }
        let parts = |image: &Split| match known.found.get(&image.fingerprint) {
            Some(Found::Parts(parts)) => Some((image.fingerprint, *parts)),
            _ => None,
        };
        Ok(images.iter().filter_map(parts).collect())
    }

    /// Forgets those of these images that were damaged and whose files have changed since: somebody
    /// may have repaired them. Each is looked at twice a second at most, and nothing is locked
    /// meanwhile, because the disk may be slow.
    fn forget_mended(&self, store: &Store, images: &[Split]) {
        let due: Vec<(Fingerprint, Option<State>)> = {
            let mut known = self.0.lock();
            let now = Instant::now();
            let mut due = Vec::new();
            for image in images {
                if let Some(Found::Damaged(then, looked)) = known.found.get_mut(&image.fingerprint)
                    && now.duration_since(*looked) >= LOOK_AGAIN
                {
                    *looked = now;
                    due.push((image.fingerprint, then.clone()));
                }
            }
            due
        };
        for (fingerprint, then) in due {
            let opened = store.open_image(&fingerprint);
            if opened.is_ok_and(|opened| verified::state(opened.files()).is_some_and(|now| Some(now) != then)) {
                self.0.lock().found.remove(&fingerprint);
            }
        }
    }

    /// Whether all of these images were read and are whole, so that a list of them stays right as
    /// long as the images are the same.
    pub(super) fn are_settled(&self, images: &[Split]) -> bool {
        let known = self.0.lock();
        let settled =
            |image: &Split| matches!(known.found.get(&image.fingerprint), Some(Found::Parts(_) | Found::Unlisted));
        images.iter().all(settled)
    }

    /// Forgets the digests of all other images.
    pub(super) fn keep(&self, images: &[Split]) {
        let keep: HashSet<_> = images.iter().map(|image| image.fingerprint).collect();
        self.0.lock().found.retain(|fingerprint, _| keep.contains(fingerprint));
    }

    /// Starts a thread that reads these images: one by itself, or those of a list.
    ///
    /// # Errors
    /// `Busy` when no thread can be started; then nothing is marked as being read.
    fn begin(
        &self,
        known: &mut Known,
        store: Store,
        verified: Arc<Verified>,
        unknown: Vec<Fingerprint>,
        alone: bool,
    ) -> Result<()> {
        let shared = Arc::clone(&self.0);
        let one = unknown.first().copied();
        let spawned = thread::Builder::new().name("digests".to_owned()).spawn(move || {
            let _done = Done(&shared, alone.then_some(one).flatten());
            if alone {
                unknown.iter().for_each(|one| shared.read(&store, &verified, one));
            } else {
                read_all(&shared, &store, &verified, &unknown);
            }
        });
        match spawned {
            Ok(_) => {
                known.at_work |= !alone;
                Ok(())
            }
            Err(error) => {
                if let Some(one) = one.filter(|_| alone) {
                    known.reading.remove(&one);
                    known.alone -= 1;
                }
                Err(Error::new(ErrorKind::Busy, "there is no thread to read the images' files").with_source(error))
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Reads one image, which the caller has marked. An image that can't be opened has no result,
    /// is not listed, and is tried again with the next list.
    fn read(&self, store: &Store, verified: &Verified, fingerprint: &Fingerprint) {
        let found = look(self, store, verified, fingerprint);
        let mut known = self.lock();
        known.reading.remove(fingerprint);
        if let Some(found) = found {
            known.found.insert(*fingerprint, found);
        }
        drop(known);
        self.changed.notify_all();
    }
}

/// Ends the work when dropped, of a list or of one image, so that a panic does not leave others
/// waiting.
struct Done<'a>(&'a Shared, Option<Fingerprint>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut known = self.0.lock();
        match &self.1 {
            Some(one) => {
                known.reading.remove(one);
                known.alone -= 1;
            }
            None => known.at_work = false,
        }
        drop(known);
        self.0.changed.notify_all();
    }
}

/// Reads the images of a list on all cores. Each thread takes the next one from a shared counter.
fn read_all(shared: &Shared, store: &Store, verified: &Verified, unknown: &[Fingerprint]) {
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(fingerprint) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Read by somebody else already, or being read.
            let taken = {
                let mut known = shared.lock();
                known.found.contains_key(fingerprint) || !known.reading.insert(*fingerprint)
            };
            if !taken {
                shared.read(store, verified, fingerprint);
            }
        }
    };
    // No more threads than images: each reads a whole image.
    let threads = thread::available_parallelism().map_or(1, usize::from).min(unknown.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            // With fewer threads it takes longer.
            let _ = thread::Builder::new().name("digests".to_owned()).spawn_scoped(scope, run);
        }
        run();
    });
}

/// Reads the files of one image: their digests, their common digest, and the kind of the rootfs.
/// `None` if it could not be opened, or the server ends.
fn look(shared: &Shared, store: &Store, verified: &Verified, fingerprint: &Fingerprint) -> Option<Found> {
    let opened = store.open_image(fingerprint).ok()?;
    let (first, Some(rootfs)) = opened.files() else { return Some(Found::Unlisted) };
    // Before the bytes are read, so that a change in between is found by the next look.
    let state = verified::state(opened.files());
    let mut whole = Hasher::new();
    let mut own = |file| hash(file, &mut whole, &shared.ended);
    let (first, rootfs) = match own(first).and_then(|first| Ok((first, own(rootfs)?))) {
        Ok(digests) => digests,
        Err(_) if shared.ended.load(Ordering::Relaxed) => return None,
        // What can't be read is not tried again before somebody mends it.
        Err(_) => return Some(Found::Damaged(state, Instant::now())),
    };
    if whole.finish() != *fingerprint {
        return Some(Found::Damaged(state, Instant::now()));
    }
    if let Some(state) = state {
        verified.remember(*fingerprint, state);
    }
    let container = opened.open(&store.options.limits).ok().and_then(|image| image.containers().nth(1));
    let Some(kind) = container.map(root_kind) else { return Some(Found::Unlisted) };
    // Clients derive the type from the kind of the rootfs, and would take it for the wrong one.
    if kind.image_type() != opened.image().image_type {
        return Some(Found::Unlisted);
    }
    Some(Found::Parts(Parts { kind, first, rootfs }))
}

/// The digest of a file, whose bytes also go into `whole`. Reads until the server ends.
fn hash(file: &Blob, whole: &mut Hasher, ended: &AtomicBool) -> Result<Fingerprint> {
    let mut own = Hasher::new();
    let mut goes_on = |_| if ended.load(Ordering::Relaxed) { Err(Error::cancelled()) } else { Ok(()) };
    io::read_all(file, "an image's file can't be read", &mut goes_on, &mut |bytes| {
        own.update(bytes);
        whole.update(bytes);
        Ok(())
    })?;
    Ok(own.finish())
}
