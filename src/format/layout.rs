//! Where a member of an archive belongs in an image, and which members an image must and must not
//! have.
//!
//! One judge for unpacking, verifying, converting and comparing, so that all of them see the same
//! image. [`Layout::place`] is called for each member in the order of the archive,
//! [`Layout::finish`] at the end.
//!
//! The rules follow what LXD and Incus accept: `metadata.yaml` at the top, templates as plain files
//! in one directory, and a root in one of two forms, `rootfs/` or `rootfs.img`. Anything else at
//! the top is a stray member, which is never written. Archives of other kinds (OVA, Docker, OCI, a
//! bare root file system) are recognised by the names at their top, for the error that says what to
//! do.

use std::collections::BTreeMap;

use super::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::limits::Limits;

/// Which archive of an image is being read. It decides what the top of the archive means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArchiveRole {
    /// The only one: metadata, templates and rootfs.
    Unified,
    /// The first of a split image: metadata and templates.
    Metadata,
    /// The second of a split image: its top is the root directory.
    Rootfs,
}

/// Where a member belongs in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberPlace {
    /// The archive's own top (`./`) in an image with metadata: says nothing.
    Top,
    /// The file `metadata.yaml`.
    Metadata,
    /// The directory `templates/`.
    TemplatesDir,
    /// A file in `templates/`, by its name.
    Template(Vec<u8>),
    /// In the root file system, by the path below it; the root itself is empty.
    Rootfs(Vec<u8>),
    /// The file `rootfs.img`.
    Disk,
    /// The file `config.json`, which tells Incus what a container of an OCI image runs.
    RuntimeConfig,
    /// At the top, and nothing that an image has: never written.
    Stray,
}

/// Places members in the order of the archive, and remembers which parts of an image were seen.
#[derive(Debug)]
pub(crate) struct Layout {
    role: ArchiveRole,
    limits: Limits,
    /// The content of `metadata.yaml`, once it came.
    metadata: Option<Vec<u8>>,
    /// The content of `config.json`, once it came.
    runtime_config: Option<Vec<u8>>,
    /// The templates so far, with their sizes.
    templates: BTreeMap<Vec<u8>, u64>,
    template_bytes: u64,
    /// Whether a member of `rootfs/` came.
    rootfs: bool,
    /// Whether `rootfs.img` came.
    disk: bool,
    /// Members so far.
    members: u64,
    strays: StrayNames,
    foreign: ForeignNames,
}

/// Names at an archive's top by which an archive of another kind is recognised.
#[derive(Debug, Default)]
struct ForeignNames {
    /// An OVF description: a virtual appliance.
    appliance: bool,
    /// A file of `docker save`.
    docker: bool,
    /// The file `oci-layout`.
    oci: bool,
    /// Members of a root directory.
    root: u32,
}

impl ForeignNames {
    /// Takes the first component of a member's path; `alone` says that the path has no further one.
    fn take(&mut self, first: &[u8], alone: bool) {
        match first {
            b"oci-layout" => self.oci = true,
            b"manifest.json" | b"repositories" => self.docker = true,
            name if alone && name.ends_with(b".ovf") => self.appliance = true,
            b"bin" | b"dev" | b"etc" | b"home" | b"lib" | b"proc" | b"root" | b"run" | b"sbin" | b"sys" | b"tmp"
            | b"usr" | b"var" => self.root = self.root.saturating_add(1),
            _ => {}
        }
    }

    /// What the archive is instead of an image, as far as it was read.
    fn name(&self) -> Option<Error> {
        if self.appliance {
            let error = Error::malformed("this is a virtual appliance (OVA), and no image");
            return Some(error.with_hint(
                "unpack it with `tar -xf`, convert its disk with `qemu-img convert -f vmdk -O qcow2`, and `pack` that",
            ));
        }
        if !self.oci && !self.docker {
            return None;
        }
        let kind = if self.oci { "OCI" } else { "Docker" };
        let error = Error::malformed(format!("this is an archive of layers for {kind}, and no image of LXD or Incus"));
        Some(error.with_hint(
            "make a root file system of its layers, for example with `docker export` of a container, and `pack` that",
        ))
    }
}

