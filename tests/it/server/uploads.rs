//! Images that clients send: as one file, as two, described in headers; what is refused, and that nothing stays of it.
//! Row 175 of the hostile corpus is here.

use std::io::{self, Read};
use std::sync::Barrier;
use std::thread;

use lxd_image::server::{Request, ServerOptions};
use lxd_image::store::Store;
use lxd_image::{Fingerprint, Limits};
use serde_json::json;

use super::{Served, body, form, json, request, trusted, with};
use crate::store::{Scratch, fingerprint, reads, split, unified, unified_with};

fn upload(bytes: impl Into<Vec<u8>>) -> Request {
    body(with(trusted(request("POST", "/1.0/images")), "content-type", "application/octet-stream"), bytes)
}

fn upload_form(parts: &[(&str, &[u8])]) -> Request {
    let (kind, bytes) = form(parts);
    body(with(trusted(request("POST", "/1.0/images")), "content-type", &kind), bytes)
}

#[test]
fn unified_upload_applies_its_headers() {
    for spelling in ["X-LXD-", "X-Incus-"] {
        let served = Served::new();
        let fingerprint = fingerprint("one");
        let mut request = upload(unified("one"));
        for (field, value) in [
            ("fingerprint", fingerprint.to_string()),
            ("filename", "debian.tar".to_owned()),
            ("public", "true".to_owned()),
            ("properties", "os=Devuan&serial=2024%2001&empty=".to_owned()),
            ("aliases", "debian%2F12=the+stable+one&other=".to_owned()),
            ("type", "container".to_owned()),
        ] {
            request = with(request, &format!("{spelling}{field}"), &value);
        }
        let operation = served.finished(served.handler.handle(request));
        assert_eq!((&operation["status"], &operation["status_code"]), (&json!("Success"), &json!(200)), "{operation}");
        assert_eq!(operation["metadata"]["fingerprint"], json!(fingerprint.to_string()));
        assert_eq!(operation["metadata"]["size"], json!(unified("one").len()));
        let image = served.store.image(&fingerprint).unwrap();
        assert!(image.public && !image.cached && !image.auto_update);
        assert_eq!(image.file_name.as_deref(), Some("debian.tar"));
        let properties: Vec<_> = ["os", "serial", "empty", "release"].map(|key| image.properties.get(key)).into();
        assert_eq!(properties, [Some("Devuan"), Some("2024 01"), Some(""), Some("12")]);
        let aliases: Vec<_> = image.aliases.iter().map(|alias| (&*alias.name, &*alias.description)).collect();
        assert_eq!(aliases, [("debian/12", "the stable one"), ("other", "")]);
        assert_eq!(reads(&served.store, &fingerprint), unified("one"));
        served.holds(&[&fingerprint]);
    }
}

#[test]
fn upload_accepts_all_spellings_of_aliases() {
    for (written, expected) in [
        ("a,b/c", vec!["a", "b/c"]),
        ("a=&b%2Fc=", vec!["a", "b/c"]),
        ("alias=a&alias=b%2Fc", vec!["a", "b/c"]),
        ("alias=", vec!["alias"]),
        ("alias", vec!["alias"]),
    ] {
        let served = Served::new();
        served.finished(served.handler.handle(with(upload(unified("one")), "X-Incus-aliases", written)));
        let aliases = served.store.image(&fingerprint("one")).unwrap().aliases;
        assert_eq!(aliases.iter().map(|alias| &*alias.name).collect::<Vec<_>>(), expected, "{written}");
    }
}

#[test]
fn split_upload_is_stored_byte_for_byte() {
    let served = Served::new();
    let (metadata, rootfs) = split("two");
    let operation =
        served.finished(served.handler.handle(upload_form(&[("metadata", &metadata), ("rootfs", &rootfs)])));
    let both = Fingerprint::of(&[metadata.clone(), rootfs.clone()].concat());
    assert_eq!(operation["metadata"]["fingerprint"], json!(both.to_string()));
    let image = served.store.image(&both).unwrap();
    assert_eq!((image.rootfs_size, image.file_name.as_deref()), (Some(rootfs.len() as u64), Some("a-file")));
    assert!(!image.public);
    served.holds(&[&both]);
}

