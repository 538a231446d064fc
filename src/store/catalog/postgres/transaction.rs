//! Transactions: locks, repetition after conflicts, and finding out whether a commit happened whose
//! answer was lost.
//!
//! # Isolation
//!
//! Every call of a [`Transaction`] concerns one row by its key, or the absence of that row. So it
//! locks the key (`pg_advisory_xact_lock`) and then runs at `READ COMMITTED`: what was read stays
//! true until the commit, because whoever would change it waits. That is strict two-phase locking,
//! and serializable. PostgreSQL's own `SERIALIZABLE` locks what an index scan touches, which for
//! the absence of a row is a page of an index, and for a small table all of it: importers of
//! different images would abort each other over the table of notes. Keys never meet by accident.
//!
//! Locks are taken in the order of the calls, so two transactions may wait for each other. A wait
//! is short for that reason; after it, the transaction runs again. A transaction of many rows would
//! fill the server's table of locks: beyond [`MAX_KEYS`] it runs again with one lock for all.
//!
//! # Commits
//!
//! The last message of a transaction inserts a random number into `commit_log` and commits. If the
//! connection breaks before the answer, another one inserts the same number. It waits for a
//! transaction that is still committing; if the number is there, the commit happened; and if it is
//! not, the insertion keeps it from ever happening. Then the work may run again.

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresCatalog;
use super::clock::READ_CLOCK;
use super::failure::{Failure, Outcome};
use super::pool::pause_before;
use super::rows;
use super::runtime::{GaveUp, Patience};
use super::select::COLUMNS;
use super::session::{Parameter, Session};
use super::statements::{lock_key, schema_lock};
use super::version::KEPT;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::progress::Cancel;
use crate::store::blobs::BlobKey;
use crate::store::catalog::columns::{json, source, state_columns, stored};
use crate::store::catalog::sqlite::{already_there, check_objects, no_image, no_target, row_changed};
use crate::store::catalog::{Attachment, Object, Transaction};
use crate::store::image::{Alias, AliasTarget, StoredImage};
use crate::store::random::random_number;

/// How many keys a transaction locks one by one.
const MAX_KEYS: usize = 256;

/// How long the first attempt waits for a lock. Transactions take a few milliseconds; a longer wait
/// is likely to be one of two for each other. Each further attempt waits twice as long.
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// How long to look for the fate of a commit, at least.
const MIN_SETTLE: Duration = Duration::from_secs(60);

/// One of so many commits also deletes old rows of `change` and `commit_log`.
const PRUNE_EVERY: u64 = 256;

/// How many old rows one commit deletes of each table, at most.
const PRUNE_ROWS: u32 = 2_000;

/// The outcome of one attempt.
enum Attempt {
    Committed,
    /// It locks too many keys.
    TooMany,
    /// The commit with this number was sent and not answered, at this time of the database.
    Unknown(i64, i64, Error),
}

/// Runs `work` in a transaction, and again after conflicts and broken connections, until the busy timeout.
pub(super) fn write(catalog: &PostgresCatalog, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
    let options = &catalog.pool.endpoint.options;
    let patience = Patience::new(options.busy_timeout, &options.cancel);
    let mut is_exclusive = false;
    let mut attempt = 0;
    loop {
        let failed = match try_once(catalog, work, (attempt, is_exclusive), &patience) {
            Ok(Attempt::Committed) => return Ok(()),
            Ok(Attempt::TooMany) => {
                is_exclusive = true;
                continue;
            }
            Ok(Attempt::Unknown(id, began, error)) => {
                if is_committed(catalog, id, began)? {
                    return Ok(());
                }
                error
            }
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Broken(error)) => {
                // The others lead to the same server, and most likely are broken as well.
                catalog.pool.close_idle();
                error
            }
            Err(Failure::Conflict(error) | Failure::Overloaded(error)) => error,
        };
        match patience.sleep(pause_before(attempt)) {
            Ok(()) => attempt = attempt.saturating_add(1),
            Err(GaveUp::TimedOut) => return Err(failed),
            Err(GaveUp::Cancelled) => return Err(Error::cancelled()),
        }
    }
}

