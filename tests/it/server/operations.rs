//! Operations as clients follow them, and the events that tell of them.
//! Strangers see neither.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use lxd_image::server::{Body, Response};
use serde_json::{Value, json};

use super::{Served, body, json, object, request, trusted};
use crate::store::unified;

fn events(response: Response) -> impl FnMut() -> Vec<Value> {
    let Body::Events(mut receiver) = response.body else { panic!("no events") };
    move || std::iter::from_fn(|| receiver.try_recv().ok()).map(|text| serde_json::from_str(&text).unwrap()).collect()
}

#[test]
fn operations_are_listed_by_status_and_found_by_id() {
    let served = Served::new();
    assert_eq!(object(served.ask("GET", "/1.0/operations")), json!({}));
    let image = served.import("one", &[], false);
    served.finished(served.ask("DELETE", &format!("/1.0/images/{}", image.fingerprint)));
    let token = served.send("POST", "/1.0/images", &json!({"source": {"type": "image", "mode": "push"}}));
    let token = token.header("location").unwrap().to_owned();
    let listed = object(served.ask("GET", "/1.0/operations"));
    assert_eq!(listed["running"], json!([token]));
    let done = listed["success"][0].as_str().unwrap();
    assert_eq!(
        object(served.ask("GET", done))["resources"],
        json!({"images": [format!("/1.0/images/{}", image.fingerprint)]})
    );
    let objects = object(served.ask("GET", "/1.0/operations?recursion=1"));
    assert_eq!(objects["success"][0]["description"], json!("Deleting image"));
    for (key, value) in
        [("class", json!("task")), ("may_cancel", json!(false)), ("err", json!("")), ("location", json!("none"))]
    {
        assert_eq!(objects["success"][0][key], value, "{key}");
    }
    for (method, path, expected) in [
        ("GET", "/1.0/operations/absent".to_owned(), 404),
        ("GET", "/1.0/operations/absent/wait".to_owned(), 404),
        ("DELETE", "/1.0/operations/absent".to_owned(), 404),
        ("DELETE", done.to_owned(), 400),
        ("PUT", done.to_owned(), 405),
        ("POST", "/1.0/operations".to_owned(), 405),
        ("POST", format!("{done}/wait"), 405),
        ("GET", format!("{done}/websocket"), 404),
        ("GET", format!("{done}/wait?timeout=soon"), 400),
    ] {
        assert_eq!(json(served.ask(method, &path)).0, expected, "{method} {path}");
    }
}

#[test]
fn wait_for_operation_ends_at_its_timeout_and_at_shutdown() {
    let served = Served::new();
    let token = served.send("POST", "/1.0/images", &json!({"source": {"type": "image", "mode": "push"}}));
    let location = token.header("location").unwrap().to_owned();
    let began = Instant::now();
    let told = object(served.ask("GET", &format!("{location}/wait?timeout=1")));
    assert_eq!(told["status_code"], json!(103));
    assert!((900..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(object(served.ask("GET", &format!("{location}/wait?timeout=0")))["status_code"], json!(103));
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let (served, location) = (&served, &location);
        let waiter = scope.spawn(move || {
            ready.send(()).unwrap();
            object(served.ask("GET", &format!("{location}/wait?timeout=-1")))
        });
        is_ready.recv().unwrap();
        served.handler.stop();
        assert_eq!(waiter.join().unwrap()["status_code"], json!(103));
    });
    let refused = served.handler.handle(body(trusted(request("POST", "/1.0/images")), unified("late")));
    assert_eq!(json(refused).0, 503);
}

#[test]
fn listeners_receive_operation_and_lifecycle_events() {
    let served = Served::new();
    let mut all = events(served.ask("GET", "/1.0/events"));
    let mut lifecycle = events(served.ask("GET", "/1.0/events?type=lifecycle,logging"));
    let mut operations = events(served.ask("GET", "/1.0/events?type=operation&all-projects=true"));
    let operation =
        served.finished(served.handler.handle(body(trusted(request("POST", "/1.0/images")), unified("one"))));
    let told = operations();
    assert!(told.iter().all(|event| event["type"] == json!("operation") && event["metadata"]["id"] == operation["id"]));
    let codes: Vec<_> = told.iter().map(|event| event["metadata"]["status_code"].as_u64().unwrap()).collect();
    assert_eq!((codes.first(), codes.last()), (Some(&103), Some(&200)));
    let path = operation["resources"]["images"][0].as_str().unwrap().to_owned();
    object(served.send("PATCH", &path, &json!({"public": true})));
    let target = operation["metadata"]["fingerprint"].clone();
    served.send("POST", "/1.0/images/aliases", &json!({"name": "a", "target": target}));
    object(served.send("PATCH", "/1.0/images/aliases/a", &json!({"description": "d"})));
    served.send("POST", "/1.0/images/aliases/a", &json!({"name": "b"}));
    object(served.ask("DELETE", "/1.0/images/aliases/b"));
    served.finished(served.ask("DELETE", &path));
    let told = lifecycle();
    let actions: Vec<_> = told.iter().map(|event| event["metadata"]["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "image-created",
            "image-updated",
            "image-alias-created",
            "image-alias-updated",
            "image-alias-renamed",
            "image-alias-deleted",
            "image-deleted"
        ]
    );
    assert_eq!(told[0]["metadata"]["source"], json!(path));
    assert_eq!((&told[0]["project"], &told[0]["location"]), (&json!("default"), &json!("none")));
    assert_eq!(told[0]["metadata"]["requestor"]["protocol"], json!("tls"));
    assert!(all().len() > told.len());
    assert_eq!(json(served.ask("GET", "/1.0/events?type=everything")).0, 400);
}

#[test]
fn operations_and_events_are_refused_to_anonymous_clients() {
    let served = Served::new();
    let image = served.import("private", &[], false);
    let mut trusted = events(served.ask("GET", "/1.0/events"));
    let secret = served.ask("POST", &format!("/1.0/images/{}/secret", image.fingerprint));
    let location = secret.header("location").unwrap().to_owned();
    assert!(!trusted().is_empty());
    let absent = "/1.0/operations/00000000-0000-4000-8000-000000000000";
    for below in ["", "/wait?timeout=1", "?secret=", "?secret=wrong", "/websocket"] {
        let answers = [&*location, absent].map(|path| json(served.get(&format!("{path}{below}"))));
        assert_eq!(answers[0].0, 403, "{below}");
        assert_eq!(answers[0], answers[1], "{below}");
    }
    assert_eq!(json(served.handler.handle(request("DELETE", &location))).0, 403);
    assert_eq!((served.get("/1.0/operations").status.as_u16(), served.get("/1.0/events").status.as_u16()), (403, 403));
    assert_eq!(object(served.ask("GET", &location))["status_code"], json!(103));
}
