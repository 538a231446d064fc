//! The command line on a store that a file describes, with both engines: a catalog in PostgreSQL, images in a bucket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::shared;
use crate::servers::{moto, prefix};

/// A directory with the description of a new store, a packed image, and its fingerprint.
struct Place {
    directory: PathBuf,
    image: String,
}

impl Place {
    fn new(name: &str) -> Option<Self> {
        let (cluster, server) = (shared()?, moto()?);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("both-{}-{name}", std::process::id()));
        fs::create_dir_all(directory.join("root/etc")).unwrap();
        fs::write(directory.join("root/etc/hostname"), "box\n").unwrap();
        let description = format!(
            "catalog = \"{}\"\nblobs = \"{}\"\nscratch = \"scratch\"\n[s3]\nendpoint = \"{}\"\nregion = \"us-east-1\"\nallow_http = true\npath_style = true\n",
            cluster.socket_url(&cluster.database()),
            prefix(),
            server.endpoint
        );
        fs::write(directory.join("store.toml"), description).unwrap();
        let mut place = Self { directory, image: String::new() };
        place.ok(&["store", "init"]);
        place.image = place.ok(&["pack", "root", "box.tar.xz", "--architecture", "amd64"]).trim().to_owned();
        Some(place)
    }

    /// Runs the program, which must succeed; its output.
    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
            .args(words)
            .current_dir(&self.directory)
            .env("LXD_IMAGE_STORE", self.directory.join("store.toml"))
            .env("LXD_IMAGE_CONFIG", self.directory.join("settings"))
            .env("AWS_ACCESS_KEY_ID", "AK")
            .env("AWS_SECRET_ACCESS_KEY", "SK")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn image_is_imported_listed_exported_and_deleted() {
    let Some(place) = Place::new("journey") else { return };
    assert_eq!(place.ok(&["import", "box.tar.xz", "--alias", "box"]).trim(), place.image);
    assert!(place.ok(&["list", "--format", "csv"]).contains("box"));
    place.ok(&["export", "box", "exported"]);
    let exported = fs::read(place.directory.join("exported.tar.xz")).unwrap();
    assert!(exported == fs::read(place.directory.join("box.tar.xz")).unwrap());
    place.ok(&["unpack", "box", "unpacked"]);
    assert_eq!(fs::read_to_string(place.directory.join("unpacked/rootfs/etc/hostname")).unwrap(), "box\n");
    place.ok(&["delete", "box"]);
    assert_eq!(place.ok(&["list", "--format", "csv"]).trim(), "");
    place.ok(&["check"]);
}

#[test]
fn store_of_both_engines_is_moved_to_a_directory_and_back() {
    let Some(place) = Place::new("moved") else { return };
    place.ok(&["import", "box.tar.xz", "--alias", "box"]);
    let listed = |store: &str| place.ok(&["--store", store, "list", "--format", "json"]);
    let before = listed("store.toml");
    place.ok(&["store", "migrate", "store.toml", "here"]);
    assert_eq!(listed("here"), before);
    place.ok(&["delete", "box"]);
    place.ok(&["store", "migrate", "here", "store.toml"]);
    assert_eq!(listed("store.toml"), before);
}

#[test]
fn info_names_both_engines() {
    let Some(place) = Place::new("info") else { return };
    let told = place.ok(&["store", "info"]);
    assert!(told.contains("postgresql://") && told.contains("s3://"), "{told}");
}
