//! `template`: lists, shows, checks, renders and applies the templates of an image.
//!
//! An image may be packed (one or two files) or unpacked (a directory, as `unpack` writes it). `list`, `show` and
//! `check` work on both; `apply` needs an unpacked one, since it writes into its root file system; `render` takes a
//! template by itself. The dialect is LXD's unless `--dialect incus` selects the other.

mod apply;
mod check;
mod context;
mod dialect;
mod difference;
mod list;
mod render;
mod sources;

use clap::{Args, Subcommand};

use lxd_image::Result;

use crate::failure::Failure;
use crate::options::Session;

/// Look at, try out and apply templates
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    #[command(visible_alias = "ls")]
    List(list::List),
    Show(list::Show),
    Check(check::Arguments),
    Render(render::Arguments),
    Apply(apply::Arguments),
}

impl Arguments {
    /// Whether what is printed is a template's text as it is.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.verb, Verb::Show(_) | Verb::Render(_))
    }
}

/// Runs the selected verb.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::List(verb) => list::list(verb, session),
        Verb::Show(verb) => list::show(verb, session),
        Verb::Check(verb) => check::run(verb, session),
        Verb::Render(verb) => render::run(verb, session),
        Verb::Apply(verb) => apply::run(verb, session),
    }
}
