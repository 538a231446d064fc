//! [`PostgresCatalog`]: the catalog in a PostgreSQL database, shared by any number of machines.
//!
//! | file | content |
//! |---|---|
//! | `address`, `options`, `tls` | where the database is, and how it is connected to |
//! | `runtime`, `session`, `pool` | connections, used by plain threads |
//! | `migrations` | the tables, and how older ones are upgraded |
//! | `statements`, `select`, `rows` | SQL and the mapping of rows |
//! | `transaction` | locks, repetition, commits whose answer is lost |
//! | `version`, `clock`, `check` | has it changed? what time is it? is it whole? |
//! | `failure` | errors |
//!
//! Nothing here depends on the state of a connection beyond one transaction (`SET LOCAL`, advisory
//! locks of the transaction, unnamed statements), so pgbouncer may stand in between, in transaction mode.

mod address;
mod check;
mod clock;
mod failure;
mod migrations;
mod options;
mod pool;
mod records;
mod rows;
mod runtime;
mod select;
mod session;
mod statements;
mod tls;
mod transaction;
mod version;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

pub use self::options::PostgresOptions;

use self::address::Address;
use self::clock::{Clock, READ_CLOCK};
use self::failure::{Failure, Outcome};
use self::pool::{Pool, pause_before};
use self::runtime::Patience;
use self::select::{COLUMNS, POSITION, Plan, Select, WALK};
use self::session::{Endpoint, Session};
use self::version::Watch;
use super::columns::end_of_prefix;
use super::{
    AliasPage, AliasQuery, Attachment, Catalog, ImagePage, ImageQuery, Object, Order, Position, SharedRecords, Totals,
    Transaction,
};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::progress::Monitor;
use crate::store::blobs::BlobKey;
use crate::store::image::{Alias, AliasTarget, StoredImage};

/// The longest wait for the database's clock; after it, the last reading is used.
const CLOCK_WAIT: Duration = Duration::from_secs(2);

/// The catalog of a store in a PostgreSQL database, version 14 or newer.
///
/// Any number of processes on any number of machines may use it at once. Readers never wait for
/// writers, and writers of different images do not wait for each other. Calls block their thread,
/// which may be any; the connections are served by two threads of their own. A connection that
/// breaks is replaced, and a transaction whose commit was not answered is looked up: it is neither
/// lost nor done twice.
///
/// # Address
///
/// `postgresql://user@host:port/database?sslmode=verify-full`, as PostgreSQL's own programs take it.
/// `?host=/run/postgresql` is a socket. With several hosts, separated by commas, the one that takes
/// changes is used. What is missing comes from `PGHOST`, `PGPORT`, `PGUSER` and `PGDATABASE`; the
/// password from the address, `PGPASSWORD`, or the file that `PGPASSFILE` names (`~/.pgpass`). It is
/// never shown.
///
/// `sslmode` (`PGSSLMODE`) is `verify-full`, the default except for this machine: encrypted, with
/// a certificate of an authority of the system or of the file that `sslrootcert` (`PGSSLROOTCERT`)
/// names; `require` and `verify-ca` mean the same here. `prefer` encrypts if the server offers it,
/// without verifying who it is. `disable` never encrypts. `sslcert` and `sslkey` (`PGSSLCERT`,
/// `PGSSLKEY`) name a client certificate.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use lxd_image::store::{DirectoryBlobs, DirectoryFiles, PostgresCatalog, PostgresOptions, Scratch, StoreOptions};
///
/// # fn main() -> lxd_image::Result<()> {
/// let options = PostgresOptions::new().application_name("image-server");
/// let catalog = PostgresCatalog::connect("postgresql://images@db.example/images", &options)?;
/// let files = Arc::new(DirectoryFiles::create_or_open("/mnt/shared/images", catalog.store_id())?);
/// let scratch = Scratch::directory("/var/tmp/images")?;
/// let store = StoreOptions::new().open_parts(Arc::new(DirectoryBlobs::new(files)), Arc::new(catalog), scratch);
/// println!("{} images", store.images()?.len());
/// # Ok(())
/// # }
/// ```
pub struct PostgresCatalog {
    pool: Pool,
    clock: Clock,
    watch: Watch,
}

impl fmt::Debug for PostgresCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = &self.pool.endpoint;
        f.debug_struct("PostgresCatalog")
            .field("address", &endpoint.address)
            .field("store_id", &self.pool.store_id())
            .field("options", &endpoint.options)
            .finish_non_exhaustive()
    }
}

