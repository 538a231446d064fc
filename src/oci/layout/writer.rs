//! [`LayoutWriter`]: writes a layout, to a directory or a tar. The same content gives the same bytes.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::super::digest::{Digest, DigestReader};
use super::super::document::{Descriptor, Document, Index, to_json};
use super::super::media_type;
use super::super::referrers::{fallback_tag, referrer_entry};
use super::super::source::{BlobSink, Tag};
use super::{INDEX, MARKER, Marker, REF_NAME};
use crate::error::{Error, Result};
use crate::format::{Entry, EntryKind, StagedFile, StagingDir, TarWriter};
use crate::limits::Limits;
use crate::progress::{Monitor, Phase};
use crate::rooted::Dir;

/// Writes a new layout. It appears under its name when [`finish`](Self::finish) returns; dropping the writer leaves
/// nothing. Manifests with a subject are listed in an index under its fallback tag, `sha256-HEX`, as in a registry.
pub struct LayoutWriter {
    target: Target,
    /// Blobs that were written.
    written: HashSet<Digest>,
    /// Directories that were made, `blobs/sha256` and the like.
    algorithms: HashSet<&'static str>,
    entries: Vec<Descriptor>,
    /// Manifests that say something about another one, by the name of the index that lists them.
    referrers: BTreeMap<Tag, Vec<Descriptor>>,
    monitor: Monitor,
    /// Bytes written so far.
    done: u64,
}

enum Target {
    Directory { place: StagingDir, dir: Dir, name: Vec<u8> },
    Tar { file: StagedFile, tar: Box<TarWriter<File>> },
}

impl LayoutWriter {
    /// Begins a layout in a new directory.
    ///
    /// # Errors
    /// `AlreadyExists` for a directory that is not empty; `Io`.
    pub fn directory(path: impl AsRef<Path>, monitor: &Monitor) -> Result<Self> {
        let (place, dir, name) = StagingDir::make(path.as_ref(), monitor.cancel())?;
        Self::begin(Target::Directory { place, dir, name }, monitor)
    }

    /// Begins a layout in a new tar.
    ///
    /// # Errors
    /// `AlreadyExists`; `Io`.
    pub fn tar(path: impl AsRef<Path>, monitor: &Monitor) -> Result<Self> {
        let file = StagedFile::make(path.as_ref(), monitor)?;
        let tar = Box::new(TarWriter::new(file.handle()?));
        Self::begin(Target::Tar { file, tar }, monitor)
    }

    fn begin(target: Target, monitor: &Monitor) -> Result<Self> {
        let mut writer = Self {
            target,
            written: HashSet::new(),
            algorithms: HashSet::new(),
            entries: Vec::new(),
            referrers: BTreeMap::new(),
            monitor: monitor.clone(),
            done: 0,
        };
        writer.small_file(MARKER, &to_json(&Marker { version: "1.0.0".to_owned() })?)?;
        writer.make_directory("blobs")?;
        Ok(writer)
    }

    /// Adds an entry to the layout's index: a manifest or index that was written, with the name of the image.
    pub fn add_entry(&mut self, mut descriptor: Descriptor, name: Option<&str>) {
        if let Some(name) = name {
            descriptor.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        }
        if !self.entries.contains(&descriptor) {
            self.entries.push(descriptor);
        }
    }

    /// Writes the index and gives the layout its name.
    ///
    /// # Errors
    /// `AlreadyExists` where the name was taken meanwhile; those of writing. Nothing is left then.
    pub fn finish(mut self) -> Result<PathBuf> {
        self.list_referrers()?;
        let index = to_json(&Index::new(std::mem::take(&mut self.entries)))?;
        self.small_file(INDEX, &index)?;
        match self.target {
            Target::Directory { mut place, dir, name } => {
                for algorithm in &self.algorithms {
                    let blobs = dir.child(b"blobs").and_then(|blobs| blobs.child(algorithm.as_bytes()));
                    blobs.and_then(|blobs| blobs.sync()).map_err(cannot_write)?;
                }
                dir.sync().map_err(cannot_write)?;
                rustix::fs::fchmod(std::os::fd::AsFd::as_fd(&dir), rustix::fs::Mode::from_raw_mode(0o755))
                    .map_err(|error| cannot_write(error.into()))?;
                place.commit(&name, false)
            }
            Target::Tar { file, tar } => {
                tar.finish()?;
                file.commit(&self.monitor)
            }
        }
    }

