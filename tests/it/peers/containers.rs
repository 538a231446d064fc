//! Container images as system containers in a real LXD.

use std::fs;
use std::process::Command;

use lxd_image::format::Codec;
use serde_json::json;

use super::{Lxd, run, script};
use crate::cli::run as ours;
use crate::format::Place;
use crate::format::forge::{archive, directory, file};
use crate::oci::Forged;

/// A layout with a container image of two layers: a small root file system, and a change upon it.
fn layout(place: &Place) {
    let root = place.at("root");
    script("mkroot.sh", &[root.as_os_str()]);
    fs::write(root.join("etc/removed"), "").unwrap();
    fs::write(root.join("etc/motd"), "below\n").unwrap();
    run(Command::new("tar").args(["--numeric-owner", "-cf"]).arg(place.at("base.tar")).arg("-C").arg(&root).arg("."));
    let upper = archive(&[directory("etc/"), file("etc/.wh.removed", ""), file("etc/motd", "above\n")]);
    let layers = vec![(Codec::Gzip, fs::read(place.at("base.tar")).unwrap()), (Codec::Zstd, upper)];
    Forged { layers, config: json!({"config": {"Cmd": ["/bin/sh"]}}), change: |_| () }.layout(place, "layout");
}

#[test]
fn container_image_starts_as_a_system_container_in_a_real_lxd() {
    let Some(lxd) = Lxd::start() else { return };
    let place = Place::new();
    layout(&place);
    let import = ["--store", "s", "import", "layout", "--system", "--architecture", "amd64", "--alias", "box"];
    let fingerprint = ours(&place, &import).good();
    for (words, name) in
        [(&["export", "box", "out/"][..], "unified"), (&["convert", "box", "split.tar.xz", "--to", "split"], "split")]
    {
        let written = ours(&place, &[&["--store", "s"], words].concat());
        assert_eq!(written.status, 0, "{}", written.err);
        let mut files: Vec<String> = match name {
            "unified" => place.names("out").iter().map(|file| format!("out/{file}")).collect(),
            _ => ["split.tar.xz", "split.tar.xz.root"].map(str::to_owned).to_vec(),
        };
        files = files.iter().map(|file| place.at(file).to_str().unwrap().to_owned()).collect();
        let mut words = vec!["image", "import"];
        words.extend(files.iter().map(String::as_str));
        words.extend(["--alias", name]);
        lxd.lxc(&words);
        if name == "unified" {
            assert_eq!(lxd.fingerprint(name), fingerprint.trim_end());
        }
        let container = format!("c-{name}");
        lxd.lxc(&["launch", name, &container]);
        let inside = |words: &[&str]| lxd.lxc(&[&["exec", &container, "--"], words].concat());
        // By the template, and from there by the container's own init.
        assert_eq!(inside(&["cat", "/etc/hostname"]), container);
        assert!(inside(&["cat", "/etc/hosts"]).contains(&format!("127.0.1.1\t{container}")));
        assert_eq!(inside(&["cat", "/etc/motd"]), "above");
        assert_eq!(inside(&["sh", "-c", "test ! -e /etc/removed && echo gone"]), "gone");
        lxd.lxc(&["delete", "--force", &container]);
    }
}
