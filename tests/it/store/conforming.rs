//! The conformance suites of the store's two traits, run against each implementation here.

use std::sync::Arc;

use lxd_image::store::{
    DirectoryBlobs, DirectoryFiles, Files, MemoryBlobs, MemoryCatalog, Scratch, SqliteCatalog, conformance,
};

use super::simulation::Machine;

#[test]
fn sqlite_catalog_in_memory_conforms() {
    conformance::catalog(&SqliteCatalog::in_memory().unwrap()).unwrap();
}

#[test]
fn sqlite_catalog_in_a_file_conforms() {
    let scratch = super::Scratch::new();
    let path = scratch.join("store");
    drop(super::Store::open(&path).unwrap());
    conformance::catalog(&SqliteCatalog::of_store(&path).unwrap()).unwrap();
}

#[test]
fn memory_catalog_conforms() {
    conformance::catalog(&MemoryCatalog::new()).unwrap();
}

#[test]
fn simulated_catalog_conforms() {
    conformance::catalog(&*Machine::new().catalog()).unwrap();
}

#[test]
fn blobs_on_the_simulated_disk_conform() {
    let files = Machine::new().files();
    conformance::blobs(&DirectoryBlobs::new(Arc::clone(&files)), &Scratch::new(files, "machine")).unwrap();
}

#[test]
fn blobs_in_a_directory_conform() {
    let scratch = super::Scratch::new();
    let files: Arc<dyn Files> = Arc::new(DirectoryFiles::create_or_open(scratch.join("store"), "an id").unwrap());
    conformance::blobs(&DirectoryBlobs::new(Arc::clone(&files)), &Scratch::new(files, "an id")).unwrap();
}

#[test]
fn blobs_in_a_directory_conform_with_scratch_elsewhere() {
    let scratch = super::Scratch::new();
    let files: Arc<dyn Files> = Arc::new(DirectoryFiles::create_or_open(scratch.join("store"), "an id").unwrap());
    let elsewhere = Scratch::directory(scratch.join("scratch")).unwrap();
    conformance::blobs(&DirectoryBlobs::new(files), &elsewhere).unwrap();
}

#[test]
fn blobs_in_memory_conform() {
    conformance::blobs(&MemoryBlobs::new(), &Scratch::in_memory()).unwrap();
}
