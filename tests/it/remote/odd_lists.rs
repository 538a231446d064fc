//! Lists with entries that nobody can use: each is named with the reason, and hides no other.

use std::io;
use std::sync::{Arc, Mutex};

use lxd_image::remote::{
    CopyOptions, Lxd, MirrorOptions, MirrorTarget, Remote, RetryPolicy, Simplestreams, Wanted, copy, mirror,
};
use lxd_image::simplestreams::Tree;
use lxd_image::store::Store;
use lxd_image::{Architecture, Cancel, ErrorKind, Fingerprint, Monitor};
use serde_json::{Value, json};

use super::failed;
use super::server::{Line, Server, Then, answer, hold};
use super::simplestreams::{Files, list, product, put, serve, split_items};
use crate::store::{Scratch, unified};

fn remote(server: &Server) -> Simplestreams {
    Simplestreams::new(server.options().retry(RetryPolicy::new().tries(1)), &server.url("")).unwrap()
}

fn amd64() -> CopyOptions {
    CopyOptions::new().architectures([Architecture::X86_64])
}

/// What a monitor was told, as lines.
fn told(monitor: &Monitor) -> Vec<String> {
    monitor.omissions().iter().map(ToString::to_string).collect()
}

fn listed(remote: &dyn Remote) -> (Vec<Fingerprint>, Vec<String>) {
    let monitor = Monitor::none();
    let images = remote.list(&monitor).unwrap();
    (images.iter().map(|image| image.fingerprint).collect(), told(&monitor))
}

#[test]
fn one_odd_entry_is_named_and_the_good_image_is_listed() {
    let files = Files::default();
    let server = serve(&files);
    let (items, good) = split_items(&files, "good");
    let (other, _) = split_items(&files, "other");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut product = product(&json!({"20240102": {"items": other.clone()}}));
        product["aliases"] = json!("odd");
        change(&mut product);
        product
    };
    let item = |key: &'static str, value: Value| {
        with(&move |product| product["versions"]["20240102"]["items"]["lxd.tar.xz"][key] = value.clone())
    };
    let old_digest = with(&|product| {
        let first = &mut product["versions"]["20240102"]["items"]["lxd.tar.xz"];
        first["combined_sha256"] = first["combined_squashfs_sha256"].take();
    });
    let version = |name: &'static str| {
        with(&move |product| {
            let items = product["versions"]["20240102"].take();
            product["versions"] = json!({ name: items });
        })
    };
    for (what, odd, place) in [
        ("a product that is null", json!(null), "odd: "),
        ("a product that is a text", json!("x"), "odd: "),
        ("an unknown machine", with(&|product| product["arch"] = json!("pdp11")), "odd: "),
        ("a machine that is a number", with(&|product| product["arch"] = json!(5)), "odd: "),
        ("aliases that are a list", with(&|product| product["aliases"] = json!(["a"])), "odd: "),
        ("no versions", with(&|product| product["versions"] = json!({})), "odd: "),
        ("versions that are a list", with(&|product| product["versions"] = json!([])), "odd: "),
        ("a version without a date", version("daily"), "odd/daily: "),
        ("a version of a 13th month", version("20241301"), "odd/20241301: "),
        ("a version that is null", with(&|product| product["versions"]["20240102"] = json!(null)), "odd/20240102: "),
        ("no items", with(&|product| product["versions"]["20240102"] = json!({})), "odd/20240102: "),
        ("an unknown type", item("ftype", json!("zip")), "odd/20240102: "),
        ("a negative size", item("size", json!(-1)), "odd/20240102/lxd.tar.xz: "),
        ("a size that is a text", item("size", json!("5")), "odd/20240102/lxd.tar.xz: "),
        ("a path that is a number", item("path", json!(5)), "odd/20240102/lxd.tar.xz: "),
        ("a path that climbs", item("path", json!("../x")), "odd/20240102: "),
        ("no digest of both files", item("combined_squashfs_sha256", json!("")), "odd/20240102/lxd.tar.xz: "),
        ("a digest under an old name", old_digest, "odd/20240102/lxd.tar.xz: "),
    ] {
        list(&files, &json!({"good": product(&json!({"20240101": {"items": items}})), "odd": odd}));
        let (images, told) = listed(&remote(&server));
        assert_eq!(images, [good], "{what}");
        assert!(told.iter().any(|line| line.starts_with(place)), "{what}: {told:?}");
    }
}

