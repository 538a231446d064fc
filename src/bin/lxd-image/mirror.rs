//! `mirror`: copies the images of a remote that are missing here to a static tree or to the store.
//!
//! Images are copied one at a time, the newest first, and listed as soon as their files are complete, so an interrupted
//! run leaves a consistent tree and the next run continues. `--delete` also removes images that match the filters and
//! are gone on the remote; a remote that lists nothing removes nothing. An image that cannot be copied does not stop
//! the others; the run then fails with the first error after it did everything else.
//!
//! A tree without a key of its own keeps the lists of a remote with keys as they are, with the signatures of their owner.

use std::path::Path;

use clap::Args;
use lxd_image::remote::{MirrorOptions, MirrorTarget, Mirrored, mirror};
use lxd_image::simplestreams::{Tree, TreeOptions};
use lxd_image::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Records};
use crate::policy::PolicyArgument;
use crate::signing::Signing;
use crate::store::{images, pair, size};

/// Copy missing images from a remote to a static tree, or to the store
#[derive(Args)]
pub(crate) struct Arguments {
    /// The remote, `NAME:REPOSITORY/` of a registry, or the address of a simplestreams server
    #[arg(value_name = "REMOTE:")]
    remote: String,
    /// The directory of a tree, or `local:` for the store
    #[arg(value_name = "DIR|local:")]
    target: String,
    /// Words (part of an alias, prefix of a fingerprint) and key=value pairs, where the value may be a regular
    /// expression; all must match
    filters: Vec<String>,
    /// Only images with this property (repeatable; all must match)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
    /// Also remove images that match and are gone on the remote
    #[arg(long)]
    delete: bool,
    /// Allow plain HTTP to other machines
    #[arg(long)]
    allow_http: bool,
    #[command(flatten)]
    signing: Signing,
    #[command(flatten)]
    policy: PolicyArgument,
}

impl Session {
    /// Options for opening static trees, with the limits and threads of this run.
    pub(crate) fn tree_options(&self) -> TreeOptions {
        let options = TreeOptions::new().limits(self.limits.clone());
        match self.threads {
            Some(threads) => options.threads(threads),
            None => options,
        }
    }

    /// Opens a tree for a change, or creates it.
    ///
    /// A tree that was created for a change that failed is removed again if it is still empty. The error of that
    /// removal is dropped, because the error of the change is the one to report.
    pub(crate) fn change_tree<T>(
        &self,
        path: &Path,
        signing: &Signing,
        change: impl FnOnce(&Tree) -> Result<T>,
    ) -> Result<T> {
        self.change_tree_with(self.tree_options(), path, signing, change)
    }

    /// As [`change_tree`](Self::change_tree), with other options of the tree.
    pub(crate) fn change_tree_with<T>(
        &self,
        options: TreeOptions,
        path: &Path,
        signing: &Signing,
        change: impl FnOnce(&Tree) -> Result<T>,
    ) -> Result<T> {
        let is_new = std::fs::symlink_metadata(path).is_err();
        let tree = signing.apply(options, self)?.create(path)?;
        let signatures = tree.signature_files();
        let done = change(&tree).inspect_err(|_| {
            if is_new {
                // Report the error of the change, not that of the removal.
                let _ = tree.lock().and_then(lxd_image::simplestreams::TreeWriter::discard_if_empty);
            }
        })?;
        Signing::report(&signatures, &tree, self);
        Ok(done)
    }
}

/// Mirrors the remote and prints one row per copied or removed image.
///
/// # Errors
/// `InvalidInput` for `--allow-http` with a named remote, whose settings decide that; otherwise the first error of an
/// image that could not be copied, after all others were tried.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    arguments.policy.apply(session);
    if arguments.allow_http && !arguments.remote.contains("://") {
        let sentence = "`--allow-http` is for addresses; of a remote, `remote add --allow-http` says it";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).into());
    }
    let remote = session.remote_or_address(&arguments.remote, arguments.allow_http)?;
    let (monitor, shown) = session.monitor();
    let mut options = MirrorOptions::new().delete(arguments.delete);
    for filter in &arguments.filters {
        options = options.filter(filter.parse()?);
    }
    for (key, value) in &arguments.property {
        options = options.filter(format!("{key}={value}").parse()?);
    }
    let done = if arguments.target == "local:" {
        mirror(&*remote, MirrorTarget::Store(&session.store()?), &options, &monitor)
    } else {
        session.change_tree(Path::new(&arguments.target), &arguments.signing, |tree| {
            mirror(&*remote, MirrorTarget::Tree(tree), &options, &monitor)
        })
    };
    drop(shown);
    report(done?, session)
}

/// Prints one row per copied or removed image and a summary.
///
/// # Errors
/// The first error of an image that could not be copied, with the number of such images.
fn report(done: Mirrored, session: &Session) -> Result<(), Failure> {
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    let mut row = |action: &str, fingerprint: String, bytes: Option<u64>, description: Option<&str>| {
        let cells = [
            ("action", json!(action)),
            ("fingerprint", json!(fingerprint)),
            ("size", json!(bytes.map(size))),
            ("description", json!(description)),
        ];
        rows.push(cells.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    };
    for image in &done.copied {
        row("copied", image.fingerprint.to_string(), Some(image.size), image.properties.get("description"));
    }
    for fingerprint in &done.removed {
        row("removed", fingerprint.to_string(), None, None);
    }
    if !rows.is_empty() {
        output::show(Records::Many(&["action", "fingerprint", "size", "description"], rows), &session.format)?;
    }
    session.note(|| {
        format!(
            "{} copied, {} there already, {} removed",
            images(done.copied.len() as u64),
            done.kept,
            done.removed.len()
        )
    });
    let count = done.failed.len();
    let mut failed = done.failed.into_iter();
    let Some((fingerprint, error)) = failed.next() else { return Ok(()) };
    for (fingerprint, error) in failed {
        session.note(|| format!("{}: {error}", fingerprint.short()));
    }
    let what = format!("{count} images could not be copied, among them {}: {error}", fingerprint.short());
    Err(Error::new(error.kind(), what).with_hint("the others are there; another run tries these again").into())
}
