//! Reads the directories: products, their versions, and the files of each. No link is followed, since a tree may be
//! written by uploads of others.

use std::fs;
use std::path::Path;

use super::{kind_of, skip};
use crate::error::Result;
use crate::metadata::Architecture;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{METADATA_NAMES, RootKind, Version, by_number};
use crate::simplestreams::tree::fail;
use crate::time;

/// The digests of a version's files.
pub(super) const SUMS: &str = "SHA256SUMS";
/// What is told of the product of a version.
pub(super) const CONFIG: &str = "image.yaml";

/// A product, as its directories name it.
#[derive(Debug)]
pub(super) struct FoundProduct {
    pub(super) distro: String,
    pub(super) release: String,
    pub(super) arch: String,
    pub(super) variant: String,
    /// `DISTRO:RELEASE:ARCH:VARIANT`.
    pub(super) key: String,
    /// Its complete versions, oldest first.
    pub(super) versions: Vec<Found>,
    /// Directories of versions that are not complete: hidden, or without the files of an image.
    pub(super) incomplete: Vec<String>,
}

/// A complete version.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    /// The path of its directory in the tree.
    pub(super) path: String,
    /// When its directory was last changed, in seconds since 1970.
    pub(super) modified: i64,
    pub(super) metadata: Vec<File>,
    pub(super) roots: Vec<(File, RootKind)>,
    pub(super) deltas: Vec<File>,
    /// Whether it has a `SHA256SUMS`.
    pub(super) sums: bool,
    /// Whether it has an `image.yaml`.
    pub(super) config: bool,
}

/// A file of a version.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) ftype: String,
    /// The version that a delta starts from.
    pub(super) delta_base: Option<String>,
}

/// All products below the directory of a stream, by their keys.
pub(super) fn products(root: &Path, stream: &str, monitor: &Monitor) -> Result<Vec<FoundProduct>> {
    let mut found = Vec::new();
    let base = root.join(stream);
    for distro in directories(&base)? {
        for release in directories(&base.join(&distro))? {
            for arch in directories(&base.join(&distro).join(&release))? {
                for variant in directories(&base.join(&distro).join(&release).join(&arch))? {
                    monitor.check()?;
                    let path = format!("{stream}/{distro}/{release}/{arch}/{variant}");
                    if [&distro, &release, &arch, &variant].iter().any(|part| part.contains([':', ','])) {
                        skip(monitor, &path, "a colon or a comma in a name would make two of it in the list");
                        continue;
                    }
                    if arch.parse::<Architecture>().is_err() {
                        skip(monitor, &path, "its architecture is not known");
                        continue;
                    }
                    let key = format!("{distro}:{release}:{arch}:{variant}");
                    let (distro, release) = (distro.clone(), release.clone());
                    let mut product = FoundProduct {
                        distro,
                        release,
                        arch: arch.clone(),
                        variant,
                        key,
                        versions: Vec::new(),
                        incomplete: Vec::new(),
                    };
                    versions(root, &path, &mut product, monitor)?;
                    found.push(product);
                }
            }
        }
    }
    Ok(found)
}

/// The versions of a product.
fn versions(root: &Path, path: &str, product: &mut FoundProduct, monitor: &Monitor) -> Result<()> {
    for name in all_directories(&root.join(path))? {
        let path = format!("{path}/{name}");
        if name.starts_with('.') {
            // An upload that goes on. It is not told: the next run lists it.
            product.incomplete.push(path);
            continue;
        }
        if time::from_serial(&name).is_none() {
            skip(monitor, &path, "its name begins with no date (YYYYMMDD)");
            product.incomplete.push(path);
            continue;
        }
        let version = version(root, name, &path, monitor)?;
        if version.metadata.is_empty() || version.roots.is_empty() {
            skip(monitor, &path, "it has no metadata, or no root file system");
            product.incomplete.push(path);
        } else {
            product.versions.push(version);
        }
    }
    product.versions.sort_by(|a, b| by_number(&a.name, &b.name));
    Ok(())
}

