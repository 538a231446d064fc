//! One tree, changed through the library: what comes in, what goes, and what stays as somebody else left it.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lxd_image::format::ImageSource;
use lxd_image::simplestreams::{AddOptions, PruneOptions, Tree, TreeOptions};
use lxd_image::{Cancel, ErrorKind, Fingerprint, ImageType, Limits, Monitor};
use serde_json::{Value, json};

use super::{
    add, add_split, assert_clean, failed, input, listed, sorted, split_fingerprint, split_source, stored, tree, verify,
};
use crate::store::{Scratch, split, unified, unified_with};

fn json_of(path: impl AsRef<std::path::Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn what_is_added_is_listed_for_both_peers_under_the_digests_of_its_files() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let (tree, _) = tree(&at);
    assert_clean(&tree);
    let one = add(&tree, "one");
    // Either file may come first.
    let (meta, rootfs) = split("two");
    let options = AddOptions::new().alias("second").unwrap().property("release", "two").unwrap();
    let source = ImageSource::split(input(rootfs.clone()), input(meta.clone()));
    let two = tree.lock().unwrap().add(source, &options, &Monitor::none()).unwrap();
    assert_eq!((one, two.fingerprint), (Fingerprint::of(&unified("one")), split_fingerprint("two")));
    assert_eq!(two.product, "Debian:two:default:amd64");
    assert_eq!(listed(&tree), sorted([one, two.fingerprint]));
    let mut names = [
        format!("{one}.incus_combined.tar.gz"),
        format!("{}.incus.tar.xz", Fingerprint::of(&meta)),
        format!("{}.root.tar.xz", Fingerprint::of(&rootfs)),
    ];
    names.sort();
    assert_eq!(stored(&at), names);
    let list = json_of(at.join("streams/v1/images.json"));
    let product = &list["products"]["Debian:two:default:amd64"];
    assert_eq!(product["aliases"], "Debian/two/default,second");
    let items = &product["versions"]["202311142213"]["items"];
    assert_eq!(items["lxd.tar.xz"]["path"], items["incus.tar.xz"]["path"]);
    assert_eq!(items["lxd.tar.xz"]["combined_rootxz_sha256"], two.fingerprint.to_string());
    let index = json_of(at.join("streams/v1/index.json"));
    assert_eq!(index["index"]["images"]["products"], json!(["Debian:one:default:amd64", "Debian:two:default:amd64"]));
    assert_clean(&tree);
    let found = tree.listing().unwrap();
    let image = found.resolve("second", ImageType::Container, "amd64".parse().unwrap()).unwrap();
    assert_eq!(image.fingerprint, two.fingerprint);
    assert_eq!(fs::read_dir(at.join(".lxd-image/staging")).unwrap().count(), 0);
}

#[test]
fn what_can_not_be_added_leaves_the_tree_as_it_was() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let (tree, _) = tree(&at);
    add(&tree, "one");
    let before = (stored(&at), fs::read(at.join("streams/v1/images.json")).unwrap());
    let mut writer = tree.lock().unwrap();
    let options = AddOptions::new().property("release", "one").unwrap();
    let one = || ImageSource::unified(input(unified("one")));
    failed(writer.add(one(), &options, &Monitor::none()), ErrorKind::AlreadyExists);
    let nameless = unified_with("architecture: amd64\ncreation_date: 1700000000\n", b"x");
    let error = failed(
        writer.add(ImageSource::unified(input(nameless)), &AddOptions::new(), &Monitor::none()),
        ErrorKind::InvalidInput,
    );
    assert!(error.to_string().contains("`os`") && error.hint().unwrap().contains("--property"), "{error}");
    failed(
        writer.add(ImageSource::unified(input(b"no image".to_vec())), &AddOptions::new(), &Monitor::none()),
        ErrorKind::Malformed,
    );
    let wrong = AddOptions::new().expected_fingerprint(Fingerprint::of(b"another"));
    failed(writer.add(split_source("two"), &wrong, &Monitor::none()), ErrorKind::Mismatch);
    let cancel = Cancel::new();
    cancel.cancel();
    let cancelled = AddOptions::new();
    failed(writer.add(split_source("two"), &cancelled, &Monitor::none().with_cancel(cancel)), ErrorKind::Cancelled);
    failed(writer.remove(&[Fingerprint::of(b"another")]), ErrorKind::NotFound);
    assert_eq!((stored(&at), fs::read(at.join("streams/v1/images.json")).unwrap()), before);
    assert_eq!(fs::read_dir(at.join(".lxd-image/staging")).unwrap().count(), 0);
}

