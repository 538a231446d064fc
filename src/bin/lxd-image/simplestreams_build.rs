//! `simplestreams build`: makes the list of a tree from directories laid out as `simplestream-maintainer` wants them.

use std::path::PathBuf;

use clap::Args;
use lxd_image::simplestreams::{BuildOptions, BuiltTree, Tree};
use lxd_image::{Error, ErrorKind, Escaped};

use crate::failure::Failure;
use crate::options::Session;
use crate::output;
use crate::signing::Signing;

/// List what lies in a tree as images/DISTRO/RELEASE/ARCH/VARIANT/VERSION, as simplestream-maintainer does
#[derive(Args)]
pub(crate) struct Build {
    /// The tree
    directory: PathBuf,
    /// A directory of the tree with images of one stream, whose list is streams/v1/NAME.json (repeatable; default: images)
    #[arg(short = 'd', long, value_name = "NAME")]
    image_dir: Vec<String>,
    /// How many versions of each product stay, the newest ones (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    retain_builds: Option<u32>,
    /// For how many days a version stays after its directory was last changed (default: for ever)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    retain_days: Option<u32>,
    /// Remove directories of versions that are not listed, such as uploads that were given up, after six hours without
    /// a change
    #[arg(long)]
    dangling: bool,
    /// Make the deltas between the versions of each product that are missing: clients that have the version before
    /// download less
    #[arg(long)]
    deltas: bool,
    #[command(flatten)]
    signing: Signing,
}

/// Builds the list; prints a line for each version that came, left or was removed.
///
/// # Errors
/// Those of reading and writing the tree; the first reason why a version could not be listed, after all others were.
pub(crate) fn run(arguments: &Build, session: &Session) -> Result<(), Failure> {
    let (monitor, shown) = session.monitor();
    let usual = ["images".to_owned()];
    let streams = if arguments.image_dir.is_empty() { &usual[..] } else { &arguments.image_dir };
    let mut options = BuildOptions::new().remove_dangling(arguments.dangling).deltas(arguments.deltas);
    if let Some(builds) = arguments.retain_builds {
        options = options.retain_builds(usize::try_from(builds).unwrap_or(usize::MAX));
    }
    if let Some(days) = arguments.retain_days {
        options = options.retain_days(days.into());
    }
    let mut built = Vec::new();
    for name in streams {
        let tree = session.tree_options().stream(name)?;
        if !arguments.image_dir.is_empty() && !arguments.directory.join(name).is_dir() {
            return Err(Error::new(ErrorKind::NotFound, "there is no such directory of images")
                .in_file(arguments.directory.join(name))
                .into());
        }
        let change = |tree: &Tree| tree.lock()?.build(&options, &monitor);
        built.push(session.change_tree_with(tree, &arguments.directory, &arguments.signing, change)?);
    }
    drop(shown);
    built.into_iter().try_for_each(|built| report(built, session))
}

/// Prints what happened to one stream.
///
/// # Errors
/// The first reason why a version could not be listed.
fn report(built: BuiltTree, session: &Session) -> Result<(), Failure> {
    for (what, paths) in [
        ("added", &built.added),
        ("delta", &built.deltas),
        ("withdrawn", &built.withdrawn),
        ("removed", &built.removed),
    ] {
        for path in paths {
            output::line(&format!("{what} {}", Escaped(path.as_bytes())))?;
        }
    }
    session.note(|| {
        format!("{} new versions, {} listed before, {} withdrawn", built.added.len(), built.kept, built.withdrawn.len())
    });
    let count = built.failed.len();
    let mut failed = built.failed.into_iter();
    let Some((path, error)) = failed.next() else { return Ok(()) };
    for (path, error) in failed {
        session.note(|| format!("{}: {error}", Escaped(path.as_bytes())));
    }
    let what = format!("{count} versions could not be listed, among them {}: {error}", Escaped(path.as_bytes()));
    Err(Error::new(error.kind(), what).with_hint("the others are listed").into())
}
