//! Deltas in trees: made, listed, mirrored, verified, and gone with their images.

use std::fs;
use std::process::Command;
use std::time::Duration;

use lxd_image::format::{ImageForm, ImageSource, PackOptions, Rootfs, RootfsFormat, pack};
use lxd_image::protocol::simplestreams::Item;
use lxd_image::remote::{MirrorOptions, MirrorTarget, RetryPolicy, Simplestreams, mirror};
use lxd_image::simplestreams::{AddOptions, Added, PruneOptions, Tree};
use lxd_image::{ErrorKind, Metadata, Monitor};
use serde_json::Value;

use super::mirroring::serve;
use super::{assert_clean, stored, tree, verify};
use crate::store::{Scratch, split_stream};

/// The metadata of a version, each of a day of its own.
pub(super) fn metadata(number: i64) -> Metadata {
    let mut metadata = Metadata::new("x86_64", 1_700_000_000 + number * 86_400).unwrap();
    for (key, value) in [("os", "Box"), ("release", "1"), ("variant", "default"), ("architecture", "amd64")] {
        metadata.properties_mut().set(key, value).unwrap();
    }
    metadata
}

/// Writes the metadata and the SquashFS of a version to `v{number}.tar.xz` and `v{number}.tar.xz.root`.
fn packed(scratch: &Scratch, number: i64) -> ImageSource {
    let root = scratch.join("root.d");
    fs::create_dir_all(&root).unwrap();
    let mut state = 7_u64;
    let mut content: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    })
    .take(300_000)
    .collect();
    // Each version has a place of its own that only it changed, so that no two deltas are the same.
    content[number as usize * 1000..][..10].fill(number as u8);
    fs::write(root.join("content"), content).unwrap();
    let options = PackOptions::new(metadata(number))
        .compression("xz".parse().unwrap())
        .form(ImageForm::Split)
        .rootfs_format(RootfsFormat::SquashFs);
    let out = scratch.join(&format!("v{number}.tar.xz"));
    pack(&Rootfs::open(&root).unwrap(), &out, &options, &Monitor::none()).unwrap();
    ImageSource::open(out, Some(&scratch.join(&format!("v{number}.tar.xz.root")))).unwrap()
}

pub(super) fn add(scratch: &Scratch, tree: &Tree, number: i64, deltas: usize) -> Added {
    tree.lock().unwrap().add(packed(scratch, number), &AddOptions::new().delta_from(deltas), &Monitor::none()).unwrap()
}

/// The deltas of a tree, with the version that each makes.
fn deltas(tree: &Tree) -> Vec<(String, Item)> {
    let products = tree.products().unwrap();
    let versions = products.products.values().flat_map(|product| product.versions.iter());
    let items = versions.flat_map(|(key, version)| version.items.values().map(|item| (key.clone(), item.clone())));
    items.filter(|(_, item)| item.ftype == "squashfs.vcdiff").collect()
}

/// From which day to which, of those of [`packed`].
fn days(tree: &Tree) -> Vec<(String, String)> {
    deltas(tree)
        .into_iter()
        .map(|(version, item)| (item.delta_base[6..8].to_owned(), version[6..8].to_owned()))
        .collect()
}

fn pairs<const N: usize>(all: [(&str, &str); N]) -> Vec<(String, String)> {
    all.into_iter().map(|(from, to)| (from.to_owned(), to.to_owned())).collect()
}

/// A tree with three versions, of the 15th to the 17th, and the deltas (15, 16), (15, 17) and (16, 17).
fn three(scratch: &Scratch) -> (Tree, [Added; 3]) {
    let (tree, _) = tree(&scratch.join("www"));
    let added = [1, 2, 3].map(|number| add(scratch, &tree, number, 2));
    (tree, added)
}

fn remote(server: &crate::remote::server::Server) -> Simplestreams {
    Simplestreams::new(server.options().retry(RetryPolicy::new().sleep(|_| {})), &server.url("")).unwrap()
}

#[test]
fn deltas_start_from_the_newest_versions_before() {
    let scratch = Scratch::new();
    let (tree, added) = three(&scratch);
    assert_eq!(days(&tree), pairs([("15", "16"), ("15", "17"), ("16", "17")]));
    let counts = added.each_ref().map(|added| added.deltas.len());
    assert_eq!(counts, [0, 1, 2]);
    assert!(added[2].deltas.iter().all(|delta| delta.size < 2000), "{:?}", added[2].deltas);
    add(&scratch, &tree, 4, 1);
    assert_eq!(days(&tree).last(), pairs([("17", "18")]).last());
    assert_eq!(days(&tree).len(), 4);
    // One from before all others has no older version.
    assert!(add(&scratch, &tree, 0, 5).deltas.is_empty());
    assert_clean(&tree);
    assert!(verify(&tree).omissions.is_empty());
}

