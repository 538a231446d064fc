//! `diff`: what two images hold that is not the same, whatever their form and compression.

use std::path::PathBuf;

use clap::Args;
use lxd_image::format::{Difference, VerifyOptions, differences};
use lxd_image::{Result, Shown};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Facts, Format};

/// Show what differs between two images
#[derive(Args)]
pub(crate) struct Arguments {
    /// The first image
    image_a: PathBuf,
    /// The second image
    image_b: PathBuf,
    /// The rootfs file of the first, if it is split
    #[arg(long, value_name = "FILE")]
    rootfs_a: Option<PathBuf>,
    /// The rootfs file of the second, if it is split
    #[arg(long, value_name = "FILE")]
    rootfs_b: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let first = session.open(&arguments.image_a, arguments.rootfs_a.as_deref())?;
    let second = session.open(&arguments.image_b, arguments.rootfs_b.as_deref())?;
    let (monitor, shown) = session.monitor();
    let mut options = VerifyOptions::new().monitor(monitor);
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let found = differences(&first, &second, &options)?;
    drop(shown);
    if session.format == Format::Table {
        let text: String = found.iter().map(|difference| format!("{}\n", for_people(difference))).collect();
        return Ok(output::write(text.as_bytes())?);
    }
    let rows = found.iter().map(row).collect();
    Ok(output::show(Facts::Many(&["difference", "path", "changes"], rows), &session.format)?)
}

fn for_people(difference: &Difference) -> String {
    let path = Shown(difference.path());
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

/// A value in one line; digests and texts are cut.
fn brief(value: &str) -> String {
    let shown = Shown(value.as_bytes()).to_string();
    match shown.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &shown[..at]),
        None if shown.is_empty() => "nothing".to_owned(),
        None => shown,
    }
}

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
    row.insert("path".into(), json!(Shown(difference.path()).to_string()));
    row.insert("changes".into(), Value::Object(changes));
    row
}
