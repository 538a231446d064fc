//! Any bytes as the documents of a simplestreams server: what is read is read the same after it was written, and all
//! images of a list can be published into another one and withdrawn again, none of them lost and none made up.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use lxd_image::Limits;
use lxd_image::protocol::simplestreams::{Index, Listing, Products, Publication, PublishedFile};

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    if let Ok(index) = Index::from_json(data, &limits) {
        let again = Index::from_json(index.to_json().as_bytes(), &Limits::trusted()).expect("written by us");
        let lists = |index: &Index| index.image_lists().map(|list| list.path.clone()).collect::<Vec<_>>();
        assert_eq!(lists(&index), lists(&again));
    }
    let Ok(products) = Products::from_json(data, &limits) else { return };
    let listing = Listing::new(&products);
    let again = Products::from_json(products.to_json().as_bytes(), &Limits::trusted()).expect("written by us");
    assert_eq!(listing.images(), Listing::new(&again).images());

    let mut copy = Products::new(0);
    let mut published = BTreeSet::new();
    for image in listing.images() {
        for name in listing.names(image) {
            let found = listing.resolve(&name, image.image_type, image.architecture).expect("it has this name");
            assert_eq!(found.architecture, image.architecture);
        }
        let file = |file: &lxd_image::protocol::simplestreams::File| {
            let path = file.checked_path().ok()?;
            assert!(!path.as_str().starts_with("//") && !path.as_str().split('/').any(|part| part == ".."), "{path}");
            Some(PublishedFile::new(path, file.size.unwrap_or(1), file.sha256?))
        };
        let Some(first) = file(&image.first) else { continue };
        let rootfs = match (&image.rootfs, image.root_kind) {
            (None, _) => None,
            (Some(rootfs), Some(kind)) => match file(rootfs) {
                Some(rootfs) => Some((kind, rootfs)),
                None => continue,
            },
            (Some(_), None) => panic!("a rootfs of no kind"),
        };
        copy.publish(&Publication::like(image, first, rootfs)).expect("its version was listed");
        published.insert(image.fingerprint);
    }
    let listed = |products: &Products| -> BTreeSet<_> {
        Listing::new(products).images().iter().map(|image| image.fingerprint).collect()
    };
    assert_eq!(listed(&copy), published);
    for fingerprint in &published {
        assert!(copy.withdraw(fingerprint));
        assert!(!copy.withdraw(fingerprint));
    }
    assert!(copy.products.is_empty(), "{:?}", copy.products);
});
