//! `use`: records that an image is used now, so that `prune` keeps it.
//!
//! Only cached images are pruned, and only after they were unused for some time (`--unused-for`, ten days by default).

use clap::Args;
use lxd_image::Result;

use crate::failure::Failure;
use crate::options::Session;
use crate::store::{TypeArgument, resolve};

/// Mark an image as used now
#[derive(Args)]
pub(crate) struct Arguments {
    /// An alias, a fingerprint or a prefix of one
    reference: String,
    #[command(flatten)]
    which: TypeArgument,
}

/// Records the time of use. Prints nothing.
///
/// # Errors
/// `NotFound`, `Ambiguous`, `Busy`; `Io` for a store that can only be read.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let store = session.store()?;
    let image = resolve(&store, &arguments.reference, arguments.which)?;
    store.mark_used(&image.fingerprint)?;
    Ok(())
}