    /// Writes the indexes of referrers, each with the name by which readers look for it.
    fn list_referrers(&mut self) -> Result<()> {
        for (tag, mut entries) in std::mem::take(&mut self.referrers) {
            // The same statements give the same bytes, in whatever order they come.
            entries.sort_by_key(|entry| entry.digest);
            entries.dedup();
            let bytes = to_json(&Index::new(entries))?;
            let index = Descriptor::of(media_type::IMAGE_INDEX, &bytes);
            let monitor = self.monitor.clone();
            self.put_document(&index, &bytes, Some(&tag), &monitor)?;
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &str) -> Result<()> {
        match &mut self.target {
            Target::Directory { dir, .. } => {
                let (dir, name) = parent(dir, path)?;
                dir.make_dir(name.as_bytes(), 0o755).map_err(cannot_write)
            }
            Target::Tar { tar, .. } => tar.begin(&Entry::new(path, EntryKind::Directory, 0o755), None),
        }
    }

    fn small_file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let monitor = self.monitor.clone();
        self.file(path, content.len() as u64, &mut &content[..], &monitor)
    }

    /// Writes a file whose reader must give exactly `size` bytes.
    fn file(&mut self, path: &str, size: u64, reader: &mut dyn Read, monitor: &Monitor) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let mut made = match &mut self.target {
            Target::Directory { dir, .. } => {
                let (dir, name) = parent(dir, path)?;
                let file = dir.create(name.as_bytes(), 0o644).map_err(cannot_write)?;
                let mode = rustix::fs::Mode::from_raw_mode(0o644);
                rustix::fs::fchmod(&file, mode).map_err(|error| cannot_write(error.into()))?;
                Some(file)
            }
            Target::Tar { tar, .. } => {
                tar.begin(&Entry::new(path, EntryKind::File { size }, 0o644), None)?;
                None
            }
        };
        loop {
            monitor.report(Phase::Pack, self.done, None)?;
            let count = match reader.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                count => count.map_err(|error| Error::io("a blob cannot be read", error))?,
            };
            if count == 0 {
                break;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            match (&mut self.target, &mut made) {
                (Target::Tar { tar, .. }, _) => tar.data(bytes)?,
                (_, Some(file)) => file.write_all(bytes).map_err(cannot_write)?,
                _ => {}
            }
            self.done = self.done.saturating_add(count as u64);
        }
        if let Some(file) = made {
            file.sync_all().map_err(cannot_write)?;
        }
        Ok(())
    }
}

impl BlobSink for LayoutWriter {
    fn has_blob(&mut self, descriptor: &Descriptor, _: &Monitor) -> Result<bool> {
        Ok(self.written.contains(&descriptor.digest))
    }

    fn put_blob(
        &mut self,
        descriptor: &Descriptor,
        open: &mut dyn FnMut() -> Result<Box<dyn Read + Send>>,
        monitor: &Monitor,
    ) -> Result<()> {
        let digest = descriptor.digest;
        if self.written.contains(&digest) {
            return Ok(());
        }
        if self.algorithms.insert(digest.algorithm()) {
            self.make_directory(&format!("blobs/{}", digest.algorithm()))?;
        }
        let mut reader = DigestReader::new(open()?, Some(descriptor.size), digest);
        self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()), descriptor.size, &mut reader, monitor)?;
        self.written.insert(digest);
        Ok(())
    }

    fn put_document(
        &mut self,
        descriptor: &Descriptor,
        bytes: &[u8],
        tag: Option<&Tag>,
        monitor: &Monitor,
    ) -> Result<()> {
        let copy = bytes.to_vec();
        self.put_blob(descriptor, &mut || Ok(Box::new(std::io::Cursor::new(copy.clone()))), monitor)?;
        if let Some(tag) = tag {
            self.add_entry(descriptor.clone(), Some(tag.as_str()));
        }
        if descriptor.media_type == media_type::IMAGE_MANIFEST
            && let Document::Manifest(manifest) =
                Document::parse(bytes, Some(&descriptor.media_type), &Limits::trusted())?
            && let Some(subject) = &manifest.subject
        {
            let listed = self.referrers.entry(fallback_tag(&subject.digest)?).or_default();
            listed.push(referrer_entry(descriptor, &manifest));
        }
        Ok(())
    }
}

impl std::fmt::Debug for LayoutWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayoutWriter").field("blobs", &self.written.len()).finish_non_exhaustive()
    }
}

/// The directory of a path in the layout, and the last name.
fn parent<'p>(top: &Dir, path: &'p str) -> Result<(Dir, &'p str)> {
    let mut dir = top.try_clone().map_err(cannot_write)?;
    let mut rest = path;
    while let Some((first, further)) = rest.split_once('/') {
        dir = dir.child(first.as_bytes()).map_err(cannot_write)?;
        rest = further;
    }
    Ok((dir, rest))
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::io("the layout cannot be written", error)
}
