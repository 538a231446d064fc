//! Mirrors that keep the signatures of the lists' owner: if and only if the documents are byte for byte those of the owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lxd_image::format::{ImageSource, Input};
use lxd_image::remote::{
    ClientOptions, MirrorOptions, MirrorTarget, Mirrored, Remote, RetryPolicy, Simplestreams, mirror,
};
use lxd_image::simplestreams::{AddOptions, PruneOptions, Tree, TreeOptions, TreeVerifyOptions};
use lxd_image::store::Filter;
use lxd_image::trust::{ListKeys, ListSigner, SecretKey};
use lxd_image::{ErrorKind, Limits, Monitor};
use serde_json::{Value, json};

use super::gnupg::Gnupg;
use super::{OWNER, keys, now, other, owner};
use crate::remote::failed;
use crate::remote::server::Server;
use crate::remote::simplestreams::{Files, list, product, put, serve, split_items};
use crate::store::{Scratch, unified};

/// A tree that its owner signs with both kinds of keys.
struct Owned {
    tree: Tree,
    keys: ListKeys,
}

impl Owned {
    fn new(at: &Path) -> Self {
        let secret = SecretKey::generate().unwrap();
        let parse = |text: &str| ListSigner::parse(text.as_bytes(), None, now(), &Limits::default()).unwrap();
        let minisign = parse(&secret.to_text(None).unwrap());
        let mut all = keys(OWNER);
        all.extend(minisign.keys());
        let openpgp = parse(include_str!("keys/owner.sec.asc"));
        Self { tree: TreeOptions::new().sign_with(openpgp).sign_with(minisign).create(at).unwrap(), keys: all }
    }

    fn add(&self, tag: &str) -> lxd_image::Fingerprint {
        let options = AddOptions::new().property("release", tag).unwrap().alias(tag).unwrap();
        let image = ImageSource::unified(Input::stream(std::io::Cursor::new(unified(tag))));
        self.tree.lock().unwrap().add(image, &options, &Monitor::none()).unwrap().fingerprint
    }

    fn remote(&self) -> Simplestreams {
        reader(self.tree.path()).keys(self.keys.clone())
    }
}

fn reader(at: &Path) -> Simplestreams {
    Simplestreams::new(ClientOptions::new(), &format!("file://{}", at.display()).parse().unwrap()).unwrap()
}

