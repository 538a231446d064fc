//! The templates of an image, as a verb gets them.

use std::path::Path;

use lxd_image::templates::InstanceDir;
use lxd_image::{Metadata, Result};

use crate::options::Session;
use crate::store::TypeArgument;

/// The metadata and all templates of an image, packed or unpacked. Templates are held in memory, within the limits.
pub(super) struct Templates {
    /// The metadata with the template rules.
    pub(super) metadata: Metadata,
    /// Name and content of each file in `templates/`.
    pub(super) files: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Templates {
    /// Reads metadata and templates of a packed image or of a directory.
    ///
    /// # Errors
    /// Those of opening and reading the image; `LimitExceeded` for too many or too large templates.
    pub(super) fn read(image: &Path, rootfs: Option<&Path>, session: &Session) -> Result<Self> {
        if rootfs.is_none() && image.is_dir() {
            let dir = InstanceDir::open(image)?;
            let files = dir
                .template_names(&session.limits)?
                .into_iter()
                .map(|name| Ok((dir.template(&name, &session.limits)?, name)))
                .map(|read: Result<_>| read.map(|(content, name)| (name, content)))
                .collect::<Result<_>>()?;
            return Ok(Self { metadata: dir.metadata(&session.limits)?, files });
        }
        let image = session.open(image, rootfs, TypeArgument::default())?;
        let (monitor, shown) = session.monitor();
        let metadata = image.metadata()?;
        let files = image.templates(&monitor);
        drop(shown);
        Ok(Self { metadata, files: files? })
    }

    /// The rules that use a template. A template may have several, and names are bytes, because archives may hold any.
    pub(super) fn rules<'t>(&'t self, name: &'t [u8]) -> impl Iterator<Item = (&'t str, &'t lxd_image::TemplateRule)> {
        self.metadata.templates().filter(move |(_, rule)| rule.template().as_bytes() == name)
    }
}
