//! The SQL for a page of images.
//!
//! PostgreSQL knows how often common values occur, but not how values go together with an order, so
//! it may walk through a whole index for a page of a rare filter. Hence the matches of each filter
//! are counted here, up to a bound:
//!
//! - A filter with few matches is the *driver*: its matches are fetched, filtered and sorted.
//! - Otherwise the index of the order is walked, which soon finds enough of them.
//!
//! The planner is told by `SET LOCAL`, for this transaction alone, not to do the other.

use tokio_postgres::types::Type;

use super::session::Parameter;
use super::statements::property_hash;
use crate::store::catalog::columns::stored;
use crate::store::catalog::query::{ImageQuery, Order, Position};

/// Up to how many matches of a filter are counted.
const MAX_COUNTED: i64 = 1_000;

/// All columns of an image with the names and descriptions of its aliases. The first two are those of [`POSITION`].
pub(super) const COLUMNS: &str = "image.fingerprint, image.first_alias, image.type, image.architecture, image.size, \
     image.rootfs_size, image.created_at, image.expires_at, image.uploaded_at, image.last_used_at, image.public, \
     image.auto_update, image.cached, image.file_name, image.rootfs_name, image.source, image.properties::text, \
     image.original_properties::text, image.revision, image.object, image.rootfs_object, image.sidecar_object, \
     ARRAY(SELECT name FROM @.alias WHERE target = image.fingerprint ORDER BY name), \
     ARRAY(SELECT description FROM @.alias WHERE target = image.fingerprint ORDER BY name)";

/// The columns that make a position.
pub(super) const POSITION: &str = "image.fingerprint, image.first_alias";

/// Settings for a walk along an index.
pub(super) const WALK: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
     SET LOCAL enable_hashjoin = off; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// Settings for fetching few rows by their fingerprints.
const FETCH: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; \
     SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// Settings for adding up.
const SUM: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

/// A value of a parameter.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    Bytes(Vec<u8>),
}

/// A statement with its parameters, and the settings that it runs under.
#[derive(Debug)]
pub(super) struct Select {
    pub(super) sql: String,
    pub(super) settings: &'static str,
    values: Vec<Value>,
}

impl Select {
    pub(super) fn parameters<'a>(&'a self) -> Vec<Parameter<'a>> {
        let parameter = |value: &'a Value| -> Parameter<'a> {
            match value {
                Value::Text(text) => (text, Type::TEXT),
                Value::Number(number) => (number, Type::INT8),
                Value::Flag(flag) => (flag, Type::BOOL),
                Value::Bytes(bytes) => (bytes, Type::BYTEA),
            }
        };
        self.values.iter().map(parameter).collect()
    }
}

/// SQL text and its parameters, appended together so that their numbers cannot differ.
#[derive(Default)]
struct Builder {
    sql: String,
    values: Vec<Value>,
}

impl Builder {
    /// Appends SQL, in which each `?` stands for the next of `values`.
    fn push<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        let mut values = values.into_iter();
        for (index, part) in sql.split('?').enumerate() {
            if index > 0 {
                self.values.extend(values.next());
                self.sql.push('$');
                self.sql.push_str(&self.values.len().to_string());
            }
            self.sql.push_str(part);
        }
    }

    fn finish(self, settings: &'static str) -> Select {
        Select { sql: self.sql, settings, values: self.values }
    }
}

/// One filter of a query.
enum Filter {
    /// A column with a value.
    Column(&'static str, Value),
    /// The hash of a property.
    Property(Vec<u8>),
}

/// The filters of a query, but for the prefix.
fn filters(query: &ImageQuery) -> Vec<Filter> {
    let column = |name, value| Filter::Column(name, value);
    let flag = |name, value: Option<bool>| value.map(|yes| column(name, Value::Flag(yes)));
    let word = |name, value: Option<&str>| value.map(|word| column(name, Value::Text(word.to_owned())));
    let properties = query.properties.iter().map(|(key, value)| Filter::Property(property_hash(key, value)));
    let columns = [
        query.size.map(|size| column("size", Value::Number(stored(size)))),
        word("architecture", query.architecture.map(|known| known.kernel_name())),
        word("type", query.image_type.map(|known| known.name())),
        flag("cached", query.cached),
        flag("auto_update", query.auto_update),
        flag("public", query.public),
    ];
    properties.chain(columns.into_iter().flatten()).collect()
}

/// A query and its filters.
pub(super) struct Plan<'a> {
    query: &'a ImageQuery,
    filters: Vec<Filter>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(query: &'a ImageQuery) -> Self {
        Self { query, filters: filters(query) }
    }

