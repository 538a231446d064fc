//! What a store or a list cannot take of an image that comes from elsewhere.

use std::fs;
use std::path::Path;

use lxd_image::format::{Input, Source};
use lxd_image::remote::{ClientOptions, CopyOptions, MirrorOptions, MirrorTarget, Simplestreams, copy, mirror};
use lxd_image::store::Store;
use lxd_image::streams::{AddOptions, Tree, TreeOptions};
use lxd_image::{Monitor, Omissions};

use super::Told;
use crate::cli::run;
use crate::format::Place;
use crate::format::forge::image;

/// A tree with one image, whose list is then changed.
fn tree(place: &Place, change: &dyn Fn(&mut serde_json::Value)) -> Tree {
    let tree = TreeOptions::new().create(place.at("tree")).unwrap();
    let input = Input::open(place.write("image.tar", image(&[]))).unwrap();
    tree.lock().unwrap().add(Source::unified(input), &AddOptions::new()).unwrap();
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

/// The record of copying, and of mirroring to a store; and what the command says of the latter.
fn losses(place: &Place) -> Vec<(&'static str, Omissions, Option<String>)> {
    let (copied, mirrored) = (Monitor::none(), Monitor::none());
    let options =
        CopyOptions::new().copy_aliases(true).architectures(["x86_64".parse().unwrap()]).monitor(copied.clone());
    copy(&remote(&place.at("tree")), "Debian/12/default", &Store::open(place.at("copied")).unwrap(), &options).unwrap();
    let store = Store::open(place.at("mirrored")).unwrap();
    let options = MirrorOptions::new().monitor(mirrored.clone());
    mirror(&remote(&place.at("tree")), MirrorTarget::Store(&store), &options).unwrap();
    let url = format!("file://{}", place.at("tree").display());
    let said = |arguments: &[&str]| {
        let ran = run(place, &[&["--store", "store"], arguments].concat());
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        ran.err
    };
    let mirror = said(&["mirror", &url, "local:"]);
    vec![("copy", copied.omissions(), None), ("mirror", mirrored.omissions(), Some(mirror))]
}

#[test]
fn aliases_that_a_store_does_not_take_are_told() {
    let place = Place::new();
    tree(&place, &|product| product["aliases"] = "Debian/12/default,a:b".into());
    let told = Told { path: "a:b", words: &["alias"] };
    for (verb, record, stderr) in losses(&place) {
        assert!(told.is_in(&record), "{verb}: {record:?}");
        assert!(stderr.as_ref().is_none_or(|said| told.is_on(said)), "{verb}: {stderr:?}");
    }
}
