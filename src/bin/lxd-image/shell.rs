//! `completions` and `man`: the command line described to shells and to `man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use lxd_image::{Error, ErrorKind, Result};

use crate::failure::Failure;
use crate::output;

/// Print a shell's completion script
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// Write manual pages into a directory
#[derive(Args)]
pub(crate) struct Man {
    /// The directory, which must exist
    directory: PathBuf,
}

pub(crate) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::Arguments::command(), "lxd-image", &mut script);
    Ok(output::write(&script)?)
}

pub(crate) fn man(arguments: &Man) -> Result<(), Failure> {
    clap_mangen::generate_to(crate::Arguments::command(), &arguments.directory).map_err(|error| {
        Error::new(ErrorKind::Io, "the manual pages can't be written").with_source(error).in_file(&arguments.directory)
    })?;
    Ok(())
}
