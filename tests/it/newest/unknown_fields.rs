//! Fields of newer peers that are not known here are kept on the way through: from a server to a store, from list to list, and by
//! every change of a tree.

use std::fs;
use std::path::Path;

use lxd_image::remote::{ClientOptions, MirrorOptions, MirrorTarget, RemoteRefresh, Simplestreams, copy, mirror};
use lxd_image::server::{Handler, ServerOptions};
use lxd_image::simplestreams::{BuildOptions, Tree};
use lxd_image::store::{CheckOptions, ImportOptions, RefreshOptions, Store, StoreOptions, UpdateSource};
use lxd_image::{Fingerprint, Monitor, Omitted};
use serde_json::{Value, json};

use super::built_trees::put;
use crate::cli::run;
use crate::format::Place;
use crate::format::forge::{END, METADATA, directory, file};
use crate::peers::TempDir;
use crate::peers::remotes::Ours;
use crate::peers::serving::Serving;
use crate::remote::lxd::{amd64, remote, serving};
use crate::remote::server::answer;
use crate::server::{object, request};
use crate::store::{Scratch, stream, unified};

/// The field that the server of these tests has for its image.
fn unknown() -> Value {
    json!([1, {"more": null}])
}

#[test]
fn field_of_a_newer_server_is_kept_in_a_store_and_shown_to_clients() {
    let image = unified("one");
    let fingerprint = Fingerprint::of(&image);
    let server = serving(fingerprint, move |_, line| answer(line, 200, &[], &image));
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    copy(&remote(&server), "box/one", &store, &amd64().public(true), &Monitor::none()).unwrap();
    drop(store);
    let store = Store::open(scratch.join("store")).unwrap();
    assert_eq!(store.image(&fingerprint).unwrap().other["unknown"], unknown());
    assert!(store.check(&CheckOptions::new(), &Monitor::none()).unwrap().findings.is_empty());
    let handler = Handler::new(store, ServerOptions::new());
    let answered = object(handler.handle(request("GET", &format!("/1.0/images/{fingerprint}"))));
    assert_eq!(answered["unknown"], unknown());
    let listed = object(handler.handle(request("GET", "/1.0/images?recursion=1")));
    assert_eq!(listed[0]["unknown"], unknown());
}

#[test]
fn field_of_a_newer_server_is_there_in_a_store_whose_catalog_was_lost() {
    let image = unified("one");
    let fingerprint = Fingerprint::of(&image);
    let server = serving(fingerprint, move |_, line| answer(line, 200, &[], &image));
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    copy(&remote(&server), "box/one", &store, &amd64(), &Monitor::none()).unwrap();
    drop(store);
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = fs::remove_file(scratch.join("store").join(name));
    }
    Store::repair(scratch.join("store"), &StoreOptions::new(), &CheckOptions::new(), &Monitor::none()).unwrap();
    let store = Store::open(scratch.join("store")).unwrap();
    assert_eq!(store.image(&fingerprint).unwrap().other["unknown"], unknown());
}

#[test]
fn field_of_a_newer_upstream_is_shown_by_the_program_that_serves_it_on() {
    let image = unified("one");
    let fingerprint = Fingerprint::of(&image);
    let upstream = serving(fingerprint, move |_, line| answer(line, 200, &[], &image));
    let place = TempDir::new();
    let ours = Ours(place.path());
    ours.ok(&["remote", "add", "newer", &upstream.text("/"), "--public", "--accept-certificate"]);
    let server = Serving::start(&ours, &["--upstream", "newer:"]);
    ours.ok(&["remote", "add", "ours", &server.url(), "--public", "--accept-certificate"]);
    let shown = ours.ok(&["list", &format!("ours:{fingerprint}"), "-f", "json"]);
    assert!(!shown.contains("unknown"), "lists have local images only: {shown}");
    ours.ok(&["export", &format!("ours:{fingerprint}"), "out"]);
    let listed: Value = serde_json::from_str(&ours.ok(&["list", "ours:", "-f", "json"])).unwrap();
    assert_eq!(listed[0]["unknown"], unknown());
}

