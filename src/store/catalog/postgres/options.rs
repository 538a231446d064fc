//! [`PostgresOptions`]: how a catalog on PostgreSQL connects, waits and retries.

use std::fmt;
use std::time::Duration;

use crate::progress::Cancel;

/// How a [`PostgresCatalog`](super::PostgresCatalog) connects, and how long its calls wait.
///
/// The defaults suit a server with a few hundred requests a second on a database in the same data center.
///
/// ```
/// use std::time::Duration;
///
/// use lxd_image::store::PostgresOptions;
///
/// let options = PostgresOptions::new()
///     .schema("staging_images")
///     .pool_size(16)
///     .statement_timeout(Duration::from_secs(10));
/// # let _ = options;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    pub(super) schema: String,
    pub(super) application_name: String,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
    pub(super) busy_timeout: Duration,
    pub(super) retries: u32,
    pub(super) migrate: bool,
    pub(super) store_id: Option<String>,
    pub(super) cancel: Cancel,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            schema: "lxd_image".to_owned(),
            application_name: "lxd-image".to_owned(),
            pool_size: 8,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(5),
            retries: 3,
            migrate: true,
            store_id: None,
            cancel: Cancel::new(),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("schema", &self.schema)
            .field("application_name", &self.application_name)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("busy_timeout", &self.busy_timeout)
            .field("retries", &self.retries)
            .field("migrate", &self.migrate)
            .field("store_id", &self.store_id)
            .finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// The schema `lxd_image`, up to 8 connections, 10 seconds to connect, 30 for a statement, and
    /// 5 for a wait for other writers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the schema that holds the tables. Stores that share one database have different schemas.
    /// It must be a plain name: lower-case letters, digits and `_`, 48 bytes at most, not beginning with a
    /// digit or `pg_`. Otherwise connecting fails with `InvalidInput`.
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Sets the name that the server's own views and logs show for the connections.
    #[must_use]
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// Sets how many connections may be open at once, at least 2. A call that finds all of them in
    /// use waits for one, up to the [busy timeout](Self::busy_timeout).
    #[must_use]
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(2);
        self
    }

    /// Sets how long one attempt to connect may take, all hosts of the address together.
    #[must_use]
    pub fn connect_timeout(mut self, wait: Duration) -> Self {
        self.connect_timeout = wait;
        self
    }

    /// Sets how long one statement may take, except for those of [`Catalog::check`](super::Catalog::check).
    /// A call whose statement takes longer fails with `Transient`.
    #[must_use]
    pub fn statement_timeout(mut self, wait: Duration) -> Self {
        self.statement_timeout = wait.max(Duration::from_millis(100));
        self
    }

    /// Sets how long a transaction waits for other writers, and is repeated after conflicts and broken
    /// connections, before it fails.
    #[must_use]
    pub fn busy_timeout(mut self, wait: Duration) -> Self {
        self.busy_timeout = wait;
        self
    }

    /// Sets how often a read is repeated on another connection if one breaks. The default is 3.
    #[must_use]
    pub fn retries(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    /// Whether connecting upgrades tables of an older version. The default is yes; without it, an older
    /// version is refused with `Unsupported`.
    #[must_use]
    pub fn migrate(mut self, yes: bool) -> Self {
        self.migrate = yes;
        self
    }

    /// Sets the id of the store that the catalog must belong to. Otherwise connecting fails with `Mismatch`.
    #[must_use]
    pub fn store_id(mut self, id: impl Into<String>) -> Self {
        self.store_id = Some(id.into());
        self
    }

    /// Sets a switch that ends all waits: the waiting call fails with `Cancelled`.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}
