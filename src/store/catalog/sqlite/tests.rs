#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::metadata::Architecture;
use crate::store::catalog::Order;

fn sample(content: &[u8]) -> StoredImage {
    let mut image = StoredImage::new(Fingerprint::of(content), ImageType::Container, Architecture::X86_64);
    image.objects.image = BlobKey::pair(&image.fingerprint).0;
    image
}

/// A catalog in a file, in a directory that is removed with it.
struct OnDisk {
    directory: PathBuf,
    catalog: SqliteCatalog,
}

impl OnDisk {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("lxd-image-sqlite-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("catalog.sqlite");
        SqliteCatalog::create(&path, "id").unwrap();
        let catalog = open(&path, false).unwrap();
        Self { directory, catalog }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("catalog.sqlite")
    }

    /// Changes rows as another program would.
    fn execute(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn open(path: &Path, read_only: bool) -> Result<SqliteCatalog> {
    let lock = StoreLock::unlocked(path.parent().unwrap()).unwrap();
    SqliteCatalog::open(path, "id", (Duration::from_secs(5), &Cancel::new()), read_only, lock)
}

#[test]
fn catalog_in_memory_keeps_the_contract() {
    crate::store::conformance::catalog(&SqliteCatalog::in_memory().unwrap()).unwrap();
}

#[test]
fn catalog_in_a_file_keeps_the_contract() {
    let place = OnDisk::new("conformance");
    crate::store::conformance::catalog(&place.catalog).unwrap();
}

/// Twelve images, of which some rows are damaged each in another way.
fn damaged(name: &str) -> (OnDisk, Vec<Fingerprint>, Vec<String>) {
    let place = OnDisk::new(name);
    let mut images: Vec<_> = (0_u32..12).map(|number| sample(&number.to_le_bytes())).collect();
    images.sort_by_key(|image| image.fingerprint);
    place.catalog.write(&mut |rows| images.iter().try_for_each(|image| rows.insert(image))).unwrap();
    let mut bad = Vec::new();
    let damage = [
        (1, "properties = '{'"),
        (2, "type = 'toaster'"),
        (5, "size = 'large'"),
        (8, "object = '../../etc/passwd'"),
        (11, "revision = -1"),
    ];
    for (index, change) in damage {
        let fingerprint = images[index].fingerprint.to_string();
        place.execute(&format!("UPDATE image SET {change} WHERE fingerprint = '{fingerprint}'"));
        bad.push(fingerprint);
    }
    for (index, text) in [(3, "no fingerprint"), (9, "")] {
        let fingerprint = images[index].fingerprint;
        place.execute(&format!("UPDATE image SET fingerprint = '{text}' WHERE fingerprint = '{fingerprint}'"));
        bad.push(text.to_owned());
    }
    let good = [0, 4, 6, 7, 10].map(|index| images[index].fingerprint).to_vec();
    bad.sort();
    (place, good, bad)
}

#[test]
fn rows_that_cannot_be_read_are_named_and_hide_no_other() {
    let (place, good, bad) = damaged("skipped");
    for order in [Order::Fingerprint, Order::Alias] {
        for limit in [1, 2, 3, 100] {
            let mut query = ImageQuery::new().order(order).limit(limit);
            let (mut found, mut skipped) = (Vec::new(), Vec::new());
            loop {
                let page = place.catalog.images(&query).unwrap();
                found.extend(page.images.iter().map(|image| image.fingerprint));
                skipped.extend(page.skipped.into_iter().map(|(name, _)| name));
                if page.next.is_none() {
                    break;
                }
                query = query.after(page.next);
            }
            skipped.sort();
            assert_eq!((&found, &skipped), (&good, &bad), "{order:?}, {limit}");
        }
    }
}

#[test]
fn fingerprints_have_rows_that_cannot_be_read_otherwise() {
    let (place, good, bad) = damaged("fingerprints");
    let (found, _) = place.catalog.fingerprints(&ImageQuery::new()).unwrap();
    let readable = bad.iter().filter(|text| text.parse::<Fingerprint>().is_ok()).count();
    assert_eq!(found.len(), good.len() + readable);
}

#[test]
fn alias_that_cannot_be_read_is_named_and_hides_no_image() {
    let place = OnDisk::new("alias");
    let image = sample(b"one");
    place
        .catalog
        .write(&mut |rows| {
            rows.insert(&image)?;
            rows.set_alias(&Alias::new("a")?, &image.target())?;
            rows.set_alias(&Alias::new("b")?, &image.target())
        })
        .unwrap();
    place.execute("UPDATE alias SET description = x'ff' WHERE name = 'a'");
    let page = place.catalog.images(&ImageQuery::new()).unwrap();
    let names: Vec<_> = page.images[0].aliases.iter().map(|alias| alias.name.as_str()).collect();
    assert_eq!((names, page.skipped.len()), (vec!["b"], 1));
}

#[test]
fn check_of_a_large_catalog_ends_when_it_is_cancelled() {
    let catalog = SqliteCatalog::in_memory().unwrap();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let begun = std::time::Instant::now();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let done = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            stop.cancel();
        });
        catalog.read_until(&Monitor::none().with_cancel(cancel), |connection| {
            Ok(connection.query_row(endless, [], |row| row.get::<_, i64>(0))?)
        })
    });
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

