//! `alias create|delete|rename|list`: names for images, in the store or on an LXD or Incus server.
//!
//! A name with a remote and a colon before it works on that server by its REST API; any other works on the local store.
//! An alias is unique for each image type in the store, so `--vm` selects the alias of the virtual machine where a
//! container has the same one. On a server one name means one image, so `--vm` is refused there instead of ignored.
//!
//! `list` filters on this side of the connection: every filter must be part of the name or a prefix of the fingerprint.
//! Rows are sorted by name, then containers before virtual machines, so that two runs print the same order.

use clap::{Args, Subcommand};
use lxd_image::store::{Alias, AliasTarget, ImportOptions, StoredImage};
use lxd_image::{Error, ErrorKind, ImageType, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::location::Location;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::store::{TypeArgument, local, resolve};

/// Manage aliases
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Point a new alias to an image
    Create {
        /// The alias; `REMOTE:` before it means an alias on that server
        #[arg(value_name = "[REMOTE:]NAME")]
        name: String,
        /// An alias, a fingerprint or a prefix of one
        reference: String,
        /// A description of the alias
        #[arg(long, default_value = "")]
        description: String,
        /// Move the alias if it exists already
        #[arg(long)]
        reuse: bool,
        #[command(flatten)]
        which: TypeArgument,
    },
    /// Remove an alias; the image stays
    #[command(visible_alias = "rm")]
    Delete {
        /// The alias; `REMOTE:` before it means an alias on that server
        #[arg(value_name = "[REMOTE:]NAME")]
        name: String,
        #[command(flatten)]
        which: TypeArgument,
    },
    /// Rename an alias
    #[command(visible_aliases = ["mv"])]
    Rename {
        /// The alias; `REMOTE:` before it means an alias on that server
        #[arg(value_name = "[REMOTE:]NAME")]
        name: String,
        /// Its new name
        new: String,
        #[command(flatten)]
        which: TypeArgument,
    },
    /// List aliases
    #[command(visible_alias = "ls")]
    List {
        /// A remote and a colon, to list its aliases; then parts of names or prefixes of fingerprints, which all
        /// must match
        #[arg(value_name = "[REMOTE:] FILTER")]
        filters: Vec<String>,
    },
}

/// Runs the selected verb.
///
/// # Errors
/// `AlreadyExists` for a name that is taken (without `--reuse`), `NotFound` for a missing alias or image,
/// `InvalidInput` for a malformed name or `--vm` on a server; those of the store or the remote.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (monitor, _shown) = session.monitor();
    match &arguments.verb {
        Verb::Create { name, reference, description, reuse, which } => match Location::of(name) {
            Location::Local(name) => {
                let store = session.store()?;
                let image = resolve(&store, reference, *which)?;
                let alias = Alias::new(name)?.described(&**description);
                if *reuse {
                    // Only the name changes: a cached image must stay cached, or it would never be pruned again.
                    let options = ImportOptions::new().cached(image.cached).alias(alias);
                    let options = options.reuse_aliases(true).replace_images(true);
                    store.adopt(&image.fingerprint, &options, &monitor)?;
                } else {
                    store.create_alias(&alias, &image.fingerprint)?;
                }
            }
            Location::Remote(remote, name) => {
                let server = session.lxd(remote)?;
                // As with `lxc`, the target is on the same server, with or without the remote's name before it.
                let reference =
                    reference.strip_prefix(remote).and_then(|rest| rest.strip_prefix(':')).unwrap_or(reference);
                let image = session.find_on(&server, reference, which.requested(), &monitor)?;
                server.create_alias(&Alias::new(name)?.described(&**description), &image, *reuse, &monitor)?;
            }
        },
        Verb::Delete { name, which } => match Location::of(name) {
            Location::Local(name) => session.store()?.delete_alias(name, which.requested())?,
            Location::Remote(remote, name) => {
                refuse_type(*which)?;
                session.lxd(remote)?.delete_alias(name, &monitor)?;
            }
        },
        Verb::Rename { name, new, which } => match Location::of(name) {
            Location::Local(name) => session.store()?.rename_alias(name, local(new)?, which.requested())?,
            Location::Remote(remote, name) => {
                refuse_type(*which)?;
                let new = new.strip_prefix(remote).and_then(|rest| rest.strip_prefix(':')).unwrap_or(new);
                session.lxd(remote)?.rename_alias(name, new, &monitor)?;
            }
        },
        Verb::List { filters } => list(filters, session)?,
    }
    Ok(())
}

/// Refuses `--vm` for a server. On LXD and Incus a name means one image of whatever type, so the option would be
/// ignored.
fn refuse_type(which: TypeArgument) -> Result<()> {
    if which.vm {
        let sentence = "`--vm` has no effect on a server: an alias there means one image";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("leave `--vm` out"));
    }
    Ok(())
}

/// Prints the aliases of the store or of a remote that match all filters.
///
/// A remote has no list of aliases that every protocol offers, so its images are listed and their aliases are
/// collected.
fn list(filters: &[String], session: &Session) -> Result<()> {
    let (remote, filters) = match filters.split_first() {
        Some((first, rest)) if first.ends_with(':') => (first.strip_suffix(':'), rest),
        _ => (None, filters),
    };
    let aliases: Vec<(Alias, AliasTarget)> = match remote {
        None | Some("" | "local") => session.store_to_read()?.aliases()?,
        Some(name) => {
            let (monitor, shown) = session.monitor();
            let listed = session.remote(name).and_then(|remote| remote.list(&monitor));
            drop(shown);
            let named = |image: StoredImage| {
                let target = image.target();
                image.aliases.into_iter().map(move |alias| (alias, target))
            };
            listed?.into_iter().flat_map(named).collect()
        }
    };
    let mut rows = Vec::new();
    let whole = matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_));
    for (alias, target) in aliases {
        let digits = target.fingerprint.to_string();
        let fits = |filter: &String| alias.name.contains(filter.as_str()) || digits.starts_with(filter.as_str());
        if !filters.iter().all(fits) {
            continue;
        }
        let kind = target.image_type.name();
        let mut row: Map<String, Value> = Map::new();
        row.insert(if whole { "name" } else { "alias" }.into(), json!(alias.name));
        let shown = if whole { digits } else { target.fingerprint.short() };
        row.insert(if whole { "target" } else { "fingerprint" }.into(), json!(shown));
        row.insert("type".into(), if whole { json!(kind) } else { json!(kind.to_uppercase()) });
        row.insert("description".into(), json!(alias.description));
        let is_vm = target.image_type == ImageType::VirtualMachine;
        rows.push(((alias.name, is_vm, target.fingerprint), row));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    output::show(Records::Many(&["alias", "fingerprint", "type", "description"], rows), &session.format)
}
