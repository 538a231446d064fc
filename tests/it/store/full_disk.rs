//! A real disk that is full: a small file system in memory, where this process may mount one.

use std::fs;

use lxd_image::store::{ImportOptions, Store};
use lxd_image::{ErrorKind, Monitor};

use super::*;

impl Mounted {
    /// As [`at`](Self::at), below a test's own directory.
    pub(crate) fn new(scratch: &Scratch, size: &str) -> Option<Self> {
        Self::at(scratch.join("mounted"), size)
    }
}

/// An image of about this many bytes.
fn large(tag: &str, bytes: usize) -> Vec<u8> {
    unified_with(&metadata(tag, ""), &vec![b'x'; bytes])
}

#[test]
fn full_disk_allows_reading_and_deleting() {
    let scratch = Scratch::new();
    let Some(mounted) = Mounted::new(&scratch, "6m") else { return };
    let path = mounted.path().join("store");
    let store = Store::open(&path).unwrap();
    let mut images = Vec::new();
    let error = loop {
        let tag = format!("image-{}", images.len());
        match store.import(stream(large(&tag, 700_000)), &ImportOptions::new().alias(alias(&tag)), &Monitor::none()) {
            Ok(image) => images.push(image),
            Err(error) => break error,
        }
        assert!(images.len() < 20, "the disk does not fill");
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(images.len() > 2, "{error}");
    assert_eq!(files(&path).len(), images.len() * 2, "nothing is left of the one that failed");
    // Not a byte more.
    let mut filler = fs::File::create(mounted.path().join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    while std::io::Write::write_all(&mut filler, &[0; 1]).is_ok() {}
    assert_eq!(store.images().unwrap().len(), images.len());
    assert_kind(
        store.import(stream(unified("small")), &ImportOptions::new(), &Monitor::none()),
        ErrorKind::StorageFull,
    );
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(reads(&store, &images[0].fingerprint).len() as u64, images[0].size);
    store.delete(&images[0].fingerprint).unwrap();
    store.delete_alias("image-1", None).unwrap();
    assert_eq!(store.images().unwrap().len(), images.len() - 1);
    assert_eq!(files(&path).len(), images.len() * 2 - 2, "the space is given back");
    import(&store, "small", &["works-again"]);
    assert_clean(&store);
}

#[test]
fn import_needs_the_size_of_the_image_once() {
    let scratch = Scratch::new();
    let Some(mounted) = Mounted::new(&scratch, "8m") else { return };
    let store = Store::open(mounted.path().join("store")).unwrap();
    // More than half of what is free after the reserve: a second copy would not fit.
    let image = store.import(stream(large("large", 5_000_000)), &ImportOptions::new(), &Monitor::none()).unwrap();
    assert!(image.size > 5_000_000);
    assert_clean(&store);
}
