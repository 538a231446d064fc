//! simplestreams: which image is meant, what is kept of lists, and what a server can't do to a store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lxd_image::remote::{CopyOptions, Remote, RemoteRefresh, RetryPolicy, Simplestreams, Wanted, copy, open_source};
use lxd_image::store::{RefreshOptions, Refreshed, Store};
use lxd_image::{Architecture, ErrorKind, Fingerprint, ImageType, Limits, Monitor};
use serde_json::{Value, json};

use super::failed;
use super::server::{Server, Then, answer};
use crate::store::{Scratch, alias, assert_clean, split, unified};

/// Files of a server, by path, to be changed while it runs.
pub(crate) type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Serves files with ETags.
pub(crate) fn serve(files: &Files) -> Server {
    let files = Arc::clone(files);
    Server::tls(move |asked, line| {
        let Some(bytes) = files.lock().unwrap().get(&asked.path).cloned() else { return answer(line, 404, &[], b"") };
        let tag = format!("\"{}\"", Fingerprint::of(&bytes));
        if asked.header("if-none-match") == Some(&tag) {
            return super::server::head(line, 304, &[("etag", &tag)], None).map(|()| Then::Keep);
        }
        answer(line, 200, &[("etag", &tag)], &bytes)
    })
}

pub(crate) fn put(files: &Files, path: &str, bytes: impl Into<Vec<u8>>) {
    files.lock().unwrap().insert(path.to_owned(), bytes.into());
}

pub(crate) fn item(files: &Files, ftype: &str, name: &str, bytes: &[u8]) -> Value {
    put(files, &format!("/images/{name}"), bytes);
    json!({"ftype": ftype, "path": format!("images/{name}"), "size": bytes.len(), "sha256": Fingerprint::of(bytes).to_string()})
}

/// The items of a split image.
pub(crate) fn split_items(files: &Files, tag: &str) -> (Value, Fingerprint) {
    let (meta, rootfs) = split(tag);
    let fingerprint = Fingerprint::of(&[&*meta, &*rootfs].concat());
    let mut first = item(files, "lxd.tar.xz", &format!("{tag}.tar.xz"), &meta);
    first["combined_squashfs_sha256"] = json!(fingerprint.to_string());
    (
        json!({"lxd.tar.xz": first, "squashfs": item(files, "squashfs", &format!("{tag}.squashfs"), &rootfs)}),
        fingerprint,
    )
}

pub(crate) fn list(files: &Files, products: &Value) {
    let keys: Vec<&String> = products.as_object().unwrap().keys().collect();
    let index = json!({"format": "index:1.0", "index": {
        "images": {"datatype": "image-downloads", "path": "streams/v1/images.json", "format": "products:1.0", "products": keys},
        "other": {"datatype": "content-download", "path": "streams/v1/gone.json", "products": ["x"]},
        "none": {"datatype": "image-downloads", "path": "streams/v1/gone.json", "products": []}}});
    put(files, "/streams/v1/index.json", index.to_string());
    let document =
        json!({"content_id": "images", "datatype": "image-downloads", "format": "products:1.0", "products": products});
    put(files, "/streams/v1/images.json", document.to_string());
}

pub(crate) fn product(versions: &Value) -> Value {
    json!({"aliases": "box, box/1", "arch": "amd64", "os": "Box", "release": "one", "release_title": "One",
        "variant": "default", "support_eol": "2030-01-02", "requirements": {"secureboot": "false"}, "versions": versions})
}

fn remote(server: &Server) -> Simplestreams {
    let options = server.options().retry(RetryPolicy::new().sleep(|_| {}));
    Simplestreams::new(options, &server.url("")).unwrap().certificate(server.pem())
}

fn amd64() -> CopyOptions {
    CopyOptions::new().architectures([Architecture::X86_64])
}

