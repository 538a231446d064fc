//! The probe: tries every kind of request on a scratch object, and refuses a server that gets one
//! of them wrong. A store on such a server would lose images, and notice it too late.

use bytes::Bytes;
use md5::{Digest, Md5};
use object_store::path::Path;

use super::bucket::{Bucket, Facts, TagForm};
use super::failure::{Failure, Reason, Verb};
use super::location::Protocol;
use super::reader::bare;
use crate::error::{Error, Result};
use crate::fingerprint::hex;
use crate::store::random::random_id;

/// The length of the scratch object: more than one packet, and not a round number.
const LENGTH: usize = 70_001;
/// A range in the middle of it.
const RANGE: (u64, u64) = (1_003, 66_007);

/// What a server that must be refused did, in terms of the request.
type Step<T> = std::result::Result<T, (Verb, Failure)>;

/// Probes the server behind a bucket, and deletes what it wrote.
///
/// # Errors
/// `Unsupported` for a server that does something wrong; `NotFound` without a bucket; those of the server.
pub(super) async fn probe(bucket: &Bucket) -> Result<Facts> {
    let path = bucket.location.scratch(&random_id())?;
    let tried = steps(bucket, &path).await;
    let deleted = bucket.delete(vec![path.clone()]).await;
    let facts = tried.map_err(|(verb, failure)| refuse(bucket, verb, failure, &path))?;
    deleted.map_err(|failure| refuse(bucket, Verb::Delete, failure, &path))?;
    Ok(facts)
}

/// A wrong answer makes the server unusable; any other failure is reported as itself.
fn refuse(bucket: &Bucket, verb: Verb, failure: Failure, path: &Path) -> Error {
    match failure.reason {
        Reason::Invalid | Reason::Missing | Reason::Changed => {
            let Failure { detail, .. } = failure;
            Error::unsupported(format!("the object store at {} cannot hold images: {detail}", bucket.endpoint))
                .with_hint(
                    "it fails a check that every object store must pass; is there a proxy or a cache in between?",
                )
                .in_file(bucket.location.to_string())
        }
        _ => bucket.error(failure, verb, Some(path)),
    }
}

