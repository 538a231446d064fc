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
    /// A number that is another one after each commit, and after the catalog's file was replaced.
    pub(super) fn version(&self, pool: &Pool) -> Result<u64> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().connection.take();
        // Looked at and opened without the lock: both may wait for the disk.
        let (connection, replaced) = match kept {
            Some(connection) if pool.is_current(&connection) => (connection, false),
            old => {
                if let Some(old) = old {
                    pool.close(old);
                }
                (pool.open()?, true)
            }
        };
        let seen = connection.pragma_query_value(None, "data_version", |row| row.get::<_, u32>(0));
        let mut state = lock();
        if replaced {
            // Also where another caller opened one in the meantime: to ask again costs little, to miss a change much.
            state.before = state.before.wrapping_add(1);
        }
        let version = seen.map(|seen| u64::from(state.before) << 32 | u64::from(seen));
        let surplus = if version.is_ok() { state.connection.replace(connection) } else { Some(connection) };
        drop(state);
        if let Some(surplus) = surplus {
            pool.close(surplus);
        }
        version.map_err(|error| row_error(error.into(), pool.path()))
    }
}
