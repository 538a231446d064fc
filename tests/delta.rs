//! Deltas: hostile ones, round trips, and `xdelta3` in both directions.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
