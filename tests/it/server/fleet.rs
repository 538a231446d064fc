//! Two servers of one store whose catalog is shared: whatever one began, the other one answers for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use lxd_image::server::{Body, Handler, Response, ServerOptions};
use lxd_image::store::{ImportOptions, Store};
use serde_json::{Value, json};

use super::pulling::Elsewhere;
use super::{body, json, object, request, sent, trusted, with};
use crate::store::{fingerprint, stream, unified};
use lxd_image::Monitor;

/// The time in which one server hears of another one.
const SOON: Duration = Duration::from_secs(20);

struct Two {
    store: Store,
    one: Handler,
    other: Handler,
}

impl Two {
    fn new() -> Self {
        Self::with(&ServerOptions::new())
    }

    fn with(options: &ServerOptions) -> Self {
        let store = Store::in_memory().unwrap();
        let handler = || Handler::new(store.clone(), options.clone());
        Self { one: handler(), other: handler(), store }
    }
}

fn ask(handler: &Handler, method: &str, path: &str) -> Response {
    handler.handle(trusted(request(method, path)))
}

/// The location of the operation that a response began, and its secret.
fn began(response: Response) -> (String, String) {
    let location = response.header("location").unwrap().to_owned();
    let (status, envelope) = json(response);
    assert_eq!(status, 202, "{envelope}");
    (location, envelope["metadata"]["metadata"]["secret"].as_str().unwrap_or_default().to_owned())
}

fn upload_token(handler: &Handler) -> (String, String) {
    let asked = json!({"source": {"type": "image", "mode": "push", "fingerprint": fingerprint("pushed").to_string()}});
    began(handler.handle(sent("POST", "/1.0/images", &asked)))
}

/// Asks until the answer is as wanted.
#[track_caller]
fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "the other server did not hear of it");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn download_token_of_one_server_opens_at_another() {
    let two = Two::new();
    let image = two.store.import(stream(unified("private")), &ImportOptions::new(), &Monitor::none()).unwrap();
    let path = format!("/1.0/images/{}", image.fingerprint);
    let (operation, secret) = began(ask(&two.one, "POST", &format!("{path}/secret")));
    let get = |secret: &str| two.other.handle(request("GET", &format!("{path}?secret={secret}"))).status;
    assert_eq!((get("wrong"), get(&secret)), (http::StatusCode::NOT_FOUND, http::StatusCode::OK));
    until(|| object(ask(&two.one, "GET", &operation))["status_code"] == json!(200));
}

#[test]
fn token_that_is_revoked_at_another_server_opens_nothing() {
    let two = Two::new();
    let image = two.store.import(stream(unified("private")), &ImportOptions::new(), &Monitor::none()).unwrap();
    let path = format!("/1.0/images/{}", image.fingerprint);
    let (operation, secret) = began(ask(&two.one, "POST", &format!("{path}/secret")));
    object(ask(&two.other, "DELETE", &operation));
    for handler in [&two.one, &two.other] {
        assert_eq!(handler.handle(request("GET", &format!("{path}?secret={secret}"))).status, 404);
    }
    until(|| object(ask(&two.one, "GET", &operation))["status_code"] == json!(401));
}

#[test]
fn upload_token_is_used_once_by_all_servers() {
    let two = Two::new();
    let (_, secret) = upload_token(&two.one);
    let upload = |handler: &Handler| {
        handler.handle(with(body(request("POST", "/1.0/images"), unified("pushed")), "X-LXD-secret", &secret))
    };
    let (status, envelope) = json(upload(&two.other));
    assert_eq!((status, &envelope["metadata"]["status_code"]), (202, &json!(200)), "{envelope}");
    assert_eq!(upload(&two.one).status, 403);
}

#[test]
fn secret_of_an_upload_follows_its_operation_at_another_server() {
    let two = Two::new();
    let (_, secret) = upload_token(&two.one);
    let upload = with(body(request("POST", "/1.0/images"), unified("pushed")), "X-LXD-secret", &secret);
    let (operation, _) = began(two.one.handle(upload));
    let wait = |secret: &str| two.other.handle(request("GET", &format!("{operation}/wait?secret={secret}")));
    assert_eq!(object(wait(&secret))["status_code"], json!(200));
    assert_eq!(wait("wrong").status, 403);
}

#[test]
fn operation_is_found_listed_and_awaited_at_another_server() {
    let two = Two::new();
    let image = two.store.import(stream(unified("one")), &ImportOptions::new(), &Monitor::none()).unwrap();
    let (operation, _) = began(ask(&two.one, "DELETE", &format!("/1.0/images/{}", image.fingerprint)));
    let ended = object(ask(&two.other, "GET", &format!("{operation}/wait?timeout=20")));
    assert_eq!((&ended["status_code"], &ended["description"]), (&json!(200), &json!("Deleting image")));
    assert_eq!(object(ask(&two.other, "GET", "/1.0/operations"))["success"], json!([operation]));
    assert_eq!(ask(&two.other, "DELETE", &operation).status, 400);
}

#[test]
fn secret_of_a_token_is_not_shown_by_another_server() {
    let two = Two::new();
    let (operation, secret) = upload_token(&two.one);
    let shown = object(ask(&two.other, "GET", &operation));
    assert_eq!(shown["status_code"], json!(103));
    assert!(!shown.to_string().contains(&secret));
}

#[test]
fn events_of_one_server_are_heard_at_another() {
    let two = Two::new();
    // What happened before a client listens is no news to it.
    thread::sleep(Duration::from_millis(700));
    let Body::Events(mut heard) = ask(&two.other, "GET", "/1.0/events").body else { panic!("no events") };
    let upload = trusted(body(request("POST", "/1.0/images"), unified("one")));
    began(two.one.handle(upload));
    let mut kinds = Vec::<String>::new();
    until(|| {
        while let Ok(text) = heard.try_recv() {
            let event: Value = serde_json::from_str(&text).unwrap();
            let action = event["metadata"]["action"].as_str().or_else(|| event["metadata"]["status"].as_str());
            kinds.push(action.unwrap_or_default().to_owned());
        }
        ["image-created", "Success"].iter().all(|wanted| kinds.iter().any(|kind| kind == wanted))
    });
}

#[test]
fn image_of_the_upstream_is_fetched_by_one_server() {
    let elsewhere = Elsewhere::with(&[("debian/12", "debian")]);
    let two = Two::with(&ServerOptions::new().image_transfer(Arc::clone(&elsewhere) as _));
    let path = format!("/1.0/images/{}/export", fingerprint("debian"));
    thread::scope(|scope| {
        for handler in [&two.one, &two.other] {
            let path = &path;
            scope.spawn(move || assert_eq!(handler.handle(request("GET", path)).status, 200));
        }
    });
    assert_eq!(elsewhere.fetched.load(Ordering::SeqCst), 1);
}

#[test]
fn server_with_a_catalog_of_its_own_shares_nothing() {
    let served = super::Served::new();
    let other = Handler::new(served.store.clone(), ServerOptions::new());
    let (operation, _) = upload_token(&served.handler);
    assert_eq!(ask(&other, "GET", &operation).status, 404);
}
