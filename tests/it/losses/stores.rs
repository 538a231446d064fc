//! What a store or a list cannot take of an image that comes from elsewhere.

use std::fs;
use std::path::Path;

use lxd_image::format::{ImageSource, Input};
use lxd_image::remote::{
    ClientOptions, CopyOptions, MirrorOptions, MirrorTarget, RemoteRefresh, Simplestreams, copy, mirror,
};
use lxd_image::simplestreams::{AddOptions, Tree, TreeOptions};
use lxd_image::store::{ImportOptions, RefreshOptions, Store};
use lxd_image::{Monitor, Omissions};

use super::Told;
use crate::cli::run;
use crate::format::Place;
use crate::format::forge::{archive, directory, file, image};

/// A tree with one image, whose list is then changed.
fn tree(place: &Place, change: &dyn Fn(&mut serde_json::Value)) -> Tree {
    let tree = TreeOptions::new().create(place.at("tree")).unwrap();
    let input = Input::open(place.write("image.tar", image(&[]))).unwrap();
    tree.lock().unwrap().add(ImageSource::unified(input), &AddOptions::new(), &Monitor::none()).unwrap();
    let list = place.at("tree/streams/v1/images.json");
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    for product in document["products"].as_object_mut().unwrap().values_mut() {
        change(product);
    }
    fs::write(&list, document.to_string()).unwrap();
    tree
}

fn remote(at: &Path) -> Simplestreams {
    let url = format!("file://{}", at.display()).parse().unwrap();
    Simplestreams::new(ClientOptions::new(), &url).unwrap()
}

