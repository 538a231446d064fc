//! `refresh`: fetches newer versions of images that have auto-update, now.
//!
//! For each image the source's alias is resolved again; if it means another image, that one is copied and takes over
//! the aliases, properties and flags. A source with a name in the settings is connected with the settings of that
//! remote, so that its pinned certificate and permission for plain HTTP apply. Failures of one image do not stop the
//! others.

use clap::Args;
use lxd_image::remote::RemoteRefresh;
use lxd_image::store::{RefreshOptions, Refreshed, StoredImage};
use lxd_image::{Escaped, Fingerprint, Result};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::policy::PolicyArgument;
use crate::store::{TypeArgument, images, name_of, resolve};

/// Update images with auto-update now
#[derive(Args)]
pub(crate) struct Arguments {
    /// Aliases, fingerprints or prefixes of fingerprints (default: all images with auto-update)
    references: Vec<String>,
    #[command(flatten)]
    which: TypeArgument,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Allow plain HTTP to other machines
    #[arg(long)]
    allow_http: bool,
    #[command(flatten)]
    policy: PolicyArgument,
}

/// Refreshes the named images, or all with auto-update, and prints each that was replaced.
///
/// # Errors
/// The last error, after all images were tried; earlier ones are printed. Naming an image without a source is not an
/// error.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    arguments.policy.apply(session);
    let store = session.store()?;
    let (monitor, shown) = session.monitor();
    let client = session.client_options().allow_http(arguments.allow_http);
    // A source with a named remote uses that remote's settings: pinned certificate, plain HTTP.
    let settings = session.settings()?;
    let sources = RemoteRefresh::new(move |source| settings.open_source(source, client.clone())).deltas_from(&store);
    let options = RefreshOptions::new().dry_run(arguments.dry_run);
    let done: Vec<(StoredImage, Result<Refreshed>)> = if arguments.references.is_empty() {
        store.refresh_all(&sources, &options, &monitor)?
    } else {
        let images = arguments.references.iter().map(|name| resolve(&store, name, arguments.which));
        let images = images.collect::<Result<Vec<_>>>()?;
        images
            .into_iter()
            .map(|image| {
                let result = store.refresh(&image.fingerprint, &sources, &options, &monitor);
                (image, result)
            })
            .collect()
    };
    drop(shown);
    let (mut failed, mut current, mut replaced) = (None, 0_u64, 0_u64);
    let mut rows = Vec::new();
    for (image, result) in done {
        let name = name_of(&image);
        let name = Escaped(name.as_bytes()).to_string();
        match result {
            Ok(Refreshed::Replaced { fingerprint: new }) => {
                replaced += 1;
                if matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_)) {
                    rows.push(row(&name, &image, &new));
                } else {
                    output::line(&format!("{name}: {} → {}", image.fingerprint.short(), new.short()))?;
                }
            }
            Ok(Refreshed::Current) => {
                current += 1;
                session.explain(|| format!("{name}: is the newest"));
            }
            Ok(_) => session.note(|| format!("{name}: follows no source")),
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    eprintln!("error[{}]: {earlier}", earlier.kind());
                }
            }
        }
    }
    if matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_)) {
        output::show(Records::Many(&["name", "old", "new"], rows), &session.format)?;
    }
    if failed.is_none() && replaced == 0 {
        session.note(|| match current {
            0 => "no image follows a source".to_owned(),
            count => format!("{}: all up to date", images(count)),
        });
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// One replaced image for programs.
fn row(name: &str, old: &StoredImage, new: &Fingerprint) -> Map<String, Value> {
    let cells = [("name", name.to_owned()), ("old", old.fingerprint.to_string()), ("new", new.to_string())];
    cells.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}
