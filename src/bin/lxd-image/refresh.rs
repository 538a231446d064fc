//! `refresh`: images that follow a source, brought up to date.

use clap::Args;
use lxd_image::remote::Upstreams;
use lxd_image::store::{RefreshOptions, Refreshed, StoredImage};
use lxd_image::{Result, Shown};

use crate::failure::Failure;
use crate::options::Session;
use crate::output;
use crate::store::resolve;

/// Update images that follow a source, now
#[derive(Args)]
pub(crate) struct Arguments {
    /// Aliases, fingerprints or beginnings of fingerprints (default: all that follow a source)
    references: Vec<String>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Speak plain http with other machines than this one
    #[arg(long)]
    allow_http: bool,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let store = session.store()?;
    let (monitor, shown) = session.monitor();
    let client = session.client_options().allow_http(arguments.allow_http);
    // A server that has a name here is spoken to as it was agreed with it.
    let settings = session.settings()?;
    let sources = Upstreams::new(move |source| settings.open_source(source, client.clone())).monitor(monitor.clone());
    let options = RefreshOptions::new().dry_run(arguments.dry_run).monitor(monitor);
    let done: Vec<(StoredImage, Result<Refreshed>)> = if arguments.references.is_empty() {
        store.refresh_all(&sources, &options)?
    } else {
        let images = arguments.references.iter().map(|name| resolve(&store, name)).collect::<Result<Vec<_>>>()?;
        images
            .into_iter()
            .map(|image| {
                let result = store.refresh(&image.fingerprint, &sources, &options);
                (image, result)
            })
            .collect()
    };
    drop(shown);
    let mut failed = None;
    for (image, result) in done {
        let name = image.aliases.first().map_or_else(|| image.fingerprint.short(), |alias| alias.name.clone());
        let name = Shown(name.as_bytes());
        match result {
            Ok(Refreshed::Replaced(new)) => {
                output::line(&format!("{name}: {} → {}", image.fingerprint.short(), new.short()))?;
            }
            Ok(Refreshed::Current) => session.explain(|| format!("{name}: is the newest")),
            Ok(_) => session.note(|| format!("{name}: follows no source")),
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    eprintln!("error[{}]: {earlier}", earlier.kind());
                }
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
