//! Aliases and references: what points where, and what a reference that names nothing or too much gets.

use lxd_image::store::{ImportOptions, Store};
use lxd_image::{ErrorKind, Fingerprint, Monitor};

use super::*;

fn store() -> (Scratch, Store) {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    (scratch, store)
}

#[test]
fn aliases_are_created_renamed_retargeted_and_deleted() {
    let (_scratch, store) = store();
    let (one, two) = (import(&store, "one", &[]).fingerprint, import(&store, "two", &[]).fingerprint);
    store.create_alias(&alias("web").described("the front"), &one).unwrap();
    assert_eq!(store.resolve("web").unwrap().fingerprint, one);
    store.rename_alias("web", "site/web", None).unwrap();
    assert_kind(store.alias("web"), ErrorKind::NotFound);
    assert_eq!(store.alias("site/web").unwrap(), (alias("site/web").described("the front"), container(one)));
    store.move_alias(&alias("site/web"), &two).unwrap();
    assert_eq!(store.resolve("site/web").unwrap().fingerprint, two);
    assert!(store.image(&one).unwrap().aliases.is_empty());
    assert_clean(&store);
    store.delete_alias("site/web", None).unwrap();
    assert_kind(store.delete_alias("site/web", None), ErrorKind::NotFound);
    assert_eq!(store.images().unwrap().len(), 2, "the images stay");
    assert_clean(&store);
}

#[test]
fn alias_has_one_target_and_target_has_many_aliases() {
    let (_scratch, store) = store();
    let (one, two) = (import(&store, "one", &["a", "b"]).fingerprint, import(&store, "two", &[]).fingerprint);
    assert_kind(store.create_alias(&alias("a"), &two), ErrorKind::AlreadyExists);
    assert_kind(store.rename_alias("b", "a", None), ErrorKind::AlreadyExists);
    assert_kind(store.create_alias(&alias("c"), &Fingerprint::of(b"no")), ErrorKind::NotFound);
    assert_kind(store.move_alias(&alias("a"), &Fingerprint::of(b"no")), ErrorKind::NotFound);
    assert_eq!(store.aliases().unwrap(), [(alias("a"), container(one)), (alias("b"), container(one))]);
}

#[test]
fn taken_alias_stops_import_unless_reused() {
    let (scratch, store) = store();
    let one = import(&store, "one", &["web"]).fingerprint;
    let options = ImportOptions::new().alias(alias("new")).alias(alias("web"));
    assert_kind(store.import(stream(unified("two")), &options, &Monitor::none()), ErrorKind::AlreadyExists);
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(files(&scratch.join("store")).len(), 2);
    let two = store.import(stream(unified("two")), &options.reuse_aliases(true), &Monitor::none()).unwrap();
    assert_eq!(
        store.aliases().unwrap(),
        [(alias("new"), container(two.fingerprint)), (alias("web"), container(two.fingerprint))]
    );
    assert!(store.image(&one).unwrap().aliases.is_empty());
    assert_clean(&store);
}

#[test]
fn alias_that_no_reference_can_name_is_refused() {
    for name in ["", "a:b", "a\nb", " a", "a ", &"a".repeat(256), &"ab".repeat(32)] {
        assert_kind(lxd_image::store::Alias::new(name), ErrorKind::InvalidInput);
    }
    for name in ["a", "debian/12/cloud/amd64", "ü", "with blank", "12", "-x", &"a".repeat(255)] {
        lxd_image::store::Alias::new(name).unwrap();
    }
    let (_scratch, store) = store();
    let options = ImportOptions::new().alias(alias("a")).alias(alias("a"));
    assert_kind(store.import(stream(unified("one")), &options, &Monitor::none()), ErrorKind::InvalidInput);
}

#[test]
fn reference_resolves_alias_then_fingerprint_then_unique_prefix() {
    let (_scratch, store) = store();
    let (one, two) = (import(&store, "one", &[]).fingerprint, import(&store, "two", &[]).fingerprint);
    let digits = one.to_string();
    assert_eq!(store.resolve(&digits).unwrap().fingerprint, one);
    assert_eq!(store.resolve(&digits.to_uppercase()).unwrap().fingerprint, one);
    assert_eq!(store.resolve(&digits[..12]).unwrap().fingerprint, one);
    assert_eq!(store.resolve(&digits[..4].to_uppercase()).unwrap().fingerprint, one);
    store.create_alias(&alias(&digits[..12]), &two).unwrap();
    assert_eq!(store.resolve(&digits[..12]).unwrap().fingerprint, two, "the alias wins");
}

