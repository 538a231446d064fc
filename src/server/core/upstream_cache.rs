//! [`UpstreamCache`]: resolves names at the upstream, and fetches images from it that the store lacks. Concurrent
//! requests for one name or image share one query or download. Anonymous clients can trigger both, so queries,
//! downloads and waiters are bounded, and failures are not retried soon. While the upstream is unreachable, cached
//! images are served.
//!
//! No lock is held while the upstream or the store is asked: what is in progress is marked in `resolving` and
//! `fetching`, and the mark is removed by a guard however the work ends.
//!
//! # What is remembered, and for how long
//!
//! | what | how long | why |
//! |---|---|---|
//! | a name that the upstream resolved | 3 minutes | images are published daily at most |
//! | a name that the upstream does not have | 1 minute | mistyped names repeat |
//! | a failed download of an image | 30 seconds | each try may move gigabytes |
//! | an upstream that did not answer | 30 seconds | each try holds a thread until a timeout |
//!
//! After these times the next request asks again. If the upstream does not answer then, the older
//! answer is used, however old it is: a caching server is most useful while its upstream is away.
//! After a restart, the alias that is recorded in the source of a cached image serves as the older
//! answer.
//!
//! # Trust
//!
//! The upstream decides what a name means, and nothing else: an image is stored under its own
//! digest, and one that differs from the resolved fingerprint is refused. An image that is private
//! in the store stays private, whatever the upstream has; `access` checks that after the download.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::metadata::{Architecture, ImageType};
use crate::progress::{Cancel, Monitor};
use crate::server::core::fleet::FetchTurn;
use crate::server::core::not_found::not_found;
use crate::server::core::notes::Notes;
use crate::server::core::operations::Operations;
use crate::server::core::transfer::ImageTransfer;
use crate::store::{Store, StoredImage};

/// How long a name that the upstream resolved is not asked for again.
///
/// A new image of an alias is seen after this time at the latest.
const FOUND_LIFETIME: Duration = Duration::from_secs(180);
/// How long a name that the upstream does not have is not asked for again.
///
/// Shorter than for names that exist: somebody may be waiting for a name that was just published.
const NOT_FOUND_LIFETIME: Duration = Duration::from_secs(60);
/// How long after a failure the upstream, or the image, is not tried again.
///
/// Longer than a short outage, so that a failing upstream gets two queries a minute from this
/// server, however many clients ask.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// Answers and failures that are remembered. Anonymous clients choose the names, so the map is
/// emptied of what is not fresh when it is full, and of everything when that is not enough.
const MAX_ANSWERS: usize = 10_000;
/// Queries to the upstream at once. More are refused with `Busy`; they don't wait, since each would
/// hold a thread.
const MAX_QUERIES: usize = 8;
/// Downloads at once; and as many background jobs of trusted clients.
const MAX_DOWNLOADS: usize = 8;
/// Requests that wait for a query or a download at once: each holds a thread.
const MAX_WAITERS: usize = 64;

/// An alias or a fingerprint prefix as the client wrote it, and the type that it is to have.
type Name = (String, ImageType);

/// What the upstream answered to a name, and when.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// The fingerprint, or `None` if the upstream has no such image.
    found: Option<Fingerprint>,
    /// When the query was answered.
    asked: Instant,
}

impl Answer {
    /// Whether the answer is used without asking the upstream again.
    fn is_fresh(&self) -> bool {
        self.asked.elapsed() < if self.found.is_some() { FOUND_LIFETIME } else { NOT_FOUND_LIFETIME }
    }
}

/// What the lock of the cache protects.
#[derive(Debug, Default)]
struct CacheState {
    /// The last answer to each name.
    answers: HashMap<Name, Answer>,
    /// The names that some request asks the upstream for now.
    resolving: HashSet<Name>,
    /// The images that some request downloads now.
    fetching: HashSet<Fingerprint>,
    /// The last failed download of each image: when, and its error for the clients that come next.
    failed: HashMap<Fingerprint, (Instant, ErrorKind, String)>,
    /// When the upstream failed to answer last.
    unreachable_since: Option<Instant>,
    /// Requests that wait for another one's query or download.
    waiting: usize,
    /// Whether the server shuts down: nobody begins or waits any more.
    stopped: bool,
}

