//! Random names and numbers that no other process has.

/// A random id of 128 bits, in hex.
pub(super) fn random_id() -> String {
    format!("{:016x}{:016x}", random_number(), random_number())
}

/// A random number that no other process has, not even one that was forked from this one.
pub(super) fn random_number() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 8];
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_ok_and(|count| count == 8) {
        return u64::from_ne_bytes(bytes);
    }
    // `getrandom(2)` exists since Linux 3.17. Without it, combine the process, the time and a counter.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(now.as_nanos());
    hasher.finish()
}