#[test]
fn newest_image_of_an_alias_is_copied_with_all_that_is_told_of_it_and_followed() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let files = Files::default();
    let server = serve(&files);
    let (old, _) = split_items(&files, "old");
    let (new, fingerprint) = split_items(&files, "new");
    list(
        &files,
        &json!({"box:1:default:amd64": product(&json!({
        "20240101_0742": {"items": old, "label": "daily"},
        "20240102": {"items": new, "label": "release"},
        "nonsense": {"items": {}}, "2024": {"items": {}}, "20241399": {"items": {}}}))}),
    );
    let remote = remote(&server);
    let options = amd64().alias(alias("mine")).copy_aliases(true).auto_update(true).public(true);
    let image = copy(&remote, "box", &store, &options, &Monitor::none()).unwrap();
    assert_eq!(image.fingerprint, fingerprint);
    let names: Vec<_> = image.aliases.iter().map(|alias| &*alias.name).collect();
    assert_eq!(names, ["box", "box/1", "box/1/amd64", "box/amd64", "mine"]);
    assert_eq!(image.properties.get("description"), Some("Box One amd64 (release) (20240102)"));
    assert_eq!(image.properties.get("requirements.secureboot"), Some("false"));
    assert_eq!(image.properties.get("type"), Some("squashfs"));
    assert_eq!((image.expires_at, &*image.file_name.unwrap()), (Some(1_893_542_400), "new.tar.xz"));
    assert!(image.public && image.auto_update && !image.cached);
    let source = image.source.unwrap();
    assert_eq!((&*source.protocol, &*source.server, &*source.alias), ("simplestreams", &*server.text("/"), "box"));
    assert_eq!((&*source.image_type, &*source.certificate), ("container", server.pem()));
    let (meta, rootfs) = split("new");
    let opened = store.open_image(&fingerprint).unwrap();
    let read = |file: &lxd_image::io::Blob| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file.reader(), &mut bytes).unwrap();
        bytes
    };
    let (first, second) = opened.files();
    assert!(read(first) == meta && read(second.unwrap()) == rootfs);

    let (newest, next) = split_items(&files, "newest");
    list(&files, &json!({"box:1:default:amd64": product(&json!({"20240301": {"items": newest}}))}));
    let upstreams = RemoteRefresh::new(|source| open_source(source, lxd_image::remote::ClientOptions::new()));
    let done = store.refresh(&fingerprint, &upstreams, &RefreshOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(done, Refreshed::Replaced { fingerprint: next });
    let now = store.resolve("mine").unwrap();
    assert_eq!((now.fingerprint, now.aliases.len()), (next, 5));
    assert_eq!(now.properties.get("serial"), Some("20240301"));
    assert_clean(&store);
}

#[test]
fn items_are_chosen_as_the_peers_choose_them() {
    let files = Files::default();
    let server = serve(&files);
    let digest = |text: &str| Fingerprint::of(text.as_bytes());
    let meta = json!({"ftype": "lxd.tar.xz", "path": "m", "size": 1, "sha256": digest("m").to_string(),
        "combined_squashfs_sha256": digest("sq").to_string(), "combined_rootxz_sha256": digest("rx").to_string(),
        "combined_sha256": digest("unused").to_string(), "combined_disk-kvm-img_sha256": digest("kvm").to_string(),
        "combined_uefi1-img_sha256": "../../etc/passwd"});
    let mut incus = meta.clone();
    incus["ftype"] = json!("incus.tar.xz");
    let root = |ftype: &str| json!({"ftype": ftype, "path": "r", "size": 2, "sha256": "odd"});
    let items = json!({"lxd.tar.xz": meta, "incus.tar.xz": incus, "a": root("root.tar.xz"), "b": root("squashfs"), "c": root("disk-kvm.img"),
        "d": root("uefi1.img"), "e": root("disk1.img"), "f": root("squashfs.vcdiff"), "g": root("never heard of"),
        "u": {"ftype": "incus_combined.tar.gz", "path": "u", "size": 3, "sha256": digest("u").to_string(), "combined_type": "virtual-machine"}});
    let mut strange = product(&json!({"20240102": {"items": items.clone()}}));
    strange["arch"] = json!("pdp11");
    let mut arm = product(&json!({"20240103": {"items": {
        "u": {"ftype": "lxd_combined.tar.gz", "path": "x", "size": 3, "sha256": digest("arm").to_string()}}}}));
    arm["arch"] = json!("arm64");
    list(&files, &json!({"one": product(&json!({"20240102": {"items": items}})), "strange": strange, "two": arm}));
    let remote = remote(&server);
    let all = remote.list(&Monitor::none()).unwrap();
    let found: Vec<_> = all.iter().map(|image| (image.fingerprint, image.image_type)).collect();
    use ImageType::{Container, VirtualMachine};
    assert_eq!(
        found,
        [
            (digest("arm"), Container),
            (digest("sq"), Container),
            (digest("rx"), Container),
            (digest("kvm"), VirtualMachine),
            (digest("u"), VirtualMachine)
        ]
    );
    let wanted = |name: &str| Wanted::new(name).architectures([Architecture::X86_64]);
    let resolve = |wanted: &Wanted| remote.resolve(wanted, &Monitor::none());
    assert_eq!(resolve(&wanted("box")).unwrap().fingerprint, digest("sq"));
    assert_eq!(resolve(&wanted("box/1/arm64")).unwrap().fingerprint, digest("arm"));
    assert_eq!(resolve(&wanted("box").image_type(VirtualMachine)).unwrap().fingerprint, digest("kvm"));
    assert_eq!(resolve(&wanted(&digest("rx").to_string()[..12])).unwrap().fingerprint, digest("rx"));
    // What is not there is answered with what is.
    let error = failed(resolve(&wanted("box").architectures([Architecture::S390x])), ErrorKind::NotFound);
    assert!(error.message().contains("for s390x (container)"), "{error}");
    assert!(error.hint().unwrap().contains("aarch64 (container), x86_64 (container)"), "{:?}", error.hint());
    let error = failed(resolve(&wanted("box/2")), ErrorKind::NotFound);
    assert_eq!(error.hint(), Some("similar names: box, box/1"));
}

