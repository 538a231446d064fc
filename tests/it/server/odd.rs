//! What is odd: names that mean nothing, aliases from before they were refused, rows that can't be read, times of no calendar,
//! and what strangers must not learn.

use lxd_image::store::{Catalog, ImportOptions, SqliteCatalog, UpdateSource};
use lxd_image::{ErrorKind, Monitor, Omitted};
use serde_json::{Value, json};

use super::{Served, body, json, object, request, trusted};
use crate::store::{alias, assert_kind, metadata, stream, unified, unified_with};

#[test]
fn not_found_error_suggests_similar_names() {
    let served = Served::new();
    served.import("one", &["web", "debian/12"], true);
    for (name, meant) in [
        ("wbe", Some("`web`")),
        ("Web", Some("`web`")),
        ("debian%2F13", Some("`debian/12`")),
        ("nope", None),
        ("24.04", None),
        ("abc", None),
        ("abcdefgh", None),
    ] {
        for path in ["/1.0/images/NAME", "/1.0/images/NAME/export", "/1.0/images/aliases/NAME", "/NAME"] {
            let path = path.replace("NAME", name);
            let (status, told) = json(served.get(&path));
            assert_eq!(status, 404, "{path}: {told}");
            let told = told["error"].as_str().unwrap();
            assert!(told.starts_with("not found"), "{path}: {told}");
            assert_eq!(told.contains("did you mean"), meant.is_some(), "{path}: {told}");
            assert!(meant.is_none_or(|meant| told.contains(meant)), "{path}: {told}");
        }
        for method in ["PUT", "PATCH"] {
            assert_eq!(json(served.send(method, &format!("/1.0/images/{name}"), &json!({}))).0, 404, "{name}");
        }
        assert_eq!(json(served.ask("DELETE", &format!("/1.0/images/{name}"))).0, 404, "{name}");
        let alias = json!({"name": "new", "target": name});
        assert_eq!(json(served.send("POST", "/1.0/images/aliases", &alias)).0, 404, "{name}");
    }
}

#[test]
fn private_name_is_never_suggested() {
    let served = Served::new();
    served.import("one", &["secret"], false);
    for name in ["secret", "secrte", "Secret"] {
        assert_eq!(json(served.get(&format!("/1.0/images/{name}"))).1["error"], json!("not found"), "{name}");
    }
}

#[test]
fn alias_that_no_path_can_hold_is_refused() {
    let served = Served::new();
    let image = served.import("one", &["web"], true);
    for name in [".", "..", "a/../b", "./a", "a/.", "a//b", "/a", "a/"] {
        let asked = json!({"name": name, "target": image.fingerprint.to_string()});
        assert_eq!(json(served.send("POST", "/1.0/images/aliases", &asked)).0, 400, "{name}");
        assert_eq!(json(served.send("POST", "/1.0/images/aliases/web", &json!({"name": name}))).0, 400, "{name}");
    }
    assert_eq!(served.store.image(&image.fingerprint).unwrap().aliases, [alias("web")]);
}

#[test]
fn existing_alias_of_dots_is_readable_and_deletable_by_its_listed_path() {
    let served = Served::new();
    let image = served.import("one", &["web"], true);
    let catalog = SqliteCatalog::of_store(served.root()).unwrap();
    for name in [".", "..", "a//b"] {
        let mut odd = alias("odd");
        name.clone_into(&mut odd.name);
        catalog.write(&mut |catalog| catalog.set_alias(&odd, &image.target())).unwrap();
    }
    let listed = object(served.ask("GET", "/1.0/images/aliases"));
    let places: Vec<&str> = listed.as_array().unwrap().iter().map(|place| place.as_str().unwrap()).collect();
    assert_eq!(places.len(), 4);
    for place in places {
        assert_eq!(object(served.ask("GET", place))["target"], json!(image.fingerprint.to_string()), "{place}");
        assert_eq!(served.ask("DELETE", place).status, 200, "{place}");
    }
    assert!(served.store.image(&image.fingerprint).unwrap().aliases.is_empty());
    for path in ["/1.0/images/%2E%2E/export", "/%2E"] {
        assert_eq!(served.get(path).status, 400, "{path}");
    }
}

#[test]
fn row_that_cannot_be_read_hides_no_other() {
    let served = Served::new();
    let (good, bad) = (served.import("good", &["good"], true), served.import("bad", &["bad"], true));
    let rows = rusqlite::Connection::open(served.root().join("catalog.sqlite")).unwrap();
    rows.execute("UPDATE image SET type = 'cloud' WHERE fingerprint = ?1", [bad.fingerprint.to_string()]).unwrap();
    let mut places = [&good, &bad].map(|image| format!("/1.0/images/{}", image.fingerprint));
    places.sort();
    for answer in [served.get("/1.0/images"), served.ask("GET", "/1.0/images")] {
        assert_eq!(object(answer), json!(places), "its address is in an index, which can be read");
    }
    for path in ["/1.0/images?recursion=1", "/1.0/images?filter=public+eq+true"] {
        assert_eq!(object(served.ask("GET", path)).as_array().map(Vec::len), Some(1), "{path}");
    }
    assert_eq!(object(served.get("/1.0/images/aliases")), json!(["/1.0/images/aliases/good"]));
    let list = String::from_utf8(served.get("/streams/v1/images.json").body.read_to_end().unwrap()).unwrap();
    assert!(list.contains(&good.fingerprint.to_string()) && !list.contains(&bad.fingerprint.to_string()));
    let metrics = String::from_utf8(served.ask("GET", "/metrics").body.read_to_end().unwrap()).unwrap();
    assert!(metrics.contains("lxd_image_images_skipped 1\n"), "{metrics}");
}

