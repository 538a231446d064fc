//! Statements beside images: who vouched for them, kept in the catalog and in sidecars, and asked by the policy.

#[cfg(feature = "server")]
use std::collections::BTreeSet;

use super::catalog::{Attachment, Transaction};
use super::image::StoredImage;
use super::open::{OpenedImage, Store, missing};
use super::reconcile::bump_revision;
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::io as bytes;
use crate::limits::Limits;
use crate::progress::{Monitor, Phase};
use crate::trust::{Admission, Candidate, Envelope, Evidence, Policy, SignedList, Statement};

/// What the names of attachments with statements begin with; the rest is the digest of the envelope.
const STATEMENT: &str = "statement:";
/// The name of the attachment that says who signed the list of the image's server.
const LIST: &str = "signed-list";
/// The name of the attachment with the policy's answer.
pub(super) const ADMISSION: &str = "admission";

/// Who vouched for an image of a store, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vouched {
    /// Who signed the list of the server that the image came from, and when that was noted, in seconds since 1970.
    pub list: Option<(SignedList, i64)>,
    /// What the policy answered, and when, in seconds since 1970; `None` if the store had no policy.
    pub admission: Option<(Admission, i64)>,
}

/// A value as the text of an attachment.
pub(super) fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::malformed("an attachment can't be written").with_source(error))
}

/// The statements among the attachments of an image.
fn envelopes(attachments: &[Attachment]) -> Result<Vec<Envelope>> {
    let statements = attachments.iter().filter(|attachment| attachment.name.starts_with(STATEMENT));
    statements.map(|attachment| Envelope::parse_with(attachment.content.as_bytes(), &Limits::trusted())).collect()
}

/// The value of an attachment with this name, and when it was added.
fn value<T: serde::de::DeserializeOwned>(attachments: &[Attachment], name: &str) -> Result<Option<(T, i64)>> {
    let Some(found) = attachments.iter().find(|attachment| attachment.name == name) else { return Ok(None) };
    let value = serde_json::from_str(&found.content).map_err(|error| {
        Error::malformed(format!("the catalog's attachment `{name}` is damaged")).with_source(error)
    })?;
    Ok(Some((value, found.added_at)))
}

/// Asks a policy about an image as the catalog has it.
pub(super) fn decide(policy: &Policy, image: &StoredImage, attachments: &[Attachment]) -> Result<Admission> {
    let statements = envelopes(attachments)?;
    let list = value::<SignedList>(attachments, LIST)?.map(|(list, _)| list);
    let aliases: Vec<&str> = image.aliases.iter().map(|alias| alias.name.as_str()).collect();
    policy.admit(&Candidate {
        fingerprint: &image.fingerprint,
        server: image.source.as_ref().map(|source| source.server.as_str()),
        aliases: &aliases,
        properties: &image.properties,
        list: list.as_ref(),
        statements: &statements,
    })
}

impl Store {
    /// Keeps what vouches for an image beside it, in the caller's transaction. Returns whether there was anything new;
    /// the caller raises the revision of the row then.
    ///
    /// # Errors
    /// `Mismatch` for a statement about another image; `LimitExceeded` (`statements`).
    pub(crate) fn keep_evidence(
        &self,
        catalog: &mut dyn Transaction,
        fingerprint: &Fingerprint,
        evidence: &Evidence,
    ) -> Result<bool> {
        if evidence.is_empty() {
            return Ok(false);
        }
        let there = catalog.attachments(fingerprint)?;
        let mut total: u64 =
            there.iter().filter(|one| one.name.starts_with(STATEMENT)).map(|one| one.content.len() as u64).sum();
        let now = self.now();
        let mut is_new = false;
        for envelope in &evidence.statements {
            envelope.statement().check_subject(fingerprint)?;
            let name = format!("{STATEMENT}{}", envelope.digest());
            if there.iter().any(|one| one.name == name) {
                continue;
            }
            total = total.saturating_add(envelope.as_json().len() as u64);
            if total > self.options.limits.statements {
                let what = format!("the size of all statements about {}", fingerprint.short());
                return Err(Error::limit("statements", self.options.limits.statements, what));
            }
            catalog.attach(fingerprint, &Attachment::new(name, envelope.as_json(), now))?;
            is_new = true;
        }
        if let Some(list) = &evidence.list {
            let content = json_text(list)?;
            if !there.iter().any(|one| one.name == LIST && one.content == content) {
                catalog.attach(fingerprint, &Attachment::new(LIST, content, now))?;
                is_new = true;
            }
        }
        Ok(is_new)
    }

