//! Statements in the schema of a catalog, and the numbers of locks.

use sha2::{Digest, Sha256};

use super::options::PostgresOptions;
use super::session::Session;

/// Replaces `@` by the schema in a statement that has no values in it. Connections have no
/// `search_path`: that would be state, which pgbouncer does not keep.
pub(super) fn in_schema(sql: &str, schema: &str) -> String {
    sql.replace('@', schema)
}

impl Session {
    /// A statement in the schema of the catalog.
    pub(super) fn sql(&self, sql: &str) -> String {
        in_schema(sql, &self.options().schema)
    }

    pub(super) fn options(&self) -> &PostgresOptions {
        &self.endpoint().options
    }
}

/// The number of the advisory lock for a row, whether or not the row exists. Locks belong to the
/// whole database, so the number is a hash that nothing else has.
pub(super) fn lock_key(schema: &str, kind: &str, name: &str) -> i64 {
    let mut hasher = Sha256::new();
    for part in ["lxd-image", schema, kind, name] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let hash = hasher.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(bytes)
}

/// The number of the lock that every transaction holds: shared, or exclusively if it changes too
/// many rows to lock each.
pub(super) fn schema_lock(schema: &str) -> i64 {
    lock_key(schema, "all", "")
}

/// The hash of a property, as the function `property_hashes` of the database computes it.
pub(super) fn property_hash(key: &str, value: &str) -> Vec<u8> {
    let mut hasher = Sha256::new();
    hasher.update(key.as_bytes());
    hasher.update([0]);
    hasher.update(value.as_bytes());
    hasher.finalize().to_vec()
}
