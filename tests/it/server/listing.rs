//! Lists that are longer than a page: whole, in order, and made while they are sent. And names that a container's and a virtual
//! machine's image share.

use std::io::Read;
use std::path::Path;

use lxd_image::format::ImageForm;
use lxd_image::server::Body;
use lxd_image::store::{Alias, Catalog, ImageObjects, SqliteCatalog, StoredImage};
use lxd_image::{Architecture, Fingerprint, ImageType};
use serde_json::{Value, json};

use super::{Served, object};

/// A public image of which nothing but a row is there.
fn row(tag: &str, image_type: ImageType) -> StoredImage {
    let fingerprint = Fingerprint::of(tag.as_bytes());
    let mut image = StoredImage::new(fingerprint, image_type, Architecture::X86_64);
    image.objects = ImageObjects::new(&fingerprint, ImageForm::Unified);
    (image.public, image.size, image.created_at) = (true, 7, 1_700_000_000);
    image
}

/// Adds rows, each image with these names, in one change.
pub(super) fn add(store: &Path, images: &[(StoredImage, Vec<String>)]) {
    let catalog = SqliteCatalog::of_store(store).unwrap();
    let mut insert = |catalog: &mut dyn lxd_image::store::Transaction| {
        for (image, names) in images {
            catalog.insert(image)?;
            for name in names {
                catalog.set_alias(&Alias::new(&**name)?, &image.target())?;
            }
        }
        Ok(())
    };
    catalog.write(&mut insert).unwrap();
}

/// Rows for a list of this many images.
pub(super) fn long(count: usize) -> Vec<(StoredImage, Vec<String>)> {
    (0..count)
        .map(|index| (row(&format!("image {index}"), ImageType::Container), vec![format!("name/{index:05}")]))
        .collect()
}

/// The fingerprints of some rows, sorted.
fn sorted(rows: &[(StoredImage, Vec<String>)]) -> Vec<String> {
    let mut all: Vec<String> = rows.iter().map(|(image, _)| image.fingerprint.to_string()).collect();
    all.sort();
    all
}