impl PostgresCatalog {
    /// Connects to the catalog in a database that was [initialised](Self::init), and upgrades its
    /// tables if they have an older version.
    ///
    /// # Errors
    /// `InvalidInput` for an address that cannot be parsed, and if the server refuses the user or
    /// the password; `NotFound` if the database does not exist or was not initialised; `Mismatch` if
    /// it belongs to another store than [`PostgresOptions::store_id`]; `Unsupported` for newer
    /// tables than this program knows, a server older than version 14, an encoding other than UTF8,
    /// and a server that runs without `fsync`; `Remote` for a certificate that is not accepted;
    /// `Transient` if the server cannot be reached; `Busy` if it has no connection left.
    pub fn connect(url: &str, options: &PostgresOptions) -> Result<Self> {
        Self::open(url, options, migrations::open)
    }

    /// Creates the schema and the tables where they are missing, and records `id` as the id of the
    /// store. Does nothing to a database that has them all and belongs to the store `id`.
    ///
    /// An id has 1 to 64 letters, digits and `-`. Blobs that check the id of their store must have the same.
    ///
    /// ```no_run
    /// use lxd_image::store::{PostgresCatalog, PostgresOptions};
    ///
    /// let url = "postgresql://images@/images?host=/run/postgresql";
    /// let catalog = PostgresCatalog::init(url, "3b5d5c3712955042212316173ccf37be", &PostgresOptions::new())?;
    /// assert_eq!(catalog.store_id(), "3b5d5c3712955042212316173ccf37be");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), except for a database that was not initialised;
    /// `InvalidInput` for an id that is none; `Mismatch` if the database belongs to another store;
    /// `Io` if the user may not create tables.
    pub fn init(url: &str, id: &str, options: &PostgresOptions) -> Result<Self> {
        Self::open(url, options, |session| migrations::init(session, id))
    }

    /// Connects, and makes or checks the tables.
    fn open(url: &str, options: &PostgresOptions, prepare: impl Fn(&Session) -> Outcome<String>) -> Result<Self> {
        migrations::check_schema(&options.schema)?;
        let endpoint = Arc::new(Endpoint::new(Address::parse(url)?, options.clone())?);
        let opened = endpoint.connect().and_then(|session| {
            let store_id = prepare(&session)?;
            let patience = Patience::new(options.statement_timeout, &options.cancel);
            let seconds = read_clock(&session, &patience)?;
            Ok((session, store_id, seconds))
        });
        let (session, store_id, seconds) = opened.map_err(Failure::into_error)?;
        Ok(Self { pool: Pool::new(endpoint, session, store_id), clock: Clock::new(seconds), watch: Watch::default() })
    }

    /// The id of the store that the catalog belongs to.
    #[must_use]
    pub fn store_id(&self) -> &str {
        self.pool.store_id()
    }

    /// Runs a read, and again on another connection if one breaks.
    fn read<T>(&self, look: impl Fn(&Session, &Patience) -> Outcome<T>) -> Result<T> {
        let options = &self.pool.endpoint.options;
        let mut attempt = 0;
        loop {
            let waiting = Patience::new(options.busy_timeout, &options.cancel);
            let looked = self.pool.lease(&waiting).and_then(|session| {
                let patience = Patience::new(options.statement_timeout, &options.cancel);
                look(&session, &patience)
            });
            match looked {
                Err(Failure::Broken(error)) if attempt < options.retries => {
                    // The others lead to the same server, and most likely are broken as well.
                    self.pool.close_idle();
                    if waiting.sleep(pause_before(attempt)) == Err(runtime::GaveUp::Cancelled) {
                        return Err(Error::cancelled());
                    }
                    drop(error);
                    attempt += 1;
                }
                done => return done.map_err(Failure::into_error),
            }
        }
    }

