//! What hostile images lead to: a named error, nothing written, nothing outside.

use std::fs;

use lxd_image::format::Codec;
use lxd_image::oci::{ContainerOptions, Digest, Document, Layout};
use lxd_image::{ErrorKind, Limits, Monitor};
use serde_json::{Value, json};

use super::{Forged, index, put, unpack};
use crate::format::Place;
use crate::format::forge::{Member, archive, directory, file, hard_link, symlink, zstd_zeros};

/// Unpacking the layout fails with this kind and a message that has these words, and leaves nothing.
#[track_caller]
fn assert_refused(name: &str, place: &Place, layout: &std::path::Path, limits: &Limits, kind: ErrorKind, words: &str) {
    let before = place.names("");
    let error = unpack(layout, &place.at("out"), &ContainerOptions::new(), limits, &Monitor::none()).expect_err(name);
    assert!(error.kind() == kind && error.to_string().contains(words), "{name}: {:?} {error}", error.kind());
    assert_eq!(place.names(""), before, "{name}");
}

#[test]
fn hostile_layers_are_refused_by_name() {
    use ErrorKind::{Malformed, UnsafePath};
    let many_links: Vec<Vec<u8>> = (0..60).map(|n| symlink(&format!("l{n}"), &format!("l{}", n + 1))).collect();
    let cases: Vec<(&str, Vec<Vec<Vec<u8>>>, ErrorKind, &str)> = vec![
        ("name with ..", vec![vec![file("a/../../escaped", "x")]], UnsafePath, ".."),
        ("hard link with ..", vec![vec![file("a", "x"), hard_link("b", "../../etc/passwd")]], UnsafePath, ".."),
        ("whiteout of the root", vec![vec![file(".wh..", "")]], UnsafePath, "whiteout"),
        ("whiteout of what is above", vec![vec![directory("a/"), file("a/.wh...", "")]], UnsafePath, "whiteout"),
        ("whiteout without a name", vec![vec![file(".wh.", "")]], Malformed, "whiteout"),
        ("member below a whiteout", vec![vec![file(".wh.a/b", "")]], Malformed, "below a whiteout"),
        ("root replaced by a link", vec![vec![symlink("./", "/etc")]], UnsafePath, "root directory"),
        ("root replaced by a file", vec![vec![file("./", "")], vec![]], Malformed, "slash"),
        ("hard link to nothing", vec![vec![hard_link("a", "b")]], Malformed, "in no layer below"),
        ("hard link to itself", vec![vec![file("a", "x"), hard_link("a", "a")]], Malformed, "in no layer below"),
        (
            "hard link to a directory",
            vec![vec![directory("a/"), hard_link("b", "a")]],
            Malformed,
            "hard link to a directory",
        ),
        ("hard link to the root", vec![vec![hard_link("b", "/")]], Malformed, "in no layer below"),
        (
            "hard link to a file of the host",
            vec![vec![symlink("host", "/etc")], vec![hard_link("stolen", "host/passwd")]],
            Malformed,
            "in no layer below",
        ),
        (
            "hard link to what is whited out",
            vec![vec![file("a", "x")], vec![file(".wh.a", ""), hard_link("b", "a")]],
            Malformed,
            "in no layer below",
        ),
        ("member below a file of its layer", vec![vec![file("a", "x"), file("a/b", "y")]], Malformed, "no directory"),
        (
            "links in a circle",
            vec![vec![symlink("a", "b"), symlink("b", "a")], vec![file("a/x", "x")]],
            Malformed,
            "circle",
        ),
        ("too many links", vec![many_links, vec![file("l0/x", "x")]], Malformed, "too many symbolic links"),
        (
            "name with a NUL",
            vec![vec![
                Member::new(b'0', "PLACEHOLDER").raw(0, b"a\0").bytes(),
                crate::format::forge::pax(&[("path", "a\0b")]),
                file("x", ""),
            ]],
            Malformed,
            "NUL",
        ),
        ("unknown kind of member", vec![vec![Member::new(b'Q', "a").bytes()]], ErrorKind::Unsupported, ""),
        (
            "data behind a directory",
            vec![vec![Member::new(b'5', "a/").data("hidden").bytes()]],
            Malformed,
            "bytes of data",
        ),
    ];
    for (name, layers, kind, words) in cases {
        let place = Place::new();
        let layers: Vec<&[Vec<u8>]> = layers.iter().map(Vec::as_slice).collect();
        let layout = Forged::new(&layers).layout(&place, "layout");
        assert_refused(name, &place, &layout, &Limits::default(), kind, words);
    }
}

