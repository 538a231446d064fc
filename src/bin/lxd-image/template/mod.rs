//! `template`: lists, shows, checks, renders and applies the templates of an image.
//!
//! An image may be packed (one or two files) or unpacked (a directory, as `unpack` writes it). `list`, `show` and
//! `check` work on both; `apply` needs an unpacked one, since it writes into its root file system; `render` takes a
//! template by itself. The dialect is LXD's unless `--dialect incus` selects the other.

mod apply;
mod check;
mod context;
mod difference;
mod list;
mod render;

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use lxd_image::templates::{Dialect, InstanceDir};
use lxd_image::{Metadata, Result};

use crate::failure::Failure;
use crate::options::Session;
use crate::store::TypeArgument;

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

/// The template dialect.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DialectArgument {
    Lxd,
    Incus,
}

impl From<DialectArgument> for Dialect {
    /// The library's dialect of this value.
    fn from(peer: DialectArgument) -> Self {
        match peer {
            DialectArgument::Lxd => Self::Lxd,
            DialectArgument::Incus => Self::Incus,
        }
    }
}

/// The metadata and all templates of an image, packed or unpacked. Templates are held in memory, within the limits.
struct Templates {
    /// The metadata with the template rules.
    metadata: Metadata,
    /// Name and content of each file in `templates/`.
    files: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Templates {
    /// Reads metadata and templates of a packed image or of a directory.
    ///
    /// # Errors
    /// Those of opening and reading the image; `LimitExceeded` for too many or too large templates.
    fn read(image: &Path, rootfs: Option<&Path>, session: &Session) -> Result<Self> {
        if rootfs.is_none() && image.is_dir() {
            let dir = InstanceDir::open(image)?;
            let files = dir
                .template_names(&session.limits)?
                .into_iter()
                .map(|name| Ok((dir.template(&name, &session.limits)?, name)))
                .map(|read: Result<_>| read.map(|(content, name)| (name, content)))
                .collect::<Result<_>>()?;
            return Ok(Self { metadata: dir.metadata(&session.limits)?, files });
        }
        let image = session.open(image, rootfs, TypeArgument::default())?;
        let (monitor, shown) = session.monitor();
        let metadata = image.metadata()?;
        let files = image.templates(&monitor);
        drop(shown);
        Ok(Self { metadata, files: files? })
    }

    /// The rules that use a template. A template may have several, and names are bytes, because archives may hold any.
    fn rules<'t>(&'t self, name: &'t [u8]) -> impl Iterator<Item = (&'t str, &'t lxd_image::TemplateRule)> {
        self.metadata.templates().filter(move |(_, rule)| rule.template().as_bytes() == name)
    }
}
