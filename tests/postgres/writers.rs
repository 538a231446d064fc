//! Writers at the same time, and stores that share a database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lxd_image::format::{ImageSource, Input, PackOptions, Rootfs, pack};
use lxd_image::store::{
    Alias, Catalog, DirectoryBlobs, DirectoryFiles, ImageQuery, ImportOptions, Object, ObjectState, PostgresCatalog,
    PostgresOptions, Scratch, Store, StoreOptions,
};
use lxd_image::{ErrorKind, Metadata, Monitor};

use super::cluster::shared;
use super::sample;

#[test]
fn writers_of_different_images_never_conflict() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    let runs = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (catalog, runs) = (&catalog, &runs);
            scope.spawn(move || {
                for number in 0..25 {
                    let image = sample(format!("{writer} {number}"));
                    let note = Object::new(
                        image.objects.image.clone(),
                        image.fingerprint,
                        ObjectState::Dead { delete_after: 0 },
                    );
                    // As an import does it: notes, the row with an alias, no notes.
                    let alias = Alias::new(format!("a{writer}/{number}")).unwrap();
                    catalog
                        .write(&mut |rows| {
                            runs.fetch_add(1, Ordering::Relaxed);
                            assert!(rows.image(&image.fingerprint)?.is_none());
                            rows.put_object(&note)
                        })
                        .unwrap();
                    catalog
                        .write(&mut |rows| {
                            runs.fetch_add(1, Ordering::Relaxed);
                            assert_eq!(rows.object(&note.key)?.as_ref(), Some(&note));
                            rows.insert(&image)?;
                            rows.set_alias(&alias, &image.target())?;
                            rows.remove_object(&note.key)
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(catalog.totals(&ImageQuery::new()).unwrap().images, 200);
    assert_eq!(runs.load(Ordering::Relaxed), 400, "no transaction ran twice");
}

#[test]
fn writer_of_another_image_does_not_wait() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    catalog
        .write(&mut |rows| {
            rows.insert(&sample("one"))?;
            let began = Instant::now();
            catalog.write(&mut |others| others.insert(&sample("two")))?;
            assert!(began.elapsed() < Duration::from_secs(2));
            Ok(())
        })
        .unwrap();
    assert_eq!(catalog.totals(&ImageQuery::new()).unwrap().images, 2);
}

#[test]
fn reader_does_not_wait_for_a_writer() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    catalog
        .write(&mut |rows| {
            rows.insert(&sample("one"))?;
            assert!(catalog.image(&sample("one").fingerprint)?.is_none());
            assert!(catalog.images(&ImageQuery::new())?.images.is_empty());
            catalog.version().map(|_| ())
        })
        .unwrap();
}

#[test]
fn writer_of_the_same_image_fails_with_busy_after_the_wait() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog_with(&PostgresOptions::new().busy_timeout(Duration::from_millis(300))).0;
    catalog
        .write(&mut |rows| {
            rows.insert(&sample("one"))?;
            let failed = catalog.write(&mut |others| others.insert(&sample("one"))).unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Busy, "{failed}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn absence_that_was_read_stays_true_until_the_commit() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog_with(&PostgresOptions::new().busy_timeout(Duration::from_millis(300))).0;
    let alias = Alias::new("a").unwrap();
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    catalog
        .write(&mut |rows| {
            assert!(rows.alias("a", sample("one").image_type)?.is_none());
            let failed = catalog.write(&mut |others| others.set_alias(&alias, &sample("one").target()));
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Busy);
            Ok(())
        })
        .unwrap();
}

#[test]
fn removal_of_an_image_conflicts_with_who_has_read_its_alias() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog_with(&PostgresOptions::new().busy_timeout(Duration::from_millis(300))).0;
    let one = sample("one");
    catalog
        .write(&mut |rows| {
            rows.insert(&one)?;
            rows.set_alias(&Alias::new("a").unwrap(), &one.target())
        })
        .unwrap();
    catalog
        .write(&mut |rows| {
            assert!(rows.alias("a", one.image_type)?.is_some());
            let failed = catalog.write(&mut |others| others.remove(&one.fingerprint));
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Busy);
            Ok(())
        })
        .unwrap();
}

#[test]
fn transactions_that_wait_for_each_other_both_succeed() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    let images = [sample("one"), sample("two")];
    catalog.write(&mut |rows| images.iter().try_for_each(|image| rows.insert(image))).unwrap();
    let barrier = std::sync::Barrier::new(2);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for order in [[0, 1], [1, 0]] {
            let (catalog, images, barrier) = (&catalog, &images, &barrier);
            scope.spawn(move || {
                let mut is_first = true;
                catalog
                    .write(&mut |rows| {
                        rows.set_last_used(&images[order[0]].fingerprint, 1)?;
                        if std::mem::take(&mut is_first) {
                            barrier.wait();
                        }
                        rows.set_last_used(&images[order[1]].fingerprint, 2)
                    })
                    .unwrap();
            });
        }
    });
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn transaction_of_more_rows_than_can_be_locked_succeeds() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    catalog
        .write(&mut |rows| (0..3_000_u32).try_for_each(|number| rows.insert(&sample(number.to_le_bytes()))))
        .unwrap();
    assert_eq!(catalog.totals(&ImageQuery::new()).unwrap().images, 3_000);
}

