//! Trees built from directories, as `simplestream-maintainer` lays them out, read by the real clients and tools.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use lxd_image::format::{Codec, ImageForm, PackOptions, Rootfs, RootfsFormat, decode, pack};
use lxd_image::simplestreams::{BuildOptions, BuiltTree, Tree, TreeOptions, TreeVerifyOptions};
use lxd_image::{ErrorKind, Fingerprint, Limits, Metadata, Monitor};
use serde_json::{Value, json};

use crate::cli::run as program_run;
use crate::format::Place;
use crate::peers::run;
use crate::simplestreams::mirroring::serve;
use crate::simplestreams::peers::{on_path, program};
use crate::store::Scratch;

const PRODUCT: &str = "images/box/one/amd64/default";

/// Writes a version with a SquashFS below a tree, as an image builder does, and returns the fingerprint.
pub(super) fn put(root: &Path, path: &str, metadata_name: &str) -> Fingerprint {
    let work = Scratch::new();
    let rootfs = work.join("rootfs");
    fs::create_dir_all(rootfs.join("etc")).unwrap();
    fs::write(rootfs.join("etc/version"), path).unwrap();
    let mut metadata = Metadata::new("x86_64", 1_700_000_000).unwrap();
    for (key, value) in [
        ("os", "Box"),
        ("release", "one"),
        ("variant", "default"),
        ("architecture", "amd64"),
        ("description", "Box one"),
    ] {
        metadata.properties_mut().set(key, value).unwrap();
    }
    let options = PackOptions::new(metadata)
        .compression("xz".parse().unwrap())
        .form(ImageForm::Split)
        .rootfs_format(RootfsFormat::SquashFs);
    let written = pack(&Rootfs::open(&rootfs).unwrap(), work.join("out.tar.xz"), &options, &Monitor::none()).unwrap();
    let version = root.join(path);
    fs::create_dir_all(&version).unwrap();
    fs::copy(work.join("out.tar.xz"), version.join(metadata_name)).unwrap();
    fs::copy(work.join("out.tar.xz.root"), version.join("rootfs.squashfs")).unwrap();
    written.fingerprint
}

/// Writes the `SHA256SUMS` of a version.
fn sum(version: &Path) {
    let mut text = String::new();
    for entry in fs::read_dir(version).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        text.push_str(&format!("{}  {name}\n", Fingerprint::of(&fs::read(&path).unwrap())));
    }
    fs::write(version.join("SHA256SUMS"), text).unwrap();
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// A tree with a clock that can be moved.
struct Built {
    scratch: Scratch,
    clock: Arc<AtomicI64>,
}

impl Built {
    fn new() -> Self {
        Self { scratch: Scratch::new(), clock: Arc::new(AtomicI64::new(now() + 5)) }
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("www")
    }

    fn put(&self, version: &str) -> Fingerprint {
        put(&self.root(), &format!("{PRODUCT}/{version}"), "lxd.tar.xz")
    }

    fn tree(&self) -> Tree {
        let clock = Arc::clone(&self.clock);
        TreeOptions::new().clock(move || clock.load(Ordering::Relaxed)).create(self.root()).unwrap()
    }

    fn build(&self, options: &BuildOptions) -> BuiltTree {
        self.build_with(options, &Monitor::none())
    }

    fn build_with(&self, options: &BuildOptions, monitor: &Monitor) -> BuiltTree {
        self.tree().lock().unwrap().build(options, monitor).unwrap()
    }

    fn versions(&self) -> Vec<String> {
        let products = self.tree().products().unwrap();
        products.products.values().flat_map(|product| product.versions.keys().cloned()).collect()
    }
}

/// What the packed form of a document holds.
fn unpacked(built: &Built, name: &str) -> Vec<u8> {
    let packed = fs::File::open(built.root().join(format!("{name}.gz"))).unwrap();
    let (codec, mut reader) = decode(packed, &Limits::default(), 1).unwrap();
    assert_eq!(codec, Codec::Gzip);
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    text
}

