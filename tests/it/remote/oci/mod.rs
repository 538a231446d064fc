//! Registries: one on loopback that misbehaves on purpose, and Debian's `docker-registry` with `skopeo` beside it.

mod fake;
mod hostile;
#[cfg(feature = "cli")]
mod killing;
mod layers;
#[cfg(feature = "cli")]
mod peers;
mod uploads;

use lxd_image::remote::{OciLogin, OciRegistry, RetryPolicy};
use lxd_image::store::{ImportOptions, Store, StoredImage};

use super::server::Server;
use crate::store::{Scratch, alias, metadata, stream, unified_with};
use lxd_image::Monitor;

/// A client of a test's server, which waits for nothing between its tries.
fn registry(server: &Server) -> OciRegistry {
    registry_as(server, &OciLogin::Anonymous)
}

fn registry_as(server: &Server, login: &OciLogin) -> OciRegistry {
    let options = server.options().retry(RetryPolicy::new().tries(3).sleep(|_| {}));
    OciRegistry::new(options, &server.url("/"), login).unwrap()
}

fn store(scratch: &Scratch) -> Store {
    Store::open(scratch.join("store")).unwrap()
}

/// An image with a file of this size in the store.
fn import_sized(store: &Store, tag: &str, bytes: usize) -> StoredImage {
    let content: Vec<u8> = (0..bytes).map(|at| (at * 7 % 251) as u8).collect();
    let image = unified_with(&metadata(tag, ""), &content);
    store.import(stream(image), &ImportOptions::new().alias(alias(tag)), &Monitor::none()).unwrap()
}
