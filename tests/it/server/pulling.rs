//! Images that the server brings from elsewhere: of its upstream for anybody who asks, and by their source for trusted clients.
//! The elsewhere is in memory here; what is counted is how often it is asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use lxd_image::server::{ImageTransfer, Pull, Push, ServerOptions};
use lxd_image::store::{ImportOptions, RefreshOptions, Refreshed, Store, StoredImage, UpdateSource};
use lxd_image::{Architecture, Error, ErrorKind, Fingerprint, FingerprintPrefix, ImageType, Monitor, Result};
use serde_json::{Value, json};

use super::{Served, json, object, sent};
use crate::store::{fingerprint, stream, unified};

/// What there is elsewhere.
#[derive(Default)]
pub(crate) struct Elsewhere {
    /// Tags of images by alias and type.
    images: Mutex<HashMap<(String, ImageType), String>>,
    away: AtomicBool,
    lies: AtomicBool,
    panics: AtomicBool,
    /// Whether another server on the store brings each image first.
    raced: AtomicBool,
    asked: AtomicUsize,
    pub(super) fetched: AtomicUsize,
    pushed: Mutex<Vec<(Push, Fingerprint)>>,
}

impl Elsewhere {
    pub(crate) fn with(images: &[(&str, &str)]) -> Arc<Self> {
        let elsewhere = Self::default();
        for (alias, tag) in images {
            elsewhere.put(alias, ImageType::Container, tag);
        }
        Arc::new(elsewhere)
    }

    fn put(&self, alias: &str, image_type: ImageType, tag: &str) {
        self.images.lock().unwrap().insert((alias.to_owned(), image_type), tag.to_owned());
    }

    fn tag(&self, wanted: impl Fn(&Fingerprint) -> bool) -> Option<String> {
        self.images.lock().unwrap().values().find(|tag| wanted(&fingerprint(tag))).cloned()
    }

    fn reached(&self) -> Result<()> {
        if self.panics.load(Ordering::SeqCst) {
            panic!("a defect");
        }
        if self.away.load(Ordering::SeqCst) {
            Err(Error::new(ErrorKind::Remote, "not there, 10.1.2.3").transient())
        } else {
            Ok(())
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }
}

impl ImageTransfer for Elsewhere {
    fn has_upstream(&self) -> bool {
        true
    }

    fn resolve(&self, alias: &str, image_type: ImageType, _: Architecture, _: &Monitor) -> Result<Option<Fingerprint>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.reached()?;
        if alias.contains("..") {
            return Err(Error::new(ErrorKind::Remote, "the server answers 400"));
        }
        let named = self.images.lock().unwrap().get(&(alias.to_owned(), image_type)).map(|tag| fingerprint(tag));
        let prefix =
            || alias.parse::<FingerprintPrefix>().ok().and_then(|prefix| self.tag(|found| prefix.matches(found)));
        Ok(named.or_else(|| prefix().map(|tag| fingerprint(&tag))))
    }

