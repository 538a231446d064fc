//! Stores whose parts are named by a TOML file, and moving images from one store to another.

use lxd_image::Monitor;
use lxd_image::store::StoreDescription;

use super::*;

/// A store with its catalog and its blobs in different directories.
struct Described {
    scratch: Scratch,
}

impl Described {
    fn new() -> Self {
        let scratch = Scratch::new();
        fs::write(scratch.join("store.toml"), "catalog = \"rows/images.sqlite\"\nblobs = \"bytes\"\n").unwrap();
        Self { scratch }
    }

    fn file(&self) -> PathBuf {
        self.scratch.join("store.toml")
    }

    fn open(&self) -> Store {
        Store::open(self.file()).unwrap()
    }
}

#[track_caller]
fn refused(text: &str, kind: ErrorKind, words: &str) {
    let scratch = Scratch::new();
    fs::write(scratch.join("store.toml"), text).unwrap();
    let error = Store::open(scratch.join("store.toml")).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn paths_of_a_description_start_at_its_directory() {
    let described = Described::new();
    import(&described.open(), "one", &["debian/12"]);
    assert!(described.scratch.join("rows/images.sqlite").exists());
    assert!(described.scratch.join("bytes/blobs").exists());
}

#[test]
fn described_store_keeps_its_images_from_one_opening_to_the_next() {
    let described = Described::new();
    let image = import(&described.open(), "one", &["debian/12"]);
    assert_eq!(described.open().resolve("debian/12").unwrap().fingerprint, image.fingerprint);
}

#[test]
fn unknown_key_of_a_description_is_named_with_its_line() {
    refused("catalog = 'a'\nblobs = 'b'\nblob = 'c'\n", ErrorKind::Malformed, "in line 3");
}

#[test]
fn description_without_blobs_is_malformed() {
    refused("catalog = 'a'\n", ErrorKind::Malformed, "blobs");
}

#[test]
fn unknown_engine_is_unsupported() {
    refused("catalog = 'mysql://host/db'\nblobs = 'b'\n", ErrorKind::Unsupported, "mysql");
    refused("catalog = 'a'\nblobs = 'ftp://host/b'\n", ErrorKind::Unsupported, "ftp");
}

#[test]
fn password_in_a_description_is_in_no_error_and_no_answer() {
    let scratch = Scratch::new();
    let file = scratch.join("store.toml");
    fs::write(&file, "catalog = 'postgresql://user:sesame@host/db'\nblobs = 'b'\n").unwrap();
    let description = StoreDescription::read(&file).unwrap();
    assert!(!description.catalog().contains("sesame"), "{}", description.catalog());
    fs::write(&file, "catalog = 'postgresql://user:sesame@host/db\nblobs = 'b'\n").unwrap();
    let error = StoreDescription::read(&file).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
}

#[test]
fn missing_description_is_not_made_into_a_directory() {
    let scratch = Scratch::new();
    let error = Store::open(scratch.join("store.toml")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!scratch.join("store.toml").exists());
}

#[test]
fn described_store_is_not_created_where_that_was_not_allowed() {
    let described = Described::new();
    let error = StoreOptions::new().create(false).open(described.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!described.scratch.join("bytes").exists());
}

#[test]
fn blobs_of_another_store_are_refused() {
    let (described, other) = (Described::new(), Described::new());
    import(&described.open(), "one", &[]);
    import(&other.open(), "two", &[]);
    fs::remove_dir_all(described.scratch.join("bytes")).unwrap();
    fs::rename(other.scratch.join("bytes"), described.scratch.join("bytes")).unwrap();
    let error = Store::open(described.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.to_string().contains("different stores"), "{error}");
}

#[test]
fn blobs_that_are_gone_are_not_made_anew_under_a_catalog_with_images() {
    let described = Described::new();
    import(&described.open(), "one", &[]);
    fs::rename(described.scratch.join("bytes"), described.scratch.join("elsewhere")).unwrap();
    let error = Store::open(described.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(!described.scratch.join("bytes").exists());
}

#[test]
fn lost_catalog_is_refused_until_it_is_repaired() {
    let described = Described::new();
    import(&described.open(), "one", &["debian/12"]);
    fs::remove_dir_all(described.scratch.join("rows")).unwrap();
    let error = Store::open(described.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

#[test]
fn repair_rebuilds_a_lost_catalog_with_its_aliases() {
    let described = Described::new();
    let image = import(&described.open(), "one", &["debian/12"]);
    fs::remove_dir_all(described.scratch.join("rows")).unwrap();
    Store::repair(described.file(), &StoreOptions::new(), &CheckOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(described.open().resolve("debian/12").unwrap().fingerprint, image.fingerprint);
}

#[test]
fn creation_that_stopped_after_the_catalog_is_completed() {
    let described = Described::new();
    drop(described.open());
    fs::remove_dir_all(described.scratch.join("bytes")).unwrap();
    import(&described.open(), "one", &[]);
}

/// The row of an image without what belongs to one store.
fn row(image: &StoredImage) -> StoredImage {
    let mut row = image.clone();
    row.objects = Default::default();
    row
}

#[test]
fn migration_keeps_every_field_of_an_image() {
    let (described, directory) = (Described::new(), Scratch::new());
    let source = Store::open(directory.join("store")).unwrap();
    let image = import(&source, "one", &["debian/12", "stable"]);
    source.edit(&image.fingerprint, &lxd_image::store::Edit::new().public(true), None).unwrap();
    source.mark_used(&image.fingerprint).unwrap();
    described.open().migrate_from(&source, &Monitor::none()).unwrap();
    let (before, after) =
        (source.image(&image.fingerprint).unwrap(), described.open().image(&image.fingerprint).unwrap());
    assert_eq!(row(&after), row(&before));
}

#[test]
fn second_migration_copies_nothing_that_is_there() {
    let (described, directory) = (Described::new(), Scratch::new());
    let source = Store::open(directory.join("store")).unwrap();
    import(&source, "one", &[]);
    described.open().migrate_from(&source, &Monitor::none()).unwrap();
    import(&source, "two", &[]);
    let report = described.open().migrate_from(&source, &Monitor::none()).unwrap();
    assert_eq!((report.copied, report.present), (1, 1));
}

#[test]
fn damaged_image_is_reported_and_does_not_stop_a_migration() {
    let (described, directory) = (Described::new(), Scratch::new());
    let path = directory.join("store");
    let source = Store::open(&path).unwrap();
    let (bad, good) = (import(&source, "one", &[]), import(&source, "two", &[]));
    let file = path.join("blobs").join(bad.objects.image.to_string());
    let mut bytes = fs::read(&file).unwrap();
    bytes[600] ^= 1;
    fs::write(&file, bytes).unwrap();
    let report = described.open().migrate_from(&source, &Monitor::none()).unwrap();
    assert_eq!(report.failed.iter().map(|(image, _)| image.clone()).collect::<Vec<_>>(), [bad.fingerprint.to_string()]);
    described.open().image(&good.fingerprint).unwrap();
}

#[test]
fn alias_that_the_target_has_for_another_image_is_recorded_as_left_out() {
    let (described, directory) = (Described::new(), Scratch::new());
    let source = Store::open(directory.join("store")).unwrap();
    import(&source, "one", &["debian/12"]);
    let there = import(&described.open(), "two", &["debian/12"]);
    let monitor = Monitor::none();
    described.open().migrate_from(&source, &monitor).unwrap();
    assert_eq!(described.open().resolve("debian/12").unwrap().fingerprint, there.fingerprint);
    assert_eq!(monitor.omissions().iter().count(), 1);
}