#[test]
fn build_lists_what_the_tool_would_for_both_peers() {
    let built = Built::new();
    let old = built.put("20260101_0524");
    let new = built.put("20260102_0524");
    let newest = built.root().join(PRODUCT).join("20260102_0524");
    let config = "image:\n  distribution: box\nsimplestream:\n  distro_name: Box Linux\n  release_aliases:\n    one: first,current\n  \
                  requirements:\n  - requirements:\n      secureboot: false\n  - requirements: {nesting: true}\n    releases: [two]\n";
    fs::write(newest.join("image.yaml"), config).unwrap();
    fs::write(newest.join("rootfs.20260101_0524.vcdiff"), "a delta").unwrap();
    let done = built.build(&BuildOptions::new());
    assert_eq!((done.added.len(), done.kept, done.failed.len()), (2, 0, 0), "{done:?}");
    let tree = built.tree();
    let products = tree.products().unwrap();
    let product = &products.products["box:one:amd64:default"];
    assert_eq!(
        product.aliases,
        "box/one/default,box/one,box/first/default,box/first,box/current/default,box/default,box"
    );
    assert_eq!((&*product.os, &*product.release_title, &product.other["distro"]), ("Box Linux", "one", &json!("box")));
    assert_eq!(product.requirements.iter().collect::<Vec<_>>(), [(&"secureboot".into(), &"false".into())]);
    let items = &product.versions["20260102_0524"].items;
    let names: Vec<_> = items.iter().map(|(name, item)| (&**name, &*item.ftype)).collect();
    let expected = [
        ("incus.tar.xz", "incus.tar.xz"),
        ("lxd.tar.xz", "lxd.tar.xz"),
        ("rootfs.20260101_0524.vcdiff", "squashfs.vcdiff"),
        ("rootfs.squashfs", "squashfs"),
    ];
    assert_eq!(names, expected);
    assert_eq!(items["rootfs.20260101_0524.vcdiff"].delta_base, "20260101_0524");
    assert_eq!(items["lxd.tar.xz"].path, format!("{PRODUCT}/20260102_0524/lxd.tar.xz"));
    assert_eq!(items["lxd.tar.xz"].path, items["incus.tar.xz"].path, "one file under two names");
    let listed: Vec<_> = tree.listing().unwrap().images().iter().map(|image| image.fingerprint).collect();
    assert_eq!(listed, [new, old]);
    // The delta of this test is no VCDIFF; nothing else is wrong.
    let findings = tree.verify(&TreeVerifyOptions::new(), &Monitor::none()).unwrap().findings;
    assert!(findings.len() == 1 && format!("{:?}", findings[0]).contains("vcdiff"), "{findings:?}");
    for name in ["streams/v1/images.json", "streams/v1/index.json"] {
        assert_eq!(unpacked(&built, name), fs::read(built.root().join(name)).unwrap(), "{name}");
    }
    // Other changes keep the packed documents true.
    tree.lock().unwrap().remove(&[old]).unwrap();
    let name = "streams/v1/images.json";
    assert_eq!(unpacked(&built, name), fs::read(built.root().join(name)).unwrap());
}

#[test]
fn upload_in_progress_and_wrong_versions_are_not_listed_and_hide_no_others() {
    let built = Built::new();
    for version in ["20260101", "20260102", ".20260103", "20260104", "soon"] {
        built.put(version);
    }
    let at = |version: &str| built.root().join(PRODUCT).join(version);
    sum(&at("20260101"));
    sum(&at("20260102"));
    let rootfs = at("20260102").join("rootfs.squashfs");
    let bytes = fs::read(&rootfs).unwrap();
    fs::write(&rootfs, [&bytes[..], b"x"].concat()).unwrap();
    fs::remove_file(at("20260104").join("lxd.tar.xz")).unwrap();
    symlink(at("20260101"), at("20260105")).unwrap();
    let done = built.build(&BuildOptions::new());
    assert_eq!(done.added, [format!("{PRODUCT}/20260101")]);
    let [(path, error)] = &*done.failed else { panic!("{:?}", done.failed) };
    assert_eq!((&**path, error.kind()), (&*format!("{PRODUCT}/20260102"), ErrorKind::Mismatch));
    assert_eq!(built.versions(), ["20260101"]);
    // What becomes complete and right is listed by the next run.
    fs::write(&rootfs, bytes).unwrap();
    fs::rename(at(".20260103"), at("20260103")).unwrap();
    let done = built.build(&BuildOptions::new());
    assert_eq!((done.added.len(), done.kept), (2, 1), "{done:?}");
    assert_eq!(built.versions(), ["20260101", "20260102", "20260103"]);
}

