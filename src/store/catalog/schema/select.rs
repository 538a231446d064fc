//! The SQL for a page of images, written so that an index leads to its rows in their order.
//!
//! SQLite has no statistics about how many rows match a filter. So the index to start with, the
//! *driver*, is chosen here, by counting matches up to a bound, and is forced with `INDEXED BY` and
//! `CROSS JOIN`.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::{RowResult, text};
use crate::fingerprint::Fingerprint;
use crate::store::catalog::columns::{fingerprint, stored};
use crate::store::catalog::query::{ImageQuery, Order, Position};

/// Up to how many matches of a filter are counted. A filter with fewer matches becomes the driver,
/// and its matches are sorted if its index has another order. With more, a scan of the index of the
/// order soon finds enough of them.
const MAX_COUNTED: i64 = 1_000;

/// A statement with its parameters.
pub(super) struct Select {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

/// A column that a query filters by, the value, and the index over both that column and the fingerprint.
struct Column {
    name: &'static str,
    index: &'static str,
    value: Value,
}

/// The index that a query starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    /// The index of the order, from the beginning of the prefix, where the order is by fingerprint.
    Order,
    /// The images that begin with the prefix.
    Prefix,
    /// The images with this property.
    Property(usize),
    /// The images with this value of a column.
    Column(usize),
}

/// The part of an order that one statement reads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// All images by fingerprint, from or after a bound.
    Fingerprint(Lower),
    /// Images with an alias, after this alias and fingerprint.
    WithAlias(String, String),
    /// Images without an alias, by fingerprint.
    WithoutAlias(Lower),
    /// All images, in any order.
    All,
}

/// A lower bound of fingerprints.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lower {
    From(String),
    After(String),
}

impl Lower {
    /// The nearer one of the two bounds that a query may have: with two, the index would be entered
    /// at either of them.
    fn of(query: &ImageQuery, after: Option<&Fingerprint>) -> Self {
        let prefix = query.prefix.as_ref().map_or("", |prefix| prefix.as_str());
        match after.map(ToString::to_string) {
            Some(after) if after.as_str() >= prefix => Self::After(after),
            _ => Self::From(prefix.to_owned()),
        }
    }
}

/// The columns that a query filters by.
fn columns(query: &ImageQuery) -> Vec<Column> {
    let flag = |name, index, value: Option<bool>| value.map(|yes| Column { name, index, value: Value::from(yes) });
    let word = |name, index, value: Option<&'static str>| {
        value.map(|word| Column { name, index, value: Value::from(word.to_owned()) })
    };
    // The usually most selective ones come first: with equal counts the first one becomes the driver.
    [
        query.size.map(|size| Column { name: "size", index: "image_size", value: Value::from(stored(size)) }),
        word("architecture", "image_architecture", query.architecture.map(|known| known.kernel_name())),
        word("type", "image_type", query.image_type.map(|known| known.name())),
        flag("cached", "image_cached", query.cached),
        flag("auto_update", "image_auto_update", query.auto_update),
        flag("public", "image_public", query.public),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A query without its position and limit.
struct Filters<'a> {
    query: &'a ImageQuery,
    columns: Vec<Column>,
}

impl<'a> Filters<'a> {
    fn of(query: &'a ImageQuery) -> Self {
        Self { query, columns: columns(query) }
    }

    /// All possible drivers, besides the order.
    fn drivers(&self) -> Vec<Driver> {
        let properties = (0..self.query.properties.len()).map(Driver::Property);
        let prefix = self.query.prefix.iter().map(|_| Driver::Prefix);
        properties.chain(prefix).chain((0..self.columns.len()).map(Driver::Column)).collect()
    }

    /// Whether the driver is the filter for public images.
    fn is_public(&self, driver: Driver) -> bool {
        matches!(driver, Driver::Column(index) if self.columns.get(index).is_some_and(|column| column.name == "public"))
    }

    /// The driver with the fewest matches, and their number, up to [`MAX_COUNTED`].
    fn fewest(&self, connection: &Connection, drivers: &[Driver]) -> RowResult<Option<(Driver, i64)>> {
        let mut best: Option<(Driver, i64)> = None;
        for &driver in drivers {
            let most = best.map_or(MAX_COUNTED, |(_, count)| count);
            let select = self.count(driver, most);
            let mut statement = connection.prepare_cached(&select.sql)?;
            let count = statement.query_row(params_from_iter(select.values), |row| row.get(0))?;
            if best.is_none_or(|(_, least)| count < least) {
                best = Some((driver, count));
            }
        }
        Ok(best)
    }

