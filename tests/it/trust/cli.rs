//! The command line: statements are signed, carried and verified; a policy refuses and explains; a tree is reproduced.

use std::fs;

use lxd_image::trust::SecretKey;

use crate::cli::{Ran, run};
use crate::format::Place;

/// Two key pairs, `one` and `two`, and a tree.
fn place() -> Place {
    let place = Place::new();
    for name in ["one", "two"] {
        let key = SecretKey::generate().unwrap();
        fs::write(place.at(&format!("{name}.key")), key.to_text(None).unwrap()).unwrap();
        fs::write(place.at(&format!("{name}.pub")), key.public_key().to_text()).unwrap();
    }
    fs::create_dir_all(place.at("tree/etc")).unwrap();
    fs::write(place.at("tree/etc/hostname"), "box\n").unwrap();
    place
}

/// Runs the program with the store `s` of the place, and settings of its own.
fn in_store(place: &Place, arguments: &[&str]) -> Ran {
    run(place, &[&["--store", "s"], arguments].concat())
}

const PACK: &[&str] = &["pack", "tree", "box.tar.zst", "--architecture", "amd64", "--creation-date", "1700000000"];

#[test]
fn statement_is_signed_listed_and_verified() {
    let place = place();
    in_store(&place, PACK).good();
    in_store(&place, &["import", "box.tar.zst", "--alias", "box"]).good();
    in_store(&place, &["statement", "verify", "box", "--key", "one.pub"]).failed(1, "error[Untrusted]");
    in_store(&place, &["statement", "sign", "box", "--key", "one.key"]).good();
    fs::write(place.at("sbom.json"), "{\"packages\": []}").unwrap();
    let sbom = [
        "statement",
        "sign",
        "box",
        "--key",
        "one.key",
        "--predicate",
        "sbom.json",
        "--type",
        "https://spdx.dev/Document",
    ];
    in_store(&place, &sbom).good();
    let listed = in_store(&place, &["statement", "list", "box", "--format", "csv"]).good();
    assert!(listed.contains("https://spdx.dev/Document") && listed.lines().count() >= 2, "{listed}");
    let verified = in_store(&place, &["statement", "verify", "box", "--key", "two.pub", "--key", "one.pub"]).good();
    assert!(verified.contains("signed by"), "{verified}");
    in_store(&place, &["statement", "verify", "box", "--key", "two.pub"]).failed(1, "error[Untrusted]");
    let info = in_store(&place, &["info", "box"]).good();
    assert!(info.contains("Statements:"), "{info}");
}

#[test]
fn statements_go_along_with_export_and_import() {
    let place = place();
    in_store(&place, &[PACK, &["--statement", "one.key"]].concat()).good();
    assert!(place.at("box.tar.zst.intoto.jsonl").exists());
    in_store(&place, &["import", "box.tar.zst", "--alias", "box"]).good();
    let exported = in_store(&place, &["export", "box", "out/"]).good();
    assert!(exported.contains("box.tar.zst.intoto.jsonl"), "{exported}");
    run(&place, &["--store", "other", "import", "out/box.tar.zst", "--alias", "box"]).good();
    let verify = [
        "--store",
        "other",
        "statement",
        "verify",
        "box",
        "--key",
        "one.pub",
        "--type",
        "https://slsa.dev/provenance/v1",
    ];
    run(&place, &verify).good();
    // Attached by hand, to an image that is not its subject.
    fs::write(place.at("tree/etc/hostname"), "other\n").unwrap();
    let pack = ["pack", "tree", "b.tar", "--architecture", "amd64", "--compression", "none"];
    in_store(&place, &pack).good();
    in_store(&place, &["import", "b.tar", "--alias", "b"]).good();
    in_store(&place, &["statement", "attach", "b", "box.tar.zst.intoto.jsonl"]).failed(1, "error[Mismatch]");
    in_store(&place, &["statement", "attach", "box", "box.tar.zst.intoto.jsonl"]).good();
}

#[test]
fn policy_refuses_and_explains() {
    let place = place();
    in_store(&place, &[PACK, &["--statement", "one.key"]].concat()).good();
    let policy = "default = \"deny\"\n[keys]\none = \"one.pub\"\n[[rule]]\nname = \"built here\"\nstatements = [{ key = \"one\" }]\n";
    fs::write(place.at("policy.toml"), policy).unwrap();
    fs::rename(place.at("box.tar.zst.intoto.jsonl"), place.at("kept")).unwrap();
    let refused = in_store(&place, &["import", "box.tar.zst", "--alias", "box", "--policy", "policy.toml"]);
    refused.failed(1, "error[Untrusted]: the rule `built here` of the policy refuses the image");
    in_store(&place, &["verify", "box.tar.zst", "--policy", "policy.toml"]).failed(1, "error[Untrusted]");
    fs::rename(place.at("kept"), place.at("box.tar.zst.intoto.jsonl")).unwrap();
    in_store(&place, &["import", "box.tar.zst", "--alias", "box", "--policy", "policy.toml"]).good();
    let verified = in_store(&place, &["verify", "box", "--policy", "policy.toml"]);
    assert!(verified.err.contains("the rule `built here` admits it"), "{}", verified.err);
    let info = in_store(&place, &["info", "box"]).good();
    assert!(info.contains("Admitted:") && info.contains("by the key `one`"), "{info}");
    in_store(&place, &["import", "box.tar.zst", "--policy", "missing.toml"]).failed(4, "error[NotFound]");
}

#[test]
fn published_image_with_a_statement_meets_the_policy_of_the_settings() {
    let place = place();
    fs::create_dir_all(place.at("config")).unwrap();
    let key = place.at("one.pub");
    let policy =
        format!("[keys]\none = \"{}\"\n[[rule]]\nname = \"r\"\nstatements = [{{ key = \"one\" }}]\n", key.display());
    fs::write(place.at("config/policy.toml"), policy).unwrap();
    fs::write(place.at("metadata.yaml"), "architecture: x86_64\ncreation_date: 1700000000\n").unwrap();
    let config = place.at("config");
    let publish = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lxd-image"))
            .args(["--store", "s", "publish", "tree", "--metadata", "metadata.yaml", "--alias", "box"])
            .args(more)
            .current_dir(place.at(""))
            .env("LXD_IMAGE_CONFIG", &config)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, err) = publish(&[]);
    assert!(status == Some(1) && err.starts_with("error[Untrusted]"), "{err}");
    assert_eq!(publish(&["--statement", "one.key"]), (Some(0), String::new()));
}

#[test]
fn tree_is_reproduced_from_its_statement() {
    let place = place();
    let packing = ["--owner", "0:0", "--compression", "zstd:3", "--statement", "one.key"];
    in_store(&place, &[PACK, &packing].concat()).good();
    in_store(&place, &["reproduce", "box.tar.zst", "tree", "--key", "one.pub"]).good();
    in_store(&place, &["import", "box.tar.zst", "--alias", "box"]).good();
    in_store(&place, &["reproduce", "box", "tree"]).good();
    in_store(&place, &["reproduce", "box", "tree", "--key", "two.pub"]).failed(4, "error[NotFound]");
    fs::write(place.at("tree/etc/hostname"), "changed\n").unwrap();
    let differs = in_store(&place, &["reproduce", "box", "tree"]);
    differs.failed(3, "error[Mismatch]");
    assert!(differs.err.contains("rootfs/etc/hostname"), "{}", differs.err);
}
