//! What strangers read over the REST API: lists, images, aliases, bytes, and nothing that is private.
//! Rows 169 to 172, 176 and 177 of the hostile corpus are here.

use std::fs;
use std::io::Read;

use lxd_image::store::ImportOptions;
use lxd_image::{Fingerprint, Monitor};
use serde_json::json;

use super::{Served, json, object, request, trusted, with};
use crate::store::{split, split_stream, stream, unified};

#[test]
fn anonymous_client_sees_a_public_image_server() {
    let served = Served::new();
    assert_eq!(object(served.get("/")), json!(["/1.0"]));
    let about = object(served.get("/1.0"));
    assert_eq!((&about["auth"], &about["public"]), (&json!("untrusted"), &json!(true)));
    assert!(about.get("environment").is_none(), "a stranger is told nothing of the machine");
    let about = object(served.handler.handle(trusted(request("GET", "/1.0"))));
    assert_eq!((&about["auth"], &about["environment"]["server"]), (&json!("trusted"), &json!("lxd-image")));
}

#[test]
fn private_image_is_indistinguishable_from_a_missing_one() {
    let served = Served::new();
    let public = served.import("public", &["debian/12"], true);
    let private = served.import("private", &["hidden"], false);
    assert_eq!(object(served.get("/1.0/images")), json!([format!("/1.0/images/{}", public.fingerprint)]));
    let listed = object(served.get("/1.0/images?recursion=1"));
    assert_eq!(listed[0]["fingerprint"], json!(public.fingerprint.to_string()));
    assert_eq!(object(served.get("/1.0/images/aliases")), json!(["/1.0/images/aliases/debian%2F12"]));

    let absent = Fingerprint::of(b"nowhere");
    for (there, not_there) in [
        (format!("/1.0/images/{}", private.fingerprint), format!("/1.0/images/{absent}")),
        (format!("/1.0/images/{}/export", private.fingerprint), format!("/1.0/images/{absent}/export")),
        (
            format!("/1.0/images/{}/export?secret=guessed", private.fingerprint),
            format!("/1.0/images/{absent}/export?secret=guessed"),
        ),
        ("/1.0/images/aliases/hidden".to_owned(), "/1.0/images/aliases/nothing".to_owned()),
        (format!("/1.0/images/{}", private.fingerprint.short()), format!("/1.0/images/{}", absent.short())),
    ] {
        let (one, other) = (served.get(&there), served.get(&not_there));
        assert_eq!(one.status, 404, "{there}");
        assert_eq!(one.headers, other.headers, "{there}");
        assert_eq!(json(one), json(other), "{there}");
    }
    let seen = object(served.handler.handle(trusted(request("GET", "/1.0/images?recursion=1"))));
    assert_eq!(seen.as_array().unwrap().len(), 2);
}

#[test]
fn image_is_found_by_four_digits_and_never_by_less_or_by_a_pattern() {
    let served = Served::new();
    let image = served.import("one", &[], true);
    let digits = image.fingerprint.to_string();
    for length in [4, 12, 63, 64] {
        let found = object(served.get(&format!("/1.0/images/{}", &digits[..length])));
        assert_eq!(found["fingerprint"], json!(digits));
    }
    for absent in ["a", "%25", "____", "abc", "%2a%2a%2a%2a", "*", "abcg", &format!("{digits}0")] {
        assert_eq!(served.get(&format!("/1.0/images/{absent}")).status, 404, "{absent}");
    }
    for bad in ["%", "%zz12"] {
        assert_eq!(served.get(&format!("/1.0/images/{bad}")).status, 400, "{bad}");
    }
}