    /// Counts the matches of one driver and the prefix, which every index has in its order.
    fn count(&self, driver: Driver, most: i64) -> Select {
        let mut out = Builder::new();
        match (self.property(driver), self.column(driver)) {
            (Some((key, value)), _) => {
                out.push("property WHERE key = ? AND value = ?", [text_value(key), text_value(value)]);
            }
            (_, Some(column)) => {
                let condition = format!("image INDEXED BY {} WHERE {} = ?", column.index, column.name);
                out.push(&condition, [column.value.clone()]);
            }
            _ => out.push("image WHERE true", []),
        }
        out.prefix(self.query, "fingerprint", &Part::All);
        out.push(" LIMIT ?", [Value::from(most)]);
        Select { sql: format!("SELECT count(*) FROM (SELECT 1 FROM {})", out.sql), values: out.values }
    }

    /// The property of a driver.
    fn property(&self, driver: Driver) -> Option<&(String, String)> {
        if let Driver::Property(index) = driver { self.query.properties.get(index) } else { None }
    }

    /// The column of a driver.
    fn column(&self, driver: Driver) -> Option<&Column> {
        if let Driver::Column(index) = driver { self.columns.get(index) } else { None }
    }

    /// The driver of a page. No index knows how many images match several filters together: a page
    /// with two filters that have many matches each, but few in common, reads all the matches of
    /// one of them.
    fn page_driver(&self, connection: &Connection) -> RowResult<Driver> {
        let mut drivers = self.drivers();
        match self.query.order {
            Order::Fingerprint => {
                // Every other driver starts at the prefix, too.
                if drivers.len() > 1 {
                    drivers.retain(|driver| *driver != Driver::Prefix);
                }
                match drivers.as_slice() {
                    [] | [Driver::Prefix] => Ok(Driver::Order),
                    [only] => Ok(*only),
                    several => Ok(self.fewest(connection, several)?.map_or(Driver::Order, |(driver, _)| driver)),
                }
            }
            Order::Alias => {
                // There is an index for public images in this order.
                drivers.retain(|driver| !self.is_public(*driver));
                match self.fewest(connection, &drivers)? {
                    Some((driver, count)) if count < MAX_COUNTED => Ok(driver),
                    _ => Ok(Driver::Order),
                }
            }
        }
    }

    /// The statement for one part of the order, starting with a driver.
    fn select(&self, driver: Driver, part: &Part, columns: &str) -> Select {
        let mut out = Builder::new();
        let mut fingerprint = "image.fingerprint";
        let is_by_alias = matches!(part, Part::WithAlias(..) | Part::WithoutAlias(_));
        let public = self.columns.iter().find(|column| column.name == "public");
        match (self.property(driver), self.column(driver)) {
            (Some((key, value)), _) => {
                fingerprint = "driver.fingerprint";
                out.push(
                    "property AS driver CROSS JOIN image ON image.fingerprint = driver.fingerprint \
                     WHERE driver.key = ? AND driver.value = ?",
                    [text_value(key), text_value(value)],
                );
            }
            (_, Some(column)) => {
                let from = format!("image INDEXED BY {} WHERE image.{} = ?", column.index, column.name);
                out.push(&from, [column.value.clone()]);
            }
            _ if driver == Driver::Order && is_by_alias => match public {
                Some(column) => {
                    out.push("image INDEXED BY image_public_alias WHERE image.public = ?", [column.value.clone()]);
                }
                None => out.push("image INDEXED BY image_alias WHERE true", []),
            },
            _ if *part == Part::All && self.query.prefix.is_none() => {
                out.push("image INDEXED BY image_size WHERE true", []);
            }
            _ => out.push("image INDEXED BY sqlite_autoindex_image_1 WHERE true", []),
        }
        for (index, column) in self.columns.iter().enumerate() {
            let led =
                driver == Driver::Column(index) || driver == Driver::Order && is_by_alias && column.name == "public";
            if !led {
                out.push(&format!(" AND image.{} = ?", column.name), [column.value.clone()]);
            }
        }
        for (index, (key, value)) in self.query.properties.iter().enumerate() {
            if driver != Driver::Property(index) {
                out.push(
                    " AND EXISTS (SELECT 1 FROM property WHERE key = ? AND value = ? \
                     AND property.fingerprint = image.fingerprint)",
                    [text_value(key), text_value(value)],
                );
            }
        }
        out.prefix(self.query, fingerprint, part);
        match part {
            Part::All => {}
            Part::Fingerprint(lower) => out.after(fingerprint, lower),
            Part::WithAlias(alias, after) => out.push(
                " AND (image.first_alias, image.fingerprint) > (?, ?) ORDER BY image.first_alias, image.fingerprint",
                [text_value(alias), text_value(after)],
            ),
            Part::WithoutAlias(lower) => {
                out.push(" AND image.first_alias IS NULL", []);
                out.after(fingerprint, lower);
            }
        }
        Select { sql: format!("SELECT {columns} FROM {}", out.sql), values: out.values }
    }
}