/// A verb that takes from a list: its record, and what the command says where it was run.
type Lost = (&'static str, Omissions, Option<String>);

/// The record of everything that takes images from the list of a tree.
fn losses(place: &Place) -> Vec<Lost> {
    let url = format!("file://{}", place.at("tree").display());
    let said = |arguments: &[&str]| {
        let ran = run(place, &[&["--store", "store"], arguments].concat());
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        ran.err
    };
    let source = remote(&place.at("tree"));
    let copied = Monitor::none();
    let options = CopyOptions::new().copy_aliases(true).architectures(["x86_64".parse().unwrap()]);
    copy(&source, "Debian/12/default", &Store::open(place.at("copied")).unwrap(), &options, &copied).unwrap();
    let mirrored = Monitor::none();
    let store = Store::open(place.at("mirrored")).unwrap();
    mirror(&source, MirrorTarget::Store(&store), &MirrorOptions::new(), &mirrored).unwrap();
    let into_tree = Monitor::none();
    let target = TreeOptions::new().create(place.at("mirrored-tree")).unwrap();
    mirror(&source, MirrorTarget::Tree(&target), &MirrorOptions::new(), &into_tree).unwrap();
    vec![
        ("copy", copied.omissions(), None),
        ("mirror", mirrored.omissions(), Some(said(&["mirror", &url, "local:"]))),
        ("mirror to a tree", into_tree.omissions(), Some(said(&["mirror", &url, "mirrored-too"]))),
    ]
}

/// Those that take all of a list: to a copy of one image its other entries are no loss.
fn listing(place: &Place) -> Vec<Lost> {
    losses(place).into_iter().filter(|(verb, ..)| *verb != "copy").collect()
}

#[track_caller]
fn all_tell(lost: Vec<Lost>, told: Told) {
    for (verb, record, stderr) in lost {
        assert!(told.is_in(&record), "{verb}: {record:?}");
        assert!(stderr.as_ref().is_none_or(|said| told.is_on(said)), "{verb}: {stderr:?}");
    }
}

#[test]
fn aliases_that_a_store_does_not_take_are_told() {
    let place = Place::new();
    tree(&place, &|product| product["aliases"] = "Debian/12/default,a:b".into());
    let lost = losses(&place).into_iter().filter(|(verb, ..)| *verb != "mirror to a tree").collect();
    all_tell(lost, Told { path: "a:b", words: &["alias"] });
}

/// A second product beside the good one, which is made of it.
fn beside(place: &Place, name: &str, change: &dyn Fn(&mut serde_json::Value)) {
    tree(place, &|_| {});
    let list = place.at("tree/streams/v1/images.json");
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    let products = document["products"].as_object_mut().unwrap();
    let mut odd = products.values().next().unwrap().clone();
    odd["aliases"] = "odd".into();
    change(&mut odd);
    products.insert(name.to_owned(), odd);
    fs::write(&list, document.to_string()).unwrap();
}

#[test]
fn odd_entry_of_a_list_is_told() {
    let place = Place::new();
    beside(&place, "odd-entry", &|product| product["versions"] = 5.into());
    all_tell(listing(&place), Told { path: "odd-entry", words: &["skipped"] });
}

#[test]
fn image_for_an_unknown_architecture_is_told() {
    let place = Place::new();
    beside(&place, "odd-machine", &|product| product["arch"] = "vax".into());
    all_tell(listing(&place), Told { path: "odd-machine", words: &["vax"] });
}

#[test]
fn end_that_is_no_date_is_told() {
    let place = Place::new();
    tree(&place, &|product| product["support_eol"] = "never".into());
    all_tell(listing(&place), Told { path: "Debian:12:default", words: &["support_eol"] });
}

/// An image whose metadata has an expiry date beyond all calendars.
fn without_end(place: &Place, name: &str) -> std::path::PathBuf {
    let text = "architecture: x86_64\ncreation_date: 1700000000\nexpiry_date: 99999999999999\nproperties: {os: Debian, release: \"12\"}\n";
    place.write(name, archive(&[file("metadata.yaml", text), directory("rootfs/")]))
}

const NO_CALENDAR: Told = Told { path: "99999999999999", words: &["expiry date"] };

#[test]
fn expiry_date_out_of_range_is_told_by_import() {
    let place = Place::new();
    let path = without_end(&place, "image.tar");
    let monitor = Monitor::none();
    let store = Store::open(place.at("imported")).unwrap();
    let source = ImageSource::unified(Input::open(path).unwrap());
    store.import(source, &ImportOptions::new(), &monitor).unwrap();
    let ran = run(&place, &["--store", "store", "import", "image.tar"]);
    all_tell(vec![("import", monitor.omissions(), Some(ran.err))], NO_CALENDAR);
}

#[test]
fn expiry_date_out_of_range_is_told_by_copy_and_mirror() {
    let place = Place::new();
    let tree = TreeOptions::new().create(place.at("tree")).unwrap();
    let input = Input::open(without_end(&place, "image.tar")).unwrap();
    tree.lock().unwrap().add(ImageSource::unified(input), &AddOptions::new(), &Monitor::none()).unwrap();
    let lost = losses(&place).into_iter().filter(|(verb, ..)| *verb != "mirror to a tree").collect();
    all_tell(lost, NO_CALENDAR);
}

#[test]
fn what_refresh_cannot_take_is_told() {
    let place = Place::new();
    let tree = tree(&place, &|_| {});
    let store = Store::open(place.at("store")).unwrap();
    let following = CopyOptions::new().auto_update(true).architectures(["x86_64".parse().unwrap()]);
    let source = remote(&place.at("tree"));
    let first = copy(&source, "Debian/12/default", &store, &following, &Monitor::none()).unwrap();
    let newer = "architecture: x86_64\ncreation_date: 1800000000\nexpiry_date: 99999999999999\nproperties: {os: Debian, release: \"12\"}\n";
    let input =
        Input::open(place.write("newer.tar", archive(&[file("metadata.yaml", newer), directory("rootfs/")]))).unwrap();
    tree.lock().unwrap().add(ImageSource::unified(input), &AddOptions::new(), &Monitor::none()).unwrap();
    let monitor = Monitor::none();
    let at = place.at("tree");
    let upstreams = RemoteRefresh::new(move |_| Ok(Box::new(remote(&at))));
    store.refresh(&first.fingerprint, &upstreams, &RefreshOptions::new(), &monitor).unwrap();
    all_tell(vec![("refresh", monitor.omissions(), None)], NO_CALENDAR);
}

#[test]
fn property_that_a_list_has_no_place_for_is_told() {
    let place = Place::new();
    let path = place.write("image.tar", image(&[]));
    let tree = TreeOptions::new().create(place.at("tree")).unwrap();
    let monitor = Monitor::none();
    let options = AddOptions::new().property("owner", "me").unwrap().property("variant", "cloud").unwrap();
    let source = ImageSource::unified(Input::open(&path).unwrap());
    tree.lock().unwrap().add(source, &options, &monitor).unwrap();
    let ran = run(&place, &["simplestreams", "add", "tree-too", "image.tar", "--property", "owner=me"]);
    let record = monitor.omissions();
    assert_eq!(record.total(), 1, "the variant has a place: {record:?}");
    all_tell(vec![("simplestreams add", record, Some(ran.err))], Told { path: "owner", words: &["property"] });
}