#[test]
fn list_of_three_thousand_images_is_whole_and_in_order() {
    let served = Served::new();
    let rows = long(3_000);
    add(&served.root(), &rows);
    let expected = sorted(&rows);
    for answer in [served.get("/1.0/images?recursion=1"), served.ask("GET", "/1.0/images?recursion=1")] {
        let listed = object(answer);
        let found: Vec<&str> =
            listed.as_array().unwrap().iter().map(|image| image["fingerprint"].as_str().unwrap()).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn list_of_addresses_is_whole_and_in_order() {
    let served = Served::new();
    let rows = long(3_000);
    add(&served.root(), &rows);
    let expected: Vec<Value> =
        sorted(&rows).iter().map(|fingerprint| json!(format!("/1.0/images/{fingerprint}"))).collect();
    for answer in [served.get("/1.0/images"), served.ask("GET", "/1.0/images")] {
        assert_eq!(object(answer), Value::Array(expected.clone()));
    }
}

#[test]
fn list_of_aliases_is_whole_and_in_order() {
    let served = Served::new();
    add(&served.root(), &long(2_500));
    for answer in [served.get("/1.0/images/aliases?recursion=1"), served.ask("GET", "/1.0/images/aliases?recursion=1")]
    {
        let listed = object(answer);
        let names: Vec<&str> = listed.as_array().unwrap().iter().map(|alias| alias["name"].as_str().unwrap()).collect();
        let expected: Vec<String> = (0..2_500).map(|index| format!("name/{index:05}")).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn filtered_list_has_what_any_page_has() {
    let served = Served::new();
    let mut rows = long(3_000);
    let wanted = rows.get_mut(1_500).unwrap();
    wanted.0.properties.set("os", "Debian").unwrap();
    let fingerprint = wanted.0.fingerprint.to_string();
    add(&served.root(), &rows);
    let listed = object(served.ask("GET", "/1.0/images?recursion=1&filter=properties.os+eq+Debian"));
    let found: Vec<&Value> = listed.as_array().unwrap().iter().map(|image| &image["fingerprint"]).collect();
    assert_eq!(found, [&json!(fingerprint)]);
}

#[test]
fn list_that_is_longer_than_a_page_tells_no_length() {
    let served = Served::new();
    add(&served.root(), &long(1_001));
    let Body::Pieces(pieces) = served.ask("GET", "/1.0/images?recursion=1").body else { panic!("no pieces") };
    assert_eq!(pieces.length(), None);
    let Body::Pieces(pieces) = served.ask("GET", "/1.0/images/aliases?recursion=1").body else { panic!("no pieces") };
    assert_eq!(pieces.length(), None);
}

#[test]
fn list_of_one_page_tells_its_length() {
    let served = Served::new();
    add(&served.root(), &long(1_000));
    let Body::Pieces(pieces) = served.ask("GET", "/1.0/images?recursion=1").body else { panic!("no pieces") };
    let length = pieces.length().unwrap();
    assert_eq!(Body::Pieces(pieces).read_to_end().unwrap().len() as u64, length);
}

#[test]
fn pages_are_read_as_the_client_takes_them() {
    let served = Served::new();
    let rows = long(3_000);
    add(&served.root(), &rows);
    let Body::Pieces(mut pieces) = served.ask("GET", "/1.0/images?recursion=1").body else { panic!("no pieces") };
    pieces.read_exact(&mut [0; 10]).unwrap();
    // What the client has not come to yet is not read: a later change is in the list.
    let last = sorted(&rows).pop().unwrap().parse().unwrap();
    served.store.edit(&last, &lxd_image::store::Edit::new().property("late", "yes").unwrap(), None).unwrap();
    let mut rest = String::new();
    pieces.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"late\":\"yes\""));
}

#[test]
fn catalog_that_breaks_in_the_middle_cuts_a_list_short() {
    let served = Served::new();
    add(&served.root(), &long(3_000));
    let Body::Pieces(mut pieces) = served.ask("GET", "/1.0/images?recursion=1").body else { panic!("no pieces") };
    let rows = rusqlite::Connection::open(served.root().join("catalog.sqlite")).unwrap();
    rows.execute_batch("PRAGMA foreign_keys = OFF; ALTER TABLE image RENAME TO other").unwrap();
    let mut all = Vec::new();
    assert!(pieces.read_to_end(&mut all).is_err(), "{} bytes", all.len());
    assert!(serde_json::from_slice::<Value>(&all).is_err());
}

#[test]
fn row_that_cannot_be_read_hides_no_other_page() {
    let served = Served::new();
    let rows = long(2_100);
    add(&served.root(), &rows);
    let mut expected = sorted(&rows);
    let bad = expected.remove(1_200);
    let catalog = rusqlite::Connection::open(served.root().join("catalog.sqlite")).unwrap();
    catalog.execute("UPDATE image SET type = 'cloud' WHERE fingerprint = ?1", [&bad]).unwrap();
    for answer in [served.get("/1.0/images?recursion=1"), served.ask("GET", "/1.0/images?recursion=1")] {
        let listed = object(answer);
        let found: Vec<&str> =
            listed.as_array().unwrap().iter().map(|image| image["fingerprint"].as_str().unwrap()).collect();
        assert_eq!(found, expected);
    }
}

/// A container's and a virtual machine's image that are called the same.
fn shared(served: &Served, container_is_public: bool) -> (StoredImage, StoredImage) {
    let (mut container, machine) = (row("container", ImageType::Container), row("vm", ImageType::VirtualMachine));
    container.public = container_is_public;
    let names = vec!["debian/12".to_owned()];
    add(&served.root(), &[(container.clone(), names.clone()), (machine.clone(), names)]);
    (container, machine)
}

const SHARED: &str = "/1.0/images/aliases/debian%2F12";

#[test]
fn name_that_two_types_share_is_the_containers() {
    let served = Served::new();
    let (container, _) = shared(&served, true);
    for answer in [served.get(SHARED), served.ask("GET", SHARED)] {
        let alias = object(answer);
        assert_eq!(
            (&alias["target"], &alias["type"]),
            (&json!(container.fingerprint.to_string()), &json!("container"))
        );
    }
}

#[test]
fn name_that_two_types_share_is_listed_once() {
    let served = Served::new();
    shared(&served, true);
    for answer in [served.get("/1.0/images/aliases"), served.ask("GET", "/1.0/images/aliases")] {
        assert_eq!(object(answer), json!([SHARED]));
    }
}

#[test]
fn name_of_a_private_container_is_the_public_machines_to_strangers() {
    let served = Served::new();
    let (_, machine) = shared(&served, false);
    let alias = object(served.get(SHARED));
    assert_eq!(
        (&alias["target"], &alias["type"]),
        (&json!(machine.fingerprint.to_string()), &json!("virtual-machine"))
    );
    let listed = object(served.get("/1.0/images/aliases?recursion=1"));
    assert_eq!(listed, json!([alias]));
}

#[test]
fn deleting_a_name_that_two_types_share_leaves_the_machines() {
    let served = Served::new();
    let (_, machine) = shared(&served, true);
    object(served.ask("DELETE", SHARED));
    assert_eq!(object(served.ask("GET", SHARED))["target"], json!(machine.fingerprint.to_string()));
}

#[test]
fn list_of_simplestreams_keeps_a_name_for_both_types() {
    let served = Served::new();
    let (container, machine) = shared(&served, true);
    let text = served.get("/streams/v1/images.json").body.read_to_end().unwrap();
    let products =
        lxd_image::protocol::simplestreams::Products::from_json(&text, &lxd_image::Limits::default()).unwrap();
    let listing = lxd_image::protocol::simplestreams::Listing::new(&products);
    for image in [container, machine] {
        let found = listing.resolve("debian/12", image.image_type, Architecture::X86_64).unwrap();
        assert_eq!(found.fingerprint, image.fingerprint);
    }
}