/// Runs `work` once.
fn try_once(
    catalog: &PostgresCatalog,
    work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>,
    (attempt, is_exclusive): (u32, bool),
    patience: &Patience,
) -> Outcome<Attempt> {
    let session = catalog.pool.lease(patience)?;
    let options = session.options();
    let mut writer = Writer {
        session: &session,
        catalog,
        // Beyond what the server allows itself, so that its own answer comes first.
        patience: Patience::new(options.statement_timeout.saturating_add(Duration::from_secs(5)), &options.cancel),
        lock_wait: LOCK_WAIT.saturating_mul(1 << attempt.min(8)).min(patience.left()).max(Duration::from_millis(1)),
        is_exclusive,
        locked: HashSet::new(),
        began: None,
        has_changed: false,
        failure: None,
        has_too_many: false,
    };
    let done = work(&mut writer);
    let (began, has_changed, has_too_many) = (writer.began, writer.has_changed, writer.has_too_many);
    let failure = writer.failure.take();
    if let (None, false, Ok(())) = (&failure, has_too_many, &done) {
        return match began {
            Some(began) => commit(catalog, &session, began, has_changed),
            None => Ok(Attempt::Committed),
        };
    }
    if began.is_some() {
        roll_back(&session);
    }
    match (failure, done) {
        // Whatever the work made of it, the transaction had failed.
        (Some(failure), _) => Err(failure),
        (None, _) if has_too_many => Ok(Attempt::TooMany),
        (None, done) => done.map(|()| Attempt::Committed).map_err(Failure::Final),
    }
}

/// Ends a transaction without effect. If the answer is missing, the connection is closed, which does the same.
fn roll_back(session: &Session) {
    if session.batch("ROLLBACK", &Patience::new(Duration::from_secs(5), &Cancel::new())).is_ok() {
        session.set_dirty(false);
    }
}

/// Commits a transaction that began at this time of the database.
fn commit(catalog: &PostgresCatalog, session: &Session, began: i64, has_changed: bool) -> Outcome<Attempt> {
    // Once it was sent, only its answer tells what happened: no cancellation ends this wait.
    let wait = session.options().statement_timeout.saturating_add(Duration::from_secs(5));
    let patience = Patience::new(wait, &Cancel::new());
    if !has_changed {
        // Nothing depends on the answer: what was read was true when it was read.
        roll_back(session);
        return Ok(Attempt::Committed);
    }
    let number = random_number();
    let id = i64::from_ne_bytes(number.to_ne_bytes());
    let sql = session.sql(&format!("INSERT INTO @.commit_log VALUES ({id}, now()); COMMIT"));
    match session.batch(&sql, &patience) {
        Ok(_) => {
            session.set_dirty(false);
            if number.is_multiple_of(PRUNE_EVERY) {
                prune(catalog, session);
            }
            Ok(Attempt::Committed)
        }
        Err(Failure::Broken(error)) => Ok(Attempt::Unknown(id, began, error)),
        Err(failure) => {
            roll_back(session);
            Err(failure)
        }
    }
}

/// Whether a commit happened whose answer was lost. If not, it never will.
///
/// # Errors
/// `Io` if that cannot be told.
fn is_committed(catalog: &PostgresCatalog, id: i64, began: i64) -> Result<bool> {
    let options = &catalog.pool.endpoint.options;
    let unknown = |error: Option<Error>| {
        let what = format!("the {} did not tell whether a change was committed", catalog.pool.endpoint.address);
        let unknown = Error::new(ErrorKind::Io, what).with_hint("look whether it was, before you repeat it");
        match error {
            Some(error) => unknown.with_source(error),
            None => unknown,
        }
    };
    // Not ended by a cancellation either.
    let patience = Patience::new(options.busy_timeout.max(MIN_SETTLE), &Cancel::new());
    catalog.pool.close_idle();
    for attempt in 0.. {
        let asked = catalog.pool.lease(&patience).and_then(|session| {
            let sql = session.sql(
                "INSERT INTO @.commit_log VALUES ($1, now()) ON CONFLICT DO NOTHING \
                 RETURNING floor(extract(epoch FROM clock_timestamp()))::bigint",
            );
            let wait = Patience::new(options.statement_timeout.min(patience.left()), &patience.cancel);
            session.query(&sql, &[(&id, Type::INT8)], &wait)
        });
        let failure = match asked {
            Ok(rows) => {
                let Some(row) = rows.first() else { return Ok(true) };
                let now: i64 = rows::whole(row, 0)?;
                // The row may have been deleted by now.
                let kept = i64::try_from(KEPT.as_secs() / 2).unwrap_or(i64::MAX);
                return if now.saturating_sub(began) < kept { Ok(false) } else { Err(unknown(None)) };
            }
            Err(Failure::Final(error)) => return Err(unknown(Some(error))),
            Err(failure) => failure.into_error(),
        };
        if patience.sleep(pause_before(attempt)).is_err() {
            return Err(unknown(Some(failure)));
        }
    }
    Err(unknown(None))
}

