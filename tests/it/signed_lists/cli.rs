//! `remote add --key`, `remote show`, `remote accept-older`, and the verbs that read lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lxd_image::format::{ImageSource, Input};
use lxd_image::simplestreams::{AddOptions, TreeOptions};
use serde_json::Value;

use super::{OTHER, OWNER, now, other, owner};
use crate::store::{Scratch, unified};
use lxd_image::Monitor;

pub(super) fn run(scratch: &Scratch, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(words)
        .env("LXD_IMAGE_STORE", scratch.join("store"))
        .env("LXD_IMAGE_CONFIG", scratch.join("config"))
        .output()
        .unwrap()
}

#[track_caller]
pub(super) fn ok(scratch: &Scratch, words: &[&str]) -> String {
    let output = run(scratch, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub(super) fn fails(scratch: &Scratch, words: &[&str], kind: &str) -> String {
    let output = run(scratch, words);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains(&format!("error[{kind}]: ")), "{words:?}: {text}");
    text
}

/// A tree with one more image, not signed.
fn tree(at: &Path, tag: &str) {
    let tree = TreeOptions::new().drop_signatures(true).create(at).unwrap();
    let options = AddOptions::new().property("release", tag).unwrap().alias("box").unwrap();
    let image = ImageSource::unified(Input::stream(std::io::Cursor::new(unified(tag))));
    tree.lock().unwrap().add(image, &options, &Monitor::none()).unwrap();
}

/// Signs what is there, as another tool would.
fn sign(at: &Path, key: &lxd_image::trust::openpgp::SecretKey) {
    for name in ["images", "index"] {
        let text = fs::read_to_string(at.join(format!("streams/v1/{name}.json"))).unwrap();
        let message = key.sign_cleartext(&text.replace("images.json\"", "images.sjson\""), now()).unwrap();
        fs::write(at.join(format!("streams/v1/{name}.sjson")), message).unwrap();
    }
}

fn url(scratch: &Scratch) -> String {
    format!("file://{}", scratch.join("tree").display())
}

/// A scratch directory with a signed tree and key files, and the remote `signed` for it.
fn signed() -> Scratch {
    let scratch = Scratch::new();
    tree(&scratch.join("tree"), "one");
    sign(&scratch.join("tree"), &owner());
    fs::write(scratch.join("owner.asc"), OWNER).unwrap();
    fs::write(scratch.join("other.asc"), OTHER).unwrap();
    let key = scratch.join("owner.asc").display().to_string();
    ok(&scratch, &["remote", "add", "signed", &url(&scratch), "--protocol", "simplestreams", "--key", &key]);
    scratch
}

#[test]
fn remote_with_a_key_is_listed_copied_and_shown() {
    let scratch = signed();
    assert!(ok(&scratch, &["list", "signed:", "-c", "l"]).contains("box"));
    ok(&scratch, &["copy", "signed:box", "local:", "--auto-update"]);
    ok(&scratch, &["refresh"]);
    let shown: Value = serde_json::from_str(&ok(&scratch, &["remote", "show", "signed", "--format", "json"])).unwrap();
    assert_eq!(shown["keys"][0]["key"], owner().fingerprint());
    assert_eq!(shown["lists"][0]["signed_by"], owner().fingerprint());
    assert_eq!(shown["lists"].as_array().unwrap().len(), 2);
    assert!(shown["list_age_seconds"].as_i64().is_some_and(|age| (0..3600).contains(&age)), "{shown}");
    let text = ok(&scratch, &["remote", "show", "signed"]);
    assert!(text.contains(&owner().fingerprint()) && text.contains("Owner of the lists"), "{text}");
    ok(&scratch, &["remote", "show", "signed", "--format", "yaml"]);
    assert!(ok(&scratch, &["remote", "show", "images"]).contains("linuxcontainers"));
}

#[test]
fn every_verb_refuses_lists_of_a_key_that_is_not_pinned() {
    let scratch = signed();
    ok(&scratch, &["copy", "signed:box", "local:", "--auto-update"]);
    // Another image under the same alias, signed by somebody else, while the plain JSON is right.
    tree(&scratch.join("tree"), "two");
    sign(&scratch.join("tree"), &other());
    let mirrored = scratch.join("mirror").display().to_string();
    for words in [
        &["list", "signed:"][..],
        &["info", "signed:box"],
        &["copy", "signed:box", "local:", "--alias", "again"],
        &["mirror", "signed:", "local:"],
        &["mirror", "signed:", &mirrored],
        &["mirror", &url(&scratch), "local:"],
        &["refresh"],
    ] {
        fails(&scratch, words, "Untrusted");
    }
    // The name is another one, the server is the same.
    ok(&scratch, &["remote", "rename", "signed", "renamed"]);
    fails(&scratch, &["list", "renamed:"], "Untrusted");
    ok(&scratch, &["remote", "add", "plain", &url(&scratch), "--protocol", "simplestreams"]);
    fails(&scratch, &["refresh"], "Untrusted");
    assert!(ok(&scratch, &["list", "plain:", "-c", "l"]).contains("box"), "a remote without keys is read as before");
}

/// The signed documents of a tree as they were.
struct Old(Vec<(PathBuf, Vec<u8>)>);

impl Old {
    fn put_back(&self) {
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).unwrap();
        }
    }
}

