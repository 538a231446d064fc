//! `list`: the images of the store or of a remote, in a table like that of `lxc image list`.
//!
//! A registry has no list of images: its tags are listed, or its repositories ([`registry`]).
//!
//! The first argument may name a remote; all other arguments are filters (`Filter`), which must all match. Tables and
//! CSV show the columns that `--columns` selects by letter; JSON, YAML and templates get the whole image as the REST
//! API writes it. `--explain` prints on standard error which filters the nearest misses fail.

use clap::Args;
use lxd_image::store::{Column, Filter};
use lxd_image::{Error, ErrorKind, Escaped};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::{registry, store};

/// The columns without `--columns`.
const DEFAULT_COLUMNS: &str = "lfpdatsu";

/// List images, or the tags in a registry
#[derive(Args)]
pub(crate) struct Arguments {
    /// A remote and a colon, to list its images, or `NAME:REPOSITORY/` for the tags in a registry; words (part of an
    /// alias, prefix of a fingerprint) and key=value pairs, where the value may be a regular expression or what the
    /// table shows; all must match
    filters: Vec<String>,
    /// l alias, L all aliases, f fingerprint, F the whole of it, p public, d description, a architecture,
    /// t type, s size, u upload date, e expiry, c cached, U last use; json and yaml show everything
    #[arg(short, long, default_value = DEFAULT_COLUMNS, value_name = "LETTERS")]
    columns: String,
    /// Show why the nearest misses do not match
    #[arg(long)]
    explain: bool,
}

/// The values of a column: one as it is, several (aliases) one below the other.
fn cell(mut values: Vec<String>) -> Value {
    if values.len() == 1 { Value::String(values.remove(0)) } else { Value::from(values) }
}

/// Lists the images that match all filters.
///
/// # Errors
/// `InvalidInput` for an unknown column letter or a malformed filter; those of the store or the remote.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    if let Some((name, path)) = arguments.filters.first().and_then(|text| text.split_once(':'))
        && !name.contains('=')
        && let Some(registry) = session.registry(name)?
    {
        if arguments.explain || arguments.columns != DEFAULT_COLUMNS {
            let sentence = "`--columns` and `--explain` are for images, and a registry lists tags";
            return Err(Error::new(ErrorKind::InvalidInput, sentence).into());
        }
        let words = arguments.filters.get(1..).unwrap_or_default();
        return registry::list(&registry, name, path, words, session);
    }
    let columns = Column::parse(&arguments.columns)?;
    let mut filters: Vec<Filter> = Vec::new();
    let mut remote = None;
    for (index, text) in arguments.filters.iter().enumerate() {
        let mut text = text.as_str();
        // As with `lxc`, the first argument may name a remote; the text after its colon is a filter.
        if index == 0
            && !text.contains('=')
            && let Some((name, rest)) = text.split_once(':')
        {
            remote = (name != "local").then_some(name);
            text = rest;
            if text.is_empty() {
                continue;
            }
        }
        filters.push(text.strip_prefix("local:").unwrap_or(text).parse()?);
    }
    let all = match remote {
        None => session.listed_images()?,
        Some(name) => {
            let (monitor, shown) = session.monitor();
            let listed = session.remote(name).and_then(|remote| remote.list(&monitor));
            drop(shown);
            listed?
        }
    };
    let images = Filter::select(all.clone(), &filters);
    let whole = matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_));
    let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
    let rows = images
        .iter()
        .map(|image| {
            if whole {
                return store::object(image);
            }
            let cells = columns.iter().map(|column| (column.name().to_owned(), cell(column.values(image))));
            cells.collect::<Map<_, _>>()
        })
        .collect();
    output::show(Records::Many(&names, rows), &session.format)?;
    if arguments.explain {
        let misses = Filter::explain(all, &filters);
        let fewest = misses.first().map_or(0, |miss| miss.reasons.len());
        for miss in misses.iter().filter(|miss| miss.reasons.len() == fewest) {
            let name = store::name_of(&miss.image);
            eprintln!("{}: {}", Escaped(name.as_bytes()), Escaped(miss.reasons.join("; ").as_bytes()));
        }
    }
    Ok(())
}
