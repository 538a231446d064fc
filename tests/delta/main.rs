//! Deltas: forged ones, round trips, and `xdelta3` in both directions. A target of its own, since it needs few features.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod forge;
mod forged;
#[cfg(feature = "xz")]
mod made;
#[cfg(feature = "xz")]
mod xdelta3;

use lxd_image::delta::{self, AppliedDelta};
use lxd_image::io::Blob;
use lxd_image::{Limits, Monitor, Result};

/// What a delta makes of a base.
fn applied(base: &[u8], delta: &[u8]) -> Result<(Vec<u8>, AppliedDelta)> {
    let mut out = Vec::new();
    let report = delta::apply(&Blob::from(base.to_vec()), delta, &mut out, &Limits::default(), &Monitor::none())?;
    Ok((out, report))
}

/// Bytes without a pattern, the same in every run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(count)
    .collect()
}

/// Text that compresses, the same in every run.
#[cfg(feature = "xz")]
fn text(seed: u64, count: usize) -> Vec<u8> {
    let words = ["image ", "server ", "delta ", "window ", "base\n", "copy ", "0x7f ", "the "];
    let mut out = Vec::new();
    for byte in noise(seed, count / 4) {
        out.extend_from_slice(words[usize::from(byte) % 8].as_bytes());
    }
    out.truncate(count);
    out
}
