//! Auto-update against a server in memory: what moves, what survives, and what stays when it fails.

use std::sync::Mutex;

use lxd_image::format::ImageSource;
use lxd_image::store::{Edit, ImportOptions, Newest, RefreshOptions, RefreshSource, Refreshed, Store, UpdateSource};
use lxd_image::{Error, ErrorKind, Monitor, Properties, Result};

use super::*;

/// A server with one alias.
pub(crate) struct Fake {
    pub(crate) newest: Mutex<String>,
    pub(crate) label: Mutex<Option<String>>,
}

impl Fake {
    pub(crate) fn new(tag: &str) -> Self {
        Self { newest: Mutex::new(tag.to_owned()), label: Mutex::new(None) }
    }
}

impl RefreshSource for Fake {
    fn newest(&self, _: &StoredImage, source: &UpdateSource, _: &Monitor) -> Result<Newest> {
        assert_eq!(source.alias, "debian");
        let mut properties = Properties::new();
        if let Some(label) = &*self.label.lock().unwrap() {
            properties.set("label", &**label)?;
        }
        Ok(Newest::new(fingerprint(&self.newest.lock().unwrap())).properties(properties))
    }

    fn fetch(&self, _: &StoredImage, _: &UpdateSource, _: &Newest, _: &Monitor) -> Result<ImageSource> {
        let tag = self.newest.lock().unwrap();
        if tag.starts_with("gone") {
            return Err(Error::new(ErrorKind::Remote, "the server is away"));
        }
        Ok(stream(unified(&tag)))
    }
}

pub(crate) fn following(store: &Store, tag: &str, aliases: &[&str]) -> StoredImage {
    let options = ImportOptions::new().auto_update(true).source(UpdateSource::new(
        "https://images.example",
        "simplestreams",
        "debian",
    ));
    let options = aliases.iter().fold(options, |options, name| options.alias(alias(name)));
    store.import(stream(unified(tag)), &options, &Monitor::none()).unwrap()
}

#[test]
fn newest_image_replaces_the_old_one() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let old = following(&store, "old", &["a", "b"]);
    let fake = Fake::new("old");
    let options = RefreshOptions::new();
    assert_eq!(store.refresh(&old.fingerprint, &fake, &options, &Monitor::none()).unwrap(), Refreshed::Current);
    *fake.newest.lock().unwrap() = "new".into();
    let dry = RefreshOptions::new().dry_run(true);
    assert_eq!(
        store.refresh(&old.fingerprint, &fake, &dry, &Monitor::none()).unwrap(),
        Refreshed::Replaced { fingerprint: fingerprint("new") }
    );
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(
        store.refresh(&old.fingerprint, &fake, &options, &Monitor::none()).unwrap(),
        Refreshed::Replaced { fingerprint: fingerprint("new") }
    );
    let new = store.resolve("a").unwrap();
    assert_eq!(new.fingerprint, fingerprint("new"));
    assert_eq!(new.aliases, old.aliases);
    assert!(new.auto_update && new.source == old.source);
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(files(&path).len(), 2, "the old one's files are gone");
    assert_clean(&store);
}

#[test]
fn edited_properties_survive_a_refresh() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let old = following(&store, "old", &["a"]);
    let edit =
        Edit::new().public(true).property("mine", "x").unwrap().property("os", "D").unwrap().remove_property("release");
    store.edit(&old.fingerprint, &edit, None).unwrap();
    let fake = Fake::new("new");
    *fake.label.lock().unwrap() = Some("release".into());
    store.refresh(&old.fingerprint, &fake, &RefreshOptions::new(), &Monitor::none()).unwrap();
    let new = store.resolve("a").unwrap();
    let pairs: Vec<_> = new.properties.iter().collect();
    assert_eq!(pairs, [("os", "D"), ("tag", "new"), ("label", "release"), ("mine", "x")]);
    assert!(new.public);
    // And the next one too, while what the source says goes with it.
    *fake.newest.lock().unwrap() = "newer".into();
    *fake.label.lock().unwrap() = None;
    store.refresh(&new.fingerprint, &fake, &RefreshOptions::new(), &Monitor::none()).unwrap();
    let pairs: Vec<_> =
        store.resolve("a").unwrap().properties.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    assert_eq!(pairs, [("os", "D"), ("tag", "newer"), ("mine", "x")].map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[test]
fn image_that_follows_no_source_is_not_refreshed() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = import(&store, "old", &["a"]);
    let fake = Fake::new("new");
    assert_eq!(
        store.refresh(&image.fingerprint, &fake, &RefreshOptions::new(), &Monitor::none()).unwrap(),
        Refreshed::NotFollowing
    );
    assert!(store.refresh_all(&fake, &RefreshOptions::new(), &Monitor::none()).unwrap().is_empty());
    let options = ImportOptions::new().auto_update(true);
    assert_kind(store.import(stream(unified("x")), &options, &Monitor::none()), ErrorKind::InvalidInput);
}

