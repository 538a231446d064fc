//! The store as simplestreams: what readers find in the list is what the store has, and every file that it names is there.
//! Only what is public is in it.

use lxd_image::format::{ImageSource, Input};
use lxd_image::protocol::simplestreams::{Index, Listing, Products, RootKind};
use lxd_image::server::{Response, ServerOptions};
use lxd_image::store::{ImportOptions, StoredImage};
use lxd_image::{Architecture, Fingerprint, ImageType, Limits, Monitor};

use super::{Served, json, request, trusted, with};
use crate::store::{alias, split, split_stream, stream, unified_with};

const LIST: &str = "/streams/v1/images.json";

fn text(response: Response) -> Vec<u8> {
    assert_eq!(response.status, 200);
    response.body.read_to_end().unwrap()
}

fn list(served: &Served) -> Products {
    Products::from_json(&text(served.get(LIST)), &Limits::default()).unwrap()
}

fn means(served: &Served, alias: &str) -> Option<Fingerprint> {
    let listing = Listing::new(&list(served));
    listing.resolve(alias, ImageType::Container, Architecture::X86_64).map(|image| image.fingerprint)
}

/// An image of Debian 12 that was made on this day.
fn made(served: &Served, architecture: &str, day: i64, tag: &str, aliases: &[&str]) -> StoredImage {
    let metadata = format!(
        "architecture: {architecture}\ncreation_date: {}\nproperties:\n  os: Debian\n  release: \"12\"\n  tag: {tag}\n",
        1_700_000_000 + day * 86_400
    );
    let options = aliases.iter().fold(ImportOptions::new().public(true), |options, name| options.alias(alias(name)));
    served.store.import(stream(unified_with(&metadata, tag.as_bytes())), &options, &Monitor::none()).unwrap()
}

#[test]
fn index_leads_to_the_list_and_the_list_to_files_that_are_what_it_says() {
    let served = Served::new();
    let unified = served.import("one", &["one"], true);
    let split = served
        .store
        .import(split_stream("two"), &ImportOptions::new().public(true).alias(alias("two")), &Monitor::none())
        .unwrap();
    let index = Index::from_json(&text(served.get("/streams/v1/index.json")), &Limits::default()).unwrap();
    let entry = index.image_lists().next().unwrap();
    assert_eq!(format!("/{}", entry.path), LIST);
    let products = list(&served);
    assert_eq!(entry.products, products.products.keys().cloned().collect::<Vec<_>>());
    let listing = Listing::new(&products);
    assert_eq!(listing.images().len(), 2);
    assert!(listing.omissions().is_empty(), "{:?}", listing.omissions());
    for (stored, tag) in [(&unified, "one"), (&split, "two")] {
        let image = listing.images().iter().find(|image| image.fingerprint == stored.fingerprint).unwrap();
        assert_eq!((image.size(), image.architecture), (stored.size, stored.architecture));
        assert_eq!(image.properties.get("os"), Some("Debian"));
        assert_eq!(means(&served, tag), Some(stored.fingerprint));
        let mut all = Vec::new();
        for file in std::iter::once(&image.first).chain(&image.rootfs) {
            let response = served.get(&format!("/{}", file.checked_path().unwrap()));
            assert_eq!(response.header("content-type"), Some("application/octet-stream"));
            let bytes = text(response);
            assert_eq!((Some(bytes.len() as u64), Some(Fingerprint::of(&bytes))), (file.size, file.sha256));
            all.extend(bytes);
        }
        assert_eq!(Fingerprint::of(&all), stored.fingerprint);
    }
}

