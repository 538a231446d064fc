//! Trees of static files, and mirrors: what is listed is there, at every moment, and others can read it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cli;
mod deltas;
mod killing;
mod lxd;
pub(crate) mod mirroring;
pub(crate) mod peers;
mod trees;

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lxd_image::format::{ImageSource, Input};
use lxd_image::simplestreams::{AddOptions, Tree, TreeOptions, TreeReport};
use lxd_image::{Error, ErrorKind, Fingerprint, Monitor};

use crate::store::{NOW, split, unified};

/// The tree, its clock standing where it is put.
fn tree(at: &Path) -> (Tree, Arc<AtomicI64>) {
    let clock = Arc::new(AtomicI64::new(NOW));
    let shown = Arc::clone(&clock);
    (TreeOptions::new().clock(move || shown.load(Ordering::Relaxed)).create(at).unwrap(), clock)
}

fn input(bytes: Vec<u8>) -> Input {
    Input::stream(Cursor::new(bytes))
}

fn split_source(tag: &str) -> ImageSource {
    let (meta, rootfs) = split(tag);
    ImageSource::split(input(meta), input(rootfs))
}

fn split_fingerprint(tag: &str) -> Fingerprint {
    let (meta, rootfs) = split(tag);
    Fingerprint::of(&[meta, rootfs].concat())
}

/// Adds the unified image of a tag in a release of that name.
fn add(tree: &Tree, tag: &str) -> Fingerprint {
    let options = AddOptions::new().property("release", tag).unwrap();
    tree.lock().unwrap().add(ImageSource::unified(input(unified(tag))), &options, &Monitor::none()).unwrap().fingerprint
}

fn add_split(tree: &Tree, tag: &str) -> Fingerprint {
    let options = AddOptions::new().property("release", tag).unwrap();
    tree.lock().unwrap().add(split_source(tag), &options, &Monitor::none()).unwrap().fingerprint
}

#[track_caller]
fn failed<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.err().expect("this must fail");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

fn verify(tree: &Tree) -> TreeReport {
    tree.verify(&Default::default(), &Monitor::none()).unwrap()
}

#[track_caller]
fn assert_clean(tree: &Tree) {
    let report = verify(tree);
    assert!(report.is_clean(), "{:?}", report.findings);
}

/// The fingerprints that a tree lists, sorted.
fn listed(tree: &Tree) -> Vec<Fingerprint> {
    let mut found: Vec<_> = tree.listing().unwrap().images().iter().map(|image| image.fingerprint).collect();
    found.sort();
    found
}

/// The files of images in a tree.
fn stored(at: &Path) -> Vec<String> {
    let entries = fs::read_dir(at.join("images")).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    found
}

fn sorted<const N: usize>(mut all: [Fingerprint; N]) -> Vec<Fingerprint> {
    all.sort();
    all.to_vec()
}
