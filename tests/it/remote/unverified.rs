//! Remotes that name a fingerprint only after the download, as an OCI registry does: what is refused, and what trust costs.

use std::sync::atomic::{AtomicUsize, Ordering};

use lxd_image::format::ImageSource;
use lxd_image::remote::{CopyOptions, Remote, Resolution, UnverifiedImage, Wanted, copy};
use lxd_image::store::{Store, StoredImage, UpdateSource};
use lxd_image::{Architecture, Error, ErrorKind, Fingerprint, ImageType, Monitor, Result};

use super::failed;
use crate::store::{Scratch, alias, reads, stream, unified};

/// A registry with one image, whose fingerprint it does not know.
struct Registry {
    bytes: Vec<u8>,
    downloads: AtomicUsize,
}

impl Registry {
    fn new(tag: &str) -> Self {
        Self { bytes: unified(tag), downloads: AtomicUsize::new(0) }
    }

    fn downloads(&self) -> usize {
        self.downloads.load(Ordering::Relaxed)
    }

    fn digest(&self) -> Fingerprint {
        Fingerprint::of(&self.bytes)
    }
}

impl Remote for Registry {
    fn source(&self) -> UpdateSource {
        UpdateSource::new("https://registry.example", "oci", "")
    }

    fn list(&self, _: &Monitor) -> Result<Vec<StoredImage>> {
        Err(Error::new(ErrorKind::Unsupported, "a registry has no list"))
    }

    fn locate(&self, _: &Wanted, _: &Monitor) -> Result<Resolution> {
        let image = UnverifiedImage::new("sha256:of-a-manifest", ImageType::Container, Architecture::X86_64);
        Ok(Resolution::after_download(image))
    }

    fn open(&self, _: &StoredImage, _: &Monitor) -> Result<ImageSource> {
        Err(Error::new(ErrorKind::Unsupported, "no image is named by a fingerprint here"))
    }

    fn open_unverified(&self, _: &UnverifiedImage, _: &Monitor) -> Result<ImageSource> {
        self.downloads.fetch_add(1, Ordering::Relaxed);
        Ok(stream(self.bytes.clone()))
    }
}

fn store(scratch: &Scratch) -> Store {
    Store::open(scratch.join("store")).unwrap()
}

#[test]
fn copy_without_trust_is_refused_before_the_download() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let error =
        failed(copy(&registry, "box", &store(&scratch), &CopyOptions::new(), &Monitor::none()), ErrorKind::Unsupported);
    assert!(error.to_string().contains("sha256:of-a-manifest"), "{error}");
    assert_eq!(registry.downloads(), 0);
}

#[test]
fn copy_with_trust_stores_the_image_under_the_digest_of_its_bytes() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let store = store(&scratch);
    let image = copy(
        &registry,
        "box",
        &store,
        &CopyOptions::new().trust_transport(true).alias(alias("mine")),
        &Monitor::none(),
    )
    .unwrap();
    assert_eq!(image.fingerprint, registry.digest());
    assert_eq!(reads(&store, &image.fingerprint), registry.bytes);
    assert_eq!(store.resolve("mine").unwrap().fingerprint, image.fingerprint);
}

#[test]
fn copy_with_trust_records_the_reference_as_the_alias_of_the_source() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let image =
        copy(&registry, "box", &store(&scratch), &CopyOptions::new().trust_transport(true), &Monitor::none()).unwrap();
    let source = image.source.unwrap();
    assert_eq!((&*source.server, &*source.protocol, &*source.alias), ("https://registry.example", "oci", "box"));
}

#[test]
fn copy_of_an_image_that_is_here_adds_its_alias() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let store = store(&scratch);
    let options = CopyOptions::new().trust_transport(true);
    copy(&registry, "box", &store, &options, &Monitor::none()).unwrap();
    copy(&registry, "box", &store, &options.alias(alias("later")), &Monitor::none()).unwrap();
    assert_eq!(store.resolve("later").unwrap().fingerprint, registry.digest());
}

#[test]
fn copy_with_the_expected_fingerprint_needs_no_trust() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let options = CopyOptions::new().expected_fingerprint(registry.digest());
    assert_eq!(
        copy(&registry, "box", &store(&scratch), &options, &Monitor::none()).unwrap().fingerprint,
        registry.digest()
    );
}

#[test]
fn copy_with_another_expected_fingerprint_leaves_the_store_empty() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let store = store(&scratch);
    let options = CopyOptions::new().expected_fingerprint(Fingerprint::of(b"another")).trust_transport(true);
    failed(copy(&registry, "box", &store, &options, &Monitor::none()), ErrorKind::Mismatch);
    assert_eq!(store.images().unwrap().len(), 0);
}

#[test]
fn copy_of_an_expected_image_that_is_here_downloads_nothing() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let store = store(&scratch);
    let options = CopyOptions::new().expected_fingerprint(registry.digest());
    copy(&registry, "box", &store, &options, &Monitor::none()).unwrap();
    copy(&registry, "box", &store, &options, &Monitor::none()).unwrap();
    assert_eq!(registry.downloads(), 1);
}

#[test]
fn auto_update_is_refused() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let options = CopyOptions::new().trust_transport(true).auto_update(true);
    failed(copy(&registry, "box", &store(&scratch), &options, &Monitor::none()), ErrorKind::Unsupported);
}

#[test]
fn get_or_fetch_is_refused() {
    let (scratch, registry) = (Scratch::new(), Registry::new("a"));
    let options = CopyOptions::new().trust_transport(true);
    failed(store(&scratch).get_or_fetch(&registry, "box", &options, &Monitor::none()), ErrorKind::Unsupported);
}

#[test]
fn resolve_is_refused() {
    let registry = Registry::new("a");
    failed(registry.resolve(&Wanted::new("box"), &Monitor::none()), ErrorKind::Unsupported);
}

#[test]
fn remote_that_names_fingerprints_refuses_unverified_downloads() {
    let server =
        lxd_image::remote::Lxd::new(lxd_image::remote::ClientOptions::new(), &"https://127.0.0.1:1".parse().unwrap())
            .unwrap();
    let image = UnverifiedImage::new("x", ImageType::Container, Architecture::X86_64);
    failed(server.open_unverified(&image, &Monitor::none()), ErrorKind::Unsupported);
}