#[test]
fn both_peers_find_their_own_names_for_the_same_files() {
    let served = Served::new();
    served.import("one", &[], true);
    served.store.import(split_stream("two"), &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    let all = list(&served);
    let versions = all.products.values().flat_map(|product| product.versions.values());
    let items: Vec<_> = versions.map(|version| &version.items).collect();
    let with = |name: &str| items.iter().find_map(|items| items.get(name)).unwrap();
    assert_eq!(with("lxd_combined.tar.gz").path, with("incus_combined.tar.gz").path);
    assert_eq!(with("lxd.tar.xz").path, with("incus.tar.xz").path);
    assert_eq!(RootKind::Tar.combined(with("lxd.tar.xz")), RootKind::Tar.combined(with("incus.tar.xz")));
    assert_eq!(with("root.tar.xz").ftype, "root.tar.xz");
}

#[test]
fn simplestreams_hides_private_images_from_all_clients() {
    let served = Served::new();
    served.import("public", &["public"], true);
    let private = served.import("private", &["hidden"], false);
    let split = served
        .store
        .import(split_stream("secret"), &ImportOptions::new().alias(alias("halves")), &Monitor::none())
        .unwrap();
    for path in [LIST, "/streams/v1/index.json"] {
        let text = String::from_utf8(text(served.handler.handle(trusted(request("GET", path))))).unwrap();
        for hint in [private.fingerprint.to_string(), split.fingerprint.to_string(), "hidden".into(), "halves".into()] {
            assert!(!text.contains(&hint), "{path} has {hint}");
        }
    }
    let absent = Fingerprint::of(b"absent");
    for (image, endings) in
        [(&private, &["incus_combined.tar.gz"][..]), (&split, &["incus.tar.xz", "root.tar.xz", "squashfs"][..])]
    {
        for ending in endings {
            let there = served.get(&format!("/images/{}.{ending}", image.fingerprint));
            let not_there = served.get(&format!("/images/{absent}.{ending}"));
            assert_eq!(there.status, 404);
            assert_eq!(there.headers, not_there.headers);
            assert_eq!(json(there), json(not_there));
        }
    }
}

#[test]
fn simplestreams_list_is_sent_again_only_when_it_changed() {
    let served = Served::new();
    served.import("one", &["one"], true);
    for path in [LIST, "/streams/v1/index.json"] {
        let first = served.get(path);
        let (etag, date) =
            (first.header("etag").unwrap().to_owned(), first.header("last-modified").unwrap().to_owned());
        let asked = |name: &str, value: &str| served.handler.handle(with(request("GET", path), name, value));
        for (name, value) in [("if-none-match", etag.as_str()), ("if-modified-since", date.as_str())] {
            let again = asked(name, value);
            assert_eq!((again.status.as_u16(), again.header("etag")), (304, Some(etag.as_str())));
            assert!(again.body.read_to_end().unwrap().is_empty());
        }
        assert_eq!(asked("if-none-match", "\"other\"").status, 200);
        assert_eq!(asked("if-modified-since", "Mon, 01 Jan 2001 00:00:00 GMT").status, 200);
        assert_eq!(asked("if-modified-since", "yesterday").status, 200);
        let mut both = with(request("GET", path), "if-none-match", "\"other\"");
        both = with(both, "if-modified-since", &date);
        assert_eq!(served.handler.handle(both).status, 200, "the tag decides");
    }
    let (etag, date) = {
        let response = served.get(LIST);
        (response.header("etag").unwrap().to_owned(), response.header("last-modified").unwrap().to_owned())
    };
    let updated = list(&served).updated;
    // All within one second, and each is seen.
    let image = served.import("two", &[], true);
    let changed = served.handler.handle(with(request("GET", LIST), "if-modified-since", &date));
    assert_eq!(changed.status, 200);
    assert_ne!((changed.header("etag").unwrap(), list(&served).updated), (etag.as_str(), updated));
    served.store.create_alias(&alias("late"), &image.fingerprint).unwrap();
    assert_eq!(means(&served, "late"), Some(image.fingerprint));
    served.store.delete_alias("late", None).unwrap();
    served.store.delete(&image.fingerprint).unwrap();
    let back = served.get(LIST);
    assert_eq!(back.header("etag"), Some(etag.as_str()), "the same list has the same tag");
    assert_ne!(back.header("last-modified"), Some(date.as_str()));
}

#[test]
fn alias_means_in_the_list_what_it_means_in_the_store() {
    let served = Served::new();
    let old = made(&served, "amd64", 0, "old", &["stable", "a,b"]);
    let new = made(&served, "amd64", 10, "new", &["testing"]);
    let twins = [made(&served, "amd64", 10, "twin", &["twin"]), made(&served, "amd64", 10, "other", &[])];
    let arm = made(&served, "arm64", 0, "arm", &["stable/arm64", "testing/aarch64"]);
    assert_eq!(means(&served, "stable"), Some(old.fingerprint));
    assert_eq!(means(&served, "testing"), Some(new.fingerprint));
    assert_eq!(means(&served, "twin"), Some(twins[0].fingerprint));
    for name in ["stable/arm64", "testing/arm64"] {
        assert_eq!(means(&served, name), Some(arm.fingerprint), "{name}");
    }
    let listing = Listing::new(&list(&served));
    let arm64 = listing.resolve("stable", ImageType::Container, Architecture::Aarch64).unwrap();
    assert_eq!(arm64.fingerprint, arm.fingerprint);
    assert_eq!(means(&served, "a"), None, "a comma makes no two aliases");
    assert_eq!(listing.images().len(), 5);
    // Once more the other way round: the old one is what people get again.
    served.store.move_alias(&alias("testing"), &old.fingerprint).unwrap();
    assert_eq!(means(&served, "testing"), Some(old.fingerprint));
}

#[test]
fn image_without_aliases_is_listed_by_os_release_and_variant() {
    let served = Served::new();
    let old = made(&served, "amd64", 0, "old", &[]);
    let new = made(&served, "amd64", 1, "new", &[]);
    assert_eq!(means(&served, "Debian/12/default"), Some(new.fingerprint));
    assert_eq!(list(&served).products.keys().collect::<Vec<_>>(), ["Debian:12:default:amd64"]);
    // A name that somebody gave goes before.
    served.store.create_alias(&alias("Debian/12/default"), &old.fingerprint).unwrap();
    assert_eq!(means(&served, "Debian/12/default"), Some(old.fingerprint));
}

#[test]
fn damaged_image_is_not_listed_and_the_others_are() {
    let served = Served::new();
    let good = served.store.import(split_stream("good"), &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    let bad = served.store.import(split_stream("bad"), &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    let blob = served.root().join("blobs").join(bad.objects.rootfs.unwrap().as_str());
    let right = std::fs::read(&blob).unwrap();
    let mut wrong = right.clone();
    wrong[600] ^= 1;
    std::fs::write(&blob, &wrong).unwrap();
    let fingerprints =
        || -> Vec<_> { Listing::new(&list(&served)).images().iter().map(|image| image.fingerprint).collect() };
    assert_eq!(fingerprints(), [good.fingerprint]);
    let date = served.get(LIST).header("last-modified").unwrap().to_owned();
    assert_eq!(served.get(LIST).header("last-modified"), Some(date.as_str()), "nothing changed");
    assert_eq!(served.get(&format!("/images/{}.root.tar.xz", bad.fingerprint)).status, 404);
    std::fs::write(&blob, &right).unwrap();
    // Damaged files are looked at again now and then, not for each request.
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(fingerprints().len(), 2, "it was repaired");
}

#[test]
fn split_file_is_served_by_range_and_cut_when_damaged() {
    let served = Served::new();
    let image = served.store.import(split_stream("two"), &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    let (_, rootfs) = split("two");
    let path = format!("/images/{}.root.tar.xz", image.fingerprint);
    let part = served.handler.handle(with(request("GET", &path), "range", "bytes=5-14"));
    assert_eq!((part.status.as_u16(), part.body.read_to_end().unwrap()), (206, rootfs[5..15].to_vec()));
    let etag = served.get(&path).header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", Fingerprint::of(&rootfs)));
    assert_eq!(served.handler.handle(with(request("GET", &path), "if-none-match", &etag)).status, 304);
    let head = served.handler.handle(request("HEAD", &path));
    assert_eq!((head.status, head.headers), (served.get(&path).status, served.get(&path).headers));
    let blob = served.root().join("blobs").join(image.objects.rootfs.as_ref().unwrap().as_str());
    let mut wrong = rootfs.clone();
    wrong[600] ^= 1;
    std::fs::write(&blob, &wrong).unwrap();
    assert_eq!(served.get(&path).body.read_to_end().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    std::fs::write(&blob, &rootfs).unwrap();
    assert_eq!(served.get(&path).body.read_to_end().unwrap(), rootfs);
}

#[test]
fn simplestreams_files_are_served_under_their_listed_names_only() {
    let served = Served::new();
    let one = served.import("one", &[], true);
    let two = served.store.import(split_stream("two"), &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    for (image, ending) in [
        (&one, "incus.tar.xz"),
        (&one, "root.tar.xz"),
        (&one, "squashfs"),
        (&one, ""),
        (&two, "incus_combined.tar.gz"),
        (&two, "squashfs"),
        (&two, "qcow2"),
        (&two, "rootfs"),
    ] {
        assert_eq!(served.get(&format!("/images/{}.{ending}", image.fingerprint)).status, 404, "{ending}");
    }
    for path in
        ["/streams", "/streams/v1", "/streams/v1/other.json", "/streams/v1/images.json/x", "/streams/v2/index.json"]
    {
        assert_eq!(served.get(path).status, 404, "{path}");
    }
    assert_eq!(served.handler.handle(request("POST", LIST)).status, 405);
}

#[test]
fn images_of_one_day_and_one_product_are_all_listed() {
    let served = Served::new();
    for count in 0..20 {
        made(&served, "amd64", 0, &format!("tag{count}"), &[]);
    }
    for count in 0..3 {
        let (meta, rootfs) = split(&format!("split{count}"));
        let source =
            ImageSource::split(Input::stream(std::io::Cursor::new(meta)), Input::stream(std::io::Cursor::new(rootfs)));
        served.store.import(source, &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    }
    let listing = Listing::new(&list(&served));
    assert_eq!(listing.images().len(), 23);
    let versions = list(&served).products["Debian:12:default:amd64"].versions.keys().cloned().collect::<Vec<_>>();
    made(&served, "amd64", 0, "one more", &[]);
    let more = list(&served).products["Debian:12:default:amd64"].versions.keys().cloned().collect::<Vec<_>>();
    assert!(versions.iter().all(|key| more.contains(key)), "a new image gives no other another version");
}

#[test]
fn empty_store_has_a_list_without_products() {
    let served = Served::with(ServerOptions::new());
    assert!(list(&served).products.is_empty());
    let index = Index::from_json(&text(served.get("/streams/v1/index.json")), &Limits::default()).unwrap();
    assert_eq!(index.image_lists().count(), 0);
}
