//! Quotas of clients that upload: what each is refused with, when it may try again, and what does not count.

use std::net::IpAddr;

use lxd_image::Limits;
use lxd_image::server::{Client, Handler, Request, Response, ServerOptions};
use lxd_image::{Fingerprint, Monitor};
use serde_json::json;

use crate::server::{Served, body, json, object, request, trusted, with};
use crate::store::{Clock, NOW, Scratch, fingerprint, unified};

fn upload(tag: &str) -> Request {
    body(trusted(request("POST", "/1.0/images")), unified(tag))
}

fn from_another(mut request: Request) -> Request {
    request.client = Client::Trusted(Fingerprint::of(b"another certificate"));
    request
}

fn served(change: impl Fn(&mut Limits)) -> Served {
    let mut limits = Limits::default();
    change(&mut limits);
    Served::with(ServerOptions::new().limits(limits))
}

fn status(response: &Response) -> u16 {
    response.status.as_u16()
}

#[test]
fn client_over_the_rate_is_told_when_to_try_again_and_may_then() {
    let (scratch, clock) = (Scratch::new(), Clock::new());
    let store = clock.options().open(scratch.join("store")).unwrap();
    let mut limits = Limits::default();
    limits.client_uploads = 2;
    let handler = Handler::new(store, ServerOptions::new().limits(limits));
    assert_eq!(status(&handler.handle(upload("one"))), 202);
    clock.set(NOW + 600);
    assert_eq!(status(&handler.handle(upload("two"))), 202);
    let refused = handler.handle(upload("three"));
    assert_eq!((status(&refused), refused.header("retry-after")), (429, Some("3000")));
    let (_, envelope) = json(refused);
    assert_eq!((&envelope["type"], &envelope["error_code"]), (&json!("error"), &json!(429)));
    assert!(envelope["error"].as_str().unwrap().contains("client_uploads"), "{envelope}");
    // Another client, and reads of this one, are not concerned.
    assert_eq!(status(&handler.handle(from_another(upload("three")))), 202);
    assert_eq!(status(&handler.handle(trusted(request("GET", "/1.0/images")))), 200);
    clock.set(NOW + 3_600);
    assert_eq!(status(&handler.handle(upload("four"))), 202);
}

#[test]
fn import_by_source_counts_as_an_upload() {
    use crate::server::pulling::Elsewhere;
    let mut limits = Limits::default();
    limits.client_uploads = 1;
    let options = ServerOptions::new().limits(limits).image_transfer(Elsewhere::with(&[("box", "one")]));
    let served = Served::with(options);
    let source = json!({"source": {"type": "image", "mode": "pull", "server": "https://elsewhere", "alias": "box"}});
    served.finished(served.send("POST", "/1.0/images", &source));
    assert_eq!(status(&served.send("POST", "/1.0/images", &source)), 429);
}

#[test]
fn deleted_images_count_no_more() {
    let size = unified("one").len() as u64;
    let served = served(|limits| limits.client_stored = size + 100);
    assert_eq!(status(&served.handler.handle(upload("one"))), 202);
    let (code, envelope) = json(served.handler.handle(with(upload("two"), "content-length", &size.to_string())));
    assert_eq!(code, 413, "{envelope}");
    assert!(envelope["error"].as_str().unwrap().contains("client_stored"), "{envelope}");
    assert_eq!(status(&served.handler.handle(from_another(upload("two")))), 202);
    served.store.delete(&fingerprint("one")).unwrap();
    assert_eq!(status(&served.handler.handle(upload("three"))), 202);
}

#[test]
fn failed_uploads_give_their_bytes_back() {
    let served = served(|limits| limits.client_stored = 4096);
    for _ in 0..3 {
        let wrong = with(upload("one"), "X-LXD-fingerprint", &fingerprint("other").to_string());
        assert_eq!(status(&served.handler.handle(wrong)), 400);
    }
    assert_eq!(status(&served.handler.handle(upload("one"))), 202);
}

#[test]
fn clients_with_tokens_are_told_apart_by_their_networks() {
    let served = served(|limits| limits.client_uploads = 2);
    let send = |tag: &str, address: &str| {
        let token = json!({"source": {"type": "image", "mode": "push"}});
        let token = object(served.send("POST", "/1.0/images", &token));
        let secret = token["metadata"]["secret"].as_str().unwrap().to_owned();
        let mut upload = with(body(request("POST", "/1.0/images"), unified(tag)), "X-LXD-secret", &secret);
        upload.peer = Some(address.parse::<IpAddr>().unwrap());
        status(&served.handler.handle(upload))
    };
    assert_eq!(send("one", "2001:db8::1"), 202);
    assert_eq!(send("two", "2001:db8::2"), 202);
    assert_eq!(send("three", "2001:db8:0:0:ffff::3"), 429);
    assert_eq!(send("four", "2001:db8:1::1"), 202);
    assert_eq!(send("five", "10.0.0.1"), 202);
}

