//! [`Watch`]: a number that changes with each change of images or aliases, mostly read without a query.
//!
//! `PRAGMA data_version` of SQLite changes on a connection when *another* connection, of any
//! process, has committed. So one connection is kept for it that never writes, and the catalog's
//! own counter of changes is read only after a commit.

use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::failure::row_error;
use super::pool::{Pool, PooledConnection};
use super::schema::{self, RowResult};
use crate::error::Result;

/// The connection that is asked, and how many there were before it.
#[derive(Default)]
pub(super) struct Watch(Mutex<State>);

#[derive(Default)]
struct State {
    connection: Option<PooledConnection>,
    /// The number of earlier connections: the numbers of two connections cannot be compared.
    before: u32,
    /// SQLite's number of the last commit that the connection saw, and the number that was told for it.
    seen: Option<(u32, u32)>,
}

impl Watch {
    /// Takes the connection out, to be closed like any other of the pool.
    pub(super) fn take(&mut self) -> Option<PooledConnection> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).connection.take()
    }

    /// A number that changes with each change of images or aliases, and if the file of the catalog was replaced.
    ///
    /// Callers take turns (the read is a look at shared memory). A second connection would have
    /// numbers of its own, and caches keyed by the first one would never be found again.
    pub(super) fn version(&self, pool: &Pool) -> Result<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match state.connection.take() {
            Some(connection) if pool.is_current(&connection) => connection,
            old => {
                if let Some(old) = old {
                    pool.close(old);
                }
                state.before = state.before.wrapping_add(1);
                state.seen = None;
                pool.open()?
            }
        };
        match changes(&connection, &mut state.seen) {
            Ok(number) => {
                state.connection = Some(connection);
                Ok(u64::from(state.before) << 32 | u64::from(number))
            }
            Err(error) => {
                pool.close(connection);
                Err(row_error(error, pool.path()))
            }
        }
    }
}

/// The number of the last change. A catalog that counts none changes with every commit.
fn changes(connection: &Connection, seen: &mut Option<(u32, u32)>) -> RowResult<u32> {
    let commit = connection.pragma_query_value(None, "data_version", |row| row.get::<_, u32>(0))?;
    if let Some((_, number)) = seen.filter(|(before, _)| *before == commit) {
        return Ok(number);
    }
    // Read after the commit's number: what is counted meanwhile is read again with the next commit's, and never missed.
    let number = schema::changes(connection)?.unwrap_or(commit);
    *seen = Some((commit, number));
    Ok(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use crate::store::{Catalog, SqliteCatalog, Store};

    #[test]
    fn concurrent_readers_see_one_version_until_a_commit() {
        let path = std::env::temp_dir().join(format!("lxd-image-watch-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        drop(Store::open(&path).unwrap());
        let catalog = SqliteCatalog::of_store(&path).unwrap();
        let ask = || {
            std::thread::scope(|scope| {
                let askers: Vec<_> = (0..16)
                    .map(|_| scope.spawn(|| (0..20).map(|_| catalog.version().unwrap()).collect::<Vec<_>>()))
                    .collect();
                let mut told: Vec<_> = askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect();
                told.dedup();
                told
            })
        };
        let before = ask();
        assert_eq!(before.len(), 1);
        let put = |sql: &str| {
            let rows = rusqlite::Connection::open(path.join("catalog.sqlite")).unwrap();
            rows.execute_batch(sql).unwrap();
        };
        put("INSERT INTO object VALUES ('x', 'x', 'dead', NULL, NULL, 0); DELETE FROM object;");
        assert_eq!(ask(), before, "notes about objects change no image");
        put(
            "INSERT INTO image VALUES ('x', 'container', 'x86_64', 1, NULL, 0, NULL, 0, NULL, 0, 0, 0, NULL, NULL, NULL, \
             '{}', '{}', 1, 'x', NULL, NULL, NULL); DELETE FROM image;",
        );
        let after = ask();
        assert_eq!(after.len(), 1);
        assert_ne!(before, after);
        put("DROP TABLE change; DROP TRIGGER change_image_inserted; DROP TRIGGER change_image_deleted;");
        let without = ask();
        put("INSERT INTO object VALUES ('x', 'x', 'dead', NULL, NULL, 0);");
        assert_ne!(ask(), without, "a catalog without the counter changes with every commit");
        drop(catalog);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
