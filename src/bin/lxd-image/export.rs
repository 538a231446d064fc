//! `export`: an image's files out of the store.

use std::path::PathBuf;

use clap::Args;
use lxd_image::remote::CopyOptions;
use lxd_image::store::ExportOptions;
use lxd_image::{Result, Shown};

use crate::failure::Failure;
use crate::options::Session;
use crate::output;
use crate::place::Place;

/// Export an image to files
#[derive(Args)]
pub(crate) struct Arguments {
    /// An alias, a fingerprint or the beginning of one; an image of a remote is brought into the store as one that was used
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    /// A directory, or a name for the files; `-` is standard output
    #[arg(default_value = ".")]
    target: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStrExt;
    let (monitor, shown) = session.monitor();
    let (store, image) = match Place::of(&arguments.reference) {
        Place::Local(reference) => {
            let store = session.store_to_read()?;
            let image = store.resolve(reference)?;
            (store, image)
        }
        Place::Remote(name, reference) => {
            let (remote, store) = (session.remote(name)?, session.store()?);
            let image = store.get_or_fetch(&*remote, reference, &CopyOptions::new().monitor(monitor.clone()))?;
            (store, image)
        }
    };
    let options = ExportOptions::new().monitor(monitor);
    if arguments.target.as_os_str() == "-" {
        let done = store.export_to(&image.fingerprint, &mut std::io::stdout().lock(), &options);
        drop(shown);
        done?;
        return Ok(());
    }
    let done = store.export(&image.fingerprint, &arguments.target, &options);
    drop(shown);
    for file in done?.files {
        output::line(&Shown(file.as_os_str().as_bytes()).to_string())?;
    }
    Ok(())
}