fn documents(at: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(at.join("streams/v1"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    found.sort();
    found
}

fn mirrored(remote: &dyn Remote, tree: &Tree, options: &MirrorOptions) -> Mirrored {
    mirror(remote, MirrorTarget::Tree(tree), options, &Monitor::none()).unwrap()
}

fn told(done: &Mirrored) -> String {
    done.omissions.iter().map(ToString::to_string).collect()
}

#[test]
fn mirror_has_the_signatures_of_the_owner() {
    let scratch = Scratch::new();
    let owned = Owned::new(&scratch.join("owned"));
    let (one, two) = (owned.add("one"), owned.add("two"));
    let copy = Tree::create(scratch.join("copy")).unwrap();
    let done = mirrored(&owned.remote(), &copy, &MirrorOptions::new());
    assert_eq!(done.copied.len(), 2);
    assert!(done.omissions.is_empty(), "{}", told(&done));
    assert_eq!(documents(copy.path()), documents(owned.tree.path()));
    let mut found: Vec<_> = reader(copy.path()).keys(keys(OWNER)).list(&Monitor::none()).unwrap();
    found.sort_by_key(|image| image.fingerprint);
    let mut both = vec![one, two];
    both.sort();
    assert_eq!(found.into_iter().map(|image| image.fingerprint).collect::<Vec<_>>(), both);
    let report = copy.verify(&TreeVerifyOptions::new().keys(owned.keys.clone()), &Monitor::none()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    // Again: nothing to do, and nothing is written.
    let again = mirrored(&owned.remote(), &copy, &MirrorOptions::new().delete(true));
    assert_eq!((again.copied.len(), again.kept, again.removed.len()), (0, 2, 0));
    // A change of the owner, with an image that goes.
    owned.tree.lock().unwrap().remove(&[one]).unwrap();
    let three = owned.add("three");
    let changed = mirrored(&owned.remote(), &copy, &MirrorOptions::new().delete(true));
    assert_eq!((changed.copied[0].fingerprint, changed.kept, &changed.removed[..]), (three, 1, &[one][..]));
    assert_eq!(documents(copy.path()), documents(owned.tree.path()));
}

#[test]
fn tools_of_simplestreams_and_gnupg_verify_what_a_mirror_kept() {
    let Some(gnupg) = Gnupg::new("mirror") else { return };
    let scratch = Scratch::new();
    let owned = Owned::new(&scratch.join("owned"));
    let one = owned.add("one");
    let copy = Tree::create(scratch.join("copy")).unwrap();
    mirrored(&owned.remote(), &copy, &MirrorOptions::new());
    let ring = gnupg.gpg("--dearmor", OWNER.as_bytes());
    let read = |name: &str| fs::read(copy.path().join("streams/v1").join(name)).unwrap();
    for name in ["index", "images"] {
        assert!(gnupg.gpgv(&ring, &read(&format!("{name}.sjson")), None), "{name}");
        assert!(gnupg.gpgv(&ring, &read(&format!("{name}.json.gpg")), Some(&read(&format!("{name}.json")))), "{name}");
    }
    let Some(query) = std::env::var_os("SSTREAM_QUERY") else { return };
    let path = gnupg.path("owner.gpg");
    fs::write(&path, ring).unwrap();
    let output = std::process::Command::new(query)
        .arg("--keyring")
        .arg(&path)
        .arg("--output-format=%(sha256)s")
        .arg(format!("file://{}/streams/v1/index.sjson", copy.path().display()))
        .output()
        .unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(&one.to_string()));
}

/// A server with a list in another layout: paths, items and fields that this library would not write.
fn foreign(files: &Files) -> Value {
    let (items, _) = split_items(files, "one");
    put(files, "/extra/one.manifest", b"packages".to_vec());
    let mut items = items;
    let digest = lxd_image::Fingerprint::of(b"packages").to_string();
    items["manifest"] = json!({"ftype": "manifest", "path": "extra/one.manifest", "size": 8, "sha256": digest, "x": 1});
    let mut product = product(&json!({"20240101": {"items": items}}));
    product["unknown"] = json!({"kept": true});
    list(files, &json!({"box:1:default:amd64": product}));
    dated(files, "Wed, 01 Jan 2025 00:00:00 +0000");
    items
}

/// Dates index and list, and leaves no other list in the index.
fn dated(files: &Files, updated: &str) {
    for path in ["/streams/v1/index.json", "/streams/v1/images.json"] {
        let mut document: Value = serde_json::from_slice(&files.lock().unwrap()[path]).unwrap();
        document["updated"] = json!(updated);
        if let Some(lists) = document["index"].as_object_mut() {
            lists.retain(|name, _| name == "images");
        }
        put(files, path, format!("{document}\n"));
    }
}

/// Signs as python-simplestreams does: only the messages hold, and the plain documents have no signature beside them.
fn sign(files: &Files, key: &lxd_image::trust::openpgp::SecretKey) {
    for name in ["index", "images"] {
        let text = String::from_utf8(files.lock().unwrap()[&format!("/streams/v1/{name}.json")].clone()).unwrap();
        let text = text.replace("images.json\"", "images.sjson\"");
        put(files, &format!("/streams/v1/{name}.sjson"), key.sign_cleartext(&text, now()).unwrap());
    }
}

fn remote(server: &Server) -> Simplestreams {
    let options = server.options().retry(RetryPolicy::new().tries(1).sleep(|_| {}));
    Simplestreams::new(options, &server.url("")).unwrap().keys(keys(OWNER))
}

fn files_below(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// A tree of another tool that its owner signed, on a server, and a tree that is to be its mirror.
struct Place {
    files: Files,
    server: Server,
    scratch: Scratch,
    copy: Tree,
}

impl Place {
    fn new() -> Self {
        let files = Files::default();
        foreign(&files);
        sign(&files, &owner());
        let (server, scratch) = (serve(&files), Scratch::new());
        let copy = Tree::create(scratch.join("copy")).unwrap();
        Self { files, server, scratch, copy }
    }
}

#[test]
fn list_of_another_tool_is_kept_with_all_its_files() {
    let Place { files, server, scratch, copy } = Place::new();
    let done = mirrored(&remote(&server), &copy, &MirrorOptions::new());
    assert!(done.omissions.is_empty(), "{}", told(&done));
    for (path, bytes) in files.lock().unwrap().iter() {
        assert_eq!(&fs::read(copy.path().join(path.trim_start_matches('/'))).unwrap(), bytes, "{path}");
    }
    // The owner withdraws it: after an hour its files go, at whatever paths they were.
    list(
        &files,
        &json!({"box:2:default:amd64": product(&json!({"20240102": {"items": split_items(&files, "two").0}}))}),
    );
    dated(&files, "Thu, 02 Jan 2025 00:00:00 +0000");
    sign(&files, &owner());
    mirrored(&remote(&server), &copy, &MirrorOptions::new().delete(true));
    let later = TreeOptions::new().clock(|| now() + 7200).open(scratch.join("copy")).unwrap();
    later.lock().unwrap().prune(&PruneOptions::new().after(Duration::from_secs(3600)), &Monitor::none()).unwrap();
    let left: Vec<_> =
        files_below(copy.path()).into_iter().filter(|path| path.to_string_lossy().contains("one")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(copy.verify(&TreeVerifyOptions::new().keys(keys(OWNER)), &Monitor::none()).unwrap().is_clean());
}

/// The list names its file `extra/one.manifest` by another path.
fn renamed(files: &Files, path: &str, options: MirrorOptions) -> MirrorOptions {
    let text = String::from_utf8(files.lock().unwrap()["/streams/v1/images.json"].clone()).unwrap();
    put(files, "/streams/v1/images.json", text.replace("extra/one.manifest", path));
    sign(files, &owner());
    options
}

/// Each row: why the tree gets a list of its own, and what is told.
#[test]
fn signatures_that_can_not_be_kept_are_told() {
    type Change = fn(&Files, MirrorOptions) -> MirrorOptions;
    let rows: &[(&str, Change)] = &[
        ("fewer images", |_, options| options.filter("os=Box".parse::<Filter>().unwrap())),
        ("has no sha256", |files, options| {
            let text = String::from_utf8(files.lock().unwrap()["/streams/v1/images.json"].clone()).unwrap();
            let mut list: Value = serde_json::from_str(&text).unwrap();
            let items = &mut list["products"]["box:1:default:amd64"]["versions"]["20240101"]["items"];
            items["manifest"].as_object_mut().unwrap().remove("sha256");
            put(files, "/streams/v1/images.json", list.to_string());
            sign(files, &owner());
            options
        }),
        ("names other lists, too", |files, options| {
            let items = split_items(files, "one").0;
            list(files, &json!({"box:1:default:amd64": product(&json!({"20240101": {"items": items}}))}));
            for path in ["/streams/v1/index.json", "/streams/v1/images.json"] {
                let mut document: Value = serde_json::from_slice(&files.lock().unwrap()[path]).unwrap();
                document["updated"] = json!("Wed, 01 Jan 2025 00:00:00 +0000");
                put(files, path, document.to_string());
            }
            sign(files, &owner());
            options
        }),
        ("could not be copied", |files, options| {
            put(files, "/extra/one.manifest", b"damaged!".to_vec());
            options
        }),
        ("in the place of the lists", |files, options| {
            let text = String::from_utf8(files.lock().unwrap()["/streams/v1/images.json"].clone()).unwrap();
            put(files, "/streams/v1/images.json", text.replace("extra/one.manifest", "streams/v1/index.json"));
            sign(files, &owner());
            options
        }),
        ("has a hidden name", |files, options| renamed(files, ".well-known/acme-challenge/token", options)),
        ("is a page or a script", |files, options| renamed(files, "index.html", options)),
    ];
    for (reason, change) in rows {
        let files = Files::default();
        foreign(&files);
        sign(&files, &owner());
        let options = change(&files, MirrorOptions::new());
        let server = serve(&files);
        let scratch = Scratch::new();
        let copy = Tree::create(scratch.join("copy")).unwrap();
        let done = mirrored(&remote(&server), &copy, &options);
        let told = told(&done);
        assert!(told.contains("signature by") && told.contains(reason), "{reason}: {told}");
        assert!(!copy.is_signed(), "{reason}");
        assert_eq!(copy.listing().unwrap().images().len(), 1, "{reason}");
    }
}

#[test]
fn tree_with_the_signatures_of_the_owner_stays_as_it_is_where_they_can_not_be_kept() {
    let Place { files, server, copy, scratch: _scratch } = Place::new();
    mirrored(&remote(&server), &copy, &MirrorOptions::new());
    let before = documents(copy.path());
    let fails = |remote: &Simplestreams, options: &MirrorOptions, kind| {
        let error = failed(mirror(remote, MirrorTarget::Tree(&copy), options, &Monitor::none()), kind);
        assert_eq!(documents(copy.path()), before, "{error}");
        error
    };
    let filtered = MirrorOptions::new().filter("os=Box".parse().unwrap());
    let error = fails(&remote(&server), &filtered, ErrorKind::InvalidInput);
    assert!(error.hint().unwrap().contains("--drop-signatures"), "{error:?}");
    // A list by somebody else, and one that nobody has to sign any more.
    sign(&files, &other());
    fails(&remote(&server), &MirrorOptions::new(), ErrorKind::Untrusted);
    let without = Simplestreams::new(server.options(), &server.url("")).unwrap();
    list(
        &files,
        &json!({"box:2:default:amd64": product(&json!({"20240102": {"items": split_items(&files, "two").0}}))}),
    );
    fails(&without, &MirrorOptions::new(), ErrorKind::InvalidInput);
    // A file that is damaged on the server: the old list stays, and what failed is told.
    foreign(&files);
    let text = String::from_utf8(files.lock().unwrap()["/streams/v1/images.json"].clone()).unwrap();
    put(
        &files,
        "/streams/v1/images.json",
        text.replace("01 Jan 2025", "03 Jan 2025").replace("one.manifest", "new.manifest"),
    );
    put(&files, "/extra/new.manifest", b"damaged!".to_vec());
    sign(&files, &owner());
    let done = mirrored(&remote(&server), &copy, &MirrorOptions::new().delete(true));
    assert_eq!(done.failed.len(), 1);
    assert_eq!(documents(copy.path()), before);
}

/// The owner of a list decides about its own files, not about the operator's.
#[test]
fn file_of_the_operator_is_not_replaced_by_one_of_a_list() {
    let Place { server, copy, files: _files, scratch: _scratch } = Place::new();
    fs::create_dir(copy.path().join("extra")).unwrap();
    fs::write(copy.path().join("extra/one.manifest"), "mine").unwrap();
    let done = mirrored(&remote(&server), &copy, &MirrorOptions::new());
    assert!(told(&done).contains("a file of its own at `extra/one.manifest`"), "{}", told(&done));
    assert_eq!(fs::read(copy.path().join("extra/one.manifest")).unwrap(), b"mine");
    fs::remove_file(copy.path().join("extra/one.manifest")).unwrap();
    let done = mirrored(&remote(&server), &copy, &MirrorOptions::new().delete(true));
    assert!(done.omissions.is_empty() && copy.is_signed(), "{}", told(&done));
}

#[test]
fn mirror_with_a_key_of_its_own_signs_its_own_list() {
    let scratch = Scratch::new();
    let owned = Owned::new(&scratch.join("owned"));
    owned.add("one");
    let signer = ListSigner::parse(include_str!("keys/other.sec.asc").as_bytes(), None, now(), &Limits::default());
    let copy = TreeOptions::new().sign_with(signer.unwrap()).create(scratch.join("copy")).unwrap();
    let done = mirrored(&owned.remote(), &copy, &MirrorOptions::new());
    assert!(done.omissions.is_empty(), "{}", told(&done));
    reader(copy.path()).keys(keys(super::OTHER)).list(&Monitor::none()).unwrap();
    failed(reader(copy.path()).keys(keys(OWNER)).list(&Monitor::none()), ErrorKind::Untrusted);
}

#[test]
fn signatures_are_not_kept_where_they_would_hide_or_replace_other_streams() {
    let scratch = Scratch::new();
    let owned = Owned::new(&scratch.join("owned"));
    owned.add("one");
    let at = scratch.join("copy");
    let stream = |name: &str| TreeOptions::new().stream(name).unwrap().create(&at).unwrap();
    let daily = stream("daily");
    let image = ImageSource::unified(Input::stream(std::io::Cursor::new(unified("two"))));
    daily.lock().unwrap().add(image, &AddOptions::new(), &Monitor::none()).unwrap();
    for (name, reason) in [("images", "names other lists"), ("weekly", "the stream `images`")] {
        let done = mirrored(&owned.remote(), &stream(name), &MirrorOptions::new());
        assert!(told(&done).contains(reason), "{}", told(&done));
        assert_eq!(stream(name).listing().unwrap().images().len(), 1, "{name}");
    }
    let index: Value = serde_json::from_slice(&fs::read(at.join("streams/v1/index.json")).unwrap()).unwrap();
    assert_eq!(index["index"].as_object().unwrap().len(), 3, "{index}");
}
