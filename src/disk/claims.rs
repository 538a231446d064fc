//! Which parts of a disk image's file are used, so that no two table entries use the same bytes.
//!
//! Without it a file of a few MB could refer to one cluster a million times and become terabytes,
//! and a table could be read as the data of another one.

use crate::error::{Error, Result};
use crate::limits::Limits;

/// One bit for each unit of the file (a cluster or a sector), twice: what one entry alone uses, and
/// what several compressed clusters may share, since these are packed without alignment.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    unit: u64,
    exclusive: Vec<u64>,
    shared: Vec<u64>,
}

impl Claims {
    /// Nothing of a file of `length` bytes is used yet; `unit` is a power of two.
    ///
    /// # Errors
    /// `LimitExceeded` for a file that needs more memory than `disk_map` allows.
    pub(super) fn new(length: u64, unit: u64, limits: &Limits) -> Result<Self> {
        let words = length.div_ceil(unit).div_ceil(64);
        let bytes = words.saturating_mul(16);
        let words = usize::try_from(words).ok().filter(|_| bytes <= limits.disk_map);
        let Some(words) = words else {
            return Err(Error::limit(
                "disk_map",
                limits.disk_map,
                format_args!("the map of a file of {length} bytes in clusters of {unit}"),
            ));
        };
        Ok(Self { unit, exclusive: vec![0; words], shared: vec![0; words] })
    }

    /// Claims the units that `length` bytes from `start` on lie in, for one user alone. What lies
    /// behind the end of the file is nobody's.
    ///
    /// # Errors
    /// `Malformed` when any of it is used already.
    pub(super) fn exclusive(&mut self, start: u64, length: u64, what: &str) -> Result<()> {
        self.each(start, length, |word, bit, claims| {
            let (Some(exclusive), Some(shared)) = (claims.exclusive.get_mut(word), claims.shared.get(word)) else {
                return true;
            };
            let free = (*exclusive | *shared) & bit == 0;
            *exclusive |= bit;
            free
        })
        .map_err(|at| overlap(what, at))
    }

    /// Claims units that other compressed clusters may use, too.
    ///
    /// # Errors
    /// `Malformed` when any of it belongs to one user alone.
    pub(super) fn shared(&mut self, start: u64, length: u64, what: &str) -> Result<()> {
        self.each(start, length, |word, bit, claims| {
            let (Some(exclusive), Some(shared)) = (claims.exclusive.get(word), claims.shared.get_mut(word)) else {
                return true;
            };
            *shared |= bit;
            *exclusive & bit == 0
        })
        .map_err(|at| overlap(what, at))
    }

    /// Calls `claim` for each unit with its place in the bitmaps; stops where that says no.
    fn each(
        &mut self,
        start: u64,
        length: u64,
        mut claim: impl FnMut(usize, u64, &mut Self) -> bool,
    ) -> std::result::Result<(), u64> {
        let first = start / self.unit;
        let end =
            start.saturating_add(length).div_ceil(self.unit).min((self.exclusive.len() as u64).saturating_mul(64));
        for unit in first..end {
            let Ok(word) = usize::try_from(unit / 64) else { break };
            if !claim(word, 1 << (unit % 64), self) {
                return Err(unit.saturating_mul(self.unit));
            }
        }
        Ok(())
    }
}

/// The error for bytes with two users.
fn overlap(what: &str, at: u64) -> Error {
    Error::malformed(format!("{what} overlaps other parts of the disk image")).at_offset(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn claims() -> Claims {
        Claims::new(1 << 20, 1 << 9, &Limits::default()).unwrap()
    }

    #[test]
    fn exclusive_range_cannot_be_claimed_twice() {
        let mut claims = claims();
        claims.exclusive(1024, 1024, "a").unwrap();
        claims.exclusive(2048, 512, "b").unwrap();
        assert!(claims.exclusive(1536, 1, "c").is_err());
    }

    #[test]
    fn shared_range_cannot_be_claimed_exclusively() {
        let mut claims = claims();
        claims.shared(1000, 100, "a").unwrap();
        claims.shared(1010, 100, "b").unwrap();
        assert!(claims.exclusive(1024, 512, "c").is_err());
    }

    #[test]
    fn exclusive_range_cannot_be_shared() {
        let mut claims = claims();
        claims.exclusive(0, 512, "a").unwrap();
        assert!(claims.shared(100, 1, "b").is_err());
    }

    #[test]
    fn map_over_the_limit_is_refused_before_it_is_allocated() {
        let error = Claims::new(u64::MAX, 512, &Limits::default()).unwrap_err();
        assert_eq!(error.limit_name(), Some("disk_map"));
    }
}
