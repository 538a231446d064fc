//! Tests of the SquashFS reader and writer, against each other and against the format's own tools.
//! One file an area.

mod peers;
mod trees;
