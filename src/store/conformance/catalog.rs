//! The conformance suite of [`Catalog`]: rows come back as they were written, queries return
//! everything whole and page by page, transactions are atomic, and concurrent ones lose no change.
//!
//! The contract allows a transaction to fail with `Transient`; the suite retries it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::owed;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageForm, ImageType};
use crate::metadata::{Architecture, Properties};
use crate::progress::{Cancel, Monitor};
use crate::store::blobs::BlobKey;
use crate::store::catalog::{
    AliasQuery, Attachment, Catalog, ImageQuery, Object, ObjectState, Order, Position, Transaction,
};
use crate::store::image::{Alias, ImageObjects, StoredImage, UpdateSource};

/// How many threads write concurrently.
const WRITERS: usize = 4;
/// How many changes each of them makes.
const CHANGES: usize = 25;
/// How often a change that fails with `Transient` is retried.
const MAX_TRIES: usize = 1_000;

/// Runs the suite on an empty catalog, and leaves it empty.
///
/// It tests the weakest contract that the trait allows: work may run more than once, and a
/// transaction may fail with `Transient` because of others. An implementation may promise more.
///
/// # Errors
/// `InvalidInput` with a sentence about the violated part of the contract; errors of the
/// implementation where the contract allows none.
pub fn catalog(catalog: &dyn Catalog) -> Result<()> {
    owed(
        all(catalog, &ImageQuery::new())?.is_empty()
            && catalog.objects(None, 1)?.is_empty()
            && catalog.aliases(&AliasQuery::new())?.aliases.is_empty(),
        "the suite begins with nothing",
    )?;
    rows(catalog)?;
    compare_and_set(catalog)?;
    aliases(catalog)?;
    objects(catalog)?;
    attachments(catalog)?;
    failures(catalog)?;
    queries(catalog)?;
    paging(catalog)?;
    threads(catalog)?;
    versions(catalog)?;
    owed(catalog.check(&Monitor::none())?.is_empty(), "nothing is damaged")?;
    let cancel = Cancel::new();
    cancel.cancel();
    owed(
        kind(catalog.check(&Monitor::none().with_cancel(cancel))) == Some(ErrorKind::Cancelled),
        "a check that is cancelled fails so",
    )
}

/// The kind of an error, if it is one.
fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Runs a change until it does not conflict with another one.
fn write(catalog: &dyn Catalog, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
    for _ in 0..MAX_TRIES {
        match catalog.write(work) {
            Err(error) if error.kind() == ErrorKind::Transient => std::thread::yield_now(),
            done => return done,
        }
    }
    Err(Error::invalid(format!("not as owed: a change comes through within {MAX_TRIES} tries")))
}

/// A container image with few fields set.
fn plain(content: &[u8]) -> StoredImage {
    let mut image = StoredImage::new(Fingerprint::of(content), ImageType::Container, Architecture::X86_64);
    image.objects = ImageObjects::new(&image.fingerprint, ImageForm::Unified);
    image
}

/// A virtual machine image with all fields set.
fn full(content: &[u8]) -> Result<StoredImage> {
    let mut properties = Properties::new();
    properties.set("z", "last first")?;
    properties.set("a", "ü\n\"\\")?;
    properties.set("", "")?;
    properties.set("k'\"\n\u{1}é", "\u{1f600}")?;
    let mut original_properties = Properties::new();
    original_properties.set("z", "another")?;
    let fingerprint = Fingerprint::of(content);
    let mut objects = ImageObjects::new(&fingerprint, ImageForm::Split);
    objects.sidecar = Some(objects.image.sidecar(9));
    Ok(StoredImage {
        fingerprint,
        image_type: ImageType::VirtualMachine,
        architecture: Architecture::Riscv64,
        size: 1 << 40,
        rootfs_size: Some(7),
        created_at: -5,
        expires_at: Some(1 << 33),
        uploaded_at: 3,
        last_used_at: Some(i64::MAX),
        public: true,
        auto_update: true,
        cached: true,
        file_name: Some("a.tar".to_owned()),
        rootfs_name: Some("a.squashfs".to_owned()),
        source: Some(UpdateSource::new("https://images.example", "lxd", "a").certificate("PEM")),
        properties,
        original_properties,
        other: serde_json::Map::from_iter([("field".to_owned(), serde_json::json!({"a": [1, null, "fields"]}))]),
        revision: 9,
        aliases: Vec::new(),
        objects,
    })
}

