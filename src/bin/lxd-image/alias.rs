//! `alias create|delete|rename|list`.

use clap::{Args, Subcommand};
use lxd_image::store::{Alias, Store};
use lxd_image::{Fingerprint, Monitor, Omitted, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Facts, Format};
use crate::place::Place;
use crate::store::{local, resolve};

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
        /// The alias; of a server behind its name and a colon
        #[arg(value_name = "[REMOTE:]NAME")]
        name: String,
        /// An alias, a fingerprint or the beginning of one
        reference: String,
        /// What the alias is for
        #[arg(long, default_value = "")]
        description: String,
        /// Move the alias if it is taken
        #[arg(long)]
        reuse: bool,
    },
    /// Remove an alias; the image stays
    #[command(visible_alias = "rm")]
    Delete {
        /// The alias; of a server behind its name and a colon
        #[arg(value_name = "[REMOTE:]NAME")]
        name: String,
    },
    /// Give an alias another name
    #[command(visible_aliases = ["mv"])]
    Rename {
        /// The alias; of a server behind its name and a colon
        #[arg(value_name = "[REMOTE:]NAME")]
        name: String,
        /// Its new name
        new: String,
    },
    /// List aliases
    #[command(visible_alias = "ls")]
    List {
        /// A remote and a colon, to list what is there; then parts of names or beginnings of fingerprints, which all must match
        #[arg(value_name = "[REMOTE:] FILTER")]
        filters: Vec<String>,
    },
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (monitor, _shown) = session.monitor();
    match &arguments.verb {
        Verb::Create { name, reference, description, reuse } => match Place::of(name) {
            Place::Local(name) => {
                let store = session.store()?;
                let image = resolve(&store, reference)?;
                let alias = Alias::new(name)?.described(&**description);
                if *reuse {
                    let before = store.alias(name).ok().map(|(_, target)| target);
                    store.move_alias(&alias, &image.fingerprint)?;
                    if let Some(before) = before.filter(|before| *before != image.fingerprint) {
                        remove_nameless(&store, &before, &monitor)?;
                    }
                } else {
                    store.create_alias(&alias, &image.fingerprint)?;
                }
            }
            Place::Remote(remote, name) => {
                let server = session.lxd(remote)?;
                // As with `lxc`, what it points to is on the same server, whether or not that is said again.
                let reference =
                    reference.strip_prefix(remote).and_then(|rest| rest.strip_prefix(':')).unwrap_or(reference);
                let image = session.find_on(&server, reference, None, &monitor)?;
                server.create_alias(&Alias::new(name)?.described(&**description), &image, *reuse, &monitor)?;
            }
        },
        Verb::Delete { name } => match Place::of(name) {
            Place::Local(name) => session.store()?.delete_alias(name)?,
            Place::Remote(remote, name) => session.lxd(remote)?.delete_alias(name, &monitor)?,
        },
        Verb::Rename { name, new } => match Place::of(name) {
            Place::Local(name) => session.store()?.rename_alias(name, local(new)?)?,
            Place::Remote(remote, name) => {
                let new = new.strip_prefix(remote).and_then(|rest| rest.strip_prefix(':')).unwrap_or(new);
                session.lxd(remote)?.rename_alias(name, new, &monitor)?;
            }
        },
        Verb::List { filters } => list(filters, session)?,
    }
    Ok(())
}

/// Removes an image that lost its last alias to another one, as every `--reuse` does.
fn remove_nameless(store: &Store, loser: &Fingerprint, monitor: &Monitor) -> Result<()> {
    let image = store.image(loser)?;
    if image.aliases.is_empty() && !image.is_kept() {
        store.delete(loser)?;
        let reason = "its last alias moved to another image".into();
        monitor.omit(loser.to_string(), Omitted::Removed { reason });
    }
    Ok(())
}

/// A remote and a colon before the words, as with `lxc`, lists what is there.
fn list(filters: &[String], session: &Session) -> Result<()> {
    let (remote, filters) = match filters.split_first() {
        Some((first, rest)) if first.ends_with(':') => (first.strip_suffix(':'), rest),
        _ => (None, filters),
    };
    let images = match remote {
        None | Some("" | "local") => session.listed_images()?,
        Some(name) => {
            let (monitor, shown) = session.monitor();
            let listed = session.remote(name).and_then(|remote| remote.list(&monitor));
            drop(shown);
            listed?
        }
    };
    let mut rows = Vec::new();
    let whole = matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_));
    for image in images {
        for alias in &image.aliases {
            let fits = |filter: &String| {
                alias.name.contains(filter.as_str()) || image.fingerprint.to_string().starts_with(filter.as_str())
            };
            if !filters.iter().all(fits) {
                continue;
            }
            let target = if whole { image.fingerprint.to_string() } else { image.fingerprint.short() };
            let kind = image.image_type.name();
            let mut row: Map<String, Value> = Map::new();
            row.insert(if whole { "name" } else { "alias" }.into(), json!(alias.name));
            row.insert(if whole { "target" } else { "fingerprint" }.into(), json!(target));
            row.insert("type".into(), if whole { json!(kind) } else { json!(kind.to_uppercase()) });
            row.insert("description".into(), json!(alias.description));
            rows.push(((alias.name.clone(), image.fingerprint), row));
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    output::show(Facts::Many(&["alias", "fingerprint", "type", "description"], rows), &session.format)
}
