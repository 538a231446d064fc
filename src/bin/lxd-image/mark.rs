//! `use`: an image is marked as used now, so that it is not pruned.

use clap::Args;
use lxd_image::Result;

use crate::failure::Failure;
use crate::options::Session;
use crate::store::{Which, resolve};

/// Mark an image as used now
#[derive(Args)]
pub(crate) struct Arguments {
    /// An alias, a fingerprint or the beginning of one
    reference: String,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let store = session.store()?;
    let image = resolve(&store, &arguments.reference, arguments.which)?;
    store.mark_used(&image.fingerprint)?;
    Ok(())
}