#[test]
fn links_of_layers_never_lead_out() {
    let place = Place::new();
    let outside = place.directory("outside");
    let target = outside.display().to_string();
    let climbing = "../".repeat(40) + target.trim_start_matches('/');
    for (number, link) in [target.as_str(), &climbing].iter().enumerate() {
        let layers: [&[Vec<u8>]; 3] = [
            &[directory("./"), symlink("door", link)],
            &[file("door/planted", "x"), directory("door/"), file("door/again", "x")],
            &[file("door/.wh.planted", ""), file("door/.wh..wh..opq", "")],
        ];
        // The name of the directory is longer than a member's 100 bytes on some machines.
        if link.len() < 100 {
            let layout = Forged::new(&layers).layout(&place, &format!("layout-{number}"));
            unpack(
                &layout,
                &place.at(&format!("out-{number}")),
                &ContainerOptions::new(),
                &Limits::default(),
                &Monitor::none(),
            )
            .unwrap();
        }
    }
    assert!(place.names("outside").is_empty());
}

#[test]
fn bombs_end_at_their_limits() {
    let mut limits = Limits::default();
    limits.entries = 100;
    limits.oci_layers = 5;
    limits.output = 10 << 20;
    limits.file_size = 1 << 30;
    let files = |count: usize| -> Vec<Vec<u8>> { (0..count).map(|n| file(format!("f{n}"), "")).collect() };
    let deep = "d/".repeat(45);
    let cases: Vec<(&str, Vec<Vec<Vec<u8>>>, &str)> = vec![
        ("members of one layer", vec![files(101)], "entries"),
        (
            "members of all layers",
            vec![
                (0..60).map(|n| file(format!("a{n}"), "")).collect(),
                (0..60).map(|n| file(format!("b{n}"), "")).collect(),
            ],
            "entries",
        ),
        (
            "implied directories",
            vec![vec![file(format!("a/{deep}x"), ""), file(format!("b/{deep}x"), ""), file(format!("c/{deep}x"), "")]],
            "entries",
        ),
        ("layers", vec![vec![]; 6], "oci_layers"),
        ("targets of links", vec![(0..90).map(|n| symlink(&format!("l{n}"), &"t".repeat(99))).collect()], "oci_tree"),
    ];
    for (name, layers, limit) in cases {
        let place = Place::new();
        let layers: Vec<&[Vec<u8>]> = layers.iter().map(Vec::as_slice).collect();
        let layout = Forged::new(&layers).layout(&place, "layout");
        let mut limits = limits.clone();
        if limit == "oci_tree" {
            limits.oci_tree = 20_000;
        }
        assert_refused(name, &place, &layout, &limits, ErrorKind::LimitExceeded, limit);
    }
    // A few bytes that decode to a file of 512 MiB, which is never written.
    let place = Place::new();
    let head = Member::new(b'0', "zeros").size(512 << 20).bytes();
    let layout = Forged::new(&[&[]]).codec(Codec::Zstd).layout(&place, "layout");
    let bomb = zstd_zeros(&head, (512 << 20) + 1024);
    let layer = put(&layout, "application/vnd.oci.image.layer.v1.tar+zstd", &bomb);
    let mut hasher = Digest::of(b"").hasher();
    hasher.update(&head);
    (0..512).for_each(|_| hasher.update(&vec![0; 1 << 20]));
    hasher.update(&[0; 1024]);
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [hasher.finish().to_string()]}});
    let config = put(&layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let mut entry = put(&layout, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "box"});
    index(&layout, &[entry]);
    assert_refused("zeros", &place, &layout, &limits, ErrorKind::LimitExceeded, "output");
}

