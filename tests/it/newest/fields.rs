//! Names and fields of LXD 6.9 and Incus 7.3: taken, kept on the way through, and shown.

use std::sync::Arc;

use lxd_image::format::{ConvertOptions, Image, ImageForm, ImageSource, UnpackOptions, VerifyOptions, differences};
use lxd_image::protocol::rest;
use lxd_image::protocol::simplestreams::{Listing, Products, Publication, PublishedFile, RootKind};
use lxd_image::{Architecture, ErrorKind, Fingerprint, ImageType, Limits, Metadata, Monitor, Properties};
use serde_json::json;

use crate::cli::run;
use crate::format::Place;
use crate::format::forge::{END, METADATA, Member, directory, file, symlink};

const CONFIG: &str = r#"{"process": {"args": ["/bin/box", "--serve"], "cwd": "/srv", "user": {"uid": 7, "gid": 8}}}"#;

fn products(product: serde_json::Value) -> Listing {
    let digest = |tag: &str| Fingerprint::of(tag.as_bytes()).to_string();
    let mut product = product;
    product["versions"] = json!({"20260601_0524": {"items": {
        "lxd.tar.xz": {"ftype": "lxd.tar.xz", "path": "m", "size": 1, "sha256": digest("m"),
            "combined_squashfs_sha256": digest("c")},
        "root.squashfs": {"ftype": "squashfs", "path": "r", "size": 1, "sha256": digest("r")}}}});
    let text = json!({"products": {"box": product}}).to_string();
    Listing::new(&Products::from_json(text.as_bytes(), &Limits::default()).unwrap())
}

#[test]
fn levels_of_an_architecture_are_that_architecture() {
    for name in ["amd64v3", "x86_64_v1", "x86_64_v2", "x86_64_v3", "x86_64_v4"] {
        assert_eq!(name.parse::<Architecture>().ok(), Some(Architecture::X86_64), "{name}");
    }
}

#[test]
fn requirements_for_lxd_are_read_before_the_general_ones() {
    for (requirements, found) in [
        (json!({"requirements": {"secureboot": "false"}}), vec!["requirements.secureboot"]),
        (
            json!({"lxd_requirements": {"nesting": "true"}, "requirements": {"secureboot": "false"}}),
            vec!["requirements.nesting"],
        ),
        (json!({"lxd_requirements": {}, "requirements": {"secureboot": "false"}}), vec![]),
        (json!({"lxd_requirements": null, "requirements": {"cgroup": "v1"}}), vec!["requirements.cgroup"]),
    ] {
        let mut product = json!({"arch": "amd64", "os": "Box", "release": "1"});
        product.as_object_mut().unwrap().extend(requirements.as_object().unwrap().clone());
        let listing = products(product);
        let [image] = listing.images() else { panic!("{listing:?}") };
        let keys: Vec<_> = image.properties.iter().map(|(key, _)| key).filter(|key| key.contains('.')).collect();
        assert_eq!(keys, found, "{requirements}");
    }
}

#[test]
fn version_with_a_clock_is_a_moment_and_code_name_and_title_become_properties() {
    let listing = products(json!({"arch": "amd64v3", "os": "Ubuntu", "release": "noble",
        "release_codename": "Noble Numbat", "release_title": "24.04 LTS"}));
    let [image] = listing.images() else { panic!("{listing:?}") };
    assert_eq!(image.created_at, lxd_image::parse_time("2026-06-01T05:24:00Z", 0).unwrap());
    assert_eq!(image.properties.get("release_codename"), Some("Noble Numbat"));
    assert_eq!(image.properties.get("release_title"), Some("24.04 LTS"));
    assert_eq!(image.architecture, Architecture::X86_64);
}

#[test]
fn published_product_has_an_architecture_that_both_peers_know() {
    let file = |name: &str| PublishedFile::new(name.parse().unwrap(), 1, Fingerprint::of(name.as_bytes()));
    for (name, listed) in
        [("amd64v3", "amd64"), ("x86_64_v3", "amd64"), ("amd64", "amd64"), ("generic_64", "generic_64")]
    {
        let mut properties = Properties::new();
        for (key, value) in [("os", "Box"), ("release", "1"), ("architecture", name)] {
            properties.set(key, value).unwrap();
        }
        let (fingerprint, container) = (Fingerprint::of(b"x"), ImageType::Container);
        let image =
            Publication::new(fingerprint, container, Architecture::X86_64, 1_700_000_000, properties, file("x"), None);
        let mut products = Products::new(0);
        products.publish(&image).unwrap();
        assert_eq!(products.products.values().next().unwrap().arch, listed, "{name}");
    }
}