fn reserved(place: &OnDisk) -> u64 {
    std::fs::metadata(beside(&place.path(), "-reserve")).unwrap().len()
}

#[test]
fn reserve_is_released_for_work_that_removes_and_kept_again() {
    let place = OnDisk::new("reserve");
    let before = reserved(&place);
    let mut sizes = Vec::new();
    place
        .catalog
        .write(&mut |rows| {
            rows.remove(&Fingerprint::of(b"one"))?;
            sizes.push(reserved(&place));
            if sizes.len() == 1 { Err(Error::storage_full("full")) } else { Ok(()) }
        })
        .unwrap();
    assert_eq!((sizes, reserved(&place)), (vec![before, 0], before));
}

#[test]
fn reserve_is_not_for_work_that_only_adds() {
    let place = OnDisk::new("no-reserve");
    let mut runs = 0;
    let failed = place.catalog.write(&mut |rows| {
        runs += 1;
        rows.insert(&sample(b"one"))?;
        Err(Error::storage_full("full"))
    });
    assert_eq!((failed.unwrap_err().kind(), runs), (ErrorKind::StorageFull, 1));
}

#[test]
fn note_of_a_dead_object_belongs_to_a_removal() {
    let place = OnDisk::new("dead");
    let image = sample(b"one");
    let mut runs = 0;
    place
        .catalog
        .write(&mut |rows| {
            runs += 1;
            let state = ObjectState::Dead { delete_after: 0 };
            rows.put_object(&Object::new(image.objects.image.clone(), image.fingerprint, state))?;
            if runs == 1 { Err(Error::storage_full("full")) } else { Ok(()) }
        })
        .unwrap();
    assert_eq!(runs, 2);
}

#[test]
fn catalog_opened_for_reading_refuses_changes() {
    let place = OnDisk::new("read-only");
    let catalog = open(&place.path(), true).unwrap();
    let error = catalog.write(&mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.file(), Some(place.path().as_path()));
}

#[test]
fn finished_catalog_has_what_was_written() {
    let place = OnDisk::new("finish");
    place.catalog.write(&mut |rows| rows.insert(&sample(b"one"))).unwrap();
    open(&place.path(), false).unwrap();
    let path = place.directory.join("fresh.sqlite");
    SqliteCatalog::create(&path, "id").unwrap();
    let fresh = open(&path, false).unwrap();
    fresh.write(&mut |rows| rows.insert(&sample(b"one"))).unwrap();
    fresh.finish(1, 0).unwrap();
}
