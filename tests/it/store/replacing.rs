//! A catalog that is replaced or removed while a store is open: who is excluded, and that no change goes where nobody finds it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use lxd_image::store::{Catalog, CheckOptions, ImageQuery, SqliteCatalog, Store, StoreOptions};
use lxd_image::{ErrorKind, Monitor};

use super::*;

fn hasty() -> StoreOptions {
    StoreOptions::new().busy_timeout(Duration::from_millis(100))
}

fn remove_catalog(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(path.join(format!("catalog.sqlite{suffix}")));
    }
}

#[test]
fn catalog_in_use_is_not_replaced() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    import(&store, "one", &["a"]);
    remove_catalog(&path);
    let error = assert_kind(Store::repair(&path, &hasty(), &CheckOptions::new(), &Monitor::none()), ErrorKind::Busy);
    assert!(error.hint().unwrap().contains("stop"), "{error}");
    drop(store);
    Store::repair(&path, &hasty(), &CheckOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(Store::open(&path).unwrap().resolve("a").unwrap().fingerprint, fingerprint("one"));
}

#[test]
fn store_in_use_is_repaired_unless_its_catalog_is_damaged() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    fs::write(path.join("blobs/stray"), "x").unwrap();
    let report = Store::repair(&path, &hasty(), &CheckOptions::new(), &Monitor::none()).unwrap();
    assert_eq!((report.findings.len(), report.unrepaired.len()), (1, 0));
    import(&store, "one", &[]);
}

#[test]
fn store_is_busy_while_its_catalog_is_rebuilt() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    drop(Store::open(&path).unwrap());
    let repairing = fs::File::open(&path).unwrap();
    repairing.lock().unwrap();
    let error = assert_kind(hasty().open(&path), ErrorKind::Busy);
    assert!(error.hint().unwrap().contains("wait"), "{error}");
    assert_kind(hasty().read_only(true).open(&path), ErrorKind::Busy);
    drop(repairing);
    hasty().open(&path).unwrap();
}

#[test]
fn store_with_removed_catalog_acknowledges_nothing() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = import(&store, "one", &["a"]);
    remove_catalog(&path);
    assert_kind(store.create_alias(&alias("b"), &image.fingerprint), ErrorKind::Malformed);
    assert_kind(store.import(stream(unified("two")), &Default::default(), &Monitor::none()), ErrorKind::Malformed);
    assert_kind(store.images(), ErrorKind::Malformed);
}

#[test]
fn store_with_removed_log_acknowledges_nothing() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = import(&store, "one", &["a"]);
    fs::remove_file(path.join("catalog.sqlite-wal")).unwrap();
    for _ in 0..3 {
        assert_kind(store.create_alias(&alias("b"), &image.fingerprint), ErrorKind::Malformed);
    }
    drop(store);
    Store::repair(&path, &hasty(), &CheckOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(Store::open(&path).unwrap().resolve("a").unwrap().fingerprint, image.fingerprint);
}

#[test]
fn open_store_continues_with_a_replaced_catalog() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let one = import(&Store::open(&path).unwrap(), "one", &["a"]);
    let backup = scratch.join("backup");
    fs::copy(path.join("catalog.sqlite"), &backup).unwrap();
    let store = Store::open(&path).unwrap();
    import(&store, "two", &["b"]);
    remove_catalog(&path);
    fs::rename(&backup, path.join("catalog.sqlite")).unwrap();
    assert_eq!(store.images().unwrap(), [store.image(&one.fingerprint).unwrap()]);
    store.create_alias(&alias("late"), &one.fingerprint).unwrap();
    let other = Store::open(&path).unwrap();
    assert_eq!(other.resolve("late").unwrap().fingerprint, one.fingerprint);
    // Closing what the first store had open before takes nothing from the others.
    drop(store);
    other.create_alias(&alias("later"), &one.fingerprint).unwrap();
    drop(other);
    assert_eq!(Store::open(&path).unwrap().aliases().unwrap().len(), 3);
}

#[test]
fn catalog_of_another_store_is_refused_when_replaced() {
    let scratch = Scratch::new();
    let (path, foreign) = (scratch.join("store"), scratch.join("foreign"));
    let store = Store::open(&path).unwrap();
    drop(Store::open(&foreign).unwrap());
    remove_catalog(&path);
    fs::rename(foreign.join("catalog.sqlite"), path.join("catalog.sqlite")).unwrap();
    assert_kind(store.images(), ErrorKind::Malformed);
}

#[test]
fn catalog_in_memory_survives_a_panic() {
    let catalog = SqliteCatalog::in_memory().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| catalog.write(&mut |_| panic!("on purpose"))));
    panicked.unwrap_err();
    assert!(catalog.images(&ImageQuery::new()).unwrap().images.is_empty());
    catalog.write(&mut |_| Ok(())).unwrap();
}