/// All images that a query matches, page by page. Fails if a row is skipped or a page overlaps another.
fn all(catalog: &dyn Catalog, query: &ImageQuery) -> Result<Vec<StoredImage>> {
    let mut query = query.clone();
    let mut found = Vec::new();
    loop {
        let page = catalog.images(&query)?;
        owed(page.skipped.is_empty(), "every row can be read")?;
        owed(page.images.len() <= query.limit, "a page is not larger than its limit")?;
        owed(!page.images.is_empty() || page.next.is_none(), "a page that is not the last one has images")?;
        found.extend(page.images);
        if page.next.is_none() {
            return Ok(found);
        }
        query = query.after(page.next);
    }
}

/// All fingerprints that a query matches, page by page.
fn all_fingerprints(catalog: &dyn Catalog, query: &ImageQuery) -> Result<Vec<Fingerprint>> {
    let mut query = query.clone();
    let mut found = Vec::new();
    loop {
        let (page, next) = catalog.fingerprints(&query)?;
        owed(page.len() <= query.limit, "a page of fingerprints is not larger than its limit")?;
        found.extend(page);
        if next.is_none() {
            return Ok(found);
        }
        query = query.after(next);
    }
}

/// Removes all images and notes.
fn remove_all(catalog: &dyn Catalog) -> Result<()> {
    let fingerprints = all_fingerprints(catalog, &ImageQuery::new())?;
    write(catalog, &mut |rows| fingerprints.iter().try_for_each(|fingerprint| rows.remove(fingerprint)))
}

/// Rows come back as they were written, and changes change nothing else.
fn rows(catalog: &dyn Catalog) -> Result<()> {
    let (one, two) = (full(b"one")?, plain(b"two"));
    write(catalog, &mut |rows| {
        rows.insert(&one)?;
        owed(rows.image(&one.fingerprint)?.as_ref() == Some(&one), "a transaction sees what it did")?;
        rows.insert(&two)
    })?;
    owed(catalog.image(&one.fingerprint)?.as_ref() == Some(&one), "an image of all fields comes back as it was")?;
    owed(catalog.image(&two.fingerprint)?.as_ref() == Some(&two), "an image of few fields comes back as it was")?;
    owed(catalog.image(&Fingerprint::of(b"none"))?.is_none(), "an image that is not there is not found")?;
    owed(
        kind(catalog.write(&mut |rows| rows.insert(&one))) == Some(ErrorKind::AlreadyExists),
        "an image that is there cannot be added",
    )?;
    let mut nameless = plain(b"nameless");
    nameless.objects = ImageObjects::default();
    owed(
        kind(catalog.write(&mut |rows| rows.insert(&nameless))) == Some(ErrorKind::InvalidInput),
        "an image without an object cannot be added",
    )?;
    write(catalog, &mut |rows| {
        rows.remove(&Fingerprint::of(b"none"))?;
        rows.remove(&one.fingerprint)?;
        owed(rows.image(&one.fingerprint)?.is_none(), "a transaction does not see what it removed")
    })?;
    owed(catalog.image(&one.fingerprint)?.is_none(), "an image that was removed is gone")?;
    owed(
        catalog.fingerprints(&ImageQuery::new().property("z", "last first"))?.0.is_empty(),
        "an image that was removed is not found by its properties",
    )?;
    write(catalog, &mut |rows| rows.insert(&one))?;
    owed(catalog.image(&one.fingerprint)?.as_ref() == Some(&one), "an image that was removed can be added again")?;
    remove_all(catalog)
}