#[test]
fn refresh_takes_the_fields_that_the_newer_image_has() {
    let (old, new) = (unified("one"), unified("two"));
    let first = {
        let old = old.clone();
        serving(Fingerprint::of(&old), move |_, line| answer(line, 200, &[], &old))
    };
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let copied = copy(&remote(&first), "box/one", &store, &amd64().auto_update(true), &Monitor::none()).unwrap();
    let fingerprint = Fingerprint::of(&new);
    let second = serving(fingerprint, move |_, line| answer(line, 200, &[], &new));
    let newer = remote(&second);
    let sources = RemoteRefresh::new(move |_| Ok(Box::new(newer.clone())));
    store.refresh(&copied.fingerprint, &sources, &RefreshOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(store.image(&fingerprint).unwrap().other["unknown"], unknown());
}

/// Two versions of a product with fields that nobody knows at every level.
fn foreign_tree(root: &Path) -> Fingerprint {
    let fingerprint = put(root, "images/files", "lxd.tar.xz");
    let item = |ftype: &str, name: &str| {
        let bytes = fs::read(root.join("images/files").join(name)).unwrap();
        json!({"ftype": ftype, "path": format!("images/files/{name}"), "size": bytes.len(),
            "sha256": Fingerprint::of(&bytes).to_string(), "sha512": "of the item", "novel": {"item": [name]}})
    };
    let mut first = item("lxd.tar.xz", "lxd.tar.xz");
    first["combined_squashfs_sha256"] = json!(fingerprint.to_string());
    let product = json!({"aliases": "box", "arch": "amd64", "os": "Box", "release": "one", "novel": "of the product",
        "versions": {"20260101": {"label": "release", "pubname": "box-one", "novel": ["of the version"],
            "items": {"lxd.tar.xz": first, "squashfs": item("squashfs", "rootfs.squashfs")}}}});
    let list = json!({"format": "products:1.0", "datatype": "image-downloads", "content_id": "x", "license": "of the list",
        "products": {"box:one": product}});
    let index = json!({"format": "index:1.0", "novel": "of the index", "index": {"images": {"novel": "of the entry",
        "datatype": "image-downloads", "path": "streams/v1/images.json", "format": "products:1.0",
        "products": ["box:one"]}}});
    fs::create_dir_all(root.join("streams/v1")).unwrap();
    fs::write(root.join("streams/v1/images.json"), list.to_string()).unwrap();
    fs::write(root.join("streams/v1/index.json"), index.to_string()).unwrap();
    fingerprint
}

fn document(root: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(root.join("streams/v1").join(name)).unwrap()).unwrap()
}

/// What of a product is not known here.
#[track_caller]
fn assert_kept(root: &Path) {
    let list = document(root, "images.json");
    let product = &list["products"]["box:one"];
    assert_eq!(product["novel"], "of the product");
    let version = &product["versions"]["20260101"];
    assert_eq!((&version["novel"], &version["pubname"]), (&json!(["of the version"]), &json!("box-one")));
    assert_eq!(version["label"], "release");
    for name in ["lxd.tar.xz", "incus.tar.xz"] {
        if let Some(item) = version["items"].get(name) {
            assert_eq!(item["novel"], json!({"item": ["lxd.tar.xz"]}), "{name}");
        }
    }
    let rootfs = &version["items"]["squashfs"];
    assert_eq!((&rootfs["novel"], &rootfs["sha512"]), (&json!({"item": ["rootfs.squashfs"]}), &json!("of the item")));
}

#[test]
fn mirror_keeps_unknown_fields_of_products_versions_and_items() {
    let scratch = Scratch::new();
    let origin = scratch.join("origin");
    foreign_tree(&origin);
    let url = format!("file://{}", origin.display()).parse().unwrap();
    let remote = || Simplestreams::new(ClientOptions::new(), &url).unwrap();
    let copied = Tree::create(scratch.join("mirror")).unwrap();
    mirror(&remote(), MirrorTarget::Tree(&copied), &MirrorOptions::new(), &Monitor::none()).unwrap();
    assert_kept(copied.path());
    // What changes there changes here, also for an image that is here already.
    let mut list = document(&origin, "images.json");
    let version = &mut list["products"]["box:one"]["versions"]["20260101"];
    version["pubname"] = json!("another");
    version["items"]["squashfs"]["sha512"] = json!("another");
    fs::write(origin.join("streams/v1/images.json"), list.to_string()).unwrap();
    mirror(&remote(), MirrorTarget::Tree(&copied), &MirrorOptions::new(), &Monitor::none()).unwrap();
    let version = &document(copied.path(), "images.json")["products"]["box:one"]["versions"]["20260101"];
    assert_eq!((&version["pubname"], &version["items"]["squashfs"]["sha512"]), (&json!("another"), &json!("another")));
}

