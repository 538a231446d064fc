//! Verifies an image: reads everything and writes nothing.
//!
//! The result is the fingerprint, what the image holds, and each rule that it breaks. The rules are
//! those of unpacking: `layout` places the members, and `namespace` judges paths by hashes where
//! unpacking asks the tree on disk. An image without findings unpacks, except for what depends on
//! the machine (space, permissions).

use super::chunk::Chunk;
use super::content_digest::ContentDigest;
use super::entry::{Entry, EntryKind};
use super::image::Image;
use super::layout::ArchiveRole;
use super::namespace::Namespace;
use super::pipeline::{ReadPass, default_threads};
use super::qcow2::Qcow2;
use super::tar::SparseMap;
use super::visitor::MemberVisitor;
use crate::disk::AllocationTally;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::limits::Limits;
use crate::metadata::ImageType;
use crate::metadata::Metadata;
use crate::omissions::Omitted;
use crate::progress::{Monitor, Phase};

/// How an image is verified, and how two images are compared.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::format::{Image, ImageSource, VerifyOptions};
///
/// let image = Image::open(ImageSource::open("debian.tar.xz", None)?)?;
/// let report = image.verify(&VerifyOptions::new().threads(4), &Monitor::none())?;
/// println!("{} with {} members", report.fingerprint, report.counts.entries());
/// for finding in &report.findings {
///     eprintln!("{finding}");
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifyOptions {
    threads: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { threads: default_threads() }
    }
}

impl VerifyOptions {
    /// On all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many threads decode, at most. At least one.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }
}

/// How many members of each kind the root file system of an image has. All zero for a virtual
/// machine, whose root is a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberCounts {
    /// Regular files.
    pub files: u64,
    /// Directories that are members.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes and sockets.
    pub others: u64,
    /// Logical bytes of all regular files.
    pub bytes: u64,
}

impl MemberCounts {
    /// All members.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.files + self.directories + self.symlinks + self.hard_links + self.devices + self.others
    }

    /// Counts a member.
    fn take(&mut self, entry: &Entry) {
        let counter = match &entry.kind {
            EntryKind::File { size } => {
                self.bytes = self.bytes.saturating_add(*size);
                &mut self.files
            }
            EntryKind::Directory => &mut self.directories,
            EntryKind::Symlink { .. } => &mut self.symlinks,
            EntryKind::HardLink { .. } => &mut self.hard_links,
            EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => &mut self.devices,
            EntryKind::Fifo | EntryKind::Socket => &mut self.others,
        };
        *counter += 1;
    }
}

/// What reading a whole image showed.
///
/// An image is good when [`findings`](Self::findings) is empty. Each finding is an [`Error`] that
/// was not returned: its kind is to be matched, its file and entry say where, its message says
/// what.
#[derive(Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The fingerprint of the bytes as stored.
    pub fingerprint: Fingerprint,
    /// The size of all files in bytes.
    pub size: u64,
    /// Whether it is for a container or a virtual machine.
    pub image_type: ImageType,
    /// The metadata, when it can be read; what is wrong with it is among the findings.
    pub metadata: Option<Metadata>,
    /// The names in `templates/`, sorted.
    pub templates: Vec<Vec<u8>>,
    /// The content of `config.json`, in an image that Incus made of an OCI image.
    pub config_json: Option<Vec<u8>>,
    /// What the root file system holds.
    pub counts: MemberCounts,
    /// The disk of a virtual machine.
    pub disk: Option<Qcow2>,
    /// Bytes of the disk that are not known to be zeros: what it takes as a sparse raw file, at most.
    /// `None` for a disk whose tables one pass can't read, and for a container.
    pub disk_allocated: Option<u64>,
    /// Members at the archive's top that no image has: the first 1,000.
    pub strays: Vec<Vec<u8>>,
    /// Each rule that the image breaks, in the order of the archive: the first 1,000. Unpacking
    /// fails with the first of them, but for a rule of the metadata whose template is not there
    /// (`NotFound`, or `UnsafePath` for its name), which fails when the rule is applied.
    pub findings: Vec<Error>,
}

