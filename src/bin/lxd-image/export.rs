//! `export`: an image's files out of the store.

use std::path::PathBuf;

use clap::Args;
use lxd_image::store::ExportOptions;
use lxd_image::{Result, Shown};

use crate::failure::Failure;
use crate::options::Session;
use crate::output;
use crate::store::resolve;

/// Export an image to files
#[derive(Args)]
pub(crate) struct Arguments {
    /// An alias, a fingerprint or the beginning of one
    reference: String,
    /// A directory, or a name for the files; `-` is standard output
    #[arg(default_value = ".")]
    target: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStrExt;
    let store = session.store_to_read()?;
    let image = resolve(&store, &arguments.reference)?;
    let (monitor, shown) = session.monitor();
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
