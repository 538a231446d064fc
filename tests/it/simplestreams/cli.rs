//! The verbs `simplestreams` and `mirror`.

use std::fs;
use std::process::{Command, Output};

use lxd_image::Fingerprint;

use super::mirroring::serve;
use crate::store::{Scratch, split, unified};

fn run(scratch: &Scratch, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(words)
        .current_dir(scratch.path())
        .env("LXD_IMAGE_STORE", scratch.join("store"))
        .env("SSL_CERT_FILE", scratch.join("ca.pem"))
        .output()
        .unwrap()
}

#[track_caller]
fn ok(scratch: &Scratch, words: &[&str]) -> String {
    let output = run(scratch, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(scratch: &Scratch, words: &[&str], status: i32, kind: &str) -> String {
    let output = run(scratch, words);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {text}");
    assert!(text.starts_with(&format!("error[{kind}]: ")), "{words:?}: {text}");
    text
}

/// journeys.md 28, 29.
#[test]
fn tree_is_made_read_mirrored_and_pruned() {
    let scratch = Scratch::new();
    let (meta, rootfs) = split("two");
    fs::write(scratch.join("one.tar"), unified("one")).unwrap();
    fs::write(scratch.join("meta.tar"), &meta).unwrap();
    fs::write(scratch.join("root.tar"), &rootfs).unwrap();
    let one = Fingerprint::of(&unified("one")).to_string();
    let two = Fingerprint::of(&[meta, rootfs].concat()).to_string();
    fails(&scratch, &["simplestreams", "list", "www"], 4, "NotFound");
    assert_eq!(ok(&scratch, &["simplestreams", "add", "www", "one.tar", "--alias", "first"]).trim_end(), one);
    let words =
        ["simplestreams", "add", "www", "root.tar", "meta.tar", "--property", "release=13", "--no-default-alias"];
    assert_eq!(ok(&scratch, &words).trim_end(), two);
    fails(&scratch, &words, 5, "AlreadyExists");
    let table = ok(&scratch, &["simplestreams", "list", "www"]);
    assert!(
        table.contains("Debian:12:default:amd64") && table.contains("first") && table.contains(&two[..12]),
        "{table}"
    );
    let lines = ok(&scratch, &["simplestreams", "list", "www", "--format", "{{ fingerprint }} {{ type }}"]);
    assert!(lines.contains(&format!("{one} container")), "{lines}");
    ok(&scratch, &["simplestreams", "verify", "www"]);

    let server = serve(&scratch.join("www"));
    fs::write(scratch.join("ca.pem"), server.pem()).unwrap();
    let url = server.text("/");
    let done = ok(&scratch, &["mirror", &url, "copy"]);
    assert!(done.contains(&one) && done.contains(&two), "{done}");
    assert_eq!(ok(&scratch, &["mirror", &url, "copy"]), "");
    ok(&scratch, &["simplestreams", "verify", "copy"]);
    ok(&scratch, &["mirror", &url, "local:", "first"]);
    let stored = ok(&scratch, &["list", "--format", "{{ fingerprint }}"]);
    assert_eq!(stored.trim_end(), one);
    fails(&scratch, &["mirror", "nowhere:", "copy"], 4, "NotFound");

    fails(&scratch, &["simplestreams", "remove", "www", &two[..12], "abcd1234"], 4, "NotFound");
    ok(&scratch, &["simplestreams", "remove", "www", &two[..12]]);
    assert!(ok(&scratch, &["mirror", &url, "copy", "--delete"]).contains("removed"));
    assert_eq!(ok(&scratch, &["simplestreams", "list", "copy", "--format", "{{ fingerprint }}"]).trim_end(), one);
    assert_eq!(ok(&scratch, &["simplestreams", "prune", "copy"]), "");
    fs::write(scratch.join("copy/images").join(format!("{one}.incus_combined.tar.gz")), "rot").unwrap();
    let told = fails(&scratch, &["simplestreams", "verify", "copy"], 3, "Mismatch");
    assert!(told.contains("hint: "), "{told}");
}

#[test]
fn metadata_is_made_for_a_disk_that_is_there() {
    let scratch = Scratch::new();
    let words = [
        "simplestreams",
        "generate-metadata",
        "meta.tar.xz",
        "--os",
        "Box",
        "--release",
        "1",
        "--architecture",
        "amd64",
    ];
    let words = [&words[..], &["--creation-date", "1700000000", "--property", "a=b"]].concat();
    let digest = ok(&scratch, &words);
    assert_eq!(digest.trim_end(), Fingerprint::of(&fs::read(scratch.join("meta.tar.xz")).unwrap()).to_string());
    fails(&scratch, &words, 5, "AlreadyExists");
    let (_, rootfs) = split("x");
    fs::write(scratch.join("root.tar"), rootfs).unwrap();
    ok(&scratch, &["simplestreams", "add", "www", "meta.tar.xz", "root.tar"]);
    let told = ok(&scratch, &["simplestreams", "list", "www", "--format", "json"]);
    assert!(told.contains("Box/1/default") && told.contains("202311142213"), "{told}");
}