#[test]
fn second_writer_is_refused_and_leftovers_of_a_dead_one_are_swept() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let (tree, _) = tree(&at);
    fs::write(at.join(".lxd-image/staging/first"), "half").unwrap();
    let writer = tree.lock().unwrap();
    assert!(!at.join(".lxd-image/staging/first").exists());
    failed(tree.lock(), ErrorKind::Busy);
    assert!(Tree::open(&at).unwrap().listing().unwrap().images().is_empty());
    drop(writer);
    add(&tree, "one");
    failed(Tree::open(scratch.join("nothing")), ErrorKind::NotFound);
    assert!(!scratch.join("nothing").exists());
}

#[test]
fn files_stay_an_hour_after_they_left_the_list_and_strangers_files_for_ever() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let (tree, clock) = tree(&at);
    let (one, two) = (add(&tree, "one"), add_split(&tree, "two"));
    fs::write(at.join("images/notes.txt"), "mine").unwrap();
    let leftover = format!("{}.squashfs", Fingerprint::of(b"leftover"));
    fs::write(at.join("images").join(&leftover), "half").unwrap();
    let prune = |options: PruneOptions| tree.lock().unwrap().prune(&options, &Monitor::none()).unwrap();
    tree.lock().unwrap().remove(&[two]).unwrap();
    assert_eq!(listed(&tree), [one]);
    assert_eq!((prune(PruneOptions::new()).files.len(), stored(&at).len()), (0, 5));
    clock.fetch_add(3599, Ordering::Relaxed);
    let early = prune(PruneOptions::new());
    assert_eq!((early.files.len(), early.waiting), (0, 3));
    // A clock that goes back makes nothing go early.
    clock.fetch_sub(10_000, Ordering::Relaxed);
    assert_eq!(prune(PruneOptions::new()).waiting, 3);
    clock.fetch_add(10_001, Ordering::Relaxed);
    let dry = prune(PruneOptions::new().dry_run(true));
    assert_eq!((dry.files.len(), stored(&at).len()), (3, 5));
    let done = prune(PruneOptions::new());
    assert_eq!((&done.files, done.bytes), (&dry.files, dry.bytes));
    assert_eq!(stored(&at), [format!("{one}.incus_combined.tar.gz"), "notes.txt".to_owned()]);
    assert_clean(&tree);
    // One that came back in between is not counted from its first farewell.
    tree.lock().unwrap().remove(&[one]).unwrap();
    add(&tree, "one");
    clock.fetch_add(4000, Ordering::Relaxed);
    tree.lock().unwrap().remove(&[one]).unwrap();
    assert_eq!(prune(PruneOptions::new()).files.len(), 0);
    assert_eq!(prune(PruneOptions::new().after(Duration::ZERO)).files.len(), 1);
}

#[test]
fn prune_keeps_the_newest_versions_of_each_product_and_their_files() {
    let scratch = Scratch::new();
    let (tree, clock) = tree(&scratch.join("tree"));
    let version = |tag: &str, created: u64| {
        let text = format!(
            "architecture: amd64\ncreation_date: {created}\nproperties: {{os: Box, release: '1', tag: {tag}}}\n"
        );
        let source = ImageSource::unified(input(unified_with(&text, tag.as_bytes())));
        tree.lock().unwrap().add(source, &AddOptions::new(), &Monitor::none()).unwrap().fingerprint
    };
    let day = 86_400;
    let [_, middle, newest] = [version("a", 17 * day), version("b", 18 * day), version("c", 19 * day)];
    // Two of one minute are two.
    let twin = version("d", 19 * day);
    assert_eq!(listed(&tree).len(), 4);
    let done = tree.lock().unwrap().prune(&PruneOptions::new().keep(3), &Monitor::none()).unwrap();
    assert_eq!(done.versions, ["Box:1:default:amd64 197001180000"]);
    assert_eq!(listed(&tree), sorted([middle, newest, twin]));
    clock.fetch_add(3600, Ordering::Relaxed);
    assert_eq!(tree.lock().unwrap().prune(&PruneOptions::new().keep(3), &Monitor::none()).unwrap().files.len(), 1);
    assert_clean(&tree);
}