/// The answers of the upstream, and what is being asked of it and fetched from it.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCache {
    /// What is known and in progress.
    state: Mutex<CacheState>,
    /// Notified when a query or download ends, and at shutdown.
    changed: Condvar,
    /// Downloads that run for clients of any kind.
    downloads: Arc<AtomicUsize>,
    /// Background jobs of trusted clients, counted apart so that anonymous downloads can't block them.
    jobs: Arc<AtomicUsize>,
    /// Cancels all downloads at shutdown.
    cancel: Cancel,
}

/// The share of a download or background job in the limit on them; released when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// Takes a permit. A permit beyond the limit is created and dropped again, which corrects the
    /// count.
    ///
    /// # Errors
    /// `Busy` beyond `MAX_DOWNLOADS`.
    fn of(taken: &Arc<AtomicUsize>) -> Result<Self> {
        let before = taken.fetch_add(1, Ordering::AcqRel);
        let permit = Self(Arc::clone(taken));
        if before >= MAX_DOWNLOADS { Err(busy("the server is fetching too many images already")) } else { Ok(permit) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Removes the mark of a query or download when dropped, and wakes the waiters.
///
/// The work may end by an error or a panic as well; without the guard its name could never be asked
/// for again.
struct Guard<'a, F: FnMut(&mut CacheState)>(&'a UpstreamCache, F);

impl<F: FnMut(&mut CacheState)> Drop for Guard<'_, F> {
    fn drop(&mut self) {
        (self.1)(&mut self.0.lock());
        self.0.changed.notify_all();
    }
}

impl UpstreamCache {
    /// A permit for one more background job of a trusted client: an import, a refresh, a push.
    ///
    /// Such jobs count apart from downloads: eight anonymous clients that download slowly must not
    /// keep an administrator from importing an image.
    ///
    /// # Errors
    /// `Busy`.
    pub(crate) fn job_permit(&self) -> Result<Permit> {
        Permit::of(&self.jobs)
    }

    /// A monitor for what is asked of another server: the shutdown of this one ends it.
    pub(crate) fn stoppable(&self) -> Monitor {
        Monitor::none().with_cancel(self.cancel.clone())
    }

