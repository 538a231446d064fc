//! The API extensions that the server claims, the table of them, and what the newest ones answer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lxd_image::server::{Handler, ImageTransfer, Pull, Push, Registry, ServerOptions};
use lxd_image::store::{ImportOptions, RefreshOptions, Refreshed, Store, StoredImage};
use lxd_image::{Architecture, Error, ErrorKind, Fingerprint, ImageType, Monitor, Result};
use serde_json::json;

use crate::server::{Served, body, json, object, request, with};
use crate::store::{fingerprint, stream, unified};

#[test]
fn serving_md_has_the_table_of_the_code() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/SERVING.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| extension |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let expected: Vec<String> = Handler::api_extensions()
        .map(|extension| {
            let answered = if extension.claimed { "yes" } else { "no" };
            format!("| `{}` | {answered} | {} |", extension.name, extension.note)
        })
        .collect();
    // The last column names tests.
    let rows: Vec<_> = rows.iter().map(|row| row.trim_end_matches(" |").rsplit_once(" | ").unwrap().0).collect();
    let rows: Vec<_> = rows.iter().map(|row| format!("{row} |")).collect();
    assert_eq!(rows, expected);
    let served = Served::new();
    let claimed: Vec<_> =
        Handler::api_extensions().filter(|extension| extension.claimed).map(|extension| extension.name).collect();
    assert_eq!(object(served.get("/1.0"))["api_extensions"], json!(claimed));
}

