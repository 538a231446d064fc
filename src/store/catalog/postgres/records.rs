//! The shared records of a catalog: one row each, in one statement each, with the database's clock.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{PostgresCatalog, rows, session};
use crate::error::{Error, Result};
use crate::store::catalog::records::{Expected, SharedRecord, SharedRecords, check_record};

/// Expired rows that one call removes.
const EXPIRE_ROWS: u32 = 5_000;
/// The columns of a record, in the order in which `record` reads them.
const COLUMNS: &str = "kind, id, value, revision";

fn record(row: &Row) -> Result<SharedRecord> {
    let revision: i64 = rows::whole(row, 3)?;
    Ok(SharedRecord {
        kind: rows::whole::<&str>(row, 0)?.to_owned(),
        id: rows::whole::<&str>(row, 1)?.to_owned(),
        value: rows::whole::<&str>(row, 2)?.to_owned(),
        revision: u64::try_from(revision).map_err(|_| Error::malformed("a shared record has a negative revision"))?,
    })
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl SharedRecords for PostgresCatalog {
    fn put(&self, kind: &str, id: &str, value: &str, lifetime: Duration, expected: Expected) -> Result<Option<u64>> {
        check_record(kind, id, value)?;
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX).min(i64::from(i32::MAX));
        let mut parameters: Vec<session::Parameter<'_>> =
            vec![(&kind, Type::TEXT), (&id, Type::TEXT), (&value, Type::TEXT), (&seconds, Type::INT8)];
        let insert = "INSERT INTO @.shared_record AS old (kind, id, value, revision, expires_at) VALUES \
                      ($1, $2, $3, nextval('@.shared_revision'), clock_timestamp() + $4 * interval '1 second') \
                      ON CONFLICT (kind, id) DO UPDATE SET value = EXCLUDED.value, revision = EXCLUDED.revision, \
                      expires_at = EXCLUDED.expires_at";
        let revision;
        let sql = match expected {
            Expected::Any => format!("{insert} RETURNING revision"),
            Expected::Absent => format!("{insert} WHERE old.expires_at <= clock_timestamp() RETURNING revision"),
            Expected::Revision(wanted) => {
                revision = i64::try_from(wanted).unwrap_or(i64::MAX);
                parameters.push((&revision, Type::INT8));
                "UPDATE @.shared_record SET value = $3, revision = nextval('@.shared_revision'), \
                 expires_at = clock_timestamp() + $4 * interval '1 second' \
                 WHERE kind = $1 AND id = $2 AND revision = $5 AND expires_at > clock_timestamp() RETURNING revision"
                    .to_owned()
            }
        };
        let written = self.rows(&sql, &parameters)?;
        let Some(row) = written.first() else { return Ok(None) };
        let revision: i64 = rows::whole(row, 0)?;
        Ok(u64::try_from(revision).ok())
    }

    fn get(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM @.shared_record WHERE kind = $1 AND id = $2 AND expires_at > clock_timestamp()"
        );
        self.rows(&sql, &[(&kind, Type::TEXT), (&id, Type::TEXT)])?.first().map(record).transpose()
    }

    fn list(&self, kind: &str, after: &str, limit: usize) -> Result<Vec<SharedRecord>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM @.shared_record WHERE kind = $1 AND id > $2 AND expires_at > clock_timestamp() \
             ORDER BY id LIMIT $3"
        );
        let limit = bounded(limit);
        let found = self.rows(&sql, &[(&kind, Type::TEXT), (&after, Type::TEXT), (&limit, Type::INT8)])?;
        found.iter().map(record).collect()
    }

    fn newer(&self, revision: u64, limit: usize) -> Result<Vec<SharedRecord>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM @.shared_record WHERE revision > $1 AND expires_at > clock_timestamp() \
             ORDER BY revision LIMIT $2"
        );
        let (revision, limit) = (i64::try_from(revision).unwrap_or(i64::MAX), bounded(limit));
        self.rows(&sql, &[(&revision, Type::INT8), (&limit, Type::INT8)])?.iter().map(record).collect()
    }

    fn take(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>> {
        let sql = format!(
            "DELETE FROM @.shared_record WHERE kind = $1 AND id = $2 AND expires_at > clock_timestamp() \
             RETURNING {COLUMNS}"
        );
        self.rows(&sql, &[(&kind, Type::TEXT), (&id, Type::TEXT)])?.first().map(record).transpose()
    }

    fn expire(&self) -> Result<u64> {
        // Several servers do this at the same time; a row that another one removes is left to it.
        let sql = format!(
            "DELETE FROM @.shared_record WHERE (kind, id) IN (SELECT kind, id FROM @.shared_record \
             WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT {EXPIRE_ROWS} FOR UPDATE SKIP LOCKED) \
             RETURNING 1"
        );
        Ok(self.rows(&sql, &[])?.len() as u64)
    }
}