/// A text as a parameter.
fn text_value(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// SQL text and its parameters, appended together so that their order cannot differ.
struct Builder {
    sql: String,
    values: Vec<Value>,
}

impl Builder {
    fn new() -> Self {
        Self { sql: String::new(), values: Vec::new() }
    }

    /// Appends SQL with its parameters.
    fn push<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    /// Appends the bounds of the prefix. If there is a position, its bound replaces the lower one.
    fn prefix(&mut self, query: &ImageQuery, fingerprint: &str, part: &Part) {
        let Some(prefix) = &query.prefix else { return };
        if matches!(part, Part::All | Part::WithAlias(..)) {
            self.push(&format!(" AND {fingerprint} >= ?"), [text_value(prefix.as_str())]);
        }
        // `g` sorts after every hex digit, so the range contains exactly the fingerprints with this prefix.
        self.push(&format!(" AND {fingerprint} < ?"), [Value::Text(format!("{prefix}g"))]);
    }

    /// Appends a lower bound of fingerprints.
    fn after(&mut self, fingerprint: &str, lower: &Lower) {
        let (compare, value) = match lower {
            Lower::From(value) => (">=", value),
            Lower::After(value) => (">", value),
        };
        self.push(&format!(" AND {fingerprint} {compare} ? ORDER BY {fingerprint}"), [text_value(value)]);
    }
}

/// The parts of the order that remain after the position of a query.
fn parts(query: &ImageQuery) -> Vec<Part> {
    let after = query.after.as_ref();
    let fingerprint = after.map(|position| &position.fingerprint);
    match query.order {
        Order::Fingerprint => vec![Part::Fingerprint(Lower::of(query, fingerprint))],
        Order::Alias => match after {
            Some(Position { alias: None, .. }) => vec![Part::WithoutAlias(Lower::of(query, fingerprint))],
            Some(Position { alias: Some(alias), fingerprint }) => vec![
                Part::WithAlias(alias.clone(), fingerprint.to_string()),
                Part::WithoutAlias(Lower::of(query, None)),
            ],
            None => vec![Part::WithAlias(String::new(), String::new()), Part::WithoutAlias(Lower::of(query, None))],
        },
    }
}

/// Calls `visit` with the rows of a page in their order, and returns the position of the next page.
///
/// `columns` begin with `fingerprint` and `first_alias`. A row without a readable fingerprint does
/// not count against the limit, since it cannot be a position.
pub(super) fn walk(
    connection: &Connection,
    query: &ImageQuery,
    columns: &str,
    visit: &mut dyn FnMut(&Row<'_>, Option<Fingerprint>) -> RowResult<()>,
) -> RowResult<Option<Position>> {
    let filters = Filters::of(query);
    let driver = filters.page_driver(connection)?;
    let mut last = None;
    let mut count = 0;
    for part in parts(query) {
        let select = filters.select(driver, &part, columns);
        let mut statement = connection.prepare_cached(&select.sql)?;
        let mut rows = statement.query(params_from_iter(select.values))?;
        // SQLite computes rows on demand, so nothing after the page is read except whether there is more.
        while let Some(row) = rows.next()? {
            if count == query.limit.max(1) {
                return Ok(last);
            }
            let found = text(row, 0).and_then(|text| Ok(fingerprint(text)?)).ok();
            if let Some(fingerprint) = found {
                count += 1;
                let alias =
                    if matches!(part, Part::WithAlias(..)) { text(row, 1).ok().map(str::to_owned) } else { None };
                last = Some(Position { alias, fingerprint });
            }
            visit(row, found)?;
        }
    }
    Ok(None)
}

/// The statement that counts the images of a query and adds up their sizes. It adds them in two
/// halves, since the sum of 64-bit numbers may overflow.
pub(super) fn totals(connection: &Connection, query: &ImageQuery) -> RowResult<Select> {
    let filters = Filters::of(query);
    let drivers = filters.drivers();
    let driver = match drivers.as_slice() {
        [] | [Driver::Prefix] => Driver::Order,
        [only] => *only,
        several => filters.fewest(connection, several)?.map_or(Driver::Order, |(driver, _)| driver),
    };
    let sum = "count(*), sum(image.size >> 32), sum(image.size & 0xffffffff)";
    Ok(filters.select(driver, &Part::All, sum))
}

#[cfg(test)]
mod tests;