#[test]
fn asking_for_an_unusable_image_says_why() {
    let files = Files::default();
    let server = serve(&files);
    let (mut items, _) = split_items(&files, "x");
    let digest = items["lxd.tar.xz"]["combined_squashfs_sha256"].take();
    items["lxd.tar.xz"]["combined_sha256"] = digest;
    list(&files, &json!({"box:1": product(&json!({"20240101": {"items": items}}))}));
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let error = failed(copy(&remote(&server), "box", &store, &amd64(), &Monitor::none()), ErrorKind::Malformed);
    assert!(error.message().contains("box:1/20240101/lxd.tar.xz"), "{error}");
    assert!(error.message().contains("combined_squashfs_sha256"), "{error}");
}

#[test]
fn older_version_in_place_of_an_unusable_one_is_told() {
    let files = Files::default();
    let server = serve(&files);
    let (items, good) = split_items(&files, "x");
    let versions = json!({"20240101": {"items": items}, "20240202": {"items": {"x": {"ftype": 5}}}});
    list(&files, &json!({"box:1": product(&versions)}));
    let monitor = Monitor::none();
    let found = remote(&server).resolve(&Wanted::new("box").architectures([Architecture::X86_64]), &monitor).unwrap();
    assert_eq!(found.fingerprint, good);
    assert!(told(&monitor)[0].starts_with("box:1/20240202/x: skipped"), "{:?}", told(&monitor));
}

#[test]
fn list_that_is_damaged_does_not_hide_other_lists() {
    let files = Files::default();
    let server = serve(&files);
    let (items, good) = split_items(&files, "x");
    list(&files, &json!({"box": product(&json!({"20240101": {"items": items}}))}));
    let mut index: Value = serde_json::from_slice(&files.lock().unwrap()["/streams/v1/index.json"]).unwrap();
    for (name, path) in [("damaged", "streams/v1/damaged.json"), ("gone", "streams/v1/gone.json"), ("up", "../x.json")]
    {
        index["index"][name] = json!({"datatype": "image-downloads", "path": path, "products": ["x"]});
    }
    index["index"]["null"] = json!(null);
    put(&files, "/streams/v1/index.json", index.to_string());
    put(&files, "/streams/v1/damaged.json", "<html>");
    let (images, told) = listed(&remote(&server));
    assert_eq!((images, told.len()), (vec![good], 4), "{told:?}");
    // Nobody knows what the others list, so that nothing is gone.
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let options = MirrorOptions::new().delete(true);
    failed(mirror(&remote(&server), MirrorTarget::Store(&store), &options, &Monitor::none()), ErrorKind::Remote);
}

#[test]
fn mirror_does_not_delete_what_became_unusable() {
    let files = Files::default();
    let server = serve(&files);
    let (items, good) = split_items(&files, "x");
    let (other, second) = split_items(&files, "y");
    let lists = |items: &Value| {
        let other = product(&json!({"20240101": {"items": other}}));
        list(&files, &json!({"box": product(&json!({"20240101": {"items": items}})), "other": other}));
    };
    lists(&items);
    let scratch = Scratch::new();
    let tree = Tree::create(scratch.join("tree")).unwrap();
    let run = || {
        mirror(&remote(&server), MirrorTarget::Tree(&tree), &MirrorOptions::new().delete(true), &Monitor::none())
            .unwrap()
    };
    assert_eq!(run().copied.len(), 2);
    let mut odd = items.clone();
    odd["squashfs"]["size"] = json!("text");
    lists(&odd);
    let done = run();
    assert_eq!((done.removed.len(), done.omissions.is_empty()), (0, false));
    let mut listed: Vec<_> = tree.listing().unwrap().images().iter().map(|image| image.fingerprint).collect();
    listed.sort();
    let mut both = vec![good, second];
    both.sort();
    assert_eq!(listed, both);
}