/// One item of an image, as a survey shows it.
pub(super) enum SurveyItem<'a> {
    /// A member of the root file system, and the digest of its content where contents are asked for.
    Member(&'a Entry, Option<&'a Fingerprint>),
    /// A template: its name and its content.
    Template(&'a [u8], &'a [u8]),
    /// The content of `config.json`.
    Config(&'a [u8]),
    /// The disk of a virtual machine: its size in bytes and the digest of its content, where contents are asked for.
    Disk(u64, &'a Fingerprint),
}

impl Image {
    /// Reads and decodes all of the image and checks every member. Rules that single members break
    /// are collected in [`VerifyReport::findings`]; damage to the archive itself is an error.
    ///
    /// Reads every byte of the image once and writes nothing, so it needs no space and no
    /// permissions.
    ///
    /// # Errors
    /// `Malformed`, `LimitExceeded` or `Unsupported` where reading can't go on; `Cancelled`; `Io`.
    pub fn verify(&self, options: &VerifyOptions, monitor: &Monitor) -> Result<VerifyReport> {
        self.survey_all(options, monitor, false, &mut |_| Ok(()))
    }

    /// As [`verify`](Self::verify), and shows every member of the root file system on the way, by
    /// its path below the root.
    ///
    /// The entry's path is relative to the root of the image's file system, and empty for the root
    /// itself. The digest is `None` here; [`survey_contents`](Self::survey_contents) computes it.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and those of `show`.
    pub fn survey(
        &self,
        options: &VerifyOptions,
        monitor: &Monitor,
        show: &mut dyn FnMut(&Entry, Option<&Fingerprint>) -> Result<()>,
    ) -> Result<VerifyReport> {
        self.survey_all(options, monitor, false, &mut |surveyed| match surveyed {
            SurveyItem::Member(entry, digest) => show(entry, digest),
            SurveyItem::Template(..) | SurveyItem::Config(..) | SurveyItem::Disk(..) => Ok(()),
        })
    }

    /// As [`survey`](Self::survey), with a digest of each regular file's content: equal for two
    /// files exactly when their contents are. It is not the content's sha256, since zeros in it
    /// cost no time, stored or not.
    ///
    /// # Errors
    /// As [`survey`](Self::survey).
    pub fn survey_contents(
        &self,
        options: &VerifyOptions,
        monitor: &Monitor,
        show: &mut dyn FnMut(&Entry, Option<&Fingerprint>) -> Result<()>,
    ) -> Result<VerifyReport> {
        self.survey_all(options, monitor, true, &mut |surveyed| match surveyed {
            SurveyItem::Member(entry, digest) => show(entry, digest),
            SurveyItem::Template(..) | SurveyItem::Config(..) | SurveyItem::Disk(..) => Ok(()),
        })
    }

    /// All that an image holds, in one pass: so that streams can be surveyed, and nothing is decoded twice.
    pub(super) fn survey_all(
        &self,
        options: &VerifyOptions,
        monitor: &Monitor,
        contents: bool,
        show: &mut dyn FnMut(SurveyItem<'_>) -> Result<()>,
    ) -> Result<VerifyReport> {
        let pass = ReadPass {
            limits: &self.limits,
            monitor,
            phase: Phase::Verify,
            threads: options.threads,
            total: self.size(),
        };
        let mut hasher = Hasher::new();
        let mut visitor = VerifyVisitor {
            show,
            contents,
            current: None,
            names: Namespace::new(&self.limits),
            counts: MemberCounts::default(),
            config_json: None,
            disk: None,
            tally: None,
            allocated: None,
            limits: &self.limits,
            strays: Vec::new(),
            findings: Vec::new(),
            monitor: pass.monitor,
        };
        let mut metadata = Vec::new();
        let mut templates = Vec::new();
        for part in &self.parts {
            let summary = self
                .visit(part, &pass, &mut hasher, &mut visitor)
                .map_err(|error| part.name_error(first_finding(&mut visitor.findings, error)))?;
            if part.role != ArchiveRole::Rootfs {
                metadata = summary.metadata;
                templates = summary.templates;
            }
        }
        let monitor = visitor.monitor;
        let VerifyVisitor { counts, config_json, disk, allocated, strays, mut findings, .. } = visitor;
        let metadata = match Metadata::parse(&metadata, &self.limits) {
            Ok(metadata) => {
                findings.extend(template_findings(&metadata, &templates));
                for (path, _) in metadata.templates().filter(|(_, rule)| rule.never_fires()) {
                    let reason = "its `when` names none of create, copy, rename and start, so that it never fires";
                    let what = Omitted::NotHonoured { option: "the template rule".into(), reason: reason.into() };
                    monitor.omit(path, what);
                }
                Some(metadata)
            }
            Err(error) => {
                findings.push(self.parts[0].name_error(error.in_entry(b"metadata.yaml")));
                None
            }
        };
        monitor.report(Phase::Verify, hasher.bytes(), Some(hasher.bytes()))?;
        Ok(VerifyReport {
            size: hasher.bytes(),
            fingerprint: hasher.finish(),
            image_type: if disk.is_some() { ImageType::VirtualMachine } else { ImageType::Container },
            metadata,
            templates,
            config_json,
            counts,
            disk,
            disk_allocated: allocated,
            strays,
            findings,
        })
    }
}

/// The error to return where reading ended early: the first finding, if there is one, as unpacking
/// would have stopped there. Errors that say nothing about the image (cancelled, I/O) are returned
/// as they are.
fn first_finding(findings: &mut Vec<Error>, last: Error) -> Error {
    match last.kind() {
        ErrorKind::Cancelled | ErrorKind::Io | ErrorKind::StorageFull => last,
        _ if findings.is_empty() => last,
        _ => findings.swap_remove(0),
    }
}

/// The template rules of the metadata whose template is not in the image: each instance made of it
/// would fail to start.
fn template_findings(metadata: &Metadata, templates: &[Vec<u8>]) -> Vec<Error> {
    metadata
        .templates()
        .filter(|(_, rule)| !templates.iter().any(|name| name == rule.template().as_bytes()))
        .map(|(path, rule)| {
            let name = rule.template();
            if name.is_empty() {
                return Error::new(ErrorKind::NotFound, format!("the rule for `{path}` names no template"));
            }
            if name.contains(['/', '\0']) || name == "." || name == ".." {
                return Error::unsafe_path(format!(
                    "the rule for `{path}` names the template `{name}`, which is no plain name"
                ));
            }
            Error::new(
                ErrorKind::NotFound,
                format!("the rule for `{path}` names the template `{name}`, which is not in the image"),
            )
        })
        .collect()
}

/// The visitor that counts members and collects findings.
struct VerifyVisitor<'a> {
    show: &'a mut dyn FnMut(SurveyItem<'_>) -> Result<()>,
    /// Whether the content of files is hashed.
    contents: bool,
    /// The file, or with `None` the disk, whose bytes are coming.
    current: Option<(Option<Entry>, u64, ContentDigest)>,
    names: Namespace,
    counts: MemberCounts,
    config_json: Option<Vec<u8>>,
    disk: Option<Qcow2>,
    /// Counts what the disk whose bytes are coming has allocated.
    tally: Option<AllocationTally>,
    allocated: Option<u64>,
    limits: &'a Limits,
    strays: Vec<Vec<u8>>,
    findings: Vec<Error>,
    monitor: &'a Monitor,
}

