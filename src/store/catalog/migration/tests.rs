#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::format::ImageType;
use crate::metadata::Architecture;
use crate::progress::{Cancel, Monitor};
use crate::store::catalog::{Catalog, ImageQuery, SqliteCatalog};
use crate::store::lock::StoreLock;

/// The catalog of layout 1 of the store `id`: a unified container's image with two aliases, and a
/// split one of a machine.
struct Old {
    directory: PathBuf,
}

impl Old {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("lxd-image-migration-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let old = Self { directory };
        let connection = Connection::open(old.path()).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch(OLD_TABLES).unwrap();
        connection.execute_batch(schema::STORE_TABLE).unwrap();
        connection.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let (container, machine, gone) = (container(), machine(), gone());
        connection
            .execute_batch(&format!(
                "INSERT INTO store VALUES ('id');
                 INSERT INTO image VALUES ('{container}', 'container', 'x86_64', 10, NULL, 1, NULL, 3, NULL, 1, 0, 0,
                     'a.tar', NULL, NULL, '{{\"os\":\"Debian\",\"a b\":\"ü\"}}', '{{}}', 26);
                 INSERT INTO image VALUES ('{machine}', 'virtual-machine', 'riscv64', 10, 7, 1, 2, 3, 4, 0, 1, 1,
                     'a.tar', 'b.img', '{{\"server\":\"s\"}}', '{{}}', '{{\"os\":\"Debian\"}}', 2);
                 INSERT INTO alias VALUES ('b', '{container}', 'what for'), ('a', '{container}', ''), ('vm', '{machine}', '');
                 INSERT INTO unsettled VALUES ('{container}'), ('{gone}'), ('no fingerprint');"
            ))
            .unwrap();
        old
    }

    fn path(&self) -> PathBuf {
        self.directory.join("catalog.sqlite")
    }

