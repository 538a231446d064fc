//! A database whose disk is full: a tablespace on a small file system in memory, where this process may mount one.

use std::process::Command;

use lxd_image::ErrorKind;
use lxd_image::store::{Catalog, ImageQuery, PostgresCatalog, PostgresOptions};

use crate::cluster::Cluster;
use crate::mounted::Mounted;
use crate::sample;

/// Writes images until the disk is full. Returns how many are there, and the error.
fn fill(catalog: &PostgresCatalog) -> (u64, lxd_image::Error) {
    for number in 0..60_u64 {
        let written = catalog.write(&mut |rows| {
            (0..200).try_for_each(|within| {
                let mut image = sample(format!("{number}-{within}"));
                image.properties.set("description", "a long text ".repeat(100))?;
                rows.insert(&image)
            })
        });
        if let Err(error) = written {
            return (number * 200, error);
        }
    }
    panic!("the disk does not fill");
}

/// A catalog on a full disk, with the number of its images.
struct Full {
    catalog: PostgresCatalog,
    images: u64,
    error: lxd_image::Error,
    mounted: Mounted,
    /// Of its own: a server whose checkpoints fail is of no use to other tests.
    _cluster: Cluster,
}

impl Full {
    fn new() -> Option<Self> {
        let cluster = Cluster::start("")?;
        let mounted = Mounted::at(cluster.path("small"), "24m")?;
        Command::new("chown").arg("postgres:").arg(mounted.path()).status().unwrap();
        cluster
            .sql("postgres", &format!("CREATE TABLESPACE small OWNER images LOCATION '{}'", mounted.path().display()));
        cluster.sql("postgres", "CREATE DATABASE images OWNER images TABLESPACE small");
        let url = cluster.socket_url("images");
        let catalog = PostgresCatalog::init(&url, "store-1", &PostgresOptions::new()).unwrap();
        let (images, error) = fill(&catalog);
        // Not a page more.
        let mut filler = std::fs::File::create(mounted.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
        Some(Self { catalog, images, error, mounted, _cluster: cluster })
    }
}

#[test]
fn full_disk_of_the_database_is_an_error_that_says_so() {
    let Some(full) = Full::new() else { return };
    assert_eq!(full.error.kind(), ErrorKind::StorageFull, "{}", full.error);
}

#[test]
fn commit_that_found_the_disk_full_leaves_nothing() {
    let Some(full) = Full::new() else { return };
    assert_eq!(full.catalog.totals(&ImageQuery::new()).unwrap().images, full.images);
}

#[test]
fn image_can_be_deleted_while_the_disk_is_full() {
    let Some(full) = Full::new() else { return };
    full.catalog.write(&mut |rows| rows.remove(&sample("0-0").fingerprint)).unwrap();
    assert_eq!(full.catalog.image(&sample("0-0").fingerprint).unwrap(), None);
}

#[test]
fn catalog_goes_on_once_there_is_space_again() {
    let Some(full) = Full::new() else { return };
    std::fs::remove_file(full.mounted.path().join("filler")).unwrap();
    full.catalog.write(&mut |rows| rows.insert(&sample("after"))).unwrap();
    assert!(full.catalog.image(&sample("after").fingerprint).unwrap().is_some());
}
