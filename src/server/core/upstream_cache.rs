//! `UpstreamCache`: what this server lacks is asked of its upstream and brought here, once, however many clients ask for it.
//! Strangers can have it asked and brought; so questions, downloads and those who wait for them are few at a time, and what
//! failed is not tried again soon. While the upstream is away, what is here is served.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Prefix};
use crate::metadata::{Architecture, ImageType};
use crate::progress::{Cancel, Monitor};
use crate::server::core::transfer::ImageTransfer;
use crate::server::handler::Handler;
use crate::server::message::Client;
use crate::store::StoredImage;

/// How long an answer of the upstream is taken for true, and how long its answer that there is nothing.
const FOUND_LIFETIME: Duration = Duration::from_secs(180);
const NOT_FOUND_LIFETIME: Duration = Duration::from_secs(60);
/// How long an upstream that did not answer is left alone, and an image that could not be brought.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// How many answers are remembered.
const MAX_ANSWERS: usize = 10_000;
/// How many questions and downloads there are at once, and how many clients wait for them.
const MAX_QUERIES: usize = 8;
const MAX_DOWNLOADS: usize = 8;
const MAX_WAITERS: usize = 64;

type Name = (String, ImageType);

#[derive(Debug, Clone, Copy)]
struct Answer {
    found: Option<Fingerprint>,
    asked: Instant,
}

impl Answer {
    fn is_fresh(&self) -> bool {
        self.asked.elapsed() < if self.found.is_some() { FOUND_LIFETIME } else { NOT_FOUND_LIFETIME }
    }
}

#[derive(Debug, Default)]
struct CacheState {
    known: HashMap<Name, Answer>,
    asking: HashSet<Name>,
    fetching: HashSet<Fingerprint>,
    failed: HashMap<Fingerprint, (Instant, ErrorKind, String)>,
    /// Since when the upstream does not answer.
    away: Option<Instant>,
    waiting: usize,
    stopped: bool,
}

/// What is known of the upstream, and what is being asked of it.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCache {
    state: Mutex<CacheState>,
    changed: Condvar,
    downloads: Arc<AtomicUsize>,
    /// The same for what trusted clients have brought and sent, which strangers must not hold up.
    jobs: Arc<AtomicUsize>,
    cancel: Cancel,
}

/// One of the few downloads that go on at once.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn of(taken: &Arc<AtomicUsize>) -> Result<Self> {
        let before = taken.fetch_add(1, Ordering::AcqRel);
        let permit = Self(Arc::clone(taken));
        if before >= MAX_DOWNLOADS { Err(busy("the server is bringing too many images already")) } else { Ok(permit) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes a name out of what is asked for or brought, however that ends.
struct Guard<'a, F: FnMut(&mut CacheState)>(&'a UpstreamCache, F);

impl<F: FnMut(&mut CacheState)> Drop for Guard<'_, F> {
    fn drop(&mut self) {
        (self.1)(&mut self.0.lock());
        self.0.changed.notify_all();
    }
}

impl UpstreamCache {
    /// Room for one more errand of a trusted client.
    ///
    /// # Errors
    /// `Busy`.
    pub(crate) fn job_permit(&self) -> Result<Permit> {
        Permit::of(&self.jobs)
    }

