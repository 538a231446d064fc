//! Trees whose every change leaves them signed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lxd_image::format::{ImageSource, Input};
use lxd_image::remote::{ClientOptions, Remote, Simplestreams};
use lxd_image::simplestreams::{AddOptions, PruneOptions, Tree, TreeOptions, TreeVerifyOptions};
use lxd_image::trust::{ListKeys, ListSigner, SecretKey};
use lxd_image::{ErrorKind, Fingerprint, Limits, Monitor};
use serde_json::Value;

use super::cli::{fails, ok, run};
use super::gnupg::Gnupg;
use super::{OTHER, OWNER, keys, now};
use crate::remote::failed;
use crate::store::{Scratch, unified};

const OWNER_SECRET: &str = include_str!("keys/owner.sec.asc");

fn openpgp() -> ListSigner {
    ListSigner::parse(OWNER_SECRET.as_bytes(), None, now(), &Limits::default()).unwrap()
}

fn minisign() -> (ListSigner, ListKeys) {
    let secret = SecretKey::generate().unwrap();
    let signer = ListSigner::parse(secret.to_text(None).unwrap().as_bytes(), None, now(), &Limits::default()).unwrap();
    let keys = signer.keys();
    (signer, keys)
}

fn signed_by(at: &Path, signer: ListSigner) -> Tree {
    TreeOptions::new().sign_with(signer).create(at).unwrap()
}

fn add(tree: &Tree, tag: &str) -> Fingerprint {
    let options = AddOptions::new().property("release", tag).unwrap();
    let image = ImageSource::unified(Input::stream(std::io::Cursor::new(unified(tag))));
    tree.lock().unwrap().add(image, &options, &Monitor::none()).unwrap().fingerprint
}

fn reader(at: &Path, keys: ListKeys) -> Simplestreams {
    let url = format!("file://{}", at.display()).parse().unwrap();
    Simplestreams::new(ClientOptions::new(), &url).unwrap().keys(keys)
}

fn listed(remote: &Simplestreams) -> Vec<Fingerprint> {
    let mut found: Vec<_> = remote.list(&Monitor::none()).unwrap().into_iter().map(|image| image.fingerprint).collect();
    found.sort();
    found
}

fn findings(tree: &Tree, keys: ListKeys) -> Vec<ErrorKind> {
    let report = tree.verify(&TreeVerifyOptions::new().keys(keys), &Monitor::none()).unwrap();
    report.findings.iter().map(lxd_image::Error::kind).collect()
}

#[test]
fn every_change_leaves_a_tree_that_is_signed() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let tree = signed_by(&at, openpgp());
    let read = || listed(&reader(&at, keys(OWNER)));
    let (one, two) = (add(&tree, "one"), add(&tree, "two"));
    let mut both = vec![one, two];
    both.sort();
    assert_eq!(read(), both);
    tree.lock().unwrap().remove(&[one]).unwrap();
    assert_eq!(read(), [two]);
    tree.lock().unwrap().prune(&PruneOptions::new().keep(1), &Monitor::none()).unwrap();
    assert_eq!(read(), [two]);
    assert!(findings(&tree, keys(OWNER)).is_empty());
    // Beside the documents, too, and for readers that know of no signatures.
    fs::remove_file(at.join("streams/v1/index.sjson")).unwrap();
    assert_eq!(read(), [two]);
    assert_eq!(listed(&reader(&at, ListKeys::default())), [two]);
}

#[test]
fn signed_index_names_signed_lists_and_the_plain_one_names_plain_lists() {
    let scratch = Scratch::new();
    let tree = signed_by(&scratch.join("tree"), openpgp());
    add(&tree, "one");
    let read = |name: &str| fs::read_to_string(scratch.join("tree/streams/v1").join(name)).unwrap();
    assert!(read("index.sjson").contains("\"streams/v1/images.sjson\""));
    let plain: Value = serde_json::from_str(&read("index.json")).unwrap();
    assert_eq!(plain["index"]["images"]["path"], "streams/v1/images.json");
    if let Some(gnupg) = Gnupg::new("tree") {
        let ring = gnupg.gpg("--dearmor", OWNER.as_bytes());
        for name in ["index", "images"] {
            let document = read(&format!("{name}.json"));
            assert!(gnupg.gpgv(&ring, read(&format!("{name}.sjson")).as_bytes(), None));
            assert!(gnupg.gpgv(&ring, read(&format!("{name}.json.gpg")).as_bytes(), Some(document.as_bytes())));
        }
    }
}

