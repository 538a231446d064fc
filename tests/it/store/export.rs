//! Export: names and bytes are those that came in, and nothing is written over.

use std::fs;

use lxd_image::format::ImageSource;
use lxd_image::store::{ImportOptions, Store};
use lxd_image::{ErrorKind, Fingerprint, Monitor};

use super::*;

fn names(paths: &[std::path::PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn unified_image_is_exported_under_its_fingerprint_or_original_name() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = import(&store, "one", &[]);
    let done = store.export(&image.fingerprint, scratch.path(), &Monitor::none()).unwrap();
    assert_eq!(names(&done.files), [format!("{}.tar", image.fingerprint)]);
    assert_eq!(fs::read(&done.files[0]).unwrap(), unified("one"));
    fs::write(scratch.join("named.tar.gz"), unified("two")).unwrap();
    let image = store
        .import(ImageSource::open(scratch.join("named.tar.gz"), None).unwrap(), &ImportOptions::new(), &Monitor::none())
        .unwrap();
    fs::create_dir(scratch.join("out")).unwrap();
    let done = store.export(&image.fingerprint, scratch.join("out"), &Monitor::none()).unwrap();
    assert_eq!(names(&done.files), ["named.tar.gz"]);
    let done = store.export(&image.fingerprint, scratch.join("out/mine"), &Monitor::none()).unwrap();
    assert_eq!(names(&done.files), ["mine.tar"]);
}

#[test]
fn split_image_is_exported_as_meta_and_rootfs() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = store.import(split_stream("one"), &ImportOptions::new(), &Monitor::none()).unwrap();
    let done = store.export(&image.fingerprint, scratch.path(), &Monitor::none()).unwrap();
    let stem = image.fingerprint.to_string();
    assert_eq!(names(&done.files), [format!("meta-{stem}.tar"), format!("{stem}.tar")]);
    let (meta, rootfs) = split("one");
    assert_eq!(fs::read(&done.files[0]).unwrap(), meta);
    assert_eq!(fs::read(&done.files[1]).unwrap(), rootfs);
    // What a real LXD exports comes out under the same names again.
    store.delete(&image.fingerprint).unwrap();
    let source = ImageSource::open(&done.files[0], Some(&done.files[1])).unwrap();
    store.import(source, &ImportOptions::new(), &Monitor::none()).unwrap();
    fs::create_dir(scratch.join("again")).unwrap();
    let again = store.export(&image.fingerprint, scratch.join("again"), &Monitor::none()).unwrap();
    assert_eq!(names(&again.files), names(&done.files));
    let done = store.export(&image.fingerprint, scratch.join("mine"), &Monitor::none()).unwrap();
    assert_eq!(names(&done.files), ["mine.tar", "mine.root"]);
}

#[test]
fn file_name_with_a_path_is_refused() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    for (index, name) in ["../x", ".hidden", "-rf", "a/b", "a\nb", "", "..", "a\\b"].iter().enumerate() {
        let tag = format!("image-{index}");
        let refused = store.import(stream(unified(&tag)), &ImportOptions::new().file_name(*name), &Monitor::none());
        assert_kind(refused, ErrorKind::InvalidInput);
    }
}

#[test]
fn export_overwrites_nothing_and_leaves_no_half_image() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = store.import(split_stream("one"), &ImportOptions::new(), &Monitor::none()).unwrap();
    let out = scratch.join("out");
    fs::create_dir(&out).unwrap();
    let rootfs = out.join(format!("{}.tar", image.fingerprint));
    fs::write(&rootfs, b"mine").unwrap();
    assert_kind(store.export(&image.fingerprint, &out, &Monitor::none()), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&rootfs).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    assert_kind(store.export(&image.fingerprint, scratch.join("no/such"), &Monitor::none()), ErrorKind::NotFound);
    assert_kind(store.export(&Fingerprint::of(b"no"), &out, &Monitor::none()), ErrorKind::NotFound);
}

#[test]
fn split_image_is_refused_for_a_stream() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = import(&store, "one", &[]);
    assert_eq!(reads(&store, &image.fingerprint), unified("one"));
    let image = store.import(split_stream("one"), &ImportOptions::new(), &Monitor::none()).unwrap();
    let mut sink = Vec::new();
    assert_kind(store.export_to(&image.fingerprint, &mut sink, &Monitor::none()), ErrorKind::InvalidInput);
    assert!(sink.is_empty());
}

#[test]
fn damaged_image_is_not_exported() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = import(&store, "one", &[]);
    let blob = blob(&scratch.join("store"), &image);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1100] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let out = scratch.join("out");
    fs::create_dir(&out).unwrap();
    assert_kind(store.export(&image.fingerprint, &out, &Monitor::none()), ErrorKind::Mismatch);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    assert_kind(store.export_to(&image.fingerprint, &mut Vec::new(), &Monitor::none()), ErrorKind::Mismatch);
    fs::write(&blob, &bytes[..1000]).unwrap();
    assert_kind(store.open_image(&image.fingerprint), ErrorKind::Mismatch);
}
