//! `store init`, `store info`, `store migrate`: the store itself, whatever its engines are.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lxd_image::store::{ImageQuery, Store, StoreDescription};
use lxd_image::{Error, ErrorKind};
use serde_json::{Map, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::store::{images, size};

/// Create, describe or move a store
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Subcommand)]
enum StoreVerb {
    /// Create the store if it is missing: a directory, or the catalog and the blobs that a file describes
    Init,
    /// Show where the store is and how much it holds
    Info,
    Migrate(Migrate),
}

/// Copy all images of one store into another, verified; an interrupted run is continued by the next
#[derive(Args)]
struct Migrate {
    /// The store to copy from: a directory, or the file that describes it
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The store to copy to; created if it is missing
    #[arg(value_name = "TO")]
    to: PathBuf,
}

/// Runs one of the verbs.
///
/// # Errors
/// Those of opening the stores; of `migrate` also status 3 if an image could not be copied.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match &arguments.verb {
        StoreVerb::Init => {
            let path = session.store_path()?;
            let store = session.store()?;
            // Opening does not write to blobs that were there before: this finds out now whether it can be done.
            store.check_writable()?;
            show(&path, &store, session)
        }
        StoreVerb::Info => show(&session.store_path()?, &session.existing_store_to_read()?, session),
        StoreVerb::Migrate(arguments) => migrate(arguments, session),
    }
}

/// Prints one record about a store.
fn show(path: &Path, store: &Store, session: &Session) -> Result<(), Failure> {
    let totals = store.totals(&ImageQuery::new())?;
    let mut record = Map::new();
    record.insert("store".into(), json!(path.display().to_string()));
    if path.is_file() {
        let description = StoreDescription::read(path)?;
        record.insert("catalog".into(), json!(description.catalog()));
        record.insert("blobs".into(), json!(description.blobs()));
        record.insert("scratch".into(), json!(description.scratch().display().to_string()));
    } else {
        record.insert("catalog".into(), json!(path.join("catalog.sqlite").display().to_string()));
        record.insert("blobs".into(), json!(path.join("blobs").display().to_string()));
        record.insert("scratch".into(), json!(path.join("staging").display().to_string()));
    }
    record.insert("images".into(), json!(totals.images));
    record.insert(
        "size".into(),
        if session.format == Format::Table { json!(size(totals.bytes)) } else { json!(totals.bytes) },
    );
    let layers = store.layers()?;
    record.insert("layers".into(), json!(layers.layers));
    record.insert(
        "layer_size".into(),
        if session.format == Format::Table { json!(size(layers.bytes)) } else { json!(layers.bytes) },
    );
    output::show(Records::One(record), &session.format)?;
    Ok(())
}

fn migrate(arguments: &Migrate, session: &Session) -> Result<(), Failure> {
    let same =
        |a: &Path, b: &Path| a == b || a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if same(&arguments.from, &arguments.to) {
        return Err(Error::new(ErrorKind::InvalidInput, "FROM and TO are the same store").into());
    }
    let source = session.store_options().create(false).open(&arguments.from)?;
    let target = session.admitting_options()?.open(&arguments.to)?;
    let (monitor, shown) = session.monitor();
    let report = target.migrate_from(&source, &monitor);
    drop(shown);
    let report = report?;
    if session.format == Format::Table {
        for (image, error) in &report.failed {
            output::line(&lxd_image::Escaped(format!("{image}: not copied: {error}").as_bytes()).to_string())?;
        }
        session.note(|| {
            format!(
                "{} copied ({}), {} there already",
                images(report.copied),
                size(report.bytes),
                images(report.present)
            )
        });
    } else {
        let mut record = Map::new();
        record.insert("copied".into(), json!(report.copied));
        record.insert("present".into(), json!(report.present));
        record.insert("bytes".into(), json!(report.bytes));
        let failed: Vec<_> =
            report.failed.iter().map(|(image, error)| json!({"image": image, "reason": error.to_string()})).collect();
        record.insert("failed".into(), json!(failed));
        output::show(Records::One(record), &session.format)?;
    }
    if report.failed.is_empty() {
        return Ok(());
    }
    let sentence = format!("{} could not be copied", images(u64::try_from(report.failed.len()).unwrap_or(u64::MAX)));
    Err(Failure::mismatch(Error::new(ErrorKind::Mismatch, sentence).with_hint("`lxd-image check` of FROM says more")))
}