    /// Runs one statement.
    fn rows(&self, sql: &str, parameters: &[session::Parameter<'_>]) -> Result<Vec<Row>> {
        self.read(|session, patience| session.query(&session.sql(sql), parameters, patience))
    }

    /// Runs a statement that walks along an index.
    fn walk(&self, sql: &str, parameters: &[session::Parameter<'_>]) -> Result<Vec<Row>> {
        self.run_under(WALK, sql, parameters)
    }

    /// Runs a select under its settings.
    fn select(&self, select: &Select) -> Result<Vec<Row>> {
        self.run_under(select.settings, &select.sql, &select.parameters())
    }

    /// Runs a statement under settings, in one round trip.
    fn run_under(&self, settings: &str, sql: &str, parameters: &[session::Parameter<'_>]) -> Result<Vec<Row>> {
        let timeout = self.pool.endpoint.options.statement_timeout.as_millis();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {timeout}; {settings}"
        );
        self.read(|session, patience| {
            session.set_dirty(true);
            let rows = session.query_between(&begin, (&session.sql(sql), parameters), "COMMIT", patience)?;
            session.set_dirty(false);
            Ok(rows)
        })
    }

    /// The rows of a page with `columns`, and whether there are more.
    fn page(&self, query: &ImageQuery, columns: &str) -> Result<(Vec<Row>, Option<Position>)> {
        let plan = Plan::of(query);
        let driver = match plan.count() {
            None => None,
            Some(count) => {
                let rows = self.select(&count)?;
                let mut counts = Vec::new();
                for row in rows.iter().take(1) {
                    for index in 0..row.len() {
                        counts.push(rows::whole::<i64>(row, index)?);
                    }
                }
                Plan::driver_of(&counts)
            }
        };
        let mut rows = self.select(&plan.page(driver, columns))?;
        let limit = query.limit.max(1);
        if rows.len() <= limit {
            return Ok((rows, None));
        }
        rows.truncate(limit);
        let next = match rows.iter().rev().find_map(|row| Some((row, rows::row_fingerprint(row).ok()?))) {
            None => None,
            Some((row, fingerprint)) => {
                let alias = if query.order == Order::Alias { rows::whole(row, 1)? } else { None };
                Some(Position { alias, fingerprint })
            }
        };
        Ok((rows, next))
    }
}

/// The time of the database, in seconds since 1970.
fn read_clock(session: &Session, patience: &Patience) -> Outcome<i64> {
    let values = session.batch(READ_CLOCK, patience)?;
    let seconds = values.first().and_then(|text| text.as_deref()?.parse().ok());
    seconds.ok_or_else(|| Error::malformed("the database does not tell the time").into())
}

impl Catalog for PostgresCatalog {
    fn engine(&self) -> &'static str {
        "postgresql"
    }

    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        let sql = format!("SELECT {COLUMNS} FROM @.image WHERE fingerprint = $1");
        let rows = self.rows(&sql, &[(&fingerprint.to_string(), Type::TEXT)])?;
        rows.first().map(|row| rows::image(row).map_err(rows::damaged)).transpose()
    }

    fn alias(&self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        let sql = format!("SELECT {} FROM @.alias WHERE name = $1 AND type = $2", rows::ALIAS);
        let rows = self.rows(&sql, &[(&name, Type::TEXT), (&image_type.name(), Type::TEXT)])?;
        rows.first().map(|row| rows::alias(row).map_err(rows::damaged)).transpose()
    }

    fn aliases(&self, query: &AliasQuery) -> Result<AliasPage> {
        let prefix = query.prefix.as_deref().unwrap_or_default();
        let (name, image_type) = match &query.after {
            Some((name, image_type)) if name.as_str() >= prefix => (name.as_str(), image_type.name()),
            // The empty text sorts before every type.
            _ => (prefix, ""),
        };
        let limit = query.limit.max(1);
        let end = end_of_prefix(prefix);
        let wanted = query.image_type.map(ImageType::name);
        let bound = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut parameters: Vec<session::Parameter<'_>> =
            vec![(&name, Type::TEXT), (&image_type, Type::TEXT), (&bound, Type::INT8)];
        let mut sql = format!("SELECT {} FROM @.alias WHERE (name, type) > ($1, $2)", rows::ALIAS);
        if let Some(end) = &end {
            parameters.push((end, Type::TEXT));
            sql.push_str(&format!(" AND name < ${}", parameters.len()));
        }
        if let Some(wanted) = &wanted {
            parameters.push((wanted, Type::TEXT));
            sql.push_str(&format!(" AND type = ${}", parameters.len()));
        }
        sql.push_str(" ORDER BY name, type LIMIT $3");
        let rows = self.walk(&sql, &parameters)?;
        let next = match rows.get(limit).and_then(|_| rows.get(limit - 1)) {
            None => None,
            Some(last) => Some(rows::alias_position(last).map_err(rows::damaged)?),
        };
        // An alias that cannot be read must not hide others; `check` reports it.
        let aliases = rows.iter().take(limit).filter_map(|row| rows::alias(row).ok()).collect();
        Ok(AliasPage { aliases, next })
    }