/// Findings and stray members that are kept at most: a hostile image may have millions.
const MAX_KEPT: usize = 1_000;

impl MemberVisitor for VerifyVisitor<'_> {
    fn metadata(&mut self, _: &Entry, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn config(&mut self, _: &Entry, content: &[u8]) -> Result<()> {
        self.config_json = Some(content.to_vec());
        (self.show)(SurveyItem::Config(content))
    }

    fn template(&mut self, _: &Entry, name: &[u8], content: &[u8]) -> Result<()> {
        (self.show)(SurveyItem::Template(name, content))
    }

    fn rootfs(&mut self, entry: &Entry, _: Option<&SparseMap>) -> Result<()> {
        if let Err(error) = self.names.take(&entry.path, entry) {
            let error = error.in_entry(&entry.path);
            return if error.kind() == ErrorKind::LimitExceeded { Err(error) } else { self.broken(error) };
        }
        self.counts.take(entry);
        if let EntryKind::File { size } = entry.kind
            && self.contents
        {
            self.current = Some((Some(entry.clone()), size, ContentDigest::default()));
            return Ok(());
        }
        (self.show)(SurveyItem::Member(entry, None))
    }

    fn disk(&mut self, entry: &Entry, _: Option<&SparseMap>, about: &Qcow2) -> Result<()> {
        if let EntryKind::File { size } = entry.kind
            && self.contents
        {
            self.current = Some((None, size, ContentDigest::default()));
        }
        if let EntryKind::File { size } = entry.kind {
            self.tally = Some(AllocationTally::new(size, self.limits));
        }
        self.disk = Some(about.clone());
        Ok(())
    }

    fn data(&mut self, offset: u64, piece: Chunk) -> Result<()> {
        if let Some(tally) = &mut self.tally {
            tally.take(offset, &piece);
        }
        if let Some((_, _, digest)) = &mut self.current {
            digest.take(offset, &piece);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(tally) = self.tally.take() {
            self.allocated = tally.finish();
        }
        let Some((entry, size, digest)) = self.current.take() else { return Ok(()) };
        let digest = digest.finish(size);
        (self.show)(match &entry {
            Some(entry) => SurveyItem::Member(entry, Some(&digest)),
            None => SurveyItem::Disk(size, &digest),
        })
    }

    fn omitted(&mut self, path: &[u8], what: &Omitted) {
        self.monitor.omit(path, what.clone());
    }

    fn stray(&mut self, entry: &Entry) -> Result<()> {
        self.monitor.omit(entry.path.as_slice(), Omitted::Stray);
        if self.strays.len() < MAX_KEPT {
            self.strays.push(entry.path.clone());
        }
        Ok(())
    }

    fn broken(&mut self, error: Error) -> Result<()> {
        if self.findings.len() < MAX_KEPT {
            self.findings.push(error);
        }
        Ok(())
    }
}