#[test]
fn listed_version_is_not_read_again_and_leaves_the_list_without_its_files() {
    let built = Built::new();
    built.put("20260101");
    built.put("20260102");
    built.build(&BuildOptions::new());
    let list = fs::read(built.root().join("streams/v1/images.json")).unwrap();
    // Other bytes of the same size: they would be another digest if they were read.
    let rootfs = built.root().join(PRODUCT).join("20260101/rootfs.squashfs");
    let mut bytes = fs::read(&rootfs).unwrap();
    bytes[200] ^= 1;
    fs::write(&rootfs, bytes).unwrap();
    let done = built.build(&BuildOptions::new());
    assert_eq!((done.added.len(), done.kept), (0, 2));
    assert_eq!(fs::read(built.root().join("streams/v1/images.json")).unwrap(), list);
    fs::remove_dir_all(rootfs.parent().unwrap()).unwrap();
    let done = built.build(&BuildOptions::new());
    assert_eq!(done.withdrawn, [format!("{PRODUCT}/20260101")]);
    assert_eq!(built.versions(), ["20260102"]);
}

#[test]
fn version_over_the_retained_ones_leaves_the_list_and_an_hour_later_the_disk() {
    let built = Built::new();
    for version in ["20260101", "20260102", "20260103"] {
        built.put(version);
    }
    built.build(&BuildOptions::new());
    let two = BuildOptions::new().retain_builds(2);
    let done = built.build(&two);
    assert_eq!((done.withdrawn, done.removed.len()), (vec![format!("{PRODUCT}/20260101")], 0));
    let oldest = built.root().join(PRODUCT).join("20260101");
    assert!(oldest.join("rootfs.squashfs").exists(), "a client may have the old list");
    built.clock.fetch_add(3_599, Ordering::Relaxed);
    assert!(built.build(&two).removed.is_empty() && oldest.exists());
    built.clock.fetch_add(1, Ordering::Relaxed);
    assert_eq!(built.build(&two).removed, [format!("{PRODUCT}/20260101")]);
    assert!(!oldest.exists());
    assert_eq!(built.versions(), ["20260102", "20260103"]);
    // By age, and with the directories above once they are empty.
    built.clock.fetch_add(3 * 86_400, Ordering::Relaxed);
    let days = BuildOptions::new().retain_days(2);
    assert_eq!(built.build(&days).withdrawn.len(), 2);
    built.clock.fetch_add(3_600, Ordering::Relaxed);
    assert_eq!(built.build(&days).removed.len(), 2);
    assert!(!built.root().join("images/box").exists() && built.root().join("images").exists());
}

#[test]
fn given_up_upload_is_removed_only_if_asked_and_old() {
    let built = Built::new();
    built.put("20260101");
    built.put(".20260102");
    let dangling = BuildOptions::new().remove_dangling(true);
    assert!(built.build(&dangling).removed.is_empty());
    built.clock.fetch_add(7 * 3_600, Ordering::Relaxed);
    assert!(built.build(&BuildOptions::new()).removed.is_empty());
    assert_eq!(built.build(&dangling).removed, [format!("{PRODUCT}/.20260102")]);
    assert_eq!(built.versions(), ["20260101"]);
}

#[test]
fn what_other_verbs_listed_stays() {
    let place = Place::new();
    place.write("one.tar", crate::store::unified("one"));
    program_run(&place, &["simplestreams", "add", "www", "one.tar", "--product-name", "mine", "--alias", "x"]).good();
    let fingerprint = put(&place.at("www"), &format!("{PRODUCT}/20260101"), "incus.tar.xz");
    let said = program_run(&place, &["simplestreams", "build", "www", "--retain-builds", "3"]).good();
    assert_eq!(said, format!("added {PRODUCT}/20260101\n"));
    let listed = program_run(&place, &["simplestreams", "list", "www", "-f", "json"]).good();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let products: Vec<_> = listed.as_array().unwrap().iter().map(|image| image["product"].as_str().unwrap()).collect();
    assert!(products.contains(&"mine") && products.contains(&"box:one:amd64:default"), "{products:?}");
    assert!(listed.to_string().contains(&fingerprint.to_string()));
    program_run(&place, &["simplestreams", "verify", "www"]).good();
    program_run(&place, &["simplestreams", "prune", "www", "--retention", "0"]).good();
    program_run(&place, &["simplestreams", "build", "www", "--retain-builds", "0"]).failed(2, "error: ");
}

