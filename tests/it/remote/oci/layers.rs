//! Layers that a store keeps: the next image with one of them does not fetch it again.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lxd_image::format::{ImageSource, Input};
use lxd_image::io::Blob;
use lxd_image::oci::{Descriptor, Digest, ImageConfig, Manifest, RootfsLayers, media_type, to_json};
use lxd_image::remote::{CopyOptions, copy};
use lxd_image::store::{BlobKey, CheckOptions, ImportOptions, MemoryCatalog, Store, StoreOptions, StoredImage};
use lxd_image::{Cancel, ErrorKind, Monitor};

use super::fake::Fake;
use super::{registry, store};
use crate::remote::failed;
use crate::remote::server::{Server, head, hold};
use crate::store::{Meddling, Mounted, Scratch, member, metadata, stream, unified_with};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer with one file.
pub(super) fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    member(&mut tar, name, b'0', content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

/// A container image of layers, under a tag.
pub(super) fn add_container(fake: &Fake, tag: &str, layers: &[&[u8]]) {
    let mut config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        rootfs: RootfsLayers { kind: "layers".to_owned(), diff_ids: Vec::new() },
        ..ImageConfig::default()
    };
    config.config.cmd = vec!["/bin/sh".to_owned()];
    let mut descriptors = Vec::new();
    for bytes in layers {
        config.rootfs.diff_ids.push(fake.add_blob(bytes));
        descriptors.push(Descriptor::of(LAYER, bytes));
    }
    let config = to_json(&config).unwrap();
    fake.add_blob(&config);
    let manifest = Manifest::new(Descriptor::of(media_type::IMAGE_CONFIG, &config), descriptors);
    fake.add_document(tag, media_type::IMAGE_MANIFEST, &to_json(&manifest).unwrap());
}

/// How often each of some blobs was asked for.
pub(super) fn asked<const N: usize>(server: &Server, blobs: [&[u8]; N]) -> [usize; N] {
    blobs.map(|bytes| {
        let end = format!("/blobs/{}", Digest::of(bytes));
        server.asked().iter().filter(|asked| asked.method == "GET" && asked.path.ends_with(&end)).count()
    })
}

fn copied(server: &Server, tag: &str, store: &Store) -> StoredImage {
    copy(&registry(server), &format!("a:{tag}"), store, &CopyOptions::new().architectures([]), &Monitor::none())
        .unwrap()
}

/// A registry with two images of one base, and the base and their own layers.
fn two_images() -> (Server, [Vec<u8>; 3]) {
    let layers = [layer("base", &[7; 5000]), layer("one", b"1"), layer("two", b"2")];
    let fake = Fake::default();
    add_container(&fake, "one", &[&layers[0], &layers[1]]);
    add_container(&fake, "two", &[&layers[0], &layers[2]]);
    (Server::plain(move |asked, line| fake.respond(asked, line)), layers)
}

/// The files of layers in a directory store.
fn kept(scratch: &Scratch) -> Vec<PathBuf> {
    let names = fs::read_dir(scratch.join("store/blobs")).unwrap();
    let paths = names.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "layer")).collect()
}

#[test]
fn second_image_of_one_base_fetches_its_own_layer_only() {
    let scratch = Scratch::new();
    for store in [store(&scratch), Store::in_memory().unwrap()] {
        let (server, [base, one, two]) = two_images();
        copied(&server, "one", &store);
        assert_eq!(asked(&server, [&base, &one, &two]), [1, 1, 0]);
        server.forget();
        copied(&server, "two", &store);
        assert_eq!(asked(&server, [&base, &one, &two]), [0, 0, 1]);
        let totals = store.layers().unwrap();
        assert_eq!((totals.layers, totals.bytes), (3, (base.len() + one.len() + two.len()) as u64));
        assert!(store.check(&CheckOptions::new(), &Monitor::none()).unwrap().is_clean());
    }
}

#[test]
fn image_of_kept_layers_is_the_one_of_fetched_layers() {
    let (server, _) = two_images();
    let (with, without) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
    copied(&server, "one", &with);
    assert_eq!(copied(&server, "two", &with).fingerprint, copied(&server, "two", &without).fingerprint);
}

#[test]
fn damaged_layer_is_fetched_again() {
    let scratch = Scratch::new();
    let (server, [base, ..]) = two_images();
    let store = store(&scratch);
    copied(&server, "one", &store);
    for path in kept(&scratch) {
        let length = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(&[9; 600]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), length);
    }
    server.forget();
    let monitor = Monitor::none();
    let options = CopyOptions::new().architectures([]);
    copy(&registry(&server), "a:two", &store, &options, &monitor).unwrap();
    assert_eq!(asked(&server, [&base]), [1]);
    assert!(monitor.omissions().iter().any(|omission| omission.to_string().contains("dropped")));
}

#[test]
fn copies_at_once_keep_each_layer_once() {
    let scratch = Scratch::new();
    let (server, _) = two_images();
    let store = store(&scratch);
    std::thread::scope(|scope| {
        for tag in ["one", "two", "one", "two"] {
            let (server, store) = (&server, &store);
            scope.spawn(move || {
                let options = CopyOptions::new().architectures([]);
                copy(&registry(server), &format!("a:{tag}"), store, &options, &Monitor::none()).unwrap()
            });
        }
    });
    assert_eq!(store.images().unwrap().len(), 2);
    assert_eq!((store.layers().unwrap().layers, kept(&scratch).len()), (3, 3));
    assert!(store.check(&CheckOptions::new(), &Monitor::none()).unwrap().is_clean());
}