    /// Has everybody stop waiting.
    pub(crate) fn stop(&self) {
        self.cancel.cancel();
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// What the upstream has under an alias of this type, or under the beginning of a fingerprint; as it was a few minutes
    /// ago at most, or longer ago when it can't be asked. `None` where it has nothing.
    ///
    /// # Errors
    /// `Remote` when it can't be asked and nothing is known of it; `Busy`.
    pub(crate) fn resolve(
        &self,
        handler: &Handler,
        fetch: &dyn ImageTransfer,
        name: &str,
        image_type: ImageType,
    ) -> Result<Option<Fingerprint>> {
        let key = (name.to_owned(), image_type);
        let mut state = self.lock();
        let before = loop {
            let before = state.known.get(&key).copied();
            if let Some(known) = before.filter(Answer::is_fresh) {
                return Ok(known.found);
            }
            if state.away.is_some_and(|since| since.elapsed() < RETRY_DELAY) {
                drop(state);
                return self
                    .remembered(handler, &key, before, || Error::new(ErrorKind::Remote, "the upstream is away"));
            }
            if state.asking.contains(&key) {
                state = self.wait(state)?;
            } else if state.asking.len() >= MAX_QUERIES {
                return Err(busy("the server is asking its upstream too much already"));
            } else {
                break before;
            }
        };
        state.asking.insert(key.clone());
        drop(state);
        let guard = Guard(self, |state: &mut CacheState| _ = state.asking.remove(&key));
        let architecture = Architecture::of_this_machine().unwrap_or(Architecture::X86_64);
        let answer = fetch.resolve(name, image_type, architecture).map_err(as_server_error);
        let mut state = self.lock();
        let answer = match answer {
            Ok(found) => {
                state.away = None;
                if state.known.len() >= MAX_ANSWERS {
                    state.known.retain(|_, known| known.is_fresh());
                }
                if state.known.len() >= MAX_ANSWERS {
                    state.known.clear();
                }
                state.known.insert(key.clone(), Answer { found, asked: Instant::now() });
                drop(state);
                Ok(found)
            }
            Err(error) => {
                // What is wrong with one name says nothing of others.
                if error.is_transient() {
                    state.away = Some(Instant::now());
                }
                drop(state);
                self.remembered(handler, &key, before, || error)
            }
        };
        drop(guard);
        answer
    }

    /// What a name meant when the upstream was last asked: by this server, or by one before that brought the image.
    fn remembered(
        &self,
        handler: &Handler,
        key: &Name,
        before: Option<Answer>,
        error: impl FnOnce() -> Error,
    ) -> Result<Option<Fingerprint>> {
        if let Some(known) = before {
            return Ok(known.found);
        }
        match crate::server::core::public::now(handler)?.brought(&key.0, key.1) {
            Some(fingerprint) => Ok(Some(fingerprint)),
            None => Err(error()),
        }
    }

    /// Brings an image that the upstream has, or waits for whoever brings it. It is in the store afterwards; whether the
    /// client may see it is for the caller to look at.
    ///
    /// # Errors
    /// Those of [`ImageTransfer::fetch`], of others' tries too; `Busy`.
    pub(crate) fn fetch(
        &self,
        handler: &Handler,
        fetch: &dyn ImageTransfer,
        fingerprint: &Fingerprint,
    ) -> Result<StoredImage> {
        let mut state = loop {
            // Without the lock: the catalog may be slow, and others ask for other images.
            match handler.store.image(fingerprint) {
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
        let permit = Permit::of(&self.downloads)?;
        let names = state.known.iter().filter(|(_, known)| known.found == Some(*fingerprint)).map(|(name, _)| &name.0);
        let alias = names.filter(|name| name.parse::<Prefix>().is_err()).min().cloned();
        state.fetching.insert(*fingerprint);
        drop(state);
        let guard = Guard(self, |state: &mut CacheState| _ = state.fetching.remove(fingerprint));
        // Whoever brought it between the look and the mark is done by now.
        if let Ok(image) = handler.store.image(fingerprint) {
            return Ok(image);
        }
        let monitor = Monitor::none().with_cancel(self.cancel.clone());
        let brought = fetch.fetch(fingerprint, alias.as_deref(), &handler.store, &monitor);
        let brought = match brought {
            Ok(image) if image.fingerprint == *fingerprint => Ok(image),
            Ok(image) => Err(Error::mismatch(
                "the fingerprint of what the upstream sent",
                fingerprint.to_string(),
                image.fingerprint.to_string(),
            )),
            Err(error) => Err(error),
        };
        // Another server on this store may have brought it meanwhile: then it is here, and that was all that was wanted.
        let brought = brought.or_else(|error| handler.store.image(fingerprint).map_err(|_| error));
        let brought = brought.map_err(as_server_error);
        handler.notes.omitted(&monitor.omissions());
        if let Err(error) = &brought {
            let mut state = self.lock();
            state.failed.retain(|_, (at, ..)| at.elapsed() < RETRY_DELAY);
            if state.failed.len() < MAX_ANSWERS {
                state.failed.insert(*fingerprint, (Instant::now(), error.kind(), error.to_string()));
            }
        }
        drop(guard);
        drop(permit);
        if let Ok(image) = &brought {
            crate::server::api::rest::created(&handler.operations, image, &Client::Untrusted);
            handler.tidy();
        }
        brought
    }

    /// Waits until something was asked or brought.
    fn wait<'a>(&self, mut state: MutexGuard<'a, CacheState>) -> Result<MutexGuard<'a, CacheState>> {
        if state.waiting >= MAX_WAITERS || state.stopped {
            return Err(busy("too many wait for this server's upstream"));
        }
        state.waiting += 1;
        let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error of the upstream as one of this server: where the upstream is and what it says is nobody's business, and whatever is
/// wrong with it, the client's request is not.
fn as_server_error(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => crate::server::core::access::not_found(),
        ErrorKind::Busy
        | ErrorKind::Cancelled
        | ErrorKind::Io
        | ErrorKind::StorageFull
        | ErrorKind::Transient
        | ErrorKind::Remote => error,
        _ if error.is_transient() => Error::new(ErrorKind::Remote, format!("the upstream fails: {error}")).transient(),
        _ => Error::new(ErrorKind::Remote, format!("the upstream's image can't be had: {error}")),
    }
}

fn busy(sentence: &'static str) -> Error {
    Error::new(ErrorKind::Busy, sentence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::Result;
    use crate::server::{Pull, Push, ServerOptions};
    use crate::store::{ImportOptions, Refreshed, Store};

    /// Knows `there`, and counts how often it is asked.
    #[derive(Default)]
    struct Asked(AtomicUsize);

    impl ImageTransfer for Asked {
        fn has_upstream(&self) -> bool {
            true
        }

        fn resolve(&self, alias: &str, _: ImageType, _: Architecture) -> Result<Option<Fingerprint>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok((alias == "there").then(|| Fingerprint::of(b"there")))
        }

        fn fetch(&self, _: &Fingerprint, _: Option<&str>, _: &Store, _: &Monitor) -> Result<StoredImage> {
            Err(Error::new(ErrorKind::Remote, "nothing is brought here"))
        }

        fn pull(&self, _: &Pull, _: &Store, _: ImportOptions) -> Result<StoredImage> {
            Err(Error::new(ErrorKind::Remote, "nothing is brought here"))
        }

        fn refresh(&self, _: &Fingerprint, _: &Store, _: &Monitor) -> Result<Refreshed> {
            Err(Error::new(ErrorKind::Remote, "nothing is brought here"))
        }

        fn push(&self, _: &Push, _: &Fingerprint, _: &Store, _: &Monitor) -> Result<()> {
            Err(Error::new(ErrorKind::Remote, "nothing is sent from here"))
        }
    }

    #[test]
    fn an_answer_of_the_upstream_is_asked_for_again_when_its_time_is_over() {
        let directory = std::env::temp_dir().join(format!("lxd-image-through-{}", std::process::id()));
        let handler = Handler::new(Store::open(&directory).unwrap(), ServerOptions::new());
        let (through, fetch) = (&handler.upstream_cache, Asked::default());
        for (name, known_for) in [("there", FOUND_LIFETIME), ("nowhere", NOT_FOUND_LIFETIME)] {
            let key = (name.to_owned(), ImageType::Container);
            let resolve = || through.resolve(&handler, &fetch, name, ImageType::Container).unwrap().is_some();
            let older = |by| {
                let mut state = through.lock();
                let known = state.known.get_mut(&key).unwrap();
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
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
