//! Several stores over one catalog and one place for bytes, each with scratch of its own, as on several machines: what one does
//! in the middle of another's upload.

use std::time::Duration;

use lxd_image::io::Blob;
use lxd_image::store::{BlobKey, BlobStore, ImportOptions, MemoryBlobs, MemoryCatalog, StagedFile, StoreOptions};
use lxd_image::{Monitor, Result};

use super::*;

/// What happens before an object is created, and may refuse it.
type Before = Box<dyn Fn(&BlobKey, &Monitor) -> Result<()> + Send + Sync>;

/// Blobs beside which something happens before or after each object that is created, and which may refuse it.
pub(crate) struct Meddling {
    pub(crate) blobs: Arc<MemoryBlobs>,
    pub(crate) before: Before,
    pub(crate) after: Box<dyn Fn() + Send + Sync>,
}

impl BlobStore for Meddling {
    fn put(&self, key: &BlobKey, staged: &mut StagedFile, monitor: &Monitor) -> Result<()> {
        (self.before)(key, monitor)?;
        self.blobs.put(key, staged, monitor)?;
        (self.after)();
        Ok(())
    }

    fn open(&self, key: &BlobKey) -> Result<Blob> {
        self.blobs.open(key)
    }

    fn delete(&self, keys: &[BlobKey]) -> Result<()> {
        self.blobs.delete(keys)
    }

    fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>> {
        self.blobs.list(after, limit)
    }

    fn archive(&self, keys: &[BlobKey]) -> Result<()> {
        self.blobs.archive(keys)
    }

    fn grace(&self) -> Duration {
        self.blobs.grace()
    }
}

#[derive(Clone, Default)]
struct Shared {
    blobs: Arc<MemoryBlobs>,
    catalog: Arc<MemoryCatalog>,
}

impl Shared {
    /// A store on a machine of its own, whose clock stands at `now`.
    fn machine(&self, now: i64) -> Store {
        let options = StoreOptions::new().clock(move || now);
        options.open_parts(
            Arc::clone(&self.blobs) as _,
            Arc::clone(&self.catalog) as _,
            lxd_image::store::Scratch::in_memory(),
        )
    }

    /// One where `meddle` happens in the middle of each upload.
    fn meddled(&self, meddle: impl Fn(&Self) + Send + Sync + 'static) -> Store {
        let shared = self.clone();
        self.over(Box::new(|_, _| Ok(())), Box::new(move || meddle(&shared)))
    }

    fn over(&self, before: Before, after: Box<dyn Fn() + Send + Sync>) -> Store {
        let blobs = Meddling { blobs: Arc::clone(&self.blobs), before, after };
        let options = StoreOptions::new().clock(|| NOW);
        options.open_parts(Arc::new(blobs), Arc::clone(&self.catalog) as _, lxd_image::store::Scratch::in_memory())
    }

    fn objects(&self) -> usize {
        self.blobs.list(None, 100).unwrap().len()
    }
}

#[test]
fn sweep_on_another_machine_leaves_a_running_upload() {
    let shared = Shared::default();
    // Opening sweeps.
    let store = shared.meddled(|shared| drop(shared.machine(NOW + 60)));
    let image = import(&store, "one", &["a"]);
    assert_eq!(reads(&shared.machine(NOW), &image.fingerprint), unified("one"));
    assert_clean(&shared.machine(NOW));
}

#[test]
fn upload_beyond_its_lease_fails_and_leaves_nothing() {
    let shared = Shared::default();
    let store = shared.meddled(|shared| drop(shared.machine(NOW + 2 * DAY)));
    assert_kind(store.import(stream(unified("one")), &ImportOptions::new(), &Monitor::none()), ErrorKind::Transient);
    let other = shared.machine(NOW + 4 * DAY);
    assert!(other.images().unwrap().is_empty());
    assert_eq!(shared.objects(), 0);
}

#[test]
fn second_upload_of_an_image_leaves_no_object() {
    let shared = Shared::default();
    let store = shared.meddled(|shared| {
        let _ = shared.machine(NOW).import(stream(unified("one")), &ImportOptions::new(), &Monitor::none());
    });
    assert_kind(
        store.import(stream(unified("one")), &ImportOptions::new(), &Monitor::none()),
        ErrorKind::AlreadyExists,
    );
    assert_eq!(reads(&store, &fingerprint("one")), unified("one"));
    assert_eq!(shared.objects(), 2, "the image and its sidecar");
    assert_clean(&store);
}

#[test]
fn image_deleted_and_reimported_concurrently_is_whole() {
    let shared = Shared::default();
    let before = import(&shared.machine(NOW), "one", &[]);
    let once = std::sync::atomic::AtomicBool::new(true);
    let store = shared.meddled(move |shared| {
        if once.swap(false, Ordering::Relaxed) {
            shared.machine(NOW).delete(&before.fingerprint).unwrap();
        }
    });
    let options = ImportOptions::new().alias(alias("a")).add_aliases_to_existing(true);
    store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    assert_eq!(reads(&shared.machine(NOW), &fingerprint("one")), unified("one"));
    assert_clean(&store);
}

#[test]
fn writers_on_many_machines_lose_no_edit() {
    let shared = Shared::default();
    let image = import(&shared.machine(NOW), "one", &[]);
    std::thread::scope(|scope| {
        for machine in 0..4 {
            let shared = &shared;
            scope.spawn(move || {
                let store = shared.machine(NOW);
                for number in 0..10 {
                    let edit = lxd_image::store::Edit::new().property(format!("{machine}-{number}"), "x").unwrap();
                    store.edit(&image.fingerprint, &edit, None).unwrap();
                }
            });
        }
    });
    let store = shared.machine(NOW);
    let edited = store.image(&image.fingerprint).unwrap();
    assert_eq!(edited.properties.iter().filter(|(key, _)| key.contains('-')).count(), 40);
    assert_clean(&store);
    assert_eq!(shared.objects(), 2, "no sidecar is left over");
}

#[test]
fn upload_that_resumes_after_a_sweep_leaves_nothing() {
    let shared = Shared::default();
    let other = shared.clone();
    // It slept between the note and the object.
    let swept = move |_: &BlobKey, _: &Monitor| {
        drop(other.machine(NOW + 2 * DAY));
        Ok(())
    };
    let store = shared.over(Box::new(swept), Box::new(|| {}));
    assert_kind(store.import(stream(unified("one")), &ImportOptions::new(), &Monitor::none()), ErrorKind::Transient);
    assert_eq!(shared.objects(), 0);
}

#[test]
fn image_is_deleted_even_if_no_sidecar_can_be_written() {
    let shared = Shared::default();
    let full = |key: &BlobKey, _: &Monitor| match key.as_str().ends_with(".json") {
        true => Err(lxd_image::Error::new(ErrorKind::StorageFull, "no space is left")),
        false => Ok(()),
    };
    let store = shared.over(Box::new(full), Box::new(|| {}));
    let (one, two) = (import(&store, "one", &[]), import(&store, "two", &[]));
    store.delete(&one.fingerprint).unwrap();
    assert_eq!(shared.objects(), 1, "its bytes are gone");
    let mended = shared.machine(NOW);
    assert_eq!(mended.images().unwrap(), [two]);
    assert_clean(&mended);
}
