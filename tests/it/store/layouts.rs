//! Stores as released layouts made them, kept under `tests/data`: every later version reads them.
//! A new layout adds a directory and a test; none is ever changed.

use std::fs;
use std::path::{Path, PathBuf};

use lxd_image::metadata::ImageType;
use lxd_image::store::{Edit, ImportOptions, UpdateSource};

use super::*;
use lxd_image::Monitor;

/// What each kept store holds: something in every column.
fn fill(path: &Path) -> Vec<StoredImage> {
    let store = Clock::new().options().open(path).unwrap();
    let one = import(&store, "one", &["a", "b/c"]);
    store.edit(&one.fingerprint, &Edit::new().public(true).property("mine", "x").unwrap(), None).unwrap();
    store.mark_used(&one.fingerprint).unwrap();
    let source = UpdateSource::new("https://images.example", "simplestreams", "debian/12");
    let options = ImportOptions::new()
        .alias(alias("split").described("two files"))
        .auto_update(true)
        .source(source)
        .file_name("meta.tar")
        .expires_at(NOW + DAY);
    store.import(split_stream("two"), &options, &Monitor::none()).unwrap();
    store.import(stream(unified("cached")), &ImportOptions::new().cached(true), &Monitor::none()).unwrap();
    store.images().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What is told of images whatever the layout: all but the keys of their objects.
fn told(images: Vec<StoredImage>) -> Vec<StoredImage> {
    let without_keys = |mut image: StoredImage| {
        image.objects = Default::default();
        image
    };
    images.into_iter().map(without_keys).collect()
}

/// A store of layout 1, in which version control's help for empty directories is no part.
fn layout_1(scratch: &Scratch, kept: &str) -> PathBuf {
    let path = scratch.join("store");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(kept), &path);
    for area in ["staging", "quarantine"] {
        let _ = fs::remove_file(path.join(area).join(".keep"));
    }
    path
}

fn layout(path: &Path) -> (String, i64) {
    let marker = fs::read_to_string(path.join("lxd-image-store")).unwrap();
    let catalog = rusqlite::Connection::open(path.join("catalog.sqlite")).unwrap();
    let version = catalog.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    (marker.lines().nth(1).unwrap().to_owned(), version)
}

#[test]
fn store_of_layout_1_is_upgraded_and_usable() {
    let scratch = Scratch::new();
    let path = layout_1(&scratch, "store-layout-1");
    let expected = fill(&scratch.join("made now"));
    let store = Clock::new().options().open(&path).unwrap();
    assert_eq!(told(store.images().unwrap()), told(expected));
    assert_clean(&store);
    assert_eq!(reads(&store, &fingerprint("one")), unified("one"));
    import(&store, "new", &["new"]);
    assert_eq!(files(&path).len(), 9);
    assert_clean(&store);
}

#[test]
fn every_kind_of_image_of_layout_1_survives_the_upgrade() {
    let scratch = Scratch::new();
    let store = Store::open(layout_1(&scratch, "store-layout-1-every-kind")).unwrap();
    let images = store.images().unwrap();
    assert_eq!(images.len(), 5);
    for image in &images {
        let opened = store.open_image(&image.fingerprint).unwrap().open(&lxd_image::Limits::default()).unwrap();
        let verified = opened.verify(&lxd_image::format::VerifyOptions::new(), &Monitor::none()).unwrap();
        assert_eq!((verified.fingerprint, verified.image_type), (image.fingerprint, image.image_type));
    }
    let resolved = |name: &str| store.resolve(name).unwrap().image_type;
    assert_eq!((resolved("debian/12"), resolved("vm")), (ImageType::Container, ImageType::VirtualMachine));
    assert_clean(&store);
}

#[test]
fn unfinished_work_of_layout_1_is_done_after_the_upgrade() {
    let scratch = Scratch::new();
    let path = layout_1(&scratch, "store-layout-1-every-kind");
    let gone = Fingerprint::of(b"gone");
    let left = |path: &Path| files(path).iter().filter(|name| name.contains(&gone.to_string())).count();
    assert_eq!(left(&path), 3);
    let store = Store::open(&path).unwrap();
    assert_eq!(left(&path), 0);
    assert_clean(&store);
}

#[test]
fn upgraded_store_is_refused_by_older_programs() {
    let scratch = Scratch::new();
    let path = layout_1(&scratch, "store-layout-1");
    drop(Store::open(&path).unwrap());
    assert_eq!(layout(&path), ("layout: 2".to_owned(), 2));
}

#[test]
fn interrupted_upgrade_is_completed_by_the_next_open() {
    let scratch = Scratch::new();
    let path = layout_1(&scratch, "store-layout-1");
    let marker = fs::read(path.join("lxd-image-store")).unwrap();
    drop(Store::open(&path).unwrap());
    // The marker comes last.
    fs::write(path.join("lxd-image-store"), marker).unwrap();
    let store = Store::open(&path).unwrap();
    assert_clean(&store);
    assert_eq!(layout(&path), ("layout: 2".to_owned(), 2));
}

#[test]
fn store_of_layout_1_in_use_is_not_upgraded() {
    let scratch = Scratch::new();
    let path = layout_1(&scratch, "store-layout-1");
    let other = fs::File::open(&path).unwrap();
    other.lock_shared().unwrap();
    let options = StoreOptions::new().busy_timeout(std::time::Duration::from_millis(50));
    let error = assert_kind(options.open(&path), ErrorKind::Busy);
    assert!(error.to_string().contains("layout version 1"), "{error}");
    assert_eq!(layout(&path), ("layout: 1".to_owned(), 1));
    drop(other);
    options.open(&path).unwrap();
}

#[test]
fn read_only_store_of_layout_1_is_readable() {
    let scratch = Scratch::new();
    let path = layout_1(&scratch, "store-layout-1");
    let store = StoreOptions::new().read_only(true).open(&path).unwrap();
    assert_eq!(store.images().unwrap().len(), 3);
    assert_eq!(reads(&store, &fingerprint("one")), unified("one"));
    assert_eq!(layout(&path), ("layout: 1".to_owned(), 1));
}

#[test]
fn store_of_layout_1_without_catalog_is_repaired() {
    let scratch = Scratch::new();
    let path = layout_1(&scratch, "store-layout-1");
    fs::remove_file(path.join("catalog.sqlite")).unwrap();
    assert_kind(Store::open(&path), ErrorKind::Malformed);
    Store::repair(&path, &StoreOptions::new(), &CheckOptions::new(), &Monitor::none()).unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.images().unwrap().len(), 3);
    assert_eq!(layout(&path), ("layout: 2".to_owned(), 2));
    assert_clean(&store);
}

#[test]
fn unfinished_import_of_layout_1_is_no_image() {
    let scratch = Scratch::new();
    let path = layout_1(&scratch, "store-layout-1");
    let before = files(&path);
    let begun = fingerprint("begun");
    fs::write(path.join("blobs").join(begun.to_string()), unified("begun")).unwrap();
    fs::write(path.join("staging").join(format!("{begun}.new.1")), unified("begun")).unwrap();
    let store = Store::open(&path).unwrap();
    assert_clean(&store);
    assert_eq!(files(&path), before);
}
