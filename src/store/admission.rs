//! The gate: checks the policy of a store in the transaction that makes an image visible.
//!
//! Every change of rows runs through [`Store::write_admitted`]. It notes which images a transaction makes visible, or
//! visible in another way: a new row, an alias, other properties or another source, a cached image that becomes
//! permanent, a private one that becomes public. Before the commit it asks the policy about each, by what the catalog
//! holds then. So no way into the store leads around it, and none has to remember to ask. Images that were in the store
//! before it had the policy stay; removing and losing aliases is always allowed.
//!
//! Without the feature `trust` there are no policies, and the gate lets everything pass.

use super::catalog::Transaction;
use super::open::Store;
use crate::error::Result;

impl Store {
    /// Runs `work` in a transaction of the catalog, and checks the policy before it commits.
    ///
    /// # Errors
    /// `Untrusted` if the policy refuses an image; those of [`Catalog::write`](super::Catalog::write). Nothing has
    /// changed then.
    #[cfg(feature = "trust")]
    pub(crate) fn write_admitted(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let Some(policy) = &self.options.policy else { return self.catalog.write(work) };
        let now = self.now();
        self.catalog.write(&mut |catalog| {
            let mut gate = gate::Gate::new(catalog);
            work(&mut gate)?;
            gate.admit(policy, now)
        })
    }

    #[cfg(not(feature = "trust"))]
    pub(crate) fn write_admitted(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.catalog.write(work)
    }
}

#[cfg(feature = "trust")]
mod gate {
    use std::collections::BTreeSet;

    use super::super::blobs::BlobKey;
    use super::super::catalog::{Attachment, Object, Transaction};
    use super::super::image::{Alias, AliasTarget, StoredImage};
    use super::super::statements::{ADMISSION, decide, json_text};
    use crate::error::Result;
    use crate::fingerprint::Fingerprint;
    use crate::format::ImageType;
    use crate::trust::Policy;

    /// A transaction that notes which images become visible.
    pub(super) struct Gate<'a> {
        catalog: &'a mut dyn Transaction,
        visible: BTreeSet<Fingerprint>,
    }

    impl<'a> Gate<'a> {
        pub(super) fn new(catalog: &'a mut dyn Transaction) -> Self {
            Self { catalog, visible: BTreeSet::new() }
        }

        /// Asks the policy about each image that becomes visible, and keeps its answer beside the image.
        pub(super) fn admit(self, policy: &Policy, now: i64) -> Result<()> {
            for fingerprint in &self.visible {
                let Some(image) = self.catalog.image(fingerprint)? else { continue };
                let attachments = self.catalog.attachments(fingerprint)?;
                let admission = decide(policy, &image, &attachments)?;
                let content = json_text(&admission)?;
                let before = attachments.iter().find(|attachment| attachment.name == ADMISSION);
                if before.is_none_or(|before| before.content != content) {
                    self.catalog.attach(fingerprint, &Attachment::new(ADMISSION, content, now))?;
                }
            }
            Ok(())
        }
    }

    /// Whether a change of a row shows the image to others, or lets it match other rules.
    fn shows(before: &StoredImage, after: &StoredImage) -> bool {
        !before.public && after.public
            || before.cached && !after.cached
            || before.properties != after.properties
            || before.source != after.source
    }

    impl Transaction for Gate<'_> {
        fn image(&mut self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
            self.catalog.image(fingerprint)
        }

        fn alias(&mut self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
            self.catalog.alias(name, image_type)
        }

        fn insert(&mut self, image: &StoredImage) -> Result<()> {
            self.visible.insert(image.fingerprint);
            self.catalog.insert(image)
        }

        fn update(&mut self, image: &StoredImage, expected: u64) -> Result<()> {
            if self.catalog.image(&image.fingerprint)?.is_some_and(|before| shows(&before, image)) {
                self.visible.insert(image.fingerprint);
            }
            self.catalog.update(image, expected)
        }

        fn set_last_used(&mut self, fingerprint: &Fingerprint, seconds: i64) -> Result<()> {
            self.catalog.set_last_used(fingerprint, seconds)
        }

        fn set_sidecar(&mut self, fingerprint: &Fingerprint, revision: u64, key: &BlobKey) -> Result<bool> {
            self.catalog.set_sidecar(fingerprint, revision, key)
        }

        fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()> {
            self.visible.remove(fingerprint);
            self.catalog.remove(fingerprint)
        }

        fn set_alias(&mut self, alias: &Alias, target: &AliasTarget) -> Result<()> {
            // Only another description: nothing becomes visible.
            let there = self.catalog.alias(&alias.name, target.image_type)?;
            if there.is_none_or(|(_, before)| before != *target) {
                self.visible.insert(target.fingerprint);
            }
            self.catalog.set_alias(alias, target)
        }

        fn remove_alias(&mut self, name: &str, image_type: ImageType) -> Result<()> {
            self.catalog.remove_alias(name, image_type)
        }

        fn attachments(&mut self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
            self.catalog.attachments(fingerprint)
        }

        fn attach(&mut self, fingerprint: &Fingerprint, attachment: &Attachment) -> Result<()> {
            self.catalog.attach(fingerprint, attachment)
        }

        fn object(&mut self, key: &BlobKey) -> Result<Option<Object>> {
            self.catalog.object(key)
        }

        fn put_object(&mut self, object: &Object) -> Result<()> {
            self.catalog.put_object(object)
        }

        fn remove_object(&mut self, key: &BlobKey) -> Result<()> {
            self.catalog.remove_object(key)
        }
    }
}
