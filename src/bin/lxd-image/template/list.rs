//! `template list` and `template show`: the templates of an image and their text.
//!
//! Names are untrusted and are escaped in the list. The text of a template is printed byte for byte.

use std::path::PathBuf;

use clap::Args;
use lxd_image::{Error, ErrorKind, Escaped, Result};
use serde_json::{Map, json};

use super::sources::Templates;
use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Records};

/// List the templates of an image and the paths of their files
#[derive(Args)]
pub(super) struct List {
    /// The image, or one file of a split image, or an unpacked image
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
}

/// Prints one row per rule, one per template without a rule, and one per rule whose template is missing.
pub(super) fn list(arguments: &List, session: &Session) -> Result<(), Failure> {
    let templates = Templates::read(&arguments.image, arguments.rootfs.as_deref(), session)?;
    let mut rows = Vec::new();
    let mut row = |name: &[u8], size: Option<usize>, rule: Option<(&str, &lxd_image::TemplateRule)>| {
        let mut row = Map::new();
        row.insert("template".into(), json!(Escaped(name).to_string()));
        row.insert("size".into(), json!(size));
        if let Some((path, rule)) = rule {
            row.insert("path".into(), json!(path));
            row.insert("when".into(), json!(rule.when().collect::<Vec<_>>()));
            row.insert("create_only".into(), json!(rule.create_only()));
        }
        rows.push(row);
    };
    for (name, content) in &templates.files {
        let mut used = false;
        for rule in templates.rules(name) {
            row(name, Some(content.len()), Some(rule));
            used = true;
        }
        if !used {
            row(name, Some(content.len()), None);
        }
    }
    for (path, rule) in templates.metadata.templates() {
        if !templates.files.iter().any(|(name, _)| name == rule.template().as_bytes()) {
            row(rule.template().as_bytes(), None, Some((path, rule)));
        }
    }
    /// Columns of all formats that have columns.
    const COLUMNS: &[&str] = &["template", "size", "path", "when", "create_only"];
    Ok(output::show(Records::Many(COLUMNS, rows), &session.format)?)
}

/// Show the text of one template or of all
#[derive(Args)]
#[command(override_usage = "lxd-image template show [OPTIONS] <IMAGE> [NAME]")]
pub(super) struct Show {
    /// The image, or the metadata file of a split image, or an unpacked image
    image: PathBuf,
    /// The template's name in `templates/`; all of them if it is left out
    name: Option<String>,
}

/// Prints one template, or all of them with a header line each.
///
/// # Errors
/// `NotFound` for a name that the image does not have.
pub(super) fn show(arguments: &Show, session: &Session) -> Result<(), Failure> {
    let templates = Templates::read(&arguments.image, None, session)?;
    if let Some(name) = &arguments.name {
        let (_, content) = templates.files.iter().find(|(known, _)| known == name.as_bytes()).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the image has no template `{name}`"))
                .with_hint("`lxd-image template list` shows their names")
        })?;
        return Ok(output::write(content)?);
    }
    for (name, content) in &templates.files {
        output::line(&format!("==> {} <==", Escaped(name)))?;
        output::write(content)?;
        if !content.ends_with(b"\n") {
            output::line("")?;
        }
    }
    Ok(())
}
