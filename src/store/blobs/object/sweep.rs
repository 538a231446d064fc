//! Aborts uploads that nobody will complete: old ones, and those of objects that are deleted. Deletes old scratch objects
//! of probes.

use std::time::Duration;

use jiff::Timestamp;
use object_store::path::Path;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::bucket::Bucket;
use super::failure::{Failure, Reason, Verb};
use super::location::{Place, Protocol};
use crate::error::Result;

/// How many uploads or scratch objects one sweep looks at, at most; the next one goes on.
const MAX_UPLOADS: usize = 10_000;
/// How many scratch objects of probes one sweep deletes.
const MAX_SCRATCH: usize = 1_000;
/// For how long the signature of a listing is valid.
const SIGNATURE: Duration = Duration::from_secs(60);

/// Sweeps, and returns the number of things that were removed.
///
/// # Errors
/// Those of the server, once everything was tried.
pub(super) async fn sweep(bucket: &Bucket) -> Result<usize> {
    let uploads = match bucket.location.protocol {
        Protocol::S3 => abort_uploads(bucket).await,
        // Google's needs a rule of the bucket's lifecycle; Azure forgets blocks after a week by itself.
        Protocol::Gcs | Protocol::Azure => Ok(0),
    };
    let scratch = delete_scratch(bucket).await;
    Ok(uploads? + scratch?)
}

/// The server's time now. Ages are never taken from this machine's clock.
fn server_time(bucket: &Bucket) -> Option<Timestamp> {
    let date = bucket.transport.server_date()?;
    Some(jiff::fmt::rfc2822::parse(&date).ok()?.timestamp())
}

/// Whether something that the server dates `then` is older than the grace.
fn is_old(bucket: &Bucket, then: Timestamp) -> bool {
    let grace = i64::try_from(bucket.options.grace.as_secs()).unwrap_or(i64::MAX);
    server_time(bucket).is_some_and(|now| now.as_second().saturating_sub(then.as_second()) > grace)
}

/// Deletes scratch objects of probes that were interrupted.
async fn delete_scratch(bucket: &Bucket) -> Result<usize> {
    let prefix = bucket.location.prefix_of(Place::Probe);
    let listed = bucket.list(&prefix, None, MAX_SCRATCH, |_| true).await;
    let listed = listed.map_err(|failure| bucket.error(failure, Verb::List, None))?;
    let old = |seconds: i64| Timestamp::from_second(seconds).is_ok_and(|then| is_old(bucket, then));
    let old: Vec<Path> = listed
        .into_iter()
        .filter(|object| old(object.last_modified.timestamp()))
        .map(|object| object.location)
        .collect();
    let count = old.len();
    if count > 0 {
        bucket.delete(old).await.map_err(|failure| bucket.error(failure, Verb::Delete, None))?;
    }
    Ok(count)
}

/// Aborts the uploads below the store's prefix that are older than the grace.
async fn abort_uploads(bucket: &Bucket) -> Result<usize> {
    let mut count: usize = 0;
    for place in [Place::Blobs, Place::Archive, Place::Probe] {
        let prefix = bucket.location.prefix_of(place);
        let is_due = |upload: &Upload| upload.initiated.parse().is_ok_and(|begun| is_old(bucket, begun));
        count = count.saturating_add(match abort_those(bucket, &prefix, &is_due).await {
            // Some servers have no such listing: then a rule of the bucket's lifecycle is needed.
            Err((failure, _, _)) if failure.reason == Reason::Unsupported => return Ok(count),
            aborted => aborted.map_err(|(failure, verb, path)| bucket.error(failure, verb, path.as_ref()))?,
        });
    }
    Ok(count)
}

/// Aborts all uploads of objects that are about to be deleted, whatever their age: of an upload whose process was
/// killed, the store knows no more than the key.
///
/// # Errors
/// Those of the server, except for one that lists no uploads, or not for these credentials: their objects can be deleted.
pub(super) async fn abort_uploads_of(bucket: &Bucket, paths: &[Path]) -> Result<()> {
    if bucket.location.protocol != Protocol::S3 {
        return Ok(());
    }
    let prefix = match paths {
        [] => return Ok(()),
        [only] => only.to_string(),
        _ => bucket.location.prefix_of(Place::Blobs),
    };
    let is_among = |upload: &Upload| paths.iter().any(|path| path.as_ref() == upload.key);
    match abort_those(bucket, &prefix, &is_among).await {
        Err((failure, Verb::ListUploads, _)) if matches!(failure.reason, Reason::Unsupported | Reason::Denied) => {
            Ok(())
        }
        aborted => aborted.map(drop).map_err(|(failure, verb, path)| bucket.error(failure, verb, path.as_ref())),
    }
}