#[test]
fn failed_refresh_leaves_the_old_image() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let old = following(&store, "old", &["a"]);
    let done = store.refresh_all(&Fake::new("gone"), &RefreshOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].1.as_ref().unwrap_err().kind(), ErrorKind::Remote);
    assert_eq!(store.resolve("a").unwrap(), old);
    assert_eq!(files(&path).len(), 2);
    assert_clean(&store);
}

#[test]
fn present_newest_image_gets_the_aliases() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let old = following(&store, "old", &["a"]);
    let new = import(&store, "new", &["mine"]);
    let done = store.refresh(&old.fingerprint, &Fake::new("new"), &RefreshOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(done, Refreshed::Replaced { fingerprint: new.fingerprint });
    let now = store.resolve("a").unwrap();
    assert_eq!(now.aliases, [alias("a"), alias("mine")]);
    assert!(now.auto_update, "it follows from now on");
    assert_eq!(store.images().unwrap().len(), 1);
    assert_clean(&store);
}

#[test]
fn edits_are_applied_to_a_present_newest_image() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let old = following(&store, "old", &["a"]);
    let edit = Edit::new().public(true).expires_at(Some(2_000_000_000)).property("os", "Mine").unwrap();
    store.edit(&old.fingerprint, &edit, None).unwrap();
    let new = import(&store, "new", &[]);
    store.edit(&new.fingerprint, &Edit::new().property("release", "theirs").unwrap(), None).unwrap();
    store.refresh(&old.fingerprint, &Fake::new("new"), &RefreshOptions::new(), &Monitor::none()).unwrap();
    let now = store.resolve("a").unwrap();
    assert!(now.public && now.auto_update && now.source == old.source);
    assert_eq!(now.expires_at, Some(2_000_000_000));
    assert_eq!((now.properties.get("os"), now.properties.get("release")), (Some("Mine"), Some("theirs")));
}

#[test]
fn expiry_date_that_was_set_survives_a_refresh() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let old = following(&store, "old", &["a"]);
    store.edit(&old.fingerprint, &Edit::new().expires_at(Some(2_000_000_000)), None).unwrap();
    store.refresh(&old.fingerprint, &Fake::new("new"), &RefreshOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(store.resolve("a").unwrap().expires_at, Some(2_000_000_000));
}

#[test]
fn public_image_stays_public_when_it_replaces_a_private_one() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let old = following(&store, "old", &["a"]);
    let new = import(&store, "new", &[]);
    store.edit(&new.fingerprint, &Edit::new().public(true), None).unwrap();
    store.refresh(&old.fingerprint, &Fake::new("new"), &RefreshOptions::new(), &Monitor::none()).unwrap();
    assert!(store.resolve("a").unwrap().public);
}

#[test]
fn open_image_survives_its_refresh() {
    use lxd_image::io::ReadAt;
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let old = following(&store, "old", &["a"]);
    let opened = store.open_image(&old.fingerprint).unwrap();
    store.refresh(&old.fingerprint, &Fake::new("new"), &RefreshOptions::new(), &Monitor::none()).unwrap();
    let mut bytes = vec![0; usize::try_from(old.size).unwrap()];
    opened.files().0.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, unified("old"));
}
