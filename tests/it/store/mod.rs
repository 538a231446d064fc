//! The local image store: what the lifecycle of an image promises, and what faults must not break.
//! Images here are a few hundred bytes; what matters is the order of things around them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub(crate) mod aliases;
#[cfg(feature = "cli")]
mod cli;
mod concurrency;
#[cfg(feature = "conformance")]
mod conforming;
mod damage;
mod described;
mod export;
mod faults;
mod filters;
mod full_disk;
mod habits;
mod killing;
mod layouts;
mod lifecycle;
mod mounted;
mod opening;
mod options;
mod orders;
mod pruning;
mod refreshing;
mod repairing;
mod replacing;
mod sharing;
mod simulation;
mod tar;

#[cfg(feature = "server")]
pub(crate) use mounted::Mounted;
#[cfg(feature = "remote")]
pub(crate) use sharing::Meddling;
pub(crate) use tar::member;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use lxd_image::format::{ImageSource, Input};
use lxd_image::metadata::ImageType;
use lxd_image::store::{Alias, AliasTarget, CheckOptions, ImportOptions, Store, StoreOptions, StoredImage};
use lxd_image::{Error, ErrorKind, Fingerprint, Monitor};

/// A directory that goes when the test ends.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lxd-image-store-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn metadata(tag: &str, rest: &str) -> String {
    format!(
        "architecture: amd64\ncreation_date: 1700000000\nproperties:\n  os: Debian\n  release: \"12\"\n  tag: {tag}\n{rest}"
    )
}

/// A unified image in an uncompressed tar; another `tag` makes another image.
pub(crate) fn unified(tag: &str) -> Vec<u8> {
    unified_with(&metadata(tag, ""), tag.as_bytes())
}

pub(crate) fn unified_with(metadata: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    member(&mut out, "metadata.yaml", b'0', metadata.as_bytes());
    member(&mut out, "rootfs/", b'5', b"");
    member(&mut out, "rootfs/tag", b'0', content);
    out.resize(out.len() + 1024, 0);
    out
}

/// The metadata and the rootfs of a split image.
pub(crate) fn split(tag: &str) -> (Vec<u8>, Vec<u8>) {
    split_with(tag, tag.as_bytes())
}

/// The same with other content of its only file.
pub(crate) fn split_with(tag: &str, content: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut meta, mut rootfs) = (Vec::new(), Vec::new());
    member(&mut meta, "metadata.yaml", b'0', metadata(tag, "").as_bytes());
    meta.resize(meta.len() + 1024, 0);
    member(&mut rootfs, "etc/", b'5', b"");
    member(&mut rootfs, "etc/tag", b'0', content);
    rootfs.resize(rootfs.len() + 1024, 0);
    (meta, rootfs)
}

pub(crate) fn stream(bytes: impl Into<Vec<u8>>) -> ImageSource {
    ImageSource::unified(Input::stream(Cursor::new(bytes.into())))
}

pub(crate) fn split_stream(tag: &str) -> ImageSource {
    let (meta, rootfs) = split(tag);
    ImageSource::split(Input::stream(Cursor::new(meta)), Input::stream(Cursor::new(rootfs)))
}

pub(crate) fn alias(name: &str) -> Alias {
    Alias::new(name).unwrap()
}

pub(crate) fn import(store: &Store, tag: &str, aliases: &[&str]) -> StoredImage {
    let options = aliases.iter().fold(ImportOptions::new(), |options, name| options.alias(alias(name)));
    store.import(stream(unified(tag)), &options, &Monitor::none()).unwrap()
}

pub(crate) fn fingerprint(tag: &str) -> Fingerprint {
    Fingerprint::of(&unified(tag))
}

/// A clock that stands where it is put.
#[derive(Clone)]
pub(crate) struct Clock(Arc<AtomicI64>);

pub(crate) const NOW: i64 = 1_750_000_000;
pub(crate) const DAY: i64 = 86_400;

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW)))
    }

    pub(crate) fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    pub(crate) fn options(&self) -> StoreOptions {
        let clock = Arc::clone(&self.0);
        StoreOptions::new().clock(move || clock.load(Ordering::Relaxed))
    }
}

#[track_caller]
pub(crate) fn assert_kind<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error
}

/// What an alias of a container points to.
pub(crate) fn container(fingerprint: Fingerprint) -> AliasTarget {
    AliasTarget::new(fingerprint, ImageType::Container)
}

/// The file that holds an image, or the metadata of a split one.
pub(crate) fn blob(store: &Path, image: &StoredImage) -> PathBuf {
    store.join("blobs").join(image.objects.image.as_str())
}

#[track_caller]
pub(crate) fn assert_clean(store: &Store) {
    let report = store.check(&CheckOptions::new(), &Monitor::none()).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

/// The files of a store, but for its catalog: what is there once everything has settled.
pub(crate) fn files(store: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for area in ["blobs", "staging", "quarantine"] {
        for entry in fs::read_dir(store.join(area)).unwrap() {
            found.push(format!("{area}/{}", entry.unwrap().file_name().to_string_lossy()));
        }
    }
    found.retain(|name| name != "blobs/store-id");
    found.sort();
    found
}

pub(crate) fn reads(store: &Store, fingerprint: &Fingerprint) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.export_to(fingerprint, &mut bytes, &Monitor::none()).unwrap();
    bytes
}
