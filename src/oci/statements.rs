//! Statements beside an image in a layout or a registry: each is an artifact whose subject is the image's manifest.
//!
//! The manifest has the artifact type [`STATEMENT`], the empty configuration, and one layer of the same type: the envelope.
//! It states no time, so that the same statement about the same image is the same manifest.

use std::io::{Cursor, Read};

use super::digest::Digest;
use super::document::{Descriptor, Manifest, to_json};
use super::image::fetch;
use super::media_type;
use super::referrers::is_or_may_be;
use super::source::{BlobSink, BlobSource, open_blob};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::trust::Envelope;

/// The artifact type of a statement, and the media type of the envelope in it.
pub const STATEMENT: &str = "application/vnd.dsse.envelope.v1+json";
/// What a statement says, for people who list referrers.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// Writes statements beside the image whose manifest is `subject`. The sink lists them as referrers of it.
///
/// # Errors
/// Those of the sink.
pub fn put_statements(
    sink: &mut dyn BlobSink,
    subject: &Descriptor,
    statements: &[Envelope],
    monitor: &Monitor,
) -> Result<()> {
    for envelope in statements {
        let empty = Descriptor::of(media_type::EMPTY, b"{}");
        let text = envelope.as_json().as_bytes();
        let layer = Descriptor::of(STATEMENT, text);
        put_bytes(sink, &empty, b"{}", monitor)?;
        put_bytes(sink, &layer, text, monitor)?;
        let mut manifest = Manifest::new(empty, vec![layer]);
        manifest.artifact_type = Some(STATEMENT.to_owned());
        manifest.subject = Some(Descriptor::new(&*subject.media_type, subject.digest, subject.size));
        let predicate = envelope.statement().predicate_type().to_owned();
        manifest.annotations.insert(PREDICATE_TYPE.to_owned(), predicate);
        let bytes = to_json(&manifest)?;
        sink.put_document(&Descriptor::of(media_type::IMAGE_MANIFEST, &bytes), &bytes, None, monitor)?;
    }
    Ok(())
}

/// Writes a small blob that is not there.
fn put_bytes(sink: &mut dyn BlobSink, descriptor: &Descriptor, bytes: &[u8], monitor: &Monitor) -> Result<()> {
    if sink.has_blob(descriptor, monitor)? {
        return Ok(());
    }
    let mut open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(Cursor::new(bytes.to_vec()))) };
    sink.put_blob(descriptor, &mut open, monitor)
}

/// Reads the statements among the referrers of an image: `subject` is its manifest, `fingerprint` its own. Nobody has
/// checked their signatures. Those that can't be used, and those about other images, are left out and recorded in the
/// monitor: whoever may write to a registry can add referrers, and must not keep the image from being read.
///
/// # Errors
/// `Mismatch` where the bytes are not those that were listed; `LimitExceeded` (`statements`); those of the source.
pub fn read_statements(
    source: &dyn BlobSource,
    subject: &Digest,
    referrers: &[Descriptor],
    fingerprint: &Fingerprint,
    limits: &Limits,
    monitor: &Monitor,
) -> Result<Vec<Envelope>> {
    let (mut all, mut total) = (Vec::new(), 0_u64);
    for entry in referrers.iter().filter(|entry| is_or_may_be(entry, STATEMENT)) {
        monitor.check()?;
        let reading = Reading { source, subject, fingerprint, limits, monitor };
        match reading.referrer(entry, &mut total) {
            Ok(statements) => statements.into_iter().for_each(|envelope| {
                if !all.contains(&envelope) {
                    all.push(envelope);
                }
            }),
            Err(error) if is_unusable(&error) => {
                let part = format!("statement {}", entry.digest);
                let reason = error.message().to_owned();
                monitor.omit(fingerprint.to_string(), Omitted::Dropped { part: part.into(), reason: reason.into() });
            }
            // The rest is left out: what says something about an image must not keep it from being read.
            Err(error) if error.limit_name() == Some("statements") => {
                let reason = error.message().to_owned();
                let part = format!("statement {} and those after it", entry.digest);
                monitor.omit(fingerprint.to_string(), Omitted::Dropped { part: part.into(), reason: reason.into() });
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Whether an error is one of the statement, and not of the source or of its bytes.
fn is_unusable(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Malformed | ErrorKind::Unsupported | ErrorKind::NotFound => true,
        ErrorKind::LimitExceeded => error.limit_name() != Some("statements"),
        _ => false,
    }
}

/// What all statements of an image are read with.
struct Reading<'a> {
    source: &'a dyn BlobSource,
    subject: &'a Digest,
    fingerprint: &'a Fingerprint,
    limits: &'a Limits,
    monitor: &'a Monitor,
}

impl Reading<'_> {
    /// The statements of one referrer. What is read is added to `total`.
    fn referrer(&self, entry: &Descriptor, total: &mut u64) -> Result<Vec<Envelope>> {
        let raw = fetch(self.source, entry, self.limits, self.monitor)?;
        self.count(raw.bytes.len() as u64, total)?;
        let manifest = raw.document(self.limits)?.into_manifest()?;
        if manifest.artifact_type() != Some(STATEMENT) {
            // The list did not say what it is.
            return Ok(Vec::new());
        }
        if manifest.subject.as_ref().is_none_or(|subject| subject.digest != *self.subject) {
            return Err(Error::malformed("its subject is another manifest"));
        }
        let mut statements = Vec::new();
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == STATEMENT) {
            let most = self.limits.statement;
            if layer.size > most {
                return Err(Error::limit("statement", most, format_args!("a statement of {} bytes", layer.size)));
            }
            self.count(layer.size, total)?;
            let mut text = Vec::new();
            open_blob(self.source, layer, self.monitor)?
                .read_to_end(&mut text)
                .map_err(|error| Error::io("a statement cannot be read", error))?;
            let envelope = Envelope::parse_with(&text, self.limits)?;
            if !envelope.statement().is_about(self.fingerprint) {
                return Err(Error::malformed("it is about another image"));
            }
            statements.push(envelope);
        }
        Ok(statements)
    }

    fn count(&self, bytes: u64, total: &mut u64) -> Result<()> {
        *total = total.saturating_add(bytes);
        if *total > self.limits.statements {
            return Err(Error::limit(
                "statements",
                self.limits.statements,
                "the size of all statements about an image",
            ));
        }
        Ok(())
    }
}
