//! `export`: an image's files out of the store.

use std::path::PathBuf;

use clap::Args;
use lxd_image::remote::CopyOptions;
use lxd_image::store::ExportOptions;
use lxd_image::{Escaped, Result};
use serde_json::Value;

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Facts, Format};
use crate::place::Place;
use crate::store::Which;

/// Export an image to files
#[derive(Args)]
pub(crate) struct Arguments {
    /// An alias, a fingerprint or the beginning of one; an image of a remote is brought into the store as one that was used
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    /// A directory (made if it ends in `/`), or a name for the files; `-` is standard output
    #[arg(default_value = ".")]
    target: PathBuf,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStrExt;
    let (monitor, shown) = session.monitor();
    let (store, image) = match Place::of(&arguments.reference) {
        Place::Local(reference) => {
            let store = session.store_to_read()?;
            let image = arguments.which.find(&store, reference)?;
            (store, image)
        }
        Place::Remote(name, reference) => {
            let (remote, store) = (session.remote(name)?, session.store()?);
            let options = CopyOptions::new().image_type(arguments.which.image_type()).monitor(monitor.clone());
            let image = store.get_or_fetch(&*remote, reference, &options)?;
            (store, image)
        }
    };
    let options = ExportOptions::new().monitor(monitor);
    if arguments.target.as_os_str() == "-" {
        let done = store.export_to(&image.fingerprint, &mut output::Stdout, &options);
        drop(shown);
        done?;
        return Ok(());
    }
    let done = store.export(&image.fingerprint, &arguments.target, &options);
    drop(shown);
    let files: Vec<String> = done?.files.iter().map(|file| Escaped(file.as_os_str().as_bytes()).to_string()).collect();
    if matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_)) {
        let row = |file: String| std::iter::once(("file".to_owned(), Value::from(file))).collect();
        return Ok(output::show(Facts::Many(&["file"], files.into_iter().map(row).collect()), &session.format)?);
    }
    for file in files {
        output::line(&file)?;
    }
    Ok(())
}
