//! Import, metadata, edit, use and delete, sentence by sentence of section 4 of the format's facts.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;

use lxd_image::format::{ImageSource, ImageType, Input};
use lxd_image::store::{ETag, Edit, ImportOptions, Store};
use lxd_image::{Cancel, ErrorKind, Fingerprint, Monitor};

use super::*;

#[test]
fn imported_image_is_stored_under_its_fingerprint() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let bytes = unified("one");
    let image = store.import(stream(bytes.clone()), &ImportOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(image.fingerprint, Fingerprint::of(&bytes));
    assert_eq!(fs::read(blob(&scratch.join("store"), &image)).unwrap(), bytes);
    let name = format!("blobs/{}.", image.fingerprint);
    let files = files(&scratch.join("store"));
    assert_eq!((files.len(), files.iter().all(|file| file.starts_with(&name))), (2, true), "{files:?}");
    assert_clean(&store);
}

#[test]
fn files_and_directories_are_private_whatever_the_umask() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    import(&store, "one", &[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for area in ["blobs", "staging", "quarantine"] {
        assert_eq!(mode(&path.join(area)), 0o700, "{area}");
        for entry in fs::read_dir(path.join(area)).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }
    assert_eq!(mode(&path.join("catalog.sqlite")), 0o600);
}

#[test]
fn import_is_invisible_until_complete() {
    struct Watching(Store, io::Cursor<Vec<u8>>);
    impl Read for Watching {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(self.0.images().unwrap().is_empty(), "seen before the last byte came");
            let most = buffer.len().min(100);
            self.1.read(&mut buffer[..most])
        }
    }
    let scratch = Scratch::new();
    let store = Store::open(scratch.path().join("store")).unwrap();
    let reader = Watching(store.clone(), io::Cursor::new(unified("slow")));
    store.import(ImageSource::unified(Input::stream(reader)), &ImportOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(store.images().unwrap().len(), 1);
}

#[test]
fn import_of_a_broken_stream_leaves_nothing() {
    struct Broken(io::Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(&mut buffer[..64])? {
                0 => Err(io::Error::other("the line is cut")),
                count => Ok(count),
            }
        }
    }
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let broken = Broken(io::Cursor::new(unified("cut")[..900].to_vec()));
    assert_kind(
        store.import(ImageSource::unified(Input::stream(broken)), &ImportOptions::new(), &Monitor::none()),
        ErrorKind::Io,
    );
    assert_eq!(files(&path), Vec::<String>::new());
}

#[test]
fn cancelled_import_leaves_nothing() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    for stop_at in 0.. {
        let count = AtomicU32::new(0);
        let stop = move |_: &lxd_image::Update| {
            if count.fetch_add(1, Ordering::Relaxed) == stop_at {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        };
        let monitor = Monitor::none().with_progress(Arc::new(stop));
        match store.import(stream(unified("one")), &ImportOptions::new(), &monitor) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
        }
        assert_eq!(files(&path), Vec::<String>::new());
        assert!(store.images().unwrap().is_empty());
    }
    let cancel = Cancel::new();
    cancel.cancel();
    let options = ImportOptions::new();
    assert_kind(
        store.import(stream(unified("two")), &options, &Monitor::none().with_cancel(cancel)),
        ErrorKind::Cancelled,
    );
}

#[test]
fn progress_callback_may_use_the_store() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let other = import(&store, "other", &[]);
    let inner = store.clone();
    let calls = move |_: &lxd_image::Update| {
        inner.mark_used(&other.fingerprint).unwrap();
        std::ops::ControlFlow::<()>::Continue(())
    };
    let options = ImportOptions::new();
    store.import(stream(unified("one")), &options, &Monitor::none().with_progress(Arc::new(calls))).unwrap();
    assert_eq!(store.images().unwrap().len(), 2);
}

#[test]
fn file_that_is_no_image_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let options = ImportOptions::new();
    assert_kind(store.import(stream(b"".to_vec()), &options, &Monitor::none()), ErrorKind::Malformed);
    assert_kind(
        store.import(stream(b"no archive at all".repeat(100)), &options, &Monitor::none()),
        ErrorKind::Unsupported,
    );
    let climbing = {
        let mut bytes = unified("x");
        let end = bytes.len() - 1024;
        bytes.truncate(end);
        member(&mut bytes, "rootfs/../../x", b'0', b"");
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    };
    assert_kind(store.import(stream(climbing), &options, &Monitor::none()), ErrorKind::UnsafePath);
    let alien = unified_with("architecture: pdp11\ncreation_date: 1\n", b"");
    assert_kind(store.import(stream(alien), &options, &Monitor::none()), ErrorKind::InvalidInput);
    assert_eq!(files(&path), Vec::<String>::new());
}

