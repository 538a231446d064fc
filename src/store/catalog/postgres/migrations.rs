//! The tables: which version of them a database has, and how it gets the newest one.
//!
//! Each file of `migrations/` is applied in one transaction under a lock, and noted in the table
//! `migration`. Files are never changed once they are released: a new layout is a new file.

use tokio_postgres::types::Type;

use super::failure::{Failure, Outcome};
use super::runtime::Patience;
use super::session::Session;
use super::statements::{lock_key, schema_lock};
use crate::error::{Error, ErrorKind, Result};

/// The SQL of each version, from version 1 on.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001-images.sql"),
    include_str!("migrations/0002-changes.sql"),
    include_str!("migrations/0003-shared-records.sql"),
    include_str!("migrations/0004-attachments.sql"),
];

/// The version that this program knows.
const KNOWN: i32 = MIGRATIONS.len() as i32;

/// The oldest server that has all functions that are used.
const MIN_SERVER: i32 = 140_000;

/// What a database says about itself.
struct Found {
    /// The version of the tables; `None` without any.
    version: Option<i32>,
    store_id: Option<String>,
}

/// Fails unless the schema has a name that needs no quotes in SQL and in shell commands.
pub(super) fn check_schema(name: &str) -> Result<()> {
    let is_plain = !name.is_empty()
        && name.len() <= 48
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.starts_with("pg_");
    if is_plain {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(Error::invalid(format!("`{shown}` cannot be the schema of a catalog"))
        .with_hint("use lower-case letters, digits and `_`, 48 at most, not beginning with a digit or `pg_`"))
}

/// How long the checks at connecting and each migration may take.
fn patience(session: &Session) -> Patience {
    let options = session.options();
    Patience::new(options.statement_timeout, &options.cancel)
}

/// What the database has in the schema.
fn found(session: &Session) -> Outcome<Found> {
    let there = session.batch(&session.sql("SELECT to_regclass('@.migration')"), &patience(session))?;
    if there.iter().all(Option::is_none) {
        return Ok(Found { version: None, store_id: None });
    }
    let sql = session.sql("SELECT (SELECT max(version) FROM @.migration), (SELECT id FROM @.store)");
    let rows = session.query(&sql, &[], &patience(session))?;
    let row = rows.first().ok_or_else(|| Error::malformed("the catalog does not tell its version"))?;
    let unreadable = |error| Error::malformed("the catalog does not tell its version").with_source(error);
    Ok(Found { version: row.try_get(0).map_err(unreadable)?, store_id: row.try_get(1).map_err(unreadable)? })
}

/// Fails unless the server can keep what a catalog promises.
fn check_server(session: &Session) -> Outcome<()> {
    let sql =
        "SELECT current_setting('server_version_num'), current_setting('server_encoding'), current_setting('fsync')";
    let values = session.batch(sql, &patience(session))?;
    let value = |index: usize| values.get(index).and_then(Option::as_deref).unwrap_or_default();
    let address = session.address();
    if value(0).parse::<i32>().unwrap_or(0) < MIN_SERVER {
        return Err(Error::unsupported(format!("the {address} is older than PostgreSQL 14")).into());
    }
    if value(1) != "UTF8" {
        return Err(Error::unsupported(format!(
            "the {address} has the encoding {}, and the catalog needs UTF8",
            value(1)
        ))
        .with_hint("create it with `createdb --encoding UTF8 --template template0`")
        .into());
    }
    if value(2) == "off" {
        return Err(Error::unsupported(format!(
            "the {address} runs with `fsync = off`: a power cut would lose images"
        ))
        .with_hint("set `fsync = on`")
        .into());
    }
    Ok(())
}

/// Fails unless the database has the tables of this version, and belongs to the store `expected`.
/// Returns the id of the store.
pub(super) fn verify(session: &Session, expected: Option<&str>) -> Outcome<String> {
    let found = found(session)?;
    let address = session.address();
    let schema = &session.options().schema;
    let (Some(version), Some(id)) = (found.version, found.store_id) else {
        let what = format!("the {address} has no image store in the schema `{schema}`");
        return Err(Error::new(ErrorKind::NotFound, what)
            .with_hint("initialise it once, or check the schema's name")
            .into());
    };
    check_version(session, version)?;
    match expected {
        Some(expected) if expected != id => {
            let what = format!("the store of the {address}, schema `{schema}`");
            Err(Error::mismatch(&what, expected, id).with_hint("check the address and the schema's name").into())
        }
        _ => Ok(id),
    }
}

/// Fails for another version of the tables than the known one.
fn check_version(session: &Session, version: i32) -> Outcome<()> {
    if version == KNOWN {
        return Ok(());
    }
    let (address, schema) = (session.address(), &session.options().schema);
    let what = format!(
        "the catalog in the {address}, schema `{schema}`, has layout version {version}, and this program knows version {KNOWN}"
    );
    let hint = if version < KNOWN {
        "connect once with a user that may change tables, and without `migrate(false)`"
    } else {
        "use the version of lxd-image that wrote it, or a newer one"
    };
    Err(Error::unsupported(what).with_hint(hint).into())
}

/// Checks server and tables at the first connection, and upgrades the tables if they are older.
pub(super) fn open(session: &Session) -> Outcome<String> {
    check_server(session)?;
    let options = session.options();
    let version = found(session)?.version;
    if options.migrate && version.is_some_and(|version| version < KNOWN) {
        migrate(session, KNOWN)?;
    }
    verify(session, options.store_id.as_deref())
}

/// Creates the tables where they are missing, and records the id of the store where there is none.
pub(super) fn init(session: &Session, id: &str) -> Outcome<String> {
    if id.is_empty() || id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Error::invalid("the id of a store has 1 to 64 letters, digits and `-`").into());
    }
    check_server(session)?;
    migrate(session, KNOWN)?;
    let sql = session.sql("INSERT INTO @.store (id) VALUES ($1) ON CONFLICT DO NOTHING");
    session.query(&sql, &[(&id, Type::TEXT)], &patience(session))?;
    verify(session, Some(id))
}