#[test]
fn store_that_is_full_by_its_limit_takes_no_upload_and_serves_on() {
    let served = served(|limits| limits.stored = 1);
    let image = served.import("here", &["here"], true);
    let (code, envelope) = json(served.handler.handle(upload("one")));
    assert_eq!(code, 413, "{envelope}");
    assert_eq!(status(&served.get(&format!("/1.0/images/{}", image.fingerprint))), 200);
}

/// Another server of the same store, as after a restart.
fn restarted(served: &Served, client_stored: u64) -> Handler {
    let mut limits = Limits::default();
    limits.client_stored = client_stored;
    let store = lxd_image::store::Store::open(served.root()).unwrap();
    Handler::new(store, ServerOptions::new().limits(limits))
}

#[test]
fn stored_images_count_after_a_restart_and_at_other_servers_of_the_store() {
    let size = unified("one").len() as u64;
    let served = served(|_| {});
    assert_eq!(status(&served.handler.handle(upload("one"))), 202);
    let again = restarted(&served, size + 100);
    let full = with(upload("two"), "content-length", &size.to_string());
    let (code, envelope) = json(again.handle(full));
    assert!(code == 413 && envelope["error"].as_str().unwrap().contains("client_stored"), "{envelope}");
    // The first server is told of what the second one stores.
    assert_eq!(status(&again.handle(from_another(upload("two")))), 202);
    served.store.delete(&fingerprint("one")).unwrap();
    assert_eq!(status(&again.handle(upload("three"))), 202);
}

#[test]
fn image_that_was_there_before_counts_for_nobody_else() {
    let size = unified("one").len() as u64;
    let served = served(|limits| limits.client_stored = size + 100);
    assert_eq!(status(&served.handler.handle(upload("one"))), 202);
    let again = served.handler.handle(from_another(upload("one")));
    assert_eq!(json(again).1["metadata"]["status_code"], 400, "the image exists");
    assert_eq!(status(&served.handler.handle(from_another(upload("two")))), 202);
}

#[test]
fn image_of_a_refresh_counts_for_the_client_of_the_old_one() {
    use lxd_image::store::{ImportOptions, UpdateSource};
    let served = served(|_| {});
    assert_eq!(status(&served.handler.handle(upload("one"))), 202);
    let follows = ImportOptions::new().auto_update(true).source(UpdateSource::new("https://elsewhere", "lxd", "box"));
    served.store.adopt(&fingerprint("one"), &follows, &Monitor::none()).unwrap();
    served
        .store
        .refresh(&fingerprint("one"), &Newer, &lxd_image::store::RefreshOptions::new(), &Monitor::none())
        .unwrap();
    assert!(served.store.image(&fingerprint("two")).is_ok());
    let again = restarted(&served, unified("two").len() as u64);
    assert_eq!(status(&again.handle(upload("three"))), 413);
    assert_eq!(status(&again.handle(from_another(upload("three")))), 202);
}

#[test]
fn newer_image_over_what_is_left_is_not_stored() {
    use lxd_image::store::{ImportOptions, RefreshOptions, UpdateSource};
    let served = served(|_| {});
    let follows = ImportOptions::new().auto_update(true).source(UpdateSource::new("https://elsewhere", "lxd", "box"));
    served.store.import(crate::store::stream(unified("one")), &follows, &Monitor::none()).unwrap();
    let options = RefreshOptions::new().max_bytes(unified("two").len() as u64 - 1);
    let error = served.store.refresh(&fingerprint("one"), &Newer, &options, &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), lxd_image::ErrorKind::LimitExceeded);
    assert!(served.store.image(&fingerprint("one")).is_ok() && served.store.image(&fingerprint("two")).is_err());
}

/// A source whose newest image is `two`.
struct Newer;

impl lxd_image::store::RefreshSource for Newer {
    fn newest(
        &self,
        _: &lxd_image::store::StoredImage,
        _: &lxd_image::store::UpdateSource,
        _: &Monitor,
    ) -> lxd_image::Result<lxd_image::store::Newest> {
        Ok(lxd_image::store::Newest::new(fingerprint("two")))
    }

    fn fetch(
        &self,
        _: &lxd_image::store::StoredImage,
        _: &lxd_image::store::UpdateSource,
        _: &lxd_image::store::Newest,
        _: &lxd_image::Monitor,
    ) -> lxd_image::Result<lxd_image::format::ImageSource> {
        Ok(crate::store::stream(unified("two")))
    }
}

#[test]
fn owner_is_known_after_the_catalog_was_rebuilt() {
    let size = unified("one").len() as u64;
    let served = served(|_| {});
    assert_eq!(status(&served.handler.handle(upload("one"))), 202);
    let root = served.root();
    drop(served.handler);
    drop(served.store);
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = std::fs::remove_file(root.join(name));
    }
    let (options, how) = (lxd_image::store::StoreOptions::new(), lxd_image::store::CheckOptions::new());
    lxd_image::store::Store::repair(&root, &options, &how, &Monitor::none()).unwrap();
    let store = lxd_image::store::Store::open(&root).unwrap();
    let mut limits = Limits::default();
    limits.client_stored = size + 100;
    let handler = Handler::new(store, ServerOptions::new().limits(limits));
    assert_eq!(status(&handler.handle(with(upload("two"), "content-length", &size.to_string()))), 413);
}