/// The error for a root file system that was given without its metadata.
pub(crate) fn lone_rootfs(kind: ErrorKind) -> Error {
    Error::new(kind, "this is a root file system without `metadata.yaml`, which is one file of a split image")
        .with_hint("name its metadata file too; a root file system alone becomes an image with `pack`")
}

impl Layout {
    /// A layout that has seen no member.
    pub(crate) fn new(role: ArchiveRole, limits: &Limits) -> Self {
        Self {
            role,
            limits: limits.clone(),
            metadata: None,
            runtime_config: None,
            templates: BTreeMap::new(),
            template_bytes: 0,
            rootfs: false,
            disk: false,
            members: 0,
            strays: StrayNames::default(),
            foreign: ForeignNames::default(),
        }
    }

    /// Says where `entry` belongs. A hard link's target in a rootfs is made relative to the rootfs.
    ///
    /// # Errors
    /// `UnsafePath`, `Malformed`, `InvalidInput` or `LimitExceeded` for what no image may hold.
    pub(crate) fn place(&mut self, entry: &mut Entry) -> Result<MemberPlace> {
        self.members += 1;
        if entry.path.is_empty() {
            return self.top(entry);
        }
        if self.role == ArchiveRole::Rootfs {
            if let EntryKind::HardLink { target } = &entry.kind
                && target.is_empty()
            {
                return Err(Error::malformed("a hard link to the root directory"));
            }
            return Ok(MemberPlace::Rootfs(entry.path.clone()));
        }
        let (first, rest) = match entry.path.iter().position(|&byte| byte == b'/') {
            Some(at) => (&entry.path[..at], &entry.path[at + 1..]),
            None => (&entry.path[..], &[][..]),
        };
        match first {
            b"metadata.yaml" => {
                if !rest.is_empty() {
                    return Err(Error::malformed("something lies below `metadata.yaml`, which is a file"));
                }
                self.need_file(entry, "metadata.yaml")?;
                Ok(MemberPlace::Metadata)
            }
            b"templates" if rest.is_empty() => {
                if !entry.is_directory() {
                    return Err(Error::unsafe_path("`templates` is not a directory"));
                }
                Ok(MemberPlace::TemplatesDir)
            }
            b"templates" => self.template(entry, rest.to_vec()),
            b"rootfs" => {
                let rest = rest.to_vec();
                self.in_rootfs(entry, rest)
            }
            b"rootfs.img" => {
                if !rest.is_empty() {
                    return Err(Error::malformed("something lies below `rootfs.img`, which is a file"));
                }
                self.need_file(entry, "rootfs.img")?;
                if self.role == ArchiveRole::Metadata {
                    return Err(two_roots());
                }
                if self.rootfs {
                    return Err(both_roots());
                }
                if std::mem::replace(&mut self.disk, true) {
                    return Err(Error::malformed("`rootfs.img` is there twice"));
                }
                Ok(MemberPlace::Disk)
            }
            // A larger one is another program's: it is as stray as any other file.
            b"config.json"
                if rest.is_empty()
                    && matches!(entry.kind, EntryKind::File { size } if size <= self.limits.metadata) =>
            {
                Ok(MemberPlace::RuntimeConfig)
            }
            _ => {
                // Only counted here; whether it is an archive of another kind shows at the end,
                // when no part of an image came.
                self.foreign.take(first, rest.is_empty());
                match entry.kind {
                    EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) if self.is_lone_rootfs() => {
                        Err(lone_rootfs(ErrorKind::Malformed))
                    }
                    EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => {
                        Err(Error::unsafe_path("a device outside of the root file system"))
                    }
                    _ => {
                        self.strays.add(first, rest, &entry.kind);
                        Ok(MemberPlace::Stray)
                    }
                }
            }
        }
    }

    /// Whether nothing of an image was seen so far, and a root directory was.
    fn is_lone_rootfs(&self) -> bool {
        self.role == ArchiveRole::Unified
            && self.metadata.is_none()
            && !self.rootfs
            && !self.disk
            && self.templates.is_empty()
            && self.foreign.root > 1
    }

    /// Takes the content of `metadata.yaml`.
    ///
    /// # Errors
    /// `Malformed` for a second one with different content: which of them counts would depend on
    /// the reader.
    pub(crate) fn metadata(&mut self, content: Vec<u8>) -> Result<()> {
        match &self.metadata {
            Some(first) if *first != content => {
                Err(Error::malformed("`metadata.yaml` is there twice, with different content"))
            }
            _ => {
                self.metadata = Some(content);
                Ok(())
            }
        }
    }

    /// Takes the content of `config.json`.
    ///
    /// # Errors
    /// `Malformed` for a second one with different content.
    pub(crate) fn runtime_config(&mut self, content: Vec<u8>) -> Result<()> {
        match &self.runtime_config {
            Some(first) if *first != content => {
                Err(Error::malformed("`config.json` is there twice, with different content"))
            }
            _ => {
                self.runtime_config = Some(content);
                Ok(())
            }
        }
    }

    /// At the end of the archive: the content of `metadata.yaml` (empty for a rootfs archive).
    ///
    /// # Errors
    /// `Malformed` when something is missing.
    pub(crate) fn finish(self) -> Result<LayoutSummary> {
        if self.role == ArchiveRole::Rootfs {
            if self.members == 0 {
                return Err(Error::malformed("the rootfs archive is empty"));
            }
            return Ok(LayoutSummary { metadata: Vec::new(), templates: Vec::new(), disk: false });
        }
        let Some(metadata) = self.metadata else {
            let other_parts = self.rootfs || self.disk || !self.templates.is_empty();
            let foreign = self.foreign.name().filter(|_| !other_parts);
            return Err(foreign.unwrap_or_else(|| self.strays.no_metadata(other_parts)));
        };
        if self.role == ArchiveRole::Unified && !self.rootfs && !self.disk {
            return Err(self.strays.no_root());
        }
        let templates = self.templates.into_keys().collect();
        Ok(LayoutSummary { metadata, templates, disk: self.disk })
    }

    /// The member that is the archive's own top.
    fn top(&mut self, entry: &Entry) -> Result<MemberPlace> {
        match entry.kind {
            EntryKind::Directory if self.role == ArchiveRole::Rootfs => Ok(MemberPlace::Rootfs(Vec::new())),
            EntryKind::Directory => Ok(MemberPlace::Top),
            EntryKind::Symlink { .. } | EntryKind::HardLink { .. } => {
                Err(Error::unsafe_path("the top of the archive is a link"))
            }
            _ => Err(Error::malformed("the top of the archive is not a directory")),
        }
    }

    /// Fails unless the entry is a regular file.
    fn need_file(&self, entry: &Entry, name: &str) -> Result<()> {
        match entry.kind {
            EntryKind::File { .. } => Ok(()),
            EntryKind::Directory => Err(Error::malformed(format!("`{name}` is a directory"))),
            _ => Err(Error::unsafe_path(format!("`{name}` is not a regular file"))),
        }
    }

    /// Places a file of `templates/`, within the limits on their number and size.
    fn template(&mut self, entry: &Entry, name: Vec<u8>) -> Result<MemberPlace> {
        let EntryKind::File { size } = entry.kind else {
            return Err(Error::unsafe_path("something in `templates/` is not a regular file"));
        };
        if name.contains(&b'/') {
            return Err(Error::unsafe_path("`templates/` holds files only, no directories"));
        }
        if size > self.limits.template_file {
            return Err(Error::limit(
                "template_file",
                self.limits.template_file,
                format_args!("a template of {size} bytes"),
            ));
        }
        self.template_bytes = self.template_bytes.saturating_add(size);
        if self.template_bytes > self.limits.template_bytes {
            return Err(Error::limit("template_bytes", self.limits.template_bytes, "the size of all templates"));
        }
        self.templates.insert(name.clone(), size);
        if self.templates.len() as u64 > self.limits.templates {
            return Err(Error::limit("templates", self.limits.templates, "the number of templates"));
        }
        Ok(MemberPlace::Template(name))
    }

    /// Places a member of `rootfs/`, and makes a hard link's target relative to the root.
    fn in_rootfs(&mut self, entry: &mut Entry, rest: Vec<u8>) -> Result<MemberPlace> {
        if rest.is_empty() {
            match entry.kind {
                EntryKind::Directory => {}
                EntryKind::File { .. } => return Err(Error::malformed("`rootfs` is a file, not a directory")),
                _ => return Err(Error::unsafe_path("`rootfs` is not a directory of its own")),
            }
        }
        if self.role == ArchiveRole::Metadata {
            return Err(two_roots());
        }
        if self.disk {
            return Err(both_roots());
        }
        self.rootfs = true;
        if let EntryKind::HardLink { target } = &mut entry.kind {
            let inside = target.strip_prefix(b"rootfs/").filter(|inside| !inside.is_empty());
            *target = inside
                .ok_or_else(|| Error::unsafe_path("a hard link from the root file system to outside of it"))?
                .to_vec();
        }
        Ok(MemberPlace::Rootfs(rest))
    }
}

