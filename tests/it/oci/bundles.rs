//! Bundles and imports of layouts on the command line.

use std::fs;
use std::process::Command;

use lxd_image::bundle::BundleWriter;
use lxd_image::store::Store;
use lxd_image::{ErrorKind, Fingerprint, Monitor};
use serde_json::{Value, json};

use super::{Forged, files, index, put};
use crate::cli::run;
use crate::format::Place;
use crate::format::forge::{Disk, archive, compressed, directory, file, image, metadata, rootfs};
use crate::peers::available;
use lxd_image::format::Codec;

/// A store with a unified image, a split one and a virtual machine.
fn stocked() -> Place {
    let place = Place::new();
    place.write("unified.tar.gz", compressed(Codec::Gzip, &image(&[])));
    place.write("meta.tar", archive(&[metadata()]));
    place.write("rootfs.tar", rootfs(&[file("./etc/more", "more")]));
    place.write("disk.qcow2", Disk::default().bytes());
    run(&place, &["--store", "one", "import", "unified.tar.gz", "--alias", "box", "--alias", "box/again", "note=kept"])
        .good();
    run(&place, &["--store", "one", "import", "meta.tar", "rootfs.tar", "--alias", "split"]).good();
    run(&place, &["--store", "one", "import", "meta.tar", "disk.qcow2", "--alias", "box"]).good();
    place
}

fn listed(place: &Place, store: &str) -> Value {
    let text = run(place, &["--store", store, "list", "--format", "json"]).good();
    let mut all: Value = serde_json::from_str(&text).unwrap();
    let mut kept: Vec<Value> = all
        .as_array_mut()
        .unwrap()
        .iter()
        .map(|image| {
            let fields = ["fingerprint", "aliases", "type", "architecture", "size", "properties"];
            Value::Object(fields.iter().map(|field| ((*field).to_owned(), image[*field].clone())).collect())
        })
        .collect();
    kept.sort_by_key(|image| image["fingerprint"].as_str().unwrap().to_owned());
    Value::Array(kept)
}

#[test]
fn bundle_carries_images_and_aliases_from_store_to_store() {
    let place = stocked();
    run(&place, &["--store", "one", "bundle", "create", "b.tar", "box", "split"]).good();
    let both: Vec<String> = serde_json::from_value::<Vec<Value>>(listed(&place, "one"))
        .unwrap()
        .iter()
        .map(|image| image["fingerprint"].as_str().unwrap().to_owned())
        .collect();
    let all: Vec<&str> = both.iter().map(String::as_str).collect();
    run(&place, &[&["--store", "one", "bundle", "create", "all/"], &all[..]].concat()).good();
    run(&place, &["--store", "two", "bundle", "import", "all"]).good();
    assert_eq!(listed(&place, "one"), listed(&place, "two"));
    // Once more changes nothing.
    run(&place, &["--store", "two", "bundle", "import", "all"]).good();
    assert_eq!(listed(&place, "one"), listed(&place, "two"));
}

#[test]
fn same_images_give_the_same_bundle() {
    let place = stocked();
    run(&place, &["--store", "one", "bundle", "create", "a.tar", "box", "split"]).good();
    run(&place, &["--store", "one", "bundle", "create", "b.tar", "split", "box"]).good();
    assert_eq!(
        Fingerprint::of(&fs::read(place.at("a.tar")).unwrap()),
        Fingerprint::of(&fs::read(place.at("b.tar")).unwrap())
    );
    run(&place, &["--store", "one", "bundle", "create", "a.tar", "box"]).failed(5, "error[AlreadyExists]");
}

#[test]
fn damaged_bundle_imports_nothing() {
    let place = stocked();
    run(&place, &["--store", "one", "bundle", "create", "b/", "split"]).good();
    for (number, (path, bytes)) in files(&place.at("b")).into_iter().enumerate() {
        if path.starts_with("blobs") {
            let mut other = bytes.clone();
            let last = other.len() - 1;
            other[last] ^= 1;
            fs::write(place.at("b").join(&path), other).unwrap();
            let ran = run(&place, &["--store", &format!("store-{number}"), "bundle", "import", "b"]);
            // The empty configuration is never read.
            assert!(ran.status != 0 || bytes == b"{}", "{}", path.display());
            fs::write(place.at("b").join(&path), bytes).unwrap();
        }
    }
}

