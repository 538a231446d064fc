//! A tree that the real `incus-simplestreams` made, served over TLS: listed, copied and refreshed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lxd_image::format::{ImageForm, PackOptions, Rootfs, RootfsFormat, pack};
use lxd_image::remote::{ClientOptions, CopyOptions, Remote, RemoteRefresh, Simplestreams, copy, open_source};
use lxd_image::store::{RefreshOptions, Refreshed, Store};
use lxd_image::{Metadata, Monitor};

use super::simplestreams::{Files, serve};
use crate::peers::run;
use crate::store::{Scratch, alias, assert_clean};

/// The real program; `None`, said aloud, where it is not there and not required.
fn incus_simplestreams() -> Option<PathBuf> {
    let named = std::env::var_os("INCUS_SIMPLESTREAMS").map(PathBuf::from).filter(|path| path.is_file());
    if named.is_none() {
        let reason = "INCUS_SIMPLESTREAMS names no program; tests/peers/install.sh brings it";
        assert!(
            std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
            "peers are required: {reason}"
        );
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("a simplestreams test skips: {reason}\n").as_bytes(),
        );
    }
    named
}

/// A split image with a SquashFS, and what `incus-simplestreams` wants to know of it.
fn image(scratch: &Scratch, name: &str, created: i64) -> (PathBuf, PathBuf) {
    let root = scratch.join(&format!("{name}.root"));
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/name"), name).unwrap();
    let mut metadata = Metadata::new("x86_64", created).unwrap();
    for (key, value) in
        [("os", "Box"), ("release", "one"), ("variant", "default"), ("architecture", "amd64"), ("description", name)]
    {
        metadata.properties_mut().set(key, value).unwrap();
    }
    let options = PackOptions::new(metadata)
        .compression("xz".parse().unwrap())
        .form(ImageForm::Split)
        .rootfs_format(RootfsFormat::SquashFs);
    let out = scratch.join(&format!("{name}.tar.xz"));
    pack(&Rootfs::open(&root).unwrap(), &out, &options, &Monitor::none()).unwrap();
    let rootfs = scratch.join(&format!("{name}.tar.xz.root"));
    (out, rootfs)
}

fn collect(tree: &Path, below: &str, files: &Files) {
    for entry in fs::read_dir(tree).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &name, files);
        } else {
            files.lock().unwrap().insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn tree_of_the_real_incus_simplestreams_is_listed_copied_and_followed() {
    let Some(program) = incus_simplestreams() else { return };
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    fs::create_dir(&tree).unwrap();
    let add = |name: &str, created: i64| {
        let (meta, rootfs) = image(&scratch, name, created);
        run(Command::new(&program).arg("add").arg(&meta).arg(&rootfs).current_dir(&tree));
    };
    add("first", 1_700_000_000);
    let files = Files::default();
    collect(&tree, "", &files);
    let server = serve(&files);
    let remote = Simplestreams::new(server.options(), &server.url("")).unwrap().certificate(server.pem());
    let listed = remote.list(&Monitor::none()).unwrap();
    assert_eq!(listed.len(), 1);
    let names: Vec<_> = listed[0].aliases.iter().map(|alias| &*alias.name).collect();
    assert_eq!(names, ["Box/one/default", "Box/one/default/amd64"]);
    let store = Store::open(scratch.join("store")).unwrap();
    let options = CopyOptions::new().alias(alias("box")).auto_update(true).architectures(["amd64".parse().unwrap()]);
    let image = copy(&remote, "Box/one/default", &store, &options, &Monitor::none()).unwrap();
    assert_eq!(image.fingerprint, listed[0].fingerprint);
    add("second", 1_700_100_000);
    collect(&tree, "", &files);
    let upstreams = RemoteRefresh::new(|source| open_source(source, ClientOptions::new()));
    let done = store.refresh(&image.fingerprint, &upstreams, &RefreshOptions::new(), &Monitor::none()).unwrap();
    let newest = remote.list(&Monitor::none()).unwrap().remove(0).fingerprint;
    assert_eq!(done, Refreshed::Replaced { fingerprint: newest });
    assert_eq!(store.resolve("box").unwrap().fingerprint, newest);
    assert_clean(&store);
}