/// A file of the whole image or of its rootfs, exported by a real client.
fn exported(home: &Path, bytes: &[u8]) -> bool {
    let mut files = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.any(|path| fs::read(path).unwrap() == bytes)
}

/// Has the real clients of both peers list a tree over TLS and fetch the image of an alias from it.
pub(super) fn read_by_both_clients(tree: &Path, alias: &str, fingerprint: &Fingerprint, rootfs: &[u8]) {
    let scratch = Scratch::new();
    let server = serve(tree);
    let authority = scratch.join("ca.pem");
    fs::write(&authority, server.pem()).unwrap();
    for (client, variable) in [(program("INCUS"), "INCUS_CONF"), (on_path("lxc"), "LXD_CONF")] {
        let Some(client) = client else { continue };
        let home = scratch.join(variable);
        fs::create_dir(&home).unwrap();
        let words = |words: &[&str]| {
            let mut command = Command::new(&client);
            command.args(words).env("SSL_CERT_FILE", &authority).env(variable, &home).env("HOME", &home);
            run(command.current_dir(&home))
        };
        words(&["remote", "add", "ours", &server.text(""), "--protocol", "simplestreams"]);
        let told = words(&["image", "list", "ours:", "--format", "csv", "-c", "lF"]);
        assert!(told.contains(&fingerprint.to_string()), "{}: {told}", client.display());
        words(&["image", "export", &format!("ours:{alias}"), "./out"]);
        assert!(exported(&home, rootfs), "{} exports other bytes", client.display());
    }
}

#[test]
fn built_tree_is_read_by_the_clients_and_tools_of_both_peers() {
    let built = Built::new();
    let fingerprint = built.put("20260101_0524");
    built.build(&BuildOptions::new());
    let rootfs = fs::read(built.root().join(PRODUCT).join("20260101_0524/rootfs.squashfs")).unwrap();
    read_by_both_clients(&built.root(), "box/one", &fingerprint, &rootfs);
    if let Some(incus) = program("INCUS_SIMPLESTREAMS") {
        let at = |words: &[&str]| run(Command::new(&incus).args(words).current_dir(built.root()));
        at(&["verify"]);
        let told = at(&["list", "-f", "csv"]);
        assert!(told.contains(&fingerprint.to_string()), "{told}");
    }
    if let Some(query) = program("SSTREAM_QUERY") {
        let index = built.root().join("streams/v1/index.json");
        let format = "--output-format=%(product_name)s %(version_name)s %(ftype)s";
        let told = run(Command::new(&query).args(["--no-verify", format]).arg(index).arg("ftype=squashfs"));
        assert_eq!(told, "box:one:amd64:default 20260101_0524 squashfs");
    }
}

/// Incompressible bytes.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    });
    bytes.take(300_000).collect()
}

/// Puts a version whose root file system is a file with this content.
fn put_content(built: &Built, version: &str, content: &[u8]) {
    let path = format!("{PRODUCT}/{version}");
    put(&built.root(), &path, "lxd.tar.xz");
    let work = Scratch::new();
    let rootfs = work.join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    fs::write(rootfs.join("content"), content).unwrap();
    let options = PackOptions::new(Metadata::new("x86_64", 1_700_000_000).unwrap())
        .form(ImageForm::Split)
        .rootfs_format(RootfsFormat::SquashFs);
    pack(&Rootfs::open(&rootfs).unwrap(), work.join("out"), &options, &Monitor::none()).unwrap();
    fs::copy(work.join("out.root"), built.root().join(&path).join("rootfs.squashfs")).unwrap();
}

/// Puts versions whose root file systems differ a little, as those of two days do.
fn similar(built: &Built, versions: &[&str]) {
    for (number, version) in versions.iter().enumerate() {
        let mut content = noise(7);
        content[number * 1000..][..10].fill(number as u8);
        put_content(built, version, &content);
    }
}