/// hostile.md 157, 158, 159; CVE-2026-33542, CVE-2026-48769.
#[test]
fn lying_simplestreams_server_leaves_the_store_empty() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let files = Files::default();
    let server = serve(&files);
    let remote = remote(&server);
    let (good, fingerprint) = split_items(&files, "good");
    let (other, _) = split_items(&files, "other");
    let lie = |change: &dyn Fn(&mut Value), kinds: &[ErrorKind]| {
        let mut items = good.clone();
        change(&mut items);
        list(&files, &json!({"box": product(&json!({"20240101": {"items": items}}))}));
        for reference in ["box", &fingerprint.to_string()] {
            let error = copy(&remote, reference, &store, &amd64(), &Monitor::none()).expect_err("a lie was believed");
            assert!(kinds.contains(&error.kind()), "{error}");
            assert!(store.get_or_fetch(&remote, reference, &amd64(), &Monitor::none()).is_err());
        }
    };
    let mismatch = &[ErrorKind::Mismatch][..];
    // Each part is what it says, the pair is another image.
    lie(&|items| items["squashfs"] = other["squashfs"].clone(), mismatch);
    lie(&|items| items["squashfs"]["sha256"] = json!("0".repeat(64)), mismatch);
    lie(&|items| items["squashfs"]["size"] = json!(5), mismatch);
    lie(&|items| items["squashfs"]["size"] = json!(1_u64 << 50), mismatch);
    lie(&|items| items["squashfs"]["path"] = json!("/etc/passwd"), &[ErrorKind::NotFound]);
    lie(&|items| items["lxd.tar.xz"]["size"] = json!(-5), &[ErrorKind::Malformed]);
    lie(&|items| items["lxd.tar.xz"]["size"] = json!("5"), &[ErrorKind::Malformed]);
    for way in [
        "../../etc/passwd",
        "file:///etc/passwd",
        "https://elsewhere.example/x",
        "//elsewhere.example/x",
        "images/%2e%2E/%2e%2e/x",
        "a\\..\\b",
        "x\r\ny: z",
        "",
    ] {
        lie(&|items| items["squashfs"]["path"] = json!(way), &[ErrorKind::UnsafePath]);
    }
    // An image named by what is no fingerprint is none.
    lie(
        &|items| items["lxd.tar.xz"]["combined_squashfs_sha256"] = json!("../../../x"),
        &[ErrorKind::Malformed, ErrorKind::NotFound],
    );
    assert!(store.images().unwrap().is_empty());
    assert!(crate::store::files(&path).is_empty());
    list(&files, &json!({"box": product(&json!({"20240101": {"items": good}}))}));
    assert_eq!(copy(&remote, "box", &store, &amd64(), &Monitor::none()).unwrap().fingerprint, fingerprint);
}

