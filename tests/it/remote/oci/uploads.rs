//! Pushes to a registry that breaks, forgets, and leads elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lxd_image::oci::{BlobSink, Descriptor, Document, Manifest, media_type, to_json};
use lxd_image::remote::OciPushOptions;
use lxd_image::{ErrorKind, Limits, Monitor};

use super::fake::{Fake, missing};
use super::{import_sized, registry, store};
use crate::remote::failed;
use crate::remote::server::{Server, Then, answer};
use crate::store::Scratch;

const MIB: usize = 1 << 20;

#[test]
fn image_is_pushed_and_its_layer_is_its_fingerprint() {
    let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
    let (store, served) = (store(&scratch), Arc::clone(&content));
    let image = import_sized(&store, "box", 3 * MIB);
    let server = Server::plain(move |asked, line| served.respond(asked, line));
    let opened = store.open_image(&image.fingerprint).unwrap();
    let digest = registry(&server).push(&opened, "a:1", &OciPushOptions::new(), &Monitor::none()).unwrap();
    let (_, bytes) = content.manifests.lock().unwrap()["1"].clone();
    assert_eq!(lxd_image::oci::Digest::of(&bytes), digest);
    let Document::Manifest(manifest) = Document::parse(&bytes, None, &Limits::default()).unwrap() else { panic!() };
    assert_eq!(manifest.layers[0].digest.as_fingerprint(), Some(image.fingerprint));
    assert!(content.blobs.lock().unwrap().contains_key(&format!("sha256:{}", image.fingerprint)));
}

#[test]
fn second_push_sends_no_blob() {
    let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
    let store = store(&scratch);
    let image = import_sized(&store, "box", MIB);
    let server = Server::plain(move |asked, line| content.respond(asked, line));
    let (registry, opened) = (registry(&server), store.open_image(&image.fingerprint).unwrap());
    registry.push(&opened, "a:1", &OciPushOptions::new(), &Monitor::none()).unwrap();
    server.forget();
    registry.push(&opened, "a:2", &OciPushOptions::new(), &Monitor::none()).unwrap();
    assert!(server.asked().iter().all(|asked| !asked.path.contains("/uploads/")), "{:?}", server.asked());
}

#[test]
fn tag_of_another_image_moves_only_when_told() {
    let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
    let store = store(&scratch);
    let (one, two) = (import_sized(&store, "one", 10), import_sized(&store, "two", 10));
    let server = Server::plain(move |asked, line| content.respond(asked, line));
    let registry = registry(&server);
    let (one, two) = (store.open_image(&one.fingerprint).unwrap(), store.open_image(&two.fingerprint).unwrap());
    registry.push(&one, "a:1", &OciPushOptions::new(), &Monitor::none()).unwrap();
    failed(registry.push(&two, "a:1", &OciPushOptions::new(), &Monitor::none()), ErrorKind::AlreadyExists);
    registry.push(&one, "a:1", &OciPushOptions::new(), &Monitor::none()).unwrap();
    registry.push(&two, "a:1", &OciPushOptions::new().reuse_tags(true), &Monitor::none()).unwrap();
}

#[test]
fn broken_upload_resumes_where_the_registry_is() {
    let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
    let (store, served) = (store(&scratch), Arc::clone(&content));
    let image = import_sized(&store, "box", 3 * MIB);
    let tries = AtomicUsize::new(0);
    let server = Server::plain(move |asked, line| {
        if asked.method == "PATCH" && tries.fetch_add(1, Ordering::Relaxed) == 0 {
            // A third of it arrived when the connection broke.
            served.upload.lock().unwrap().extend_from_slice(&asked.body[..MIB]);
            return Ok(Then::Cut);
        }
        served.respond(asked, line)
    });
    let opened = store.open_image(&image.fingerprint).unwrap();
    registry(&server).push(&opened, "a:1", &OciPushOptions::new(), &Monitor::none()).unwrap();
    let patches: Vec<_> = server.asked().into_iter().filter(|asked| asked.method == "PATCH").collect();
    assert_eq!(patches.len(), 2);
    assert!(patches[1].header("content-range").unwrap().starts_with(&format!("{MIB}-")), "{:?}", patches[1].headers);
    assert!(content.blobs.lock().unwrap().contains_key(&format!("sha256:{}", image.fingerprint)));
}

