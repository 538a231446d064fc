//! Uploads in parts: bytes that are kept when a connection breaks, by any server of the store, and imported at the end.

use std::io::{self, Read};
use std::path::Path;

use lxd_image::server::{Client, Handler, Request, Response, ServerOptions};
use lxd_image::store::{CheckOptions, Store, StoreOptions};
use lxd_image::{Fingerprint, Limits, Monitor};
use serde_json::{Value, json};

use super::{Served, body, form, json, object, request, trusted, with};
use crate::store::{Scratch, fingerprint, reads, split, unified};

/// A name as a client chooses one.
const NAME: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const PATH: &str = "/1.0/images/uploads/00000000000000000000000000000000000000000000000000000000000000aa";

/// The path of another upload.
const OTHER: &str = "/1.0/images/uploads/00000000000000000000000000000000000000000000000000000000000000bb";

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// A part of `whole`, from `start` to `end`.
fn part(whole: &[u8], start: usize, end: usize) -> Request {
    let request = trusted(request("PATCH", PATH));
    let range = format!("bytes {start}-{}/{}", end - 1, whole.len());
    body(with(request, "content-range", &range), &whole[start..end])
}

/// The request that makes an image of the parts.
fn finish(kind: &str) -> Request {
    with(with(trusted(request("POST", "/1.0/images")), "content-type", kind), "X-LXD-parts", NAME)
}

/// Imports the parts, and returns the operation when it has ended.
fn imported(handler: &Handler, request: Request) -> Value {
    let response = handler.handle(request);
    assert_eq!(response.status.as_u16(), 202);
    let path = format!("{}/wait", response.header("location").unwrap());
    object(handler.handle(trusted(super::request("GET", &path))))
}

/// The offset that a response names in its header.
fn offset(response: &Response) -> usize {
    response.header("upload-offset").expect("an offset").parse().unwrap()
}

fn append(handler: &Handler, whole: &[u8], start: usize, end: usize) -> u16 {
    handler.handle(part(whole, start, end)).status.as_u16()
}

fn state(handler: &Handler) -> (u16, Value) {
    json(handler.handle(trusted(request("GET", PATH))))
}

/// The number of objects in the blobs of a store, but for the mark of the directory.
fn blobs(store: &Path) -> usize {
    let names = std::fs::read_dir(store.join("blobs")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.len() > 64).count()
}

#[test]
fn unified_image_arrives_in_parts() {
    let served = Served::new();
    let whole = unified("one");
    for (start, end) in [(0, 100), (100, 101), (101, whole.len())] {
        assert_eq!(append(&served.handler, &whole, start, end), 200);
    }
    let request = with(finish("application/octet-stream"), "X-LXD-fingerprint", &fingerprint("one").to_string());
    let operation = imported(&served.handler, request);
    assert_eq!(operation["metadata"]["fingerprint"], json!(fingerprint("one").to_string()));
    assert_eq!(reads(&served.store, &fingerprint("one")), whole);
}

#[test]
fn split_image_arrives_in_parts() {
    let served = Served::new();
    let (metadata, rootfs) = split("two");
    let (kind, whole) = form(&[("metadata", &metadata), ("rootfs", &rootfs)]);
    append(&served.handler, &whole, 0, 300);
    append(&served.handler, &whole, 300, whole.len());
    let operation = imported(&served.handler, finish(&kind));
    let both = Fingerprint::of(&[metadata, rootfs].concat());
    assert_eq!(operation["metadata"]["fingerprint"], json!(both.to_string()));
}

#[test]
fn finished_upload_leaves_no_part() {
    let served = Served::new();
    let whole = unified("one");
    append(&served.handler, &whole, 0, whole.len());
    imported(&served.handler, finish("application/octet-stream"));
    assert_eq!(state(&served.handler).0, 404);
    served.holds(&[&fingerprint("one")]);
    // The image and its sidecar.
    assert_eq!(blobs(&served.root()), 2);
}

