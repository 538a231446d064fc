//! `template render`: renders one template to standard output, byte for byte as LXD or Incus would.
//!
//! For authors of templates. Warnings and errors name line and column.

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::templates::{Context, Template};
use lxd_image::{Error, ErrorKind, Result};

use super::context;
use super::dialect::DialectArgument;
use crate::failure::Failure;
use crate::options::Session;
use crate::output;

/// Render one template to standard output
#[derive(Args)]
pub(super) struct Arguments {
    /// The template; `-` is standard input
    file: PathBuf,
    /// A JSON file with the context of the template: container, config, devices, properties, trigger, path
    #[arg(long, value_name = "FILE.json")]
    context: Option<PathBuf>,
    /// The template dialect
    #[arg(long, value_enum, default_value_t = DialectArgument::Lxd)]
    dialect: DialectArgument,
}

/// Renders the template and prints the result.
///
/// # Errors
/// `InvalidInput` if template and context are both standard input; `Template` and `LimitExceeded` with line and column.
pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let stdin = Path::new("-");
    if arguments.file == stdin && arguments.context.as_deref() == Some(stdin) {
        let message = "the template and the context can't both come from standard input";
        return Err(Error::new(ErrorKind::InvalidInput, message).into());
    }
    let context = match &arguments.context {
        Some(path) => context::read(path)?,
        None => Context::new(),
    };
    let source = context::bytes(&arguments.file, session.limits.template_file)?;
    let named = |error: Error| error.in_file(&arguments.file);
    let template = Template::parse(&source, arguments.dialect.into(), &session.limits).map_err(named)?;
    for warning in template.warnings() {
        session.note(|| format!("warning: line {}, column {}: {}", warning.line, warning.column, warning.message));
    }
    Ok(output::write(&template.render_until(&context, &session.limits, &session.cancel()).map_err(named)?)?)
}
