//! Statements beside images in stores: kept by every catalog, by repairs and migrations, and gone with their image.

use std::fs;
use std::sync::Arc;

use lxd_image::store::{
    Catalog, CheckOptions, ImportOptions, MemoryBlobs, MemoryCatalog, SqliteCatalog, Store, StoreOptions,
};
use lxd_image::trust::{Envelope, Evidence, SecretKey, SignedList, Statement};
use lxd_image::{ErrorKind, Fingerprint, Monitor};
use serde_json::json;

use crate::store::{Scratch, assert_clean, fingerprint, import, stream, unified};

/// A statement about an image, signed by a new key.
pub(super) fn vouch(about: &Fingerprint, key: &SecretKey) -> Envelope {
    let statement = Statement::new("urn:x:tested", json!({"passed": true})).image(about);
    Envelope::sign(&statement, &[key]).unwrap()
}

#[test]
fn statements_are_kept_once_and_go_with_the_image() {
    let scratch = Scratch::new();
    let directory = Store::open(scratch.join("s")).unwrap();
    let catalogs: [Arc<dyn Catalog>; 2] =
        [Arc::new(MemoryCatalog::new()), Arc::new(SqliteCatalog::in_memory().unwrap())];
    let parts = catalogs.into_iter().map(|catalog| {
        let scratch = lxd_image::store::Scratch::in_memory();
        StoreOptions::new().open_parts(Arc::new(MemoryBlobs::new()), catalog, scratch)
    });
    for store in parts.chain([directory]) {
        let image = import(&store, "a", &["a"]);
        let key = SecretKey::generate().unwrap();
        let envelope = vouch(&image.fingerprint, &key);
        assert!(store.statements(&image.fingerprint).unwrap().is_empty());
        store.attach_statements(&image.fingerprint, vec![envelope.clone()]).unwrap();
        let after = store.image(&image.fingerprint).unwrap().revision;
        assert_eq!(after, image.revision + 1);
        store.attach_statements(&image.fingerprint, vec![envelope.clone()]).unwrap();
        assert_eq!(store.image(&image.fingerprint).unwrap().revision, after);
        assert_eq!(store.statements(&image.fingerprint).unwrap(), [envelope]);
        let other = import(&store, "b", &["b"]);
        assert!(store.statements(&other.fingerprint).unwrap().is_empty());
        assert_clean(&store);
        store.delete(&image.fingerprint).unwrap();
        assert_eq!(store.statements(&image.fingerprint).unwrap_err().kind(), ErrorKind::NotFound);
        let again = import(&store, "a", &["a"]);
        assert!(store.statements(&again.fingerprint).unwrap().is_empty());
    }
}

#[test]
fn statement_about_another_image_is_refused() {
    let store = Store::in_memory().unwrap();
    let image = import(&store, "a", &[]);
    let key = SecretKey::generate().unwrap();
    let error = store.attach_statements(&image.fingerprint, vec![vouch(&fingerprint("b"), &key)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let options = ImportOptions::new().evidence(Evidence::new().statements([vouch(&fingerprint("x"), &key)]));
    let error = store.import(stream(unified("c")), &options, &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(store.image(&fingerprint("c")).is_err());
}

#[test]
fn statements_of_one_image_are_bounded_together() {
    let mut limits = lxd_image::Limits::default();
    limits.set("statements", 2500).unwrap();
    let scratch = Scratch::new();
    let store = StoreOptions::new().limits(limits).open(scratch.join("s")).unwrap();
    let image = import(&store, "a", &[]);
    let big = |tag: &str| {
        let statement =
            Statement::new("urn:x:sbom", json!({"tag": tag, "text": "x".repeat(1000)})).image(&image.fingerprint);
        Envelope::sign(&statement, &[&SecretKey::generate().unwrap()]).unwrap()
    };
    store.attach_statements(&image.fingerprint, vec![big("1")]).unwrap();
    let error = store.attach_statements(&image.fingerprint, vec![big("2")]).unwrap_err();
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("statements")));
    assert_eq!(store.statements(&image.fingerprint).unwrap().len(), 1);
}

#[test]
fn rebuilt_catalog_has_the_statements() {
    let scratch = Scratch::new();
    let path = scratch.join("s");
    let key = SecretKey::generate().unwrap();
    let envelope = vouch(&fingerprint("a"), &key);
    {
        let store = Store::open(&path).unwrap();
        let list = SignedList::new("ABCD", Some(7));
        let evidence = Evidence::new().statements([envelope.clone()]).list(list);
        store.import(stream(unified("a")), &ImportOptions::new().evidence(evidence), &Monitor::none()).unwrap();
    }
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(path.join(format!("catalog.sqlite{suffix}")));
    }
    Store::repair(&path, &StoreOptions::new(), &CheckOptions::new(), &Monitor::none()).unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.statements(&fingerprint("a")).unwrap(), [envelope]);
    assert_eq!(store.vouched(&fingerprint("a")).unwrap().list.unwrap().0.key, "ABCD");
    assert_clean(&store);
}

#[test]
fn migration_and_export_take_statements_along() {
    let scratch = Scratch::new();
    let (from, to) = (Store::open(scratch.join("from")).unwrap(), Store::in_memory().unwrap());
    let image = import(&from, "a", &["a"]);
    let envelope = vouch(&image.fingerprint, &SecretKey::generate().unwrap());
    from.attach_statements(&image.fingerprint, vec![envelope.clone()]).unwrap();
    to.migrate_from(&from, &Monitor::none()).unwrap();
    assert_eq!(to.statements(&image.fingerprint).unwrap(), std::slice::from_ref(&envelope));
    fs::create_dir(scratch.join("out")).unwrap();
    let exported = to.export(&image.fingerprint, scratch.join("out"), &Monitor::none()).unwrap();
    let bundle = fs::read(exported.statements.unwrap()).unwrap();
    assert_eq!(Envelope::parse_bundle(&bundle, &lxd_image::Limits::default()).unwrap(), [envelope]);
    // An image without statements has no such file.
    let plain = import(&to, "b", &["b"]);
    assert_eq!(to.export(&plain.fingerprint, scratch.join("out"), &Monitor::none()).unwrap().statements, None);
}

#[test]
fn store_states_every_file_of_a_split_image() {
    let store = Store::in_memory().unwrap();
    let image = store.import(crate::store::split_stream("a"), &ImportOptions::new(), &Monitor::none()).unwrap();
    let statement = store.state(&image.fingerprint, "urn:x:test", json!({}), &Monitor::none()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&statement.to_json().unwrap()).unwrap();
    let (meta, rootfs) = crate::store::split("a");
    let digests: Vec<_> = json["subject"]
        .as_array()
        .unwrap()
        .iter()
        .map(|subject| subject["digest"]["sha256"].as_str().unwrap())
        .collect();
    let expected =
        [image.fingerprint, Fingerprint::of(&meta), Fingerprint::of(&rootfs)].map(|digest| digest.to_string());
    assert_eq!(digests, expected);
}