    fn fetch(&self, wanted: &Fingerprint, alias: Option<&str>, store: &Store, _: &Monitor) -> Result<StoredImage> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        self.reached()?;
        // So that others come meanwhile.
        thread::sleep(Duration::from_millis(50));
        if self.raced.load(Ordering::SeqCst) {
            let tag = self.tag(|found| found == wanted).unwrap();
            store.import(stream(unified(&tag)), &ImportOptions::new().cached(true).public(true), &Monitor::none())?;
        }
        let tag = self.tag(|found| found == wanted).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such image"))?;
        let bytes = unified(if self.lies.load(Ordering::SeqCst) { "a lie" } else { &tag });
        let source = UpdateSource::new("https://elsewhere", "lxd", alias.unwrap_or_default());
        let options = ImportOptions::new().cached(true).public(true).expected_fingerprint(*wanted).source(source);
        store.import(stream(bytes), &options, &Monitor::none())
    }

    fn pull(&self, source: &Pull, store: &Store, options: ImportOptions, monitor: &Monitor) -> Result<StoredImage> {
        self.reached()?;
        if source.alias.as_deref() == Some("endless") {
            loop {
                monitor.check()?;
                thread::sleep(Duration::from_millis(5));
            }
        }
        if source.alias.as_deref() == Some("quotes") {
            return Err(Error::new(ErrorKind::Remote, format!("no image for {:?} there", source.secret)));
        }
        let named = source.alias.clone().unwrap_or_else(|| source.url.clone());
        let tag = self.images.lock().unwrap().get(&(named, ImageType::Container)).cloned();
        let tag = tag.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such image"))?;
        store.import(stream(unified(&tag)), &options, monitor)
    }

    fn refresh(&self, fingerprint: &Fingerprint, store: &Store, _: &RefreshOptions, _: &Monitor) -> Result<Refreshed> {
        self.reached()?;
        if store.image(fingerprint)?.aliases.iter().any(|alias| alias.name == "follows") {
            let newer = store.import(stream(unified("newer")), &ImportOptions::new(), &Monitor::none())?;
            return Ok(Refreshed::Replaced { fingerprint: newer.fingerprint });
        }
        Ok(Refreshed::Current)
    }

    fn push(&self, target: &Push, fingerprint: &Fingerprint, _: &Store, _: &Monitor) -> Result<()> {
        self.reached()?;
        self.pushed.lock().unwrap().push((target.clone(), *fingerprint));
        Ok(())
    }
}

fn served(elsewhere: &Arc<Elsewhere>) -> Served {
    Served::with(ServerOptions::new().image_transfer(Arc::clone(elsewhere) as Arc<dyn ImageTransfer>))
}

#[test]
fn upstream_image_is_fetched_once_and_cached() {
    let elsewhere = Elsewhere::with(&[("debian/12", "there")]);
    let served = served(&elsewhere);
    let told = object(served.get("/1.0/images/aliases/debian%2F12"));
    assert_eq!((&told["target"], &told["type"]), (&json!(fingerprint("there").to_string()), &json!("container")));
    assert_eq!(elsewhere.fetched(), 0, "a question for a name brings nothing");
    assert_eq!(object(served.get("/1.0/images")), json!([]), "lists are of what is here");
    let path = format!("/1.0/images/{}", fingerprint("there"));
    assert_eq!(object(served.get(&path))["cached"], json!(true));
    assert_eq!(served.get(&format!("{path}/export")).body.read_to_end().unwrap(), unified("there"));
    let asked = elsewhere.asked();
    for _ in 0..3 {
        object(served.get("/1.0/images/aliases/debian%2F12"));
        object(served.get(&path));
    }
    assert_eq!((elsewhere.asked(), elsewhere.fetched()), (asked, 1));
    let image = served.store.image(&fingerprint("there")).unwrap();
    assert!(image.cached && image.public && image.aliases.is_empty());
    assert_eq!(image.source.unwrap().alias, "debian/12");
    assert_eq!(object(served.get("/1.0/images")), json!([path]));
    served.holds(&[&fingerprint("there")]);
}

#[test]
fn upstream_image_is_fetched_by_prefix_and_by_alias_of_either_type() {
    let elsewhere = Elsewhere::with(&[("one", "there")]);
    elsewhere.put("vm", ImageType::VirtualMachine, "disk");
    let served = served(&elsewhere);
    assert_eq!(object(served.get("/1.0/images/aliases/vm"))["type"], json!("virtual-machine"));
    let short = fingerprint("there").short();
    assert_eq!(served.get(&format!("/1.0/images/aliases/{short}")).status, 404, "that is no alias");
    let found = object(served.get(&format!("/1.0/images/{short}")));
    assert_eq!(found["fingerprint"], json!(fingerprint("there").to_string()));
    for absent in
        ["/1.0/images/abcdef", "/1.0/images/aliases/absent", &format!("/1.0/images/{}/export", Fingerprint::of(b"x"))]
    {
        assert_eq!(served.get(absent).status, 404, "{absent}");
        let asked = elsewhere.asked();
        assert_eq!(served.get(absent).status, 404, "{absent}");
        assert_eq!(elsewhere.asked(), asked, "{absent} was asked for again");
    }
    assert_eq!(elsewhere.fetched(), 1);
}