#[test]
fn build_makes_the_missing_deltas_between_versions_and_keeps_their_age() {
    let built = Built::new();
    similar(&built, &["20260101_0524", "20260102_0524", "20260103_0524"]);
    let newest = built.root().join(PRODUCT).join("20260103_0524");
    sum(&newest);
    let before = fs::metadata(&newest).unwrap().modified().unwrap();
    let options = BuildOptions::new().deltas(true);
    let done = built.build(&options);
    let expected = [
        format!("{PRODUCT}/20260102_0524/rootfs.20260101_0524.vcdiff"),
        format!("{PRODUCT}/20260103_0524/rootfs.20260102_0524.vcdiff"),
    ];
    assert_eq!(done.deltas, expected);
    assert_eq!(fs::metadata(&newest).unwrap().modified().unwrap(), before, "retention goes by the age");
    let tree = built.tree();
    assert!(
        tree.verify(&TreeVerifyOptions::new(), &Monitor::none()).unwrap().is_clean(),
        "each delta makes its rootfs"
    );
    let products = tree.products().unwrap();
    let item =
        &products.products["box:one:amd64:default"].versions["20260103_0524"].items["rootfs.20260102_0524.vcdiff"];
    assert_eq!((&*item.ftype, &*item.delta_base), ("squashfs.vcdiff", "20260102_0524"));
    let again = built.build(&options);
    assert_eq!((again.deltas.len(), again.kept, again.failed.len()), (0, 3, 0), "{again:?}");
    // A base takes its delta along.
    built.build(&BuildOptions::new().retain_builds(2));
    let products = built.tree().products().unwrap();
    let versions = &products.products["box:one:amd64:default"].versions;
    assert!(!versions["20260102_0524"].items.contains_key("rootfs.20260101_0524.vcdiff"));
    assert!(versions["20260103_0524"].items.contains_key("rootfs.20260102_0524.vcdiff"));
    assert!(built.tree().verify(&TreeVerifyOptions::new(), &Monitor::none()).unwrap().is_clean());
}

#[test]
fn delta_that_saves_nothing_is_made_once_and_not_listed() {
    let built = Built::new();
    for (version, seed) in [("20260101", 7), ("20260102", 8)] {
        built.put(version);
        fs::write(built.root().join(PRODUCT).join(version).join("rootfs.squashfs"), noise(seed)).unwrap();
    }
    for expected in [1, 0] {
        let monitor = lxd_image::Monitor::none();
        let done = built.build_with(&BuildOptions::new().deltas(true), &monitor);
        assert_eq!((done.deltas.len(), monitor.omissions().total()), (0, expected));
    }
    let files = fs::read_dir(built.root().join(PRODUCT).join("20260102")).unwrap().count();
    assert_eq!(files, 2, "the metadata and the rootfs");
}

#[test]
fn delta_from_other_bytes_than_the_listed_ones_is_not_made() {
    let built = Built::new();
    similar(&built, &["20260101", "20260102"]);
    built.build(&BuildOptions::new());
    let base = built.root().join(PRODUCT).join("20260101/rootfs.squashfs");
    let mut bytes = fs::read(&base).unwrap();
    bytes[200] ^= 1;
    fs::write(&base, bytes).unwrap();
    let monitor = lxd_image::Monitor::none();
    let done = built.build_with(&BuildOptions::new().deltas(true), &monitor);
    assert!(done.deltas.is_empty() && done.failed.is_empty(), "{done:?}");
    assert_eq!(monitor.omissions().total(), 1);
}

