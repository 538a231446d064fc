//! `template check`: parses all templates of an image and reports position and reason of each error.
//!
//! Warns about constructs that are valid but surely not intended, about templates that no rule uses, and about events
//! that never occur. A rule without its template is an error. The exit status is 1 if there is any error; warnings do
//! not count.

use std::path::PathBuf;

use clap::Args;
use lxd_image::templates::{Template, Trigger};
use lxd_image::{Error, ErrorKind, Escaped, Result};
use serde_json::{Map, Value, json};

use super::dialect::DialectArgument;
use super::sources::Templates;
use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Records};

/// Parse all templates of an image, and report errors
#[derive(Args)]
pub(super) struct Arguments {
    /// The image, or one file of a split image, or an unpacked image
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
    /// The template dialect
    #[arg(long, value_enum, default_value_t = DialectArgument::Lxd)]
    dialect: DialectArgument,
}

/// Checks all templates and prints one row per result.
///
/// # Errors
/// `Template` with the number of errors.
pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let templates = Templates::read(&arguments.image, arguments.rootfs.as_deref(), session)?;
    let mut rows = Vec::new();
    let mut broken = 0;
    for (name, content) in &templates.files {
        let shown = Escaped(name).to_string();
        let parsed = Template::parse(content, arguments.dialect.into(), &session.limits);
        match parsed {
            Ok(template) => {
                let warnings = template.warnings();
                if warnings.is_empty() {
                    rows.push(row(&shown, "ok", None, ""));
                }
                for warning in warnings {
                    rows.push(row(&shown, "warning", Some((warning.line, warning.column)), warning.message));
                }
            }
            Err(error) => {
                broken += 1;
                let place = error.template_place().and_then(|place| place.position);
                rows.push(row(&shown, "error", place, &format!("error[{}]: {}", error.kind(), error.message())));
            }
        }
        if templates.rules(name).next().is_none() {
            rows.push(row(&shown, "warning", None, "no rule in metadata.yaml uses it"));
        }
    }
    for (path, rule) in templates.metadata.templates() {
        let shown = Escaped(rule.template().as_bytes()).to_string();
        if !templates.files.iter().any(|(name, _)| name == rule.template().as_bytes()) {
            broken += 1;
            rows.push(row(&shown, "error", None, &format!("the rule for `{path}` names it, and it is not there")));
        }
        for event in rule.when().filter(|event| event.parse::<Trigger>().is_err()) {
            let message = format!("the rule for `{path}` waits for `{event}`, which never comes");
            rows.push(row(&shown, "warning", None, &message));
        }
    }
    let count = templates.files.len();
    /// Columns of all formats that have columns.
    const COLUMNS: &[&str] = &["template", "result", "place", "message"];
    output::show(Records::Many(COLUMNS, rows), &session.format)?;
    if broken > 0 {
        let errors = if broken == 1 { "error" } else { "errors" };
        let message = format!("{broken} {errors} in the templates of this image, which has {count}");
        return Err(Error::new(ErrorKind::Template, message).into());
    }
    Ok(())
}

/// One result as a record. `place` is line and column, both counted from 1, and empty if the result is not about a
/// position.
fn row(name: &str, result: &str, place: Option<(u32, u32)>, message: &str) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("template".into(), json!(name));
    row.insert("result".into(), json!(result));
    row.insert("place".into(), json!(place.map(|(line, column)| format!("{line}:{column}"))));
    row.insert("message".into(), json!(message));
    row
}