/// A remote whose lists are newer, and were read, than those that are returned.
fn newer() -> (Scratch, Old) {
    let scratch = signed();
    let paths = ["index.sjson", "images.sjson"].map(|name| scratch.join("tree/streams/v1").join(name));
    let old = Old(paths.map(|path| (path.clone(), fs::read(path).unwrap())).into());
    std::thread::sleep(std::time::Duration::from_millis(1100));
    tree(&scratch.join("tree"), "two");
    sign(&scratch.join("tree"), &owner());
    ok(&scratch, &["list", "signed:"]);
    (scratch, old)
}

#[test]
fn older_list_is_refused_until_it_is_accepted_on_purpose() {
    let (scratch, old) = newer();
    ok(&scratch, &["remote", "rename", "signed", "renamed"]);
    old.put_back();
    let told = fails(&scratch, &["list", "renamed:"], "Untrusted");
    assert!(told.contains("remote accept-older"), "{told}");
    ok(&scratch, &["remote", "accept-older", "renamed"]);
    ok(&scratch, &["list", "renamed:"]);
    // A new remote of that name has no past.
    ok(&scratch, &["remote", "remove", "renamed"]);
    assert!(fs::read_dir(scratch.join("config/signed")).unwrap().all(|entry| entry.unwrap().file_name() == "lock"));
}

/// The owner changes keys: readers have both for a while, and know all the time which lists they saw.
#[test]
fn keys_of_a_remote_are_rotated_and_its_past_stays() {
    let (scratch, old) = newer();
    let file = |name: &str| scratch.join(name).display().to_string();
    let (first, second) = (file("owner.asc"), file("other.asc"));
    let shown: Value =
        serde_json::from_str(&ok(&scratch, &["remote", "set-key", "signed", &second, "--add", "--format", "json"]))
            .unwrap();
    assert_eq!(shown["keys"].as_array().unwrap().len(), 2);
    ok(&scratch, &["list", "signed:"]);
    sign(&scratch.join("tree"), &other());
    ok(&scratch, &["list", "signed:"]);
    ok(&scratch, &["remote", "set-key", "signed", &second]);
    ok(&scratch, &["list", "signed:"]);
    sign(&scratch.join("tree"), &owner());
    fails(&scratch, &["list", "signed:"], "Untrusted");
    // The lists that were accepted before are known under the new keys, too.
    ok(&scratch, &["remote", "set-key", "signed", &first]);
    old.put_back();
    assert!(fails(&scratch, &["list", "signed:"], "Untrusted").contains("accept-older"));
    // A stolen key goes at once, whatever the server has; that is told.
    let output = run(&scratch, &["remote", "set-key", "signed", &second]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("can't be read with them now"));
}

#[test]
fn keys_are_set_for_lists_only_and_never_to_none() {
    let scratch = signed();
    let key = scratch.join("owner.asc").display().to_string();
    fails(&scratch, &["remote", "set-key", "nobody", &key], "NotFound");
    assert_eq!(run(&scratch, &["remote", "set-key", "signed"]).status.code(), Some(2));
    let settings = scratch.join("config/remotes.yaml");
    let mut text = fs::read_to_string(&settings).unwrap();
    text.push_str("rest:\n  url: https://127.0.0.1:1\n  protocol: lxd\n");
    fs::write(&settings, text).unwrap();
    fails(&scratch, &["remote", "set-key", "rest", &key], "InvalidInput");
    // One that had no keys gets some.
    ok(&scratch, &["remote", "add", "plain", &url(&scratch), "--protocol", "simplestreams"]);
    ok(&scratch, &["remote", "set-key", "plain", &key]);
    ok(&scratch, &["list", "plain:"]);
}

#[test]
fn add_refuses_keys_that_can_not_work() {
    let scratch = signed();
    let url = url(&scratch);
    let file = |name: &str| scratch.join(name).display().to_string();
    let add = |key: &str, protocol: &'static str| {
        ["remote", "add", "new", &url, "--protocol", protocol, "--key", key].map(str::to_owned)
    };
    let words = |all: &[String; 8]| all.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    let check = |key: String, protocol, kind| {
        let all = words(&add(&key, protocol));
        fails(&scratch, &all.iter().map(String::as_str).collect::<Vec<_>>(), kind);
    };
    check(file("other.asc"), "simplestreams", "Untrusted");
    check(file("none.asc"), "simplestreams", "NotFound");
    check(file("owner.asc"), "lxd", "InvalidInput");
    fs::write(scratch.join("secret.asc"), include_str!("keys/owner.sec.asc")).unwrap();
    check(file("secret.asc"), "simplestreams", "InvalidInput");
    fails(&scratch, &["remote", "show", "new"], "NotFound");
    let settings = fs::read_to_string(scratch.join("config/remotes.yaml")).unwrap();
    assert!(!settings.contains("PRIVATE KEY"));
}

#[test]
fn policy_can_demand_the_key_of_a_list() {
    let scratch = signed();
    let policy = |key: &str| {
        let text =
            format!("default = \"deny\"\n[[rule]]\nname = \"ours\"\nremote = \"signed\"\nsigned-list = [\"{key}\"]\n");
        let path = scratch.join("rules.toml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    fails(&scratch, &["copy", "signed:box", "local:", "--policy", &policy(&other().fingerprint())], "Untrusted");
    ok(&scratch, &["copy", "signed:box", "local:", "--alias", "box", "--policy", &policy(&owner().fingerprint())]);
    assert!(ok(&scratch, &["info", "box", "--format", "json"]).contains(&owner().fingerprint()));
}
