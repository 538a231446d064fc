//! `list`: the images of the store, in a table like `lxc image list`'s.

use clap::Args;
use lxd_image::store::{Filter, StoredImage};
use lxd_image::{Error, ErrorKind, Result, Shown};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Facts, Format};
use crate::store;

/// List images
#[derive(Args)]
pub(crate) struct Arguments {
    /// A remote and a colon, to list what is there; words (part of an alias, beginning of a fingerprint) and key=value pairs; all must match
    filters: Vec<String>,
    /// l alias, L all aliases, f fingerprint, F the whole of it, p public, d description, a architecture,
    /// t type, s size, u upload date, e expiry, c cached, U last use
    #[arg(short, long, default_value = "lfpdatsu", value_name = "LETTERS")]
    columns: String,
    /// Say of images that nearly match why they do not
    #[arg(long)]
    explain: bool,
}

type Column = (&'static str, fn(&StoredImage) -> String);

fn yes(flag: bool) -> String {
    (if flag { "yes" } else { "no" }).to_owned()
}

fn column(letter: char) -> Result<Column> {
    Ok(match letter {
        'l' => ("alias", |image| match image.aliases.as_slice() {
            [] => String::new(),
            [one] => one.name.clone(),
            [one, more @ ..] => format!("{} ({} more)", one.name, more.len()),
        }),
        'L' => {
            ("aliases", |image| image.aliases.iter().map(|alias| alias.name.as_str()).collect::<Vec<_>>().join("\n"))
        }
        'f' => ("fingerprint", |image| image.fingerprint.short()),
        'F' => ("fingerprint", |image| image.fingerprint.to_string()),
        'p' => ("public", |image| yes(image.public)),
        'd' => ("description", |image| image.properties.get("description").unwrap_or_default().to_owned()),
        'a' => ("architecture", |image| image.architecture.to_string()),
        't' => ("type", |image| image.image_type.name().to_uppercase()),
        's' => ("size", |image| store::size(image.size)),
        'u' => ("upload date", |image| store::time(Some(image.uploaded_at), "")),
        'e' => ("expires at", |image| store::time(image.expires_at, "never")),
        'c' => ("cached", |image| yes(image.cached)),
        'U' => ("last used at", |image| store::time(image.last_used_at, "never")),
        other => {
            return Err(Error::new(ErrorKind::InvalidInput, format!("`{other}` is no column"))
                .with_hint("the columns are l L f F p d a t s u e c U"));
        }
    })
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let columns = arguments.columns.chars().filter(|letter| *letter != ',').map(column).collect::<Result<Vec<_>>>()?;
    let mut filters: Vec<Filter> = Vec::new();
    let mut remote = None;
    for (index, text) in arguments.filters.iter().enumerate() {
        let mut text = text.as_str();
        // As with `lxc`, the first word may name a remote, and what is behind its colon is a filter.
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
    let images = match remote {
        None => session.store_to_read()?.list(&filters)?,
        Some(name) => {
            let (monitor, shown) = session.monitor();
            let listed = session.remote(name).and_then(|remote| remote.list(&monitor));
            drop(shown);
            Filter::select(listed?, &filters)
        }
    };
    let whole = matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_));
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let rows = images
        .iter()
        .map(|image| {
            if whole {
                return store::object(image);
            }
            let cells = columns.iter().map(|(name, cell)| ((*name).to_owned(), Value::String(cell(image))));
            cells.collect::<Map<_, _>>()
        })
        .collect();
    output::show(Facts::Many(&names, rows), &session.format)?;
    if arguments.explain && remote.is_none() {
        let misses = session.store_to_read()?.explain(&filters)?;
        let fewest = misses.first().map_or(0, |miss| miss.reasons.len());
        for miss in misses.iter().filter(|miss| miss.reasons.len() == fewest) {
            let name =
                miss.image.aliases.first().map_or_else(|| miss.image.fingerprint.short(), |alias| alias.name.clone());
            eprintln!("{}: {}", Shown(name.as_bytes()), Shown(miss.reasons.join("; ").as_bytes()));
        }
    }
    Ok(())
}