/// An update needs the current revision; calls that leave the revision alone do not change it.
fn compare_and_set(catalog: &dyn Catalog) -> Result<()> {
    let (one, other) = (full(b"one")?, full(b"other")?);
    let alias = Alias::new("a")?;
    write(catalog, &mut |rows| {
        rows.insert(&one)?;
        rows.insert(&other)?;
        rows.set_alias(&alias, &one.target())
    })?;
    let mut changed = plain(b"one");
    changed.image_type = one.image_type;
    changed.revision = 10;
    changed.properties.set("z", "new")?;
    let transient = Some(ErrorKind::Transient);
    owed(kind(catalog.write(&mut |rows| rows.update(&changed, 8))) == transient, "an older revision is not replaced")?;
    owed(kind(catalog.write(&mut |rows| rows.update(&changed, 10))) == transient, "a newer revision is not awaited")?;
    owed(
        kind(catalog.write(&mut |rows| rows.update(&plain(b"none"), 0))) == transient,
        "an image that is gone is not replaced",
    )?;
    write(catalog, &mut |rows| rows.update(&changed, 9))?;
    // These have calls of their own.
    changed.last_used_at = one.last_used_at;
    changed.objects.sidecar.clone_from(&one.objects.sidecar);
    changed.aliases = vec![alias];
    owed(
        catalog.image(&one.fingerprint)?.as_ref() == Some(&changed),
        "an update replaces all but aliases, sidecar and last use",
    )?;
    owed(catalog.image(&other.fingerprint)?.as_ref() == Some(&other), "an update changes no other image")?;
    let by_property = |value| all_fingerprints(catalog, &ImageQuery::new().property("z", value));
    owed(by_property("new")? == [one.fingerprint], "an updated image is found by its new properties")?;
    owed(by_property("last first")? == [other.fingerprint], "an updated image is not found by its old properties")?;

    let used = plain(b"used");
    let use_at = |seconds| write(catalog, &mut |rows| rows.set_last_used(&used.fingerprint, seconds));
    let last_used = || Ok::<_, Error>(catalog.image(&used.fingerprint)?.and_then(|image| image.last_used_at));
    write(catalog, &mut |rows| rows.insert(&used))?;
    use_at(5)?;
    owed(last_used()? == Some(5), "the first use is noted")?;
    use_at(3)?;
    owed(last_used()? == Some(5), "an earlier use does not replace a later one")?;
    use_at(7)?;
    owed(last_used()? == Some(7), "a later use replaces an earlier one")?;
    owed(
        catalog.image(&used.fingerprint)?.is_some_and(|image| image.revision == 0),
        "a use does not change the revision",
    )?;
    write(catalog, &mut |rows| rows.set_last_used(&Fingerprint::of(b"none"), 1))?;

    let key = used.objects.image.sidecar(0);
    let set = |revision, wanted: bool, what| {
        write(catalog, &mut |rows| owed(rows.set_sidecar(&used.fingerprint, revision, &key)? == wanted, what))
    };
    set(1, false, "a sidecar of another revision is not named")?;
    owed(
        catalog.image(&used.fingerprint)?.is_some_and(|image| image.objects.sidecar.is_none()),
        "a sidecar that was not named stays so",
    )?;
    set(0, true, "a sidecar of the row's revision is named")?;
    owed(
        catalog.image(&used.fingerprint)?.is_some_and(|image| image.objects.sidecar.as_ref() == Some(&key)),
        "a named sidecar comes back",
    )?;
    remove_all(catalog)
}