    /// The statement that counts the matches of each filter, if it matters which one comes first.
    ///
    /// Where the order is by fingerprint, the index of a single filter has its matches in that
    /// order. No index knows how many images match several filters together: a page with two
    /// filters that have many matches each, but few in common, reads all the matches of one of them.
    pub(super) fn count(&self) -> Option<Select> {
        let filters = self.filters.len();
        let is_useful = match self.query.order {
            Order::Fingerprint => filters > 1,
            Order::Alias => filters > 0 || self.query.prefix.is_some(),
        };
        if !is_useful {
            return None;
        }
        let mut out = Builder::default();
        out.push("SELECT ", []);
        for index in 0..=filters {
            if index > 0 {
                out.push(", ", []);
            }
            out.push("(SELECT count(*) FROM (", []);
            self.driver(&mut out, index);
            out.push(" LIMIT ?) AS counted)", [Value::Number(MAX_COUNTED)]);
        }
        Some(out.finish(WALK))
    }

    /// The filter with the fewest matches, if these are few. `counts` are in the order of [`count`](Self::count).
    pub(super) fn driver_of(counts: &[i64]) -> Option<usize> {
        let least = counts.iter().enumerate().min_by_key(|(_, count)| **count)?;
        (*least.1 < MAX_COUNTED).then_some(least.0)
    }

    /// Appends a select of the fingerprints that match one filter and the prefix; the number after
    /// the last filter is the prefix alone.
    fn driver(&self, out: &mut Builder, index: usize) {
        match self.filters.get(index) {
            Some(Filter::Column(name, value)) => {
                out.push(&format!("SELECT fingerprint FROM @.image WHERE {name} = ?"), [value.clone()]);
            }
            Some(Filter::Property(hash)) => {
                out.push("SELECT fingerprint FROM @.property WHERE hash = ?", [Value::Bytes(hash.clone())]);
            }
            None => out.push("SELECT fingerprint FROM @.image WHERE true", []),
        }
        self.prefix(out, "fingerprint");
    }

    /// Appends the bounds of the prefix.
    fn prefix(&self, out: &mut Builder, column: &str) {
        if let Some(prefix) = &self.query.prefix {
            // `g` sorts after every hex digit, so the range contains exactly the fingerprints with this prefix.
            let bounds = [Value::Text(prefix.as_str().to_owned()), Value::Text(format!("{prefix}g"))];
            out.push(&format!(" AND {column} >= ? AND {column} < ?"), bounds);
        }
    }

    /// Appends the tables and all filters, for the planner to order.
    fn matching(&self, out: &mut Builder) {
        out.push("@.image", []);
        for (index, filter) in self.filters.iter().enumerate() {
            if let Filter::Property(hash) = filter {
                let join = format!(
                    " JOIN @.property AS property{index} ON property{index}.fingerprint = image.fingerprint \
                     AND property{index}.hash = ?"
                );
                out.push(&join, [Value::Bytes(hash.clone())]);
            }
        }
        out.push(" WHERE true", []);
        self.columns(out, None);
        self.prefix(out, "image.fingerprint");
    }

    /// Appends the tables and all filters, so that the images of the driver are looked up one by
    /// one: the planner does not merge what has an `OFFSET`.
    fn looked_up(&self, out: &mut Builder, driver: usize) {
        out.push(
            "driver CROSS JOIN LATERAL (SELECT * FROM @.image WHERE fingerprint = driver.fingerprint OFFSET 0) AS image \
             WHERE true",
            [],
        );
        for (index, filter) in self.filters.iter().enumerate() {
            if let Filter::Property(hash) = filter
                && index != driver
            {
                out.push(
                    " AND EXISTS (SELECT 1 FROM @.property WHERE hash = ? AND fingerprint = image.fingerprint OFFSET 0)",
                    [Value::Bytes(hash.clone())],
                );
            }
        }
        self.columns(out, Some(driver));
    }

    /// Appends the filters by columns, except for that of the driver.
    fn columns(&self, out: &mut Builder, driver: Option<usize>) {
        for (index, filter) in self.filters.iter().enumerate() {
            if let Filter::Column(name, value) = filter
                && driver != Some(index)
            {
                out.push(&format!(" AND image.{name} = ?"), [value.clone()]);
            }
        }
    }