#[test]
fn every_change_of_a_tree_keeps_unknown_fields_at_every_level() {
    let place = Place::new();
    foreign_tree(&place.at("www"));
    place.write("one.tar", unified("one"));
    let whole = |verb: &str| {
        let root = place.at("www");
        assert_kept(&root);
        assert_eq!(document(&root, "images.json")["license"], "of the list", "{verb}");
        let index = document(&root, "index.json");
        assert_eq!(
            (&index["novel"], &index["index"]["images"]["novel"]),
            (&json!("of the index"), &json!("of the entry"))
        );
    };
    let added = run(&place, &["simplestreams", "add", "www", "one.tar"]).good();
    whole("add");
    put(&place.at("www"), "images/box/two/amd64/default/20260101", "incus.tar.xz");
    Tree::open(place.at("www")).unwrap().lock().unwrap().build(&BuildOptions::new(), &Monitor::none()).unwrap();
    whole("build");
    run(&place, &["simplestreams", "remove", "www", added.trim()]).good();
    whole("remove");
    run(&place, &["simplestreams", "prune", "www", "--keep", "1"]).good();
    whole("prune");
}

#[test]
fn build_keeps_unknown_fields_of_what_it_lists() {
    let scratch = Scratch::new();
    let root = scratch.join("www");
    let version = "images/box/one/amd64/default/20260101";
    put(&root, version, "lxd.tar.xz");
    let tree = Tree::create(&root).unwrap();
    tree.lock().unwrap().build(&BuildOptions::new(), &Monitor::none()).unwrap();
    let mut list = document(&root, "images.json");
    let product = &mut list["products"]["box:one:amd64:default"];
    product["novel"] = json!(1);
    product["versions"]["20260101"]["novel"] = json!(2);
    product["versions"]["20260101"]["items"]["rootfs.squashfs"]["novel"] = json!(3);
    fs::write(root.join("streams/v1/images.json"), list.to_string()).unwrap();
    put(&root, "images/box/one/amd64/default/20260102", "lxd.tar.xz");
    tree.lock().unwrap().build(&BuildOptions::new(), &Monitor::none()).unwrap();
    let product = &document(&root, "images.json")["products"]["box:one:amd64:default"];
    let there = &product["versions"]["20260101"];
    let found = [&product["novel"], &there["novel"], &there["items"]["rootfs.squashfs"]["novel"]];
    assert_eq!(found, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(product["versions"].as_object().unwrap().len(), 2);
}

#[test]
fn unknown_keys_of_metadata_yaml_survive_convert_publish_and_pack() {
    let place = Place::new();
    let metadata = format!("{METADATA}novel:\n  deep: [1, two]\n");
    place.write("image.tar", [file("metadata.yaml", metadata), directory("rootfs/"), END.to_vec()].concat());
    run(&place, &["convert", "image.tar", "split.tar", "--to", "split"]).good();
    run(&place, &["unpack", "split.tar", "split.tar.root", "tree"]).good();
    run(&place, &["--store", "store", "publish", "tree", "--alias", "x", "team=web"]).good();
    run(&place, &["--store", "store", "export", "x", "published"]).good();
    run(&place, &["pack", "tree/rootfs", "packed.tar", "--metadata", "tree/metadata.yaml"]).good();
    for name in ["published.tar.zst", "packed.tar"] {
        let tree = format!("{name}.tree");
        run(&place, &["unpack", name, &tree]).good();
        let text = fs::read_to_string(place.at(&tree).join("metadata.yaml")).unwrap();
        assert!(text.contains("novel:") && text.contains("deep:"), "{name}: {text}");
    }
}

#[test]
fn fields_that_are_too_large_to_keep_are_left_out_and_reported() {
    let image = unified("one");
    let fingerprint = Fingerprint::of(&image);
    let server = serving(fingerprint, move |_, line| answer(line, 200, &[], &image));
    let mut limits = lxd_image::Limits::default();
    limits.metadata = 10;
    let remote = lxd_image::remote::Lxd::new(server.options().limits(limits), &server.url("")).unwrap();
    let monitor = Monitor::none();
    let found = lxd_image::remote::Remote::list(&remote, &monitor).unwrap();
    assert!(found[0].other.is_empty());
    let omissions = monitor.omissions();
    let mut all = omissions.into_iter();
    assert!(all.any(|left_out| matches!(&left_out.what, Omitted::Dropped { part, .. } if part.contains("not known"))));
}

#[test]
fn unknown_field_with_a_name_that_is_known_is_not_shown() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let fields = json!({"public": true, "fingerprint": "0", "update_source": {"server": "x"}, "novel": 1});
    let options = ImportOptions::new()
        .source(UpdateSource::new("https://elsewhere.example", "lxd", "box"))
        .source_fields(fields.as_object().unwrap().clone());
    let image = store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    let text = serde_json::to_string(&image).unwrap();
    for key in ["public", "fingerprint", "update_source", "novel"] {
        assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{key}: {text}");
    }
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["public"], json!(false));
}
