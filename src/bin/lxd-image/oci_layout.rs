//! OCI layouts as input: `import` takes an image of one, in a directory or a tar, as it takes files.
//!
//! A container image becomes an instance image on the way; an image of LXD or Incus that is kept in the layout is taken
//! as it is.

use std::path::Path;

use clap::Args;
use lxd_image::bundle::{LayoutImage, LayoutOptions};
use lxd_image::store::{ImportOptions, StoredImage};
use lxd_image::{Architecture, Error, ErrorKind, Result};

use crate::options::Session;

/// Which image of an OCI layout, and what it becomes.
#[derive(Args)]
pub(crate) struct LayoutArguments {
    /// The image of an OCI layout, by its name there (default: the only one)
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// The architecture of an OCI image that is there for several (default: this machine's)
    #[arg(long, value_name = "ARCH")]
    architecture: Option<String>,
    /// Make an image for system containers of an OCI image: it boots its init, instead of running its entry point
    #[arg(long)]
    system: bool,
}

impl LayoutArguments {
    /// Refuses the options where the input is no OCI layout.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(crate) fn refuse(&self) -> Result<()> {
        let given = [
            ("--image", self.image.is_some()),
            ("--architecture", self.architecture.is_some()),
            ("--system", self.system),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                Err(Error::new(ErrorKind::InvalidInput, format!("`{option}` is for OCI layouts, and this is none")))
            }
            None => Ok(()),
        }
    }

    /// The architecture that is wanted.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown name, and on a machine that images have no name for.
    pub(crate) fn architecture(&self) -> Result<Architecture> {
        match &self.architecture {
            Some(name) => name.parse(),
            None => Architecture::of_this_machine().ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "this machine's architecture is not known")
                    .with_hint("say which one is wanted with `--architecture`")
            }),
        }
    }
}

/// Imports an image of a layout into the store.
///
/// # Errors
/// Those of the layout, of its image, and of importing.
pub(crate) fn import(
    path: &Path,
    arguments: &LayoutArguments,
    options: &ImportOptions,
    session: &Session,
) -> Result<StoredImage> {
    let mut wanted = LayoutOptions::new()
        .architecture(arguments.architecture()?)
        .system(arguments.system)
        .limits(session.limits.clone());
    if let Some(name) = &arguments.image {
        wanted = wanted.image(&**name);
    }
    if let Some(threads) = session.threads {
        wanted = wanted.threads(threads);
    }
    let (monitor, shown) = session.monitor();
    let import = || LayoutImage::open(path, &wanted, &monitor)?.import(&session.store()?, options, &monitor);
    let imported = import();
    drop(shown);
    let (stored, incus) = imported?;
    if let Some(incus) = incus {
        session.note(|| format!("note: Incus would give this image the fingerprint {incus}"));
    }
    Ok(stored)
}