/// hostile.md 157, 158, 159.
#[test]
fn verify_finds_whatever_is_not_as_the_list_says() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let (tree, _) = tree(&at);
    add(&tree, "one");
    add_split(&tree, "two");
    let list = at.join("streams/v1/images.json");
    let good = fs::read(&list).unwrap();
    let kinds = || verify(&tree).findings.iter().map(lxd_image::Error::kind).collect::<Vec<_>>();
    let change = |pointer: &str, value: Value| {
        let mut document: Value = serde_json::from_slice(&good).unwrap();
        *document
            .pointer_mut(&format!("/products/Debian:two:default:amd64/versions/202311142213/items/{pointer}"))
            .unwrap() = value;
        fs::write(&list, document.to_string()).unwrap();
    };
    let wrong = Fingerprint::of(b"wrong").to_string();
    change("incus.tar.xz/combined_rootxz_sha256", json!(wrong));
    assert_eq!(kinds(), [ErrorKind::Mismatch]);
    change("root.tar.xz/sha256", json!(wrong));
    assert_eq!(kinds(), [ErrorKind::Mismatch]);
    change("root.tar.xz/size", json!(7));
    assert_eq!(kinds(), [ErrorKind::Mismatch]);
    change("root.tar.xz/path", json!("../../../etc/passwd"));
    assert_eq!(kinds(), [ErrorKind::UnsafePath]);
    change("root.tar.xz/path", json!("images/gone"));
    assert_eq!(kinds(), [ErrorKind::NotFound]);
    change("root.tar.xz/path", json!("images"));
    assert_eq!(kinds(), [ErrorKind::Malformed]);
    change("root.tar.xz/sha256", json!("odd"));
    assert_eq!(kinds(), [ErrorKind::Malformed]);
    fs::write(&list, "[").unwrap();
    failed(tree.verify(&Default::default(), &Monitor::none()), ErrorKind::Malformed);
    fs::write(&list, &good).unwrap();
    fs::write(at.join("streams/v1/index.json"), r#"{"index": {}}"#).unwrap();
    assert_eq!(kinds(), [ErrorKind::Malformed]);
    // Any change makes the index right.
    add(&tree, "three");
    assert_clean(&tree);
    // Bytes that rot are found, and adding them anew mends them.
    let name = format!("{}.incus_combined.tar.gz", Fingerprint::of(&unified("one")));
    let mut bytes = unified("one");
    bytes[700] ^= 1;
    fs::write(at.join("images").join(&name), bytes).unwrap();
    assert_eq!(kinds(), [ErrorKind::Mismatch]);
    tree.lock().unwrap().remove(&[Fingerprint::of(&unified("one"))]).unwrap();
    add(&tree, "one");
    assert_clean(&tree);
}

#[test]
fn what_others_wrote_into_index_and_list_is_kept() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    fs::create_dir_all(at.join("streams/v1")).unwrap();
    let index = json!({"format": "index:1.0", "updated": "yesterday", "index": {
        "com.example:files": {"datatype": "content-download", "path": "streams/v1/files.json", "products": ["x"], "odd": 1}}});
    fs::write(at.join("streams/v1/index.json"), index.to_string()).unwrap();
    let list = json!({"content_id": "theirs", "datatype": "image-downloads", "format": "products:1.0", "creator": "hand",
        "products": {"a:b:c:amd64": {"arch": "amd64", "extra": {"deep": [1]}, "versions": {"20240101": {"items": {}, "note": "n"}}}}});
    fs::write(at.join("streams/v1/images.json"), list.to_string()).unwrap();
    let (tree, _) = tree(&at);
    let one = add(&tree, "one");
    tree.lock().unwrap().remove(&[one]).unwrap_or_else(|error| panic!("{error}"));
    let index = json_of(at.join("streams/v1/index.json"));
    assert_eq!(index["index"]["com.example:files"]["odd"], 1);
    assert_eq!(index["updated"], "yesterday");
    assert_eq!(index["index"]["images"]["path"], "streams/v1/images.json");
    let list = json_of(at.join("streams/v1/images.json"));
    assert_eq!((&list["creator"], &list["content_id"]), (&json!("hand"), &json!("theirs")));
}

#[test]
fn empty_stream_does_not_take_the_index_of_the_others_along() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let (images, _) = tree(&at);
    add(&images, "one");
    let daily = TreeOptions::new().stream("daily").unwrap().create(&at).unwrap();
    let gone = add(&daily, "two");
    daily.lock().unwrap().remove(&[gone]).unwrap();
    daily.lock().unwrap().discard_if_empty().unwrap();
    assert!(json_of(at.join("streams/v1/index.json"))["index"]["images"].is_object());
    assert!(at.join(".lxd-image/lock").exists());
    assert_eq!(images.listing().unwrap().images().len(), 1);
}

#[test]
fn list_that_no_verb_could_read_again_is_not_published() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let (tree, _) = tree(&at);
    add(&tree, "one");
    let documents = || ["images", "index"].map(|name| fs::read(at.join(format!("streams/v1/{name}.json"))).unwrap());
    let before = documents();
    let mut limits = Limits::default();
    limits.remote_index = before[0].len() as u64 + 10;
    let small = TreeOptions::new().limits(limits).open(&at).unwrap();
    let image = ImageSource::unified(input(unified("two")));
    let error = small.lock().unwrap().add(image, &AddOptions::new(), &Monitor::none()).unwrap_err();
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("remote_index")));
    assert_eq!(documents(), before);
}
