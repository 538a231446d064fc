#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::format::ImageType;
use crate::metadata::Architecture;
use crate::store::catalog::schema;
use crate::store::image::Alias;

/// A catalog with more images than are counted: all are public Debian ones, the first three are cached.
fn catalog() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(schema::TABLES).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    for number in 0..MAX_COUNTED + 100 {
        let fingerprint = Fingerprint::of(&number.to_le_bytes());
        let mut image = schema::StoredImage::new(fingerprint, ImageType::Container, Architecture::X86_64);
        image.objects.image = schema::BlobKey::pair(&fingerprint).0;
        image.public = true;
        image.cached = number < 3;
        image.properties.set("os", "Debian").unwrap();
        image.properties.set("serial", number.to_string()).unwrap();
        schema::insert(&connection, &image).unwrap();
        if number % 2 == 0 {
            schema::set_alias(&connection, &Alias::new(format!("name{number}")).unwrap(), &image.target()).unwrap();
        }
    }
    connection.execute_batch("COMMIT").unwrap();
    connection
}

fn plan(connection: &Connection, sql: &str, values: Vec<Value>) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let rows = statement.query_map(params_from_iter(values), |row| row.get(3)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The plans of all parts of a query, from its beginning and from a position.
fn plans(connection: &Connection, query: &ImageQuery) -> Vec<String> {
    let position =
        |alias: Option<&str>| Some(Position { alias: alias.map(str::to_owned), fingerprint: Fingerprint::of(b"x") });
    let mut found = Vec::new();
    for after in [None, position(None), position(Some("name4"))] {
        let query = query.clone().after(after);
        let filters = Filters::of(&query);
        let driver = filters.page_driver(connection).unwrap();
        for part in parts(&query) {
            let select = filters.select(driver, &part, "image.fingerprint, image.first_alias, image.properties");
            found.extend(plan(connection, &select.sql, select.values));
        }
    }
    found
}

fn reads_only_what_it_shows(plans: &[String]) -> bool {
    plans.iter().all(|step| !step.contains("SCAN") && !step.contains("TEMP B-TREE"))
}

fn prefix() -> crate::fingerprint::FingerprintPrefix {
    Fingerprint::of(&0_i64.to_le_bytes()).to_string()[..6].parse().unwrap()
}

#[test]
fn pages_by_fingerprint_follow_an_index() {
    let connection = catalog();
    let queries = [
        ImageQuery::new(),
        ImageQuery::new().public(true),
        ImageQuery::new().public(false),
        ImageQuery::new().cached(true),
        ImageQuery::new().auto_update(false),
        ImageQuery::new().image_type(ImageType::Container),
        ImageQuery::new().architecture(Architecture::X86_64),
        ImageQuery::new().size(0),
        ImageQuery::new().prefix(prefix()),
        ImageQuery::new().prefix(prefix()).public(true),
        ImageQuery::new().property("os", "Debian"),
        ImageQuery::new().property("os", "Debian").prefix(prefix()),
        ImageQuery::new().property("os", "Debian").property("serial", "7").public(true).cached(false),
    ];
    for query in queries {
        let plans = plans(&connection, &query);
        assert!(reads_only_what_it_shows(&plans), "{query:?}: {plans:#?}");
    }
}

#[test]
fn pages_by_alias_follow_an_index() {
    let connection = catalog();
    let queries = [
        ImageQuery::new(),
        ImageQuery::new().public(true),
        ImageQuery::new().public(false),
        ImageQuery::new().property("os", "Debian"),
        ImageQuery::new().property("os", "Debian").public(true),
        ImageQuery::new().image_type(ImageType::Container),
    ];
    for query in queries {
        let plans = plans(&connection, &query.clone().order(Order::Alias));
        assert!(reads_only_what_it_shows(&plans), "{query:?}: {plans:#?}");
    }
}

#[test]
fn pages_by_alias_of_few_images_do_not_walk_through_all() {
    let connection = catalog();
    let queries = [
        ImageQuery::new().property("serial", "7"),
        ImageQuery::new().cached(true).public(true),
        ImageQuery::new().prefix(prefix()),
        ImageQuery::new().property("none", ""),
    ];
    for query in queries {
        let plans = plans(&connection, &query.clone().order(Order::Alias));
        assert!(plans.iter().all(|step| !step.contains("SCAN") && !step.contains("alias>")), "{query:?}: {plans:#?}");
    }
}

#[test]
fn property_that_few_images_have_comes_before_one_of_many() {
    let connection = catalog();
    let query = ImageQuery::new().property("os", "Debian").property("serial", "7").public(true);
    assert_eq!(Filters::of(&query).page_driver(&connection).unwrap(), Driver::Property(1));
}

#[test]
fn cached_comes_before_a_property_of_many() {
    let connection = catalog();
    let query = ImageQuery::new().property("os", "Debian").cached(true);
    assert_eq!(Filters::of(&query).page_driver(&connection).unwrap(), Driver::Column(0));
}

#[test]
fn totals_read_an_index_only() {
    let connection = catalog();
    for query in [ImageQuery::new(), ImageQuery::new().public(true), ImageQuery::new().cached(true)] {
        let select = totals(&connection, &query).unwrap();
        let plan = plan(&connection, &select.sql, select.values);
        assert!(plan.iter().all(|step| step.contains("COVERING INDEX")), "{query:?}: {plan:?}");
    }
}

#[test]
fn counts_read_an_index_only() {
    let connection = catalog();
    let query = ImageQuery::new().property("os", "Debian").cached(true).prefix(prefix());
    let filters = Filters::of(&query);
    for driver in filters.drivers() {
        let select = filters.count(driver, MAX_COUNTED);
        let plan = plan(&connection, &select.sql, select.values);
        let read = plan.iter().filter(|step| step.contains("SEARCH")).count();
        assert!(read == 1 && plan.iter().all(|step| !step.contains("SCAN image")), "{driver:?}: {plan:?}");
    }
}