#[test]
fn prefix_has_at_least_four_hex_digits() {
    let (_scratch, store) = store();
    let digits = import(&store, "one", &[]).fingerprint.to_string();
    let error = assert_kind(store.resolve(&digits[..3]), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("at least 4 digits"), "{error:?}");
    for reference in ["", "%", &format!("{}%", &digits[..4]), &format!("{}g", &digits[..4]), "____"] {
        assert_kind(store.resolve(reference), ErrorKind::NotFound);
    }
}

#[test]
fn ambiguous_prefix_names_all_candidates() {
    let (_scratch, store) = store();
    // Some thousand images are needed for four equal digits; so many names are cheap to try.
    let mut seen = std::collections::HashMap::new();
    let (a, b) = (0_u32..)
        .find_map(|number| {
            let tag = format!("image-{number}");
            let start = fingerprint(&tag).to_string()[..4].to_owned();
            seen.insert(start, tag.clone()).map(|earlier| (earlier, tag))
        })
        .unwrap();
    let (a, b) = (import(&store, &a, &[]).fingerprint, import(&store, &b, &[]).fingerprint);
    let error = assert_kind(store.resolve(&a.to_string()[..4]), ErrorKind::Ambiguous);
    assert!(error.message().contains(&a.to_string()) && error.message().contains(&b.to_string()), "{error}");
}

#[test]
fn unknown_reference_suggests_similar_names() {
    let (_scratch, store) = store();
    let one = import(&store, "one", &["debian/12", "ubuntu/24.04"]).fingerprint;
    let hint = |reference: &str| store.resolve(reference).unwrap_err().hint().unwrap().to_owned();
    assert_eq!(hint("debain/12"), "similar names: debian/12");
    assert_eq!(hint("ubuntu"), "similar names: ubuntu/24.04");
    let wrong_end = format!("{}0000000000000000", &one.to_string()[..4]);
    assert_eq!(hint(&wrong_end), format!("similar names: {}", one.short()));
    assert_eq!(hint("alpine"), "`lxd-image list` shows what is there");
}

/// A virtual machine's image.
fn machine(store: &Store, tag: &str, names: &[&str]) -> StoredImage {
    let mut bytes = Vec::new();
    member(&mut bytes, "metadata.yaml", b'0', metadata(tag, "").as_bytes());
    member(&mut bytes, "rootfs.img", b'0', &disk());
    bytes.resize(bytes.len() + 1024, 0);
    let options = names.iter().fold(ImportOptions::new(), |options, name| options.alias(alias(name)));
    let image = store.import(stream(bytes), &options, &Monitor::none()).unwrap();
    assert_eq!(image.image_type, ImageType::VirtualMachine);
    image
}

/// The header of an empty disk.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; 0x50000];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x02");
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 20).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &0x30000_u64.to_be_bytes());
    put(48, &0x10000_u64.to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    disk
}

#[test]
fn container_and_virtual_machine_share_an_alias() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let vm = machine(&store, "vm", &["debian/12"]);
    assert_eq!(store.resolve("debian/12").unwrap(), vm, "the only one is meant");
    let container = import(&store, "one", &["debian/12"]);
    assert_eq!(store.resolve("debian/12").unwrap(), container);
    assert_eq!(store.resolve_preferring("debian/12", ImageType::VirtualMachine).unwrap(), vm);
    assert_eq!(store.aliases().unwrap().len(), 2);
}

#[test]
fn alias_of_one_type_moves_alone() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let vm = machine(&store, "vm", &["web"]);
    import(&store, "one", &["web"]);
    let two = import(&store, "two", &[]);
    store.move_alias(&alias("web"), &two.fingerprint).unwrap();
    let found = |image_type| store.alias_of("web", image_type).unwrap().1.fingerprint;
    assert_eq!((found(ImageType::Container), found(ImageType::VirtualMachine)), (two.fingerprint, vm.fingerprint));
}

#[test]
fn alias_of_one_type_is_deleted_alone() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    machine(&store, "vm", &["web"]);
    let one = import(&store, "one", &["web"]);
    store.delete_alias("web", Some(ImageType::VirtualMachine)).unwrap();
    assert_eq!(store.aliases().unwrap(), [(alias("web"), container(one.fingerprint))]);
    store.delete_alias("web", None).unwrap();
    assert_kind(store.alias("web"), ErrorKind::NotFound);
}