/// Aborts the uploads below `prefix` that are due, and returns their number.
///
/// # Errors
/// The failure, with what failed, of which object.
async fn abort_those(
    bucket: &Bucket,
    prefix: &str,
    is_due: &(dyn Fn(&Upload) -> bool + Sync),
) -> std::result::Result<usize, (Failure, Verb, Option<Path>)> {
    let (mut count, mut seen): (usize, usize) = (0, 0);
    let mut markers: Option<(String, String)> = None;
    loop {
        let page = list_uploads(bucket, prefix, markers.as_ref()).await;
        let page = page.map_err(|failure| (failure, Verb::ListUploads, None))?;
        seen = seen.saturating_add(page.uploads.len());
        for upload in page.uploads.iter().filter(|upload| upload.key.starts_with(prefix) && is_due(upload)) {
            let Ok(path) = Path::parse(&upload.key) else { continue };
            let aborted = bucket.abort_upload(&path, &upload.id).await;
            aborted.map_err(|failure| (failure, Verb::AbortUpload, Some(path)))?;
            count += 1;
        }
        if seen >= MAX_UPLOADS || page.next.is_none() || page.next == markers {
            return Ok(count);
        }
        markers = page.next;
    }
}

/// An upload that is not complete.
#[derive(Debug, Default, PartialEq)]
struct Upload {
    key: String,
    id: String,
    initiated: String,
}

/// One page of uploads, and where the next one begins.
#[derive(Debug, Default, PartialEq)]
struct Page {
    uploads: Vec<Upload>,
    next: Option<(String, String)>,
}

/// S3's ListMultipartUploads, which the client does not have.
async fn list_uploads(
    bucket: &Bucket,
    prefix: &str,
    markers: Option<&(String, String)>,
) -> std::result::Result<Page, Failure> {
    let mut query = vec![("uploads", ""), ("prefix", prefix)];
    if let Some((key, id)) = markers {
        query.extend([("key-marker", &**key), ("upload-id-marker", &**id)]);
    }
    let address = bucket.sign(&Path::default(), SIGNATURE, &query).await?;
    let answer = bucket.fetch(&address).await?;
    parse(&answer).ok_or_else(|| Failure::new(Reason::Invalid, "the list of uploads is not such a list"))
}

/// Parses a ListMultipartUploadsResult; `None` for anything else.
fn parse(xml: &[u8]) -> Option<Page> {
    let mut reader = Reader::from_reader(xml);
    let mut page = Page::default();
    let (mut inside, mut text, mut is_list, mut is_truncated) = (None::<Upload>, String::new(), false, false);
    let (mut next_key, mut next_id) = (String::new(), String::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                text.clear();
                match tag.local_name().as_ref() {
                    b"ListMultipartUploadsResult" => is_list = true,
                    b"Upload" => inside = Some(Upload::default()),
                    _ => {}
                }
            }
            Event::Text(part) => text.push_str(&part.decode().ok()?),
            Event::GeneralRef(entity) => {
                let name = entity.decode().ok()?;
                match entity.resolve_char_ref().ok()? {
                    Some(character) => text.push(character),
                    None => text.push_str(quick_xml::escape::resolve_predefined_entity(&name)?),
                }
            }
            Event::End(tag) => match (tag.local_name().as_ref(), &mut inside) {
                (b"Upload", _) => page.uploads.extend(inside.take()),
                (b"Key", Some(upload)) => upload.key = std::mem::take(&mut text),
                (b"UploadId", Some(upload)) => upload.id = std::mem::take(&mut text),
                (b"Initiated", Some(upload)) => upload.initiated = text.trim().to_owned(),
                (b"NextKeyMarker", None) => next_key = std::mem::take(&mut text),
                (b"NextUploadIdMarker", None) => next_id = std::mem::take(&mut text),
                (b"IsTruncated", None) => is_truncated = text.trim() == "true",
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    if is_truncated {
        page.next = Some((next_key, next_id));
    }
    is_list.then_some(page)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn list_of_uploads_is_parsed() {
        let xml = br#"<?xml version="1.0"?><ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>b</Bucket><Prefix>p/</Prefix><NextKeyMarker>p/b&amp;c</NextKeyMarker><NextUploadIdMarker>2~x</NextUploadIdMarker><IsTruncated>true</IsTruncated><Upload><Key>p/a&#x41;</Key><UploadId>1~y</UploadId><Owner><ID>t</ID></Owner><Initiated>2026-11-28T10:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>"#;
        let upload =
            Upload { key: "p/aA".to_owned(), id: "1~y".to_owned(), initiated: "2026-11-28T10:00:00.000Z".to_owned() };
        let next = Some(("p/b&c".to_owned(), "2~x".to_owned()));
        assert_eq!(parse(xml), Some(Page { uploads: vec![upload], next }));
    }

    #[test]
    fn other_document_is_no_list_of_uploads() {
        assert_eq!(parse(b"<html><body>Hello</body></html>"), None);
        assert_eq!(parse(b"{}"), None);
    }
}
