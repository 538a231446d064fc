//! `Watch`: whether the catalog changed, for the price of one look. SQLite tells a connection when any other one, of whatever
//! process, has committed; so one connection is kept that never writes.

use std::sync::{Mutex, PoisonError};

use super::failure::row_error;
use super::pool::{Pool, PooledConnection};
use crate::error::Result;

/// The connection that looks.
#[derive(Default)]
pub(super) struct Watch(Mutex<State>);

#[derive(Default)]
struct State {
    connection: Option<PooledConnection>,
    /// How many there were before it: numbers of two connections say nothing of each other.
    before: u32,
}

impl Watch {
    /// The connection that looks, to be closed as any other: nothing of the file that took its own's place may go with it.
    pub(super) fn take(&mut self) -> Option<PooledConnection> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).connection.take()
    }

    /// A number that is another one after each commit, and after the catalog's file was replaced.
    ///
    /// Callers take turns: the look is at shared memory, as a rule, and a second connection would give a number of its own,
    /// so that nobody finds what was made for the last one.
    pub(super) fn version(&self, pool: &Pool) -> Result<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match state.connection.take() {
            Some(connection) if pool.is_current(&connection) => connection,
            old => {
                if let Some(old) = old {
                    pool.close(old);
                }
                state.before = state.before.wrapping_add(1);
                pool.open()?
            }
        };
        match connection.pragma_query_value(None, "data_version", |row| row.get::<_, u32>(0)) {
            Ok(seen) => {
                state.connection = Some(connection);
                Ok(u64::from(state.before) << 32 | u64::from(seen))
            }
            Err(error) => {
                pool.close(connection);
                Err(row_error(error.into(), pool.path()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use crate::store::{Catalog, SqliteCatalog, Store};

    #[test]
    fn all_who_ask_at_once_are_told_the_same_until_somebody_writes() {
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
        let after = ask();
        assert_eq!(after.len(), 1);
        assert_ne!(before, after);
        drop(catalog);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