/// Bytes in which every range is different from every other one.
fn pattern(seed: u64) -> Bytes {
    let mut state = seed | 1;
    let bytes = std::iter::repeat_with(|| {
        // Knuth's linear congruential generator; only the high bits vary enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    bytes.take(LENGTH).collect::<Vec<u8>>().into()
}

async fn steps(bucket: &Bucket, path: &Path) -> Step<Facts> {
    let wrong = |verb: Verb, what: &str| (verb, Failure::new(Reason::Invalid, what));
    let at = |verb: Verb| move |failure: Failure| (verb, failure);
    let absent = |found: std::result::Result<_, Failure>, what: &str| match found {
        Ok(_) => Err(wrong(Verb::Read, what)),
        Err(failure) if failure.reason == Reason::Missing => Ok(()),
        Err(failure) => Err((Verb::Read, failure)),
    };
    absent(bucket.head(path).await, "an object that was never written is there")?;

    let first = pattern(1);
    let answer = bucket.put(path, &first).await.map_err(at(Verb::Write))?;
    let tag = answer.e_tag.unwrap_or_default();
    if bare(&tag).is_empty() {
        return Err(wrong(Verb::Write, "its answers have no ETag"));
    }
    let meta = bucket.head(path).await.map_err(at(Verb::Read))?;
    if meta.size != LENGTH as u64 || meta.e_tag.as_deref().map(bare) != Some(bare(&tag)) {
        return Err(wrong(Verb::Read, "an object has another length or ETag than when it was written"));
    }
    let (meta, read) = bucket.range(path, RANGE, None).await.map_err(at(Verb::Read))?;
    let expected = first.slice(RANGE.0 as usize..RANGE.1 as usize);
    if read != expected || meta.size != LENGTH as u64 || meta.e_tag.as_deref().map(bare) != Some(bare(&tag)) {
        return Err(wrong(Verb::Read, "a range of an object has other bytes or another ETag than the object"));
    }
    let mut facts = Facts {
        if_match: honours_if_match(bucket, path, &tag).await.map_err(at(Verb::Read))?,
        has_md5_tags: bare(&tag).eq_ignore_ascii_case(&hex(&Md5::digest(&first))),
        // Only S3 signs what it sends.
        checks_payloads: bucket.location.protocol == Protocol::S3 && bucket.refuses_damage(path, &first).await,
    };

    let second = pattern(2);
    let answer = bucket.put(path, &second).await.map_err(at(Verb::Write))?;
    let (meta, read) = bucket.range(path, (0, LENGTH as u64), None).await.map_err(at(Verb::Read))?;
    if read != second || meta.e_tag.as_deref().map(bare) != answer.e_tag.as_deref().map(bare) {
        return Err(wrong(Verb::Read, "an object is not at once what was written last"));
    }
    if answer.e_tag.as_deref().map(bare) == Some(bare(&tag)) {
        return Err(wrong(Verb::Write, "other bytes have the same ETag"));
    }
    let listed = bucket.list(path.as_ref(), None, 2, |_| true).await.map_err(at(Verb::List))?;
    if !matches!(&*listed, [only] if only.location == *path && only.size == LENGTH as u64) {
        return Err(wrong(Verb::List, "an object that was written is not listed"));
    }

    multipart(bucket, path, &first, &mut facts).await?;

    bucket.delete(vec![path.clone()]).await.map_err(at(Verb::Delete))?;
    absent(bucket.head(path).await, "an object that was deleted is still there")?;
    let listed = bucket.list(path.as_ref(), None, 2, |_| true).await.map_err(at(Verb::List))?;
    if !listed.is_empty() {
        return Err(wrong(Verb::List, "an object that was deleted is still listed"));
    }
    Ok(facts)
}

/// Writes the object as an upload of one part, and reads it.
async fn multipart(bucket: &Bucket, path: &Path, bytes: &Bytes, facts: &mut Facts) -> Step<()> {
    let at = |verb: Verb| move |failure: Failure| (verb, failure);
    let upload = bucket.begin_upload(path).await.map_err(at(Verb::Write))?;
    // The part that is sent next takes its place, damaged or not.
    facts.checks_payloads = facts.checks_payloads && bucket.refuses_damaged_part(path, &upload, bytes).await;
    let done = async {
        let part = bucket.put_part(path, &upload, 0, bytes).await?;
        bucket.complete_once(path, &upload, vec![part]).await
    };
    if let Err(failure) = done.await {
        let _ = bucket.abort_upload(path, &upload).await;
        // Like every upload: the answer may have been lost.
        if !failure.is_transient() {
            return Err((Verb::Write, failure));
        }
    }
    let (_, read) = bucket.range(path, (0, LENGTH as u64), None).await.map_err(at(Verb::Read))?;
    if read != *bytes {
        return Err((Verb::Read, Failure::new(Reason::Invalid, "an object that came in parts has other bytes")));
    }
    Ok(())
}

/// Whether a read with `If-Match` succeeds for the tag of the object and fails for another one.
async fn honours_if_match(bucket: &Bucket, path: &Path, tag: &str) -> std::result::Result<Option<TagForm>, Failure> {
    let other = "\"00000000000000000000000000000000\"";
    for (form, tag, other) in [(TagForm::AsSent, tag, other), (TagForm::Bare, bare(tag), bare(other))] {
        match bucket.range(path, (0, 1), Some(tag)).await {
            Ok(_) => {}
            Err(failure) if failure.reason == Reason::Changed => continue,
            Err(failure) => return Err(failure),
        }
        match bucket.range(path, (0, 1), Some(other)).await {
            // The condition is ignored.
            Ok(_) => return Ok(None),
            Err(failure) if failure.reason == Reason::Changed => return Ok(Some(form)),
            Err(failure) => return Err(failure),
        }
    }
    Ok(None)
}