#[test]
fn concurrent_requests_share_one_download() {
    let elsewhere = Elsewhere::with(&[("one", "there")]);
    let served = served(&elsewhere);
    let path = format!("/1.0/images/{}/export", fingerprint("there"));
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                assert_eq!(served.get(&path).body.read_to_end().unwrap(), unified("there"));
            });
        }
    });
    assert_eq!((elsewhere.asked(), elsewhere.fetched()), (1, 1));
}

#[test]
fn unreachable_upstream_is_not_retried_while_cached_images_are_served() {
    let elsewhere = Elsewhere::with(&[("one", "there")]);
    let first = served(&elsewhere);
    object(first.get("/1.0/images/aliases/one"));
    let path = format!("/1.0/images/{}", fingerprint("there"));
    object(first.get(&path));
    // Another server of the same store, which knows nothing of what was asked before.
    let fetch = Arc::clone(&elsewhere) as Arc<dyn ImageTransfer>;
    let handler = lxd_image::server::Handler::new(first.store.clone(), ServerOptions::new().image_transfer(fetch));
    let get = |path: &str| handler.handle(super::request("GET", path));
    elsewhere.away.store(true, Ordering::SeqCst);
    let asked = elsewhere.asked();
    assert_eq!(object(get("/1.0/images/aliases/one"))["target"], json!(fingerprint("there").to_string()));
    assert_eq!(get(&format!("{path}/export")).body.read_to_end().unwrap(), unified("there"));
    for _ in 0..3 {
        let (status, told) = json(get("/1.0/images/aliases/other"));
        assert_eq!(status, 502);
        assert!(!told.to_string().contains("10.1.2.3"), "{told}");
        assert_eq!(json(get("/1.0/images/abcdef")).0, 502);
    }
    assert_eq!(elsewhere.asked(), asked + 1);
    // The first one remembers.
    assert_eq!(object(first.get("/1.0/images/aliases/one"))["target"], json!(fingerprint("there").to_string()));
}

#[test]
fn upstream_does_not_reveal_private_images_or_take_over_local_names() {
    let elsewhere = Elsewhere::with(&[("theirs", "private"), ("ours", "there"), ("hidden", "there")]);
    let served = served(&elsewhere);
    let private = served.import("private", &["hidden"], false);
    let public = served.import("public", &["ours"], true);
    for path in
        [format!("/1.0/images/{}", private.fingerprint), format!("/1.0/images/{}/export", private.fingerprint.short())]
    {
        assert_eq!(served.get(&path).status, 404, "{path}");
    }
    assert!(!served.store.image(&private.fingerprint).unwrap().public);
    assert_eq!(elsewhere.fetched(), 0);
    assert_eq!(object(served.get("/1.0/images/aliases/ours"))["target"], json!(public.fingerprint.to_string()));
    assert_eq!(served.get("/1.0/images/aliases/hidden").status, 404);
    // The upstream is asked for either, so that the time it takes tells nothing.
    let asked = elsewhere.asked();
    assert_eq!(served.get("/1.0/images/aliases/nothing").status, 404);
    assert!(elsewhere.asked() > asked && asked > 0);
    assert_eq!(
        object(served.ask("GET", "/1.0/images/aliases/hidden"))["target"],
        json!(private.fingerprint.to_string())
    );
    // While it is away, neither can be told from the other.
    elsewhere.away.store(true, Ordering::SeqCst);
    let other = Served::with(ServerOptions::new().image_transfer(Arc::clone(&elsewhere) as Arc<dyn ImageTransfer>));
    other.import("private", &["hidden"], false);
    let answers = ["hidden", "nothing"].map(|name| json(other.get(&format!("/1.0/images/aliases/{name}"))));
    assert_eq!(answers[0], answers[1]);
    // What trusted clients change is here.
    assert_eq!(json(served.ask("DELETE", &format!("/1.0/images/{}", fingerprint("there")))).0, 404);
    assert_eq!(json(served.send("PUT", "/1.0/images/aliases/theirs", &json!({"target": "abcd"}))).0, 404);
}