    /// The statements about an image. Nobody has checked their signatures.
    ///
    /// # Errors
    /// `NotFound`; `Malformed` if the catalog is damaged; `Io`.
    pub fn statements(&self, fingerprint: &Fingerprint) -> Result<Vec<Envelope>> {
        self.image(fingerprint)?;
        envelopes(&self.catalog.attachments(fingerprint)?)
    }

    /// The images about which there are statements.
    ///
    /// # Errors
    /// Those of the catalog.
    #[cfg(feature = "server")]
    pub(crate) fn stated(&self) -> Result<BTreeSet<Fingerprint>> {
        self.catalog.attached(STATEMENT)
    }

    /// Keeps statements about an image beside it. Those that are there already change nothing.
    ///
    /// ```no_run
    /// use lxd_image::store::Store;
    /// use lxd_image::trust::Envelope;
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = Store::open("/var/lib/lxd-image")?;
    /// let image = store.resolve("debian/12")?;
    /// let envelope = Envelope::parse(&std::fs::read("debian.intoto.json")?)?;
    /// store.attach_statements(&image.fingerprint, vec![envelope])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound`; `Mismatch` for a statement about another image; `LimitExceeded` (`statements`); `Busy`; `Io`.
    pub fn attach_statements(&self, fingerprint: &Fingerprint, statements: Vec<Envelope>) -> Result<()> {
        let evidence = Evidence { statements, ..Evidence::default() };
        self.change(&mut |catalog| {
            catalog.image(fingerprint)?.ok_or_else(|| missing(fingerprint))?;
            if self.keep_evidence(catalog, fingerprint, &evidence)? {
                bump_revision(catalog, fingerprint)
            } else {
                Ok(())
            }
        })
    }

    /// Who vouched for an image, and when.
    ///
    /// # Errors
    /// As [`statements`](Self::statements).
    pub fn vouched(&self, fingerprint: &Fingerprint) -> Result<Vouched> {
        let attachments = self.catalog.attachments(fingerprint)?;
        Ok(Vouched { list: value(&attachments, LIST)?, admission: value(&attachments, ADMISSION)? })
    }

    /// Asks a policy about an image that is in the store.
    ///
    /// # Errors
    /// `Untrusted`, with what is missing; as [`statements`](Self::statements).
    pub fn ask_policy(&self, policy: &Policy, fingerprint: &Fingerprint) -> Result<Admission> {
        decide(policy, &self.image(fingerprint)?, &self.catalog.attachments(fingerprint)?)
    }

    /// A statement about an image with all its subjects: the fingerprint, and each file by its sha256. Reads the files.
    ///
    /// # Errors
    /// `NotFound`; `Mismatch` if the bytes are not those of the fingerprint; `Cancelled`; `Io`.
    pub fn state(
        &self,
        fingerprint: &Fingerprint,
        predicate_type: &str,
        predicate: serde_json::Value,
        monitor: &Monitor,
    ) -> Result<Statement> {
        let opened = self.open_image(fingerprint)?;
        let names = self.file_names(&opened)?;
        let mut statement = Statement::new(predicate_type, predicate).image(fingerprint);
        for (name, digest) in names.iter().zip(digests(&opened, monitor)?) {
            statement = statement.file(name, &digest);
        }
        Ok(statement)
    }
}

/// The sha256 of each file of an image. Fails with `Mismatch` if they are not those of its fingerprint.
fn digests(opened: &OpenedImage, monitor: &Monitor) -> Result<Vec<Fingerprint>> {
    let image = opened.image();
    let (first, rootfs) = opened.files();
    let mut whole = Hasher::new();
    let mut digests = Vec::new();
    for file in std::iter::once(first).chain(rootfs) {
        let before = whole.bytes();
        let mut own = Hasher::new();
        let mut report = |read: u64| monitor.report(Phase::Hash, before.saturating_add(read), Some(image.size));
        bytes::read_all(file, "the image in the store can't be read", &mut report, &mut |bytes| {
            own.update(bytes);
            whole.update(bytes);
            Ok(())
        })?;
        digests.push(own.finish());
    }
    let found = whole.finish();
    if found != image.fingerprint {
        let expected = image.fingerprint.to_string();
        return Err(Error::mismatch("the fingerprint of the image in the store", expected, found.to_string()));
    }
    Ok(digests)
}