/// The files of a version.
fn version(root: &Path, name: String, path: &str, monitor: &Monitor) -> Result<Found> {
    let directory = root.join(path);
    let about = fs::symlink_metadata(&directory).map_err(fail(&directory))?;
    let mut found = Found {
        name,
        path: path.to_owned(),
        modified: std::os::unix::fs::MetadataExt::mtime(&about),
        metadata: Vec::new(),
        roots: Vec::new(),
        deltas: Vec::new(),
        sums: false,
        config: false,
    };
    let mut deltas = Vec::new();
    for entry in fs::read_dir(&directory).map_err(fail(&directory))? {
        let entry = entry.map_err(fail(&directory))?;
        let kind = entry.file_type().map_err(fail(&directory))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if kind.is_symlink() {
            skip(monitor, &format!("{path}/{name}"), "it is a symbolic link");
            continue;
        }
        if !kind.is_file() || name.starts_with('.') {
            continue;
        }
        let file = |ftype: &str| File { name: name.clone(), ftype: ftype.to_owned(), delta_base: None };
        match name.as_str() {
            SUMS => found.sums = true,
            CONFIG => found.config = true,
            metadata if METADATA_NAMES.contains(&metadata) => found.metadata.push(file(metadata)),
            delta if delta.ends_with(".vcdiff") => deltas.push(name),
            other => match kind_of(other) {
                // A reader takes the first of each kind.
                Some(kind) if found.roots.iter().any(|(_, there)| *there == kind) => {
                    skip(monitor, &format!("{path}/{name}"), "another file of its kind is there");
                }
                Some(kind) => found.roots.push((file(kind.name()), kind)),
                None => {}
            },
        }
    }
    // After the root file systems, by whose names those of deltas begin.
    for name in deltas {
        match delta_of(&name, &found.roots) {
            Some((kind, base)) => {
                found.deltas.push(File { name, ftype: format!("{}.vcdiff", kind.name()), delta_base: Some(base) });
            }
            None => skip(monitor, &format!("{path}/{name}"), "its name does not tell what it is a delta from"),
        }
    }
    found.deltas.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Which rootfs a delta is for, and the version that it starts from: `rootfs.BASE.vcdiff`, `disk.BASE.qcow2.vcdiff`.
/// The base is what follows the name of the rootfs without its ending; both may hold dots.
fn delta_of(name: &str, roots: &[(File, RootKind)]) -> Option<(RootKind, String)> {
    let stem = name.strip_suffix(".vcdiff")?;
    let (kind, stem) = match stem.strip_suffix(".qcow2") {
        Some(stem) => (RootKind::DiskKvm, stem),
        None => (RootKind::Squashfs, stem),
    };
    let is_version = |base: &&str| time::from_serial(base).is_some();
    let own = roots.iter().filter(|(_, there)| *there == kind).find_map(|(file, _)| {
        let root = file.name.rsplit_once('.').map_or(&*file.name, |(root, _)| root);
        stem.strip_prefix(root)?.strip_prefix('.').filter(is_version)
    });
    // A delta of a rootfs that is there no more, or has another name.
    let any = || stem.match_indices('.').filter_map(|(dot, _)| stem.get(dot + 1..)).find(is_version);
    own.or_else(any).map(|base| (kind, base.to_owned()))
}

/// The directory of a listed version, if it is one of this layout: five levels below that of the stream, the same for all files.
pub(super) fn directory_of(version: &Version, stream: &str) -> Option<String> {
    let mut directories = version.items.values().map(|item| item.path.rsplit_once('/').map(|(directory, _)| directory));
    let first = directories.next()??;
    let parts: Vec<&str> = first.split('/').collect();
    let plain = parts.iter().all(|part| !matches!(*part, "" | "." | ".."));
    let ours = parts.len() == 6 && parts.first() == Some(&stream) && plain;
    (ours && directories.all(|directory| directory == Some(first))).then(|| first.to_owned())
}

/// The names of visible directories, sorted.
fn directories(path: &Path) -> Result<Vec<String>> {
    let mut names = all_directories(path)?;
    names.retain(|name| !name.starts_with('.'));
    Ok(names)
}

/// The names of all directories, sorted. Names that are no text can't be listed.
fn all_directories(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(fail(path))? {
        let entry = entry.map_err(fail(path))?;
        if entry.file_type().map_err(fail(path))?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
