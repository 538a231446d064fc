//! Lists with filters, and the reasons for what they leave out.

use lxd_image::store::{Filter, ImportOptions, Store};
use lxd_image::{ErrorKind, Monitor};

use super::*;

fn store() -> (Scratch, Store) {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let options = ImportOptions::new().alias(alias("debian/12")).alias(alias("stable")).public(true);
    store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    let bytes =
        unified_with("architecture: arm64\ncreation_date: 1\nproperties: {os: ubuntu, architecture: arm64}\n", b"");
    store.import(stream(bytes), &ImportOptions::new().alias(alias("ubuntu/arm")), &Monitor::none()).unwrap();
    import(&store, "three", &[]);
    (scratch, store)
}

fn found(store: &Store, filters: &[&str]) -> Vec<String> {
    let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
    let images = store.list(&filters).unwrap();
    images
        .into_iter()
        .map(|image| image.aliases.first().map_or(image.fingerprint.short(), |alias| alias.name.clone()))
        .collect()
}

#[test]
fn word_matches_a_part_of_an_alias_or_a_fingerprint_prefix() {
    let (_scratch, store) = store();
    assert_eq!(found(&store, &["bian"]), ["debian/12"]);
    assert_eq!(found(&store, &["stable"]), ["debian/12"]);
    let three = fingerprint("three").to_string();
    assert_eq!(found(&store, &[&three[..5]]), [&three[..12]]);
    assert_eq!(found(&store, &[&three[5..15]]), Vec::<String>::new());
}

#[test]
fn pair_matches_a_property_or_a_field() {
    let (_scratch, store) = store();
    assert_eq!(found(&store, &["os=ubuntu"]), ["ubuntu/arm"]);
    assert_eq!(found(&store, &["properties.os=ubuntu"]), ["ubuntu/arm"]);
    assert_eq!(found(&store, &["public=true"]), ["debian/12"]);
    assert_eq!(found(&store, &["type=virtual-machine"]), Vec::<String>::new());
    assert_eq!(found(&store, &["alias=stable"]), ["debian/12"]);
}

#[test]
fn all_filters_must_match() {
    let (_scratch, store) = store();
    assert_eq!(found(&store, &["os=Debian", "public=true"]), ["debian/12"]);
    assert_eq!(found(&store, &["os=Debian", "public=true", "ubuntu"]), Vec::<String>::new());
    assert_eq!(found(&store, &[]), ["debian/12", "ubuntu/arm", &fingerprint("three").short()]);
}

#[test]
fn names_of_one_architecture_are_equal() {
    let (_scratch, store) = store();
    assert_eq!(found(&store, &["architecture=amd64"]).len(), 2);
    assert_eq!(found(&store, &["architecture=x86_64"]).len(), 2);
    assert_eq!(found(&store, &["architecture=aarch64"]), ["ubuntu/arm"]);
    assert_eq!(found(&store, &["architecture=pdp11"]), Vec::<String>::new());
}

#[test]
fn every_mismatch_has_a_reason() {
    let (_scratch, store) = store();
    let filters: Vec<Filter> = ["os=debian", "public=true"].iter().map(|text| text.parse().unwrap()).collect();
    let misses = store.explain(&filters).unwrap();
    assert_eq!(misses.len(), 3);
    assert_eq!(misses[0].image.fingerprint, fingerprint("one"), "the nearest first");
    assert_eq!(misses[0].reasons, ["`os` is `Debian`, which is written differently from `debian`"]);
    assert_eq!(misses[1].reasons.len(), 2);
    let reason = |text: &str| {
        let filter: Filter = text.parse().unwrap();
        filter.reason(&store.image(&fingerprint("one")).unwrap())
    };
    assert_eq!(reason("os=Debian"), None);
    assert_eq!(reason("OS=Debian").unwrap(), "it has no `OS`, but `os`");
    assert_eq!(reason("colour=red").unwrap(), "it has neither a property nor a field `colour`");
    assert_eq!(reason("STABLE").unwrap(), "`STABLE`: the alias `stable` is written differently");
    assert_eq!(reason("Debian").unwrap(), "`Debian`: the alias `debian/12` is written differently");
    assert_eq!(
        reason("12.04").unwrap(),
        "`12.04` is neither in its aliases (debian/12, stable) nor the beginning of its fingerprint"
    );
}

#[test]
fn empty_filter_is_refused() {
    assert_kind("=x".parse::<Filter>(), ErrorKind::InvalidInput);
    assert_kind("".parse::<Filter>(), ErrorKind::InvalidInput);
}