/// A reader lists without a pause while images come and go.
#[test]
fn reader_finds_a_signed_state_at_every_moment() {
    let scratch = Scratch::new();
    let (signer, minisign_keys) = minisign();
    for (name, signer, keys) in [("openpgp", openpgp(), keys(OWNER)), ("minisign", signer, minisign_keys)] {
        let at = scratch.join(name);
        let tree = signed_by(&at, signer);
        add(&tree, "first");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut count = 0;
                        while !done.load(Ordering::Relaxed) {
                            let found = reader(&at, keys.clone()).list(&Monitor::none());
                            assert!(!found.unwrap_or_else(|error| panic!("{name}: {error}")).is_empty());
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            for round in 0..12 {
                let fingerprint = add(&tree, &format!("round-{round}"));
                if round % 2 == 0 {
                    tree.lock().unwrap().remove(&[fingerprint]).unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
            let reads: i32 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            assert!(reads > 0, "{name}");
        });
    }
}

#[test]
fn signed_tree_is_not_changed_without_its_kind_of_key() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let one = add(&signed_by(&at, openpgp()), "one");
    let before = fs::read(at.join("streams/v1/images.json")).unwrap();
    let (signer, _) = minisign();
    for options in [TreeOptions::new(), TreeOptions::new().sign_with(signer)] {
        let tree = options.open(&at).unwrap();
        let image = ImageSource::unified(Input::stream(std::io::Cursor::new(unified("two"))));
        let add = AddOptions::new().property("release", "two").unwrap();
        let error = failed(tree.lock().unwrap().add(image, &add, &Monitor::none()), ErrorKind::InvalidInput);
        assert!(error.hint().unwrap().contains("--sign"), "{error:?}");
        failed(tree.lock().unwrap().remove(&[one]), ErrorKind::InvalidInput);
    }
    assert_eq!(fs::read(at.join("streams/v1/images.json")).unwrap(), before);
    assert_eq!(listed(&reader(&at, keys(OWNER))), [one]);
    // Files that left the list long ago go without a signature.
    TreeOptions::new().open(&at).unwrap().lock().unwrap().prune(&PruneOptions::new(), &Monitor::none()).unwrap();
    // On purpose: nothing old stays that a reader could take.
    let tree = TreeOptions::new().drop_signatures(true).open(&at).unwrap();
    add(&tree, "two");
    assert!(!tree.is_signed());
    failed(reader(&at, keys(OWNER)).list(&Monitor::none()), ErrorKind::Untrusted);
}

#[test]
fn tree_is_signed_anew_after_a_change_by_others_and_with_a_new_key() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let one = add(&signed_by(&at, openpgp()), "one");
    let list = at.join("streams/v1/images.json");
    fs::write(&list, fs::read_to_string(&list).unwrap().replacen("\"label\"", "\"other\": 1, \"label\"", 1) + "\n")
        .unwrap();
    assert!(!findings(&Tree::open(&at).unwrap(), keys(OWNER)).is_empty());
    let tree = signed_by(&at, openpgp());
    tree.lock().unwrap().sign().unwrap();
    assert!(findings(&tree, keys(OWNER)).is_empty());
    let secret = include_str!("keys/other.sec.asc");
    let other = ListSigner::parse(secret.as_bytes(), None, now(), &Limits::default()).unwrap();
    let tree = signed_by(&at, other);
    tree.lock().unwrap().sign().unwrap();
    assert_eq!(listed(&reader(&at, keys(OTHER))), [one]);
    failed(reader(&at, keys(OWNER)).list(&Monitor::none()), ErrorKind::Untrusted);
    // Nothing is written where nothing is missing.
    let before = fs::read(at.join("streams/v1/index.sjson")).unwrap();
    tree.lock().unwrap().sign().unwrap();
    assert_eq!(fs::read(at.join("streams/v1/index.sjson")).unwrap(), before);
}