    /// Begins shutdown: cancels downloads and wakes all waiters.
    ///
    /// Downloads end with `Cancelled` when they notice; their requests are answered with 503.
    pub(crate) fn stop(&self) {
        self.cancel.cancel();
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Resolves an alias of this type, or a fingerprint prefix, at the upstream. The answer is a few minutes old at
    /// most, and older when the upstream can't be asked: then `earlier` tells what an earlier process fetched by this name.
    /// `None` where the upstream has nothing.
    ///
    /// # Errors
    /// `Remote` when the upstream can't be asked and no older answer is known; `Busy`.
    pub(crate) fn resolve(
        &self,
        fetch: &dyn ImageTransfer,
        name: &str,
        image_type: ImageType,
        earlier: &dyn Fn() -> Result<Option<Fingerprint>>,
    ) -> Result<Option<Fingerprint>> {
        let key = (name.to_owned(), image_type);
        let mut state = self.lock();
        let before = loop {
            let before = state.answers.get(&key).copied();
            if let Some(known) = before.filter(Answer::is_fresh) {
                return Ok(known.found);
            }
            // Checked before the marks: while the upstream is away, nobody should wait for a query
            // that will fail.
            if state.unreachable_since.is_some_and(|since| since.elapsed() < RETRY_DELAY) {
                drop(state);
                return remembered(before, earlier, || Error::new(ErrorKind::Remote, "the upstream can't be reached"));
            }
            if state.resolving.contains(&key) {
                state = self.wait(state)?;
            } else if state.resolving.len() >= MAX_QUERIES {
                return Err(busy("the server asks its upstream for too many names already"));
            } else {
                break before;
            }
        };
        // From here on the lock is free: a query may take as long as the network lets it.
        state.resolving.insert(key.clone());
        drop(state);
        let guard = Guard(self, |state: &mut CacheState| _ = state.resolving.remove(&key));
        // Names are resolved for this machine; the client's architecture is not part of the API
        // request.
        let architecture = Architecture::of_this_machine().unwrap_or(Architecture::X86_64);
        let answer = fetch.resolve(name, image_type, architecture, &self.stoppable()).map_err(as_server_error);
        let mut state = self.lock();
        let answer = match answer {
            Ok(found) => {
                state.unreachable_since = None;
                if state.answers.len() >= MAX_ANSWERS {
                    state.answers.retain(|_, known| known.is_fresh());
                }
                if state.answers.len() >= MAX_ANSWERS {
                    state.answers.clear();
                }
                state.answers.insert(key.clone(), Answer { found, asked: Instant::now() });
                drop(state);
                Ok(found)
            }
            Err(error) => {
                // A permanent error is about this name only; a transient one about the upstream.
                if error.is_transient() {
                    state.unreachable_since = Some(Instant::now());
                }
                drop(state);
                remembered(before, earlier, || error)
            }
        };
        drop(guard);
        answer
    }

    /// Fetches an image of the upstream into the store, or waits for the request that fetches it. The caller checks
    /// whether the client may see it.
    ///
    /// `arrived` is called with an image that this call has downloaded, after all marks are released: it may be slow.
    ///
    /// # Errors
    /// Those of [`ImageTransfer::fetch`], also of another request's recent try; `Busy`.
    pub(crate) fn fetch(
        &self,
        fetch: &dyn ImageTransfer,
        fingerprint: &Fingerprint,
        store: &Store,
        operations: &Operations,
        notes: &Notes,
        arrived: &dyn Fn(&StoredImage),
    ) -> Result<StoredImage> {
        let mut state = loop {
            // Without the lock: the catalog may be slow, and other requests need the lock.
            match store.image(fingerprint) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                found => return found,
            }
            let state = self.lock();
            if state.stopped {
                return Err(Error::cancelled());
            }
            if let Some((at, kind, sentence)) = state.failed.get(fingerprint)
                && at.elapsed() < RETRY_DELAY
            {
                return Err(Error::new(*kind, sentence.clone()));
            }
            if !state.fetching.contains(fingerprint) {
                break state;
            }
            drop(self.wait(state)?);
        };
        // Still under the lock, so that no two requests can both see the image unmarked and begin.
        let permit = Permit::of(&self.downloads)?;
        // The aliases under which clients asked for the image: one of them goes into its source, so
        // that the name is known after a restart. The smallest, so that the choice does not depend
        // on the map's order.
        let names =
            state.answers.iter().filter(|(_, known)| known.found == Some(*fingerprint)).map(|(name, _)| &name.0);
        let alias = names.filter(|name| name.parse::<FingerprintPrefix>().is_err()).min().cloned();
        state.fetching.insert(*fingerprint);
        drop(state);
        let guard = Guard(self, |state: &mut CacheState| _ = state.fetching.remove(fingerprint));
        // Another request may have fetched it between the look and the mark.
        if let Ok(image) = store.image(fingerprint) {
            return Ok(image);
        }
        // The monitor of the cache, not of the request: the download serves everybody who waits for
        // it, so it goes on when the client that caused it leaves.
        let monitor = self.stoppable();
        // Of all servers of the store, one fetches it.
        let _lease = match operations.fleet().map(|fleet| fleet.fetch_turn(fingerprint, &monitor)) {
            None => None,
            Some(Ok(FetchTurn::Mine(lease))) => Some(lease),
            Some(Ok(FetchTurn::Fetched(image))) => return Ok(*image),
            Some(Err(error)) => return Err(as_server_error(error)),
        };
        let fetched = fetch.fetch(fingerprint, alias.as_deref(), store, &monitor);
        // A transfer that returns another image than the one asked for must not get it served under
        // this name.
        let fetched = match fetched {
            Ok(image) if image.fingerprint == *fingerprint => Ok(image),
            Ok(image) => Err(Error::mismatch(
                "the fingerprint of what the upstream sent",
                fingerprint.to_string(),
                image.fingerprint.to_string(),
            )),
            Err(error) => Err(error),
        };
        // Another server on this store may have fetched it meanwhile: that is a success, too.
        let fetched = fetched.or_else(|error| store.image(fingerprint).map_err(|_| error));
        let fetched = fetched.map_err(as_server_error);
        notes.omitted(&monitor.omissions());
        if let Err(error) = &fetched {
            let mut state = self.lock();
            // Removes what is no longer needed first, so that the bound is met only by failures
            // that count.
            state.failed.retain(|_, (at, ..)| at.elapsed() < RETRY_DELAY);
            if state.failed.len() < MAX_ANSWERS {
                state.failed.insert(*fingerprint, (Instant::now(), error.kind(), error.to_string()));
            }
        }
        drop(guard);
        drop(permit);
        if let Ok(image) = &fetched {
            arrived(image);
        }
        fetched
    }

