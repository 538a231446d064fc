//! Reads all templates of an image in one pass. Their number and size are bounded by the layout, so
//! that they can be kept in memory.
//!
//! The files of `templates/` are returned, whether `metadata.yaml` names them or not. Which of them
//! apply, and when, is decided by the rules in the metadata.

use super::chunk::Chunk;
use super::entry::Entry;
use super::image::Image;
use super::layout::ArchiveRole;
use super::pipeline::ReadPass;
use super::pipeline::default_threads;
use super::qcow2::Qcow2;
use super::tar::SparseMap;
use super::visitor::MemberVisitor;
use crate::error::Result;
use crate::fingerprint::Hasher;
use crate::progress::{Monitor, Phase};

impl Image {
    /// All templates: name and content, sorted by name. Reads the image, or the metadata file of a split
    /// one, to its end.
    ///
    /// A split image's rootfs is not read. The fingerprint is not checked; verify the image for
    /// that.
    ///
    /// # Errors
    /// Those of unpacking: a template that is no regular file, too many, too large.
    pub fn templates(&self, monitor: &Monitor) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let pass = ReadPass {
            limits: &self.limits,
            monitor,
            phase: Phase::Verify,
            threads: default_threads(),
            total: self.parts[0].input.len(),
        };
        let mut found = TemplateCollector(Vec::new());
        for part in self.parts.iter().filter(|part| part.role != ArchiveRole::Rootfs) {
            self.visit(part, &pass, &mut Hasher::new(), &mut found).map_err(|error| part.name_error(error))?;
        }
        found.0.sort();
        Ok(found.0)
    }
}

/// The visitor that keeps templates, by name and content, and ignores everything else.
struct TemplateCollector(Vec<(Vec<u8>, Vec<u8>)>);

impl MemberVisitor for TemplateCollector {
    fn metadata(&mut self, _: &Entry, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn template(&mut self, _: &Entry, name: &[u8], content: &[u8]) -> Result<()> {
        self.0.push((name.to_vec(), content.to_vec()));
        Ok(())
    }

    fn rootfs(&mut self, _: &Entry, _: Option<&SparseMap>) -> Result<()> {
        Ok(())
    }

    fn disk(&mut self, _: &Entry, _: Option<&SparseMap>, _: &Qcow2) -> Result<()> {
        Ok(())
    }

    fn data(&mut self, _: u64, _: Chunk) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn stray(&mut self, _: &Entry) -> Result<()> {
        Ok(())
    }
}