#[test]
fn invalid_date_is_clamped_and_reported() {
    let served = Served::new();
    for (seconds, shown) in [
        ("1700000000000", "9999-12-31T23:59:59Z"),
        ("253402300800", "9999-12-31T23:59:59Z"),
        ("-62167219201", "0000-01-01T00:00:00Z"),
        ("-9223372036854775807", "0000-01-01T00:00:00Z"),
        ("253402300799", "9999-12-31T23:59:59Z"),
    ] {
        let lines = metadata(seconds, "");
        let about = lines.lines().map(|line| {
            if line.starts_with("creation_date") { format!("creation_date: {seconds}\n") } else { format!("{line}\n") }
        });
        let monitor = Monitor::none();
        let options = ImportOptions::new().public(true);
        let image =
            served.store.import(stream(unified_with(&about.collect::<String>(), b"x")), &options, &monitor).unwrap();
        let told = object(served.get(&format!("/1.0/images/{}", image.fingerprint)));
        assert_eq!(told["created_at"], json!(shown), "{seconds}");
        let clamped = monitor.omissions().iter().any(|omission| matches!(omission.what, Omitted::Clamped { .. }));
        assert_eq!(clamped, seconds != "253402300799", "{seconds}");
    }
}

#[test]
fn missing_expiry_is_the_zero_time_of_the_peers() {
    let served = Served::new();
    let image = served.import("one", &[], true);
    let told = object(served.get(&format!("/1.0/images/{}", image.fingerprint)));
    for key in ["expires_at", "last_used_at"] {
        assert_eq!(told[key], json!("0001-01-01T00:00:00Z"));
    }
}

#[test]
fn update_source_is_shown_to_trusted_clients_only() {
    let served = Served::new();
    let source = UpdateSource::new("https://elsewhere.example/x?token=hidden", "direct", "");
    let options = ImportOptions::new().public(true).source(source.clone());
    let image = served.store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    let path = format!("/1.0/images/{}", image.fingerprint);
    let told = [served.get(&path), served.get("/1.0/images?recursion=1")].map(object);
    assert!(!Value::from(told.to_vec()).to_string().contains("elsewhere"));
    let filtered = served.get("/1.0/images?filter=update_source.protocol%20eq%20direct");
    assert_eq!(object(filtered), json!([]), "a filter tells nothing either");
    let told = object(served.ask("GET", &path));
    assert_eq!(told["update_source"]["server"], json!("https://elsewhere.example/x?token=***"));
    assert!(!format!("{image:?}").contains("hidden"));
    // A refresh still needs it.
    assert_eq!(served.store.image(&image.fingerprint).unwrap().source, Some(source));
}

#[test]
fn operation_list_has_no_token_secrets() {
    let served = Served::new();
    let image = served.import("one", &[], false);
    let made = served.ask("POST", &format!("/1.0/images/{}/secret", image.fingerprint));
    let place = made.header("location").unwrap().to_owned();
    let secret = json(made).1["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned();
    assert!(!object(served.ask("GET", "/1.0/operations?recursion=1")).to_string().contains(&secret));
    assert!(object(served.ask("GET", &place)).to_string().contains(&secret), "whoever asked for it asks for it");
    let asked = format!("{:?}", request("GET", &format!("/1.0/images/x?secret={secret}")));
    assert!(!asked.contains(&secret), "{asked}");
}

#[test]
fn upload_reports_ignored_headers_as_omissions() {
    let served = Served::new();
    let mut upload = super::body(super::trusted(request("POST", "/1.0/images")), unified("one"));
    for (name, value) in [("x-lxd-type", "virtual-machine"), ("x-lxd-filename", "../up")] {
        upload = super::with(upload, name, value);
    }
    let operation = served.finished(served.handler.handle(upload));
    assert_eq!(operation["metadata"]["omissions_total"], json!(2), "{operation}");
    let told = operation["metadata"]["omissions"].to_string();
    assert!(told.contains("virtual-machine") && told.contains("../up"), "{told}");
}

#[test]
fn alias_of_an_import_is_validated() {
    let served = Served::new();
    let mut odd = alias("odd");
    "..".clone_into(&mut odd.name);
    assert_kind(
        served.store.import(stream(unified("one")), &ImportOptions::new().alias(odd), &Monitor::none()),
        ErrorKind::InvalidInput,
    );
}

#[test]
fn metrics_count_the_calls_to_the_engines_of_the_store() {
    let served = Served::new();
    served.finished(served.handler.handle(trusted(body(request("POST", "/1.0/images"), unified("one")))));
    served.ask("GET", "/1.0/images");
    let metrics = String::from_utf8(served.ask("GET", "/metrics").body.read_to_end().unwrap()).unwrap();
    for line in [
        "# TYPE lxd_image_backend_calls_total counter",
        "lxd_image_backend_calls_total{part=\"blobs\",backend=\"directory\",call=\"put\"} 2",
        "lxd_image_backend_calls_total{part=\"catalog\",backend=\"sqlite\",call=\"query\"} ",
        "lxd_image_backend_seconds_total{part=\"catalog\",backend=\"sqlite\",call=\"write\"} 0.",
        "lxd_image_backend_put_bytes_total{part=\"blobs\",backend=\"directory\"} ",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}
