//! `check`: compares every byte of the store with what the catalog says, and with `--repair` fixes what it can.
//!
//! A check without `--repair` opens the store for reading and changes nothing. `Store::repair` opens the store itself,
//! because a damaged catalog cannot be opened. Findings are results and go to standard output, one per line; the
//! summary is a note. The exit status is 3 as soon as there is a finding, also when it was repaired, so that a script
//! that runs `check` regularly notices damage once.

use clap::Args;
use lxd_image::store::{CheckOptions, CheckReport, Finding, Store};
use lxd_image::{Error, ErrorKind, Escaped, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::store::size;

/// Check the store: hash every image, compare with the catalog
#[derive(Args)]
pub(crate) struct Arguments {
    /// Repair what is found: damaged files go to quarantine, a damaged catalog is rebuilt
    #[arg(long)]
    repair: bool,
}

/// Checks the store, or repairs it with `--repair`, and prints one row per finding.
///
/// # Errors
/// Status 3 if there is any finding, repaired or not, and if the store itself is malformed; otherwise the error of the
/// check: cancelled, busy, I/O.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (monitor, shown) = session.monitor();
    let options = CheckOptions::new().repair(arguments.repair);
    let path = session.store_path()?;
    let checked = if arguments.repair {
        Store::repair(&path, &session.store_options(), &options, &monitor)
    } else {
        session.existing_store_to_read().and_then(|store| store.check(&options, &monitor))
    };
    drop(shown);
    let report = checked.map_err(|error| match error.kind() {
        ErrorKind::Malformed => Failure::mismatch(error),
        _ => error.into(),
    })?;
    if session.format == Format::Table {
        for finding in &report.findings {
            let mut text = finding.to_string();
            if let Some(reason) = left(finding, &report).filter(|reason| !text.contains(*reason)) {
                text = format!("{text} (left as it is: {reason})");
            }
            output::line(&Escaped(text.as_bytes()).to_string())?;
        }
        session.note(|| {
            format!("{} images, {} hashed, {} leftovers swept", report.images, size(report.bytes), report.swept)
        });
    } else {
        let rows = report.findings.iter().map(|finding| row(finding, &report, arguments.repair)).collect();
        output::show(Records::Many(&["finding", "state", "reason"], rows), &session.format)?;
    }
    if report.is_clean() {
        return Ok(());
    }
    let (found, left) = (report.findings.len(), report.unrepaired.len());
    let (what, hint) = match found.saturating_sub(left) {
        _ if !arguments.repair => (format!("{} found in the store", things(found)), Some(REPAIR)),
        0 => (format!("{} found in the store and left as found", things(found)), None),
        repaired if left == 0 => (format!("{} put right in the store", things(repaired)), None),
        repaired => (format!("{} put right in the store, {} left as found", things(repaired), things(left)), None),
    };
    let error = Error::new(ErrorKind::Mismatch, what);
    Err(Failure::mismatch(match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }))
}

/// Hint of a check that found something and was not allowed to repair it.
const REPAIR: &str = "`lxd-image check --repair` puts right what can be";

/// A number of findings as the subject of a sentence, with its verb.
fn things(count: usize) -> String {
    if count == 1 { "1 thing was".to_owned() } else { format!("{count} things were") }
}

/// The reason why a repair left this finding, or `None` if it repaired it.
fn left<'a>(finding: &Finding, report: &'a CheckReport) -> Option<&'a str> {
    let left = report.unrepaired.iter().find(|left| left.finding == *finding);
    left.map(|left| left.reason.as_str())
}

/// One finding for JSON, YAML, CSV and templates: its text, what happened to it, and why it was left.
fn row(finding: &Finding, report: &CheckReport, repair: bool) -> Map<String, Value> {
    let left = left(finding, report);
    let state = match left {
        _ if !repair => "found",
        None => "put right",
        Some(_) => "left",
    };
    let mut row = Map::new();
    row.insert("finding".into(), json!(finding.to_string()));
    row.insert("state".into(), json!(state));
    row.insert("reason".into(), json!(left.unwrap_or_default()));
    row
}
