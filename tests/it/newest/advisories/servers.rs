//! What clients send to the server: names, ids, fingerprints of others, codecs, and more than there is room for.

use lxd_image::format::Compression;
use lxd_image::server::{Handler, ServerOptions};
use lxd_image::store::Store;
use lxd_image::{ErrorKind, Limits};
use serde_json::json;

use crate::cli::run;
use crate::format::Place;
use crate::server::pulling::Elsewhere;
use crate::server::{Served, body, form, json, object, request, trusted, with};
use crate::store::{fingerprint, split, unified};

#[test]
fn upload_under_another_fingerprint_is_refused_cve_2026_33542() {
    let served = Served::new();
    let (meta, rootfs) = split("two");
    let (kind, parts) = form(&[("metadata", &meta), ("rootfs", &rootfs)]);
    for (kind, bytes) in [("application/octet-stream", unified("one")), (&*kind, parts)] {
        for header in ["X-LXD-fingerprint", "X-Incus-fingerprint"] {
            let upload = with(trusted(request("POST", "/1.0/images")), "content-type", kind);
            let upload = with(body(upload, bytes.clone()), header, &fingerprint("other").to_string());
            assert_eq!(json(served.handler.handle(upload)).0, 400, "{header}");
        }
    }
    served.holds(&[]);
}

#[test]
fn file_name_of_an_upload_is_no_path_cve_2026_81500() {
    for name in ["../../etc/cron.d/x", "/etc/passwd", "..", "a\\b", "-rf", ".profile"] {
        let served = Served::new();
        let upload = with(body(trusted(request("POST", "/1.0/images")), unified("one")), "X-LXD-filename", name);
        assert_eq!(json(served.handler.handle(upload)).0, 202, "{name}");
        let image = served.store.image(&fingerprint("one")).unwrap();
        assert_eq!(image.file_name, None, "{name}");
        let response = served.ask("GET", &format!("/1.0/images/{}/export", image.fingerprint));
        let disposition = response.header("content-disposition").unwrap().to_owned();
        assert!(disposition.contains(&image.fingerprint.to_string()), "{name}: {disposition}");
    }
    // In a form each part has a name of its own.
    let served = Served::new();
    let (meta, rootfs) = split("two");
    let parts = [("metadata", "../../m", &*meta), ("rootfs", "/etc/passwd", &*rootfs)];
    let upload = with(trusted(request("POST", "/1.0/images")), "content-type", &crate::multipart::content_type());
    assert_eq!(json(served.handler.handle(body(upload, crate::multipart::write(&parts)))).0, 202);
    let image = served.store.images().unwrap().remove(0);
    assert_eq!((image.file_name, image.rootfs_name), (None, None));
}

#[test]
fn private_image_is_not_taken_over_by_its_fingerprint_cve_2026_81501() {
    let served = Served::with(ServerOptions::new().image_transfer(Elsewhere::with(&[("theirs", "secret")])));
    let private = served.import("secret", &["ours"], false);
    let digits = private.fingerprint.to_string();
    // Reading it, by all names of it, in every project.
    for path in [
        format!("/1.0/images/{digits}"),
        format!("/1.0/images/{digits}/export"),
        format!("/1.0/images/{}", &digits[..12]),
        "/1.0/images/aliases/ours".to_owned(),
        format!("/1.0/images/{digits}?project=other"),
        format!("/1.0/images/{digits}?secret=guessed"),
        format!("/images/{digits}"),
    ] {
        assert_eq!(served.get(&path).status, 404, "{path}");
    }
    // Naming it as the source of an image of one's own.
    let source = json!({"public": true, "aliases": [{"name": "mine"}], "source": {"type": "image", "mode": "pull",
        "server": "https://elsewhere", "fingerprint": digits, "project": "other"}});
    let post = |path: &str| {
        let request = with(request("POST", path), "content-type", "application/json");
        json(served.handler.handle(body(request, source.to_string()))).0
    };
    assert_eq!(post("/1.0/images"), 403);
    assert_eq!(post("/1.0/images?project=other"), 404);
    // Uploading under its name without its bytes, with a token for another upload.
    let token = object(served.send("POST", "/1.0/images", &json!({"source": {"type": "image", "mode": "push"}})));
    let secret = token["metadata"]["secret"].as_str().unwrap();
    let upload = body(with(request("POST", "/1.0/images"), "X-LXD-secret", secret), unified("other"));
    let upload = with(with(upload, "X-LXD-fingerprint", &digits), "X-LXD-public", "true");
    assert_eq!(json(served.handler.handle(upload)).0, 400);
    // Nor does an upstream that publishes it make it public here.
    let _ = served.get(&format!("/1.0/images/{digits}/export"));
    let after = served.store.image(&private.fingerprint).unwrap();
    assert!(!after.public && after.aliases.len() == 1, "{after:?}");
    served.holds(&[&private.fingerprint]);
}

