//! Statements in bundles: they travel as referrers of the image's manifest, and a policy is asked about what arrives.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lxd_image::oci::{Descriptor, ImagePush, LayoutWriter, STATEMENT, put_statements};
use lxd_image::trust::SecretKey;
use lxd_image::{Architecture, Fingerprint, ImageType, Monitor};
use serde_json::Value;

use super::stores::vouch;
use crate::cli::{Ran, run};
use crate::format::Place;
use crate::format::forge::image;
use crate::peers::available;

/// A key pair `key` and `key.pub`, a policy that needs a statement by it, and the image `box` in the store `s`.
fn place() -> Place {
    let place = Place::new();
    let key = SecretKey::generate().unwrap();
    fs::write(place.at("key"), key.to_text(None).unwrap()).unwrap();
    fs::write(place.at("key.pub"), key.public_key().to_text()).unwrap();
    let policy = "default = \"deny\"\n[keys]\nbuilder = \"key.pub\"\n[[rule]]\nname = \"ours\"\nstatements = [{ key = \"builder\" }]\n";
    fs::write(place.at("policy.toml"), policy).unwrap();
    place.write("box.tar", image(&[]));
    run(&place, &["--store", "s", "import", "box.tar", "--alias", "box"]).good();
    place
}

fn sign(place: &Place) {
    run(place, &["--store", "s", "statement", "sign", "box", "--key", "key"]).good();
}

fn bundle(place: &Place, name: &str) -> PathBuf {
    run(place, &["--store", "s", "bundle", "create", name, "box"]).good();
    place.at(name.trim_end_matches('/'))
}

/// Imports a bundle or a layout with the policy into the store `other`.
fn import(place: &Place, verb: &[&str]) -> Ran {
    run(place, &[&["--store", "other"], verb, &["--policy", "policy.toml"]].concat())
}

fn statements(place: &Place, store: &str) -> Value {
    let listed = run(place, &["--store", store, "statement", "list", "box", "--format", "json"]).good();
    serde_json::from_str(&listed).unwrap()
}

/// The blob of a layout whose text contains something.
fn blob_with(layout: &std::path::Path, text: &str) -> PathBuf {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let mut paths = blobs.map(|entry| entry.unwrap().path());
    paths.find(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(text)).unwrap()
}

/// A layout with the image and a statement, which may be about another one.
fn layout_with_statement(place: &Place, name: &str, about: Option<Fingerprint>) {
    let bytes = fs::read(place.at("box.tar")).unwrap();
    let key = SecretKey::parse(&fs::read(place.at("key")).unwrap(), None).unwrap();
    let fingerprint = Fingerprint::of(&bytes);
    let file = lxd_image::io::Blob::from(fs::read(place.at("box.tar")).unwrap());
    let push = ImagePush::new(fingerprint, ImageType::Container, Architecture::X86_64, file);
    let mut layout = LayoutWriter::directory(place.at(name), &Monitor::none()).unwrap();
    let entry: Descriptor = push.write(&mut layout, &Monitor::none()).unwrap();
    let envelope = vouch(&about.unwrap_or(fingerprint), &key);
    put_statements(&mut layout, &entry, &[envelope], &Monitor::none()).unwrap();
    layout.add_entry(entry, Some("box"));
    layout.finish().unwrap();
}

#[test]
fn alias_like_the_tag_of_a_list_of_referrers_is_left_out_and_told() {
    let place = place();
    let alias = format!("sha256-{}", "a".repeat(64));
    run(&place, &["--store", "s", "alias", "create", &alias, "box"]).good();
    let ran = run(&place, &["--store", "s", "bundle", "create", "bundle.tar", "box"]);
    assert!(ran.err.contains(&alias), "{}", ran.err);
    ran.good();
    run(&place, &["--store", "other", "bundle", "import", "bundle.tar"]).good();
    assert!(run(&place, &["--store", "other", "list", "--format", "csv"]).good().contains("box"));
}

#[test]
fn statements_travel_in_a_bundle() {
    let place = place();
    sign(&place);
    fs::write(place.at("sbom.json"), "{}").unwrap();
    let sbom = ["statement", "sign", "box", "--key", "key", "--predicate", "sbom.json", "--type", "urn:x:sbom"];
    run(&place, &[&["--store", "s"], &sbom[..]].concat()).good();
    let (one, two) = (bundle(&place, "one.tar"), bundle(&place, "two.tar"));
    assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap(), "the same image gives the same bundle");
    import(&place, &["bundle", "import", "one.tar"]).good();
    assert_eq!(statements(&place, "other"), statements(&place, "s"));
    assert_eq!(statements(&place, "s").as_array().unwrap().len(), 2);
}

#[test]
fn bundle_without_the_needed_statement_is_refused() {
    let place = place();
    bundle(&place, "without.tar");
    let refused = import(&place, &["bundle", "import", "without.tar"]);
    refused.failed(1, "error[Untrusted]: without.tar: the rule `ours` of the policy refuses the image");
    assert_eq!(run(&place, &["--store", "other", "list", "--format", "csv"]).good(), "");
    sign(&place);
    bundle(&place, "with.tar");
    import(&place, &["bundle", "import", "with.tar"]).good();
}