#[test]
fn size_that_is_not_told_is_decided_by_the_digest() {
    let files = Files::default();
    let server = serve(&files);
    let (mut items, good) = split_items(&files, "x");
    for name in ["lxd.tar.xz", "squashfs"] {
        items[name].as_object_mut().unwrap().remove("size");
    }
    list(&files, &json!({"box": product(&json!({"20240101": {"items": items}}))}));
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    assert_eq!(copy(&remote(&server), "box", &store, &amd64(), &Monitor::none()).unwrap().fingerprint, good);
    let mut limits = lxd_image::Limits::default();
    limits.download = 100;
    let small = Simplestreams::new(server.options().limits(limits), &server.url("")).unwrap();
    store.delete(&good).unwrap();
    failed(copy(&small, "box", &store, &amd64(), &Monitor::none()), ErrorKind::LimitExceeded);
}

#[test]
fn paths_of_real_lists_are_found() {
    let files = Files::default();
    let server = serve(&files);
    let (items, good) = split_items(&files, "x");
    let bytes = files.lock().unwrap()["/images/x.squashfs"].clone();
    let scratch = Scratch::new();
    for (path, asked) in [
        ("/files/x", "/files/x"),
        ("./images//x", "/dir/images//x"),
        ("images/a b/é.sq", "/dir/images/a%20b/%C3%A9.sq"),
        ("images/100%", "/dir/images/100%25"),
        ("images/a%20b", "/dir/images/a%20b"),
        ("2024:01/x", "/dir/2024:01/x"),
    ] {
        let mut items = items.clone();
        items["squashfs"]["path"] = json!(path);
        list(&files, &json!({"box": product(&json!({"20240101": {"items": items}}))}));
        for name in ["streams/v1/index.json", "streams/v1/images.json", "images/x.tar.xz"] {
            let bytes = files.lock().unwrap()[&format!("/{name}")].clone();
            put(&files, &format!("/dir/{name}"), bytes);
        }
        put(&files, asked, bytes.clone());
        let store = Store::open(scratch.join(&path.replace('/', "_"))).unwrap();
        let remote = Simplestreams::new(server.options(), &server.url("/dir")).unwrap();
        assert_eq!(copy(&remote, "box", &store, &amd64(), &Monitor::none()).unwrap().fingerprint, good, "{path}");
    }
}

#[test]
fn later_version_is_the_one_with_the_larger_number() {
    let files = Files::default();
    let server = serve(&files);
    let (old, _) = split_items(&files, "old");
    let (new, newest) = split_items(&files, "new");
    let versions = json!({"20240101.9": {"items": old}, "20240101.10": {"items": new}});
    list(&files, &json!({"box": product(&versions)}));
    assert_eq!(listed(&remote(&server)).0.first(), Some(&newest));
}