#[test]
fn images_of_one_minute_get_deltas_too() {
    let scratch = Scratch::new();
    let (tree, _) = tree(&scratch.join("www"));
    add(&scratch, &tree, 1, 1);
    fs::write(scratch.join("root.d/other"), "other").unwrap();
    for name in ["v1.tar.xz", "v1.tar.xz.root"] {
        fs::remove_file(scratch.join(name)).unwrap();
    }
    let second = add(&scratch, &tree, 1, 1);
    assert_eq!(second.deltas.len(), 1);
    assert_eq!(deltas(&tree)[0].0, format!("{}_1", second.deltas[0].base_version));
    assert_clean(&tree);
}

#[test]
fn xdelta3_applies_the_deltas_of_a_tree() {
    let Some(xdelta3) = super::peers::on_path("xdelta3") else { return };
    let scratch = Scratch::new();
    let (tree, _) = three(&scratch);
    let products = tree.products().unwrap();
    let product = products.products.values().next().unwrap();
    let rootfs = |version: &str| {
        let item = product.versions[version].items.values().find(|item| item.ftype == "squashfs").unwrap();
        tree.path().join(&item.path)
    };
    for (version, delta) in deltas(&tree) {
        let out = scratch.join("out");
        let done = Command::new(&xdelta3)
            .args(["-f", "-d", "-s"])
            .args([rootfs(&delta.delta_base), tree.path().join(&delta.path), out.clone()])
            .status();
        assert!(done.unwrap().success());
        assert!(fs::read(&out).unwrap() == fs::read(rootfs(&version)).unwrap());
    }
}

#[test]
fn deltas_leave_the_list_with_their_image_or_their_base() {
    let scratch = Scratch::new();
    let (tree, [_, middle, _]) = three(&scratch);
    tree.lock().unwrap().remove(&[middle.fingerprint]).unwrap();
    assert_eq!(days(&tree), pairs([("15", "17")]));
    assert_clean(&tree);
}

#[test]
fn prune_removes_deltas_of_old_versions_with_their_files() {
    let scratch = Scratch::new();
    let (tree, _) = three(&scratch);
    let options = PruneOptions::new().keep(2).after(Duration::ZERO);
    let mut writer = tree.lock().unwrap();
    writer.prune(&options, &Monitor::none()).unwrap();
    assert_eq!(days(&tree), pairs([("16", "17")]));
    writer.prune(&options, &Monitor::none()).unwrap();
    let files = stored(tree.path());
    assert_eq!(files.iter().filter(|name| name.ends_with(".squashfs.vcdiff")).count(), 1, "{files:?}");
    assert_eq!(files.len(), 5, "{files:?}");
    assert_clean(&tree);
}

#[test]
fn rootfs_without_deltas_is_reported() {
    let scratch = Scratch::new();
    let (tree, _) = tree(&scratch.join("www"));
    let monitor = Monitor::none();
    let options = AddOptions::new().delta_from(1);
    tree.lock().unwrap().add(split_stream("tar"), &options, &monitor).unwrap();
    let notes: Vec<_> = monitor.omissions().iter().map(ToString::to_string).collect();
    assert!(notes.len() == 1 && notes[0].contains("SquashFS"), "{notes:?}");
}

#[test]
fn damaged_base_gets_no_delta() {
    let scratch = Scratch::new();
    let (tree, _) = tree(&scratch.join("www"));
    add(&scratch, &tree, 1, 1);
    let rootfs = stored(tree.path()).into_iter().find(|name| name.ends_with(".squashfs")).unwrap();
    let path = tree.path().join("images").join(rootfs);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let monitor = Monitor::none();
    for damage in [2, 3] {
        let options = AddOptions::new().delta_from(1);
        let added = tree.lock().unwrap().add(packed(&scratch, damage), &options, &monitor).unwrap();
        assert_eq!(added.deltas.len(), usize::from(damage == 3));
    }
    let notes: Vec<_> = monitor.omissions().iter().map(ToString::to_string).collect();
    assert!(notes.len() == 1 && notes[0].contains("damaged"), "{notes:?}");
}

