//! Many threads and several handles on one store: what runs side by side, what waits, and for how long.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use lxd_image::store::{ImportOptions, PruneOptions, Store, StoreOptions};
use lxd_image::{ErrorKind, Monitor};

use super::*;

#[test]
fn concurrent_imports_of_one_image_store_it_once() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    drop(Store::open(&path).unwrap());
    let barrier = Barrier::new(8);
    let done: Vec<bool> = thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let store = Store::open(&path).unwrap();
                    barrier.wait();
                    match store.import(stream(unified("one")), &ImportOptions::new(), &Monitor::none()) {
                        Ok(_) => true,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
                            false
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    assert_clean(&Store::open(&path).unwrap());
    assert_eq!(files(&path).len(), 2);
}

#[test]
fn concurrent_imports_under_one_alias_are_serialized() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    thread::scope(|scope| {
        for number in 0..6 {
            let store = &store;
            scope.spawn(move || {
                let options = ImportOptions::new().alias(alias("web")).reuse_aliases(true);
                store.import(stream(unified(&format!("image-{number}"))), &options, &Monitor::none()).unwrap();
            });
        }
    });
    assert_eq!(store.images().unwrap().len(), 6);
    assert_eq!(store.aliases().unwrap().len(), 1);
    assert_clean(&store);
}

#[test]
fn long_import_blocks_neither_lists_nor_other_imports() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let options = StoreOptions::new().busy_timeout(Duration::from_millis(200));
    let store = options.open(&path).unwrap();
    let other = options.open(&path).unwrap();
    let write = |sink: &mut (dyn std::io::Write + Send)| {
        let bytes = unified("long");
        sink.write_all(&bytes[..600])?;
        // In the middle of it, another handle reads and writes without a wait.
        assert!(other.images()?.is_empty());
        import(&other, "short", &["a"]);
        assert_eq!(other.images()?.len(), 1);
        assert_eq!(Store::open(&path)?.images()?.len(), 1, "an open sweeps nothing of the living");
        sink.write_all(&bytes[600..])?;
        Ok(())
    };
    store.import_written(&ImportOptions::new(), &Monitor::none(), write).unwrap();
    assert_eq!(store.images().unwrap().len(), 2);
    assert_clean(&store);
}

#[test]
fn busy_comes_after_the_configured_wait() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = StoreOptions::new().busy_timeout(Duration::from_millis(300)).open(&path).unwrap();
    let image = import(&store, "one", &[]);
    let holder = rusqlite::Connection::open(path.join("catalog.sqlite")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    assert_kind(store.mark_used(&image.fingerprint), ErrorKind::Busy);
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    assert_kind(store.import(stream(unified("two")), &ImportOptions::new(), &Monitor::none()), ErrorKind::Busy);
    assert_eq!(files(&path).len(), 2, "nothing is left of it");
    assert_eq!(store.images().unwrap().len(), 1, "readers do not wait");
    holder.execute_batch("ROLLBACK").unwrap();
    store.mark_used(&image.fingerprint).unwrap();
}

#[test]
fn readers_see_whole_images_during_concurrent_changes() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..10 {
                let image = store
                    .import(split_stream("one"), &ImportOptions::new().cached(true).expires_at(1), &Monitor::none())
                    .unwrap();
                if image.uploaded_at.rem_euclid(2) == 0 {
                    assert_eq!(store.prune(&PruneOptions::default(), &Monitor::none()).unwrap().images.len(), 1);
                } else {
                    store.delete(&image.fingerprint).unwrap();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let reader = Store::open(&path).unwrap();
        while !stop.load(Ordering::Relaxed) {
            for image in reader.images().unwrap() {
                match reader.open_image(&image.fingerprint) {
                    Ok(opened) => {
                        let image = opened.open(&lxd_image::Limits::default()).unwrap();
                        let found = image.fingerprint(&lxd_image::Monitor::none()).unwrap();
                        assert_eq!(found, opened.image().fingerprint);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                }
            }
            assert_clean(&reader);
        }
    });
    assert_eq!(files(&path), Vec::<String>::new());
}