#[test]
fn each_directory_of_images_is_a_stream_with_a_list_of_its_own_in_one_index() {
    let place = Place::new();
    let root = place.at("www");
    let one = put(&root, "images/box/one/amd64/default/20260101", "lxd.tar.xz");
    let daily = put(&root, "images-daily/box/one/amd64/default/20260102", "lxd.tar.xz");
    let build = ["simplestreams", "build", "www", "-d", "images", "-d", "images-daily"];
    let said = program_run(&place, &build).good();
    assert_eq!(
        said,
        "added images/box/one/amd64/default/20260101\nadded images-daily/box/one/amd64/default/20260102\n"
    );
    let index: Value = serde_json::from_slice(&fs::read(root.join("streams/v1/index.json")).unwrap()).unwrap();
    for name in ["images", "images-daily"] {
        assert_eq!(index["index"][name]["path"], format!("streams/v1/{name}.json"));
        assert_eq!(index["index"][name]["products"], json!(["box:one:amd64:default"]));
        let list: Value =
            serde_json::from_slice(&fs::read(root.join(format!("streams/v1/{name}.json"))).unwrap()).unwrap();
        assert_eq!(list["content_id"], name);
        assert!(root.join(format!("streams/v1/{name}.json.gz")).exists());
    }
    // A client reads both.
    let url = format!("file://{}", root.display()).parse().unwrap();
    let remote = lxd_image::remote::Simplestreams::new(lxd_image::remote::ClientOptions::new(), &url).unwrap();
    let listed = lxd_image::remote::Remote::list(&remote, &lxd_image::Monitor::none()).unwrap();
    assert_eq!(listed.iter().map(|image| image.fingerprint).collect::<Vec<_>>(), [daily, one]);
    // Without the option the other stream stays as it is.
    assert_eq!(program_run(&place, &["simplestreams", "build", "www"]).good(), "");
    program_run(&place, &["simplestreams", "prune", "www"]).good();
    assert!(fs::read_to_string(root.join("streams/v1/index.json")).unwrap().contains("images-daily"));
    program_run(&place, &["simplestreams", "build", "www", "-d", "images-dayly"]).failed(4, "error[NotFound]: ");
    for name in ["index", "streams", "../x", ".hidden", "a/b", ""] {
        program_run(&place, &["simplestreams", "build", "www", "-d", name]).failed(1, "error[InvalidInput]: ");
    }
}

#[test]
fn streams_do_not_touch_the_files_and_records_of_each_other() {
    let built = Built::new();
    let clock = Arc::clone(&built.clock);
    let tree = |stream: &str| {
        let clock = Arc::clone(&clock);
        let options = TreeOptions::new().clock(move || clock.load(Ordering::Relaxed)).stream(stream).unwrap();
        options.create(built.root()).unwrap()
    };
    let one = BuildOptions::new().retain_builds(1);
    for stream in ["images", "daily"] {
        for version in ["20260101", "20260102"] {
            put(&built.root(), &format!("{stream}/box/one/amd64/default/{version}"), "lxd.tar.xz");
        }
        tree(stream).lock().unwrap().build(&BuildOptions::new(), &Monitor::none()).unwrap();
    }
    // Both withdraw a version now, and remove it an hour later, whatever the other one does in between.
    for stream in ["images", "daily", "images", "daily"] {
        tree(stream).lock().unwrap().build(&one, &Monitor::none()).unwrap();
    }
    built.clock.fetch_add(3_600, Ordering::Relaxed);
    for stream in ["images", "daily"] {
        let removed = tree(stream).lock().unwrap().build(&one, &Monitor::none()).unwrap().removed;
        assert_eq!(removed, [format!("{stream}/box/one/amd64/default/20260101")]);
    }
    assert!(tree("daily").verify(&TreeVerifyOptions::new(), &Monitor::none()).unwrap().is_clean());
}

/// A list as `simplestream-maintainer` writes it: only LXD's metadata, requirements also where there are none, no date in the
/// list, and an RFC 3339 one in the index.
#[test]
fn tree_that_the_tool_made_is_read_and_kept() {
    let built = Built::new();
    let fingerprint = built.put("20260101_0524");
    built.build(&BuildOptions::new());
    let path = built.root().join("streams/v1/images.json");
    let mut list: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    list.as_object_mut().unwrap().remove("updated");
    let product = &mut list["products"]["box:one:amd64:default"];
    product["requirements"] = json!({});
    product["versions"]["20260101_0524"]["items"].as_object_mut().unwrap().remove("incus.tar.xz");
    fs::write(&path, list.to_string()).unwrap();
    let index = json!({"format": "index:1.0", "index": {
        "images": {"datatype": "image-downloads", "path": "streams/v1/images.json", "format": "products:1.0",
            "updated": "2026-01-02T05:24:00Z", "products": ["box:one:amd64:default"]},
        "images-daily": {"datatype": "image-downloads", "path": "streams/v1/images-daily.json",
            "format": "products:1.0", "updated": "2026-01-02T05:24:00Z", "products": ["box:two:amd64:default"]}}});
    fs::write(built.root().join("streams/v1/index.json"), index.to_string()).unwrap();
    let listed: Vec<_> = built.tree().listing().unwrap().images().iter().map(|image| image.fingerprint).collect();
    assert_eq!(listed, [fingerprint]);
    // Its bytes are not read again: others of the same size are not noticed.
    let rootfs = built.root().join(PRODUCT).join("20260101_0524/rootfs.squashfs");
    let mut bytes = fs::read(&rootfs).unwrap();
    bytes[200] ^= 1;
    fs::write(&rootfs, &bytes).unwrap();
    let done = built.build(&BuildOptions::new());
    assert_eq!((done.added.len(), done.kept, done.withdrawn.len()), (0, 1, 0), "{done:?}");
    let items = &built.tree().products().unwrap().products["box:one:amd64:default"].versions["20260101_0524"].items;
    assert_eq!(items["incus.tar.xz"].path, items["lxd.tar.xz"].path);
    let index: Value = serde_json::from_slice(&fs::read(built.root().join("streams/v1/index.json")).unwrap()).unwrap();
    assert_eq!(index["index"]["images-daily"]["products"], json!(["box:two:amd64:default"]));
}

