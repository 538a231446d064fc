//! The integration tests, one binary for all areas.
//! Each area has a folder of its own.

mod templates;
