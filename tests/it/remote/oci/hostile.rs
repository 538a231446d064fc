//! Registries that lie, loop, and lead elsewhere: none of it gets credentials, memory, time or a place in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lxd_image::oci::{Descriptor, Digest, Index, media_type, to_json};
use lxd_image::remote::{CopyOptions, OciCredentials, OciLogin, OciRegistry, Remote, RetryPolicy, Wanted, copy};
use lxd_image::{ErrorKind, Limits, Monitor};

use super::fake::{ARTIFACT, Fake, LAYER};
use super::{registry, registry_as, store};
use crate::remote::failed;
use crate::remote::server::{Server, Then, answer, head};
use crate::store::{Scratch, unified};

const PASSWORD: &str = "correct-horse";

fn login() -> OciLogin {
    OciLogin::Credentials(OciCredentials::password("us", PASSWORD))
}

fn fake(tag: &str, image: &[u8]) -> Arc<Fake> {
    let fake = Arc::new(Fake::default());
    fake.add_image(tag, image);
    fake
}

fn wanted() -> Wanted {
    Wanted::new("a:1").architectures([])
}

#[test]
fn image_is_copied_and_checked() {
    let (scratch, bytes) = (Scratch::new(), unified("x"));
    let content = fake("1", &bytes);
    let server = Server::plain(move |asked, line| content.respond(asked, line));
    let image = copy(&registry(&server), "a:1", &store(&scratch), &CopyOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(image.fingerprint, lxd_image::Fingerprint::of(&bytes));
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let (scratch, bytes) = (Scratch::new(), unified("x"));
    let content = fake("1", &bytes);
    let served = bytes.clone();
    let elsewhere = Arc::new(Server::plain(move |_, line| answer(line, 200, &[], &served)));
    let target = elsewhere.text("/blob?signature=1");
    let server = Server::plain(move |asked, line| {
        if asked.header("authorization").is_none() {
            return answer(line, 401, &[("www-authenticate", "Basic realm=\"x\"")], b"");
        }
        if asked.path.contains("/blobs/") {
            return answer(line, 307, &[("location", &target)], b"");
        }
        content.respond(asked, line)
    });
    copy(&registry_as(&server, &login()), "a:1", &store(&scratch), &CopyOptions::new(), &Monitor::none()).unwrap();
    let asked = elsewhere.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{asked:?}");
}

#[test]
fn challenge_of_another_host_gets_nothing() {
    let elsewhere =
        Arc::new(Server::plain(|_, line| answer(line, 401, &[("www-authenticate", "Basic realm=\"x\"")], b"")));
    let target = elsewhere.text("/x");
    let server = Server::plain(move |_, line| answer(line, 307, &[("location", &target)], b""));
    failed(registry_as(&server, &login()).locate(&wanted(), &Monitor::none()), ErrorKind::Remote);
    assert!(elsewhere.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn second_401_ends_the_asking() {
    for challenge in ["Basic realm=\"x\"", "Bearer realm=\"/token\",service=\"s\""] {
        let server = Server::plain(move |asked, line| match &*asked.path {
            path if path.starts_with("/token") => answer(line, 200, &[], br#"{"token":"t"}"#),
            _ => answer(line, 401, &[("www-authenticate", challenge)], b""),
        });
        let error = failed(registry_as(&server, &login()).locate(&wanted(), &Monitor::none()), ErrorKind::Remote);
        assert!(server.asked().len() <= 3, "{challenge}: {:?}", server.asked());
        assert!(error.hint().is_some_and(|hint| hint.contains("credentials")), "{error}");
    }
}

#[test]
fn token_is_asked_for_once_and_sent_along() {
    let content = fake("1", &unified("x"));
    let server = Server::plain(move |asked, line| {
        if asked.path.starts_with("/token") {
            return answer(line, 200, &[], br#"{"access_token":"t0ken","expires_in":300}"#);
        }
        if asked.header("authorization") != Some("Bearer t0ken") {
            let challenge = "Bearer realm=\"/token\",service=\"s\",scope=\"repository:a:pull\"";
            return answer(line, 401, &[("www-authenticate", challenge)], b"");
        }
        content.respond(asked, line)
    });
    let scratch = Scratch::new();
    copy(&registry(&server), "a:1", &store(&scratch), &CopyOptions::new(), &Monitor::none()).unwrap();
    let tokens: Vec<_> = server.asked().into_iter().filter(|asked| asked.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?service=s&scope=repository%3Aa%3Apull");
    assert_eq!(tokens[0].header("authorization"), None);
}

#[test]
fn token_servers_that_can_not_be_trusted_are_refused() {
    for (realm, given, kind) in [
        ("http://127.0.0.1:9/token", "", ErrorKind::Remote),
        ("file:///etc/passwd", "", ErrorKind::Remote),
        ("/token", r#"{"token":"a\r\nx-evil: 1"}"#, ErrorKind::Malformed),
        ("/token", "{}", ErrorKind::Malformed),
        ("/token", "<html>", ErrorKind::Malformed),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let server = Server::tls(move |asked, line| match &*asked.path {
            path if path.starts_with("/token") => answer(line, 200, &[], given.as_bytes()),
            _ => answer(line, 401, &[("www-authenticate", &challenge)], b""),
        });
        let error = failed(registry_as(&server, &login()).locate(&wanted(), &Monitor::none()), kind);
        assert!(!format!("{error:?}").contains(PASSWORD), "{realm} {given}: {error:?}");
    }
}

#[test]
fn password_that_a_registry_repeats_is_not_shown() {
    let server = Server::plain(|_, line| {
        let refusal = format!(r#"{{"errors":[{{"code":"UNAUTHORIZED","message":"not {PASSWORD}"}}]}}"#);
        answer(line, 401, &[("www-authenticate", "Basic"), ("content-type", "application/json")], refusal.as_bytes())
    });
    let error = failed(registry_as(&server, &login()).locate(&wanted(), &Monitor::none()), ErrorKind::Remote);
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
}

#[test]
fn lists_of_tags_come_to_an_end() {
    let count = AtomicUsize::new(0);
    // Each answers with a page and the next address.
    type Pages = Box<dyn Fn(usize) -> (String, String) + Send + Sync>;
    let same: Pages = Box::new(|_| (r#"{"tags":["x"]}"#.into(), "</v2/a/tags/list?last=x>; rel=\"next\"".into()));
    let new: Pages = Box::new(|at| {
        let tags: Vec<String> = (0..100).map(|number| format!("t{at}-{number}")).collect();
        (serde_json::json!({ "tags": tags }).to_string(), format!("</v2/a/tags/list?last={at}>; rel=next"))
    });
    let away: Pages = Box::new(|_| (r#"{"tags":["x"]}"#.into(), "<http://127.0.0.1:9/>; rel=\"next\"".into()));
    for (pages, kind) in [(same, ErrorKind::Remote), (new, ErrorKind::LimitExceeded), (away, ErrorKind::Remote)] {
        count.store(0, Ordering::Relaxed);
        let number = AtomicUsize::new(0);
        let server = Server::plain(move |_, line| {
            let (page, link) = pages(number.fetch_add(1, Ordering::Relaxed));
            answer(line, 200, &[("link", &link)], page.as_bytes())
        });
        let mut limits = Limits::default();
        limits.registry_tags = 1000;
        let options = server.options().limits(limits);
        let registry = OciRegistry::new(options, &server.url("/"), &OciLogin::Anonymous).unwrap();
        failed(registry.repository("a").unwrap().tags(&Monitor::none()), kind);
        assert!(server.asked().len() < 25, "{kind}: {}", server.asked().len());
    }
}

#[test]
fn lists_in_pages_are_read_to_their_end() {
    let server = Server::plain(|asked, line| match asked.path.contains("last=") {
        false => answer(line, 200, &[("link", "</v2/a/tags/list?last=b&n=2>; rel=\"next\"")], br#"{"tags":["b","a"]}"#),
        true => answer(line, 200, &[], br#"{"tags":["c","not a tag"]}"#),
    });
    let monitor = Monitor::none();
    let tags = registry(&server).repository("a").unwrap().tags(&monitor).unwrap();
    assert_eq!(tags.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(monitor.omissions().iter().count(), 1);
}

#[test]
fn documents_that_lie_are_refused() {
    let manifest = fake("1", &unified("x")).manifests.lock().unwrap()["1"].1.clone();
    let other: &str = Digest::of(b"other").to_string().leak();
    let long = format!("{}{}", String::from_utf8(manifest.clone()).unwrap(), " ".repeat(5 << 20));
    let own = media_type::IMAGE_MANIFEST;
    let schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let both = br#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#.to_vec();
    let unknown = br#"{"schemaVersion":2,"mediaType":"application/x-what"}"#.to_vec();
    for (what, digest, kind, bytes, expected) in [
        ("another digest", other, own, manifest.clone(), ErrorKind::Mismatch),
        ("too many bytes", "", own, long.into_bytes(), ErrorKind::LimitExceeded),
        ("a page", "", "text/html", b"<html>".to_vec(), ErrorKind::Malformed),
        ("nothing", "", own, Vec::new(), ErrorKind::Malformed),
        ("schema 1", "", schema_1, br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(), ErrorKind::Unsupported),
        ("both", "", own, both, ErrorKind::Malformed),
        ("unknown", "", "application/x-what", unknown, ErrorKind::Unsupported),
    ] {
        let server = Server::plain(move |_, line| {
            let digest = if digest.is_empty() { Digest::of(&bytes).to_string() } else { digest.to_owned() };
            answer(line, 200, &[("content-type", kind), ("docker-content-digest", &digest)], &bytes)
        });
        let error = registry(&server).locate(&wanted(), &Monitor::none()).expect_err(what);
        assert_eq!(error.kind(), expected, "{what}: {error}");
    }
}

#[test]
fn document_asked_for_by_digest_must_have_it() {
    let manifest = fake("1", &unified("x")).manifests.lock().unwrap()["1"].1.clone();
    let server =
        Server::plain(move |_, line| answer(line, 200, &[("content-type", media_type::IMAGE_MANIFEST)], &manifest));
    let wanted = Wanted::new(format!("a@{}", Digest::of(b"other"))).architectures([]);
    failed(registry(&server).locate(&wanted, &Monitor::none()), ErrorKind::Mismatch);
}

#[test]
fn endless_document_is_cut_at_the_limit() {
    let server = Server::plain(|_, line| {
        head(line, 200, &[("content-type", media_type::IMAGE_MANIFEST)], None)?;
        // Without a length, until the client has had enough.
        while line.write_all(&[b' '; 64 << 10]).is_ok() {}
        Ok(Then::Cut)
    });
    failed(registry(&server).locate(&wanted(), &Monitor::none()), ErrorKind::LimitExceeded);
}

#[test]
fn nesting_of_indexes_is_bounded() {
    let content = fake("0", &unified("x"));
    let mut inner = Descriptor::of(media_type::IMAGE_MANIFEST, &content.manifests.lock().unwrap()["0"].1);
    for depth in 1..9 {
        let bytes = to_json(&Index::new(vec![inner])).unwrap();
        inner = content.add_document(&depth.to_string(), media_type::IMAGE_INDEX, &bytes);
    }
    let server = Server::plain(move |asked, line| content.respond(asked, line));
    let deep = Wanted::new("a:8").architectures([]);
    let error = failed(registry(&server).locate(&deep, &Monitor::none()), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("oci_index_depth"), "{error}");
}

#[test]
fn artifact_that_claims_another_fingerprint_is_refused() {
    let content = Arc::new(Fake::default());
    let layer = Descriptor::new(LAYER, content.add_blob(b"image"), 5);
    let config = Descriptor::new(media_type::EMPTY, content.add_blob(b"{}"), 2);
    let mut manifest = lxd_image::oci::Manifest::new(config, vec![layer]);
    manifest.artifact_type = Some(ARTIFACT.to_owned());
    manifest.annotations.insert("vnd.lxd-image.fingerprint".to_owned(), "0".repeat(64));
    content.add_document("1", media_type::IMAGE_MANIFEST, &to_json(&manifest).unwrap());
    let server = Server::plain(move |asked, line| content.respond(asked, line));
    failed(registry(&server).locate(&wanted(), &Monitor::none()), ErrorKind::Mismatch);
}

#[test]
fn blobs_that_lie_leave_the_store_empty() {
    type Lie = fn(&[u8]) -> Vec<u8>;
    let cases: [(&str, Lie, ErrorKind); 3] = [
        ("other bytes", |bytes| bytes.iter().map(|byte| byte ^ 1).collect(), ErrorKind::Mismatch),
        ("more bytes", |bytes| [bytes, b"more"].concat(), ErrorKind::Mismatch),
        ("fewer bytes", |bytes| bytes[..bytes.len() / 2].to_vec(), ErrorKind::Mismatch),
    ];
    for (what, lie, kind) in cases {
        let (scratch, bytes) = (Scratch::new(), unified("x"));
        let content = fake("1", &bytes);
        let server = Server::plain(move |asked, line| {
            if asked.path.contains("/blobs/") {
                return answer(line, 200, &[], &lie(&bytes));
            }
            content.respond(asked, line)
        });
        let store = store(&scratch);
        let error = copy(&registry(&server), "a:1", &store, &CopyOptions::new(), &Monitor::none()).expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(store.images().unwrap().is_empty(), "{what}");
    }
}

#[test]
fn broken_download_resumes_with_and_without_ranges() {
    for ignores_ranges in [false, true] {
        let (scratch, bytes) = (Scratch::new(), unified("x"));
        let content = fake("1", &bytes);
        let served = bytes.clone();
        let tries = AtomicUsize::new(0);
        let server = Server::plain(move |asked, line| {
            if !asked.path.contains("/blobs/") || asked.method != "GET" {
                return content.respond(asked, line);
            }
            if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                head(line, 200, &[("etag", "\"1\"")], Some(served.len()))?;
                line.write_all(&served[..served.len() / 2])?;
                return Ok(Then::Cut);
            }
            // Another server of the same network has another tag for the same bytes.
            let from = asked.from().filter(|_| !ignores_ranges).unwrap_or(0);
            let range = format!("bytes {from}-{}/{}", served.len() - 1, served.len());
            let status = if from > 0 { 206 } else { 200 };
            answer(line, status, &[("etag", "\"2\""), ("content-range", &range)], &served[from..])
        });
        let image = copy(&registry(&server), "a:1", &store(&scratch), &CopyOptions::new(), &Monitor::none()).unwrap();
        assert_eq!(image.fingerprint, lxd_image::Fingerprint::of(&bytes), "{ignores_ranges}");
        assert!(server.asked().iter().any(|asked| asked.from().is_some()), "{ignores_ranges}");
    }
}

#[test]
fn cut_downloads_end_after_the_last_try() {
    let (scratch, bytes) = (Scratch::new(), unified("x"));
    let content = fake("1", &bytes);
    let server = Server::plain(move |asked, line| {
        if asked.path.contains("/blobs/") {
            head(line, 200, &[], Some(bytes.len()))?;
            return Ok(Then::Cut);
        }
        content.respond(asked, line)
    });
    let error = failed(
        copy(&registry(&server), "a:1", &store(&scratch), &CopyOptions::new(), &Monitor::none()),
        ErrorKind::Remote,
    );
    assert!(error.is_transient(), "{error}");
}

#[test]
fn fingerprint_of_the_copy_is_the_expected_one() {
    let (scratch, content) = (Scratch::new(), fake("1", &unified("x")));
    let server = Server::plain(move |asked, line| content.respond(asked, line));
    let options = CopyOptions::new().expected_fingerprint(lxd_image::Fingerprint::of(b"another"));
    failed(copy(&registry(&server), "a:1", &store(&scratch), &options, &Monitor::none()), ErrorKind::Mismatch);
}

#[test]
fn retries_are_those_of_the_policy() {
    let server = Server::plain(|_, line| answer(line, 503, &[], b""));
    let options = server.options().retry(RetryPolicy::new().tries(4).sleep(|_| {}));
    let registry = OciRegistry::new(options, &server.url("/"), &OciLogin::Anonymous).unwrap();
    failed(registry.locate(&wanted(), &Monitor::none()), ErrorKind::Remote);
    assert_eq!(server.asked().len(), 4);
}

/// A manifest of layers, with a subject and an artifact type if there are any.
fn add_manifest(
    content: &Fake,
    tag: &str,
    artifact_type: Option<&str>,
    layers: &[(&str, &[u8])],
    subject: Option<Descriptor>,
) -> Descriptor {
    let layers = layers
        .iter()
        .map(|(kind, bytes)| Descriptor::new(*kind, content.add_blob(bytes), bytes.len() as u64))
        .collect();
    let config = Descriptor::new(media_type::EMPTY, content.add_blob(b"{}"), 2);
    let mut manifest = lxd_image::oci::Manifest::new(config, layers);
    manifest.artifact_type = artifact_type.map(str::to_owned);
    manifest.subject = subject;
    content.add_document(tag, media_type::IMAGE_MANIFEST, &to_json(&manifest).unwrap())
}

#[test]
fn forms_of_others_are_read() {
    let (meta, rootfs) = crate::store::split("x");
    let unified = unified("x");
    let content = Arc::new(Fake::default());
    let incus = "application/vnd.incus.image.layer.v1.tar+gzip";
    add_manifest(&content, "unified", Some("application/vnd.incus.image.v1"), &[(incus, &unified)], None);
    let parts: [(&str, &[u8]); 2] = [("application/x-squashfs", &rootfs), ("application/vnd.incus.metadata", &meta)];
    add_manifest(&content, "split", Some("application/vnd.oci.image.layer.qcow2"), &parts, None);
    // A container image of one layer, with the metadata attached to it.
    let config = lxd_image::oci::ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        rootfs: lxd_image::oci::RootfsLayers { kind: "layers".to_owned(), diff_ids: vec![Digest::of(&rootfs)] },
        ..Default::default()
    };
    let config = to_json(&config).unwrap();
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let image = lxd_image::oci::Manifest::new(
        Descriptor::new(media_type::IMAGE_CONFIG, content.add_blob(&config), config.len() as u64),
        vec![Descriptor::new(layer, content.add_blob(&rootfs), rootfs.len() as u64)],
    );
    let subject = content.add_document("attached", media_type::IMAGE_MANIFEST, &to_json(&image).unwrap());
    let mut entry = add_manifest(
        &content,
        "metadata",
        Some("application/vnd.incus.metadata"),
        &[("application/x-xz", &meta)],
        Some(Descriptor::new(&*subject.media_type, subject.digest, subject.size)),
    );
    entry.artifact_type = Some("application/vnd.incus.metadata".to_owned());
    let fallback = format!("sha256-{}", subject.digest.hex());
    content.add_document(&fallback, media_type::IMAGE_INDEX, &to_json(&Index::new(vec![entry])).unwrap());
    let server = Server::plain(move |asked, line| content.respond(asked, line));
    let whole = lxd_image::Fingerprint::of(&unified);
    let both = lxd_image::Fingerprint::of(&[meta, rootfs].concat());
    for (tag, expected) in [("unified", whole), ("split", both), ("attached", both)] {
        let scratch = Scratch::new();
        let options = CopyOptions::new().architectures([]);
        let image =
            copy(&registry(&server), &format!("a:{tag}"), &store(&scratch), &options, &Monitor::none()).unwrap();
        assert_eq!(image.fingerprint, expected, "{tag}");
    }
}
