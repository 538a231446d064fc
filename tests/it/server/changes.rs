//! Images that trusted clients change: edited on condition of what was read, deleted, refreshed, and what strangers may not.
//! What a request holds is checked before anything changes.

use serde_json::{Value, json};

use super::{Served, body, json, object, request, sent, trusted, with};

#[test]
fn put_replaces_and_patch_adds() {
    let served = Served::new();
    let image = served.import("one", &["one"], false);
    let path = format!("/1.0/images/{}", image.fingerprint);
    let change = json!({"public": true, "auto_update": false, "expires_at": "2030-01-02T03:04:05Z", "properties": {"os": "Devuan", "new": ""}, "profiles": ["default"]});
    assert_eq!(object(served.send("PUT", &path, &change)), json!({}));
    let edited = object(served.ask("GET", &path));
    assert_eq!(edited["properties"], json!({"os": "Devuan", "new": ""}));
    assert_eq!((&edited["public"], &edited["expires_at"]), (&json!(true), &json!("2030-01-02T03:04:05Z")));
    assert_eq!(object(served.send("PATCH", &path, &json!({"properties": {"more": "yes"}}))), json!({}));
    let edited = object(served.ask("GET", &path));
    assert_eq!(edited["properties"], json!({"os": "Devuan", "new": "", "more": "yes"}));
    assert_eq!(edited["public"], json!(true));
    object(served.send("PATCH", &path, &json!({})));
    assert_eq!(object(served.ask("GET", &path)), edited);
    // The year 1 is how programs in Go leave a time out.
    object(served.send("PUT", &path, &json!({"expires_at": "0001-01-01T00:00:00Z"})));
    let edited = object(served.ask("GET", &path));
    assert_eq!((&edited["public"], &edited["properties"]), (&json!(false), &json!({})));
    assert_eq!(edited["expires_at"], json!("2030-01-02T03:04:05Z"));
    object(served.send("PATCH", &path, &json!({"expires_at": "1970-01-01T00:00:00Z"})));
    assert_eq!(object(served.ask("GET", &path))["expires_at"], json!("0001-01-01T00:00:00Z"));
    assert_eq!(edited["aliases"], json!([{"name": "one", "description": ""}]));
}

#[test]
fn edit_with_an_outdated_etag_is_refused() {
    let served = Served::new();
    let image = served.import("one", &[], false);
    let path = format!("/1.0/images/{}", image.fingerprint);
    let etag = served.ask("GET", &path).header("etag").unwrap().to_owned();
    let edit = |tag: &str, properties: Value| {
        let request = with(sent("PUT", &path, &json!({"properties": properties})), "if-match", tag);
        json(served.handler.handle(request)).0
    };
    assert_eq!(edit("\"other\"", json!({"a": "0"})), 412);
    assert_eq!(edit(&etag, json!({"a": "1"})), 200);
    assert_eq!(edit(&etag, json!({"a": "2"})), 412);
    assert_eq!(edit("*", json!({"a": "3"})), 200);
    assert_eq!(object(served.ask("GET", &path))["properties"], json!({"a": "3"}));
    // As LXD's clients send it: the tag alone.
    let etag = served.ask("GET", &path).header("etag").unwrap().trim_matches('"').to_owned();
    assert_eq!(edit(&format!("x, {etag}"), json!({"a": "4"})), 200);
    let mut no_text = sent("PUT", &path, &json!({}));
    no_text.headers.insert("if-match", http::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    assert_eq!(json(served.handler.handle(no_text)).0, 412, "what is no tag is not the same as no tag");
    let gone = with(trusted(request("DELETE", &path)), "if-match", &etag);
    assert_eq!(json(served.handler.handle(gone)).0, 412);
    served.holds(&[&image.fingerprint]);
}

#[test]
fn invalid_edit_changes_nothing() {
    let mut limits = lxd_image::Limits::default();
    limits.request = 10_000;
    let served = Served::with(lxd_image::server::ServerOptions::new().limits(limits));
    let image = served.import("one", &["one"], false);
    let path = format!("/1.0/images/{}", image.fingerprint);
    let deep = format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000));
    for (text, expected) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("null", 400),
        ("{\"public\": 1}", 400),
        ("{\"public\": true, \"public\": false}", 400),
        ("{\"properties\": {\"a\": \"1\", \"a\": \"2\"}}", 400),
        ("{\"properties\": {\"a\": 1}}", 400),
        ("{\"properties\": {\"a\\u0000\": \"\"}}", 400),
        ("{\"properties\": []}", 400),
        ("{\"expires_at\": \"tomorrow\"}", 400),
        ("{\"public\": true} trailing", 400),
        (&deep, 400),
        (&format!("{{\"x\": {deep}}}"), 400),
        (&format!("{{\"x\": \"{}\"}}", "y".repeat(10_000)), 413),
    ] {
        for method in ["PUT", "PATCH"] {
            let request = body(with(trusted(request(method, &path)), "content-type", "application/json"), text);
            let (status, envelope) = json(served.handler.handle(request));
            assert_eq!(status, expected, "{method} {}: {envelope}", &text[..text.len().min(60)]);
        }
    }
    let announced = with(sent("PUT", &path, &json!({})), "content-length", "10001");
    assert_eq!(json(served.handler.handle(announced)).0, 413);
    assert_eq!(served.store.images().unwrap(), [image]);
}

