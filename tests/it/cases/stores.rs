//! Steps about a store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lxd_image::format::VerifyOptions;
use lxd_image::store::{
    Alias, AliasTarget, CheckOptions, ETag, Edit, Filter, Finding, ImportOptions, PruneOptions, Removed, Store,
    StoreOptions, StoredImage,
};
use lxd_image::{Fingerprint, ImageType, Result};

use super::images::{form, from_files, verified, yes};
use super::{Lines, Outcome, Place, quoted, text};

/// The time at which stores are opened.
pub(super) const NOW: i64 = 1_750_000_000;

pub(super) fn print(image: &StoredImage) -> Vec<String> {
    let mut lines = vec![
        format!("image {}", image.fingerprint),
        format!(
            "type {} form {} architecture {} bytes {} rootfs {}",
            image.image_type.name(),
            form(image.form()),
            quoted(image.architecture.kernel_name()),
            image.size,
            image.rootfs_size.unwrap_or(0)
        ),
        format!(
            "created {} expires {} uploaded {} used {}",
            image.created_at,
            image.expires_at.unwrap_or(0),
            image.uploaded_at,
            image.last_used_at.unwrap_or(0)
        ),
        format!(
            "public {} cached {} auto_update {} revision {}",
            yes(image.public),
            yes(image.cached),
            yes(image.auto_update),
            image.revision
        ),
    ];
    lines.extend(
        image.aliases.iter().map(|alias| format!("alias {} {}", quoted(&alias.name), quoted(&alias.description))),
    );
    lines.extend(image.properties.iter().map(|(k, v)| format!("property {} {}", quoted(k), quoted(v))));
    lines
}

fn explain(place: &Place, filters: &[&[u8]]) -> Lines {
    let filters = filters.iter().map(|filter| text(filter).parse()).collect::<Result<Vec<Filter>>>()?;
    let mut lines = Vec::new();
    for miss in place.store.as_ref().unwrap().explain(&filters)? {
        lines.push(format!("miss {}", miss.image.fingerprint));
        lines.extend(miss.reasons.iter().map(|reason| format!("reason {}", quoted(reason))));
    }
    Ok(lines)
}

fn open(place: &mut Place, directory: &[u8]) -> Lines {
    place.clock.store(NOW, Ordering::Relaxed);
    let clock = Arc::clone(&place.clock);
    let mut options = StoreOptions::new().limits(place.limits.clone()).clock(move || clock.load(Ordering::Relaxed));
    if let Some(policy) = &place.trust.policy {
        options = options.policy(policy.clone());
    }
    place.store = Some(options.open(place.path(directory))?);
    Ok(Vec::new())
}

fn import(place: &Place, store: &Store, flags: &[u8], aliases: &[u8], files: &[&[u8]]) -> Lines {
    let mut options = ImportOptions::new()
        .public(flags.contains(&b'p'))
        .cached(flags.contains(&b'c'))
        .reuse_aliases(flags.contains(&b'r'))
        .add_aliases_to_existing(flags.contains(&b'a'));
    for name in text(aliases).split(',').filter(|name| *name != "-") {
        options = options.alias(Alias::new(name)?);
    }
    store.import(from_files(place, files), &options, &place.monitor).map(|image| print(&image))
}

fn edit(store: &Store, fingerprint: &[u8], changes: &[&[u8]]) -> Lines {
    let (mut edit, mut etag) = (Edit::new(), None);
    for change in changes {
        edit = match text(change) {
            "public" => edit.public(true),
            "private" => edit.public(false),
            change => {
                if let Some(key) = change.strip_prefix('-') {
                    edit.remove_property(key)
                } else if let Some(seconds) = change.strip_prefix("expires:") {
                    edit.expires_at(Some(seconds.parse::<i64>().unwrap()).filter(|seconds| *seconds != 0))
                } else if let Some(tag) = change.strip_prefix("etag:") {
                    etag = Some(ETag::new(tag));
                    edit
                } else {
                    let (key, value) = change.split_once('=').unwrap();
                    edit.property(key, value)?
                }
            }
        };
    }
    store.edit(&text(fingerprint).parse()?, &edit, etag.as_ref()).map(|image| print(&image))
}

fn number(finding: &Finding) -> u32 {
    match finding {
        Finding::Catalog { .. } => 1,
        Finding::Missing { .. } => 2,
        Finding::Damaged { .. } => 3,
        Finding::Unreadable { .. } => 4,
        Finding::Unlisted { .. } => 5,
        Finding::Sidecar { .. } => 6,
        Finding::Stray { .. } => 7,
        Finding::Lost { .. } => 8,
        Finding::Row { .. } => 9,
        _ => 0,
    }
}