/// Aliases are unique per type, point to images that exist, and go with them.
fn aliases(catalog: &dyn Catalog) -> Result<()> {
    let (one, two, machine) = (plain(b"one"), plain(b"two"), full(b"machine")?);
    let (a, b) = (Alias::new("a/b")?.described("what for"), Alias::new("b")?);
    write(catalog, &mut |rows| {
        rows.insert(&one)?;
        rows.insert(&two)?;
        rows.insert(&machine)?;
        rows.set_alias(&b, &one.target())?;
        rows.set_alias(&a, &one.target())?;
        rows.set_alias(&b, &machine.target())?;
        owed(rows.alias("b", ImageType::Container)?.is_some(), "a transaction sees the aliases that it made")
    })?;
    let target = |name, image_type| Ok::<_, Error>(catalog.alias(name, image_type)?.map(|(_, target)| target));
    owed(
        catalog.alias("a/b", ImageType::Container)? == Some((a.clone(), one.target())),
        "an alias comes back as it was",
    )?;
    owed(target("b", ImageType::Container)? == Some(one.target()), "a container's alias stays beside a machine's")?;
    owed(target("b", ImageType::VirtualMachine)? == Some(machine.target()), "a machine's alias is its own")?;
    owed(target("a/b", ImageType::VirtualMachine)?.is_none(), "an alias of another type is not found")?;
    owed(
        catalog.image(&one.fingerprint)?.is_some_and(|image| image.aliases == [a.clone(), b.clone()]),
        "an image has its aliases, sorted",
    )?;
    let not_found = Some(ErrorKind::NotFound);
    let missing = plain(b"none").target();
    owed(
        kind(catalog.write(&mut |rows| rows.set_alias(&b, &missing))) == not_found,
        "an alias of an image that is not there is refused",
    )?;
    let mut other_type = one.target();
    other_type.image_type = ImageType::VirtualMachine;
    owed(
        kind(catalog.write(&mut |rows| rows.set_alias(&b, &other_type))) == not_found,
        "an alias of another type than its image is refused",
    )?;
    alias_pages(catalog, &[(&a, &one), (&b, &one), (&b, &machine)])?;

    let moved = b.clone().described("moved");
    write(catalog, &mut |rows| rows.set_alias(&moved, &two.target()))?;
    owed(
        catalog.alias("b", ImageType::Container)? == Some((moved.clone(), two.target())),
        "an alias that is set again moves with its description",
    )?;
    let names = |fingerprint| {
        let image = catalog.image(fingerprint)?;
        Ok::<_, Error>(image.map(|image| image.aliases.into_iter().map(|alias| alias.name).collect::<Vec<_>>()))
    };
    owed(names(&one.fingerprint)? == Some(vec!["a/b".to_owned()]), "an alias that moved leaves its old image")?;
    owed(names(&two.fingerprint)? == Some(vec!["b".to_owned()]), "an alias that moved is the new image's")?;
    write(catalog, &mut |rows| {
        rows.remove_alias("none", ImageType::Container)?;
        rows.remove_alias("a/b", ImageType::VirtualMachine)?;
        rows.remove_alias("b", ImageType::Container)
    })?;
    owed(target("b", ImageType::Container)?.is_none(), "an alias that was removed is gone")?;
    owed(target("b", ImageType::VirtualMachine)?.is_some(), "an alias of another type stays when one is removed")?;
    owed(target("a/b", ImageType::Container)?.is_some(), "an alias of another name stays when one is removed")?;
    write(catalog, &mut |rows| rows.remove(&machine.fingerprint))?;
    owed(target("b", ImageType::VirtualMachine)?.is_none(), "an image's aliases go with it")?;
    remove_all(catalog)
}

/// Aliases come in pages, in order, whatever the size of a page.
fn alias_pages(catalog: &dyn Catalog, expected: &[(&Alias, &StoredImage)]) -> Result<()> {
    let read = |query: AliasQuery| {
        let mut query = query;
        let mut found = Vec::new();
        loop {
            let page = catalog.aliases(&query)?;
            owed(page.aliases.len() <= query.limit, "a page of aliases is not larger than its limit")?;
            found.extend(page.aliases);
            if page.next.is_none() {
                return Ok::<_, Error>(found);
            }
            query = query.after(page.next);
        }
    };
    let expected: Vec<_> = expected.iter().map(|(alias, image)| ((*alias).clone(), image.target())).collect();
    for limit in [1, 2, 3, 4] {
        owed(read(AliasQuery::new().limit(limit))? == expected, "aliases come by name and type, each once")?;
    }
    let prefix = |text: &str| read(AliasQuery::new().prefix(text).limit(1));
    owed(prefix("a")?.iter().eq(expected.iter().take(1)), "aliases are found by the beginning of their names")?;
    owed(prefix("b")?.iter().eq(expected.iter().skip(1)), "all aliases that begin so are found")?;
    owed(prefix("a/bc")?.is_empty(), "no alias is found by more than its name")?;
    for image_type in [ImageType::Container, ImageType::VirtualMachine] {
        let wanted: Vec<_> = expected.iter().filter(|(_, target)| target.image_type == image_type).cloned().collect();
        let found = read(AliasQuery::new().image_type(image_type).limit(1))?;
        owed(found == wanted, "aliases are found by type")?;
    }
    Ok(())
}