#[test]
fn failed_upstream_download_leaves_nothing_and_is_not_retried_at_once() {
    let elsewhere = Elsewhere::with(&[("one", "there")]);
    let served = served(&elsewhere);
    let path = format!("/1.0/images/{}", fingerprint("there"));
    elsewhere.lies.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(json(served.get(&path)).0, 502);
    }
    assert_eq!(elsewhere.fetched(), 1);
    served.holds(&[]);
    // A defect in one request must not hold up others.
    elsewhere.lies.store(false, Ordering::SeqCst);
    let other = self::served(&elsewhere);
    elsewhere.panics.store(true, Ordering::SeqCst);
    let panicked = thread::scope(|scope| scope.spawn(|| other.get(&path)).join());
    assert!(panicked.is_err());
    elsewhere.panics.store(false, Ordering::SeqCst);
    assert_eq!(object(other.get(&path))["fingerprint"], json!(fingerprint("there").to_string()));
}

fn pull(source: Value) -> Value {
    let mut source = source;
    source["type"] = json!("image");
    source["server"] = json!("https://elsewhere");
    json!({"source": source})
}

#[test]
fn image_fetched_by_another_server_on_the_store_is_served() {
    let elsewhere = Elsewhere::with(&[("one", "there")]);
    elsewhere.raced.store(true, Ordering::SeqCst);
    let served = served(&elsewhere);
    let path = format!("/1.0/images/{}/export", fingerprint("there"));
    assert_eq!(served.get(&path).body.read_to_end().unwrap(), unified("there"));
}

#[test]
fn secret_of_an_import_is_in_no_operation() {
    let elsewhere = Elsewhere::with(&[]);
    let served = served(&elsewhere);
    let asked = pull(json!({"alias": "quotes", "protocol": "lxd", "secret": "S3CRET"}));
    let operation = served.finished(served.send("POST", "/1.0/images", &asked));
    assert_eq!(operation["status_code"], json!(400));
    assert!(!operation.to_string().contains("S3CRET"), "{operation}");
}

#[test]
fn import_of_a_stored_image_applies_the_requested_settings() {
    let elsewhere = Elsewhere::with(&[("one", "there")]);
    let served = served(&elsewhere);
    let there = served.import("there", &[], false);
    let mut asked = pull(json!({"alias": "one", "protocol": "lxd"}));
    (asked["public"], asked["properties"]) = (json!(true), json!({"os": "Asked"}));
    asked["expires_at"] = json!("2033-01-01T00:00:00Z");
    assert_eq!(served.finished(served.send("POST", "/1.0/images", &asked))["status_code"], json!(200));
    let now = served.store.image(&there.fingerprint).unwrap();
    assert!(now.public && now.properties.get("os") == Some("Asked") && now.expires_at == Some(1_988_150_400));
}

