//! `delete`: deletes images with their aliases, from the store or from a server.
//!
//! All references are resolved before the first image is deleted: a typing error in one of them deletes nothing. An
//! image that is named twice, by two aliases for example, is deleted once.

use std::collections::BTreeSet;

use clap::Args;
use lxd_image::Result;

use crate::failure::Failure;
use crate::location::Location;
use crate::options::Session;
use crate::store::TypeArgument;

/// Delete images
#[derive(Args)]
pub(crate) struct Arguments {
    /// Aliases, fingerprints or prefixes of fingerprints; `REMOTE:` before one means an image of that server
    #[arg(required = true, value_name = "[REMOTE:]REF")]
    references: Vec<String>,
    #[command(flatten)]
    which: TypeArgument,
}

/// Deletes the images. Either all references can be resolved, or nothing is deleted.
///
/// # Errors
/// `NotFound` and `Ambiguous` for a reference. If a deletion itself fails, the images before it in the list are already
/// deleted.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (monitor, shown) = session.monitor();
    // Resolve all references first, so that a typing error in one of them deletes nothing.
    let found = arguments
        .references
        .iter()
        .map(|reference| match Location::of(reference) {
            Location::Local(reference) => Ok((None, arguments.which.find(&session.store()?, reference)?)),
            Location::Remote(name, reference) => {
                let said = arguments.which.requested();
                Ok((Some(name), session.find_on(&session.lxd(name)?, reference, said, &monitor)?))
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let mut done = BTreeSet::new();
    for (server, image) in found {
        if !done.insert((server, image.fingerprint)) {
            continue;
        }
        match server {
            None => drop(session.store()?.delete(&image.fingerprint)?),
            Some(name) => session.lxd(name)?.delete_image(&image, &monitor)?,
        }
    }
    drop(shown);
    Ok(())
}