/// Texts beside images: kept by name, replaced, and gone with their image.
fn attachments(catalog: &dyn Catalog) -> Result<()> {
    let (one, other) = (plain(b"attached to"), plain(b"not attached to"));
    let missing = write(catalog, &mut |rows| rows.attach(&one.fingerprint, &Attachment::new("a", "text", 1)));
    owed(kind(missing) == Some(ErrorKind::NotFound), "nothing is attached to an image that does not exist")?;
    let texts = [Attachment::new("a", "ü\n\"\\{}", 1), Attachment::new("b:1", "", -7)];
    write(catalog, &mut |rows| {
        rows.insert(&one)?;
        rows.insert(&other)?;
        texts.iter().rev().try_for_each(|text| rows.attach(&one.fingerprint, text))?;
        owed(rows.attachments(&one.fingerprint)? == texts, "a transaction sees the texts that it attached, by name")
    })?;
    owed(catalog.attachments(&one.fingerprint)? == texts, "attached texts come back as they were, by name")?;
    owed(catalog.attachments(&other.fingerprint)?.is_empty(), "texts belong to one image")?;
    for (prefix, count) in [("", 1), ("a", 1), ("b:", 1), ("b:12", 0), ("B", 0), ("%", 0), ("_", 0)] {
        let found = catalog.attached(prefix)?;
        owed(found.len() == count, "images are found by the beginning of the names of their texts")?;
        owed(found.iter().all(|found| *found == one.fingerprint), "images without texts are not found by them")?;
    }
    let before = catalog.version()?;
    let replaced = Attachment::new("a", "other", 9);
    write(catalog, &mut |rows| rows.attach(&one.fingerprint, &replaced))?;
    owed(
        catalog.attachments(&one.fingerprint)?.first() == Some(&replaced),
        "a text of a name replaces the earlier one",
    )?;
    owed(before.is_none() || catalog.version()? != before, "attaching a text changes the version")?;
    write(catalog, &mut |rows| {
        rows.remove(&one.fingerprint)?;
        rows.remove(&other.fingerprint)?;
        rows.insert(&one)
    })?;
    owed(catalog.attachments(&one.fingerprint)?.is_empty(), "texts go with their image")?;
    owed(catalog.attached("")?.is_empty(), "an image is not found by texts that are gone")?;
    write(catalog, &mut |rows| rows.remove(&one.fingerprint))
}

