//! `prune`: removes cached images that are expired or were not used for some time, and layers of container images that
//! were not used for as long.
//!
//! Images that the user imported are never pruned; only those that `copy`, `export` or a caching server fetched for
//! one use are. With `--dry-run` the same list is printed and nothing is removed.

use std::time::Duration;

use clap::Args;
use lxd_image::Result;
use lxd_image::store::{PruneOptions, Removed};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::store::{counted, images, object, size};

/// Remove cached images and layers that are unused or expired
#[derive(Args)]
pub(crate) struct Arguments {
    /// Minimum time without use: 10d, 2w, 1h30m; 0 considers the expiry date only
    #[arg(long, default_value = "10d", value_name = "TIME", value_parser = crate::store::duration)]
    unused_for: Duration,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Prunes the store and prints each removed image with its reason: expired, unused, or room (evicted over quota).
///
/// # Errors
/// Those of opening and changing the store.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let options = PruneOptions::unused_for(arguments.unused_for).dry_run(arguments.dry_run);
    let (monitor, shown) = session.monitor();
    let pruned = session.store()?.prune(&options, &monitor);
    drop(shown);
    let pruned = pruned?;
    let whole = matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_));
    let rows = pruned
        .images
        .iter()
        .map(|(image, why)| {
            let why = match why {
                Removed::Expired => "expired",
                Removed::Evicted => "room",
                _ => "unused",
            };
            let mut row: Map<String, Value> = if whole { object(image) } else { Map::new() };
            if !whole {
                row.insert("fingerprint".into(), json!(image.fingerprint.short()));
                row.insert("description".into(), json!(image.properties.get("description")));
                row.insert("size".into(), json!(size(image.size)));
            }
            row.insert("reason".into(), json!(why));
            row
        })
        .collect();
    if whole || !pruned.images.is_empty() {
        output::show(Records::Many(&["fingerprint", "description", "size", "reason"], rows), &session.format)?;
    }
    let verb = if arguments.dry_run { "would be freed" } else { "freed" };
    session.note(|| {
        let images = images(pruned.images.len() as u64);
        let layers = match pruned.layers {
            0 => String::new(),
            count => format!(" and {} ({})", counted(count, "layer"), size(pruned.layer_bytes)),
        };
        format!("{images}{layers}, {} {verb}", size(pruned.bytes))
    });
    Ok(())
}