#[test]
fn unexpected_fingerprint_is_a_mismatch_and_leaves_nothing() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let options = ImportOptions::new().expected_fingerprint(Fingerprint::of(b"something else"));
    let error = assert_kind(store.import(stream(unified("one")), &options, &Monitor::none()), ErrorKind::Mismatch);
    let found = fingerprint("one").to_string();
    assert_eq!(
        error.expected_and_found(),
        Some((Fingerprint::of(b"something else").to_string().as_str(), found.as_str()))
    );
    assert_kind(store.import(split_stream("one"), &options, &Monitor::none()), ErrorKind::Mismatch);
    assert_eq!(files(&path), Vec::<String>::new());
    store
        .import(
            stream(unified("one")),
            &ImportOptions::new().expected_fingerprint(fingerprint("one")),
            &Monitor::none(),
        )
        .unwrap();
}

#[test]
fn import_of_a_present_image_fails_with_already_exists() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    import(&store, "one", &[]);
    assert_kind(
        store.import(stream(unified("one")), &ImportOptions::new(), &Monitor::none()),
        ErrorKind::AlreadyExists,
    );
    assert_eq!(store.images().unwrap().len(), 1);
    assert_clean(&store);
}

#[test]
fn present_expected_image_is_refused_before_a_byte_is_read() {
    struct Untouched;
    impl Read for Untouched {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("nothing may be read");
        }
    }
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = import(&store, "one", &["web"]);
    let source = || ImageSource::unified(Input::stream(Untouched));
    assert_kind(
        store.import(source(), &ImportOptions::new().expected_fingerprint(image.fingerprint), &Monitor::none()),
        ErrorKind::AlreadyExists,
    );
    // Of another type it could have the name as well.
    let options = ImportOptions::new().alias(alias("web")).image_type(ImageType::Container);
    assert_kind(store.import(source(), &options, &Monitor::none()), ErrorKind::AlreadyExists);
}

#[test]
fn import_adds_to_a_present_image_on_request() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    import(&store, "one", &["a"]);
    let options = ImportOptions::new().alias(alias("b")).public(true);
    assert_kind(store.import(stream(unified("one")), &options, &Monitor::none()), ErrorKind::AlreadyExists);
    let image = store.import(stream(unified("one")), &options.add_aliases_to_existing(true), &Monitor::none()).unwrap();
    assert_eq!(image.aliases, [alias("a"), alias("b")]);
    assert!(image.public, "all that was asked for is done");
    assert_eq!(store.image(&image.fingerprint).unwrap(), image);
    assert_clean(&store);
}

#[test]
fn adopting_changes_only_the_catalog() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = import(&store, "one", &["a"]);
    let source = lxd_image::store::UpdateSource::new("https://images.example", "simplestreams", "debian");
    let options = ImportOptions::new().alias(alias("b")).public(true).source(source).auto_update(true);
    // Without its file nothing of it can be read.
    std::fs::remove_file(blob(&scratch.join("store"), &image)).unwrap();
    let adopted = store.adopt(&image.fingerprint, &options, &Monitor::none()).unwrap();
    assert!(adopted.public && adopted.auto_update && adopted.aliases.len() == 2);
    assert_eq!(
        store.adopt(&image.fingerprint, &options, &Monitor::none()).unwrap(),
        adopted,
        "a second time changes nothing"
    );
    assert_kind(store.adopt(&fingerprint("two"), &ImportOptions::new(), &Monitor::none()), ErrorKind::NotFound);
    let wrong = ImportOptions::new().expected_fingerprint(fingerprint("two"));
    assert_kind(store.adopt(&image.fingerprint, &wrong, &Monitor::none()), ErrorKind::Mismatch);
}

#[test]
fn explicitly_imported_cached_image_becomes_permanent() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    store.import(stream(unified("one")), &ImportOptions::new().cached(true), &Monitor::none()).unwrap();
    assert_kind(
        store.import(stream(unified("one")), &ImportOptions::new().cached(true), &Monitor::none()),
        ErrorKind::AlreadyExists,
    );
    let options = ImportOptions::new().alias(alias("mine")).public(true).property("tag", "mine").unwrap();
    let image = store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    assert!(!image.cached && image.public);
    assert_eq!(image.properties.get("tag"), Some("mine"));
    assert_eq!(store.resolve("mine").unwrap(), image);
    assert_clean(&store);
}

