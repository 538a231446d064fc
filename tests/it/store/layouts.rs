//! Stores as released layouts made them, kept under `tests/data`: every later version reads them.
//! A new layout adds a directory and a test; none is ever changed.

use std::fs;
use std::path::{Path, PathBuf};

use lxd_image::store::{Edit, ImportOptions, UpdateSource};

use super::*;

fn data(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/store-layout-{version}"))
}

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
    store.import(split_stream("two"), &options).unwrap();
    store.import(stream(unified("cached")), &ImportOptions::new().cached(true)).unwrap();
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

/// `LXD_IMAGE_KEEP_LAYOUT` names a place where the made store is kept, for a new layout's data.
#[test]
fn the_kept_store_has_the_files_that_this_layout_makes() {
    let scratch = Scratch::new();
    let kept = std::env::var_os("LXD_IMAGE_KEEP_LAYOUT");
    let path = kept.map_or_else(|| scratch.join("made"), std::path::PathBuf::from);
    assert!(!path.exists(), "a store that was kept is never changed");
    fill(&path);
    fs::remove_file(path.join("catalog.sqlite-reserve")).unwrap();
    for area in ["staging", "quarantine"] {
        // Version control keeps no empty directories.
        fs::write(path.join(area).join(".keep"), b"").unwrap();
    }
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&path), names(&data(1)));
    assert_eq!(names(&path.join("blobs")), names(&data(1).join("blobs")));
}

#[test]
fn a_store_of_layout_1_is_read_and_goes_on_living() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    copy(&data(1), &path);
    let expected = fill(&scratch.join("made now"));
    let store = Clock::new().options().open(&path).unwrap();
    assert_eq!(store.images().unwrap(), expected);
    for name in fs::read_dir(path.join("quarantine")).unwrap() {
        fs::remove_file(name.unwrap().path()).unwrap();
    }
    assert_clean(&store);
    assert_eq!(reads(&store, &fingerprint("one")), unified("one"));
    import(&store, "new", &["new"]);
    assert_eq!(files(&path).len(), 9);
    assert_clean(&store);
}