#[test]
fn image_object_of_either_peer_is_read_with_its_new_fields() {
    let fingerprint = Fingerprint::of(b"x").to_string();
    let text = json!({"fingerprint": fingerprint, "release_codename": "noble", "release_title": "24.04 LTS",
        "locations": ["server01", "server02"], "project": "default", "unknown": {"a": 1}});
    let image: rest::Image = serde_json::from_value(text).unwrap();
    assert_eq!((&*image.release_codename, &*image.release_title), ("noble", "24.04 LTS"));
    assert_eq!(image.locations, ["server01", "server02"]);
    let again = serde_json::to_value(&image).unwrap();
    assert_eq!(again["release_title"], "24.04 LTS");
    assert_eq!(again["unknown"], json!({"a": 1}), "a field of a newer server");
    let old: rest::Image = serde_json::from_value(json!({"fingerprint": fingerprint, "locations": null})).unwrap();
    assert!(old.locations.is_empty() && serde_json::to_value(&old).unwrap().get("locations").is_none());
}

/// Each rule is one that a peer's parser takes; the other one must not be stricter here.
#[test]
fn metadata_that_either_peer_takes_is_taken() {
    for (text, what) in [
        ("templates:\n  /etc/x:\n    template: x.tpl\n", "a rule without `when`"),
        (
            "templates:\n  /etc/x:\n    template: x.tpl\n    when: [create]\n    uid: \"0\"\n    mode: \"0600\"\n",
            "owners",
        ),
        ("templates:\n  /etc/x:\n    when: [create]\n", "a rule without a template"),
        ("templates:\n  /etc/x:\n    when: null\n    template: x.tpl\n", "no events"),
        ("properties:\n  release: 12\n  b: true\n", "properties that are no texts"),
        ("templates: {}\nunknown:\n  deep: [1, 2]\n", "unknown keys"),
        ("templates: null\nexpiry_date: null\n", "null"),
    ] {
        let text = format!("architecture: amd64v3\ncreation_date: 1700000000\n{text}");
        let metadata =
            Metadata::parse(text.as_bytes(), &Limits::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let again = Metadata::parse(metadata.to_yaml().as_bytes(), &Limits::default()).unwrap();
        assert_eq!(again.to_yaml(), metadata.to_yaml(), "{what}");
        assert_eq!(metadata.to_yaml().contains("deep"), text.contains("deep"), "{what}");
    }
}

#[test]
fn rule_without_events_never_fires_and_verify_says_so() {
    let place = Place::new();
    let rule = format!("{METADATA}templates:\n  /etc/x:\n    template: x.tpl\n");
    place.write(
        "image.tar",
        [
            file("metadata.yaml", rule),
            directory("templates/"),
            file("templates/x.tpl", "x"),
            directory("rootfs/"),
            END.to_vec(),
        ]
        .concat(),
    );
    let ran = run(&place, &["verify", "image.tar"]);
    assert!(ran.status == 0 && ran.err.contains("/etc/x") && ran.err.contains("never fires"), "{}", ran.err);
}

#[test]
fn rule_without_a_template_is_imported_and_verify_and_apply_say_so() {
    let place = Place::new();
    let metadata = format!("{METADATA}templates:\n  /etc/x:\n    when: [create]\n");
    place.write("image.tar", [file("metadata.yaml", metadata), directory("rootfs/"), END.to_vec()].concat());
    run(&place, &["--store", "store", "import", "image.tar", "--alias", "x"]).good();
    let ran = run(&place, &["verify", "image.tar"]);
    assert!(ran.status == 1 && ran.err.contains("the rule for `/etc/x` names no template"), "{}", ran.err);
    run(&place, &["--store", "store", "unpack", "x", "tree"]).good();
    let ran = run(&place, &["template", "apply", "tree", "--trigger", "create", "--name", "c1"]);
    assert!(ran.status != 0 && ran.err.contains("/etc/x"), "{}", ran.err);
}

/// An image as Incus makes it of an OCI image: `config.json` beside the metadata.
fn application() -> Vec<u8> {
    [
        file("metadata.yaml", METADATA),
        file("config.json", CONFIG),
        directory("rootfs/"),
        file("rootfs/box", "x"),
        END.to_vec(),
    ]
    .concat()
}

#[test]
fn config_json_is_kept_by_unpack_convert_and_publish_and_shown() {
    let place = Place::new();
    place.write("image.tar", application());
    for verb in [&["unpack", "image.tar", "tree"][..], &["convert", "image.tar", "split.tar", "--to", "split"]] {
        let ran = run(&place, verb);
        assert!(ran.status == 0 && !ran.err.contains("config.json"), "{verb:?}: {}", ran.err);
    }
    assert_eq!(std::fs::read_to_string(place.at("tree/config.json")).unwrap(), CONFIG);
    run(&place, &["unpack", "split.tar", "split.tar.root", "again"]).good();
    assert_eq!(std::fs::read_to_string(place.at("again/config.json")).unwrap(), CONFIG);
    run(&place, &["--store", "store", "publish", "tree", "--alias", "app"]).good();
    let shown = run(&place, &["--store", "store", "inspect", "app", "-f", "json"]).good();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["config_json"], json!({"entrypoint": ["/bin/box", "--serve"], "cwd": "/srv", "uid": 7, "gid": 8}));
}