#[test]
fn cancelled_copy_leaves_no_part_of_a_layer() {
    let scratch = Scratch::new();
    let bytes = layer("base", &vec![7; 1 << 20]);
    let (fake, cancel) = (Fake::default(), Cancel::new());
    add_container(&fake, "one", &[&bytes]);
    let end = format!("/blobs/{}", Digest::of(&bytes));
    let (stop, half) = (cancel.clone(), bytes.clone());
    let server = Server::plain(move |asked, line| {
        if !asked.path.ends_with(&end) {
            return fake.respond(asked, line);
        }
        head(line, 200, &[], Some(half.len()))?;
        line.write_all(&half[..half.len() / 2])?;
        line.flush()?;
        stop.cancel();
        hold(line)
    });
    let store = store(&scratch);
    let options = CopyOptions::new().architectures([]);
    failed(
        copy(&registry(&server), "a:one", &store, &options, &Monitor::none().with_cancel(cancel)),
        ErrorKind::Cancelled,
    );
    assert_eq!(store.layers().unwrap().layers, 0);
    assert_eq!(kept(&scratch), Vec::<PathBuf>::new());
    assert_eq!(fs::read_dir(scratch.join("store/staging")).unwrap().count(), 0);
}

#[test]
fn layer_over_the_limit_is_told_and_not_kept() {
    let scratch = Scratch::new();
    let (server, _) = two_images();
    let mut limits = lxd_image::Limits::default();
    limits.layer_cache = 1;
    let store = lxd_image::store::StoreOptions::new().limits(limits).open(scratch.join("store")).unwrap();
    let monitor = Arc::new(Monitor::none());
    let options = CopyOptions::new().architectures([]);
    copy(&registry(&server), "a:one", &store, &options, &monitor).unwrap();
    assert_eq!(store.layers().unwrap().layers, 0);
    assert!(monitor.omissions().iter().any(|omission| omission.to_string().contains("layer_cache")));
}

/// Bytes that don't get smaller by packing them.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::new();
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[test]
fn import_that_finds_no_room_takes_that_of_kept_layers() {
    let scratch = Scratch::new();
    let Some(mounted) = Mounted::new(&scratch, "48m") else { return };
    let store = Store::open(mounted.path().join("store")).unwrap();
    let fake = Fake::default();
    add_container(&fake, "one", &[&layer("base", &noise(8 << 20))]);
    let server = Server::plain(move |asked, line| fake.respond(asked, line));
    let large = |tag: &str| unified_with(&metadata(tag, ""), &noise(34 << 20));
    copied(&server, "one", &store);
    assert_eq!(store.layers().unwrap().layers, 1);
    // A stream can be read only once, so that the caller has to bring it again.
    let error =
        failed(store.import(stream(large("large")), &ImportOptions::new(), &Monitor::none()), ErrorKind::StorageFull);
    assert!(error.hint().unwrap().contains("try again"), "{error:?}");
    assert_eq!(store.layers().unwrap().layers, 0);
    let image = store.import(stream(large("large")), &ImportOptions::new(), &Monitor::none()).unwrap();
    store.delete(&image.fingerprint).unwrap();
    // What is at rest is read again at once.
    let first = store.images().unwrap().remove(0);
    store.delete(&first.fingerprint).unwrap();
    copied(&server, "one", &store);
    assert_eq!(store.layers().unwrap().layers, 1);
    let at_rest = ImageSource::unified(Input::blob(Blob::from(large("other"))));
    store.import(at_rest, &ImportOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(store.layers().unwrap().layers, 0);
}

#[test]
fn cancelled_copy_does_not_wait_for_the_upload_of_a_layer() {
    let (server, _) = two_images();
    let (has_begun, cancel) = (Arc::new(AtomicBool::new(false)), Cancel::new());
    let begun = Arc::clone(&has_begun);
    // A layer is uploaded for as long as it is not cancelled.
    let endless = move |key: &BlobKey, monitor: &Monitor| {
        while key.as_str().ends_with(".layer") {
            begun.store(true, Ordering::Relaxed);
            monitor.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    };
    let blobs = Meddling { blobs: Arc::default(), before: Box::new(endless), after: Box::new(|| {}) };
    let scratch = lxd_image::store::Scratch::in_memory();
    let store = StoreOptions::new().open_parts(Arc::new(blobs), Arc::new(MemoryCatalog::new()), scratch);
    let stop = cancel.clone();
    let stopper = std::thread::spawn(move || {
        while !has_begun.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // By now the conversion has come to its end, and waits.
        std::thread::sleep(Duration::from_millis(500));
        stop.cancel();
        Instant::now()
    });
    let options = CopyOptions::new().architectures([]);
    failed(
        copy(&registry(&server), "a:one", &store, &options, &Monitor::none().with_cancel(cancel)),
        ErrorKind::Cancelled,
    );
    assert!(stopper.join().unwrap().elapsed() < Duration::from_secs(1));
    assert_eq!(store.layers().unwrap().layers, 0);
}