#[test]
fn malformed_upload_form_is_refused_175() {
    let served = Served::new();
    let (metadata, rootfs) = split("two");
    let endless = "n".repeat(100_000);
    let cases: &[&[(&str, &[u8])]] = &[
        &[],
        &[("metadata", &metadata)],
        &[("rootfs", &rootfs)],
        &[("rootfs", &rootfs), ("metadata", &metadata)],
        &[("metadata", &metadata), ("metadata", &metadata)],
        &[("metadata", &metadata), ("rootfs", &rootfs), ("rootfs", &rootfs)],
        &[("metadata", &metadata), ("disk", &rootfs)],
        &[("Metadata", &metadata), ("rootfs", &rootfs)],
        &[("metadata", &metadata), (&endless, &rootfs)],
        &[("metadata", &metadata), ("rootfs", b"")],
        &[("metadata", b""), ("rootfs", &rootfs)],
        &[("metadata", &rootfs), ("rootfs", &metadata[..600])],
    ];
    for parts in cases {
        let names: Vec<String> = parts.iter().map(|(name, _)| name.chars().take(20).collect()).collect();
        let (status, envelope) = json(served.handler.handle(upload_form(parts)));
        assert_eq!(status, 400, "{names:?}: {envelope}");
        assert_eq!((&envelope["type"], &envelope["error_code"]), (&json!("error"), &json!(400)));
        served.holds(&[]);
    }
    for kind in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=other"] {
        let (_, bytes) = form(&[("metadata", &metadata), ("rootfs", &rootfs)]);
        let request = body(with(trusted(request("POST", "/1.0/images")), "content-type", kind), bytes);
        assert_eq!(json(served.handler.handle(request)).0, 400, "{kind}");
    }
    served.holds(&[]);
}

#[test]
fn upload_with_another_fingerprint_is_refused_and_leaves_nothing() {
    let served = Served::new();
    let other = fingerprint("other").to_string();
    for announced in [other.as_str(), "not-a-fingerprint", &other[..12]] {
        let (status, envelope) =
            json(served.handler.handle(with(upload(unified("one")), "X-LXD-fingerprint", announced)));
        assert_eq!(status, 400, "{envelope}");
        served.holds(&[]);
    }
    let (metadata, rootfs) = split("two");
    let request = with(upload_form(&[("metadata", &metadata), ("rootfs", &rootfs)]), "X-Incus-fingerprint", &other);
    assert_eq!(json(served.handler.handle(request)).0, 400);
    served.holds(&[]);
}

#[test]
fn invalid_upload_headers_are_refused_before_the_body_is_read() {
    struct Unread;
    impl Read for Unread {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("the body was read");
        }
    }
    let served = Served::new();
    for headers in [
        &[("X-LXD-public", "perhaps")][..],
        &[("X-LXD-aliases", "a:b")],
        &[("X-LXD-aliases", "%20=")],
        &[("X-LXD-type", "both")],
        &[("X-LXD-public", "true"), ("X-Incus-public", "false")],
        &[("Content-Length", "-1")],
        &[("Content-Length", "99999999999999999999999")],
    ] {
        let mut request = upload(Vec::new());
        request.body = Box::new(Unread);
        for (name, value) in headers {
            request = with(request, name, value);
        }
        assert_eq!(json(served.handler.handle(request)).0, 400, "{headers:?}");
    }
    let mut huge = with(upload(Vec::new()), "Content-Length", "30000000000");
    huge.body = Box::new(Unread);
    assert_eq!(json(served.handler.handle(huge)).0, 413);
    let mut form = with(trusted(request("POST", "/1.0/images")), "content-type", "application/x-www-form-urlencoded");
    form.body = Box::new(Unread);
    assert_eq!(json(served.handler.handle(form)).0, 415);
    assert_eq!(served.handler.handle(request("POST", "/1.0/images")).status, 403);
}

#[test]
fn upload_that_is_no_image_is_refused() {
    let served = Served::new();
    let no_architecture = unified_with("creation_date: 1\n", b"x");
    let climbing = unified_with("architecture: ../../etc\ncreation_date: 1\n", b"x");
    for bytes in [
        Vec::new(),
        b"not an image".to_vec(),
        vec![0; 10_240],
        unified("cut")[..700].to_vec(),
        no_architecture,
        climbing,
    ] {
        let (status, envelope) = json(served.handler.handle(upload(bytes)));
        assert_eq!(status, 400, "{envelope}");
    }
    served.holds(&[]);
}

