//! `delete`: images and their aliases out of the store.

use clap::Args;
use lxd_image::Result;

use crate::failure::Failure;
use crate::options::Session;
use crate::store::resolve;

/// Delete images
#[derive(Args)]
pub(crate) struct Arguments {
    /// Aliases, fingerprints or beginnings of fingerprints
    #[arg(required = true)]
    references: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let store = session.store()?;
    // All are looked up before the first goes: a slip in one of them removes nothing.
    let images = arguments.references.iter().map(|name| resolve(&store, name)).collect::<Result<Vec<_>>>()?;
    let mut done = std::collections::BTreeSet::new();
    for image in images {
        if done.insert(image.fingerprint) {
            store.delete(&image.fingerprint)?;
        }
    }
    Ok(())
}
