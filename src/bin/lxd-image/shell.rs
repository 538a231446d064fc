//! `completions` and `man`: shell completion scripts and manual pages, generated from the clap definition.
//!
//! One manual page is written per verb. Examples, files, environment and exit statuses come from the tables in
//! [`help`](crate::help), so that `--help` and `man` agree.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use lxd_image::{Error, ErrorKind, Result};

use crate::failure::Failure;
use crate::{help, output};

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

/// Prints the completion script for a shell to standard output.
pub(crate) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut help::complete(crate::Arguments::command()),
        "lxd-image",
        &mut script,
    );
    Ok(output::write(&script)?)
}

/// Writes `lxd-image.1` and one page per verb, such as `lxd-image-alias-create.1`, into the directory.
///
/// # Errors
/// `Io`; the directory must exist.
pub(crate) fn man(arguments: &Man) -> Result<(), Failure> {
    let mut command = crate::Arguments::command().disable_help_subcommand(true);
    command.build();
    pages(&command, "", &arguments.directory)
        .map_err(|error| {
            Error::new(ErrorKind::Io, "the manual pages can't be written")
                .with_source(error)
                .in_file(&arguments.directory)
        })
        .map_err(Failure::from)
}

/// Writes the page of a command, then those of its verbs.
fn pages(command: &clap::Command, path: &str, directory: &Path) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    let examples: Vec<String> = help::examples(path).collect();
    if !examples.is_empty() {
        section(&mut text, "EXAMPLES")?;
        for example in examples {
            writeln!(text, ".PP\n.nf\n{}\n.fi", roff(&example))?;
        }
    }
    for (title, rows) in [("FILES", help::FILES), ("ENVIRONMENT", help::ENVIRONMENT), ("EXIT STATUS", help::STATUSES)] {
        section(&mut text, title)?;
        for (name, what) in rows {
            writeln!(text, ".TP\n\\fB{}\\fR\n{}", roff(name), roff(what))?;
        }
    }
    page.render_version_section(&mut text)?;
    std::fs::write(directory.join(page.get_filename()), text)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let below = if path.is_empty() { verb.get_name().to_owned() } else { format!("{path} {}", verb.get_name()) };
        pages(verb, &below, directory)?;
    }
    Ok(())
}

/// Starts a section of a manual page (man(7)).
fn section(text: &mut Vec<u8>, title: &str) -> io::Result<()> {
    writeln!(text, ".SH \"{title}\"")
}

/// Escapes a text for roff: backslashes, hyphens (which would become dashes), and a dot or quote at the start of a
/// line, which would be a request.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
