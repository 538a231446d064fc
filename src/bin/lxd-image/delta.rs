//! `delta`: makes and applies differences between two versions of a file, in the format of `xdelta3`.
//!
//! `xdelta3` applies what `delta make` writes, and `delta apply` reads what `xdelta3` writes. Image servers offer such
//! deltas of the rootfs files of images; `copy`, `refresh` and `mirror` use them by themselves.
//!
//! The old file is read at random places, so it must be a file. A delta may come from standard input, and the output of
//! both verbs may go to standard output.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lxd_image::delta::{self, AppliedDelta, DeltaOptions};
use lxd_image::io::Blob;
use lxd_image::{Error, ErrorKind, Fingerprint, Result};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Records};
use crate::signals::CancellableReader;
use crate::store::size;

/// Make and apply differences between two versions of a file
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Make(Make),
    Apply(Apply),
}

/// Write the delta that makes NEW out of OLD
#[derive(Args)]
struct Make {
    /// The old version
    old: PathBuf,
    /// The new version
    new: PathBuf,
    /// The delta to write; `-` is standard output
    out: PathBuf,
    /// How hard to compress, from 1 (fast) to 9 (small); 0 does not compress
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(0..=9))]
    level: u32,
}

/// Make the new version out of OLD and a delta
#[derive(Args)]
struct Apply {
    /// The old version, from which the delta was made
    old: PathBuf,
    /// The delta; `-` is standard input
    delta: PathBuf,
    /// The new version to write; `-` is standard output
    out: PathBuf,
    /// The sha256 that the new version must have
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

/// Runs the selected verb.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::Make(verb) => Ok(make(verb, session)?),
        Verb::Apply(verb) => Ok(apply(verb, session)?),
    }
}

/// Makes a delta and prints its size.
///
/// # Errors
/// `NotFound` for a file that does not exist; `AlreadyExists` for an output that does.
fn make(arguments: &Make, session: &Session) -> Result<()> {
    let (old, new) = (open(&arguments.old)?, open(&arguments.new)?);
    let (monitor, shown) = session.monitor();
    let mut options = DeltaOptions::new().level(arguments.level);
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let to_stream = arguments.out == Path::new("-");
    let report = if to_stream {
        delta::make(&old, &new, output::Stdout, &options, &monitor)
    } else {
        delta::make_file(&old, &new, &arguments.out, &options, &monitor)
    };
    drop(shown);
    let report = report?;
    let rows = [
        ("size", report.delta_bytes),
        ("old_size", report.base_bytes),
        ("new_size", report.new_bytes),
        ("copied", report.copied_bytes),
        ("windows", report.windows),
    ];
    show(&rows, to_stream, session)
}

/// Applies a delta and prints the size of the result.
///
/// # Errors
/// `NotFound` for a file that does not exist; `AlreadyExists` for an output that does; `Mismatch` for another old version
/// and for another result than `--fingerprint`; those of a broken delta.
fn apply(arguments: &Apply, session: &Session) -> Result<()> {
    let expected = arguments.fingerprint.as_deref().map(str::parse::<Fingerprint>).transpose()?;
    let old = open(&arguments.old)?;
    let delta = CancellableReader::open(&arguments.delta).map_err(|error| unreadable(error, &arguments.delta))?;
    let to_stream = arguments.out == Path::new("-");
    if to_stream && expected.is_some() {
        let sentence = "`--fingerprint` has no effect on standard output, which has the bytes before they are compared";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("write to a file"));
    }
    let (monitor, shown) = session.monitor();
    let report = if to_stream {
        delta::apply(&old, delta, output::Stdout, &session.limits, &monitor)
    } else {
        delta::apply_file(&old, delta, &arguments.out, expected.as_ref(), &session.limits, &monitor)
    };
    drop(shown);
    let AppliedDelta { delta_bytes, output_bytes, copied_bytes, windows, checksums, .. } =
        report.map_err(|error| error.in_file(&arguments.delta))?;
    if !checksums && expected.is_none() && output_bytes > 0 {
        session.note(|| "note: the delta has no checksums: nothing shows whether OLD was the right file".to_owned());
    }
    let rows = [("size", output_bytes), ("delta_size", delta_bytes), ("copied", copied_bytes), ("windows", windows)];
    show(&rows, to_stream, session)
}

/// Prints numbers as the result, or on standard error where the output went to standard output.
fn show(rows: &[(&str, u64)], to_stream: bool, session: &Session) -> Result<()> {
    if to_stream {
        session.explain(|| {
            let shown = rows.iter().map(|(name, value)| format!("{name} {value}"));
            shown.collect::<Vec<_>>().join(", ")
        });
        return Ok(());
    }
    let for_people = matches!(session.format, output::Format::Table | output::Format::Compact);
    let value = |name: &str, value: u64| match name {
        "windows" => Value::from(value),
        _ if for_people => Value::from(size(value)),
        _ => Value::from(value),
    };
    let record: Map<String, Value> =
        rows.iter().map(|(name, number)| ((*name).to_owned(), value(name, *number))).collect();
    output::show(Records::One(record), &session.format)
}

/// Opens a file that is read at random places.
fn open(path: &Path) -> Result<Blob> {
    if path == Path::new("-") {
        let sentence = "the old and the new version are read at random places: they can't be standard input";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("save it to a file first"));
    }
    File::open(path).and_then(Blob::file).map_err(|error| unreadable(error, path))
}

/// The error for a file that can't be opened.
fn unreadable(error: std::io::Error, path: &Path) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
        _ => ErrorKind::Io,
    };
    Error::new(kind, "the file can't be opened").with_source(error).in_file(path)
}
