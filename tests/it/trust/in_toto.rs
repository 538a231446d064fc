//! Statements of ours are read by the tools of in-toto, and theirs by us: `securesystemslib` and `in-toto-attestation`.

use std::fs;
use std::process::{Command, Output};

use lxd_image::Fingerprint;
use lxd_image::trust::{Envelope, FINGERPRINT_SUBJECT, PublicKey};
use serde_json::{Value, json};

use crate::cli::run;
use crate::format::Place;

/// The Python that has them; `None` where it is not installed and not required.
fn python() -> Option<String> {
    let found = std::env::var("IN_TOTO_PYTHON").ok();
    if found.is_none() {
        let required = std::env::var("LXD_IMAGE_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "IN_TOTO_PYTHON is not set, and LXD_IMAGE_REQUIRE_PEERS=1 wants it");
        println!("skipped: IN_TOTO_PYTHON is not set");
    }
    found
}

fn asked(python: &str, words: &[&str], place: &Place) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/in_toto.py");
    Command::new(python).arg(script).args(words).current_dir(place.at("")).output().unwrap()
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A key pair of openssl: `k.pem` and `k.pub`; another one with the names `o`.
fn place() -> Place {
    let place = Place::new();
    for name in ["k", "o"] {
        for words in [
            format!("genpkey -algorithm ed25519 -out {name}.pem"),
            format!("pkey -in {name}.pem -pubout -out {name}.pub"),
        ] {
            let done = Command::new("openssl").args(words.split(' ')).current_dir(place.at("")).output().unwrap();
            assert!(done.status.success(), "{words}");
        }
    }
    fs::create_dir_all(place.at("tree/etc")).unwrap();
    fs::write(place.at("tree/etc/hostname"), "box\n").unwrap();
    place
}

#[test]
fn statements_of_ours_are_verified_by_in_toto() {
    let Some(python) = python() else { return };
    let place = place();
    let pack = ["--store", "s", "pack", "tree", "box.tar", "--architecture", "amd64", "--compression", "none"];
    run(&place, &[&pack[..], &["--statement", "k.pem"]].concat()).good();
    run(&place, &["--store", "s", "import", "box.tar", "--alias", "box"]).good();
    run(&place, &["--store", "s", "statement", "sign", "box", "--key", "k.pem"]).good();
    run(&place, &["--store", "s", "export", "box", "out/"]).good();
    let bundle = fs::read_dir(place.at("out")).unwrap().find_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.ends_with(".intoto.jsonl").then(|| format!("out/{name}"))
    });
    let bundle = bundle.unwrap();
    let told = good(&asked(&python, &["verify", "k.pub", &bundle], &place));
    let statements: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(statements.len(), 2);
    let fingerprint = Fingerprint::of(&fs::read(place.at("box.tar")).unwrap()).to_string();
    for statement in &statements {
        let subject = &statement["subject"][0];
        assert_eq!(
            (&subject["name"], &subject["digest"]["sha256"]),
            (&json!(FINGERPRINT_SUBJECT), &json!(fingerprint))
        );
    }
    assert!(statements.iter().any(|statement| statement["predicateType"] == "https://slsa.dev/provenance/v1"));
    assert!(!asked(&python, &["verify", "o.pub", &bundle], &place).status.success(), "another key");
    let text = fs::read_to_string(place.at(&bundle)).unwrap();
    fs::write(place.at("changed"), text.replacen("\"payload\":\"eyJ", "\"payload\":\"eyK", 1)).unwrap();
    assert!(!asked(&python, &["verify", "k.pub", "changed"], &place).status.success(), "another payload");
}

#[test]
fn statements_of_in_toto_are_verified_by_us() {
    let Some(python) = python() else { return };
    let place = place();
    let image = Fingerprint::of(b"image");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "box.tar", "digest": {"sha256": image.to_string()}, "annotations": {"note": "by another tool"}}],
        "predicateType": "https://example.com/tested/v1",
        "predicate": {"passed": true, "runs": 12},
    });
    fs::write(place.at("statement"), statement.to_string()).unwrap();
    let text = good(&asked(&python, &["sign", "k.pem", "statement"], &place));
    let envelope = Envelope::parse(text.trim().as_bytes()).unwrap();
    let [key, other] = ["k.pub", "o.pub"].map(|name| PublicKey::read(place.at(name)).unwrap());
    envelope.verify(&[key]).unwrap();
    assert!(envelope.verify(&[other]).is_err());
    assert!(envelope.statement().is_about(&image) && !envelope.statement().is_about(&Fingerprint::of(b"other")));
    assert_eq!(envelope.statement().predicate()["passed"], true);
}