/// Deletes old rows of `change` and `commit_log`. Best effort; others may do it at the same time.
fn prune(catalog: &PostgresCatalog, session: &Session) {
    let options = &catalog.pool.endpoint.options;
    let patience = Patience::new(options.statement_timeout, &options.cancel);
    for (table, key) in [("change", "xid"), ("commit_log", "id")] {
        let sql = format!(
            "DELETE FROM @.{table} WHERE {key} IN (SELECT {key} FROM @.{table} \
             WHERE at < clock_timestamp() - interval '{} seconds' ORDER BY at LIMIT {PRUNE_ROWS} FOR UPDATE SKIP LOCKED)",
            KEPT.as_secs()
        );
        let _ = session.batch(&session.sql(&sql), &patience);
    }
}

/// A transaction on one connection. It begins with its first statement, in the same round trip.
struct Writer<'a> {
    session: &'a Session,
    catalog: &'a PostgresCatalog,
    patience: Patience,
    lock_wait: Duration,
    /// Whether it locks all rows together.
    is_exclusive: bool,
    /// The keys that it has locked.
    locked: HashSet<i64>,
    /// The time of the database at the beginning.
    began: Option<i64>,
    has_changed: bool,
    /// Why it cannot be committed any more, whatever the work does.
    failure: Option<Failure>,
    has_too_many: bool,
}

impl Writer<'_> {
    fn key(&self, kind: &str, name: &str) -> i64 {
        lock_key(&self.session.options().schema, kind, name)
    }

    fn image_key(&self, fingerprint: &Fingerprint) -> i64 {
        self.key("image", &fingerprint.to_string())
    }

    fn alias_key(&self, name: &str, image_type: ImageType) -> i64 {
        self.key("alias", &format!("{}\0{name}", image_type.name()))
    }

    fn object_key(&self, key: &BlobKey) -> i64 {
        self.key("object", key.as_str())
    }

    /// The statements that begin the transaction, if it has not begun.
    fn begin(&self) -> String {
        let options = self.session.options();
        let all = schema_lock(&options.schema);
        let shared = if self.is_exclusive { "" } else { "_shared" };
        let timeout = options.statement_timeout.as_millis();
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = {timeout}; SET LOCAL lock_timeout = {}; SET LOCAL jit = off; \
             {READ_CLOCK}; SELECT set_config('synchronous_commit', 'on', true) \
             WHERE current_setting('synchronous_commit') = 'off'; SELECT pg_advisory_xact_lock{shared}({all})",
            self.lock_wait.as_millis().max(1),
        )
    }

    /// Locks keys, then runs a statement. The statement sees what was committed before the locks were free.
    fn run(&mut self, keys: &[i64], sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        if self.failure.is_some() || self.has_too_many {
            return Err(Error::new(ErrorKind::Transient, "the transaction has failed already"));
        }
        let mut new: Vec<i64> = keys.iter().copied().filter(|key| !self.locked.contains(key)).collect();
        // Two transactions that lock the same keys by one call each never wait for each other.
        new.sort_unstable();
        new.dedup();
        let mut before = Vec::new();
        if self.began.is_none() {
            before.push(self.begin());
        }
        if !self.is_exclusive {
            if self.locked.len().saturating_add(new.len()) > MAX_KEYS {
                self.has_too_many = true;
                return Err(Error::new(ErrorKind::Transient, "the transaction changes too many rows to lock each"));
            }
            before.extend(new.iter().map(|key| format!("SELECT pg_advisory_xact_lock({key})")));
        }
        // Whatever happens from here on, the connection may be in a transaction.
        self.session.set_dirty(true);
        let sql = self.session.sql(sql);
        let done = if before.is_empty() {
            self.session.query(&sql, parameters, &self.patience).map(|rows| (Vec::new(), rows))
        } else {
            self.session.query_after(&before.join("; "), (&sql, parameters), &self.patience)
        };
        let is_first = self.began.is_none();
        if is_first {
            self.began = Some(self.catalog.clock.get().0);
        }
        match done {
            Ok((values, rows)) => {
                self.locked.extend(new);
                if is_first && let Some(now) = values.first().and_then(|text| text.as_deref()?.parse().ok()) {
                    self.began = Some(now);
                    self.catalog.clock.set(now);
                }
                Ok(rows)
            }
            Err(failure) => {
                // The work gets an error of its own: the failure decides later whether to run it again.
                let error = Error::new(ErrorKind::Transient, "the transaction has failed");
                self.failure = Some(failure);
                Err(error)
            }
        }
    }

    /// Locks keys, then runs a statement that changes rows. Returns those that it returns.
    fn change(&mut self, keys: &[i64], sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        self.has_changed = true;
        self.run(keys, sql, parameters)
    }

    /// The target of an alias.
    fn target(&mut self, name: &str, image_type: ImageType) -> Result<Option<Fingerprint>> {
        Ok(Transaction::alias(self, name, image_type)?.map(|(_, target)| target.fingerprint))
    }
}