#[test]
fn skopeo_copies_a_bundle_and_back() {
    if !available(&["skopeo"]) {
        return;
    }
    let place = stocked();
    run(&place, &["--store", "one", "bundle", "create", "b.tar", "split"]).good();
    let copy = |from: &str, to: &str| {
        let ran = Command::new("skopeo")
            .current_dir(place.at(""))
            .args(["--insecure-policy", "copy", "-q", from, to])
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    copy("oci-archive:b.tar:split", "oci:layout:team/split");
    copy("oci:layout:team/split", "oci-archive:back.tar:split");
    let imported = run(&place, &["--store", "two", "bundle", "import", "back.tar"]).good();
    let there = run(&place, &["--store", "one", "info", "split", "--format", "json"]).good();
    assert!(there.contains(imported.trim()), "{imported} {there}");
}

#[test]
fn image_of_many_layers_needs_few_descriptors() {
    let place = Place::new();
    let layers: Vec<[Vec<u8>; 1]> = (0..200).map(|number| [file(format!("f{number}"), format!("{number}"))]).collect();
    let layers: Vec<&[Vec<u8>]> = layers.iter().map(|layer| &layer[..]).collect();
    Forged::new(&layers).layout(&place, "layout");
    let ran = Command::new("sh")
        .arg("-c")
        .arg("ulimit -n 48; exec \"$0\" --store s import layout --architecture amd64")
        .arg(env!("CARGO_BIN_EXE_lxd-image"))
        .current_dir(place.at(""))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn container_image_of_a_layout_is_imported_as_incus_names_it() {
    let place = Place::new();
    let layout = Forged::new(&[&[directory("./"), directory("etc/"), file("etc/hostname", "x")]])
        .config(json!({"config": {"Cmd": ["/bin/app"]}}))
        .layout(&place, "layout");
    let fingerprint =
        run(&place, &["import", "layout", "--alias", "app", "--store", "s", "--architecture", "amd64"]).good();
    let shown: Value =
        serde_json::from_str(&run(&place, &["--store", "s", "info", "app", "--format", "json"]).good()).unwrap();
    let properties = &shown["properties"];
    assert_eq!(
        (properties["type"].as_str(), properties["description"].as_str(), properties["id"].as_str()),
        (Some("oci"), Some("box (OCI)"), Some("box"))
    );
    run(&place, &["--store", "s", "unpack", "app", "out"]).good();
    assert_eq!(place.names("out"), ["config.json", "metadata.yaml", "rootfs"]);
    // The same layout gives the same image, and a converted one keeps what it runs.
    assert_eq!(run(&place, &["import", "layout", "--store", "t", "--architecture", "amd64"]).good(), fingerprint);
    run(&place, &["--store", "s", "convert", "app", "app.tar.xz", "--to", "split"]).good();
    run(&place, &["unpack", "app.tar.xz", "app.tar.xz.root", "again"]).good();
    assert_eq!(fs::read(place.at("again/config.json")).unwrap(), fs::read(place.at("out/config.json")).unwrap());

    let entry = put(&layout, "application/vnd.oci.image.manifest.v1+json", b"{}");
    index(&layout, &[entry.clone(), entry]);
    run(&place, &["import", "layout", "--store", "u"]).failed(1, "error[Malformed]");
    place.write("plain.tar", image(&[]));
    run(&place, &["import", "plain.tar", "--system", "--store", "u"]).failed(1, "error[InvalidInput]: `--system`");
}

#[test]
fn expiry_date_goes_with_a_bundle() {
    let place = stocked();
    run(&place, &["--store", "one", "set", "box", "expires_at=2099-01-02T03:04:05Z"]).good();
    run(&place, &["--store", "one", "bundle", "create", "b.tar", "box"]).good();
    let expires = |store: &str| {
        let shown = run(&place, &["--store", store, "info", "box", "--format", "json"]).good();
        serde_json::from_str::<Value>(&shown).unwrap()["expires_at"].as_str().unwrap().to_owned()
    };
    run(&place, &["--store", "two", "bundle", "import", "b.tar"]).good();
    run(&place, &["--store", "three", "import", "b.tar", "--alias", "box"]).good();
    assert_eq!([expires("two"), expires("three")], ["2099-01-02T03:04:05Z", "2099-01-02T03:04:05Z"]);
}

#[test]
fn bundle_that_names_a_private_image_does_not_publish_it() {
    let place = stocked();
    run(&place, &["--store", "one", "bundle", "create", "b.tar", "split"]).good();
    run(&place, &["--store", "one", "bundle", "import", "b.tar", "--public"]).good();
    let shown = run(&place, &["--store", "one", "info", "split", "--format", "json"]).good();
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["public"], json!(false));
}

#[test]
fn bundle_that_lacks_an_image_cannot_be_finished() {
    let place = stocked();
    let store = Store::open(place.at("one")).unwrap();
    let image = store.resolve("split").unwrap();
    let blob = place.at("one/blobs").join(image.objects.image.as_str());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[0] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let none = Monitor::none();
    let mut bundle = BundleWriter::tar(place.at("b.tar"), &none).unwrap();
    bundle.add(&store, &image, &none).unwrap_err();
    bundle.add(&store, &store.resolve("box").unwrap(), &none).unwrap_err();
    assert_eq!(bundle.finish(&none).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(!place.at("b.tar").exists());
}

#[test]
fn names_in_a_bundle_are_bounded_in_all() {
    let place = stocked();
    let all: Vec<String> = listed(&place, "one")
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["fingerprint"].as_str().unwrap().to_owned())
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    run(&place, &[&["--store", "one", "bundle", "create", "b/"], &all[..]].concat()).good();
    // Three names, one of which is of two images: no document has more than three.
    let few = run(&place, &["--store", "two", "--limit", "oci_manifests=3", "bundle", "import", "b"]);
    few.failed(1, "error[LimitExceeded]: b: the number of names in a bundle");
    run(&place, &["--store", "two", "--limit", "oci_manifests=4", "bundle", "import", "b"]).good();
}

#[test]
fn what_refers_to_a_container_image_is_told_where_it_is_left_out() {
    let place = Place::new();
    let layout = Forged::new(&[&[directory("./"), file("a", "a")]]).layout(&place, "layout");
    let named: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let subject = named["manifests"][0].clone();
    let about = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/spdx+json",
        "config": put(&layout, "application/vnd.oci.empty.v1+json", b"{}"), "layers": [],
        "subject": {"mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"]},
    });
    let about = put(&layout, "application/vnd.oci.image.manifest.v1+json", about.to_string().as_bytes());
    index(&layout, &[subject, about]);
    let ran = run(
        &place,
        &["import", "layout", "--image", "box", "--alias", "app", "--store", "s", "--architecture", "amd64"],
    );
    assert!(ran.err.contains("application/spdx+json"), "{}", ran.err);
    ran.good();
}