/// A damaged answer must not outlive its repair, though the repair brings an older time.
#[test]
fn damaged_list_is_not_kept() {
    let good = {
        let files = Files::default();
        let (items, _) = split_items(&files, "x");
        list(&files, &json!({"box": product(&json!({"20240101": {"items": items}}))}));
        files
    };
    let broken: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let shown = Arc::clone(&broken);
    let server = Server::plain(move |asked, line| {
        if asked.path.ends_with("index.json")
            && let Some(bytes) = shown.lock().unwrap().clone()
        {
            return answer(line, 200, &[("last-modified", "Sat, 28 Nov 2026 12:00:00 GMT")], &bytes);
        }
        // As most servers: what is not newer than the client's has not changed.
        if asked.header("if-modified-since").is_some() {
            return super::server::head(line, 304, &[], None).map(|()| Then::Keep);
        }
        let bytes = good.lock().unwrap().get(&asked.path).cloned().unwrap_or_default();
        answer(line, 200, &[("last-modified", "Sat, 28 Nov 2026 09:00:00 GMT")], &bytes)
    });
    let scratch = Scratch::new();
    let ask = || {
        let remote = remote(&server).cache_dir(scratch.join("cache")).max_age(std::time::Duration::ZERO);
        remote.list(&Monitor::none()).map(|images| images.len())
    };
    for damage in [vec![0; 300], b"<html>".to_vec(), b"{\"format\": \"ind".to_vec(), Vec::new()] {
        *broken.lock().unwrap() = Some(damage);
        failed(ask(), ErrorKind::Malformed);
        *broken.lock().unwrap() = None;
        assert_eq!(ask().unwrap(), 1);
    }
    // Nor is what happened to the kept file on the disk believed.
    for damage in [Vec::new(), vec![0; 4096]] {
        for entry in std::fs::read_dir(scratch.join("cache")).unwrap() {
            std::fs::write(entry.unwrap().path(), &damage).unwrap();
        }
        assert_eq!(ask().unwrap(), 1);
    }
}

fn rest(line: &mut dyn Line, object: &Value) -> io::Result<Then> {
    let body = json!({"type": "sync", "status": "Success", "status_code": 200, "metadata": object}).to_string();
    answer(line, 200, &[("content-type", "application/json")], body.as_bytes())
}

#[test]
fn odd_objects_of_a_rest_list_are_named_and_the_others_listed() {
    let image = |digit: &str| {
        json!({"fingerprint": digit.repeat(64), "architecture": "x86_64", "type": "container", "public": true, "size": 7,
            "properties": {"os": "Box"}, "aliases": [{"name": format!("a{digit}"), "description": ""}]})
    };
    let odd = [
        json!(null),
        json!("/1.0/images/x"),
        json!({"fingerprint": "../x"}),
        json!({"architecture": "x86_64"}),
        {
            let mut odd = image("1");
            odd["architecture"] = json!("pdp11");
            odd
        },
        {
            let mut odd = image("2");
            odd["public"] = json!("yes");
            odd
        },
        image("a"),
    ];
    let mut late = image("b");
    late["expires_at"] = json!("not a time");
    late["aliases"] = json!([{"name": 5}, {"name": "fine"}]);
    let all: Vec<Value> = std::iter::once(image("a")).chain(odd).chain([late]).collect();
    let server = Server::plain(move |_, line| rest(line, &json!(all)));
    let remote = Lxd::new(server.options().retry(RetryPolicy::new().tries(1)), &server.url("")).unwrap();
    let monitor = Monitor::none();
    let images = remote.list(&monitor).unwrap();
    assert_eq!(
        images.iter().map(|image| image.fingerprint.to_string()).collect::<Vec<_>>(),
        ["a".repeat(64), "b".repeat(64)]
    );
    assert_eq!(images[1].aliases[0].name, "fine");
    let told = told(&monitor);
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(told.iter().any(|line| line.starts_with(&format!("{}: skipped: ", "1".repeat(64)))), "{told:?}");
}

#[test]
fn mirror_into_a_tree_names_what_it_makes_up() {
    let bytes = unified("bare");
    let fingerprint = Fingerprint::of(&bytes);
    let image = json!({"fingerprint": fingerprint.to_string(), "architecture": "x86_64", "type": "container", "public": true,
        "size": bytes.len(), "properties": {}, "aliases": [{"name": "a,b"}, {"name": "fine"}]});
    let server = Server::plain(move |asked, line| match asked.path.ends_with("/export") {
        true => answer(line, 200, &[("content-type", "application/octet-stream")], &bytes),
        false => rest(line, &json!([image])),
    });
    let remote = Lxd::new(server.options(), &server.url("")).unwrap();
    let scratch = Scratch::new();
    let tree = Tree::create(scratch.join("tree")).unwrap();
    let done = mirror(&remote, MirrorTarget::Tree(&tree), &MirrorOptions::new(), &Monitor::none()).unwrap();
    assert_eq!((done.copied.len(), done.failed.len()), (1, 0), "{:?}", done.failed);
    let told: Vec<_> = done.omissions.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|line| line.contains("property `release`")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("alias `a,b`")), "{told:?}");
    assert_eq!(tree.listing().unwrap().images()[0].aliases, ["fine"]);
}

