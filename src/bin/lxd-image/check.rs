//! `check`: every byte of the store compared with what it must be.

use clap::Args;
use lxd_image::store::{CheckOptions, Finding, Store};
use lxd_image::{Error, ErrorKind, Result, Shown};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Facts, Format};
use crate::store::size;

/// Check the store: hash every image, compare with the catalog
#[derive(Args)]
pub(crate) struct Arguments {
    /// Put right what is found: damaged files go to quarantine, a damaged catalog is made anew
    #[arg(long)]
    repair: bool,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (monitor, shown) = session.monitor();
    let options = CheckOptions::new().repair(arguments.repair).monitor(monitor);
    let path = session.store_path()?;
    let checked = if arguments.repair {
        Store::repair(&path, &session.store_options(), &options)
    } else {
        session.store_options().create(false).open(&path).and_then(|store| store.check(&options))
    };
    drop(shown);
    let report = checked.map_err(|error| match error.kind() {
        ErrorKind::Malformed => Failure::mismatch(error),
        _ => error.into(),
    })?;
    if session.format == Format::Table {
        for finding in &report.findings {
            output::line(&Shown(finding.to_string().as_bytes()).to_string())?;
        }
        session.note(|| {
            format!("{} images, {} hashed, {} leftovers swept", report.images, size(report.bytes), report.swept)
        });
    } else {
        let rows = report.findings.iter().map(row).collect();
        output::show(Facts::Many(&["finding"], rows), &session.format)?;
    }
    if report.is_clean() {
        return Ok(());
    }
    let what = if arguments.repair { "put right" } else { "found" };
    let error = Error::new(ErrorKind::Mismatch, format!("{} things were {what} in the store", report.findings.len()));
    Err(Failure::mismatch(if arguments.repair {
        error
    } else {
        error.with_hint("`lxd-image check --repair` puts them right")
    }))
}

fn row(finding: &Finding) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("finding".into(), json!(finding.to_string()));
    row
}