/// Replaces a file while a delta is made: what an uploader may do between the scan and the delta.
struct Swapping {
    file: PathBuf,
    private: PathBuf,
}

impl lxd_image::Progress for Swapping {
    fn report(&self, update: &lxd_image::Update) -> std::ops::ControlFlow<()> {
        if update.phase == lxd_image::Phase::Delta && !self.file.is_symlink() {
            fs::remove_file(&self.file).unwrap();
            symlink(&self.private, &self.file).unwrap();
        }
        std::ops::ControlFlow::Continue(())
    }
}

#[test]
fn link_that_takes_the_place_of_a_file_after_the_scan_is_not_followed() {
    let built = Built::new();
    let versions = ["20260101", "20260102", "20260103"];
    similar(&built, &versions);
    let at = |version: &str| built.root().join(PRODUCT).join(version).join("rootfs.squashfs");
    let private = built.scratch.join("private");
    // Even the right bytes are not read through a link.
    fs::copy(at("20260103"), &private).unwrap();
    let swapping = Swapping { file: at("20260103"), private };
    let monitor = Monitor::none().with_progress(Arc::new(swapping));
    let done = built.build_with(&BuildOptions::new().deltas(true), &monitor);
    assert_eq!(done.deltas, [format!("{PRODUCT}/20260102/rootfs.20260101.vcdiff")]);
    assert!(at("20260103").is_symlink() && monitor.omissions().total() == 1, "{:?}", monitor.omissions());
}

#[test]
fn versions_with_dots_get_their_deltas_once_and_none_that_leave_the_list() {
    let built = Built::new();
    similar(&built, &["20260101.1", "20260101.2", "20260101.10"]);
    let options = BuildOptions::new().deltas(true).retain_builds(2);
    let delta = "rootfs.20260101.2.vcdiff";
    assert_eq!(built.build(&options).deltas, [format!("{PRODUCT}/20260101.10/{delta}")]);
    for _ in 0..2 {
        let monitor = Monitor::none();
        let again = built.build_with(&options, &monitor);
        assert!(again.deltas.is_empty() && monitor.omissions().is_empty(), "{:?}", monitor.omissions());
    }
    // As the list is made from the directories alone.
    fs::remove_file(built.root().join("streams/v1/images.json")).unwrap();
    built.build(&BuildOptions::new().retain_builds(2));
    let products = built.tree().products().unwrap();
    let items = &products.products["box:one:amd64:default"].versions["20260101.10"].items;
    assert_eq!(items[delta].delta_base, "20260101.2");
}

#[test]
fn directory_of_a_stream_may_be_a_link_of_the_operator() {
    let built = Built::new();
    similar(&built, &["20260101", "20260102"]);
    let elsewhere = built.scratch.join("elsewhere");
    fs::rename(built.root().join("images"), &elsewhere).unwrap();
    symlink(&elsewhere, built.root().join("images")).unwrap();
    let done = built.build(&BuildOptions::new().deltas(true));
    assert_eq!((done.added.len(), done.deltas.len(), done.failed.len()), (2, 1, 0), "{done:?}");
}