#[test]
fn properties_of_the_caller_override_the_metadata() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let options = ImportOptions::new().property("release", "13").unwrap().property("more", "x").unwrap();
    let image = store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    let pairs: Vec<_> = image.properties.iter().collect();
    assert_eq!(pairs, [("os", "Debian"), ("release", "13"), ("tag", "one"), ("more", "x")]);
    assert_eq!(image.original_properties.get("release"), Some("12"));
}

#[test]
fn creation_date_and_architecture_come_from_the_metadata_and_expiry_unless_the_caller_says() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let bytes = unified_with(&metadata("x", "expiry_date: 1800000000\n"), b"x");
    let image = store.import(stream(bytes), &ImportOptions::new(), &Monitor::none()).unwrap();
    assert_eq!((image.created_at, image.expires_at, image.uploaded_at), (1_700_000_000, Some(1_800_000_000), NOW));
    assert_eq!(image.architecture.kernel_name(), "x86_64");
    assert_eq!(image.image_type, ImageType::Container);
    assert_eq!(image.last_used_at, None);
    let bytes = unified_with(&metadata("y", "expiry_date: 1800000000\n"), b"y");
    let image = store.import(stream(bytes), &ImportOptions::new().expires_at(1_900_000_000), &Monitor::none()).unwrap();
    assert_eq!(image.expires_at, Some(1_900_000_000));
}

#[test]
fn split_image_is_imported_in_either_order() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let (meta, rootfs) = split("one");
    let expected = Fingerprint::of(&[meta.clone(), rootfs.clone()].concat());
    let reader = |bytes: &Vec<u8>| Input::stream(io::Cursor::new(bytes.clone()));
    let image = store
        .import(ImageSource::split(reader(&rootfs), reader(&meta)), &ImportOptions::new(), &Monitor::none())
        .unwrap();
    assert_eq!(image.fingerprint, expected);
    assert_eq!((image.size, image.rootfs_size), ((meta.len() + rootfs.len()) as u64, Some(rootfs.len() as u64)));
    let blobs = scratch.join("store/blobs");
    assert_eq!(fs::read(blobs.join(image.objects.image.as_str())).unwrap(), meta);
    assert_eq!(fs::read(blobs.join(image.objects.rootfs.as_ref().unwrap().as_str())).unwrap(), rootfs);
    assert_clean(&store);
    store.delete(&expected).unwrap();
    assert_eq!(files(&scratch.join("store")), Vec::<String>::new());
    let (one, other) = (scratch.join("rootfs.tar"), scratch.join("meta.tar"));
    fs::write(&one, &rootfs).unwrap();
    fs::write(&other, &meta).unwrap();
    let image =
        store.import(ImageSource::open(&one, Some(&other)).unwrap(), &ImportOptions::new(), &Monitor::none()).unwrap();
    assert_eq!((image.file_name.as_deref(), image.rootfs_name.as_deref()), (Some("meta.tar"), Some("rootfs.tar")));
}

#[test]
fn opened_image_can_be_unpacked() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = store.import(split_stream("one"), &ImportOptions::new(), &Monitor::none()).unwrap();
    let opened = store.open_image(&image.fingerprint).unwrap().open(&lxd_image::Limits::default()).unwrap();
    opened
        .unpack_verified(
            scratch.join("tree"),
            &image.fingerprint,
            &lxd_image::format::UnpackOptions::new(),
            &Monitor::none(),
        )
        .unwrap();
    assert_eq!(fs::read(scratch.join("tree/rootfs/etc/tag")).unwrap(), b"one");
}

#[test]
fn edit_changes_auto_update_properties_public_and_expiry_and_nothing_else() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let before = import(&store, "one", &["a"]);
    let edit = Edit::new()
        .public(true)
        .auto_update(true)
        .expires_at(Some(NOW))
        .property("os", "Ubuntu")
        .unwrap()
        .remove_property("tag");
    let after = store.edit(&before.fingerprint, &edit, Some(&before.etag())).unwrap();
    assert_eq!(store.image(&before.fingerprint).unwrap(), after);
    let mut expected = before.clone();
    (expected.public, expected.auto_update, expected.expires_at, expected.revision) = (true, true, Some(NOW), 2);
    expected.properties.set("os", "Ubuntu").unwrap();
    expected.properties.remove("tag");
    assert_eq!(after, expected);
    assert_clean(&store);
}

