//! The command line on a store that a file describes: the catalog in a local file, the images in a bucket.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use lxd_image::format::{ImageForm, RootfsFormat};

use crate::servers::{Server, prefix, servers};
use crate::whole_store::Place;

/// Runs the program on the store that `store.toml` in the place describes.
fn run(place: &Place, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(words)
        .current_dir(place.at(""))
        .env("LXD_IMAGE_STORE", place.at("store.toml"))
        .env("AWS_ACCESS_KEY_ID", "AK")
        .env("AWS_SECRET_ACCESS_KEY", "SK")
        .output()
        .unwrap()
}

#[track_caller]
fn ok(place: &Place, words: &[&str]) -> String {
    let output = run(place, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A place with the description of a new store on a server, and an image in a file.
fn described(server: &Server, name: &str) -> (Place, String) {
    let place = Place::new(&format!("{name}-{}", server.name));
    let description = format!(
        "catalog = \"rows.sqlite\"\nblobs = \"{}\"\n[s3]\nendpoint = \"{}\"\nregion = \"us-east-1\"\nallow_http = true\npath_style = true\n",
        prefix(),
        server.endpoint
    );
    fs::write(place.at("store.toml"), description).unwrap();
    let files = place.image("box", ImageForm::Unified, RootfsFormat::default());
    let file = files.first().unwrap();
    (place, file.to_str().unwrap().to_owned())
}

#[test]
fn store_is_moved_to_a_bucket_and_back() {
    for server in servers() {
        let (place, file) = described(server, "moved");
        ok(&place, &["--store", "here", "import", &file, "--alias", "box"]);
        ok(&place, &["store", "migrate", "here", "store.toml"]);
        ok(&place, &["store", "migrate", "store.toml", "back"]);
        let listed = |store: &str| ok(&place, &["--store", store, "list", "--format", "json"]);
        assert_eq!(listed("store.toml"), listed("here"), "{}", server.name);
        assert_eq!(listed("back"), listed("here"), "{}", server.name);
    }
}

#[test]
fn image_is_unpacked_from_a_bucket() {
    for server in servers() {
        let (place, file) = described(server, "unpacked");
        ok(&place, &["import", &file, "--alias", "box"]);
        ok(&place, &["unpack", "box", "c1"]);
        assert_eq!(fs::read_to_string(place.at("c1/rootfs/etc/hostname")).unwrap(), "box\n", "{}", server.name);
    }
}

#[test]
fn repair_brings_no_deleted_image_back() {
    for server in servers() {
        let (place, file) = described(server, "deleted");
        ok(&place, &["import", &file, "--alias", "box"]);
        ok(&place, &["delete", "box"]);
        // The object is still there, for as long as the grace says.
        run(&place, &["check", "--repair"]);
        assert_eq!(ok(&place, &["list", "--format", "json"]).trim(), "[]", "{}", server.name);
    }
}

#[test]
fn secrets_are_in_no_output() {
    for server in servers() {
        let (place, file) = described(server, "secrets");
        let output = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
            .args(["import", &file])
            .current_dir(place.at(""))
            .env("LXD_IMAGE_STORE", Path::new("store.toml"))
            .env("AWS_ACCESS_KEY_ID", "AK")
            .env("AWS_SECRET_ACCESS_KEY", "sesame-open")
            .output()
            .unwrap();
        let text = format!("{output:?}");
        assert!(!text.contains("sesame-open"), "{}: {text}", server.name);
    }
}
