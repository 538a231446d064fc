//! The command line of lxd-image.

fn main() {}