impl Transaction for Writer<'_> {
    fn image(&mut self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        let keys = [self.image_key(fingerprint)];
        let sql = format!("SELECT {COLUMNS} FROM @.image WHERE fingerprint = $1");
        let rows = self.run(&keys, &sql, &[(&fingerprint.to_string(), Type::TEXT)])?;
        rows.first().map(|row| rows::image(row).map_err(rows::damaged)).transpose()
    }

    fn alias(&mut self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        let keys = [self.alias_key(name, image_type)];
        let sql = format!("SELECT {} FROM @.alias WHERE name = $1 AND type = $2", rows::ALIAS);
        let rows = self.run(&keys, &sql, &[(&name, Type::TEXT), (&image_type.name(), Type::TEXT)])?;
        rows.first().map(|row| rows::alias(row).map_err(rows::damaged)).transpose()
    }

    fn insert(&mut self, image: &StoredImage) -> Result<()> {
        check_objects(image)?;
        let keys = [self.image_key(&image.fingerprint)];
        let row = ImageRow::of(image)?;
        let fingerprint = image.fingerprint.to_string();
        let sidecar = image.objects.sidecar.as_ref().map(BlobKey::as_str);
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&fingerprint, Type::TEXT), (&image.last_used_at, Type::INT8), (&sidecar, Type::TEXT)];
        parameters.extend(row.parameters(image));
        let marks: Vec<String> = COLUMN_NAMES.iter().zip(4..).map(|(name, number)| mark(name, number)).collect();
        let sql = format!(
            "INSERT INTO @.image (fingerprint, last_used_at, sidecar_object, {}) VALUES ($1, $2, $3, {}) \
             ON CONFLICT (fingerprint) DO NOTHING RETURNING true",
            COLUMN_NAMES.join(", "),
            marks.join(", "),
        );
        if self.change(&keys, &sql, &parameters)?.is_empty() {
            return Err(already_there(&image.fingerprint));
        }
        Ok(())
    }

    fn update(&mut self, image: &StoredImage, expected: u64) -> Result<()> {
        check_objects(image)?;
        let keys = [self.image_key(&image.fingerprint)];
        let row = ImageRow::of(image)?;
        let (fingerprint, revision) = (image.fingerprint.to_string(), stored(expected));
        let mut parameters: Vec<Parameter<'_>> = vec![(&fingerprint, Type::TEXT), (&revision, Type::INT8)];
        parameters.extend(row.parameters(image));
        let set: Vec<String> =
            COLUMN_NAMES.iter().zip(3..).map(|(name, number)| format!("{name} = {}", mark(name, number))).collect();
        let sql =
            format!("UPDATE @.image SET {} WHERE fingerprint = $1 AND revision = $2 RETURNING true", set.join(", "));
        if self.change(&keys, &sql, &parameters)?.is_empty() {
            return Err(row_changed(&image.fingerprint, expected));
        }
        Ok(())
    }

    fn set_last_used(&mut self, fingerprint: &Fingerprint, seconds: i64) -> Result<()> {
        let keys = [self.image_key(fingerprint)];
        let sql = "UPDATE @.image SET last_used_at = $2 WHERE fingerprint = $1 \
                   AND (last_used_at IS NULL OR last_used_at < $2)";
        self.change(&keys, sql, &[(&fingerprint.to_string(), Type::TEXT), (&seconds, Type::INT8)]).map(|_| ())
    }

    fn set_sidecar(&mut self, fingerprint: &Fingerprint, revision: u64, key: &BlobKey) -> Result<bool> {
        let keys = [self.image_key(fingerprint)];
        let sql = "UPDATE @.image SET sidecar_object = $3 WHERE fingerprint = $1 AND revision = $2 RETURNING true";
        let (fingerprint, revision) = (fingerprint.to_string(), stored(revision));
        let parameters: [Parameter<'_>; 3] =
            [(&fingerprint, Type::TEXT), (&revision, Type::INT8), (&key.as_str(), Type::TEXT)];
        Ok(!self.change(&keys, sql, &parameters)?.is_empty())
    }

    fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()> {
        // Its aliases go with it, so they are locked as well. They cannot change: whoever changes
        // one locks the image.
        let keys = [self.image_key(fingerprint)];
        let text = fingerprint.to_string();
        let rows =
            self.run(&keys, &format!("SELECT {} FROM @.alias WHERE target = $1", rows::ALIAS), &[(&text, Type::TEXT)])?;
        let mut keys = Vec::new();
        for row in &rows {
            let (name, image_type) = rows::alias_position(row).map_err(rows::damaged)?;
            keys.push(self.alias_key(&name, image_type));
        }
        self.change(&keys, "DELETE FROM @.image WHERE fingerprint = $1", &[(&text, Type::TEXT)]).map(|_| ())
    }

    fn set_alias(&mut self, alias: &Alias, target: &AliasTarget) -> Result<()> {
        // The image that loses the alias changes, too.
        let mut keys = vec![self.image_key(&target.fingerprint)];
        if let Some(old) = self.target(&alias.name, target.image_type)? {
            keys.push(self.image_key(&old));
        }
        let sql = "INSERT INTO @.alias SELECT $1, type, fingerprint, $4 FROM @.image WHERE fingerprint = $3 AND type = $2 \
                   ON CONFLICT (name, type) DO UPDATE SET target = excluded.target, description = excluded.description \
                   RETURNING true";
        let fingerprint = target.fingerprint.to_string();
        let parameters: [Parameter<'_>; 4] = [
            (&alias.name, Type::TEXT),
            (&target.image_type.name(), Type::TEXT),
            (&fingerprint, Type::TEXT),
            (&alias.description, Type::TEXT),
        ];
        if self.change(&keys, sql, &parameters)?.is_empty() {
            return Err(no_target(alias, target));
        }
        Ok(())
    }

    fn remove_alias(&mut self, name: &str, image_type: ImageType) -> Result<()> {
        let Some(target) = self.target(name, image_type)? else { return Ok(()) };
        let keys = [self.image_key(&target)];
        let sql = "DELETE FROM @.alias WHERE name = $1 AND type = $2";
        self.change(&keys, sql, &[(&name, Type::TEXT), (&image_type.name(), Type::TEXT)]).map(|_| ())
    }

    fn attachments(&mut self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        let keys = [self.image_key(fingerprint)];
        let rows = self.run(&keys, rows::ATTACHMENTS, &[(&fingerprint.to_string(), Type::TEXT)])?;
        rows.iter().map(|row| rows::attachment(row).map_err(rows::damaged)).collect()
    }

    fn attach(&mut self, fingerprint: &Fingerprint, attachment: &Attachment) -> Result<()> {
        let keys = [self.image_key(fingerprint)];
        let sql = "INSERT INTO @.attachment SELECT fingerprint, $2, $3, $4 FROM @.image WHERE fingerprint = $1 \
                   ON CONFLICT (fingerprint, name) DO UPDATE SET content = excluded.content, added_at = excluded.added_at \
                   RETURNING true";
        let parameters: [Parameter<'_>; 4] = [
            (&fingerprint.to_string(), Type::TEXT),
            (&attachment.name, Type::TEXT),
            (&attachment.content, Type::TEXT),
            (&attachment.added_at, Type::INT8),
        ];
        if self.change(&keys, sql, &parameters)?.is_empty() {
            return Err(no_image(fingerprint));
        }
        Ok(())
    }

    fn object(&mut self, key: &BlobKey) -> Result<Option<Object>> {
        let keys = [self.object_key(key)];
        let sql = format!("SELECT {} FROM @.object WHERE key = $1", rows::OBJECT);
        let rows = self.run(&keys, &sql, &[(&key.as_str(), Type::TEXT)])?;
        rows.first().map(|row| rows::object(row).map_err(rows::damaged)).transpose()
    }

    fn put_object(&mut self, object: &Object) -> Result<()> {
        let keys = [self.object_key(&object.key)];
        let (state, holder, revision, time) = state_columns(&object.state);
        let sql = "INSERT INTO @.object VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (key) DO UPDATE \
                   SET fingerprint = excluded.fingerprint, state = excluded.state, holder = excluded.holder, \
                   revision = excluded.revision, time = excluded.time";
        let parameters: [Parameter<'_>; 6] = [
            (&object.key.as_str(), Type::TEXT),
            (&object.fingerprint.to_string(), Type::TEXT),
            (&state, Type::TEXT),
            (&holder, Type::TEXT),
            (&revision, Type::INT8),
            (&time, Type::INT8),
        ];
        self.change(&keys, sql, &parameters).map(|_| ())
    }

    fn remove_object(&mut self, key: &BlobKey) -> Result<()> {
        let keys = [self.object_key(key)];
        self.change(&keys, "DELETE FROM @.object WHERE key = $1", &[(&key.as_str(), Type::TEXT)]).map(|_| ())
    }
}

