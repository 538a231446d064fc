#![allow(clippy::unwrap_used, reason = "a test may panic")]

use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::*;
use crate::metadata::Architecture;

fn catalog() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(TABLES).unwrap();
    connection
}

fn sample(content: &[u8]) -> StoredImage {
    let fingerprint = Fingerprint::of(content);
    let mut image = StoredImage::new(fingerprint, ImageType::Container, Architecture::X86_64);
    image.objects.image = BlobKey::pair(&fingerprint).0;
    image.properties.set("k\"'\n\\", "\u{1f600}\u{7f}").unwrap();
    image
}

fn plan(connection: &Connection, sql: &str, values: Vec<Value>) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let rows = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
    rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

fn texts<const N: usize>(values: [&str; N]) -> Vec<Value> {
    values.iter().map(|&text| Value::Text(text.to_owned())).collect()
}

fn one<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn queries_besides_those_of_images_follow_an_index() {
    let connection = catalog();
    let cases = [
        (ALIASES, texts(["a", "container", "b", "container"])),
        (WITH_PREFIX, texts(["abcd"])),
        (OBJECTS, texts(["abcd"])),
        ("SELECT target FROM alias WHERE name = ?1 AND type = ?2", texts(["a", "container"])),
        ("SELECT name FROM alias WHERE target = ?1 ORDER BY name", texts(["a"])),
        ("SELECT min(name) FROM alias WHERE target = ?1", texts(["a"])),
        ("DELETE FROM image WHERE fingerprint = ?1", texts(["a"])),
        ("UPDATE image SET sidecar_object = ?3 WHERE fingerprint = ?1 AND revision = ?2", texts(["a", "1", "k"])),
    ];
    for (sql, values) in cases {
        let plan = plan(&connection, sql, values);
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[test]
fn aliases_of_a_page_are_found_by_their_targets() {
    let plan = plan(&catalog(), PAGE_ALIASES, texts(["[]"]));
    assert!(plan.contains("SEARCH alias USING INDEX alias_target (target=?)"), "{plan}");
}

#[test]
fn properties_are_removed_by_their_key() {
    let sql = "DELETE FROM property WHERE (key, value, fingerprint) IN (SELECT key, value, ?1 FROM json_each(?2))";
    let plan = plan(&catalog(), sql, texts(["a", "{}"]));
    assert!(plan.contains("SEARCH property USING PRIMARY KEY"), "{plan}");
}

#[test]
fn row_that_is_copied_by_another_program_is_like_any_other() {
    let connection = catalog();
    let image = sample(b"one");
    insert(&connection, &image).unwrap();
    set_alias(&connection, &Alias::new("a").unwrap(), &image.target()).unwrap();
    let columns: i64 = one(&connection, "SELECT count(*) FROM pragma_table_info('image')");
    let names: String = one(&connection, "SELECT group_concat(name) FROM pragma_table_info('image') WHERE cid > 0");
    assert_eq!(columns, 22);
    let copy = Fingerprint::of(b"two");
    connection.execute(&format!("INSERT INTO image SELECT ?1, {names} FROM image"), [copy.to_string()]).unwrap();
    let mut query = ImageQuery::new().property("k\"'\n\\", "\u{1f600}\u{7f}");
    query.order = crate::store::catalog::Order::Alias;
    assert_eq!(fingerprints(&connection, &query).unwrap().0, [image.fingerprint, copy]);
    assert!(inconsistencies(&connection).unwrap().is_empty());
}

#[test]
fn first_alias_is_that_of_the_moment() {
    let connection = catalog();
    let (image, other) = (sample(b"one"), sample(b"two"));
    insert(&connection, &image).unwrap();
    insert(&connection, &other).unwrap();
    let first = |image: &StoredImage| -> Option<String> {
        one(&connection, &format!("SELECT first_alias FROM image WHERE fingerprint = '{}'", image.fingerprint))
    };
    let mut seen = vec![first(&image)];
    for name in ["m", "z", "b"] {
        set_alias(&connection, &Alias::new(name).unwrap(), &image.target()).unwrap();
        seen.push(first(&image));
    }
    set_alias(&connection, &Alias::new("b").unwrap(), &other.target()).unwrap();
    seen.extend([first(&image), first(&other)]);
    connection.execute("DELETE FROM alias WHERE name <> 'b'", []).unwrap();
    seen.push(first(&image));
    let expected = [None, Some("m"), Some("m"), Some("b"), Some("m"), Some("b"), None];
    assert_eq!(seen, expected.map(|name| name.map(str::to_owned)));
}

#[test]
fn row_whose_properties_are_damaged_can_be_removed() {
    let connection = catalog();
    insert(&connection, &sample(b"one")).unwrap();
    connection.execute("UPDATE image SET properties = '{\"torn'", []).unwrap();
    connection.execute("DELETE FROM image", []).unwrap();
    assert_eq!(one::<i64>(&connection, "SELECT count(*) FROM property"), 0);
}

#[test]
fn check_finds_what_contradicts() {
    let cases = [
        "DELETE FROM property",
        "INSERT INTO property VALUES ('a', 'b', 'c')",
        "UPDATE image SET first_alias = 'z'",
        "UPDATE alias SET type = 'virtual-machine'",
        "UPDATE alias SET target = 'x'",
        "INSERT INTO object VALUES ('k', 'no fingerprint', 'dead', NULL, NULL, 0)",
        "INSERT INTO object VALUES ('k', 'x', 'odd', NULL, NULL, 0)",
    ];
    for sql in cases {
        let connection = catalog();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        let image = sample(b"one");
        insert(&connection, &image).unwrap();
        set_alias(&connection, &Alias::new("a").unwrap(), &image.target()).unwrap();
        assert!(inconsistencies(&connection).unwrap().is_empty(), "before {sql}");
        connection.execute(sql, []).unwrap();
        assert!(!inconsistencies(&connection).unwrap().is_empty(), "{sql}");
    }
}

#[test]
fn sums_of_sizes_are_exact_and_never_wrap() {
    let connection = catalog();
    for (number, size) in [u64::MAX, u64::MAX, 3].into_iter().enumerate() {
        let mut image = sample(&number.to_le_bytes());
        image.size = size;
        insert(&connection, &image).unwrap();
    }
    let bytes = totals(&connection, &ImageQuery::new()).unwrap().bytes;
    assert_eq!(bytes, u64::MAX, "twice the largest number of the database is one less, and three more");
}

#[test]
fn other_layouts_are_refused_with_both_numbers() {
    for version in [0, 1, 3] {
        let error = check_version(APPLICATION_ID, version).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Unsupported);
        assert!(error.message().contains(&format!("version {version}")) && error.message().contains("version 2"));
        assert!(error.hint().is_some());
    }
}
