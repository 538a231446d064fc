//! Deltas between the versions of a product, made and named as `simplestream-maintainer` does: for each version from the one
//! before it, in the directory of the newer one.

use std::collections::BTreeMap;
use std::path::Path;

use super::BuiltTree;
use super::scan::{Found, FoundProduct};
use crate::delta::{self, DeltaOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::io::Blob;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{Item, Product, RootKind, Version};
use crate::rooted::Dir;
use crate::simplestreams::files::read_all;
use crate::simplestreams::tree::{TreeWriter, fail};

/// Where deltas are recorded that would be no smaller than what they make, below the private directory. Otherwise every run would
/// make them again.
const USELESS: &str = "useless-deltas.json";

/// A delta that is missing.
struct Missing<'a> {
    old: &'a Found,
    new: &'a Found,
    /// The names of the root file systems that it is between.
    files: [&'a str; 2],
    kind: RootKind,
    /// Its file name.
    name: String,
}

impl TreeWriter {
    /// Makes the deltas of a product that are missing, and adds them to the versions that are about to be listed. `out` are the
    /// versions that leave the list. Why one could not be made is recorded.
    ///
    /// # Errors
    /// `Cancelled`; `StorageFull`.
    pub(super) fn build_deltas(
        &self,
        product: &FoundProduct,
        known: Option<&Product>,
        out: &[String],
        versions: &mut BTreeMap<String, Version>,
        monitor: &Monitor,
        built: &mut BuiltTree,
    ) -> Result<()> {
        let mut useless = self.noted(USELESS);
        let before = useless.clone();
        // What leaves the list in this run would take its deltas along.
        let listed = |name: &String| {
            !out.contains(name)
                && (versions.contains_key(name) || known.is_some_and(|known| known.versions.contains_key(name)))
        };
        let there: Vec<&Found> = product.versions.iter().filter(|version| listed(&version.name)).collect();
        for missing in there.windows(2).flat_map(missing) {
            monitor.check()?;
            let path = format!("{}/{}", missing.new.path, missing.name);
            if useless.contains_key(&path) {
                continue;
            }
            let version = |name: &str| versions.get(name).or_else(|| known?.versions.get(name));
            let (Some(old), Some(new)) = (version(&missing.old.name), version(&missing.new.name)) else { continue };
            let items = old.items.get(missing.files[0]).zip(new.items.get(missing.files[1]));
            let Some((from, to)) = items else { continue };
            match self.delta(&missing, from, to, monitor) {
                Ok(Some(item)) => {
                    let mut version = new.clone();
                    version.items.insert(missing.name.clone(), item);
                    versions.insert(missing.new.name.clone(), version);
                    built.deltas.push(path);
                }
                Ok(None) => _ = useless.insert(path, self.tree.options.now()),
                Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::StorageFull) => {
                    return Err(error);
                }
                Err(error) => {
                    let reason = error.to_string().into();
                    monitor.omit(path, Omitted::NotHonoured { option: "`deltas`".into(), reason });
                }
            }
        }
        useless.retain(|path, _| self.tree.root.join(path).parent().is_some_and(Path::exists));
        if useless != before { self.note(USELESS, &useless) } else { Ok(()) }
    }

    /// Makes one delta. `None` if it would be no smaller than what it makes.
    fn delta(&self, missing: &Missing<'_>, from: &Item, to: &Item, monitor: &Monitor) -> Result<Option<Item>> {
        let directory = self.tree.root.join(&missing.new.path);
        let opened = self.version_directory(missing.new)?;
        let old =
            self.listed_file(&self.version_directory(missing.old)?, missing.old, missing.files[0], from, monitor)?;
        let new = self.listed_file(&opened, missing.new, missing.files[1], to, monitor)?;
        let mut how = DeltaOptions::new();
        if let Some(threads) = self.tree.options.threads {
            how = how.threads(threads);
        }
        let (staged, _) = self.stage_written("delta", |out| delta::make(&old, &new, out, &how, monitor))?;
        if to.size.is_some_and(|size| staged.size >= size) {
            let reason = format!("it would be no smaller than `{}`", missing.files[1]).into();
            let path = format!("{}/{}", missing.new.path, missing.name);
            monitor.omit(path, Omitted::NotHonoured { option: "`deltas`".into(), reason });
            return Ok(None);
        }
        let item = Item {
            ftype: missing.kind.delta_name().unwrap_or_default().to_owned(),
            path: format!("{}/{}", missing.new.path, missing.name),
            size: Some(staged.size),
            sha256: staged.sha256.to_string(),
            delta_base: missing.old.name.clone(),
            ..Item::default()
        };
        let path = directory.join(&missing.name);
        let about = opened.as_file().map_err(fail(&directory))?;
        let changed = about.metadata().and_then(|about| about.modified());
        self.move_into(staged, &opened, &missing.name, &path)?;
        // The age of a version is that of its directory, and it is not younger for its delta.
        match changed.and_then(|changed| about.set_modified(changed)) {
            // Only the owner of a directory may set its times; the delta is there all the same.
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => Err(fail(&directory)(error)),
            _ => Ok(Some(item)),
        }
    }

    /// Opens the directory of a version, through no link below the stream.
    pub(super) fn version_directory(&self, version: &Found) -> Result<Dir> {
        let path = self.tree.root.join(&version.path);
        // The directory of the stream is the operator's, and may be a link to another disk.
        let stream = self.tree.stream();
        let below = version.path.strip_prefix(stream).and_then(|path| path.strip_prefix('/')).unwrap_or(&version.path);
        Dir::open(&self.tree.root.join(stream)).and_then(|top| top.descend(below)).map_err(fail(&path))
    }

    /// Opens a file of a version whose bytes are the listed ones. A delta from others would fail on every client, and what an
    /// uploader put in the place of the file after the scan, such as a link to a file of another user, must not become public.
    fn listed_file(
        &self,
        directory: &Dir,
        version: &Found,
        name: &str,
        item: &Item,
        monitor: &Monitor,
    ) -> Result<Blob> {
        let path = self.tree.root.join(&version.path).join(name);
        let file = directory.open_file(name.as_bytes()).map_err(fail(&path))?;
        let mut hasher = Hasher::new();
        read_all(&file, &path, &mut [&mut hasher], monitor)?;
        let found = hasher.finish().to_string();
        if !found.eq_ignore_ascii_case(&item.sha256) {
            return Err(Error::mismatch("the digest", item.sha256.clone(), found).in_file(path));
        }
        Blob::file(file).map_err(fail(&path))
    }
}

/// The deltas that the second version of a pair lacks.
fn missing<'a>(pair: &[&'a Found]) -> Vec<Missing<'a>> {
    let [old, new] = *pair else { return Vec::new() };
    let of_kind = |kind: RootKind| old.roots.iter().find(|(_, there)| *there == kind);
    let wanted = new.roots.iter().filter(|(_, kind)| kind.delta_name().is_some()).filter_map(|(file, kind)| {
        let (base, _) = of_kind(*kind)?;
        let there = new.deltas.iter().any(|delta| {
            delta.delta_base.as_ref() == Some(&old.name) && Some(delta.ftype.as_str()) == kind.delta_name()
        });
        let stem = file.name.rsplit_once('.').map_or(&*file.name, |(stem, _)| stem);
        let ending = if *kind == RootKind::Squashfs { "vcdiff" } else { "qcow2.vcdiff" };
        let name = format!("{stem}.{}.{ending}", old.name);
        (!there).then(|| Missing { old, new, files: [&base.name, &file.name], kind: *kind, name })
    });
    wanted.collect()
}
