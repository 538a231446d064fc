//! `template`: look at the templates of an image, try one out, apply them.
//! Images may be packed or unpacked; a directory is an unpacked one.

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
use crate::store::Which;

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

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::List(verb) => list::list(verb, session),
        Verb::Show(verb) => list::show(verb, session),
        Verb::Check(verb) => check::run(verb, session),
        Verb::Render(verb) => render::run(verb, session),
        Verb::Apply(verb) => apply::run(verb, session),
    }
}

/// Whose templates they are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Peer {
    Lxd,
    Incus,
}

impl From<Peer> for Dialect {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Lxd => Self::Lxd,
            Peer::Incus => Self::Incus,
        }
    }
}

/// The metadata and all templates of an image, packed or not.
struct Templates {
    metadata: Metadata,
    files: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Templates {
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
        let image = session.open(image, rootfs, Which::default())?;
        let (monitor, shown) = session.monitor();
        let metadata = image.metadata()?;
        let files = image.templates(&monitor);
        drop(shown);
        Ok(Self { metadata, files: files? })
    }

    /// The rules that use a template.
    fn rules<'t>(&'t self, name: &'t [u8]) -> impl Iterator<Item = (&'t str, &'t lxd_image::TemplateRule)> {
        self.metadata.templates().filter(move |(_, rule)| rule.template().as_bytes() == name)
    }
}
