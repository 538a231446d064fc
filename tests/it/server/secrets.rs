//! Passes: a trusted client makes one, somebody else uses it once.
//! What runs out with time is tested where the time is, in `secrets` itself.

use lxd_image::Fingerprint;
use lxd_image::server::Response;
use serde_json::{Value, json};

use super::{Served, body, json, object, request, with};
use crate::store::{fingerprint, unified};

fn secret(response: Response) -> (String, String) {
    let location = response.header("location").unwrap().to_owned();
    let (status, envelope) = json(response);
    assert_eq!((status, &envelope["metadata"]["class"]), (202, &json!("token")), "{envelope}");
    assert_eq!(envelope["metadata"]["status_code"], json!(103));
    (envelope["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned(), location)
}

#[test]
fn download_token_shows_one_private_image() {
    let served = Served::new();
    let (image, other) = (served.import("private", &["hidden"], false), served.import("other", &[], false));
    let path = format!("/1.0/images/{}", image.fingerprint);
    let (secret, operation) = secret(served.ask("POST", &format!("{path}/secret")));
    assert_eq!(served.get(&format!("{path}?secret=wrong")).status, 404);
    assert_eq!(served.get(&format!("/1.0/images/{}?secret={secret}", other.fingerprint)).status, 404);
    let told = object(served.get(&format!("{path}?secret={secret}")));
    assert_eq!(told["fingerprint"], json!(image.fingerprint.to_string()));
    let bytes = served.get(&format!("{path}/export?secret={secret}")).body.read_to_end().unwrap();
    assert_eq!(bytes, unified("private"));
    assert_eq!(served.get(&path).status, 404);
    // It is used, and shown to nobody any more.
    let told = object(served.ask("GET", &operation));
    assert_eq!((&told["status_code"], &told["metadata"]), (&json!(200), &json!({})));
    assert_eq!(served.get("/1.0/images/aliases/hidden?secret=").status, 404);
}

#[test]
fn revoked_token_is_invalid() {
    let served = Served::new();
    let image = served.import("private", &[], false);
    let path = format!("/1.0/images/{}", image.fingerprint);
    let (secret, operation) = secret(served.ask("POST", &format!("{path}/secret")));
    object(served.ask("DELETE", &operation));
    assert_eq!(served.get(&format!("{path}?secret={secret}")).status, 404);
    let told = object(served.ask("GET", &operation));
    assert_eq!((&told["status_code"], &told["metadata"]), (&json!(401), &json!({})));
    assert_eq!(json(served.ask("POST", &format!("/1.0/images/{}/secret", Fingerprint::of(b"absent")))).0, 404);
}

fn push(served: &Served, with: &Value) -> (String, String) {
    let mut asked =
        json!({"source": {"type": "image", "mode": "push", "fingerprint": fingerprint("pushed").to_string()}});
    for (key, value) in with.as_object().unwrap() {
        asked[key] = value.clone();
    }
    secret(served.send("POST", "/1.0/images", &asked))
}

#[test]
fn upload_token_allows_one_upload() {
    let served = Served::new();
    let (pass, token) = push(
        &served,
        &json!({"public": true, "aliases": [{"name": "pushed", "description": "d"}], "properties": {"a": "b"}}),
    );
    let upload = |tag: &str, secret: &str| {
        let mut request = with(body(request("POST", "/1.0/images"), unified(tag)), "X-LXD-secret", secret);
        // What a stranger says of names and who may read counts for nothing.
        for (name, value) in [("X-LXD-aliases", "mine="), ("X-LXD-fingerprint", &*fingerprint(tag).to_string())] {
            request = with(request, name, value);
        }
        served.handler.handle(request)
    };
    assert_eq!(upload("pushed", "wrong").status, 403);
    let response = upload("pushed", &pass);
    let location = response.header("location").unwrap().to_owned();
    let (status, envelope) = json(response);
    assert_eq!((status, &envelope["metadata"]["status_code"]), (202, &json!(200)), "{envelope}");
    // From where an LXD takes it to wait.
    assert_eq!(envelope["metadata"]["metadata"]["secret"], json!(pass));
    let image = served.store.image(&fingerprint("pushed")).unwrap();
    assert!(image.public && image.properties.get("a") == Some("b"));
    assert_eq!(image.aliases.iter().map(|alias| &*alias.name).collect::<Vec<_>>(), ["pushed"]);
    assert_eq!(object(served.ask("GET", &token))["status_code"], json!(200));
    // Its own operation, and no other.
    let seen = object(served.get(&format!("{location}/wait?secret={pass}&timeout=-1")));
    assert_eq!(seen["metadata"]["fingerprint"], json!(image.fingerprint.to_string()));
    assert_eq!(object(served.get(&format!("{location}?secret={pass}")))["status_code"], json!(200));
    for path in [
        location.clone(),
        format!("{location}?secret=wrong"),
        format!("{token}?secret={pass}"),
        format!("{token}/wait?secret={pass}"),
    ] {
        assert_eq!(served.get(&path).status, 403, "{path}");
    }
    assert_eq!(upload("another", &pass).status, 403);
    served.holds(&[&image.fingerprint]);
}

#[test]
fn upload_token_refuses_another_image_and_is_used_up() {
    let served = Served::new();
    let (pass, _) = push(&served, &json!({}));
    let send = |tag: &str| {
        let request = with(body(request("POST", "/1.0/images"), unified(tag)), "X-Incus-secret", &pass);
        json(served.handler.handle(request)).0
    };
    assert_eq!(send("another"), 400);
    assert_eq!(send("pushed"), 403);
    served.holds(&[]);
    let (pass, _) = push(&served, &json!({}));
    let named = with(body(request("POST", "/1.0/images"), unified("another")), "X-LXD-secret", &pass);
    let named = with(named, "X-LXD-fingerprint", &fingerprint("another").to_string());
    assert_eq!(json(served.handler.handle(named)).0, 400);
    // A pass to read is none to write, and a source is for the trusted alone.
    let image = served.import("private", &[], false);
    let (read, _) = secret(served.ask("POST", &format!("/1.0/images/{}/secret", image.fingerprint)));
    let wrong = with(body(request("POST", "/1.0/images"), unified("another")), "X-LXD-secret", &read);
    assert_eq!(served.handler.handle(wrong).status, 403);
    let (pass, _) = push(&served, &json!({}));
    let source = json!({"source": {"type": "image", "mode": "push"}}).to_string();
    let source = with(
        with(body(request("POST", "/1.0/images"), source), "content-type", "application/json"),
        "X-LXD-secret",
        &pass,
    );
    assert_eq!(served.handler.handle(source).status, 403);
    served.holds(&[&image.fingerprint]);
}