#[test]
fn config_json_is_part_of_what_is_compared() {
    let place = Place::new();
    place.write("one.tar", application());
    place.write(
        "two.tar",
        [file("metadata.yaml", METADATA), directory("rootfs/"), file("rootfs/box", "x"), END.to_vec()].concat(),
    );
    let open = |name: &str| Image::open(ImageSource::open(place.at(name), None).unwrap()).unwrap();
    let found = differences(&open("one.tar"), &open("two.tar"), &VerifyOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(found.iter().map(|difference| difference.path()).collect::<Vec<_>>(), [b"config.json"]);
    assert_eq!(open("one.tar").config_json().unwrap().as_deref(), Some(CONFIG.as_bytes()));
    assert_eq!(open("two.tar").config_json().unwrap(), None);
    let options = ConvertOptions::new().form(ImageForm::Split);
    assert!(open("one.tar").convert(place.at("three.tar"), &options, &Monitor::none()).unwrap().omissions.is_empty());
}

#[test]
fn what_is_called_config_json_and_is_none_is_left_out_as_before() {
    for (member, kind) in [
        (symlink("config.json", "/etc/shadow"), None),
        (directory("config.json/"), None),
        (Member::new(b'1', "config.json").link("rootfs/box").bytes(), None),
        (file("config.json", "x".repeat(2 << 20)), None),
        ([file("config.json", "{}"), file("config.json", "[]")].concat(), Some(ErrorKind::Malformed)),
    ] {
        let place = Place::new();
        place.write(
            "image.tar",
            [file("metadata.yaml", METADATA), directory("rootfs/"), file("rootfs/box", "x"), member, END.to_vec()]
                .concat(),
        );
        let image = Image::open(ImageSource::open(place.at("image.tar"), None).unwrap()).unwrap();
        let done = image.unpack_unverified(place.at("tree"), &UnpackOptions::new(), &Monitor::none());
        assert_eq!(done.as_ref().err().map(lxd_image::Error::kind), kind);
        assert!(std::fs::symlink_metadata(place.at("tree/config.json")).is_err());
    }
}

#[test]
fn requirements_are_explained() {
    let place = Place::new();
    let metadata = format!(
        "{METADATA}  requirements.secureboot: \"false\"\n  requirements.colour: red\n  requirements.privileged: \"false\"\n  requirements.nesting: \"true\"\n"
    );
    place.write("image.tar", [file("metadata.yaml", metadata), directory("rootfs/"), END.to_vec()].concat());
    run(&place, &["--store", "store", "import", "image.tar", "--alias", "x"]).good();
    let text = run(&place, &["--store", "store", "info", "x"]).good();
    assert!(text.contains("    secureboot=false: set `security.secureboot=false`\n"), "{text}");
    for key in ["privileged=false: ", "nesting=true: "] {
        assert!(text.contains(&format!("    {key}")), "{text}");
    }
    assert!(text.contains("    colour=red: no daemon is known to check it\n"), "{text}");
}

/// A base with a large field, and many versions with a delta from it.
fn many_deltas(versions: usize, field: usize) -> Products {
    let digest = |tag: &str| Fingerprint::of(tag.as_bytes()).to_string();
    let version = |number: usize| {
        let (metadata, root) = (format!("m{number}"), format!("r{number}"));
        json!({"items": {
            "lxd.tar.xz": {"ftype": "lxd.tar.xz", "path": metadata, "size": 1, "sha256": digest(&metadata),
                "combined_squashfs_sha256": digest(&format!("c{number}"))},
            "root.squashfs": {"ftype": "squashfs", "path": root, "size": 1, "sha256": digest(&root)},
            "delta": {"ftype": "squashfs.vcdiff", "path": "d", "delta_base": "20260101", "sha256": digest("d")}}})
    };
    let mut all: serde_json::Map<_, _> =
        (0..versions).map(|number| (format!("20260102.{number}"), version(number))).collect();
    let mut base = version(versions);
    base["items"]["root.squashfs"]["novel"] = json!("x".repeat(field));
    all.insert("20260101".into(), base);
    let text = json!({"products": {"box": {"arch": "amd64", "versions": all}}}).to_string();
    Products::from_json(text.as_bytes(), &Limits::default()).unwrap()
}

#[test]
fn deltas_of_one_base_share_what_the_list_says_of_it() {
    let listing = Listing::new(&many_deltas(100, 100_000));
    let bases: Vec<_> = listing.images().iter().flat_map(|image| image.deltas.iter()).collect();
    assert!(bases.len() >= 100 && bases[0].base.other["novel"].as_str().unwrap().len() == 100_000);
    assert!(bases.iter().all(|delta| Arc::ptr_eq(&delta.base, &bases[0].base)));
    assert!(listing.omissions().is_empty());
}

#[test]
fn unknown_fields_of_an_item_are_bounded_and_told() {
    let limits = Limits::default();
    let listing = Listing::within(&many_deltas(1, limits.metadata as usize), &limits);
    assert!(listing.images().iter().all(|image| image.rootfs.as_ref().unwrap().other.is_empty()));
    let told: String = listing.omissions().iter().map(ToString::to_string).collect();
    assert!(told.contains("`metadata`"), "{told}");
}

#[test]
fn what_images_of_a_list_say_together_is_bounded_and_told() {
    let mut limits = Limits::default();
    limits.remote_index = 1_000;
    let listing = Listing::within(&many_deltas(500, 1), &limits);
    assert!((1..100).contains(&listing.images().len()), "{}", listing.images().len());
    let told: String = listing.omissions().iter().map(ToString::to_string).collect();
    assert!(told.contains("`remote_index`"), "{told}");
}

#[test]
fn metadata_that_makes_a_second_image_keeps_its_unknown_fields() {
    let file = |name: &str| PublishedFile::new(name.parse().unwrap(), 1, Fingerprint::of(name.as_bytes()));
    let mut products = Products::new(0);
    for (kind, field) in [(RootKind::Squashfs, "first"), (RootKind::DiskKvm, "second")] {
        let mut metadata = file("metadata");
        metadata.other.insert(field.to_owned(), json!(1));
        let fingerprint = Fingerprint::of(field.as_bytes());
        let root = Some((kind, file(kind.name())));
        let (properties, machine) = (Properties::new(), Architecture::X86_64);
        let image =
            Publication::new(fingerprint, kind.image_type(), machine, 1_700_000_000, properties, metadata, root);
        products.publish(&image).unwrap();
    }
    let product = products.products.values().next().unwrap();
    assert_eq!(product.versions.len(), 1);
    let item = &product.versions.values().next().unwrap().items["lxd.tar.xz"];
    assert_eq!((&item.other["first"], &item.other["second"]), (&json!(1), &json!(1)));
}
