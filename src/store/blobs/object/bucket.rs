//! [`Bucket`]: single operations on a bucket, each repeated while its failure may pass.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    CopyOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, PutOptions, PutPayload, PutResult, RetryConfig,
};

use super::credentials::Profile;
use super::failure::{Failure, Reason, Verb};
use super::location::{Location, Protocol};
use super::options::{ObjectOptions, shown_endpoint};
use super::transport::{self, Seen, Transport};
use crate::error::{Error, Result};
use crate::store::shared_runtime::backoff;

/// The pause before the first repetition; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a server may ask for.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(30);
/// How often a request is repeated whose answer makes no sense.
const MAX_INVALID_ANSWERS: u32 = 2;
/// How many keys one page of a listing has: the most that S3 sends.
const PAGE_KEYS: usize = 1000;
/// How many pages without a single key are read before a listing counts as endless.
const MAX_EMPTY_PAGES: usize = 1000;
/// A payload is sent in pieces of this size, so that progress can be told.
const PIECE_BYTES: usize = 256 << 10;

/// What a client of each engine can do.
trait Client: ObjectStore + MultipartStore + PaginatedListStore + Signer {}

impl<T: ObjectStore + MultipartStore + PaginatedListStore + Signer> Client for T {}

/// How a server wants the tag in `If-Match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagForm {
    /// As it sent it, in quotes.
    AsSent,
    /// Without its quotes, which HTTP does not allow. Ceph's gateway before version 18 wants it so.
    Bare,
}

/// What the probe found out about a server. Without a probe nothing is assumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether `If-Match` is honoured when reading, and in which form.
    pub(super) if_match: Option<TagForm>,
    /// Whether the tag of an object is the MD5 of its content.
    pub(super) has_md5_tags: bool,
    /// Whether an object and a part of an upload are refused whose bytes are not those that were signed. Then they need not be
    /// compared again, which takes more time than all the rest of an upload: MD5 is slow. A proxy that ends the connection,
    /// checks the signature and signs anew is trusted with this; images are verified whenever they are read in any case.
    pub(super) checks_payloads: bool,
}

/// Sends a request whose bytes are damaged after they were signed, once, and tells whether that is why it is refused.
async fn is_refused_as_damaged<T>(request: impl Future<Output = object_store::Result<T>>) -> bool {
    let (answer, seen) = transport::observe(transport::damaged(request)).await;
    answer.is_err() && names_damage(seen.as_ref())
}

/// Whether a refusal says that the bytes are not those that were signed. Any other refusal, such as of too many writes to one
/// key, says nothing about that.
fn names_damage(seen: Option<&Seen>) -> bool {
    const CODES: [&str; 4] = ["XAmzContentSHA256Mismatch", "BadDigest", "InvalidDigest", "SignatureDoesNotMatch"];
    matches!(seen, Some(Seen::Refused(refusal)) if CODES.contains(&&*refusal.code))
}

/// A bucket and its client.
pub(super) struct Bucket {
    pub(super) location: Location,
    /// The endpoint for messages, without credentials.
    pub(super) endpoint: String,
    pub(super) options: ObjectOptions,
    pub(super) facts: OnceLock<Facts>,
    pub(super) transport: Transport,
    client: Arc<dyn Client>,
}

impl Bucket {
    /// Makes the client of the engine that `location` names. Nothing is sent.
    ///
    /// # Errors
    /// `InvalidInput` for options that contradict each other; those of the files of credentials.
    pub(super) fn new(location: Location, options: &ObjectOptions) -> Result<Self> {
        options.check()?;
        let transport = Transport::new(options)?;
        let (client, endpoint): (Arc<dyn Client>, String) = match location.protocol {
            Protocol::S3 => s3(&location, options, &transport)?,
            Protocol::Gcs => gcs(&location, options, &transport)?,
            Protocol::Azure => azure(&location, options, &transport)?,
        };
        Ok(Self { location, endpoint, options: options.clone(), facts: OnceLock::new(), transport, client })
    }

    /// What is known about the server.
    pub(super) fn facts(&self) -> Facts {
        self.facts.get().copied().unwrap_or_default()
    }

    /// The error for a failed operation.
    pub(super) fn error(&self, failure: Failure, verb: Verb, path: Option<&Path>) -> Error {
        failure.into_error(verb, path, &self.location, &self.endpoint)
    }

