//! Aliases that trusted clients make, change, rename and delete, and what stands in the way.
//! A name never changes on what somebody did not read.

use serde_json::json;

use super::{Served, body, json, object, request, sent, trusted, with};

#[test]
fn alias_is_created_edited_renamed_and_deleted() {
    let served = Served::new();
    let (one, two) = (served.import("one", &[], true), served.import("two", &[], true));
    let made = served.send("POST", "/1.0/images/aliases", &json!({"name": "debian/12", "description": "stable", "target": one.fingerprint.to_string(), "type": "container"}));
    assert_eq!((made.status.as_u16(), made.header("location")), (201, Some("/1.0/images/aliases/debian%2F12")));
    let path = "/1.0/images/aliases/debian%2F12";
    assert_eq!(object(served.get(path))["description"], json!("stable"));
    // By the beginning of a fingerprint.
    object(served.send("PUT", path, &json!({"target": two.fingerprint.short(), "description": "moved"})));
    let found = object(served.get(path));
    assert_eq!((&found["target"], &found["description"]), (&json!(two.fingerprint.to_string()), &json!("moved")));
    object(served.send("PATCH", path, &json!({"description": "only this"})));
    object(served.send("PATCH", path, &json!({"target": one.fingerprint.to_string()})));
    let found = object(served.get(path));
    assert_eq!((&found["target"], &found["description"]), (&json!(one.fingerprint.to_string()), &json!("only this")));
    object(served.send("PUT", path, &json!({"target": one.fingerprint.to_string()})));
    assert_eq!(object(served.get(path))["description"], json!(""));
    let renamed = served.send("POST", path, &json!({"name": "debian/13"}));
    assert_eq!((renamed.status.as_u16(), renamed.header("location")), (201, Some("/1.0/images/aliases/debian%2F13")));
    assert_eq!(served.get(path).status, 404);
    // Slashes that were not escaped mean the same.
    object(served.ask("DELETE", "/1.0/images/aliases/debian/13"));
    assert_eq!(object(served.get("/1.0/images/aliases")), json!([]));
    assert_eq!(served.store.images().unwrap().len(), 2);
}

#[test]
fn taken_alias_is_a_conflict_and_invalid_alias_is_refused() {
    let served = Served::new();
    let image = served.import("one", &["taken", "other"], true);
    let target = image.fingerprint.to_string();
    for (name, expected) in [
        ("taken", 409),
        ("", 400),
        ("a:b", 400),
        (" a", 400),
        ("a\u{1}", 400),
        (&*target, 400),
        (&*"a".repeat(256), 400),
    ] {
        let made = served.send("POST", "/1.0/images/aliases", &json!({"name": name, "target": target}));
        assert_eq!(json(made).0, expected, "{name:?}");
        let renamed = served.send("POST", "/1.0/images/aliases/other", &json!({"name": name}));
        assert_eq!(json(renamed).0, expected, "{name:?}");
    }
    for (wrong, expected) in [
        (json!({"name": "new"}), 400),
        (json!({"target": target}), 400),
        (json!({"name": "new", "target": "abcd"}), 404),
        (json!({"name": "new", "target": "no digits"}), 404),
        (json!({"name": 1, "target": target}), 400),
        (json!([]), 400),
    ] {
        assert_eq!(json(served.send("POST", "/1.0/images/aliases", &wrong)).0, expected, "{wrong}");
    }
    for (method, value, expected) in [
        ("PUT", json!({"description": "no target"}), 400),
        ("PUT", json!({"target": "abcd"}), 404),
        ("PATCH", json!({"target": "abcd"}), 404),
        ("POST", json!({}), 400),
    ] {
        assert_eq!(json(served.send(method, "/1.0/images/aliases/taken", &value)).0, expected, "{method} {value}");
    }
    for method in ["PUT", "PATCH", "POST", "DELETE"] {
        let value = json!({"target": target, "name": "new"});
        assert_eq!(json(served.send(method, "/1.0/images/aliases/absent", &value)).0, 404, "{method}");
    }
    let twice = "{\"name\": \"a\", \"name\": \"b\", \"target\": \"abcd\"}";
    assert_eq!(json(served.handler.handle(body(trusted(request("POST", "/1.0/images/aliases")), twice))).0, 400);
    assert_eq!(json(served.ask("PUT", "/1.0/images/aliases")).0, 405);
    assert_eq!(served.store.images().unwrap(), [image]);
}

#[test]
fn alias_edit_with_an_outdated_etag_is_refused() {
    let served = Served::new();
    let (one, two) = (served.import("one", &["name"], true), served.import("two", &[], true));
    let path = "/1.0/images/aliases/name";
    let etag = served.get(path).header("etag").unwrap().to_owned();
    let edit = |tag: &str| {
        let value = json!({"target": two.fingerprint.to_string(), "description": ""});
        json(served.handler.handle(with(sent("PUT", path, &value), "if-match", tag))).0
    };
    assert_eq!(edit("\"other\""), 412);
    served
        .store
        .move_alias(&lxd_image::store::Alias::new("name").unwrap().described("changed"), &one.fingerprint)
        .unwrap();
    assert_eq!(edit(&etag), 412);
    assert_eq!(object(served.get(path))["target"], json!(one.fingerprint.to_string()));
    let etag = served.get(path).header("etag").unwrap().to_owned();
    assert_eq!(edit(&etag), 200);
    assert_eq!(object(served.get(path))["target"], json!(two.fingerprint.to_string()));
}

#[test]
fn anonymous_client_changes_no_alias_and_sees_no_hidden_one() {
    let served = Served::new();
    let image = served.import("private", &["hidden"], false);
    for (method, path) in [
        ("POST", "/1.0/images/aliases"),
        ("PUT", "/1.0/images/aliases/"),
        ("PATCH", "/1.0/images/aliases/"),
        ("POST", "/1.0/images/aliases/"),
        ("DELETE", "/1.0/images/aliases/"),
    ] {
        let name = |name: &str| if path.ends_with('/') { format!("{path}{name}") } else { path.to_owned() };
        let value = json!({"name": "hidden", "target": image.fingerprint.to_string()}).to_string();
        let answers =
            ["hidden", "absent"].map(|alias| json(served.handler.handle(body(request(method, &name(alias)), &*value))));
        assert_eq!(answers[0].0, 403, "{method} {path}");
        assert_eq!(answers[0], answers[1], "{method} {path}");
    }
    assert_eq!(served.store.images().unwrap(), [image]);
}
