//! Who stored an image: the client of a server that uploaded or imported it, for its quota.
//!
//! It is kept beside the image, and goes with it, so that a quota holds over restarts and for all servers of a store.

#[cfg(feature = "server")]
use std::collections::BTreeSet;

use super::catalog::{Attachment, Transaction};
use super::import::ImportOptions;
use super::open::Store;
use crate::error::Result;
use crate::fingerprint::Fingerprint;

/// What the names of attachments that tell the owner begin with; the client and a slash follow, so that no client's name is the
/// beginning of another's.
const STORED_BY: &str = "stored-by:";

/// The name of the attachment for a client.
fn attachment_name(client: &str) -> String {
    format!("{STORED_BY}{client}/")
}

impl ImportOptions {
    /// Sets the client of a server that stores the image, in a form without a slash. It counts against its quota.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn stored_by(mut self, client: String) -> Self {
        self.owner = Some(client);
        self
    }

    /// Records the client that stores the image, in the caller's transaction.
    pub(crate) fn keep_owner(&self, store: &Store, catalog: &mut dyn Transaction, image: &Fingerprint) -> Result<()> {
        match &self.owner {
            Some(client) => catalog.attach(image, &Attachment::new(attachment_name(client), "", store.now())),
            None => Ok(()),
        }
    }
}

impl Store {
    /// The images that a client of a server stored.
    ///
    /// # Errors
    /// Those of the catalog.
    #[cfg(feature = "server")]
    pub(crate) fn images_stored_by(&self, client: &str) -> Result<BTreeSet<Fingerprint>> {
        self.catalog.attached(&attachment_name(client))
    }
}

/// Gives an image that takes the place of another its owner, in the caller's transaction.
pub(super) fn inherit_owner(catalog: &mut dyn Transaction, old: &Fingerprint, new: &Fingerprint) -> Result<()> {
    for attachment in catalog.attachments(old)?.iter().filter(|one| one.name.starts_with(STORED_BY)) {
        catalog.attach(new, attachment)?;
    }
    Ok(())
}
