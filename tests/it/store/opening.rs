//! Opening a store: new, foreign, newer, read-only, half made, without its blobs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lxd_image::store::{ImportOptions, Store, StoreOptions};
use lxd_image::{ErrorKind, Monitor};

use super::*;

#[test]
fn missing_store_is_created_unless_disabled() {
    let scratch = Scratch::new();
    let path = scratch.join("a/b/store");
    assert_kind(StoreOptions::new().create(false).open(&path), ErrorKind::NotFound);
    assert_kind(StoreOptions::new().read_only(true).open(&path), ErrorKind::NotFound);
    assert!(!scratch.join("a").exists());
    import(&Store::open(&path).unwrap(), "one", &[]);
    assert_eq!(StoreOptions::new().create(false).open(&path).unwrap().images().unwrap().len(), 1);
}

#[test]
fn foreign_directory_is_refused_unchanged() {
    let scratch = Scratch::new();
    fs::write(scratch.join("letter"), b"dear").unwrap();
    assert_kind(Store::open(scratch.path()), ErrorKind::Unsupported);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert_kind(Store::open(scratch.join("letter")), ErrorKind::Malformed);
}

#[test]
fn newer_store_layout_is_refused_with_both_numbers() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    drop(Store::open(&path).unwrap());
    let marker = path.join("lxd-image-store");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, text.replace("layout: 2", "layout: 7")).unwrap();
    let error = assert_kind(Store::open(&path), ErrorKind::Unsupported);
    assert!(error.message().contains("version 7") && error.message().contains("2"), "{error}");
    fs::write(&marker, text).unwrap();
    // A newer program that died before it changed the marker.
    let catalog = path.join("catalog.sqlite");
    let mut bytes = fs::read(&catalog).unwrap();
    bytes[60..64].copy_from_slice(&7_u32.to_be_bytes());
    fs::write(&catalog, bytes).unwrap();
    let error = assert_kind(Store::open(&path), ErrorKind::Unsupported);
    assert!(error.message().contains("version 7") && error.message().contains("2"), "{error}");
}

#[test]
fn interrupted_creation_is_completed_by_the_next_open() {
    let scratch = Scratch::new();
    let model = scratch.join("model");
    drop(Store::open(&model).unwrap());
    // The marker comes last: without it, any part of the rest may be there.
    for part in ["blobs", "staging", "quarantine", "catalog.sqlite", "nothing"] {
        let path = scratch.join(&format!("half-{part}"));
        drop(Store::open(&path).unwrap());
        fs::remove_file(path.join("lxd-image-store")).unwrap();
        let gone = path.join(part);
        if gone.is_dir() {
            fs::remove_dir_all(&gone).unwrap();
        } else if gone.exists() {
            fs::write(&gone, b"").unwrap();
        }
        let store = Store::open(&path).unwrap();
        import(&store, "one", &[]);
        assert_clean(&store);
    }
}

#[test]
fn store_without_marker_is_not_recreated_over_its_images() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    import(&Store::open(&path).unwrap(), "one", &[]);
    fs::remove_file(path.join("lxd-image-store")).unwrap();
    assert_kind(Store::open(&path), ErrorKind::Unsupported);
    assert_eq!(files(&path).len(), 2);
}

#[test]
fn unmounted_blobs_are_an_error() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = import(&store, "one", &["a"]);
    fs::rename(path.join("blobs"), scratch.join("elsewhere")).unwrap();
    assert_kind(Store::open(&path), ErrorKind::Malformed);
    fs::create_dir(path.join("blobs")).unwrap();
    let error = assert_kind(Store::open(&path), ErrorKind::Malformed);
    assert!(error.hint().unwrap().contains("mounted"));
    // A store that was open before refuses what would take the empty directory for the truth.
    assert_kind(
        store.check(&lxd_image::store::CheckOptions::new().repair(true), &Monitor::none()),
        ErrorKind::Malformed,
    );
    assert_kind(store.prune(&lxd_image::store::PruneOptions::default(), &Monitor::none()), ErrorKind::Malformed);
    assert_kind(store.delete(&image.fingerprint), ErrorKind::Malformed);
    assert_kind(store.import(stream(unified("two")), &ImportOptions::new(), &Monitor::none()), ErrorKind::Malformed);
    fs::remove_dir(path.join("blobs")).unwrap();
    fs::rename(scratch.join("elsewhere"), path.join("blobs")).unwrap();
    assert_clean(&Store::open(&path).unwrap());
    // Another store's blobs are not this store's.
    let other = scratch.join("other");
    drop(Store::open(&other).unwrap());
    fs::remove_dir_all(path.join("blobs")).unwrap();
    fs::rename(other.join("blobs"), path.join("blobs")).unwrap();
    assert_kind(Store::open(&path), ErrorKind::Malformed);
}

#[test]
fn store_opened_for_reading_refuses_changes() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let image = import(&Store::open(&path).unwrap(), "one", &["a"]);
    fs::write(path.join("staging/leftover"), b"x").unwrap();
    let store = StoreOptions::new().read_only(true).open(&path).unwrap();
    assert_eq!(store.resolve("a").unwrap(), image);
    assert_eq!(reads(&store, &image.fingerprint), unified("one"));
    assert_kind(store.delete(&image.fingerprint), ErrorKind::Io);
    assert_kind(store.mark_used(&image.fingerprint), ErrorKind::Io);
    assert_eq!(files(&path).len(), 3, "leftovers are left");
    drop(store);
    assert_eq!(Store::open(&path).unwrap().resolve("a").unwrap(), image);
    assert_eq!(files(&path).len(), 2, "and swept by whoever may");
}

#[test]
fn only_leftovers_of_dead_processes_are_swept() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    drop(Store::open(&path).unwrap());
    fs::write(path.join("staging/dead"), b"x").unwrap();
    let living = fs::File::create(path.join("staging/living")).unwrap();
    living.lock().unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(files(&path), ["staging/living"]);
    drop(living);
    drop(store);
    drop(Store::open(&path).unwrap());
    assert_eq!(files(&path), Vec::<String>::new());
}

/// Whether permissions mean anything to this process.
fn privileged(scratch: &Scratch) -> bool {
    let probe = scratch.join("probe");
    fs::create_dir(&probe).unwrap();
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o500)).unwrap();
    let able = fs::write(probe.join("x"), b"").is_ok();
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o700)).unwrap();
    able
}

#[test]
fn unwritable_store_is_readable_and_writes_fail_at_once() {
    let scratch = Scratch::new();
    if privileged(&scratch) {
        return; // The command line's test does the same as another user.
    }
    let path = scratch.join("store");
    import(&Store::open(&path).unwrap(), "one", &["a"]);
    for directory in [path.join("blobs"), path.join("staging"), path.clone()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o500)).unwrap();
    }
    let store = StoreOptions::new().read_only(true).open(&path).unwrap();
    assert_eq!(reads(&store, &store.resolve("a").unwrap().fingerprint), unified("one"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
}
