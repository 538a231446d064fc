//! Damage: to blobs, sidecars and the catalog; what is found, what is put right, what is said to be lost.

use std::fs;
use std::path::Path;

use lxd_image::store::{CheckOptions, Edit, Finding, ImportOptions, Store, StoreOptions};
use lxd_image::{ErrorKind, Monitor};

use super::*;

fn check(store: &Store) -> Vec<Finding> {
    store.check(&CheckOptions::new(), &Monitor::none()).unwrap().findings
}

fn repair(store: &Store) -> Vec<Finding> {
    store.check(&CheckOptions::new().repair(true), &Monitor::none()).unwrap().findings
}

/// The file of layout 1 for an image.
fn legacy_blob(path: &Path, fingerprint: &Fingerprint) -> std::path::PathBuf {
    path.join("blobs").join(fingerprint.to_string())
}

fn sidecar(path: &Path, image: &StoredImage) -> std::path::PathBuf {
    path.join("blobs").join(image.objects.sidecar.as_ref().unwrap().as_str())
}

#[test]
fn image_with_a_flipped_bit_is_archived_and_not_deleted() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let (bad, good) = (import(&store, "bad", &["a"]), import(&store, "good", &["b"]));
    let file = blob(&path, &bad);
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 4;
    fs::write(&file, &bytes).unwrap();
    let found = check(&store);
    assert!(
        matches!(&found[..], [Finding::Damaged { fingerprint: which, aliases, .. }] if *which == bad.fingerprint && aliases == &["a"])
    );
    assert_eq!(store.images().unwrap().len(), 2, "looking changes nothing");
    assert_eq!(repair(&store), found);
    assert_eq!(store.images().unwrap(), [store.image(&good.fingerprint).unwrap()]);
    assert_eq!(fs::read(path.join("quarantine").join(bad.objects.image.as_str())).unwrap(), bytes);
    assert_clean(&store);
    import(&store, "bad", &["a"]);
    assert_clean(&store);
}

#[test]
fn truncated_replaced_and_missing_blobs_are_found() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let images: Vec<_> = (0..3).map(|number| import(&store, &format!("image-{number}"), &[])).collect();
    let file = |index: usize| blob(&path, &images[index]);
    fs::write(file(0), &unified("image-0")[..512]).unwrap();
    fs::write(file(1), unified("image-9")).unwrap();
    fs::remove_file(file(2)).unwrap();
    let found = repair(&store);
    assert_eq!(found.len(), 3);
    assert!(found.iter().any(
        |finding| matches!(finding, Finding::Missing { fingerprint: which, .. } if *which == images[2].fingerprint)
    ));
    assert!(store.images().unwrap().is_empty());
    assert_clean(&store);
}

#[test]
fn half_of_a_split_image_is_archived() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = store.import(split_stream("one"), &ImportOptions::new(), &Monitor::none()).unwrap();
    fs::remove_file(path.join("blobs").join(image.objects.rootfs.as_ref().unwrap().as_str())).unwrap();
    assert_kind(store.open_image(&image.fingerprint), ErrorKind::Malformed);
    assert_eq!(repair(&store), [Finding::Missing { fingerprint: image.fingerprint, aliases: vec![] }]);
    assert!(path.join("quarantine").join(image.objects.image.as_str()).exists());
    assert_clean(&store);
}

#[test]
fn lost_sidecar_is_rewritten_and_stray_file_archived() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = import(&store, "one", &["a"]);
    let before = store.image(&image.fingerprint).unwrap();
    fs::remove_file(sidecar(&path, &before)).unwrap();
    fs::write(path.join("blobs/letter"), b"dear").unwrap();
    let mut found = repair(&store);
    found.sort_by_key(ToString::to_string);
    assert_eq!(found, [Finding::Stray { name: "letter".into() }, Finding::Sidecar { fingerprint: image.fingerprint }]);
    let after = store.image(&image.fingerprint).unwrap();
    assert!(sidecar(&path, &after).exists());
    assert_eq!((after.aliases, after.properties), (before.aliases, before.properties));
    assert_eq!(fs::read(path.join("quarantine/letter")).unwrap(), b"dear");
    assert_clean(&store);
}

