//! `template apply`: applies the templates of an unpacked image at an event of the instance.
//!
//! Prints one row per rule (created, replaced, unchanged, skipped, failed), also when a rule failed. Without
//! `--keep-going` the first failure stops; each file is replaced atomically, so a failed rule leaves its file as it
//! was. `--dry-run` writes nothing and prints a unified diff per file. Paths are resolved inside the root file system
//! as a process of the instance would resolve them.

use std::path::PathBuf;

use clap::Args;
use lxd_image::format::IdMap;
use lxd_image::templates::{ApplyError, ApplyOptions, ApplyReport, Context, InstanceDir, Trigger, apply};
use lxd_image::{Error, Result};
use serde_json::{Map, Value, json};

use super::context;
use super::dialect::DialectArgument;
use super::difference::difference;
use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};

/// Apply the templates of an unpacked image at an event
#[derive(Args)]
pub(super) struct Arguments {
    /// The unpacked image: a directory with `metadata.yaml`, `templates/` and `rootfs/`
    dest: PathBuf,
    /// The event
    #[arg(long, value_name = "create|copy|rename|start", value_parser = trigger)]
    trigger: Trigger,
    /// A JSON file with the context of the templates: container, config, devices
    #[arg(long, value_name = "FILE.json")]
    context: Option<PathBuf>,
    /// The instance's name, if there is no --context
    #[arg(long, value_name = "NAME", conflicts_with = "context")]
    name: Option<String>,
    /// The template dialect
    #[arg(long, value_enum, default_value_t = DialectArgument::Lxd)]
    dialect: DialectArgument,
    /// Show what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Continue with the other files if one fails
    #[arg(long)]
    keep_going: bool,
    /// Shift owners, as INSIDE:OUTSIDE:COUNT, several by commas
    #[arg(long, value_name = "MAP")]
    map_ids: Option<IdMap>,
    /// For a virtual machine: write `NAME.out` files for its agent into this directory
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Parses the event for clap.
fn trigger(text: &str) -> std::result::Result<Trigger, String> {
    text.parse().map_err(|error: Error| error.message().to_owned())
}

/// Applies the templates and prints one row per rule, also if one failed.
///
/// # Errors
/// That of the first failed rule; those of reading the metadata and the context.
pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let instance = InstanceDir::open(&arguments.dest)?;
    let metadata = instance.metadata(&session.limits)?;
    let context = match (&arguments.context, &arguments.name) {
        (Some(path), _) => context::read(path)?,
        (None, Some(name)) => Context::new().instance([("name", &**name)]),
        (None, None) => {
            if metadata.templates().any(|(_, rule)| rule.fires_on(arguments.trigger.name())) {
                session.note(|| {
                    "warning: without --name or --context the instance has no name, and files such as /etc/hostname become empty"
                        .to_owned()
                });
            }
            Context::new()
        }
    };
    let (monitor, _shown) = session.monitor();
    let mut options = ApplyOptions::new()
        .dialect(arguments.dialect.into())
        .limits(session.limits.clone())
        .dry_run(arguments.dry_run)
        .keep_going(arguments.keep_going);
    if let Some(ids) = arguments.map_ids.clone() {
        options = options.shift_owners(move |id| ids.shift(id));
    }
    if let Some(output) = &arguments.output {
        options = options.output(output);
    }
    let (applied, error) = match apply(&instance, metadata.templates(), arguments.trigger, &context, &options, &monitor)
    {
        Ok(applied) => (applied, None),
        Err(ApplyError { report, error, .. }) => (report, Some(error.in_file(&arguments.dest))),
    };
    print(&applied, arguments.dry_run, session)?;
    error.map_or(Ok(()), |error| Err(error.into()))
}

/// Prints the outcome of each rule, or a diff of each file for a dry run.
fn print(applied: &ApplyReport, dry_run: bool, session: &Session) -> Result<()> {
    if dry_run && session.format == Format::Table {
        for outcome in &applied.outcomes {
            match &outcome.change {
                Some(change) => output::write(difference(&outcome.path, change).as_bytes())?,
                None => session.explain(|| {
                    let path = lxd_image::Escaped(outcome.path.as_bytes());
                    format!("{path}: {} ({})", outcome.action.name(), outcome.action)
                }),
            }
        }
        return Ok(());
    }
    /// Columns of all formats that have columns; `old` and `new` are in JSON and YAML only.
    const COLUMNS: &[&str] = &["path", "template", "done", "mode", "owner", "size", "why"];
    let rows = applied.outcomes.iter().map(row).collect();
    output::show(Records::Many(COLUMNS, rows), &session.format)
}

/// The outcome of one rule as a record. Mode, owner and size are those of the file afterwards; old and new content are
/// there after a dry run only.
fn row(outcome: &lxd_image::templates::RuleOutcome) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("path".into(), json!(outcome.path));
    row.insert("template".into(), json!(outcome.template));
    row.insert("done".into(), json!(outcome.action.name()));
    if let Some(target) = outcome.action.file() {
        row.insert("mode".into(), json!(format!("{:04o}", target.mode)));
        row.insert("owner".into(), json!(format!("{}:{}", target.uid, target.gid)));
        row.insert("size".into(), json!(target.size));
    }
    row.insert("why".into(), json!(outcome.action.to_string()));
    if let Some(change) = &outcome.change {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        row.insert("old".into(), json!(change.old.as_deref().map(text)));
        row.insert("new".into(), json!(text(&change.new)));
    }
    row
}