/// Brings the tables to the version `to`, one transaction for each.
fn migrate(session: &Session, to: i32) -> Outcome<()> {
    loop {
        session.set_dirty(true);
        let before = prepare(session)?;
        if before > KNOWN {
            check_version(session, before)?;
        }
        let next = usize::try_from(before).ok().and_then(|index| MIGRATIONS.get(index)).filter(|_| before < to);
        let applied = match next {
            Some(sql) => {
                let version = before + 1;
                let noted = session.sql(&format!("INSERT INTO @.migration VALUES ({version}, now())"));
                session.batch(&format!("{sql};\n{noted}; COMMIT"), &patience(session)).map(|_| ())
            }
            None => session.batch("COMMIT", &patience(session)).map(|_| ()),
        };
        applied?;
        session.set_dirty(false);
        if next.is_none() {
            return Ok(());
        }
    }
}

/// Begins the transaction of a migration: waits for those of others, and creates the schema and the
/// table of versions. Returns the version that the tables have.
fn prepare(session: &Session) -> Outcome<i32> {
    let schema = &session.options().schema;
    let lock = lock_key(schema, "migration", "");
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({lock}); SELECT to_regnamespace('{schema}')::text");
    let values = session.batch(&begin, &patience(session))?;
    // The lock function returns an empty text.
    if values.last().is_none_or(Option::is_none) {
        session.batch(&session.sql("CREATE SCHEMA @"), &patience(session))?;
    }
    let all = schema_lock(schema);
    let sql = format!(
        "SET LOCAL search_path = {schema}, pg_temp; SET LOCAL client_min_messages = warning; \
         CREATE TABLE IF NOT EXISTS migration (version integer PRIMARY KEY, applied_at timestamptz NOT NULL); \
         SELECT pg_advisory_xact_lock({all}); SELECT coalesce(max(version), 0) FROM migration"
    );
    let values = session.batch(&sql, &patience(session))?;
    let version = values.last().cloned().flatten().and_then(|text| text.parse().ok());
    version.ok_or_else(|| Failure::Final(Error::malformed("the catalog does not tell its version")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn schema_with_a_plain_name_is_accepted() {
        for name in ["lxd_image", "a", "_1", "x".repeat(48).as_str()] {
            assert!(check_schema(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn schema_that_sql_would_read_differently_is_refused() {
        for name in ["", "A", "1a", "a b", "a\"b", "a;b", "pg_a", "ü", "a-b", "x".repeat(49).as_str()] {
            assert!(check_schema(name).is_err(), "{name}");
        }
    }
}
