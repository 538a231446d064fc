//! `delete`: images and their aliases out of the store, or off a server.

use std::collections::BTreeSet;

use clap::Args;
use lxd_image::Result;

use crate::failure::Failure;
use crate::options::Session;
use crate::place::Place;
use crate::store::Which;

/// Delete images
#[derive(Args)]
pub(crate) struct Arguments {
    /// Aliases, fingerprints or beginnings of fingerprints; of a server behind its name and a colon
    #[arg(required = true, value_name = "[REMOTE:]REF")]
    references: Vec<String>,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (monitor, shown) = session.monitor();
    // All are looked up before the first goes: a slip in one of them removes nothing.
    let found = arguments
        .references
        .iter()
        .map(|reference| match Place::of(reference) {
            Place::Local(reference) => Ok((None, arguments.which.find(&session.store()?, reference)?)),
            Place::Remote(name, reference) => {
                let said = arguments.which.said();
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