#[test]
fn part_that_begins_elsewhere_is_refused_with_the_right_offset() {
    let served = Served::new();
    let whole = unified("one");
    append(&served.handler, &whole, 0, 100);
    for (start, end) in [(0, 100), (50, 150), (101, 200)] {
        let response = served.handler.handle(part(&whole, start, end));
        assert_eq!((response.status.as_u16(), offset(&response)), (409, 100), "{start}");
    }
    assert_eq!(state(&served.handler).1["metadata"]["offset"], json!(100));
}

#[test]
fn bytes_before_the_connection_broke_are_kept() {
    struct Broken(Vec<u8>);
    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let sent = std::mem::take(&mut self.0);
            out[..sent.len()].copy_from_slice(&sent);
            Ok(sent.len())
        }
    }
    let served = Served::new();
    let whole = unified("one");
    let mut first = part(&whole, 0, whole.len());
    first.body = Box::new(Broken(whole[..77].to_vec()));
    assert!(!served.handler.handle(first).status.is_success());
    let response = served.handler.handle(trusted(request("HEAD", PATH)));
    assert_eq!((response.status.as_u16(), offset(&response)), (200, 77));
    assert_eq!(append(&served.handler, &whole, 77, whole.len()), 200);
    imported(&served.handler, finish("application/octet-stream"));
    assert_eq!(reads(&served.store, &fingerprint("one")), whole);
}

#[test]
fn another_server_of_the_store_goes_on() {
    let store = Store::in_memory().unwrap();
    let [one, other] = [(); 2].map(|()| Handler::new(store.clone(), ServerOptions::new()));
    let whole = unified("one");
    append(&one, &whole, 0, 100);
    assert_eq!(append(&other, &whole, 100, whole.len()), 200);
    imported(&one, finish("application/octet-stream"));
    assert_eq!(reads(&store, &fingerprint("one")), whole);
}

#[test]
fn upload_outlives_the_server_that_took_its_parts() {
    let served = Served::new();
    let whole = unified("one");
    append(&served.handler, &whole, 0, 100);
    let root = served.root();
    // As another process would open it, with the sweep of an opening.
    let store = Store::open(&root).unwrap();
    let handler = Handler::new(store.clone(), ServerOptions::new());
    assert_eq!(append(&handler, &whole, 100, whole.len()), 200);
    imported(&handler, finish("application/octet-stream"));
    assert_eq!(reads(&store, &fingerprint("one")), whole);
}

#[test]
fn upload_that_nobody_finishes_is_swept_after_three_days() {
    let scratch = Scratch::new();
    let open = |days: i64| {
        let now = move || 1_800_000_000 + days * 24 * 60 * 60;
        StoreOptions::new().clock(now).open(scratch.join("store")).unwrap()
    };
    let handler = Handler::new(open(0), ServerOptions::new());
    append(&handler, &unified("one"), 0, 100);
    for (days, left) in [(2, 1), (4, 0)] {
        drop(open(days));
        assert_eq!(blobs(&scratch.join("store")), left, "after {days} days");
    }
}

#[test]
fn given_up_upload_leaves_no_part() {
    let served = Served::new();
    append(&served.handler, &unified("one"), 0, 100);
    assert_eq!(blobs(&served.root()), 1);
    assert_eq!(served.ask("DELETE", PATH).status.as_u16(), 200);
    assert_eq!((blobs(&served.root()), state(&served.handler).0), (0, 404));
    assert_eq!(served.ask("DELETE", PATH).status.as_u16(), 404);
}

#[test]
fn wrong_bytes_end_the_upload() {
    let served = Served::new();
    let whole = unified("one");
    append(&served.handler, &whole, 0, whole.len());
    let request = with(finish("application/octet-stream"), "X-LXD-fingerprint", &fingerprint("other").to_string());
    assert_eq!(imported(&served.handler, request)["status"], json!("Failure"));
    assert_eq!(state(&served.handler).0, 404);
    served.holds(&[]);
}