#[test]
fn upload_cannot_fill_the_disk_cve_2026_41685() {
    let upload = |served: &Served, size: usize, announced: bool| {
        let upload = body(trusted(request("POST", "/1.0/images")), vec![b'x'; size]);
        let upload = if announced { with(upload, "content-length", &size.to_string()) } else { upload };
        json(served.handler.handle(upload)).0
    };
    // The size of one image, the bytes of one client, the bytes of the store.
    for name in ["upload", "client_stored", "stored"] {
        let mut limits = Limits::default();
        limits.set(name, 4096).unwrap();
        let served = Served::with(ServerOptions::new().limits(limits));
        for announced in [true, false] {
            assert_eq!(upload(&served, 8192, announced), 413, "{name}, announced: {announced}");
        }
        served.holds(&[]);
    }
    // The number in an hour.
    let mut limits = Limits::default();
    limits.client_uploads = 2;
    let served = Served::with(ServerOptions::new().limits(limits));
    let statuses: Vec<_> = (0..4).map(|_| upload(&served, 100, true)).collect();
    assert_eq!(statuses, [400, 400, 429, 429]);
    // What is free: asked before a byte is read.
    let scratch = crate::store::Scratch::new();
    let Some(mounted) = crate::store::Mounted::new(&scratch, "3m") else { return };
    let store = Store::open(mounted.path().join("store")).unwrap();
    let handler = Handler::new(store.clone(), ServerOptions::new());
    for announced in [true, false] {
        let large = body(trusted(request("POST", "/1.0/images")), vec![b'x'; 4_000_000]);
        let large = if announced { with(large, "content-length", "4000000") } else { large };
        let (status, envelope) = json(handler.handle(large));
        assert_eq!(status, 507, "announced: {announced}: {envelope}");
    }
    assert!(store.images().unwrap().is_empty());
}

/// Nothing is run here, so a text for a codec can be wrong only.
#[test]
fn compression_is_a_name_and_no_argument_cve_2026_28384() {
    let texts = [
        "gzip -9 --suffix=/etc/x",
        "xz --files=/etc/shadow",
        "-",
        "--version",
        "../../bin/sh",
        "zstd:-o/etc/x",
        "sh -c x",
        "gzip;x",
    ];
    for text in texts {
        assert_eq!(text.parse::<Compression>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        let served = Served::with(ServerOptions::new().image_transfer(Elsewhere::with(&[("box", "one")])));
        let source = json!({"type": "image", "mode": "pull", "server": "https://elsewhere", "alias": "box"});
        let asked = json!({"compression_algorithm": text, "source": source});
        assert_eq!(json(served.send("POST", "/1.0/images", &asked)).0, 400, "{text}");
        served.holds(&[]);
        let place = Place::new();
        place.write("image.tar", unified("one"));
        let option = format!("--compression={text}");
        assert_ne!(run(&place, &["convert", "image.tar", "out.tar", &option]).status, 0, "{text}");
        assert_eq!(place.names(""), ["image.tar"], "{text}");
    }
}

#[test]
fn id_that_a_client_chooses_is_no_path_ghsa_ccjc() {
    let served = Served::new();
    let image = served.import("one", &[], true);
    let before = crate::store::files(&served.root());
    for id in ["..%2F..%2Fetc", "%2Fetc%2Fpasswd", "a%2Fb", "..", "x%00y", "%2e%2e%2fcatalog.db"] {
        for (method, path) in [
            ("GET", format!("/1.0/operations/{id}")),
            ("DELETE", format!("/1.0/operations/{id}")),
            ("GET", format!("/1.0/operations/{id}/wait?timeout=0")),
            ("GET", format!("/images/{id}")),
            ("GET", format!("/static/{id}")),
            ("GET", format!("/streams/v1/{id}")),
            ("POST", format!("/1.0/images/{id}/export")),
            ("DELETE", format!("/1.0/images/{id}")),
        ] {
            let status = served.ask(method, &path).status.as_u16();
            assert!(matches!(status, 400 | 404), "{method} {path}: {status}");
        }
    }
    // The boundary of a form and the names of its parts.
    let (meta, rootfs) = split("two");
    let mut parts = crate::multipart::write(&[("metadata", "m", &meta), ("rootfs", "r", &rootfs)]);
    let boundary = crate::multipart::content_type().split("boundary=").nth(1).unwrap().trim_matches('"').to_owned();
    let text = String::from_utf8_lossy(&parts).into_owned();
    if text.len() == parts.len() {
        parts = text.replace(&boundary, "../../x").into_bytes();
        let upload = trusted(request("POST", "/1.0/images"));
        let upload = with(upload, "content-type", "multipart/form-data; boundary=\"../../x\"");
        assert!(matches!(json(served.handler.handle(body(upload, parts))).0, 202 | 400));
    }
    let mut after = crate::store::files(&served.root());
    after.retain(|name| before.contains(name) || !name.starts_with("blobs/"));
    assert_eq!(after, before);
    assert!(served.store.image(&image.fingerprint).is_ok());
}
