//! `diff`: compares the content of two images, whatever their form and codec.
//!
//! Differences are printed while they are found, sorted by path, and never collected: the comparison of two large
//! images needs constant memory (`Limits::diff_memory`, beyond which it sorts on disk). JSON is written element by
//! element so that the whole is one valid list. Tables without lines and in Markdown wait for the last row, because their columns are
//! as wide as the widest cell.
//!
//! Exit statuses are those of diff(1): 0 for equal content, 1 for differences, 2 for an error.

use std::path::PathBuf;

use clap::Args;
use lxd_image::format::{Difference, VerifyOptions, for_each_difference};
use lxd_image::{Escaped, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::store::TypeArgument;

/// Show what differs between two images
///
/// Compares metadata, templates, and every member of the root file system with its attributes and content, or the
/// disk; form and compression do not count. Times are compared by the whole second where one of the two has no
/// fraction, as in SquashFS and old archives. Exit status: 0 when the images hold the same, 1 when they differ, 2 for
/// an error, as diff(1) has it.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The first image; `-` is standard input
    image_a: PathBuf,
    /// The second image; `-` is standard input
    image_b: PathBuf,
    /// The rootfs file of the first, if it is split
    #[arg(long, value_name = "FILE")]
    rootfs_a: Option<PathBuf>,
    /// The rootfs file of the second, if it is split
    #[arg(long, value_name = "FILE")]
    rootfs_b: Option<PathBuf>,
}

/// Rows that are printed together, in formats where rows can be printed one by one.
const ROWS_PER_BATCH: usize = 1_000;

/// Compares the images. "They differ" is a result and not an error, so it has no message; its status is 1.
///
/// # Errors
/// Any failure has the status 2, as in diff(1), unless it has a more specific one.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match compare(arguments, session) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::differs()),
        Err(error) => Err(Failure::from(error).with_diff_status()),
    }
}

/// Prints the differences while they are found; returns whether there are any.
fn compare(arguments: &Arguments, session: &Session) -> Result<bool> {
    let first = session.open(&arguments.image_a, arguments.rootfs_a.as_deref(), TypeArgument::default())?;
    let second = session.open(&arguments.image_b, arguments.rootfs_b.as_deref(), TypeArgument::default())?;
    let (monitor, shown) = session.monitor();
    let mut options = VerifyOptions::new();
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let mut out = DifferencePrinter { format: &session.format, text: String::new(), rows: Vec::new(), any: false };
    for_each_difference(&first, &second, &options, &monitor, &mut |difference| out.take(&difference))?;
    drop(shown);
    out.finish()
}

/// Collects differences and prints them in batches.
struct DifferencePrinter<'a> {
    format: &'a Format,
    /// Text that is not printed yet (table and JSON).
    text: String,
    /// Rows that are not printed yet (all other formats).
    rows: Vec<Map<String, Value>>,
    /// Whether there was any difference so far.
    any: bool,
}

impl DifferencePrinter<'_> {
    /// Takes the next difference and prints what has accumulated once it is enough.
    fn take(&mut self, difference: &Difference) -> Result<()> {
        match self.format {
            Format::Table => {
                self.text.push_str(&for_people(difference));
                self.text.push('\n');
            }
            // Write the list element by element: collecting it would need memory for all differences.
            Format::Json => {
                self.text.push_str(if self.any { ",\n" } else { "[\n" });
                let row = output::json(&Value::Object(row(difference)))?;
                self.text.push_str("  ");
                self.text.push_str(&row.replace('\n', "\n  "));
            }
            _ => self.rows.push(row(difference)),
        }
        self.any = true;
        // Some formats must wait for all rows: columns are as wide as the widest cell, and a header stands once.
        if self.text.len() >= 64 << 10 || (self.rows.len() >= ROWS_PER_BATCH && !self.format.needs_all_rows()) {
            self.write()?;
        }
        Ok(())
    }

    /// Prints what has accumulated. Must not be called for the compact table before the end.
    fn write(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            output::show(Records::Many(COLUMNS, rows), self.format)?;
        }
        output::write(std::mem::take(&mut self.text).as_bytes())
    }

    /// Prints the rest and closes the JSON list; returns whether there was any difference.
    fn finish(mut self) -> Result<bool> {
        match (self.format, self.any) {
            (Format::Table, _) | (_, true) => {}
            _ => output::show(Records::Many(COLUMNS, Vec::new()), self.format)?,
        }
        if *self.format == Format::Json && self.any {
            self.text.push_str("\n]\n");
        }
        self.write()?;
        Ok(self.any)
    }
}

/// Columns of all formats that have columns.
const COLUMNS: &[&str] = &["difference", "path", "changes"];

/// A difference as one line: `-` only in the first image, `+` only in the second, `~` changed, with the attributes.
fn for_people(difference: &Difference) -> String {
    let path = Escaped(difference.path());
    match difference {
        Difference::OnlyInFirst(_) => format!("- {path}"),
        Difference::OnlyInSecond(_) => format!("+ {path}"),
        Difference::Changed(_, changes) => {
            let changes: Vec<String> = changes
                .iter()
                .map(|(what, first, second)| format!("{what} {} → {}", brief(first), brief(second)))
                .collect();
            format!("~ {path}: {}", changes.join(", "))
        }
        _ => format!("? {path}"),
    }
}

/// A value on one line; digests and long texts are truncated.
fn brief(value: &str) -> String {
    let shown = Escaped(value.as_bytes()).to_string();
    match shown.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &shown[..at]),
        None if shown.is_empty() => "nothing".to_owned(),
        None => shown,
    }
}

/// A difference for programs: kind, path, and a map from each attribute to its two values.
fn row(difference: &Difference) -> Map<String, Value> {
    let (kind, changes) = match difference {
        Difference::OnlyInFirst(_) => ("removed", Vec::new()),
        Difference::OnlyInSecond(_) => ("added", Vec::new()),
        Difference::Changed(_, changes) => ("changed", changes.clone()),
        _ => ("other", Vec::new()),
    };
    let changes: Map<String, Value> =
        changes.into_iter().map(|(what, first, second)| (what, json!([first, second]))).collect();
    let mut row = Map::new();
    row.insert("difference".into(), json!(kind));
    row.insert("path".into(), json!(Escaped(difference.path()).to_string()));
    row.insert("changes".into(), Value::Object(changes));
    row
}
