//! Takes objects out of the store and keeps their bytes for an operator.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use object_store::path::Path;

use super::bucket::Bucket;
use super::failure::{Failure, Reason, Verb};
use super::reader::{ObjectReader, ReadMemory};
use super::{runtime, upload};
use crate::error::Result;
use crate::io::Blob;
use crate::progress::Monitor;
use crate::store::blobs::BlobKey;
use crate::store::random::random_number;

/// The largest object that S3 copies in one request, in bytes.
const MAX_COPY_BYTES: u64 = 5 << 30;

/// Copies objects to `archive/BATCH/`, then deletes them. Each call has a batch of its own, so that
/// nothing that was archived before is overwritten, without a question that another process could
/// answer at the same time. Those that are not there are no error.
pub(super) fn archive(bucket: &Arc<Bucket>, memory: &Arc<ReadMemory>, keys: &[BlobKey]) -> Result<()> {
    // Seconds for people; the random number makes it unique.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let batch = format!("{seconds}-{:016x}", random_number());
    let mut copied = Vec::new();
    for key in keys {
        let (from, to) = (bucket.location.blob(key)?, bucket.location.archived(&batch, key)?);
        if copy(bucket, memory, &from, &to)? {
            copied.push(from);
        }
    }
    let shared = Arc::clone(bucket);
    // Last, and all of them together: an interrupted call leaves the objects in both places and never in none.
    runtime::run(None, async move {
        if copied.is_empty() {
            return Ok(());
        }
        shared.delete(copied).await.map_err(|failure| shared.error(failure, Verb::Delete, None))
    })
}

/// Copies one object and verifies the length of the copy. `false` if it is not there.
fn copy(bucket: &Arc<Bucket>, memory: &Arc<ReadMemory>, from: &Path, to: &Path) -> Result<bool> {
    let (shared, source, target) = (Arc::clone(bucket), from.clone(), to.clone());
    let is_copied = runtime::run(None, async move {
        let fail = |failure: Failure| shared.error(failure, Verb::Copy, Some(&source));
        let meta = match shared.head(&source).await {
            Err(failure) if failure.reason == Reason::Missing => return Ok(None),
            meta => meta.map_err(fail)?,
        };
        if meta.size > MAX_COPY_BYTES {
            return Ok(Some(false));
        }
        match shared.copy(&source, &target).await {
            Err(failure) if failure.reason == Reason::Missing => return Ok(None),
            // A server that cannot copy can still be read and written.
            Err(failure) if failure.reason == Reason::Unsupported => return Ok(Some(false)),
            copied => copied.map_err(fail)?,
        }
        let copy = shared.head(&target).await.map_err(fail)?;
        if copy.size == meta.size {
            return Ok(Some(true));
        }
        let what = format!("the copy has {} bytes instead of {}", copy.size, meta.size);
        Err(fail(Failure::new(Reason::Invalid, what)))
    })?;
    if is_copied == Some(false) {
        let source = Blob::new(ObjectReader::open(bucket, memory, from.clone())?);
        upload::upload(bucket, to, &source, &Monitor::none())?;
    }
    Ok(is_copied.is_some())
}
