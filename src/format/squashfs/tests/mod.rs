//! Tests of the SquashFS reader and writer, against each other and against the format's own tools.
//! One file an area.

mod hostile;
mod peers;
mod random;
mod trees;
mod writing;