#[test]
fn transaction_whose_work_panics_leaves_nothing() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        catalog.write(&mut |rows| {
            rows.insert(&sample("one"))?;
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
}

#[test]
fn calls_work_on_a_thread_of_another_runtime() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let images = runtime.block_on(async { catalog.totals(&ImageQuery::new()) }).unwrap().images;
    assert_eq!(images, 0);
}

/// Two stores of two catalogs in one database, with one directory of blobs.
fn two_stores(directory: &std::path::Path) -> Option<[Store; 2]> {
    let cluster = shared()?;
    let database = cluster.database();
    let (url, options) = (cluster.socket_url(&database), PostgresOptions::new());
    drop(PostgresCatalog::init(&url, "store-1", &options).unwrap());
    let open = |name: &str| {
        let catalog = PostgresCatalog::connect(&url, &options).unwrap();
        let files = DirectoryFiles::create_or_open(directory.join("blobs"), catalog.store_id()).unwrap();
        let scratch = Scratch::directory(directory.join(name)).unwrap();
        StoreOptions::new().open_parts(Arc::new(DirectoryBlobs::new(Arc::new(files))), Arc::new(catalog), scratch)
    };
    Some([open("scratch-1"), open("scratch-2")])
}

/// A small image in a file.
fn packed(directory: &std::path::Path, name: &str) -> ImageSource {
    let root = directory.join(format!("root-{name}"));
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/hostname"), name).unwrap();
    let archive = directory.join(format!("{name}.tar"));
    pack(
        &Rootfs::open(&root).unwrap(),
        &archive,
        &PackOptions::new(Metadata::new("x86_64", 1).unwrap()),
        &Monitor::none(),
    )
    .unwrap();
    ImageSource::unified(Input::open(&archive).unwrap())
}

#[test]
fn image_that_one_machine_imports_is_read_aliased_and_deleted_by_another() {
    let directory = std::env::temp_dir().join(format!("lxi-pg-two-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let Some([one, two]) = two_stores(&directory) else { return };
    let options = ImportOptions::new().alias(Alias::new("debian/12").unwrap());
    let image = one.import(packed(&directory, "a"), &options, &Monitor::none()).unwrap();
    let resolved = two.resolve("debian/12").unwrap();
    assert_eq!(resolved.fingerprint, image.fingerprint);
    assert_eq!(two.images().unwrap().len(), 1);
    let opened = two.open_image(&image.fingerprint).unwrap();
    two.create_alias(&Alias::new("stable").unwrap(), &image.fingerprint).unwrap();
    assert_eq!(one.resolve("stable").unwrap().fingerprint, image.fingerprint);
    two.delete(&image.fingerprint).unwrap();
    assert_eq!(one.resolve("stable").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(one.images().unwrap().is_empty());
    opened.open(&lxd_image::Limits::default()).unwrap().metadata().unwrap();
    drop((one, two));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[cfg(feature = "server")]
#[test]
fn quota_of_a_client_holds_at_every_server_of_the_store() {
    use lxd_image::server::{Client, Handler, Request, ServerOptions};
    let directory = std::env::temp_dir().join(format!("lxi-pg-quota-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let Some([one, two]) = two_stores(&directory) else { return };
    packed(&directory, "a");
    let bytes = std::fs::read(directory.join("a.tar")).unwrap();
    let mut limits = lxd_image::Limits::default();
    limits.client_stored = bytes.len() as u64 + 100;
    let handlers = [&one, &two].map(|store| Handler::new(store.clone(), ServerOptions::new().limits(limits.clone())));
    let upload = |handler: &Handler, client: &[u8]| {
        let mut request = Request::new(http::Method::POST, "/1.0/images".parse().unwrap());
        request.client = Client::Trusted(lxd_image::Fingerprint::of(client));
        request.headers.insert("content-length", bytes.len().into());
        request.body = Box::new(std::io::Cursor::new(bytes.clone()));
        handler.handle(request).status.as_u16()
    };
    assert_eq!(upload(&handlers[0], b"client"), 202);
    assert_eq!(upload(&handlers[1], b"client"), 413);
    assert_eq!(upload(&handlers[1], b"another"), 202);
    drop((handlers, one, two));
    std::fs::remove_dir_all(&directory).unwrap();
}