#[test]
fn image_is_edited_by_fingerprint_prefix() {
    let served = Served::new();
    let image = served.import("one", &[], false);
    let short = image.fingerprint.short();
    object(served.send("PATCH", &format!("/1.0/images/{short}"), &json!({"public": true})));
    assert!(served.store.image(&image.fingerprint).unwrap().public);
    for (method, path) in
        [("PATCH", "/1.0/images/abcd"), ("DELETE", "/1.0/images/abcd"), ("PUT", "/1.0/images/abcdabcdabcd")]
    {
        assert_eq!(json(served.send(method, path, &json!({}))).0, 404, "{method} {path}");
    }
    assert_eq!(json(served.send("PATCH", "/1.0/images/abc", &json!({}))).0, 404);
    let operation = served.finished(served.ask("DELETE", &format!("/1.0/images/{short}")));
    assert_eq!(operation["status_code"], json!(200));
    assert_eq!(json(served.ask("DELETE", &format!("/1.0/images/{short}"))).0, 404);
    served.holds(&[]);
}

#[test]
fn server_without_image_transfer_refuses_import_refresh_and_push() {
    let served = Served::new();
    let image = served.import("one", &[], true);
    let path = format!("/1.0/images/{}", image.fingerprint);
    assert_eq!(json(served.ask("POST", &format!("{path}/refresh"))).0, 501);
    assert_eq!(
        json(served.send("POST", &format!("{path}/export"), &json!({"target": "https://x", "secret": "s"}))).0,
        501
    );
    for incomplete in [json!({}), json!({"target": "https://x"}), json!({"secret": "s"})] {
        assert_eq!(json(served.send("POST", &format!("{path}/export"), &incomplete)).0, 400, "{incomplete}");
    }
    let pull = json!({"source": {"type": "image", "server": "https://x", "alias": "a"}});
    assert_eq!(json(served.send("POST", "/1.0/images", &pull)).0, 501);
    assert_eq!(json(served.ask("POST", &format!("{path}/other"))).0, 404);
    for (method, action) in [("PUT", "refresh"), ("DELETE", "secret"), ("PATCH", "export")] {
        assert_eq!(json(served.ask(method, &format!("{path}/{action}"))).0, 405, "{method} {action}");
    }
    assert_eq!(served.store.images().unwrap(), [image]);
}

#[test]
fn anonymous_write_gets_the_same_response_for_every_image() {
    let served = Served::new();
    let public = served.import("public", &[], true);
    let private = served.import("private", &[], false);
    let absent = lxd_image::Fingerprint::of(b"nothing");
    for (method, below) in
        [("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/secret"), ("POST", "/refresh"), ("POST", "/export")]
    {
        let answers: Vec<_> = [public.fingerprint, private.fingerprint, absent]
            .iter()
            .map(|fingerprint| {
                let request = request(method, &format!("/1.0/images/{fingerprint}{below}"));
                json(served.handler.handle(body(request, "{\"public\": true}")))
            })
            .collect();
        assert_eq!(answers[0].0, 403, "{method} {below}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{method} {below}: {answers:?}");
    }
    assert_eq!(served.store.images().unwrap().len(), 2);
}

#[test]
fn cross_origin_write_is_refused() {
    let served = Served::new();
    let image = served.import("kept", &[], true);
    let path = format!("/1.0/images/{}", image.fingerprint);
    let delete = || with(trusted(request("DELETE", &path)), "host", "images.example:8443");
    for (name, value) in [
        ("origin", "https://elsewhere.example"),
        ("origin", "null"),
        ("origin", "https://images.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(served.handler.handle(with(delete(), name, value)).status, 403, "{name}: {value}");
        let events = with(trusted(request("GET", "/1.0/events")), name, value);
        assert_eq!(served.handler.handle(with(events, "host", "images.example:8443")).status, 403, "{name}: {value}");
    }
    assert!(served.store.image(&image.fingerprint).is_ok());
    let own = with(with(delete(), "origin", "https://images.example:8443"), "sec-fetch-site", "same-origin");
    assert!(served.handler.handle(own).status.is_success());
}