#[test]
fn forgotten_upload_is_begun_again_and_not_for_ever() {
    for (forgets, ends_well) in [(1, true), (usize::MAX, false)] {
        let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
        let store = store(&scratch);
        let image = import_sized(&store, "box", 2 * MIB);
        let forgotten = AtomicUsize::new(0);
        let server = Server::plain(move |asked, line| {
            if asked.method == "PATCH" && forgotten.fetch_add(1, Ordering::Relaxed) < forgets {
                return missing(line);
            }
            content.respond(asked, line)
        });
        let opened = store.open_image(&image.fingerprint).unwrap();
        let done = registry(&server).push(&opened, "a:1", &OciPushOptions::new(), &Monitor::none());
        assert_eq!(done.is_ok(), ends_well, "{done:?}");
        assert!(server.asked().len() < 20);
    }
}

#[test]
fn too_large_chunks_become_smaller() {
    let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
    let store = store(&scratch);
    let image = import_sized(&store, "box", 3 * MIB);
    let server = Server::plain(move |asked, line| {
        if asked.method == "PATCH" && asked.body.len() > MIB {
            return answer(line, 413, &[], b"");
        }
        content.respond(asked, line)
    });
    let opened = store.open_image(&image.fingerprint).unwrap();
    registry(&server).push(&opened, "a:1", &OciPushOptions::new(), &Monitor::none()).unwrap();
}

#[test]
fn upload_to_another_host_is_refused() {
    let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
    let store = store(&scratch);
    let image = import_sized(&store, "box", 2 * MIB);
    let elsewhere = Arc::new(Server::plain(|_, line| answer(line, 202, &[], b"")));
    let target = elsewhere.text("/upload");
    for method in ["POST", "PATCH"] {
        let (content, target) = (Arc::clone(&content), target.clone());
        let server = Server::plain(move |asked, line| {
            if asked.method == method {
                return answer(line, 202, &[("location", &target)], b"");
            }
            content.respond(asked, line)
        });
        let opened = store.open_image(&image.fingerprint).unwrap();
        let error =
            failed(registry(&server).push(&opened, "a:1", &OciPushOptions::new(), &Monitor::none()), ErrorKind::Remote);
        assert!(error.to_string().contains("another host"), "{error}");
    }
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn registry_that_got_other_bytes_is_a_mismatch() {
    let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
    let store = store(&scratch);
    let image = import_sized(&store, "box", 2 * MIB);
    let server = Server::plain(move |asked, line| {
        if asked.method == "PATCH" {
            content.upload.lock().unwrap().push(0);
        }
        content.respond(asked, line)
    });
    let opened = store.open_image(&image.fingerprint).unwrap();
    let done = registry(&server).push(&opened, "a:1", &OciPushOptions::new(), &Monitor::none());
    assert!(matches!(done.unwrap_err().kind(), ErrorKind::Mismatch | ErrorKind::Remote));
}

#[test]
fn blob_of_another_repository_is_mounted() {
    let (scratch, content) = (Scratch::new(), Arc::new(Fake::default()));
    let store = store(&scratch);
    let image = import_sized(&store, "box", 2 * MIB);
    let server = Server::plain(move |asked, line| {
        if asked.method == "POST" && asked.path.contains("mount=") && asked.path.contains("from=b") {
            return answer(line, 201, &[("location", "/v2/a/blobs/x")], b"");
        }
        content.respond(asked, line)
    });
    let opened = store.open_image(&image.fingerprint).unwrap();
    registry(&server).push(&opened, "a:1", &OciPushOptions::new().mount_from("b"), &Monitor::none()).unwrap();
    assert!(server.asked().iter().all(|asked| asked.method != "PATCH"));
}

#[test]
fn referrers_are_kept_under_a_tag_where_there_is_no_list() {
    let content = Arc::new(Fake::default());
    let subject = content.add_image("1", b"image");
    let server = Server::plain(move |asked, line| content.respond(asked, line));
    let mut repository = registry(&server).repository("a").unwrap();
    let mut manifest = Manifest::new(Descriptor::of(media_type::EMPTY, b"{}"), Vec::new());
    manifest.artifact_type = Some("application/x-signature".to_owned());
    manifest.subject = Some(Descriptor::new(&*subject.media_type, subject.digest, subject.size));
    let bytes = to_json(&manifest).unwrap();
    let about = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
    for _ in 0..2 {
        repository.put_document(&about, &bytes, None, &Monitor::none()).unwrap();
    }
    let found = repository.referrers(&subject.digest, Some("application/x-signature"), &Monitor::none()).unwrap();
    assert_eq!(found.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [about.digest]);
    assert!(repository.referrers(&subject.digest, Some("application/x-other"), &Monitor::none()).unwrap().is_empty());
}