fn prune(place: &Place, store: &Store, seconds: &[u8]) -> Lines {
    let policy = PruneOptions::unused_for(Duration::from_secs(text(seconds).parse().unwrap()));
    let done = store.prune(&policy, &place.monitor)?;
    let line = |(image, why): &(StoredImage, Removed)| {
        format!("{} {}", if *why == Removed::Expired { "expired" } else { "unused" }, image.fingerprint)
    };
    Ok(done.images.iter().map(line).chain([format!("bytes {}", done.bytes)]).collect())
}

fn list(store: &Store, filters: &[&[u8]]) -> Lines {
    let filters = filters.iter().map(|filter| text(filter).parse()).collect::<Result<Vec<Filter>>>()?;
    let images = store.images()?;
    let matching = images.iter().filter(|image| filters.iter().all(|filter| filter.matches(image)));
    Ok(matching.map(|image| image.fingerprint.to_string()).collect())
}

/// The type that a step names with its last word, where it does.
fn image_type(words: &[&[u8]]) -> Option<ImageType> {
    words.first().map(|word| text(word).parse().unwrap())
}

fn asked(place: &Place, store: &Store, name: &str, words: &[&[u8]]) -> Option<Lines> {
    let nothing = |()| Vec::new();
    let image = |word: &[u8]| text(word).parse::<Fingerprint>();
    let alias =
        |name: &[u8], description: &[u8]| Alias::new(text(name)).map(|alias| alias.described(text(description)));
    Some(match (name, words) {
        ("import", [flags, aliases, files @ ..]) => import(place, store, flags, aliases, files),
        ("list", filters) => list(store, filters),
        ("resolve", [reference, rest @ ..]) => match image_type(rest) {
            Some(preferred) => store.resolve_preferring(text(reference), preferred),
            None => store.resolve(text(reference)),
        }
        .map(|image| print(&image)),
        ("edit", [fingerprint, changes @ ..]) => edit(store, fingerprint, changes),
        ("create-alias", [name, description, target]) => {
            alias(name, description).and_then(|alias| store.create_alias(&alias, &image(target)?)).map(nothing)
        }
        ("move-alias", [name, description, target]) => {
            alias(name, description).and_then(|alias| store.move_alias(&alias, &image(target)?)).map(nothing)
        }
        ("rename-alias", [name, new, rest @ ..]) => {
            store.rename_alias(text(name), text(new), image_type(rest)).map(nothing)
        }
        ("delete-alias", [name, rest @ ..]) => store.delete_alias(text(name), image_type(rest)).map(nothing),
        ("aliases", []) => store.aliases().map(|aliases| {
            let line = |(alias, target): &(Alias, AliasTarget)| {
                let (fingerprint, image_type) = (target.fingerprint, target.image_type);
                format!("{} {} {fingerprint} {image_type}", quoted(&alias.name), quoted(&alias.description))
            };
            aliases.iter().map(line).collect()
        }),
        ("use", [of]) => image(of).and_then(|of| store.mark_used(&of)).map(|_| Vec::new()),
        ("delete", [of]) => image(of).and_then(|of| store.delete(&of)).map(|_| Vec::new()),
        ("export", [of, target]) => {
            let done = image(of).and_then(|of| store.export(&of, place.path(target), &place.monitor));
            let name = |path: &std::path::PathBuf| quoted(path.file_name().unwrap().as_encoded_bytes());
            done.map(|done| done.files.iter().map(name).collect())
        }
        ("export-to", [of]) => image(of).and_then(|of| {
            let mut bytes = Vec::new();
            store.export_to(&of, &mut bytes, &place.monitor)?;
            Ok(vec![Fingerprint::of(&bytes).to_string()])
        }),
        ("open", [of]) => image(of)
            .and_then(|of| store.open_image(&of)?.open(&place.limits)?.verify(&VerifyOptions::new(), &place.monitor))
            .map(|found| verified(&found, false)),
        ("prune", [seconds]) => prune(place, store, seconds),
        ("check" | "repair", []) => {
            let options = CheckOptions::new().repair(name == "repair");
            store.check(&options, &place.monitor).map(|report| {
                let first = format!("images {} bytes {}", report.images, report.bytes);
                let found = report.findings.iter().map(|finding| format!("finding {}", number(finding)));
                let left = report.unrepaired.iter().map(|left| format!("unrepaired {}", number(&left.finding)));
                std::iter::once(first).chain(found).chain(left).collect()
            })
        }
        _ => return None,
    })
}

pub(super) fn step(place: &mut Place, name: &str, words: &[&[u8]]) -> Option<Outcome> {
    let lines = match (name, words) {
        ("store", [directory]) => open(place, directory),
        ("explain", filters) => explain(place, filters),
        ("clock", [seconds]) => {
            place.clock.store(text(seconds).parse().unwrap(), Ordering::Relaxed);
            Ok(Vec::new())
        }
        _ => {
            let store = place.store.clone()?;
            asked(place, &store, name, words)?
        }
    };
    Some(lines.map(|lines| (lines, None)))
}