#[test]
fn trusted_client_imports_an_image_and_follows_its_operation() {
    let elsewhere = Elsewhere::with(&[("one", "there"), ("https://elsewhere/direct", "direct")]);
    let served = served(&elsewhere);
    let mut asked = pull(json!({"alias": "one", "mode": "pull", "protocol": "simplestreams"}));
    for (key, value) in [
        ("public", json!(true)),
        ("aliases", json!([{"name": "here", "description": "brought"}])),
        ("properties", json!({"a": "b"})),
        ("expires_at", json!("2030-01-02T03:04:05Z")),
    ] {
        asked[key] = value;
    }
    let operation = served.finished(served.send("POST", "/1.0/images", &asked));
    assert_eq!((&operation["status"], &operation["description"]), (&json!("Success"), &json!("Downloading image")));
    assert_eq!(operation["metadata"]["fingerprint"], json!(fingerprint("there").to_string()));
    let image = served.store.image(&fingerprint("there")).unwrap();
    assert!(image.public && !image.cached && image.expires_at == Some(1_893_553_445));
    assert_eq!((&*image.aliases[0].name, &*image.aliases[0].description), ("here", "brought"));
    assert_eq!(image.properties.get("a"), Some("b"));
    // What is here already gets the new names.
    let again = pull(json!({"alias": "one"}));
    assert_eq!(served.finished(served.send("POST", "/1.0/images", &again))["status_code"], json!(200));
    let direct = json!({"source": {"type": "url", "url": "https://elsewhere/direct"}});
    assert_eq!(served.finished(served.send("POST", "/1.0/images", &direct))["status_code"], json!(200));
    let absent = served.finished(served.send("POST", "/1.0/images", &pull(json!({"alias": "absent"}))));
    assert_eq!((&absent["status_code"], &absent["err"]), (&json!(400), &json!("no such image")));
    served.holds(&[&fingerprint("there"), &fingerprint("direct")]);
    assert_eq!(served.handler.handle(super::request("POST", "/1.0/images")).status, 403);
}

#[test]
fn invalid_import_source_is_refused() {
    let served = served(&Elsewhere::with(&[("one", "there")]));
    let with = |key: &str, value: Value| {
        let mut asked = pull(json!({"alias": "one"}));
        asked[key] = value;
        asked
    };
    for wrong in [
        json!({}),
        json!({"source": null}),
        json!({"source": {}}),
        json!({"source": {"type": "instance", "name": "c1"}}),
        json!({"source": {"type": "snapshot", "name": "c1/s"}}),
        json!({"source": {"type": "url"}}),
        json!({"source": {"type": "other"}}),
        json!({"source": {"type": "image", "alias": "one"}}),
        json!({"source": {"type": "image", "mode": "push", "fingerprint": "abc"}}),
        pull(json!({})),
        pull(json!({"alias": "one", "mode": "sideways"})),
        pull(json!({"alias": "one", "image_type": "floppy"})),
        with("aliases", json!([{"name": "a:b"}])),
        with("compression_algorithm", json!("gzip")),
        with("expires_at", json!("soon")),
        with("public", json!("yes")),
        with("properties", json!({"a\u{0}": "b"})),
    ] {
        let (status, told) = json(served.send("POST", "/1.0/images", &wrong));
        assert_eq!(status, 400, "{wrong}: {told}");
    }
    served.holds(&[]);
}

#[test]
fn import_is_cancelled_by_its_client_and_by_shutdown() {
    let elsewhere = Elsewhere::with(&[]);
    let served = served(&elsewhere);
    let begin = || served.send("POST", "/1.0/images", &pull(json!({"alias": "endless"})));
    let one = begin();
    let location = one.header("location").unwrap().to_owned();
    assert_eq!(json(one).1["metadata"]["status_code"], json!(103));
    object(served.ask("DELETE", &location));
    let told = object(served.ask("GET", &format!("{location}/wait?timeout=20")));
    assert_eq!((&told["status"], &told["status_code"]), (&json!("Cancelled"), &json!(401)));
    // Only so many at once.
    let all: Vec<_> = (0..8).map(|_| begin().header("location").unwrap().to_owned()).collect();
    assert_eq!(json(begin()).0, 503);
    served.handler.stop();
    for location in all {
        assert_eq!(object(served.ask("GET", &location))["status_code"], json!(401));
    }
}

#[test]
fn push_into_another_project_is_refused_and_aliases_are_reported() {
    let elsewhere = Elsewhere::with(&[]);
    let served = served(&elsewhere);
    let path = format!("/1.0/images/{}/export", served.import("stays", &[], false).fingerprint);
    let target = json!({"target": "https://other", "secret": "s", "project": "other"});
    assert_eq!(served.send("POST", &path, &target).status, 400);
    assert!(elsewhere.pushed.lock().unwrap().is_empty());
    let target = json!({"target": "https://other", "secret": "s", "project": "default", "aliases": [{"name": "x"}]});
    let done = served.finished(served.send("POST", &path, &target));
    assert!(done["status_code"] == 200 && done["metadata"].to_string().contains("the alias `x`"), "{done}");
}