    fn execute(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn open(&self, read_only: bool) -> Result<SqliteCatalog> {
        let lock = StoreLock::unlocked(&self.directory).unwrap();
        SqliteCatalog::open(&self.path(), "id", (Duration::from_secs(5), &Cancel::new()), read_only, lock)
    }

    fn version(&self) -> i64 {
        schema::versions(&Connection::open(self.path()).unwrap()).unwrap().1
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn container() -> Fingerprint {
    Fingerprint::of(b"container")
}

fn machine() -> Fingerprint {
    Fingerprint::of(b"machine")
}

fn gone() -> Fingerprint {
    Fingerprint::of(b"gone")
}

fn upgraded(name: &str) -> (Old, SqliteCatalog) {
    let old = Old::new(name);
    SqliteCatalog::upgrade(&old.path(), "id").unwrap();
    let catalog = old.open(false).unwrap();
    (old, catalog)
}

#[test]
fn images_keep_all_that_was_known_and_get_their_old_keys() {
    let (_old, catalog) = upgraded("images");
    let image = catalog.image(&machine()).unwrap().unwrap();
    let [first, rootfs, sidecar] = BlobKey::legacy(&machine());
    assert_eq!((image.image_type, image.architecture), (ImageType::VirtualMachine, Architecture::Riscv64));
    assert_eq!((image.size, image.rootfs_size, image.last_used_at, image.revision), (10, Some(7), Some(4), 2));
    assert_eq!((image.public, image.auto_update, image.cached), (false, true, true));
    assert_eq!(
        (image.objects.image, image.objects.rootfs, image.objects.sidecar),
        (first, Some(rootfs), Some(sidecar))
    );
    assert_eq!(image.original_properties.get("os"), Some("Debian"));
    assert_eq!(image.source.unwrap().server, "s");
}

#[test]
fn unified_image_gets_no_key_of_a_rootfs() {
    let (_old, catalog) = upgraded("unified");
    assert_eq!(catalog.image(&container()).unwrap().unwrap().objects.rootfs, None);
}

#[test]
fn aliases_get_the_type_of_their_image() {
    let (_old, catalog) = upgraded("aliases");
    let (alias, target) = catalog.alias("b", ImageType::Container).unwrap().unwrap();
    assert_eq!((alias.description.as_str(), target.fingerprint), ("what for", container()));
    assert_eq!(catalog.alias("vm", ImageType::VirtualMachine).unwrap().unwrap().1.fingerprint, machine());
    assert!(catalog.alias("vm", ImageType::Container).unwrap().is_none());
}

#[test]
fn images_are_found_by_property_and_sorted_by_alias() {
    let (_old, catalog) = upgraded("search");
    let query = ImageQuery::new().property("a b", "ü");
    assert_eq!(catalog.fingerprints(&query).unwrap().0, [container()]);
    let sorted = catalog.fingerprints(&ImageQuery::new().order(crate::store::catalog::Order::Alias)).unwrap().0;
    assert_eq!(sorted, [container(), machine()]);
}

#[test]
fn unsettled_image_that_is_there_gets_a_sidecar_to_be_written() {
    let (_old, catalog) = upgraded("sidecar");
    let key = BlobKey::new(format!("{}.1a.json", container())).unwrap();
    let note = catalog.object(&key).unwrap().unwrap();
    assert_eq!((note.fingerprint, note.state), (container(), ObjectState::Sidecar { revision: 26 }));
}

#[test]
fn unsettled_image_that_is_gone_leaves_dead_objects() {
    let (_old, catalog) = upgraded("dead");
    for key in BlobKey::legacy(&gone()) {
        let note = catalog.object(&key).unwrap().unwrap();
        assert_eq!((note.fingerprint, note.state), (gone(), ObjectState::Dead { delete_after: 0 }));
    }
    assert_eq!(catalog.objects(None, 100).unwrap().len(), 4);
}

#[test]
fn upgraded_catalog_is_whole() {
    let (_old, catalog) = upgraded("whole");
    assert_eq!(catalog.check(&Monitor::none()).unwrap(), Vec::<String>::new());
}

#[test]
fn upgraded_catalog_has_the_tables_of_a_new_one() {
    let (old, _catalog) = upgraded("tables");
    let fresh = old.directory.join("fresh.sqlite");
    SqliteCatalog::create(&fresh, "id").unwrap();
    let tables = |path: &Path| -> Vec<(String, Option<String>)> {
        let connection = Connection::open(path).unwrap();
        let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(std::result::Result::unwrap).collect()
    };
    assert_eq!(tables(&old.path()), tables(&fresh));
}

#[test]
fn upgrade_of_an_upgraded_catalog_changes_nothing() {
    let (old, catalog) = upgraded("again");
    let before = catalog.images(&ImageQuery::new()).unwrap().images;
    SqliteCatalog::upgrade(&old.path(), "id").unwrap();
    assert_eq!(catalog.images(&ImageQuery::new()).unwrap().images, before);
}

#[test]
fn newer_layout_is_refused_with_both_numbers() {
    let old = Old::new("newer");
    old.execute("PRAGMA user_version = 3");
    let error = SqliteCatalog::upgrade(&old.path(), "id").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("version 3") && error.message().contains("version 2"), "{error}");
}

#[test]
fn catalog_of_another_store_is_refused() {
    let old = Old::new("foreign");
    assert_eq!(SqliteCatalog::upgrade(&old.path(), "other").unwrap_err().kind(), ErrorKind::Malformed);
    assert_eq!(old.version(), 1);
}

#[test]
fn upgrade_that_fails_leaves_the_old_layout() {
    let old = Old::new("fails");
    // Only the last step meets it.
    old.execute("ALTER TABLE unsettled RENAME TO elsewhere; CREATE VIEW unsettled AS SELECT * FROM elsewhere");
    assert!(SqliteCatalog::upgrade(&old.path(), "id").is_err());
    assert_eq!(old.version(), 1);
    let connection = Connection::open(old.path()).unwrap();
    let images: i64 = connection.query_row("SELECT count(*) FROM image", [], |row| row.get(0)).unwrap();
    assert_eq!(images, 2);
}

#[test]
fn old_layout_is_refused_for_writing_before_it_is_upgraded() {
    let old = Old::new("writing");
    assert_eq!(old.open(false).err().map(|error| error.kind()), Some(ErrorKind::Unsupported));
}

#[test]
fn old_layout_can_be_read_without_a_change() {
    let old = Old::new("reading");
    let catalog = old.open(true).unwrap();
    let page = catalog.images(&ImageQuery::new().property("os", "Debian")).unwrap();
    assert_eq!(page.images.iter().map(|image| image.fingerprint).collect::<Vec<_>>(), [container()]);
    assert_eq!(page.images[0].aliases.len(), 2);
    assert_eq!(old.version(), 1);
}

#[test]
fn copy_of_an_old_layout_refuses_changes() {
    let old = Old::new("refuses");
    let error = old.open(true).unwrap().write(&mut |_| Ok(())).unwrap_err();
    assert_eq!(error.message(), "the store was opened for reading only");
    assert_eq!(error.file(), Some(old.path().as_path()));
}

#[test]
fn old_layout_of_another_store_is_not_read() {
    let old = Old::new("foreign-reading");
    old.execute("UPDATE store SET id = 'other'");
    assert_eq!(old.open(true).err().map(|error| error.kind()), Some(ErrorKind::Malformed));
}
