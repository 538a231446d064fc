//! `Digests`: what each file of an image in two files hashes to. The store knows the digest of both together only, so
//! they are read once, on all cores, when a list or a file is first asked for, and remembered as long as they are listed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::root_kind;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::io::{self, Blob};
use crate::protocol::simplestreams::RootKind;
use crate::server::core::verified::{self, State, Verified};
use crate::store::{Store, StoredImage};

/// How long a request waits for files to be read. Real clients wait a minute; whoever comes again finds more done.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the files of a damaged image are taken for the same. Anybody may ask, and each look opens them.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How many images are read by themselves at once, beside those of a list.
const ALONE: usize = 4;
/// How many requests wait at once. Each has a thread, of which others need some.
pub(super) const WAITERS: usize = 32;

/// An image in two files whose digests are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    pub(super) fingerprint: Fingerprint,
    /// Bytes of both files.
    pub(super) size: u64,
}

impl From<&StoredImage> for Split {
    fn from(image: &StoredImage) -> Self {
        Self { fingerprint: image.fingerprint, size: image.size }
    }
}

/// The files of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) kind: RootKind,
    /// The digest of the metadata file.
    pub(super) first: Fingerprint,
    /// The digest of the rootfs file.
    pub(super) rootfs: Fingerprint,
}

/// What is known of the files of images.
#[derive(Debug, Default)]
pub(super) struct Digests(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    changed: Condvar,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    found: HashMap<Fingerprint, Found>,
    /// Whether somebody reads the files of a whole list now. One at a time: it takes all cores.
    at_work: bool,
    /// The images whose files are being read, for a list or by themselves.
    reading: HashSet<Fingerprint>,
    /// How many are read by themselves.
    alone: usize,
    waiting: usize,
}

#[derive(Debug, Clone)]
enum Found {
    Parts(Parts),
    /// It is whole, but no reader of lists would make anything of it.
    Unlisted,
    /// The files, as they were then, are not the image; and when that was looked at last. Without a state nobody can tell
    /// that they were mended.
    Damaged(Option<State>, Instant),
}

impl Drop for Digests {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Digests {
    /// The files of these images, except those that can't be listed or are damaged.
    ///
    /// # Errors
    /// `Busy` when there is so much to read that it is not done yet; reading goes on.
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
            let mut unknown: Vec<Split> = images
                .iter()
                .copied()
                .filter(|image| !tried.contains(&image.fingerprint) && !known.found.contains_key(&image.fingerprint))
                .collect();
            if unknown.is_empty() {
                break;
            }
            // Whoever wants one image needs not wait for all.
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

    /// Forgets of these images those that were found damaged and whose files are others now: somebody may have repaired them.
    /// Each is looked at once in a while, and nothing is locked meanwhile: the disk that holds it may be slow.
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

    /// Whether all of these were read and are whole: nothing will be known of them that is not known now.
    pub(super) fn are_settled(&self, images: &[Split]) -> bool {
        let known = self.0.lock();
        let settled =
            |image: &Split| matches!(known.found.get(&image.fingerprint), Some(Found::Parts(_) | Found::Unlisted));
        images.iter().all(settled)
    }

    /// Forgets all but these images, so that no more is remembered than the store has.
    pub(super) fn keep(&self, images: &[Split]) {
        let keep: HashSet<_> = images.iter().map(|image| image.fingerprint).collect();
        self.0.lock().found.retain(|fingerprint, _| keep.contains(fingerprint));
    }

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
    /// Reads the files of one image, whose turn it is. What can't be opened is not listed, and is tried again with the next list.
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

/// Tells those who wait that the work is over, of a list or of one image alone, however it ended.
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
    let threads = thread::available_parallelism().map_or(1, usize::from).min(unknown.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            // With fewer threads it takes longer.
            let _ = thread::Builder::new().name("digests".to_owned()).spawn_scoped(scope, run);
        }
        run();
    });
}

fn look(shared: &Shared, store: &Store, verified: &Verified, fingerprint: &Fingerprint) -> Option<Found> {
    let opened = store.open_image(fingerprint).ok()?;
    let (first, Some(rootfs)) = opened.files() else { return Some(Found::Unlisted) };
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
    if kind.image_type() != opened.image().image_type {
        return Some(Found::Unlisted);
    }
    Some(Found::Parts(Parts { kind, first, rootfs }))
}

/// The digest of a file, whose bytes also go into `whole`.
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
