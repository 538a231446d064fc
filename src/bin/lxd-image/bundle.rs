//! `bundle`: images with their names, and the statements about them, in one OCI layout, to be carried where no network leads.
//!
//! A bundle is a tar, or a directory if its name ends in a slash. The same images give the same bytes. Other tools read and
//! write it as well: `skopeo copy oci-archive:FILE:NAME docker://…` sends an image of it to a registry.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use lxd_image::bundle::{Bundle, BundleImportOptions, BundleWriter};
use lxd_image::remote::CopyOptions;
use lxd_image::store::{Alias, Store, StoredImage};
use lxd_image::{Error, Fingerprint, Monitor, Result};

use crate::failure::Failure;
use crate::location::Location;
use crate::options::Session;
use crate::policy::PolicyArgument;

/// Carry images in one file: an OCI layout
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Create(Create),
    Import(Import),
}

/// Write images with their aliases and the statements about them to a bundle
#[derive(Args)]
struct Create {
    /// The bundle: a new tar, or a new directory if it ends in a slash
    file: PathBuf,
    /// Images of the store or of a remote, by alias or fingerprint
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Import all images of a bundle with their aliases and the statements about them
#[derive(Args)]
struct Import {
    /// The bundle, or any OCI layout: a tar or a directory
    file: PathBuf,
    /// Make the images public
    #[arg(long)]
    public: bool,
    /// Move aliases that exist already; an image that thereby loses its last alias is deleted, unless its property
    /// `keep` is `true`
    #[arg(long)]
    reuse: bool,
    #[command(flatten)]
    policy: PolicyArgument,
}

/// Runs the verb.
///
/// # Errors
/// Those of the verb.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::Create(create) => self::create(create, session),
        Verb::Import(import) => self::import(import, session),
    }
}

/// Writes a bundle, and prints the fingerprints of its images.
fn create(arguments: &Create, session: &Session) -> Result<(), Failure> {
    let (monitor, shown) = session.monitor();
    let write = || {
        let mut images: BTreeMap<Fingerprint, (Store, StoredImage)> = BTreeMap::new();
        for name in &arguments.images {
            let (store, image) = find(name, session, &monitor)?;
            images.insert(image.fingerprint, (store, image));
        }
        let mut bundle = if arguments.file.as_os_str().as_bytes().ends_with(b"/") {
            BundleWriter::directory(&arguments.file, &monitor)?
        } else {
            BundleWriter::tar(&arguments.file, &monitor)?
        };
        for (store, image) in images.values() {
            bundle.add(store, image, &monitor)?;
        }
        bundle.finish(&monitor)?;
        Ok::<_, Error>(images.into_keys().collect::<Vec<_>>())
    };
    let written = write();
    drop(shown);
    print(&written?, session)
}

/// An image of the store, or of a remote from which it is fetched into the store as a cached image.
fn find(name: &str, session: &Session, monitor: &Monitor) -> Result<(Store, StoredImage)> {
    match Location::of(name) {
        Location::Local(reference) => {
            let store = session.store_to_read()?;
            let image = store.resolve(reference)?;
            Ok((store, image))
        }
        Location::Remote(remote, reference) => {
            let remote = session.remote(remote)?;
            let store = session.store()?;
            let mut image = store.get_or_fetch(&*remote, reference, &CopyOptions::new(), monitor)?;
            if image.aliases.is_empty() {
                // The name under which it was asked for; a cached image has none in the store.
                image.aliases.extend(Alias::new(reference).ok());
            }
            Ok((store, image))
        }
    }
}

/// Imports a bundle, and prints the fingerprints of its images.
fn import(arguments: &Import, session: &Session) -> Result<(), Failure> {
    arguments.policy.apply(session);
    let (monitor, shown) = session.monitor();
    let read = || {
        let bundle = Bundle::open(&arguments.file, &session.limits, &monitor)?;
        let mut options = BundleImportOptions::new().public(arguments.public).reuse_aliases(arguments.reuse);
        if let Some(threads) = session.threads {
            options = options.threads(threads);
        }
        bundle.import(&session.store()?, &options, &monitor)
    };
    let imported = read();
    drop(shown);
    print(&imported?, session)
}

/// Prints the fingerprints, one a line.
fn print(fingerprints: &[Fingerprint], session: &Session) -> Result<(), Failure> {
    for fingerprint in fingerprints {
        session.print_fingerprint(fingerprint)?;
    }
    Ok(())
}