#[test]
fn parts_stay_when_the_import_failed_for_another_reason() {
    let served = Served::new();
    served.import("other", &["taken"], false);
    let whole = unified("one");
    append(&served.handler, &whole, 0, whole.len());
    let request = |alias: &str| with(finish("application/octet-stream"), "X-LXD-aliases", alias);
    assert_eq!(imported(&served.handler, request("taken"))["status"], json!("Failure"));
    assert_eq!(state(&served.handler).0, 200);
    assert_eq!(imported(&served.handler, request("free"))["status"], json!("Success"));
}

#[test]
fn parts_of_an_image_that_is_there_are_removed() {
    let served = Served::new();
    let image = served.import("one", &[], false);
    let whole = unified("one");
    append(&served.handler, &whole, 0, whole.len());
    let request = with(finish("application/octet-stream"), "X-LXD-fingerprint", &image.fingerprint.to_string());
    assert_eq!(imported(&served.handler, request)["status"], json!("Failure"));
    assert_eq!(state(&served.handler).0, 404);
}

#[test]
fn upload_whose_size_the_client_may_not_store_is_not_begun() {
    let limits = limits(|limits| limits.client_stored = 1_000);
    let served = Served::with(ServerOptions::new().limits(limits));
    assert_eq!(append(&served.handler, &unified("one"), 0, 100), 413);
    assert_eq!(blobs(&served.root()), 0);
}

#[test]
fn unfinished_uploads_of_a_client_are_limited() {
    let limits = limits(|limits| limits.client_unfinished = 1);
    let served = Served::with(ServerOptions::new().limits(limits));
    let whole = unified("one");
    assert_eq!(append(&served.handler, &whole, 0, 100), 200);
    let other = || body(with(trusted(request("PATCH", OTHER)), "content-range", "bytes 0-99/*"), &whole[..100]);
    assert_eq!(served.handler.handle(other()).status.as_u16(), 413);
    assert_eq!(served.ask("DELETE", PATH).status.as_u16(), 200);
    assert_eq!(served.handler.handle(other()).status.as_u16(), 200);
}

#[test]
fn part_without_its_note_is_swept_by_a_repair() {
    let served = Served::new();
    append(&served.handler, &unified("one"), 0, 100);
    let root = served.root();
    let Served { handler, store, scratch: _scratch } = served;
    drop((handler, store));
    // A catalog that was rebuilt knows no uploads in parts.
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(root.join(format!("catalog.sqlite{suffix}")));
    }
    let report =
        Store::repair(&root, &StoreOptions::new(), &CheckOptions::new().repair(true), &Monitor::none()).unwrap();
    assert_eq!((report.swept, blobs(&root)), (1, 0), "{:?}", report.findings);
}

#[test]
fn clients_do_not_see_the_uploads_of_others() {
    let served = Served::new();
    append(&served.handler, &unified("one"), 0, 100);
    let mut request = request("GET", PATH);
    request.client = Client::Trusted(Fingerprint::of(b"another certificate"));
    assert_eq!(served.handler.handle(request).status.as_u16(), 404);
}

#[test]
fn client_without_trust_finishes_no_upload() {
    let served = Served::new();
    let whole = unified("one");
    append(&served.handler, &whole, 0, whole.len());
    let asked = json!({"source": {"type": "image", "mode": "push"}});
    let token = object(served.send("POST", "/1.0/images", &asked));
    let secret = token["metadata"]["secret"].as_str().unwrap();
    let mut request = with(finish("application/octet-stream"), "X-LXD-secret", secret);
    request.client = Client::Untrusted;
    assert_eq!(served.handler.handle(request).status.as_u16(), 403);
    served.holds(&[]);
}

#[test]
fn malformed_parts_are_refused() {
    let served = Served::new();
    let whole = unified("one");
    for range in ["", "bytes 0-9", "bytes 9-0/*", "bytes 0-9/5", "bytes -9/*", "bytes 0-98/*", "items 0-99/*"] {
        let request = body(with(trusted(request("PATCH", PATH)), "content-range", range), &whole[..100]);
        let request = with(request, "content-length", "100");
        assert_eq!(served.handler.handle(request).status.as_u16(), 400, "{range}");
    }
    for name in ["..", "%2e%2e%2fimages.db", "x", &"0".repeat(63)] {
        let path = format!("/1.0/images/uploads/{name}");
        let request = with(trusted(request("PATCH", &path)), "content-range", "bytes 0-99/*");
        let status = served.handler.handle(body(request, &whole[..100])).status.as_u16();
        assert!(matches!(status, 400 | 404), "{name}: {status}");
    }
    assert_eq!(blobs(&served.root()), 0);
}