    /// The statement for the rows of a page and one more, with `columns`.
    pub(super) fn page(&self, driver: Option<usize>, columns: &str) -> Select {
        let limit = i64::try_from(self.query.limit.max(1)).unwrap_or(i64::MAX).saturating_add(1);
        let mut out = Builder::default();
        if let Some(driver) = driver {
            out.push("WITH driver AS MATERIALIZED (", []);
            self.driver(&mut out, driver);
            out.push(&format!(") SELECT {columns} FROM "), []);
            self.looked_up(&mut out, driver);
            self.after(&mut out);
            match self.query.order {
                Order::Fingerprint => out.push(" ORDER BY image.fingerprint", []),
                Order::Alias => out.push(" ORDER BY image.first_alias NULLS LAST, image.fingerprint", []),
            }
            out.push(" LIMIT ?", [Value::Number(limit)]);
            return out.finish(FETCH);
        }
        let parts = parts(self.query);
        let is_in_pieces = parts.len() > 1;
        for (index, part) in parts.into_iter().enumerate() {
            out.push(if index > 0 { " UNION ALL (" } else { "(" }, []);
            out.push(&format!("SELECT {columns} FROM "), []);
            self.matching(&mut out);
            part.push(&mut out);
            out.push(" LIMIT ?)", [Value::Number(limit)]);
        }
        if is_in_pieces {
            // Without parallel workers the pieces are read one after the other, and no further than needed.
            out.push(" LIMIT ?", [Value::Number(limit)]);
        }
        out.finish(WALK)
    }

    /// Appends the condition that a row is after the position.
    fn after(&self, out: &mut Builder) {
        let Some(Position { alias, fingerprint }) = &self.query.after else { return };
        let fingerprint = Value::Text(fingerprint.to_string());
        match (self.query.order, alias) {
            (Order::Fingerprint, _) => out.push(" AND image.fingerprint > ?", [fingerprint]),
            (Order::Alias, None) => {
                out.push(" AND image.first_alias IS NULL AND image.fingerprint > ?", [fingerprint]);
            }
            (Order::Alias, Some(alias)) => out.push(
                " AND ((image.first_alias, image.fingerprint) > (?, ?) OR image.first_alias IS NULL)",
                [Value::Text(alias.clone()), fingerprint],
            ),
        }
    }

    /// The statement that counts the images of a query and adds up their sizes, as texts.
    pub(super) fn totals(&self) -> Select {
        let mut out = Builder::default();
        out.push("SELECT count(*)::text, coalesce(sum(image.size), 0)::text FROM ", []);
        self.matching(&mut out);
        out.finish(SUM)
    }
}

/// The part of an order that an index has in one piece.
enum Part {
    /// By fingerprint, after one.
    Fingerprint(Option<String>),
    /// Images with an alias, after this alias and fingerprint.
    WithAlias(Option<(String, String)>),
    /// Images without an alias, by fingerprint, after one.
    WithoutAlias(Option<String>),
}

impl Part {
    /// Appends its condition and its order.
    fn push(self, out: &mut Builder) {
        let is_by_alias = !matches!(self, Self::Fingerprint(_));
        match self {
            Self::WithAlias(after) => {
                out.push(" AND image.first_alias IS NOT NULL", []);
                if let Some((alias, fingerprint)) = after {
                    let after = [Value::Text(alias), Value::Text(fingerprint)];
                    out.push(" AND (image.first_alias, image.fingerprint) > (?, ?)", after);
                }
            }
            Self::WithoutAlias(after) => {
                out.push(" AND image.first_alias IS NULL", []);
                if let Some(after) = after {
                    out.push(" AND image.fingerprint > ?", [Value::Text(after)]);
                }
            }
            Self::Fingerprint(Some(after)) => out.push(" AND image.fingerprint > ?", [Value::Text(after)]),
            Self::Fingerprint(None) => {}
        }
        let order = if is_by_alias { "image.first_alias, image.fingerprint" } else { "image.fingerprint" };
        out.push(&format!(" ORDER BY {order}"), []);
    }
}

/// The parts of the order that remain after the position of a query.
fn parts(query: &ImageQuery) -> Vec<Part> {
    let after = query.after.as_ref();
    let fingerprint = after.map(|position| position.fingerprint.to_string());
    match query.order {
        Order::Fingerprint => vec![Part::Fingerprint(fingerprint)],
        Order::Alias => match after {
            None => vec![Part::WithAlias(None), Part::WithoutAlias(None)],
            Some(Position { alias: None, .. }) => vec![Part::WithoutAlias(fingerprint)],
            Some(Position { alias: Some(alias), fingerprint }) => {
                vec![Part::WithAlias(Some((alias.clone(), fingerprint.to_string()))), Part::WithoutAlias(None)]
            }
        },
    }
}