/// A store with an edited image and a split one, and what is known of them.
fn precious(path: &Path) -> Vec<StoredImage> {
    let store = Store::open(path).unwrap();
    let one = import(&store, "one", &["a", "b"]);
    store.edit(&one.fingerprint, &Edit::new().public(true).property("mine", "x").unwrap(), None).unwrap();
    let options = ImportOptions::new().alias(alias("split").described("two files")).cached(true).expires_at(7);
    store.import(split_stream("two"), &options, &Monitor::none()).unwrap();
    store.move_alias(&alias("b"), &store.resolve("split").unwrap().fingerprint).unwrap();
    store.images().unwrap()
}

fn repaired(path: &Path) -> Vec<Finding> {
    Store::repair(path, &StoreOptions::new(), &CheckOptions::new(), &Monitor::none()).unwrap().findings
}

#[test]
fn damaged_catalog_is_refused_and_rebuilt_from_the_images() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("empty", |catalog| fs::write(catalog, b"").unwrap()),
        ("gone", |catalog| fs::remove_file(catalog).unwrap()),
        ("cut", |catalog| {
            let bytes = fs::read(catalog).unwrap();
            fs::write(catalog, &bytes[..3000]).unwrap();
        }),
        ("other", |catalog| fs::write(catalog, b"text".repeat(2000)).unwrap()),
        ("schema", |catalog| {
            let mut bytes = fs::read(catalog).unwrap();
            bytes[100..2000].fill(0x55);
            fs::write(catalog, bytes).unwrap();
        }),
    ];
    for (name, harm) in harms {
        let scratch = Scratch::new();
        let path = scratch.join("store");
        let before = precious(&path);
        harm(&path.join("catalog.sqlite"));
        assert_kind(Store::open(&path), ErrorKind::Malformed);
        let found = repaired(&path);
        assert!(matches!(found[..], [Finding::Catalog { .. }]), "{name}: {found:?}");
        let store = Store::open(&path).unwrap();
        assert_eq!(store.images().unwrap(), before, "{name}");
        assert_clean(&store);
        let aside = fs::read_dir(&path)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"));
        assert_eq!(aside.count(), usize::from(name != "gone"), "{name}: the old file is kept");
    }
}

#[test]
fn catalog_with_damaged_pages_is_found_by_check() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let before = precious(&path);
    let catalog = path.join("catalog.sqlite");
    let mut bytes = fs::read(&catalog).unwrap();
    // The last pages hold rows and indexes; the first ones, the tables' own description.
    let half = bytes.len() / 2;
    bytes[half..].fill(0x55);
    fs::write(&catalog, bytes).unwrap();
    let found = Store::open(&path).and_then(|store| store.check(&CheckOptions::new(), &Monitor::none()));
    match found {
        Ok(report) => assert!(matches!(report.findings[0], Finding::Catalog { .. }), "{report:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Malformed, "{error}"),
    }
    repaired(&path);
    assert_eq!(Store::open(&path).unwrap().images().unwrap(), before);
}

#[test]
fn lost_write_ahead_log_loses_no_image() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = import(&store, "one", &["a"]);
    // As a copy of the store's directory without its log, made while it is in use.
    let copy = scratch.join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["blobs", "staging", "quarantine"] {
        fs::create_dir(copy.join(name)).unwrap();
        for entry in fs::read_dir(path.join(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(name).join(entry.file_name())).unwrap();
        }
    }
    for name in ["catalog.sqlite", "lxd-image-store"] {
        fs::copy(path.join(name), copy.join(name)).unwrap();
    }
    let copied = Store::open(&copy).unwrap();
    assert!(copied.images().unwrap().is_empty());
    assert_eq!(check(&copied), [Finding::Unlisted { fingerprint: image.fingerprint }]);
    assert_eq!(repair(&copied), [Finding::Unlisted { fingerprint: image.fingerprint }]);
    assert_eq!(copied.resolve("a").unwrap(), store.image(&image.fingerprint).unwrap());
    assert_clean(&copied);
}