#[test]
fn lying_manifests_are_refused_by_name() {
    use ErrorKind::{Malformed, Mismatch, NotFound, Unsupported};
    let cases: Vec<(&str, fn(&mut Value), ErrorKind, &str)> = vec![
        ("size too small", |m| m["layers"][0]["size"] = json!(10), Mismatch, "size"),
        ("size too large", |m| m["layers"][0]["size"] = json!(1_000_000), Mismatch, "size"),
        ("negative size", |m| m["layers"][0]["size"] = json!(-1), Malformed, ""),
        ("digest of another blob", |m| m["layers"][0]["digest"] = m["config"]["digest"].clone(), Mismatch, ""),
        ("digest that is a path", |m| m["layers"][0]["digest"] = json!("sha256:../../index.json"), Malformed, "digest"),
        (
            "digest of no blob",
            |m| m["layers"][0]["digest"] = json!(format!("sha256:{}", "0".repeat(64))),
            NotFound,
            "blob",
        ),
        (
            "other algorithm",
            |m| m["layers"][0]["digest"] = json!("md5:99914b932bd37a50b983c5e7c90ae93b"),
            Malformed,
            "algorithm",
        ),
        ("layer of an unknown type", |m| m["layers"][0]["mediaType"] = json!("text/plain"), Unsupported, "text/plain"),
        (
            "layer on another server",
            |m| {
                m["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
                m["layers"][0]["urls"] = json!(["https://example.com/layer"]);
            },
            Unsupported,
            "may not be distributed",
        ),
        (
            "encrypted layer",
            |m| m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            Unsupported,
            "encrypted",
        ),
        (
            "layer that is not what its type says",
            |m| m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+zstd"),
            Malformed,
            "",
        ),
        ("fewer layers than DiffIDs", |m| m["layers"] = json!([]), Malformed, "diff_ids"),
        (
            "schema 1",
            |m| {
                m["schemaVersion"] = json!(1);
            },
            Unsupported,
            "schema 1",
        ),
        (
            "schema 1 by its layers",
            |m| {
                m["fsLayers"] = json!([]);
            },
            Unsupported,
            "schema 1",
        ),
        ("schema 3", |m| m["schemaVersion"] = json!(3), Malformed, "schemaVersion"),
        ("both a manifest and an index", |m| m["manifests"] = json!([]), Malformed, "both"),
        (
            "another type inside",
            |m| m["mediaType"] = json!("application/vnd.oci.image.index.v1+json"),
            Mismatch,
            "type",
        ),
        ("an artifact", |m| m["artifactType"] = json!("application/vnd.example"), Unsupported, "artifact"),
        ("null for layers", |m| m["layers"] = Value::Null, Malformed, "diff_ids"),
    ];
    for (name, change, kind, words) in cases {
        let place = Place::new();
        let layout = Forged::new(&[&[file("a", "x")]]).change(change).layout(&place, "layout");
        assert_refused(name, &place, &layout, &Limits::default(), kind, words);
    }
}

#[test]
fn lying_configurations_are_refused_by_name() {
    use ErrorKind::{Malformed, Mismatch, NotFound, Unsupported};
    let other = format!("sha256:{}", "1".repeat(64));
    for (name, config, kind, words) in [
        ("DiffID of other bytes", json!({"rootfs": {"type": "layers", "diff_ids": [other]}}), Mismatch, "DiffID"),
        (
            "more DiffIDs than layers",
            json!({"rootfs": {"type": "layers", "diff_ids": [other, other]}}),
            Malformed,
            "diff_ids",
        ),
        ("no layers", json!({"rootfs": {"type": "other", "diff_ids": []}}), Malformed, "rootfs.type"),
        ("Windows", json!({"os": "windows"}), Unsupported, "windows"),
        ("user that is not there", json!({"config": {"User": "nobody"}}), NotFound, "nobody"),
        ("user that is no id", json!({"config": {"User": "99999999999"}}), Malformed, "too large"),
        ("list for text", json!({"architecture": []}), Malformed, "configuration"),
    ] {
        let place = Place::new();
        let layout = Forged::new(&[&[file("a", "x")]]).config(config).layout(&place, "layout");
        assert_refused(name, &place, &layout, &Limits::default(), kind, words);
    }
}

#[test]
fn indexes_within_indexes_end() {
    let place = Place::new();
    let layout = Forged::new(&[&[file("a", "x")]]).layout(&place, "layout");
    let mut entry: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let mut entry = entry["manifests"][0].take();
    for _ in 0..10 {
        let nested = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        entry = put(&layout, "application/vnd.oci.image.index.v1+json", nested.as_bytes());
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "box"});
    }
    index(&layout, &[entry]);
    assert_refused("nested", &place, &layout, &Limits::default(), ErrorKind::LimitExceeded, "oci_index_depth");
}

#[test]
fn layouts_that_are_none_are_refused_by_name() {
    use ErrorKind::{LimitExceeded, Malformed, Unsupported};
    let place = Place::new();
    let layout = Forged::new(&[&[file("a", "x")]]).layout(&place, "layout");
    let refused = |name: &str, kind, words: &str, limits: &Limits| {
        let error = Layout::open(&layout, limits, &Monitor::none()).expect_err(name);
        assert!(error.kind() == kind && error.to_string().contains(words), "{name}: {error}");
    };
    let mut small = Limits::default();
    small.oci_document = 100;
    refused("document over its limit", LimitExceeded, "oci_document", &small);
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
    refused("another version", Unsupported, "9.0.0", &Limits::default());
    fs::write(layout.join("oci-layout"), "[\"1.0.0\"]").unwrap();
    refused("an array", Malformed, "object", &Limits::default());
    fs::remove_file(layout.join("oci-layout")).unwrap();
    refused("no marker", Malformed, "no OCI layout", &Limits::default());
    std::os::unix::fs::symlink("/etc/hostname", layout.join("oci-layout")).unwrap();
    Layout::open(&layout, &Limits::default(), &Monitor::none()).expect_err("a marker that is a link");

    for (name, members, words) in [
        ("docker save", vec![file("manifest.json", "[]")], "no OCI layout"),
        (
            "index twice",
            vec![
                file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
                file("index.json", "{}"),
                file("index.json", "{}"),
            ],
            "twice",
        ),
        ("size beyond the end", vec![Member::new(b'0', "blobs/sha256/x").size(1 << 40).bytes()], "ends within"),
    ] {
        let tar = place.write("layout.tar", archive(&members));
        let error = Layout::open(&tar, &Limits::default(), &Monitor::none()).expect_err(name);
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

#[test]
fn deep_json_is_refused_before_it_is_parsed() {
    let deep = format!("{{\"schemaVersion\":2,\"layers\":{}", "[".repeat(100_000));
    let error = Document::parse(deep.as_bytes(), None, &Limits::default()).unwrap_err();
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("json_depth")));
}