/// Names at an archive's top that belong to no image: for the error, when a part is missing.
#[derive(Debug, Default)]
struct StrayNames {
    /// The first few names, and whether each is a file.
    names: Vec<(Vec<u8>, bool)>,
    /// Whether there were more than are named.
    more: bool,
    /// Whether an image lies below one of them.
    nested: bool,
}

impl StrayNames {
    /// Names that the error shows at most.
    const NAMED: usize = 4;

    /// Takes the path of a stray member, split after its first component.
    fn add(&mut self, first: &[u8], rest: &[u8], kind: &EntryKind) {
        let inner = rest.split(|&byte| byte == b'/').next().unwrap_or_default();
        self.nested |= matches!(inner, b"metadata.yaml" | b"rootfs" | b"rootfs.img");
        if self.names.iter().any(|(known, _)| known == first) {
            return;
        }
        if self.names.len() == Self::NAMED {
            self.more = true;
            return;
        }
        self.names.push((first.to_vec(), rest.is_empty() && matches!(kind, EntryKind::File { .. })));
    }

    /// "`a/`, `b` and more".
    fn shown(&self) -> String {
        let names: Vec<String> = self
            .names
            .iter()
            .map(|(name, is_file)| format!("`{}{}`", Escaped(name), if *is_file { "" } else { "/" }))
            .collect();
        names.join(", ") + if self.more { " and more" } else { "" }
    }