/// The names of all functions in the tests' sources.
fn functions(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split_once('('));
            found.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn tests_that_the_tables_of_serving_md_name_exist_and_every_claim_has_one() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/SERVING.md")).unwrap();
    let mut all = BTreeSet::new();
    functions(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")), &mut all);
    let mut checked = 0;
    for table in ["| extension |", "| field | here |"] {
        let rows = page.lines().skip_while(|line| !line.starts_with(table)).skip(2);
        for row in rows.take_while(|line| line.starts_with('|')) {
            let tests = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
            if tests == "–" {
                assert!(row.contains(" | no | "), "no test is named for what is claimed: {row}");
                continue;
            }
            for test in tests.split(", ") {
                assert!(all.contains(test.trim_matches('`')), "no test {test}: {row}");
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn code_name_and_title_of_a_release_are_fields_of_the_image_object() {
    let served = Served::new();
    let options = ImportOptions::new().public(true);
    let options = options.property("release_codename", "Noble Numbat").unwrap();
    let options = options.property("release_title", "24.04 LTS").unwrap();
    let image = served.store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    let shown = object(served.get(&format!("/1.0/images/{}", image.fingerprint)));
    assert_eq!((&shown["release_codename"], &shown["release_title"]), (&json!("Noble Numbat"), &json!("24.04 LTS")));
}

/// A transfer with two registries, one of which has an image.
struct Registries;

impl ImageTransfer for Registries {
    fn has_upstream(&self) -> bool {
        false
    }

    fn resolve(&self, _: &str, _: ImageType, _: Architecture, _: &Monitor) -> Result<Option<Fingerprint>> {
        Ok(None)
    }

    fn fetch(&self, _: &Fingerprint, _: Option<&str>, _: &Store, _: &Monitor) -> Result<StoredImage> {
        Err(Error::new(ErrorKind::NotFound, "no upstream"))
    }

    fn registries(&self) -> Result<Vec<Registry>> {
        let lab = Registry::new("lab", "https://user:word@lab.example:8443/", "lxd".parse()?);
        let mut ubuntu = Registry::new("ubuntu", "https://images.example/releases", "simplestreams".parse()?);
        ubuntu.builtin = true;
        Ok(vec![lab, ubuntu])
    }

    fn registry_images(&self, name: &str, _: &Monitor) -> Result<Vec<StoredImage>> {
        assert_eq!(name, "ubuntu");
        Ok(vec![StoredImage::new(fingerprint("one"), ImageType::Container, Architecture::X86_64)])
    }

    fn pull(&self, pull: &Pull, store: &Store, options: ImportOptions, monitor: &Monitor) -> Result<StoredImage> {
        assert_eq!((&*pull.url, &*pull.protocol), ("https://images.example/releases", "simplestreams"));
        assert!(pull.copy_aliases && pull.alias.as_deref() == Some("24.04"));
        store.import(stream(unified("one")), &options, monitor)
    }

    fn refresh(&self, _: &Fingerprint, _: &Store, _: &RefreshOptions, _: &Monitor) -> Result<Refreshed> {
        Err(Error::new(ErrorKind::NotFound, "no source"))
    }

    fn push(&self, _: &Push, _: &Fingerprint, _: &Store, _: &Monitor) -> Result<()> {
        Err(Error::new(ErrorKind::Remote, "nowhere"))
    }
}

fn with_registries() -> Served {
    Served::with(ServerOptions::new().image_transfer(Arc::new(Registries)))
}

#[test]
fn image_registries_are_the_remotes_of_the_program() {
    let served = with_registries();
    let ask = |path: &str| object(served.ask("GET", path));
    let places = json!(["/1.0/image-registries/lab", "/1.0/image-registries/ubuntu"]);
    assert_eq!(ask("/1.0/image-registries"), places);
    let ubuntu = json!({"name": "ubuntu", "description": "", "protocol": "simplestreams", "public": true,
        "builtin": true, "config": {"url": "https://images.example/releases"}});
    assert_eq!(ask("/1.0/image-registries?recursion=1")[1], ubuntu);
    assert_eq!(ask("/1.0/image-registries/ubuntu"), ubuntu);
    assert_eq!(ask("/1.0/image-registries?filter=builtin%20eq%20false"), json!(["/1.0/image-registries/lab"]));
    assert_eq!(ask("/1.0/image-registries/ubuntu/images")[0]["fingerprint"], json!(fingerprint("one").to_string()));
    let lab = ask("/1.0/image-registries/lab");
    assert!(lab["protocol"] == "lxd" && !lab.to_string().contains("word"), "{lab}");
    assert_eq!(served.ask("GET", "/1.0/image-registries/other").status, 404);
    assert_eq!(served.ask("GET", "/1.0/image-registries/other/images").status, 404);
    assert_eq!(served.get("/1.0/image-registries").status, 403);
    assert_eq!(object(Served::new().ask("GET", "/1.0/image-registries")), json!([]));
}

#[test]
fn change_of_an_image_registry_is_refused_with_what_makes_it() {
    let served = with_registries();
    for (method, path) in [
        ("POST", "/1.0/image-registries"),
        ("PUT", "/1.0/image-registries/lab"),
        ("PATCH", "/1.0/image-registries/lab"),
        ("POST", "/1.0/image-registries/lab"),
        ("DELETE", "/1.0/image-registries/lab"),
    ] {
        let (status, envelope) = json(served.send(method, path, &json!({"name": "x"})));
        let sentence = envelope["error"].as_str().unwrap();
        assert!(status == 501 && sentence.contains("lxd-image remote"), "{method} {path}: {status} {envelope}");
    }
}

#[test]
fn import_may_name_a_registry_in_place_of_a_server() {
    let served = with_registries();
    let source = json!({"type": "image", "mode": "pull", "image_registry": "ubuntu", "alias": "24.04",
        "copy_aliases": true, "project": "default"});
    let done = served.finished(served.send("POST", "/1.0/images", &json!({"source": source})));
    assert_eq!(done["metadata"]["fingerprint"], json!(fingerprint("one").to_string()), "{done}");
    for (key, value, status) in [
        ("image_registry", json!("other"), 404),
        ("server", json!("https://elsewhere"), 400),
        ("project", json!("other"), 400),
    ] {
        let mut source = source.clone();
        source[key] = value;
        assert_eq!(json(served.send("POST", "/1.0/images", &json!({"source": source}))).0, status, "{key}");
    }
}

#[test]
fn every_collection_is_filtered() {
    let served = Served::new();
    served.import("one", &["first", "second"], true);
    let filtered = |path: &str, filter: &str| {
        let filter: String = filter.chars().map(|c| if c == ' ' { "%20".to_owned() } else { c.to_string() }).collect();
        object(served.ask("GET", &format!("{path}?recursion=1&filter={filter}")))
    };
    assert_eq!(filtered("/1.0/images/aliases", "name eq first")[0]["name"], "first");
    assert_eq!(filtered("/1.0/images/aliases", "name eq fir.* or name eq sec.*").as_array().unwrap().len(), 2);
    assert_eq!(filtered("/1.0/images/aliases", "type eq virtual-machine"), json!([]));
    served.send("POST", "/1.0/images", &json!({"source": {"type": "image", "mode": "push"}}));
    assert_eq!(filtered("/1.0/operations", "class eq task"), json!({}));
    assert!(filtered("/1.0/operations", "class eq token")["running"].is_array());
    for path in ["/1.0/images", "/1.0/images/aliases", "/1.0/operations", "/1.0/image-registries"] {
        assert_eq!(served.ask("GET", &format!("{path}?filter=name%20like%20x")).status, 400, "{path}");
    }
}

#[test]
fn other_project_is_refused_by_name_and_the_default_is_all_projects() {
    let served = Served::new();
    let image = served.import("one", &["first"], true);
    for method in ["GET", "POST", "DELETE"] {
        for path in ["/1.0/images", "/1.0/images/aliases/first", "/1.0/operations", "/1.0"] {
            let (status, envelope) = json(served.ask(method, &format!("{path}?project=other")));
            assert_eq!(status, 404, "{method} {path}");
            assert!(envelope["error"].as_str().unwrap().contains("`other`"), "{envelope}");
        }
    }
    assert_eq!(object(served.get("/1.0/images?project=default")).as_array().unwrap().len(), 1);
    let all = object(served.get("/1.0/images?all-projects=true&recursion=1"));
    assert_eq!(
        (&all[0]["project"], &all[0]["fingerprint"]),
        (&json!("default"), &json!(image.fingerprint.to_string()))
    );
    assert_eq!(served.get("/1.0/images?all-projects=true&project=default").status, 400);
    assert_eq!(served.get("/1.0/images?all-projects=maybe").status, 400);
}

#[test]
fn aliases_of_an_upload_come_in_the_header_of_either_peer() {
    for header in ["X-Incus-aliases", "X-LXD-aliases"] {
        let served = Served::new();
        let upload = crate::server::trusted(request("POST", "/1.0/images"));
        let upload = with(body(upload, unified("one")), header, "alias=first&alias=second%2Fname");
        assert_eq!(json(served.handler.handle(upload)).0, 202);
        let image = served.store.image(&fingerprint("one")).unwrap();
        assert_eq!(image.aliases.iter().map(|alias| &*alias.name).collect::<Vec<_>>(), ["first", "second/name"]);
    }
}
