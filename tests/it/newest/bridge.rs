//! A bridge between the peers: what one of them publishes for itself is usable by the other from a mirror of it, and from
//! a server that has it, with the same bytes under both names.

use std::fs;

use lxd_image::protocol::simplestreams::Products;
use lxd_image::remote::{ClientOptions, CopyOptions, MirrorOptions, MirrorTarget, Simplestreams, copy, mirror};
use lxd_image::server::{Handler, ServerOptions};
use lxd_image::simplestreams::{Tree, TreeVerifyOptions};
use lxd_image::store::Store;
use lxd_image::{Architecture, Fingerprint, Limits, Monitor};
use serde_json::json;

use super::built_trees::{put, read_by_both_clients};
use crate::server::request;
use crate::store::Scratch;

/// A tree as one peer's tools publish it: only that peer's name for the metadata.
pub(crate) fn tree_of_one_peer(scratch: &Scratch, name: &str) -> (std::path::PathBuf, Fingerprint, Vec<u8>) {
    let root = scratch.join(&format!("only-{name}"));
    let fingerprint = put(&root, "images/files", name);
    let read = |file: &str| fs::read(root.join("images/files").join(file)).unwrap();
    let (metadata, rootfs) = (read(name), read("rootfs.squashfs"));
    let item = |ftype: &str, file: &str, bytes: &[u8]| {
        json!({"ftype": ftype, "path": format!("images/files/{file}"), "size": bytes.len(),
            "sha256": Fingerprint::of(bytes).to_string()})
    };
    let mut first = item(name, name, &metadata);
    first["combined_squashfs_sha256"] = json!(fingerprint.to_string());
    let product = json!({"aliases": "box/one,box", "arch": "amd64", "os": "Box", "release": "one",
        "release_title": "One", "lxd_requirements": {"secureboot": "false"},
        "versions": {"20260101": {"items": {name: first, "squashfs": item("squashfs", "rootfs.squashfs", &rootfs)}}}});
    fs::create_dir_all(root.join("streams/v1")).unwrap();
    let list = json!({"format": "products:1.0", "datatype": "image-downloads", "products": {"box:one": product}});
    fs::write(root.join("streams/v1/images.json"), list.to_string()).unwrap();
    let index = json!({"format": "index:1.0", "index": {"images": {"datatype": "image-downloads",
        "path": "streams/v1/images.json", "format": "products:1.0", "products": ["box:one"]}}});
    fs::write(root.join("streams/v1/index.json"), index.to_string()).unwrap();
    (root, fingerprint, rootfs)
}

fn on_disk(root: &std::path::Path) -> Simplestreams {
    Simplestreams::new(ClientOptions::new(), &format!("file://{}", root.display()).parse().unwrap()).unwrap()
}

#[test]
fn mirror_of_a_tree_of_one_peer_is_read_by_the_other_and_has_each_file_once() {
    for name in ["lxd.tar.xz", "incus.tar.xz"] {
        let scratch = Scratch::new();
        let (origin, fingerprint, rootfs) = tree_of_one_peer(&scratch, name);
        let copied = Tree::create(scratch.join("mirror")).unwrap();
        for _ in 0..2 {
            mirror(&on_disk(&origin), MirrorTarget::Tree(&copied), &MirrorOptions::new(), &Monitor::none()).unwrap();
        }
        let products = copied.products().unwrap();
        let product = &products.products["box:one"];
        let items = &product.versions["20260101"].items;
        assert_eq!(items["lxd.tar.xz"].path, items["incus.tar.xz"].path, "{name}");
        assert_eq!(fs::read_dir(copied.path().join("images")).unwrap().count(), 2, "{name}: each file once");
        // What LXD is told of the instances that it makes, Incus is told too.
        assert_eq!(product.requirements.get("secureboot").map(String::as_str), Some("false"), "{name}");
        assert!(copied.verify(&TreeVerifyOptions::new(), &Monitor::none()).unwrap().is_clean());
        read_by_both_clients(copied.path(), "box/one", &fingerprint, &rootfs);
    }
}

#[test]
fn server_with_an_image_of_one_peer_lists_it_for_both() {
    for name in ["lxd.tar.xz", "incus.tar.xz"] {
        let scratch = Scratch::new();
        let (origin, fingerprint, _) = tree_of_one_peer(&scratch, name);
        let store = Store::open(scratch.join("store")).unwrap();
        let options = CopyOptions::new().architectures([Architecture::X86_64]).public(true).copy_aliases(true);
        assert_eq!(
            copy(&on_disk(&origin), "box", &store, &options, &Monitor::none()).unwrap().fingerprint,
            fingerprint
        );
        let handler = Handler::new(store, ServerOptions::new());
        let response = handler.handle(request("GET", "/streams/v1/images.json"));
        let list = response.body.read_to_end().unwrap();
        let products = Products::from_json(&list, &Limits::default()).unwrap();
        let product = products.products.values().next().unwrap();
        let items = &product.versions.values().next().unwrap().items;
        assert_eq!(items["lxd.tar.xz"].path, items["incus.tar.xz"].path, "{name}");
        assert_eq!(product.requirements.get("secureboot").map(String::as_str), Some("false"), "{name}");
    }
}

/// As Ubuntu's tree is: a container's and a virtual machine's image that share their metadata, keys that are no types, and files
/// that make no image.
#[test]
fn mirror_of_a_tree_like_ubuntu_s_has_both_types_for_both_peers_and_the_shared_file_once() {
    let scratch = Scratch::new();
    let (origin, container, rootfs) = tree_of_one_peer(&scratch, "lxd.tar.xz");
    let path = origin.join("streams/v1/images.json");
    let mut list: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let metadata = fs::read(origin.join("images/files/lxd.tar.xz")).unwrap();
    fs::write(origin.join("images/files/disk1.img"), b"a disk").unwrap();
    let machine = Fingerprint::of(&[&metadata[..], b"a disk"].concat());
    let items = &mut list["products"]["box:one"]["versions"]["20260101"]["items"];
    items["lxd.tar.xz"]["combined_disk1-img_sha256"] = json!(machine.to_string());
    let squashfs = items.as_object_mut().unwrap().remove("squashfs").unwrap();
    items["root.squashfs"] = squashfs;
    items["uefi.disk"] = json!({"ftype": "disk1.img", "path": "images/files/disk1.img", "size": 6,
        "sha256": Fingerprint::of(b"a disk").to_string()});
    items["manifest"] = json!({"ftype": "manifest", "path": "images/files/x.manifest", "size": 1, "sha256": "0"});
    fs::write(&path, list.to_string()).unwrap();
    let copied = Tree::create(scratch.join("mirror")).unwrap();
    let done = mirror(&on_disk(&origin), MirrorTarget::Tree(&copied), &MirrorOptions::new(), &Monitor::none()).unwrap();
    assert_eq!((done.copied.len(), done.failed.len()), (2, 0), "{done:?}");
    assert_eq!(fs::read_dir(copied.path().join("images")).unwrap().count(), 3, "the metadata is there once");
    let products = copied.products().unwrap();
    let items = &products.products["box:one"].versions["20260101"].items;
    for name in ["lxd.tar.xz", "incus.tar.xz"] {
        assert_eq!(items[name].combined_squashfs_sha256, container.to_string(), "{name}");
        assert_eq!(items[name].combined_disk1_sha256, machine.to_string(), "{name}");
    }
    read_by_both_clients(copied.path(), "box/one", &container, &rootfs);
}