    fn with_prefix(&self, prefix: &FingerprintPrefix, limit: usize) -> Result<Vec<Fingerprint>> {
        let sql = "SELECT fingerprint FROM @.image WHERE fingerprint >= $1 AND fingerprint < $2 \
                   ORDER BY fingerprint LIMIT $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // `g` sorts after every hex digit, so the range contains exactly the fingerprints with this prefix.
        let end = format!("{prefix}g");
        let rows = self.walk(sql, &[(&prefix.as_str(), Type::TEXT), (&end, Type::TEXT), (&limit, Type::INT8)])?;
        Ok(rows.iter().filter_map(|row| rows::row_fingerprint(row).ok()).collect())
    }

    fn images(&self, query: &ImageQuery) -> Result<ImagePage> {
        let (rows, next) = self.page(query, COLUMNS)?;
        let mut page = ImagePage { next, ..ImagePage::default() };
        for row in &rows {
            match rows::image(row) {
                Ok(image) => page.images.push(image),
                Err(bad) => page.skipped.push((rows::fingerprint_text(row).to_owned(), rows::damaged(bad))),
            }
        }
        Ok(page)
    }

    fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)> {
        let (rows, next) = self.page(query, POSITION)?;
        Ok((rows.iter().filter_map(|row| rows::row_fingerprint(row).ok()).collect(), next))
    }

    fn totals(&self, query: &ImageQuery) -> Result<Totals> {
        let rows = self.select(&Plan::of(query).totals())?;
        let row = rows.first().ok_or_else(|| Error::malformed("the catalog does not count its images"))?;
        let (images, bytes): (&str, &str) = (rows::whole(row, 0)?, rows::whole(row, 1)?);
        // The sum of numbers of 63 bits may be larger than any of them.
        Ok(Totals { images: images.parse().unwrap_or(0), bytes: bytes.parse().unwrap_or(u64::MAX) })
    }

    fn version(&self) -> Result<Option<u64>> {
        self.read(|session, patience| self.watch.version(session, patience)).map(Some)
    }

    /// The time of the database. Transactions bring it along; otherwise it is asked for at most
    /// once a second, on a connection that is idle.
    fn now(&self) -> i64 {
        let (seconds, is_old) = self.clock.get();
        if !is_old {
            return seconds;
        }
        let cancel = &self.pool.endpoint.options.cancel;
        let read =
            self.pool.try_idle().and_then(|session| read_clock(&session, &Patience::new(CLOCK_WAIT, cancel)).ok());
        if let Some(seconds) = read {
            self.clock.set(seconds);
        }
        read.unwrap_or(seconds)
    }

    fn object(&self, key: &BlobKey) -> Result<Option<Object>> {
        let sql = format!("SELECT {} FROM @.object WHERE key = $1", rows::OBJECT);
        let rows = self.rows(&sql, &[(&key.as_str(), Type::TEXT)])?;
        rows.first().map(|row| rows::object(row).map_err(rows::damaged)).transpose()
    }

    fn objects(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Object>> {
        let sql = format!("SELECT {} FROM @.object WHERE key > $1 ORDER BY key LIMIT $2", rows::OBJECT);
        let after = after.map_or("", BlobKey::as_str);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.walk(&sql, &[(&after, Type::TEXT), (&limit, Type::INT8)])?;
        // A note that cannot be read must not hide others; `check` reports it.
        Ok(rows.iter().filter_map(|row| rows::object(row).ok()).collect())
    }

    fn attachments(&self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        let rows = self.rows(rows::ATTACHMENTS, &[(&fingerprint.to_string(), Type::TEXT)])?;
        rows.iter().map(|row| rows::attachment(row).map_err(rows::damaged)).collect()
    }

    fn attached(&self, prefix: &str) -> Result<BTreeSet<Fingerprint>> {
        let sql = "SELECT DISTINCT fingerprint FROM @.attachment WHERE starts_with(name, $1)";
        let rows = self.rows(sql, &[(&prefix, Type::TEXT)])?;
        // A text that is no fingerprint belongs to no image that could be found; `check` reports it.
        Ok(rows.iter().filter_map(|row| rows::row_fingerprint(row).ok()).collect())
    }

    fn check(&self, monitor: &Monitor) -> Result<Vec<String>> {
        monitor.check()?;
        // As long as it takes, but not after the caller cancelled.
        let patience = Patience::new(Duration::MAX, monitor.cancel());
        let options = &self.pool.endpoint.options;
        let waiting = Patience::new(options.busy_timeout, &options.cancel);
        let session = self.pool.lease(&waiting).map_err(Failure::into_error)?;
        check::inconsistencies(&session, &patience).map_err(Failure::into_error)
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        transaction::write(self, work)
    }

    fn shared_records(&self) -> Option<&dyn SharedRecords> {
        Some(self)
    }
}