#[test]
fn both_kinds_of_keys_can_sign_one_tree() {
    let scratch = Scratch::new();
    let at = scratch.join("tree");
    let (signer, minisign_keys) = minisign();
    let tree = TreeOptions::new().sign_with(openpgp()).sign_with(signer).create(&at).unwrap();
    let one = add(&tree, "one");
    for keys in [keys(OWNER), minisign_keys] {
        assert_eq!(listed(&reader(&at, keys.clone())), [one]);
        assert!(findings(&tree, keys).is_empty());
    }
}

#[test]
fn verify_finds_what_is_wrong_with_signatures() {
    type Change = fn(&Path);
    let rows: &[(&str, Change)] = &[
        ("list changed", |at| {
            let text = fs::read_to_string(at.join("images.json")).unwrap();
            fs::write(at.join("images.json"), text.replacen("image-downloads", "image-downloadz", 1)).unwrap();
        }),
        ("message changed", |at| {
            let text = fs::read_to_string(at.join("images.sjson")).unwrap();
            fs::write(at.join("images.sjson"), text.replacen("image-downloads", "image-downloadz", 1)).unwrap();
        }),
        ("signature of another document", |at| {
            fs::copy(at.join("index.json.gpg"), at.join("images.json.gpg")).unwrap();
        }),
        ("no signature of the list", |at| {
            fs::remove_file(at.join("images.sjson")).unwrap();
            fs::remove_file(at.join("images.json.gpg")).unwrap();
        }),
        ("no signature at all", |at| {
            for name in ["images.sjson", "images.json.gpg", "index.sjson", "index.json.gpg"] {
                fs::remove_file(at.join(name)).unwrap();
            }
        }),
    ];
    for (name, change) in rows {
        let scratch = Scratch::new();
        let tree = signed_by(&scratch.join("tree"), openpgp());
        add(&tree, "one");
        change(&scratch.join("tree/streams/v1"));
        let found = findings(&tree, keys(OWNER));
        assert!(
            found.iter().any(|kind| matches!(kind, ErrorKind::Untrusted | ErrorKind::Mismatch)),
            "{name}: {found:?}"
        );
        assert!(!findings(&tree, keys(OTHER)).is_empty(), "{name}");
    }
}

#[test]
fn command_line_signs_verifies_and_tells() {
    let scratch = Scratch::new();
    let file = |name: &str, content: &[u8]| {
        fs::write(scratch.join(name), content).unwrap();
        scratch.join(name).display().to_string()
    };
    let image = file("one.tar", &unified("one"));
    let second = file("two.tar", &unified("two"));
    let secret = file("protected.asc", include_bytes!("keys/protected.sec.asc"));
    let passphrase = file("passphrase", b"correct horse\n");
    let wrong = file("wrong", b"battery staple\n");
    let (owner, other) = (file("owner.sec", OWNER_SECRET.as_bytes()), file("other.pub", OTHER.as_bytes()));
    let public = file("owner.pub", OWNER.as_bytes());
    let tree = scratch.join("tree").display().to_string();
    let release = ["--property", "release=1"];
    let add = |image: &str, rest: &[&str]| -> Vec<String> {
        ["simplestreams", "add", &tree, image]
            .iter()
            .chain(&release)
            .chain(rest)
            .map(|word| (*word).to_owned())
            .collect()
    };
    let words = |all: &[String]| -> Vec<&'static str> { all.iter().map(|word| &*word.clone().leak()).collect() };
    let told = fails(&scratch, &words(&add(&image, &["--sign", &secret])), "InvalidInput");
    assert!(told.contains("--passphrase-file"), "{told}");
    fails(&scratch, &words(&add(&image, &["--sign", &secret, "--passphrase-file", &wrong])), "InvalidInput");
    assert!(!scratch.join("tree").exists(), "nothing is made with a key that can't sign");
    ok(&scratch, &words(&add(&image, &["--sign", &secret, "--passphrase-file", &passphrase])));
    let unsigned = fails(&scratch, &words(&add(&second, &["--property", "variant=2"])), "InvalidInput");
    assert!(unsigned.contains("--drop-signatures"), "{unsigned}");
    // The same kind of key may take over.
    ok(&scratch, &["simplestreams", "prune", &tree, "--sign", &owner]);
    ok(&scratch, &["simplestreams", "verify", &tree, "--key", &public]);
    let output = run(&scratch, &["simplestreams", "verify", &tree, "--key", &other]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    ok(&scratch, &words(&add(&second, &["--property", "variant=2", "--sign", &owner])));
    ok(
        &scratch,
        &["remote", "add", "mine", &format!("file://{tree}"), "--protocol", "simplestreams", "--key", &public],
    );
    // A mirror of all keeps the signatures; one with fewer images has a list of its own.
    let mirror = scratch.join("mirror").display().to_string();
    ok(&scratch, &["mirror", "mine:", &mirror]);
    ok(&scratch, &["simplestreams", "verify", &mirror, "--key", &public]);
    let fewer = scratch.join("fewer").display().to_string();
    let output = run(&scratch, &["mirror", "mine:", &fewer, "--property", "variant=2"]);
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("signature by") && stderr.contains("--sign"), "{stderr}");
    let signed = scratch.join("signed").display().to_string();
    let output = run(&scratch, &["mirror", "mine:", &signed, "--sign", &owner]);
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("signature by"));
    ok(&scratch, &["simplestreams", "verify", &signed, "--key", &public]);
    let listing: Value =
        serde_json::from_str(&ok(&scratch, &["simplestreams", "list", &tree, "--format", "json"])).unwrap();
    let fingerprint = listing[0]["fingerprint"].as_str().unwrap().to_owned();
    fails(&scratch, &["simplestreams", "remove", &tree, &fingerprint], "InvalidInput");
    let output = run(&scratch, &["simplestreams", "remove", &tree, &fingerprint, "--drop-signatures"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("are removed"));
    fails(&scratch, &["list", "mine:"], "Untrusted");
}