    /// Runs `attempt` until it succeeds, fails in a way that does not pass, or was repeated often enough.
    async fn retry<T, F>(&self, mut attempt: impl FnMut() -> F) -> std::result::Result<T, Failure>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut tries = 0;
        loop {
            let failure = match transport::observe(attempt()).await {
                (Ok(done), _) => return Ok(done),
                (Err(error), seen) => Failure::of(&error, seen),
            };
            self.pause(failure, &mut tries).await?;
        }
    }

    /// Waits before the next try; the failure itself if there is to be none.
    pub(super) async fn pause(&self, failure: Failure, tries: &mut u32) -> std::result::Result<(), Failure> {
        let most = match failure.reason {
            Reason::Transient => self.options.retries,
            // An answer that makes no sense may have been cut short on its way.
            Reason::Invalid => self.options.retries.min(MAX_INVALID_ANSWERS),
            _ => 0,
        };
        if *tries >= most {
            return Err(failure);
        }
        let pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, *tries);
        let asked = failure.retry_after.unwrap_or_default().min(LONGEST_ASKED_PAUSE);
        *tries += 1;
        tokio::time::sleep(pause.max(asked)).await;
        Ok(())
    }

    /// Writes an object in one request.
    pub(super) async fn put(&self, path: &Path, bytes: &Bytes) -> std::result::Result<PutResult, Failure> {
        self.retry(|| self.client.put_opts(path, payload(bytes), PutOptions::default())).await
    }

    /// Whether the server refuses an object that arrives with other bytes than those that were signed. If not, the object
    /// has wrong bytes afterwards.
    pub(super) async fn refuses_damage(&self, path: &Path, bytes: &Bytes) -> bool {
        is_refused_as_damaged(self.client.put_opts(path, payload(bytes), PutOptions::default())).await
    }

    /// As [`refuses_damage`](Self::refuses_damage), for a part of an upload, which servers may treat in another way.
    pub(super) async fn refuses_damaged_part(&self, path: &Path, id: &String, bytes: &Bytes) -> bool {
        is_refused_as_damaged(self.client.put_part(path, id, 0, payload(bytes))).await
    }

    /// Length and tag of an object.
    pub(super) async fn head(&self, path: &Path) -> std::result::Result<ObjectMeta, Failure> {
        let options = || GetOptions { head: true, ..GetOptions::default() };
        Ok(self.retry(|| self.client.get_opts(path, options())).await?.meta)
    }

    /// Reads `start..end` of an object, which must be in it, with what the server says about the object.
    pub(super) async fn range(
        &self,
        path: &Path,
        (start, end): (u64, u64),
        if_match: Option<&str>,
    ) -> std::result::Result<(ObjectMeta, Bytes), Failure> {
        let mut tries = 0;
        loop {
            let attempt = transport::observe(async {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(start..end)),
                    if_match: if_match.map(str::to_owned),
                    ..GetOptions::default()
                };
                let answer = self.client.get_opts(path, options).await?;
                let meta = answer.meta.clone();
                let expected = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
                let mut bytes = Vec::with_capacity(expected);
                let mut body = answer.into_stream();
                while let Some(piece) = body.next().await {
                    bytes.extend_from_slice(&piece?);
                }
                Ok((meta, Bytes::from(bytes), expected))
            });
            let failure = match attempt.await {
                (Ok((meta, bytes, expected)), _) if bytes.len() == expected => return Ok((meta, bytes)),
                // A body without a length may end early without an error.
                (Ok(_), _) => Failure::new(Reason::Transient, "the answer ended early"),
                (Err(error), seen) => Failure::of(&error, seen),
            };
            self.pause(failure, &mut tries).await?;
        }
    }

    /// Reads a small object as a whole. One that is longer than `max` bytes is refused.
    pub(super) async fn read(&self, path: &Path, max: u64) -> std::result::Result<Bytes, Failure> {
        let meta = self.head(path).await?;
        if meta.size > max {
            return Err(Failure::new(Reason::Invalid, format!("{} bytes are too many", meta.size)));
        }
        // An empty range is none, for HTTP.
        if meta.size == 0 { Ok(Bytes::new()) } else { Ok(self.range(path, (0, meta.size), None).await?.1) }
    }

    /// Deletes objects. Those that are not there are no error.
    pub(super) async fn delete(&self, paths: Vec<Path>) -> std::result::Result<(), Failure> {
        let done = self.retry(|| {
            let paths = stream::iter(paths.clone()).map(Ok).boxed();
            self.client.delete_stream(paths).try_for_each(|_| std::future::ready(Ok(())))
        });
        match done.await {
            // Engines that delete one by one say so when there is nothing to delete, and stop there.
            Err(failure) if failure.reason == Reason::Missing && paths.len() == 1 => Ok(()),
            Err(failure) if matches!(failure.reason, Reason::Missing | Reason::Unsupported) => {
                for path in paths {
                    Box::pin(self.delete(vec![path])).await?;
                }
                Ok(())
            }
            done => done,
        }
    }

    /// The first `limit` objects whose path begins with `prefix` and is greater than `after`, in the order of their bytes.
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        is_wanted: impl Fn(&ObjectMeta) -> bool,
    ) -> std::result::Result<Vec<ObjectMeta>, Failure> {
        let mut found: Vec<ObjectMeta> = Vec::new();
        let (mut token, mut empty): (Option<String>, usize) = (None, 0);
        let mut last = after.map(str::to_owned);
        while found.len() < limit {
            let options = || PaginatedListOptions {
                offset: after.map(str::to_owned),
                max_keys: Some(limit.clamp(1, PAGE_KEYS)),
                page_token: token.clone(),
                ..PaginatedListOptions::default()
            };
            let page = self.retry(|| self.client.list_paginated(Some(prefix), options())).await?;
            empty = if page.result.objects.is_empty() { empty + 1 } else { 0 };
            for object in page.result.objects {
                let path = object.location.as_ref();
                if !path.starts_with(prefix) || last.as_deref().is_some_and(|last| path <= last) {
                    // A server that repeats or mixes up keys would make check and repair miss objects.
                    let what = "the list of objects is not in the order of their keys";
                    return Err(Failure::new(Reason::Invalid, what));
                }
                last = Some(path.to_owned());
                if is_wanted(&object) && found.len() < limit {
                    found.push(object);
                }
            }
            let next = page.page_token;
            if empty > MAX_EMPTY_PAGES || (next.is_some() && next == token) {
                return Err(Failure::new(Reason::Invalid, "the list of objects does not end"));
            }
            token = next;
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Copies an object within the bucket.
    pub(super) async fn copy(&self, from: &Path, to: &Path) -> std::result::Result<(), Failure> {
        self.retry(|| self.client.copy_opts(from, to, CopyOptions::default())).await
    }

    /// Begins a multipart upload, and returns its id.
    pub(super) async fn begin_upload(&self, path: &Path) -> std::result::Result<String, Failure> {
        self.retry(|| self.client.create_multipart(path)).await
    }

    /// Sends one part, counted from 0. Sending a part again replaces it.
    pub(super) async fn put_part(
        &self,
        path: &Path,
        upload: &String,
        index: usize,
        bytes: &Bytes,
    ) -> std::result::Result<PartId, Failure> {
        self.retry(|| self.client.put_part(path, upload, index, payload(bytes))).await
    }

    /// Completes a multipart upload, once: the caller finds out what a failure means.
    pub(super) async fn complete_once(
        &self,
        path: &Path,
        upload: &String,
        parts: Vec<PartId>,
    ) -> std::result::Result<PutResult, Failure> {
        match transport::observe(self.client.complete_multipart(path, upload, parts)).await {
            (Ok(done), _) => Ok(done),
            (Err(error), seen) => Err(Failure::of(&error, seen)),
        }
    }

    /// Aborts a multipart upload. One that is not there is no error.
    pub(super) async fn abort_upload(&self, path: &Path, upload: &String) -> std::result::Result<(), Failure> {
        match self.retry(|| self.client.abort_multipart(path, upload)).await {
            Err(failure) if failure.reason == Reason::Missing => Ok(()),
            done => done,
        }
    }

    /// An address that permits one kind of request for as long as `lifetime`.
    pub(super) async fn sign(
        &self,
        path: &Path,
        lifetime: Duration,
        query: &[(&str, &str)],
    ) -> std::result::Result<String, Failure> {
        let options = object_store::signer::SignedUrlOptions::new().with_query(query.iter().copied());
        let signed = self.retry(|| self.client.signed_url_opts(http::Method::GET, path, lifetime, &options)).await?;
        Ok(signed.into())
    }

    /// Sends a request of our own to an address that was signed, and returns the body of the answer.
    pub(super) async fn fetch(&self, address: &str) -> std::result::Result<Bytes, Failure> {
        use object_store::client::HttpService;
        self.retry(|| async {
            let invalid = |source| object_store::Error::Generic { store: "signed request", source };
            let request = http::Request::get(address)
                .body(object_store::client::HttpRequestBody::empty())
                .map_err(|error| invalid(error.into()))?;
            let answer = self.transport.call(request).await.map_err(|error| invalid(error.into()))?;
            if !answer.status().is_success() {
                return Err(invalid("the server refuses it".into()));
            }
            answer.into_body().bytes().await.map_err(|error| invalid(error.into()))
        })
        .await
    }
}

/// A payload in pieces that share the memory of `bytes`.
fn payload(bytes: &Bytes) -> PutPayload {
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    starts.map(|start| bytes.slice(start..bytes.len().min(start.saturating_add(PIECE_BYTES)))).collect()
}

/// The clients repeat nothing: it is done here, where every try is signed again and can be observed.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// The error for a client that cannot be made.
fn unusable(error: object_store::Error) -> Error {
    Error::invalid("the settings of the object store cannot be used").with_source(error)
}

/// Fails for an endpoint that is no address, and for one without TLS unless that is allowed.
fn check_endpoint(endpoint: &str, options: &ObjectOptions) -> Result<()> {
    let shown = shown_endpoint(endpoint);
    let (scheme, rest) = endpoint
        .split_once("://")
        .ok_or_else(|| Error::invalid("the endpoint of the object store must begin with `https://` or `http://`"))?;
    if rest.contains('@') {
        return Err(Error::invalid(format!("the endpoint {shown} must not have credentials in it"))
            .with_hint("put them into the environment or into a file"));
    }
    match scheme {
        "https" => Ok(()),
        "http" if options.allow_http => Ok(()),
        "http" => Err(Error::invalid(format!("the endpoint {shown} has no TLS"))
            .with_hint("use `https://`, or allow HTTP in the settings of the object store")),
        _ => Err(Error::invalid("the endpoint of the object store must begin with `https://` or `http://`")),
    }
}

fn s3(location: &Location, options: &ObjectOptions, transport: &Transport) -> Result<(Arc<dyn Client>, String)> {
    let profile = Profile::read(options, &|name| std::env::var(name).ok())?;
    let mut builder = AmazonS3Builder::from_env();
    let value = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    let region = options
        .region
        .clone()
        .or_else(|| value(&builder, AmazonS3ConfigKey::Region))
        .or(profile.region)
        .unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = options
        .endpoint
        .clone()
        .or_else(|| value(&builder, AmazonS3ConfigKey::S3Endpoint))
        .or_else(|| value(&builder, AmazonS3ConfigKey::Endpoint))
        .or(profile.endpoint);
    let bucket = &location.bucket;
    let path_style = options.path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
    let shown = endpoint.as_deref().map_or_else(|| format!("https://s3.{region}.amazonaws.com"), shown_endpoint);
    if let Some(endpoint) = endpoint {
        check_endpoint(&endpoint, options)?;
        let endpoint = endpoint.trim_end_matches('/');
        // The client takes the address with the bucket in it when that is part of the host name.
        let endpoint = match endpoint.split_once("://") {
            Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
            _ => endpoint.to_owned(),
        };
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    if let Some(keys) = profile.keys {
        builder = builder.with_credentials(keys);
    }
    let client = builder
        .with_bucket_name(bucket)
        .with_region(region)
        .with_virtual_hosted_style_request(!path_style)
        .with_allow_http(options.allow_http)
        .with_unsigned_payload(false)
        .with_retry(no_retries())
        .with_http_connector(transport.clone())
        .build()
        .map_err(unusable)?;
    Ok((Arc::new(client), shown))
}

fn gcs(location: &Location, options: &ObjectOptions, transport: &Transport) -> Result<(Arc<dyn Client>, String)> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    let mut shown = "https://storage.googleapis.com".to_owned();
    if let Some(endpoint) = &options.endpoint {
        check_endpoint(endpoint, options)?;
        shown = shown_endpoint(endpoint);
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    let client = builder
        .with_bucket_name(&location.bucket)
        .with_retry(no_retries())
        .with_http_connector(transport.clone())
        .build()
        .map_err(unusable)?;
    Ok((Arc::new(client), shown))
}

fn azure(location: &Location, options: &ObjectOptions, transport: &Transport) -> Result<(Arc<dyn Client>, String)> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    let mut shown = "the storage account".to_owned();
    if let Some(endpoint) = &options.endpoint {
        check_endpoint(endpoint, options)?;
        shown = shown_endpoint(endpoint);
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let client = builder
        .with_container_name(&location.bucket)
        .with_allow_http(options.allow_http)
        .with_retry(no_retries())
        .with_http_connector(transport.clone())
        .build()
        .map_err(unusable)?;
    Ok((Arc::new(client), shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::blobs::object::transport::Refusal;

    fn refused(status: u16, code: &str) -> Option<Seen> {
        Some(Seen::Refused(Refusal { status, code: code.to_owned(), ..Refusal::default() }))
    }

    #[test]
    fn refusal_of_damage_is_told_by_its_code() {
        for code in ["XAmzContentSHA256Mismatch", "BadDigest", "SignatureDoesNotMatch"] {
            assert!(names_damage(refused(400, code).as_ref()), "{code}");
        }
    }

    #[test]
    fn other_refusals_say_nothing_of_damage() {
        for seen in [refused(429, "TooManyRequests"), refused(400, "RequestTimeout"), refused(403, ""), None] {
            assert!(!names_damage(seen.as_ref()), "{seen:?}");
        }
    }
}
