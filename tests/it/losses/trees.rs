//! Trees on disk with what an image cannot hold, through what packs them.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use lxd_image::format::{ImageForm, PackOptions, Rootfs, RootfsFormat, pack, pack_to};
use lxd_image::store::{ImportOptions, Store};
use lxd_image::{Monitor, Omissions};
use rustix::fs as sys;

use super::Told;
use crate::cli::run;
use crate::format::Place;
use crate::format::forge::METADATA;

/// What holds it.
enum Held {
    BySquashFs,
    ByTar,
    Nowhere,
}

struct Tree {
    name: &'static str,
    /// Fills the tree; false where this machine cannot.
    fill: fn(&Path) -> bool,
    told: Told,
    held: Held,
}

const TREES: &[Tree] = &[
    Tree {
        name: "a socket",
        fill: |root| UnixListener::bind(root.join("run.sock")).is_ok(),
        told: Told { path: "run.sock", words: &["socket"] },
        held: Held::BySquashFs,
    },
    Tree {
        name: "a time after 2106",
        fill: |root| {
            fs::write(root.join("late"), "").unwrap();
            let time = sys::Timespec { tv_sec: 5_000_000_000, tv_nsec: 0 };
            let times = sys::Timestamps { last_access: time, last_modification: time };
            let set = sys::utimensat(sys::CWD, root.join("late"), &times, sys::AtFlags::empty());
            // Some file systems end earlier, without a word.
            set.is_ok() && sys::lstat(root.join("late")).unwrap().st_mtime == 5_000_000_000
        },
        told: Told { path: "late", words: &["modification time"] },
        held: Held::ByTar,
    },
    Tree {
        name: "an attribute that is taken only when it is asked for",
        fill: |root| {
            fs::write(root.join("layer"), "").unwrap();
            let flags = sys::XattrFlags::empty();
            // Only root may.
            sys::setxattr(root.join("layer"), "trusted.overlay.opaque", b"y", flags).is_ok()
        },
        told: Told { path: "layer", words: &["trusted.overlay.opaque"] },
        held: Held::Nowhere,
    },
];

/// The ways into an image: whether the rootfs is a SquashFS, the call, and the command.
type Way = (&'static str, bool, fn(&Place, &Monitor), &'static [&'static str]);

fn packing() -> PackOptions {
    PackOptions::from_metadata_bytes(METADATA.into(), &Default::default()).unwrap()
}

fn rootfs(place: &Place) -> Rootfs {
    Rootfs::Directory(place.at("instance/rootfs"))
}

const WAYS: &[Way] = &[
    (
        "pack to one file",
        false,
        |place, monitor| drop(pack(&rootfs(place), place.at("one"), &packing(), monitor).unwrap()),
        &["pack", "instance/rootfs", "one-too.tar.zst", "--metadata", "instance/metadata.yaml"],
    ),
    (
        "pack to a stream",
        false,
        |place, monitor| drop(pack_to(&rootfs(place), std::io::sink(), &packing(), monitor).unwrap()),
        &["pack", "instance/rootfs", "-", "--metadata", "instance/metadata.yaml"],
    ),
    (
        "pack to SquashFS",
        true,
        |place, monitor| {
            let options = packing().form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
            pack(&rootfs(place), place.at("two"), &options, monitor).unwrap();
        },
        &[
            "pack",
            "instance/rootfs",
            "two-too.tar.zst",
            "--metadata",
            "instance/metadata.yaml",
            "--split",
            "--rootfs-format",
            "squashfs",
        ],
    ),
    (
        "publish",
        false,
        |place, monitor| {
            let store = Store::open(place.at("published")).unwrap();
            let options = ImportOptions::new();
            store.publish(&rootfs(place), &packing(), &options, monitor).unwrap();
        },
        &["--store", "store", "publish", "instance"],
    ),
];

/// What one way leaves untold of one tree.
fn check(tree: &Tree) -> Vec<String> {
    let place = Place::new();
    let root = place.directory("instance/rootfs");
    place.write("instance/metadata.yaml", METADATA);
    if !(tree.fill)(&root) {
        eprintln!("not done: this machine has no tree with {}", tree.name);
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (way, squashfs, call, command) in WAYS {
        let monitor = Monitor::none();
        call(&place, &monitor);
        let ran = run(&place, command);
        assert_eq!(ran.status, 0, "{command:?}: {}", ran.err);
        let held = match tree.held {
            Held::BySquashFs => *squashfs,
            Held::ByTar => !squashfs,
            Held::Nowhere => false,
        };
        let record: Omissions = monitor.omissions();
        if held && (tree.told.is_in(&record) || tree.told.is_on(&ran.err)) {
            faults.push(format!("{} is held by {way}, and a loss is told: {record:?} {}", tree.name, ran.err));
        }
        if !held && !tree.told.is_in(&record) {
            faults.push(format!("{} through {way} is not in the record: {record:?}", tree.name));
        }
        if !held && !tree.told.is_on(&ran.err) {
            faults.push(format!("{} through {way} is not on standard error: {}", tree.name, ran.err));
        }
    }
    faults
}

#[test]
fn packing_tells_of_each_thing_in_a_tree_that_it_leaves_out() {
    let faults: Vec<String> = TREES.iter().flat_map(check).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