/// hostile.md 161, 162, 163.
#[test]
fn lists_that_are_odd_are_read_and_lists_that_are_hostile_are_refused() {
    let files = Files::default();
    let server = serve(&files);
    let remote = remote(&server);
    let ask = || remote.list(&Monitor::none());
    failed(ask(), ErrorKind::NotFound);
    list(&files, &json!({}));
    assert!(ask().unwrap().is_empty());
    let bytes = unified("x");
    let unified = item(&files, "lxd_combined.tar.gz", "x", &bytes);
    let mut odd = product(&json!({"20240101": {"items": {"": unified}}}));
    odd["aliases"] = json!("a,,b/c/../d,\u{1b}[2J,e:f, ,../../x");
    list(&files, &json!({"odd": odd}));
    let image = ask().unwrap().remove(0);
    assert!(image.aliases.iter().any(|alias| alias.name == "\u{1b}[2J"));
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let monitor = Monitor::none();
    let options = amd64().copy_aliases(true);
    let copied = copy(&remote, "a", &store, &options, &monitor).unwrap();
    let names: Vec<_> = copied.aliases.iter().map(|alias| &*alias.name).collect();
    assert_eq!(names, ["a", "a/amd64"]);
    // What no address can hold is no alias of a store, and is told.
    let told: String = monitor.omissions().iter().map(ToString::to_string).collect();
    assert!(told.contains("../../x") && told.contains("b/c/../d"), "{told}");

    for (list, kind) in [
        ("[".repeat(100_000), ErrorKind::LimitExceeded),
        ("{\"format\":\"products:2.0\"}".to_owned(), ErrorKind::Malformed),
        ("not json".to_owned(), ErrorKind::Malformed),
        ("{\"products\":[]}".to_owned(), ErrorKind::Malformed),
    ] {
        put(&files, "/streams/v1/images.json", list);
        failed(ask(), kind);
    }
    put(
        &files,
        "/streams/v1/index.json",
        json!({"index": {"x": {"datatype": "image-downloads", "path": "../../secret", "products": ["x"]}}}).to_string(),
    );
    failed(ask(), ErrorKind::UnsafePath);
    let mut limits = Limits::default();
    limits.remote_index = 100;
    let small = Simplestreams::new(server.options().limits(limits), &server.url("")).unwrap();
    list(&files, &json!({"odd": {}}));
    assert_eq!(failed(small.list(&Monitor::none()), ErrorKind::LimitExceeded).limit_name(), Some("remote_index"));
}

#[test]
fn list_is_cached_for_an_hour_and_then_revalidated() {
    let scratch = Scratch::new();
    let files = Files::default();
    let server = serve(&files);
    let (items, fingerprint) = split_items(&files, "x");
    list(&files, &json!({"box": product(&json!({"20240101": {"items": items}}))}));
    let cache = scratch.join("cache");
    let new = || remote(&server).cache_dir(&cache);
    let ask = |remote: &Simplestreams| remote.list(&Monitor::none()).unwrap().len();
    assert_eq!(ask(&new()), 1);
    assert_eq!(server.asked().len(), 2);
    server.forget();
    assert_eq!(ask(&new()), 1);
    assert!(server.asked().is_empty(), "within the hour nothing is asked");
    assert_eq!(ask(&new().max_age(Duration::ZERO)), 1);
    let asked = server.asked();
    assert!(asked.len() == 2 && asked.iter().all(|asked| asked.header("if-none-match").is_some()));
    // Changed, it is read again.
    list(&files, &json!({}));
    assert_eq!(ask(&new().max_age(Duration::ZERO)), 0);
    // What is kept is private, and what was changed there is not believed.
    use std::os::unix::fs::PermissionsExt;
    let mut count = 0;
    for entry in std::fs::read_dir(&cache).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len() - 2;
        bytes[end] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        count += 1;
    }
    assert_eq!(count, 2);
    server.forget();
    assert_eq!(ask(&new()), 0);
    assert!(server.asked().iter().all(|asked| asked.header("if-none-match").is_none()));
    assert_eq!(fingerprint.to_string().len(), 64);
}

#[test]
fn tree_on_this_machines_disk_is_a_remote_too() {
    let scratch = Scratch::new();
    let files = Files::default();
    let (items, fingerprint) = split_items(&files, "x");
    list(&files, &json!({"box": product(&json!({"20240101": {"items": items}}))}));
    let tree = scratch.join("tree with blank");
    for (path, bytes) in &*files.lock().unwrap() {
        let path = tree.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let url = format!("file://{}", tree.display()).replace(' ', "%20").parse().unwrap();
    let remote = Simplestreams::new(lxd_image::remote::ClientOptions::new(), &url).unwrap();
    let store = Store::open(scratch.join("store")).unwrap();
    assert_eq!(copy(&remote, "box", &store, &amd64(), &Monitor::none()).unwrap().fingerprint, fingerprint);
    std::fs::write(tree.join("images/x.squashfs"), b"short").unwrap();
    store.delete(&fingerprint).unwrap();
    failed(copy(&remote, "box", &store, &amd64(), &Monitor::none()), ErrorKind::Mismatch);
    std::fs::remove_file(tree.join("images/x.squashfs")).unwrap();
    failed(copy(&remote, "box", &store, &amd64(), &Monitor::none()), ErrorKind::NotFound);
    assert!(files_of(&store).is_empty());
}

fn files_of(store: &Store) -> Vec<Fingerprint> {
    store.images().unwrap().into_iter().map(|image| image.fingerprint).collect()
}