#[test]
fn server_signs_the_lists_that_it_makes() {
    use http::{Method, StatusCode};
    use lxd_image::server::{Handler, Request, ServerOptions};
    use lxd_image::store::{ImportOptions, Store};
    let store = Store::in_memory().unwrap();
    let image = ImageSource::unified(Input::stream(std::io::Cursor::new(unified("one"))));
    store.import(image, &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    let (signer, minisign_keys) = minisign();
    let handler = Handler::new(store, ServerOptions::new().sign_with(openpgp()).sign_with(signer));
    let get = |name: &str| {
        let response = handler.handle(Request::new(Method::GET, format!("/streams/v1/{name}").parse().unwrap()));
        assert_eq!(response.status, StatusCode::OK, "{name}");
        response.body.read_to_end().unwrap()
    };
    let limits = Limits::default();
    for name in ["index", "images"] {
        let document = get(&format!("{name}.json"));
        let (text, _) = keys(OWNER).verify_cleartext(&get(&format!("{name}.sjson")), now(), &limits).unwrap();
        let plain = String::from_utf8(text).unwrap().replace("images.sjson", "images.json");
        assert_eq!(plain.as_bytes(), document, "{name}");
        keys(OWNER).verify_openpgp(&document, &get(&format!("{name}.json.gpg")), now(), &limits).unwrap();
        minisign_keys.verify_minisign(&document, &get(&format!("{name}.json.minisig")), now(), &limits).unwrap();
    }
    // Without keys there is nothing that could be taken for a signature.
    let plain = Handler::new(Store::in_memory().unwrap(), ServerOptions::new());
    let response = plain.handle(Request::new(Method::GET, "/streams/v1/index.sjson".parse().unwrap()));
    assert_eq!(response.status, StatusCode::NOT_FOUND);
}

#[test]
fn tools_of_simplestreams_take_our_signed_trees() {
    let Some(gnupg) = Gnupg::new("sstream") else { return };
    let Some(query) = std::env::var_os("SSTREAM_QUERY") else { return };
    let at = gnupg.path("tree");
    let tree = signed_by(&at, openpgp());
    let one = add(&tree, "one");
    let asked = |ring: &str| {
        let path = gnupg.path("ring.gpg");
        fs::write(&path, gnupg.gpg("--dearmor", ring.as_bytes())).unwrap();
        let output = std::process::Command::new(&query)
            .arg("--keyring")
            .arg(&path)
            .arg("--output-format=%(sha256)s")
            .arg(format!("file://{}/streams/v1/index.sjson", at.display()))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (took, told) = asked(OWNER);
    assert!(took && told.contains(&one.to_string()), "{told}");
    assert!(!asked(OTHER).0, "another key");
}