    /// The error for an archive without metadata, with a hint by what is there instead.
    fn no_metadata(&self, other_parts: bool) -> Error {
        let sentence = "there is no `metadata.yaml` at the top of the archive, so this is no image";
        if self.names.is_empty() {
            return Error::malformed(sentence);
        }
        let error = Error::malformed(format!("{sentence}; at its top: {}", self.shown()));
        match &self.names[..] {
            [(name, false)] if self.nested && !other_parts => {
                let name = Escaped(name);
                error.with_hint(format!(
                    "all of it lies below `{name}/`: make the archive again inside of that directory, as with `tar -C {name} -cf IMAGE .`"
                ))
            }
            _ if other_parts => error,
            _ => error.with_hint("if this is the rootfs of a split image, name its metadata file too"),
        }
    }

    /// The error for an image without a root, with a hint by what is there instead.
    fn no_root(&self) -> Error {
        let sentence = "the image has neither `rootfs/` nor `rootfs.img`";
        let split = "if this is the metadata of a split image, name its rootfs file too";
        if self.names.is_empty() {
            return Error::malformed(sentence).with_hint(split);
        }
        let error = Error::malformed(format!("{sentence}; at its top: {}", self.shown()));
        match self.names.iter().find(|(_, is_file)| *is_file) {
            Some((name, _)) => error.with_hint(format!(
                "if `{}` is a qcow2 disk, give it the name `rootfs.img` in the archive, or give metadata and disk as two files",
                Escaped(name)
            )),
            None => error.with_hint(
                "a root file system goes below `rootfs/`; if this is the metadata of a split image, name its rootfs file too",
            ),
        }
    }
}

/// The error for an image that is a container and a virtual machine at once.
fn both_roots() -> Error {
    Error::malformed("the image has both `rootfs/` and `rootfs.img`: container or virtual machine?")
}

/// The error for a split image whose first file has a root as well.
fn two_roots() -> Error {
    Error::invalid("the metadata archive of a split image brings a root file system of its own")
        .with_hint("a unified image is given alone, without a second file")
}

/// What an archive held beside a root file system.
#[derive(Debug)]
pub(crate) struct LayoutSummary {
    /// The bytes of `metadata.yaml`.
    pub(crate) metadata: Vec<u8>,
    /// The names in `templates/`, sorted.
    pub(crate) templates: Vec<Vec<u8>>,
    /// Whether the root is `rootfs.img`.
    pub(crate) disk: bool,
}