#[test]
fn refresh_reports_a_replacement_and_push_gets_its_target() {
    let elsewhere = Elsewhere::with(&[]);
    let served = served(&elsewhere);
    let (stays, follows) = (served.import("stays", &[], false), served.import("follows", &["follows"], false));
    for (image, refreshed) in [(&stays, false), (&follows, true)] {
        let operation = served.finished(served.ask("POST", &format!("/1.0/images/{}/refresh", image.fingerprint)));
        assert_eq!(operation["metadata"]["refreshed"], json!(refreshed), "{operation}");
    }
    let path = format!("/1.0/images/{}/export", stays.fingerprint);
    let target = json!({"target": "https://other", "secret": "s", "certificate": "pem"});
    assert_eq!(served.finished(served.send("POST", &path, &target))["status_code"], json!(200));
    let pushed = elsewhere.pushed.lock().unwrap().clone();
    assert_eq!((&*pushed[0].0.url, &*pushed[0].0.secret, pushed[0].1), ("https://other", "s", stays.fingerprint));
    elsewhere.away.store(true, Ordering::SeqCst);
    let failed = served.finished(served.send("POST", &path, &target));
    assert_eq!(failed["status_code"], json!(400));
    // A defect is a failure that is told, and makes room.
    elsewhere.panics.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        let failed = served.finished(served.handler.handle(sent("POST", &path, &target)));
        assert_eq!(failed["err"], json!("the work ended without a result"));
    }
}

#[test]
fn upstream_error_on_one_name_does_not_affect_other_names() {
    let elsewhere = Elsewhere::with(&[("one", "one")]);
    let served = Served::with(ServerOptions::new().image_transfer(elsewhere));
    assert_eq!(served.get("/1.0/images/aliases/x..y").status, 502);
    assert_eq!(served.get("/1.0/images/aliases/one").status, 200);
}

#[test]
fn cached_images_stay_within_their_quota() {
    let elsewhere = Elsewhere::with(&[("one", "one"), ("two", "two"), ("three", "three")]);
    let mut limits = lxd_image::Limits::default();
    limits.cache = unified("one").len() as u64 * 2;
    let served = Served::with(ServerOptions::new().limits(limits.clone()).image_transfer(elsewhere));
    let own = served.import("own", &["own"], false);
    for name in ["one", "two", "three"] {
        let image = object(served.get(&format!("/1.0/images/{}", fingerprint(name))));
        assert_eq!(image["fingerprint"], json!(fingerprint(name).to_string()));
    }
    let images = served.store.images().unwrap();
    let cached: u64 = images.iter().filter(|image| image.cached).map(|image| image.size).sum();
    assert!(cached > 0 && cached <= limits.cache, "{cached}");
    assert!(images.iter().any(|image| image.fingerprint == own.fingerprint), "what was put there on purpose stays");
    assert!(images.iter().any(|image| image.fingerprint == fingerprint("three")), "the last one is there");
}

#[test]
fn format_of_an_image_that_comes_as_it_is_is_reported_and_a_wrong_one_refused() {
    let served = served(&Elsewhere::with(&[("box", "one")]));
    let source = json!({"type": "image", "mode": "pull", "server": "https://elsewhere", "alias": "box"});
    let done = served.finished(served.send("POST", "/1.0/images", &json!({"format": "split", "source": source})));
    assert_eq!(done["status_code"], 200, "{done}");
    let omissions = done["metadata"]["omissions"].to_string();
    assert!(omissions.contains("`split`") && omissions.contains("unified"), "{done}");
    let (status, envelope) = json(served.send("POST", "/1.0/images", &json!({"format": "tar", "source": source})));
    assert_eq!(status, 400, "{envelope}");
}