/// Notes come back as they were written, in pages, in the order of their keys.
fn objects(catalog: &dyn Catalog) -> Result<()> {
    let fingerprint = Fingerprint::of(b"one");
    let keys = BlobKey::legacy(&fingerprint);
    let states = [
        ObjectState::Uploading { holder: "host/a b\n\"".to_owned(), lease_until: i64::MAX },
        ObjectState::Sidecar { revision: 12 },
        ObjectState::Dead { delete_after: -1 },
    ];
    let mut noted: Vec<_> =
        keys.iter().zip(states).map(|(key, state)| Object::new(key.clone(), fingerprint, state)).collect();
    noted.sort_by(|one, other| one.key.cmp(&other.key));
    write(catalog, &mut |rows| {
        for object in &noted {
            rows.put_object(object)?;
            owed(rows.object(&object.key)?.as_ref() == Some(object), "a transaction sees the notes that it made")?;
        }
        Ok(())
    })?;
    for object in &noted {
        owed(catalog.object(&object.key)?.as_ref() == Some(object), "the note about an object comes back as it was")?;
    }
    for limit in [1, 2, 3, 4] {
        let mut found: Vec<Object> = Vec::new();
        loop {
            let page = catalog.objects(found.last().map(|object| &object.key), limit)?;
            owed(page.len() <= limit, "a page of notes is not larger than its limit")?;
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        owed(found == noted, "notes come in the order of their keys, each once")?;
    }
    for object in &mut noted {
        object.state = ObjectState::Dead { delete_after: 4 };
        write(catalog, &mut |rows| rows.put_object(object))?;
        owed(catalog.object(&object.key)?.as_ref() == Some(object), "a note takes the place of the one before")?;
    }
    for object in &noted {
        write(catalog, &mut |rows| rows.remove_object(&object.key))?;
        owed(catalog.object(&object.key)?.is_none(), "a note that was removed is gone")?;
        write(catalog, &mut |rows| rows.remove_object(&object.key))?;
    }
    owed(catalog.objects(None, 10)?.is_empty(), "no notes are left")
}

/// Work that fails changes nothing, and impossible changes are refused with the right kind.
fn failures(catalog: &dyn Catalog) -> Result<()> {
    let (one, two) = (full(b"one")?, full(b"two")?);
    let alias = Alias::new("a")?;
    let note = Object::new(two.objects.image.clone(), two.fingerprint, ObjectState::Dead { delete_after: 0 });
    write(catalog, &mut |rows| {
        rows.insert(&one)?;
        rows.set_alias(&alias, &one.target())
    })?;
    let before = all(catalog, &ImageQuery::new())?;
    let mut next = one.clone();
    next.revision += 1;
    type Step<'a> = &'a dyn Fn(&mut dyn Transaction) -> Result<()>;
    let steps: [Step<'_>; 7] = [
        &|rows| rows.insert(&two),
        &|rows| rows.update(&next, one.revision),
        &|rows| rows.set_alias(&Alias::new("b")?, &two.target()),
        &|rows| rows.put_object(&note),
        &|rows| rows.set_sidecar(&one.fingerprint, next.revision, &note.key).map(|_| ()),
        &|rows| rows.remove_alias("a", one.image_type),
        &|rows| rows.remove(&one.fingerprint),
    ];
    for stop in 0..=steps.len() {
        let failed = catalog.write(&mut |rows| {
            for step in steps.iter().take(stop) {
                step(rows)?;
            }
            Err(Error::new(ErrorKind::Template, "on purpose"))
        });
        owed(kind(failed) == Some(ErrorKind::Template), "the error of the work comes out")?;
        owed(all(catalog, &ImageQuery::new())? == before, "work that fails changes no image and no alias")?;
        owed(catalog.objects(None, 1)?.is_empty(), "work that fails makes no note")?;
        owed(
            all_fingerprints(catalog, &ImageQuery::new().property("a", "ü\n\"\\"))? == [one.fingerprint],
            "work that fails changes nothing that is searched",
        )?;
    }
    remove_all(catalog)
}

/// Images that differ in every field that a query can filter by.
fn samples() -> Result<Vec<StoredImage>> {
    let mut images = Vec::new();
    for number in 0_u32..12 {
        let mut image = plain(&number.to_le_bytes());
        image.public = number % 2 == 0;
        image.cached = number % 3 == 0;
        image.auto_update = number % 4 < 2;
        if number % 5 == 0 {
            image.image_type = ImageType::VirtualMachine;
        }
        if number % 4 == 1 {
            image.architecture = Architecture::Aarch64;
        }
        image.size = u64::from(number % 3) + 10;
        image.properties.set("os", if number % 2 == 0 { "Debian" } else { "debian" })?;
        image.properties.set("number", number.to_string())?;
        if number < 3 {
            image.properties.set("ключ\"'\n", "%_\\ \u{1f600}")?;
        }
        if number % 3 != 1 {
            // Against the order of the fingerprints, as these are random.
            image.aliases.push(Alias::new(format!("name{}", 20 - number))?);
        }
        if number == 3 {
            image.aliases.insert(0, Alias::new("a first")?);
        }
        images.push(image);
    }
    images.sort_by_key(|image| image.fingerprint);
    Ok(images)
}

/// Inserts images with their aliases.
fn insert_samples(catalog: &dyn Catalog, images: &[StoredImage]) -> Result<()> {
    write(catalog, &mut |rows| {
        for image in images {
            rows.insert(image)?;
            image.aliases.iter().try_for_each(|alias| rows.set_alias(alias, &image.target()))?;
        }
        Ok(())
    })
}

/// Queries with each filter, alone and combined.
fn filters(images: &[StoredImage]) -> Result<Vec<ImageQuery>> {
    let digits = images.first().map(|image| image.fingerprint.to_string()).unwrap_or_default();
    let mut single: Vec<Box<dyn Fn(ImageQuery) -> ImageQuery>> = Vec::new();
    for yes in [true, false] {
        single.push(Box::new(move |query| query.public(yes)));
        single.push(Box::new(move |query| query.cached(yes)));
        single.push(Box::new(move |query| query.auto_update(yes)));
    }
    for image_type in [ImageType::Container, ImageType::VirtualMachine] {
        single.push(Box::new(move |query| query.image_type(image_type)));
    }
    for architecture in [Architecture::X86_64, Architecture::Aarch64, Architecture::S390x] {
        single.push(Box::new(move |query| query.architecture(architecture)));
    }
    for size in [10, 11, 99] {
        single.push(Box::new(move |query| query.size(size)));
    }
    for length in [4, 12, 63, 64] {
        let prefix: crate::fingerprint::FingerprintPrefix = digits.get(..length).unwrap_or_default().parse()?;
        single.push(Box::new(move |query| query.prefix(prefix.clone())));
    }
    single.push(Box::new(|query| query.property("os", "Debian")));
    single.push(Box::new(|query| query.property("os", "DEBIAN")));
    single.push(Box::new(|query| query.property("number", "7")));
    single.push(Box::new(|query| query.property("ключ\"'\n", "%_\\ \u{1f600}")));
    single.push(Box::new(|query| query.property("missing", "")));
    single.push(Box::new(|query| query));
    let mut queries = Vec::new();
    for one in &single {
        for other in &single {
            queries.push(other(one(ImageQuery::new())));
        }
    }
    Ok(queries)
}

/// Images in the order of a query, as computed by this suite.
fn sorted(mut images: Vec<StoredImage>, order: Order) -> Vec<StoredImage> {
    if order == Order::Alias {
        images.sort_by_key(|image| {
            let alias = image.aliases.first().map(|alias| alias.name.clone());
            (alias.is_none(), alias, image.fingerprint)
        });
    }
    images
}

/// Every filter and order returns exactly the images that [`ImageQuery::matches`] accepts, as do
/// totals and fingerprints.
fn queries(catalog: &dyn Catalog) -> Result<()> {
    let images = samples()?;
    insert_samples(catalog, &images)?;
    for query in filters(&images)? {
        let matching: Vec<_> = images.iter().filter(|image| query.matches(image)).cloned().collect();
        for order in [Order::Fingerprint, Order::Alias] {
            let expected = sorted(matching.clone(), order);
            let query = query.clone().order(order);
            let says = |what: &str| format!("{what} of {query:?}");
            owed(all(catalog, &query)? == expected, &says("all images, in order,"))?;
            owed(all(catalog, &query.clone().limit(2))? == expected, &says("all images, by two,"))?;
            let fingerprints = all_fingerprints(catalog, &query.clone().limit(2))?;
            owed(fingerprints.iter().eq(expected.iter().map(|image| &image.fingerprint)), &says("all fingerprints"))?;
            let totals = catalog.totals(&query.clone().limit(1).after(expected.first().map(Position::after)))?;
            owed(totals.images == expected.len() as u64, &says("the number"))?;
            owed(totals.bytes == expected.iter().map(|image| image.size).sum::<u64>(), &says("the bytes"))?;
        }
    }
    for image in &images {
        let digits = image.fingerprint.to_string();
        for length in [4, 12, 63, 64] {
            let prefix = digits.get(..length).unwrap_or_default().parse()?;
            let found = catalog.with_prefix(&prefix, 10)?;
            owed(found.contains(&image.fingerprint), "an image is found by its beginning")?;
            owed(found.iter().all(|found| prefix.matches(found)), "nothing else is found by a beginning")?;
            owed(catalog.with_prefix(&prefix, 0)?.is_empty(), "no more are found than were asked for")?;
        }
    }
    remove_all(catalog)
}

/// Pages of any size add up to the whole, even if rows are added and removed between them.
fn paging(catalog: &dyn Catalog) -> Result<()> {
    let images = samples()?;
    let mut round = 0_u32;
    for order in [Order::Fingerprint, Order::Alias] {
        for limit in [1, 2, 3, 5, 12, 13] {
            insert_samples(catalog, &images)?;
            let mut query = ImageQuery::new().order(order).limit(limit);
            let mut seen = Vec::new();
            let mut removed = BTreeSet::new();
            loop {
                let page = catalog.images(&query)?;
                seen.extend(page.images.iter().map(|image| image.fingerprint));
                if page.next.is_none() {
                    break;
                }
                // The position's own image goes, and another one comes somewhere.
                round += 1;
                let mut new = plain(format!("new {round}").as_bytes());
                new.aliases = vec![Alias::new(format!("name{}-{round}", round % 30))?];
                insert_samples(catalog, std::slice::from_ref(&new))?;
                if round.is_multiple_of(2)
                    && let Some(last) = page.images.last()
                {
                    removed.insert(last.fingerprint);
                    write(catalog, &mut |rows| rows.remove(&last.fingerprint))?;
                }
                query = query.after(page.next);
            }
            let unique: BTreeSet<_> = seen.iter().copied().collect();
            owed(unique.len() == seen.len(), "no page has an image a second time")?;
            owed(
                images.iter().all(|image| unique.contains(&image.fingerprint)),
                "pages have every image that was there all the time",
            )?;
            remove_all(catalog)?;
        }
    }
    Ok(())
}

/// Concurrent writers lose no change, and readers see only complete ones.
fn threads(catalog: &dyn Catalog) -> Result<()> {
    let counted = plain(b"counted");
    write(catalog, &mut |rows| rows.insert(&counted))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                consistent(catalog, &counted.fingerprint)?;
            }
            Ok(())
        });
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || count_up(catalog, writer))).collect();
        let mut result = Ok(());
        for writer in writers {
            result = result.and(joined(writer));
        }
        done.store(true, Ordering::Relaxed);
        result.and(joined(reader))
    })?;
    let changes = (WRITERS * CHANGES) as u64;
    owed(
        catalog.image(&counted.fingerprint)?.is_some_and(|image| image.revision == changes && image.size == changes),
        "changes of one row by several threads are all kept",
    )?;
    owed(
        catalog.totals(&ImageQuery::new().cached(true))?.images == changes,
        "images that are added by several threads are all kept",
    )?;
    remove_all(catalog)
}