/// The columns that insertion and update write: all but the fingerprint and those that have statements of their own.
const COLUMN_NAMES: [&str; 18] = [
    "type",
    "architecture",
    "size",
    "rootfs_size",
    "created_at",
    "expires_at",
    "uploaded_at",
    "public",
    "auto_update",
    "cached",
    "file_name",
    "rootfs_name",
    "source",
    "properties",
    "original_properties",
    "revision",
    "object",
    "rootfs_object",
];

/// The parameter for a column. JSON is sent as text: the driver has no type for it.
fn mark(column: &str, number: usize) -> String {
    if column.ends_with("properties") { format!("${number}::text::json") } else { format!("${number}") }
}

/// The values of [`COLUMN_NAMES`] that differ from the fields of the image.
struct ImageRow<'a> {
    image_type: &'a str,
    architecture: &'a str,
    size: i64,
    rootfs_size: Option<i64>,
    source: Option<String>,
    properties: String,
    original_properties: String,
    revision: i64,
    object: &'a str,
    rootfs_object: Option<&'a str>,
}

impl<'a> ImageRow<'a> {
    fn of(image: &'a StoredImage) -> Result<Self> {
        Ok(Self {
            image_type: image.image_type.name(),
            architecture: image.architecture.kernel_name(),
            size: stored(image.size),
            rootfs_size: image.rootfs_size.map(stored),
            source: source(image).map_err(rows::damaged)?,
            properties: json(&image.properties).map_err(rows::damaged)?,
            original_properties: json(&image.original_properties).map_err(rows::damaged)?,
            revision: stored(image.revision),
            object: image.objects.image.as_str(),
            rootfs_object: image.objects.rootfs.as_ref().map(BlobKey::as_str),
        })
    }

    /// The values in the order of [`COLUMN_NAMES`].
    fn parameters(&'a self, image: &'a StoredImage) -> [Parameter<'a>; 18] {
        [
            (&self.image_type, Type::TEXT),
            (&self.architecture, Type::TEXT),
            (&self.size, Type::INT8),
            (&self.rootfs_size, Type::INT8),
            (&image.created_at, Type::INT8),
            (&image.expires_at, Type::INT8),
            (&image.uploaded_at, Type::INT8),
            (&image.public, Type::BOOL),
            (&image.auto_update, Type::BOOL),
            (&image.cached, Type::BOOL),
            (&image.file_name, Type::TEXT),
            (&image.rootfs_name, Type::TEXT),
            (&self.source, Type::TEXT),
            (&self.properties, Type::TEXT),
            (&self.original_properties, Type::TEXT),
            (&self.revision, Type::INT8),
            (&self.object, Type::TEXT),
            (&self.rootfs_object, Type::TEXT),
        ]
    }
}
