//! The identity object: says which store the objects below a prefix belong to.

use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::failure::{Reason, Verb};
use crate::error::{Error, ErrorKind, Result};

/// What the identity object says it is.
const FORMAT: &str = "lxd-image object store";
/// The version of the layout below the prefix.
const LAYOUT: u64 = 1;
/// The longest identity object that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// The longest id of a store, in bytes.
const MAX_ID_BYTES: usize = 255;

/// The content of the identity object. Fields may be added, and never change their meaning.
#[derive(Serialize, Deserialize)]
struct Identity {
    format: String,
    layout: u64,
    id: String,
}

/// Reads the id of the store that the objects belong to; `None` if there is no identity object.
///
/// # Errors
/// `Malformed` for something else in its place, `Unsupported` for a newer layout; those of the server.
pub(super) async fn read(bucket: &Bucket) -> Result<Option<String>> {
    let path = bucket.location.identity()?;
    let bytes = match bucket.read(&path, MAX_BYTES).await {
        Err(failure) if failure.reason == Reason::Missing => return Ok(None),
        read => read.map_err(|failure| bucket.error(failure, Verb::Read, Some(&path)))?,
    };
    let foreign = || {
        Error::malformed(format!("`{path}` is not the identity object of an image store"))
            .with_hint("another program uses this prefix: check bucket and prefix")
            .in_file(bucket.location.to_string())
    };
    let identity: Identity = serde_json::from_slice(&bytes).map_err(|_| foreign())?;
    if identity.format != FORMAT {
        return Err(foreign());
    }
    if identity.layout > LAYOUT {
        let what = format!("the objects have layout version {}, this program knows {LAYOUT}", identity.layout);
        return Err(Error::unsupported(what).in_file(bucket.location.to_string()));
    }
    Ok(Some(identity.id))
}

/// Writes the identity object of the store `id`, unless it is there.
///
/// # Errors
/// `AlreadyExists` if the objects belong to another store; as [`read`].
pub(super) async fn create(bucket: &Bucket, id: &str) -> Result<()> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.contains(char::is_control) {
        return Err(Error::invalid("this cannot be the id of a store"));
    }
    match read(bucket).await? {
        Some(found) if found == id => return Ok(()),
        Some(_) => return Err(occupied(bucket)),
        None => {}
    }
    let identity = Identity { format: FORMAT.to_owned(), layout: LAYOUT, id: id.to_owned() };
    let mut text = serde_json::to_vec_pretty(&identity)
        .map_err(|error| Error::malformed("the identity object cannot be written").with_source(error))?;
    text.push(b'\n');
    let path = bucket.location.identity()?;
    let written = bucket.put(&path, &text.into()).await;
    written.map_err(|failure| bucket.error(failure, Verb::Write, Some(&path)))?;
    // Of two stores that begin here at once the last one has the prefix, and the other one must notice.
    match read(bucket).await? {
        Some(found) if found == id => Ok(()),
        Some(_) => Err(occupied(bucket)),
        None => Err(Error::malformed("the identity object was acknowledged, and then is not there")
            .in_file(bucket.location.to_string())),
    }
}

/// The error for a prefix that another store has.
fn occupied(bucket: &Bucket) -> Error {
    Error::new(ErrorKind::AlreadyExists, "the prefix belongs to another store")
        .with_hint("choose another prefix or bucket for this store")
        .in_file(bucket.location.to_string())
}

/// Fails unless the objects belong to the store `expected`; without it, to any store. Returns the id.
///
/// # Errors
/// `Malformed`; as [`read`].
pub(super) async fn check(bucket: &Bucket, expected: Option<&str>) -> Result<String> {
    let foreign = |what: &'static str| {
        Error::malformed(what)
            .with_hint("check bucket, prefix and endpoint: the catalog and the objects must be of the same store")
            .in_file(bucket.location.to_string())
    };
    match read(bucket).await? {
        None => Err(foreign("these are not the objects of a store: the identity object is missing")),
        Some(found) if expected.is_some_and(|expected| expected != found) => {
            Err(foreign("these are the objects of another store: the identity object has another id"))
        }
        Some(found) => Ok(found),
    }
}