#[test]
fn file_that_changes_each_time_is_begun_three_times_by_every_call() {
    let bytes = unified("changing");
    let fingerprint = Fingerprint::of(&bytes).to_string();
    let image = json!({"fingerprint": fingerprint, "architecture": "x86_64", "type": "container", "public": true,
        "size": bytes.len(), "properties": {"os": "Box", "release": "1"}, "aliases": [{"name": "web"}]});
    let count = Mutex::new(0_u32);
    let server = Server::plain(move |asked, line| {
        if !asked.path.ends_with("/export") {
            return match &*asked.path {
                "/1.0/images/aliases/web" => {
                    rest(line, &json!({"name": "web", "target": fingerprint, "type": "container"}))
                }
                "/1.0/images?recursion=1" => rest(line, &json!([image])),
                _ => rest(line, &image),
            };
        }
        let mut count = count.lock().unwrap();
        *count += 1;
        super::server::head(line, 200, &[("etag", &format!("\"{count}\""))], Some(bytes.len()))?;
        line.write_all(&vec![0; bytes.len() / 2])?;
        Ok(Then::Cut)
    });
    let options = server.options().retry(RetryPolicy::new().pause(std::time::Duration::ZERO));
    let remote = Lxd::new(options, &server.url("")).unwrap();
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let tree = Tree::create(scratch.join("tree")).unwrap();
    // A start asks for the file, and for its rest.
    let exports = || {
        let asked = server.asked().iter().filter(|asked| asked.path.ends_with("/export")).count();
        server.forget();
        asked
    };
    assert!(copy(&remote, "web", &store, &amd64(), &Monitor::none()).is_err());
    assert_eq!(exports(), 6);
    let mut done = mirror(&remote, MirrorTarget::Store(&store), &MirrorOptions::new(), &Monitor::none());
    assert_eq!(exports(), 6, "{done:?}");
    done = mirror(&remote, MirrorTarget::Tree(&tree), &MirrorOptions::new(), &Monitor::none());
    assert_eq!(exports(), 6, "{done:?}");
}

#[test]
fn cancelled_list_ends_though_the_server_is_silent() {
    let server = Server::plain(|_, line| hold(line));
    let cancel = Cancel::new();
    let monitor = Monitor::none().with_cancel(cancel.clone());
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while server.asked().is_empty() {
                std::thread::yield_now();
            }
            cancel.cancel();
        });
        failed(remote(&server).list(&monitor), ErrorKind::Cancelled);
    });
    assert!(began.elapsed().as_secs() < 10);
}

#[test]
fn document_of_another_kind_is_no_empty_list() {
    for (path, text) in [
        ("streams/v1/index.json", "{}"),
        ("streams/v1/index.json", r#"{"error": "busy"}"#),
        ("streams/v1/images.json", "{}"),
        ("streams/v1/images.json", "[]"),
        ("streams/v1/images.json", r#"{"message": "please log in"}"#),
    ] {
        let files = Files::default();
        let server = serve(&files);
        let (items, _) = split_items(&files, "good");
        list(&files, &json!({"p": product(&json!({"20240102": {"items": items}}))}));
        put(&files, &format!("/{path}"), text);
        failed(remote(&server).list(&Monitor::none()), ErrorKind::Malformed);
    }
}

#[test]
fn index_that_names_no_products_is_told() {
    let files = Files::default();
    let server = serve(&files);
    let entry = json!({"datatype": "image-downloads", "path": "streams/v1/images.json"});
    put(&files, "/streams/v1/index.json", json!({"format": "index:1.0", "index": {"images": entry}}).to_string());
    let (images, told) = listed(&remote(&server));
    assert!(images.is_empty() && told[0].contains("index.json/images") && told[0].contains("products"), "{told:?}");
}
