//! `ByVersion`: something made of the whole catalog, kept until that changes. What anybody may ask for must not cost a look at
//! all images each time; it costs one look at a number, and one scan for each change, however many ask.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::store::Store;

/// What was made last, and of which state of the catalog.
#[derive(Debug)]
pub(crate) struct ByVersion<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    made: Option<Made<T>>,
    making: bool,
    /// How many makings began.
    begun: u64,
}

#[derive(Debug)]
struct Made<T> {
    version: u64,
    /// Which making it was.
    number: u64,
    what: Arc<T>,
}

impl<T> Default for ByVersion<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { made: None, making: false, begun: 0 }), changed: Condvar::new() }
    }
}

impl<T> ByVersion<T> {
    /// What was made of the catalog as it is now, made by `make` where that changed. Nothing is locked meanwhile: others wait for
    /// whoever makes it, and those whose state is made already do not.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn get(&self, store: &Store, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut arrived = None;
        loop {
            // Read before the catalog: what is made may be newer than its number, and is made again then, but never older.
            let Some(version) = store.version() else { return make().map(Arc::new) };
            let mut state = self.lock();
            // What was begun after the caller came is never older than the catalog was then. So nobody waits for more than two
            // makings, however often somebody writes.
            let arrived = *arrived.get_or_insert(state.begun);
            if let Some(made) = state.made.as_ref().filter(|made| made.version == version || made.number > arrived) {
                return Ok(Arc::clone(&made.what));
            }
            if state.making {
                drop(self.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            state.making = true;
            state.begun += 1;
            let number = state.begun;
            drop(state);
            let guard = Making(self);
            let made = make().map(Arc::new);
            if let Ok(made) = &made {
                self.lock().made = Some(Made { version, number, what: Arc::clone(made) });
            }
            drop(guard);
            return made;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets others make it, however the making ended.
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
    fn a_catalog_that_does_not_change_is_read_once() {
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
