//! What every implementation of [`Blobs`] and [`Catalog`] owes: one suite, run against each of them.
//! Fails with a sentence that says where one falls short.

use std::io::{Read, Write};

use super::blobs::{Area, Blobs};
use super::catalog::{Catalog, Transaction};
use super::image::{Alias, StoredImage, UpdateSource};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::metadata::{Architecture, Properties};

fn owed(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::invalid(format!("not as owed: {what}"))) }
}

fn content(blobs: &dyn Blobs, area: Area, name: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    blobs.open(area, name)?.reader().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn kind<T>(result: std::io::Result<T>) -> Option<std::io::ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Runs the suite on blobs that are empty and were made by one process.
///
/// # Errors
/// `InvalidInput` with a sentence about what is not as owed; those of the implementation, where
/// none is owed.
pub fn blobs(blobs: &dyn Blobs) -> Result<()> {
    use std::io::ErrorKind::{AlreadyExists, NotFound};
    blobs.present()?;
    for area in Area::ALL {
        owed(blobs.names(area)?.is_empty(), "the suite begins with nothing")?;
        owed(kind(blobs.open(area, "x")) == Some(NotFound), "a file that is not there can't be opened")?;
        owed(kind(blobs.remove(area, "x")) == Some(NotFound), "a file that is not there can't be removed")?;
    }
    let mut file = blobs.create()?;
    let name = file.name().to_owned();
    file.write_all(b"one")?;
    file.flush()?;
    let mut early = Vec::new();
    file.reader()?.reader_from(0, 3).read_to_end(&mut early)?;
    owed(blobs.names(Area::Staging)? == [name.clone()], "a new file has its name in staging")?;
    owed(blobs.names(Area::Blobs)?.is_empty(), "a new file is no blob")?;
    owed(blobs.seize(&name)?.is_none(), "a file is locked while its maker has it")?;
    owed(blobs.create()?.name() != name, "each new file has a name of its own")?;
    file.sync()?;
    blobs.link(&name, "blob")?;
    owed(content(blobs, Area::Blobs, "blob")? == b"one", "a blob has its bytes")?;
    owed(content(blobs, Area::Staging, &name)? == b"one", "a linked file keeps its staging name")?;
    owed(kind(blobs.link(&name, "blob")) == Some(AlreadyExists), "a name that is taken is not given again")?;
    blobs.sync(Area::Blobs)?;
    blobs.rename((Area::Staging, &name), (Area::Staging, "renamed"))?;
    owed(blobs.seize("renamed")?.is_none(), "the lock is the file's, not the name's")?;
    owed(blobs.seize(&name)?.is_none(), "a name that is gone can't be locked")?;
    drop(file);
    {
        let lock = blobs.seize("renamed")?;
        owed(lock.is_some(), "a file that nobody has can be locked")?;
    }
    let open = blobs.open(Area::Blobs, "blob")?;
    let mut other = blobs.create()?;
    other.write_all(b"two")?;
    other.sync()?;
    let staged = other.name().to_owned();
    blobs.rename((Area::Staging, &staged), (Area::Blobs, "blob"))?;
    owed(content(blobs, Area::Blobs, "blob")? == b"two", "a rename replaces")?;
    let mut bytes = Vec::new();
    open.reader_from(0, 16).read_to_end(&mut bytes)?;
    owed(bytes == b"one", "an open file keeps its bytes when its name goes")?;
    blobs.rename((Area::Blobs, "blob"), (Area::Quarantine, "aside"))?;
    owed(blobs.names(Area::Quarantine)? == ["aside"], "a file can be put aside")?;
    for name in blobs.names(Area::Staging)? {
        blobs.remove(Area::Staging, &name)?;
    }
    blobs.remove(Area::Quarantine, "aside")?;
    let mut sparse = blobs.create()?;
    sparse.write_all(b"one")?;
    sparse.skip(3)?;
    sparse.write_all(b"two")?;
    sparse.skip(5000)?;
    sparse.flush()?;
    let mut expected = b"one\0\0\0two".to_vec();
    expected.resize(5009, 0);
    let name = sparse.name().to_owned();
    owed(content(blobs, Area::Staging, &name)? == expected, "what is skipped reads as zeros")?;
    drop(sparse);
    blobs.remove(Area::Staging, &name)?;
    for area in Area::ALL {
        blobs.sync(area)?;
        owed(blobs.names(area)?.is_empty(), "what is removed is gone")?;
    }
    Ok(())
}

fn sample(content: &[u8]) -> Result<StoredImage> {
    let mut properties = Properties::new();
    properties.set("z", "last first")?;
    properties.set("a", "ü\n\"")?;
    Ok(StoredImage {
        fingerprint: Fingerprint::of(content),
        image_type: ImageType::VirtualMachine,
        architecture: Architecture::Riscv64,
        size: 1 << 40,
        rootfs_size: Some(7),
        created_at: -5,
        expires_at: None,
        uploaded_at: 3,
        last_used_at: Some(i64::MAX),
        public: true,
        auto_update: false,
        cached: true,
        file_name: Some("a.tar".to_owned()),
        rootfs_name: None,
        source: Some(UpdateSource::new("https://images.example", "lxd", "a").certificate("PEM")),
        original_properties: Properties::new(),
        properties,
        revision: 9,
        aliases: Vec::new(),
    })
}

/// Runs the suite on a catalog that is empty.
///
/// # Errors
/// `InvalidInput` with a sentence about what is not as owed; those of the implementation, where
/// none is owed.
pub fn catalog(catalog: &dyn Catalog) -> Result<()> {
    owed(catalog.images()?.is_empty() && catalog.unsettled()?.is_empty(), "the suite begins with nothing")?;
    let (mut one, two) = (sample(b"one")?, sample(b"two")?);
    let (a, b) = (Alias::new("a/b")?.described("what for"), Alias::new("b")?);
    catalog.write(&mut |rows| {
        rows.put(&one)?;
        rows.put(&two)?;
        rows.set_alias(&b, &one.fingerprint)?;
        rows.set_alias(&a, &one.fingerprint)?;
        owed(rows.alias("b")?.is_some(), "a transaction sees what it did")?;
        Ok(())
    })?;
    one.aliases = vec![a.clone(), b.clone()];
    owed(catalog.image(&one.fingerprint)?.as_ref() == Some(&one), "an image comes back as it was, aliases sorted")?;
    owed(catalog.alias("a/b")? == Some((a.clone(), one.fingerprint)), "an alias comes back as it was")?;
    let mut both = vec![one.clone(), two.clone()];
    both.sort_by_key(|image| image.fingerprint);
    owed(catalog.images()? == both, "all images come, in order, with their aliases")?;
    owed(catalog.cached_images()? == both, "cached images come as all images do")?;
    prefixes(catalog, &both)?;

    let failed = catalog.write(&mut |rows| {
        rows.remove(&one.fingerprint)?;
        rows.remove_alias("b")?;
        rows.set_unsettled(&two.fingerprint, true)?;
        Err(Error::new(ErrorKind::Cancelled, "on purpose"))
    });
    owed(failed.is_err_and(|error| error.kind() == ErrorKind::Cancelled), "the error of the work comes out")?;
    owed(catalog.images()? == both && catalog.unsettled()?.is_empty(), "work that fails changes nothing")?;

    catalog.write(&mut |rows| moves(rows, &one, &two, &b))?;
    one.aliases = vec![a];
    one.revision += 1;
    one.cached = false;
    owed(catalog.image(&one.fingerprint)?.as_ref() == Some(&one), "putting an image again keeps its aliases")?;
    owed(
        catalog.cached_images()?.iter().all(|image| image.fingerprint != one.fingerprint),
        "what is no longer cached is not listed so",
    )?;
    owed(catalog.alias("b")? == Some((b, two.fingerprint)), "an alias that is set again has moved")?;
    owed(catalog.unsettled()? == [two.fingerprint], "what is unsettled is noted once")?;
    catalog.write_to_free(&mut |rows| {
        rows.remove(&two.fingerprint)?;
        rows.set_unsettled(&two.fingerprint, false)
    })?;
    owed(catalog.alias("b")?.is_none(), "an image's aliases go with it")?;
    owed(catalog.unsettled()?.is_empty(), "what is settled is no longer noted")?;
    owed(catalog.check()?.is_empty(), "nothing is damaged")?;
    catalog.write(&mut |rows| rows.remove(&one.fingerprint))?;
    owed(catalog.images()?.is_empty(), "what is removed is gone")?;
    Ok(())
}

fn moves(rows: &mut dyn Transaction, one: &StoredImage, two: &StoredImage, alias: &Alias) -> Result<()> {
    let mut again = one.clone();
    again.revision += 1;
    again.cached = false;
    rows.put(&again)?;
    rows.set_alias(alias, &two.fingerprint)?;
    rows.set_unsettled(&two.fingerprint, true)?;
    rows.set_unsettled(&two.fingerprint, true)?;
    owed(rows.unsettled()? == [two.fingerprint], "a transaction sees what is unsettled")?;
    Ok(())
}

fn prefixes(catalog: &dyn Catalog, both: &[StoredImage]) -> Result<()> {
    for image in both {
        let digits = image.fingerprint.to_string();
        for length in [4, 12, 63, 64] {
            let prefix = digits.get(..length).unwrap_or_default().parse()?;
            owed(catalog.with_prefix(&prefix, 10)? == [image.fingerprint], "an image is found by its beginning")?;
        }
    }
    owed(catalog.with_prefix(&"0000".parse()?, 10)?.is_empty(), "nothing is found by another beginning")?;
    Ok(())
}
