//! Steps about static trees.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lxd_image::simplestreams::{AddOptions, PruneOptions, Tree, TreeOptions, TreeVerifyOptions};

use super::images::from_files;
use super::stores::NOW;
use super::{Lines, Outcome, Place, quoted, shown, text};

fn open(place: &mut Place, directory: &[u8]) -> Lines {
    place.clock.store(NOW, Ordering::Relaxed);
    let clock = Arc::clone(&place.clock);
    let options = TreeOptions::new().limits(place.limits.clone()).clock(move || clock.load(Ordering::Relaxed));
    place.tree = Some(options.create(place.path(directory))?);
    Ok(Vec::new())
}

fn add(place: &Place, tree: &Tree, aliases: &[u8], files: &[&[u8]]) -> Lines {
    let mut options = AddOptions::new();
    for name in text(aliases).split(',').filter(|name| *name != "-") {
        options = options.alias(name)?;
    }
    Ok(vec![tree.lock()?.add(from_files(place, files), &options, &place.monitor)?.fingerprint.to_string()])
}

fn list(tree: &Tree) -> Lines {
    let mut lines = Vec::new();
    for image in tree.listing()?.images() {
        lines.push(format!(
            "image {} {} {} bytes {} created {}",
            image.fingerprint,
            image.image_type,
            image.architecture.kernel_name(),
            image.size(),
            image.created_at
        ));
        lines.push(format!("product {} {}", quoted(&image.product), quoted(&image.version)));
        lines.extend(image.aliases.iter().map(|alias| format!("alias {}", quoted(alias))));
        lines.extend(image.properties.iter().map(|(key, value)| format!("property {} {}", quoted(key), quoted(value))));
    }
    Ok(lines)
}

fn asked(place: &Place, tree: &Tree, name: &str, words: &[&[u8]]) -> Option<Lines> {
    Some(match (name, words) {
        ("tree-add", [aliases, files @ ..]) => add(place, tree, aliases, files),
        ("tree-list", []) => list(tree),
        ("tree-remove", [of]) => text(of).parse().and_then(|of| tree.lock()?.remove(&[of])).map(|()| Vec::new()),
        ("tree-prune", [keep, seconds]) => {
            let after = Duration::from_secs(text(seconds).parse().unwrap());
            let options = PruneOptions::new().keep(text(keep).parse().unwrap()).after(after);
            tree.lock().and_then(|mut writer| writer.prune(&options, &place.monitor)).map(|done| {
                let (versions, files) = (done.versions.len(), done.files.len());
                vec![format!("versions {versions} files {files} bytes {} waiting {}", done.bytes, done.waiting)]
            })
        }
        ("tree-verify", []) => tree.verify(&TreeVerifyOptions::new(), &place.monitor).map(|report| {
            let first = format!("images {} files {} bytes {}", report.images, report.files, report.bytes);
            let findings = report.findings.iter().map(|finding| format!("finding {}", shown(finding)));
            std::iter::once(first).chain(findings).collect()
        }),
        _ => return None,
    })
}

pub(super) fn step(place: &mut Place, name: &str, words: &[&[u8]]) -> Option<Outcome> {
    let lines = match (name, words) {
        ("tree", [directory]) => open(place, directory),
        _ => {
            let tree = place.tree.clone()?;
            asked(place, &tree, name, words)?
        }
    };
    Some(lines.map(|lines| (lines, None)))
}
