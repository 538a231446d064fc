//! Mirrors of a product whose container and virtual machine share their aliases.

use std::collections::BTreeSet;

use lxd_image::remote::{MirrorOptions, MirrorTarget, Mirrored, Remote, RetryPolicy, Simplestreams, mirror};
use lxd_image::simplestreams::Tree;
use lxd_image::store::Store;
use lxd_image::{Fingerprint, ImageType, Monitor};
use serde_json::json;

use super::server::Server;
use super::simplestreams::{Files, item, list, product, serve, split_items};
use crate::store::aliases::disk;
use crate::store::{Scratch, split};

/// Lists one product with a container and a virtual machine, whose metadata is one file; returns both fingerprints.
fn list_both(files: &Files) -> (Fingerprint, Fingerprint) {
    let (mut items, container) = split_items(files, "both");
    let disk = disk();
    let machine = Fingerprint::of(&[&*split("both").0, &*disk].concat());
    items["lxd.tar.xz"]["combined_disk-kvm-img_sha256"] = json!(machine.to_string());
    items["disk-kvm.img"] = item(files, "disk-kvm.img", "both.qcow2", &disk);
    list(files, &json!({"box:1": product(&json!({"20240101": {"items": items}}))}));
    (container, machine)
}

fn remote(server: &Server) -> Simplestreams {
    Simplestreams::new(server.options().retry(RetryPolicy::new().tries(1)), &server.url("")).unwrap()
}

fn mirror_all(server: &Server, target: MirrorTarget<'_>) -> Mirrored {
    let done = mirror(&remote(server), target, &MirrorOptions::new().delete(true), &Monitor::none()).unwrap();
    assert!(done.failed.is_empty() && done.omissions.is_empty(), "{done:?}");
    done
}

#[test]
fn mirror_into_a_store_keeps_both_types_of_a_shared_alias() {
    let files = Files::default();
    let server = serve(&files);
    let (container, machine) = list_both(&files);
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    assert_eq!(mirror_all(&server, MirrorTarget::Store(&store)).copied.len(), 2);
    for name in ["box", "box/1"] {
        let target = |image_type| store.alias_of(name, image_type).unwrap().1.fingerprint;
        assert_eq!((target(ImageType::Container), target(ImageType::VirtualMachine)), (container, machine), "{name}");
    }
}

#[test]
fn second_mirror_of_a_shared_alias_changes_nothing() {
    let files = Files::default();
    let server = serve(&files);
    list_both(&files);
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    mirror_all(&server, MirrorTarget::Store(&store));
    let before = store.aliases().unwrap();
    let again = mirror_all(&server, MirrorTarget::Store(&store));
    assert_eq!((again.copied.len(), again.kept, again.removed.len()), (0, 2, 0));
    assert_eq!(store.aliases().unwrap(), before);
}

#[test]
fn mirror_of_a_mirror_lists_both_types_under_the_shared_alias() {
    let files = Files::default();
    let server = serve(&files);
    let (container, machine) = list_both(&files);
    let scratch = Scratch::new();
    let tree = Tree::create(scratch.join("tree")).unwrap();
    mirror_all(&server, MirrorTarget::Tree(&tree));
    let listing = tree.listing().unwrap();
    let listed: BTreeSet<_> = listing.images().iter().map(|image| image.fingerprint).collect();
    assert_eq!(listed, BTreeSet::from([container, machine]));
    for image in listing.images() {
        assert!(image.aliases.iter().any(|alias| alias == "box"), "{:?}", image.aliases);
    }
}

#[test]
fn alias_of_the_machine_outlives_the_container_that_is_gone() {
    let files = Files::default();
    let server = serve(&files);
    let (container, machine) = list_both(&files);
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    mirror_all(&server, MirrorTarget::Store(&store));
    let (mut items, _) = split_items(&files, "both");
    items["lxd.tar.xz"].as_object_mut().unwrap().remove("combined_squashfs_sha256");
    items.as_object_mut().unwrap().remove("squashfs");
    items["lxd.tar.xz"]["combined_disk-kvm-img_sha256"] = json!(machine.to_string());
    items["disk-kvm.img"] = item(&files, "disk-kvm.img", "both.qcow2", &disk());
    list(&files, &json!({"box:1": product(&json!({"20240101": {"items": items}}))}));
    assert_eq!(remote(&server).list(&Monitor::none()).unwrap().len(), 1);
    let done = mirror_all(&server, MirrorTarget::Store(&store));
    assert_eq!(done.removed, [container]);
    assert_eq!(store.resolve("box").unwrap().fingerprint, machine);
}