    /// Waits until a query or a download ends. `Busy` when too many wait, or at shutdown.
    ///
    /// A caller checks its condition again afterwards: it is woken by the end of any query or
    /// download.
    fn wait<'a>(&self, mut state: MutexGuard<'a, CacheState>) -> Result<MutexGuard<'a, CacheState>> {
        // At shutdown nobody begins to wait, as the end that would wake them may never come.
        if state.waiting >= MAX_WAITERS || state.stopped {
            return Err(busy("too many requests wait for this server's upstream"));
        }
        state.waiting += 1;
        let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        Ok(state)
    }

    /// Locks the state, also after a panic of another request: the state is valid between
    /// statements.
    fn lock(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last known answer to a name: of this process, or of an earlier process that cached the image.
///
/// # Errors
/// `error`, if the name was never resolved to an image; those of `earlier`.
fn remembered(
    before: Option<Answer>,
    earlier: &dyn Fn() -> Result<Option<Fingerprint>>,
    error: impl FnOnce() -> Error,
) -> Result<Option<Fingerprint>> {
    if let Some(known) = before {
        return Ok(known.found);
    }
    earlier()?.map_or_else(|| Err(error()), |fingerprint| Ok(Some(fingerprint)))
}

/// An error of the upstream as one of this server. An error of a kind that would blame the client's request becomes
/// `Remote`.
///
/// Otherwise a client would get 400 or 412 for a request that was right, because the upstream's
/// image is damaged or too large.
fn as_server_error(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => not_found(),
        ErrorKind::Busy
        | ErrorKind::Cancelled
        | ErrorKind::Io
        | ErrorKind::StorageFull
        | ErrorKind::Transient
        | ErrorKind::Remote => error,
        _ if error.is_transient() => Error::new(ErrorKind::Remote, format!("the upstream fails: {error}")).transient(),
        _ => Error::new(ErrorKind::Remote, format!("the upstream's image can't be fetched: {error}")),
    }
}

/// The error of a limit that is reached.
fn busy(sentence: &'static str) -> Error {
    Error::new(ErrorKind::Busy, sentence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::Result;
    use crate::server::core::transfer::{Pull, Push};
    use crate::store::{ImportOptions, RefreshOptions, Refreshed, Store};

    /// Knows `there`, and counts how often it is asked.
    #[derive(Default)]
    struct Asked(AtomicUsize);

    impl ImageTransfer for Asked {
        fn has_upstream(&self) -> bool {
            true
        }

        fn resolve(&self, alias: &str, _: ImageType, _: Architecture, _: &Monitor) -> Result<Option<Fingerprint>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok((alias == "there").then(|| Fingerprint::of(b"there")))
        }

        fn fetch(&self, _: &Fingerprint, _: Option<&str>, _: &Store, _: &Monitor) -> Result<StoredImage> {
            Err(Error::new(ErrorKind::Remote, "nothing is fetched here"))
        }

        fn pull(&self, _: &Pull, _: &Store, _: ImportOptions, _: &Monitor) -> Result<StoredImage> {
            Err(Error::new(ErrorKind::Remote, "nothing is fetched here"))
        }

        fn refresh(&self, _: &Fingerprint, _: &Store, _: &RefreshOptions, _: &Monitor) -> Result<Refreshed> {
            Err(Error::new(ErrorKind::Remote, "nothing is fetched here"))
        }

        fn push(&self, _: &Push, _: &Fingerprint, _: &Store, _: &Monitor) -> Result<()> {
            Err(Error::new(ErrorKind::Remote, "nothing is sent from here"))
        }
    }

    #[test]
    fn answer_of_the_upstream_is_asked_for_again_when_its_time_is_over() {
        let (cache, fetch) = (UpstreamCache::default(), Asked::default());
        for (name, known_for) in [("there", FOUND_LIFETIME), ("nowhere", NOT_FOUND_LIFETIME)] {
            let key = (name.to_owned(), ImageType::Container);
            let resolve = || cache.resolve(&fetch, name, ImageType::Container, &|| Ok(None)).unwrap().is_some();
            let older = |by| {
                let mut state = cache.lock();
                let known = state.answers.get_mut(&key).unwrap();
                known.asked = known.asked.checked_sub(by).unwrap();
            };
            let before = fetch.0.load(Ordering::SeqCst);
            let asked = || fetch.0.load(Ordering::SeqCst) - before;
            assert_eq!((resolve(), resolve(), asked()), (name == "there", name == "there", 1));
            older(known_for - Duration::from_secs(20));
            assert_eq!((resolve(), asked()), (name == "there", 1));
            older(Duration::from_secs(20));
            assert_eq!((resolve(), asked()), (name == "there", 2));
        }
    }
}