#[test]
fn unrecoverable_data_is_reported() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let before = precious(&path);
    let one = fingerprint("one");
    fs::remove_file(sidecar(&path, before.iter().find(|image| image.fingerprint == one).unwrap())).unwrap();
    fs::write(path.join("catalog.sqlite"), b"").unwrap();
    fs::write(legacy_blob(&path, &fingerprint("none")), b"not an image").unwrap();
    let found = repaired(&path);
    assert!(
        found
            .iter()
            .any(|finding| matches!(finding, Finding::Lost { message: text } if text.contains(&one.to_string()))),
        "{found:?}"
    );
    assert!(found.iter().any(
        |finding| matches!(finding, Finding::Damaged { fingerprint: which, .. } if *which == fingerprint("none"))
    ));
    let store = Store::open(&path).unwrap();
    assert_eq!(store.images().unwrap().len(), before.len());
    assert!(store.image(&one).unwrap().aliases.is_empty());
    assert_clean(&store);
}

#[test]
fn foreign_file_with_an_images_name_does_not_block_its_import() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let file = legacy_blob(&path, &fingerprint("one"));
    fs::write(&file, b"something else").unwrap();
    assert_eq!(check(&store), [Finding::Unlisted { fingerprint: fingerprint("one") }]);
    import(&store, "one", &[]);
    assert_eq!(fs::read(&file).unwrap(), b"something else");
    assert_eq!(check(&store), [Finding::Stray { name: fingerprint("one").to_string() }]);
    repair(&store);
    assert_eq!(reads(&store, &fingerprint("one")), unified("one"));
    assert_clean(&store);
}

#[test]
fn objects_of_a_lost_row_are_listed_again() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    fs::write(legacy_blob(&path, &fingerprint("one")), unified("one")).unwrap();
    assert!(repair(&store).contains(&Finding::Unlisted { fingerprint: fingerprint("one") }));
    assert_eq!(reads(&store, &fingerprint("one")), unified("one"));
    assert_clean(&store);
}

#[test]
fn catalog_from_a_backup_writes_sidecars_under_new_keys() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let image = import(&Store::open(&path).unwrap(), "one", &["a"]);
    let backup = fs::read(path.join("catalog.sqlite")).unwrap();
    let change = |key: &str| {
        let store = Store::open(&path).unwrap();
        store.edit(&image.fingerprint, &Edit::new().property("key", key).unwrap(), None).unwrap();
    };
    change("before");
    fs::write(path.join("catalog.sqlite"), backup).unwrap();
    change("after");
    let store = Store::open(&path).unwrap();
    repair(&store);
    assert_eq!(store.image(&image.fingerprint).unwrap().properties.get("key"), Some("after"));
    assert_clean(&store);
}

#[test]
fn unreadable_row_is_a_finding_and_hides_no_other() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let (odd, bad) = {
        let store = Store::open(&path).unwrap();
        (import(&store, "odd", &["a"]), import(&store, "bad", &[]))
    };
    fs::write(blob(&path, &bad), b"damaged").unwrap();
    let rows = rusqlite::Connection::open(path.join("catalog.sqlite")).unwrap();
    rows.execute("UPDATE image SET architecture = 'pdp-11' WHERE fingerprint = ?1", [odd.fingerprint.to_string()])
        .unwrap();
    drop(rows);
    let found = check(&Store::open(&path).unwrap());
    let is_row = |finding: &Finding| matches!(finding, Finding::Catalog { message: text } if text.contains("pdp-11"));
    let is_bad =
        |finding: &Finding| matches!(finding, Finding::Damaged { fingerprint: which, .. } if *which == bad.fingerprint);
    assert!(found.iter().any(is_row) && found.iter().any(is_bad), "{found:?}");
    repaired(&path);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.resolve("a").unwrap().fingerprint, odd.fingerprint);
    assert_clean(&store);
}