#[test]
fn upload_with_a_body_besides_its_parts_is_refused() {
    let served = Served::new();
    let whole = unified("one");
    append(&served.handler, &whole, 0, whole.len());
    let request = with(body(finish("application/octet-stream"), &*whole), "content-length", &whole.len().to_string());
    assert_eq!(served.handler.handle(request).status.as_u16(), 400);
    assert_eq!(state(&served.handler).0, 200);
}

#[test]
fn unknown_upload_is_not_found_at_its_end() {
    let served = Served::new();
    assert_eq!(served.handler.handle(finish("application/octet-stream")).status.as_u16(), 404);
}

#[test]
fn parts_are_bounded_as_a_whole_upload_is() {
    let whole = unified("one");
    let limits = limits(|limits| limits.upload = 1_000);
    let served = Served::with(ServerOptions::new().limits(limits));
    assert_eq!(append(&served.handler, &whole, 0, 100), 413, "the whole is too long");
    assert_eq!(append(&served.handler, &whole[..1_000], 0, 600), 200);
    assert_eq!(append(&served.handler, &whole[..1_500], 600, 1_100), 413);
    assert_eq!(append(&served.handler, &whole[..1_000], 600, 1_000), 200);
}

#[test]
fn parts_count_as_stored_by_their_client() {
    let whole = unified("one");
    let limits = limits(|limits| limits.client_stored = 1_000);
    let served = Served::with(ServerOptions::new().limits(limits));
    assert_eq!(append(&served.handler, &whole[..900], 0, 900), 200);
    let other = || body(with(trusted(request("PATCH", OTHER)), "content-range", "bytes 0-199/*"), &whole[..200]);
    assert_eq!(served.handler.handle(other()).status.as_u16(), 413);
    assert_eq!(served.ask("DELETE", PATH).status.as_u16(), 200);
    assert_eq!(served.handler.handle(other()).status.as_u16(), 200);
}

#[test]
fn parts_whose_statements_are_missing_still_count() {
    let whole = unified("one");
    let limits = limits(|limits| limits.client_unfinished = 1);
    let served = Served::with(ServerOptions::new().limits(limits));
    assert_eq!(append(&served.handler, &whole, 0, whole.len()), 200);
    let request = with(finish("application/octet-stream"), "X-LXD-statements", &NAME.replace("aa", "cc"));
    assert_eq!(served.handler.handle(request).status.as_u16(), 404);
    let other = body(with(trusted(super::request("PATCH", OTHER)), "content-range", "bytes 0-99/*"), &whole[..100]);
    assert_eq!(served.handler.handle(other).status.as_u16(), 413);
}

#[test]
fn import_of_parts_counts_as_an_upload() {
    let whole = unified("one");
    let limits = limits(|limits| limits.client_uploads = 1);
    let served = Served::with(ServerOptions::new().limits(limits));
    for status in [202, 429] {
        for (start, end) in [(0, 100), (100, whole.len())] {
            assert_eq!(append(&served.handler, &whole, start, end), 200);
        }
        let response = served.handler.handle(finish("application/octet-stream"));
        assert_eq!(response.status.as_u16(), status);
        if let Some(location) = response.header("location") {
            served.ask("GET", &format!("{location}/wait"));
        }
    }
}

#[test]
fn number_of_parts_is_limited() {
    let whole = unified("one");
    let limits = limits(|limits| limits.upload_parts = 2);
    let served = Served::with(ServerOptions::new().limits(limits));
    for (start, status) in [(0, 200), (1, 200), (2, 413)] {
        assert_eq!(append(&served.handler, &whole, start, start + 1), status);
    }
    assert_eq!(state(&served.handler).1["metadata"]["offset"], json!(2));
}