#[test]
fn edit_based_on_an_old_state_fails() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let seen = import(&store, "one", &[]);
    let first =
        store.edit(&seen.fingerprint, &Edit::new().property("by", "first").unwrap(), Some(&seen.etag())).unwrap();
    let second = Edit::new().property("by", "second").unwrap();
    assert_kind(store.edit(&seen.fingerprint, &second, Some(&seen.etag())), ErrorKind::Mismatch);
    assert_kind(store.edit(&seen.fingerprint, &second.based_on_revision(seen.revision), None), ErrorKind::Mismatch);
    assert_eq!(store.image(&seen.fingerprint).unwrap(), first);
    assert_kind(store.edit(&Fingerprint::of(b"no"), &Edit::new(), None), ErrorKind::NotFound);
    // Nor can an image be deleted for what it no longer is.
    assert_kind(store.delete_unchanged(&seen.fingerprint, &seen.etag()), ErrorKind::Mismatch);
    assert_eq!(store.delete_unchanged(&seen.fingerprint, &first.etag()).unwrap().fingerprint, seen.fingerprint);
    assert_kind(store.delete_unchanged(&seen.fingerprint, &first.etag()), ErrorKind::NotFound);
}

#[test]
fn etag_equals_that_of_the_rest_api() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let options = ImportOptions::new().public(true).property("a", "<&\"\\>").unwrap();
    let image = store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    let go =
        "[true,false,{\"a\":\"\\u003c\\u0026\\\"\\\\\\u003e\",\"os\":\"Debian\",\"release\":\"12\",\"tag\":\"one\"}]\n";
    assert_eq!(image.etag(), ETag::new(Fingerprint::of(go.as_bytes()).to_string()));
}

#[test]
fn use_sets_the_time_of_last_use() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let image = import(&store, "one", &[]);
    clock.set(NOW + 5);
    assert_eq!(store.mark_used(&image.fingerprint).unwrap().last_used_at, Some(NOW + 5));
    assert_eq!(store.image(&image.fingerprint).unwrap().last_used_at, Some(NOW + 5));
    assert_kind(store.mark_used(&Fingerprint::of(b"no")), ErrorKind::NotFound);
    assert_clean(&store);
}

#[test]
fn delete_removes_the_image_and_its_aliases() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = import(&store, "one", &["a", "b"]);
    let kept = import(&store, "two", &["c"]);
    store.delete(&image.fingerprint).unwrap();
    assert_kind(store.delete(&image.fingerprint), ErrorKind::NotFound);
    assert_eq!(store.aliases().unwrap(), [(alias("c"), container(kept.fingerprint))]);
    assert_eq!(files(&path).len(), 2);
    assert_clean(&store);
    import(&store, "one", &["a"]);
    assert_clean(&store);
}

#[test]
fn open_image_survives_its_deletion() {
    use lxd_image::io::ReadAt;
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = import(&store, "one", &[]);
    let opened = store.open_image(&image.fingerprint).unwrap();
    store.delete(&image.fingerprint).unwrap();
    let mut bytes = vec![0; usize::try_from(image.size).unwrap()];
    opened.files().0.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, unified("one"));
    assert_kind(store.open_image(&image.fingerprint), ErrorKind::NotFound);
}

#[test]
fn written_image_needs_no_file() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let write = |sink: &mut (dyn io::Write + Send)| Ok(sink.write_all(&unified("made"))?);
    let image = store.import_written(&ImportOptions::new().alias(alias("made")), &Monitor::none(), write).unwrap();
    assert_eq!(image.fingerprint, fingerprint("made"));
    let fail = |sink: &mut (dyn io::Write + Send)| {
        sink.write_all(&unified("half")[..700])?;
        Err(lxd_image::Error::new(ErrorKind::Cancelled, "enough"))
    };
    assert_kind(store.import_written(&ImportOptions::new(), &Monitor::none(), fail), ErrorKind::Cancelled);
    assert_eq!(files(&path).len(), 2);
    assert_clean(&store);
}

#[test]
fn json_equals_the_object_of_the_rest_api() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let image = store
        .import(stream(unified("one")), &ImportOptions::new().alias(alias("a")).file_name("one.tar"), &Monitor::none())
        .unwrap();
    let expected = serde_json::json!({
        "auto_update": false,
        "properties": {"os": "Debian", "release": "12", "tag": "one"},
        "public": false,
        "expires_at": "0001-01-01T00:00:00Z",
        "profiles": [],
        "aliases": [{"name": "a", "description": ""}],
        "architecture": "x86_64",
        "cached": false,
        "filename": "one.tar",
        "fingerprint": fingerprint("one"),
        "size": image.size,
        "type": "container",
        "created_at": "2023-11-14T22:13:20Z",
        "last_used_at": "0001-01-01T00:00:00Z",
        "uploaded_at": "2025-06-15T15:06:40Z",
    });
    assert_eq!(serde_json::to_value(&image).unwrap(), expected);
}