#[test]
fn verify_finds_a_delta_that_makes_another_file() {
    let scratch = Scratch::new();
    let (tree, _) = three(&scratch);
    let list = tree.path().join("streams/v1/images.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    let versions = &mut document["products"]["Box:1:default:amd64"]["versions"];
    let keys: Vec<String> = versions.as_object().unwrap().keys().cloned().collect();
    // Both are sound files, each in the place of the other.
    let (one, two) = (format!("squashfs.{}.vcdiff", keys[0]), format!("squashfs.{}.vcdiff", keys[1]));
    let items = versions[&keys[2]]["items"].as_object_mut().unwrap();
    for field in ["path", "size", "sha256"] {
        let (first, second) = (items[&one][field].clone(), items[&two][field].clone());
        items[&one][field] = second;
        items[&two][field] = first;
    }
    fs::write(&list, document.to_string()).unwrap();
    let findings = verify(&tree).findings;
    let kinds: Vec<_> = findings.iter().map(lxd_image::Error::kind).collect();
    assert_eq!(kinds, [ErrorKind::Mismatch; 2], "{findings:?}");
}

#[test]
fn verify_notes_a_delta_without_its_base() {
    let scratch = Scratch::new();
    let (tree, _) = three(&scratch);
    let list = tree.path().join("streams/v1/images.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    let versions = document["products"]["Box:1:default:amd64"]["versions"].as_object_mut().unwrap();
    let first = versions.keys().next().unwrap().clone();
    versions.remove(&first);
    fs::write(&list, document.to_string()).unwrap();
    let report = verify(&tree);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.omissions.total(), 2);
}

#[test]
fn mirror_brings_deltas_once() {
    let scratch = Scratch::new();
    let (origin, _) = three(&scratch);
    let server = serve(origin.path());
    let (copy, _) = tree(&scratch.join("copy"));
    let run = || mirror(&remote(&server), MirrorTarget::Tree(&copy), &MirrorOptions::new(), &Monitor::none()).unwrap();
    run();
    assert_eq!(copy.products().unwrap().products, origin.products().unwrap().products);
    assert_eq!(stored(copy.path()), stored(origin.path()));
    assert_clean(&copy);
    server.forget();
    run();
    assert!(server.asked().iter().all(|asked| !asked.path.starts_with("/images/")));
}

#[test]
fn mirror_leaves_a_missing_or_damaged_delta_out_and_tries_it_again() {
    let scratch = Scratch::new();
    let (origin, _) = three(&scratch);
    let server = serve(origin.path());
    let paths: Vec<_> = deltas(&origin).iter().map(|(_, item)| origin.path().join(&item.path)).collect();
    let kept: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    fs::remove_file(&paths[0]).unwrap();
    let mut damaged = kept[1].clone();
    damaged[50] ^= 1;
    fs::write(&paths[1], damaged).unwrap();
    let (copy, _) = tree(&scratch.join("copy"));
    let run = || mirror(&remote(&server), MirrorTarget::Tree(&copy), &MirrorOptions::new(), &Monitor::none()).unwrap();
    let done = run();
    assert_eq!((done.failed.len(), done.omissions.total()), (0, 2));
    assert_eq!(days(&copy), pairs([("16", "17")]));
    assert_clean(&copy);
    for (path, bytes) in paths.iter().zip(&kept) {
        fs::write(path, bytes).unwrap();
    }
    run();
    assert_eq!(copy.products().unwrap().products, origin.products().unwrap().products);
}

#[test]
fn mirror_into_a_store_fetches_deltas() {
    let scratch = Scratch::new();
    let (origin, added) = three(&scratch);
    let server = serve(origin.path());
    let store = lxd_image::store::Store::open(scratch.join("store")).unwrap();
    let run = |filter: &str| {
        let options = MirrorOptions::new().filter(filter.parse().unwrap());
        mirror(&remote(&server), MirrorTarget::Store(&store), &options, &Monitor::none()).unwrap()
    };
    run(&format!("serial={}", deltas(&origin)[0].1.delta_base));
    server.forget();
    assert_eq!(run("release=1").copied.len(), 2);
    let asked = server.asked();
    let fetched: Vec<_> = asked.iter().filter(|asked| asked.path.ends_with(".squashfs")).collect();
    assert!(fetched.is_empty(), "{fetched:?}");
    for image in added {
        assert!(store.image(&image.fingerprint).is_ok());
    }
    crate::store::assert_clean(&store);
}

#[test]
fn command_line_makes_and_uses_deltas_and_tells_of_those_that_fail() {
    let scratch = Scratch::new();
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
            .args(words)
            .current_dir(scratch.path())
            .env("LXD_IMAGE_STORE", scratch.join("store"))
            .env("LXD_IMAGE_CONFIG", scratch.join("config"))
            .env("SSL_CERT_FILE", scratch.join("ca.pem"))
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {told}");
        (String::from_utf8(output.stdout).unwrap().trim_end().to_owned(), told)
    };
    let mut images = Vec::new();
    for number in 1..4 {
        packed(&scratch, number);
        let (meta, rootfs) = (format!("v{number}.tar.xz"), format!("v{number}.tar.xz.root"));
        let (image, told) = run(&["simplestreams", "add", "www", &meta, &rootfs, "--delta-from", "1"]);
        assert_eq!(told.contains("delta from version "), number > 1, "{told}");
        images.push(image);
    }
    run(&["simplestreams", "verify", "www"]);
    let server = serve(&scratch.join("www"));
    fs::write(scratch.join("ca.pem"), server.pem()).unwrap();
    run(&["remote", "add", "up", &server.text("/"), "--protocol", "simplestreams"]);
    let copy = |image: &str| run(&["copy", &format!("up:{image}"), "local:"]).1;
    copy(&images[0]);
    server.forget();
    assert!(!copy(&images[1]).contains("delta"));
    assert!(server.asked().iter().all(|asked| !asked.path.ends_with(".squashfs")));
    let last = Tree::open(scratch.join("www")).map(|tree| deltas(&tree)).unwrap().pop().unwrap();
    fs::write(scratch.join("www").join(last.1.path), "not a delta").unwrap();
    let told = copy(&images[2]);
    assert!(told.contains("the delta from version") && told.contains("the whole file is downloaded"), "{told}");
}
