//! The conformance suite of the store's two traits, run against each implementation here.

use std::sync::Arc;

use lxd_image::store::{Blobs, SqliteCatalog, conformance};

use super::simulation::Machine;

#[test]
fn the_catalog_in_sqlite_conforms() {
    conformance::catalog(&SqliteCatalog::in_memory().unwrap()).unwrap();
}

#[test]
fn the_simulated_disk_and_catalog_conform() {
    let machine = Machine::new();
    let blobs: Arc<dyn Blobs> = machine.blobs();
    conformance::blobs(&*blobs).unwrap();
    conformance::catalog(&*machine.catalog()).unwrap();
}

#[test]
fn directories_conform() {
    let scratch = super::Scratch::new();
    let path = scratch.join("blobs");
    conformance::blobs(&lxd_image::store::DirectoryBlobs::create_or_open(&path, "an id").unwrap()).unwrap();
}
