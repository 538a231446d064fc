//! A whole store whose bytes are in a bucket.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use lxd_image::format::{
    ImageForm, ImageSource, Input, PackOptions, Rootfs, RootfsFormat, UnpackOptions, VerifyOptions, pack,
};
use lxd_image::store::{
    Alias, BlobStore, CheckOptions, ImportOptions, MemoryCatalog, ObjectBlobs, Scratch, SqliteCatalog, Store,
    StoreOptions,
};
use lxd_image::{Limits, Metadata, Monitor};

use crate::servers::{Server, pattern, prefix, servers};

/// A directory that goes when the test ends.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lxd-image-objects-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("root/etc")).unwrap();
        fs::write(path.join("root/etc/hostname"), "box\n").unwrap();
        fs::write(path.join("root/large"), pattern(3 << 20, 1)).unwrap();
        Self(path)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Packs the small tree in one form, and returns the files.
    pub(crate) fn image(&self, name: &str, form: ImageForm, rootfs: RootfsFormat) -> Vec<PathBuf> {
        let options = PackOptions::new(Metadata::new("x86_64", 1_700_000_000).unwrap()).form(form);
        let options = if form == ImageForm::Split { options.rootfs_format(rootfs) } else { options };
        pack(&Rootfs::open(self.at("root")).unwrap(), self.at(name), &options, &Monitor::none()).unwrap().files
    }

    pub(crate) fn store(&self, blobs: ObjectBlobs) -> Store {
        let scratch = Scratch::directory(self.at("scratch")).unwrap();
        StoreOptions::new().open_parts(Arc::new(blobs), Arc::new(SqliteCatalog::in_memory().unwrap()), scratch)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn source(files: &[PathBuf]) -> ImageSource {
    let open = |file: &PathBuf| Input::open(file).unwrap();
    match files {
        [one] => ImageSource::unified(open(one)),
        [first, second] => ImageSource::split(open(first), open(second)),
        _ => panic!("one file or two"),
    }
}

/// Imports an image, then verifies, exports and unpacks it from the bucket.
fn journey(server: &Server, name: &str, form: ImageForm, rootfs: RootfsFormat) {
    let place = Place::new(&format!("{}-{name}", server.name));
    let files = place.image(name, form, rootfs);
    let store = place.store(server.blobs());
    let image = store
        .import(source(&files), &ImportOptions::new().alias(Alias::new("box").unwrap()), &Monitor::none())
        .unwrap();
    let opened = store.open_image(&store.resolve("box").unwrap().fingerprint).unwrap();
    let read = opened.open(&Limits::default()).unwrap();
    assert_eq!(read.verify(&VerifyOptions::new(), &Monitor::none()).unwrap().fingerprint, image.fingerprint);
    read.unpack_verified(place.at("unpacked"), &image.fingerprint, &UnpackOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(fs::read(place.at("unpacked/rootfs/large")).unwrap(), pattern(3 << 20, 1));
    fs::create_dir(place.at("exported")).unwrap();
    let exported = store.export(&image.fingerprint, place.at("exported"), &Monitor::none()).unwrap();
    for (file, original) in exported.files.iter().zip(&files) {
        assert!(fs::read(file).unwrap() == fs::read(original).unwrap(), "{}", file.display());
    }
    assert!(store.check(&CheckOptions::new(), &Monitor::none()).unwrap().is_clean());
}

#[test]
fn unified_image_in_a_bucket_is_verified_exported_and_unpacked() {
    for server in servers() {
        journey(server, "unified", ImageForm::Unified, RootfsFormat::Tar);
    }
}

#[test]
fn squashfs_image_in_a_bucket_is_verified_exported_and_unpacked() {
    for server in servers() {
        journey(server, "squashfs", ImageForm::Split, RootfsFormat::SquashFs);
    }
}

#[test]
fn lost_catalog_is_rebuilt_from_the_bucket() {
    for server in servers() {
        let place = Place::new(&format!("{}-rebuilt", server.name));
        let address = prefix();
        let connect = || ObjectBlobs::connect(&address, &server.options().probe(false)).unwrap();
        connect().init("rebuilt").unwrap();
        let options = ImportOptions::new().alias(Alias::new("box").unwrap()).public(true);
        let files = place.image("image", ImageForm::Split, RootfsFormat::SquashFs);
        let image = place.store(connect()).import(source(&files), &options, &Monitor::none()).unwrap();

        let scratch = Scratch::directory(place.at("scratch")).unwrap();
        let empty = StoreOptions::new().open_parts(Arc::new(connect()), Arc::new(MemoryCatalog::new()), scratch);
        let report = empty.check(&CheckOptions::new().repair(true), &Monitor::none()).unwrap();
        assert!(report.unrepaired.is_empty(), "{:?}", report.unrepaired);
        let found = empty.resolve("box").unwrap();
        assert_eq!((found.fingerprint, found.public), (image.fingerprint, true));
    }
}

#[test]
fn deleted_image_outlives_its_row_by_the_grace() {
    for server in servers() {
        let place = Place::new(&format!("{}-deleted", server.name));
        let files = place.image("image", ImageForm::Unified, RootfsFormat::Tar);
        let address = prefix();
        let connect = || ObjectBlobs::connect(&address, &server.options().probe(false)).unwrap();
        connect().init("deleted").unwrap();
        let store = place.store(connect());
        let image = store.import(source(&files), &ImportOptions::new(), &Monitor::none()).unwrap();
        let opened = store.open_image(&image.fingerprint).unwrap();
        store.delete(&image.fingerprint).unwrap();
        assert!(!connect().list(None, 10).unwrap().is_empty());
        opened.open(&Limits::default()).unwrap().verify(&VerifyOptions::new(), &Monitor::none()).unwrap();
    }
}