#[test]
fn statement_reaches_an_image_that_is_there_already() {
    let place = place();
    bundle(&place, "without.tar");
    run(&place, &["--store", "other", "bundle", "import", "without.tar"]).good();
    sign(&place);
    bundle(&place, "with.tar");
    import(&place, &["bundle", "import", "with.tar"]).good();
    assert_eq!(statements(&place, "other"), statements(&place, "s"));
}

#[test]
fn import_of_a_layout_takes_statements_along() {
    let place = place();
    sign(&place);
    bundle(&place, "b/");
    // The index of statements is no second image.
    import(&place, &["import", "b", "--alias", "box"]).good();
    assert_eq!(statements(&place, "other"), statements(&place, "s"));
}

#[test]
fn damaged_statement_refuses_the_bundle() {
    let place = place();
    sign(&place);
    let layout = bundle(&place, "b/");
    for text in ["\"payloadType\"", "\"subject\"", "\"manifests\""] {
        let path = blob_with(&layout, text);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..whole.len() - 1], b" "].concat()).unwrap();
        let refused = run(&place, &["--store", "other", "bundle", "import", "b"]);
        assert!(refused.status != 0 && refused.err.contains("Mismatch"), "{text}: {}", refused.err);
        assert_eq!(run(&place, &["--store", "other", "list", "--format", "csv"]).good(), "");
        fs::write(&path, whole).unwrap();
    }
    import(&place, &["bundle", "import", "b"]).good();
}

#[test]
fn statement_about_another_image_is_left_out_and_told() {
    let place = place();
    layout_with_statement(&place, "right", None);
    layout_with_statement(&place, "wrong", Some(Fingerprint::of(b"another image")));
    let ran = run(&place, &["--store", "other", "bundle", "import", "wrong"]);
    assert!(ran.status == 0 && ran.err.contains("it is about another image"), "{}", ran.err);
    assert_eq!(statements(&place, "other"), Value::Array(Vec::new()));
    run(&place, &["--store", "other", "delete", "box"]).good();
    import(&place, &["bundle", "import", "wrong"]).failed(1, "error[Untrusted]");
    import(&place, &["bundle", "import", "right"]).good();
}

#[test]
fn malformed_statement_is_left_out_and_told() {
    let place = place();
    let mut layout = LayoutWriter::directory(place.at("b"), &Monitor::none()).unwrap();
    let file = lxd_image::io::Blob::from(fs::read(place.at("box.tar")).unwrap());
    let fingerprint = Fingerprint::of(&fs::read(place.at("box.tar")).unwrap());
    let push = ImagePush::new(fingerprint, ImageType::Container, Architecture::X86_64, file);
    let entry = push.write(&mut layout, &Monitor::none()).unwrap();
    attach(&mut layout, &entry, b"{\"payload\": 1}");
    // What is said about an image that the bundle does not have.
    attach(&mut layout, &Descriptor::of("application/vnd.oci.image.manifest.v1+json", b"{}"), b"{}");
    layout.add_entry(entry, Some("box"));
    layout.finish().unwrap();
    let ran = run(&place, &["--store", "other", "bundle", "import", "b"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    for told in ["envelope is not what DSSE says", "was not imported from the bundle"] {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
}

/// Attaches bytes to a manifest as if they were a statement.
fn attach(layout: &mut LayoutWriter, subject: &Descriptor, text: &[u8]) {
    use lxd_image::oci::{BlobSink, Manifest, media_type, to_json};
    let layer = Descriptor::of(STATEMENT, text);
    let owned = text.to_vec();
    let mut open =
        || -> lxd_image::Result<Box<dyn std::io::Read + Send>> { Ok(Box::new(std::io::Cursor::new(owned.clone()))) };
    layout.put_blob(&layer, &mut open, &Monitor::none()).unwrap();
    let mut manifest = Manifest::new(Descriptor::of(media_type::EMPTY, b"{}"), vec![layer]);
    manifest.artifact_type = Some(STATEMENT.to_owned());
    manifest.subject = Some(subject.clone());
    let bytes = to_json(&manifest).unwrap();
    let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
    layout.put_document(&descriptor, &bytes, None, &Monitor::none()).unwrap();
}

#[test]
fn skopeo_copies_an_image_and_its_statements_out_of_a_bundle() {
    if !available(&["skopeo"]) {
        return;
    }
    let place = place();
    sign(&place);
    let layout = bundle(&place, "b/");
    bundle(&place, "b.tar");
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
        let (from, to) = (format!("oci-archive:b.tar:{name}"), format!("oci:copied:{name}"));
        let ran = Command::new("skopeo")
            .current_dir(place.at(""))
            .args(["--insecure-policy", "copy", "-q", "--all", &from, &to])
            .output()
            .unwrap();
        assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    import(&place, &["bundle", "import", "copied"]).good();
    assert_eq!(statements(&place, "other"), statements(&place, "s"));
}