#[test]
fn ambiguous_paths_are_refused() {
    let served = Served::new();
    served.import("one", &["a"], true);
    for path in [
        "/1.0/../etc/passwd",
        "/1.0/images/%2e%2e/x",
        "/1.0//images",
        "//1.0",
        "/1.0/images/aliases/a%00b",
        "/streams/v1/%2e%2e/%2e%2e",
        "/%00",
        "/1.0/images/aliases/%ff",
        "/1.0/images/aliases/%",
    ] {
        let status = served.get(path).status.as_u16();
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    let long = format!("/1.0/images/aliases/{}", "a".repeat(60_000));
    assert_eq!(served.get(&long).status, 400);
    assert_eq!(served.get("/1.0/images?project=other").status, 404);
    assert_eq!(served.get("/1.0/images?project=default").status, 200);
}

#[test]
fn lists_are_filtered_as_the_api_filters() {
    let served = Served::new();
    served.import("one", &["one"], true);
    for (filter, count) in
        [("public%20eq%20true", 1), ("type%20eq%20virtual-machine", 0), ("architecture%20eq%20%22x86_64%22", 1)]
    {
        let found = object(served.get(&format!("/1.0/images?filter={filter}")));
        assert_eq!(found.as_array().unwrap().len(), count, "{filter}");
    }
    assert_eq!(served.get("/1.0/images?filter=public").status, 400);
}

#[test]
fn unified_image_is_exported_whole_by_range_and_as_not_modified() {
    let served = Served::new();
    let image = served.import("bytes", &[], true);
    let bytes = unified("bytes");
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    let whole = served.get(&path);
    assert_eq!(whole.header("content-type"), Some("application/octet-stream"));
    assert!(whole.header("content-disposition").unwrap().starts_with("inline;filename="));
    let etag = whole.header("etag").unwrap().to_owned();
    assert_eq!(whole.body.read_to_end().unwrap(), bytes);

    let part = served.handler.handle(with(request("GET", &path), "range", "bytes=10-19"));
    assert_eq!(
        (part.status.as_u16(), part.header("content-range")),
        (206, Some(&*format!("bytes 10-19/{}", bytes.len())))
    );
    assert_eq!(part.body.read_to_end().unwrap(), bytes[10..20]);
    let beyond = served.handler.handle(with(request("GET", &path), "range", "bytes=99999999-"));
    assert_eq!(
        (beyond.status.as_u16(), beyond.header("content-range")),
        (416, Some(&*format!("bytes */{}", bytes.len())))
    );
    for whole in ["bytes=0-1,4-5", "bytes=x"] {
        let response = served.handler.handle(with(request("GET", &path), "range", whole));
        assert_eq!((response.status.as_u16(), response.body.read_to_end().unwrap().len()), (200, bytes.len()));
    }
    let known = served.handler.handle(with(request("GET", &path), "if-none-match", &etag));
    assert_eq!((known.status.as_u16(), known.body.read_to_end().unwrap().len()), (304, 0));
}

#[test]
fn split_image_is_exported_as_a_form_with_the_metadata_first() {
    let served = Served::new();
    let image = served.store.import(split_stream("two"), &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    let response = served.get(&format!("/1.0/images/{}/export", image.fingerprint));
    let content_type = response.header("content-type").unwrap().to_owned();
    let body = response.body.read_to_end().unwrap();
    let parts = crate::multipart::read(&body, &content_type);
    assert!(parts.iter().all(|(_, file_name, _)| file_name.is_some()));
    let parts: Vec<_> = parts.into_iter().map(|(name, _, bytes)| (name, bytes)).collect();
    let (first, rootfs) = split("two");
    assert_eq!(parts, [("metadata".to_owned(), first), ("rootfs".to_owned(), rootfs)]);
}

#[test]
fn damaged_file_never_reaches_a_client_completely() {
    let served = Served::new();
    let image = served.import("damaged", &[], true);
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    // Once while it is right, so that it is known to be.
    assert!(served.get(&path).body.read_to_end().is_ok());
    let blob = crate::store::blob(&served.root(), &image);
    let mut bytes = fs::read(&blob).unwrap();
    // Behind the first header, by which it is recognised.
    bytes[600] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let mut read = Vec::new();
    let lxd_image::server::Body::Pieces(mut pieces) = served.get(&path).body else { panic!("no pieces") };
    let error = pieces.read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(read.len() < bytes.len(), "all of it was given out");
    // A range that is all of it is no way around.
    let whole = served.handler.handle(with(request("GET", &path), "range", "bytes=0-"));
    assert_eq!((whole.status.as_u16(), whole.body.read_to_end().is_err()), (206, true));
    fs::remove_file(&blob).unwrap();
    assert_eq!(served.get(&path).status, 500);
}

#[test]
fn names_in_headers_are_escaped() {
    let served = Served::new();
    let options = ImportOptions::new().public(true).file_name("a\"; x=\u{e9} b.tar");
    let image = served.store.import(stream(unified("named")), &options, &Monitor::none()).unwrap();
    let response = served.get(&format!("/1.0/images/{}/export", image.fingerprint));
    let disposition = response.header("content-disposition").unwrap();
    assert!(disposition.is_ascii() && !disposition.contains(['"', '\n', '\r']), "{disposition}");
}

#[test]
fn image_and_alias_have_etags() {
    let served = Served::new();
    let image = served.import("tagged", &["tagged"], true);
    for path in [format!("/1.0/images/{}", image.fingerprint), "/1.0/images/aliases/tagged".to_owned()] {
        let etag = served.get(&path).header("etag").unwrap().to_owned();
        assert_eq!(served.handler.handle(with(request("GET", &path), "if-none-match", &etag)).status, 304);
        assert_eq!(served.handler.handle(with(request("GET", &path), "if-none-match", "\"other\"")).status, 200);
    }
    let etag = served.get(&format!("/1.0/images/{}", image.fingerprint)).header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", image.etag()));
}

#[test]
fn unknown_methods_and_anonymous_writes_are_refused() {
    let served = Served::new();
    let image = served.import("kept", &["kept"], true);
    let one = format!("/1.0/images/{}", image.fingerprint);
    for (method, path) in [
        ("DELETE", one.as_str()),
        ("PUT", &one),
        ("PATCH", &one),
        ("POST", "/1.0/images/aliases"),
        ("DELETE", "/1.0/images/aliases/kept"),
        ("POST", &format!("{one}/secret")),
        ("POST", &format!("{one}/refresh")),
        ("GET", "/1.0/operations"),
        ("GET", "/1.0/events"),
        ("POST", "/1.0/images"),
    ] {
        let status = served.handler.handle(request(method, path)).status.as_u16();
        assert!(matches!(status, 403 | 404), "{method} {path}: {status}");
    }
    for (method, path) in [("DELETE", "/1.0"), ("POST", "/"), ("BREW", "/1.0/images"), ("DELETE", "/1.0/images")] {
        let status = served.handler.handle(request(method, path)).status.as_u16();
        assert!(matches!(status, 403 | 405 | 501), "{method} {path}: {status}");
    }
    assert_eq!(served.store.images().unwrap(), [image]);
}
