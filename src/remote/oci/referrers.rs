//! Referrers: manifests that say something about another one (`subject`), like signatures.
//!
//! OCI 1.1 has an endpoint for them. A registry without it, like distribution 2, gets an index under the tag
//! `sha256-HEX` instead, which the client that pushes a referrer keeps.

use super::errors;
use super::repository::OciRepository;
use super::token::Scope;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::oci::{
    BlobSource, Descriptor, Digest, Document, Index, Manifest, RawDocument, Reference, fallback_tag, is_or_may_be,
    media_type, referrer_entry, to_json,
};
use crate::progress::Monitor;
use crate::protocol::escape::query;
use crate::remote::http::Request;

/// The header by which a registry says that it keeps referrers itself.
pub(super) const SUBJECT: &str = "oci-subject";

impl OciRepository {
    /// What says something about a manifest: the descriptors of the manifests whose subject it is, of one artifact type
    /// or of all. They are claims until they are fetched; those that don't say their type are among them.
    ///
    /// # Errors
    /// `LimitExceeded` for `oci_manifests`; `Remote` for a list without end; those of
    /// [`Client::send`](crate::remote::Client::send).
    pub fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
        monitor: &Monitor,
    ) -> Result<Vec<Descriptor>> {
        let limits = self.registry().client().limits().clone();
        let all = match self.listed_referrers(digest, artifact_type, &limits, monitor)? {
            Some(all) => all,
            None => self.fallback_index(digest, &limits, monitor)?.map(|index| index.manifests).unwrap_or_default(),
        };
        let wanted = |entry: &Descriptor| artifact_type.is_none_or(|wanted| is_or_may_be(entry, wanted));
        Ok(all.into_iter().filter(wanted).collect())
    }

    /// The list of the endpoint; `None` where the registry has none.
    fn listed_referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Option<Vec<Descriptor>>> {
        let mut url = self.endpoint(&format!("referrers/{digest}"))?;
        if let Some(artifact_type) = artifact_type {
            url = url.with_query(&query([("artifactType", artifact_type)]));
        }
        let (mut all, mut next) = (Vec::new(), Some(url));
        while let Some(url) = next.take() {
            let answer = self.registry().client().options().retry.run(monitor, || {
                let request = Request::get(&url).header("accept", media_type::IMAGE_INDEX).monitor(monitor);
                let answer = self.send(request, &Scope::pull(self.name()))?;
                match answer.status() {
                    200 | 400 | 404 | 405 => Ok(answer),
                    _ => Err(errors::failure(answer, "referrers")),
                }
            })?;
            if answer.status() != 200 {
                return Ok(None);
            }
            let told = answer.header("content-type").map(super::repository::essence);
            if told.as_deref() != Some(media_type::IMAGE_INDEX) {
                // A page for people, say.
                return Ok(None);
            }
            next = self.registry().next_page(&answer)?;
            let bytes = answer.contents("oci_document", limits.oci_document)?;
            let before = all.len();
            match Document::parse(&bytes, told.as_deref(), limits)? {
                Document::Index(index) => all.extend(index.manifests),
                Document::Manifest(_) => return Err(Error::malformed("a list of referrers is no index")),
            }
            if all.len() as u64 > limits.oci_manifests {
                return Err(Error::limit("oci_manifests", limits.oci_manifests, "the number of referrers"));
            }
            if next.is_some() && all.len() == before {
                return Err(Error::remote("a list of referrers goes on without anything new"));
            }
        }
        Ok(Some(all))
    }

    /// The index under the fallback tag, if there is one.
    fn fallback_index(&self, digest: &Digest, limits: &Limits, monitor: &Monitor) -> Result<Option<Index>> {
        match self.document(&Reference::Tag(fallback_tag(digest)?), limits, monitor) {
            Ok(raw) => match raw.document(limits)? {
                Document::Index(index) => Ok(Some(index)),
                Document::Manifest(_) => Err(Error::malformed("the index of referrers is a manifest")),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a manifest to the index under the fallback tag of its subject. Two clients that do so at once may lose one
    /// of the entries: the specification has no way to prevent it.
    pub(super) fn add_to_fallback(
        &self,
        subject: &Digest,
        descriptor: &Descriptor,
        manifest: &Manifest,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<()> {
        let mut index = self.fallback_index(subject, limits, monitor)?.unwrap_or_else(|| Index::new(Vec::new()));
        if index.manifests.iter().any(|entry| entry.digest == descriptor.digest) {
            return Ok(());
        }
        index.manifests.push(referrer_entry(descriptor, manifest));
        let bytes = to_json(&index)?;
        let raw = RawDocument { descriptor: Descriptor::of(media_type::IMAGE_INDEX, &bytes), bytes };
        self.send_document(&raw, &Reference::Tag(fallback_tag(subject)?), monitor).map(drop)
    }
}