#[test]
fn duplicate_image_and_taken_alias_fail_as_in_lxd() {
    let served = Served::new();
    let image = served.import("one", &["taken"], false);
    let operation = served.finished(served.handler.handle(upload(unified("one"))));
    assert_eq!((&operation["status"], &operation["status_code"]), (&json!("Failure"), &json!(400)));
    assert!(operation["err"].as_str().unwrap().contains("already exists"), "{operation}");
    let named = with(upload(unified("one")), "X-LXD-fingerprint", &image.fingerprint.to_string());
    assert!(served.finished(served.handler.handle(named))["err"].as_str().unwrap().contains("already exists"));
    let taken = served.finished(served.handler.handle(with(upload(unified("two")), "X-LXD-aliases", "taken")));
    assert!(taken["err"].as_str().unwrap().contains("already exists"), "{taken}");
    served.holds(&[&image.fingerprint]);
    assert_eq!(served.store.image(&image.fingerprint).unwrap(), image);
}

#[test]
fn concurrent_uploads_of_one_image_have_one_winner() {
    let served = Served::new();
    let barrier = Barrier::new(8);
    let operations: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    served.finished(served.handler.handle(upload(unified("same"))))
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(operations.iter().filter(|operation| operation["status_code"] == json!(200)).count(), 1);
    for operation in operations.iter().filter(|operation| operation["status_code"] != json!(200)) {
        assert!(operation["err"].as_str().unwrap().contains("already exists"), "{operation}");
    }
    served.holds(&[&fingerprint("same")]);
}

/// A connection that breaks after its bytes.
struct Breaks(io::Cursor<Vec<u8>>);

impl Read for Breaks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn broken_upload_leaves_nothing() {
    let served = Served::new();
    let (metadata, rootfs) = split("two");
    let (kind, whole) = form(&[("metadata", &metadata), ("rootfs", &rootfs)]);
    for (kind, bytes) in [("application/octet-stream".to_owned(), unified("one")), (kind, whole)] {
        for end in (0..=bytes.len()).step_by(500) {
            let mut request = with(trusted(request("POST", "/1.0/images")), "content-type", &kind);
            request.body = Box::new(Breaks(io::Cursor::new(bytes[..end].to_vec())));
            let status = json(served.handler.handle(request)).0;
            assert!(status >= 400, "{kind} cut at {end}: {status}");
        }
        served.holds(&[]);
    }
}

#[test]
fn upload_of_another_length_than_announced_is_refused() {
    let served = Served::new();
    let bytes = unified("one");
    for length in [bytes.len() - 1, bytes.len() + 1, 0] {
        let request = with(upload(bytes.clone()), "Content-Length", &length.to_string());
        assert_eq!(json(served.handler.handle(request)).0, 400, "{length}");
        served.holds(&[]);
    }
    let request = with(upload(bytes.clone()), "Content-Length", &bytes.len().to_string());
    assert_eq!(served.finished(served.handler.handle(request))["status_code"], json!(200));
}

#[test]
fn upload_over_the_limit_is_refused_announced_or_not() {
    let mut limits = Limits::default();
    limits.upload = 2_000;
    let served = Served::with(ServerOptions::new().limits(limits));
    let (metadata, rootfs) = split("two");
    for request in [
        upload(unified("one")),
        with(upload(unified("one")), "Content-Length", &unified("one").len().to_string()),
        upload_form(&[("metadata", &metadata), ("rootfs", &rootfs)]),
    ] {
        assert_eq!(json(served.handler.handle(request)).0, 413);
        served.holds(&[]);
    }
}

#[test]
fn upload_to_a_full_disk_is_reported_and_leaves_nothing() {
    use crate::store::Mounted;
    let scratch = Scratch::new();
    let Some(mounted) = Mounted::new(&scratch, "3m") else { return };
    let store = Store::open(mounted.path().join("store")).unwrap();
    let handler = lxd_image::server::Handler::new(store.clone(), ServerOptions::new());
    let large = unified_with(&crate::store::metadata("large", ""), &vec![b'x'; 4_000_000]);
    let (status, envelope) = json(handler.handle(upload(large)));
    assert_eq!(status, 507, "{envelope}");
    assert!(store.images().unwrap().is_empty());
    assert_eq!(crate::store::files(&mounted.path().join("store")), [""; 0]);
    assert_eq!(handler.handle(upload(unified("small"))).status, 202);
}
