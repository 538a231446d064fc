//! [`ByVersion`]: a value that is computed from the whole catalog and kept until the catalog
//! changes.
//!
//! Anonymous clients may ask for lists and pages as often as they like, so a request must not cost
//! a scan of all images. With `ByVersion` it costs one look at the catalog's version, and a change
//! of the catalog costs one scan, however many clients ask.
//!
//! # How it works
//!
//! The catalog has a version that grows with each change (`Store::version`). The value is stored
//! with the version that was read before the scan began. A caller whose version equals that of the
//! value gets the value. Otherwise one caller makes a new value, without the lock, and the others
//! wait.
//!
//! A catalog without a version makes a new value for each call: correct, and slow.
//!
//! # Why nobody waits forever
//!
//! On a busy server the version may change faster than a value is made, and a caller that insisted
//! on the current version would wait for scan after scan. So a caller also accepts a value whose
//! making began after the caller had arrived: such a value is at least as new as the catalog was
//! when the caller asked. Each caller waits for two scans at most, the running one and the one
//! after it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::store::Store;

/// The value that was made last, with the version of the catalog that it was made from.
#[derive(Debug)]
pub(crate) struct ByVersion<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// What the lock protects. It is held for a few instructions only, never while a value is made.
#[derive(Debug)]
struct State<T> {
    /// The value that was made last; `None` before the first one.
    made: Option<Made<T>>,
    /// Whether a caller makes a value now. The others wait on `changed`.
    making: bool,
    /// The number of scans that have begun, including failed ones.
    begun: u64,
}

/// A value and where it comes from.
#[derive(Debug)]
struct Made<T> {
    /// The catalog's version before the scan. The value may be newer than this, and never older.
    version: u64,
    /// The value of `begun` when the scan of this value began.
    number: u64,
    /// The value. Callers keep it while a newer one is made.
    what: Arc<T>,
}

impl<T> Default for ByVersion<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { made: None, making: false, begun: 0 }), changed: Condvar::new() }
    }
}

impl<T> ByVersion<T> {
    /// The value for the catalog as it is now: the one that was kept, or a new one by `make`.
    /// Nothing is locked while `make` runs. Callers that need a newer value wait for whoever makes
    /// it; callers whose version is current return at once.
    ///
    /// If `make` fails, its caller gets the error and nothing is kept; one of the waiting callers
    /// tries again, with its own `make`.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn get(&self, store: &Store, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut arrived = None;
        loop {
            // Read before the catalog: the value may then be newer than its version says, and is made again;
            // it is never older.
            let Some(version) = store.version() else { return make().map(Arc::new) };
            let mut state = self.lock();
            // A value whose making began after the caller arrived is at least as new as the catalog was then.
            // So a caller waits for two makings at most, however often the catalog changes.
            let arrived = *arrived.get_or_insert(state.begun);
            if let Some(made) = state.made.as_ref().filter(|made| made.version == version || made.number > arrived) {
                return Ok(Arc::clone(&made.what));
            }
            if state.making {
                // The version is read again after the wait: the catalog may have changed during it.
                drop(self.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            state.making = true;
            state.begun += 1;
            let number = state.begun;
            drop(state);
            // From here on a panic of `make` must reset `making`, or every later caller would wait
            // forever.
            let guard = Making(self);
            let made = make().map(Arc::new);
            if let Ok(made) = &made {
                self.lock().made = Some(Made { version, number, what: Arc::clone(made) });
            }
            drop(guard);
            return made;
        }
    }

    /// Locks the state, also after a panic of another caller: each change of it is a single
    /// assignment.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the making when dropped, so that a failed or panicked `make` does not block the other
/// callers.
struct Making<'a, T>(&'a ByVersion<T>);

impl<T> Drop for Making<'_, T> {
    fn drop(&mut self) {
        self.0.lock().making = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::fingerprint::Fingerprint;
    use crate::format::ImageForm;
    use crate::metadata::{Architecture, ImageType};
    use crate::store::{ImageObjects, StoredImage};

    #[test]
    fn catalog_that_does_not_change_is_read_once() {
        let directory = std::env::temp_dir().join(format!("lxd-image-by-version-{}", std::process::id()));
        let store = Store::open(&directory).unwrap();
        let (kept, made) = (ByVersion::default(), AtomicUsize::new(0));
        let count = || {
            kept.get(&store, || {
                made.fetch_add(1, Ordering::SeqCst);
                Ok(store.images()?.len())
            })
        };
        assert_eq!((*count().unwrap(), *count().unwrap(), made.load(Ordering::SeqCst)), (0, 0, 1));
        let mut image = StoredImage::new(Fingerprint::of(b"x"), ImageType::Container, Architecture::X86_64);
        image.objects = ImageObjects::new(&image.fingerprint, ImageForm::Unified);
        store.catalog.write(&mut |catalog| catalog.insert(&image)).unwrap();
        assert_eq!((*count().unwrap(), *count().unwrap(), made.load(Ordering::SeqCst)), (1, 1, 2));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
