//! `export`: writes the files of an image, compared with its fingerprint.
//!
//! An image of a remote is fetched into the store first, as a cached image, and exported from there. A unified image is
//! one file and can go to standard output; a split image is two files and cannot. Existing files are never overwritten.
//! The paths of the files are the result on standard output.

use std::path::PathBuf;

use clap::Args;
use lxd_image::remote::CopyOptions;
use lxd_image::{Escaped, Result};
use serde_json::Value;

use crate::failure::Failure;
use crate::location::Location;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::store::TypeArgument;

/// Export an image to files
#[derive(Args)]
pub(crate) struct Arguments {
    /// An alias, a fingerprint or the beginning of one; an image of a remote is brought into the store as one that was
    /// used
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    /// A directory (made if it ends in `/`), or a name for the files; `-` is standard output
    #[arg(default_value = ".")]
    target: PathBuf,
    #[command(flatten)]
    which: TypeArgument,
}

/// Exports the image and prints the paths of its files, or nothing where the image itself went to standard output.
///
/// # Errors
/// `AlreadyExists` for a file that is there; `Mismatch` if the store's bytes are damaged; `InvalidInput` for a split
/// image to standard output.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStrExt;
    let (monitor, shown) = session.monitor();
    let (store, image) = match Location::of(&arguments.reference) {
        Location::Local(reference) => {
            let store = session.store_to_read()?;
            let image = arguments.which.find(&store, reference)?;
            (store, image)
        }
        Location::Remote(name, reference) => {
            let (remote, store) = (session.remote(name)?, session.store()?);
            let options = CopyOptions::new().image_type(arguments.which.image_type());
            let image = store.get_or_fetch(&*remote, reference, &options, &monitor)?;
            (store, image)
        }
    };
    if arguments.target.as_os_str() == "-" {
        let done = store.export_to(&image.fingerprint, &mut output::Stdout, &monitor);
        drop(shown);
        done?;
        return Ok(());
    }
    let done = store.export(&image.fingerprint, &arguments.target, &monitor);
    drop(shown);
    let done = done?;
    let files = done.files.iter().chain(&done.statements);
    let files: Vec<String> = files.map(|file| Escaped(file.as_os_str().as_bytes()).to_string()).collect();
    if matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_)) {
        let row = |file: String| std::iter::once(("file".to_owned(), Value::from(file))).collect();
        return Ok(output::show(Records::Many(&["file"], files.into_iter().map(row).collect()), &session.format)?);
    }
    for file in files {
        output::line(&file)?;
    }
    Ok(())
}
