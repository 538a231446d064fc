//! The catalog on PostgreSQL, against a private server, pgbouncer, and a proxy that breaks connections.
//!
//! Where PostgreSQL is missing, a test says so and passes, unless `LXD_IMAGE_REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;
mod commits;
mod full_disk;
#[path = "../it/store/mounted.rs"]
mod mounted;
mod proxy;
mod rows;
mod server;
mod version;
mod writers;

use lxd_image::Fingerprint;
use lxd_image::format::{ImageForm, ImageType};
use lxd_image::metadata::Architecture;
use lxd_image::store::{Catalog, ImageObjects, PostgresOptions, StoredImage, conformance};

use cluster::{Bouncer, shared};

/// A container image with few fields set.
pub(crate) fn sample(content: impl AsRef<[u8]>) -> StoredImage {
    let mut image = StoredImage::new(Fingerprint::of(content.as_ref()), ImageType::Container, Architecture::X86_64);
    image.objects = ImageObjects::new(&image.fingerprint, ImageForm::Unified);
    image
}

#[test]
fn catalog_conforms() {
    let Some(cluster) = shared() else { return };
    conformance::catalog(&cluster.catalog()).unwrap();
}

#[test]
fn shared_records_conform() {
    let Some(cluster) = shared() else { return };
    conformance::shared_records(cluster.catalog().shared_records().unwrap()).unwrap();
}

#[test]
fn catalog_behind_pgbouncer_in_transaction_mode_conforms() {
    let Some(cluster) = shared() else { return };
    let Some(bouncer) = Bouncer::start(cluster) else { return };
    let url = cluster.tcp_url(&cluster.database(), bouncer.port);
    let catalog = lxd_image::store::PostgresCatalog::init(&url, "store-1", &PostgresOptions::new()).unwrap();
    conformance::catalog(&catalog).unwrap();
    conformance::shared_records(catalog.shared_records().unwrap()).unwrap();
}