/// The result of a thread; a panic in it is an error.
fn joined(thread: std::thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Error::invalid("not as owed: no call panics")))
}

/// Increases a counter in a row many times, against other threads that do the same.
fn count_up(catalog: &dyn Catalog, writer: usize) -> Result<()> {
    let counted = Fingerprint::of(b"counted");
    for change in 0..CHANGES {
        let mut image = plain(format!("{writer} {change}").as_bytes());
        image.cached = true;
        write(catalog, &mut |rows| rows.insert(&image))?;
        // The row is read outside of the transaction, so that only the comparison keeps changes from being lost.
        let mut tries = 0;
        loop {
            let Some(mut row) = catalog.image(&counted)? else { return owed(false, "a row that is written stays") };
            let expected = row.revision;
            row.revision += 1;
            row.size += 1;
            match catalog.write(&mut |rows| rows.update(&row, expected)) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Transient => {}
                Err(error) => return Err(error),
            }
            tries += 1;
            owed(tries < MAX_TRIES, "somebody's change comes through")?;
        }
    }
    Ok(())
}

/// Fails if a reader sees half of a change.
fn consistent(catalog: &dyn Catalog, fingerprint: &Fingerprint) -> Result<()> {
    owed(
        catalog.image(fingerprint)?.is_some_and(|image| image.revision == image.size),
        "a reader sees all of a change or nothing of it",
    )
}

/// The version changes with every commit, if there is one.
fn versions(catalog: &dyn Catalog) -> Result<()> {
    let Some(first) = catalog.version()? else { return Ok(()) };
    owed(catalog.version()? == Some(first), "the version stays while nothing changes")?;
    let image = plain(b"version");
    write(catalog, &mut |rows| rows.insert(&image))?;
    let second = catalog.version()?;
    owed(second != Some(first), "the version changes with an image")?;
    let alias = Alias::new("version")?;
    write(catalog, &mut |rows| rows.set_alias(&alias, &image.target()))?;
    let third = catalog.version()?;
    owed(third != second, "the version changes with an alias")?;
    write(catalog, &mut |rows| rows.set_last_used(&image.fingerprint, 1))?;
    let fourth = catalog.version()?;
    owed(fourth != third, "the version changes when an image is used")?;
    write(catalog, &mut |rows| rows.remove(&image.fingerprint))?;
    owed(catalog.version()? != fourth, "the version changes when an image goes")
}
