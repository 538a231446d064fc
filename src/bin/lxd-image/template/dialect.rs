//! The option `--dialect`.

use clap::ValueEnum;
use lxd_image::templates::Dialect;

/// The template dialect.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DialectArgument {
    Lxd,
    Incus,
}

impl From<DialectArgument> for Dialect {
    /// The library's dialect of this value.
    fn from(peer: DialectArgument) -> Self {
        match peer {
            DialectArgument::Lxd => Self::Lxd,
            DialectArgument::Incus => Self::Incus,
        }
    }
}
